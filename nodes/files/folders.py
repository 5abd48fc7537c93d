"""Whole folders: put, get, copy, walk and remove trees of files, for programs with an asyncio loop.

Small files go 16 at a time, since each waits mostly for others; of large ones, which fill the wire, 2. What fails with
one file is noted, and the rest goes on. What is there already with the same content is left with `resume`.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from zactor.errors import Failure, ZactorError

from .chunks import block_checksums, file_checksum, seal_crc
from .client import FilesClient
from .local import part_of, whole_file
from .messages import READ_SIZE, AlreadyExists, BadPath, NotFound
from .names import refusal
from .operations import Content, Denied, Remove, Stat

SMALL_AT_ONCE = 16
LARGE_AT_ONCE = 2
LARGE_SIZE = 1 << 20
"""From this size on a file takes longer to send than to ask for."""

REMOVED_AT_ONCE = 256
"""Names in one exchange."""

TreeProgress: TypeAlias = Callable[[int, int], None]
"""Called with the files and the bytes so far; of files under way, too."""


class Problem(msgspec.Struct, frozen=True):
    """What went wrong with one file."""

    path: str
    error: Exception


class Report(msgspec.Struct):
    """What became of a tree. `skipped` files were there already."""

    files: int = 0
    bytes: int = 0
    skipped: int = 0
    problems: list[Problem] = msgspec.field(default_factory=list)


# --- trees there
async def walk(files: FilesClient, path: str) -> AsyncIterator[tuple[str, Stat]]:
    """All that is below a path, and itself, with its path; a folder comes before what is in it. No link is followed."""
    top = await files.stat(path, follow=False)
    todo = [(path, top)]
    while todo:
        here, found = todo.pop()
        yield here, found
        if found.kind == "folder":
            below = [(join(here, item.name), item) async for item in files.list(here)]
            todo += reversed(below)


async def remove_tree(files: FilesClient, path: str) -> int:
    """Remove a folder and all that is below it, or a file. Returns how many names there were.

    Names that come in the meantime keep their folder (`NotEmpty`).
    """
    names = [here async for here, _ in walk(files, path)]
    names.reverse()  # what is in a folder before the folder
    for start in range(0, len(names), REMOVED_AT_ONCE):
        for outcome in await files.change([Remove(name) for name in names[start : start + REMOVED_AT_ONCE]]):
            if isinstance(outcome, Denied) and outcome.error != NotFound.wire:  # somebody else was faster
                raise refusal(outcome)
    return len(names)


async def copy(files: FilesClient, source: str, to: str, *, progress: Callable[[int], None] | None = None) -> Stat:
    """Copy one file. It keeps its mode, and appears whole or not at all."""
    async with await files.open(source) as reader:

        async def pieces() -> AsyncIterator[bytes]:
            for offset in range(0, reader.stat.size, READ_SIZE):
                yield await reader.read(offset, READ_SIZE)

        return await files.put(pieces(), to, size=reader.stat.size, mode=reader.stat.mode, progress=progress)


async def copy_tree(files: FilesClient, source: str, to: str, *, progress: TreeProgress | None = None) -> Report:
    """Copy a folder and all that is below it, or a file. `to` is the name of the copy. Links are copied as they are.

    Raises `BadPath` for a copy into the source itself.
    """
    if f"{to}/".startswith(f"{source.rstrip('/')}/"):
        raise BadPath(f"{to}: a copy of {source} cannot lie below it")
    work = _Work(progress)
    async for here, found in walk(files, source):
        target = to + here[len(source.rstrip("/")) :]
        if found.kind == "folder":
            await work.now(target, files.mkdir(target, parents=True, mode=found.mode))
        elif found.kind == "link":
            await work.now(target, _link(files, target, found.target))
        else:
            await work.add(target, found.size, _Copy(files, here, target, work).run)
    return await work.finish()


def join(folder: str, name: str) -> str:
    """The path of a name in a folder."""
    return f"{folder.rstrip('/')}/{name}"


# --- between here and there
async def put_tree(
    files: FilesClient, local: Path, path: str, *, resume: bool = False, progress: TreeProgress | None = None
) -> Report:
    """Put a folder of this computer, or a file, under `path`, with links and modes.

    With `resume` a file that is there with the same size and checksum is left as it is.
    """
    work = _Work(progress)
    for here in await asyncio.to_thread(_local_tree, local):
        below = here.relative_to(local).as_posix()
        target = path if below == "." else join(path, below)
        try:
            status = here.lstat()
        except OSError as error:
            work.failed(target, error)
            continue
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISDIR(status.st_mode):
            await work.now(target, files.mkdir(target, parents=True, mode=mode))
        elif stat.S_ISLNK(status.st_mode):
            await work.now(target, _link(files, target, os.readlink(here)))
        elif stat.S_ISREG(status.st_mode):
            await work.add(target, status.st_size, _Put(files, here, target, mode, resume, work).run)
        else:
            work.failed(target, OSError(f"{here} is neither a file nor a folder nor a link"))
    return await work.finish()


async def get_tree(
    files: FilesClient, path: str, local: Path, *, resume: bool = False, progress: TreeProgress | None = None
) -> Report:
    """Get a folder, or a file, as `local` on this computer, with links and modes.

    With `resume` a file that is here with the same size and checksum is left as it is, and `NAME.part` is gone on with
    behind those of its chunks that are right.
    """
    work = _Work(progress)
    modes: list[tuple[Path, int]] = []
    async for here, found in walk(files, path):
        below = here[len(path.rstrip("/")) + 1 :]
        target = local / below if below else local
        if found.kind == "folder":
            await work.now(here, asyncio.to_thread(target.mkdir, parents=True, exist_ok=True))
            modes.append((target, found.mode))
        elif found.kind == "link":
            await work.now(here, asyncio.to_thread(_local_link, target, found.target))
        else:
            await work.add(here, found.size, _Get(files, here, target, resume, work).run)
    report = await work.finish()
    for folder, mode in reversed(modes):  # at the end: one that may not be written would take nothing
        await work.now(str(folder), asyncio.to_thread(os.chmod, folder, mode))
    return report


class _Work:
    """Files under way: so many small ones and so many large ones at once. What fails is noted."""

    def __init__(self, progress: TreeProgress | None) -> None:
        self._report = Report()
        self._progress = progress
        self._rooms = {False: asyncio.Semaphore(SMALL_AT_ONCE), True: asyncio.Semaphore(LARGE_AT_ONCE)}
        self._tasks: set[asyncio.Task[None]] = set()

    async def add(self, path: str, size: int, run: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        """Begin with a file when there is room. `run` returns False when there was nothing to do."""
        room = self._rooms[size >= LARGE_SIZE]
        await room.acquire()
        task = asyncio.get_running_loop().create_task(self._run(path, run, room))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def now(self, path: str, work: Awaitable[object]) -> None:
        """Do something that is not a file's content."""
        try:
            await work
        except (ZactorError, OSError) as error:
            self.failed(path, error)

    async def finish(self) -> Report:
        """Wait for all of it."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        return self._report

    def failed(self, path: str, error: Exception) -> None:
        """Note what went wrong."""
        self._report.problems.append(Problem(path, error))

    def moved(self, size: int) -> None:
        """So many bytes more."""
        self._report.bytes += size
        self._show()

    def _show(self) -> None:
        if self._progress is not None:
            self._progress(self._report.files, self._report.bytes)

    async def _run(self, path: str, run: Callable[[], Coroutine[Any, Any, bool]], room: asyncio.Semaphore) -> None:
        try:
            if await run():
                self._report.files += 1
                self._show()
            else:
                self._report.skipped += 1
        except (ZactorError, OSError) as error:
            self.failed(path, error)
        finally:
            room.release()


class _Meter:
    """Turns the bytes of one file so far into those of all."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._done = 0

    def __call__(self, done: int) -> None:
        self._work.moved(done - self._done)
        self._done = done


