"""A peer of `tell` across processes: two agents of osBrain, one of which pushes to the other.

The messages are the same objects as ours, by the serializer that osBrain comes with.
"""

from __future__ import annotations

import time
from typing import Any

import osbrain

from tests.bench.bench import RING, WORK

UNMEASURED = 20 * RING
"""Until the connection is open and the code is warm, as ours are."""

LOOK_S = 0.05
"""Between two looks at whether all were handled. The receiver notes the time itself, and looks cost it little."""

PATIENCE_S = 60.0


class Sink(osbrain.Agent):  # type: ignore[misc]  # what is not installed everywhere has no types
    """Counts messages, and notices when one is out of place."""

    def expect(self, count: int) -> None:
        """Begin to count."""
        self.left = count
        self.wrong = 0
        self.finished_ns = 0

    def work(self, message: Any) -> None:
        """Handle a message."""
        if message.index != -self.left % RING:
            self.wrong += 1
        self.left -= 1
        if not self.left:
            self.finished_ns = time.perf_counter_ns()


class Teller(osbrain.Agent):  # type: ignore[misc]
    """Floods."""

    def flood(self, count: int) -> int:
        """Send that many; the answer is when it began. All processes of a computer have one `perf_counter`."""
        started_ns = time.perf_counter_ns()
        for _ in range(count // RING):
            for work in WORK:
                self.send("out", work)
        return started_ns


def tell(transport: str, count: int) -> float:
    """Messages a second that an agent handles."""
    nameserver = osbrain.run_nameserver()
    try:
        sink = osbrain.run_agent("sink", base=Sink)
        teller = osbrain.run_agent("teller", base=Teller)
        teller.connect(sink.bind("PULL", transport=transport, handler="work"), alias="out")
        _flood(teller, sink, UNMEASURED)
        return count * 1e9 / _flood(teller, sink, count)
    finally:
        nameserver.shutdown()


def _flood(teller: Any, sink: Any, count: int) -> int:
    """Nanoseconds until all were handled."""
    sink.expect(count)
    started_ns: int = teller.flood(count)
    give_up_s = time.monotonic() + PATIENCE_S
    while not (finished_ns := sink.get_attr("finished_ns")):
        if time.monotonic() > give_up_s:
            raise RuntimeError(f"{sink.get_attr('left')} of {count} did not come")
        time.sleep(LOOK_S)
    if wrong := sink.get_attr("wrong"):
        raise RuntimeError(f"{wrong} of {count} were out of place")
    return int(finished_ns - started_ns)
