"""The file of a recording: mapped segments of records, each record with its size and checksum.

What is written into a mapped file belongs to the system at once: `kill -9` of the process loses none of it. A
record is its CRC32C, which begins with its segment's ordinal, its size (4 bytes each, as they lie in memory), and a
msgpack array of entries, each an array that begins with one of the numbers below. A segment begins with `MAGIC`, its
ordinal and its size (8 bytes each) and the CRC32C of these, then a `HEAD`, twice; behind its last record are 8 zeros. A
**ring** overwrites its oldest segment when its budget is spent; a file without a budget grows.

Who writes what is in `zactor.debug.recorder`; `read` gives back all that is readable, and says where the damage is.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import importlib
import mmap
import os
import re
import struct
from collections import deque
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import crc32c
import msgspec

from zactor.errors import DiskFull, Failure, UserError
from zactor.message import Ref, encode
from zactor.tap import digest_of
from zactor.world import Append, Call, InThread

FORMAT = 2
MAGIC = b"zactrec%c" % FORMAT

HEAD, RECEIVED, SENT, MAIL, TAKEN, SETTLED, INPUT, OUTPUTS, DROPPED, CHECKPOINT = range(10)
"""Kinds of entries; what follows stands where the recorder writes them."""

RING_BYTES = 64 << 20
"""What a process keeps by default; the oldest segment of it is overwritten first."""

RING_SEGMENT_BYTES = 4 << 20
FULL_SEGMENT_BYTES = 32 << 20
"""Larger than the largest frame with what travels beside it, of which nothing is left out then."""

PIECE_BYTES = 64 << 10
"""In a ring, longer pieces of bulk and of disk reads are kept as their length and checksum."""

FREE_BYTES_MIN = 256 << 20
"""Room on the disk below which nothing is recorded any more, so that logs and state have it."""

PIECE_BYTES_MAX = 1 << 32
"""A longer one was never kept: its length is damaged."""

HEAD_BYTES = 1 << 20
"""Of a file, that are read for its head alone: enough, unless it is damaged there or about to be overwritten."""

PREPARE_BYTES = 256 << 10
"""Of a segment that are made ready to be written at a time."""

_MADV_POPULATE_WRITE = 23  # asm-generic/mman-common.h; Python has no name for it

_START = struct.Struct("<8sQQI")
_HEADER = struct.Struct("@II")  # as the machine has it, so that each of the two is written at once
_END = bytes(_HEADER.size)
"""Written after each record. What stands beyond it is of an earlier lap: its checksums began with another ordinal."""

_RECORD = re.compile(rb"(?=.{8}[\x91-\x9f\xdc])", re.DOTALL)
"""Where a record may begin: with a header, and an array."""

_pack_header = _HEADER.pack_into
_checksum = crc32c.crc32c

_SOMETHING = re.compile(rb"[^\0]")

Payload = list[Any]


class Sink(Protocol):
    """Where records go."""

    full: bool
    """Whether everything is kept, however long it is."""

    payload_max: int
    """Bytes of the longest record."""

    on_segment: Callable[[], None]
    """Called when a new segment has begun, to write what one has to begin with."""

    def append(self, payload: bytes) -> None:
        """Keep a record. Raises `DiskFull`."""

    def append_frame(self, head: bytes, frame: bytes) -> None:
        """Keep a record whose second half is a frame, which is copied once."""

    def close(self) -> None:
        """Nothing follows."""


class Memory:
    """A recording of all that happens that is kept in memory: actors of simulations must not see files come and go."""

    full = True
    payload_max = 1 << 32

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.on_segment: Callable[[], None] = lambda: None

    def append(self, payload: bytes) -> None:
        """Keep a record."""
        if not self.records:
            self.records.append(b"")  # its head follows at once
            self.on_segment()
        self.records.append(payload)

    def append_frame(self, head: bytes, frame: bytes) -> None:
        """Keep a record whose second half is a frame."""
        self.append(head + frame)

    def close(self) -> None:
        """Nothing follows."""

    def write(self, path: Path) -> None:
        """Write it to a file, in one segment. Raises `DiskFull`."""
        records = self.records[1:]
        room = _START.size + sum(_HEADER.size + len(each) for each in records) + len(_END)
        sink = Mapped(path, 0, room + mmap.PAGESIZE & -mmap.PAGESIZE)
        try:
            for each in records:
                sink.append(each)
        finally:
            sink.close()

    def read(self) -> Recording:
        """What was kept."""
        entries = [(index, entry) for index, each in enumerate(self.records) if each for entry in _decode(each)]
        return Recording("memory", entries, True)


class Mapped:
    """A recording in a mapped file: a ring of `budget_bytes`, or one that grows when that is 0."""

    def __init__(self, path: Path, budget_bytes: int, segment_bytes: int = 0) -> None:
        self.full = not budget_bytes
        self.segment_bytes = segment_bytes or (FULL_SEGMENT_BYTES if self.full else RING_SEGMENT_BYTES)
        self.payload_max = self.segment_bytes // 2
        self.on_segment: Callable[[], None] = lambda: None
        self._count_max = max(2, budget_bytes // self.segment_bytes)
        self._ordinal = -1
        self._maps: list[mmap.mmap] = []
        self._map: Any = None
        self._at = self._end = 0
        self._ready = 0  # bytes of the segment whose pages can be written without a fault
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def append(self, payload: bytes) -> None:
        """Keep a record. Raises `DiskFull` when there is no room for the next segment."""
        size = len(payload)
        at = self._at
        end = at + 8 + size
        if end > self._end:
            self._make_room(size)
            self.append(payload)
            return
        # The header comes last, and its size at the end: a process that dies within this leaves the end where it was.
        place = self._map
        place[at + 8 : end] = payload
        place[end : end + 8] = _END
        _pack_header(place, at, _checksum(payload, self._ordinal), size)
        self._at = end

    def append_frame(self, head: bytes, frame: bytes) -> None:
        """Keep a record whose second half is a frame, which is copied once."""
        at, middle = self._at, self._at + 8 + len(head)
        end = middle + len(frame)
        if end > self._end:
            self._make_room(end - at - 8)
            self.append_frame(head, frame)
            return
        self._map[at + 8 : middle] = head
        self._map[middle:end] = frame
        self._map[end : end + 8] = _END
        _pack_header(self._map, at, _checksum(frame, _checksum(head, self._ordinal)), end - at - 8)
        self._at = end

    def _make_room(self, size: int) -> None:
        """See to it that a record of that size can be written: in this segment, or in the next."""
        end = self._at + _HEADER.size + size
        if end <= self.segment_bytes - len(_END) and self._map is not None:
            self._prepare(end)
        elif size > self.segment_bytes - _START.size - _HEADER.size - len(_END):
            raise DiskFull(f"a record of {size} bytes does not fit into a segment")
        else:
            self._begin_segment()

    def _prepare(self, end: int) -> None:
        """Have the pages up to there, and some more, ready to be written.

        Else each of them would be a fault at its first byte, for which the file system may want its journal: that can
        take milliseconds when others sync.
        """
        start = self._ready
        self._ready = ready = min(max(end, start + PREPARE_BYTES) + mmap.PAGESIZE & -mmap.PAGESIZE, self.segment_bytes)
        self._end = ready - len(_END)
        with contextlib.suppress(OSError):  # older than Linux 5.14, or none
            self._map.madvise(_MADV_POPULATE_WRITE, start, ready - start)

    def _begin_segment(self) -> None:
        ordinal = self._ordinal + 1
        if not self.full and ordinal >= self._count_max:
            self._map = self._maps[ordinal % self._count_max]
            self._map[: len(MAGIC)] = bytes(len(MAGIC))  # it is no segment until its start says so
        else:
            self._grow(ordinal * self.segment_bytes)
        self._ordinal = ordinal
        self._at, self._ready = _START.size, 0
        self._prepare(_START.size)
        self._map[_START.size : _START.size + 8] = _END
        start = _START.pack(MAGIC, ordinal, self.segment_bytes, 0)[:-4]
        self._map[: _START.size] = start + _checksum(start).to_bytes(4, "little")
        self.on_segment()

    def _grow(self, offset: int) -> None:
        status = os.fstatvfs(self._handle)
        free = status.f_bavail * status.f_frsize
        if free < FREE_BYTES_MIN + self.segment_bytes:
            raise DiskFull(f"{free >> 20} MiB are left on the disk")
        try:
            # Without its blocks, a page that the disk has no room for would be a signal that ends the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._handle, offset, self.segment_bytes)
            else:  # macOS
                os.ftruncate(self._handle, offset + self.segment_bytes)
        except OSError as error:
            raise DiskFull(f"{error.strerror}") from error
        self._map = mmap.mmap(self._handle, self.segment_bytes, offset=offset)
        if self.full:
            self._maps = []  # the pages of those that are full are the system's alone
        self._maps.append(self._map)

    def close(self) -> None:
        """Give back the room that was not used."""
        if self._ordinal >= 0 and (self.full or self._ordinal < self._count_max):
            os.ftruncate(self._handle, self._ordinal * self.segment_bytes + self._at)
        os.close(self._handle)
        self._map = None
        self._end = self._at = 0


class NothingRecorded(UserError):
    """A recording that had not begun when its process ended."""


class Doubtful(NamedTuple):
    """A place at which something else was written than can be read: so many entries from the `first` on, or none."""

    first: int
    entries: int
    offset: int


class Recording:
    """What could be read: records with their offsets, oldest first, and what is wrong with the rest."""

    def __init__(self, name: str, records: list[tuple[int, Payload]], from_start: bool) -> None:
        self.name = name
        self.records = records
        self.from_start = from_start
        self.damage: list[str] = []
        """Each with its offset. The records around it are still there."""
        self.doubtful: list[Doubtful] = []

    @property
    def head(self) -> Payload:
        """HEAD, format, process, incarnation, and what the host said of its run and nodes. The first that is whole."""
        damaged = {place.first for place in self.doubtful if place.entries}
        heads = [(index in damaged, record) for index, (_, record) in enumerate(self.records) if record[0] == HEAD]
        return min(heads, key=lambda head: head[0])[1] if heads else [HEAD, FORMAT, "", 0, {}]


def read(path: Path, *, head_only: bool = False) -> Recording:
    """All that is readable of a file, or the head alone.

    Raises `NothingRecorded`, or a plain `UserError` for what is no recording or is one of a newer format.
    """
    if head_only:
        with contextlib.suppress(UserError):  # all of it says what is wrong
            return _read(path, *_opened(path, HEAD_BYTES), head_only=True)
    return _read(path, *_opened(path), head_only=head_only)


def _opened(path: Path, size: int = -1) -> tuple[bytes, list[_Start]]:
    """The bytes of a recording, or the first of them, and its segments."""
    try:
        with path.open("rb") as file:
            content = file.read(size)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    if _SOMETHING.search(content) is None:
        raise NothingRecorded(f"{path}: its process ended before anything was recorded")
    starts = _segments(content)
    if not starts and content[: len(MAGIC) - 1] == MAGIC[:-1]:
        raise _other_format(path, content[len(MAGIC) - 1])
    if not starts:
        raise UserError(f"{path}: is no recording: it does not begin as one; name another run with -r RUN")
    return content, starts


def _read(path: Path, content: bytes, starts: list[_Start], *, head_only: bool) -> Recording:
    recording = Recording(path.name, [], starts[0].ordinal == 0)
    reader = _Reader(content, recording)
    previous: int | None = None
    for start in starts:
        reader.segment(start, previous, head_only=head_only)
        previous = start.ordinal
        if head_only and reader.has_head():
            break
    if not recording.records:
        raise UserError(f"{path}: nothing in it can be read: {'; '.join(recording.damage) or 'it is empty'}")
    found = recording.head[1]
    if found != FORMAT and not any(place.first == 0 for place in recording.doubtful):
        raise _other_format(path, found)
    return recording


def _other_format(path: Path, found: int) -> UserError:
    return UserError(f"{path}: has format {found}, this zactor reads {FORMAT}; use the one that wrote it")


class _Start(NamedTuple):
    """Where a segment begins and ends. `is_whole`: its start could be read."""

    ordinal: int
    offset: int
    end: int
    size: int
    is_whole: bool = True


def _segments(content: bytes) -> list[_Start]:
    """The segments in the order in which they were written.

    One whose start is damaged has the ordinal by which its first record has the checksum that stands there, or it is
    left out. One without magic is no segment: it was about to be overwritten.
    """
    first = content.find(MAGIC)
    while first >= 0 and _start_at(content, first) is None:
        first = content.find(MAGIC, first + 1)
    known = _start_at(content, first) if first >= 0 else None
    size = len(content) if known is None else known.size
    starts = (_start_at(content, at) for at in range(first % size, len(content) - _START.size, size))
    whole = [start for start in starts if start is not None]
    near = {0, *(start.ordinal + step for start in whole for step in (-1, 1))}
    found = list(whole)
    for at in range(0, len(content) - _START.size, size):
        if content[at : at + len(MAGIC)].strip(b"\0") and not any(start.offset == at for start in whole):
            end = min(at + size, len(content))
            found += [
                _Start(ordinal, at, end, size, is_whole=False)
                for ordinal in sorted(near)
                if _is_record(content, ordinal, at + _START.size, end)
            ]
    return sorted(found)


def _start_at(content: bytes, at: int) -> _Start | None:
    if len(content) < at + _START.size:
        return None
    magic, ordinal, size, checksum = _START.unpack_from(content, at)
    if magic != MAGIC or checksum != _checksum(content[at : at + _START.size - 4]):
        return None
    return _Start(ordinal, at, min(at + size, len(content)), size)


def _is_record(content: bytes, ordinal: int, at: int, end: int) -> bool:
    if at + _HEADER.size > end:
        return False
    checksum, size = _header(content, at)
    at += _HEADER.size
    return 0 < size <= end - at and _checksum(content[at : at + size], ordinal) == checksum


def _header(content: bytes, at: int) -> tuple[int, int]:
    """Checksum and size of the record there."""
    checksum, size = _HEADER.unpack_from(content, at)
    return checksum, size


class _Reader:
    """Takes apart what may be damaged, and notes where it is."""

    def __init__(self, content: bytes, recording: Recording) -> None:
        self._content = content
        self._recording = recording

    def has_head(self) -> bool:
        """Whether something whole has been read: a segment begins with heads."""
        recording = self._recording
        return len(recording.records) > sum(place.entries for place in recording.doubtful)

    def _damaged(self, offset: int, text: str, entries: int | None = 0) -> None:
        recording = self._recording
        recording.damage.append(f"offset {offset}: {text}")
        if entries is not None:
            recording.doubtful.append(Doubtful(len(recording.records) - entries, entries, offset))

    def segment(self, start: _Start, previous: int | None, *, head_only: bool) -> None:
        """Read one, or what it begins with; `previous` is the ordinal of the one before."""
        content, (ordinal, at, end, _, is_whole) = self._content, start
        if previous is not None and ordinal != previous + 1:
            self._damaged(at, f"segment {ordinal} follows segment {previous}")
        if not is_whole:
            self._damaged(at, "the start of a segment is not as it was written", None)
        at += _START.size
        while at + _HEADER.size <= end and content[at : at + _HEADER.size] != _END:
            if _is_record(content, ordinal, at, end):
                _, size = _header(content, at)
                self._record(at, size, is_whole=True)
                at += _HEADER.size + size
            else:
                at = self._skip(ordinal, at, end)
            if head_only and self.has_head():
                return

    def _skip(self, ordinal: int, at: int, end: int) -> int:
        """A record is damaged; if its size can be trusted it is read all the same. Returns where the next begins."""
        content = self._content
        _, size = _header(content, at)
        after = at + _HEADER.size + size
        is_last = after <= end and (after + _HEADER.size > end or content[after : after + _HEADER.size] == _END)
        if size and (is_last or _is_record(content, ordinal, after, end)):
            self._record(at, size, is_whole=False)
            return after
        for found in _RECORD.finditer(content, at + 1, end):
            if _is_record(content, ordinal, found.start(), end):
                self._damaged(at, f"{found.start() - at} bytes are no record")
                return found.start()
        self._damaged(at, f"a record of {size} bytes is cut off" if after > end else "what follows is no record")
        return end

    def _record(self, at: int, size: int, *, is_whole: bool) -> None:
        payload = self._content[at + _HEADER.size : at + _HEADER.size + size]
        try:
            entries = _decode(payload)
            if not all(entry.__class__ is list and entry for entry in entries):
                raise ValueError("it is no list of entries")
        except Exception as problem:  # our own extensions may hold anything then
            self._damaged(at, f"a record cannot be read: {problem}")
            return
        self._recording.records += [(at, entry) for entry in entries]
        if not is_whole:
            self._damaged(at, "a record does not match its checksum", len(entries))


class Search:
    """Finds entries of a file by some bytes in them, and reads no others: for recordings of any length.

    Raises what `read` does for a file that is no recording.
    """

    def __init__(self, path: Path) -> None:
        self._content, self._segments = _opened(path)
        self.head = _read(path, self._content, self._segments, head_only=True).head
        self._starts: dict[int, list[int]] = {}

    def find(self, needle: bytes) -> Iterator[tuple[tuple[int, int], Payload]]:
        """The entries of all records with these bytes in them, in their order, each with the place of its record."""
        for number, segment in enumerate(self._segments):
            end = segment.end
            at = self._content.find(needle, segment.offset, end)
            while at >= 0:
                index, at_end = self._record_at(number, at)
                if index >= 0:
                    yield from self._read(number, index)
                at = self._content.find(needle, at_end, end)

    def find_back(self, needle: bytes) -> Iterator[Iterator[tuple[tuple[int, int], Payload]]]:
        """The entries of each such record, the last record first."""
        for number, segment in reversed(list(enumerate(self._segments))):
            start = segment.offset
            at = self._content.rfind(needle, start, segment.end)
            while at >= 0:
                index, _ = self._record_at(number, at)
                if index >= 0:
                    yield self._read(number, index)
                    at = self._records_of(number)[index]
                at = self._content.rfind(needle, start, at)

    def _record_at(self, number: int, at: int) -> tuple[int, int]:
        """Which record of a segment has that byte, -1 for none, and where to look on behind it."""
        index = bisect.bisect_right(self._records_of(number), at) - 1
        if index < 0 or at >= self._end_of(number, index):
            return -1, at + 1
        return index, self._end_of(number, index)

    def after(self, place: tuple[int, int]) -> Iterator[tuple[tuple[int, int], Payload]]:
        """All entries from a record on, each with the place of its record."""
        number, index = place
        for following in range(number, len(self._segments)):
            for each in range(index if following == number else 0, len(self._records_of(following))):
                yield from self._read(following, each)

    def _records_of(self, number: int) -> list[int]:
        """Where the records of a segment begin."""
        found = self._starts.get(number)
        if found is None:
            segment = self._segments[number]
            found, end = [], segment.end
            self._starts[number] = found
            at = segment.offset + _START.size
            while at + _HEADER.size <= end:
                _, size = _header(self._content, at)
                if not size or at + _HEADER.size + size > end:
                    break
                found.append(at)
                at += _HEADER.size + size
        return found

    def _end_of(self, number: int, index: int) -> int:
        at = self._records_of(number)[index]
        return at + _HEADER.size + _header(self._content, at)[1]

    def _read(self, number: int, index: int) -> Iterator[tuple[tuple[int, int], Payload]]:
        start = self._records_of(number)[index]
        payload = self._content[start + _HEADER.size : self._end_of(number, index)]
        with contextlib.suppress(msgspec.MsgspecError):  # damaged: `replay` says so
            for entry in _decode(payload):
                yield (number, index), entry


# --- values
class Unkept(bytes):
    """Bytes of which only length and checksum were kept; whoever looks into them sees zeros."""

    checksum: int

    @classmethod
    def of(cls, length: int, checksum: int) -> Unkept:
        """So many zeros in the place of what had that checksum."""
        zeros = cls(length)
        zeros.checksum = checksum
        return zeros


class Unfrozen(TypeError):
    """A value that no recording can hold."""


VALUE, PIECE, UNKEPT = 1, 2, 3
"""Extension types: a value with its type; the length and checksum of bytes; why a value could not be kept."""

PIECE_FORMAT = struct.Struct("<QI")


def keep(value: bytes, full: bool) -> Any:
    """Bytes as they are recorded."""
    if full or len(value) <= PIECE_BYTES:
        return value
    return msgspec.msgpack.Ext(PIECE, PIECE_FORMAT.pack(len(value), checksum_of(value)))


def unkept(problem: Exception) -> Any:
    """What stands for a value that cannot be kept."""
    return msgspec.msgpack.Ext(UNKEPT, str(problem).encode()[:1000])


class Lost(msgspec.Struct, frozen=True):
    """A value that could not be kept, and why."""

    because: str


FUNCTIONS = (Call, InThread)
"""Operations that have any values, not only bytes and names."""


def operation_digest(number: int, operation: Any) -> int:
    """What is recorded of an operation: many bytes stand there as their checksum, and functions as their names."""
    kind = operation.__class__
    if kind is Append and len(operation.data) <= PIECE_BYTES:  # most of them, so without encoding
        return crc32c.crc32c(operation.data, _seed_of(operation.file)) ^ number & 0xFFFFFFFF
    if kind in FUNCTIONS:
        return digest_of((number, kind.__name__, operation.function.__qualname__, operation.values))
    data = getattr(operation, "data", b"")
    if len(data) > PIECE_BYTES:
        fields = (operation.file, getattr(operation, "offset", 0))
        return digest_of((number, kind.__name__, fields, len(data), checksum_of(data)))
    return digest_of((number, kind.__name__, operation))


@functools.lru_cache(1024)
def _seed_of(file: str) -> int:
    """What the checksum of data begins with that is appended to a file."""
    return crc32c.crc32c(file.encode("utf-8", "surrogatepass"))


RECENT = 16
"""Pieces of which the checksum is remembered: those that come in one turn."""

_recent: dict[int, tuple[bytes, int]] = {}


def checksum_of(value: bytes) -> int:
    """CRC32C, also of what was not kept. A piece that came is often what is written and sent on next."""
    found = _recent.get(id(value))
    if found is not None:  # it is held, so nothing else can have its identity
        return found[1]
    checksum = value.checksum if isinstance(value, Unkept) else crc32c.crc32c(value)
    if len(_recent) >= RECENT:
        del _recent[next(iter(_recent))]
    _recent[id(value)] = value, checksum
    return checksum


def freeze(value: Any, full: bool = True, items_max: int = 1 << 62) -> Any:
    """A value as it is recorded: types that msgpack does not tell apart are written beside it.

    Raises `Unfrozen` for what cannot be, what has more than `items_max` items, and what is held in two places.
    """
    return _Freezer(full, items_max).freeze(value)


class _Freezer:
    def __init__(self, full: bool, items_max: int) -> None:
        self._full = full
        self._left = items_max
        self._seen: set[int] = set()

    def freeze(self, value: Any) -> Any:
        kind = value.__class__
        if kind in (float, bool) or value is None:
            return value
        if kind is str:
            return value if value.isascii() else _text(value)
        if kind is int:
            return value if -(1 << 63) <= value < 1 << 64 else _tagged("int", str(value))
        if kind is bytes:
            return keep(value, self._full)
        if kind is Unkept:
            return keep(value, False)
        if kind is Ref:
            return _tagged("ref", value.name, value.drop)
        if isinstance(value, BaseException):
            return self._error(value)
        if kind is bytearray:
            return _tagged("bytearray", bytes(value))
        if isinstance(value, msgspec.Struct):
            return _tagged(
                "struct", kind.__module__, kind.__qualname__, self._items(value, msgspec.structs.astuple(value))
            )
        if kind is dict:
            return _tagged("dict", self._items(value, value.items()))
        if kind in (list, tuple, set, frozenset, deque):
            items = self._items(value, value)
            return items if kind is list else _tagged(kind.__name__, items, getattr(value, "maxlen", None))
        raise Unfrozen(f"a {kind.__name__}")

    def _items(self, holder: Any, items: Collection[Any]) -> list[Any]:
        is_mutable = holder.__class__ not in (tuple, frozenset)
        if is_mutable and id(holder) in self._seen:
            raise Unfrozen(f"a {type(holder).__name__} that is held twice")
        self._seen.add(id(holder))
        self._left -= len(items)
        if self._left < 0:
            raise Unfrozen("too many items")
        if holder.__class__ is dict:
            return [[self.freeze(key), self.freeze(item)] for key, item in items]
        return [self.freeze(item) for item in items]

    def _error(self, error: BaseException) -> Any:
        try:
            fields = [self.freeze(item) for item in error.args]
        except Unfrozen:
            fields = [str(error)]
        kind = type(error)
        detail, wire = (error.detail, error.wire) if isinstance(error, Failure) else ("", "")
        return _tagged("error", kind.__module__, kind.__qualname__, fields, detail, wire, str(error))


def _text(value: str) -> Any:
    """A string, also one with half a surrogate pair in it, which no UTF-8 has."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return _tagged("str", value.encode("utf-8", "surrogatepass"))
    return value