class _Copy(msgspec.Struct):
    files: FilesClient
    source: str
    to: str
    work: _Work

    async def run(self) -> bool:
        await copy(self.files, self.source, self.to, progress=_Meter(self.work))
        return True


class _Put(msgspec.Struct):
    files: FilesClient
    local: Path
    path: str
    mode: int
    resume: bool
    work: _Work

    async def run(self) -> bool:
        if self.resume and await self._is_there():
            return False
        with self.local.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            await self.files.put(source, self.path, size=size, mode=self.mode, progress=_Meter(self.work))
        return True

    async def _is_there(self) -> bool:
        try:
            content = await self.files.content(self.path)
        except Failure:
            return False
        return await asyncio.to_thread(_is_same, self.local, content)


class _Get(msgspec.Struct):
    files: FilesClient
    path: str
    local: Path
    resume: bool
    work: _Work

    async def run(self) -> bool:
        if not self.resume:
            with whole_file(self.local) as sink:
                found = await self.files.get(self.path, sink, progress=_Meter(self.work))
            await asyncio.to_thread(os.chmod, self.local, found.mode)
            return True
        return await self._go_on()

    async def _go_on(self) -> bool:
        content = await self.files.content(self.path)
        if await asyncio.to_thread(_is_same, self.local, content):
            return False
        part = part_of(self.local)
        done = await asyncio.to_thread(_right_bytes, part, content)
        with whole_file(self.local, keep_part=True) as sink:
            sink.truncate(done)
            found = await self.files.get(self.path, sink, offset=done, progress=_Meter(self.work))
            if found.inode != content.stat.inode:  # replaced in between: what was here is of the old one
                sink.truncate(0)
                found = await self.files.get(self.path, sink, progress=_Meter(self.work))
        await asyncio.to_thread(os.chmod, self.local, found.mode)
        return True


