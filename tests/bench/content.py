"""What all sides of `bench files` store and read: bytes that nobody compresses, and by which all are checked."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache

from crc32c import crc32c

PIECE_BYTES = 1 << 20

PIECES = tuple(random.Random(number).randbytes(PIECE_BYTES) for number in range(8))

SMALL = PIECES[0][:4096]


def pieces(size_bytes: int) -> Iterator[bytes]:
    """A file of that size, in pieces."""
    for index, offset in enumerate(range(0, size_bytes, PIECE_BYTES)):
        yield PIECES[index % len(PIECES)][: size_bytes - offset]


@cache
def content_crc(size_bytes: int) -> int:
    """The CRC32C of such a file."""
    crc = 0
    for piece in pieces(size_bytes):
        crc = crc32c(piece, crc)
    return crc


class Check:
    """Takes a file in pieces, whatever their sizes, and knows in the end whether it was the one of that size."""

    def __init__(self, size_bytes: int) -> None:
        self._expected = size_bytes, content_crc(size_bytes)
        self._seen = 0, 0

    def take(self, piece: bytes | memoryview) -> None:
        """The next piece."""
        size, crc = self._seen
        self._seen = size + len(piece), crc32c(piece, crc)

    def finish(self) -> None:
        """Raises RuntimeError when it was another one."""
        if self._seen != self._expected:
            raise RuntimeError(f"(size, CRC32C) are {self._seen}; they should be {self._expected}")


class Source:
    """Such a file, opened for reading."""

    def __init__(self, size_bytes: int) -> None:
        self._size = size_bytes
        self._offset = 0

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most so many."""
        index, start = divmod(self._offset, PIECE_BYTES)
        read = PIECES[index % len(PIECES)][start : start + min(size, self._size - self._offset)]
        self._offset += len(read)
        return read

    def seek(self, offset: int, /) -> int:
        """Go on there."""
        self._offset = offset
        return offset
