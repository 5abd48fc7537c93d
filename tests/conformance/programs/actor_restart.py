"""An actor that fails is made anew behind the same mailbox: only the message that it failed on is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tests.conformance.stage import Stage, crowd, outcome
from tests.gate import Enter, Gate, Open
from zactor.actor import Actor, Down, Up, on
from zactor.door import Later
from zactor.message import Message, Ref

__all__ = ["Fragile", "Gate", "Witness"]

LONG_S = 3600.0
WITNESSES = ("near", "far")
ITEMS = 8
WRONG = 3
"""The item that cannot be handled."""


class Promise(Message[None]):
    """Answered by a later that its actor does not live to keep."""


class Remember(Message[None]):
    """Set a timer of this life."""


class Hold(Message[None]):
    """Handle nothing until the gate opens."""


class Item(Message[int]):
    """Answered by how many items this life has handled."""

    number: int


class Late(Message[None]):
    """The timer of the first life."""


class Wait(Message[str]):
    """Wait longer than that timer; answered by what has happened in this life."""


class Handled(Message[None]):
    number: int


class Items(Message[tuple[str, ...]]):
    pass


class Notices(Message[tuple[str, ...]]):
    pass


class Fragile(Actor):
    """Tells its witnesses what it handles."""

    gate: Ref[Enter]
    near: Ref[Handled]
    far: Ref[Handled]

    _count: int = 0
    _late: bool = False
    _kept: Later[None] | None = None

    @on
    def promise(self, message: Promise) -> Later[None]:
        self._kept = self.later()
        return self._kept

    @on
    def remember(self, message: Remember) -> None:
        self.after(0.02, Late())

    @on
    async def hold(self, message: Hold) -> None:
        await self.ask(self.gate, Enter(), timeout_s=LONG_S)

    @on
    def item(self, message: Item) -> int:
        if message.number == WRONG:
            raise RuntimeError(f"not {WRONG}")
        for witness in (self.near, self.far):
            self.tell(witness, Handled(number=message.number))
        self._count += 1
        return self._count

    @on
    def late(self, message: Late) -> None:
        self._late = True

    @on(interleave=True)
    async def wait(self, message: Wait) -> str:
        await self.sleep(0.03)
        return "a timer of the old life" if self._late else "nothing of the old life"


class Witness(Actor):
    """Writes down what it is told, and that the other one ends and comes."""

    fragile: Ref[Item]

    def on_start(self) -> None:
        self._items: list[str] = []
        self._notices: list[str] = []
        self.watch(self.fragile)

    @on
    def handled(self, message: Handled) -> None:
        self._items.append(str(message.number))

    @on
    def down(self, message: Down) -> None:
        self._notices.append("down for ever" if message.final else f"down ({message.reason})")

    @on
    def up(self, message: Up) -> None:
        self._notices.append("up")

    @on
    def items(self, message: Items) -> tuple[str, ...]:
        return tuple(self._items)

    @on
    def notices(self, message: Notices) -> tuple[str, ...]:
        return tuple(self._notices)


async def play(stage: Stage) -> AsyncIterator[str]:
    promise = stage.ask("fragile", Promise())
    await stage.ask("fragile", Remember())
    hold = stage.ask("fragile", Hold())
    await crowd(stage, 1)
    items = [stage.ask("fragile", Item(number=number)) for number in range(ITEMS)]
    wait = stage.ask("fragile", Wait())

    await stage.ask("gate", Open())

    yield f"what it was doing: {await outcome(hold)}"
    yield f"what it promised: {await outcome(promise)}"
    for number, item in enumerate(items):
        yield f"item {number}: {await outcome(item)}"
    yield f"then: {await outcome(wait)}"
    for witness in WITNESSES:
        for question, count in ((Items(), ITEMS - 1), (Notices(), 2)):

            async def look(
                witness: str = witness, question: Items | Notices = question, count: int = count
            ) -> tuple[str, ...]:
                written = await stage.ask(witness, question)
                return written if len(written) >= count else ()

            yield f"{witness}: {', '.join(await stage.until(look))}"
