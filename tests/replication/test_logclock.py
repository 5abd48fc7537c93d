"""The clock of a log: no time of day moves it by more than a little, and it never goes back."""

from __future__ import annotations

from zactor.replication.logclock import DRAWN, LogClock

S = 10**9
HOUR = 3600 * S


def test_a_new_log_begins_at_the_time_of_day_and_another_one_goes_on() -> None:
    assert LogClock(0).read(now_ns=1, wall_ns=9 * S) == 9 * S
    assert LogClock(5 * S).read(now_ns=1, wall_ns=9 * S) == 5 * S
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


def test_who_leads_next_is_no_further_than_who_was_drawn_back() -> None:
    before, after = LogClock(0), LogClock(0)
    first = before.read(now_ns=0, wall_ns=100 * S)
    after.heard(first, now_ns=0)
    last = before.read(now_ns=8 * S, wall_ns=0)
    assert last < first + 8 * S
    after.heard(last, now_ns=8 * S)

    assert after.read(now_ns=9 * S, wall_ns=HOUR) - last <= S + S // DRAWN


def test_it_is_never_ahead_of_an_entry_that_was_long_on_its_way() -> None:
    clock = LogClock(0)
    clock.heard(100 * S, now_ns=0)
    clock.heard(102 * S, now_ns=7 * S)

    assert clock.read(now_ns=7 * S, wall_ns=0) == 102 * S
