"""The file system of a running topology for any program: `Files` for plain code, `AsyncFiles` for asyncio.

    with Files("quickstart") as files:
        files.put(open("report.pdf", "rb"), "/docs/report.pdf")

Both keep the session alive, so a reader may lie unread for as long as one likes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from zactor.client import AsyncClient, Client
from zactor.errors import Failure, UserError
from zactor.launchers.folders import Home, find_running

from . import folders
from .client import FilesClient, Reader, Writable
from .names import RENEW_S
from .operations import Chunk, Content, Operation, Outcome, Problem, Space, Stat
from .source import Source
from .upload import Progress

A = TypeVar("A")

KIND = "files.metadata"

LIST_AT_ONCE = 1_000
"""Names that come from the client's thread together."""


class AsyncFiles:
    """`async with AsyncFiles("quickstart") as files` gives a `FilesClient`.

    `topology` is its name or its file, None for the only one that runs. `node` is its metadata server; it has to be
    said when there are several. Raises UserError, also when nothing runs.
    """

    def __init__(self, topology: str | os.PathLike[str] | Home | None = None, *, node: str | None = None) -> None:
        self._home = _home(topology)
        self._node = node
        self._client = AsyncClient(self._home)
        self._files: FilesClient | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> FilesClient:
        await self._client.__aenter__()
        try:
            files = self._files = await _join(self._client, self._home, self._node)
        except BaseException:
            await self._client.close()
            raise
        self._renewing = asyncio.get_running_loop().create_task(_renew(files))
        return files

    async def __aexit__(self, *_error: object) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
        try:
            if self._files is not None:
                await self._files.close()
        finally:
            await self._client.close()


