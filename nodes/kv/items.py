"""The keys and what they have: a dictionary, its keys in order, and a frozen view of both.

All changes go through `put` and `remove`, which keep what is known of the whole: its size, what a snapshot has still
to see, and which items have not been weighed for the digest since they changed. To write over a key that is there
costs little more than a dictionary does.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

from crc32c import crc32c
from sortedcontainers import SortedList

from zactor.message import encode
from zactor.replication.frozen import Frozen

from .operations import Item

BLOCK_ITEMS = 1_024
"""Items that a snapshot takes at once."""

UNWEIGHED_MAX = 16_384
"""Keys that may change before they are weighed, which takes some milliseconds. A key that changes often is weighed
once: it was a third of what a put cost."""


def weight(item: object) -> int:
    """What one thing adds to a digest, which is a sum: a checksum, squared, so that two that are swapped do not
    cancel each other out. It finds mistakes and damage; who wants to can make it lie."""
    checksum: int = crc32c(encode(item))
    return checksum * checksum


class Items:
    """Items by key. `size`: bytes of all keys and values."""

    __slots__ = ("_frozen", "_keys", "_unweighed", "_weight", "by_key", "size")

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self.by_key: dict[bytes, Item] = {item.key: item for item in items}
        self._keys: SortedList[bytes] = SortedList(self.by_key)
        self.size = sum([len(item.key) + len(item.value) for item in self.by_key.values()])
        self._weight = sum([weight(item) for item in self.by_key.values()])
        self._unweighed: dict[bytes, Item | None] = {}  # what they were when they were weighed
        self._frozen: Frozen[Item] | None = None

    # --- reading
    def keys(self, key: bytes, end: bytes | None) -> Iterator[bytes]:
        """The keys of a range, in order."""
        if end is None:
            return iter((key,) if key in self.by_key else ())
        return self._keys.irange(key, end or None, inclusive=(True, False))

    def count(self, key: bytes, end: bytes | None) -> int:
        """How many keys a range has."""
        if end is None:
            return int(key in self.by_key)
        first = self._keys.bisect_left(key)
        return max(0, (self._keys.bisect_left(end) if end else len(self._keys)) - first)

    @property
    def weight(self) -> int:
        """The sum of the weights of all items."""
        self._weigh()
        return self._weight

    def _weigh(self) -> None:
        unweighed, self._unweighed = self._unweighed, {}
        for key, was in unweighed.items():
            item = self.by_key.get(key)
            self._weight += (weight(item) if item is not None else 0) - (weight(was) if was is not None else 0)

    # --- changing
    def put(self, item: Item, was: Item | None) -> None:
        """Set an item in the place of what was there."""
        key = item.key
        if self._frozen is not None:
            self._frozen.keep(key, was)
        if was is None:
            self._keys.add(key)
            self.size += len(key) + len(item.value)
        else:
            self.size += len(item.value) - len(was.value)
        self.by_key[key] = item
        if key not in self._unweighed:
            self._changed(key, was)

    def remove(self, was: Item) -> None:
        """Take one away."""
        key = was.key
        if self._frozen is not None:
            self._frozen.keep(key, was)
        self._keys.remove(key)
        self.size -= len(key) + len(was.value)
        del self.by_key[key]
        if key not in self._unweighed:
            self._changed(key, was)

    def _changed(self, key: bytes, was: Item | None) -> None:
        self._unweighed[key] = was
        if len(self._unweighed) > UNWEIGHED_MAX:
            self._weigh()

    # --- snapshots
    def freeze(self) -> Generator[list[Item]]:
        """All items as they are at this call, in order, in blocks. One at a time; `close` it."""
        assert self._frozen is None, "there is a snapshot under way"
        self._frozen = Frozen(self.by_key, lambda key: self._keys.irange(key, inclusive=(False, False)))
        blocks = self._blocks(self._frozen)
        next(blocks)  # to where `close` lets go of what is kept
        return blocks

    def _blocks(self, frozen: Frozen[Item]) -> Generator[list[Item]]:
        try:
            yield []
            while taken := frozen.take(BLOCK_ITEMS):
                yield [item for _, item in taken]
        finally:
            self._frozen = None
