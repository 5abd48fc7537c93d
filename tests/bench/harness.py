"""One form for every benchmark: rows that are measured in rounds, ours and the peer's in turn, and shown alike.

Machines are noisy and differ, so only the ratio of two medians of the same rounds says something. A row whose
peer is not installed is shown without one: it proves nothing.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Self

Measure = Callable[[], Awaitable[float]]
Unit = Literal["1/s", "B/s", "us", "s", "B"]


class Figure(float):
    """A rate, and what each byte or operation of it cost all who took part on this side.

    `cpu` is in seconds. `syncs`: flushes of the disk; None where nobody counts them.
    """

    def __new__(cls, value: float, cpu: float, syncs: float | None) -> Self:
        self = super().__new__(cls, value)
        self.cpu, self.syncs = cpu, syncs
        return self

    cpu: float
    syncs: float | None


QUICK_S = 45.0
"""After which a quick run begins no round that would end later; with what comes before and after it takes 50 s."""

LESS_IS_BETTER: tuple[Unit, ...] = ("us", "s", "B")


@dataclass(frozen=True)
class Peer:
    """Whom a row compares with. `mend` says how to get one that is `missing`."""

    name: str
    measure: Measure
    missing: bool = False
    mend: str = ""


@dataclass(frozen=True)
class Bar:
    """What a row must reach: a ratio to the peer, or a figure of our own.

    A ratio says how often we are as good, whatever the unit: at most twice the peer's time is a ratio of 1/2.
    """

    ratio: float | None = None
    ours: float | None = None

    def __str__(self) -> str:
        return f"{self.ratio:.3g} x" if self.ratio is not None else _short(self.ours)


@dataclass
class Row:
    """A case and what its rounds have brought."""

    case: str
    unit: Unit
    measure: Measure
    peer: Peer | None = None
    bar: Bar | None = None
    once: bool = False
    """Whether one round is enough: for what does not differ from round to round, and takes long."""
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def less_is_better(self) -> bool:
        """Whether this is a time or a size."""
        return self.unit in LESS_IS_BETTER

    def ratio(self) -> float | None:
        """How often we are as good as the peer, by the medians; None without a peer."""
        if not self.theirs:
            return None
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        return theirs / ours if self.less_is_better else ours / theirs

    def met(self) -> bool | None:
        """Whether the bar is met; None when there is none, or nobody to compare with."""
        if self.bar is None:
            return None
        if self.bar.ratio is not None:
            ratio = self.ratio()
            return None if ratio is None else ratio >= self.bar.ratio
        assert self.bar.ours is not None
        ours = statistics.median(self.ours)
        return ours <= self.bar.ours if self.less_is_better else ours >= self.bar.ours


@dataclass(frozen=True)
class Scale:
    """How much is to be measured. `size_bytes`: of what is streamed, where that is a question; None: as usual."""

    quick: bool = False
    size_bytes: int | None = None


@dataclass(frozen=True)
class Bench:
    """A benchmark: `open` brings up what it needs and gives its rows, with smaller cases if the scale is quick."""

    open: Callable[[Scale], AbstractAsyncContextManager[list[Row]]]
    rounds: int = 5
    rounds_quick: int = 3


async def run(bench: Bench, scale: Scale, *, rounds: int | None = None, only: str = "") -> list[Row]:
    """Measure every row in rounds; whoever goes first in one round goes second in the next.

    `rounds` None: as many as usual. `only`: a part of the cases' names, for those that are measured.
    """
    started_s = time.monotonic()
    async with bench.open(scale) as opened:
        rows = [row for row in opened if only in row.case]
        for row in rows:
            if row.peer is not None and row.peer.missing:
                sys.stderr.write(f"bench: {row.case}: {row.peer.name} does not run here ({row.peer.mend})\n")
        round_s = 0.0
        for number in range(rounds or (bench.rounds_quick if scale.quick else bench.rounds)):
            round_started_s = time.monotonic()
            if scale.quick and number and round_started_s - started_s + round_s > QUICK_S:
                break  # the machine is busy: what was measured until now has to do
            for row in rows:
                if not (row.once and row.ours):
                    await _measure(row, peer_first=bool(number % 2))
            round_s = time.monotonic() - round_started_s
        return rows


async def _measure(row: Row, *, peer_first: bool) -> None:
    turns = [(row.ours, row.measure)]
    if row.peer is not None and not row.peer.missing:
        turns.insert(0 if peer_first else 1, (row.theirs, row.peer.measure))
    for figures, measure in turns:
        figures.append(await measure())


def median_us(spans_ns: Sequence[int]) -> float:
    """The median in microseconds."""
    return statistics.median(spans_ns) / 1e3


def p99_us(spans_ns: Sequence[int]) -> float:
    """What 99 of 100 stay below, in microseconds."""
    return statistics.quantiles(spans_ns, n=100)[98] / 1e3


async def figure_of(*command: str) -> float:
    """The number that a program prints, which measures in a process of its own. Raises RuntimeError if it fails."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return float(output)


