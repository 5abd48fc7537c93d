"""A process that is held up for a while loses nothing, keeps nobody else from working, and is late, not wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tests.conformance.stage import Stage, outcome, told
from zactor.actor import Actor, on
from zactor.errors import Failure
from zactor.message import Message, Ref

LONG_S = 3600.0
SHORT_S = 0.3
ITEMS = 1_000


class Item(Message[None]):
    number: int


class Question(Message[str]):
    pass


class Items(Message[tuple[int, int]]):
    """How many items came, and how many of them out of order."""


class Say(Message[str]):
    """Tell both so many items, and ask the sleeper for a short time; answered by what came of that."""


class Patient(Message[str]):
    """Ask the sleeper, however long it takes."""


class Sleeper(Actor):
    """Counts."""

    _came: int = 0
    _wrong: int = 0

    @on
    def item(self, message: Item) -> None:
        self._wrong += message.number != self._came
        self._came += 1

    @on
    def question(self, message: Question) -> str:
        return f"{self._came} came"

    @on
    def items(self, message: Items) -> tuple[int, int]:
        return self._came, self._wrong


class Sender(Actor):
    """Sends to one that sleeps and to one that does not."""

    sleeper: Ref[Item | Question]
    other: Ref[Item]

    @on
    async def say(self, message: Say) -> str:
        for number in range(ITEMS):
            self.tell(self.sleeper, Item(number=number))
            self.tell(self.other, Item(number=number))
        try:
            return await self.ask(self.sleeper, Question(), timeout_s=SHORT_S)
        except Failure as error:
            return told(error)

    @on
    async def patient(self, message: Patient) -> str:
        return await self.ask(self.sleeper, Question(), timeout_s=LONG_S)


async def play(stage: Stage) -> AsyncIterator[str]:
    yield f"awake: {await stage.ask('sender', Patient())}"

    await stage.pause("sleeper")
    yield f"asleep: {await stage.ask('sender', Say())}"
    patient = stage.ask("sender", Patient())

    async def look() -> bool:
        return (await stage.ask("other", Items()))[0] == ITEMS

    yield f"the other got all of it meanwhile: {await stage.until(look)}"
    await stage.resume("sleeper")

    yield f"awake again: {await outcome(patient)}"
    for node in ("sleeper", "other"):
        came, wrong = await stage.ask(node, Items())
        yield f"{node}: {came} items came, {wrong} out of order"
