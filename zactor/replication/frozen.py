"""An ordered map as it was at one moment, walked in blocks while it goes on changing.

Nothing is copied: the walk is behind a cursor, and whoever changes something that it has not come to yet leaves the old
value for it. So freezing takes no time, and memory only for what changes meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Generic, TypeVar

from sortedcontainers import SortedDict

V = TypeVar("V")


class Frozen(Generic[V]):
    """The view. `keys_after` iterates over the map's keys behind one, in order; the key b"" is never in it."""

    __slots__ = ("_cursor", "_kept", "_keys_after", "_now")

    def __init__(self, now: Mapping[bytes, V], keys_after: Callable[[bytes], Iterator[bytes]]) -> None:
        self._now = now
        self._keys_after = keys_after
        self._cursor = b""
        self._kept: SortedDict[bytes, V | None] = SortedDict()

    def keep(self, key: bytes, was: Any) -> None:
        """That key is about to change, and has this value so far; None: it is not there. To be told before each."""
        if key > self._cursor and key not in self._kept:
            self._kept[key] = was

    def take(self, limit: int) -> list[tuple[bytes, V]]:
        """The next keys with their values, in order, up to `limit`; none at the end."""
        taken: dict[bytes, V] = {}
        while not taken:
            now = list(islice(self._keys_after(self._cursor), limit))
            kept = list(islice(self._kept, limit))
            if not now and not kept:
                break
            # Each of the two is known up to its end, or all of it when it is short.
            ends = [keys[-1] for keys in (now, kept) if len(keys) == limit]
            self._cursor = min(ends) if ends else max(now[-1:] + kept[-1:])
            taken = {key: self._now[key] for key in now if key <= self._cursor}
            for key in kept:
                if key > self._cursor:
                    break
                was = self._kept.pop(key)
                taken.pop(key, None)
                if was is not None:
                    taken[key] = was
        return sorted(taken.items(), key=_key)


def _key(pair: tuple[bytes, Any]) -> bytes:
    return pair[0]
