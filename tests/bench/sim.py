"""`bench sim`: how fast the simulator is, and how long shrinking and the judges take.

The simulator runs a chatter of nodes, beside engines that run the same one.
Histories are made up by a stream of random numbers, of a register for each key that keeps its promises. Some answers
are lost: such a write may have happened at any time since.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from tests.bench import newer
from tests.bench.chatter import NODES, SPAN_S, chatter
from tests.bench.harness import Bar, Bench, Measure, Peer, Row, Scale, figure_of
from tests.judges.making import SERVICES, simulate
from tests.sim import stage
from zactor.judges.history import Operation
from zactor.judges.linearizability import LINEARIZABLE, judge_order
from zactor.judges.models import BUILT_IN
from zactor.sim import runner, swarm
from zactor.sim.heap import Heap
from zactor.sim.runner import Plan, Result
from zactor.sim.shrink import shrink
from zactor.topology.model import Topology
from zactor.topology.trials import FAULTS, Fault

SEED = 1

LOOPS = Path(__file__).with_name("loops.py")

FAULTS_MIN, FAULTS_LEFT_MAX = 200, 15


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


def simulating(*, quick: bool) -> list[Row]:
    """The chatter: with faults, and without them beside its peers."""
    seeds = 2 if quick else 6
    seconds = seeds * SPAN_S
    case = f"chatter of {NODES} nodes, events"
    bare = Peer("bare asyncio in virtual time", _loop(sys.executable, "bare", seconds))
    python = newer.python()
    peer = Peer("simloom", _loop(python, "simloom", seconds), missing=python is None, mend=newer.MEND)
    calm = _chattering(seeds, with_faults=False)
    return [
        Row(f"{case}, with faults", "1/s", _chattering(seeds, with_faults=True), bar=Bar(ours=80_000)),
        Row(case, "1/s", calm, peer, Bar(ratio=3)),
        Row(case, "1/s", calm, bare, Bar(ratio=1.2)),
    ]


def _chattering(seeds: int, *, with_faults: bool) -> Measure:
    async def measure() -> float:
        return chatter(seeds, with_faults=with_faults)

    return measure


def _loop(python: object, engine: str, seconds: int) -> Measure:
    async def measure() -> float:
        return await figure_of(str(python), str(LOOPS), engine, str(seconds))

    return measure


def shrinking() -> Row:
    """A register that forgets what a power failure takes from it, under so many faults that nobody would look."""
    topology = stage.topology(faults="", register="careless: true")
    plan, result = _failure(topology)

    async def measure() -> float:
        """Seconds until the smallest failure is found. Raises RuntimeError when it is not small."""
        started_ns = time.perf_counter_ns()
        found = shrink(topology, plan, result)
        elapsed_ns = time.perf_counter_ns() - started_ns
        if found.result.verdict != "violation" or len(found.plan.faults) > FAULTS_LEFT_MAX:
            raise RuntimeError(f"{found.result.verdict} with {len(found.plan.faults)} faults left")
        return elapsed_ns / 1e9

    return Row(f"shrink {len(plan.faults)} faults to at most {FAULTS_LEFT_MAX}", "s", measure, bar=Bar(ours=60))


def _failure(topology: Topology) -> tuple[Plan, Result]:
    """The first seed in which it is noticed."""
    for seed in itertools.count(SEED):
        plan = runner.plan_of(topology, seed)
        plan = msgspec.structs.replace(plan, faults=_many_faults(plan))
        result = runner.run(topology, plan)
        if result.verdict == "violation":
            return plan, result
    raise AssertionError("it counts for ever")


def _many_faults(plan: Plan) -> tuple[Fault, ...]:
    """Several schedules at once, of everything that the register could survive if it were careful."""
    kinds = [kind for kind in FAULTS if kind not in ("refuse", "rot")]
    clients = [f"@client-{number}" for number in plan.clients]
    faults: list[Fault] = []
    for number in itertools.count(SEED):
        faults += swarm.draw_faults(Heap(number).stream("faults"), ["register"], clients, plan.for_ns, kinds)
        if len(faults) >= FAULTS_MIN:
            return tuple(sorted(faults, key=lambda fault: fault.at_ns))
    raise AssertionError("it counts for ever")


@asynccontextmanager
async def _open(wanted: Scale) -> AsyncIterator[list[Row]]:
    yield [*simulating(quick=wanted.quick), shrinking(), *judging()]


BENCH = Bench(_open)
