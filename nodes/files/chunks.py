"""The layout of a chunk's file: its bytes, and behind them a footer that says what they must be.

The footer holds the CRC32C of every block of 64 KiB (u32, little endian), then a tail of fixed size: the chunk's id,
its size, magic, version, and the CRC32C of the footer before it. It stands at the end so that a chunk is written in
one pass. The file's name says id, size and `seal_crc` again: so a folder's listing tells what is held without a look
into any file, and the footer of another chunk is not taken for this one's. A chunk that is being written has the
version of its chain in its name instead. Nothing is believed that a checksum does not cover.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

import msgspec
from crc32c import crc32c

from zactor.errors import Corrupt

from .messages import BLOCK_SIZE, CHUNK_SIZE_MAX

MAGIC = b"zchk"
VERSION = 2

TAIL = struct.Struct("<QQ4sII")
CHECKSUM_SIZE = 4

_SEALED_FILE = re.compile(r"([0-9a-f]{16})\.([0-9a-f]{8})\.([0-9a-f]{8})\.chunk")
_PARTIAL_FILE = re.compile(r"([0-9a-f]{16})\.([0-9a-f]{8})\.tmp")


class SealedName(msgspec.Struct, frozen=True):
    """What the name of a sealed chunk's file says."""

    chunk: int
    size: int
    crc: int

    def __str__(self) -> str:
        return f"{self.chunk:016x}.{self.size:08x}.{self.crc:08x}.chunk"

    @classmethod
    def parse(cls, file: str) -> SealedName | None:
        """The parts of such a name; None if it is not one."""
        matched = _SEALED_FILE.fullmatch(file)
        return None if matched is None else cls(*(int(part, 16) for part in matched.groups()))


class PartialName(msgspec.Struct, frozen=True):
    """What the name of the file of a chunk that is being written says."""

    chunk: int
    version: int

    def __str__(self) -> str:
        return f"{self.chunk:016x}.{self.version:08x}.tmp"

    @classmethod
    def parse(cls, file: str) -> PartialName | None:
        """The parts of such a name; None if it is not one."""
        matched = _PARTIAL_FILE.fullmatch(file)
        return None if matched is None else cls(*(int(part, 16) for part in matched.groups()))


# --- checksums
def block_count(size: int) -> int:
    """Blocks of so many bytes; the last one may be short."""
    return -(-size // BLOCK_SIZE)


def block_checksums(content: bytes | memoryview) -> tuple[int, ...]:
    """The CRC32C of each block of some bytes that begin with a block."""
    if len(content) <= BLOCK_SIZE:
        return (crc32c(content),) if content else ()
    view = memoryview(content)
    return tuple([crc32c(view[start : start + BLOCK_SIZE]) for start in range(0, len(view), BLOCK_SIZE)])


def bad_block(content: bytes, checksums: Sequence[int]) -> int | None:
    """The index of the first block of `content` that is not what its checksum says; None if all are."""
    found = block_checksums(content)
    if found == tuple(checksums):
        return None
    pairs = zip(found, checksums, strict=False)
    return next((index for index, (is_, said) in enumerate(pairs) if is_ != said), min(len(found), len(checksums)))


def pack_checksums(checksums: Sequence[int]) -> bytes:
    """As they stand in a footer: u32, little endian."""
    return struct.pack(f"<{len(checksums)}I", *checksums)


def unpack_checksums(packed: bytes, first: int = 0, count: int | None = None) -> tuple[int, ...]:
    """`count` checksums from the `first` on; None is all."""
    if count is None:
        count = len(packed) // CHECKSUM_SIZE - first
    return struct.unpack_from(f"<{count}I", packed, first * CHECKSUM_SIZE)


def seal_crc(checksums: Sequence[int]) -> int:
    """The checksum of a chunk, large or small: the CRC32C of those of all its blocks, packed."""
    return int(crc32c(pack_checksums(checksums)))


def content_crc(content: bytes) -> int:
    """The same of a chunk whose bytes are all here."""
    return seal_crc(block_checksums(content))


def file_checksum(crcs: Sequence[int]) -> int:
    """The checksum of a file: the CRC32C of the `seal_crc` of all its chunks, packed; 0 for an empty one."""
    return int(crc32c(pack_checksums(crcs)))


# --- the footer
def footer_size(size: int) -> int:
    """Bytes of the footer of a chunk of `size` bytes."""
    return block_count(size) * CHECKSUM_SIZE + TAIL.size


def file_size(size: int) -> int:
    """Bytes of the file of a chunk of `size` bytes."""
    return size + footer_size(size)


def write_footer(chunk: int, size: int, checksums: Sequence[int]) -> bytes:
    """The bytes behind a chunk's content."""
    body = pack_checksums(checksums) + struct.pack("<QQ4sI", chunk, size, MAGIC, VERSION)
    return body + crc32c(body).to_bytes(4, "little")


def read_footer(footer: bytes, name: SealedName) -> bytes:
    """The packed checksums of a footer, which must be that of this chunk. Raises `Corrupt`."""
    if len(footer) != footer_size(name.size) or name.size > CHUNK_SIZE_MAX:
        raise Corrupt(f"the footer has {len(footer)} bytes; {footer_size(name.size)} were written")
    chunk, size, magic, version, checksum = TAIL.unpack(footer[-TAIL.size :])
    if magic != MAGIC or crc32c(footer[:-4]) != checksum:
        raise Corrupt("the footer is not what was written")
    if version != VERSION:
        raise Corrupt(f"the footer has version {version}; version {VERSION} is understood")
    packed = footer[: -TAIL.size]
    if (chunk, size, crc32c(packed)) != (name.chunk, name.size, name.crc):
        raise Corrupt(f"the footer is that of chunk {chunk:016x} of {size} bytes")
    return packed
