"""A heap of events in virtual time, and chance that repeats: what every world without a real clock stands on.

Time is integer nanoseconds and moves only from one event to the next; events of one time happen in the order in
which they were pushed. Each purpose has a stream of chance of its own, so that one draw more for one of them
changes nothing for the others.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, TypeVar

T = TypeVar("T")

START_NS = 1_000_000_000
WALL_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000

Event = tuple[int, int, Callable[..., object], tuple[Any, ...]]
"""When, in which order, what to call, and with what."""


class Heap:
    """What will happen. `events` counts what has."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now_ns = START_NS
        self.events = 0
        self.order = itertools.count().__next__  # of events of one time
        self.heap: list[Event] = []

    def push(self, at_ns: int, event: Callable[..., object], *values: Any) -> None:
        """Call `event(*values)` at that time."""
        heappush(self.heap, (at_ns, self.order(), event, values))

    def step(self) -> None:
        """Let the next event happen."""
        at_ns, _, event, values = heappop(self.heap)
        if at_ns > self.now_ns:
            self.now_ns = at_ns
        event(*values)
        self.events += 1

    def next_ns(self) -> int | None:
        """When the next event happens; None if there is none."""
        return self.heap[0][0] if self.heap else None

    def every(self, is_meant: Callable[[Callable[..., object], tuple[Any, ...]], bool]) -> bool:
        """Whether all events that are to come are such."""
        return all(is_meant(event, values) for _, _, event, values in self.heap)

    def stream(self, purpose: str) -> random.Random:
        """A stream of chance of its own for each purpose, the same for the same seed."""
        digest = hashlib.blake2b(f"{self.seed}/{purpose}".encode(), digest_size=8).digest()
        return random.Random(int.from_bytes(digest, "big"))  # noqa: S311 - it must repeat, not be secret


class Chance:
    """Draws from a stream by integers alone: no floating point, whose last digit another machine may round."""

    def __init__(self, stream: random.Random) -> None:
        self.bits = stream.getrandbits

    def below(self, end: int) -> int:
        """0 to `end` - 1."""
        return self.bits(64) * end >> 64

    def between(self, first: int, last: int) -> int:
        """`first` to `last`, both included."""
        return first + self.below(last - first + 1)

    def percent(self, rate: int) -> bool:
        """True in so many cases of a hundred."""
        return self.below(100) < rate

    def pick(self, choices: list[T] | tuple[T, ...]) -> T:
        """One of them."""
        return choices[self.below(len(choices))]

    def some(self, choices: list[T] | tuple[T, ...], count: int) -> list[T]:
        """So many different ones, in their order."""
        left = list(range(len(choices)))
        taken = sorted(left.pop(self.below(len(left))) for _ in range(min(count, len(choices))))
        return [choices[index] for index in taken]

    def waiting(self, mean_ns: int) -> int:
        """A time to wait, `mean_ns` on average and mostly shorter, at most four times as long: a die for each half."""
        span_ns = mean_ns >> 1
        while span_ns < mean_ns << 2 and self.bits(1):
            span_ns <<= 1
        return 1 + self.below(span_ns + 1)
