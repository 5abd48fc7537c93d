"""Saves on their way to the disk, and what waits for them: so that nothing is promised before it is durable.

Each save is one record and one commit; commits that are asked for while one is under way become the next. A save that
finds no room is kept with all after it, in order, until there is room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from zactor.errors import DiskFull
from zactor.message import Message

from .core import HardState, Save, Sent
from .storage import Storage

if TYPE_CHECKING:
    from .actor import Peer

FULL_S = 0.5
"""A peer whose disk is full looks again after so long whether there is room."""


class Retry(Message[None]):
    """A peer tells itself: there may be room on the disk again."""


class Saving:
    """Of one peer. `is_held`: nothing may be saved now."""

    def __init__(self, actor: Peer, storage: Storage) -> None:
        self._actor = actor
        self._storage = storage
        self._write_id = 0
        self._writes: deque[tuple[int, int, HardState, Save]] = deque()  # with the journal's size before
        self._after: deque[tuple[int, Sent]] = deque()  # what is sent when that save is durable
        self._refused: list[tuple[HardState, Save]] = []  # what had no room
        self._last_index = 0  # of the log as it was last saved, or 0
        self._was_full = False
        self.is_held = False

    @property
    def is_writing(self) -> bool:
        """Whether a save is on its way to the disk."""
        return bool(self._writes)

    @property
    def is_full(self) -> bool:
        """Whether there was no room for the last save."""
        return bool(self._refused)

    def save(self, hard_state: HardState, save: Save) -> None:
        """Begin to make it durable."""
        if save.first_index <= self._last_index:
            because = "the leader has others in their place"
            self._actor.log.info(
                "log_cut", first=save.first_index, last=self._last_index, because=because, rule="Raft 5.3"
            )
        self._last_index = save.first_index + len(save.entries) - 1
        if self._refused:
            self._refused.append((hard_state, save))
            return
        self._write_id += 1
        self._writes.append((self._write_id, self._storage.size, hard_state, save))
        self._storage.save(hard_state, save)
        self._actor.disk.commit(self._write_id)

    def send_after(self, messages: Iterable[Sent]) -> None:
        """Send these when all is durable that was saved until now."""
        last = self._refused[-1][1] if self._refused else self._writes[-1][3] if self._writes else None
        for target, message in messages:
            if last is None:
                self._actor.send_to(target, message)
            else:
                self._after.append((last.number, (target, message)))

    def on_synced(self, write_id: int) -> int:
        """A commit has ended: send what waited for it. Returns the number of the last save that is durable, or 0."""
        number = 0
        while self._writes and self._writes[0][0] <= write_id:
            number = self._writes.popleft()[3].number
        if number and self._was_full and not self._refused:
            self._was_full = False
            self._actor.log.info("log_writable", because="there_is_room_again")
        while self._after and self._after[0][0] <= number:
            self._actor.send_to(*self._after.popleft()[1])
        return number

    def on_full(self) -> None:
        """There was no room for a save: take away what is left of it and of those after it, and try again later."""
        self._was_full = True
        self._refused = [(hard_state, save) for _, _, hard_state, save in self._writes]
        self._storage.cut(self._writes[0][1])
        self._writes.clear()
        self._actor.after(FULL_S, Retry())

    def retry(self) -> None:
        """See whether there is room again."""
        refused, self._refused = self._refused, []
        for hard_state, save in refused:
            self.save(hard_state, save)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Nothing is on its way to the disk, and nothing is saved or applied meanwhile. Raises `DiskFull`."""
        self.is_held = True
        try:
            while self._writes:
                await self._actor.disk.synced()
            if self._refused:
                raise DiskFull("there was no room for what was saved before")
            yield
        finally:
            self.is_held = False
            self._actor.go_on()
