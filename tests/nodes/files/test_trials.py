"""Trials of the file system: what is right passes them, and what was broken on purpose does not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.nodes.files.mutants import EASY, MUTANTS, SELDOM, Mutant, in_place
from zactor.sim.runner import plan_of, run
from zactor.topology.read import load

TRIAL = Path(__file__).parents[3] / "configs" / "files-trial.yaml"


@pytest.mark.parametrize("seed", [1, 4, 9])
def test_a_seed_finds_nothing_wrong(seed: int) -> None:
    topology = load(TRIAL)

    result = run(topology, plan_of(topology, seed))

    assert (result.verdict, result.because) == ("ok", "")


def test_damage_beyond_what_copies_can_mend_is_reported_as_loss() -> None:
    """So the faults are real: one copy of a file cannot outlive a disk that rots."""
    topology = load(TRIAL)
    assert topology.sim is not None
    unbounded = msgspec.structs.replace(topology, sim=msgspec.structs.replace(topology.sim, damage=None))

    seeds = (run(unbounded, plan_of(unbounded, seed)) for seed in range(1, 50))

    assert any("is lost" in result.because for result in seeds if result.verdict == "violation")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_is_found_under_faults_and_not_without_them(mutant: Mutant) -> None:
    topology = load(TRIAL)
    plan = plan_of(topology, mutant.seed)

    with in_place(mutant):
        broken, calm = run(topology, plan), run(topology, msgspec.structs.replace(plan, faults=()))

    assert broken.verdict in ("violation", "stuck")
    assert calm.verdict == "idle"
    assert run(topology, plan).verdict == "ok"


@pytest.mark.parametrize("mutant", [*SELDOM, *EASY], ids=lambda mutant: mutant.name)
def test_a_mistake_that_is_listed_apart_can_still_be_made(mutant: Mutant) -> None:
    topology = load(TRIAL)
    plan = msgspec.structs.replace(plan_of(topology, 1), for_ns=10**9)

    with in_place(mutant):
        assert run(topology, plan).simulated_s > 1
