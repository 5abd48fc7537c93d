"""A full mailbox is said so to who tells, and waited for by who sends; what was taken is handled in order, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import ClassVar

from tests.conformance.stage import Stage, crowd, told
from tests.gate import Enter, Gate, Open
from zactor.actor import Actor, on
from zactor.errors import Overloaded
from zactor.message import Envelope, Message, Ref

__all__ = ["Gate", "Sink", "Source"]

LONG_S = 3600.0
MAILBOX_SIZE = 50
TOLD_MAX = 1_000_000
SENT_AFTER = 500
"""Messages that a source sends, waiting for room, after the one that found none."""


class Item(Message[None]):
    number: int


class Hold(Message[None]):
    """Handle nothing until the gate opens."""


class Came(Message[tuple[dict[str, int], int]]):
    """How many items came from whom, and how many were not the next of their sender."""


class Flood(Message[None]):
    """Tell until there is no room, then send some more."""


class Taken(Message[tuple[int, str, bool]]):
    """How many items were taken from it, what it heard when there was no room, and whether it has ended."""


class Sink(Actor):
    """Counts what comes from whom."""

    gate: Ref[Enter]
    mailbox_size: ClassVar[int] = MAILBOX_SIZE

    def on_start(self) -> None:
        self._came: Counter[str] = Counter()
        self._wrong = 0

    @on
    async def hold(self, message: Hold) -> None:
        await self.ask(self.gate, Enter(), timeout_s=LONG_S)

    @on
    def item(self, message: Item, envelope: Envelope) -> None:
        assert envelope.sender is not None
        self._wrong += message.number != self._came[envelope.sender.name]
        self._came[envelope.sender.name] += 1

    @on
    def came(self, message: Came) -> tuple[dict[str, int], int]:
        return dict(self._came), self._wrong


class Source(Actor):
    """Sends numbered items: the next one when the sink has taken the last."""

    sink: Ref[Item]

    _taken: int = 0
    _heard: str = ""
    _ended: bool = False

    @on(interleave=True)
    async def flood(self, message: Flood) -> None:
        try:
            while self._taken < TOLD_MAX:
                self.tell(self.sink, Item(number=self._taken))
                self._taken += 1
        except Overloaded as error:
            self._heard = told(error).partition(":")[0]
        for _ in range(SENT_AFTER):
            await self.send(self.sink, Item(number=self._taken), timeout_s=LONG_S)
            self._taken += 1
        self._ended = True

    @on
    def taken(self, message: Taken) -> tuple[int, str, bool]:
        return self._taken, self._heard, self._ended


async def taken(stage: Stage, source: str, *, ended: bool) -> tuple[int, str, bool]:
    """What a source says when it has found no room, or when it has ended."""

    async def look() -> tuple[int, str, bool] | None:
        count, heard, has_ended = await stage.ask(source, Taken())
        return (count, heard, has_ended) if has_ended or (heard and not ended) else None

    return await stage.until(look)


async def play(stage: Stage) -> AsyncIterator[str]:
    await stage.send("sink", Hold())
    await crowd(stage, 1)

    await stage.send("near", Flood())
    count, heard, has_ended = await taken(stage, "near", ended=False)
    yield f"near: {count} taken, then {heard}; it waits: {not has_ended}"
    await stage.send("far", Flood())
    count, heard, has_ended = await taken(stage, "far", ended=False)
    yield f"far: more than {MAILBOX_SIZE} taken: {count > MAILBOX_SIZE}, then {heard}; it waits: {not has_ended}"

    await stage.ask("gate", Open())

    counts = {source: (await taken(stage, source, ended=True))[0] for source in ("near", "far")}
    yield f"near: {counts['near']} taken in the end"

    async def look() -> bool:
        try:
            came, wrong = await stage.ask("sink", Came())
        except Overloaded:
            return False
        assert wrong == 0, f"{wrong} items came out of order, or twice"
        return came == counts

    yield f"the sink handled each item that was taken, in order and once: {await stage.until(look)}"
