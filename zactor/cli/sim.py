"""`sim`: run a topology under seeds, with everything that can go wrong, and say what did."""

from __future__ import annotations

import os
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer

from zactor.cli.common import (
    DEFAULT_FILE,
    FAILED,
    OK,
    VIOLATION,
    DirOption,
    JsonOption,
    home_for,
    load_file,
    print_json,
    say,
    seconds,
    shown,
)
from zactor.errors import UserError
from zactor.launchers.folders import command_name, make_folder
from zactor.launchers.trial_runs import run_recorded
from zactor.live.host import die_with_parent
from zactor.sim import runner
from zactor.sim.bundle import Bundle, is_bundle, read_bundle
from zactor.sim.runner import Plan, Result
from zactor.sim.shrink import shrink
from zactor.sim.world import Log
from zactor.topology.model import Topology
from zactor.topology.read import load

app = typer.Typer()

MANY_SEEDS = 100
"""From so many on, a campaign fails in which something that happens `sometimes` never did."""

FAILURES = ("violation", "stuck")
"""Verdicts that leave a bundle."""

RECORDS = ("full", "off")

RECORDED_MAX = 10
"""Failures of a campaign that are recorded by themselves; their bundles do it for the others."""

DEFAULT_SEEDS = "1..20"

_RANGE = re.compile(r"([0-9]+)(?:\.\.([0-9]+))?")


@app.command()
def sim(
    file: Annotated[Path, typer.Argument(metavar="FILE|BUNDLE", help="The topology, or a failure.")] = DEFAULT_FILE,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", min=0, help="Only this seed.")] = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", metavar="A..B", help=f"These seeds, both ends included; default: {DEFAULT_SEEDS}."),
    ] = None,
    jobs: Annotated[int, typer.Option("-j", metavar="N", min=1, help="Seeds at a time, each in a process.")] = 1,
    budget: Annotated[
        str, typer.Option("--for", metavar="DURATION", help="Begin no seed after so long, such as 60s.")
    ] = "",
    smaller: Annotated[
        bool, typer.Option("--shrink", help="Of the first failure, find the smallest that fails so.")
    ] = False,
    story: Annotated[bool, typer.Option("--story", help="Show what happens, a line an event.")] = False,
    record: Annotated[
        str | None,
        typer.Option(
            "--record", metavar="WHAT", help="Keep recordings: full, of every seed; off; default: of failures."
        ),
    ] = None,
    as_json: JsonOption = False,
    folder: DirOption = None,
) -> None:
    """Simulate a topology: its workload under faults, a verdict a seed. Exit 3 when something wrong was seen."""
    if record not in (None, *RECORDS):
        raise UserError(f"--record takes {', '.join(RECORDS)}, not {record!r}")
    if seeds is not None and (seed is not None or is_bundle(file)):
        raise UserError("--seeds: one seed is named already; leave it out, or name the topology's file and no --seed")
    if is_bundle(file):
        raise typer.Exit(_again(file, folder, smaller=smaller, story=story, record=record, as_json=as_json))
    numbers = range(seed, seed + 1) if seed is not None else _range(seeds or DEFAULT_SEEDS)
    topology = load_file(file)
    runner.check(topology)
    campaign = Campaign(topology, folder, smaller=smaller, record=record, as_json=as_json)
    limit_s = seconds(budget) if budget else None
    kept = campaign.bundles if record == "full" else None
    results = _stories(topology, numbers, kept, as_json) if story else _results(topology, numbers, kept, jobs, limit_s)
    for result in results:
        campaign.add(result)
    if not campaign.results:
        raise UserError(f"--for {budget}: no seed was begun in that time")
    raise typer.Exit(campaign.end())


def _range(text: str) -> range:
    matched = _RANGE.fullmatch(text)
    if matched is None:
        raise UserError(f"--seeds {text}: expected a range such as 1..20")
    first, last = int(matched[1]), int(matched[2] or matched[1])
    if last < first:
        raise UserError(f"--seeds {text}: the range is empty; write the lower number first: {last}..{first}")
    return range(first, last + 1)


