"""Chunks that have files of their own: those that are being written, and those that are sealed.

A chunk grows in `ID.VERSION.tmp`. To seal it its footer is written, all is synced, the file is renamed to a name that
says what it must be, and the folder is synced; so a file of that name was whole. A chain that goes on under a higher
version renames the partial file, so that after a restart, too, the older version is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable

import msgspec

from zactor.actor import Actor
from zactor.door import Disk
from zactor.errors import Corrupt, Failure

from .chunks import (
    PartialName,
    SealedName,
    bad_block,
    block_checksums,
    block_count,
    file_size,
    footer_size,
    pack_checksums,
    read_footer,
    seal_crc,
    unpack_checksums,
    write_footer,
)
from .holdings import Holdings, Place
from .messages import (
    BLOCK_SIZE,
    CHUNK_SIZE_MAX,
    FRAME_SIZE,
    READ_SIZE,
    BadFrame,
    MissingChunk,
    Piece,
    StaleVersion,
)

SYNC_EVERY = 16 << 20
"""Bytes of a growing chunk after which a sync is begun, so that the last one, which is waited for, is short."""

FOOTERS_SIZE_MAX = 4 << 20
"""Bytes of checksums kept in memory: those of 1,024 chunks of the largest size."""

READINGS = 4
"""How often what cannot be verified is read, before the last reading is believed."""

SIZES_AT_ONCE = 256
"""Files whose size is asked for together at the start."""


class Partial(msgspec.Struct, eq=False):
    """A chunk that is not sealed: `size` bytes are in its file. `checksums` is None when they are not known.

    `given_up`: why it was dropped, which all whose frames were on their way to the disk are told.
    """

    chunk: int
    version: int
    size: int = 0
    checksums: list[int] | None = None
    unsynced: int = 0
    sealing: bool = False
    given_up: Failure | None = None

    @property
    def file(self) -> str:
        """Where it grows."""
        return str(PartialName(self.chunk, self.version))


async def read_surely(disk: Disk, file: str, offset: int = 0, size: int = -1) -> bytes:
    """Bytes that no checksum covers yet. One reading proves nothing, so two in a row must agree; else `Corrupt`."""
    content = await disk.read(file, offset, size)
    for _ in range(READINGS):
        again = await disk.read(file, offset, size)
        if again == content:
            return content
        content = again
    # Not believed, since what is believed may be written again in its place.
    raise Corrupt(f"{file} reads otherwise each time; start again")


class ChunkFiles:
    """The files of chunks on an actor's disk. What is sealed is entered in `holdings`; `partials` are the others."""

    def __init__(self, actor: Actor, holdings: Holdings) -> None:
        self._actor = actor
        self._disk = actor.disk
        self._holdings = holdings
        self.partials: dict[int, Partial] = {}
        self.partial_size = 0  # bytes of all partials
        self._footers: dict[int, bytes] = {}
        self._footers_size = 0
        self._copies = 0

    async def open(self, files: tuple[str, ...]) -> list[SealedName]:
        """Learn what is there, of these files. Returns the names of those that have another size than they say.

        So is returned what is there already: it was damaged, set aside, and healed, and came back with a crash.
        """
        wrong: list[SealedName] = []
        for start in range(0, len(files), SIZES_AT_ONCE):
            batch = files[start : start + SIZES_AT_ONCE]
            sizes = [self._disk.size(file) for file in batch]
            for file, asked in zip(batch, sizes, strict=True):
                size = await asked or 0
                sealed, partial = SealedName.parse(file), PartialName.parse(file)
                is_there = sealed is not None and self._holdings.get(sealed.chunk) is not None
                if sealed is not None and size == file_size(sealed.size) and not is_there:
                    self._holdings.add(sealed.chunk, Place(sealed.size, sealed.crc))
                elif sealed is not None:
                    wrong.append(sealed)
                elif partial is not None:
                    self._found(Partial(partial.chunk, partial.version, size))
        for chunk in [chunk for chunk in self.partials if self._holdings.get(chunk) is not None]:
            self._drop_partial(self.partials[chunk])
        return wrong

    def _found(self, partial: Partial) -> None:
        other = self.partials.get(partial.chunk)
        if other is not None and other.version > partial.version:
            # A chunk begun anew, or copied here, whose older file outlived a crash.
            self._disk.remove(partial.file)
            return
        if other is not None:
            self._drop_partial(other)
        self._keep_partial(partial)

    # --- writing
    def expect(self, chunk: int, version: int, offset: int, content: bytes, checksums: tuple[int, ...]) -> Partial:
        """The partial chunk that a frame continues. Refuses the frame, having changed nothing, or begins the chunk."""
        size = len(content)
        partial = self.partials.get(chunk)
        if partial is not None and version < partial.version:
            raise StaleVersion(f"{self._name(chunk)} is at version {partial.version}; {version} is over")
        if self._holdings.get(chunk) is not None:
            raise MissingChunk(f"{self._name(chunk)} is sealed")
        is_new = offset == 0 and (partial is None or version > partial.version)
        if not is_new and (partial is None or partial.version != version or partial.checksums is None):
            raise MissingChunk(f"{self._name(chunk)} is not being written under version {version}; reopen it")
        there = 0 if is_new or partial is None else partial.size
        if offset != there or offset % BLOCK_SIZE or not 0 < size <= FRAME_SIZE or offset + size > CHUNK_SIZE_MAX:
            raise BadFrame(
                f"{self._name(chunk)}: {size} bytes at {offset}; it has {there}, "
                f"a frame at most {FRAME_SIZE} and a chunk at most {CHUNK_SIZE_MAX}"
            )
        wrong = bad_block(content, checksums)
        if wrong is not None:
            raise Corrupt(f"{self._name(chunk)}: block {offset // BLOCK_SIZE + wrong} changed on its way")
        if partial is not None and not is_new:
            return partial
        if partial is not None:
            self._drop_partial(partial)
        return self._keep_partial(Partial(chunk, version, 0, []))

    def append(self, partial: Partial, content: bytes, checksums: tuple[int, ...]) -> Awaitable[None]:
        """Write a frame that was expected; it counts at once, so that the next may follow while it is written."""
        assert partial.checksums is not None
        # At its offset, not at the end: what follows a frame that found no room must not take its place.
        written = self._disk.write(partial.file, partial.size, content)
        partial.checksums += checksums
        partial.size += len(content)
        self.partial_size += len(content)
        partial.unsynced += len(content)
        if partial.unsynced >= SYNC_EVERY:
            partial.unsynced = 0
            self._disk.commit(0)
        return written

    def sealable(self, chunk: int, version: int, size: int, crc: int) -> Partial:
        """The partial chunk, if it can be sealed so. Refuses it otherwise."""
        partial = self.partials.get(chunk)
        if partial is None:
            raise MissingChunk(f"{self._name(chunk)} is not being written")
        if version < partial.version:
            raise StaleVersion(f"{self._name(chunk)} is at version {partial.version}; {version} is over")
        if version > partial.version or partial.checksums is None:
            raise MissingChunk(f"{self._name(chunk)} is not being written under version {version}; reopen it")
        if size != partial.size:
            raise BadFrame(f"{self._name(chunk)} has {partial.size} bytes; it was to be sealed with {size}")
        if seal_crc(partial.checksums) != crc:
            raise Corrupt(f"{self._name(chunk)}: its checksum is {seal_crc(partial.checksums):08x}, not {crc:08x}")
        return partial

    async def seal(self, partial: Partial) -> None:
        """Make a chunk durable, then known. One that is dropped meanwhile stays dropped: `MissingChunk`."""
        assert partial.checksums is not None
        checksums, chunk, size = tuple(partial.checksums), partial.chunk, partial.size
        partial.sealing = True
        try:
            await self._disk.write(partial.file, size, write_footer(chunk, size, checksums))
            await self._disk.synced()
            if self.partials.get(chunk) is not partial:
                raise MissingChunk(f"{self._name(chunk)} was dropped while it was being sealed")
            # Durable before it is named: a crash leaves a whole chunk under this name, or none.
            place = Place(size, seal_crc(checksums))
            renamed = self._disk.rename(partial.file, str(SealedName(chunk, size, place.crc)))
            # Known in the same breath: whoever waits for this may give up, and the file has this name all the same.
            self._forget_partial(partial)
            self._holdings.add(chunk, place)
            self._keep_footer(chunk, pack_checksums(checksums))
            await renamed
            await self._disk.sync_folder()
        finally:
            partial.sealing = False

    async def settled(self, chunk: int) -> None:
        """Wait while a chunk is being sealed."""
        while (partial := self.partials.get(chunk)) is not None and partial.sealing:
            await self._disk.synced()

    async def reopen(self, chunk: int, version: int, size: int) -> Partial:
        """Let a partial chunk go on under a version, with its first `size` bytes."""
        partial = self.partials.get(chunk)
        if partial is None:
            raise MissingChunk(f"{self._name(chunk)} is not there")
        if version < partial.version:
            raise StaleVersion(f"{self._name(chunk)} is at version {partial.version}; {version} is over")
        if partial.size < size:
            raise MissingChunk(f"{self._name(chunk)} has {partial.size} bytes, not {size}")
        old, partial.version = partial.file, version
        if old != partial.file:
            self._disk.rename(old, partial.file)
        known, partial.checksums = partial.checksums, None
        self.partial_size -= partial.size - size
        partial.size = size
        await self._disk.truncate(partial.file, size)
        checksums = await self._checksums_of(partial.file, size, known)
        # Older versions are refused after a power failure, too.
        await self._disk.sync_folder()
        if self.partials.get(chunk) is not partial or partial.version != version:
            raise StaleVersion(f"{self._name(chunk)} was dropped, or reopened under another version, meanwhile")
        partial.checksums = checksums
        return partial

    async def _checksums_of(self, file: str, size: int, known: list[int] | None) -> list[int]:
        """The checksums of the first `size` bytes, of which some may be known; the others are read."""
        checksums = [] if known is None else known[: size // BLOCK_SIZE]
        offset = len(checksums) * BLOCK_SIZE
        while offset < size:
            content = await read_surely(self._disk, file, offset, min(READ_SIZE, size - offset))
            if not content:
                raise MissingChunk(f"{file} ends at {offset} bytes; it should have {size}")
            # Found after a restart it may stand in the page cache alone, and count as clean, since a sync failed
            # (fsyncgate). Written again it is part of the next sync.
            await self._disk.write(file, offset, content)
            checksums += block_checksums(content)
            offset += len(content)
        return checksums

    # --- copies of what is sealed elsewhere
    def copy_file(self, name: SealedName) -> str:
        """A name for the file of a copy that is being made."""
        self._copies += 1
        return f"{name.chunk:016x}.{self._copies}.copy"

    async def adopt(self, file: str, name: SealedName) -> None:
        """A file that is a whole chunk, and durable, becomes it."""
        partial = self.partials.get(name.chunk)
        if partial is not None:
            self._drop_partial(partial)
        renamed = self._disk.rename(file, str(name))
        self._holdings.add(name.chunk, Place(name.size, name.crc))
        await renamed
        await self._disk.sync_folder()

    # --- reading
    async def piece(self, name: SealedName, offset: int, size: int) -> Piece:
        """A piece of a sealed chunk, verified. Raises `Corrupt`."""
        footer = await self.footer(name)
        size = min(size, name.size - offset)
        content = await self._disk.read(str(name), offset, size)
        first = offset // BLOCK_SIZE
        checksums = unpack_checksums(footer, first, block_count(size))
        wrong = bad_block(content, checksums)
        if wrong is not None:
            self._forget_footer(name.chunk)
            raise Corrupt(f"block {first + wrong} is not what was written")
        return Piece(content, checksums)

    async def footer(self, name: SealedName) -> bytes:
        """The packed checksums of a sealed chunk. Raises `Corrupt`."""
        kept = self._footers.get(name.chunk)
        if kept is None:
            kept = read_footer(await self._disk.read(str(name), name.size, footer_size(name.size) + 1), name)
            self._keep_footer(name.chunk, kept)
        return kept

    def _keep_footer(self, chunk: int, packed: bytes) -> None:
        self._forget_footer(chunk)
        self._footers[chunk] = packed
        self._footers_size += len(packed)
        while self._footers_size > FOOTERS_SIZE_MAX:
            self._forget_footer(next(iter(self._footers)))

    def _forget_footer(self, chunk: int) -> None:
        self._footers_size -= len(self._footers.pop(chunk, b""))

    # --- what is not needed
    def take_out(self, chunk: int) -> str | None:
        """Forget a chunk, sealed in a file of its own or not. Returns its file, which is now the caller's."""
        partial, place = self.partials.get(chunk), self._holdings.get(chunk)
        if partial is not None:
            self._forget_partial(partial)
            return partial.file
        if place is None or place.segment:
            return None
        self._forget_footer(chunk)
        self._holdings.remove(chunk)
        return str(SealedName(chunk, place.size, place.crc))

    def _keep_partial(self, partial: Partial) -> Partial:
        self.partials[partial.chunk] = partial
        self.partial_size += partial.size
        return partial

    def _forget_partial(self, partial: Partial) -> None:
        del self.partials[partial.chunk]
        self.partial_size -= partial.size

    def _drop_partial(self, partial: Partial) -> None:
        self._forget_partial(partial)
        self._disk.remove(partial.file)

    def _name(self, chunk: int) -> str:
        return f"chunk {chunk:016x} on {self._actor.ref.name}"
