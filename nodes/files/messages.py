"""What clients, the metadata server and the file servers say to each other, and how they say no.

A client asks the metadata server about names and the file servers, by name, about bytes. All sizes and
offsets are bytes, all checksums CRC32C. The limits on what one message may carry stand here.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from zactor.errors import Refused
from zactor.message import Message

BLOCK_SIZE = 64 << 10
"""What one checksum covers."""

PIECE_SIZE = 256 << 10
"""What travels in one message. Larger pieces cost the servers more and gain nothing on a real disk."""

CHUNK_SIZE_MAX = 64 << 20
"""The largest chunk, as in GFS: a chunk costs an entry in memory, a file, and a sync or two."""

CHUNKS_MAX = 100_000
"""Chunks of one file, so that its entry fits into one message: 6.1 TiB of chunks of the largest size."""

PAGE_SIZE_MAX = 1_000
"""Names or chunks in one answer."""

Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Checksum = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
ChunkId = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
Token = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
Volume = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]


# --- how they say no
class NotFound(Refused):
    """There is no file of that name."""


class BadPath(Refused):
    """The path is not one that a file can have."""


class Conflict(Refused):
    """The path is a folder, or one of its folders is a file."""


class NoRoom(Refused):
    """No file server has room, or the metadata server's disk is full."""


class FileTooLarge(Refused):
    """The file would need more than `CHUNKS_MAX` chunks."""


class LeaseExpired(Refused):
    """The put was given up: its client was silent for too long, or the metadata server restarted."""


class BadCommit(Refused):
    """The chunks to commit are not those that this put was given."""


class MissingChunk(Refused):
    """The file server has no such chunk, or not in the state that this needs."""


class BadPiece(Refused):
    """A piece is too large, empty, or not the next one of its chunk."""


class Busy(Refused):
    """The chunk is being made durable at this moment."""


class WrongVolume(Refused):
    """The file server keeps chunks for another metadata server, or for none yet."""


class Replaced(Refused):
    """The file was replaced or removed while it was being read."""


# --- values
class Begun(msgspec.Struct, frozen=True, array_like=True):
    """A put that may go on: its token, and the size at which a new chunk begins."""

    token: Token
    chunk_size: Size


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A new chunk, and the file server that shall hold it."""

    chunk: ChunkId
    server: str


class StoredChunk(msgspec.Struct, frozen=True, array_like=True):
    """A chunk of a file: where it is, and what it must be."""

    chunk: ChunkId
    server: str
    size: Size
    crc: Checksum


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What a name stands for: chunks in the order of their bytes, and size and checksum of all of them."""

    size: Size
    crc: Checksum
    chunks: tuple[StoredChunk, ...]


class Item(msgspec.Struct, frozen=True, array_like=True):
    """A line of a listing. The name of a folder ends with `/`, and its size is None."""

    name: str
    size: Size | None


class Page(msgspec.Struct, frozen=True, array_like=True):
    """A part of a listing, sorted. When `more`, ask again with `after` the last name."""

    items: tuple[Item, ...]
    more: bool


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """Bytes of a chunk, and the checksum of each of their blocks as it was when the chunk was sealed."""

    content: bytes
    checksums: tuple[Checksum, ...]


class Inventory(msgspec.Struct, frozen=True, array_like=True):
    """What a file server holds: ids of chunks, sorted, and the bytes that it can still take."""

    chunks: tuple[ChunkId, ...]
    more: bool
    room: int


# --- to the metadata server
class Begin(Message[Begun]):
    """A file of `size` bytes (None: not known) is to appear under `path`."""

    path: str
    size: Size | None = None


class Allocate(Message[Place]):
    """Give a put its next chunk, of `size` bytes if that is known. Renews the lease."""

    token: Token
    size: Size | None = None


class Renew(Message[None]):
    """The put goes on."""

    token: Token


class Commit(Message[Entry]):
    """Let the file appear: all its chunks are sealed. Answered when that is durable."""

    token: Token
    entry: Entry


class Abandon(Message[None]):
    """The put will not go on; what it stored can be dropped. Nothing happens if it is not known."""

    token: Token


class Lookup(Message[Entry]):
    """What stands under a path."""

    path: str


class ListFolder(Message[Page]):
    """The names directly below a folder, or the file of that path itself, behind the name `after`."""

    path: str = "/"
    after: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_SIZE_MAX)] = PAGE_SIZE_MAX


class Remove(Message[None]):
    """Take a file away. Answered when that is durable."""

    path: str


# --- to a file server
class WriteChunk(Message[None]):
    """The next piece of a chunk that is being written; the first one, at offset 0, makes it."""

    chunk: ChunkId
    offset: Size
    content: bytes
    crc: Checksum


class SealChunk(Message[None]):
    """The chunk is complete, if its size and checksum are these. Answered when it is durable."""

    chunk: ChunkId
    size: Size
    crc: Checksum


class ReadChunk(Message[Piece]):
    """Up to `size` bytes of a sealed chunk; `offset` is a multiple of `BLOCK_SIZE`."""

    chunk: ChunkId
    offset: Size
    size: Size


class DropChunk(Message[None]):
    """Remove a chunk that no file has, in whatever state it is."""

    volume: Volume
    chunk: ChunkId


class Survey(Message[Inventory]):
    """Tell which chunks there are, with ids above `after`."""

    volume: Volume
    after: Size = 0
