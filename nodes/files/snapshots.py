"""What a snapshot of the namespace looks like: a head, what sessions hold, then blocks of entries (`tables.Block`).

What sessions hold is little, and taken when the snapshot is. No part is large, unless a single put or file in it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec

from zactor.errors import Corrupt
from zactor.message import UNDECODABLE, decoder, encode

from .servers import Server
from .tables import Block, Folder, Tables, in_parts
from .writes import Pins, Put, Writes

FORMAT = 1
"""Another number is refused."""

PLACE_SIZE = 48
"""Bytes of one place of a put, about."""


class Head(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The first part. The counts say when one of the others is missing."""

    format: int
    volume: int
    copies: int
    chunk_size: int
    next_inode: int
    root: Folder
    servers: list[Server]
    entry_count: int
    put_count: int
    pin_count: int
    orphan_count: int


class PutsPart(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Puts under way, by inode."""

    puts: list[tuple[int, Put]]


class PinsPart(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Which session reads which inode, and how many times."""

    pins: list[tuple[int, int, int]]


class OrphansPart(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Inodes without a name that are being read, and their records."""

    orphans: list[tuple[int, bytes]]


Part: TypeAlias = Head | PutsPart | PinsPart | OrphansPart | Block

_decode = decoder(Head | PutsPart | PinsPart | OrphansPart | Block)


def held_parts(writes: Writes, pins: Pins, orphans: Iterable[int], tables: Tables) -> Iterator[bytes]:
    """What sessions hold, in the order of numbers: equal states have equal parts."""
    for puts in in_parts(sorted(writes.puts.items()), lambda item: PLACE_SIZE * (len(item[1].places) + 1)):
        yield encode(PutsPart(puts))
    held = [(session, *item) for session, of in sorted(pins.held.items()) for item in sorted(of.items())]
    for some in in_parts(held, lambda _: 16):
        yield encode(PinsPart(some))
    records = [(inode, tables.leaves[inode]) for inode in sorted(orphans)]
    for lost in in_parts(records, lambda item: len(item[1])):
        yield encode(OrphansPart(lost))


def decode_part(part: bytes) -> Part:
    """A part of a snapshot. Raises `Corrupt`."""
    try:
        decoded: Part = _decode(part)
    except UNDECODABLE as error:
        raise Corrupt(f"a part of a snapshot cannot be read: {error}") from error
    return decoded


def decode_head(part: bytes) -> Head:
    """The first part of a snapshot. Raises `Corrupt`."""
    head = decode_part(part)
    if not isinstance(head, Head):
        raise Corrupt("a snapshot does not begin with its head")
    if head.format != FORMAT:
        raise Corrupt(f"a snapshot in format {head.format}; this version reads {FORMAT}")
    return head
