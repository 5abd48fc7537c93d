"""What a judge says, and how people read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from zactor.judges.history import Operation

Word = Literal["ok", "violation", "unknown"]

TIMELINE_MAX = 12
"""Operations of a counterexample that are drawn; more are only listed."""


class Verdict(msgspec.Struct, frozen=True):
    """`because` is one sentence. `evidence` are the operations that cannot all be true, as they were invoked."""

    word: Word
    because: str
    evidence: tuple[Operation, ...] = ()


def lines(verdict: Verdict) -> Iterator[str]:
    """The verdict for people: the sentence, a table of the evidence, and how its operations overlap."""
    yield f"{verdict.word}: {verdict.because}"
    if not verdict.evidence:
        return
    rows = [("OPERATION", "CLIENT", "FROM", "TO", ""), *map(_row, verdict.evidence)]
    drawn = _timeline(verdict.evidence) if len(verdict.evidence) <= TIMELINE_MAX else [""] * len(verdict.evidence)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row, bar in zip(rows, ["", *drawn], strict=True):
        yield "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=True)), bar)).rstrip()


def _row(operation: Operation) -> tuple[str, ...]:
    to = "?" if operation.completed is None else _seconds(operation.ended_ns or 0)
    return str(operation.id), operation.client, _seconds(operation.invoked_ns), to, str(operation.call)


def _seconds(at_ns: int) -> str:
    return f"{at_ns / 1e9:.6f} s"


def _timeline(operations: Sequence[Operation]) -> list[str]:
    """A bar for each operation, from its invocation to its answer; each event has a column of its own."""
    events = sorted(
        event for operation in operations for event in (operation.invoked, operation.completed) if event is not None
    )
    column = {event: 2 * index for index, event in enumerate(events)}
    bars = []
    for operation in operations:
        first = column[operation.invoked]
        last = 2 * len(events) if operation.completed is None else column[operation.completed]
        closing = "..." if operation.completed is None else "|"
        bars.append(" " * first + "|" + "-" * (last - first - 1) + closing)
    return bars
