"""Snapshots as files on an actor's disk: `snapshot.N`, whole or not there.

A snapshot is a run of journal records: a head, which says what it stands for, its parts, and an end, which counts
them. It is written under another name, made durable, and renamed; so whatever bears its name is whole, or was damaged
since. What the head says is for who keeps the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

from zactor.door import Disk
from zactor.errors import Corrupt
from zactor.journal import record, scan
from zactor.message import decoder, encode

READ_SIZE = 1 << 20
JOURNAL, SNAPSHOT = "journal.", "snapshot."
UNFINISHED = "snapshot.tmp"
_HEAD, _PART, _END = b"h", b"p", b"e"


class End(msgspec.Struct, frozen=True, array_like=True):
    """How a whole snapshot ends: so many parts with so many bytes."""

    parts: int
    size: int


class Snapshot(msgspec.Struct):
    """What was read: the head as it was encoded, the parts, and the bytes of the file."""

    head: bytes
    parts: deque[bytes]
    size: int

    def hand_over(self) -> Iterator[bytes]:
        """The parts, each let go of when the next one is asked for: they are large."""
        while self.parts:
            yield self.parts.popleft()[1:]


_decode_end = decoder(End)


async def read_snapshot(disk: Disk, file: str) -> Snapshot:
    """Read a whole snapshot. Raises `Corrupt`."""
    payloads: deque[bytes] = deque()
    rest = b""
    size = 0
    while more := await disk.read(file, size + len(rest), READ_SIZE):
        found = scan(rest + more)
        payloads += found.records
        rest = (rest + more)[found.size :]
        size += found.size
        if found.damaged:
            break
    if rest or len(payloads) < 2 or payloads[0][:1] != _HEAD or payloads[-1][:1] != _END:
        raise Corrupt(f"{file} is not whole: it can be read up to {size} bytes")
    head, end = payloads.popleft()[1:], _decode_end(payloads.pop()[1:])
    if end != End(len(payloads), sum(map(len, payloads)) - len(payloads)):
        raise Corrupt(f"{file} has other parts than it says")
    return Snapshot(head, payloads, size)


async def write_snapshot(disk: Disk, number: int, head: bytes, parts: Iterable[bytes]) -> int:
    """Write a snapshot part by part, durably. Returns its bytes. Raises `DiskFull`."""
    await disk.remove(UNFINISHED)
    count = size = 0
    written = await _write(disk, _HEAD, head)
    for part in parts:
        written += await _write(disk, _PART, part)
        count, size = count + 1, size + len(part)
    written += await _write(disk, _END, encode(End(count, size)))
    await disk.synced()
    await disk.rename(UNFINISHED, f"{SNAPSHOT}{number}")
    await disk.sync_folder()
    return written


async def _write(disk: Disk, kind: bytes, payload: bytes) -> int:
    written = record(kind + payload)
    await disk.append(UNFINISHED, written)
    return len(written)


async def remove_older(disk: Disk, oldest: int) -> None:
    """Remove the snapshots and journals before that number, and what never became a snapshot."""
    names = await disk.list()
    for kind in (SNAPSHOT, JOURNAL):
        for older in numbers(names, kind):
            if older < oldest:
                await disk.remove(f"{kind}{older}")
    if UNFINISHED in names:
        await disk.remove(UNFINISHED)


def numbers(names: Iterable[str], kind: str) -> list[int]:
    """The numbers of the files of one kind, in order."""
    ends = [name.removeprefix(kind) for name in names if name.startswith(kind)]
    return sorted(int(end) for end in ends if end.isascii() and end.isdigit())
