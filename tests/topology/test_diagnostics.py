from __future__ import annotations

import pytest

from zactor.topology.diagnostics import Diagnostic, Position, Report, TopologyError


def test_a_diagnostic_shows_place_path_message_hint_and_the_line_with_a_caret() -> None:
    diagnostic = Diagnostic(
        "configs/kv.yaml",
        14,
        11,
        "nodes.kv.kind",
        "there is no kind 'rfat.peer'.",
        " Did you mean 'raft.peer'?",
        "    kind: rfat.peer  # three of them",
    )

    assert str(diagnostic) == (
        "configs/kv.yaml:14:11: nodes.kv.kind: there is no kind 'rfat.peer'. Did you mean 'raft.peer'?\n"
        "    kind: rfat.peer  # three of them\n"
        "          ^"
    )


def test_a_diagnostic_without_path_or_line_is_one_line() -> None:
    assert str(Diagnostic("a.yaml", 1, 1, "", "the file is empty")) == "a.yaml:1:1: the file is empty"


def test_the_caret_stands_right_behind_tabs_and_other_signs_of_no_width() -> None:
    diagnostic = Diagnostic("a.yaml", 1, 8, "", "wrong", "", "a:\t[\x85, ?]")

    assert str(diagnostic).splitlines()[1:] == ["    a: [ , ?]", "           ^"]


def test_of_a_long_line_the_part_around_the_place_is_shown() -> None:
    line = "x" * 500 + "!" + "y" * 500

    shown = str(Diagnostic("a.yaml", 1, 501, "", "wrong", "", line)).splitlines()

    assert len(shown[1]) == 104
    assert shown[1][shown[2].index("^")] == "!"


def test_a_place_behind_the_end_of_its_line_still_gets_a_caret() -> None:
    shown = str(Diagnostic("a.yaml", 1, 6, "", "wrong", "", "key:")).splitlines()

    assert shown[1:] == ["    key:", "         ^"]


def test_a_report_raises_everything_in_the_order_of_the_file() -> None:
    report = Report("a.yaml", "first: 1\nsecond: 2\n")
    report.add(Position(2, 9), "second", "wrong")
    report.add(Position(1, 8), "first", "wrong")

    with pytest.raises(TopologyError) as raised:
        report.raise_if_any()

    assert [diagnostic.path for diagnostic in raised.value.diagnostics] == ["first", "second"]
    assert str(raised.value) == (
        "a.yaml:1:8: first: wrong\n    first: 1\n           ^\na.yaml:2:9: second: wrong\n    second: 2\n            ^"
    )


def test_about_one_place_and_path_only_the_first_complaint_counts() -> None:
    report = Report("a.yaml", "a: b")
    report.add(Position(1, 4), "a", "the cause")
    report.add(Position(1, 4), "a", "its consequence")

    assert report.count == 1
    with pytest.raises(TopologyError, match="the cause"):
        report.raise_if_any()


def test_a_report_without_complaints_raises_nothing() -> None:
    report = Report("a.yaml", "a: b")

    report.raise_if_any()

    assert report.count == 0
