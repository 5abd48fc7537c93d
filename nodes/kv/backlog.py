"""The last changes, in order, for those who watch: bounded in number and bytes, and part of every snapshot.

A change is the item that it made, or one of version 0 for a key that was deleted. It is shared with the items, so that
to keep it costs a reference. All changes of a revision are in it, or none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from .operations import Item

CHANGES_MAX = 65_536
CHANGES_SIZE_MAX = 64 << 20
"""Bytes of keys and values in the backlog; those of one more batch can come on top."""

CHANGE_SIZE = 100
"""Bytes of one change beside its key and value, about."""

KEEP_SHARE = 16
"""When the backlog is full, one part in so many goes: the price of moving the rest is paid that rarely."""

STRIDE = 256
"""Changes of which the size is looked at in one go."""


class Backlog:
    """Changes by their place since the beginning of all: `first` is the place of `changes[0]`.

    `compacted` is the last revision of which changes are not known any more.
    """

    def __init__(self, changes: Iterable[Item] = (), compacted: int = 0, first: int = 0) -> None:
        self.changes = list(changes)
        self.compacted = compacted
        self.first = first
        self.size = _size(self.changes)
        self._is_frozen = False  # a snapshot reads from the list

    @property
    def end(self) -> int:
        """The place of the next change."""
        return self.first + len(self.changes)

    def add(self, item: Item) -> None:
        """One more change."""
        self.changes.append(item)
        self.size += len(item.key) + len(item.value) + CHANGE_SIZE

    def trim(self) -> None:
        """Forget the oldest changes if there are too many. Called between batches, at the same places everywhere."""
        if self.size <= CHANGES_SIZE_MAX and len(self.changes) <= CHANGES_MAX:
            return
        size_max = CHANGES_SIZE_MAX - CHANGES_SIZE_MAX // KEEP_SHARE
        count_max = CHANGES_MAX - CHANGES_MAX // KEEP_SHARE
        gone, size = 0, self.size
        while size > size_max or len(self.changes) - gone > count_max:
            end = self.revision_end(min(gone + STRIDE, len(self.changes)) - 1)
            size -= _size(self.changes[gone:end])
            gone = end
        self.compacted = self.changes[gone - 1].modified
        if self._is_frozen:
            self.changes, self._is_frozen = self.changes[gone:], False
        else:
            del self.changes[:gone]
        self.first += gone
        self.size = size

    def freeze(self) -> list[Item]:
        """The changes so far: as many as there are now at the front of this list, which keeps them."""
        self._is_frozen = True
        return self.changes

    def revision_end(self, index: int) -> int:
        """The index behind the changes that have the revision of the one at `index`."""
        changes = self.changes
        revision = changes[index].modified
        while index < len(changes) and changes[index].modified == revision:
            index += 1
        return index

    def find(self, revision: int) -> int:
        """The index of the first change of that revision or a later one."""
        return bisect_left(self.changes, revision, key=_modified)


def _size(changes: list[Item]) -> int:
    return sum([len(item.key) + len(item.value) + CHANGE_SIZE for item in changes])


def _modified(item: Item) -> int:
    return item.modified
