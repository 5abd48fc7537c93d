"""Trials of the file system: what is right passes them, and what was broken on purpose does not."""

from __future__ import annotations

import msgspec
import pytest

from tests.nodes.files.hunt import TRIAL, checkout, hunt_in, patched
from tests.nodes.files.mutants import MUTANTS, Mutant
from zactor.sim.heap import SECOND_NS
from zactor.sim.runner import plan_of, run
from zactor.topology.read import load
from zactor.topology.trials import Fault

FOUND = [mutant for mutant in MUTANTS if mutant.seed]


@pytest.mark.parametrize("seed", sorted({1, 4, 9, *(mutant.seed for mutant in FOUND)}))
def test_a_seed_finds_nothing_wrong(seed: int) -> None:
    topology = load(TRIAL)

    result = run(topology, plan_of(topology, seed))

    assert (result.verdict, result.because) == ("ok", "")


def test_damage_beyond_what_copies_can_mend_is_reported_as_loss() -> None:
    """So the faults are real: no number of copies outlives that all of them rot."""
    topology = load(TRIAL)
    assert topology.sim is not None
    unbounded = msgspec.structs.replace(topology, sim=msgspec.structs.replace(topology.sim, damage=None))
    plan = plan_of(unbounded, 2)
    stores = tuple(f"store/{index}" for index in range(plan.replicas["store"]))
    rot = tuple(Fault(at_ns=at * SECOND_NS, do="rot", nodes=stores, times=40) for at in range(4, 12))

    result = run(unbounded, msgspec.structs.replace(plan, faults=rot))

    assert result.verdict == "violation"
    # Who reads it sees it first, or who counts copies.
    assert (result.rule == "answer" and " is lost: chunk " in result.because) or (
        result.rule == "files.is_whole" and "damaged chunks that are not mended" in result.because
    )


@pytest.mark.parametrize("mutant", FOUND, ids=lambda mutant: mutant.name)
def test_a_mistake_is_found_under_faults_and_not_without_them(mutant: Mutant) -> None:
    with checkout(mutant) as copy:
        found = hunt_in(copy, mutant.seed, mutant.seed)

    assert (found.seed, found.calm) == (mutant.seed, 0)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_can_still_be_made(mutant: Mutant) -> None:
    compile(patched(mutant), mutant.file, "exec")
