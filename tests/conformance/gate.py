"""An actor that keeps others waiting: programs hold a handler up with it, and know when it is held."""

from __future__ import annotations

from tests.conformance.stage import Stage
from zactor.actor import Actor, on
from zactor.door import Later
from zactor.message import Message


class Enter(Message[None]):
    """Answered when the gate is opened."""


class Waiting(Message[int]):
    """How many wait at the gate."""


class Open(Message[None]):
    """Let in all who wait."""


class Gate(Actor):
    """Who enters waits until it is opened."""

    def on_start(self) -> None:
        self._waiting: list[Later[None]] = []

    @on
    def enter(self, message: Enter) -> Later[None]:
        self._waiting.append(self.later())
        return self._waiting[-1]

    @on
    def waiting(self, message: Waiting) -> int:
        return len(self._waiting)

    @on
    def open(self, message: Open) -> None:
        waiting, self._waiting = self._waiting, []
        for later in waiting:
            later.reply(None)


async def crowd(stage: Stage, count: int) -> None:
    """Wait until so many wait at the node `gate`."""

    async def look() -> bool:
        return await stage.ask("gate", Waiting()) == count

    await stage.until(look)
