"""What a snapshot of the store looks like: a head, then leases, changes and items in parts of their own.

The items are walked while the store goes on; the rest is references, copied at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import TypeAlias, TypeVar

import msgspec

from zactor.errors import Corrupt
from zactor.message import UNDECODABLE, decoder, encode

from .backlog import Backlog
from .items import Items
from .leases import Held, Leases
from .operations import Item, Number

T = TypeVar("T")

FORMAT = 1
"""Another number is refused."""

PART_SIZE = 256 << 10
"""Bytes of what one part holds, unless a single thing in it is larger."""

ITEM_SIZE = 40
"""Bytes of an item beside its key and value, about; and of a lease."""


class Head(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The first part. The counts say when one of the others is missing."""

    format: int
    revision: Number
    time_ns: Number
    compacted: Number
    first_change: Number
    lease_count: Number
    change_count: Number
    item_count: Number


class LeasesPart(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Leases, in the order of their ids."""

    leases: list[Held]


class ChangesPart(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The last changes, in order."""

    changes: list[Item]


class ItemsPart(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Items, in the order of their keys."""

    items: list[Item]


Part: TypeAlias = Head | LeasesPart | ChangesPart | ItemsPart

_decode = decoder(Part)


class Restored(msgspec.Struct, frozen=True):
    """What a snapshot holds."""

    head: Head
    leases: Leases
    backlog: Backlog
    items: Items


def freeze(revision: int, time_ns: int, leases: Leases, backlog: Backlog, items: Items) -> Generator[bytes]:
    """The state as it is at this call, in parts. One at a time; `close` it to give it up."""
    held, changes = list(leases.by_id.values()), list(backlog.changes)
    head = Head(FORMAT, revision, time_ns, backlog.compacted, backlog.first, len(held), len(changes), len(items.by_key))
    parts = _parts(head, held, changes, items.freeze())
    next(parts)  # to where `close` gives up the items
    return parts


def _parts(head: Head, held: list[Held], changes: list[Item], blocks: Generator[list[Item]]) -> Generator[bytes]:
    try:
        yield b""
        yield encode(head)
        for some in _in_parts(held, lambda _: ITEM_SIZE):
            yield encode(LeasesPart(some))
        for part in _in_parts(islice(changes, head.change_count), _item_size):
            yield encode(ChangesPart(part))
        for block in blocks:
            for part in _in_parts(block, _item_size):
                yield encode(ItemsPart(part))
    finally:
        blocks.close()


def _item_size(item: Item) -> int:
    return len(item.key) + len(item.value) + ITEM_SIZE


def _in_parts(things: Iterable[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    part: list[T] = []
    size = 0
    for thing in things:
        part.append(thing)
        size += size_of(thing)
        if size >= PART_SIZE:
            yield part
            part, size = [], 0
    if part:
        yield part


def restore(parts: Iterable[bytes]) -> Restored:
    """The state of a snapshot. Raises `Corrupt`."""
    remaining = iter(parts)
    head = _decode_head(next(remaining, b""))
    held: list[Held] = []
    changes: list[Item] = []
    items: list[Item] = []
    for part in map(_decode_part, remaining):
        match part:
            case LeasesPart():
                held += part.leases
            case ChangesPart():
                changes += part.changes
            case ItemsPart():
                items += part.items
            case Head():
                raise Corrupt("a snapshot has two heads")
    restored = Restored(head, Leases(held), Backlog(changes, head.compacted, head.first_change), Items(items))
    counts = (len(restored.leases.by_id), len(changes), len(restored.items.by_key))
    if counts != (head.lease_count, head.change_count, head.item_count):
        raise Corrupt(f"a snapshot has other leases, changes and items {counts} than its head says: {head}")
    _attach(restored)
    return restored


def _attach(restored: Restored) -> None:
    for item in restored.items.by_key.values():
        if item.lease:
            if item.lease not in restored.leases.by_id:
                raise Corrupt(f"a snapshot has a key of lease {item.lease}, which is not in it")
            restored.leases.attach(item.key, item.lease)


def _decode_part(part: bytes) -> Part:
    try:
        decoded: Part = _decode(part)
    except UNDECODABLE as error:
        raise Corrupt(f"a part of a snapshot cannot be read: {error}") from error
    return decoded


def _decode_head(part: bytes) -> Head:
    head = _decode_part(part)
    if not isinstance(head, Head):
        raise Corrupt("a snapshot does not begin with its head")
    if head.format != FORMAT:
        raise Corrupt(f"a snapshot in format {head.format}; this version reads {FORMAT}")
    return head
