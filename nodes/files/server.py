"""A file server: chunks as files on one disk, each verified before it is called safe.

A chunk grows in `ID.tmp`. To seal it, the server compares size and checksum with what the client says, writes
the footer, syncs, renames to `ID.chunk`, syncs the folder, and only then answers; so a file of that name is
whole. It never decides that a chunk is garbage: the metadata server does, and asks it to drop it. And it
works for one volume only, written to its disk before the first chunk: a metadata server that lost its state,
or another one, cannot have chunks dropped that it knows nothing of.
"""

from __future__ import annotations

import re

import msgspec
from crc32c import crc32c

from zactor.actor import Actor, on
from zactor.errors import Corrupt, DiskFull
from zactor.journal import record, scan
from zactor.units import ByteSize, format_size

from .chunks import (
    TAIL_SIZE,
    Checksums,
    Footer,
    bad_block,
    block_count,
    footer_size,
    read_footer,
    read_tail,
    write_footer,
)
from .messages import (
    BLOCK_SIZE,
    CHUNK_SIZE_MAX,
    PAGE_SIZE_MAX,
    PIECE_SIZE,
    BadPiece,
    Busy,
    DropChunk,
    Inventory,
    MissingChunk,
    NoRoom,
    Piece,
    ReadChunk,
    SealChunk,
    Survey,
    WriteChunk,
    WrongVolume,
)

FOOTERS_MAX = 256
"""Footers kept in memory: at most 1 MiB of checksums for chunks of the largest size."""

SIZES_AT_ONCE = 256
"""Files whose size is asked for together when the server starts."""

VOLUME_FILE = "volume"

_CHUNK_FILE = re.compile(r"([0-9a-f]{16})\.(chunk|tmp)")


class Partial(msgspec.Struct, eq=False):
    """A chunk that is not sealed: `size` bytes are in its file. `sums` is None when it cannot go on."""

    size: int
    sums: Checksums | None
    sealing: bool = False


def sealed_file(chunk: int) -> str:
    """The name of a sealed chunk's file."""
    return f"{chunk:016x}.chunk"


def partial_file(chunk: int) -> str:
    """The name of the file of a chunk that is being written."""
    return f"{chunk:016x}.tmp"


