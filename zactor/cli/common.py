"""What the verbs share: which topology is meant, exit codes, tables, and flags that mean the same everywhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from zactor.errors import UserError
from zactor.launchers.folders import Home, Lock, home_of, running
from zactor.topology.model import Topology
from zactor.units import parse_duration

OK, FAILED, USAGE, NOT_RUNNING, DEADLINE, INTERRUPTED = 0, 1, 2, 5, 124, 130

TopologyOption = Annotated[
    str | None,
    typer.Option("-t", "--topology", metavar="NAME|FILE", help="The running topology; default: the only one."),
]
DirOption = Annotated[
    Path | None,
    typer.Option(
        "--dir", metavar="DIR", envvar="ZACTOR_DIR", help="Where topologies keep state and runs; default: .zactor."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON value a line.")]
NodeOption = Annotated[str | None, typer.Option("-n", "--node", metavar="PATTERN", help="Only nodes like store/*.")]
TimeoutOption = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="Give up after this long, such as 500ms.")
]


class NotRunning(UserError):
    """There is no running topology of that name, or none at all."""


def command_name() -> str:
    """How the user calls us: `zactor`, or `bin/zactor` in a checkout."""
    return os.environ.get("ZACTOR_COMMAND", "zactor")


def running_by_name() -> list[tuple[Home, Lock]]:
    """Every topology that this user runs, in the order in which they are listed."""
    return sorted(running(), key=lambda found: (found[0].name, found[1].file))


def find_running(topology: str | None, folder: Path | None) -> tuple[Home, Lock]:
    """The running topology that is meant. Raises `NotRunning`, or UserError when there are several."""
    everything = running_by_name()
    found = everything
    if folder is not None:
        found = [each for each in found if each[0].folder.parent == folder.resolve()]
    if topology is not None:
        path = Path(topology)
        looks_like_file = path.suffix in (".yaml", ".yml") or "/" in topology
        if looks_like_file:
            found = [each for each in found if Path(each[1].file) == path.resolve()]
        else:
            found = [each for each in found if each[0].name == topology]
    if not found:
        if topology is None:
            raise NotRunning(f"no topology is running; start one with: {command_name()} up FILE")
        others = ", ".join(home.name for home, _ in everything) or "none"
        raise NotRunning(f"{topology!r} is not running; running are: {others}")
    if len(found) > 1:
        names = "".join(f"\n  {home.name}  {lock.file}" for home, lock in found)
        raise UserError(f"several topologies are running; say which with -t NAME or -t FILE:{names}")
    return found[0]


def loaded_run(home: Home, lock: Lock) -> Topology:
    """The topology as the running launcher read it."""
    return home.read_run(lock.run)


def home_for(topology: Topology, folder: Path | None) -> Home:
    """Where a topology keeps its things."""
    return home_of(topology, folder)


def seconds(written: str) -> float:
    """A duration from the command line."""
    return parse_duration(written) / 1e9


def print_json(value: Any) -> None:
    """One value on one line."""
    sys.stdout.write(msgspec.json.encode(value, enc_hook=str).decode() + "\n")


def say(problem: str) -> None:
    """One line on standard error, for what is not the answer of a verb."""
    sys.stderr.write(f"zactor: {problem}\n")


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as they need to be."""
    lines = [list(map(str, row)) for row in [head, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(text.rstrip() + "\n")


def shown(path: Path) -> str:
    """A path as short as it can be from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
