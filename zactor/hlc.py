"""A hybrid logical clock: a stamp near the wall clock that never contradicts causality.

Kulkarni et al. 2014, "Logical Physical Clocks". One integer of 64 bits: nanoseconds since 1970 whose low
16 bits are the counter, so stamps are compared and added to as integers. It orders what people read;
no protocol decides by it.
"""

from __future__ import annotations

COUNTER_BITS = 16
COUNTER_MASK = (1 << COUNTER_BITS) - 1
WALL_MASK = ~COUNTER_MASK

# A peer whose clock runs ahead would drag every process along with it; beyond this its stamps are only counted.
AHEAD_NS_MAX = 500_000_000


def from_wall(wall_ns: int) -> int:
    """The stamp of a wall-clock time, with its counter at zero."""
    return wall_ns & WALL_MASK


def merge(local: int, received: int, wall_ns: int) -> int:
    """Our stamp after `received` came in: at least as late, unless it is absurdly far ahead of `wall_ns`."""
    if received <= local or received > wall_ns + AHEAD_NS_MAX:
        return local
    return received