def as_json(bench: str, row: Row) -> str:
    """One row as a JSON object. `runs` has a pair of figures a round: ours, and the peer's or null."""
    theirs: Sequence[float | None] = row.theirs or [None] * len(row.ours)
    return json.dumps(
        {
            "bench": bench,
            "case": row.case,
            "ours": statistics.median(row.ours),
            "unit": row.unit,
            "peer": row.peer.name if row.peer is not None and row.theirs else None,
            "theirs": statistics.median(row.theirs) if row.theirs else None,
            "ratio": row.ratio(),
            "runs": list(zip(row.ours, theirs, strict=True)),
            "cpu_s": [_cost(row.ours, "cpu"), _cost(row.theirs, "cpu")],
            "syncs": [_cost(row.ours, "syncs"), _cost(row.theirs, "syncs")],
        }
    )


def as_table(rows: Iterable[Row]) -> str:
    """All rows, aligned, for people: medians with the least and the most, the ratio, the bar and whether it is met.

    Where a side says what it costs, so does the table: for a GB, or for a thousand of what is counted.
    """
    rows = list(rows)
    head: tuple[str, ...] = ("case", "unit", "ours", "min..max", "peer", "theirs", "min..max", "ratio", "bar", "")
    lines = [head, *(_cells(row) for row in rows)]
    if any(_cost(row.ours, "cpu") is not None for row in rows):
        costs = [("CPU s, ours : theirs", "syncs, for each GB or 1,000"), *(_costs(row) for row in rows)]
        lines = [line + cost for line, cost in zip(lines, costs, strict=True)]
        head = lines[0]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    left = (0, 1, 4)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    ratio, met = row.ratio(), row.met()
    peer = ""
    if row.peer is not None:
        peer = row.peer.name if row.theirs else f"({row.peer.name})"
    return (
        row.case,
        row.unit,
        _short(statistics.median(row.ours)),
        _range(row.ours),
        peer,
        _short(statistics.median(row.theirs)) if row.theirs else "",
        _range(row.theirs),
        "" if ratio is None else f"{ratio:.2f}",
        "" if row.bar is None else str(row.bar),
        {True: "met", False: "MISSED", None: "" if row.bar is None else "unproved"}[met],
    )


def _costs(row: Row) -> tuple[str, ...]:
    scale = 1e9 if row.unit == "B/s" else 1e3
    return tuple(
        " : ".join(
            "" if cost is None else _short(scale * cost) for cost in (_cost(row.ours, word), _cost(row.theirs, word))
        )
        for word in ("cpu", "syncs")
    )


def _cost(figures: Sequence[float], word: Literal["cpu", "syncs"]) -> float | None:
    """The median of what the figures say that they cost, if they do."""
    costs = [getattr(figure, word) for figure in figures if isinstance(figure, Figure)]
    return statistics.median(costs) if costs and None not in costs else None


def _range(figures: list[float]) -> str:
    return f"{_short(min(figures))}..{_short(max(figures))}" if figures else ""


def _short(figure: float | None) -> str:
    assert figure is not None
    for least, divisor, unit in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if figure >= least:
            return f"{figure / divisor:.3g}{unit}"
    return f"{figure:.3g}" if figure < 1000 else f"{figure:.0f}"
