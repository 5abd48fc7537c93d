"""Messages, their codec with its limits, ids, and frames."""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zactor.errors import Failure, Refused, TooLarge
from zactor.message import (
    CLIENT_NUMBER,
    EMPTY,
    FRAME_LETTERS,
    MESSAGE_SIZE_MAX,
    PROTOCOL_VERSION,
    Asked,
    Batch,
    Message,
    Ref,
    check_immutable,
    decode_frame,
    decoder,
    encode,
    first_id,
    format_id,
    frame,
)


class Point(msgspec.Struct, frozen=True, array_like=True):
    x: int
    y: int


class Everything(Message[str]):
    number: int
    real: float
    text: str
    data: bytes
    flag: bool
    nothing: None
    numbers: tuple[int, ...]
    point: Point
    whom: Ref[Any]
    perhaps: str | None = None


class First(Message[None]):
    name: str


class Second(Message[None], wire="message.First2"):
    name: str
    count: int = 1


class Listing(Message[None]):
    names: list[str]


class Nested(Message[None]):
    pairs: tuple[tuple[str, dict[str, int]], ...] | None


class No(Refused):
    pass


TEXT = st.text(max_size=20)
INTEGERS = st.integers(min_value=-(1 << 63), max_value=(1 << 64) - 1)


def everything(**changed: Any) -> Everything:
    values: dict[str, Any] = {
        "number": 1,
        "real": 0.5,
        "text": "t",
        "data": b"d",
        "flag": True,
        "nothing": None,
        "numbers": (1, 2),
        "point": Point(1, 2),
        "whom": Ref("a/0"),
    }
    return Everything(**(values | changed))


@given(INTEGERS, st.floats(allow_nan=False), TEXT, st.binary(max_size=40), st.lists(INTEGERS, max_size=20))
def test_the_codec_writes_what_msgpack_reads_and_reads_what_msgpack_writes(
    number: int, real: float, text: str, data: bytes, numbers: list[int]
) -> None:
    message = everything(number=number, real=real, text=text, data=data, numbers=tuple(numbers))

    written = encode(message)
    structure = msgpack.unpackb(written, strict_map_key=False)

    assert structure == [number, real, text, data, True, None, numbers, [1, 2], "a/0", None]
    assert decoder(Everything)(msgpack.packb(structure)) == message
    assert msgpack.packb(structure) == written


@given(TEXT, TEXT, st.binary(max_size=50), INTEGERS.filter(lambda value: value >= 0))
def test_a_frame_is_what_msgpack_reads_as_seven_fields(kind: str, target: str, body: bytes, number: int) -> None:
    batch = Batch()
    batch.add(kind, target, "s", number, 1, 2, 3, body)
    batch.add(kind, target, "s", number, 1, 2, 3, body, (9, (("a", 4),)))
    names = list(dict.fromkeys([kind, target, "s"]))
    indices = [names.index(kind), names.index(target), names.index("s")]

    whole = frame("p", 3, 4, 5, batch.close())

    letters = [[*indices, number, 1, 2, 3, body], [*indices, number, 1, 2, 3, body, [9, [["a", 4]]]]]
    assert msgpack.unpackb(whole) == [PROTOCOL_VERSION, "p", 3, 4, 5, names, letters]
    decoded = decode_frame(whole)
    assert decoded.letters[1].ask == Asked(9, (("a", 4),))
    assert decode_frame(msgpack.packb(msgpack.unpackb(whole))).letters[0].id == number


def test_a_field_added_at_the_end_with_a_default_keeps_two_versions_able_to_talk() -> None:
    assert decoder(Second)(encode(First(name="a"))) == Second(name="a", count=1)
    assert decoder(First)(encode(Second(name="a", count=7))) == First(name="a")


@pytest.mark.parametrize("body", [b"\x91\x01", b"\x90", b"\xc1", b"", b"\x91", b"\xa1a", b"\x91\xdf\xff\xff\xff\xff"])
def test_a_body_of_other_types_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decoder(First)(body)


