"""What a kernel needs from outside, and nothing else: ten methods down, five callbacks up.

`zactor.live` answers with sockets, files and this machine's clocks; `zactor.sim` with a heap of events.
Frames go in and out; operations are data with a token, and their completion is an input like any other.
Two rules bind every world: `complete` never comes from inside `begin`, and the error of an operation is
one of `zactor.errors` or the exception that the called function raised, never one of asyncio's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import msgspec


class Append(msgspec.Struct, frozen=True):
    """Write at the end of a file, which is made if it is missing. Completes with the offset of the data."""

    folder: str
    file: str
    data: bytes


class Write(msgspec.Struct, frozen=True):
    """Write at `offset` bytes. Completes with None."""

    folder: str
    file: str
    offset: int
    data: bytes


class Read(msgspec.Struct, frozen=True):
    """Read up to `size` bytes (-1: all) from `offset`. Completes with bytes, fewer at the end of the file."""

    folder: str
    file: str
    offset: int
    size: int


class Truncate(msgspec.Struct, frozen=True):
    """Cut a file to `size` bytes. Completes with None."""

    folder: str
    file: str
    size: int


class Size(msgspec.Struct, frozen=True):
    """Completes with the size in bytes, or None when there is no such file."""

    folder: str
    file: str


class Rename(msgspec.Struct, frozen=True):
    """Rename over whatever is there, atomically. Durable after `SyncFolder`. Completes with None."""

    folder: str
    file: str
    to: str


class Remove(msgspec.Struct, frozen=True):
    """Remove a file. Completes with whether there was one."""

    folder: str
    file: str


class List(msgspec.Struct, frozen=True):
    """Completes with the sorted names in a folder below the node's own ("" is that one)."""

    folder: str
    file: str


class SyncFolder(msgspec.Struct, frozen=True):
    """Make the names in a folder durable. Completes with None."""

    folder: str
    file: str


class FreeBytes(msgspec.Struct, frozen=True):
    """Completes with the bytes that can still be written."""

    folder: str


class Sync(msgspec.Struct, frozen=True):
    """Make what was written to these files durable. Completes with None."""

    folder: str
    files: tuple[str, ...]


class Call(msgspec.Struct, frozen=True):
    """Run a coroutine function of an asyncio library. Completes with its result."""

    function: Callable[..., Coroutine[Any, Any, Any]]
    values: tuple[Any, ...]


class InThread(msgspec.Struct, frozen=True):
    """Run a function that blocks, in a thread. Completes with its result."""

    function: Callable[..., Any]
    values: tuple[Any, ...]


DiskOperation = (
    Append | Write | Read | Truncate | Size | Rename | Remove | List | SyncFolder | FreeBytes | Sync
)  # fmt: skip
Operation = DiskOperation | Call | InThread


FILE_NAME_MAX = 200
"""Characters of each part of a file's name; file systems end at 255 bytes."""


def check_file_name(operation: DiskOperation) -> None:
    """Raise ValueError for a name that could leave the node's folder, or that zactor keeps for itself (`@…`)."""
    for field in ("file", "to"):
        name = getattr(operation, field, None)
        if name is None or (name == "" and isinstance(operation, List | SyncFolder)):
            continue
        for part in name.split("/"):
            if part in ("", ".", "..") or part[0] == "@" or "\0" in part or len(part) > FILE_NAME_MAX:
                raise ValueError(f"{name!r} is no name for a file here: parts must not be empty, ., .., long or @…")


class World(Protocol):
    """Down: what a kernel may ask of its world."""

    def now_ns(self) -> int:
        """Nanoseconds of a clock that never goes back, for deadlines and timers."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 by a clock that may be wrong and may jump, for the HLC."""

    def random(self, purpose: str) -> random.Random:
        """A stream of chance of its own for each purpose."""

    def wake(self) -> None:
        """Call `run` soon. Asked at most once until it runs."""

    def alarm(self, at_ns: int) -> None:
        """Call `run` at that time or a little later. The latest alarm replaces the one before."""

    def send(self, process: str, lane: int, frame: bytes, blobs: list[bytes]) -> bool:
        """Hand a frame and what travels beside it to a lane of the connection to another process.

        False: it is full now, and `writable(process)` follows. `process` may be a source instead, as `receive` named
        it: then the frame is an answer to whoever sends by it, known or not, and may be lost.
        """

    def disconnect(self, process: str) -> None:
        """End the connection to a process; the next `send` opens a new one, by which nothing old arrives."""

    def begin(self, token: int, operation: Operation) -> None:
        """Start an operation; `complete(token, value, error)` follows, never from inside `begin`."""

    def cancel(self, token: int) -> None:
        """Nobody waits for that operation any more."""

    def log(self, level: str, node: str, event: str, fields: dict[str, Any]) -> None:
        """Keep a log event. Fields carry the HLC stamp, the id of the message being handled, and its cause."""


class Driven(Protocol):
    """Up: what a world may call on a kernel."""

    def run(self) -> bool:
        """One slice of work. True: there is more, call again."""

    def receive(self, source: str, frame: bytes, blobs: Sequence[bytes] = ()) -> bool:
        """A frame came; `source`, a `Route`, names the connection. False: nobody who is known would send that.

        The token of the route is empty when the connection was opened from here.
        """

    def writable(self, process: str) -> None:
        """A connection that was full has room again."""

    def disconnected(self, source: str, because: str) -> None:
        """A connection by which frames came has ended."""

    def complete(self, token: int, value: Any, error: BaseException | None) -> None:
        """An operation has ended."""
