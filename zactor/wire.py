"""What goes between kernels: lanes, routes, letters and frames.

A **letter** is a message with its envelope; a **frame** is what one process sends another in one piece: a header, the
names that its letters use, and the letters. Each letter's body is decoded on its own, so a bad one costs that message
and no other. Every limit on what a peer may send stands here.
"""

from __future__ import annotations

import copy
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from zactor.errors import TooLarge
from zactor.message import (
    MESSAGE_SIZE_MAX,
    NAME_LENGTH_MAX,
    UNDECODABLE,
    Message,
    Opaque,
    bulk_fields,
    decoder,
    encode,
)

PROTOCOL_VERSION = 1

FRAME_LETTERS = 128
"""Letters after which a frame is closed: beyond this a larger frame brings nothing (see tests/bench)."""

NAMES_KEPT = 8
"""Names that a batch keeps for its next frame: who talks little mostly says the same, and need not look for them."""

NAMES_MAX = 3 * FRAME_LETTERS + NAMES_KEPT
"""Names in a frame: those of its letters, and those that it kept."""

FRAME_BYTES = 256 << 10
"""Bytes after which a frame is closed: one more message may lie above it."""

LETTER_BYTES = 64 << 10
"""Bytes of an answer with its envelope above which it travels on the bulk lane: beyond this it would hold up others."""

FRAME_SIZE_MAX = MESSAGE_SIZE_MAX + FRAME_BYTES + (64 << 10)
"""A closed frame, one largest message, and a header with its names: a larger one is refused by name."""

SOCKET_SIZE_MAX = 2 * FRAME_SIZE_MAX
"""What a socket takes in at all, so that who sends too much can be told apart; beyond it the connection ends."""

CONTROL, MAIL, BULK = range(3)
LANES = ("control", "mail", "bulk")
"""The streams of a connection: kernels and answers, messages, and messages with a `Bulk` field."""


class Route(NamedTuple):
    """Who sends by a connection. `token` is drawn for each session, so that nobody else can take its place."""

    process: str
    incarnation: int
    lane: int
    token: str

    def __str__(self) -> str:
        return f"{self.process}#{self.incarnation}#{LANES[self.lane]}#{self.token}"

    @classmethod
    def parse(cls, text: str) -> Route | None:
        """The route of that name, or None for one that is not written so."""
        parts = text.rsplit("#", 3)
        if len(parts) != 4 or not parts[0] or len(text) > 255 or not parts[1].isdecimal() or parts[2] not in LANES:
            return None
        return cls(parts[0], int(parts[1]), LANES.index(parts[2]), parts[3])


class Inspect(Message[dict[str, Any]], wire="$inspect"):
    """Ask a kernel what `ps` shows. It answers at once, however full its mailboxes are."""


class Taken(Message[None], wire="$taken"):
    """Ask a kernel whether it has all mail that left before this. It answers at once."""


# --- what a message is on the wire
_one_value = decoder(msgspec.Raw)


def unwrap(message: Opaque) -> tuple[str, msgspec.Raw, tuple[bytes, ...]]:
    """The wire name, body and pieces of bulk that an `Opaque` holds. Raises ValueError for what would spoil a frame."""
    if message.name[:1] == "$" or len(message.name) > NAME_LENGTH_MAX:
        raise ValueError(f"an Opaque holds a message, and none has the name {message.name[:40]!r}")
    try:
        _one_value(message.body)
    except UNDECODABLE as problem:
        raise ValueError(f"the body of an Opaque is one msgpack value: {problem}") from None
    return message.name, message.body, message.blobs


def lane_of(message: Any) -> int:
    """The lane that a message travels on."""
    kind = message.__class__
    if kind is Opaque:
        return BULK if message.blobs else MAIL
    return CONTROL if kind is Inspect else BULK if bulk_fields(kind) else MAIL


def split(value: Any) -> tuple[Any, tuple[bytes, ...]]:
    """What of a value is encoded, and the bytes that travel beside it. Raises TypeError for bulk that is no bytes."""
    kind = value.__class__
    if kind is bytes and len(value) > LETTER_BYTES:
        return b"", (value,)
    fields = bulk_fields(kind)
    if not fields:
        return value, ()
    blobs = tuple(getattr(value, name) for name in fields)
    for name, blob in zip(fields, blobs, strict=True):
        if blob.__class__ is not bytes:
            raise TypeError(f"{kind.__name__}.{name} is Bulk, so it is bytes, not {type(blob).__name__}")
    rest = copy.copy(value)  # which, unlike `replace`, runs no check of the message's own
    for name in fields:
        msgspec.structs.force_setattr(rest, name, b"")
    return rest, blobs


def unsplit(value: Any, blobs: tuple[bytes, ...]) -> Any:
    """The value that `split` took apart; `value` has just been decoded. Raises ValueError for too few or many."""
    if value.__class__ is bytes and len(blobs) == 1:
        return blobs[0]
    fields = bulk_fields(value.__class__)
    if len(fields) != len(blobs):
        raise ValueError(f"{len(blobs)} pieces of bulk came for {type(value).__name__}, which has {len(fields)}")
    for name, blob in zip(fields, blobs, strict=True):
        msgspec.structs.force_setattr(value, name, blob)
    return value


