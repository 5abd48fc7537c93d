"""The memory of the namespace: entries by (parent, name), inodes by id, and a frozen view of both.

An entry's key is its parent's inode (8 bytes, big endian) and its name in UTF-8, so a folder is a range of an ordered
map. Files and links are kept as packed bytes: a million of them are nothing that a garbage collector looks at.
Folders are few, and live objects.

A snapshot does not copy: it walks the entries, and whoever changes something that it has not come to yet leaves the
old value for it (`zactor.replication.frozen`). So freezing takes no time, and memory only for what changes meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from sortedcontainers import SortedDict

from zactor.errors import Corrupt
from zactor.message import decoder, encode
from zactor.replication.frozen import Frozen

T = TypeVar("T")

ROOT = 1
"""The inode of '/', which has no entry."""

BLOCK_ENTRIES = 1_024
"""Entries in one part of a snapshot: about 100 KiB."""

PART_SIZE = 256 << 10
"""Bytes of what one part of a snapshot holds, unless a single thing in it is larger."""


class File(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The inode of a file. `chunks` is `pack_chunks` of them."""

    mode: int
    mtime_ns: int
    size: int
    checksum: int
    chunks: bytes | tuple[int, ...]


class Link(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The inode of a symbolic link."""

    mtime_ns: int
    target: str


class Folder(msgspec.Struct, array_like=True, tag=2, gc=False):
    """The inode of a folder: where it is, and how many entries it has."""

    mode: int
    mtime_ns: int
    parent: int
    name: bytes
    count: int = 0


Record: TypeAlias = File | Link | Folder


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """A chunk of a file: what it must be, and the numbers of the servers that have it."""

    size: int
    crc: int
    servers: tuple[int, ...]


class Block(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A part of a snapshot: entries in their order, the inode of each, and what that is."""

    keys: list[bytes]
    inodes: list[Annotated[int, msgspec.Meta(ge=1)]]
    records: list[bytes]


decode_record = decoder(File | Link | Folder)
_decode_leaf = decoder(File | Link)
_decode_chunks = decoder(tuple[Stored, ...])


_FOLDER_HEAD = encode(Folder(0, 0, 0, b""))[:2]
"""How the record of a folder begins: an array, and the tag."""


def pack_chunks(chunks: tuple[Stored, ...]) -> bytes | tuple[int, ...]:
    """Chunks as a file's record has them. Nearly all files have one: its checksum and servers are enough, since its
    size is the file's, and the record then takes 64 bytes of memory."""
    if len(chunks) == 1:
        return (chunks[0].crc, *chunks[0].servers)
    return encode(chunks) if chunks else b""


def chunks_of(file: File) -> tuple[Stored, ...]:
    """The chunks of a file, in order."""
    packed = file.chunks
    if isinstance(packed, tuple):
        return (Stored(file.size, packed[0], packed[1:]),)
    chunks: tuple[Stored, ...] = _decode_chunks(packed) if packed else ()
    return chunks


def key_of(parent: int, name: bytes) -> bytes:
    """The key of an entry."""
    return parent.to_bytes(8, "big") + name


class _Frozen:
    """What a snapshot has still to see: the entries, and the records that were changed since."""

    __slots__ = ("entries", "records")

    def __init__(self, tables: Tables) -> None:
        self.entries: Frozen[int] = Frozen(
            tables.entries, lambda key: tables.entries.irange(key, inclusive=(False, False))
        )
        self.records: dict[int, bytes] = {}


class Tables:
    """Entries and inodes. All changes go through its methods, so that a snapshot can stand still."""

    def __init__(self) -> None:
        self.entries: SortedDict[bytes, int] = SortedDict()
        self.folders: dict[int, Folder] = {ROOT: Folder(0o755, 0, ROOT, b"")}
        self.leaves: dict[int, bytes] = {}
        self._frozen: _Frozen | None = None

    # --- reading
    def find(self, parent: int, name: bytes) -> int | None:
        """The inode under that name, if there is one."""
        inode: int | None = self.entries.get(parent.to_bytes(8, "big") + name)
        return inode

    def leaf(self, inode: int) -> File | Link:
        """The file or link with that inode. KeyError when there is none."""
        record: File | Link = _decode_leaf(self.leaves[inode])
        return record

    def keys_after(self, key: bytes, limit: int) -> list[bytes]:
        """Up to that many keys behind this one, in order."""
        return list(islice(self.entries.irange(key, inclusive=(False, False)), limit))

    def names_in(self, folder: int, after: bytes, limit: int) -> list[bytes]:
        """Up to that many keys of a folder, behind a name, in order."""
        first, end = key_of(folder, after), key_of(folder + 1, b"")
        return list(islice(self.entries.irange(first, end, inclusive=(False, False)), limit))

    # --- changing
    def link(self, parent: int, name: bytes, inode: int, time_ns: int) -> None:
        """Let an entry point to an inode, in the place of any other."""
        key = parent.to_bytes(8, "big") + name
        if self._frozen is not None:
            self._keep_entry(key)
        folder = self.changing(parent)
        folder.mtime_ns = time_ns
        if key not in self.entries:
            folder.count += 1
        self.entries[key] = inode

    def unlink(self, parent: int, name: bytes, time_ns: int) -> None:
        """Remove an entry."""
        key = parent.to_bytes(8, "big") + name
        if self._frozen is not None:
            self._keep_entry(key)
        folder = self.changing(parent)
        folder.mtime_ns = time_ns
        folder.count -= 1
        del self.entries[key]

    def set_leaf(self, inode: int, record: File | Link) -> None:
        """A file or link, new or changed."""
        if self._frozen is not None:
            self._keep_record(inode)
        self.leaves[inode] = encode(record)

    def remove_leaf(self, inode: int) -> None:
        """The inode of a file or link goes away."""
        if self._frozen is not None:
            self._keep_record(inode)
        del self.leaves[inode]

    def add_folder(self, inode: int, folder: Folder) -> None:
        """A new folder, whose entry follows."""
        self.folders[inode] = folder

    def changing(self, inode: int) -> Folder:
        """A folder, to be changed."""
        if self._frozen is not None:
            self._keep_record(inode)
        return self.folders[inode]

    def remove_folder(self, inode: int) -> None:
        """The inode of a folder goes away."""
        if self._frozen is not None:
            self._keep_record(inode)
        del self.folders[inode]

    # --- snapshots
    def freeze(self) -> Generator[bytes]:
        """The entries as they are at this call, and their inodes, as parts. One at a time."""
        assert self._frozen is None, "there is a snapshot under way"
        self._frozen = _Frozen(self)
        parts = self._let_go_after(self._frozen)
        next(parts)  # to where `close` lets go of what is kept
        return parts

    def _let_go_after(self, frozen: _Frozen) -> Generator[bytes]:
        try:
            yield b""
            yield from self._blocks(frozen)
        finally:
            self._frozen = None

    def blocks(self) -> Iterator[bytes]:
        """What a snapshot would be, for as long as nothing changes."""
        return self._blocks(_Frozen(self))

    def _blocks(self, frozen: _Frozen) -> Iterator[bytes]:
        while taken := frozen.entries.take(BLOCK_ENTRIES):
            rows = ((key, inode, frozen.records.get(inode) or self.packed(inode)) for key, inode in taken)
            for some in in_parts(rows, lambda row: len(row[0]) + len(row[2]) + 9):
                yield encode(Block([row[0] for row in some], [row[1] for row in some], [row[2] for row in some]))

    def packed(self, inode: int) -> bytes:
        """The record of an inode as bytes."""
        folder = self.folders.get(inode)
        return self.leaves[inode] if folder is None else encode(folder)

    def _keep_entry(self, key: bytes) -> None:
        frozen = self._frozen
        assert frozen is not None
        frozen.entries.keep(key, self.entries.get(key))

    def _keep_record(self, inode: int) -> None:
        frozen = self._frozen
        assert frozen is not None
        if inode not in frozen.records and (inode in self.leaves or inode in self.folders):
            frozen.records[inode] = self.packed(inode)

    def load(self, blocks: Iterable[Block]) -> None:
        """Take over the entries of a snapshot. The root is set by whoever has it. Raises `Corrupt`."""
        entries: dict[bytes, int] = {}
        for block in blocks:
            if not len(block.keys) == len(block.inodes) == len(block.records):
                raise Corrupt("a snapshot has a block whose columns differ in length")
            entries.update(zip(block.keys, block.inodes, strict=True))
            self.leaves.update(zip(block.inodes, block.records, strict=True))
        self.entries = SortedDict(entries)
        for inode in [inode for inode, record in self.leaves.items() if record[:2] == _FOLDER_HEAD]:
            self.folders[inode] = decode_record(self.leaves.pop(inode))


def in_parts(items: Iterable[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """Items in lists of about `PART_SIZE` bytes, none of them empty."""
    part: list[T] = []
    size = 0
    for item in items:
        part.append(item)
        size += size_of(item)
        if size >= PART_SIZE:
            yield part
            part, size = [], 0
    if part:
        yield part
