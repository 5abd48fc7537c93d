"""Files in memory: those of the virtual world, and those of a simulated machine that loses power.

A machine's disk holds two things: the page cache, which is what its processes read and write and which outlives them,
and what would still be there if the power failed now. Contents become durable by `Sync`, names by `SyncFolder`, each
up to where it stood when the operation began. A power failure keeps a random part of what was not synced, from the
oldest on, and tears the change after it at a random byte: so a file system that keeps its writes in order loses them.

A sync that fails leaves the page cache as Linux does (fsyncgate; Rebello et al. 2020, "Can Applications Recover from
fsync Failures?"): what it should have written can be read, counts as clean, and is not on the disk.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from zactor.errors import DiskFailed, DiskFull
from zactor.sim.heap import Chance
from zactor.world import (
    Append,
    FreeBytes,
    List,
    Operation,
    Read,
    Remove,
    Rename,
    Size,
    Sync,
    SyncFolder,
    Truncate,
    Write,
)

UNBOUNDED = 1 << 40

Key = tuple[str, str]
"""A node's folder, and the name of a file in it."""


class MemoryDisk:
    """Files of all nodes, by folder and name. `capacity_bytes` bounds what they hold together."""

    def __init__(self) -> None:
        self.files: dict[Key, bytearray] = {}
        self.capacity_bytes = UNBOUNDED

    def free_bytes(self) -> int:
        """What can still be written."""
        return self.capacity_bytes - sum(map(len, self.files.values()))

    def perform(self, operation: Operation) -> Any:
        """Do it now; the result, or an error of `zactor.errors`."""
        method = getattr(self, f"_{type(operation).__name__.lower()}", None)
        return None if method is None else method(operation)

    def _file(self, operation: Any) -> bytearray:
        key = (operation.folder, operation.file)
        file = self.files.get(key)
        if file is None:
            file = self.files[key] = self._make(key)
        return file

    def _make(self, _key: Key) -> bytearray:
        return bytearray()

    def _grow(self, file: bytearray, size: int) -> None:
        more = size - len(file)
        # The free bytes are counted only where they matter: that takes a look at every file.
        if more > self.capacity_bytes or (self.capacity_bytes < UNBOUNDED and more > max(0, self.free_bytes())):
            raise DiskFull(f"no room for {more} bytes")

    def _append(self, operation: Append) -> int:
        file = self._file(operation)
        offset = len(file)
        self._grow(file, offset + len(operation.data))
        file += operation.data
        return offset

    def _write(self, operation: Write) -> None:
        file = self._file(operation)
        if not operation.data:
            return  # as with files, nothing written makes nothing longer
        end = operation.offset + len(operation.data)
        self._grow(file, end)
        file.extend(bytes(max(0, operation.offset - len(file))))
        file[operation.offset : end] = operation.data

    def _read(self, operation: Read) -> bytes:
        file = self.files.get((operation.folder, operation.file), bytearray())
        end = len(file) if operation.size < 0 else operation.offset + operation.size
        return bytes(file[operation.offset : end])

    def _truncate(self, operation: Truncate) -> None:
        file = self._file(operation)
        del file[operation.size :]
        file.extend(bytes(operation.size - len(file)))

    def _size(self, operation: Size) -> int | None:
        file = self.files.get((operation.folder, operation.file))
        return None if file is None else len(file)

    def _rename(self, operation: Rename) -> None:
        file = self.files.pop((operation.folder, operation.file), None)
        if file is None:
            raise FileNotFoundError(operation.file)
        self.files[operation.folder, operation.to] = file

    def _remove(self, operation: Remove) -> bool:
        return self.files.pop((operation.folder, operation.file), None) is not None

    def _list(self, operation: List) -> tuple[str, ...]:
        prefix = operation.file + "/" if operation.file else ""
        names = (
            file[len(prefix) :].partition("/")[0]
            for folder, file in self.files
            if folder == operation.folder and file.startswith(prefix)
        )
        return tuple(sorted(set(names)))

    def _freebytes(self, _operation: FreeBytes) -> int:
        return self.free_bytes()


