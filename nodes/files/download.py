"""Reading chunks: from any copy, each block verified by who reads, in order, a window ahead.

What is right is said by the namespace: the checksum of a chunk, which is that of its blocks' checksums. So no file
server has to be trusted. Any failure of one copy leads to the next; when all have failed, it is waited for servers
that come back, until nothing came for 30 s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from zactor.errors import Corrupt, Failure, Refused
from zactor.message import Ref
from zactor.replication.client import Door, Patience, forget

from .chunks import bad_block, block_count, seal_crc, unpack_checksums
from .messages import BLOCK_SIZE, READ_SIZE, Piece, ReadChecksums, ReadChunk
from .operations import Chunk

WINDOW = 8
"""Pieces in flight, 8 MiB: one is half as fast, more gain nothing."""

READ_TIMEOUT_S = 5.0

KNOWN_MAX = 256
"""Chunks whose checksums are kept, 4 KiB each at most: who reads here and there asks for them once."""

Locate = Callable[[Chunk], Awaitable[Chunk]]
"""Says anew where a chunk is, when no server had it; or raises what is to be raised for it."""

Take = Callable[[bytes], Awaitable[None]]


class Copies:
    """What a client has learned of the file servers: who failed lately, and verified checksums."""

    def __init__(self) -> None:
        self.suspects: dict[str, None] = {}
        self._known: dict[int, tuple[int, ...]] = {}

    def choose(self, servers: Sequence[str], turn: int) -> int:
        """The index of the copy to ask, taking turns, and passing over who failed lately."""
        for step in range(len(servers)):
            index = (turn + step) % len(servers)
            if servers[index] not in self.suspects:
                return index
        return turn % len(servers)

    def checksums(self, chunk: int) -> tuple[int, ...] | None:
        """Those of a chunk's blocks, if they are known."""
        return self._known.get(chunk)

    def learn(self, chunk: int, checksums: tuple[int, ...]) -> None:
        """They are what the namespace says."""
        self._known[chunk] = checksums
        while len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]


