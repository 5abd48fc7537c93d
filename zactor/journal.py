"""A journal: records appended to one file, each with a checksum, on any world's disk.

A record is its length, its place (u32 each, little endian), the CRC32C of both and of the payload, and the payload. Its
place is the offset at which it stands, counted from an origin that differs from file to file, modulo 2^32. So a disk
that reads another place or another file is found out, before recovery, which writes what it reads, has put that here.
Two rules hold. A crash may leave a torn record at the end of the file: it is cut off and counted. Damage with a valid
record in it or behind it is no crash: it is `Corrupt`, and nothing is thrown away. Who can get elsewhere what is gone,
such as a peer of a replicated log, calls `salvage` instead of `recover` and is told where the holes are. One thing no
checksum can tell: a last record that was damaged after it was synced looks like a torn one.

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


class Hole(msgspec.Struct, frozen=True):
    """Damage in the middle of a journal: so many bytes at that offset, with whole records behind them."""

    offset: int
    size: int


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
    return any(_is_record(view, found.start()) for found in _NONZERO_LENGTH.finditer(stretch))


def find_record(stretch: bytes, place: int) -> int | None:
    """Where in `stretch`, which is at that place, the first valid record stands that is at its own place."""
    view = memoryview(stretch)
    low = 0
    while low + HEADER.size <= len(stretch):
        # Places from `low` to `high` have the same upper half: 2 bytes at 6 in the header of each record among them.
        upper = (((place + low) & LOW) >> 16).to_bytes(2, "little")
        high = low + 0x10000 - ((place + low) & 0xFFFF)
        found = stretch.find(upper, low + 6, high + 7)
        while found >= 0:
            if _is_record(view, found - 6, place):
                return found - 6
            found = stretch.find(upper, found + 1, high + 7)
        low = high
    return None


def _is_record(stretch: memoryview, start: int, place: int | None = None) -> bool:
    begin = start + HEADER.size
    if begin > len(stretch):
        return False
    length, stands, checksum = HEADER.unpack_from(stretch, start)
    if not 0 < length <= min(RECORD_SIZE_MAX, len(stretch) - begin):
        return False
    if place is not None and stands != (place + start) & LOW:
        return False
    return bool(_checksum(stretch[begin : begin + length], stands) == checksum)


def _checksum(payload: bytes | memoryview, place: int) -> int:
    return crc32c(payload, crc32c(len(payload).to_bytes(4, "little") + (place & LOW).to_bytes(4, "little")))


class Journal:
    """One file of records on an actor's disk. Call `recover` before anything else.

    `size` is the bytes of whole records; `torn_size` the bytes that the last recovery cut off. `ahead`: so many zeros
    are written behind small records, now and then. What is written over them is synced sooner, since the file is as
    long as before, and has its blocks.
    """

    __slots__ = ("_ahead", "_disk", "_origin", "_room", "file", "size", "torn_size")

    def __init__(self, disk: Disk, file: str, *, ahead: int = 0) -> None:
        self._disk = disk
        self.file = file
        self._origin = origin_of(file)
        self._ahead = ahead
        self._room = 0  # bytes of the file, with zeros
        self.size = 0
        self.torn_size = 0

    async def recover(self) -> list[bytes]:
        """All records, oldest first. A torn end is cut off; damage before a valid record raises `Corrupt`.

        What it returns is safe only when a sync that follows has succeeded.
        """
        self.size = self.torn_size = 0
        records, rest = await self._read_records()
        if rest:
            await self._cut_torn_end(rest)
        self._room = self.size
        return records

    async def salvage(self) -> list[bytes | Hole]:
        """As `recover`, but goes on behind damage: there is a `Hole` in its place, between the records.

        Raises `Corrupt` where nothing at its place is behind it, and it is no torn end either.
        """
        self.size = self.torn_size = 0
        salvaged: list[bytes | Hole] = []
        while True:
            records, rest = await self._read_records()
            salvaged += records
            self._room = self.size
            if not rest:
                return salvaged
            behind = await self._find_behind()
            if behind is None:
                await self._cut_torn_end(rest)
                return salvaged
            await self._check_reading(rest)
            salvaged.append(Hole(self.size, behind - self.size))
            self.size = behind

    async def _read_records(self) -> tuple[list[bytes], bytes]:
        """Whole records from `size` on, which moves behind them; and the first bytes that are none."""
        records: list[bytes] = []
        rest = b""
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
                return records, rest

    async def _find_behind(self) -> int | None:
        """The offset of the first whole record behind `size`."""
        start, stretch = self.size, b""
        while more := await self._disk.read(self.file, start + len(stretch), READ_SIZE):
            stretch += more
            found = find_record(stretch, self._origin + start)
            if found is not None:
                return start + found
            # A record that begins before these bytes would be in them as a whole.
            passed = max(0, len(stretch) - HEADER.size - RECORD_SIZE_MAX)
            start, stretch = start + passed, stretch[passed:]
        return None

    def append(self, payload: bytes, *more: bytes) -> Awaitable[object]:
        """Put records into the page cache, at once. `Disk.synced` makes them last.

        After one that failed, such as with `DiskFull`, call `cut` with the size from before it.
        """
        added = record(payload, self._origin + self.size)
        for each in more:
            added += record(each, self._origin + self.size + len(added))
        begin, self.size = self.size, self.size + len(added)
        if not self._ahead:
            return self._disk.append(self.file, added)
        if self.size > self._room:
            zeros = self._ahead if len(added) < self._ahead // 4 else 0
            added, self._room = added + bytes(zeros), self.size + zeros
        return self._disk.write(self.file, begin, added)

    def cut(self, size: int) -> Awaitable[None]:
        """Take away whatever stands behind `size` bytes, the end of a whole record, at once."""
        self.size = self._room = size
        return self._disk.truncate(self.file, size)

    async def _cut_torn_end(self, rest: bytes) -> None:
        while len(rest) <= TORN_SIZE_MAX:
            more = await self._disk.read(self.file, self.size + len(rest), READ_SIZE)
            if not more:
                break
            rest += more
        await self._check_reading(rest)
        # A torn write leaves nothing valid behind it; anything else was on the disk before, and is damaged.
        if len(rest) > TORN_SIZE_MAX or holds_record(rest):
            raise Corrupt(f"{self.file}: the record at offset {self.size} is damaged or misplaced, and no torn end")
        self.torn_size = len(rest.rstrip(b"\0") if self._ahead else rest)
        await self.cut(self.size)

    async def _check_reading(self, rest: bytes) -> None:
        if await self._disk.read(self.file, self.size, len(rest)) != rest:
            raise Corrupt(f"{self.file}: what stands at offset {self.size} reads otherwise each time; start again")
