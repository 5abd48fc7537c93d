"""A file system to its users: put, get, list, remove, from inside an actor or from any program.

It talks through a door, which is whatever has an `ask` that is under way as soon as it is called: an actor's
`self`, or a client of a running topology. So it needs no event loop of its own, and a window of asks is a queue
of awaitables. At most `WINDOW` pieces are in flight, so memory does not depend on the size of a file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeAlias, TypeVar

from crc32c import crc32c

from zactor.errors import Corrupt, Failure
from zactor.message import Message, Ref

from .chunks import bad_block
from .messages import (
    BLOCK_SIZE,
    PIECE_SIZE,
    Abandon,
    Allocate,
    Begin,
    Begun,
    Commit,
    Entry,
    Item,
    ListFolder,
    Lookup,
    MissingChunk,
    NotFound,
    Piece,
    Place,
    ReadChunk,
    Remove,
    Renew,
    Replaced,
    SealChunk,
    StoredChunk,
    WriteChunk,
)
from .namespace import check_path

A = TypeVar("A")

WINDOW = 16
"""Pieces in flight: 4 MiB, beyond which a put to a real disk gains little."""

RENEW_PIECES = 32
"""A put renews its lease each 8 MiB, so that a chunk on a slow way does not outlast it."""

TIMEOUT_S = 30.0
SEAL_TIMEOUT_S = 120.0
"""A sync of a whole chunk may stand behind those of others on a busy disk."""

Progress: TypeAlias = Callable[[int], None]
"""Called with the bytes so far: those that a server took, or those that came and were verified."""


class Door(Protocol):
    """What the client asks through."""

    def ask(self, target: Ref[Any], message: Message[A], timeout_s: float = 5.0) -> Awaitable[A]:
        """Send at once; the answer or the failure is at the await."""


class Readable(Protocol):
    """A file opened for reading, in binary."""

    def read(self, size: int, /) -> bytes | None:
        """Up to `size` bytes; none at the end."""


class Writable(Protocol):
    """A file opened for writing, in binary and buffered: it takes all that it is given."""

    def write(self, content: bytes, /) -> object:
        """Take all of it."""


Source: TypeAlias = Readable | Iterable[bytes] | AsyncIterable[bytes]


class FilesClient:
    """The files of one metadata server.

    Its methods raise the refusals of `nodes.files.messages`, and the failures of any ask, such as `AskTimeout`.
    """

    def __init__(self, door: Door, metadata: Ref[Any]) -> None:
        self._door = door
        self._metadata = metadata

    async def put(
        self, source: Source, path: str, *, size: int | None = None, progress: Progress | None = None
    ) -> Entry:
        """Store what `source` gives under `path`, replacing a file that is there. It appears whole or not at all.

        `size` in bytes, if it is known, lets a file that does not fit be refused before it is sent. When the
        failure is that of the last ask (`ConnectionLost`, `AskTimeout`), the file may have appeared all the same.
        """
        check_path(path)
        begun = await self._door.ask(self._metadata, Begin(path=path, size=size), TIMEOUT_S)
        upload = _Upload(self._door, self._metadata, begun, size, progress)
        try:
            entry = await upload.run(source)
            return await self._door.ask(self._metadata, Commit(token=begun.token, entry=entry), SEAL_TIMEOUT_S)
        except Exception as error:
            await self._abandon(begun, error)
            raise

    async def get(self, path: str, sink: Writable, *, progress: Progress | None = None) -> Entry:
        """Write the content of a file to `sink`, each block of it verified.

        Raises `NotFound`, `Replaced` when it changed meanwhile, and `Corrupt`, with chunk, server and block,
        after which what `sink` got is of no use.
        """
        check_path(path)
        entry = await self._door.ask(self._metadata, Lookup(path=path), TIMEOUT_S)
        try:
            crc = await self._fetch(entry, sink, progress)
        except MissingChunk as error:
            if await self._is_still(path, entry):
                raise Corrupt(f"{path}: {error}") from error
            raise Replaced(f"{path} was replaced or removed while it was being read") from error
        if crc != entry.crc:
            raise Corrupt(f"{path}: its chunks are whole, but together they are not what was put")
        return entry

    async def list(self, path: str = "/") -> AsyncIterator[Item]:
        """The sorted names directly below a folder, or a file's own name. Raises `BadPath` or `NotFound`."""
        after = ""
        while True:
            message = ListFolder(path=path, after=after)
            page = await self._door.ask(self._metadata, message, TIMEOUT_S)
            for item in page.items:
                yield item
            if not page.more:
                return
            after = page.items[-1].name

    async def remove(self, path: str) -> None:
        """Take a file away. Raises `BadPath` or `NotFound`."""
        check_path(path)
        await self._door.ask(self._metadata, Remove(path=path), TIMEOUT_S)

    async def _abandon(self, begun: Begun, error: Exception) -> None:
        try:
            await self._door.ask(self._metadata, Abandon(token=begun.token), TIMEOUT_S)
        except Failure as problem:
            error.add_note(f"what was stored is dropped when the lease ends; sooner failed with: {problem}")

    async def _is_still(self, path: str, entry: Entry) -> bool:
        try:
            return await self._door.ask(self._metadata, Lookup(path=path), TIMEOUT_S) == entry
        except NotFound:
            return False

    async def _fetch(self, entry: Entry, sink: Writable, progress: Progress | None) -> int:
        """Write all chunks to the sink. Returns the checksum of all bytes."""
        crc = done = 0
        window: deque[tuple[StoredChunk, int, Awaitable[Piece]]] = deque()
        try:
            for stored, offset in _pieces(entry):
                if len(window) == WINDOW:
                    crc, done = await _receive(window, sink, crc, done, progress)
                message = ReadChunk(chunk=stored.chunk, offset=offset, size=min(PIECE_SIZE, stored.size - offset))
                window.append((stored, offset, self._door.ask(Ref(stored.server), message, TIMEOUT_S)))
            while window:
                crc, done = await _receive(window, sink, crc, done, progress)
        except Exception:
            await _settle(answer for _, _, answer in window)
            raise
        return crc


