"""The layout of a segment: many small chunks in one file, one after the other, so that one sync serves them all.

A segment is a run of journal records: a chunk (its id and content), or a tombstone (a chunk was dropped). When it is
full, one record more, its index, lists the others, and a last one of fixed size says where the index begins: a start
reads these two instead of all the content. Of several records of one chunk the newest counts, by the segment's number
and then by offset. A tombstone is needed as long as an older record of its chunk is on the disk; `Ledger` knows.

Whole records behind damaged bytes count: a power failure may keep a later write and lose an earlier one, and rot in
one record says nothing about the next.
"""

from __future__ import annotations

import re
import struct

import msgspec

from zactor.journal import HEADER, record, scan

from .chunks import content_crc
from .messages import SMALL_SIZE_MAX

CHUNK, TOMBSTONE, INDEX, END = b"C", b"T", b"I", b"E"

HEAD = struct.Struct("<cQ")
"""Kind and chunk id, before the content."""

OVERHEAD = HEADER.size + HEAD.size
"""Bytes of a record beside the content of its chunk; those of a tombstone."""

RECORD_SIZE_MAX = OVERHEAD + SMALL_SIZE_MAX

RECORDS_MAX = 1 << 18
"""Records of one segment, so that its index fits into one record: 6 MiB."""

SEGMENT_SIZE_MAX = 128 << 20
"""Bytes of records, so that offsets fit into `Holdings`."""

_ENTRY = struct.Struct("<cQIII")
_END = struct.Struct("<cQ")
END_SIZE = HEADER.size + _END.size

_SEGMENT_FILE = re.compile(r"([0-9a-f]{8})\.(segment|open|merged)")


class SegmentName(msgspec.Struct, frozen=True):
    """What the name of a segment's file says. `kind`: segment (sealed), open, or merged (not in its place yet)."""

    number: int
    kind: str = "segment"

    def __str__(self) -> str:
        return f"{self.number:08x}.{self.kind}"

    @classmethod
    def parse(cls, file: str) -> SegmentName | None:
        """The parts of such a name; None if it is not one."""
        matched = _SEGMENT_FILE.fullmatch(file)
        return None if matched is None else cls(int(matched[1], 16), matched[2])


class Entry(msgspec.Struct, frozen=True):
    """A record of a segment: a chunk, or its tombstone (`crc` and `size` are 0)."""

    chunk: int
    offset: int
    size: int
    crc: int
    is_tombstone: bool = False

    @property
    def record_size(self) -> int:
        """Bytes that it takes."""
        return OVERHEAD + self.size


# --- records
def chunk_record(chunk: int, content: bytes) -> bytes:
    """A chunk as it stands in a segment."""
    return record(HEAD.pack(CHUNK, chunk) + content)


def tombstone_record(chunk: int) -> bytes:
    """A tombstone as it stands in a segment."""
    return record(HEAD.pack(TOMBSTONE, chunk))


def content_of(stored: bytes, chunk: int, crc: int) -> bytes | None:
    """The content in the bytes of a record, if it is what the chunk must be; else None."""
    if len(stored) < OVERHEAD or stored[HEADER.size : OVERHEAD] != HEAD.pack(CHUNK, chunk):
        return None
    content = stored[OVERHEAD:]
    return content if content_crc(content) == crc else None


def closing_records(entries: list[Entry], offset: int) -> bytes:
    """The index of a segment that ends at `offset`, and the record that says where it is."""
    packed = b"".join(
        _ENTRY.pack(TOMBSTONE if each.is_tombstone else CHUNK, each.chunk, each.offset, each.size, each.crc)
        for each in entries
    )
    return record(INDEX + packed) + record(_END.pack(END, offset))


def index_offset(end: bytes) -> int | None:
    """Where the index begins, by the last `END_SIZE` bytes of a segment; None if they do not say."""
    records = scan(end).records
    if len(records) != 1 or len(records[0]) != _END.size or records[0][:1] != END:
        return None
    return int(_END.unpack(records[0])[1])


def read_index(stored: bytes) -> list[Entry] | None:
    """The entries of an index by its record; None if it is not what was written."""
    records = scan(stored).records
    if not records or records[0][:1] != INDEX or (len(records[0]) - 1) % _ENTRY.size:
        return None
    return [
        Entry(chunk, offset, size, crc, kind == TOMBSTONE)
        for kind, chunk, offset, size, crc in _ENTRY.iter_unpack(memoryview(records[0])[1:])
    ]


class Found(msgspec.Struct, frozen=True):
    """What a whole segment holds: its entries, and the bytes in it that are no record."""

    entries: list[Entry]
    lost_bytes: int


def scan_segment(content: bytes) -> Found:
    """All whole records of a segment, also those behind damaged bytes."""
    entries: list[Entry] = []
    position = lost = 0
    while position < len(content):
        found = _read_record(content, position)
        if found is None:
            behind = _next_record(content, position + 1)
            lost += behind - position
            position = behind
            continue
        payload, end = found
        entry = _entry(payload, position)
        if entry is not None:
            entries.append(entry)
        position = end
    return Found(entries, lost)


def _read_record(content: bytes, position: int) -> tuple[bytes, int] | None:
    if len(content) - position < HEADER.size:
        return None
    length, _, _ = HEADER.unpack_from(content, position)
    end = position + HEADER.size + length
    records = scan(content[position:end]).records if end <= len(content) else []
    return (records[0], end) if records else None


