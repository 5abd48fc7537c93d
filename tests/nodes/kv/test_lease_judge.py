"""What the judge of leases lets pass, and what it finds: histories of a few operations, written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.kv.leasejudge import judge_leases
from tests.nodes.kv.test_judges import LOST, Line, history

TTL_MS = 1700
"""By the clock of the history such a lease lives for 1.6 s at least, less a thousandth."""

GRANT = (0, 10, "a", "grant", (TTL_MS,), [5, 5])
ATTACH = (20, 30, "a", "attach", (5,), [6, True])


def at(begun: int, function: str, result: Any, lease: int = 5) -> Line:
    return (begun, begun + 10, "a", function, (lease,), result)


def word(*lines: Line) -> str:
    """What the judge says, of a lease that has its key, and these operations."""
    return judge_leases(history(GRANT, ATTACH, *lines)).word


# --- not too early
@pytest.mark.parametrize(("function", "gone"), [("look", [9, False]), ("keep", [0, False])])
def test_a_lease_lives_for_its_ttl_from_when_it_was_asked_for(function: str, gone: Any) -> None:
    assert word(at(1580, function, gone)) == "violation"
    assert word(at(1590, function, gone)) == "ok"


def test_who_keeps_a_lease_alive_has_it_for_as_long_again() -> None:
    assert word(at(1000, "keep", [8, True]), at(2580, "look", [9, False])) == "violation"
    assert word(at(1000, "keep", [8, True]), at(2600, "look", [9, False])) == "ok"


def test_a_renewal_that_was_not_answered_promises_nothing() -> None:
    assert word(at(1000, "keep", LOST), at(1700, "look", [9, False])) == "ok"


def test_a_lease_that_had_ended_is_not_kept_alive() -> None:
    assert word(at(1700, "look", [9, False]), at(1800, "keep", [10, True])) == "violation"


def test_a_key_may_be_gone_with_a_lease_that_its_holder_ends() -> None:
    for answer in ([8, True], LOST):
        assert word(at(90, "revoke", answer), at(110, "look", [9, False])) == "ok"


def test_a_state_from_before_the_key_was_there_says_nothing() -> None:
    assert word(at(40, "look", [5, False])) == "ok"
    assert word(at(40, "look", [6, False])) == "violation"
    unknown = judge_leases(history(GRANT, (20, 30, "a", "attach", (5,), LOST), at(40, "look", [9, False])))
    assert unknown.word == "ok"


# --- in the order in which they are due
def other(ttl_ms: int = TTL_MS, granted: int = 7) -> tuple[Line, Line]:
    """A second lease, and that it is gone at revision 20."""
    grant = (32, 38, "b", "grant", (ttl_ms,), [granted, granted])
    return grant, (2000, 2010, "b", "look", (granted,), [20, False])


KEY = (40, 45, "b", "attach", (7,), [8, True])


def ordered(*lines: Line, ttl_ms: int = TTL_MS) -> str:
    """What the judge says when a second lease with that ttl was granted behind the first, and had ended at 20."""
    grant, gone = other(ttl_ms)
    return word(grant, KEY, *lines, gone)


@pytest.mark.parametrize("function", ["look", "keep"])
def test_a_lease_has_ended_when_one_that_was_due_later_has(function: str) -> None:
    there = at(3000, function, [21, True])

    assert ordered(there) == "violation"
    assert ordered(there, ttl_ms=TTL_MS + 1) == "violation"
    assert ordered(there, ttl_ms=TTL_MS - 1) == "ok"


def test_a_lease_lives_on_at_revisions_before_the_other_has_ended() -> None:
    assert ordered(at(3000, "look", [19, True])) == "ok"
    assert ordered(at(3000, "look", [20, True])) == "violation"


def test_a_lease_that_was_kept_alive_behind_the_other_lives_on() -> None:
    there = at(3000, "look", [21, True])

    assert ordered(at(100, "keep", [9, True]), there) == "ok"
    assert ordered(at(100, "keep", LOST), there) == "ok"
    assert ordered(at(100, "keep", [6, True]), there) == "violation"


def test_the_other_was_due_when_it_was_last_kept_alive() -> None:
    mine, there = at(100, "keep", [9, True]), at(3000, "look", [21, True])

    assert ordered(mine, at(200, "keep", [10, True], lease=7), there) == "violation"
    assert ordered(mine, at(200, "keep", LOST, lease=7), there) == "ok"


def test_the_other_tells_nothing_when_its_holder_ended_it() -> None:
    assert ordered(at(1500, "revoke", [15, True], lease=7), at(3000, "look", [21, True])) == "ok"