class FileServer(Actor):
    """Keeps chunks on its disk, up to `capacity` bytes of content; footers take 1/16384 more."""

    capacity: ByteSize = 10 << 30

    _volume: int
    _volume_safe: bool
    _sealed: dict[int, int]
    _partials: dict[int, Partial]
    _footers: dict[int, Footer]
    _used: int

    async def on_start(self) -> None:
        """Learn what the disk holds. Raises `Corrupt` for chunks of which it does not say whose they are."""
        self._sealed, self._partials, self._footers = {}, {}, {}
        self._volume_safe = False  # on the disk, so that chunks may come
        found = [match for match in map(_CHUNK_FILE.fullmatch, await self.disk.list()) if match is not None]
        for start in range(0, len(found), SIZES_AT_ONCE):
            batch = found[start : start + SIZES_AT_ONCE]
            sizes = [self.disk.size(match[0]) for match in batch]
            for match, size in zip(batch, sizes, strict=True):
                chunk, bytes_there = int(match[1], 16), await size or 0
                if match[2] == "chunk":
                    self._sealed[chunk] = bytes_there
                else:
                    self._partials[chunk] = Partial(bytes_there, None)
        self._used = sum(self._sealed.values()) + sum(partial.size for partial in self._partials.values())
        self._volume = await self._read_volume()
        if self._volume:
            await self._keep_volume()
        self.log.info("chunks_found", sealed=len(self._sealed), partial=len(self._partials), bytes=self._used)

    def status(self) -> str:
        """What it holds, and how full it is."""
        return f"chunks: {len(self._sealed)}, {format_size(self._used)} of {format_size(self.capacity)}"

    def sealed_size(self, chunk: int) -> int | None:
        """Bytes of the file of a sealed chunk; None when there is none."""
        return self._sealed.get(chunk)

    def last_chunk(self) -> int:
        """The highest id of a chunk here; 0 when there is none."""
        return max((*self._sealed, *self._partials), default=0)

    # --- writing
    @on(interleave=True)
    async def write_chunk(self, message: WriteChunk) -> None:
        """Append a piece. Raises `BadPiece`, `MissingChunk`, `Corrupt`, or `NoRoom` and drops the chunk."""
        content, chunk = message.content, message.chunk
        partial = self._partial_to_write(message)
        if crc32c(content) != message.crc:
            raise Corrupt(f"{self._name(chunk)}: the piece at {message.offset} changed on its way")
        if self._used + len(content) > self.capacity:
            await self._give_up(chunk)
            raise NoRoom(f"{self.ref.name} is full: it may use {format_size(self.capacity)}")
        assert partial.sums is not None
        # Counted before the disk has it, so that the next piece may follow while this one is being written.
        partial.sums.add(content)
        partial.size += len(content)
        self._used += len(content)
        try:
            await self.disk.append(partial_file(chunk), content)
        except DiskFull as error:
            await self._give_up(chunk)
            raise NoRoom(f"{self.ref.name} is full: {error}") from error
        if self._partials.get(chunk) is not partial:
            raise MissingChunk(f"{self._name(chunk)} was dropped while it was being written")

    @on(interleave=True)
    async def seal_chunk(self, message: SealChunk) -> None:
        """Make a chunk safe. Raises `MissingChunk`, `Corrupt` or `NoRoom`."""
        chunk = message.chunk
        partial = self._partials.get(chunk)
        if partial is None or partial.sums is None:
            raise MissingChunk(f"{self._name(chunk)} is not being written")
        sums, partial.sums = partial.sums, None
        if (sums.size, sums.crc) != (message.size, message.crc):
            raise Corrupt(
                f"{self._name(chunk)} has {sums.size} bytes with checksum {sums.crc:08x}; "
                f"{message.size} with {message.crc:08x} were sent"
            )
        footer = write_footer(sums.footer())
        partial.size += len(footer)
        self._used += len(footer)
        partial.sealing = True
        try:
            await self.disk.append(partial_file(chunk), footer)
            if self._partials.get(chunk) is not partial:
                # The footer found room, a piece that was being written when the seal was asked for did not.
                raise MissingChunk(f"{self._name(chunk)} was dropped while it was being written")
            await self.disk.synced()
            # Durable before it is named: a crash leaves a whole chunk under this name, or none.
            await self.disk.rename(partial_file(chunk), sealed_file(chunk))
            await self.disk.sync_folder()
        except DiskFull as error:
            await self._give_up(chunk)
            raise NoRoom(f"{self.ref.name} is full: {error}") from error
        finally:
            partial.sealing = False
        del self._partials[chunk]
        self._sealed[chunk] = partial.size

    def _partial_to_write(self, message: WriteChunk) -> Partial:
        chunk, size = message.chunk, len(message.content)
        partial = self._partials.get(chunk)
        if partial is None and message.offset == 0 and chunk not in self._sealed:
            if not self._volume_safe:
                raise WrongVolume(f"{self.ref.name} has not heard from its metadata server yet")
            partial = self._partials[chunk] = Partial(0, Checksums())
        if partial is None or partial.sums is None:
            raise MissingChunk(f"{self._name(chunk)} is not being written")
        if message.offset != partial.size or not 0 < size <= PIECE_SIZE or partial.size + size > CHUNK_SIZE_MAX:
            raise BadPiece(
                f"{self._name(chunk)}: {size} bytes at {message.offset}; it has {partial.size}, "
                f"a piece at most {PIECE_SIZE} and a chunk at most {CHUNK_SIZE_MAX}"
            )
        return partial

    async def _give_up(self, chunk: int) -> None:
        """Forget a chunk that there is no room for, and make room for others."""
        partial = self._partials.pop(chunk, None)
        if partial is not None:
            self._used -= partial.size
            self.log.warning("no_room", chunk=f"{chunk:016x}", used=self._used, capacity=self.capacity)
            await self.disk.remove(partial_file(chunk))

    # --- reading
    @on(interleave=True)
    async def read_chunk(self, message: ReadChunk) -> Piece:
        """A piece, verified. Raises `MissingChunk`, `BadPiece`, or `Corrupt` with the block that is wrong."""
        chunk, offset = message.chunk, message.offset
        if offset % BLOCK_SIZE or not 0 < message.size <= PIECE_SIZE:
            raise BadPiece(f"{message.size} bytes at {offset} are not whole blocks of one piece")
        footer = self._footers.get(chunk) or await self._read_footer(chunk)
        size = max(0, min(message.size, footer.size - offset))
        content = await self.disk.read(sealed_file(chunk), offset, size)
        first = offset // BLOCK_SIZE
        checksums = footer.checksums[first : first + block_count(size)]
        wrong = bad_block(content, checksums)
        if wrong is not None:
            if chunk not in self._sealed:
                raise MissingChunk(f"{self._name(chunk)} was dropped while it was being read")
            # It may be the footer that was misread: that of another chunk is as good by itself.
            self._footers.pop(chunk, None)
            self.log.error("block_corrupt", chunk=f"{chunk:016x}", block=first + wrong)
            raise Corrupt(f"{self._name(chunk)}: block {first + wrong} is not what was written")
        return Piece(content, checksums)

    async def _read_footer(self, chunk: int) -> Footer:
        file_bytes = self._sealed.get(chunk)
        if file_bytes is None:
            raise MissingChunk(f"{self._name(chunk)} is not there")
        file = sealed_file(chunk)
        try:
            blocks = read_tail(await self.disk.read(file, max(0, file_bytes - TAIL_SIZE), TAIL_SIZE), file_bytes)
            size = footer_size(blocks)
            footer = read_footer(await self.disk.read(file, file_bytes - size, size))
        except Corrupt as error:
            if chunk not in self._sealed:
                raise MissingChunk(f"{self._name(chunk)} was dropped while it was being read") from error
            self.log.error("footer_corrupt", chunk=f"{chunk:016x}", error=str(error))
            raise Corrupt(f"{self._name(chunk)}: {error}") from error
        if chunk in self._sealed:
            if len(self._footers) >= FOOTERS_MAX:
                del self._footers[next(iter(self._footers))]
            self._footers[chunk] = footer
        return footer

    # --- what the metadata server asks
    @on(interleave=True)
    async def drop_chunk(self, message: DropChunk) -> None:
        """Remove a chunk. Raises `WrongVolume`, or `Busy` while it is being sealed."""
        self._check_volume(message.volume)
        chunk = message.chunk
        partial = self._partials.get(chunk)
        if partial is not None and partial.sealing:
            raise Busy(f"{self._name(chunk)} is being sealed")
        self._footers.pop(chunk, None)
        self._partials.pop(chunk, None)
        self._used -= self._sealed.pop(chunk, 0) + (0 if partial is None else partial.size)
        # Both names: a seal whose client went away may have renamed it without our knowing.
        await self.disk.remove(partial_file(chunk))
        await self.disk.remove(sealed_file(chunk))

    @on(interleave=True)
    async def survey(self, message: Survey) -> Inventory:
        """The chunks behind an id, and the room left. The first survey binds a server to its volume."""
        if self._volume == 0:
            self._volume = message.volume
            self.log.info("volume_adopted", volume=f"{message.volume:016x}")
        self._check_volume(message.volume)
        if not self._volume_safe:
            await self._keep_volume()
        free = await self.disk.free_bytes()
        behind = sorted(chunk for chunk in (*self._sealed, *self._partials) if chunk > message.after)
        room = max(0, min(self.capacity - self._used, free))
        return Inventory(tuple(behind[:PAGE_SIZE_MAX]), len(behind) > PAGE_SIZE_MAX, room)

    def _check_volume(self, volume: int) -> None:
        if volume != self._volume:
            raise WrongVolume(f"{self.ref.name} keeps chunks of volume {self._volume:016x}, not of {volume:016x}")

    async def _read_volume(self) -> int:
        records = scan(await self.disk.read(VOLUME_FILE)).records
        if not records and self._sealed:
            raise Corrupt(f"{self.ref.name} has {len(self._sealed)} chunks, but its file 'volume' is lost")
        return int.from_bytes(records[0], "big") if records else 0

    async def _keep_volume(self) -> None:
        """Write down whose chunks these are; again at each start, since it may not have been synced."""
        await self.disk.write(VOLUME_FILE, 0, record(self._volume.to_bytes(8, "big")))
        await self.disk.synced()
        await self.disk.sync_folder()
        self._volume_safe = True

    def _name(self, chunk: int) -> str:
        return f"chunk {chunk:016x} on {self.ref.name}"
