"""What was sent to a process that is gone is counted and answered by an error; its next incarnation never sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tests.conformance.stage import Stage, told
from zactor.actor import Actor, Down, Up, on
from zactor.errors import Failure
from zactor.message import Message, Ref

LONG_S = 3600.0
TELLS = 10
ASKS = 3


class Item(Message[None]):
    text: str


class Question(Message[str]):
    pass


class Items(Message[tuple[str, ...]]):
    """What came, in order."""


class Say(Message[None]):
    """Tell the target so many items, and ask it so many questions."""

    text: str
    tells: int
    asks: int


class Seen(Message[str]):
    """Whether the target is seen."""


class Answers(Message[tuple[str, ...]]):
    """What became of the questions since this was asked last."""


class Target(Actor):
    """Keeps what comes."""

    def on_start(self) -> None:
        self._items: list[str] = []

    @on
    def item(self, message: Item) -> None:
        self._items.append(message.text)

    @on
    def question(self, message: Question) -> str:
        return f"there are {len(self._items)}"

    @on
    def items(self, message: Items) -> tuple[str, ...]:
        return tuple(self._items)


class Sender(Actor):
    """Sends to the target whether it is there or not."""

    target: Ref[Item | Question]

    def on_start(self) -> None:
        self._answers: list[str] = []
        self._seen = "up"
        self.watch(self.target)

    @on(interleave=True)
    async def say(self, message: Say) -> None:
        for number in range(message.tells):
            self.tell(self.target, Item(text=f"{message.text} {number}"))
        asks = [self.ask(self.target, Question(), timeout_s=LONG_S) for _ in range(message.asks)]
        for ask in asks:
            try:
                self._answers.append(await ask)
            except Failure as error:
                self._answers.append(told(error))

    @on
    def down(self, message: Down) -> None:
        self._seen = "down"

    @on
    def up(self, message: Up) -> None:
        self._seen = "up"

    @on
    def seen(self, message: Seen) -> str:
        return self._seen

    @on
    def answers(self, message: Answers) -> tuple[str, ...]:
        return tuple(self._answers)


async def sees(stage: Stage, what: str) -> None:
    """Wait until the sender knows."""

    async def look() -> bool:
        return await stage.ask("sender", Seen()) == what

    await stage.until(look)


async def answers(stage: Stage, before: int, count: int) -> str:
    """What became of so many questions, after the first ones."""

    async def look() -> tuple[str, ...]:
        found = await stage.ask("sender", Answers())
        return found[before:] if len(found) >= before + count else ()

    return ", ".join(await stage.until(look))


async def play(stage: Stage) -> AsyncIterator[str]:
    await stage.send("sender", Say(text="before", tells=2, asks=1))
    yield f"before: {await answers(stage, 0, 1)}"

    await stage.kill("target")
    await sees(stage, "down")
    await stage.send("sender", Say(text="meanwhile", tells=TELLS, asks=ASKS))

    async def look() -> bool:
        outbox: int = (await stage.inspect("sender"))["books"]["outbox"]
        return outbox == TELLS + ASKS

    yield f"meanwhile: {TELLS + ASKS} messages wait: {await stage.until(look)}"
    await stage.start("target")

    yield f"meanwhile: {await answers(stage, 1, ASKS)}"
    await sees(stage, "up")
    await stage.send("sender", Say(text="after", tells=2, asks=1))
    yield f"after: {await answers(stage, 1 + ASKS, 1)}"
    yield f"the next incarnation got: {', '.join(await stage.ask('target', Items()))}"
