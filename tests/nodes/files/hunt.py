"""How mistakes are found: each mutant in a copy of the checkout, hunted by unit tests, crash tests and seeds.

    python -m tests.nodes.files.hunt             # all of them, which takes an hour
    python -m tests.nodes.files.hunt lease       # those with this in their names
    python -m tests.nodes.files.hunt --starts 1 --seeds 50

A mutant counts when the unit tests stay green, when from each of several starts the trial finds it within `SEEDS`
seeds, and when the same seeds without faults do not. A trial ends with the first judge who speaks; of the seed that it
found all are heard.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from tests.nodes.files.mutants import MUTANTS, Mutant
from zactor.judges.judge import judge_named, model_named
from zactor.sim.runner import invariants_of, plan_of, run, trial_of, workload_kind
from zactor.sim.seen import Seen
from zactor.sim.world import Log
from zactor.topology.model import Topology
from zactor.topology.read import load

T = TypeVar("T")

ROOT = Path(__file__).parents[3]
TRIAL = ROOT / "configs" / "files-trial.yaml"

SEEDS = 500
STARTS = (1, 1001, 2001)

CRASHES = ("tests/nodes/files/test_crashes.py", "tests/nodes/files/test_server_crashes.py")
UNITS = (
    "tests/nodes/files",
    "tests/replication",
    "tests/test_journal.py",
    "--ignore=tests/nodes/files/test_trials.py",
    "-m=not live",  # real processes would run the code that is installed, not the copy
    *(f"--ignore={path}" for path in CRASHES),
)

WRONG = ("violation", "stuck")


class Hunt(msgspec.Struct):
    """What the seeds from `first` on found: `seed` with faults, by `rules`; `calm` without any. 0 is none."""

    first: int
    seed: int = 0
    rules: tuple[str, ...] = ()
    calm: int = 0

    def __str__(self) -> str:
        if self.calm:
            return f"seed {self.calm} without faults"
        return str(self.seeds) if self.seed else "none"

    @property
    def seeds(self) -> int:
        """How many seeds it took."""
        return self.seed - self.first + 1

    def counts(self) -> bool:
        """Whether faults found it, and nothing else."""
        return bool(self.seed) and not self.calm


def hunt(first: int, last: int, trial: Path = TRIAL) -> Hunt:
    """Run these seeds of a trial until one finds something wrong; and those again without faults."""
    topology = load(trial)
    found = Hunt(first)
    for seed in range(first, last + 1):
        plan = plan_of(topology, seed)
        result = run(topology, plan)
        if result.verdict in WRONG:
            found.seed, found.rules = seed, (result.rule,)
            break
    for seed in range(first, found.seed + 1):
        plan = msgspec.structs.replace(plan_of(topology, seed), faults=())
        if run(topology, plan).verdict in WRONG:
            found.calm = seed
            break
    return found


def all_rules(seed: int, trial_file: Path = TRIAL) -> tuple[str, ...]:
    """The names of all judges and invariants that find something wrong in a seed, each as if it were alone."""
    topology = load(trial_file)
    plan, trial = plan_of(topology, seed), trial_of(topology)
    invariants = [name for name in trial.judges if name in invariants_of(topology, trial.judges)]
    found = [name for name in invariants if run(_judged_by(topology, (name,), settles=()), plan).verdict in WRONG]
    now = [0]
    seen = Seen(lambda: now[0], workload_kind(topology).model, lambda because, rule: None)

    def listen(log: Log) -> None:
        now[0] = log[0]
        seen.hear(*log[1:])

    result = run(_judged_by(topology, (), trial.settles), plan, listen)
    if result.verdict in WRONG:
        found.append(result.rule)
    history, model = seen.history.operations(), model_named(seen.history.model, Path(topology.folder))
    judges = [name for name in trial.judges if name not in invariants]
    return (*found, *[name for name in judges if judge_named(name)(history, model).word == "violation"])


def _judged_by(topology: Topology, judges: tuple[str, ...], settles: tuple[str, ...]) -> Topology:
    trial = msgspec.structs.replace(trial_of(topology), judges=judges, settles=settles)
    return msgspec.structs.replace(topology, sim=trial)


def patched(mutant: Mutant) -> str:
    """Its file with the mistake in it."""
    text = (ROOT / mutant.file).read_text()
    assert text.count(mutant.before) == 1, f"{mutant.name}: the code has changed"
    return text.replace(mutant.before, mutant.after)


@contextmanager
def checkout(mutant: Mutant) -> Iterator[Path]:
    """A copy of this checkout with the mistake in it."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for part in ("zactor", "nodes", "tests", "configs"):
            shutil.copytree(ROOT / part, copy / part)
        shutil.copy(ROOT / "pyproject.toml", copy)
        (copy / mutant.file).write_text(patched(mutant))
        yield copy