class Request(msgspec.Struct, eq=False):
    """A piece that was asked for. `start` is where it stands in the file, `copy` which server was asked."""

    chunk: Chunk
    start: int
    offset: int
    size: int
    copy: int = 0
    answer: Awaitable[Piece] | None = None
    checksums: Awaitable[bytes] | None = None

    @property
    def server(self) -> str:
        """The server that was asked."""
        return self.chunk.servers[self.copy]

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its chunk."""
        return self.size == self.chunk.size


class Download:
    """Reads a part of a file, from `start` to `end`."""

    def __init__(self, door: Door, copies: Copies, locate: Locate) -> None:
        self._door = door
        self._copies = copies
        self._locate = locate
        self._patience = Patience(door)

    async def run(self, chunks: Iterable[Chunk], start: int, end: int, take: Take) -> None:
        """Give the verified bytes to `take`, in order. Raises `Corrupt` when all copies are wrong."""
        window: deque[Request] = deque()
        asked = 0
        try:
            for request in _requests(chunks, start, end):
                if len(window) == WINDOW:
                    await self._receive(window, start, end, take)
                if request.chunk.chunk != asked and not request.is_whole:
                    self._ask_checksums(request)
                asked = request.chunk.chunk
                self._ask(request, asked)
                window.append(request)
            while window:
                await self._receive(window, start, end, take)
        except Exception:
            await _settle(window)
            raise
        except BaseException:  # cancelled: nothing can be awaited any more
            for request in window:
                forget(request.answer)
                forget(request.checksums)
            raise

    async def _receive(self, window: deque[Request], start: int, end: int, take: Take) -> None:
        content = await self._verified(window[0])
        request = window.popleft()
        await take(content[max(0, start - request.start) : end - request.start])

    def _ask(self, request: Request, turn: int) -> None:
        if not request.chunk.servers:
            return
        request.copy = self._copies.choose(request.chunk.servers, turn)
        message = ReadChunk(chunk=request.chunk.chunk, offset=request.offset, size=request.size)
        request.answer = self._door.ask(Ref(request.server), message, READ_TIMEOUT_S)

    def _ask_checksums(self, request: Request) -> None:
        if request.chunk.servers and self._copies.checksums(request.chunk.chunk) is None:
            request.copy = self._copies.choose(request.chunk.servers, request.chunk.chunk)
            message = ReadChecksums(chunk=request.chunk.chunk)
            request.checksums = self._door.ask(Ref(request.server), message, READ_TIMEOUT_S)

    async def _verified(self, request: Request) -> bytes:
        """The bytes of a piece, from whichever copy has them right."""
        failures: list[Failure] = []
        while True:
            try:
                if not request.chunk.servers:
                    raise Corrupt(f"chunk {request.chunk.chunk:016x} has no copy")
                await self._know_checksums(request)
                assert request.answer is not None, "it was asked"
                content = self._check(request, await request.answer)
            except Failure as error:
                await self._try_another(request, failures, error)
            else:
                self._copies.suspects.pop(request.server, None)
                self._patience.progress()
                return content

    async def _know_checksums(self, request: Request) -> None:
        answer, request.checksums = request.checksums, None
        chunk = request.chunk
        if request.is_whole or self._copies.checksums(chunk.chunk) is not None:
            await _done_with(answer)
            return
        if answer is None:
            answer = self._door.ask(Ref(request.server), ReadChecksums(chunk=chunk.chunk), READ_TIMEOUT_S)
        checksums = unpack_checksums(await answer)
        if len(checksums) != block_count(chunk.size) or seal_crc(checksums) != chunk.crc:
            raise Corrupt(f"chunk {chunk.chunk:016x} from {request.server}: it is another one than the namespace says")
        self._copies.learn(chunk.chunk, checksums)

    def _check(self, request: Request, piece: Piece) -> bytes:
        chunk, first = request.chunk, request.offset // BLOCK_SIZE
        where = f"chunk {chunk.chunk:016x} from {request.server}"
        if len(piece.content) != request.size:
            raise Corrupt(f"{where}: {len(piece.content)} bytes at {request.offset}; expected {request.size}")
        known = self._copies.checksums(chunk.chunk)
        right = piece.checksums if known is None else known[first : first + block_count(request.size)]
        if known is None and seal_crc(right) != chunk.crc:
            raise Corrupt(f"{where}: it is another one than the namespace says")
        wrong = bad_block(piece.content, right)
        if wrong is not None:
            raise Corrupt(f"{where}: block {first + wrong} is not what was put")
        return piece.content

    async def _try_another(self, request: Request, failures: list[Failure], error: Failure) -> None:
        """Ask the next copy. After a round in which all failed it is looked where they are by now."""
        failures.append(error)
        if request.chunk.servers:
            self._copies.suspects[request.server] = None
        if len(failures) >= len(request.chunk.servers):
            located = await self._locate(request.chunk)
            if located == request.chunk and all(isinstance(each, Refused) for each in failures):
                raise next((each for each in failures if isinstance(each, Corrupt)), error)
            await self._patience.pause(error)
            failures.clear()
            request.chunk = located
        self._ask(request, request.copy + 1)


def _requests(chunks: Iterable[Chunk], start: int, end: int) -> Iterator[Request]:
    """The pieces that hold the bytes from `start` to `end`; they begin with a block."""
    begin = 0
    for chunk in chunks:
        first = max(start - begin, 0) // BLOCK_SIZE * BLOCK_SIZE
        last = min(chunk.size, block_count(end - begin) * BLOCK_SIZE)
        for offset in range(first, last, READ_SIZE):
            yield Request(chunk, begin + offset, offset, min(READ_SIZE, last - offset))
        begin += chunk.size
        if begin >= end:
            return


async def _settle(window: Iterable[Request]) -> None:
    """Wait for asks whose answers are of no use any more."""
    for request in window:
        await _done_with(request.answer)
        await _done_with(request.checksums)


async def _done_with(answer: Awaitable[Any] | None) -> None:
    if answer is not None:
        try:
            await answer
        except Failure:
            return