def _pieces(entry: Entry) -> Iterable[tuple[StoredChunk, int]]:
    for stored in entry.chunks:
        for offset in range(0, stored.size, PIECE_SIZE):
            yield stored, offset


async def _receive(
    window: deque[tuple[StoredChunk, int, Awaitable[Piece]]],
    sink: Writable,
    crc: int,
    done: int,
    progress: Progress | None,
) -> tuple[int, int]:
    """Take the oldest piece of the window. Returns checksum and size of all bytes so far."""
    stored, offset, answer = window.popleft()
    piece = await answer
    where = f"chunk {stored.chunk:016x} from {stored.server}"
    if len(piece.content) != min(PIECE_SIZE, stored.size - offset):
        raise Corrupt(f"{where}: {len(piece.content)} bytes at {offset}; it should have {stored.size}")
    wrong = bad_block(piece.content, piece.checksums)
    if wrong is not None:
        raise Corrupt(f"{where}: block {offset // BLOCK_SIZE + wrong} changed on its way")
    sink.write(piece.content)
    done += len(piece.content)
    if progress is not None:
        progress(done)
    return crc32c(piece.content, crc), done


async def _settle(answers: Iterable[Awaitable[Any]]) -> None:
    """Wait for asks whose answers are of no use any more: their failure follows from one that was raised."""
    for answer in answers:
        try:
            await answer
        except Failure:
            continue


class _Upload:
    """One put: pieces go out, and no more than a window of them is unanswered."""

    def __init__(
        self, door: Door, metadata: Ref[Any], begun: Begun, size: int | None, progress: Progress | None
    ) -> None:
        self._door = door
        self._metadata = metadata
        self._begun = begun
        self._expected = size
        self._progress = progress
        self._window: deque[tuple[int, Awaitable[None]]] = deque()
        self._chunks: list[StoredChunk] = []
        self._size = self._crc = self._taken = self._sent = 0

    async def run(self, source: Source) -> Entry:
        """Send all of the source; the entry to commit when it returns."""
        reader = _Reader(source)
        try:
            piece = await reader.read(min(PIECE_SIZE, self._begun.chunk_size))
            while piece:
                piece = await self._send_chunk(piece, reader)
            while self._window:
                await self._take_answer()
        except Exception:
            await _settle(answer for _, answer in self._window)
            raise
        return Entry(self._size, self._crc, tuple(self._chunks))

    async def _send_chunk(self, piece: bytes, reader: _Reader) -> bytes:
        """Send one chunk that begins with `piece`, and ask to seal it. Returns the piece behind it."""
        place = await self._allocate()
        server: Ref[Any] = Ref(place.server)
        size = crc = 0
        while piece and size < self._begun.chunk_size:
            content = WriteChunk(chunk=place.chunk, offset=size, content=piece, crc=crc32c(piece))
            await self._send(server, content, len(piece), TIMEOUT_S)
            size += len(piece)
            crc = crc32c(piece, crc)
            self._crc = crc32c(piece, self._crc)
            left = self._begun.chunk_size - size
            piece = await reader.read(min(PIECE_SIZE, left or self._begun.chunk_size))
        # Not waited for here: while this one is being synced, the next goes to another server.
        await self._send(server, SealChunk(chunk=place.chunk, size=size, crc=crc), 0, SEAL_TIMEOUT_S)
        self._chunks.append(StoredChunk(place.chunk, place.server, size, crc))
        self._size += size
        return piece

    async def _allocate(self) -> Place:
        size = None if self._expected is None else max(self._expected - self._size, 0) or None
        return await self._door.ask(self._metadata, Allocate(token=self._begun.token, size=size), TIMEOUT_S)

    async def _send(self, server: Ref[Any], message: Message[None], size: int, timeout_s: float) -> None:
        while len(self._window) >= WINDOW:
            await self._take_answer()
        self._window.append((size, self._door.ask(server, message, timeout_s)))
        self._sent += 1
        if self._sent % RENEW_PIECES == 0:
            await self._door.ask(self._metadata, Renew(token=self._begun.token), TIMEOUT_S)

    async def _take_answer(self) -> None:
        size, answer = self._window.popleft()
        await answer
        self._taken += size
        if self._progress is not None and size:
            self._progress(self._taken)


class _Reader:
    """A source of any kind, read in pieces of the size that one asks for."""

    def __init__(self, source: Source) -> None:
        self._file = source if hasattr(source, "read") else None
        self._chunks = None if self._file is not None else _as_async(source)  # type: ignore[arg-type]
        self._rest = bytearray()

    async def read(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end."""
        while len(self._rest) < size:
            more = await self._more(size - len(self._rest))
            if not more:
                break
            self._rest += more
        piece = bytes(memoryview(self._rest)[:size])
        del self._rest[:size]
        return piece

    async def _more(self, size: int) -> bytes:
        if self._file is not None:
            return self._file.read(size) or b""
        assert self._chunks is not None
        async for content in self._chunks:
            if content:
                return content
        return b""


async def _as_async(source: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(source, AsyncIterable):
        async for content in source:
            yield content
    else:
        for content in source:
            yield content
