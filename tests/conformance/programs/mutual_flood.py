"""Two processes that flood each other do not lock each other up: all arrives in order, and asks are answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

from tests.conformance.stage import Stage
from zactor.actor import Actor, on
from zactor.message import Message, Ref

LONG_S = 3600.0
ITEMS = 3_000
ASK_EVERY = 300
SIDES = ("left", "right")


class Item(Message[None]):
    number: int


class Flood(Message[None]):
    """Send all items to the other side, and ring its bell from time to time."""


class Ring(Message[int]):
    number: int


class State(Message[tuple[int, int, int]]):
    """Items that came, those out of order, and rings that were answered."""


class Side(Actor):
    """Sends as fast as there is room, and counts what comes."""

    other: Ref[Item]
    bell: Ref[Ring]
    mailbox_size: ClassVar[int] = 40

    _came: int = 0
    _wrong: int = 0
    _rung: int = 0

    @on(interleave=True)
    async def flood(self, message: Flood) -> None:
        for number in range(ITEMS):
            await self.send(self.other, Item(number=number), timeout_s=LONG_S)
            if number % ASK_EVERY == 0:
                self._rung += await self.ask(self.bell, Ring(number=number), timeout_s=LONG_S) == number

    @on
    def item(self, message: Item) -> None:
        self._wrong += message.number != self._came
        self._came += 1

    @on
    def state(self, message: State) -> tuple[int, int, int]:
        return self._came, self._wrong, self._rung


class Bell(Actor):
    """Answers, in the same process as a side."""

    @on
    def ring(self, message: Ring) -> int:
        return message.number


async def play(stage: Stage) -> AsyncIterator[str]:
    for side in SIDES:
        await stage.send(side, Flood())
    for side in SIDES:
        for number in range(20):
            assert await stage.ask(f"{side}-bell", Ring(number=number)) == number
    yield "the bells answered those outside, too"
    for side in SIDES:

        async def look(side: str = side) -> tuple[int, int, int] | None:
            state = await stage.ask(side, State())
            return state if state[0] >= ITEMS and state[2] >= ITEMS // ASK_EVERY else None

        came, wrong, rung = await stage.until(look)
        yield f"{side}: {came} items came, {wrong} out of order; its rings answered: {rung}"
