"""What happened, as one number: a hash over all that reached an actor or left a mark, in its order.

Two runs of the same seed have the same trace, whatever PYTHONHASHSEED and whichever Python; where they differ,
something reached an actor that the simulator does not hold in its hands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from zactor.message import encode

_encode = msgspec.msgpack.Encoder(enc_hook=repr, order="deterministic").encode

PASS, TIMER, DISK, LOG, FAULT, BOOK, MAIL = range(7)

UNSTABLE = frozenset({"traceback"})
"""Fields of log events that differ between versions of Python."""


class Trace:
    """Add what happened, with the time and the number of the process that it happened to.

    `add` takes integers and bytes: time, number, then a frame that arrived with its blobs; or time, number, kind and
    a count, for a timer that rang and for a pass that ended after so many messages. So no two stories look the same.
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._parts: list[int | bytes] = []  # not hashed yet: see `digest`
        self.add = self._parts.extend

    def value(self, now_ns: int, number: int, kind: int, value: Any) -> None:
        """Anything else that can be encoded, such as an operation of the disk."""
        self.add((now_ns, number, kind, 0, _encode(value)))

    def log(self, now_ns: int, number: int, event: str, node: str, fields: Mapping[str, Any]) -> None:
        """A log event."""
        if not UNSTABLE.isdisjoint(fields):
            fields = {name: value for name, value in fields.items() if name not in UNSTABLE}
        self.value(now_ns, number, LOG, (event, node, fields))

    def mail(self, now_ns: int, number: int, message_id: int, message: Any) -> None:
        """A message within a process, which no frame has. One that cannot be encoded is known by its type."""
        try:
            body = encode(message)
        except Exception:
            body = type(message).__qualname__.encode()
        self.add((now_ns, number, MAIL, message_id, body))

    def hexdigest(self) -> str:
        """The number so far."""
        self.digest()
        return self._hash.hexdigest()

    def digest(self) -> None:
        """Hash what was added since the last time: many at once cost less. To be called now and then."""
        self._hash.update(_encode(self._parts))
        self._parts.clear()
