"""Trials of a store on Raft: what is right passes them, and what was broken on purpose does not."""

from __future__ import annotations

import msgspec
import pytest

from tests.nodes.files.hunt import checkout, hunt_in, patched
from tests.nodes.files.mutants import Mutant
from tests.nodes.kv.hunt import TRIAL
from tests.nodes.kv.mutants import MUTANTS
from zactor.sim.heap import SECOND_NS
from zactor.sim.runner import plan_of, run
from zactor.topology.read import load
from zactor.topology.trials import Fault

FOUND = [mutant for mutant in MUTANTS if mutant.seed]


@pytest.mark.parametrize("seed", sorted({6, 14, 229, 279, 304, *(mutant.seed for mutant in FOUND)}))
def test_a_seed_finds_nothing_wrong(seed: int) -> None:
    topology = load(TRIAL)

    result = run(topology, plan_of(topology, seed))

    assert (result.verdict, result.because) == ("ok", "")


def test_the_group_has_every_size_that_the_trial_asks_for() -> None:
    topology = load(TRIAL)

    assert {plan_of(topology, seed).replicas["kv"] for seed in range(1, 41)} == {3, 4, 5, 6, 7}


def test_what_rots_on_all_disks_is_not_made_up_for() -> None:
    """So the faults are real: peers whose logs are damaged wait for those that have them whole, and there are none."""
    topology = load(TRIAL)
    assert topology.sim is not None
    unbounded = msgspec.structs.replace(topology, sim=msgspec.structs.replace(topology.sim, damage=None))
    plan = plan_of(unbounded, 14)
    peers = tuple(f"kv/{index}" for index in range(plan.replicas["kv"]))
    faults = [Fault(at_ns=at * SECOND_NS, do="rot", nodes=peers, times=40) for at in range(4, 12)]
    faults += [Fault(at_ns=at * SECOND_NS + SECOND_NS // 2, do="kill", nodes=peers) for at in range(4, 12)]
    faults.sort(key=lambda fault: fault.at_ns)

    result = run(unbounded, msgspec.structs.replace(plan, faults=tuple(faults)))

    assert result.verdict == "stuck"
    assert "any get, " in result.because
    assert "not ready: kv/" in result.because


@pytest.mark.parametrize("mutant", FOUND, ids=lambda mutant: mutant.name)
def test_a_mistake_is_found_under_faults_and_not_without_them(mutant: Mutant) -> None:
    with checkout(mutant) as copy:
        found = hunt_in(copy, mutant.seed, mutant.seed, TRIAL)

    assert (found.seed, found.calm) == (mutant.seed, 0)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_can_still_be_made(mutant: Mutant) -> None:
    compile(patched(mutant), mutant.file, "exec")
