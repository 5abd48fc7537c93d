"""`judge`: whether what clients saw can have been shown to them by a system that keeps its promises."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zactor.cli.common import FAILED, OK, USAGE, VIOLATION, JsonOption, print_json, say
from zactor.errors import UserError
from zactor.judges.history import Operation, Recorded, read
from zactor.judges.judge import NAMES, holds_for_prefixes, judge_named, model_named
from zactor.judges.linearizability import STEPS_EACH, STEPS_MAX
from zactor.judges.models import BUILT_IN
from zactor.judges.verdict import Verdict, lines

app = typer.Typer()

_CODES = {"ok": OK, "violation": VIOLATION, "unknown": FAILED}


@app.command()
def judge(
    file: Annotated[Path, typer.Argument(metavar="HISTORY", help="A recorded history.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help=f"{', '.join(BUILT_IN)}, a kind's own or ./file.py:Model; default: its own.",
        ),
    ] = None,
    level: Annotated[str, typer.Option("--level", metavar="LEVEL", help=f"{', '.join(NAMES)}.")] = "linearizable",
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            metavar="COUNT",
            min=1,
            help=f"After which it gives up; default: {STEPS_MAX}, or {STEPS_EACH} for each operation if that is more.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge a recorded history by a model.

    The exit code is 0 when it is ok, 3 for a violation, 1 when nobody knows.

    Of a damaged one the lines before the damage are judged; without a violation in them the exit code is 2.
    """
    judge_it = judge_named(level, steps)
    recorded = _read(file)
    name = model or recorded.model
    if recorded.damage is not None and not holds_for_prefixes(level):
        raise UserError(f"{recorded.damage}; {level!r} can only be judged of a whole history")
    verdict = judge_it(recorded.operations, model_named(name, Path.cwd()) if name else None)
    if as_json:
        print_json(_as_object(verdict, recorded, name, level))
    else:
        typer.echo("\n".join(lines(verdict)))
    if recorded.damage is not None:
        say(f"{recorded.damage}; what stands before this line was judged, and nothing after it")
    damaged = recorded.damage is not None and verdict.word != "violation"
    raise typer.Exit(USAGE if damaged else _CODES[verdict.word])


def _read(file: Path) -> Recorded:
    try:
        with file.open("rb") as lines_of_file:
            return read(lines_of_file, str(file))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None


def _as_object(verdict: Verdict, recorded: Recorded, model: str, level: str) -> dict[str, object]:
    return {
        "verdict": verdict.word,
        "because": verdict.because,
        "level": level,
        "model": model,
        "operations": len(recorded.operations),
        "evidence": [_operation(operation) for operation in verdict.evidence],
        "damage": recorded.damage,
    }


def _operation(operation: Operation) -> dict[str, object]:
    call = operation.call
    return {
        "id": operation.id,
        "client": operation.client,
        "function": call.function,
        "key": call.key,
        "arguments": call.arguments,
        "outcome": operation.outcome,
        "result": call.result,
        "invoked_ns": operation.invoked_ns,
        "ended_ns": operation.ended_ns,
    }