def _entry(payload: bytes, offset: int) -> Entry | None:
    if payload[:1] not in (CHUNK, TOMBSTONE) or len(payload) < HEAD.size:
        return None  # the index of a segment that was sealed before
    kind, chunk = HEAD.unpack_from(payload)
    content = payload[HEAD.size :]
    if kind == TOMBSTONE:
        return Entry(chunk, offset, 0, 0, True)
    return Entry(chunk, offset, len(content), content_crc(content))


_RECORD_START = re.compile(rb"(?s)(?=...[\0].{8}[CT])")
"""Where a record could begin: its length has a highest byte of 0, and behind its checksum is a kind."""


def _next_record(content: bytes, start: int) -> int:
    """Where the next whole record begins from `start` on; the end if there is none."""
    for found in _RECORD_START.finditer(content, start):
        length, _, _ = HEADER.unpack_from(content, found.start())
        if HEAD.size <= length <= HEAD.size + SMALL_SIZE_MAX and _read_record(content, found.start()) is not None:
            return found.start()
    return len(content)


# --- what is needed of which segment
class Segment(msgspec.Struct):
    """A segment: its bytes, and those of records that are needed."""

    number: int
    size: int = 0
    needed: int = 0


class Ledger:
    """Which records of which segments are needed: the newest of each chunk, and tombstones of older ones.

    Told of every record in the order of segments and offsets, `note` says what a chunk's record makes superfluous.
    """

    def __init__(self) -> None:
        self.segments: dict[int, Segment] = {}
        self._dead: dict[int, int] = {}  # records on the disk that count no more, by chunk
        self._tombstones: dict[int, tuple[int, int]] = {}  # segment and offset of the one that is needed, by chunk
        self._damaged: dict[int, int] = {}  # the segment of the only record of a chunk, which is not whole

    def stored(self, number: int, entry: Entry, was: tuple[int, int] | None) -> None:
        """A chunk is in a segment now; `was` is the segment and size of its record until now."""
        self.segments[number].needed += entry.record_size
        if was is not None:
            self._unneeded(was[0], OVERHEAD + was[1])
            self._dead[entry.chunk] = self._dead.get(entry.chunk, 0) + 1
        # Older records may come back now: they say the same.
        self._forget_tombstone(entry.chunk)

    def dropped(self, number: int, entry: Entry, was: tuple[int, int] | None) -> None:
        """A tombstone is in a segment now; `was` is the segment and size of the record that it is for."""
        if was is not None:
            self._unneeded(was[0], OVERHEAD + was[1])
            self._dead[entry.chunk] = self._dead.get(entry.chunk, 0) + 1
        self._forget_tombstone(entry.chunk)
        if entry.chunk in self._dead:
            self._tombstones[entry.chunk] = (number, entry.offset)
            self.segments[number].needed += OVERHEAD

    def lost(self, chunk: int, number: int, size: int) -> None:
        """A record turned out to be damaged: its segment stays until it is not needed any more."""
        self._unneeded(number, OVERHEAD + size)
        self._dead[chunk] = self._dead.get(chunk, 0) + 1
        self._damaged[chunk] = number

    def mended(self, chunk: int) -> None:
        """A damaged chunk has another record, or is not needed any more."""
        self._damaged.pop(chunk, None)

    def unstored(self, number: int, entry: Entry) -> None:
        """The record of a chunk, the newest until now, did not reach the disk."""
        self._unneeded(number, entry.record_size)

    def are_whole(self, numbers: list[int]) -> bool:
        """Whether no record of these segments waits to be healed."""
        return not any(number in numbers for number in self._damaged.values())

    def is_needed(self, number: int, entry: Entry, at: tuple[int, int] | None) -> bool:
        """Whether a record must be kept; `at` is the segment and offset of its chunk's newest one."""
        if entry.is_tombstone:
            at = self._tombstones.get(entry.chunk)
        return at == (number, entry.offset)

    def erased(self, entry: Entry) -> None:
        """A record that was not needed is not on the disk any more."""
        if entry.is_tombstone:
            return
        left = self._dead[entry.chunk] - 1
        if left:
            self._dead[entry.chunk] = left
            return
        del self._dead[entry.chunk]
        self._forget_tombstone(entry.chunk)

    def moved(self, entry: Entry, number: int) -> None:
        """A tombstone is in another segment now, which counts it already."""
        self._tombstones[entry.chunk] = (number, entry.offset)

    def to_merge(self, sealed: list[int], segment_size: int) -> list[int]:
        """Neighbours among the sealed segments that are worth being written anew as one; [] if there are none.

        Those in which less than half is needed, and four small ones. Together they make at most half a segment, so
        that what is written does not soon have to be written again. They must be neighbours: a record keeps its age.
        """
        run: list[int] = []
        damaged = set(self._damaged.values())
        for number in sealed:
            if number in damaged:
                run = []
                continue
            run.append(number)
            while len(run) > 1 and 2 * sum(self.segments[each].needed for each in run) > segment_size:
                del run[0]
            needed = sum(self.segments[each].needed for each in run)
            if 2 * needed < sum(self.segments[each].size for each in run) or len(run) >= MERGED_AT_ONCE:
                return run
        return []

    def _unneeded(self, number: int, size: int) -> None:
        self.segments[number].needed -= size

    def _forget_tombstone(self, chunk: int) -> None:
        at = self._tombstones.pop(chunk, None)
        if at is not None:
            self._unneeded(at[0], OVERHEAD)


MERGED_AT_ONCE = 4
"""So many small neighbours are worth one write: their number stays within four for each half segment."""