def hunt_in(copy: Path, first: int, last: int, trial: Path = TRIAL) -> Hunt:
    """`hunt` in a copy of the checkout."""
    return _in(copy, f"hunt({first}, {last}, ROOT / 'configs' / {trial.name!r})", Hunt)


def all_rules_in(copy: Path, seed: int, trial: Path = TRIAL) -> tuple[str, ...]:
    """`all_rules` in a copy of the checkout."""
    return _in(copy, f"all_rules({seed}, ROOT / 'configs' / {trial.name!r})", tuple[str, ...])


def _in(copy: Path, asked: str, kind: type[T]) -> T:
    code = f"import sys; from tests.nodes.files.hunt import *; print(msgspec.json.encode({asked}).decode())"
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, check=True)
    return msgspec.json.decode(done.stdout, type=kind)


def is_green(copy: Path, *tests: str) -> bool:
    """Whether these tests pass there."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=copy, capture_output=True).returncode == 0


class Ground(msgspec.Struct, frozen=True):
    """Where mistakes are hunted: a trial, the tests that must stay green, and the crash tests, which may find them."""

    trial: Path
    mutants: Sequence[Mutant]
    units: Sequence[str]
    crashes: Sequence[str]


def main(words: Sequence[str], ground: Ground) -> None:
    """Print a line for each mutant, and how many count."""
    asked = _asked(words)
    counted: list[float] = []
    missed = 0
    for mutant in (each for each in ground.mutants if all(word in each.name for word in asked.words)):
        with checkout(mutant) as copy:
            units, crashes = is_green(copy, *ground.units), is_green(copy, *ground.crashes)
            hunts = list(_hunts(copy, ground.trial, STARTS[: asked.starts], asked.seeds)) if units else []
        counts = len(hunts) == len(STARTS[: asked.starts]) and all(map(Hunt.counts, hunts))
        if counts:
            counted.append(statistics.median(found.seeds for found in hunts))
            missed += crashes
        rules = "; ".join(dict.fromkeys(" + ".join(found.rules) for found in hunts if found.rules))
        seen = f"units {_colour(units)}, crashes {_colour(crashes)}, seeds {', '.join(map(str, hunts)) or '-'}"
        sys.stdout.write(f"{'counts' if counts else 'apart '}  {mutant.name}: {seen} ({rules or '-'})\n")
        sys.stdout.flush()
    if counted:
        sys.stdout.write(
            f"{len(counted)} count, {missed} of them are missed by the crash tests; "
            f"median seeds to the first find: {statistics.median(counted):g}\n"
        )


def _asked(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*", help="what the names of mutants have")
    parser.add_argument("--starts", type=int, default=len(STARTS), help="from how many seeds on each is hunted")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many from each")
    return parser.parse_args(words)


def _hunts(copy: Path, trial: Path, starts: Sequence[int], seeds: int) -> Iterator[Hunt]:
    """From each start, for as long as it can count."""
    for first in starts:
        found = hunt_in(copy, first, first + seeds - 1, trial)
        if found.seed:
            found.rules = all_rules_in(copy, found.seed, trial) or found.rules
        yield found
        if not found.counts():
            return


def _colour(is_green: bool) -> str:
    return "green" if is_green else "red"


if __name__ == "__main__":
    main(sys.argv[1:], Ground(TRIAL, MUTANTS, UNITS, CRASHES))
