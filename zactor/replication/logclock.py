"""The clock of a replicated log, which no clock of a single replica can move.

Whoever leads goes on from the time of the last entry at the pace of its own monotonic clock, drawn towards its time
of day a little. So a leader whose time of day is wrong by an hour neither ends leases early nor holds them for ever.
Only where nobody has kept the time, after a start of all, it is set to the time of day, and never back.
"""

from __future__ import annotations

DRAWN = 16
"""Of a span that has passed, one part in so many is how much the time is drawn towards the time of day."""


BEHIND_NS = 10**9
"""An entry is never so long on its way that it says more about a clock than about the way, as long as it is less."""


class LogClock:
    """Begins at the time of the last entry on the disk: nanoseconds since 1970, as far as clocks there were right."""

    def __init__(self, time_ns: int) -> None:
        self._time_ns = time_ns
        self._at_ns: int | None = None  # of the own monotonic clock, when it was that time; None: nobody has kept it

    def heard(self, time_ns: int, now_ns: int) -> None:
        """There is an entry of that time: made here before, or by whoever leads, a little while ago."""
        passed_ns = 0 if self._at_ns is None else now_ns - self._at_ns
        ahead_ns = self._time_ns + passed_ns - time_ns
        if self._at_ns is None or not 0 <= ahead_ns <= BEHIND_NS:
            self._time_ns, self._at_ns = time_ns, now_ns

    def read(self, now_ns: int, wall_ns: int) -> int:
        """The time of an entry that is made now."""
        if self._at_ns is None:
            time_ns = max(self._time_ns, wall_ns)
        else:
            passed_ns = now_ns - self._at_ns
            drawn_ns = passed_ns // DRAWN
            ahead_ns = wall_ns - self._time_ns - passed_ns
            time_ns = self._time_ns + passed_ns + max(-drawn_ns, min(drawn_ns, ahead_ns))
        self._time_ns, self._at_ns = time_ns, now_ns
        return time_ns
