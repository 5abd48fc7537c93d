"""A chunk is fetched from other servers: its list of checksums first, and then each piece from whoever has it.

The list must be that of the wanted checksum and each piece that of the list, so it does not matter which server a piece
comes from, nor whom one believes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable

import msgspec

from zactor.actor import Actor
from zactor.errors import Corrupt, Failure

from .chunks import (
    CHECKSUM_SIZE,
    SealedName,
    bad_block,
    block_checksums,
    block_count,
    seal_crc,
    unpack_checksums,
    write_footer,
)
from .messages import BLOCK_SIZE, READ_SIZE, SMALL_SIZE_MAX, CopyChunk, MissingChunk, Piece, ReadChecksums, ReadChunk
from .store import Store

WINDOW = 4
"""Pieces that are under way: enough to keep a disk and a connection busy, and 4 MiB of memory."""

ANSWER_TIMEOUT_S = 30.0


async def fetch(actor: Actor, store: Store, wanted: CopyChunk) -> None:
    """Make a chunk durable here. Raises `MissingChunk` or `Corrupt` when no source has it, and `DiskFull`."""
    name = SealedName(wanted.chunk, wanted.size, wanted.crc)
    if wanted.size <= SMALL_SIZE_MAX:
        piece = await _from_any(actor, wanted, _Range(0, wanted.size), None)
        await store.segments.store(wanted.chunk, piece.content, wanted.crc)
        return
    checksums = await _checksums(actor, wanted)
    file = store.files.copy_file(name)
    try:
        await _fetch_pieces(actor, wanted, checksums, file)
        await actor.disk.write(file, wanted.size, write_footer(wanted.chunk, wanted.size, checksums))
        await actor.disk.synced()
    except BaseException:
        actor.disk.remove(file)
        raise
    await store.files.adopt(file, name)


class _Range(msgspec.Struct, frozen=True):
    """Bytes of a chunk."""

    offset: int
    size: int


async def _checksums(actor: Actor, wanted: CopyChunk) -> tuple[int, ...]:
    problems: list[Failure] = []
    for source in wanted.sources:
        try:
            packed = await actor.ask(source, ReadChecksums(chunk=wanted.chunk), ANSWER_TIMEOUT_S)
            if len(packed) == CHECKSUM_SIZE * block_count(wanted.size):
                checksums = unpack_checksums(packed)
                if seal_crc(checksums) == wanted.crc:
                    return checksums
            raise Corrupt(f"{source.name} has other checksums of chunk {wanted.chunk:016x}")
        except Failure as error:
            problems.append(error)
    raise _none_has_it(wanted, problems)


async def _fetch_pieces(actor: Actor, wanted: CopyChunk, checksums: tuple[int, ...], file: str) -> None:
    """Write all pieces into a file. Several are under way, all from the first source; another mends what fails."""
    asked: deque[tuple[_Range, Awaitable[Piece]]] = deque()
    offset = 0
    while asked or offset < wanted.size:
        while offset < wanted.size and len(asked) < WINDOW:
            part = _Range(offset, min(READ_SIZE, wanted.size - offset))
            asked.append((part, actor.ask(wanted.sources[0], _question(wanted, part), ANSWER_TIMEOUT_S)))
            offset += part.size
        part, answer = asked.popleft()
        first = part.offset // BLOCK_SIZE
        expected = checksums[first : first + block_count(part.size)]
        try:
            piece = await answer
            _check(wanted, part, piece, expected)
        except Failure:
            piece = await _from_any(actor, wanted, part, expected)
        await actor.disk.write(file, part.offset, piece.content)


async def _from_any(actor: Actor, wanted: CopyChunk, part: _Range, expected: tuple[int, ...] | None) -> Piece:
    """A piece from the first source that has it as `expected`; None: it is a whole small chunk."""
    problems: list[Failure] = []
    for source in wanted.sources:
        try:
            piece = await actor.ask(source, _question(wanted, part), ANSWER_TIMEOUT_S)
            _check(wanted, part, piece, expected)
            return piece
        except Failure as error:
            problems.append(error)
    raise _none_has_it(wanted, problems)


def _question(wanted: CopyChunk, part: _Range) -> ReadChunk:
    return ReadChunk(chunk=wanted.chunk, offset=part.offset, size=max(1, part.size))


def _check(wanted: CopyChunk, part: _Range, piece: Piece, expected: tuple[int, ...] | None) -> None:
    if expected is None:
        expected = block_checksums(piece.content)
        is_right = len(piece.content) == part.size and seal_crc(expected) == wanted.crc
    else:
        is_right = len(piece.content) == part.size and bad_block(piece.content, expected) is None
    if not is_right:
        raise Corrupt(f"chunk {wanted.chunk:016x}: what came for offset {part.offset} is not what was sealed")


def _none_has_it(wanted: CopyChunk, problems: list[Failure]) -> Failure:
    text = "; ".join(map(str, problems)) or "there is no source"
    kind = Corrupt if any(isinstance(error, Corrupt) for error in problems) else MissingChunk
    return kind(f"chunk {wanted.chunk:016x} cannot be copied: {text}")
