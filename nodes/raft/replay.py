"""What the records of a journal make of a log, one after the other: pure, and without a disk.

A record is like an `AppendEntries` to oneself: entries that follow on the one at `previous_index`, with the whole hard
state. Records are in the order in which they were written, so the last one has the hard state, whatever was lost before
it; a log, though, cannot be followed over a hole. It ends there, and what it owes is known from behind it.

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

    `is_known`: a record came after the last hole, so that the hard state, and what is owed, is known.
    """

    def __init__(self, index: int, term: int) -> None:
        self._base = index, term
        self._hard_state = HardState()
        self._start: tuple[int, int] | None = None  # index and term of the entry before the first
        self._entries: list[LogEntry] = []
        self._is_whole = True
        self._is_telling = False  # all that follows on the snapshot is told anew, and is not at its end
        self._owed = (0, 0)  # term and index of the last entry that was seen
        self.is_known = False

    def lose(self) -> None:
        """Here is a hole."""
        self._is_whole = self._is_telling = self.is_known = False

    def take(self, record: Written) -> None:
        """Follow one record."""
        self._hard_state, self.is_known = record.hard_state, True
        self._owed = max(self._owed, record.last)
        if record.previous == self._base and not self._follows(record) and (self._is_whole or record.is_carried):
            # Either the snapshot took the place of the log (paper 7), or all that is behind it is told anew.
            self._start, self._entries = self._base, []
            self._is_telling = not self._is_whole
        elif self._start is None and self._is_whole and record.is_carried:
            self._start = record.previous
        if not self._follows(record):
            self._is_whole = False
            return
        self._append(record)
        if self._is_telling and not record.has_more:
            self._is_whole, self._is_telling = True, False

    def _follows(self, record: Written) -> bool:
        return (self._is_whole or self._is_telling) and self._has(*record.previous)

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
        same = 0
        if record.is_carried:
            for known, told in zip(self._entries[first:], record.entries, strict=False):
                if known.term != told.term:
                    break
                same += 1
        if same == len(record.entries) and record.is_carried:
            return  # what it says is there, and what is behind it stays
        self._entries[first + same :] = record.entries[same:]

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
        index, term = self._base
        is_short = self._start is not None and self._start[0] > index
        owed = (known.owed_term, known.owed_index)
        if not self._is_whole or is_short:
            owed = max(owed, self._owed)
        if owed <= (term, index):
            owed = (0, 0)  # a snapshot is of what was committed: it has that all
        return HardState(known.term, known.voted_for, *owed)
