"""`up`, `down`, `ls`, `check`: topologies as a whole."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from zactor.cli.common import (
    FAILED,
    DirOption,
    JsonOption,
    NotRunning,
    TimeoutOption,
    TopologyOption,
    command_name,
    find_running,
    home_for,
    print_json,
    print_table,
    seconds,
    shown,
)
from zactor.errors import UserError
from zactor.launchers.folders import Home, running
from zactor.topology.read import load

app = typer.Typer()

DOWN_S = 10.0

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The topology.")]


@app.command()
def up(
    file: FileArgument = Path("topology.yaml"),
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Return when all nodes are ready.")] = False,
    inline: Annotated[bool, typer.Option("--inline", help="Everything in this one process, for a debugger.")] = False,
    timeout: TimeoutOption = "30s",
    folder: DirOption = None,
) -> None:
    """Launch a topology and keep it up until Ctrl-C or `down`."""
    from zactor.cli.up import run_up

    startup_s = seconds(timeout)
    topology = load(file, inline=inline)
    raise typer.Exit(run_up(topology, home_for(topology, folder), detach=detach, startup_s=startup_s))


@app.command()
def down(
    topology: TopologyOption = None,
    delete_state: Annotated[bool, typer.Option("--delete-state", help="Remove what its nodes keep, too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    folder: DirOption = None,
) -> None:
    """Stop a running topology."""
    try:
        home, lock = find_running(topology, folder)
    except NotRunning:
        home_found = _stopped_home(topology, folder) if delete_state else None
        if home_found is None:
            raise
        _delete_state(home_found, yes=yes)
        return
    os.kill(lock.pid, signal.SIGTERM)
    deadline_s = time.monotonic() + DOWN_S
    while home.running() is not None:
        if time.monotonic() > deadline_s:
            sys.stderr.write(f"zactor: {home.name} (pid {lock.pid}) is still running after {DOWN_S:g} s\n")
            raise typer.Exit(FAILED)
        time.sleep(0.01)
    typer.echo(f"{home.name}: stopped")
    if delete_state:
        _delete_state(home, yes=yes)


def _stopped_home(topology: str | None, folder: Path | None) -> Home | None:
    path = Path(topology or "topology.yaml")
    return home_for(load(path), folder) if path.is_file() else None


def _delete_state(home: Home, *, yes: bool) -> None:
    if not yes:
        if not sys.stdin.isatty():
            raise UserError(f"removing {shown(home.state)} needs --yes, since nobody is here to ask")
        typer.confirm(f"Remove {shown(home.state)} for good?", abort=True)
    shutil.rmtree(home.state, ignore_errors=True)
    typer.echo(f"{home.name}: state removed")


@app.command()
def ls(as_json: JsonOption = False) -> None:
    """List the running topologies."""
    rows = [(home.name, lock.run, lock.pid, shown(Path(lock.file))) for home, lock in running()]
    if as_json:
        for name, run, pid, file in rows:
            print_json({"topology": name, "run": run, "pid": pid, "file": file})
    elif rows:
        print_table(("TOPOLOGY", "RUN", "PID", "FILE"), rows)
    else:
        sys.stderr.write(f"nothing is running; start a topology with: {command_name()} up FILE\n")


@app.command()
def check(file: FileArgument = Path("topology.yaml")) -> None:
    """Check a topology: everything that is wrong with it, at once."""
    topology = load(file)
    count = sum(len(process.instances) for process in topology.processes)
    typer.echo(f"{topology.name}: ok, {_many(count, 'node')} in {_many(len(topology.processes), 'process')}")


def _many(count: int, what: str) -> str:
    plural = what + ("es" if what.endswith("s") else "s")
    return f"{count} {what if count == 1 else plural}"
