"""The names: which files there are, and of which chunks each one is made.

Its state is what its journal says and nothing else: it changes only by `apply`, whose changes are the
journal's records, so a restart and a first run cannot come to different names. Folders have no record of their
own; one is there as long as a file below it is. A chunk belongs to one file, and its id is given once: the
metadata server's boot count, which each start writes to the journal, is its upper half.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from zactor.errors import Corrupt
from zactor.message import decoder, encode

from .messages import BadPath, Conflict, Entry, Item, NotFound, Page, StoredChunk, Volume

PATH_SIZE_MAX = 1024
"""Bytes of a path in UTF-8."""

EPOCH_SHIFT = 32
"""A chunk's id is the epoch in which it was given, shifted by this, and a number that counts from 1."""


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="opened"):
    """The metadata server started for the `epoch`-th time. `volume` never changes."""

    volume: Volume
    epoch: int


class Stored(msgspec.Struct, frozen=True, array_like=True, tag="stored"):
    """A file appeared, in the place of any that was there."""

    path: str
    entry: Entry


class Removed(msgspec.Struct, frozen=True, array_like=True, tag="removed"):
    """A file went away."""

    path: str


Change: TypeAlias = Opened | Stored | Removed

_decode = decoder(Change)


def encode_change(change: Change) -> bytes:
    """A change as a payload for the journal."""
    return encode(change)


def decode_change(payload: bytes) -> Change:
    """The change in a payload. Raises `Corrupt` for what no version of this file has written."""
    try:
        change: Change = _decode(payload)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"a record of the namespace cannot be read: {error}") from error
    return change


def check_path(path: str) -> None:
    """Raise `BadPath`, with the reason, unless a file can have that path."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise BadPath(f"the path {path!r} is not valid Unicode") from None
    if size > PATH_SIZE_MAX:
        raise BadPath(f"a path of {size} bytes; the limit is {PATH_SIZE_MAX}")
    if not path.startswith("/"):
        raise BadPath(f"the path {path!r} does not begin with '/'")
    if any(sign < " " or "\x7f" <= sign <= "\x9f" for sign in path):
        raise BadPath(f"the path {path!r} has a control character in it")
    for part in path[1:].split("/"):
        if part in ("", ".", ".."):
            raise BadPath(f"the path {path!r} has the part {part!r}, which is not a name")


class Namespace:
    """All names. `volume` and `epoch` are 0 until the journal's first record."""

    def __init__(self) -> None:
        self.volume = 0
        self.epoch = 0
        self._entries: dict[str, Entry] = {}
        self._sorted: list[str] = []
        self._chunks: set[int] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> Iterable[tuple[str, Entry]]:
        """All files, by their paths."""
        return self._entries.items()

    # --- changes
    def check(self, change: Change) -> None:
        """Raise `BadPath`, `Conflict` or `NotFound` if the change cannot be made now."""
        if isinstance(change, Stored):
            self.check_free(change.path)
        elif isinstance(change, Removed):
            self.lookup(change.path)

    def check_free(self, path: str) -> None:
        """Raise `BadPath` or `Conflict` unless a file can be stored under that path; it may replace one."""
        check_path(path)
        if self._is_folder(path):
            raise Conflict(f"{path} is a folder: there are files below it")
        end = path.find("/", 1)
        while end > 0:
            if path[:end] in self._entries:
                raise Conflict(f"{path[:end]} is a file, so there can be none below it")
            end = path.find("/", end + 1)

    def apply(self, change: Change) -> tuple[StoredChunk, ...]:
        """Make a change that was checked, or is in the journal. Returns the chunks that no file has now."""
        if isinstance(change, Opened):
            self.volume, self.epoch = change.volume, change.epoch
            return ()
        old = self._entries.pop(change.path, None)
        if isinstance(change, Stored):
            self._entries[change.path] = change.entry
            self._chunks.update(stored.chunk for stored in change.entry.chunks)
            if old is None:
                insort(self._sorted, change.path)
        elif old is not None:
            del self._sorted[bisect_left(self._sorted, change.path)]
        freed = () if old is None else old.chunks
        self._chunks.difference_update(stored.chunk for stored in freed)
        return freed

    # --- questions
    def lookup(self, path: str) -> Entry:
        """The entry of a file. Raises `BadPath` or `NotFound`."""
        check_path(path)
        entry = self._entries.get(path)
        if entry is None:
            raise NotFound(f"{path} is a folder" if self._is_folder(path) else f"there is no file {path}")
        return entry

    def has_chunk(self, chunk: int) -> bool:
        """Whether a file is made of it."""
        return chunk in self._chunks

    def page(self, path: str, after: str, limit: int) -> Page:
        """Up to `limit` sorted names directly below a folder, behind `after`; of a file, its own name.

        Raises `BadPath`, or `NotFound` for a path that is neither.
        """
        folder = path if path.endswith("/") else f"{path}/"
        if folder != "/":
            check_path(folder[:-1])
            if not self._is_folder(folder[:-1]):
                entry = self.lookup(path)
                name = path.rpartition("/")[2]
                return Page((Item(name, entry.size),) if after < name else (), more=False)
        items: list[Item] = []
        index = self._behind(folder, after) if after else bisect_left(self._sorted, folder)
        while index < len(self._sorted) and self._sorted[index].startswith(folder):
            if len(items) == limit:
                return Page(tuple(items), more=True)
            found = self._sorted[index]
            name, slash, _ = found[len(folder) :].partition("/")
            items.append(Item(name + slash, None if slash else self._entries[found].size))
            index = self._behind(folder, name + slash)
        return Page(tuple(items), more=False)

    def _behind(self, folder: str, name: str) -> int:
        """The index of the first path behind a name of a listing: for a folder, behind all that is below it."""
        if name.endswith("/"):
            return bisect_left(self._sorted, f"{folder}{name[:-1]}0")  # "0" is the sign after "/"
        return bisect_right(self._sorted, folder + name)

    def _is_folder(self, path: str) -> bool:
        below = f"{path}/"
        index = bisect_left(self._sorted, below)
        return index < len(self._sorted) and self._sorted[index].startswith(below)
