"""Whether the file system has what it says: for each chunk, what its servers hold, compared with what it must be.

The namespace knows a size and a checksum of each chunk and on which servers it is; each server tells the checksums of
the blocks that it sealed. `verify` goes further, and has every block of every copy read and sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec

from zactor.errors import Failure, Refused

from .client import FilesClient
from .folders import walk
from .operations import Chunk, Content, Space

AT_ONCE = 16
"""Files that are looked at, at once, and chunks of each."""


class Examined(msgspec.Struct, frozen=True):
    """A chunk, and what each of its servers holds: a checksum, or why it does not say so."""

    chunk: Chunk
    held: dict[str, int | Failure]

    def problems(self, copies: int) -> Iterator[str]:
        """What is wrong with it, in words; nothing when it is on `copies` servers as it must be."""
        right = [server for server, crc in self.held.items() if crc == self.chunk.crc]
        if len(right) < copies:
            yield f"{len(right)} of {copies} copies are right"
        for server, crc in self.held.items():
            if isinstance(crc, Failure):
                yield f"{server}: {type(crc).__name__}: {crc}"
            elif crc != self.chunk.crc:
                yield f"{server} has {crc:08x}, and should have {self.chunk.crc:08x}"


class Checked(msgspec.Struct):
    """How much was looked at, and what was found: path, chunk and words of each problem."""

    files: int = 0
    chunks: int = 0
    copies: int = 0
    problems: list[tuple[str, int, str]] = msgspec.field(default_factory=list)


async def examine(files: FilesClient, content: Content, *, verify: bool = False) -> list[Examined]:
    """All chunks of a file. With `verify` every copy is read whole."""
    look, at_once = (files.read_copies, 1) if verify else (files.held, AT_ONCE)
    found: list[Examined] = []
    for start in range(0, len(content.chunks), at_once):
        chunks = content.chunks[start : start + at_once]
        held = await asyncio.gather(*map(look, chunks))
        found += map(Examined, chunks, held)
    return found


async def check(files: FilesClient, path: str, *, verify: bool = False) -> AsyncIterator[Checked]:
    """Look at all files below a path, and tell after each few what was found in them.

    With `verify` every copy is read, and each block of it verified.
    """
    space = await files.space()
    batch: list[str] = []
    async for where, stat in walk(files, path):
        if stat.kind == "file":
            batch.append(where)
        if len(batch) == AT_ONCE:
            yield await _check_files(files, batch, space, verify)
            batch = []
    yield await _check_files(files, batch, space, verify)


async def _check_files(files: FilesClient, paths: list[str], space: Space, verify: bool) -> Checked:
    checked = Checked()
    for found in await asyncio.gather(*(_check_file(files, path, space, verify) for path in paths)):
        checked.files += found.files
        checked.chunks += found.chunks
        checked.copies += found.copies
        checked.problems += found.problems
    return checked


async def _check_file(files: FilesClient, path: str, space: Space, verify: bool) -> Checked:
    checked = Checked(files=1)
    try:
        content = await files.content(path)
    except Refused:
        return Checked()  # it was removed meanwhile
    lost = {server.server for server in space.servers if not server.is_up}
    for examined in await examine(files, content, verify=verify):
        chunk = examined.chunk
        checked.chunks += 1
        checked.copies += len(examined.held)
        words = [*examined.problems(space.copies), *(f"{server} is lost" for server in chunk.servers if server in lost)]
        if words and await _is_still(files, path, content):
            checked.problems += [(path, chunk.chunk, each) for each in words]
    return checked


async def _is_still(files: FilesClient, path: str, content: Content) -> bool:
    """Whether the file is where it was: one that was replaced, or copied elsewhere, is no problem."""
    try:
        return await files.content(path) == content
    except Refused:
        return False
