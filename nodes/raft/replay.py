"""What the records of a journal make of a log, one after the other: pure, and without a disk.

A record is like an `AppendEntries` to oneself: entries that follow on the one at `previous_index`, with the whole hard
state. Records are in the order in which they were written, so the last one has the hard state, whatever was lost before
it. Behind a hole a record is taken, as from a leader, if the entry that it follows on is there: then all before that is
the same as it was (log matching). Else the log ends at the hole; but how it ended once is known from behind it.

A *carried* record says again what the log had when a journal began, and agrees with what is there. So a journal that
begins at a snapshot needs none of those before it, and one whose beginning is torn loses nothing while they are there.
"""

from __future__ import annotations

import msgspec

from .core import HardState
from .messages import LogEntry


class Written(msgspec.Struct, frozen=True, array_like=True):
    """One record: `entries` follow on an entry with that index and term. `has_more`: the next one goes on with it."""

    hard_state: HardState
    previous_index: int
    previous_term: int
    entries: tuple[LogEntry, ...]
    is_carried: bool = False
    has_more: bool = False

    @property
    def previous(self) -> tuple[int, int]:
        """Index and term of the entry that it follows on."""
        return self.previous_index, self.previous_term

    @property
    def last(self) -> tuple[int, int]:
        """Term and index of the last entry of a log that ends with it."""
        if not self.entries:
            return self.previous_term, self.previous_index
        return self.entries[-1].term, self.previous_index + len(self.entries)


class Replay:
    """The log and the hard state as of the records so far. `index`, `term`: of the snapshot that the log will follow.

    `is_known`: a record came after the last hole, so that the hard state, and how the log ended, is known.
    """

    def __init__(self, index: int, term: int) -> None:
        self._base = index, term
        self._hard_state = HardState()
        self._start: tuple[int, int] | None = None  # index and term of the entry before the first
        self._entries: list[LogEntry] = []
        self._ended = (term, index)  # how the log ended when it was written
        self.is_known = False

    def lose(self) -> None:
        """Here is a hole."""
        self.is_known = False

    def take(self, record: Written) -> None:
        """Follow one record, if it follows on what is known."""
        self._hard_state = record.hard_state
        if not (record.is_carried and record.has_more):
            self._ended, self.is_known = record.last, True
        if self._start is None:
            self._start = record.previous
        elif record.previous == self._base and not self._has(*self._base):
            self._start, self._entries = self._base, []  # the snapshot took the place of the log (paper 7)
        if self._has(*record.previous):
            self._append(record)

    def _has(self, index: int, term: int) -> bool:
        if self._start is None:
            return False
        place = index - self._start[0]
        if not 0 < place <= len(self._entries):
            return (index, term) == self._start
        return self._entries[place - 1].term == term

    def _append(self, record: Written) -> None:
        assert self._start is not None
        first = record.previous_index - self._start[0]
        if not record.is_carried:
            self._entries[first:] = record.entries
            return
        for place, told in enumerate(record.entries, first):
            if place >= len(self._entries) or self._entries[place].term != told.term:
                self._entries[place:] = record.entries[place - first :]
                return

    @property
    def entries(self) -> list[LogEntry]:
        """Those behind the snapshot. A log that has not its last entry has nothing that follows on it (paper 7)."""
        if self._start is None or not self._has(*self._base):
            return []
        return self._entries[self._base[0] - self._start[0] :]

    @property
    def hard_state(self) -> HardState:
        """With what the log owes: how it ended when it was whole last."""
        known = self._hard_state
        owed = (known.owed_term, known.owed_index)
        if not self._is_whole:
            owed = max(owed, self._ended)
        index, term = self._base
        if owed <= (term, index):
            owed = (0, 0)  # a snapshot is of what was committed: it has that all
        return HardState(known.term, known.voted_for, *owed)

    @property
    def _is_whole(self) -> bool:
        """Whether this is the log that was written: one with the same last entry is the same (log matching)."""
        if self._start is None or self._start[0] > self._base[0]:
            return False
        index, term = self._start
        if self._entries:
            index, term = index + len(self._entries), self._entries[-1].term
        return (term, index) == self._ended
