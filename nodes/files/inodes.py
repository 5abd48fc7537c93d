"""Files by their inodes: which chunks each has, where they are, and what that means for a server that holds one."""

from __future__ import annotations

import enum
from collections.abc import Collection

import msgspec

from . import operations as op
from .messages import BUCKETS, INDEX_BITS, chunk_id, inode_of
from .servers import Servers
from .tables import File, Stored, chunks_of
from .tree import Tree
from .writes import Writes


class Verdict(enum.Enum):
    """What to do with a chunk that a file server holds."""

    LIVE = "live"
    """It should be there, as it is; or a put under way may have written it."""
    WRONG = "wrong"
    """It should be there, but with another size or checksum."""
    GARBAGE = "garbage"
    """Its file is gone, or its file is not on that server."""
    FOREIGN = "foreign"
    """Its inode was never given: whoever gave it is not who decides here."""


class Slice(msgspec.Struct, frozen=True):
    """The chunks among the next names, each with the key and inode of its file and its index there.

    `names`: how many were come by. `cursor` is where to go on, b"" at the end.
    """

    chunks: list[tuple[bytes, int, int, Stored]]
    names: int
    cursor: bytes


class Inodes:
    """Looks at tables, servers and puts; changes nothing."""

    def __init__(self, tree: Tree, servers: Servers, writes: Writes) -> None:
        self._tree, self._tables, self._servers, self._writes = tree, tree.tables, servers, writes

    def file(self, inode: int) -> File | None:
        """The file with that inode, if it is alive or read."""
        record = self._tables.leaf(inode) if inode in self._tables.leaves else None
        return record if isinstance(record, File) else None

    def chunks(self, inode: int) -> tuple[Stored, ...]:
        """Its chunks; none if there is no such file."""
        file = self.file(inode)
        return chunks_of(file) if file is not None else ()

    def chunk(self, inode: int, index: int, stored: Stored) -> op.Chunk:
        """A chunk as others know it."""
        return op.Chunk(chunk_id(inode, index), stored.size, stored.crc, self._servers.names(stored.servers))

    def find_chunk(self, chunk: int) -> op.Chunk | None:
        """A chunk of a file that is alive or read, as it must be."""
        inode, index = inode_of(chunk), _index_of(chunk)
        chunks = self.chunks(inode)
        return self.chunk(inode, index, chunks[index]) if index < len(chunks) else None

    def content(self, name: bytes, inode: int, file: File) -> op.Content:
        """A file with its chunks."""
        chunks = [self.chunk(inode, index, stored) for index, stored in enumerate(chunks_of(file))]
        return op.Content(self._tree.stat(name, inode), tuple(chunks))

    def verdict(self, server: int, chunk: int, size: int, crc: int) -> Verdict:
        """What to do with a chunk whose inode was given, and that a server holds."""
        inode, index = inode_of(chunk), _index_of(chunk)
        put = self._writes.puts.get(inode)
        if put is not None:
            # Whatever a put was ever given may be on its way there.
            place = put.places.get(index)
            return Verdict.LIVE if place is not None and server in place.given else Verdict.GARBAGE
        chunks = self.chunks(inode)
        if index >= len(chunks) or server not in chunks[index].servers:
            return Verdict.GARBAGE
        is_right = (chunks[index].size, chunks[index].crc) == (size, crc)
        return Verdict.LIVE if is_right else Verdict.WRONG

    def slice(self, cursor: bytes, limit: int, buckets: Collection[int] | None = None) -> Slice:
        """The chunks of up to `limit` names, of fewer when they have many: a slice takes little time."""
        keys = self._tables.keys_after(cursor, limit)
        chunks: list[tuple[bytes, int, int, Stored]] = []
        for names, key in enumerate(keys, 1):
            inode = self._tables.entries[key]
            if buckets is None or inode % BUCKETS in buckets:
                chunks += [(key, inode, index, stored) for index, stored in enumerate(self.chunks(inode))]
            if len(chunks) >= limit or names == limit:
                return Slice(chunks, names, key)
        return Slice(chunks, len(keys), b"")


def _index_of(chunk: int) -> int:
    return chunk & ((1 << INDEX_BITS) - 1)
