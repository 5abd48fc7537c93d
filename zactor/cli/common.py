"""What the verbs share: which topology is meant, exit codes, tables, and flags that mean the same everywhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from zactor.errors import UserError
from zactor.launchers import folders
from zactor.launchers.folders import AlreadyRunning, Home, Lock, command_name, home_of
from zactor.topology.model import RECORDS, Topology
from zactor.units import parse_duration

OK, FAILED, USAGE, VIOLATION, DIFFERS, NOT_RUNNING, DEADLINE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 124, 130

DEFAULT_FILE = Path("topology.yaml")

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
RunOption = Annotated[
    str, typer.Option("-r", "--run", metavar="RUN", help="A run's id, the beginning of it, its folder, or latest.")
]
RecordOption = Annotated[
    str | None, typer.Option("--record", metavar="WAY", help="What is recorded of each node: ring, full or off.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON value a line.")]
NodeOption = Annotated[str | None, typer.Option("-n", "--node", metavar="PATTERN", help="Only nodes like store/*.")]
OutputOption = Annotated[Path | None, typer.Option("-o", metavar="FILE", help="Write it there.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Only from then on: 10:15:00, or 5m for so long ago.")
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Only up to then.")]
TimeoutOption = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="Give up after this long, such as 500ms.")
]


def what_to_do(problem: AlreadyRunning) -> str:
    """The error of who wanted to run what runs already, with the mend."""
    command = command_name()
    return f"{problem}; see it with: {command} ps -t {problem.name}, or stop it with: {command} down -t {problem.name}"


def find_running(topology: str | None, folder: Path | None) -> tuple[Home, Lock]:
    """The running topology that `-t` and `--dir` mean. Raises `NotRunning`, or UserError when there are several."""
    return folders.find_running(topology, folder, "-t NAME or -t FILE")


def home_for(topology: Topology, folder: Path | None) -> Home:
    """Where a topology keeps its things."""
    return home_of(topology, folder)


def load_file(file: Path, *, inline: bool = False, overrides: Sequence[str] = ()) -> Topology:
    """The topology of a file. Raises `UserError` with all its mistakes."""
    from zactor.topology.read import load  # reading YAML takes a while to import, and most verbs do not

    if file == DEFAULT_FILE and not file.exists():
        raise UserError(f"there is no {DEFAULT_FILE} in this folder; say which file is meant")
    return load(file, inline=inline, overrides=overrides)


def recorded(topology: Topology, record: str | None) -> Topology:
    """The topology with what `--record` says of all its nodes."""
    if record is None:
        return topology
    if record not in RECORDS:
        raise UserError(f"--record takes {', '.join(RECORDS)}, not {record!r}")
    return topology.recorded(record)


def seconds(written: str) -> float:
    """A duration from the command line."""
    return parse_duration(written) / 1e9


def clock_of(at_ns: int) -> str:
    """The local time of day with milliseconds, of nanoseconds since 1970."""
    return f"{time.strftime('%H:%M:%S', time.localtime(at_ns // 10**9))}.{at_ns // 10**6 % 1000:03d}"


def print_json(value: Any) -> None:
    """One value on one line."""
    sys.stdout.write(msgspec.json.encode(value, enc_hook=str).decode() + "\n")


def write_out(text: str, output: Path | None) -> None:
    """Write what a verb made to where `-o` says, or to standard output."""
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text)
    except OSError as problem:
        raise UserError(f"{output}: cannot be written: {problem.strerror}") from None


def say(problem: str) -> None:
    """One line on standard error, for what is not the answer of a verb."""
    sys.stderr.write(f"zactor: {problem}\n")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table whose columns are as wide as they need to be."""
    lines = [list(map(str, row)) for row in [head, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """The same, on standard output."""
    sys.stdout.writelines(f"{line}\n" for line in table(head, rows))


def shown(path: Path) -> str:
    """A path as short as it can be from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
