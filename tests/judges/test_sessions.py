"""What a session promises (Terry et al. 1994), guarantee by guarantee."""

from __future__ import annotations

import random

import pytest

from tests.judges.making import SERVICES, simulate
from tests.judges.written import drawn
from zactor.errors import UserError
from zactor.judges.convergence import judge_convergence
from zactor.judges.sessions import (
    GUARANTEES,
    MONOTONIC_READS,
    MONOTONIC_WRITES,
    READ_YOUR_WRITES,
    WRITES_FOLLOW_READS,
    judge_sessions,
)

VIOLATIONS = {
    READ_YOUR_WRITES: """
        a: [x write 1]  [x read = nothing]
    """,
    MONOTONIC_READS: """
        a: [x write 1]
        b:               [x read = 1]  [x read = nothing]
    """,
    # Seen in one order by b, who must therefore know which was last; a wrote them in the other order.
    MONOTONIC_WRITES: """
        a: [x write 1]  [x write 2]  [y write 3]
        b:                                         [y read = 3]  [x read = 1]
    """,
    WRITES_FOLLOW_READS: """
        a: [x write 1]
        b:               [x read = 1]  [y write 2]
        c:                                           [y read = 2]  [x read = nothing]
    """,
}

ALONE = {READ_YOUR_WRITES, MONOTONIC_READS}
"""Those that one client can see broken. The others need monotonic reads of the client that looks."""


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_each_guarantee_is_seen_broken_where_it_is_and_only_there(guarantee: str) -> None:
    operations = drawn(VIOLATIONS[guarantee])
    needed = {guarantee} if guarantee in ALONE else {guarantee, MONOTONIC_READS}

    assert judge_sessions(operations, needed).word == "violation"
    assert judge_sessions(operations, GUARANTEES).word == "violation"
    assert judge_sessions(operations, set(GUARANTEES) - {guarantee}).word == "ok"


def test_the_evidence_of_a_session_is_small() -> None:
    operations = drawn("""
        a: [x write 1]  [z write 8]  [x write 4]
        b:               [x read = 1]  [y write 2]              [z read = 8]
        c:                                           [y read = 2]  [x read = nothing] [y read = 2]
    """)

    verdict = judge_sessions(operations, GUARANTEES)

    assert [str(operation.call) for operation in verdict.evidence] == [
        "write x 1",
        "read x -> 1",
        "write y 2",
        "read y -> 2",
        "read x -> None",
    ]
    assert verdict.because == "these 5 operations break monotonic-reads and writes-follow-reads"


def test_two_clients_may_not_disagree_about_the_order_of_writes() -> None:
    operations = drawn("""
        a: [x write 1]
        b: [x write 2]
        c:               [x read = 1]  [x read = 2]
        d:               [x read = 2]  [x read = 1]
    """)

    assert judge_sessions(operations, [MONOTONIC_READS]).word == "violation"
    assert judge_sessions(operations, [READ_YOUR_WRITES]).word == "ok"


def test_a_client_may_be_behind_others() -> None:
    operations = drawn("""
        a: [x write 1]  [x write 2]
        b:                            [x read = 1]  [x read = 1]
        c:                            [x read = 2]
    """)

    assert judge_sessions(operations, GUARANTEES).word == "ok"


def test_a_write_of_unknown_outcome_need_not_be_seen_and_may_be() -> None:
    assert judge_sessions(drawn("a: [x write 1>  [x read = nothing]"), GUARANTEES).word == "ok"
    assert judge_sessions(drawn("a: [x write 1>  [x read = 1]"), GUARANTEES).word == "ok"
    assert judge_sessions(drawn("a: [x write 1>  [x read = 1] [x read = nothing]"), GUARANTEES).word == "violation"


def test_what_nobody_wrote_or_wrote_only_later_cannot_be_read() -> None:
    for picture in ("a: [x read = 5]", "a: [x read = 5]  [x write 5]", "a: [!x write 5]  [x read = 5]"):
        verdict = judge_sessions(drawn(picture), [MONOTONIC_WRITES])

        assert verdict.because == "nobody had asked to write what this operation read"


def test_reads_that_two_writes_explain_leave_it_open() -> None:
    operations = drawn("a: [x write 1] [x write 1] [x read = 1]")

    verdict = judge_sessions(operations, GUARANTEES)

    assert verdict.word == "unknown"
    assert "give every write to a key a value of its own" in verdict.because


def test_other_operations_than_reads_and_writes_are_refused() -> None:
    with pytest.raises(UserError, match="sessions are judged by delete, get, put, read, write; operation 0 is 'cas"):
        judge_sessions(drawn("a: [x cas 1 2 = yes]"), GUARANTEES)


def test_a_write_without_its_value_is_refused() -> None:
    with pytest.raises(UserError, match="operation 0 is 'write x -> None': expected the value as its argument"):
        judge_sessions(drawn("a: [x write]"), GUARANTEES)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_linearizable_keeps_every_guarantee(seed: int) -> None:
    operations = simulate(random.Random(seed), SERVICES["register"], clients=5, count=100, keys="xyz")

    assert judge_sessions(operations, GUARANTEES).word == "ok"


# --- convergence
def test_all_who_look_in_the_end_must_see_the_same() -> None:
    same = """
        a: [x write 1]                               [x read = 1]
        b:               [x read = nothing]            [x read = 1]
    """

    assert judge_convergence(drawn(same)).word == "ok"
    verdict = judge_convergence(drawn(same.replace("[x read = 1]\n        b", "[x read = 2]\n        b")))
    assert verdict.word == "violation"
    assert [operation.client for operation in verdict.evidence] == ["a", "b"]


def test_looks_before_the_last_write_had_ended_do_not_count() -> None:
    operations = drawn("""
        a: [x read = nothing]      [x write 1   ]                  [x read = 1]
        b:                              [x read = nothing]
    """)

    assert judge_convergence(operations).word == "unknown"


def test_replicas_take_part_with_their_digests() -> None:
    picture = "store/0: [all digest = 77]\nstore/1: [all digest = {}]"

    assert judge_convergence(drawn(picture.format(77))).word == "ok"
    assert judge_convergence(drawn(picture.format(78))).word == "violation"
