"""What each judge of a key-value store lets pass, and what it finds: histories of a few operations, written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.kv.judges import (
    judge_bounded,
    judge_eventual,
    judge_locks,
    judge_once,
    judge_session,
    judge_watches,
)
from nodes.kv.models import Items
from zactor.judges.history import History, Operation
from zactor.judges.linearizability import LINEARIZABLE, judge_order

MS = 10**6

Line = tuple[int, int, str, str, tuple[Any, ...], Any]
"""From and to (ms), client, function, arguments, result; a result `LOST` is not known."""

LOST = "lost"


def history(*lines: Line, key: str = "g") -> list[Operation]:
    """Operations of these times."""
    now = [0]
    made = History(lambda: now[0])
    events = [(line[0] * MS, 0, index) for index, line in enumerate(lines)]
    events += [(line[1] * MS, 1, index) for index, line in enumerate(lines)]
    numbers: dict[int, int] = {}
    for at_ns, ends, index in sorted(events):
        now[0] = at_ns
        _, _, client, function, arguments, result = lines[index]
        if not ends:
            numbers[index] = made.invoke(client, function, *arguments, key=key)
        elif result == LOST:
            made.unknown(numbers[index])
        else:
            made.complete(numbers[index], result)
    return made.operations()


def word(*lines: Line) -> str:
    """What the model says."""
    return judge_order(history(*lines), Items(), LINEARIZABLE).word


PUT = (0, 10, "a", "put", ("x", "v1"), [5])


# --- the model
def test_operations_of_one_group_fit_when_they_follow_on_each_other() -> None:
    assert (
        word(
            PUT,
            (20, 30, "b", "get", ("x",), [5, "v1", 5]),
            (40, 50, "b", "cas", ("x", "v1", "v2"), [7, True]),
            (60, 70, "a", "cas", ("x", "v1", "v3"), [7, False]),
            (80, 90, "a", "txn", ([["x", "v2"], ["y", None]], [["x", None], ["y", "v4"]]), [9, True]),
            (95, 99, "a", "delete", ("x",), [9, 0]),
            (100, 110, "b", "list", (), [9, [["y", "v4"]]]),
            (120, 130, "b", "delete", ("y",), [11, 1]),
            (140, 150, "b", "get", ("y",), [11, None, 0]),
        )
        == "ok"
    )


@pytest.mark.parametrize(
    "line",
    [
        (20, 30, "b", "get", ("x",), [5, None, 0]),
        (20, 30, "b", "get", ("x",), [5, "v0", 5]),
        (20, 30, "b", "cas", ("x", "v1", "v2"), [7, False]),
        (20, 30, "b", "cas", ("x", "v2", "v3"), [7, True]),
        (20, 30, "b", "delete", ("x",), [7, 0]),
        (20, 30, "b", "list", (), [7, []]),
        (20, 30, "b", "txn", ([["x", None]], [["y", "v4"]]), [7, True]),
    ],
)
def test_a_change_that_was_answered_is_seen(line: Line) -> None:
    assert word(PUT, line) == "violation"


def test_revisions_grow_with_the_order_of_changes() -> None:
    later = (20, 30, "b", "put", ("y", "v2"), [4])

    assert word(PUT, later) == "violation"
    assert word(PUT, (20, 30, "b", "get", ("y",), [4, None, 0])) == "violation"


def test_a_change_whose_answer_was_lost_may_have_been_made_or_not() -> None:
    lost = (20, 30, "b", "put", ("x", "v2"), LOST)

    assert word(PUT, lost, (40, 50, "a", "get", ("x",), [5, "v1", 5])) == "ok"
    assert word(PUT, lost, (40, 50, "a", "get", ("x",), [8, "v2", 8])) == "ok"


def test_a_resource_takes_no_token_lower_than_the_last_one() -> None:
    high, low = (0, 10, "a", "guard", (5, "v1"), True), (20, 30, "b", "guard", (4, "v2"), True)

    assert word(high, low) == "violation"
    assert word(high, (20, 30, "b", "guard", (4, "v2"), False)) == "ok"


# --- read levels
def test_a_read_of_the_session_sees_what_its_client_has_seen() -> None:
    old = (20, 30, "a", "get_session", ("x",), [4, None, 0])

    assert judge_session(history(PUT, old)).word == "violation"
    assert judge_session(history(PUT, (20, 30, "b", *old[3:]))).word == "ok"


def test_a_bounded_read_is_as_old_as_its_bound_at_most() -> None:
    def old(begun: int) -> Line:
        return (begun, begun + 5, "b", "get_bounded", ("x", 100), [4, None, 0])

    assert judge_bounded(history(PUT, old(109))).word == "ok"
    assert judge_bounded(history(PUT, old(112))).word == "violation"


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        ([4, None, 0], "ok"),
        ([5, "v1", 5], "ok"),
        ([9, "v1", 5], "ok"),
        ([5, None, 0], "violation"),
        ([4, "v1", 5], "violation"),
        ([6, "v7", 6], "violation"),
        ([9, "v1", 4], "violation"),
    ],
)
def test_an_eventual_read_shows_what_was_there_at_its_revision(result: Any, verdict: str) -> None:
    assert judge_eventual(history(PUT, (20, 30, "b", "get_eventual", ("x",), result))).word == verdict


def test_a_key_may_be_gone_when_somebody_may_have_deleted_it() -> None:
    gone = (40, 50, "b", "get_eventual", ("x",), [9, None, 0])

    assert judge_eventual(history(PUT, (20, 30, "a", "delete", ("x",), LOST), gone)).word == "ok"
    assert judge_eventual(history(PUT, (20, 30, "a", "delete", ("x",), [8, 1]), gone)).word == "ok"
    assert judge_eventual(history(PUT, (20, 30, "a", "txn", ([], [["x", None]]), [8, True]), gone)).word == "ok"
    assert judge_eventual(history(PUT, (20, 30, "a", "txn", ([], [["x", None]]), [8, False]), gone)).word == "violation"


def test_nobody_sees_what_is_written_only_later() -> None:
    early = (0, 5, "b", "get_eventual", ("x",), [5, "v1", 5])

    assert judge_eventual(history((6, 10, "a", "put", ("x", "v1"), [5]), early)).word == "violation"


def test_one_revision_of_a_key_has_one_story() -> None:
    other = (20, 30, "b", "put", ("x", "v2"), [5])

    assert judge_eventual(history(PUT, other)).word == "violation"


# --- watches
def watched(start: int, last: int, *events: list[Any]) -> Line:
    return (40, 50, "b", "watch", (start,), [last, [*events]])


MORE = ((12, 14, "a", "put", ("y", "v2"), [6]), (16, 18, "a", "delete", ("x",), [8, 1]))
ALL = ([5, "x", "v1"], [6, "y", "v2"], [8, "x", None])


@pytest.mark.parametrize(
    ("watch", "verdict"),
    [
        (watched(1, 8, *ALL), "ok"),
        (watched(6, 8, *ALL[1:]), "ok"),
        (watched(1, 7, *ALL[:2]), "ok"),
        (watched(1, 9), "violation"),
        (watched(1, 8, ALL[0], ALL[2]), "violation"),
        (watched(1, 8, ALL[0], ALL[0], *ALL[1:]), "violation"),
        (watched(1, 8, ALL[1], ALL[0], ALL[2]), "violation"),
        (watched(6, 8, *ALL), "violation"),
        (watched(1, 8, [3, "x", "v0"], *ALL), "violation"),
        (watched(1, 8, *ALL[:2], [8, "x", "v1"]), "violation"),
    ],
)
def test_a_watch_shows_each_change_once_and_in_order(watch: Line, verdict: str) -> None:
    assert judge_watches(history(PUT, *MORE, watch)).word == verdict


def test_what_one_watch_shows_another_must_show() -> None:
    seen = (30, 35, "c", "watch", (1,), [9, [[9, "x", None]]])

    assert judge_watches(history(seen, watched(1, 9, [9, "x", None]))).word == "ok"
    assert judge_watches(history(seen, watched(1, 9))).word == "violation"


# --- locks and counters
def hold(begun: int, ended: int, client: str, token: int, left_ms: int = 0) -> Line:
    return (begun, ended, client, "acquire", (2000,), [token, left_ms])


def test_tokens_of_holders_grow() -> None:
    first = hold(0, 10, "a", 7)

    assert judge_locks(history(first, hold(20, 30, "b", 9))).word == "ok"
    assert judge_locks(history(first, hold(20, 30, "b", 6))).word == "violation"
    assert judge_locks(history(first, hold(5, 30, "b", 6))).word == "ok"
    assert judge_locks(history(first, hold(5, 30, "b", 7))).word == "violation"


def test_no_two_are_sure_of_a_lock_at_once() -> None:
    first, other = hold(0, 10, "a", 7, 1000), hold(500, 900, "b", 9, 1000)

    assert judge_locks(history(first, other)).word == "violation"
    assert judge_locks(history(first, hold(500, 1009, "b", 9, 1000))).word == "ok"
    assert judge_locks(history(first, hold(500, 900, "b", 9))).word == "ok"
    assert judge_locks(history(first, (800, 950, "a", "release", (7,), None), other)).word == "ok"
    assert judge_locks(history(first, (950, 960, "a", "release", (7,), None), other)).word == "violation"
    assert judge_locks(history(first, hold(15, 20, "c", 8), other)).word == "violation"


def test_what_one_client_changes_alone_is_changed_once_each_time() -> None:
    def counts(*answers: Any) -> str:
        lines = [(20 * i, 20 * i + 10, "a", "count", (i,), answer) for i, answer in enumerate(answers)]
        return judge_once(history(*lines)).word

    assert counts([3, 1], [5, 2], [8, 3]) == "ok"
    assert counts([3, 1], [5, 3]) == "violation"
    assert counts([3, 1], [5, 1]) == "violation"
    assert counts([3, 1], LOST, [5, 3]) == counts([3, 1], LOST, [5, 2], [8, 4]) == "ok"
    assert counts([3, 1], LOST, [5, 3], [8, 5]) == "violation"
