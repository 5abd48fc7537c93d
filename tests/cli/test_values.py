"""Words of a command line become checked messages, and types become words."""

from __future__ import annotations

import io
from typing import Annotated, Any, Literal

import msgspec
import pytest

from zactor.actor import Actor, on
from zactor.cli.values import build_message, describe_fields, plain, type_name, written
from zactor.errors import UserError
from zactor.message import Message, Ref
from zactor.units import ByteSize, Duration, Unit


class Item(msgspec.Struct, frozen=True):
    name: str
    size: ByteSize = 0


class Order(Message[None]):
    count: Annotated[int, msgspec.Meta(ge=0)]
    share: float = 0.5
    urgent: bool = False
    size: ByteSize | None = None
    wait: Duration = 0
    seal: bytes = b""
    items: tuple[Item, ...] = ()
    level: Literal["low", "high"] = "low"
    to: Ref[Any] | None = None


class Say(Message[None]):
    text: str


class Shop(Actor):
    @on
    def say(self, message: Say) -> None:
        pass

    @on
    def order(self, message: Order) -> None:
        pass


def order(*fields: str, body: str | None = None) -> Any:
    return build_message(Shop, "Order", list(fields), body)


def refusal(*fields: str, body: str | None = None) -> str:
    with pytest.raises(UserError) as raised:
        order(*fields, body=body)
    return str(raised.value).partition(";")[0]


def test_each_word_is_read_by_the_type_of_its_field() -> None:
    message = order(
        "count=3", "share=2", "urgent=true", "size=2KiB", "wait=5ms", "seal=abc", "level=high", "to=store/0"
    )

    assert message == Order(
        count=3,
        share=2.0,
        urgent=True,
        size=2048,
        wait=5_000_000,
        seal=b"abc",
        level="high",
        to=Ref("store/0"),
    )


def test_what_has_no_words_of_its_own_is_written_as_json() -> None:
    assert order("count=1", 'items=[{"name": "pen"}]').items == (Item("pen"),)


def test_null_is_the_absence_of_an_optional_value() -> None:
    assert order("count=1", "size=null", "to=null") == Order(count=1)


def test_a_body_gives_all_fields_and_words_come_over_it() -> None:
    assert order("count=4", body='{"count": 3, "seal": "YWJj"}') == Order(count=4, seal=b"abc")


def test_a_body_may_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"count": 3}'))

    assert order(body="-") == Order(count=3)


@pytest.mark.parametrize(
    ("field", "complaint"),
    [
        ("count=many", "Order.count: 'many' is no int"),
        ("count=-1", "Order.count: expected int >= 0"),
        ("count=1.5", "Order.count: expected int, got float"),
        ("level=middle", "Order.level: invalid enum value 'middle'"),
        ("wait=5", "Order.wait: expected a duration such as 100ms, 1.5s, 5s, 10m or 1h, found '5'"),
        ('items=[{"name": 5}]', "Order.items[0].name: expected str, got int"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_place(field: str, complaint: str) -> None:
    assert refusal("count=1", field) == complaint


def test_a_file_that_is_no_text_is_no_value_of_a_text_field(tmp_path: Any) -> None:
    (tmp_path / "noise").write_bytes(b"\xff\xfe")

    with pytest.raises(UserError, match=r"Say\.text: .*noise is no UTF-8 text"):
        build_message(Shop, "Say", [f"text=@{tmp_path / 'noise'}"], None)


def test_fields_are_described_as_they_are_written() -> None:
    assert describe_fields(Order) == (
        "count: int, share: float = 0.5, urgent: bool = false, size: size | None = null, wait: duration = 0ns, "
        'seal: bytes = "", items: tuple[Item, ...] = [], level: "low" | "high" = "low", to: Ref[Any] | None = null'
    )


def test_a_unit_that_zactor_does_not_know_is_a_quantity() -> None:
    volts = Annotated[int, Unit("volts such as 5V", lambda text: int(str(text)[:-1]), lambda value: f"{value}V")]

    assert (type_name(volts), written(5, volts)) == ("quantity", "5V")


def test_an_answer_is_shown_with_the_names_of_its_fields() -> None:
    assert plain((Order(count=1, items=(Item("pen", 3),)),))[0]["items"] == [{"name": "pen", "size": 3}]
