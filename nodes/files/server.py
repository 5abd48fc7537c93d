"""A file server: chunks on one disk, written along a chain of servers, each verified before it is called safe.

A frame that comes is refused, or passed on to the next server of the chain before it is written here, so that all work
at the same time; it is answered when it is done here and behind. A chunk belongs to the version of its chain, and older
ones are refused. Small chunks come whole, from the client to each server. The server never decides that a chunk is
garbage: the metadata server does. It works for one volume alone, written to its disk before the first chunk together
with its own name: so neither another metadata server nor a disk that was swapped can have chunks dropped that they know
nothing of.

`store.py` is all that it has on its disk; begin there.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress

import msgspec

from zactor.actor import Actor, Down, Up, on
from zactor.errors import Corrupt, DiskFull
from zactor.journal import record, scan
from zactor.message import UNDECODABLE, Envelope, Message, decoder, encode
from zactor.units import ByteSize, Duration, format_size

from .chaining import Chaining
from .chunks import content_crc
from .copying import fetch
from .messages import (
    BLOCK_SIZE,
    BUCKETS,
    PAGE_SIZE_MAX,
    READ_SIZE,
    SMALL_SIZE_MAX,
    BadFrame,
    CopyChunk,
    DropChunks,
    Held,
    HeldPage,
    Inventory,
    ListBucket,
    MissingChunk,
    NoRoom,
    Piece,
    ReadChecksums,
    ReadChunk,
    ReopenChunk,
    SealChunk,
    SetAside,
    StaleVersion,
    StoreSmall,
    Survey,
    WriteChunk,
    WrongVolume,
)
from .segments import RECORD_SIZE_MAX, SEGMENT_SIZE_MAX
from .store import Store

ROOM_AGAIN = 1 << 20
"""Free bytes with which a server that was full takes chunks again: a few frames."""

SCRUB_SIZE = 4 << 20
"""Bytes that are looked at together, every now and then."""

SCRUB_PAUSE_MAX_S = 3_600.0
"""What comes to a server that had little is looked at in time, too."""

VOLUME_FILES = ("volume", "volume.again")
"""Both say the same, so that no single block of a disk can make all its chunks nobody's."""


class Binding(msgspec.Struct, frozen=True, array_like=True):
    """What a disk says of itself: whose chunks it keeps, its own number, and the server that it is the disk of."""

    volume: int
    store: int
    server: str


class Tend(Message[None]):
    """To oneself: there are segments to seal or to merge."""


class Scrub(Message[None]):
    """To oneself: it is time to look at some more of what is here."""


_decode_binding = decoder(Binding)


