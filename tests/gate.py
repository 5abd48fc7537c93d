"""An actor that keeps others waiting: a test holds a handler up with it, and knows when it is held."""

from __future__ import annotations

from zactor.actor import Actor, on
from zactor.door import Later
from zactor.message import Message


class Enter(Message[None]):
    """Answered when the gate is opened."""


class Waiting(Message[int]):
    """How many wait at the gate."""


class Open(Message[int]):
    """Let in all who wait; answered by how many."""


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
    def open(self, message: Open) -> int:
        waiting, self._waiting = self._waiting, []
        for later in waiting:
            later.reply(None)
        return len(waiting)
