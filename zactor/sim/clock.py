"""The clocks of one simulated process: one that may run fast or slow, and one that may be wrong and may jump.

`offset_ns` is what the wall clock is wrong by; `drift_ppb` makes both clocks gain so many nanoseconds a second. The
monotonic one never goes back. Everything is computed by integers.
"""

from __future__ import annotations

from collections import Counter

from zactor.sim.heap import SECOND_NS, WALL_NS


class Clock:
    """Made for the time of the heap; `local_ns` is its reading, and `true_ns` when it will show a reading.

    `acted` counts the wrong readings, by the fault that made them so.
    """

    def __init__(self, offset_ns: int = 0, drift_ppb: int = 0, acted: Counter[str] | None = None) -> None:
        self.offset_ns = offset_ns
        self.drift_ppb = drift_ppb
        self._acted = Counter() if acted is None else acted
        self._since_ns = self._shown_ns = 0
        self.is_true = drift_ppb == 0  # the monotonic clock has always shown the time of the heap

    def local_ns(self, true_ns: int) -> int:
        """The monotonic clock's reading at that true time."""
        if self.drift_ppb:
            self._acted["drift"] += 1
        elapsed_ns = true_ns - self._since_ns
        return self._shown_ns + elapsed_ns + elapsed_ns * self.drift_ppb // SECOND_NS

    def true_ns(self, local_ns: int) -> int:
        """The first true time at which the monotonic clock shows that much."""
        rate = SECOND_NS + self.drift_ppb
        return self._since_ns + -((self._shown_ns - local_ns) * SECOND_NS // rate)

    def wall_ns(self, true_ns: int) -> int:
        """The wall clock's reading at that true time."""
        if self.offset_ns:
            self._acted["step"] += 1
        return WALL_NS + self.offset_ns + (true_ns if self.is_true else self.local_ns(true_ns))

    def drift(self, true_ns: int, drift_ppb: int) -> None:
        """Run at another rate from now on."""
        self._shown_ns, self._since_ns = self.local_ns(true_ns), true_ns
        self.drift_ppb = drift_ppb
        self.is_true = self.is_true and drift_ppb == 0
