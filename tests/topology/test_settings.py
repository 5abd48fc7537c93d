from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zactor.actor import Actor
from zactor.errors import UserError
from zactor.topology.settings import typed_settings
from zactor.units import ByteSize, Duration


class Level(Enum):
    LOW = "low"
    HIGH = "high"


class Limits(msgspec.Struct):
    size: ByteSize
    wait: Duration | None = None


class Everything(Actor):
    text: str = ""
    count: int = 0
    ratio: float = 0.0
    flag: bool = False
    size: ByteSize = 0
    wait: Duration = 0
    maybe_size: ByteSize | None = None
    size_or_all: ByteSize | Literal["all"] = "all"
    sizes: tuple[ByteSize, ...] = ()
    pair: tuple[str, Duration] = ("", 0)
    by_name: dict[str, ByteSize] = {}  # noqa: RUF012
    limits: Limits | None = None
    all_limits: list[Limits] = []  # noqa: RUF012
    by_number: dict[int, str] = {}  # noqa: RUF012
    level: Level = Level.LOW
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 1
    strange: complex = 0j


class Needy(Actor):
    where: str
    size: ByteSize
    kinds: list[int] | None


@pytest.mark.parametrize(
    ("name", "written", "typed"),
    [
        ("text", "no", "no"),
        ("count", 5, 5),
        ("ratio", 5, 5.0),
        ("flag", True, True),
        ("size", "2GiB", 2 << 30),
        ("size", 17, 17),
        ("wait", "1.5s", 1_500_000_000),
        ("wait", 0, 0),
        ("maybe_size", "1KiB", 1_024),
        ("maybe_size", None, None),
        ("size_or_all", "1KiB", 1_024),
        ("size_or_all", "all", "all"),
        ("sizes", ["1KiB", 2], (1_024, 2)),
        ("pair", ["a", "2ms"], ("a", 2_000_000)),
        ("by_name", {"a": "1kB"}, {"a": 1_000}),
        ("limits", {"size": "1KiB", "wait": "1us"}, Limits(1_024, 1_000)),
        ("all_limits", [{"size": "1KiB"}], [Limits(1_024)]),
        ("by_number", {"7": "seven"}, {7: "seven"}),
        ("level", "high", Level.HIGH),
        ("port", 80, 80),
    ],
)
def test_a_setting_becomes_what_its_annotation_says(name: str, written: object, typed: object) -> None:
    found = typed_settings(Everything, {name: written})[name]

    assert found == typed
    assert type(found) is type(typed)


@pytest.mark.parametrize(
    ("name", "written", "says"),
    [
        ("text", 5, "settings.text: expected str, found 5"),
        ("text", None, "settings.text: expected str, found nothing"),
        ("count", "5", "settings.count: expected int, found '5'"),
        ("count", True, "settings.count: expected int, found true"),
        ("count", 1.5, "settings.count: expected int, found 1.5"),
        ("count", [1], "settings.count: expected int, found a list"),
        ("flag", "no", "settings.flag: expected bool, found 'no'"),
        ("size", "2Gi", "settings.size: expected a size such as 512B, 64MiB, 2GiB or 10MB"),
        ("wait", 5, "settings.wait: expected a duration such as 100ms, 1.5s, 5s, 10m or 1h, found 5"),
        ("maybe_size", "big", "settings.maybe_size: expected a size"),
        ("size_or_all", "al", "settings.size_or_all: "),
        ("sizes", ["1KiB", "x"], "settings.sizes[1]: expected a size"),
        ("sizes", "1KiB", "settings.sizes: expected array, found '1KiB'"),
        ("pair", ["a"], "settings.pair: expected `array` of length 2, got 1, found a list"),
        ("pair", ["a", "b"], "settings.pair[1]: expected a duration"),
        ("by_name", {"a": "x"}, "settings.by_name.a: expected a size"),
        ("by_number", {"7": 5}, "settings.by_number: expected str, found a mapping"),
        ("limits", {"wait": "1s"}, "settings.limits: object missing required field `size`, found a mapping"),
        ("all_limits", [{"size": 1}, {"size": "x"}], "settings.all_limits[1].size: expected a size"),
        ("all_limits", [{"size": 1}, 5], "settings.all_limits[1]: expected object, found 5"),
        ("level", "lwo", "settings.level: invalid enum value 'lwo', found 'lwo'"),
        ("port", 0, "settings.port: expected `int` >= 1, found 0"),
        ("strange", 5, "settings.strange: "),
        ("conut", 5, "settings.conut: Everything has no setting 'conut'. Did you mean 'count'?"),
        ("zzz", 5, "settings.zzz: Everything has no setting 'zzz'. It has: text, count, ratio"),
    ],
)
def test_a_setting_that_does_not_fit_names_what_was_found_and_expected(name: str, written: object, says: str) -> None:
    with pytest.raises(UserError) as raised:
        typed_settings(Everything, {name: written})

    assert str(raised.value).startswith(says)


def test_settings_that_are_not_written_are_left_to_their_defaults() -> None:
    assert typed_settings(Everything, {}) == {}


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(UserError) as raised:
        typed_settings(Needy, {"were": "x"})

    assert str(raised.value).splitlines() == [
        "settings.were: Needy has no setting 'were'. Did you mean 'where'?",
        "settings.where: missing: Needy needs this setting: str",
        (
            "settings.size: missing: Needy needs this setting: "
            "a size such as 512B, 64MiB, 2GiB or 10MB, or a whole number of bytes"
        ),
        "settings.kinds: missing: Needy needs this setting: list[int] | None",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["text", "pair", "by_name", "limits", "all_limits", "level"]), JSON))
def test_any_settings_are_converted_or_refused(raw: dict[str, Any]) -> None:
    try:
        typed = typed_settings(Everything, raw)
    except UserError:
        return
    assert typed.keys() == raw.keys()
