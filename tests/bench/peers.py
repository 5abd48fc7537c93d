"""Peers that are no sockets. Run as `python -m tests.bench.peers NAME [WORDS] COUNT`.

Within one process: a bounded `asyncio.Queue`, and pykka; across processes: osBrain and xoscar. A peer does the work
of our own case: the same messages, and a receiver that checks count and order before the clock stops. It prints one
number.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import sys
import tempfile
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


def osbrain_tell(transport: str, count: int) -> float:
    """Messages a second that an agent in a process of its own handles."""
    multiprocessing.set_start_method("fork")  # what its processes print is no figure, and goes where ours goes
    with (
        tempfile.TemporaryDirectory() as folder,
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        os.environ["XDG_RUNTIME_DIR"] = folder  # where its sockets are; else they stay in the home folder
        from tests.bench import osbrain

        return osbrain.tell(transport, count)


def xoscar_ask(width: int, count: int) -> float:
    """Asks a second of an actor in a process of its own, `width` at a time."""
    from tests.bench import xoscar

    return xoscar.ask(width, count)


def main() -> None:
    """Measure one peer."""
    _, name, *words = sys.argv
    count = int(words[-1])
    match name:
        case "queue_tell":
            figure = queue_tell(count)
        case "pykka_tell":
            figure = pykka_tell(count)
        case "pykka_ask":
            figure = pykka_ask(count)
        case "osbrain_tell":
            figure = osbrain_tell(words[0], count)
        case "xoscar_ask":
            figure = xoscar_ask(int(words[0]), count)
        case _:
            sys.exit(f"bench: there is no peer {name!r}")
    print(figure)


if __name__ == "__main__":
    main()
