"""The file of a recording: mapped segments of records, each record with its size and checksum.

What is written into a mapped file belongs to the system at once: `kill -9` of the process loses none of it. A
record is its CRC32C, which begins with its segment's ordinal, its size (4 bytes each, little-endian), and a msgpack
array of entries, each an array that begins with one of the numbers below. A segment begins with `MAGIC`, its ordinal and
its size (8 bytes each), then a `HEAD`; behind its last record are 8 zeros. A **ring** overwrites its oldest segment
when its budget is spent; a file without a budget grows.

Who writes what is in `zactor.debug.recorder`; `read` gives back all that is readable, and says where the damage is.
"""

from __future__ import annotations

import bisect
import contextlib
import importlib
import mmap
import os
import struct
from collections import deque
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import crc32c
import msgspec

from zactor.errors import DiskFull, Failure, UserError
from zactor.kernel import digest_of
from zactor.message import Ref, encode
from zactor.world import Call, InThread

FORMAT = 2
MAGIC = b"zactrec\x01"

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

PREPARE_BYTES = 256 << 10
"""Of a segment that are made ready to be written at a time."""

_MADV_POPULATE_WRITE = 23  # asm-generic/mman-common.h; Python has no name for it

_START = struct.Struct("<8sQQ")
_HEADER = struct.Struct("<II")
_END = bytes(_HEADER.size)
"""Written after each record. What stands beyond it is of an earlier lap: with another ordinal, so with other checksums."""

_pack_header = _HEADER.pack_into
_checksum = crc32c.crc32c

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
        _START.pack_into(self._map, 0, MAGIC, ordinal, self.segment_bytes)
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


class Recording:
    """What could be read: records with their offsets, oldest first, and what is wrong with the rest."""

    def __init__(self, name: str, records: list[tuple[int, Payload]], from_start: bool) -> None:
        self.name = name
        self.records = records
        self.from_start = from_start
        self.damage: list[str] = []
        """Each with its offset. The records around it are still there."""

    @property
    def head(self) -> Payload:
        """HEAD, format, process, incarnation, and what the host said of its run and nodes."""
        return self.records[0][1]


def read(path: Path, *, head_only: bool = False) -> Recording:
    """All that is readable of a file, or the head alone.

    Raises `NothingRecorded`, or a plain `UserError` for what is no recording or is one of a newer format.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    starts = _segments(content)
    if not content.strip(b"\0"):
        raise NothingRecorded(f"{path}: its process ended before anything was recorded")
    if not starts:
        raise UserError(f"{path}: is no recording: it does not begin as one; name another run with -r RUN")
    recording = Recording(path.name, [], starts[0][0] == 0)
    previous = starts[0][0] - 1
    for ordinal, start, end in starts:
        if ordinal != previous + 1:
            recording.damage.append(f"offset {start}: segment {ordinal} follows segment {previous}")
        previous = ordinal
        if head_only:
            recording.records += islice(_records(content, ordinal, start + _START.size, end, recording.damage), 1)
            break
        recording.records += _records(content, ordinal, start + _START.size, end, recording.damage)
    if not recording.records or recording.records[0][1][0] != HEAD:
        raise UserError(f"{path}: nothing in it can be read: {'; '.join(recording.damage) or 'it is empty'}")
    if recording.head[1] != FORMAT:
        raise UserError(
            f"{path}: has format {recording.head[1]}, this zactor reads {FORMAT}; use the one that wrote it"
        )
    return recording


def _segments(content: bytes) -> list[tuple[int, int, int]]:
    """Ordinal, start and end of each segment, in the order in which they were written."""
    first = content.find(MAGIC)  # not always at 0: that segment may be the one which was about to be overwritten
    if first < 0 or first + _START.size > len(content):
        return []
    size = _START.unpack_from(content, first)[2] or len(content)
    found = []
    for start in range(first % size, len(content) - _START.size, size):
        magic, ordinal, _ = _START.unpack_from(content, start)
        if magic == MAGIC:
            found.append((ordinal, start, min(start + size, len(content))))
    return sorted(found)


def _records(content: bytes, ordinal: int, at: int, end: int, damage: list[str]) -> Iterator[tuple[int, Payload]]:
    while at + _HEADER.size <= end:
        checksum, size = _HEADER.unpack_from(content, at)
        if size == 0:
            return
        payload = content[at + 8 : at + 8 + size]
        if at + 8 + size > end:
            damage.append(f"offset {at}: a record of {size} bytes is cut off")
            return
        if _checksum(payload, ordinal) != checksum:
            damage.append(f"offset {at}: a record does not match its checksum")
        try:
            record = _decode(payload)
        except msgspec.MsgspecError as problem:
            damage.append(f"offset {at}: a record cannot be read: {problem}")
        else:
            for entry in record:
                yield at, entry
        at += 8 + size


class Search:
    """Finds entries of a file by some bytes in them, and reads no others: for recordings of any length.

    Raises what `read` does for a file that is no recording.
    """

    def __init__(self, path: Path) -> None:
        self.head = read(path, head_only=True).head
        self._content = path.read_bytes()
        self._segments = _segments(self._content)
        self._starts: dict[int, list[int]] = {}

    def find(self, needle: bytes) -> Iterator[tuple[tuple[int, int], Payload]]:
        """The entries of all records with these bytes in them, in their order, each with the place of its record."""
        for number, (_, start, end) in enumerate(self._segments):
            at = self._content.find(needle, start, end)
            while at >= 0:
                index, at_end = self._record_at(number, at)
                if index >= 0:
                    yield from self._read(number, index)
                at = self._content.find(needle, at_end, end)

    def find_back(self, needle: bytes) -> Iterator[Iterator[tuple[tuple[int, int], Payload]]]:
        """The entries of each such record, the last record first."""
        for number, (_, start, end) in reversed(list(enumerate(self._segments))):
            at = self._content.rfind(needle, start, end)
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
            _, start, end = self._segments[number]
            found = self._starts[number] = []
            at = start + _START.size
            while at + _HEADER.size <= end:
                size = _HEADER.unpack_from(self._content, at)[1]
                if not size or at + _HEADER.size + size > end:
                    break
                found.append(at)
                at += _HEADER.size + size
        return found

    def _end_of(self, number: int, index: int) -> int:
        at = self._records_of(number)[index]
        return at + _HEADER.size + int(_HEADER.unpack_from(self._content, at)[1])

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


_FUNCTIONS = (Call, InThread)


def operation_digest(number: int, operation: Any) -> int:
    """What is recorded of an operation: many bytes stand there as their checksum, and functions as their names."""
    kind = operation.__class__
    if kind in _FUNCTIONS:
        return digest_of((number, kind.__name__, operation.function.__qualname__, operation.values))
    data = getattr(operation, "data", b"")
    if len(data) > PIECE_BYTES:
        fields = (operation.file, getattr(operation, "offset", 0))
        return digest_of((number, kind.__name__, fields, len(data), checksum_of(data)))
    return digest_of((number, kind.__name__, operation))


_last: tuple[bytes, int] = (b"", 0)


def checksum_of(value: bytes) -> int:
    """CRC32C, also of what was not kept. A piece that came is often what is written or sent on next."""
    global _last
    if value is _last[0]:
        return _last[1]
    checksum = value.checksum if isinstance(value, Unkept) else crc32c.crc32c(value)
    _last = value, checksum
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
        return Unkept.of(*PIECE_FORMAT.unpack(content))
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