def test_a_ref_travels_as_its_name_and_two_of_one_name_are_equal() -> None:
    received = decoder(Everything)(encode(everything()))

    assert received.whom == Ref("a/0")
    assert len({received.whom, Ref("a/0"), Ref("b/0")}) == 2


def test_a_ref_is_never_made_of_a_number_or_of_a_name_without_end() -> None:
    fields: list[Any] = msgpack.unpackb(encode(everything()))

    for bad in (7, "a" * 256):
        fields[8] = bad
        with pytest.raises(msgspec.ValidationError):
            decoder(Everything)(msgpack.packb(fields))


def test_a_message_is_frozen_and_its_fields_are_given_by_name() -> None:
    message = First(name="a")

    with pytest.raises(AttributeError):
        message.name = "b"  # type: ignore[misc]
    with pytest.raises(TypeError):
        First("a")  # type: ignore[call-arg]


def test_the_wire_name_is_the_package_and_the_class_unless_one_is_given() -> None:
    assert Everything.wire.endswith(".Everything")
    assert Second.wire == "message.First2"
    assert Everything.answer is str


@pytest.mark.parametrize("kind", [Listing, Nested])
def test_a_field_that_could_be_changed_is_refused_with_its_name(kind: type[Message[Any]]) -> None:
    with pytest.raises(TypeError, match=rf"{kind.__name__}\.(names|pairs) is a (list|dict)"):
        check_immutable(kind)


class Loose(msgspec.Struct):
    count: int


class Firm(msgspec.Struct, frozen=True):
    counts: tuple[int, ...]


class HoldsLoose(Message[None]):
    parts: tuple[Loose, ...]


class HoldsFirm(Message[None]):
    part: Firm | None


def test_a_struct_inside_a_message_is_frozen_too() -> None:
    check_immutable(HoldsFirm)

    with pytest.raises(TypeError, match=r"HoldsLoose\.parts is a Loose, .*; make it frozen=True"):
        check_immutable(HoldsLoose)


def test_an_object_of_no_known_type_cannot_be_sent() -> None:
    with pytest.raises(TypeError, match="a object cannot be sent"):
        encode(object())


def test_a_message_beyond_the_limit_is_refused_with_its_size() -> None:
    with pytest.raises(TooLarge, match=f"at most {MESSAGE_SIZE_MAX}"):
        Batch().add("k", "t", "s", 1, 0, 0, 0, bytes(MESSAGE_SIZE_MAX))


def test_ids_show_process_incarnation_and_sequence_and_never_meet() -> None:
    number = first_id(3, 2) + 17

    assert format_id(number) == "3.2.17"
    assert format_id(first_id(CLIENT_NUMBER, 4095)) == "1023.4095.0"
    assert first_id(3, 3) - first_id(3, 2) == 1 << 42
    assert first_id(CLIENT_NUMBER, 4095) + (1 << 42) <= 1 << 64


def test_an_empty_frame_has_no_names_and_no_letters() -> None:
    decoded = decode_frame(frame("p", 1, 0, 9, EMPTY))

    assert (decoded.acknowledged, decoded.names, decoded.letters) == (9, [], [])


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_frame_or_an_error_of_the_codec(data: bytes) -> None:
    try:
        decoded = decode_frame(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return
    assert len(decoded.letters) <= FRAME_LETTERS


def test_more_letters_than_a_frame_holds_are_refused() -> None:
    letters = [[0, 0, 0, 1, 0, 0, 0, None]] * (FRAME_LETTERS + 1)

    with pytest.raises(msgspec.ValidationError):
        decode_frame(msgpack.packb([PROTOCOL_VERSION, "p", 1, 1, 0, ["n"], letters]))


def test_a_failure_is_made_again_from_its_name_and_one_that_is_unknown_is_a_refusal() -> None:
    known = Failure.from_wire(No.wire, "no", "detail")
    unknown = Failure.from_wire("elsewhere.Torn", "text", "")

    assert type(known) is No
    assert (str(known), known.detail) == ("no", "detail")
    assert type(unknown) is Refused
    assert "elsewhere.Torn" in str(unknown)


def test_any_value_can_be_looked_at_without_its_type() -> None:
    assert msgspec.msgpack.decode(encode(First(name="a"))) == ["a"]
