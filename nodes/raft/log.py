"""A peer's log: the entries that follow on its snapshot, and the members that they name (paper 5.3, 7).

It is what this peer knows, durable or not; which of it is durable is the core's to know. Members hold from the entry
on that names them, committed or not (thesis 4.1), so that a cut can bring back those before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from zactor.message import decoder, encode

from .members import Members
from .messages import Kind, LogEntry

_decode_members = decoder(Members)


class Log:
    """Entries from `first_index` to `last_index`; those before are in a snapshot.

    Of the snapshot its last index and term are known, and the members as of there.
    """

    def __init__(self, members: Members, index: int = 0, term: int = 0, entries: Iterable[LogEntry] = ()) -> None:
        self._reset(members, index, term)
        self.append(entries)

    def _reset(self, members: Members, index: int, term: int) -> None:
        self._index, self._term = index, term  # of the last entry in the snapshot
        self._entries: list[LogEntry] = []
        self._members = [(index, members)]

    # --- what is there
    @property
    def first_index(self) -> int:
        """Of the first entry that is not in the snapshot alone, there or not."""
        return self._index + 1

    @property
    def last_index(self) -> int:
        """Of the last entry, or of the snapshot."""
        return self._index + len(self._entries)

    @property
    def last_term(self) -> int:
        """Of the last entry, or of the snapshot."""
        return self._entries[-1].term if self._entries else self._term

    @property
    def members(self) -> Members:
        """The members by the last entry that names any."""
        return self._members[-1][1]

    @property
    def members_index(self) -> int:
        """The index of that entry."""
        return self._members[-1][0]

    def members_at(self, index: int) -> Members:
        """The members as of an index that is in the log, or of its snapshot."""
        return self._members[bisect_right(self._members, index, key=lambda each: each[0]) - 1][1]

    def term(self, index: int) -> int | None:
        """The term of an entry; None if it is not there, or compacted."""
        if index == self._index:
            return self._term
        place = index - self._index - 1
        return self._entries[place].term if 0 <= place < len(self._entries) else None

    def entry(self, index: int) -> LogEntry:
        """An entry that is there."""
        return self._entries[index - self._index - 1]

    def slice(self, first: int, last: int, size_max: int | None = None) -> tuple[LogEntry, ...]:
        """Entries from `first` to `last`, both included: as many as `size_max` bytes hold, but one at least."""
        found = self._entries[first - self._index - 1 : last - self._index]
        if size_max is None:
            return tuple(found)
        size = 0
        for count, each in enumerate(found):
            size += len(each.body)
            if size > size_max and count:
                return tuple(found[:count])
        return tuple(found)

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Paper 5.4.1: whether a log that ends so is at least as up to date as this one."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def agreement(self, index: int, term: int) -> tuple[int, int]:
        """The highest index up to `index` whose term is `term` at most, with its term: above it no logs can agree."""
        index = min(index, self.last_index)
        while index > self._index:
            found = self.entry(index).term
            if found <= term:
                return index, found
            index -= 1
        return self._index, self._term

    # --- what changes
    def append(self, entries: Iterable[LogEntry]) -> None:
        """Put entries at the end."""
        for each in entries:
            self._entries.append(each)
            if each.kind is Kind.MEMBERS:
                self._members.append((self.last_index, _decode_members(each.body)))

    def cut(self, index: int) -> None:
        """Take away the entry at an index, and all behind it."""
        place = index - self._index - 1
        del self._entries[place:]
        while self._members[-1][0] >= index:
            self._members.pop()

    def merge(self, previous_index: int, entries: Sequence[LogEntry]) -> tuple[int, tuple[LogEntry, ...]]:
        """Paper 5.3, steps 3 and 4 of AppendEntries: cut at the first conflict, append what is new.

        Returns the index of the first entry that is new, and those. Entries that are there are left, whatever follows.
        """
        index = previous_index
        for place, each in enumerate(entries):
            index = previous_index + 1 + place
            if index <= self._index:
                continue  # in the snapshot: committed, so it is the same
            known = self.term(index)
            if known == each.term:
                continue
            if known is not None:
                self.cut(index)
            new = tuple(entries[place:])
            self.append(new)
            return index, new
        return index + 1, ()

    def compact(self, index: int) -> None:
        """A snapshot holds all entries up to an index that is there: they go."""
        term = self.term(index)
        assert term is not None, "a snapshot is of entries that were applied"
        members = self.members_at(index)
        del self._entries[: index - self._index]
        self._index, self._term = index, term
        self._members = [(index, members)] + [each for each in self._members if each[0] > index]

    def restore(self, members: Members, index: int, term: int) -> None:
        """A snapshot takes the place of the whole log."""
        self._reset(members, index, term)


def members_entry(term: int, members: Members) -> LogEntry:
    """The entry that names members."""
    return LogEntry(term, Kind.MEMBERS, encode(members))
