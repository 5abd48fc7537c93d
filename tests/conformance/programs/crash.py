"""When a process dies, its askers hear it at once; its watchers hear of its end and of its return."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tests.conformance.stage import Stage, outcome, told
from zactor.actor import Actor, Down, Up, on
from zactor.errors import Failure
from zactor.message import Message, Ref

LONG_S = 3600.0
ASKERS = ("near", "far")
ASKS = 3


class Hold(Message[None]):
    """Never answered."""


class Held(Message[int]):
    """How many are held."""


class Begin(Message[None]):
    """Ask the target to hold, and write down what comes of it."""


class Again(Message[int]):
    """Ask the target how many it holds."""


class Errors(Message[tuple[str, ...]]):
    pass


class Notices(Message[tuple[str, ...]]):
    pass


class Target(Actor):
    """Holds whoever asks."""

    _held: int = 0

    @on(interleave=True)
    async def hold(self, message: Hold) -> None:
        self._held += 1
        await self.sleep(LONG_S)

    @on
    def held(self, message: Held) -> int:
        return self._held


class Asker(Actor):
    """Asks the target, and watches it."""

    target: Ref[Hold | Held]

    def on_start(self) -> None:
        self._errors: list[str] = []
        self._notices: list[str] = []
        self.watch(self.target)

    @on(interleave=True)
    async def begin(self, message: Begin) -> None:
        try:
            await self.ask(self.target, Hold(), timeout_s=LONG_S)
        except Failure as error:
            self._errors.append(told(error))

    @on
    async def again(self, message: Again) -> int:
        return await self.ask(self.target, Held(), timeout_s=LONG_S)

    @on
    def down(self, message: Down) -> None:
        self._notices.append(f"down {message.ref.name}" + (" for ever" if message.final else ""))

    @on
    def up(self, message: Up) -> None:
        self._notices.append(f"up {message.ref.name}")

    @on
    def errors(self, message: Errors) -> tuple[str, ...]:
        return tuple(self._errors)

    @on
    def notices(self, message: Notices) -> tuple[str, ...]:
        return tuple(self._notices)


async def holds(stage: Stage, count: int) -> None:
    """Wait until the target holds so many."""

    async def look() -> bool:
        return await stage.ask("target", Held()) == count

    await stage.until(look)


async def last(stage: Stage, node: str, question: Errors | Notices, before: int, count: int) -> str:
    """What an asker wrote down after the first `before` lines, when there are so many."""

    async def look() -> tuple[str, ...]:
        written = await stage.ask(node, question)
        return written[before:] if len(written) >= before + count else ()

    return ", ".join(await stage.until(look))


async def play(stage: Stage) -> AsyncIterator[str]:
    for kills in (0, 1):
        for asker in ASKERS:
            for _ in range(ASKS):
                await stage.send(asker, Begin())
        from_outside = stage.ask("target", Hold())
        await holds(stage, len(ASKERS) * ASKS + 1)

        await stage.kill("target")

        yield f"killed; outside: {await outcome(from_outside)}"
        for asker in ASKERS:
            yield f"{asker}: {await last(stage, asker, Errors(), kills * ASKS, ASKS)}"
            yield f"{asker}: {await last(stage, asker, Notices(), kills * 2, 1)}"

        await stage.start("target")

        for asker in ASKERS:
            yield f"{asker}: {await last(stage, asker, Notices(), kills * 2, 2)}"
            yield f"{asker} asks again: {await outcome(stage.ask(asker, Again()))}"
