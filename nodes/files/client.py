"""A file system to its users: put, get, list, rename, remove, from inside an actor or from any program.

It talks through a door (`zactor.replication.client.Door`): an actor's `self`, or an `AsyncClient`. All changes of
names go through one session, so each happens exactly once, and what a client holds (puts under way, pins) is free
when it is silent for the lease, 8 s. So who holds a `Reader` for long without reading calls `renew` now and then.
Many coroutines may use one client at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, Protocol, Self, TypeAlias

from zactor.errors import Failure
from zactor.message import Ref
from zactor.replication.client import Door

from .chunks import block_checksums, seal_crc, unpack_checksums
from .download import Copies, Download, Take
from .messages import READ_SIZE, SMALL_SIZE_MAX, IsAFolder, NotAFolder, NotFound, ReadChecksums, ReadChunk, Replaced
from .names import Names
from .operations import (
    Abandon,
    Chunk,
    Commit,
    Content,
    Create,
    Done,
    GetPage,
    GetProblems,
    GetSpace,
    GetStat,
    MakeFolder,
    MakeLink,
    Operation,
    Outcome,
    Page,
    Pin,
    Problem,
    Problems,
    Remove,
    Rename,
    SetMode,
    Space,
    Stat,
    Unpin,
)
from .small import SmallFiles
from .source import Source, SourceReader
from .upload import Progress, Upload

Outcomes: TypeAlias = list[Outcome]

CHECKSUMS_TIMEOUT_S = 10.0


class Writable(Protocol):
    """A file opened for writing, in binary and buffered: it takes all that it is given."""

    def write(self, content: bytes, /) -> object:
        """Take all of it."""


class FilesClient:
    """The files of one metadata server, or of whoever answers `Submit` and `Query` in its place.

    Its methods raise the refusals of `nodes.files.messages`. What gets no answer is tried again for 30 s; then they
    raise the failure of the last attempt, such as `ConnectionLost`, or `OutcomeUnknown` for a change that may have
    been made. Paths are absolute.
    """

    def __init__(self, door: Door, metadata: Ref[Any]) -> None:
        self._door = door
        self._names = Names(door, metadata)
        self._small = SmallFiles(door, self._names)
        self._copies = Copies()

    # --- content
    async def put(
        self,
        source: Source,
        path: str,
        *,
        size: int | None = None,
        mode: int | None = None,
        replace: bool = True,
        progress: Progress | None = None,
    ) -> Stat:
        """Store what `source` gives under `path`. It appears whole or not at all, in the place of any that is there.

        `size` in bytes, if it is known, lets a file that does not fit be refused before it is sent. The put goes on
        when file servers die, as long as a copy of each chunk is left, or `source` can `seek`. An async source that
        has nothing for seconds yields `b""` from time to time, which keeps the put alive. `mode` None: that of the
        file that is replaced, or 0o644. Raises `NoRoom`, `AlreadyExists` (without `replace`), `NotFound` when its
        folder is not there, and `OutcomeUnknown` when it may have appeared all the same.
        """
        reader = SourceReader(source, self._names.keep_alive)
        if size is None or size <= SMALL_SIZE_MAX:
            head = await reader.read(SMALL_SIZE_MAX + 1)
            if len(head) <= SMALL_SIZE_MAX:
                stat = await self._small.put(head, path, mode, replace)
                if progress is not None:
                    progress(len(head))
                return stat
            reader.give_back(head)
        begun = await self._names.begin((size,))
        (inode,) = begun.inodes
        upload = Upload(self._door, self._names, begun, size, reader, progress)
        try:
            chunks, total, checksum = await upload.run()
            return await self._names.change(Commit(inode, path, total, checksum, chunks, mode, replace), Stat)
        except Exception as error:
            await self._names.abandon(inode, error)
            raise
        except BaseException:  # cancelled: nothing can be awaited any more
            self._names.later(Abandon(inode))
            raise

    async def get(self, path: str, sink: Writable, *, offset: int = 0, progress: Progress | None = None) -> Stat:
        """Write a file from `offset` on to `sink`: only verified bytes, in order, of one version.

        `progress` counts from the file's beginning. Raises `Replaced` when that version went away in the meantime,
        and `Corrupt` when no copy of a chunk is right.
        """
        small = await self._read_small(path)
        if small is not None:
            stat, content = small
            sink.write(content[offset:])
            if progress is not None:
                progress(stat.size)
            return stat
        done = offset

        async def take(piece: bytes) -> None:
            nonlocal done
            sink.write(piece)
            done += len(piece)
            if progress is not None:
                progress(done)

        async with await self.open(path) as reader:
            await reader.stream(offset, reader.stat.size, take)
            return reader.stat

    async def open(self, path: str) -> Reader:
        """Begin to read a file: its content stays as it is now until the reader is closed."""
        content = await self._names.change(Pin(path), Content)
        return Reader(self._door, self._names, self._copies, path, content)

    async def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        """Up to `size` bytes of a file from `offset` on; None: all. They are in memory at once."""
        small = await self._read_small(path)
        if small is not None:
            return small[1][offset:] if size is None else small[1][offset : offset + size]
        async with await self.open(path) as reader:
            return await reader.read(offset, reader.stat.size if size is None else size)

    async def _read_small(self, path: str) -> tuple[Stat, bytes] | None:
        """A whole file of one piece, which needs no pin: if it is replaced, the new one is read. None: it is larger."""
        while True:
            content = await self._names.content(path)
            if content.stat.size > READ_SIZE:
                return None
            reader = Reader(self._door, self._names, self._copies, path, content, is_pinned=False)
            try:
                return content.stat, await reader.read(0, content.stat.size)
            except Replaced:
                continue

    async def content(self, path: str) -> Content:
        """A file and where its chunks are. Raises `IsAFolder`."""
        return await self._names.content(path)

    async def held(self, chunk: Chunk) -> dict[str, int | Failure]:
        """For each server that should have a chunk, the checksum of what it has, or why it does not say so."""
        message = ReadChecksums(chunk=chunk.chunk)
        asked = [(each, self._door.ask(Ref(each), message, CHECKSUMS_TIMEOUT_S)) for each in chunk.servers]
        held: dict[str, int | Failure] = {}
        for server, answer in asked:
            try:
                held[server] = seal_crc(unpack_checksums(await answer))
            except Failure as error:
                held[server] = error
        return held

    async def read_copies(self, chunk: Chunk) -> dict[str, int | Failure]:
        """As `held`, of what each server sends when all of it is read: every block of every copy is verified."""
        return {server: await self._read_copy(chunk, server) for server in chunk.servers}

    async def _read_copy(self, chunk: Chunk, server: str) -> int | Failure:
        checksums: tuple[int, ...] = ()
        for offset in range(0, chunk.size, READ_SIZE):
            size = min(READ_SIZE, chunk.size - offset)
            message = ReadChunk(chunk=chunk.chunk, offset=offset, size=size)
            try:
                piece = await self._door.ask(Ref(server), message, CHECKSUMS_TIMEOUT_S)
            except Failure as error:
                return error
            checksums += block_checksums(piece.content)
        return seal_crc(checksums)

    # --- names
    async def stat(self, path: str, follow: bool = True) -> Stat:
        """What stands under a path. With `follow`, what a link leads to."""
        return await self._names.query(GetStat(path, follow), Stat)

    async def list(self, path: str = "/") -> AsyncIterator[Stat]:
        """What is in a folder, sorted by name; a file lists itself. It never ends early without an error."""
        after = ""
        while True:
            page = await self._names.query(GetPage(path, after), Page)
            for item in page.items:
                yield item
            if not page.more:
                return
            after = page.items[-1].name

    async def mkdir(self, path: str, parents: bool = False, mode: int = 0o755) -> None:
        """Make a folder; with `parents` also those above it, and none need be missing."""
        await self._names.change(MakeFolder(path, parents, mode), Done)

    async def symlink(self, path: str, target: str) -> None:
        """Make a symbolic link to `target`, which need not be there."""
        await self._names.change(MakeLink(path, target), Done)

    async def remove(self, path: str) -> None:
        """Remove a file, a link, or a folder that is empty."""
        await self._names.change(Remove(path), Done)

    async def rename(self, path: str, to: str, replace: bool = True) -> None:
        """Give it another name, in one step, as rename(2) does. Raises `AlreadyExists` without `replace`."""
        await self._names.change(Rename(path, to, replace), Done)

    async def chmod(self, path: str, mode: int) -> None:
        """Set the permissions, which are kept for those who care."""
        await self._names.change(SetMode(path, mode), Done)

    async def create(self, path: str, replace: bool = False, mode: int | None = None) -> Stat:
        """Make an empty file. Raises `AlreadyExists` without `replace`."""
        return await self._names.change(Create(path, replace, mode), Stat)

    def change(self, operations: Sequence[Operation]) -> Awaitable[Outcomes]:
        """Make several changes, each by itself, in one exchange, exactly once. It is under way when this returns.

        Refusals are among the outcomes, as `Denied`.
        """
        return self._names.change_all(operations)

    # --- the whole
    async def space(self) -> Space:
        """The file servers, and how full they are."""
        return await self._names.query(GetSpace(), Space)

    async def problems(self) -> AsyncIterator[Problem]:
        """Chunks with fewer copies on servers that are up than they should have."""
        cursor = ""
        while True:
            found = await self._names.query(GetProblems(cursor), Problems)
            for problem in found.problems:
                yield problem
            if not found.cursor:
                return
            cursor = found.cursor

    # --- the session
    async def renew(self) -> None:
        """Keep what this client holds, such as a `Reader` that nobody reads from. To be called every 2 s or so.

        What it only keeps for small files to come is given back when none came since the last time.
        """
        await self._names.renew()
        await self._small.rest()

    async def close(self) -> None:
        """End the session: what is under way is given up, and its bytes are free."""
        self._small.clear()
        await self._names.close()


class Reader:
    """A file of which one version can be read, whatever happens to its name. `close` it, or use `async with`.

    When nothing was read for longer than the lease, it goes on if the file is still the same, and else raises
    `Replaced`.
    """

    def __init__(
        self, door: Door, names: Names, copies: Copies, path: str, content: Content, *, is_pinned: bool = True
    ) -> None:
        self.stat = content.stat
        self._door = door
        self._names = names
        self._copies = copies
        self._path = path
        self._content = content
        self._is_pinned = is_pinned
        self._session = names.session

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        if kind is None or issubclass(kind, Exception):
            await self.close()
        elif self._is_pinned:  # cancelled: nothing can be awaited any more
            self._is_pinned = False
            self._names.later(Unpin(self.stat.inode))

    async def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` on; none behind the end."""
        parts: list[bytes] = []

        async def take(piece: bytes) -> None:
            parts.append(piece)

        await self.stream(offset, min(offset + size, self.stat.size), take)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def stream(self, start: int, end: int, take: Take) -> None:
        """Give the bytes from `start` to `end` to `take`, in order, each verified."""

        async def hold_and_take(piece: bytes) -> None:
            await take(piece)
            await self._hold()

        await self._hold()
        if start < end:
            await Download(self._door, self._copies, self._locate).run(self._content.chunks, start, end, hold_and_take)

    async def close(self) -> None:
        """The version need not be kept any longer."""
        if self._is_pinned and self._session == self._names.session:
            self._is_pinned = False
            await self._names.change(Unpin(self.stat.inode), Done)

    async def _hold(self) -> None:
        """Keep the pin, or pin again what was lost with its session."""
        if not self._is_pinned:
            return
        await self._names.keep_alive()
        if self._session != self._names.session:
            content = await self._names.change(Pin(self._path), Content)
            self._session = self._names.session
            if content.stat.inode != self.stat.inode:
                await self._names.change(Unpin(content.stat.inode), Done)
                raise self._replaced()

    async def _locate(self, chunk: Chunk) -> Chunk:
        """Where a chunk is by now. One of a file that is not there any more under its name is where it was."""
        try:
            content = await self._names.content(self._path)
        except (NotFound, IsAFolder, NotAFolder):
            content = None
        if content is not None and content.stat.inode == self.stat.inode:
            return next(each for each in content.chunks if each.chunk == chunk.chunk)
        if self._is_pinned:
            return chunk
        raise self._replaced()

    def _replaced(self) -> Replaced:
        return Replaced(f"{self._path} was replaced or removed while it was being read; read it again")
