"""`lost`: the messages of a run that nobody handled."""

from __future__ import annotations

import fnmatch
import sys
import time

import typer

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
    print_table,
)
from zactor.cli.logs import span_of
from zactor.cli.runs import run_folder
from zactor.debug.losses import Losses
from zactor.debug.runlog import Log
from zactor.units import format_duration

app = typer.Typer()

SECOND_NS = 1_000_000_000


@app.command()
def lost(
    topology: TopologyOption = None,
    run: RunOption = "latest",
    node: NodeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
    folder: DirOption = None,
) -> None:
    """Show dead letters: messages that nobody handled, each with the reason. `-n` means who would have."""
    with Log(run_folder(topology, folder, run)) as log:
        first_ns, last_ns = span_of(log, since, until)
        losses = Losses(log.read())
        found = [
            loss
            for loss in losses
            if first_ns <= loss.at_ns <= last_ns and (node is None or fnmatch.fnmatch(loss.target, node))
        ]
    if as_json:
        for loss in found:
            print_json(loss)
        return
    if found:
        now_ns = time.time_ns()
        rows = [
            (
                clock_of(each.at_ns),
                _age(now_ns - each.at_ns),
                each.reason,
                each.message,
                each.sender,
                each.target,
                each.id,
            )
            for each in found
        ]
        print_table(("TIME", "AGE", "REASON", "MESSAGE", "FROM", "TO", "ID"), rows)
    counts = ", ".join(f"{count} {reason}" for reason, count in sorted(losses.reasons.items()))
    shown = f"; {len(found)} are shown" if len(found) < losses.reasons.total() else ""
    sys.stdout.write(f"dead letters: {counts or 'none'}{shown}\n")
    for process, count in sorted(losses.with_process.items()):
        if count:
            sys.stdout.write(f"lost with {process}: at most {count}\n")


def _age(age_ns: int) -> str:
    return format_duration(max(age_ns // SECOND_NS, 0) * SECOND_NS) if age_ns >= SECOND_NS else "now"