def _tagged(*parts: Any) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(VALUE, encode(parts))


def extension(code: int, content: Any) -> Any:
    """What msgpack makes of our extension types; `thaw` makes the rest."""
    if code == PIECE:
        length, checksum = PIECE_FORMAT.unpack(content)
        if length > PIECE_BYTES_MAX:
            raise ValueError(f"a piece of {length} bytes")
        return Unkept.of(length, checksum)
    if code == UNKEPT:
        return Lost(bytes(content).decode(errors="replace"))
    if code != VALUE:
        return msgspec.msgpack.Ext(code, bytes(content))
    return _Tagged(_decode(bytes(content)))


class _Tagged(list[Any]):
    """A value whose type is written beside it, before `thaw` makes it."""


_decode: Callable[[bytes], Payload] = msgspec.msgpack.Decoder(list[Any], ext_hook=extension).decode
decode_body: Callable[[bytes], Any] = msgspec.msgpack.Decoder(Any, ext_hook=extension).decode

_PLAIN: dict[str, Callable[..., Any]] = {
    "int": int,
    "str": lambda encoded: encoded.decode("utf-8", "surrogatepass"),
    "ref": lambda name, drop: Ref(name, drop=drop),
    "bytearray": bytearray,
    "tuple": lambda items, _: tuple(map(thaw, items)),
    "set": lambda items, _: set(map(thaw, items)),
    "frozenset": lambda items, _: frozenset(map(thaw, items)),
    "deque": lambda items, length: deque(map(thaw, items), length),
    "dict": lambda pairs: {thaw(key): thaw(item) for key, item in pairs},
}


def thaw(value: Any) -> Any:
    """The value that `freeze` was given. Raises `Unfrozen` when a class of it is gone."""
    if value.__class__ is list:
        return [thaw(item) for item in value]
    if value.__class__ is not _Tagged:
        return value
    tag, *parts = value
    if tag in _PLAIN:
        return _PLAIN[tag](*parts)
    kind = find_class(parts[0], parts[1])
    items = [thaw(item) for item in parts[2]]
    if tag == "error":
        return _error(kind, items, *parts[3:])
    return kind(**dict(zip(kind.__struct_fields__, items, strict=True)))


def _error(kind: Any, items: list[Any], detail: str, wire: str, text: str) -> BaseException:
    if wire:
        return Failure.from_wire(wire, text, detail)
    try:
        error: BaseException = kind(*items)
    except Exception:  # it takes other arguments than it keeps
        error = kind.__new__(kind)
        error.args = tuple(items)
    return error


def find_class(module: str, name: str) -> Any:
    """A class by its module and qualified name. Raises `Unfrozen` when there is none."""
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        raise Unfrozen(f"there is no {name} in {module} any more") from None
    return found
