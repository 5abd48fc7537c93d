"""A folder as one stream, and back: the pax form of tar (POSIX.1-2001), which any tar reads and writes.

What is saved is each file in one version, verified as it is read; while others change the folder, not all of them are
of one moment. What is restored is what a tar has: names, modes, links and contents; times are those of the restoring.
A name that leads out of the folder, or through a link that the archive itself brings, is refused.
"""

from __future__ import annotations

import asyncio
import tarfile
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from typing import TypeAlias, cast

import msgspec

from zactor.errors import Failure, Refused, UserError

from .client import FilesClient, Writable
from .folders import copy
from .local import PIECE_SIZE, Feed, NobodyReads, Readable
from .messages import SMALL_SIZE_MAX, NotFound
from .operations import Denied, MakeFolder, MakeLink, Remove, SetMode, Stat

AT_ONCE = 16
"""Small files that are read or put at once."""

PART_SIZE = 4 << 20
"""Bytes of a large file that are read at once, while those before are written."""

RECORD_SIZE = 10_240
"""An archive is a whole number of these."""

Progress: TypeAlias = Callable[[int], None]
_Item: TypeAlias = tarfile.TarInfo | bytes


class Moved(msgspec.Struct):
    """What was saved or restored. `problems` has a line for each name that was not, with the reason."""

    files: int = 0
    folders: int = 0
    links: int = 0
    bytes: int = 0
    problems: list[str] = msgspec.field(default_factory=list)


async def save(files: FilesClient, path: str, sink: Writable, progress: Progress | None = None) -> Moved:
    """Write a folder with all that is in it, or a file, to `sink`, which may block: it is called by a thread."""
    return await _Saving(files, sink, progress).run(path)


async def restore(files: FilesClient, source: Readable, path: str, progress: Progress | None = None) -> Moved:
    """Put what an archive has into a folder, which is made when it is not there. `source` may block.

    The archive may be compressed by gzip, bzip2 or xz. Raises UserError for one that is none, or ends too early; what
    came before it is there.
    """
    await files.mkdir(path, parents=True)
    return await _Restoring(files, path, progress).run(source)


class _Saving:
    """One archive that grows."""

    def __init__(self, files: FilesClient, sink: Writable, progress: Progress | None) -> None:
        self._files = files
        self._sink = sink
        self._progress = progress
        self._moved = Moved()
        self._buffer = bytearray()
        self._written = 0

    async def run(self, path: str) -> Moved:
        own = await self._files.stat(path)
        below = self._below(path, "") if own.kind == "folder" else self._alone(path, own)
        window: list[tuple[str, str, Stat, asyncio.Task[bytes] | None]] = []
        try:
            async for where, name, stat in below:
                is_small = stat.kind == "file" and stat.size <= SMALL_SIZE_MAX
                content = asyncio.ensure_future(self._files.read(where)) if is_small else None
                window.append((where, name, stat, content))
                if len(window) == AT_ONCE:
                    await self._add(*window.pop(0))
            while window:
                await self._add(*window.pop(0))
        finally:
            for *_, content in window:
                if content is not None:
                    content.cancel()
        self._buffer += bytes(2 * tarfile.BLOCKSIZE)
        await self._write(bytes(-(self._written + len(self._buffer)) % RECORD_SIZE))
        await self._flush()
        return self._moved

    async def _below(self, folder: str, prefix: str) -> AsyncIterator[tuple[str, str, Stat]]:
        """All below a folder: path, name in the archive, and what it is."""
        async for stat in self._files.list(folder):
            where, name = f"{folder.rstrip('/')}/{stat.name}", f"{prefix}{stat.name}"
            yield where, name, stat
            if stat.kind == "folder":
                async for found in self._below(where, f"{name}/"):
                    yield found

    async def _alone(self, path: str, stat: Stat) -> AsyncIterator[tuple[str, str, Stat]]:
        yield path, stat.name, stat

    async def _add(self, where: str, name: str, stat: Stat, content: asyncio.Task[bytes] | None) -> None:
        if stat.kind == "folder":
            self._moved.folders += 1
            await self._write(_header(name, stat, tarfile.DIRTYPE))
        elif stat.kind == "link":
            self._moved.links += 1
            await self._write(_header(name, stat, tarfile.SYMTYPE))
        else:
            await self._add_file(where, name, stat, content)

    async def _add_file(self, where: str, name: str, stat: Stat, content: asyncio.Task[bytes] | None) -> None:
        try:
            if content is None:
                size = await self._add_large(where, name)
            else:
                body = await content
                size = len(body)
                await self._write(_header(name, msgspec.structs.replace(stat, size=size), tarfile.REGTYPE) + body)
        except NotFound:  # raised before anything of it was written
            self._moved.problems.append(f"{where}: was removed before it was read")
            return
        await self._write(bytes(-size % tarfile.BLOCKSIZE))
        self._moved.files += 1
        self._moved.bytes += size

    async def _add_large(self, where: str, name: str) -> int:
        reader = await self._files.open(where)
        try:
            stat = reader.stat
            await self._write(_header(name, stat, tarfile.REGTYPE))
            part = await reader.read(0, PART_SIZE)
            for offset in range(PART_SIZE, stat.size + PART_SIZE, PART_SIZE):
                following = asyncio.ensure_future(reader.read(offset, PART_SIZE))
                try:
                    await self._write(part)
                finally:
                    part = await following
        finally:
            await reader.close()
        return stat.size

    async def _write(self, content: bytes) -> None:
        self._buffer += content
        if len(self._buffer) >= PIECE_SIZE:
            await self._flush()

    async def _flush(self) -> None:
        content, self._buffer = bytes(self._buffer), bytearray()
        await asyncio.to_thread(self._sink.write, content)
        self._written += len(content)
        if self._progress is not None:
            self._progress(self._written)