async def _link(files: FilesClient, path: str, target: str) -> None:
    """Make a link, in the place of another one."""
    try:
        await files.symlink(path, target)
    except AlreadyExists:
        found = await files.stat(path, follow=False)
        if found.kind != "link":
            raise
        if found.target != target:
            await files.remove(path)
            await files.symlink(path, target)


def _local_link(path: Path, target: str) -> None:
    if path.is_symlink():
        path.unlink()
    path.symlink_to(target)


def _local_tree(top: Path) -> list[Path]:
    """A folder before what is in it, sorted. Raises OSError when `top` is not there."""
    top.lstat()
    found = [top]
    if top.is_dir():
        for folder, folders, names in os.walk(top):
            folders.sort()
            # os.walk takes a link to a folder for a folder, and does not follow it: it is listed with the files.
            found += [Path(folder, name) for name in sorted((*folders, *names))]
    return found


# --- what is here already
def _is_same(local: Path, content: Content) -> bool:
    """Whether a file here has that content."""
    try:
        if not local.is_file() or local.stat().st_size != content.stat.size:
            return False
        crcs = list(_crcs(local, content))
    except OSError:
        return False
    return crcs == [chunk.crc for chunk in content.chunks] and file_checksum(crcs) == content.stat.checksum


def _right_bytes(part: Path, content: Content) -> int:
    """The bytes of a part that are right: whole chunks, up to the first that is not."""
    done = 0
    try:
        for chunk, crc in zip(content.chunks, _crcs(part, content), strict=False):
            if crc != chunk.crc:
                break
            done += chunk.size
    except FileNotFoundError:
        return 0
    return done


def _crcs(local: Path, content: Content) -> Iterator[int]:
    """What the chunks of a file here would be sealed with, up to one that is short."""
    with local.open("rb") as file:
        for chunk in content.chunks:
            checksums: list[int] = []
            left = chunk.size
            while left and (piece := file.read(min(READ_SIZE, left))):
                checksums += block_checksums(piece)
                left -= len(piece)
            if left:
                return
            yield seal_crc(checksums)
