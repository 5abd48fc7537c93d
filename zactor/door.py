"""What an actor reaches the world by, besides messages: answers given later, its disk, its log."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Generic, TypeVar

from zactor.errors import Failure, ReplyDropped
from zactor.world import (
    Append,
    FreeBytes,
    List,
    Read,
    Remove,
    Rename,
    Size,
    SyncFolder,
    Truncate,
    Write,
    check_file_name,
)

A = TypeVar("A")


class Later(Generic[A]):
    """An answer that is given in a later turn. Dropped unanswered, it fails its asker with `NeverAnswered`."""

    __slots__ = ("_ask", "_cell")

    def __init__(self, cell: Any, ask: Any) -> None:
        self._cell = cell
        self._ask = ask

    def reply(self, value: A) -> None:
        """Answer. An asker that has given up by now hears nothing. Raises `ReplyDropped` the second time."""
        self._take().kernel.answer_later(self._cell, self._ask, value, None)
        self._cell = None

    def fail(self, error: Failure) -> None:
        """Answer with an error."""
        self._take().kernel.answer_later(self._cell, self._ask, None, error)
        self._cell = None

    def _take(self) -> Any:
        if self._cell is None:
            raise ReplyDropped("this Later was answered before")
        return self._cell

    def __del__(self) -> None:
        if self._cell is not None:
            self._cell.kernel.dropped(self._cell, self._ask)


class Disk:
    """The files of one node, below its own state folder; names are relative and cannot leave it (else ValueError).

    Writes reach the page cache at once and in order; `commit` makes them durable. Each operation may be awaited
    for its result or error. One that fails and that nobody awaits is handed to `on_disk_failed`.
    """

    __slots__ = ("_cell",)

    def __init__(self, cell: Any) -> None:
        self._cell = cell

    def _begin(self, operation: Any, dirty: str | None = None) -> Awaitable[Any]:
        check_file_name(operation)
        wait: Awaitable[Any] = self._cell.kernel.waits.operate(self._cell, operation, dirty)
        return wait

    def append(self, file: str, data: bytes) -> Awaitable[int]:
        """Write at the end; the answer is the offset in bytes at which the data stands."""
        return self._begin(Append(self._cell.folder, file, data), file)

    def write(self, file: str, offset: int, data: bytes) -> Awaitable[None]:
        """Write at `offset` bytes."""
        return self._begin(Write(self._cell.folder, file, offset, data), file)

    def read(self, file: str, offset: int = 0, size: int = -1) -> Awaitable[bytes]:
        """Up to `size` bytes from `offset`; -1 means all. A file that is missing reads as empty."""
        return self._begin(Read(self._cell.folder, file, offset, size))

    def truncate(self, file: str, size: int) -> Awaitable[None]:
        """Cut to `size` bytes."""
        return self._begin(Truncate(self._cell.folder, file, size), file)

    def size(self, file: str) -> Awaitable[int | None]:
        """Bytes, or None when there is no such file."""
        return self._begin(Size(self._cell.folder, file))

    def rename(self, file: str, to: str) -> Awaitable[None]:
        """Rename over whatever is there, atomically; durable after `sync_folder`."""
        return self._begin(Rename(self._cell.folder, file, to))

    def remove(self, file: str) -> Awaitable[bool]:
        """Remove; the answer is whether there was one."""
        return self._begin(Remove(self._cell.folder, file))

    def list(self, folder: str = "") -> Awaitable[tuple[str, ...]]:
        """The sorted names in a folder."""
        return self._begin(List(self._cell.folder, folder))

    def sync_folder(self, folder: str = "") -> Awaitable[None]:
        """Make the names in a folder durable."""
        return self._begin(SyncFolder(self._cell.folder, folder))

    def free_bytes(self) -> Awaitable[int]:
        """Bytes that can still be written."""
        return self._begin(FreeBytes(self._cell.folder))

    def commit(self, write_id: int) -> None:
        """Make all that was written so far durable; `on_synced(write_id)` follows.

        What this turn sends leaves first. One commit is under way at a time: those asked for meanwhile become
        the next, and only the last `write_id` is reported.
        """
        self._cell.kernel.waits.commit(self._cell, write_id, None)

    def synced(self) -> Awaitable[None]:
        """Wait until all that was written so far is durable."""
        wait: Awaitable[None] = self._cell.kernel.waits.synced(self._cell)
        return wait


class Log:
    """`self.log.info("became_leader", term=4, because="quorum_of_votes", rule="Raft 5.2")`."""

    __slots__ = ("_cell",)

    def __init__(self, cell: Any) -> None:
        self._cell = cell

    def debug(self, event: str, **fields: Any) -> None:
        """For the author of a kind; not kept unless asked for."""
        self._cell.kernel.log("debug", self._cell, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """A change that a reader of the logs wants to see."""
        self._cell.kernel.log("info", self._cell, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something that somebody should look at."""
        self._cell.kernel.log("warning", self._cell, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Something failed."""
        self._cell.kernel.log("error", self._cell, event, fields)
