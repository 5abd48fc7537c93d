"""What clients, the metadata server and the file servers say to each other, and how they say no.

Names are changed and looked up by `Submit` and `Query` (`zactor.replication.messages`) with what `operations.py` has
in their bodies; here are the messages of the file servers. All sizes and offsets are bytes, all checksums CRC32C. The
limits on what one message may carry stand here.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from zactor.errors import Refused
from zactor.message import Bulk, Message, Ref

BLOCK_SIZE = 64 << 10
"""What one checksum covers."""

SMALL_SIZE_MAX = BLOCK_SIZE
"""A file up to this size is one record of a segment; a larger one has chunks of its own."""

FRAME_SIZE = 256 << 10
"""What one message carries to a file server. Larger ones cost the servers more and gain nothing on a real disk."""

READ_SIZE = 1 << 20
"""What one message carries from a file server: reading is cheaper the more is read at once."""

CHUNK_SIZE_MAX = 64 << 20
"""The largest chunk, as in GFS: a chunk costs an entry in memory, a file, and a sync or two."""

CHUNKS_MAX = 50_000
"""Chunks of one file, so that its entry fits into one message: 3 TiB of chunks of the largest size."""

INDEX_BITS = 16
"""A chunk's id is the inode of its file, shifted by this, and its index in it. So it says whose it is, and since
inodes are never given twice, neither are chunks."""

COPIES_MAX = 8
PAGE_SIZE_MAX = 1_000
"""Names or chunks in one answer."""

BUCKETS = 64
"""Parts in which what a file server holds is compared; a chunk is in that of its inode modulo this."""

Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Checksum = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
ChunkId = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
Version = Annotated[int, msgspec.Meta(ge=1, le=(1 << 31) - 1)]
Volume = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
Chain = Annotated[tuple[Ref[Any], ...], msgspec.Meta(max_length=COPIES_MAX)]
"""The servers behind this one, in order; each passes on what it got to the first, with the rest as its chain."""


def chunk_id(inode: int, index: int) -> int:
    """The id of the chunk at that index of a file, from 0 on."""
    return inode << INDEX_BITS | index


def inode_of(chunk: int) -> int:
    """The inode of the file that a chunk is part of."""
    return chunk >> INDEX_BITS


# --- how they say no
class NotFound(Refused):
    """There is no file or folder of that name."""


class AlreadyExists(Refused):
    """There is one of that name, and it was not to be replaced."""


class NotAFolder(Refused):
    """A part of the path, or what was to be listed, is a file."""


class IsAFolder(Refused):
    """It is a folder; a file was expected."""


class NotEmpty(Refused):
    """The folder has something in it."""


class BadPath(Refused):
    """The path is not one that a file can have."""


class Loop(Refused):
    """Symbolic links lead in a circle, or a folder would be moved below itself."""


class NoRoom(Refused):
    """ENOSPC: no file server has room, or too few of them are there for all copies."""


class FileTooLarge(Refused):
    """The file would need more than `CHUNKS_MAX` chunks."""


class LeaseExpired(Refused):
    """The put was given up: its client was silent for too long, or abandoned it."""


class TooMany(Refused):
    """A session holds as many puts or pins as one may; end some."""


class BadCommit(Refused):
    """What is to be committed is not what this put was given, or lies on too few servers."""


class StaleVersion(Refused):
    """The chain of the chunk is another one by now; ask for the new one."""


class MissingChunk(Refused):
    """The file server has no such chunk, or not in the state that this needs."""


class BadFrame(Refused):
    """A frame is too large, empty, or not the next one of its chunk."""


class ChainBroken(Refused):
    """A server behind this one in the chain did not do its part. The text says which one, and why."""


class WrongVolume(Refused):
    """The file server keeps chunks for another metadata server, or for none yet, or is the store of another server."""


class Replaced(Refused):
    """The file was replaced or removed while it was being read."""


# --- values
class Piece(msgspec.Struct, frozen=True, array_like=True):
    """Bytes of a chunk, and the checksum of each of their blocks as it was when the chunk was sealed."""

    content: Bulk
    checksums: tuple[Checksum, ...]


class Held(msgspec.Struct, frozen=True, array_like=True):
    """A chunk on a file server. `crc` is 0 until it is sealed."""

    chunk: ChunkId
    size: Size
    crc: Checksum
    is_sealed: bool


class HeldPage(msgspec.Struct, frozen=True, array_like=True):
    """A part of a list of chunks, sorted by id. When `more`, ask again with `after` the last one."""

    chunks: tuple[Held, ...]
    more: bool


class Inventory(msgspec.Struct, frozen=True, array_like=True):
    """What a file server is and holds, in short.

    `store` is a number that its disk was given once. `room`: bytes that it can take beside what is sealed; 0 when it
    cannot write. `digests`: of each bucket, all `held_digest` of its sealed chunks in one XOR. `damaged`: chunks that
    were set aside since they are not what was sealed, and wait for a copy. `partials`: a page of those not sealed.
    """

    store: Volume
    zone: str
    capacity: Size
    used: Size
    room: Size
    digests: tuple[int, ...]
    damaged: tuple[ChunkId, ...]
    partials: tuple[ChunkId, ...]


# --- from clients, and from server to server along a chain
class WriteChunk(Message[None]):
    """The next frame of a chunk that is being written; the first one, at offset 0, makes it. On the bulk lane.

    `content` is whole blocks, but for the chunk's last; `checksums` has one for each. Answered when this server and
    all behind it have taken it and all that came before it, which is a cumulative acknowledgement. Raises
    `StaleVersion`, `MissingChunk`, `BadFrame`, `Corrupt`, `NoRoom`, `WrongVolume`, `ChainBroken`.
    """

    chunk: ChunkId
    version: Version
    chain: Chain
    offset: Size
    content: Bulk
    checksums: tuple[Checksum, ...]


class SealChunk(Message[None]):
    """The chunk is complete, if its size and checksum are these. Answered when it is durable on all of the chain.

    `crc` is `chunks.seal_crc` of the checksums of all blocks. Sealing again what is sealed so is done, too. Raises
    what `WriteChunk` does.
    """

    chunk: ChunkId
    version: Version
    chain: Chain
    size: Size
    crc: Checksum


class ReopenChunk(Message[Held]):
    """A chunk whose chain broke goes on under a higher version: cut it to `size` bytes, whole blocks.

    One that is sealed stays so, and says it. From here on older versions are refused. Raises `StaleVersion`,
    `MissingChunk` when fewer bytes are there.
    """

    chunk: ChunkId
    version: Version
    size: Size


class StoreSmall(Message[None]):
    """Store a whole chunk of at most `SMALL_SIZE_MAX` bytes. Answered when it is durable here: it has no chain.

    `crc` is `chunks.seal_crc`, as of any chunk. Storing again what is there is done, too. Raises `Corrupt`, `NoRoom`,
    `WrongVolume`, `BadFrame`.
    """

    chunk: ChunkId
    content: bytes
    crc: Checksum


class ReadChunk(Message[Piece]):
    """Up to `size` (at most `READ_SIZE`) bytes of a sealed chunk; `offset` is a multiple of `BLOCK_SIZE`.

    Raises `MissingChunk`, `BadFrame`, `Corrupt` with the block that is wrong.
    """

    chunk: ChunkId
    offset: Size
    size: Size


class ReadChecksums(Message[bytes]):
    """The checksums of all blocks of a sealed chunk, u32 little endian. Raises `MissingChunk`, `Corrupt`."""

    chunk: ChunkId


class CopyChunk(Message[None]):
    """Fetch a sealed chunk from one of `sources`, trying each. Answered when it is durable here and as said.

    One that is damaged here is replaced; one that is right is left. Raises `MissingChunk` and `Corrupt` when no
    source has it so, `NoRoom`, `WrongVolume`.
    """

    chunk: ChunkId
    size: Size
    crc: Checksum
    sources: Chain


# --- from the metadata server
class Survey(Message[Inventory]):
    """Tell what there is. The first one binds a server to its volume. Raises `WrongVolume`."""

    volume: Volume


class ListBucket(Message[HeldPage]):
    """The sealed chunks of one bucket, with ids above `after`. Raises `WrongVolume`."""

    volume: Volume
    bucket: Annotated[int, msgspec.Meta(ge=0, lt=BUCKETS)]
    after: Size = 0


class DropChunks(Message[None]):
    """Remove chunks that no file has, in whatever state they are. Raises `WrongVolume`."""

    volume: Volume
    chunks: Annotated[tuple[ChunkId, ...], msgspec.Meta(max_length=PAGE_SIZE_MAX)]


class SetAside(Message[None]):
    """Keep chunks that should not be here apart from the others, for a person to look at. Raises `WrongVolume`."""

    volume: Volume
    chunks: Annotated[tuple[ChunkId, ...], msgspec.Meta(max_length=PAGE_SIZE_MAX)]


def held_digest(chunk: int, size: int, crc: int) -> int:
    """64 bits that tell one sealed chunk from another. All of a bucket are compared by their XOR."""
    mixed = (chunk * 0x9E3779B97F4A7C15 ^ (size << 32 | crc) * 0xC2B2AE3D27D4EB4F) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ mixed >> 29) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    return mixed ^ mixed >> 32