class Content(bytearray):
    """A file in the page cache, what of it is durable, and the changes since then: (offset, bytes) or (size, None)."""

    def __init__(self) -> None:
        super().__init__()
        self.durable = bytearray()
        self.changes: list[tuple[int, bytes | None]] = []
        self.settled = 0  # changes that are durable

    def settle(self, count: int) -> None:
        """So many changes, counted from the first ever, are durable."""
        done, self.changes = self.changes[: count - self.settled], self.changes[max(0, count - self.settled) :]
        for offset, data in done:
            self._apply(offset, data)
        self.settled += len(done)

    def forsake(self, count: int) -> None:
        """So many changes, counted from the first ever, are clean in the page cache and not on the disk."""
        done, self.changes = self.changes[: count - self.settled], self.changes[max(0, count - self.settled) :]
        for offset, data in done:
            if data is None:
                self._apply(offset, data)  # file systems keep a journal of their own for sizes and names
        self.settled += len(done)

    def lose(self, chance: Chance) -> int:
        """Keep some of the oldest changes and a torn one. Returns the bytes that are lost."""
        if self.changes:
            kept = chance.below(len(self.changes) + 1)
            torn = self.changes[kept] if kept < len(self.changes) else None
            self.settle(self.settled + kept)
            if torn is not None and torn[1]:
                self._apply(torn[0], torn[1][: chance.below(len(torn[1]))])
        lost = sum(len(data or b"") for _, data in self.changes)
        self.changes = []
        self[:] = self.durable
        return lost

    def _apply(self, offset: int, data: bytes | None) -> None:
        if data is None:
            del self.durable[offset:]
            self.durable.extend(bytes(offset - len(self.durable)))
        elif data:
            self.durable.extend(bytes(max(0, offset - len(self.durable))))
            self.durable[offset : offset + len(data)] = data


class Folder:
    """The names in one folder: which of them are durable, and how they changed since then."""

    def __init__(self) -> None:
        self.durable: dict[Key, bytearray] = {}
        self.changes: list[tuple[tuple[Key, bytearray | None], ...]] = []
        self.settled = 0

    def settle(self, count: int) -> None:
        """So many changes, counted from the first ever, are durable."""
        done, self.changes = self.changes[: count - self.settled], self.changes[max(0, count - self.settled) :]
        for change in done:
            for key, file in change:
                self.durable.pop(key, None)
                if file is not None:
                    self.durable[key] = file
        self.settled += len(done)


def _mark(written: Content | Folder) -> tuple[Content | Folder, int]:
    return written, written.settled + len(written.changes)


