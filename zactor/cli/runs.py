"""`runs`: the runs of a topology that are kept, and which of them are not wanted any more."""

from __future__ import annotations

import calendar
import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from zactor.cli.common import (
    DEFAULT_FILE,
    DirOption,
    JsonOption,
    TopologyOption,
    find_running,
    home_for,
    load_file,
    print_json,
    print_table,
    say,
)
from zactor.debug.recording import read
from zactor.errors import UserError
from zactor.launchers.folders import Home, NotRunning, command_name
from zactor.topology.model import Topology
from zactor.units import format_duration, format_size

app = typer.Typer()


class About(msgspec.Struct, frozen=True):
    """What `runs --json` says of a run. Times are nanoseconds since 1970; `ended_ns` is its last sign of life."""

    run: str
    topology: str
    state: str
    began_ns: int
    ended_ns: int
    nodes: int
    size_bytes: int


@app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    topology: TopologyOption = None,
    as_json: JsonOption = False,
    folder: DirOption = None,
) -> None:
    """List the runs that are kept, the latest last, or remove some."""
    if context.invoked_subcommand is not None:
        return
    home = home_of_run(topology, folder)
    found = list(_abouts(home))
    if as_json:
        for about in found:
            print_json(about)
    elif found:
        rows = [
            (
                each.run,
                time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.began_ns / 1e9)),
                format_duration(max(1, round((each.ended_ns - each.began_ns) / 1e9)) * 1_000_000_000),
                each.nodes,
                format_size(each.size_bytes),
                each.state,
            )
            for each in found
        ]
        print_table(("RUN", "BEGAN", "LASTED", "NODES", "SIZE", "STATE"), rows)
    else:
        say(f"{home.name} has not run yet, or its runs were removed")


@app.command()
def rm(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Their ids, or the beginnings of them.")],
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Remove runs: their logs and recordings."""
    home = home_of_run(topology, folder)
    _remove(home, [_one_of(home, each) for each in run])


@app.command()
def prune(
    keep: Annotated[int, typer.Option("--keep", metavar="N", min=0, help="So many of the latest stay.")] = 1,
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Remove all runs but the latest."""
    home = home_of_run(topology, folder)
    lock = home.running()
    ended = [each for each in home.runs() if lock is None or each != lock.run]
    _remove(home, ended[: len(ended) - keep] if keep else ended)


def _remove(home: Home, names: list[str]) -> None:
    lock = home.running()
    if lock is not None and lock.run in names:
        raise UserError(f"{lock.run} is still running; stop it with: {command_name()} down -t {home.name}")
    for name in names:
        try:
            shutil.rmtree(home.run_folder(name))
        except OSError as problem:
            raise UserError(f"{problem.filename} cannot be removed: {problem.strerror}") from None
        typer.echo(f"{name}: removed")
    if not names:
        say("there was nothing to remove")


def _abouts(home: Home) -> Iterator[About]:
    lock = home.running()
    for run in home.runs():
        files = [path.stat() for path in home.run_folder(run).iterdir() if path.is_file()]
        try:
            topology = home.read_run(run)
        except (OSError, msgspec.MsgspecError):
            name, nodes, state = home.name, 0, "never came up"
        else:
            name, nodes = topology.name, sum(len(process.instances) for process in topology.processes)
            state = "running" if lock is not None and lock.run == run else "ended"
        yield About(
            run=run,
            topology=name,
            state=state,
            began_ns=began_ns(run),
            ended_ns=time.time_ns() if state == "running" else max((each.st_mtime_ns for each in files), default=0),
            nodes=nodes,
            size_bytes=sum(each.st_blocks * 512 for each in files),
        )


def began_ns(run: str) -> int:
    """When a run began: its id says so."""
    return calendar.timegm(time.strptime(run[:15], "%Y%m%d-%H%M%S")) * 1_000_000_000


def home_of_run(topology: str | None, folder: Path | None) -> Home:
    """The topology whose runs are meant: it may have stopped, if its file is named."""
    try:
        return find_running(topology, folder)[0]
    except NotRunning:
        path = Path(topology or DEFAULT_FILE)
        if path.is_file():
            return home_for(load_file(path), folder)
        raise NotRunning("no topology is running; for one that has stopped, name its file with -t FILE") from None


def run_folder(topology: str | None, folder: Path | None, run: str) -> Path:
    """The folder of a run, by its id, the beginning of it, `latest`, or itself, wherever it is."""
    return home_and_run(topology, folder, run)[1]


def home_and_run(topology: str | None, folder: Path | None, run: str) -> tuple[Home | None, Path]:
    """The same with its topology's home, which a folder that was named does not need."""
    if "/" in run or Path(run).is_dir():
        return None, _named_folder(Path(run))
    home = home_of_run(topology, folder)
    return home, home.run_folder(_one_of(home, run))


def recordings_of(run: Path) -> list[Path]:
    """The recordings of a run. Raises `UserError` when there is none."""
    paths = list(run.glob("*.rec"))
    if not paths:
        raise UserError(f"{run.name} has no recordings: all its nodes had `record: off`, or the disk was full")
    return paths


def nodes_of(run: Path) -> dict[str, str]:
    """The nodes of a run and their processes: as its topology has them, or else its recordings."""
    try:
        topology = msgspec.json.decode((run / "run.json").read_bytes(), type=Topology)
    except FileNotFoundError:
        found: dict[str, str] = {}
        for path in sorted(run.glob("*.rec")):
            with contextlib.suppress(UserError):  # whoever reads recordings says what is wrong with one
                head = read(path, head_only=True).head
                found |= {instance["name"]: head[2] for instance in head[4]["instances"]}
        return found
    return {instance.name: process.name for process in topology.processes for instance in process.instances}


def _one_of(home: Home, run: str) -> str:
    known = home.runs()
    if not known:
        raise NotRunning(f"{home.name} has not run yet, or its runs were removed")
    fitting = known[-1:] if run == "latest" else [each for each in known if each.startswith(run)]
    if len(fitting) != 1:
        many = "several runs begin" if fitting else "no run begins"
        raise UserError(f"{home.name}: {many} with {run!r}; the runs are {', '.join(known)}")
    return fitting[0]


def _named_folder(path: Path) -> Path:
    if not (any(path.glob("*.jsonl")) or any(path.glob("*.rec"))):
        mend = f"; make one with: {command_name()} sim {path}" if path.suffix == ".json" else ""
        raise UserError(f"{path} is no folder of a run: it has no logs and no recordings{mend}")
    return path
