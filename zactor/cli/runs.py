"""`logs`: what the processes of a run wrote, in one order."""

from __future__ import annotations

import fnmatch
import functools
import heapq
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter, LogLevelColumnFormatter

from zactor.cli.common import (
    DEFAULT_FILE,
    DirOption,
    JsonOption,
    NodeOption,
    RunOption,
    TopologyOption,
    find_running,
    home_for,
    load_file,
    print_json,
)
from zactor.errors import UserError
from zactor.hlc import COUNTER_MASK
from zactor.launchers.folders import Home, NotRunning, command_name

app = typer.Typer()

FOLLOW_S = 0.1

_decode = msgspec.json.Decoder(dict[str, Any]).decode


@app.command()
def logs(
    topology: TopologyOption = None,
    run: RunOption = "latest",
    node: NodeOption = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines are written.")] = False,
    as_json: JsonOption = False,
    folder: DirOption = None,
) -> None:
    """Show the log events of a run, over all its processes."""
    where = run_folder(topology, folder, run)
    tails = [_Tail(path) for path in sorted(where.glob("*.jsonl"))]
    for event in heapq.merge(*(list(tail.read()) for tail in tails), key=_stamp):
        show_event(event, node, as_json)
    while follow:
        sys.stdout.flush()
        time.sleep(FOLLOW_S)
        known = {tail.path for tail in tails}
        tails += [_Tail(path) for path in sorted(where.glob("*.jsonl")) if path not in known]
        for event in sorted((event for tail in tails for event in tail.read()), key=_stamp):
            show_event(event, node, as_json)


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
    if "/" in run or Path(run).is_dir():
        return _named_folder(Path(run))
    home = home_of_run(topology, folder)
    runs = home.runs()
    if not runs:
        raise NotRunning(f"{home.name} has not run yet, or its runs were removed")
    fitting = runs[-1:] if run == "latest" else [each for each in runs if each.startswith(run)]
    if len(fitting) != 1:
        many = "several runs begin" if fitting else "no run begins"
        raise UserError(f"{home.name}: {many} with {run!r}; the runs are {', '.join(runs)}")
    return home.run_folder(fitting[0])


def _named_folder(path: Path) -> Path:
    if not (any(path.glob("*.jsonl")) or any(path.glob("*.rec"))):
        mend = f"; make one with: {command_name()} sim {path}" if path.suffix == ".json" else ""
        raise UserError(f"{path} is no folder of a run: it has no logs and no recordings{mend}")
    return path


def _stamp(event: dict[str, Any]) -> int:
    stamp = event.get("hlc", 0)
    return stamp if isinstance(stamp, int) else 0


class _Tail:
    """A log file, read from where the last look ended. A half-written last line is left for the next look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def read(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                try:
                    yield _decode(line)
                except msgspec.MsgspecError:
                    yield {"level": "error", "event": "unreadable_line", "file": self.path.name}


HIDDEN = ("hlc", "process", "cause", "message_id")
"""What `--json` shows and a line for people does not."""

DIM, BOLD, CYAN, RED, YELLOW, GREEN = "\033[2m", "\033[1m", "\033[36m", "\033[31m", "\033[33m", "\033[32m"
LEVEL_STYLES = {"debug": DIM, "info": GREEN, "warning": YELLOW, "error": RED}


@functools.cache
def _renderer() -> ConsoleRenderer:
    """Time, node, level, event, fields; in colour on a terminal, unless `NO_COLOR` is set."""
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def style(code: str) -> str:
        return code if colour else ""

    def column(code: str, width: int = 0) -> KeyValueColumnFormatter:
        return KeyValueColumnFormatter(None, style(code), style("\033[0m"), value_repr=str, width=width)

    fields = KeyValueColumnFormatter(style(CYAN), "", style("\033[0m"), value_repr=_plain)
    levels = {level: style(code) for level, code in LEVEL_STYLES.items()}
    columns = [
        Column("", fields),
        Column("clock", column(DIM)),
        Column("node", column("", width=12)),
        Column("level", LogLevelColumnFormatter(levels, reset_style=style("\033[0m"))),
        Column("event", column(BOLD)),
    ]
    return ConsoleRenderer(columns=columns, sort_keys=False)


def show_event(event: dict[str, Any], pattern: str | None, as_json: bool) -> None:
    """One event of a log, as a line for people or as JSON, if its node is wanted."""
    node = event.get("node") or event.get("process") or ""
    if pattern is not None and not fnmatch.fnmatch(node, pattern):
        return
    if as_json:
        print_json(event)
        return
    stamp_ns = _stamp(event) & ~COUNTER_MASK
    clock = time.strftime("%H:%M:%S", time.localtime(stamp_ns // 1_000_000_000))
    shown = {key: value for key, value in event.items() if key not in HIDDEN}
    shown |= {"clock": f"{clock}.{stamp_ns // 1_000_000 % 1000:03d}", "node": node}
    traceback = shown.pop("traceback", None)
    sys.stdout.write(_renderer()(None, "", shown).rstrip() + "\n")
    if traceback:
        sys.stdout.write("".join(f"    {line}\n" for line in str(traceback).splitlines()))


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return (
            value if value and not any(letter in value for letter in ' "=\n') else msgspec.json.encode(value).decode()
        )
    return msgspec.json.encode(value).decode()
