"""`bench sim`: how long the judges take.

Histories are made up by a stream of random numbers, of a register for each key that keeps its promises. Some answers
are lost: such a write may have happened at any time since.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.bench.harness import Bar, Bench, Measure, Row
from tests.judges.making import SERVICES, simulate
from zactor.judges.history import Operation
from zactor.judges.linearizability import LINEARIZABLE, judge_order
from zactor.judges.models import BUILT_IN

SEED = 1


def _history(*, clients: int, lost: float) -> list[Operation]:
    rng = random.Random(SEED)
    return simulate(rng, SERVICES["register"], clients=clients, count=1_000, keys="xyz", lost=lost)


def _judging(operations: Sequence[Operation], allowed: tuple[str, ...]) -> Measure:
    async def measure() -> float:
        """Seconds for a verdict. Raises RuntimeError for one that is not allowed."""
        started_ns = time.perf_counter_ns()
        verdict = judge_order(operations, BUILT_IN["register"], LINEARIZABLE)
        elapsed_ns = time.perf_counter_ns() - started_ns
        if verdict.word not in allowed:
            raise RuntimeError(f"the verdict on a good history was {verdict.word}: {verdict.because}")
        return elapsed_ns / 1e9

    return measure


def judging() -> list[Row]:
    """Rows that need nothing that runs."""
    easy = _judging(_history(clients=10, lost=0), ("ok",))
    hard_history = _history(clients=30, lost=0.1)
    said = judge_order(hard_history, BUILT_IN["register"], LINEARIZABLE).word
    sys.stderr.write(f"bench: the verdict with 30 clients and lost answers is {said}\n")
    hard = _judging(hard_history, ("ok", "unknown"))
    return [
        Row("judge 1000 operations of 10 clients on 3 keys", "s", easy, bar=Bar(ours=0.1)),
        Row("judge 1000 operations of 30 clients, 10 % of answers lost", "s", hard, bar=Bar(ours=5)),
    ]


@asynccontextmanager
async def _open(_quick: bool) -> AsyncIterator[list[Row]]:
    yield judging()


BENCH = Bench(_open)
