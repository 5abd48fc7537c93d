from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zactor.topology import source
from zactor.topology.diagnostics import Report, TopologyError
from zactor.topology.source import Tree


def read(text: str) -> Tree:
    report = Report("t.yaml", text)
    tree = source.parse(text, report)
    report.raise_if_any()
    assert tree is not None
    return tree


def refusal(text: str) -> str:
    """The first lines of all complaints."""
    with pytest.raises(TopologyError) as raised:
        read(text)
    return "\n".join(str(diagnostic).splitlines()[0] for diagnostic in raised.value.diagnostics)


# --- YAML 1.2.2, 10.3.2: the core schema
@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("Off", "Off"),
        ("true", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("1:30", "1:30"),
        ("190:20:30", "190:20:30"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("-5", -5),
        ("+5", 5),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1.2.3", "1.2.3"),
        ("2001-12-14", "2001-12-14"),
        ("=", "="),
        ("~", None),
        ("null", None),
        ("", None),
        ("nULL", "nULL"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("''", ""),
        ("2GiB", "2GiB"),
        ("5 in 60s", "5 in 60s"),
        ("100ms..10s", "100ms..10s"),
        ("./greeter.py:Greeter", "./greeter.py:Greeter"),
        (str((1 << 63) - 1), (1 << 63) - 1),
    ],
)
def test_a_plain_word_means_what_the_core_schema_says(written: str, means: object) -> None:
    value = read(f"key: {written}").plain()["key"]

    assert value == means
    assert type(value) is type(means)


def test_a_key_is_text_whatever_it_looks_like() -> None:
    assert read("{no: 1, 1: 2, 1.0: 3, true: 4, 'no ': 5}").plain() == {
        "no": 1,
        "1": 2,
        "1.0": 3,
        "true": 4,
        "no ": 5,
    }


@pytest.mark.parametrize("written", [str(1 << 63), "9" * 5_000, "0x" + "f" * 17])
def test_an_integer_that_other_processes_could_not_read_is_refused(written: str) -> None:
    assert "t.yaml:1:6: key: " in refusal(f"key: {written}")
    assert "does not fit into 64 bits" in refusal(f"key: {written}")


@pytest.mark.parametrize("written", [".inf", "-.INF", ".nan", "1e999"])
def test_a_number_that_json_has_no_word_for_is_refused(written: str) -> None:
    assert "is not a finite number" in refusal(f"key: {written}")


def test_half_of_a_surrogate_pair_is_refused() -> None:
    assert "half a surrogate pair" in refusal(r'key: "\ud800"')


# --- places
def test_each_key_and_value_knows_its_place() -> None:
    tree = read("nodes:\n  kv: {kind: a, list: [x,\n    y]}\n")

    assert tree.place("nodes", of_key=True) == (1, 1, "")
    assert tree.place("nodes", "kv") == (2, 7, "")
    assert tree.place("nodes", "kv", "kind", of_key=True) == (2, 8, "")
    assert tree.place("nodes", "kv", "kind") == (2, 14, "")
    assert tree.place("nodes", "kv", "list", 1) == (3, 5, "")


def test_the_place_of_what_is_missing_is_that_of_its_nearest_owner() -> None:
    tree = read("nodes:\n  kv:\n    kind: a\n")

    assert tree.place("nodes", "kv", "settings", "size", of_key=True) == (2, 3, "")


def test_a_value_that_was_left_out_stands_where_its_key_stands() -> None:
    assert read("a:\n\n\nb: 1").place("a") == (1, 1, "")


def test_a_byte_order_mark_moves_nothing() -> None:
    assert read("\ufeffkey: 1").place("key") == (1, 6, "")


# --- what is not allowed
def test_a_key_that_comes_twice_is_an_error_that_names_the_first() -> None:
    assert refusal("a: {b: 1, c: 2}\nd: 3\na: 4") == "t.yaml:3:1: a: the key 'a' stands in line 1 already"


def test_several_errors_that_leave_the_tree_whole_are_found_at_once() -> None:
    assert refusal("a: !!str 5\nb: {c: 1, c: 2}\n<<: {d: 3}\n").splitlines() == [
        "t.yaml:1:4: a: tags are not allowed here, found 'tag:yaml.org,2002:str'",
        "t.yaml:2:11: b.c: the key 'c' stands in line 2 already",
        "t.yaml:3:1: <<: merge keys are not part of YAML 1.2; write the keys out",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1, 2\nb: 3", "t.yaml:2:2: this is not YAML: while parsing a flow sequence"),
        ("a: b: c", "t.yaml:1:5: this is not YAML: mapping values are not allowed"),
        ("a:\n\t- b", "t.yaml:2:1: this is not YAML: while scanning for the next token"),
        ("a: 'b", "t.yaml:1:6: this is not YAML: while scanning a quoted scalar"),
        ("a: b\nc\x07: d", "t.yaml:2:2: the character 0x07 is not allowed"),
        ('a: "\\U00110000"', "this is not YAML: "),
        ('a: "\\UFFFFFFFF"', "this is not YAML: "),
        ("", "t.yaml:1:1: the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("a: 1\n---\nb: 2", "t.yaml:2:1: a topology is one document; a second one begins here"),
        ("%YAML 1.1\n---\na: no", "a topology is YAML 1.2; leave the %YAML line out"),
        ("? [a, b]\n: c", "t.yaml:1:3: a key is text, found a list"),
        ("a: &x b\n*x : c", "t.yaml:2:1: a key is text, found an alias"),
        ("a: *x", "t.yaml:1:4: a: there is no finished anchor 'x' before this alias"),
        ("a: &x [*x]", "t.yaml:1:8: a[0]: there is no finished anchor 'x' before this alias"),
        ("a: !python/object:os.system {}", "t.yaml:1:4: a: tags are not allowed here"),
    ],
)
def test_what_is_not_allowed_is_refused_with_its_place(text: str, says: str) -> None:
    assert says in refusal(text)


def test_an_alias_stands_for_what_its_anchor_marks() -> None:
    assert read("a: &x {size: 5}\nb: *x\nc: [*x]").plain() == {
        "a": {"size": 5},
        "b": {"size": 5},
        "c": [{"size": 5}],
    }


# --- bounds
def test_a_billion_laughs_end_at_the_bound() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

    assert "more than 100000 values or 32 levels" in refusal("\n".join(lines))


def test_a_ladder_of_aliases_ends_at_the_bound() -> None:
    lines = ["a0: &a0 [lol]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 40))]

    assert "more than 100000 values or 32 levels" in refusal("\n".join(lines))


def test_deep_nesting_ends_at_the_bound() -> None:
    assert read("[" * 32 + "]" * 32).depth == 32
    assert "t.yaml:1:33: " in refusal("[" * 500_000)


# --- anything
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 62), 1 << 62) | st.text("abcno 0:-#'\"é\n", max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab:- 1", max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(TREES, st.none() | st.integers(1, 4))
def test_json_is_read_as_the_yaml_that_it_is(tree: Any, indent: int | None) -> None:
    text = json.dumps({"tree": tree}, ensure_ascii=False, indent=indent)

    assert read(text).plain() == {"tree": tree}


@given(st.text() | st.text("abn:-?[]{},&*!|>'\"%@#\n \t~<=01x\\uU"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        tree = read(text)
    except TopologyError:
        return
    assert tree.size >= 1
