"""A clean stop under load loses nothing: every message was handled, or is a dead letter with a reason."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tests.conformance.ledger import balanced, missing
from tests.conformance.stage import Stage
from zactor.actor import Actor, on
from zactor.errors import Overloaded
from zactor.message import Message, Ref

SIDES = ("left", "right", "source")
BURST = 100
ENOUGH = 1_000


class Item(Message[None]):
    pass


class Burst(Message[None]):
    """Tell the other side some more, and oneself to go on."""


class Came(Message[int]):
    """How many items came."""


class Sink(Actor):
    """Counts what comes."""

    _came: int = 0

    @on
    def item(self, message: Item) -> None:
        self._came += 1

    @on
    def came(self, message: Came) -> int:
        return self._came


class Side(Sink):
    """Sends for ever, besides."""

    other: Ref[Item]

    @on
    def burst(self, message: Burst) -> None:
        try:
            for _ in range(BURST):
                self.tell(self.other, Item())
            self.tell(self.ref, Burst())
        except Overloaded:  # there, or here
            self.after(0.001, Burst())


async def play(stage: Stage) -> AsyncIterator[str]:
    for side in SIDES:
        await stage.send(side, Burst())
    for node in ("left", "right", "sink"):

        async def look(node: str = node) -> bool:
            return await stage.ask(node, Came()) >= ENOUGH

        await stage.until(look)

    said = stage.said
    books = await stage.stop()

    yield f"each stopped with its books balanced: {all(map(balanced, books.values()))}"
    left = sum(each["queued"] + each["outbox"] for each in books.values())
    yield f"messages that were left somewhere: {left}"
    yield f"messages that left a process and reached none: {missing(list(books.values()), said)}"
