"""All that is on a file server's disk: chunks in files of their own and in segments, and what was set aside.

What is not as it was written is never deleted: its file is renamed into the folder `aside`, or, in a segment, its
record is not counted any more and the segment stays. One bad reading proves nothing; only what is wrong however often
it is read is set aside.
"""

from __future__ import annotations

from zactor.actor import Actor
from zactor.errors import Corrupt

from .chunkfiles import READINGS, ChunkFiles
from .chunks import SealedName, pack_checksums
from .holdings import Holdings, Place
from .messages import READ_SIZE, MissingChunk, Piece
from .segmentstore import SegmentStore

ASIDE = "aside"


class Store:
    """The chunks of one disk. `damaged`: those that turned out not to be what was sealed, and were not healed yet."""

    def __init__(self, actor: Actor, segment_size: int) -> None:
        self._actor = actor
        self._disk = actor.disk
        self.holdings = Holdings()
        self.files = ChunkFiles(actor, self.holdings)
        self.segments = SegmentStore(actor, self.holdings, segment_size)
        self.damaged: dict[int, None] = {}
        self._aside = 0

    async def open(self) -> None:
        """Learn what is there."""
        names = await self._disk.list()
        aside = await self._disk.list(ASIDE)
        self._aside = max((int(name.partition(".")[0]) for name in aside), default=0)
        for name in names:
            if name.endswith(".copy"):
                await self._disk.remove(name)
        await self.segments.open(names)
        for wrong in await self.files.open(names):
            self._actor.log.error("chunk_corrupt", chunk=f"{wrong.chunk:016x}", because="size")
            await self._keep_aside(str(wrong))
            aside = (*aside, f"0.{wrong}")
        for file in (SealedName.parse(name.partition(".")[2]) for name in aside):
            if file is not None and self.holdings.get(file.chunk) is None:
                self.damaged[file.chunk] = None
        # A crash may have come between a rename and its sync: what is known from here on is durable.
        await self.durable()

    # --- reading
    async def read(self, chunk: int, offset: int, size: int) -> Piece:
        """A piece of a sealed chunk, verified. Raises `MissingChunk`, `Corrupt`."""
        for attempt in range(READINGS):
            place = self.place(chunk)
            try:
                return await self._piece(chunk, place, offset, size)
            except Corrupt as error:
                await self._distrust(chunk, place, error, is_last=attempt == READINGS - 1)
        raise MissingChunk(f"{self.name(chunk)} changed while it was being read")

    async def checksums(self, chunk: int) -> bytes:
        """The packed checksums of a sealed chunk, verified. Raises `MissingChunk`, `Corrupt`."""
        for attempt in range(READINGS):
            place = self.place(chunk)
            try:
                if place.segment:
                    return pack_checksums((await self._piece(chunk, place, 0, READ_SIZE)).checksums)
                return await self.files.footer(SealedName(chunk, place.size, place.crc))
            except Corrupt as error:
                await self._distrust(chunk, place, error, is_last=attempt == READINGS - 1)
        raise MissingChunk(f"{self.name(chunk)} changed while it was being read")

    def place(self, chunk: int) -> Place:
        """Where a sealed chunk is. Raises `MissingChunk`."""
        place = self.holdings.get(chunk)
        if place is None:
            raise MissingChunk(f"{self.name(chunk)} is not there" + (": it is damaged" * (chunk in self.damaged)))
        return place

    async def _piece(self, chunk: int, place: Place, offset: int, size: int) -> Piece:
        if place.segment:
            # Of what has one block, all is read or, behind its end, nothing.
            return await self.segments.piece(chunk, place) if not offset else Piece(b"", ())
        return await self.files.piece(SealedName(chunk, place.size, place.crc), offset, size)

    async def _distrust(self, chunk: int, place: Place, error: Corrupt, *, is_last: bool) -> None:
        """A chunk was misread. The last time it is set aside, if it is still the same, and `Corrupt` raised."""
        if not is_last:
            self._actor.log.warning("misread", chunk=f"{chunk:016x}", error=str(error))
        elif self.holdings.get(chunk) == place:
            self._actor.log.error("block_corrupt", chunk=f"{chunk:016x}", error=str(error))
            await self._damage(chunk, place)
            raise Corrupt(f"{self.name(chunk)}: {error}") from error

    async def _damage(self, chunk: int, place: Place) -> None:
        self.damaged[chunk] = None
        if place.segment:
            self.segments.lost(chunk)
            return
        file = self.files.take_out(chunk)
        assert file is not None
        await self._keep_aside(file)

    async def durable(self) -> None:
        """Wait until all that is sealed is durable, and its names are."""
        synced, named = self._disk.synced(), self._disk.sync_folder()
        await synced
        await named

    # --- what is not needed, or should not be here
    async def drop(self, chunk: int) -> None:
        """Remove a chunk in whatever state it is."""
        place = self.holdings.get(chunk)
        is_damaged = self.damaged.pop(chunk, self) is None
        while (file := self.files.take_out(chunk)) is not None:
            await self._disk.remove(file)
        if is_damaged or (place is not None and place.segment):
            await self.segments.drop(chunk)

    async def set_aside(self, chunk: int) -> None:
        """Keep a chunk apart, in whatever state it is."""
        place = self.holdings.get(chunk)
        while (file := self.files.take_out(chunk)) is not None:
            await self._keep_aside(file)
        if place is not None and place.segment:
            stored = await self.segments.record_of(place)
            self._aside += 1
            await self._disk.write(f"{ASIDE}/{self._aside:06d}.{chunk:016x}.record", 0, stored)
            await self._disk.synced()
            await self._disk.sync_folder(ASIDE)
            await self.segments.drop(chunk)

    async def _keep_aside(self, file: str) -> None:
        # Numbered, so that nothing that was set aside before is lost.
        self._aside += 1
        try:
            await self._disk.rename(file, f"{ASIDE}/{self._aside:06d}.{file}")
        except FileNotFoundError:
            self._actor.log.error("file_lost", file=file)  # somebody took it away
        await self._disk.sync_folder(ASIDE)
        await self._disk.sync_folder()

    # --- tending
    async def tend(self) -> None:
        """What a store does for itself when it has the time."""
        try:
            await self.segments.tend()
        except Corrupt as error:
            self._actor.log.error("merge_failed", error=str(error))
        suspects, self.segments.suspects = self.segments.suspects, {}
        for chunk in suspects:
            await self.is_whole(chunk)

    async def is_whole(self, chunk: int, offset: int = 0) -> bool:
        """Whether a piece of a chunk is what was written; if not, it was set aside or is gone."""
        try:
            await self.read(chunk, offset, READ_SIZE)
        except (Corrupt, MissingChunk):
            return False
        return True

    def name(self, chunk: int) -> str:
        """A chunk as errors name it."""
        return f"chunk {chunk:016x} on {self._actor.ref.name}"
