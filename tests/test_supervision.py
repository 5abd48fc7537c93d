"""The decisions that follow from a failure."""

from __future__ import annotations

import random

import pytest

from zactor.supervision import SECOND_NS, Decision, Directive, Restarts, Supervision

POLICY = Supervision()


class Torn(Exception):
    """A failure with a fate of its own."""


def decide(restarts: Restarts, policy: Supervision, error: Exception | None, now_ns: int = 0) -> Decision:
    return restarts.decide(policy, error, now_ns, random.Random(1))


def test_a_failure_restarts_and_the_wait_doubles() -> None:
    restarts = Restarts()

    delays = [decide(restarts, POLICY, ValueError()).delay_ns for _ in range(4)]

    for doubled, delay in enumerate(delays):
        base = SECOND_NS // 10 << doubled
        assert base <= delay <= base + base // 4


def test_the_wait_ends_at_its_greatest() -> None:
    restarts = Restarts()
    policy = Supervision(limit_count=100)

    delays = [decide(restarts, policy, ValueError()).delay_ns for _ in range(50)]

    assert max(delays) <= 10 * SECOND_NS * 5 // 4
    assert delays[-1] >= 10 * SECOND_NS


def test_the_sixth_failure_within_a_minute_escalates_and_says_so() -> None:
    restarts = Restarts()
    directives = [decide(restarts, POLICY, ValueError(), at * SECOND_NS).directive for at in range(5)]

    decision = decide(restarts, POLICY, ValueError(), 6 * SECOND_NS)

    assert directives == ["restart"] * 5
    assert decision.directive == "escalate"
    assert decision.because == "5 restarts in 60 s"


def test_failures_long_ago_are_forgotten() -> None:
    restarts = Restarts()
    for at in range(5):
        decide(restarts, POLICY, ValueError(), at * SECOND_NS)

    decision = decide(restarts, POLICY, ValueError(), 120 * SECOND_NS)

    assert decision.directive == "restart"
    assert decision.delay_ns <= SECOND_NS // 8
    assert restarts.count == 6


def test_an_end_without_an_error_is_an_end_unless_the_policy_says_always() -> None:
    assert decide(Restarts(), POLICY, None).directive == "stop"
    assert decide(Restarts(), Supervision(when="always"), None).directive == "restart"


def test_a_policy_of_never_stops() -> None:
    assert decide(Restarts(), Supervision(when="never"), ValueError()).directive == "stop"


@pytest.mark.parametrize("directive", ["resume", "stop", "escalate"])
def test_an_error_can_have_a_fate_of_its_own(directive: Directive) -> None:
    policy = Supervision(directives=((Torn, directive),))

    assert decide(Restarts(), policy, Torn()).directive == directive
    assert decide(Restarts(), policy, ValueError()).directive == "restart"


def test_a_directive_of_restart_obeys_the_limit() -> None:
    policy = Supervision(limit_count=1, directives=((Torn, "restart"),))
    restarts = Restarts()

    assert decide(restarts, policy, Torn()).directive == "restart"
    assert decide(restarts, policy, Torn()).directive == "escalate"


def test_two_that_failed_together_do_not_come_back_together() -> None:
    delays = {Restarts().decide(POLICY, ValueError(), 0, random.Random(seed)).delay_ns for seed in range(10)}

    assert len(delays) > 5
