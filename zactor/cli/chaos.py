"""`chaos`: a trial of a topology on real processes, some of which are killed, held up and cut off."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from zactor.cli.common import (
    DEFAULT_FILE,
    FAILED,
    INTERRUPTED,
    OK,
    VIOLATION,
    DirOption,
    JsonOption,
    RecordOption,
    home_for,
    load_file,
    print_json,
    recorded,
    say,
    shown,
)
from zactor.launchers.chaos import Found, Say, Trial, on_a_copy
from zactor.launchers.folders import Home, command_name, file_of
from zactor.launchers.run import StartFailed
from zactor.sim import runner
from zactor.topology.model import Topology

app = typer.Typer()

_CODES = {"ok": OK, "violation": VIOLATION, "stuck": VIOLATION, "unknown": FAILED, "idle": FAILED}


@app.command()
def chaos(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The topology.")] = DEFAULT_FILE,
    record: RecordOption = None,
    as_json: JsonOption = False,
    folder: DirOption = None,
) -> None:
    """Try a topology on real processes, on a copy of its state. Exit 3 when something wrong was seen.

    Its workload runs while the kills, pauses, partitions and slow ways of its `nemesis` are done, or drawn ones if it
    has none. A kill never waits for a sync, and what goes into a partition is lost. All else of it is for `sim`.
    """
    topology = recorded(load_file(file), record)
    runner.check(topology)
    tell: Say = _nothing if as_json else _show
    with on_a_copy(home_for(topology, folder), file_of(topology)) as (home, run):
        tell(f"{topology.name}: run {run}")
        tell(f"  state  {shown(home.state)} (a copy)")
        tell(f"  logs   {shown(home.run_folder(run))}")
        try:
            found = asyncio.run(_run(topology, home, run, tell))
        except StartFailed as problem:
            say(f"{topology.name} did not come up: {problem}; logs: {shown(home.run_folder(run))}")
            raise typer.Exit(FAILED) from None
        except asyncio.CancelledError:
            tell(f"{topology.name}: stopped before its verdict")
            raise typer.Exit(INTERRUPTED) from None
        if found.verdict == "ok":
            shutil.rmtree(home.state)
    if as_json:
        print_json(found)
    else:
        _sum_up(topology, found, home.run_folder(run))
    raise typer.Exit(_CODES[found.verdict])


def _nothing(_line: str) -> None:
    pass


def _show(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _run(topology: Topology, home: Home, run: str, tell: Say) -> Found:
    """The trial; the first Ctrl-C or SIGTERM ends it in order, another one at once."""
    trial = Trial(topology, home, run, tell)
    loop, running = asyncio.get_running_loop(), asyncio.current_task()
    assert running is not None
    caught: list[int] = []

    def on_signal(number: int) -> None:
        caught.append(number)
        if len(caught) == 1:
            running.cancel()
        else:
            trial.kill()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal, number)
    return await trial.run()


def _sum_up(topology: Topology, found: Found, folder: Path) -> None:
    faults = ", ".join(f"{count} {name}" for name, count in found.faults.items()) or "no faults"
    counts = f"{found.operations} operations, {found.in_flight} in flight when a fault came"
    _show(f"{topology.name}: {found.verdict}  {counts}; {faults}")
    if found.because:
        _show(f"  {found.rule or found.verdict}: {found.because}")
    if found.verdict in ("violation", "unknown"):
        _show(f"judge it again with: {command_name()} judge {shown(Path(found.history))}")
    if found.verdict != "ok":
        _show(f"execute one actor of it again with: {command_name()} replay NODE -r {shown(folder)}")
