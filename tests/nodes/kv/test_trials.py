"""Trials of a store on Raft: what is right passes them, and what was broken on purpose does not."""

from __future__ import annotations

import msgspec
import pytest

from tests.nodes.files.hunt import checkout, hunt_in, patched
from tests.nodes.files.mutants import Mutant
from tests.nodes.kv.hunt import TRIAL
from tests.nodes.kv.mutants import MUTANTS
from zactor.sim.runner import plan_of, run
from zactor.topology.read import load

FOUND = [mutant for mutant in MUTANTS if mutant.seed]


@pytest.mark.parametrize("seed", sorted({6, 14, 229, *(mutant.seed for mutant in FOUND)}))
def test_a_seed_finds_nothing_wrong(seed: int) -> None:
    topology = load(TRIAL)

    result = run(topology, plan_of(topology, seed))

    assert (result.verdict, result.because) == ("ok", "")


def test_the_group_has_every_size_that_the_trial_asks_for() -> None:
    topology = load(TRIAL)

    assert {plan_of(topology, seed).replicas["kv"] for seed in range(1, 41)} == {3, 4, 5, 6, 7}


def test_all_disks_together_can_lose_what_was_acknowledged() -> None:
    """So the faults are real: no majority outlives that what it saved was never there."""
    topology = load(TRIAL)
    plan = plan_of(topology, 14)

    result = run(topology, plan)
    again = run(topology, msgspec.structs.replace(plan, faults=()))

    assert result.acted != again.acted


@pytest.mark.parametrize("mutant", FOUND, ids=lambda mutant: mutant.name)
def test_a_mistake_is_found_under_faults_and_not_without_them(mutant: Mutant) -> None:
    with checkout(mutant) as copy:
        found = hunt_in(copy, mutant.seed, mutant.seed, TRIAL)

    assert (found.seed, found.calm) == (mutant.seed, 0)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_can_still_be_made(mutant: Mutant) -> None:
    compile(patched(mutant), mutant.file, "exec")
