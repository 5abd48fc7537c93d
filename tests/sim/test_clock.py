"""Clocks that are wrong, by integers alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from zactor.sim.clock import Clock
from zactor.sim.heap import SECOND_NS, WALL_NS
from zactor.sim.world import Knobs, Simulation

PPB_MAX = 100_000_000


@given(some.integers(-PPB_MAX, PPB_MAX), some.integers(0, 1 << 60), some.integers(0, 1 << 60))
def test_an_alarm_rings_when_the_clock_shows_its_time_and_not_before(ppb: int, since_ns: int, local_ns: int) -> None:
    clock = Clock()
    clock.drift(since_ns, ppb)
    wanted_ns = clock.local_ns(since_ns) + local_ns

    at_ns = clock.true_ns(wanted_ns)

    assert clock.local_ns(at_ns) >= wanted_ns
    assert clock.local_ns(at_ns - 2) < wanted_ns


@given(some.lists(some.tuples(some.integers(0, SECOND_NS), some.integers(-PPB_MAX, PPB_MAX)), max_size=10))
def test_the_monotonic_clock_never_goes_back(changes: list[tuple[int, int]]) -> None:
    clock, now_ns, shown_ns = Clock(), 0, 0
    for span_ns, ppb in changes:
        now_ns += span_ns
        assert clock.local_ns(now_ns) >= shown_ns
        shown_ns = clock.local_ns(now_ns)
        clock.drift(now_ns, ppb)
        assert clock.local_ns(now_ns) == shown_ns


@pytest.mark.parametrize("offset_ns", [-SECOND_NS, 0, SECOND_NS])
def test_the_wall_clock_is_wrong_by_its_offset(offset_ns: int) -> None:
    clock = Clock(offset_ns)

    assert clock.wall_ns(5) == WALL_NS + offset_ns + 5
    assert clock.is_true


def test_an_alarm_outlives_that_its_clock_becomes_slower() -> None:
    sim = Simulation(1, Knobs(), 0)
    world = sim.boot("a", 1, 1)
    sim.clocks["a"].drift(sim.now_ns, PPB_MAX)
    fired: list[int] = []
    due_ns = world.now_ns() + SECOND_NS
    world.kernel.waits.at(due_ns, lambda: fired.append(world.now_ns()))

    sim.run_until(sim.now_ns + SECOND_NS // 2)
    sim.clocks["a"].drift(sim.now_ns, -PPB_MAX)
    sim.run_until(sim.now_ns + 2 * SECOND_NS)

    assert len(fired) == 1
    assert fired[0] >= due_ns
