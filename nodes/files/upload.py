"""One put of a large file: its chunks go down their chains, and what breaks on the way is mended.

At most `WINDOW` frames are unanswered, over all chunks, so memory does not depend on the size of the file. A chunk
whose frames are all answered is sealed while those of the next one flow. When anything fails, each server of the
chain is asked by itself: reopen under a higher version, take the next frame. Who does both stays; so it need not be
known what failed where. At the end the chunk is copied to new servers in the place of those that went.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

import msgspec

from zactor.errors import AskTimeout, Failure, Refused
from zactor.message import Message, Ref
from zactor.replication.client import Door, Patience, forget, is_there

from .chunks import block_checksums, file_checksum, seal_crc
from .messages import (
    FRAME_SIZE,
    CopyChunk,
    ReopenChunk,
    SealChunk,
    WriteChunk,
    chunk_id,
)
from .names import Names
from .operations import Allocate, Begun, Outcome, Placed, Rechain, SealedChunk
from .source import SourceReader

WINDOW = 32
"""Frames in flight, 8 MiB: 16 are a tenth slower on a real disk, and 64 gain little."""

SEALING_MAX = 2
"""Chunks that are being made durable at a time: a disk that cannot follow must hold the source up."""

FRAME_TIMEOUT_S = 5.0
"""Nobody can renew a session while it waits, so that this and `names.RENEW_S` together are less than a lease."""

SEAL_TIMEOUT_S = 5.0
SEAL_GIVE_UP_S = 60.0
"""A sync of a whole chunk may stand behind those of others on a busy disk: it is asked again, which is harmless."""

REOPEN_TIMEOUT_S = 2.0
"""A server that is there answers at once, and one that does not is done without."""

GO_BACK_S = 5.0
"""A chunk whose servers are all away is begun again after so long elsewhere, if its source can be read again."""

COPY_TIMEOUT_S = 120.0
LOOK_S = 0.01
LOOK_S_MAX = 0.5
"""While a copy is made it is looked so often whether it is there, since the session has to be renewed meanwhile."""

Progress: TypeAlias = Callable[[int], None]
"""Called with the bytes so far: those that all of a chain took, or those that came and were verified."""


class Lost(Exception):
    """All copies of a chunk that is being written are gone; it begins again, if the source can."""

    def __init__(self, chunk: ChunkWrite, because: Failure) -> None:
        super().__init__(str(because))
        self.chunk = chunk
        self.because = because


class Frame(msgspec.Struct, eq=False):
    """Bytes of a chunk that are not answered yet."""

    chunk: ChunkWrite
    offset: int
    content: bytes
    checksums: tuple[int, ...]
    answer: Awaitable[None] | None = None

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.offset + len(self.content)


class ChunkWrite(msgspec.Struct, eq=False):
    """A chunk that is being written: `size` bytes were sent, `taken` of them answered by all of its servers."""

    id: int
    index: int
    start: int  # in the file
    version: int
    servers: tuple[str, ...]
    checksums: list[int] = msgspec.field(default_factory=list)  # until it is full
    size: int = 0
    taken: int = 0
    is_full: bool = False
    crc: int = 0  # what it is sealed with, once it is full
    avoid: tuple[str, ...] = ()  # those that failed
    sealing: Awaitable[None] | None = None
    is_sealed: bool = False

    def fill(self) -> None:
        """Nothing follows."""
        self.is_full, self.crc = True, seal_crc(self.checksums)
        self.checksums.clear()

    def chain(self) -> tuple[Ref[Any], tuple[Ref[Any], ...]]:
        """The server to ask, and those behind it."""
        head, *behind = refs(self.servers)
        return head, tuple(behind)


class Upload:
    """Sends a source. When `run` returns all of its chunks are sealed on as many servers as they should be on."""

    def __init__(
        self,
        door: Door,
        names: Names,
        begun: Begun,
        size: int | None,
        reader: SourceReader,
        progress: Progress | None,
    ) -> None:
        self._door = door
        self._names = names
        self._session = names.session
        self._begun = begun
        self._expected = size
        self._reader = reader
        self._progress = progress
        self._patience = Patience(door)
        self._inode = begun.inodes[0]
        self._places: dict[int, Placed] = {0: begun.places[0]}
        self._begun_before: set[int] = set()
        self._ahead: Awaitable[list[Outcome]] | None = None  # the place of the next chunk
        self._window: deque[Frame] = deque()
        self._chunks: list[ChunkWrite] = []
        self._unfinished: deque[ChunkWrite] = deque()
        self._furthest = 0

    async def run(self) -> tuple[tuple[SealedChunk, ...], int, int]:
        """Send all. Returns the chunks, the size and the checksum of the file."""
        try:
            while True:
                try:
                    await self._send_all()
                    break
                except Lost as lost:
                    await self._go_back(lost)
        except Exception:
            await self._settle()
            raise
        except BaseException:  # cancelled: nothing can be awaited any more
            for answer in self._under_way(0):
                forget(answer)
            raise
        chunks = tuple(SealedChunk(each.size, each.crc, each.version, each.servers) for each in self._chunks)
        return chunks, sum(each.size for each in chunks), file_checksum([each.crc for each in chunks])

    async def _keep_alive(self) -> None:
        await self._names.hold(self._session)

    # --- the straight way
    async def _send_all(self) -> None:
        size = self._begun.chunk_size
        while piece := await self._reader.read(min(FRAME_SIZE, size)):
            chunk = await self._next_chunk()
            while piece:
                await self._send(chunk, piece)
                piece = await self._reader.read(min(FRAME_SIZE, size - chunk.size)) if chunk.size < size else b""
                if 2 * chunk.size >= size and self._goes_on(chunk):
                    self._allocate_ahead(chunk.index + 1)
            chunk.fill()
            self._seal_if_taken(chunk)
        while self._window:
            await self._take_answer()
        while self._unfinished:
            await self._finish_first()

    def _goes_on(self, chunk: ChunkWrite) -> bool:
        """Whether another chunk is likely to follow."""
        return self._expected is None or self._expected > chunk.start + self._begun.chunk_size

    def _allocate_ahead(self, index: int) -> None:
        if index not in self._places and self._ahead is None:
            self._ahead = self._names.change_all((self._allocation(index),))

    def _allocation(self, index: int) -> Allocate:
        size = self._begun.chunk_size
        left = size if self._expected is None else self._expected - index * size
        return Allocate(self._inode, index, min(left, size) if left > 0 else size)  # it may have grown meanwhile

    async def _next_chunk(self) -> ChunkWrite:
        index = len(self._chunks)
        place = await self._place(index)
        if index in self._begun_before:  # what it got then is behind a lower version
            rechain = Rechain(self._inode, index, place.version, (), self._begun.copies)
            place = self._places[index] = await self._names.place(rechain)
        self._begun_before.add(index)
        start = index * self._begun.chunk_size
        chunk = ChunkWrite(chunk_id(self._inode, index), index, start, place.version, place.servers)
        if len(self._unfinished) > SEALING_MAX:
            await self._finish_first()
        self._chunks.append(chunk)
        self._unfinished.append(chunk)
        return chunk

    async def _place(self, index: int) -> Placed:
        if index not in self._places and self._ahead is not None:
            answer, self._ahead = self._ahead, None
            (outcome,) = await answer
            if isinstance(outcome, Placed):
                self._places[index] = outcome
        if index not in self._places:
            self._places[index] = await self._names.place(self._allocation(index))
        return self._places[index]

    async def _send(self, chunk: ChunkWrite, content: bytes) -> None:
        while len(self._window) >= WINDOW:
            await self._take_answer()
        frame = Frame(chunk, chunk.size, content, block_checksums(content))
        chunk.size = frame.end
        chunk.checksums += frame.checksums
        self._ask(frame)
        self._window.append(frame)

    def _ask(self, frame: Frame) -> None:
        head, chain = frame.chunk.chain()
        frame.answer = self._door.ask(head, _write(frame, chain), FRAME_TIMEOUT_S)

    async def _take_answer(self) -> None:
        frame = self._window[0]
        assert frame.answer is not None, "what is in the window was asked"
        try:
            await frame.answer
        except Failure as error:
            await self._mend(frame.chunk, error)
            return
        self._window.popleft()
        await self._took(frame.chunk, frame.end)

    async def _took(self, chunk: ChunkWrite, end: int) -> None:
        chunk.taken = max(chunk.taken, end)
        done = chunk.start + chunk.taken
        if done > self._furthest:  # what is sent again is no progress
            self._furthest = done
            self._patience.progress()
            if self._progress is not None:
                self._progress(done)
        await self._keep_alive()
        self._seal_if_taken(chunk)

    def _seal_if_taken(self, chunk: ChunkWrite) -> None:
        # Not earlier: a seal is small, and may overtake frames on their way.
        if chunk.is_full and chunk.taken == chunk.size and chunk.sealing is None and not chunk.is_sealed:
            head, chain = chunk.chain()
            chunk.sealing = self._door.ask(head, _seal(chunk, chain), SEAL_TIMEOUT_S)

    async def _finish_first(self) -> None:
        """Wait until the oldest chunk is whole on as many servers as it should be."""
        chunk = self._unfinished[0]
        while not chunk.is_sealed:
            if chunk.sealing is None:
                await self._take_answer()
                continue
            await self._sealed(chunk, chunk.sealing)
        await self._keep_alive()
        if len(chunk.servers) < self._begun.copies:
            await self._copy(chunk)
        self._unfinished.popleft()

    async def _sealed(self, chunk: ChunkWrite, answer: Awaitable[None]) -> None:
        patience = Patience(self._door, SEAL_GIVE_UP_S)
        while True:
            try:
                await answer
            except AskTimeout as error:
                await self._keep_alive()
                if not patience.left_s:
                    return await self._mend(chunk, error)
                head, chain = chunk.chain()
                answer = chunk.sealing = self._door.ask(head, _seal(chunk, chain), SEAL_TIMEOUT_S)
            except Failure as error:
                return await self._mend(chunk, error)
            else:
                chunk.sealing, chunk.is_sealed = None, True
                return None

    # --- what went wrong
    async def _mend(self, chunk: ChunkWrite, because: Failure) -> None:
        """Go on with those servers that can. Raises `Lost` when the chunk is nowhere."""
        chunk.sealing = None
        frames = [frame for frame in self._window if frame.chunk is chunk]
        self._window = deque(frame for frame in self._window if frame.chunk is not chunk)
        for frame in frames:
            if await _is_done(frame.answer):
                chunk.taken = max(chunk.taken, frame.end)
        frames = [frame for frame in frames if frame.end > chunk.taken]
        await self._rechain(chunk, frames[0] if frames else None, because)
        for frame in frames[1:]:
            self._ask(frame)
        self._window.extendleft(reversed(frames[1:]))
        await self._took(chunk, frames[0].end if frames else chunk.taken)

    async def _rechain(self, chunk: ChunkWrite, frame: Frame | None, because: Failure) -> None:
        """Raise the version, and go on with the servers that do the next step under it: a frame, or the seal."""
        patience = Patience(self._door, GO_BACK_S) if self._reader.can_go_back else self._patience
        while True:
            await self._keep_alive()
            keep = chunk.servers if chunk.taken or not chunk.avoid else ()
            add = 0 if keep else self._begun.copies
            place = await self._names.place(Rechain(self._inode, chunk.index, chunk.version, keep, add))
            chunk.version, servers = place.version, place.servers
            problems = await self._step(chunk, servers, frame)
            staying = tuple(server for server in servers if server not in problems)
            chunk.avoid = tuple(problems)
            if staying:
                chunk.servers = staying
                chunk.is_sealed = frame is None and chunk.is_full
                return
            error = next(iter(problems.values()))
            if chunk.taken and all(isinstance(problem, Refused) for problem in problems.values()):
                # Who has no room drops what was begun, so that is gone, too: the first failure says why.
                raise Lost(chunk, because if isinstance(because, Refused) else error)
            try:
                await patience.pause(error)
            except Failure:
                raise Lost(chunk, error) from None

    async def _step(self, chunk: ChunkWrite, servers: tuple[str, ...], frame: Frame | None) -> dict[str, Failure]:
        """Have each server alone reopen the chunk and do the next step. Returns the failures of those that did not."""
        problems: dict[str, Failure] = {}
        if chunk.taken:
            reopen = ReopenChunk(chunk=chunk.id, version=chunk.version, size=chunk.taken)
            problems = await ask_each(self._door, servers, reopen, REOPEN_TIMEOUT_S)
            servers = tuple(server for server in servers if server not in problems)
            await self._keep_alive()
        if frame is not None:
            problems |= await ask_each(self._door, servers, _write(frame, ()), FRAME_TIMEOUT_S)
        elif chunk.is_full:
            problems |= await ask_each(self._door, servers, _seal(chunk, ()), SEAL_TIMEOUT_S)
        return problems

    async def _copy(self, chunk: ChunkWrite) -> None:
        """Have a sealed chunk copied to new servers, until there are as many as there should be."""
        patience = Patience(self._door)
        while (missing := self._begun.copies - len(chunk.servers)) > 0:
            await self._keep_alive()
            rechain = Rechain(self._inode, chunk.index, chunk.version, chunk.servers, missing, chunk.avoid)
            place = await self._names.replace(rechain)
            chunk.version = place.version
            newcomers = tuple(server for server in place.servers if server not in chunk.servers)
            sources = refs(chunk.servers)
            copy = CopyChunk(chunk=chunk.id, size=chunk.size, crc=chunk.crc, sources=sources)
            problems = await ask_each(self._door, newcomers, copy, COPY_TIMEOUT_S, self._keep_alive)
            chunk.servers += tuple(server for server in newcomers if server not in problems)
            if problems:
                chunk.avoid = tuple(problems)
                await patience.pause(next(iter(problems.values())))

    async def _go_back(self, lost: Lost) -> None:
        """Begin again with the chunk that was lost. Those before it go on."""
        first = lost.chunk.index
        await self._settle(first)
        if not self._reader.can_go_back:
            raise lost.because
        await self._patience.pause(lost.because)
        for chunk in self._chunks[first:]:
            self._places[chunk.index] = Placed(chunk.version, chunk.servers)
        del self._chunks[first:]
        self._unfinished = deque(chunk for chunk in self._unfinished if chunk.index < first)
        self._reader.go_back(lost.chunk.start)

    async def _settle(self, first: int = 0) -> None:
        """Wait for asks about chunks from the `first` on, whose answers are of no use any more."""
        answers = self._under_way(first)
        self._window = deque(frame for frame in self._window if frame.chunk.index < first)
        self._ahead = None
        for answer in answers:
            await _is_done(answer)

    def _under_way(self, first: int) -> list[Awaitable[Any] | None]:
        """The asks about chunks from the `first` on."""
        answers: list[Awaitable[Any] | None] = [] if self._ahead is None else [self._ahead]
        answers += [frame.answer for frame in self._window if frame.chunk.index >= first]
        return answers + [chunk.sealing for chunk in self._unfinished if chunk.index >= first]


def refs(servers: Iterable[str]) -> tuple[Ref[Any], ...]:
    """Those servers, to be asked."""
    return tuple([Ref(server) for server in servers])


async def ask_each(
    door: Door,
    servers: Iterable[str],
    message: Message[Any],
    timeout_s: float,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
) -> dict[str, Failure]:
    """Ask several servers the same at once. Returns the failures of those that failed.

    With `meanwhile`, which is called now and then, the answers may take long.
    """
    asked = [(server, door.ask(Ref(server), message, timeout_s)) for server in servers]
    problems: dict[str, Failure] = {}
    for server, answer in asked:
        pause_s = LOOK_S
        while meanwhile is not None and not is_there(answer):
            await door.sleep(pause_s)
            pause_s = min(2 * pause_s, LOOK_S_MAX)
            await meanwhile()
        try:
            await answer
        except Failure as error:
            problems[server] = error
    return problems


async def _is_done(answer: Awaitable[Any] | None) -> bool:
    if answer is None:
        return False
    try:
        await answer
    except Failure:
        return False
    return True


def _write(frame: Frame, chain: tuple[Ref[Any], ...]) -> WriteChunk:
    return WriteChunk(
        chunk=frame.chunk.id,
        version=frame.chunk.version,
        chain=chain,
        offset=frame.offset,
        content=frame.content,
        checksums=frame.checksums,
    )


def _seal(chunk: ChunkWrite, chain: tuple[Ref[Any], ...]) -> SealChunk:
    return SealChunk(chunk=chunk.id, version=chunk.version, chain=chain, size=chunk.size, crc=chunk.crc)
