"""Messages, references, and the form in which they travel.

A `Message` is a typed, frozen value. On the wire it is a msgpack array in the order of its fields, so a
field that is added at the end with a default keeps two versions able to talk. A **letter** is a message with
its envelope; a **frame** is what one process sends another in one piece: a header, the names that its letters
use, and the letters. Each letter's body is decoded on its own, so a bad one costs that message and no other.

Every limit on what a peer may send stands here.
"""

from __future__ import annotations

import collections.abc
import copy
import functools
import types
import typing
from collections.abc import Callable
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import msgspec

from zactor.errors import TooLarge, plugin_name

A_co = TypeVar("A_co", covariant=True)
M_contra = TypeVar("M_contra", contravariant=True)

PROTOCOL_VERSION = 1

MESSAGE_SIZE_MAX = 8 << 20
"""Bytes of one encoded message with its envelope. Larger things are sent in pieces."""

FRAME_LETTERS = 128
"""Letters after which a frame is closed: beyond this a larger frame brings nothing (see tests/bench)."""

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

NAME_LENGTH_MAX = 255
"""Characters of a node's, process's or message's name."""


# --- routes: how a connection is named, by its routing id
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


# --- ids: 10 bits of process number, 12 bits of incarnation, 42 bits of sequence
SEQUENCE_BITS = 42
INCARNATION_BITS = 12
CLIENT_NUMBER = 1023
"""The process number of every client; it draws its incarnation and its first sequence by lot."""


def first_id(number: int, incarnation: int) -> int:
    """The id before the first one that this incarnation of a process gives."""
    return (number << INCARNATION_BITS | incarnation & ((1 << INCARNATION_BITS) - 1)) << SEQUENCE_BITS


def format_id(number: int) -> str:
    """A message id as people read it: `process.incarnation.sequence`."""
    origin = number >> SEQUENCE_BITS
    return (
        f"{origin >> INCARNATION_BITS}.{origin & ((1 << INCARNATION_BITS) - 1)}.{number & ((1 << SEQUENCE_BITS) - 1)}"
    )


class Ref(Generic[M_contra]):
    """Whom one talks to: the name of an actor, wherever it lives. `Ref[Greet | Bye]` says what it takes.

    A ref that came in a message, in an envelope or from `spawn` can be kept and sent on; two refs are equal
    when their names are. `drop` is the overflow policy of the link it came from.
    """

    __slots__ = ("cell", "drop", "name", "peer")

    def __init__(self, name: str, cell: Any = None, *, drop: bool = False) -> None:
        self.name = name
        self.cell = cell  # the runtime record of an actor in this process, found by its kernel
        self.peer: Any = None  # the connection to another process, found by this kernel
        self.drop = drop

    def __repr__(self) -> str:
        return f"Ref({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


Refs = tuple[Ref[M_contra], ...]
"""A link to any number of actors."""


if typing.TYPE_CHECKING:
    # Checkers see no Struct here: mypy lets the transform declared on msgspec's own metaclass win over
    # the one below it, and then overlooks that fields are frozen and keyword-only.
    @typing.dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
    class MessageType(type):
        """The metaclass of messages."""

    class Message(Generic[A_co], metaclass=MessageType):
        """A typed, frozen value that is answered by an `A_co`; `Message[None]` is only acknowledged."""

        wire: ClassVar[str]
        answer: ClassVar[Any]

else:

    class MessageType(msgspec.StructMeta):
        """The metaclass of messages: frozen, keyword-only, arrays on the wire, with a wire name."""

        def __new__(mcls, name, bases, namespace, wire=None, **options):
            options = {"frozen": True, "kw_only": True, "array_like": True, **options}
            cls = super().__new__(mcls, name, bases, namespace, **options)
            if bases != (msgspec.Struct, Generic):
                cls.wire = wire or f"{plugin_name(cls.__module__)}.{name}"
                answers = [
                    typing.get_args(base)[0]
                    for base in cls.__orig_bases__
                    if typing.get_args(base) and typing.get_origin(base) is Message
                ]
                if answers:
                    cls.answer = answers[0]
            return cls

    class Message(msgspec.Struct, Generic[A_co], metaclass=MessageType):
        """A typed, frozen value that is answered by an `A_co`; `Message[None]` is only acknowledged."""

        wire: ClassVar[str] = "zactor.Message"
        answer: ClassVar[Any] = None


Bulk = typing.Annotated[bytes, msgspec.Meta(description="travels on the bulk lane")]
"""The type of a field with many bytes: a message that has one travels on the bulk lane, beside small mail, and these
bytes are not copied into its letter. It is `bytes` to whoever uses it."""


class Opaque(Message["Opaque"], wire="zactor.Opaque"):
    """A message that is passed on undecoded, as it came: whoever has a handler for it takes what it has no other for.

    `name` is its wire name. An ask of an `Opaque` is answered by an `Opaque`, and what is answered with one is what
    it holds.
    """

    name: str
    body: msgspec.Raw
    blobs: tuple[bytes, ...] = ()


Opaque.answer = Opaque


class Inspect(Message[dict[str, Any]], wire="$inspect"):
    """Ask a kernel what `ps` shows. It answers at once, however full its mailboxes are."""


