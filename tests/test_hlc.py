"""The hybrid logical clock, as in Kulkarni et al. 2014."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zactor import hlc

WALL_NS = 1_700_000_000_000_000_000
STAMPS = st.integers(min_value=0, max_value=(1 << 64) - 1)


def test_a_stamp_of_the_wall_clock_is_within_its_counter_of_it_and_starts_counting_at_zero() -> None:
    stamp = hlc.from_wall(WALL_NS)

    assert stamp & hlc.COUNTER_MASK == 0
    assert 0 <= WALL_NS - stamp <= hlc.COUNTER_MASK


def test_a_later_stamp_is_taken_over() -> None:
    local = hlc.from_wall(WALL_NS)

    assert hlc.merge(local, local + 7, WALL_NS) == local + 7


def test_an_earlier_stamp_changes_nothing() -> None:
    local = hlc.from_wall(WALL_NS)

    assert hlc.merge(local, local - 1, WALL_NS) == local


def test_a_stamp_half_a_second_ahead_is_taken_over_and_one_beyond_it_is_not() -> None:
    local = hlc.from_wall(WALL_NS)

    assert hlc.merge(local, WALL_NS + hlc.AHEAD_NS_MAX, WALL_NS) == WALL_NS + hlc.AHEAD_NS_MAX
    assert hlc.merge(local, WALL_NS + hlc.AHEAD_NS_MAX + 1, WALL_NS) == local


@given(STAMPS, STAMPS)
def test_a_merge_never_goes_back_and_never_beyond_what_is_believed(local: int, received: int) -> None:
    merged = hlc.merge(local, received, WALL_NS)

    assert merged >= local
    assert merged in (local, received)
    assert merged == local or merged <= WALL_NS + hlc.AHEAD_NS_MAX
