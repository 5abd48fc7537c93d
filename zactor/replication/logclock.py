"""The clock of a replicated log, which no clock of a single replica can move.

Whoever leads goes on from the time of the last entry at the pace of its own monotonic clock, drawn towards its time
of day a little. So a leader whose time of day is wrong by an hour neither ends leases early nor holds them for ever.
What passes while nobody keeps the time is lost: between any two entries no more time passes in the log than outside,
but for what it is drawn. Only a log in which there is no time yet begins at the time of day.
"""

from __future__ import annotations

DRAWN = 16
"""Of a span that has passed, one part in so many is how much the time is drawn towards the time of day."""


class LogClock:
    """Begins at the time of the last entry on the disk: nanoseconds since 1970, as far as clocks there were right."""

    def __init__(self, time_ns: int) -> None:
        self._time_ns = time_ns
        self._at_ns: int | None = None  # of the own monotonic clock, when it was that time; None: not known yet

    def heard(self, time_ns: int, now_ns: int) -> None:
        """There is an entry of that time, which another has made, or this one before it lost the lead.

        The clock goes on from it: further, and what was made with it would end too early, for whoever has made it may
        have been drawn back. How long the entry was on its way is lost.
        """
        self._time_ns, self._at_ns = time_ns, now_ns

    def read(self, now_ns: int, wall_ns: int) -> int:
        """The time of an entry that is made now."""
        passed_ns = 0 if self._at_ns is None else now_ns - self._at_ns
        drawn_ns = passed_ns // DRAWN
        time_ns = self._time_ns + passed_ns
        self._time_ns = time_ns + max(-drawn_ns, min(drawn_ns, wall_ns - time_ns)) if time_ns else wall_ns
        self._at_ns = now_ns
        return self._time_ns
