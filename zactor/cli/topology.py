"""`up`, `down`, `ls`, `check`, `graph`: topologies as a whole."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from zactor.cli.common import (
    DEFAULT_FILE,
    FAILED,
    DirOption,
    JsonOption,
    OutputOption,
    RecordOption,
    TimeoutOption,
    TopologyOption,
    find_running,
    home_for,
    load_file,
    print_json,
    print_table,
    recorded,
    say,
    seconds,
    shown,
    write_out,
)
from zactor.errors import UserError
from zactor.launchers.folders import Home, Lock, NotRunning, Unreachable, command_name, running
from zactor.topology.graph import FORMATS
from zactor.topology.model import Topology

app = typer.Typer()

DOWN_S = 10.0

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The topology.")]


@app.command()
def up(
    file: FileArgument = DEFAULT_FILE,
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Return when all nodes are ready.")] = False,
    inline: Annotated[bool, typer.Option("--inline", help="Everything in this one process, for a debugger.")] = False,
    record: RecordOption = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NODE.SETTING=VALUE", help="Change a setting, or VARIABLE=VALUE; can be repeated."
        ),
    ] = None,
    metrics: Annotated[
        int | None,
        typer.Option(
            "--metrics", metavar="PORT", min=1, max=65535, help="Serve counters for Prometheus on 127.0.0.1:PORT."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    timeout: TimeoutOption = "30s",
    folder: DirOption = None,
) -> None:
    """Bring a topology up, or change one that runs to its file.

    It stays up until Ctrl-C or `down`. Of one that runs, what the file changes is shown and done: added nodes are
    started, removed ones stopped with their state kept, changed ones restarted; all others go on untouched. What a
    kind's own file says is no part of that: `restart` loads it anew.
    """
    from zactor.cli.change import change_running, show_changes
    from zactor.cli.metrics import bound
    from zactor.cli.up import run_up

    startup_s = seconds(timeout)
    topology = load_file(file, inline=inline, overrides=set_ or ())
    topology = msgspec.structs.replace(recorded(topology, record), metrics=metrics)
    home = home_for(topology, folder)
    lock = home.running()
    if dry_run:
        raise typer.Exit(show_changes(topology, home, lock, startup_s))
    if lock is not None and metrics is not None:
        raise UserError(f"--metrics is for a launch, and {topology.name} is running already; bring it down first")
    if lock is not None:
        raise typer.Exit(change_running(topology, home, lock, startup_s))
    if metrics is not None:
        bound(metrics).close()  # before anything is begun
    raise typer.Exit(run_up(topology, home, detach=detach, startup_s=startup_s))


@app.command()
def down(
    topology: TopologyOption = None,
    delete_state: Annotated[bool, typer.Option("--delete-state", help="Remove what its nodes keep, too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    folder: DirOption = None,
) -> None:
    """Stop a running topology.

    A program that launched it goes on.
    """
    try:
        home, lock = find_running(topology, folder)
    except NotRunning:
        home_found = _stopped_home(topology, folder) if delete_state else None
        if home_found is None:
            raise
        _confirm(home_found, yes=yes)
        _delete_state(home_found)
        return
    if delete_state:
        _confirm(home, yes=yes)
    if not _stopped(home, lock):
        say(f"{home.name} (pid {lock.pid}) is still running after {DOWN_S:g} s")
        raise typer.Exit(FAILED)
    typer.echo(f"{home.name}: stopped")
    if delete_state:
        _delete_state(home)


def _stopped(home: Home, lock: Lock) -> bool:
    """Stop a launcher, and wait until it has let go of its topology and, where the system can tell, has ended.

    A program that launched it goes on: it is asked, and not waited for.
    """
    process = -1
    if lock.is_program:
        _ask_down(home, lock)
    else:
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself, a moment ago
            process = os.pidfd_open(lock.pid) if sys.platform == "linux" else -1
            os.kill(lock.pid, signal.SIGTERM)
    deadline_s = time.monotonic() + DOWN_S
    while home.running() is not None:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    if process >= 0:
        select.select([process], [], [], max(0.0, deadline_s - time.monotonic()))
        os.close(process)
    return True


def _ask_down(home: Home, lock: Lock) -> None:
    from zactor.launchers.control import Down, ask_launcher

    try:
        ask_launcher(home, Down())
    except Unreachable as problem:
        if home.running() is not None:
            raise Unreachable(f"{problem}; it is part of the program with pid {lock.pid}: end that") from None


def _stopped_home(topology: str | None, folder: Path | None) -> Home | None:
    path = Path(topology or DEFAULT_FILE)
    return home_for(load_file(path), folder) if path.is_file() else None


def _confirm(home: Home, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"removing {shown(home.state)} needs --yes, since nobody is here to ask")
    if not typer.confirm(f"Remove {shown(home.state)} for good?", err=True):
        raise typer.Exit(FAILED)


def _delete_state(home: Home) -> None:
    if not home.state.exists():
        typer.echo(f"{home.name}: there is no state")
        return
    try:
        shutil.rmtree(home.state)
    except OSError as problem:
        raise UserError(f"{problem.filename} cannot be removed: {problem.strerror}") from None
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
        say(f"nothing is running; start a topology with: {command_name()} up FILE")


@app.command()
def check(
    file: FileArgument = DEFAULT_FILE,
    determinism: Annotated[
        bool, typer.Option("--determinism", help="Find clocks, dice, threads and files in the code of its kinds, too.")
    ] = False,
) -> None:
    """Check a topology: everything that is wrong with it, at once."""
    topology = load_file(file)
    if determinism:
        _check_determinism(topology)
    count = sum(len(process.instances) for process in topology.processes)
    typer.echo(f"{topology.name}: ok, {_many(count, 'node')} in {_many(len(topology.processes), 'process')}")


@app.command()
def graph(
    file: FileArgument = DEFAULT_FILE,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.")] = next(
        iter(FORMATS)
    ),
    output: OutputOption = None,
) -> None:
    """Draw a topology: its nodes and the links between them."""
    if form not in FORMATS:
        raise UserError(f"--format takes {', '.join(FORMATS)}, not {form!r}")
    write_out(FORMATS[form](load_file(file)), output)


def _check_determinism(topology: Topology) -> None:
    """Show what its kinds obviously reach for past their door, and give up then."""
    from zactor.sim.determinism import escapes_of

    found = escapes_of(topology)
    for each in found:
        sys.stderr.write(f"{msgspec.structs.replace(each, file=shown(Path(each.file)))}\n")
    if found:
        say(f"{_many(len(found), 'escape')} in the kinds of {shown(Path(topology.file))}")
        raise typer.Exit(FAILED)


def _many(count: int, what: str) -> str:
    plural = what + ("es" if what.endswith("s") else "s")
    return f"{count} {what if count == 1 else plural}"