def _header(name: str, stat: Stat, kind: bytes) -> bytes:
    info = tarfile.TarInfo(f"{name}/" if kind == tarfile.DIRTYPE else name)
    info.type = kind
    info.size = stat.size if kind == tarfile.REGTYPE else 0
    info.mode = stat.mode
    info.linkname = stat.target
    seconds, fraction_ns = divmod(stat.mtime_ns, 10**9)
    info.mtime = seconds
    if fraction_ns:
        info.pax_headers = {"mtime": f"{seconds}.{fraction_ns:09d}"}
    return info.tobuf(tarfile.PAX_FORMAT)


class _Restoring:
    """One archive that is read. A thread takes it apart; here is put what it gives."""

    def __init__(self, files: FilesClient, path: str, progress: Progress | None) -> None:
        self._files = files
        self._path = path.rstrip("/")
        self._progress = progress
        self._moved = Moved()
        self._read = 0
        self._folders = {self._path}  # that are there
        self._links: set[str] = set()  # that the archive brought
        self._puts: dict[str, asyncio.Task[None]] = {}

    async def run(self, source: Readable) -> Moved:
        feed: Feed[_Item] = Feed(b"")
        # A daemon: see `read_pieces`.
        threading.Thread(target=_take_apart, args=(source, feed), name="zactor.fs", daemon=True).start()
        items = feed.pieces()
        try:
            async for item in items:
                if isinstance(item, tarfile.TarInfo):
                    await self._take(item, items)
            await self._settle()
        finally:
            await items.aclose()
            for put in self._puts.values():
                put.cancel()
        return self._moved

    async def _take(self, info: tarfile.TarInfo, items: AsyncGenerator[_Item, None]) -> None:
        content = _Content(items, info.size if info.isreg() else 0, self._count)
        try:
            path = self._where(info.name)
            if info.isreg():
                await self._put(path, info, content)
            elif path != self._path:
                await self._make(path, info)
            elif info.isdir():
                await self._files.chmod(path or "/", info.mode & 0o7777)
        except Refused as refusal:
            self._moved.problems.append(f"{info.name}: {refusal}")
        await content.skip()

    def _where(self, name: str) -> str:
        """The path of a member. Raises `Refused` for one that leads elsewhere."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise Refused("leads out of the folder, and is left out")
        path = self._path
        for part in parts[:-1]:
            path = f"{path}/{part}"
            if path in self._links:
                raise Refused(f"leads through the link {path} of this archive, and is left out")
        return "/".join([self._path, *parts])

    async def _put(self, path: str, info: tarfile.TarInfo, content: _Content) -> None:
        await self._settle(path)
        await self._make_room(path)
        if info.size > SMALL_SIZE_MAX:
            await self._files.put(content.pieces(), path, size=info.size, mode=info.mode & 0o7777)
            self._count_file(info.size)
            return
        body = b"".join([piece async for piece in content.pieces()])
        if len(self._puts) >= AT_ONCE:
            await self._settle(next(iter(self._puts)))
        self._puts[path] = asyncio.ensure_future(self._put_small(path, body, info))

    async def _put_small(self, path: str, body: bytes, info: tarfile.TarInfo) -> None:
        try:
            await self._files.put([body], path, size=len(body), mode=info.mode & 0o7777)
        except Refused as refusal:
            self._moved.problems.append(f"{info.name}: {refusal}")
        else:
            self._count_file(len(body))

    async def _make_room(self, path: str) -> None:
        """The folder of a file, and no link in its place, through which it would be put elsewhere."""
        folder = path.rpartition("/")[0]
        if folder not in self._folders:
            await self._files.mkdir(folder, parents=True)
            self._folders.add(folder)
        if path in self._links:
            await self._files.remove(path)
            self._links.discard(path)

    async def _make(self, path: str, info: tarfile.TarInfo) -> None:
        """What is no file."""
        if info.isdir():
            await self._settle(path)
            await self._change(MakeFolder(path, True, info.mode & 0o7777), SetMode(path, info.mode & 0o7777))
            self._folders.add(path)
            self._moved.folders += 1
        elif info.issym():
            await self._settle(path)
            await self._make_room(path)
            with suppress(Refused):
                await self._files.remove(path)  # tar(1) puts a link in the place of what was there
            await self._change(MakeLink(path, info.linkname))
            self._links.add(path)
            self._moved.links += 1
        elif info.islnk():
            await self._settle()
            await self._make_room(path)
            stat = await copy(self._files, self._where(info.linkname), path)
            self._count_file(stat.size)
        else:
            raise Refused("is no file, folder or link, and is left out")

    async def _change(self, *operations: MakeFolder | SetMode | MakeLink | Remove) -> None:
        for outcome in await self._files.change(operations):
            if isinstance(outcome, Denied):
                error = Failure.from_wire(outcome.error, outcome.text, "")
                raise error

    async def _settle(self, path: str | None = None) -> None:
        """Wait for the put of a path that is under way; without one, for all."""
        for each in [path] if path is not None else list(self._puts):
            if each in self._puts:
                await self._puts[each]
                del self._puts[each]

    def _count_file(self, size: int) -> None:
        self._moved.files += 1
        self._moved.bytes += size

    def _count(self, size: int) -> None:
        self._read += size
        if self._progress is not None:
            self._progress(self._read)


class _Content:
    """The bytes of one member, out of the stream of all."""

    def __init__(self, items: AsyncGenerator[_Item, None], size: int, count: Progress) -> None:
        self._items = items
        self._left = size
        self._count = count

    async def pieces(self) -> AsyncIterator[bytes]:
        """Them, in order; b"" while there is nothing."""
        while self._left:
            piece = cast("bytes", await anext(self._items))
            self._left -= len(piece)
            self._count(len(piece))
            yield piece

    async def skip(self) -> None:
        """Leave what nobody has taken."""
        async for _ in self.pieces():
            pass


def _take_apart(source: Readable, feed: Feed[_Item]) -> None:
    """In a thread: each member, and behind it its content."""
    with suppress(NobodyReads):
        try:
            with tarfile.open(fileobj=cast("tarfile._Fileobj", source), mode="r|*", bufsize=PIECE_SIZE) as archive:
                for info in archive:
                    feed.send(info)
                    content = archive.extractfile(info) if info.isreg() else None
                    while content is not None and (piece := content.read(PIECE_SIZE)):
                        feed.send(piece)
        except (tarfile.TarError, EOFError, OSError) as problem:
            feed.fail(UserError(f"this is no tar archive, or not all of one: {problem}"))
        else:
            feed.end()