class Machine(MemoryDisk):
    """The disk of one process, over all its incarnations. `acted` counts what its faults did, by their class."""

    def __init__(self, chance: Chance, acted: Counter[str]) -> None:
        super().__init__()
        self.chance = chance
        self._acted = acted
        self._folders: dict[Key, Folder] = {}
        self.failing_syncs = 0  # how many more will fail
        self.misdirected_reads = 0
        self.slowness = 1

    # --- what becomes durable
    def attempt(self, operation: Operation) -> tuple[Any, BaseException | None]:
        """Do it now: the result, or the error."""
        try:
            return self.perform(operation), None
        except Exception as error:
            return None, error

    def mark(self, operation: Sync | SyncFolder) -> list[tuple[Content | Folder, int]]:
        """How far that is written which a sync that begins now makes durable."""
        if isinstance(operation, SyncFolder):
            return [_mark(self._folder(operation.folder, operation.file))]
        files = [self.files.get((operation.folder, name)) for name in operation.files]
        return [_mark(file) for file in files if isinstance(file, Content)]

    def settle(self, operation: Operation, marks: list[tuple[Content | Folder, int]]) -> DiskFailed | None:
        """A sync ends: what it marked is durable. If it fails it is not, and no later sync will make it so."""
        if self.failing_syncs:
            self.failing_syncs -= 1
            self._acted["fail_sync"] += 1
            for written, count in marks:
                if isinstance(written, Content):
                    written.forsake(count)
            return DiskFailed(f"{operation.folder}: the sync failed")  # type: ignore[union-attr]
        for written, count in marks:
            written.settle(count)
        return None

    def span_ns(self, usual_ns: int) -> int:
        """How long an operation takes that usually takes `usual_ns`."""
        span_ns = usual_ns + self.chance.below(usual_ns + 1)
        if self.slowness > 1:
            self._acted["slow_disk"] += 1
            span_ns *= self.slowness
        return span_ns

    def limit(self, room_bytes: int | None) -> None:
        """Let no more than that be written from now on; None is no bound."""
        used = self.capacity_bytes - self.free_bytes()
        self.capacity_bytes = UNBOUNDED if room_bytes is None else used + room_bytes

    def lose_power(self) -> None:
        """Forget what was not synced: of names and of contents a part from the oldest on stays."""
        names = 0
        survivors: dict[Key, bytearray] = {}
        for folder in self._folders.values():
            kept = self.chance.below(len(folder.changes) + 1)
            names += len(folder.changes) - kept
            folder.settle(folder.settled + kept)
            folder.changes = []
            survivors |= folder.durable
        self.files = survivors
        size = sum(file.lose(self.chance) for file in survivors.values() if isinstance(file, Content))
        if size:
            self._acted["unsynced_bytes_lost"] += 1
        if names:
            self._acted["folder_entries_lost"] += 1

    def rot(self, pattern: str = "") -> str | None:
        """Flip one bit of a file, for good. Returns which, or None when there is nothing to flip."""
        found = [key for key, file in self.files.items() if file and pattern in key[1]]
        if not found:
            return None
        key = self.chance.pick(sorted(found))
        file = self.files[key]
        bit = self.chance.below(8 * len(file))
        for copy in (file, file.durable if isinstance(file, Content) else bytearray()):
            if bit >> 3 < len(copy):
                copy[bit >> 3] ^= 1 << (bit & 7)
        self._acted["rot"] += 1
        return f"bit {bit} of {key[0]}/{key[1]}"

    # --- what changes
    def _grow(self, file: bytearray, size: int) -> None:
        try:
            super()._grow(file, size)
        except DiskFull:
            self._acted["full_disk"] += 1
            raise

    def _folder(self, folder: str, file: str) -> Folder:
        return self._folders.setdefault((folder, file), Folder())

    def _renamed(self, *changes: tuple[Key, bytearray | None]) -> None:
        folder, file = changes[-1][0]
        self._folder(folder, file.rpartition("/")[0]).changes.append(changes)

    def _make(self, key: Key) -> bytearray:
        content = Content()
        self._renamed((key, content))
        return content

    def _append(self, operation: Append) -> int:
        offset = super()._append(operation)
        self._changed(operation, offset, operation.data)
        return offset

    def _write(self, operation: Write) -> None:
        super()._write(operation)
        self._changed(operation, operation.offset, operation.data)

    def _truncate(self, operation: Truncate) -> None:
        super()._truncate(operation)
        self._changed(operation, operation.size, None)

    def _changed(self, operation: Append | Write | Truncate, offset: int, data: bytes | None) -> None:
        content = self.files[operation.folder, operation.file]
        assert isinstance(content, Content)
        content.changes.append((offset, data))

    def _rename(self, operation: Rename) -> None:
        super()._rename(operation)
        to = (operation.folder, operation.to)
        self._renamed(((operation.folder, operation.file), None), (to, self.files[to]))

    def _remove(self, operation: Remove) -> bool:
        removed = super()._remove(operation)
        if removed:
            self._renamed(((operation.folder, operation.file), None))
        return removed

    def _read(self, operation: Read) -> bytes:
        found = super()._read(operation)
        if self.misdirected_reads and found:
            self.misdirected_reads -= 1
            others = [
                file for key, file in self.files.items() if key[0] == operation.folder and len(file) >= len(found)
            ]
            other = self.chance.pick(others)
            offset = self.chance.below(len(other) - len(found) + 1)
            self._acted["misdirect"] += 1
            return bytes(other[offset : offset + len(found)])
        return found
