"""Files of this computer at the two ends of a copy: one that appears whole or not at all, and a bar.

The bar is drawn on standard error, and only if that is a terminal.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from zactor.units import format_size

from .messages import PIECE_SIZE

BAR_WIDTH = 30
BAR_STEP_BYTES = 4 << 20
"""The bar is drawn again after so many bytes: a terminal is slower than a disk."""


async def read_pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    """The content of a file or a pipe, read in a thread: a slow writer of a pipe must not stop the event loop."""
    while piece := await asyncio.to_thread(file.read, PIECE_SIZE):
        yield piece


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that gets its name when the block ends well. Otherwise nothing of it is left.

    Until then it is called `NAME.part`, beside it. Raises OSError.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    except BaseException:
        with suppress(FileNotFoundError):  # it could not be opened, or has its name already
            part.unlink()
        raise


@contextmanager
def progress_bar(what: str, size: int | None) -> Iterator[Callable[[int], None] | None]:
    """What to call with the bytes so far, of `size` if that is known; None when nobody would see it."""
    if not sys.stderr.isatty():
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
