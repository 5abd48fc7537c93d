"""A store in a file: JSON lines, a head and an item each, with keys and values in base64.

It is of one revision. What has a lease is left out: it is there for as long as its holder is, who will not be where
the file is read. A file is whole or not read at all: its head says how many items follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from zactor.errors import UserError
from zactor.message import UNDECODABLE

from . import operations as op
from .client import KvClient

FORMAT = 1
"""Another number is refused."""

BATCH_SIZE = 1 << 20
"""Bytes of keys and values that are put in one transaction, unless one of them is larger."""


class Head(msgspec.Struct, forbid_unknown_fields=True):
    """The first line."""

    zactor_kv: int
    revision: int
    keys: int


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """An item: a key and its value."""

    key: op.Key
    value: op.Value


_encode = msgspec.json.Encoder().encode
_decode_head = msgspec.json.Decoder(Head).decode
_decode_line = msgspec.json.Decoder(Line).decode


def written(revision: int, items: list[op.Item]) -> Iterator[bytes]:
    """The lines of a file with these items."""
    yield _encode(Head(FORMAT, revision, len(items))) + b"\n"
    for item in items:
        yield _encode(Line(item.key, item.value)) + b"\n"


def read(lines: Iterable[bytes], name: str) -> list[Line]:
    """The items of a file. Raises `UserError` with the line that is wrong."""
    numbered = enumerate(lines, 1)
    number, first = next(numbered, (1, b""))
    items = []
    try:
        head = _decode_head(first)
        for number, line in numbered:  # noqa: B007 - the error says it
            items.append(_decode_line(line))
    except UNDECODABLE as error:
        raise UserError(f"{name}:{number}: this is no line of a saved store: {error}") from None
    if head.zactor_kv != FORMAT:
        raise UserError(f"{name}:1: it has format {head.zactor_kv}; this version reads {FORMAT}")
    if head.keys != len(items):
        raise UserError(f"{name}: it has {len(items)} keys of {head.keys}: it is not whole")
    return items


async def put_all(client: KvClient, items: list[Line]) -> None:
    """Put them, many in one transaction."""
    puts: dict[bytes, op.Put] = {}
    size = 0
    for item in items:
        if puts and (len(puts) == op.STEPS_MAX or size > BATCH_SIZE or item.key in puts):
            await client.transaction(success=tuple(puts.values()))
            puts, size = {}, 0
        puts[item.key] = op.Put(item.key, item.value)
        size += len(item.key) + len(item.value)
    if puts:
        await client.transaction(success=tuple(puts.values()))
