"""The pytest plugin: fixtures in which actors run in virtual time, and what happened beside each failure.

`virtual` is a world without faults, `simulated` one with all of them, drawn from a seed; README.md has an example.
The kernel is loaded when the first test asks for one of them, so that other tests pay for nothing but this page.
"""

from __future__ import annotations

import importlib
import os
import shlex
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from zactor.testing.probe import Answer, Probe
    from zactor.testing.stage import Simulated, Stage
else:
    _HOMES = {"Answer": "probe", "Probe": "probe", "Simulated": "stage", "Stage": "stage"}

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(importlib.import_module(f"zactor.testing.{_HOMES[name]}"), name)
        raise AttributeError(f"module 'zactor.testing' has no attribute {name!r}")


__all__ = ["Answer", "Probe", "Simulated", "Stage"]

SEED = 1
"""Of a test in the simulated world, unless the command line says otherwise."""

_STAGE: pytest.StashKey[Stage] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("zactor", "actors in a simulated world")
    group.addoption(
        "--zactor-seeds",
        type=int,
        metavar="N",
        help=f"run each test in the simulated world under the seeds 1 to N (default: {SEED} alone)",
    )
    group.addoption("--zactor-seed", type=int, metavar="SEED", help="run them under this seed alone")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what cannot be meant."""
    count, seed = config.getoption("--zactor-seeds"), config.getoption("--zactor-seed")
    if count is not None and seed is not None:
        raise pytest.UsageError("--zactor-seeds and --zactor-seed exclude each other: leave one of them out")
    if count is not None and count < 1:
        raise pytest.UsageError(f"--zactor-seeds {count}: expected how many seeds, 1 or more")
    if seed is not None and seed < 0:
        raise pytest.UsageError(f"--zactor-seed {seed}: expected a number that is not negative")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test in the simulated world is one for each seed that the command line wants."""
    count, seed = metafunc.config.getoption("--zactor-seeds"), metafunc.config.getoption("--zactor-seed")
    if "zactor_seed" in metafunc.fixturenames and (count is not None or seed is not None):
        seeds = [seed] if count is None else range(1, count + 1)
        metafunc.parametrize("zactor_seed", seeds, ids=[f"seed-{each}" for each in seeds])


@pytest.fixture
def zactor_seed() -> int:
    """The seed of this test's `simulated` world."""
    return SEED


@pytest.fixture
def virtual(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A world of virtual time without faults: `add` actors and probes, `ask`, `settle`."""
    from zactor.testing.stage import in_virtual_time

    with in_virtual_time() as stage:
        request.node.stash[_STAGE] = stage
        yield stage


@pytest.fixture
def simulated(request: pytest.FixtureRequest, zactor_seed: int) -> Iterator[Simulated]:
    """The same with everything that can go wrong: `kill`, `pause`, `partition`, `do`, `trouble`, `heal`."""
    from zactor.testing.stage import Simulated

    with Simulated(zactor_seed) as stage:
        request.node.stash[_STAGE] = stage
        yield stage


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the end of the story beside a failure, and how to run it again."""
    report = yield
    stage = item.stash.get(_STAGE, None)
    if stage is not None and call.when == "call" and report.failed:
        report.sections.append(("zactor: what happened", stage.story()))
        if stage.seed is not None:
            again = _again(item, stage.seed)
            report.sections.append((f"zactor: seed {stage.seed}", f"run it again with: {again}"))
    return report


def _again(item: pytest.Item, seed: int) -> str:
    """The command that runs a test under its seed."""
    callspec = getattr(item, "callspec", None)
    is_drawn = callspec is not None and "zactor_seed" in callspec.params
    _, colons, name = item.nodeid.partition("::")
    words = ["pytest", os.path.relpath(item.path, item.config.invocation_params.dir) + colons + name]
    return shlex.join([*words, "--zactor-seed", str(seed)] if is_drawn else words)
