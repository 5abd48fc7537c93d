"""`logs`: what the processes of a run wrote, in one order."""

from __future__ import annotations

import fnmatch
import functools
import os
import sys
import time
from datetime import datetime, timedelta
from datetime import time as clock
from typing import Annotated, Any

import msgspec
import typer
from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter, LogLevelColumnFormatter

from zactor.cli.common import (
    DirOption,
    JsonOption,
    NodeOption,
    RunOption,
    SinceOption,
    TopologyOption,
    UntilOption,
    clock_of,
    print_json,
    say,
)
from zactor.cli.runs import run_folder
from zactor.debug.runlog import Log, time_ns
from zactor.errors import UserError
from zactor.units import parse_duration

app = typer.Typer()

FOLLOW_S = 0.1

LEVELS = ("debug", "info", "warning", "error")


@app.command()
def logs(
    topology: TopologyOption = None,
    run: RunOption = "latest",
    node: NodeOption = None,
    level: Annotated[str, typer.Option("--level", metavar="LEVEL", help="Only this level and above it.")] = LEVELS[0],
    since: SinceOption = None,
    until: UntilOption = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines are written.")] = False,
    as_json: JsonOption = False,
    folder: DirOption = None,
) -> None:
    """Show the log events of a run, over all its processes."""
    if level not in LEVELS:
        raise UserError(f"--level takes {', '.join(LEVELS)}, not {level!r}")
    where = run_folder(topology, folder, run)
    wanted = LEVELS[LEVELS.index(level) :]
    with Log(where) as log:
        first_ns, last_ns = span_of(log, since, until)
        while True:
            for event in log.read():
                if first_ns <= time_ns(event) <= last_ns and event.get("level", level) in wanted:
                    show_event(event, node, as_json)
            if not follow:
                break
            sys.stdout.flush()
            time.sleep(FOLLOW_S)
        for name in log.unfinished():
            say(f"{where / name}: its last line is not finished, and was left out")


def span_of(log: Log, since: str | None, until: str | None) -> tuple[int, int]:
    """What `--since` and `--until` mean for a run, in nanoseconds since 1970."""
    first_ns = 0 if since is None else moment_ns(since, log)
    last_ns = sys.maxsize if until is None else moment_ns(until, log)
    if first_ns > last_ns:
        raise UserError(f"--since {since} is later than --until {until}")
    return first_ns, last_ns


def moment_ns(written: str, log: Log) -> int:
    """`10:15:00.5` for the first such time of the run, a date with a time, or `5m` for so long ago, since 1970."""
    try:
        return time.time_ns() - parse_duration(written)
    except UserError:
        pass
    try:
        if "-" in written:
            found = datetime.fromisoformat(written).astimezone()
        else:
            began = datetime.fromtimestamp(log.begin_ns() / 1e9).astimezone()
            found = datetime.combine(began, clock.fromisoformat(written)).astimezone()
            if found < began.replace(microsecond=0):
                found += timedelta(days=1)
    except ValueError:
        forms = "a time such as 10:15:00 or 2026-11-23T10:15:00, or 5m for five minutes ago"
        raise UserError(f"expected {forms}, found {written!r}") from None
    return round(found.timestamp() * 1000) * 1_000_000


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
    shown = {key: value for key, value in event.items() if key not in HIDDEN}
    shown |= {"clock": clock_of(time_ns(event)), "node": node}
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
