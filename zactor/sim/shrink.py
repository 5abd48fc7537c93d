"""The smallest run that still fails the same way: delta debugging over the faults, then over the clients.

Zeller and Hildebrandt 2002, "Simplifying and Isolating Failure-Inducing Input" (ddmin). A run counts as the same
failure when the same rule says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from zactor.sim.runner import Plan, Result, run
from zactor.topology.model import Topology

T = TypeVar("T")


class Shrunk(msgspec.Struct, frozen=True):
    """The smallest plan that was found, its result, and how many runs that took."""

    plan: Plan
    result: Result
    runs: int


def shrink(topology: Topology, plan: Plan, result: Result, runs_max: int = 500) -> Shrunk:
    """Leave out faults and clients for as long as the run fails by the same rule."""
    runs = 0
    best, best_result = plan, result

    def fails(smaller: Plan) -> bool:
        nonlocal runs, best, best_result
        if runs >= runs_max:
            return False
        runs += 1
        found = run(topology, smaller)
        same = (found.verdict, found.rule) == (result.verdict, result.rule)
        if same:
            best, best_result = smaller, found
        return same

    _minimize(plan.faults, lambda faults: fails(msgspec.structs.replace(best, faults=tuple(faults))))
    _minimize(
        plan.clients, lambda clients: bool(clients) and fails(msgspec.structs.replace(best, clients=tuple(clients)))
    )
    end_ns = int(result.simulated_s * 1e9)
    for part in (4, 2):
        shorter = msgspec.structs.replace(best, for_ns=min(best.for_ns, end_ns) // part)
        if all(fault.at_ns < shorter.for_ns for fault in best.faults) and fails(shorter):
            break
    return Shrunk(best, best_result, runs)


def _minimize(items: Sequence[T], fails: Callable[[list[T]], bool]) -> list[T]:
    """A part of the items that still fails, of which no single one can be left out."""
    kept = list(items)
    if kept and fails([]):
        return []
    parts = 2
    while len(kept) >= 2:
        size = max(1, len(kept) // parts)
        for start in range(0, len(kept), size):
            smaller = kept[:start] + kept[start + size :]
            if smaller and fails(smaller):
                kept, parts = smaller, max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(2 * parts, len(kept))
    return kept
