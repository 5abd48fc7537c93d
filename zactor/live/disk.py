"""The files of the nodes of one process, each below its own folder.

Operations of one folder happen in order. A small write goes to the page cache at once, on the spot, when
nothing is before it; everything else goes to a thread. A sync waits for what was begun before it, and nothing
waits for a sync: what is written meanwhile is the next batch. A failed sync is never tried again, since the
pages it lost count as clean afterwards (Rebello et al. 2020, "Can Applications Recover from fsync Failures?").
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from zactor.errors import DiskFailed, DiskFull
from zactor.world import (
    Append,
    DiskOperation,
    FreeBytes,
    List,
    Read,
    Remove,
    Rename,
    Size,
    Sync,
    SyncFolder,
    Truncate,
    Write,
)

INLINE_BYTES = 256 << 10
"""A write up to this size costs less on the spot (20 to 90 µs) than its way through a thread: a third less of the
processor for a stream of writes. A kernel that has too much to write lets it wait, for 200 ms at most at a time."""

OPEN_FILES = 64
READ = os.O_RDONLY | os.O_CLOEXEC
THREADS = 4

Complete = Callable[[int, Any, BaseException | None], None]
Job = tuple["Folder", int, DiskOperation, Callable[[], Any]]


class Disk:
    """The folders below `root`. `prepare(folder, path)` is called once before a folder is first used."""

    def __init__(self, root: Path, complete: Complete, prepare: Callable[[str, Path], None]) -> None:
        self._root = root
        self._complete = complete
        self._prepare = prepare
        self._loop = asyncio.get_running_loop()
        self._folders: dict[str, Folder] = {}
        self._closed = False
        self.late_s = 0.0  # so much later each sync ends, while somebody tries how that is borne
        # Not an executor's: its futures and locks cost a sync more than twice of what a bare queue does.
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._under_way = 0
        self._threads: list[Thread] = []

    def begin(self, token: int, operation: DiskOperation) -> None:
        """Start an operation; the completion comes in a later pass of the loop."""
        folder = self._folders.get(operation.folder)
        if folder is None:
            path = self._root / operation.folder
            folder = self._folders[operation.folder] = Folder(path, lambda: self._prepare(operation.folder, path))
        small = isinstance(operation, Append | Write) and len(operation.data) <= INLINE_BYTES
        if small and not folder.busy:
            self._loop.call_soon(
                self._complete, token, *_attempt(folder, operation, partial(folder.perform, operation))
            )
        else:
            folder.queue.append((token, operation))
            self._advance(folder)

    def _advance(self, folder: Folder) -> None:
        while folder.queue and not folder.busy and not self._closed:
            token, operation = folder.queue.popleft()
            work = folder.begin_sync(operation) if isinstance(operation, Sync) else partial(folder.perform, operation)
            folder.busy = not isinstance(operation, Sync)
            self._in_thread((folder, token, operation, work))

    def _in_thread(self, job: Job) -> None:
        self._under_way += 1
        if len(self._threads) < min(self._under_way, THREADS):
            thread = Thread(target=self._work, name=f"disk-{len(self._threads)}")
            self._threads.append(thread)
            thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        """A thread: one job after the other, until there is None."""
        while (job := self._jobs.get()) is not None:
            folder, token, operation, work = job
            result = _attempt(folder, operation, work)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for it any more
                self._loop.call_soon_threadsafe(self._done, folder, token, operation, result)

    def _done(
        self, folder: Folder, token: int, operation: DiskOperation, result: tuple[Any, BaseException | None]
    ) -> None:
        if self._closed:
            return
        self._under_way -= 1
        if not isinstance(operation, Sync):
            folder.busy = False
            self._advance(folder)
        elif self.late_s:
            self._loop.call_later(self.late_s, self._complete, token, *result)
            return
        self._complete(token, *result)

    def close(self) -> None:
        """Do what was begun, in its order, and close all files. Nothing is completed any more."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        for folder in self._folders.values():
            for _, operation in folder.queue:
                _attempt(folder, operation, partial(folder.perform, operation))
            folder.close()


