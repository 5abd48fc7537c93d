"""The clock of a replicated log, which no clock of a single replica can move.

Whoever leads goes on from the time of the last entry at the pace of its own monotonic clock, drawn towards its time
of day a little. So a leader whose time of day is wrong by an hour neither ends leases early nor holds them for ever.
Only where nobody has kept the time, after a start of all, it is set to the time of day, and never back.
"""

from __future__ import annotations

DRAWN = 16
"""Of a span that has passed, one part in so many is how much the time is drawn towards the time of day."""


class LogClock:
    """`time_ns` is the time of the last entry, nanoseconds since 1970, as far as clocks there were right."""

    def __init__(self, time_ns: int) -> None:
        self.time_ns = time_ns
        self._at_ns: int | None = None  # of the own monotonic clock; None: nobody has kept the time

    def heard(self, time_ns: int, now_ns: int) -> None:
        """An entry of that time came from a leader, or was made here."""
        self.time_ns = max(self.time_ns, time_ns)
        self._at_ns = now_ns

    def read(self, now_ns: int, wall_ns: int) -> int:
        """The time of an entry that is made now."""
        if self._at_ns is None:
            return max(self.time_ns, wall_ns)
        passed_ns = now_ns - self._at_ns
        drawn_ns = passed_ns // DRAWN
        ahead_ns = wall_ns - self.time_ns - passed_ns
        return self.time_ns + passed_ns + max(-drawn_ns, min(drawn_ns, ahead_ns))