def _results(
    topology: Topology, numbers: range, kept: Path | None, jobs: int, limit_s: float | None
) -> Iterator[Result]:
    end_s = None if limit_s is None else time.monotonic() + limit_s
    if jobs <= 1:
        for number in numbers:
            if end_s is not None and time.monotonic() > end_s:
                return
            yield _run(topology, number, kept)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), die_with_parent, (os.getpid(),)) as pool:
        waiting: list[Any] = []
        rest = iter(numbers)
        while True:
            while len(waiting) < 2 * jobs and (end_s is None or time.monotonic() <= end_s):
                numbers_left = list(islice(rest, 1))
                if not numbers_left:
                    break
                waiting.append(pool.submit(_one, topology.file, numbers_left[0], kept))
            if not waiting:
                return
            yield waiting.pop(0).result()


def _one(file: str, number: int, kept: Path | None) -> Result:
    """A seed in a process of its own."""
    return _run(load(Path(file)), number, kept)


def _stories(topology: Topology, numbers: range, kept: Path | None, as_json: bool) -> Iterator[Result]:
    for number in numbers:
        yield _run(topology, number, kept, _teller(as_json))


def _run(topology: Topology, number: int, kept: Path | None, listen: Callable[[Log], None] | None = None) -> Result:
    """A seed, recorded in a folder of its own below `kept` if there is one."""
    plan = runner.plan_of(topology, number)
    if kept is None:
        return runner.run(topology, plan, listen)
    return run_recorded(topology, plan, kept / name_of(number), listen)


def _teller(as_json: bool) -> Callable[[Log], None]:
    return _tell_json if as_json else _tell


def _tell_json(log: Log) -> None:
    at_ns, level, node, event, fields = log
    print_json({"at_ns": at_ns, "level": level, "node": node, "event": event} | fields)


def _tell(log: Log) -> None:
    """One line of a story."""
    at_ns, _, node, event, fields = log
    plain = {name: value for name, value in fields.items() if name not in ("hlc", "message_id", "cause", "traceback")}
    words = " ".join(f"{name}={value}" for name, value in plain.items())
    sys.stdout.write(f"{at_ns / 1e9:10.6f}  {node:<12} {event} {words}\n")


class Campaign:
    """Shows results as they come, keeps failures as bundles, and sums up."""

    def __init__(
        self, topology: Topology, folder: Path | None, *, smaller: bool, record: str | None, as_json: bool
    ) -> None:
        self._topology = topology
        self.bundles = bundles_of(topology, folder)
        self._smaller = smaller
        self._record = record
        self._recorded = 0
        self._as_json = as_json
        self.results: list[Result] = []

    def add(self, result: Result) -> None:
        """Show one."""
        self.results.append(result)
        if self._as_json:
            print_json(result)
        else:
            sys.stdout.write(f"{line_of(result)}\n")
            sys.stdout.flush()
        if result.verdict in FAILURES:
            self._keep(result)
        elif self._record == "full":
            _say_recorded(result.seed, self.bundles / name_of(result.seed))

    def _keep(self, result: Result) -> None:
        """Keep what shows a failure again."""
        plan = runner.plan_of(self._topology, result.seed)
        is_recorded = self._record == "full"
        if self._smaller:
            plan, result = _shrunk(self._topology, plan, result, quiet=self._as_json)
            self._smaller = is_recorded = False
        make_folder(self.bundles)
        path = keep(self._topology, plan, result, self.bundles)
        say(f"seed {result.seed}: run it again with: {command_name()} sim {shown(path)}")
        if not is_recorded and self._record is None and self._recorded < RECORDED_MAX:
            self._recorded += 1
            again = run_recorded(self._topology, plan, path.with_suffix(""))
            is_recorded = True
            if again.trace != result.trace:
                say(f"seed {result.seed} does not repeat: something in the code depends on more than the seed")
        if is_recorded:
            _say_recorded(result.seed, path.with_suffix(""))

    def end(self) -> int:
        """Sum up; the exit code."""
        words = Counter(result.verdict for result in self.results)
        if not self._as_json and len(self.results) > 1:
            for line in summary(self.results):
                sys.stdout.write(f"{line}\n")
        if words["violation"] or words["stuck"]:
            return VIOLATION
        if len(self.results) >= MANY_SEEDS and never_seen(self.results):
            return FAILED
        return OK if words["ok"] == len(self.results) else FAILED


def bundles_of(topology: Topology, folder: Path | None) -> Path:
    """Where a topology's failures and its recordings are kept."""
    return home_for(topology, folder).folder / "sim"


def name_of(seed: int) -> str:
    """What a seed's bundle and the folder of its recordings are called."""
    return f"seed-{seed}"


