"""Where a client asks: it is told who leads, and does not believe those who name one that does not answer."""

from __future__ import annotations

from typing import Any

from zactor.errors import AskTimeout, ConnectionLost
from zactor.message import Ref
from zactor.replication.messages import NotLeader
from zactor.replication.route import SUSPECTED_TIMES, Route

A, B, C = (Ref[Any](name) for name in "abc")


def not_leader(leader: str = "") -> NotLeader:
    return NotLeader("it does not lead", leader)


def test_one_that_knows_who_leads_is_followed_at_once() -> None:
    route = Route((A, B, C))
    assert route.failed(A, not_leader("c"))
    assert route.current == C


def test_one_that_knows_nobody_sends_it_on_after_a_pause() -> None:
    route = Route((A, B, C))
    assert not route.failed(A, not_leader())
    assert route.current == B
    assert not route.failed(B, not_leader("b"))  # elected, and not serving yet
    assert route.current == B


def test_one_that_does_not_answer_is_not_asked_while_others_name_it() -> None:
    route = Route((A, B, C))
    assert not route.failed(A, AskTimeout())
    for target in (B, C, B):
        assert route.current == target
        assert not route.failed(target, not_leader("a"))
    assert route.failed(route.current, not_leader("b"))
    assert route.current == B


def test_one_that_is_named_again_and_again_is_asked_once_more() -> None:
    route = Route((A, B, C))
    route.failed(A, ConnectionLost())
    for _ in range(SUSPECTED_TIMES - 1):
        assert not route.failed(route.current, not_leader("a"))
    assert route.failed(route.current, not_leader("a"))
    assert route.current == A


def test_whoever_failed_elsewhere_goes_where_others_have_found_the_leader() -> None:
    route = Route((A, B, C))
    route.failed(A, not_leader("c"))
    assert route.failed(A, not_leader("c"))
    assert route.current == C
    route.failed(C, AskTimeout())
    assert not route.failed(C, AskTimeout())


def test_of_one_alone_nothing_else_is_asked_and_an_attempt_may_take_long() -> None:
    route = Route((A,))
    assert not route.failed(A, ConnectionLost())
    assert route.current == A
    assert route.attempt_s(0) > 5.0 > Route((A, B)).attempt_s(0)


def test_what_every_replica_can_do_goes_to_each_in_turn() -> None:
    route = Route((A, B, C))
    assert {route.any().name for _ in range(3)} == {"a", "b", "c"}
