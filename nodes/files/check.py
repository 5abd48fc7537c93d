"""Whether the file system has what it says: for each chunk, what its servers hold, compared with what it must be.

The namespace knows a size and a checksum of each chunk and on which servers it is; each server tells the checksums of
the blocks that it sealed. `verify` goes further, and has every block of every copy read and sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec

from zactor.errors import Failure, Refused
from zactor.message import Ref
from zactor.replication.client import Door

from .chunks import bad_block, block_checksums, seal_crc
from .client import FilesClient
from .folders import walk
from .messages import READ_SIZE, ReadChunk
from .operations import Chunk, Content, Space

AT_ONCE = 16
"""Files that are looked at, at once."""

READ_TIMEOUT_S = 10.0


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


async def examine(files: FilesClient, content: Content) -> list[Examined]:
    """All chunks of a file."""
    held = await asyncio.gather(*(files.held(chunk) for chunk in content.chunks))
    return [Examined(chunk, each) for chunk, each in zip(content.chunks, held, strict=True)]


async def check(files: FilesClient, path: str, door: Door | None = None) -> AsyncIterator[Checked]:
    """Look at all files below a path, and tell after each few what was found in them.

    With a `door`, every copy is read through it, and each block of it verified.
    """
    space = await files.space()
    batch: list[str] = []
    async for where, stat in walk(files, path):
        if stat.kind == "file":
            batch.append(where)
        if len(batch) == AT_ONCE:
            yield await _check_files(files, batch, space, door)
            batch = []
    yield await _check_files(files, batch, space, door)


async def _check_files(files: FilesClient, paths: list[str], space: Space, door: Door | None) -> Checked:
    checked = Checked()
    for found in await asyncio.gather(*(_check_file(files, path, space, door) for path in paths)):
        checked.files += found.files
        checked.chunks += found.chunks
        checked.copies += found.copies
        checked.problems += found.problems
    return checked


async def _check_file(files: FilesClient, path: str, space: Space, door: Door | None) -> Checked:
    checked = Checked(files=1)
    try:
        content = await files.content(path)
    except Refused:
        return Checked()  # it was removed meanwhile
    lost = {server.server for server in space.servers if not server.is_up}
    for examined in await examine(files, content):
        chunk = examined.chunk
        if door is not None:
            examined = Examined(chunk, await _read_copies(door, examined))
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


async def _read_copies(door: Door, examined: Examined) -> dict[str, int | Failure]:
    """What each server holds by its bytes, of those that said what they hold."""
    return {
        server: crc if isinstance(crc, Failure) else await _read_copy(door, server, examined.chunk)
        for server, crc in examined.held.items()
    }


async def _read_copy(door: Door, server: str, chunk: Chunk) -> int | Failure:
    checksums: list[int] = []
    try:
        for offset in range(0, chunk.size, READ_SIZE):
            size = min(READ_SIZE, chunk.size - offset)
            piece = await door.ask(
                Ref(server), ReadChunk(chunk=chunk.chunk, offset=offset, size=size), READ_TIMEOUT_S
            )
            if len(piece.content) != size or bad_block(piece.content, piece.checksums) is not None:
                return Refused(f"what it sends at {offset} is not what it has")
            checksums += block_checksums(piece.content)
    except Failure as failure:
        return failure
    return seal_crc(checksums)