class Taken(Message[None], wire="$taken"):
    """Ask a kernel whether it has all mail that left before this. It answers at once."""


class Envelope(msgspec.Struct, frozen=True):
    """What a handler may know of the message it handles, when it takes a second parameter `envelope`."""

    sender: Ref[Any] | None
    id: int
    cause: int
    root: int
    left_ns: int | None
    """Nanoseconds until the asker gives up; None for a message that nobody waits for."""


# --- the codec
def _encode_unknown(value: Any) -> Any:
    if isinstance(value, Ref):
        return value.name
    raise TypeError(f"a {type(value).__name__} cannot be sent: messages hold msgpack's types, structs and refs")


def _decode_unknown(kind: Any, value: Any) -> Any:
    if kind is Ref or typing.get_origin(kind) is Ref:
        if not isinstance(value, str) or len(value) > NAME_LENGTH_MAX:
            raise ValueError("a ref is the name of an actor")
        return Ref(value)
    raise TypeError(f"{kind} cannot be received")


UNDECODABLE = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
"""What decoding something bad can raise."""

encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder(enc_hook=_encode_unknown).encode


def decoder(kind: Any) -> Callable[[bytes | msgspec.Raw], Any]:
    """A function that decodes bytes to a checked value of that type, or raises `msgspec.MsgspecError`."""
    decode: Callable[[bytes | msgspec.Raw], Any] = msgspec.msgpack.Decoder(kind, dec_hook=_decode_unknown).decode
    return decode


@functools.cache
def answer_decoder(kind: type[Message[Any]]) -> Callable[[bytes | msgspec.Raw], Any]:
    """A decoder of the answers to a message of that kind."""
    return decoder(type(None) if kind.answer is None else kind.answer)


@functools.cache
def bulk_fields(kind: type) -> tuple[str, ...]:
    """The fields of a message or struct that are `Bulk`."""
    hints = typing.get_type_hints(kind, include_extras=True) if issubclass(kind, msgspec.Struct) else {}
    return tuple(name for name, hint in hints.items() if hint == Bulk)


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


_MUTABLE = (list, dict, set, bytearray, collections.abc.MutableSequence, collections.abc.MutableMapping)


def check_immutable(kind: type[Message[Any]]) -> None:
    """Raise TypeError when a field could be changed: within a process a message is shared by reference."""
    if bulk_fields(kind) and hasattr(kind, "__post_init__"):
        raise TypeError(
            f"{kind.__name__} has Bulk and __post_init__, which would see it empty; check it in the handler"
        )
    seen: set[Any] = {kind}
    todo = [(name, annotation) for name, annotation in typing.get_type_hints(kind).items()]
    while todo:
        field, part = todo.pop()
        origin = typing.get_origin(part) or part
        if origin is ClassVar or origin in seen:
            continue
        is_struct = isinstance(origin, type) and issubclass(origin, msgspec.Struct)
        if origin in _MUTABLE or (is_struct and not origin.__struct_config__.frozen):
            mend = "make it frozen=True" if is_struct else "use tuple, frozenset or a tuple of pairs"
            raise TypeError(
                f"{kind.__name__}.{field} is a {origin.__name__}, which can be changed after it was sent; {mend}"
            )
        if is_struct:
            seen.add(origin)
            todo.extend((f"{field}.{name}", inner) for name, inner in typing.get_type_hints(origin).items())
        elif origin in (typing.Union, types.UnionType, tuple, frozenset, typing.Annotated):
            todo.extend((field, inner) for inner in typing.get_args(part))


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
    names: typing.Annotated[list[_Name], msgspec.Meta(max_length=FRAME_LETTERS * 3)]
    letters: typing.Annotated[list[Letter], msgspec.Meta(max_length=FRAME_LETTERS)]


decode_frame: Callable[[bytes], Frame] = msgspec.msgpack.Decoder(Frame).decode


class Batch:
    """Letters on their way into one frame. Names that several of them use are written once."""

    __slots__ = ("blobs", "letters", "names", "size")

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
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
            letter = encode((a, b, c, id, cause, root, hlc, body, ask, len(blobs)))
            size = len(letter) + sum(map(len, blobs)) if blobs else len(letter)
            if size > size_max:
                raise TooLarge(f"{kind} to {target} has {size} bytes; at most {size_max} travel in one message")
        except Exception:
            for name in list(names)[known:]:  # else the names of letters that never leave would overflow the frame
                del names[name]
            raise
        self.letters.append(letter)
        self.blobs += blobs
        self.size += size
        return size

    def close(self) -> bytes:
        """The names and letters as they stand at the end of a frame; the blobs travel beside it."""
        letters = self.letters
        # Joined now and not when it leaves: a flood that waits is faster in large pieces than in many small ones.
        return b"".join((encode(list(self.names)), b"\xdd", len(letters).to_bytes(4, "big"), *letters))


EMPTY = Batch().close()


def frame(session: int, sequence: int, acknowledged: tuple[int, int, int], rest: bytes) -> bytes:
    """A whole frame: its header and a closed batch."""
    header = encode((PROTOCOL_VERSION, session, sequence, acknowledged))
    return b"\x96" + header[1:] + rest  # an array of four becomes one of six: msgpack's fixarray 0x9X
