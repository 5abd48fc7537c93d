"""Each program tells its story, in every world.

`ZACTOR_TEST_CONFORMANCE=100` lets all of it go round as often, in the simulated world under as many more seeds;
`--rewrite` writes the stories anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.conformance import on_live, on_sim, on_virtual
from tests.conformance.stage import Program
from zactor.topology.model import TRANSPORTS, Transport

PROGRAMS = (
    "timers",
    "rings",
    "crash",
    "flood",
    "mutual_flood",
    "actor_restart",
    "process_restart",
    "pause",
    "bulk",
    "slow_client",
    "clean_stop",
)  # fmt: skip

ROUNDS = int(os.environ.get("ZACTOR_TEST_CONFORMANCE", "1"))

SEEDS = range(1, ROUNDS + 3)

HARMLESS = ("slow", "slow_disk", "step", "drift")
"""Faults that cost nothing but time, and of that less than what the programs tell of."""

every_program = pytest.mark.parametrize("name", PROGRAMS)
again_and_again = pytest.mark.parametrize("again", range(ROUNDS))

program = cache(Program)


@cache
def virtual_story(name: str) -> str:
    return on_virtual.story(program(name))


@every_program
def test_in_virtual_time_a_program_tells_its_story(name: str, golden: Callable[[Path, str], None]) -> None:
    golden(program(name).story, virtual_story(name))


@every_program
def test_in_virtual_time_its_story_is_always_the_same(name: str) -> None:
    assert on_virtual.story(program(name)) == virtual_story(name)


@every_program
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("harm", [(), HARMLESS], ids=["calm", "harm"])
def test_in_the_simulated_world_it_tells_the_same(name: str, seed: int, harm: tuple[str, ...]) -> None:
    assert on_sim.story(program(name), seed, harm=harm) == virtual_story(name)


@pytest.mark.live
@again_and_again
@pytest.mark.parametrize("transport", TRANSPORTS)
@every_program
def test_with_real_processes_it_tells_the_same(
    name: str, transport: Transport, again: int, runtime: Path, tmp_path: Path
) -> None:
    assert on_live.story(program(name), tmp_path / "home", transport) == virtual_story(name)
