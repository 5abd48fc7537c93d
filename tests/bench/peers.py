"""Peers within one process: a bounded `asyncio.Queue`, and pykka. Run as `python -m tests.bench.peers NAME COUNT`.

A peer does the work of our own case: the same messages, and a receiver that checks count and order before the
clock stops. It prints one number.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

from tests.bench.bench import RING, WORK

QUEUE_SIZE = 10_000
"""As many as a mailbox holds."""


async def _queue_tell(count: int) -> float:
    waiting: asyncio.Queue[Any] = asyncio.Queue(QUEUE_SIZE)

    async def put() -> None:
        for _ in range(count // RING):
            for work in WORK:
                await waiting.put(work)

    async def get() -> None:
        for index in range(count):
            message = await waiting.get()
            if message.index != index % RING:
                raise RuntimeError(f"{message.index} is out of place")

    started_ns = time.perf_counter_ns()
    await asyncio.gather(put(), get())
    return count * 1e9 / (time.perf_counter_ns() - started_ns)


def queue_tell(count: int) -> float:
    """Messages a second through a queue, with put and get in two tasks."""
    return asyncio.run(_queue_tell(count))


def pykka_tell(count: int) -> float:
    """Messages a second that an actor handles."""
    import pykka

    handled = threading.Event()

    class Sink(pykka.ThreadingActor):
        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        def on_receive(self, message: Any) -> None:
            if message.index != self.count % RING:
                raise RuntimeError(f"{message.index} is out of place")
            self.count += 1
            if self.count == count:
                handled.set()

    sink = Sink.start()
    started_ns = time.perf_counter_ns()
    for _ in range(count // RING):
        for work in WORK:
            sink.tell(work)
    handled.wait()
    elapsed_ns = time.perf_counter_ns() - started_ns
    sink.stop()
    return count * 1e9 / elapsed_ns


def pykka_ask(count: int) -> float:
    """Asks a second, one after the other."""
    import pykka

    class Echo(pykka.ThreadingActor):
        def on_receive(self, message: Any) -> int:
            return int(message.index)

    echo = Echo.start()
    started_ns = time.perf_counter_ns()
    for index in range(count):
        if echo.ask(WORK[index % RING]) != index % RING:
            raise RuntimeError("a wrong answer")
    elapsed_ns = time.perf_counter_ns() - started_ns
    echo.stop()
    return count * 1e9 / elapsed_ns


def main() -> None:
    """Measure one peer."""
    _, name, count = sys.argv
    print({"queue_tell": queue_tell, "pykka_tell": pykka_tell, "pykka_ask": pykka_ask}[name](int(count)))


if __name__ == "__main__":
    main()