class Files:
    """The same for plain code: the methods of `FilesClient` and of `folders`, which wait here.

    It may be used from several threads at once. What a source or a sink does is done in the client's thread. `close`
    it, or use `with`.
    """

    def __init__(self, topology: str | os.PathLike[str] | Home | None = None, *, node: str | None = None) -> None:
        home = _home(topology)
        self._client = Client(home)
        self._renewing: asyncio.Task[None] | None = None
        try:
            self._files = self._client.run(lambda client: self._enter(client, home, node))
        except BaseException:
            self._client.close()
            raise

    async def _enter(self, client: AsyncClient, home: Home, node: str | None) -> FilesClient:
        files = await _join(client, home, node)
        self._renewing = asyncio.get_running_loop().create_task(_renew(files))
        return files

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session and leave. What is under way in other threads fails."""
        try:
            self.run(self._leave)
        finally:
            self._client.close()

    async def _leave(self, files: FilesClient) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
        await files.close()

    def run(self, work: Callable[[FilesClient], Coroutine[Any, Any, A]]) -> A:
        """Run a coroutine function of the `FilesClient`, in the client's thread, and wait for it."""
        return self._client.run(lambda _client: work(self._files))

    # --- content
    def put(
        self,
        source: Source,
        path: str,
        *,
        size: int | None = None,
        mode: int | None = None,
        replace: bool = True,
        progress: Progress | None = None,
    ) -> Stat:
        """As `FilesClient.put`."""
        return self.run(lambda files: files.put(source, path, size=size, mode=mode, replace=replace, progress=progress))

    def get(self, path: str, sink: Writable, *, offset: int = 0, progress: Progress | None = None) -> Stat:
        """As `FilesClient.get`."""
        return self.run(lambda files: files.get(path, sink, offset=offset, progress=progress))

    def open(self, path: str) -> FileReader:
        """Begin to read a file: its content stays as it is now until the reader is closed."""
        return FileReader(self, self.run(lambda files: files.open(path)))

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        """As `FilesClient.read`."""
        return self.run(lambda files: files.read(path, offset, size))

    def content(self, path: str) -> Content:
        """As `FilesClient.content`."""
        return self.run(lambda files: files.content(path))

    def held(self, chunk: Chunk) -> dict[str, int | Failure]:
        """As `FilesClient.held`."""
        return self.run(lambda files: files.held(chunk))

    # --- names
    def stat(self, path: str, follow: bool = True) -> Stat:
        """As `FilesClient.stat`."""
        return self.run(lambda files: files.stat(path, follow))

    def list(self, path: str = "/") -> Iterator[Stat]:
        """As `FilesClient.list`."""
        return self._each(lambda files: files.list(path))

    def mkdir(self, path: str, parents: bool = False, mode: int = 0o755) -> None:
        """As `FilesClient.mkdir`."""
        self.run(lambda files: files.mkdir(path, parents, mode))

    def symlink(self, path: str, target: str) -> None:
        """As `FilesClient.symlink`."""
        self.run(lambda files: files.symlink(path, target))

    def remove(self, path: str) -> None:
        """As `FilesClient.remove`."""
        self.run(lambda files: files.remove(path))

    def rename(self, path: str, to: str, replace: bool = True) -> None:
        """As `FilesClient.rename`."""
        self.run(lambda files: files.rename(path, to, replace))

    def chmod(self, path: str, mode: int) -> None:
        """As `FilesClient.chmod`."""
        self.run(lambda files: files.chmod(path, mode))

    def create(self, path: str, replace: bool = False, mode: int | None = None) -> Stat:
        """As `FilesClient.create`."""
        return self.run(lambda files: files.create(path, replace, mode))

    def change(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        """As `FilesClient.change`."""

        async def change(files: FilesClient) -> Sequence[Outcome]:
            return await files.change(operations)

        return self.run(change)

    # --- the whole
    def space(self) -> Space:
        """As `FilesClient.space`."""
        return self.run(lambda files: files.space())

    def problems(self) -> Iterator[Problem]:
        """As `FilesClient.problems`."""
        return self._each(lambda files: files.problems())

    # --- folders
    def copy(self, source: str, to: str, *, progress: Progress | None = None) -> Stat:
        """As `folders.copy`."""
        return self.run(lambda files: folders.copy(files, source, to, progress=progress))

    def copy_tree(self, source: str, to: str, *, progress: folders.TreeProgress | None = None) -> folders.Report:
        """As `folders.copy_tree`."""
        return self.run(lambda files: folders.copy_tree(files, source, to, progress=progress))

    def put_tree(
        self, local: Path, path: str, *, resume: bool = False, progress: folders.TreeProgress | None = None
    ) -> folders.Report:
        """As `folders.put_tree`."""
        return self.run(lambda files: folders.put_tree(files, local, path, resume=resume, progress=progress))

    def get_tree(
        self, path: str, local: Path, *, resume: bool = False, progress: folders.TreeProgress | None = None
    ) -> folders.Report:
        """As `folders.get_tree`."""
        return self.run(lambda files: folders.get_tree(files, path, local, resume=resume, progress=progress))

    def remove_tree(self, path: str) -> int:
        """As `folders.remove_tree`."""
        return self.run(lambda files: folders.remove_tree(files, path))

    def walk(self, path: str) -> Iterator[tuple[str, Stat]]:
        """As `folders.walk`."""
        return self._each(lambda files: folders.walk(files, path))

    def _each(self, begin: Callable[[FilesClient], AsyncIterator[A]]) -> Iterator[A]:
        """What an async iterator gives, many at a time: each way to the other thread costs more than an item."""
        items = begin(self._files)
        while some := self.run(lambda _files: _take(items)):
            yield from some


class FileReader:
    """A file of which one version can be read, whatever happens to its name. `close` it, or use `with`."""

    def __init__(self, files: Files, reader: Reader) -> None:
        self.stat = reader.stat
        self._files = files
        self._reader = reader

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` on; none behind the end. Raises what `FilesClient.get` does."""
        return self._files.run(lambda _files: self._reader.read(offset, size))

    def close(self) -> None:
        """The version need not be kept any longer."""
        self._files.run(lambda _files: self._reader.close())


async def _take(items: AsyncIterator[A]) -> Sequence[A]:
    taken = []
    async for item in items:
        taken.append(item)
        if len(taken) == LIST_AT_ONCE:
            break
    return taken


async def _renew(files: FilesClient) -> None:
    while True:
        await asyncio.sleep(RENEW_S)
        try:
            await files.renew()
        except Failure:  # the next thing that is asked for says it to somebody who cares
            continue


async def _join(client: AsyncClient, home: Home, node: str | None) -> FilesClient:
    """A client of the topology's metadata server. Raises UserError when it has none, or several."""
    if node is not None:
        return FilesClient(client, client.ref(node))
    processes = home.read_run(client.book.run).processes
    found = [each.name for process in processes for each in process.instances if each.kind == KIND]
    if not found:
        raise UserError(f"{home.name} has no node of kind {KIND}, so it has no files; add one, and file servers")
    if len(found) > 1:
        raise UserError(f"{home.name} has {len(found)} nodes of kind {KIND}; say which: node={found[0]!r}")
    return FilesClient(client, client.ref(found[0]))


def _home(topology: str | os.PathLike[str] | Home | None) -> Home:
    if isinstance(topology, Home):
        return topology
    written = None if topology is None else os.fspath(topology)
    return find_running(written, None, "its NAME or its FILE")[0]
