"""A small state machine for tests of peers: it keeps what it is told, in order, and tells who watches."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from zactor.errors import Refused
from zactor.message import decoder, encode
from zactor.statemachine import Entry, Told

_decode = decoder(tuple[bytes, ...])


class Ledger:
    """`query(b"")` is all items; a watch from n on is told the items from there."""

    def __init__(self) -> None:
        self.items: list[bytes] = []
        self.times: list[int] = []
        self.due_ns = 0
        self._watches: dict[int, int] = {}
        self._events: list[Told] = []

    def apply(self, entries: Sequence[Entry]) -> list[bytes]:
        answers = []
        for entry in entries:
            if not entry.body:
                self.due_ns = 0
            else:
                self.items.append(entry.body)
                self.times.append(entry.time_ns)
            if entry.body[:4] == b"due:":
                self.due_ns = entry.time_ns + int(entry.body[4:])
            answers.append(b"%d" % len(self.items))
        for token, first in list(self._watches.items()):
            if len(self.items) > first:
                del self._watches[token]
                self._events.append(Told(token, encode(self.items[first:])))
        return answers

    def end_session(self, session: int) -> None:
        self.items.append(b"end %d" % session)

    def query(self, body: bytes) -> bytes:
        if body:
            raise Refused(f"no question: {body!r}")
        return encode(self.items)

    def watch(self, token: int, body: bytes) -> bytes | None:
        first = int(body)
        if len(self.items) > first:
            return encode(self.items[first:])
        self._watches[token] = first
        return None

    def unwatch(self, token: int) -> None:
        self._watches.pop(token, None)

    def events(self) -> list[Any]:
        events, self._events = self._events, []
        return events

    def snapshot(self) -> Iterator[bytes]:
        items = list(self.items)
        return (encode(items[start : start + 8]) for start in range(0, len(items), 8))

    def restore(self, parts: Iterable[bytes]) -> None:
        self.items = [item for part in parts for item in _decode(part)]
        self._watches.clear()

    def digest(self) -> int:
        return zlib.crc32(encode(self.items))
