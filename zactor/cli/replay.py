"""`replay`: one actor is executed again, alone, from what was recorded of it."""

from __future__ import annotations

import pdb
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from zactor import registry
from zactor.actor import Actor
from zactor.cli.common import (
    DIFFERS,
    FAILED,
    OK,
    DirOption,
    JsonOption,
    RunOption,
    TopologyOption,
    print_json,
    say,
)
from zactor.cli.logs import show_event
from zactor.cli.runs import recordings_of, run_folder
from zactor.debug.recording import NothingRecorded, Recording, read
from zactor.debug.replay import OnLog, Outcome, Replay
from zactor.errors import UserError
from zactor.launchers.folders import Home
from zactor.message import parse_id
from zactor.supervision import Supervision
from zactor.topology.model import Instance

app = typer.Typer()

FED_SHOWN = 5
"""Messages that are named to whoever asked for one that there is not."""

LEVELS = ("debug", "info", "warning", "error")


@app.command()
def replay(
    node: Annotated[str, typer.Argument(metavar="NODE", help="The actor, such as store/0.")],
    topology: TopologyOption = None,
    run: RunOption = "latest",
    stop_at: Annotated[
        str | None, typer.Option("--stop-at", metavar="MESSAGE", help="Stop before the handler of this message's id.")
    ] = None,
    debugger: Annotated[bool, typer.Option("--pdb", help="Enter the debugger there, or at the first message.")] = False,
    log: Annotated[
        str | None, typer.Option("--log", metavar="LEVEL", help="Show what it logs: debug, info, warning or error.")
    ] = None,
    as_json: JsonOption = False,
    folder: DirOption = None,
) -> int:
    """Execute an actor again, alone, from its recording: all that it did is the same, or the first that differs."""
    if log is not None and log not in LEVELS:
        raise UserError(f"--log takes {', '.join(LEVELS)}, not {log!r}")
    stop = 0 if stop_at is None else parse_id(stop_at)
    where = run_folder(topology, folder, run)
    state = Home(where.parent.parent, where.name).state
    code: int | None = None
    stopped = False
    fed: list[str] = []
    for recording in _recordings(where, node):
        kind, policy = _kind_of(recording, node)
        shown = _shower(log, as_json)
        try:
            prompt = pdb.Pdb() if debugger else None
            trial = Replay(recording, node, kind, policy, shown, stop, prompt, state)
        except NothingRecorded as problem:  # its process ended before anything reached the node
            for text in (*_damage(recording), str(problem)):
                say(text)
            continue
        fed += trial.fed()
        outcome = trial.run()
        sys.settrace(None)
        stopped = stopped or bool(outcome.stopped_at)
        code = max(code or OK, _show(recording, outcome, as_json))
        if code or stopped:
            break
    if stop and not stopped and not debugger and not code:
        last = f"the last of its {len(fed)} are {', '.join(fed[-FED_SHOWN:])}" if fed else "it was fed none"
        raise UserError(f"{node} was not fed a message {stop_at}; {last}")
    return FAILED if code is None else code


def _recordings(where: Path, node: str) -> Iterator[Recording]:
    """The recordings of the process of a node, one for each time that it was started."""
    paths = sorted(recordings_of(where), key=_incarnation)
    known: set[str] = set()
    foreign: list[UserError] = []
    found = False
    for path in paths:
        try:
            nodes = _nodes_of(path)
        except NothingRecorded:
            continue
        except UserError as problem:
            foreign.append(problem)
            continue
        known |= nodes
        if any(node == name or node.startswith(name + "/") for name in nodes):
            found = True
            yield read(path)
    if not known and foreign:
        raise foreign[0]
    for each in foreign:
        say(str(each))
    if not found:
        raise UserError(
            f"no recording has {node!r}.{registry.did_you_mean(node, known)} They have: {', '.join(sorted(known))}"
        )


def _incarnation(path: Path) -> tuple[str, int]:
    stem, _, number = path.stem.rpartition(".")
    return stem, int(number) if number.isdecimal() else 0


def _instances(recording: Recording) -> list[Instance]:
    return msgspec.convert(recording.head[4]["instances"], list[Instance])


def _nodes_of(path: Path) -> set[str]:
    try:
        return {instance.name for instance in _instances(read(path, head_only=True))}
    except (msgspec.MsgspecError, TypeError, KeyError, IndexError) as problem:
        raise UserError(f"{path}: does not say which nodes it is of: {problem}") from None


def _kind_of(recording: Recording, node: str) -> tuple[type[Actor] | None, Supervision | None]:
    """The class of a node; for a child, only its module is made known."""
    for instance in _instances(recording):
        if node == instance.name or node.startswith(instance.name + "/"):
            kind = registry.find(instance.kind, Path(instance.folder))
            if node == instance.name:
                return kind, None if instance.restart is None else instance.restart.supervision()
    return None, None


def _shower(level: str | None, as_json: bool) -> OnLog:
    def show(found: str, node: str, event: str, fields: dict[str, Any]) -> None:
        if level is not None and LEVELS.index(found) >= LEVELS.index(level):
            show_event({"level": found, "node": node, "event": event} | fields, None, as_json)

    return show


def _damage(recording: Recording) -> list[str]:
    return [f"{recording.name}: {damage}" for damage in recording.damage]


def _show(recording: Recording, outcome: Outcome, as_json: bool) -> int:
    """Say what came of it. Returns the exit code."""
    sure = outcome.difference is not None and not outcome.unkept
    code = DIFFERS if sure else FAILED if outcome.difference is not None or recording.damage else OK
    if as_json:
        print_json(msgspec.to_builtins(outcome) | {"recording": recording.name, "damage": recording.damage})
        return code
    for damage in _damage(recording):
        say(damage)
    known = f"{outcome.inputs} inputs, {outcome.outputs} outputs as recorded"
    not_known = f", {outcome.unknown} that nobody had taken" if outcome.unknown else ""
    sys.stdout.write(f"{outcome.node}  {recording.name}  {known}{not_known}\n")
    if outcome.stopped_at:
        sys.stdout.write(f"{outcome.stopped_at}\n")
    difference = outcome.difference
    if difference is None:
        return code
    if outcome.unkept:
        say(f"{outcome.node} cannot be judged beyond this: {outcome.unkept}")
    sys.stdout.write(f"{difference.output} differs\n")
    for name in ("recorded", "replayed", "handling", "where"):
        value = getattr(difference, name)
        if value:
            sys.stdout.write(f"  {name:9} {value}\n")
    return code
