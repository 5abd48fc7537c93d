"""The layout of a chunk's file: its bytes, and behind them a footer that says what they must be.

The footer holds the CRC32C of every block of 64 KiB (u32, little endian), then a tail of fixed size: length
of the bytes, number of blocks, magic, version, and the CRC32C of all of the footer before it. It stands at the
end so that a chunk is written in one pass. Nothing is believed that a checksum does not cover; `read_footer`
and `bad_block` are what a reader needs.
"""

from __future__ import annotations

import struct

import msgspec
from crc32c import crc32c

from zactor.errors import Corrupt

from .messages import BLOCK_SIZE

MAGIC = b"zchk"
VERSION = 1

TAIL = struct.Struct("<QI4sII")
TAIL_SIZE = TAIL.size
CHECKSUM_SIZE = 4


class Footer(msgspec.Struct, frozen=True):
    """What a sealed chunk must be: `size` bytes of content, and the checksum of each block of them."""

    size: int
    checksums: tuple[int, ...]


class Checksums:
    """The checksums of a chunk that grows: of every block, and `crc` of all its `size` bytes."""

    __slots__ = ("_blocks", "crc", "size")

    def __init__(self) -> None:
        self._blocks: list[int] = []
        self.size = 0
        self.crc = 0

    def add(self, content: bytes) -> None:
        """Go on with these bytes; they need not end with a block."""
        self.crc = crc32c(content, self.crc)
        view = memoryview(content)
        filled = self.size % BLOCK_SIZE
        if filled and content:
            part = view[: BLOCK_SIZE - filled]
            self._blocks[-1] = crc32c(part, self._blocks[-1])
            view = view[len(part) :]
        for start in range(0, len(view), BLOCK_SIZE):
            self._blocks.append(crc32c(view[start : start + BLOCK_SIZE]))
        self.size += len(content)

    def footer(self) -> Footer:
        """What the chunk must be if it ends here."""
        return Footer(self.size, tuple(self._blocks))


def block_count(size: int) -> int:
    """Blocks of so many bytes; the last one may be short."""
    return -(-size // BLOCK_SIZE)


def footer_size(blocks: int) -> int:
    """Bytes of the footer of so many blocks."""
    return blocks * CHECKSUM_SIZE + TAIL_SIZE


def file_size(size: int) -> int:
    """Bytes of the file of a chunk of `size` bytes."""
    return size + footer_size(block_count(size))


def write_footer(footer: Footer) -> bytes:
    """The bytes behind a chunk's content."""
    blocks = len(footer.checksums)
    checksums = struct.pack(f"<{blocks}I", *footer.checksums)
    head = struct.pack("<QI4sI", footer.size, blocks, MAGIC, VERSION)
    return checksums + head + crc32c(checksums + head).to_bytes(4, "little")


def read_tail(tail: bytes, file_bytes: int) -> int:
    """The number of blocks of a file of `file_bytes`, by its last `TAIL_SIZE` bytes. Raises `Corrupt`."""
    if len(tail) != TAIL_SIZE:
        raise Corrupt(f"{file_bytes} bytes are too short for a chunk's file")
    size, blocks, magic, version, _ = TAIL.unpack(tail)
    if magic != MAGIC:
        raise Corrupt("the footer does not end as one does")
    if version != VERSION:
        raise Corrupt(f"the footer has version {version}; version {VERSION} is understood")
    if blocks != block_count(size) or file_bytes != file_size(size):
        raise Corrupt(f"the footer says {size} bytes in {blocks} blocks; the file has {file_bytes} bytes")
    return int(blocks)


def read_footer(footer: bytes) -> Footer:
    """A whole footer, checked. Raises `Corrupt`."""
    body, checksum = footer[:-4], int.from_bytes(footer[-4:], "little")
    if len(footer) < TAIL_SIZE or crc32c(body) != checksum:
        raise Corrupt("the footer's checksum differs")
    size, blocks, _, _, _ = TAIL.unpack(footer[-TAIL_SIZE:])
    if len(footer) != footer_size(blocks):
        raise Corrupt("the footer has another size than it says")
    return Footer(size, struct.unpack(f"<{blocks}I", footer[: blocks * CHECKSUM_SIZE]))


def bad_block(content: bytes, checksums: tuple[int, ...]) -> int | None:
    """The index of the first block of `content` that is not what its checksum says; None if all are."""
    view = memoryview(content)
    blocks = block_count(len(content))
    for index in range(max(blocks, len(checksums))):
        block = view[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE]
        if index >= len(checksums) or index >= blocks or crc32c(block) != checksums[index]:
            return index
    return None
