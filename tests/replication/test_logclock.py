"""The clock of a log: no time of day moves it by more than a little, and it never goes back."""

from __future__ import annotations

from zactor.replication.logclock import BEHIND_NS, DRAWN, LogClock

S = 10**9
HOUR = 3600 * S


def test_after_a_start_of_all_it_is_the_time_of_day_and_not_before_the_last_entry() -> None:
    assert LogClock(5 * S).read(now_ns=1, wall_ns=9 * S) == 9 * S
    assert LogClock(5 * S).read(now_ns=1, wall_ns=2 * S) == 5 * S


def test_whoever_leads_next_goes_on_from_what_it_heard_whatever_its_time_of_day() -> None:
    for wrong in (-HOUR, HOUR):
        clock = LogClock(0)
        clock.heard(100 * S, now_ns=7 * S)
        assert abs(clock.read(now_ns=9 * S, wall_ns=100 * S + wrong) - 102 * S) <= 2 * S // DRAWN


def test_it_is_drawn_towards_the_time_of_day_and_comes_there() -> None:
    clock = LogClock(0)
    clock.heard(100 * S, now_ns=0)
    last = 0
    for second in range(1, 100):
        time_ns = clock.read(now_ns=second * S, wall_ns=(103 + second) * S)
        assert time_ns > last
        last = time_ns
    assert last == (103 + 99) * S


def test_it_goes_on_while_its_own_entries_come_back_late() -> None:
    clock = LogClock(0)
    first = clock.read(now_ns=0, wall_ns=50 * S)
    second = clock.read(now_ns=S, wall_ns=51 * S)
    clock.heard(first, now_ns=S)
    assert clock.read(now_ns=2 * S, wall_ns=52 * S) == second + S


def test_an_entry_that_is_ahead_or_far_behind_sets_it() -> None:
    clock = LogClock(0)
    clock.heard(100 * S, now_ns=0)
    clock.heard(200 * S, now_ns=S)
    assert clock.read(now_ns=S, wall_ns=0) == 200 * S
    clock.heard(200 * S - 2 * BEHIND_NS, now_ns=S)
    assert clock.read(now_ns=S, wall_ns=0) == 200 * S - 2 * BEHIND_NS
