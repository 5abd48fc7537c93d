"""Small chunks in segments on an actor's disk: written one behind the other, and made durable many at a time.

The open segment (`NUMBER.open`) grows; when it is full its index is written and synced, and it is renamed to
`NUMBER.segment`. A crash leaves an open one, which is read whole at the next start and sealed then: nothing of it is
cut off, and a new one is begun. Segments with little in them are written anew as one, with the lowest of their numbers:
written, synced, read back, and only then put in the place of the first; the others go after that. At every moment
each record that is needed is in some file, and one that is there twice does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from zactor.actor import Actor
from zactor.errors import Corrupt, DiskFull

from .chunkfiles import READINGS, read_surely
from .chunks import block_checksums
from .holdings import Holdings, Place
from .messages import READ_SIZE, Piece
from .segments import (
    END_SIZE,
    OVERHEAD,
    RECORDS_MAX,
    Entry,
    Ledger,
    Segment,
    SegmentName,
    chunk_record,
    closing_records,
    content_of,
    index_offset,
    read_index,
    scan_segment,
    tombstone_record,
)

FREE_TO_MERGE = 1 << 20
"""Bytes that must be free beside what a merge writes."""


class Growing(msgspec.Struct, eq=False):
    """A segment without an index. `is_named`: its name is durable."""

    number: int
    entries: list[Entry]
    is_named: bool = False


class Copied(msgspec.Struct):
    """A record that is in a merged segment, too: where it was, and where it is there."""

    number: int
    was: Entry
    now: Entry


class SegmentStore:
    """Small chunks; those that are there are entered in `holdings`."""

    def __init__(self, actor: Actor, holdings: Holdings, segment_size: int) -> None:
        self._actor = actor
        self._disk = actor.disk
        self._holdings = holdings
        self._segment_size = segment_size
        self._ledger = Ledger()
        self._kinds: dict[int, str] = {}  # of each segment's file
        self._open: Growing | None = None
        self._full: list[Growing] = []
        self._last = 0
        self._is_tended = False
        self._may_merge = True
        self._is_blocked = False  # by a full disk
        self.suspects: dict[int, None] = {}  # chunks whose records a merge could not read

    # --- the start
    async def open(self, files: tuple[str, ...]) -> None:
        """Learn what is there, of these files."""
        names = [name for name in map(SegmentName.parse, files) if name is not None]
        for name in sorted(names, key=lambda name: name.number):
            if name.kind == "merged":
                await self._disk.remove(str(name))  # a merge that a crash has ended before it counted
                continue
            self._kinds[name.number] = name.kind
            self._last = max(self._last, name.number)
            size = await self._disk.size(str(name)) or 0
            segment = self._ledger.segments[name.number] = Segment(name.number, size)
            entries = await self._index(name, size) if name.kind == "segment" else None
            if entries is None:
                entries = await self._salvage(name, segment)
            for entry in entries:
                self._note(name.number, entry)

    async def _index(self, name: SegmentName, size: int) -> list[Entry] | None:
        """What a sealed segment says that it holds; None if that cannot be read, however often one tries."""
        for _ in range(READINGS):
            offset = index_offset(await self._disk.read(str(name), max(0, size - END_SIZE), END_SIZE))
            entries = None
            if offset is not None:
                entries = read_index(await self._disk.read(str(name), offset, size - END_SIZE - offset))
            if entries is not None:
                return entries
        self._actor.log.error("index_corrupt", file=str(name))
        return None

    async def _salvage(self, name: SegmentName, segment: Segment) -> list[Entry]:
        """All that can be read of a segment without an index; it will be given one."""
        content = await read_surely(self._disk, str(name))
        found = scan_segment(content)
        if found.lost_bytes:
            self._actor.log.warning("segment_torn", file=str(name), lost_bytes=found.lost_bytes)
        for start in range(0, len(content), READ_SIZE):
            # It may stand in the page cache alone, and count as clean, since a sync failed (fsyncgate).
            await self._disk.write(str(name), start, content[start : start + READ_SIZE])
        self._full.append(Growing(segment.number, found.entries, is_named=True))
        return found.entries

    def _note(self, number: int, entry: Entry) -> None:
        was = self._small_place(entry.chunk)
        if entry.is_tombstone:
            self._holdings.remove(entry.chunk)
            self._ledger.dropped(number, entry, was)
        else:
            self._holdings.add(entry.chunk, Place(entry.size, entry.crc, number, entry.offset))
            self._ledger.stored(number, entry, was)

    def _small_place(self, chunk: int) -> tuple[int, int] | None:
        place = self._holdings.get(chunk)
        return None if place is None or not place.segment else (place.segment, place.size)

    # --- writing
    async def store(self, chunk: int, content: bytes, crc: int) -> None:
        """Keep a chunk; durable when this returns. Raises `DiskFull`."""
        growing = self._room(OVERHEAD + len(content))
        segment = self._ledger.segments[growing.number]
        entry = Entry(chunk, segment.size, len(content), crc)
        written = self._disk.write(self._file(growing.number), segment.size, chunk_record(chunk, content))
        segment.size += entry.record_size
        growing.entries.append(entry)
        self._note(growing.number, entry)
        self._ledger.mended(chunk)
        try:
            await written
        except DiskFull:
            growing.entries.remove(entry)
            if self._holdings.get(chunk) == Place(entry.size, entry.crc, growing.number, entry.offset):
                self._holdings.remove(chunk)
                self._ledger.unstored(growing.number, entry)
            raise
        await self.durable(growing)

    async def durable(self, growing: Growing | None = None) -> None:
        """Wait until all that was stored is durable. The syncs of all who wait at one time are one."""
        growing = growing or self._open
        if growing is None or growing.is_named:
            await self._disk.synced()
            return
        synced, named = self._disk.synced(), self._disk.sync_folder()
        await synced
        await named
        growing.is_named = True

    def _room(self, size: int) -> Growing:
        """The open segment, with room for a record."""
        growing = self._open
        if growing is not None:
            filled = self._ledger.segments[growing.number].size
            if filled + size <= self._segment_size and len(growing.entries) < RECORDS_MAX:
                return growing
            self._full.append(growing)
        self._last += 1
        self._open = growing = Growing(self._last, [])
        self._ledger.segments[self._last] = Segment(self._last)
        self._kinds[self._last] = "open"
        return growing

    def _file(self, number: int) -> str:
        return str(SegmentName(number, self._kinds[number]))

    # --- reading
    async def piece(self, chunk: int, place: Place) -> Piece:
        """A small chunk, which is one block, verified. Raises `Corrupt`."""
        stored = await self._disk.read(self._file(place.segment), place.offset, OVERHEAD + place.size)
        content = content_of(stored, chunk, place.crc)
        if content is None:
            raise Corrupt(f"its record in {self._file(place.segment)} is not what was written")
        return Piece(content, block_checksums(content))

    async def record_of(self, place: Place) -> bytes:
        """The bytes of a record as they are."""
        return await self._disk.read(self._file(place.segment), place.offset, OVERHEAD + place.size)

    # --- what is not needed
    async def drop(self, chunk: int) -> None:
        """Forget a chunk. On a full disk it may come back after a restart, and be dropped again."""
        growing = self._room(OVERHEAD)
        segment = self._ledger.segments[growing.number]
        entry = Entry(chunk, segment.size, 0, 0, is_tombstone=True)
        written = self._disk.write(self._file(growing.number), segment.size, tombstone_record(chunk))
        segment.size += entry.record_size
        growing.entries.append(entry)
        self._note(growing.number, entry)
        self._ledger.mended(chunk)
        self._may_merge = True
        try:
            await written
        except DiskFull:
            self._actor.log.warning("tombstone_not_written", chunk=f"{chunk:016x}")

    def lost(self, chunk: int) -> None:
        """A chunk turned out to be damaged: it counts no more, and its record stays until there is another."""
        place = self._holdings.remove(chunk)
        assert place is not None
        self._ledger.lost(chunk, place.segment, place.size)

    # --- segments that are full, and those with little in them
    @property
    def needs_tending(self) -> bool:
        """Whether `tend` may find something to do."""
        return not (self._is_tended or self._is_blocked) and bool(self._full or self._may_merge)

    def try_again(self) -> None:
        """What was prevented until now may be possible."""
        self._is_blocked, self._may_merge = False, True

    async def tend(self) -> None:
        """Seal what is full, and merge what has little in it. What a full disk prevents waits for `try_again`.

        Raises `Corrupt` when something cannot be read, of which `suspects` says more.
        """
        if self._is_tended:
            return
        self._is_tended = True
        try:
            while self._full:
                await self._seal(self._full[0])
                self._full.pop(0)
            self._may_merge = False
            while await self._merge(self._to_merge()):
                pass
        except DiskFull as error:
            self._is_blocked = True
            self._actor.log.warning("segments_not_tended", error=str(error))
        finally:
            self._is_tended = False

    async def _seal(self, growing: Growing) -> None:
        segment = self._ledger.segments[growing.number]
        closing = closing_records(growing.entries, segment.size)
        await self._disk.write(self._file(growing.number), segment.size, closing)
        await self._disk.synced()
        # Durable before it is named: what is called a segment is never read whole again.
        renamed = self._disk.rename(self._file(growing.number), str(SegmentName(growing.number)))
        self._kinds[growing.number] = "segment"
        segment.size += len(closing)
        self._may_merge = True
        await renamed
        await self._disk.sync_folder()

    def _to_merge(self) -> list[int]:
        sealed = sorted(number for number, kind in self._kinds.items() if kind == "segment")
        return self._ledger.to_merge(sealed, self._segment_size)

    async def _merge(self, run: list[int]) -> bool:
        """Write neighbours anew as one. Returns whether it was done."""
        if not run:
            return False
        needed = sum(self._ledger.segments[number].needed for number in run)
        if needed and await self._disk.free_bytes() < needed + FREE_TO_MERGE:
            self._is_blocked = True
            self._actor.log.warning("no_room_to_merge", needed=needed)
            return False
        found = {number: await self._entries(number) for number in run}
        for number, entries in found.items():
            listed = sum(entry.record_size for entry in entries if self._is_needed(number, entry))
            if listed < self._ledger.segments[number].needed:
                raise Corrupt(f"{SegmentName(number)} on {self._actor.ref.name} does not list all that it has")
        merged = SegmentName(run[0], "merged")
        copied: list[Copied] = []
        try:
            written = await self._copy(str(merged), found, copied)
            if copied:
                await self._disk.synced()
                await self._read_back(str(merged), written)
            if not self._ledger.are_whole(run):
                raise Corrupt(f"{SegmentName(run[0])} has a damaged record by now, which stays as it is")
        except (DiskFull, Corrupt):
            await self._disk.remove(str(merged))
            raise
        renamed = self._disk.rename(str(merged), str(SegmentName(run[0]))) if copied else None
        self._switch(found, copied, len(written))
        if renamed is not None:
            await renamed
            await self._disk.sync_folder()
        for number in run[1:] if copied else run:
            # The oldest first: a tombstone stays longer than what it is for.
            await self._disk.remove(str(SegmentName(number)))
        self._actor.log.info("segments_merged", segments=len(run), records=len(copied), bytes=len(written))
        return True

    async def _entries(self, number: int) -> list[Entry]:
        name, size = SegmentName(number), self._ledger.segments[number].size
        entries = await self._index(name, size)
        return scan_segment(await read_surely(self._disk, str(name))).entries if entries is None else entries

    async def _copy(self, merged: str, found: dict[int, list[Entry]], copied: list[Copied]) -> bytes:
        """Write all that is needed into a file. Returns the bytes of the file."""
        content = bytearray()
        for number, entries in found.items():
            for group in _stretches([entry for entry in entries if self._is_needed(number, entry)]):
                start, end = group[0].offset, group[-1].offset + group[-1].record_size
                stretch = await self._disk.read(str(SegmentName(number)), start, end - start)
                for entry in group:
                    if not self._is_needed(number, entry):
                        continue  # dropped in the meantime
                    stored = stretch[entry.offset - start : entry.offset - start + entry.record_size]
                    stored = self._checked(number, entry, stored)
                    now = Entry(entry.chunk, len(content), entry.size, entry.crc, entry.is_tombstone)
                    copied.append(Copied(number, entry, now))
                    content += stored
        if copied:
            content += closing_records([each.now for each in copied], len(content))
        for start in range(0, len(content), READ_SIZE):
            await self._disk.write(merged, start, bytes(content[start : start + READ_SIZE]))
        return bytes(content)

    def _checked(self, number: int, entry: Entry, stored: bytes) -> bytes:
        if entry.is_tombstone:
            return tombstone_record(entry.chunk)
        if content_of(stored, entry.chunk, entry.crc) is None:
            self.suspects[entry.chunk] = None
            raise Corrupt(f"a record in {SegmentName(number)} is not what was written")
        return stored

    async def _read_back(self, merged: str, written: bytes) -> None:
        for start in range(0, len(written), READ_SIZE):
            if await self._disk.read(merged, start, READ_SIZE) != written[start : start + READ_SIZE]:
                raise Corrupt(f"{merged} on {self._actor.ref.name} is not what was written")

    def _is_needed(self, number: int, entry: Entry) -> bool:
        place = self._holdings.get(entry.chunk)
        at = None if place is None else (place.segment, place.offset)
        return self._ledger.is_needed(number, entry, at)

    def _switch(self, found: dict[int, list[Entry]], copied: list[Copied], size: int) -> None:
        """From here on the merged segment counts, and the others do not."""
        number = min(found)
        kept = {(each.number, each.was.offset) for each in copied}
        relocated = [each for each in copied if self._is_needed(each.number, each.was)]
        for old in found:
            del self._ledger.segments[old], self._kinds[old]
        if copied:
            self._kinds[number] = "segment"
            segment = self._ledger.segments[number] = Segment(number, size)
            for each in relocated:
                segment.needed += each.now.record_size
                if each.now.is_tombstone:
                    self._ledger.moved(each.now, number)
                else:
                    self._holdings.add(each.now.chunk, Place(each.now.size, each.now.crc, number, each.now.offset))
        for old, entries in found.items():
            for entry in entries:
                if (old, entry.offset) not in kept:
                    self._ledger.erased(entry)


def _stretches(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Entries that stand near enough to be read together."""
    group: list[Entry] = []
    for entry in entries:
        if group and entry.offset + entry.record_size - group[0].offset > READ_SIZE:
            yield group
            group = []
        group.append(entry)
    if group:
        yield group
