"""A journal: records appended to one file, each with a checksum, on any world's disk.

A record is its length, its place (u32 each, little endian), the CRC32C of both and of the payload, and the payload. Its
place is the offset at which it stands, counted from an origin that differs from file to file, modulo 2^32. So a disk
that reads another place or another file is found out, before recovery, which writes what it reads, has put that here.
Two rules hold. A crash may leave a torn record at the end of the file: it is cut off and counted. Damage with a valid
record in it or behind it is no crash: it is `Corrupt`, and nothing is thrown away.

`scan` is the pure part; start there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Awaitable

import msgspec
from crc32c import crc32c

from zactor.door import Disk
from zactor.errors import Corrupt, TooLarge

HEADER = struct.Struct("<III")

LOW = 0xFFFFFFFF

RECORD_SIZE_MAX = (16 << 20) - 1
"""Bytes of a payload. The highest byte of a length is therefore 0, which makes records easy to find again."""

READ_SIZE = 1 << 20
"""Bytes read at a time during recovery: memory for the file is this and at most two largest records."""

TORN_SIZE_MAX = 2 * (HEADER.size + RECORD_SIZE_MAX)
"""The longest end taken for a torn write: behind one damaged record, the next whole one ends within it."""

_NONZERO_LENGTH = re.compile(rb"(?=(?!\0{3})...\0)", re.DOTALL)


class Scan(msgspec.Struct, frozen=True):
    """What a stretch of a journal holds: its whole records from the start, and the bytes that they take.

    `damaged`: what follows cannot become a record by reading on.
    """

    records: list[bytes]
    size: int
    damaged: bool


def origin_of(file: str) -> int:
    """From where the places of the records in a journal are counted."""
    return crc32c(file.encode())


def record(payload: bytes, place: int = 0) -> bytes:
    """The bytes of one record, for that place. Raises `TooLarge`; an empty payload is a mistake of the caller."""
    assert payload, "a record of nothing could not be told from a hole in the file"
    if len(payload) > RECORD_SIZE_MAX:
        raise TooLarge(f"a record of {len(payload)} bytes; at most {RECORD_SIZE_MAX} fit into a journal's record")
    return HEADER.pack(len(payload), place & LOW, _checksum(payload, place)) + payload


def scan(stretch: bytes, place: int | None = None) -> Scan:
    """Read whole records from the start of `stretch`, at that place, until one is incomplete or wrong.

    `place`: None for records that do not know where they are.
    """
    records: list[bytes] = []
    position = 0
    while len(stretch) - position >= HEADER.size:
        length, stands, checksum = HEADER.unpack_from(stretch, position)
        if not 0 < length <= RECORD_SIZE_MAX:
            return Scan(records, position, damaged=True)
        end = position + HEADER.size + length
        if end > len(stretch):
            break
        payload = stretch[position + HEADER.size : end]
        misplaced = place is not None and stands != (place + position) & LOW
        if misplaced or _checksum(payload, stands) != checksum:
            return Scan(records, position, damaged=True)
        records.append(payload)
        position = end
    return Scan(records, position, damaged=False)


def holds_record(stretch: bytes) -> bool:
    """Whether a valid record begins anywhere in `stretch`, be it at its place or not."""
    view = memoryview(stretch)
    for found in _NONZERO_LENGTH.finditer(stretch):
        position = found.start() + HEADER.size
        if position > len(stretch):
            break
        length, stands, checksum = HEADER.unpack_from(stretch, found.start())
        if position + length <= len(stretch) and _checksum(view[position : position + length], stands) == checksum:
            return True
    return False


def _checksum(payload: bytes | memoryview, place: int) -> int:
    return crc32c(payload, crc32c(len(payload).to_bytes(4, "little") + (place & LOW).to_bytes(4, "little")))


class Journal:
    """One file of records on an actor's disk. Call `recover` before anything else.

    `size` is the bytes of whole records; `torn_size` the bytes that the last recovery cut off.
    """

    __slots__ = ("_disk", "_origin", "file", "size", "torn_size")

    def __init__(self, disk: Disk, file: str) -> None:
        self._disk = disk
        self.file = file
        self._origin = origin_of(file)
        self.size = 0
        self.torn_size = 0

    async def recover(self) -> list[bytes]:
        """All records, oldest first. A torn end is cut off; damage before a valid record raises `Corrupt`.

        What it returns is safe only when a sync that follows has succeeded.
        """
        records: list[bytes] = []
        rest = b""
        self.size = self.torn_size = 0
        while True:
            more = await self._disk.read(self.file, self.size + len(rest), READ_SIZE)
            rest += more
            found = scan(rest, self._origin + self.size)
            records += found.records
            if found.size:
                # It may stand in the page cache alone, and count as clean: a sync that failed leaves it so
                # (fsyncgate). Written again it is part of the next sync.
                await self._disk.write(self.file, self.size, rest[: found.size])
            self.size += found.size
            rest = rest[found.size :]
            if found.damaged or not more:
                break
        if rest:
            await self._cut_torn_end(rest)
        return records

    def append(self, payload: bytes) -> Awaitable[int]:
        """Put one record into the page cache, at once; the answer is its offset. `Disk.synced` makes it last.

        After one that failed, such as with `DiskFull`, call `cut` with the size from before it.
        """
        added = record(payload, self._origin + self.size)
        self.size += len(added)
        return self._disk.append(self.file, added)

    def cut(self, size: int) -> Awaitable[None]:
        """Take away whatever stands behind `size` bytes, the end of a whole record, at once."""
        self.size = size
        return self._disk.truncate(self.file, size)

    async def _cut_torn_end(self, rest: bytes) -> None:
        while len(rest) <= TORN_SIZE_MAX:
            more = await self._disk.read(self.file, self.size + len(rest), READ_SIZE)
            if not more:
                break
            rest += more
        if await self._disk.read(self.file, self.size, len(rest)) != rest:
            raise Corrupt(f"{self.file}: what stands at offset {self.size} reads otherwise each time; start again")
        # A torn write leaves nothing valid behind it; anything else was on the disk before, and is damaged.
        if len(rest) > TORN_SIZE_MAX or holds_record(rest):
            raise Corrupt(f"{self.file}: the record at offset {self.size} is damaged or misplaced, and no torn end")
        self.torn_size = len(rest)
        await self.cut(self.size)