# --- letters and frames
_Index = typing.Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]
_Id = typing.Annotated[int, msgspec.Meta(ge=0)]
_Name = typing.Annotated[str, msgspec.Meta(max_length=NAME_LENGTH_MAX)]

Chain = tuple[tuple[str, int], ...]
"""Who waits for an ask, outermost first: (actor, id of its ask)."""

CHAIN_LENGTH_MAX = 64
"""Asks nested deeper than this are refused: no protocol needs it, and a chain is sent with each of them."""


class Asked(msgspec.Struct, array_like=True, gc=False):
    """The part of a letter that only an ask has. Time left, since the clocks of two hosts differ.

    `chain` ends before the letter, whose sender and id are its last link.
    """

    left_ns: int
    chain: typing.Annotated[tuple[tuple[_Name, _Id], ...], msgspec.Meta(max_length=CHAIN_LENGTH_MAX - 1)]


class Letter(msgspec.Struct, array_like=True, gc=False):
    """A message with its envelope. `kind`, `target` and `sender` are indices into the names of its frame."""

    kind: _Index
    target: _Index
    sender: _Index
    id: _Id
    cause: _Id
    root: _Id
    hlc: _Id
    body: msgspec.Raw
    ask: Asked | None = None
    blobs: _Index = 0  # how many of the blobs beside the frame are its


class Frame(msgspec.Struct, array_like=True, gc=False):
    """What one process sends another in one piece, on one lane of their connection.

    `sequence` counts the frames of a session and lane that have letters, from 1; in a frame with sequence 0, letters
    greet or refuse, and without letters it only acknowledges. `acknowledged` is the last sequence taken of each lane.
    """

    version: int
    session: _Id
    sequence: _Id
    acknowledged: tuple[_Id, _Id, _Id]
    names: typing.Annotated[list[_Name], msgspec.Meta(max_length=NAMES_MAX)]
    letters: typing.Annotated[list[Letter], msgspec.Meta(max_length=FRAME_LETTERS)]


decode_frame: Callable[[bytes], Frame] = msgspec.msgpack.Decoder(Frame).decode


_COUNTS = tuple(b"\xdd" + count.to_bytes(4, "big") for count in range(FRAME_LETTERS + 1))
"""How an array of so many letters begins: msgpack's array 32."""


class Batch:
    """Letters on their way into one frame, and then into the next. Names that several of them use are written once."""

    __slots__ = ("_head", "_head_names", "blobs", "letters", "names", "size")

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self._head = b""  # so many names, encoded
        self._head_names = -1
        self.letters: list[bytes] = []
        self.blobs: list[bytes] = []
        self.size = 0

    def add(
        self,
        kind: str,
        target: str,
        sender: str,
        id: int,  # noqa: A002 - the envelope's own word
        cause: int,
        root: int,
        hlc: int,
        body: Any,
        ask: tuple[int, Chain] | None = None,
        blobs: tuple[bytes, ...] = (),
        size_max: int = MESSAGE_SIZE_MAX,
    ) -> int:
        """Encode one letter. Returns its size in bytes; raises `TooLarge`, or TypeError for a bad value."""
        names = self.names
        known = len(names)
        a = names.setdefault(kind, known)
        b = names.setdefault(target, len(names))
        c = names.setdefault(sender, len(names))
        try:
            if blobs:
                letter = encode((a, b, c, id, cause, root, hlc, body, ask, len(blobs)))
                size = len(letter) + sum(map(len, blobs))
            else:
                letter = encode((a, b, c, id, cause, root, hlc, body, ask))
                size = len(letter)
            if size > size_max:
                raise TooLarge(f"{kind} to {target} has {size} bytes; at most {size_max} travel in one message")
        except Exception:
            self.forget_names(known)
            raise
        self.letters.append(letter)
        self.blobs += blobs
        self.size += size
        return size

    def forget_names(self, known: int) -> None:
        """Keep so many names; else those of letters that never leave would overflow the frame."""
        for name in list(self.names)[known:]:
            del self.names[name]

    def close(self) -> bytes:
        """The names and letters as they stand at the end of a frame; the blobs travel beside it. It is empty then."""
        letters, known = self.letters, len(self.names)
        if known != self._head_names:
            self._head, self._head_names = encode(list(self.names)), known
        # Joined now and not when it leaves: a flood that waits is faster in large pieces than in many small ones.
        whole = b"".join((self._head, _COUNTS[len(letters)], *letters))
        letters.clear()
        self.size = 0
        if self.blobs:
            self.blobs = []
        if known > NAMES_KEPT:
            self.names, self._head_names = {}, -1
        return whole


EMPTY = Batch().close()


def frame(session: int, sequence: int, acknowledged: tuple[int, int, int], rest: bytes) -> bytes:
    """A whole frame: its header and a closed batch."""
    header = encode((PROTOCOL_VERSION, session, sequence, acknowledged))
    return b"\x96" + header[1:] + rest  # an array of four becomes one of six: msgpack's fixarray 0x9X
