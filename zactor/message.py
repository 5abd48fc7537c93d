"""Messages, references, and their codec.

A `Message` is a typed, frozen value. On the wire it is a msgpack array in the order of its fields, so a
field that is added at the end with a default keeps two versions able to talk.
"""

from __future__ import annotations

import collections.abc
import functools
import re
import types
import typing
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from zactor.errors import UserError, plugin_name

A_co = TypeVar("A_co", covariant=True)
M_contra = TypeVar("M_contra", contravariant=True)

MESSAGE_SIZE_MAX = 8 << 20
"""Bytes of one encoded message with its envelope. Larger things are sent in pieces."""

NAME_LENGTH_MAX = 255
"""Characters of a node's, process's or message's name."""


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


_ID = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,13})")


def parse_id(text: str) -> int:
    """The id that is written so. Raises `UserError`."""
    matched = _ID.fullmatch(text)
    if matched is None:
        raise UserError(f"{text!r} is no message id; it is written process.incarnation.sequence, such as 4.1.17")
    process, incarnation, sequence = map(int, matched.groups())
    return (process << INCARNATION_BITS | incarnation) << SEQUENCE_BITS | sequence


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