def _say_recorded(seed: int, folder: Path) -> None:
    say(f"seed {seed}: execute one actor of it again with: {command_name()} replay NODE -r {shown(folder)}")


def line_of(result: Result) -> str:
    """A result for people."""
    head = f"seed {result.seed:<4} {result.verdict:<9} {result.trace[:8]}  {result.events:>6} events"
    kinds = len(runner.classes(result.acted))
    head += f"  {result.operations:>5} operations  {sum(result.faults.values()):>3} faults, {kinds} classes acted"
    return f"{head}\n  {result.rule or result.verdict}: {result.because}" if result.because else head


def summary(results: list[Result]) -> Iterator[str]:
    """A campaign for people."""
    words = Counter(result.verdict for result in results)
    yield f"{len(results)} seeds: {', '.join(f'{count} {word}' for word, count in words.items())}"
    operations = [result.operations for result in results]
    in_flight = [result.in_flight for result in results]
    spans = [result.simulated_s for result in results]
    yield f"operations: median {statistics.median(operations):g}, lowest {min(operations)}"
    yield f"simulated: median {statistics.median(spans):.0f} s, longest {max(spans):.0f} s"
    yield f"in flight when a fault came: median {statistics.median(in_flight):g}, lowest {min(in_flight)}"
    yield f"faults: {_sum(result.faults for result in results)}"
    yield f"acted: {_sum(result.acted for result in results)}"
    marks = _sum(result.marks for result in results)
    if marks:
        yield f"sometimes: {marks}"
    never = never_seen(results)
    if never:
        yield f"never: {', '.join(never)}"


def never_seen(results: list[Result]) -> list[str]:
    """What was to happen sometimes, and did not in any of these."""
    return sorted({name for result in results for name in result.marks if not any(r.marks.get(name) for r in results)})


def _sum(counts: Iterable[dict[str, int]]) -> str:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return ", ".join(f"{name} {count}" for name, count in sorted(total.items()))


def _shrunk(topology: Topology, plan: Plan, result: Result, *, quiet: bool) -> tuple[Plan, Result]:
    found = shrink(topology, plan, result)
    if not quiet:
        before, after = len(plan.faults), len(found.plan.faults)
        clients = f"{len(plan.clients)} to {len(found.plan.clients)} clients"
        sys.stdout.write(f"  shrunk from {before} to {after} faults and from {clients} in {found.runs} runs:\n")
        for fault in found.plan.faults:
            sys.stdout.write(f"    {fault}\n")
        sys.stdout.write(f"  {found.result.rule}: {found.result.because}\n")
    return found.plan, found.result


def keep(topology: Topology, plan: Plan, result: Result, folder: Path) -> Path:
    """Write a failure down. Returns its file."""
    from importlib.metadata import version

    path = folder / f"{name_of(result.seed)}.json"
    bundle = Bundle(
        version=version("zactor"),
        file=topology.file,
        text=topology.text,
        plan=plan,
        result=result,
        command=f"{command_name()} sim {shown(path)}",
    )
    bundle.write(path)
    return path


def _again(path: Path, folder: Path | None, *, smaller: bool, story: bool, record: str | None, as_json: bool) -> int:
    """Run a failure again."""
    bundle = read_bundle(path)
    topology = bundle.topology(path.parent)
    runner.check(topology)
    kept = bundles_of(topology, folder) / path.stem
    listen = _teller(as_json) if story else None
    if record == "off":
        result = runner.run(topology, bundle.plan, listen)
    else:
        result = run_recorded(topology, bundle.plan, kept, listen)
    if as_json:
        print_json(result)
    else:
        sys.stdout.write(f"{line_of(result)}\n")
    if result.trace != bundle.result.trace:
        say(f"the trace differs from that of {shown(path)}: the code, its settings or a model have changed since then")
    if smaller and result.verdict in FAILURES:
        plan, found = _shrunk(topology, bundle.plan, result, quiet=as_json)
        Bundle(
            version=bundle.version, file=bundle.file, text=bundle.text, plan=plan, result=found, command=bundle.command
        ).write(path)
        if record != "off":
            run_recorded(topology, plan, kept)
    if record != "off":
        _say_recorded(result.seed, kept)
    return VIOLATION if result.verdict in FAILURES else OK if result.verdict == "ok" else FAILED
