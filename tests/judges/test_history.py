"""Histories: written as they happen, read as far as they can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zactor.actor import Actor
from zactor.errors import UserError
from zactor.judges.history import Call, History, read
from zactor.judges.invariants import broken, invariant_named
from zactor.judges.judge import NAMES, judge_named, model_named


def recorded() -> list[bytes]:
    """The lines of a history with every kind of end."""
    lines: list[str] = []
    now = iter(range(0, 1000, 10))
    history = History(lambda: next(now), "kv", lines.append)
    first, second = history.invoke("a", "put", [1, {"b": 2}], key="x"), history.invoke("b", "get", key="x")
    third, _ = history.invoke("c", "append", "z", key="y"), history.invoke("d", "get", key="y")
    history.complete(second, [1, {"b": 2}])
    history.fail(third)
    history.unknown(first)
    return [line.encode() for line in lines]


def test_what_is_read_is_what_was_recorded() -> None:
    found = read(recorded(), "h")

    assert (found.model, found.events, found.damage) == ("kv", 7, None)
    assert [(each.client, each.outcome, each.invoked, each.completed, each.ended_ns) for each in found.operations] == [
        ("a", "unknown", 0, None, 60),
        ("b", "ok", 1, 4, 40),
        ("c", "failed", 2, None, 50),
        ("d", "pending", 3, None, None),
    ]
    assert found.operations[1].call == Call("get", "x", (), (1, (("b", 2),)))
    assert not found.operations[0].call.known


def test_an_operation_is_written_before_its_invocation_returns() -> None:
    lines: list[str] = []
    history = History(lambda: 5, write=lines.append)

    history.invoke("a", "read", key="x")

    assert lines[-1] == '{"event":"invoke","at":5,"id":0,"client":"a","function":"read","key":"x"}\n'


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"event":"ok","at":5', "h:4: the line is cut"),
        (b'{"event":"ok","at":5\n', "h:4: it is no event of a history (Input data was truncated)"),
        (
            b'{"event":"gone","at":90,"id":0}\n',
            "h:4: it is no event of a history (Invalid value 'gone' - at `$.event`)",
        ),
        (
            b'{"event":"ok","at":90,"id":"0"}\n',
            "h:4: it is no event of a history (Expected `int`, got `str` - at `$.id`)",
        ),
        (b'{"event":"ok","at":90,"id":7}\n', "h:4: operation 7 ends and was never invoked"),
        (b'{"event":"invoke","at":90,"id":1,"client":"a","function":"get"}\n', "h:4: operation 1 was invoked before"),
        (b'{"event":"ok","at":9,"id":0}\n', "h:4: it is at 9, earlier than the line before it"),
        (b"\xff\xfe\n", "h:4: it is no event of a history"),
    ],
)
def test_damage_is_told_with_its_line_and_what_stands_before_is_kept(line: bytes, problem: str) -> None:
    lines = recorded()
    lines[3] = line

    found = read(lines, "h")

    assert found.damage is not None
    assert found.damage.startswith(problem)
    assert [operation.outcome for operation in found.operations] == ["pending", "pending"]


def test_an_operation_ends_once() -> None:
    lines = recorded()

    assert read([*lines, b'{"event":"ok","at":99,"id":2}\n'], "h").damage == "h:9: operation 2 has ended before"


@pytest.mark.parametrize("first", [b"", b"name: quickstart\n", b'{"a":1}\n', b"[]\n", b"\x89PNG\r\n"])
def test_a_foreign_file_is_refused(first: bytes) -> None:
    with pytest.raises(UserError, match=r"^h:1: this is no history; expected a first line such as \{"):
        read([first], "h")


def test_a_newer_format_is_refused() -> None:
    with pytest.raises(UserError, match="h:1: format 2 is newer than 1: judge it with a newer zactor"):
        read([b'{"zactor_history":2}\n'], "h")


@pytest.mark.parametrize("value", [b"x", {1, 2}, float("nan"), float("inf"), 2**64, object()])
def test_values_that_no_file_can_hold_are_refused(value: Any) -> None:
    history = History(lambda: 0)

    with pytest.raises(UserError, match="give it text, or a hash as text"):
        history.invoke("a", "put", value)
    assert history.operations() == []


@given(st.lists(st.binary(max_size=60), max_size=5), st.integers(1, 8))
def test_no_line_makes_reading_fail(noise: list[bytes], place: int) -> None:
    lines = recorded()
    lines[place:place] = noise

    assert read(lines, "h").operations is not None


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(values, values)
def test_values_come_back_from_a_file_as_they_are_in_memory(argument: Any, result: Any) -> None:
    lines: list[str] = []
    history = History(lambda: 0, write=lines.append)
    history.complete(history.invoke("a", "put", argument), result)

    found = read([line.encode() for line in lines], "h")

    assert msgspec.json.encode(found.operations) == msgspec.json.encode(history.operations())


# --- names
@pytest.mark.parametrize("name", NAMES)
def test_every_judge_judges_an_empty_history(name: str) -> None:
    assert judge_named(name)([], model_named("register", None)).word == ("unknown" if name == "converges" else "ok")


def test_an_order_without_a_model_cannot_be_judged() -> None:
    with pytest.raises(UserError, match="'linearizable' needs a model, and the history names none: say --model"):
        judge_named("linearizable")([], None)


# --- invariants
def test_an_invariant_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "kitchen_rules.py").write_text("def warm(actors): return None\nCOLD = 3\n")

    assert broken({"warm": invariant_named("./kitchen_rules.py:warm", tmp_path)}, {}) is None
    with pytest.raises(UserError, match=r"there is no invariant 'kitchen.warm'"):
        invariant_named("kitchen.warm", tmp_path)
    with pytest.raises(UserError, match="is no invariant: expected a function of all actors"):
        invariant_named("./kitchen_rules.py:COLD", tmp_path)


def test_an_invariant_that_remembers_is_made_anew_for_each_run(tmp_path: Path) -> None:
    (tmp_path / "clock_rules.py").write_text(
        "class Once:\n    seen = False\n    def __call__(self, actors):\n        self.seen, was = True, self.seen\n"
        "        return 'again' if was else None\n"
    )
    first, second = (invariant_named("./clock_rules.py:Once", tmp_path) for _ in range(2))

    assert [first({}), first({}), second({})] == [None, "again", None]


class Store(Actor):
    pages = 3


def test_the_first_invariant_that_does_not_hold_is_named() -> None:
    def has_pages(actors: Any) -> str | None:
        return None if actors["store/0"].pages else "store/0 has no pages"

    store = Store.__new__(Store)
    assert broken({"pages": has_pages}, {"store/0": store}) is None
    store.pages = 0
    assert broken({"first": lambda _: None, "pages": has_pages}, {"store/0": store}) == (
        "pages",
        "store/0 has no pages",
    )


def test_an_invariant_that_raises_is_named() -> None:
    with pytest.raises(UserError, match=rf"the invariant pages failed: {__file__}:\d+: KeyError: 'store/0'"):
        broken({"pages": lambda actors: str(actors["store/0"])}, {})
