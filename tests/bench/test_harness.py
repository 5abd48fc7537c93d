"""The form of every benchmark, with measures that cost nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.bench.harness import Bar, Bench, Measure, Peer, Row, Scale, as_json, as_table, median_us, p99_us, run


def measure_of(*figures: float, said: list[str] | None = None, name: str = "") -> Measure:
    left = list(figures)

    async def measure() -> float:
        if said is not None:
            said.append(name)
        return left.pop(0)

    return measure


def measured(row: Row, rounds: int) -> Row:
    @asynccontextmanager
    async def opened(_scale: Scale) -> AsyncIterator[list[Row]]:
        yield [row]

    return asyncio.run(run(Bench(opened, rounds=rounds), Scale()))[0]


def test_who_goes_first_in_one_round_goes_second_in_the_next() -> None:
    said: list[str] = []
    peer = Peer("theirs", measure_of(1, 1, said=said, name="theirs"))

    measured(Row("case", "1/s", measure_of(1, 1, said=said, name="ours"), peer), rounds=2)

    assert said == ["ours", "theirs", "theirs", "ours"]


def test_a_ratio_above_one_is_better_for_us_whatever_the_unit() -> None:
    faster = measured(Row("rate", "1/s", measure_of(30), Peer("p", measure_of(10))), rounds=1)
    sooner = measured(Row("time", "us", measure_of(10), Peer("p", measure_of(30))), rounds=1)

    assert faster.ratio() == sooner.ratio() == 3


def test_a_ratio_is_that_of_the_medians() -> None:
    row = measured(Row("case", "1/s", measure_of(1, 50, 20), Peer("p", measure_of(10, 10, 99))), rounds=3)

    assert row.ratio() == 2


def test_a_bar_on_a_ratio_is_neither_met_nor_missed_without_the_peer() -> None:
    peer = Peer("p", measure_of(), missing=True, mend="pip install p")
    row = measured(Row("case", "1/s", measure_of(1), peer, Bar(ratio=2)), rounds=1)

    assert row.met() is None
    assert "unproved" in as_table([row])
    assert json.loads(as_json("bench", row))["peer"] is None


def test_a_bar_on_our_own_figure_is_an_upper_one_for_a_size_and_a_lower_one_for_a_rate() -> None:
    rows = [
        measured(Row("case", "B", measure_of(99), bar=Bar(ours=100)), rounds=1),
        measured(Row("case", "1/s", measure_of(99), bar=Bar(ours=100)), rounds=1),
    ]

    assert [row.met() for row in rows] == [True, False]


def test_a_bar_of_a_half_is_met_by_twice_the_time_of_the_peer_and_not_by_more() -> None:
    rows = [
        measured(Row("case", "us", measure_of(20), Peer("p", measure_of(10)), Bar(ratio=1 / 2)), rounds=1),
        measured(Row("case", "us", measure_of(21), Peer("p", measure_of(10)), Bar(ratio=1 / 2)), rounds=1),
    ]

    assert [row.met() for row in rows] == [True, False]


def test_large_figures_are_shown_short() -> None:
    row = measured(Row("bulk", "B/s", measure_of(2.5e9), Peer("p", measure_of(999e6)), Bar(ratio=1 / 3)), rounds=1)

    assert "2.5G" in as_table([row])
    assert "999M" in as_table([row])
    assert "0.333 x" in as_table([row])


def test_the_p99_is_what_one_in_a_hundred_spans_exceeds() -> None:
    seldom, often = [1_000] * 995 + [9_000] * 5, [1_000] * 985 + [9_000] * 15

    assert (median_us(often), p99_us(seldom), p99_us(often)) == (1, 1, 9)


def test_a_row_as_json_has_the_figures_of_each_round() -> None:
    row = measured(Row("case", "s", measure_of(2, 4), Peer("p", measure_of(6, 6))), rounds=2)

    assert json.loads(as_json("name", row)) == {
        "bench": "name",
        "case": "case",
        "ours": 3,
        "unit": "s",
        "peer": "p",
        "theirs": 6,
        "ratio": 2,
        "runs": [[2, 6], [4, 6]],
        "cpu_s": [None, None],
        "syncs": [None, None],
    }