class FileServer(Actor):
    """Keeps chunks on its disk, up to `capacity` bytes of content, and looks at all of them once in `scrub_every`.

    `zone`: what it shares with servers that would fail together with it, such as a rack. `segment_size`: of files of
    small chunks. `scrub_every` 0s: it does not look.
    """

    capacity: ByteSize = 10 << 30
    zone: str = ""
    scrub_every: Duration = 7 * 86_400 * 10**9
    segment_size: ByteSize = 64 << 20

    _store: Store
    _binding: Binding
    _wrong: str
    _is_full: bool
    _copying: dict[int, None]
    _chaining: Chaining
    _scrub_bucket: int
    _scrub_after: int
    _scrub_offset: int

    async def on_start(self) -> None:
        """Learn what the disk holds. Raises `Corrupt` for chunks of which it does not say whose they are."""
        if not RECORD_SIZE_MAX <= self.segment_size <= SEGMENT_SIZE_MAX:
            raise ValueError(f"segment_size: expected 65KiB to 128MiB, found {format_size(self.segment_size)}")
        self._store = Store(self, self.segment_size)
        self._is_full, self._copying, self._chaining = False, {}, Chaining(self)
        self._wrong = f"{self.ref.name} has not heard from its metadata server yet"
        await self._store.open()
        self._binding = await self._read_binding()
        if self._binding.server not in ("", self.ref.name):
            self._wrong = (
                f"the disk of {self.ref.name} is that of {self._binding.server}: "
                "its state folder was swapped or copied; put each back to where it was"
            )
            self.log.error("wrong_store", server=self._binding.server)
        elif self._binding.volume:
            await self._keep_binding()
        self._scrub_bucket, self._scrub_after, self._scrub_offset = self.rng.randrange(BUCKETS), 0, 0
        self._scrub_later()
        self._tend()
        holdings, files = self._store.holdings, self._store.files
        self.log.info("chunks_found", sealed=holdings.count, partial=len(files.partials), bytes=holdings.used)

    # --- what one may see of it
    def status(self) -> str:
        """What it holds, and how full it is."""
        holdings = self._store.holdings
        line = f"chunks: {holdings.count}, {format_size(holdings.used)} of {format_size(self.capacity)}"
        if self._store.damaged:
            line += f", {len(self._store.damaged)} damaged"
        return line + (", full" if self._is_full else "")

    def sealed(self, chunk: int) -> tuple[int, int] | None:
        """Size and checksum of a sealed chunk; None when it is not here."""
        place = self._store.holdings.get(chunk)
        return None if place is None else (place.size, place.crc)

    def held(self, bucket: int) -> list[int]:
        """The sealed chunks of one bucket."""
        return self._store.holdings.ids(bucket, 0, self._store.holdings.count)

    def digests(self) -> tuple[int, ...]:
        """Of each bucket, that of its sealed chunks."""
        return tuple(self._store.holdings.digests)

    def store_number(self) -> int:
        """What its disk calls itself; 0 before it works for a volume."""
        return self._binding.store

    def used(self) -> int:
        """Bytes of all sealed chunks."""
        return self._store.holdings.used

    def partials(self) -> list[int]:
        """Chunks that are not sealed."""
        return sorted(self._store.files.partials)

    def damaged(self) -> tuple[int, ...]:
        """Chunks that were here, were found not to be what was sealed, and wait for a copy."""
        return tuple(self._store.damaged)

    # --- along the chain
    @on(interleave=True)
    async def write_chunk(self, message: WriteChunk, envelope: Envelope) -> None:
        """Take a frame and pass it on; see the message."""
        self._check_bound()
        files, chunk, chain, content = self._store.files, message.chunk, message.chain, message.content
        lack = self._lack(len(content))
        if lack:
            raise await self._give_up(NoRoom(lack), chunk)
        partial = files.expect(chunk, message.version, message.offset, content, message.checksums)
        # Passed on before it is written, so that all write at once, and before anything is awaited, so that the
        # order stays.
        passed = self._chaining.pass_on(chain, message, envelope, len(content)) if self._is_open(message) else None
        written = files.append(partial, content, message.checksums)
        if passed is None:
            await self._chaining.room(chain, len(content))
            passed = self._chaining.pass_on(chain, message, envelope, len(content))
        try:
            await self._written(written, chunk)
            await passed.done()
        finally:
            passed.settle()
        if partial.given_up is not None:
            raise partial.given_up
        is_gone = files.partials.get(chunk) is not partial and self.sealed(chunk) is None
        if is_gone or partial.version != message.version:
            raise StaleVersion(f"{self._store.name(chunk)} was dropped or reopened meanwhile")

    def _is_open(self, message: WriteChunk) -> bool:
        return self._chaining.is_open(message.chain, len(message.content))

    async def _written(self, written: Awaitable[None], chunk: int = 0) -> None:
        """Wait for the disk; when it is full, so is the server, and the partial chunk goes."""
        try:
            await written
        except DiskFull as error:
            raise await self._full(error, chunk) from error

    @on(interleave=True)
    async def seal_chunk(self, message: SealChunk, envelope: Envelope) -> None:
        """Make a chunk durable here and behind; see the message."""
        self._check_bound()
        files, chunk = self._store.files, message.chunk
        await files.settled(chunk)
        is_done = self.sealed(chunk) == (message.size, message.crc)
        partial = None if is_done else files.sealable(chunk, message.version, message.size, message.crc)
        passed = self._chaining.pass_on(message.chain, message, envelope)
        if partial is None:
            await self._store.durable()  # whoever had it sealed may not have waited for the end
        else:
            await self._written(files.seal(partial), chunk)
        await passed.done()

    @on(interleave=True)
    async def reopen_chunk(self, message: ReopenChunk) -> Held:
        """Let a chunk go on under a higher version; see the message."""
        self._check_bound()
        files, chunk = self._store.files, message.chunk
        await files.settled(chunk)
        sealed = self.sealed(chunk)
        if sealed is not None:
            await self._store.durable()
            return Held(chunk, *sealed, True)
        partial = await files.reopen(chunk, message.version, message.size)
        return Held(chunk, partial.size, 0, False)

    @on
    def server_down(self, notice: Down) -> None:
        """A server behind this one is gone."""
        self._chaining.on_down(notice)

    @on
    def server_up(self, notice: Up) -> None:
        """It is there again."""
        self._chaining.on_up(notice)

    # --- small ones
    @on(interleave=True)
    async def store_small(self, message: StoreSmall) -> None:
        """Keep a small chunk; see the message."""
        self._check_bound()
        content, chunk, crc = message.content, message.chunk, message.crc
        if len(content) > SMALL_SIZE_MAX:
            raise BadFrame(f"{self._store.name(chunk)}: {len(content)} bytes; a small one has {SMALL_SIZE_MAX}")
        if content_crc(content) != crc:
            raise Corrupt(f"{self._store.name(chunk)} changed on its way")
        there = self.sealed(chunk)
        if there not in (None, (len(content), crc)):
            raise BadFrame(f"{self._store.name(chunk)} is there, with another content")
        if there is not None:
            await self._store.durable()
            self._store.place(chunk)  # unless it was on its way, and found no room
            return
        self._check_room(len(content))
        await self._written(self._store.segments.store(chunk, content, crc))
        self._store.damaged.pop(chunk, None)
        self._tend()

    # --- reading
    @on(interleave=True)
    async def read_chunk(self, message: ReadChunk) -> Piece:
        """A piece, verified; see the message."""
        self._check_bound()
        size = self._store.place(message.chunk).size
        if message.offset % BLOCK_SIZE or message.offset > size or not 0 < message.size <= READ_SIZE:
            raise BadFrame(f"{message.size} bytes at {message.offset} are not whole blocks of one piece")
        return await self._store.read(message.chunk, message.offset, message.size)

    @on(interleave=True)
    async def read_checksums(self, message: ReadChecksums) -> bytes:
        """The checksums of all blocks; see the message."""
        self._check_bound()
        return await self._store.checksums(message.chunk)

    @on(interleave=True)
    async def copy_chunk(self, message: CopyChunk) -> None:
        """Fetch a chunk from another server; see the message."""
        self._check_bound()
        chunk, size, crc = message.chunk, message.size, message.crc
        if self.sealed(chunk) == (size, crc):
            await self._store.durable()
            self._store.place(chunk)  # unless it was on its way, and found no room
            return
        if self.sealed(chunk) is not None:
            raise BadFrame(f"{self._store.name(chunk)} is there, with another content")
        if chunk in self._copying:
            raise MissingChunk(f"{self._store.name(chunk)} is being copied already")
        self._check_room(size)
        self._copying[chunk] = None
        try:
            await self._written(fetch(self, self._store, message))
        finally:
            del self._copying[chunk]
        self._store.damaged.pop(chunk, None)
        self.log.info("chunk_copied", chunk=f"{chunk:016x}", bytes=size)
        self._tend()

    # --- by the metadata server
    @on(interleave=True)
    async def survey(self, message: Survey) -> Inventory:
        """What there is; the first survey binds the server to its volume. See the message."""
        if not self._binding.volume:
            store = self.rng.getrandbits(62) + 1
            self._binding = Binding(message.volume, store, self.ref.name)
            self.log.info("volume_adopted", volume=f"{message.volume:016x}")
        self._check_volume(message.volume)
        if self._wrong:
            await self._keep_binding()
        free = await self.disk.free_bytes()
        if self._is_full and free >= ROOM_AGAIN:
            self._is_full = False
            self.log.info("room_again", free=free)
        self._store.segments.try_again()
        self._tend()
        holdings, partials = self._store.holdings, self._store.files.partials
        room = 0 if self._is_full else min(self.capacity - holdings.used, free + self._store.files.partial_size)
        return Inventory(
            store=self._binding.store,
            zone=self.zone,
            capacity=self.capacity,
            used=holdings.used,
            room=max(0, room),
            digests=tuple(holdings.digests),
            damaged=tuple(sorted(self._store.damaged)[:PAGE_SIZE_MAX]),
            partials=tuple(sorted(partials)[:PAGE_SIZE_MAX]),
        )

    @on
    def list_bucket(self, message: ListBucket) -> HeldPage:
        """A page of the sealed chunks of one bucket."""
        self._check_volume(message.volume)
        return self._store.holdings.page(message.bucket, message.after, PAGE_SIZE_MAX)

    @on(interleave=True)
    async def drop_chunks(self, message: DropChunks) -> None:
        """Remove chunks that no file has."""
        self._check_volume(message.volume)
        for chunk in message.chunks:
            await self._store.drop(chunk)
        self._tend()

    @on(interleave=True)
    async def set_aside(self, message: SetAside) -> None:
        """Keep chunks apart from the others."""
        self._check_volume(message.volume)
        for chunk in message.chunks:
            await self._store.set_aside(chunk)

    # --- whose it is
    def _check_bound(self) -> None:
        if self._wrong:
            raise WrongVolume(self._wrong)

    def _check_volume(self, volume: int) -> None:
        if self._binding.server not in ("", self.ref.name):
            raise WrongVolume(self._wrong)
        if volume != self._binding.volume:
            raise WrongVolume(
                f"{self.ref.name} keeps chunks of volume {self._binding.volume:016x}, not of {volume:016x}: "
                "bring back the state of its metadata server, or give the server an empty folder"
            )

    async def _read_binding(self) -> Binding:
        for file in VOLUME_FILES:
            with suppress(IndexError, *UNDECODABLE):
                found: Binding = _decode_binding(scan(await self.disk.read(file)).records[0])
                return found
        count = self._store.holdings.count
        if count:
            raise Corrupt(
                f"{self.ref.name} has {count} chunks, but its files {' and '.join(VOLUME_FILES)} are lost or damaged: "
                "bring one back, or move its state folder away, so that it is filled again from the other copies"
            )
        return Binding(0, 0, "")

    async def _keep_binding(self) -> None:
        """Write down whose chunks these are; again at each start, since it may not have been synced, and as it rots."""
        for file in VOLUME_FILES:
            await self.disk.write(file, 0, record(encode(self._binding)))
        await self.disk.synced()
        await self.disk.sync_folder()
        self._wrong = ""

    # --- room
    def _lack(self, size: int) -> str:
        """Why the server may not take so many bytes; "" if it may."""
        if self._is_full:
            return f"the disk of {self.ref.name} is full"
        if self._store.holdings.used + self._store.files.partial_size + size > self.capacity:
            return f"{self.ref.name} is full: it may use {format_size(self.capacity)}"
        return ""

    def _check_room(self, size: int) -> None:
        lack = self._lack(size)
        if lack:
            raise NoRoom(lack)

    async def _full(self, error: DiskFull, partial: int = 0) -> NoRoom:
        """The disk is full: nothing more is taken until there is room again."""
        if not self._is_full:
            self._is_full = True
            self.log.warning("no_room", error=str(error))
        return await self._give_up(NoRoom(f"the disk of {self.ref.name} is full: {error}"), partial)

    async def _give_up(self, because: NoRoom, chunk: int) -> NoRoom:
        """What was half written makes room for others."""
        partial = self._store.files.partials.get(chunk)
        if partial is not None:
            partial.given_up = because
            await self._store.drop(chunk)
        return because

    # --- what it does for itself
    def _tend(self) -> None:
        if self._store.segments.needs_tending:
            self.after(0, Tend())

    @on(interleave=True)
    async def tend(self, _message: Tend) -> None:
        """Seal and merge segments."""
        await self._store.tend()

    @on(interleave=True)
    async def scrub(self, _message: Scrub) -> None:
        """Look at the next few MiB. Whatever is not what was written is set aside by looking at it."""
        left = SCRUB_SIZE
        for _ in range(BUCKETS + 1):
            holdings = self._store.holdings
            for chunk in holdings.ids(self._scrub_bucket, self._scrub_after - 1, PAGE_SIZE_MAX):
                left -= await self._scrub_chunk(chunk, left)
                if left <= 0:
                    break
            else:
                self._scrub_bucket, self._scrub_after = (self._scrub_bucket + 1) % BUCKETS, 0
                if not self._scrub_bucket and self._binding.volume and not self._wrong:
                    await self._keep_binding()
            if left <= 0:
                break
        self._scrub_later()

    async def _scrub_chunk(self, chunk: int, left: int) -> int:
        """Look at a chunk from where the last look ended. Returns the bytes looked at, and notes where to go on."""
        if chunk != self._scrub_after:
            self._scrub_offset = 0
        place = self._store.holdings.get(chunk)
        looked = 0
        while place is not None and self._scrub_offset < place.size and looked < left:
            if not await self._store.is_whole(chunk, self._scrub_offset):
                break
            self._scrub_offset += READ_SIZE
            looked += READ_SIZE if not place.segment else BLOCK_SIZE
        else:
            if place is not None and self._scrub_offset < place.size:
                self._scrub_after = chunk
                return looked
        self._scrub_after, self._scrub_offset = chunk + 1, 0
        return looked

    def _scrub_later(self) -> None:
        if self.scrub_every:
            holdings = self._store.holdings
            looks = 1 + holdings.used // SCRUB_SIZE + holdings.count * BLOCK_SIZE // SCRUB_SIZE
            self.after(min(self.scrub_every / looks / 1e9, SCRUB_PAUSE_MAX_S), Scrub())