def _attempt(folder: Folder, operation: DiskOperation, work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except OSError as error:
        name = getattr(operation, "file", "")
        where = f"{folder.path / name}: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return None, DiskFull(where)
        if isinstance(operation, Rename) and error.errno == errno.ENOENT:
            return None, FileNotFoundError(error.errno, error.strerror, name)
        return None, DiskFailed(where)
    except Exception as error:
        return None, error


class Folder:
    """One node's folder. Its files stay open while they are used; all but `Sync` come one at a time."""

    def __init__(self, path: Path, prepare: Callable[[], None]) -> None:
        self.path = path
        self.busy = False
        self.queue: deque[tuple[int, DiskOperation]] = deque()
        self._prepare: Callable[[], None] | None = prepare
        self._files: OrderedDict[str, int] = OrderedDict()

    def perform(self, operation: DiskOperation) -> Any:
        """Do it now. Raises OSError."""
        if self._prepare is not None:
            self._prepare()
            self._prepare = None
        match operation:
            case Append(file=file, data=data):
                return self._append(file, data)
            case Write(file=file, offset=offset, data=data):
                self._write(self._open(file), offset, data)
                return None
            case Read(file=file, offset=offset, size=size):
                return self._read(file, offset, size)
            case Sync():
                return self.begin_sync(operation)()
            case Truncate(file=file, size=size):
                return os.ftruncate(self._open(file), size)
            case Size(file=file):
                return self._size(file)
            case Rename(file=file, to=to):
                return self._rename(file, to)
            case Remove(file=file):
                return self._remove(file)
            case List(file=file):
                return self._list(file)
            case SyncFolder(file=file):
                return self._sync_folder(file)
            case FreeBytes():
                status = os.statvfs(self.path)
                return status.f_bavail * status.f_frsize

    def _open(self, file: str) -> int:
        handle = self._files.get(file)
        if handle is not None:
            self._files.move_to_end(file)
            return handle
        path = self._with_parents(file)
        handle = self._files[file] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if len(self._files) > OPEN_FILES:
            os.close(self._files.popitem(last=False)[1])
        return handle

    def _with_parents(self, file: str) -> Path:
        path = self.path / file
        if "/" in file:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def _append(self, file: str, data: bytes) -> int:
        handle = self._open(file)
        offset = os.fstat(handle).st_size
        self._write(handle, offset, data)
        return offset

    def _write(self, handle: int, offset: int, data: bytes) -> None:
        size = os.fstat(handle).st_size
        rest = memoryview(data)
        try:
            while rest:
                written = os.pwrite(handle, rest, offset)
                rest, offset = rest[written:], offset + written
        except OSError:
            # Nothing is left half written at the end of a file.
            with contextlib.suppress(OSError):
                os.ftruncate(handle, size)
            raise

    def _read(self, file: str, offset: int, size: int) -> bytes:
        if file not in self._files and not (self.path / file).exists():
            return b""
        handle = self._open(file)
        left = os.fstat(handle).st_size - offset if size < 0 else size
        parts = []
        while left > 0:
            part = os.pread(handle, left, offset)
            if not part:
                break
            parts.append(part)
            offset, left = offset + len(part), left - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def begin_sync(self, operation: Sync) -> Callable[[], None]:
        """What does the sync. It has handles of its own by now: a write, a rename or a remove may go on beside it."""
        handles: list[int] = []
        try:
            for file in operation.files:
                handle = self._files.get(file)
                try:
                    handles.append(os.open(self.path / file, READ) if handle is None else os.dup(handle))
                except FileNotFoundError:
                    continue  # it was removed since
        except OSError as error:
            problem = error
            _close_all(handles)
            return partial(_raise, problem)
        return partial(_sync_all, handles)

    def _sync_folder(self, folder: str) -> None:
        try:
            handle = os.open(self.path / folder, READ | os.O_DIRECTORY)
        except FileNotFoundError:
            return  # it has no names
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _rename(self, file: str, to: str) -> None:
        self._forget(file)
        self._forget(to)
        (self.path / file).rename(self._with_parents(to))

    def _size(self, file: str) -> int | None:
        try:
            return (self.path / file).stat().st_size
        except FileNotFoundError:
            return None

    def _remove(self, file: str) -> bool:
        self._forget(file)
        try:
            (self.path / file).unlink()
        except FileNotFoundError:
            return False
        return True

    def _list(self, folder: str) -> tuple[str, ...]:
        try:
            return tuple(sorted(name for name in os.listdir(self.path / folder) if not name.startswith("@")))
        except FileNotFoundError:
            return ()

    def _forget(self, file: str) -> None:
        handle = self._files.pop(file, None)
        if handle is not None:
            os.close(handle)

    def close(self) -> None:
        """Close all files."""
        for handle in self._files.values():
            os.close(handle)
        self._files.clear()


def _sync_all(handles: list[int]) -> None:
    try:
        for handle in handles:
            if hasattr(os, "fdatasync"):
                os.fdatasync(handle)
            else:  # macOS
                os.fsync(handle)
    finally:
        _close_all(handles)


def _close_all(handles: list[int]) -> None:
    for handle in handles:
        os.close(handle)


def _raise(error: OSError) -> None:
    raise error
