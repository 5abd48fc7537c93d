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
    MESSAGE_SIZE_MAX,
    Bulk,
    Message,
    Opaque,
    Ref,
    bulk_fields,
    check_immutable,
    decoder,
    encode,
    first_id,
    format_id,
)
from zactor.wire import (
    BULK,
    CONTROL,
    EMPTY,
    FRAME_BYTES,
    FRAME_LETTERS,
    LETTER_BYTES,
    MAIL,
    PROTOCOL_VERSION,
    Asked,
    Batch,
    Inspect,
    Route,
    decode_frame,
    frame,
    lane_of,
    split,
    unsplit,
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
def test_a_frame_is_what_msgpack_reads_as_six_fields(kind: str, target: str, body: bytes, number: int) -> None:
    batch = Batch()
    batch.add(kind, target, "s", number, 1, 2, 3, body)
    batch.add(kind, target, "s", number, 1, 2, 3, body, (9, (("a", 4),)))
    batch.add(kind, target, "s", number, 1, 2, 3, body, None, (b"bulk", b"more"))
    names = list(dict.fromkeys([kind, target, "s"]))
    indices = [names.index(kind), names.index(target), names.index("s")]

    blobs = batch.blobs

    whole = frame(3, 4, (5, 6, 7), batch.close())

    plain = [*indices, number, 1, 2, 3, body]
    letters = [[*plain, None], [*plain, [9, [["a", 4]]]], [*plain, None, 2]]  # a 0 at the end is left out
    assert msgpack.unpackb(whole) == [PROTOCOL_VERSION, 3, 4, [5, 6, 7], names, letters]
    assert blobs == [b"bulk", b"more"]
    decoded = decode_frame(whole)
    assert decoded.letters[1].ask == Asked(9, (("a", 4),))
    assert [letter.blobs for letter in decoded.letters] == [0, 0, 2]
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


def test_bulk_counts_toward_the_limit() -> None:
    batch = Batch()

    with pytest.raises(TooLarge, match=f"at most {MESSAGE_SIZE_MAX}"):
        batch.add("k", "t", "s", 1, 0, 0, 0, b"", None, (bytes(MESSAGE_SIZE_MAX // 2), bytes(MESSAGE_SIZE_MAX // 2)))
    assert (batch.letters, batch.blobs, batch.size, batch.names) == ([], [], 0, {})

    assert batch.add("k", "t", "s", 1, 0, 0, 0, b"", None, (bytes(FRAME_BYTES),)) == batch.size > FRAME_BYTES


def test_the_headers_of_a_frame_are_numbers_that_cannot_be_negative() -> None:
    good: list[Any] = [PROTOCOL_VERSION, 1, 1, [0, 0, 0], [], []]
    decode_frame(msgpack.packb(good))

    for field, bad in ((1, -1), (1, "a"), (2, -1), (3, 0), (3, [0, 0]), (3, [0, 0, -1]), (3, [0, 0, 0, 0])):
        with pytest.raises(msgspec.ValidationError):
            decode_frame(msgpack.packb([*good[:field], bad, *good[field + 1 :]]))


# --- routes
@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
    st.integers(0, 1 << 32),
    st.sampled_from([CONTROL, MAIL, BULK]),
    st.text(st.characters(codec="utf-8", exclude_characters="#"), max_size=20),
)
def test_a_route_is_read_as_it_was_written(process: str, incarnation: int, lane: int, token: str) -> None:
    route = Route(process, incarnation, lane, token)

    assert Route.parse(str(route)) == route


@pytest.mark.parametrize(
    "text",
    ["", "a", "a#1", "a#1#mail", "#1#mail#x", "a#one#mail#x", "a#-1#mail#x", "a##mail#x", "a#1#post#x", "a#1##x"],
)
def test_what_is_no_route_is_none(text: str) -> None:
    assert Route.parse(text) is None
    assert Route.parse("a" * 250 + "#1#mail#x") is None


@given(st.text(max_size=60))
def test_any_text_is_a_route_or_none(text: str) -> None:
    route = Route.parse(text)

    assert route is None or (route.process and route.incarnation >= 0)


# --- bulk
class Image(Message[None]):
    name: str
    pixels: Bulk
    mask: Bulk = b""


class Plain(Message[None]):
    pixels: bytes


class Part(msgspec.Struct, frozen=True):
    body: Bulk


def test_the_fields_that_are_bulk_are_known_and_give_a_message_its_lane() -> None:
    assert bulk_fields(Image) == ("pixels", "mask")
    assert bulk_fields(Plain) == bulk_fields(bytes) == ()
    assert lane_of(Image(name="a", pixels=b"")) == BULK
    assert lane_of(Plain(pixels=bytes(LETTER_BYTES * 2))) == MAIL
    assert lane_of(Inspect()) == CONTROL
    assert lane_of(Opaque(name="a", body=msgspec.Raw(b"\xc0"))) == MAIL
    assert lane_of(Opaque(name="a", body=msgspec.Raw(b"\xc0"), blobs=(b"x",))) == BULK


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_what_is_split_is_the_same_when_it_is_put_together(pixels: bytes, mask: bytes) -> None:
    image = Image(name="a", pixels=pixels, mask=mask)

    rest, blobs = split(image)
    written = encode(rest)

    assert blobs == (pixels, mask)
    assert msgpack.unpackb(written) == ["a", b"", b""]
    assert unsplit(decoder(Image)(written), blobs) == image
    assert image == Image(name="a", pixels=pixels, mask=mask)  # what was sent is as it was


def test_bytes_alone_are_split_when_they_are_many() -> None:
    few, many = bytes(LETTER_BYTES), bytes(LETTER_BYTES + 1)

    assert split(few) == (few, ())
    assert split(many) == (b"", (many,))
    assert unsplit(b"", (many,)) is many
    assert split(Part(body=b"x")) == (Part(body=b""), (b"x",))


@pytest.mark.parametrize("blobs", [(), (b"a",), (b"a", b"b", b"c")])
def test_too_few_or_too_many_pieces_are_refused_by_number(blobs: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match=f"{len(blobs)} pieces of bulk came for Image, which has 2"):
        unsplit(Image(name="a", pixels=b""), blobs)


@pytest.mark.parametrize("bad", ["text", bytearray(b"x"), memoryview(b"x"), None, 7])
def test_bulk_that_is_no_bytes_is_refused_with_its_field(bad: Any) -> None:
    with pytest.raises(TypeError, match=rf"Image\.mask is Bulk, so it is bytes, not {type(bad).__name__}"):
        split(Image(name="a", pixels=b"", mask=bad))


def test_ids_show_process_incarnation_and_sequence_and_never_meet() -> None:
    number = first_id(3, 2) + 17

    assert format_id(number) == "3.2.17"
    assert format_id(first_id(CLIENT_NUMBER, 4095)) == "1023.4095.0"
    assert first_id(3, 3) - first_id(3, 2) == 1 << 42
    assert first_id(CLIENT_NUMBER, 4095) + (1 << 42) <= 1 << 64


def test_an_empty_frame_has_no_names_and_no_letters() -> None:
    decoded = decode_frame(frame(1, 0, (7, 8, 9), EMPTY))

    assert (decoded.acknowledged, decoded.names, decoded.letters) == ((7, 8, 9), [], [])


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
        decode_frame(msgpack.packb([PROTOCOL_VERSION, 1, 1, [0, 0, 0], ["n"], letters]))


def test_a_failure_is_made_again_from_its_name_and_one_that_is_unknown_is_a_refusal() -> None:
    known = Failure.from_wire(No.wire, "no", "detail")
    unknown = Failure.from_wire("elsewhere.Torn", "text", "")

    assert type(known) is No
    assert (str(known), known.detail) == ("no", "detail")
    assert type(unknown) is Refused
    assert "elsewhere.Torn" in str(unknown)


def test_any_value_can_be_looked_at_without_its_type() -> None:
    assert msgspec.msgpack.decode(encode(First(name="a"))) == ["a"]
