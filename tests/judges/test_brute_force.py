"""The judges of orders say what trying every order says, on thousands of histories."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import pytest

from tests.judges.brute import in_program, in_real_time, is_ordered, stale
from tests.judges.making import ALIKE, SERVICES, TICK_NS, Service, edited, simulate, width
from zactor.judges.history import Operation
from zactor.judges.linearizability import LINEARIZABLE, SEQUENTIAL, Criterion, judge_order
from zactor.judges.models import BUILT_IN

HISTORIES = 10_000
"""Of all models together."""

SIZES = {"register": 9, "counter": 9, "kv": 9}
"""Operations of a history; 8 where every order takes long to try."""

WIDTH = 6
"""Operations at a time that every history has."""

BOUND_NS = 6 * TICK_NS
STALE = Criterion("stale by at most 6 ms", stale_ns=BOUND_NS)


def histories(
    model: str, count: int, size: int = 8, services: Mapping[str, Service] = SERVICES
) -> Iterator[list[Operation]]:
    """Small ones with much at a time; three of five are valid ones with one edit, which may be valid still."""
    rng = random.Random(f"{model} in a share")
    number = 0
    while number < count:
        keys = rng.choice(["x", "x", "xy"])
        operations = simulate(rng, services[model], clients=7, count=size, keys=keys, lost=0.08)
        if number % 5 < 3:
            operations = edited(rng, operations)
        if width(operations) >= WIDTH:
            number += 1
            yield operations


def test_ten_thousand_histories_are_judged_as_brute_force_judges_them() -> None:
    said: Counter[str] = Counter()
    for model in SERVICES:
        specification = BUILT_IN[model]
        for operations in histories(model, -(-HISTORIES // len(SERVICES)), SIZES.get(model, 8)):
            verdict = judge_order(operations, specification, LINEARIZABLE)
            truth = is_ordered(operations, specification.initial, specification.step, in_real_time)

            assert verdict.word == ("ok" if truth else "violation"), operations
            said[verdict.word] += 1
            said["pending"] += any(operation.completed is None for operation in operations)
    assert sum(said[word] for word in ("ok", "violation")) >= HISTORIES
    assert min(said.values()) >= HISTORIES // 4, said


@pytest.mark.parametrize("model", ALIKE)
def test_histories_whose_calls_write_the_same_are_judged_as_brute_force_judges_them(model: str) -> None:
    specification = BUILT_IN[model]
    for operations in histories(model, 1_000, services=ALIKE):
        truth = is_ordered(operations, specification.initial, specification.step, in_real_time)

        assert judge_order(operations, specification, LINEARIZABLE).word == ("ok" if truth else "violation"), operations


@pytest.mark.parametrize("model", SERVICES)
@pytest.mark.parametrize(
    ("criterion", "comes_before"),
    [(SEQUENTIAL, in_program), (STALE, stale(BOUND_NS))],
    ids=["sequential", "stale"],
)
def test_weaker_orders_are_judged_as_brute_force_judges_them(
    model: str, criterion: Criterion, comes_before: Callable[[Operation, Operation], bool]
) -> None:
    specification = BUILT_IN[model]
    for operations in histories(model, 200):
        verdict = judge_order(operations, specification, criterion)
        truth = is_ordered(operations, specification.initial, specification.step, comes_before)

        assert verdict.word == ("ok" if truth else "violation"), operations


@pytest.mark.parametrize("model", SERVICES)
@pytest.mark.parametrize("criterion", [LINEARIZABLE, SEQUENTIAL, STALE], ids=["linearizable", "sequential", "stale"])
def test_a_counterexample_has_no_order_whatever_the_others_did_and_no_less_does(
    model: str, criterion: Criterion
) -> None:
    specification = BUILT_IN[model]
    comes_before = {LINEARIZABLE: in_real_time, SEQUENTIAL: in_program, STALE: stale(BOUND_NS)}[criterion]
    shown = 0
    for operations in histories(model, 60, size=WIDTH):
        verdict = judge_order(operations, specification, criterion)
        if verdict.word == "violation":
            evidence = {operation.id for operation in verdict.evidence}
            for demanded in [evidence, *(evidence - {each} for each in evidence)]:
                truth = is_ordered(free(operations, demanded), specification.initial, specification.step, comes_before)
                assert truth == (demanded != evidence), (verdict, operations)
            shown += 1
    assert shown


def free(operations: Sequence[Operation], demanded: set[int]) -> list[Operation]:
    """The history when nothing is demanded of the other operations."""
    return [
        operation
        if operation.id in demanded or operation.outcome == "failed"
        else msgspec.structs.replace(
            operation,
            call=msgspec.structs.replace(operation.call, result=None, known=False),
            invoked=-1,
            invoked_ns=-1,
            completed=None,
        )
        for operation in operations
    ]
