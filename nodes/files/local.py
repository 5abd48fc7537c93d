"""Files of this computer at the two ends of a copy: what is read in a thread, what appears whole or not at all, a bar.

A put must hear from its source now and then, since whoever is silent for too long loses his lease. So what comes from
a pipe or another thread comes through a `Feed`, which gives b"" while there is nothing. The bar is drawn on standard
error, and only if that is a terminal.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Generic, Protocol, TypeVar

from zactor.units import format_size

T = TypeVar("T")

PIECE_SIZE = 1 << 20
"""Bytes that are read at once here: four frames."""

AHEAD = 4
"""Pieces that are read before they are wanted, so that disk and network work at the same time."""

STALL_S = 2.0
"""A source that has nothing for so long says b"": a quarter of the shortest lease that makes sense."""

BAR_WIDTH = 30
BAR_STEP_BYTES = 4 << 20
"""The bar is drawn again after so many bytes: a terminal is slower than a disk."""


class NobodyReads(Exception):
    """Whoever took from a feed has ended, and wants no more."""


class Readable(Protocol):
    """A file opened for reading, in binary."""

    def read(self, size: int, /) -> bytes | None:
        """Up to `size` bytes; none at the end."""


class Feed(Generic[T]):
    """What a thread gives and a coroutine takes, at most `AHEAD` pieces of it at once.

    The thread calls `send`, and `end` or `fail` at the end; the coroutine loops over `pieces`, once. `nothing` is what
    it gets when there is nothing for a while.
    """

    def __init__(self, nothing: T) -> None:
        self._nothing = nothing
        self._room = threading.Semaphore(AHEAD)
        self._lock = threading.Lock()
        self._items: deque[tuple[T] | BaseException | None] = deque()
        self._wake: Callable[[], object] | None = None
        self._is_over = False

    def send(self, piece: T) -> None:
        """Give a piece, when there is room for it. Raises `NobodyReads`."""
        self._room.acquire()
        self._give((piece,))

    def end(self) -> None:
        """That was all. Raises `NobodyReads`."""
        self._give(None)

    def fail(self, error: BaseException) -> None:
        """There is no more, for this reason, which whoever takes is told. Raises `NobodyReads`."""
        self._give(error)

    def close(self) -> None:
        """Nobody takes any more; who waits for room is told."""
        with self._lock:
            self._is_over = True
            self._items.clear()
        self._room.release()

    def _give(self, item: tuple[T] | BaseException | None) -> None:
        with self._lock:
            if self._is_over:
                raise NobodyReads
            self._items.append(item)
            wake = self._wake
        if wake is not None:
            with suppress(RuntimeError):  # the loop is closed
                wake()

    async def pieces(self) -> AsyncGenerator[T, None]:
        """The pieces, in order; `nothing` when none came for `STALL_S`. Raises what `fail` was told."""
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._wake = lambda: loop.call_soon_threadsafe(arrived.set)
        try:
            while True:
                arrived.clear()
                if not self._items:
                    try:
                        async with asyncio.timeout(STALL_S):  # `wait_for` loses a cancel that comes with the event
                            await arrived.wait()
                    except TimeoutError:
                        yield self._nothing
                    continue
                item = self._items.popleft()
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                self._room.release()
                yield item[0]
        finally:
            self.close()


async def read_pieces(file: Readable) -> AsyncGenerator[bytes, None]:
    """The content of a file or a pipe, read by a thread; b"" when nothing came for `STALL_S`.

    `file` should be unbuffered: a thread that waits in the buffer of standard input cannot be left at the exit.
    """
    feed = Feed(b"")
    # A daemon: nobody can wake it from a pipe in which nothing comes, and Ctrl-C must not wait for it.
    threading.Thread(target=_read_all, args=(file, feed), name="zactor.fs", daemon=True).start()
    pieces = feed.pieces()
    try:
        async for piece in pieces:
            yield piece
    finally:
        feed.close()


def _read_all(file: Readable, feed: Feed[bytes]) -> None:
    with suppress(NobodyReads):
        try:
            while piece := file.read(PIECE_SIZE):
                feed.send(piece)
        except (OSError, ValueError) as error:  # ValueError: it was closed, by whoever wants no more
            feed.fail(error)
        else:
            feed.end()


@contextmanager
def whole_file(path: Path, *, keep_part: bool = False) -> Iterator[IO[bytes]]:
    """A file to write that gets its name when the block ends well. Otherwise nothing of it is left.

    Until then it is called `NAME.part`, beside it. With `keep_part` one that is there is gone on with, at its end, and
    it stays when the block fails. Raises OSError.
    """
    part = part_of(path)
    try:
        with part.open("ab" if keep_part else "wb") as file:
            yield file
        os.replace(part, path)
    except BaseException:
        if not keep_part:
            with suppress(FileNotFoundError):  # it could not be opened, or has its name already
                part.unlink()
        raise


def part_of(path: Path) -> Path:
    """What a file is called while it is not whole."""
    return path.with_name(f"{path.name}.part")


@contextmanager
def progress_bar(what: str, size: int | None, *, quiet: bool = False) -> Iterator[Callable[[int], None] | None]:
    """What to call with the bytes so far, of `size` if that is known; None when nobody would see it."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    drawn = -BAR_STEP_BYTES

    def show(done: int) -> None:
        nonlocal drawn
        if done - drawn >= BAR_STEP_BYTES or done == size:
            drawn = done
            sys.stderr.write(f"\r{render_bar(what, done, size)}\x1b[K")
            sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")


def render_bar(what: str, done: int, size: int | None) -> str:
    """One line: `notes.txt [######------]  50% 2MiB`."""
    if size is None:
        return f"{what} {format_size(done)}"
    share = min(1.0, done / size) if size else 1.0
    filled = int(share * BAR_WIDTH)
    return f"{what} [{'#' * filled}{'-' * (BAR_WIDTH - filled)}] {share:4.0%} {format_size(done)}"
