"""Peers across processes: bare pyzmq sockets. Run as `python -m tests.bench.sockets NAME TRANSPORT COUNT`.

`tell` is PUSH to PULL, one message a frame, both blocking: the most that pyzmq gives. `ask-median` and `ask-p99` are
of round trips between a DEALER and a ROUTER that event loops read by their descriptors, as a kernel does, and as
nothing beyond that. `bulk` goes from a DEALER to a ROUTER, both blocking, in the parts that a kernel sends, by the copy
settings and within the window that are best for it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

import zmq

from tests.bench.bench import BLOCK_BYTES, RING, WORK, blocks, is_content
from tests.bench.harness import median_us, p99_us
from zactor.message import encode

BODIES = tuple(encode(work) for work in WORK)

ASKS_UNMEASURED = 4 * RING
"""Until the connection is open and the code is warm, as ours are."""

WINDOW_BLOCKS = (8 << 20) // BLOCK_BYTES
"""Under way at a time. A kernel allows less of bulk, for the sake of small mail that flows beside it."""

ACKNOWLEDGE_EVERY = WINDOW_BLOCKS // 4


def tell(transport: str, count: int) -> float:
    """Messages a second; the clock stops when the other side has compared them all."""
    context = zmq.Context()
    with _other_side("pull", transport, count) as (endpoint, reports):
        push = context.socket(zmq.PUSH)
        push.connect(endpoint)
        push.send(b"")
        reports.readline()
        started_ns = time.perf_counter_ns()
        for _ in range(count // RING):
            for body in BODIES:
                push.send(body)
        right = int(reports.readline())
        elapsed_ns = time.perf_counter_ns() - started_ns
    context.destroy()
    if right != count:
        raise RuntimeError(f"{right} of {count} came as they were sent")
    return count * 1e9 / elapsed_ns


def _pull(pull: zmq.Socket[bytes], count: int) -> None:
    pull.recv()
    print("connected", flush=True)
    right = 0
    for index in range(count):
        right += pull.recv() == BODIES[index % RING]
    print(right, flush=True)


def bulk(transport: str, count: int) -> float:
    """Bytes a second, in blocks behind headers of 100 bytes; the clock stops when the other side has seen them all."""
    ring = tuple(zip(BODIES, (block.content for block in blocks()), strict=True))
    context = zmq.Context()
    with _other_side("router", transport, count) as (endpoint, reports):
        dealer = context.socket(zmq.DEALER)
        dealer.connect(endpoint)
        dealer.send(b"")
        dealer.recv()
        started_ns = time.perf_counter_ns()
        room = WINDOW_BLOCKS
        for index in range(count):
            if not room:
                dealer.recv()
                room = ACKNOWLEDGE_EVERY
            dealer.send_multipart(ring[index % RING], copy=False)  # which copies what has less than 64 KiB
            room -= 1
        right = int(reports.readline())
        elapsed_ns = time.perf_counter_ns() - started_ns
    context.destroy(linger=0)
    if right != count:
        raise RuntimeError(f"{right} of {count} came as they were sent")
    return count * BLOCK_BYTES * 1e9 / elapsed_ns


def _take_blocks(router: zmq.Socket[bytes], count: int) -> None:
    router.send_multipart(router.recv_multipart())
    right = 0
    for index in range(count):
        sender, header, content = router.recv_multipart()
        right += header == BODIES[index % RING] and is_content(content, index % RING)
        if (index + 1) % ACKNOWLEDGE_EVERY == 0:
            router.send_multipart([sender, b""])
    print(right, flush=True)


def ask(transport: str, count: int) -> list[int]:
    """The nanoseconds of each round trip."""
    context = zmq.Context()
    with _other_side("echo", transport, ASKS_UNMEASURED + count) as (endpoint, _):
        dealer = context.socket(zmq.DEALER)
        dealer.connect(endpoint)
        spans_ns = asyncio.run(_ask(dealer, ASKS_UNMEASURED + count))
    context.destroy()
    return spans_ns[ASKS_UNMEASURED:]


async def _ask(dealer: zmq.Socket[bytes], count: int) -> list[int]:
    answered = asyncio.get_running_loop().create_future()
    spans_ns: list[int] = []
    started_ns = time.perf_counter_ns()

    def on_answer(parts: list[bytes]) -> None:
        nonlocal started_ns
        spans_ns.append(time.perf_counter_ns() - started_ns)
        if parts != [BODIES[(len(spans_ns) - 1) % RING]]:
            answered.set_exception(RuntimeError("a wrong answer"))
        elif len(spans_ns) == count:
            answered.set_result(None)
        else:
            started_ns = time.perf_counter_ns()
            dealer.send(BODIES[len(spans_ns) % RING])

    dealer.send(BODIES[0])
    await _attend(dealer, on_answer, answered)
    return spans_ns


async def _echo(router: zmq.Socket[bytes], count: int) -> None:
    echoed = asyncio.get_running_loop().create_future()
    left = count

    def on_question(parts: list[bytes]) -> None:
        nonlocal left
        router.send_multipart(parts)
        left -= 1
        if not left:
            echoed.set_result(None)

    await _attend(router, on_question, echoed)


async def _attend(
    socket: zmq.Socket[bytes], on_message: Callable[[list[bytes]], None], until: asyncio.Future[None]
) -> None:
    """Call a function with each message. EVENTS is looked at again after each: a send can swallow an edge."""
    loop = asyncio.get_running_loop()
    descriptor = int(socket.get(zmq.FD))

    def drain() -> None:
        while not until.done() and int(socket.get(zmq.EVENTS)) & zmq.POLLIN:
            on_message(socket.recv_multipart(zmq.NOBLOCK))

    loop.add_reader(descriptor, drain)
    loop.call_soon(drain)
    await until
    loop.remove_reader(descriptor)


@contextmanager
def _other_side(name: str, transport: str, count: int) -> Iterator[tuple[str, IO[str]]]:
    """A process that binds; the values are its endpoint and what else it prints."""
    with tempfile.TemporaryDirectory() as folder:
        endpoint = "tcp://127.0.0.1:*" if transport == "tcp" else f"ipc://{folder}/socket"
        command = [sys.executable, "-m", "tests.bench.sockets", name, endpoint, str(count)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process.stdout


def _be_other_side(name: str, endpoint: str, count: int) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.PULL if name == "pull" else zmq.ROUTER)
    socket.bind(endpoint)
    print(socket.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
    if name == "pull":
        _pull(socket, count)
    elif name == "router":
        _take_blocks(socket, count)
    else:
        asyncio.run(_echo(socket, count))
    context.destroy(linger=1000)


MEASURES: dict[str, Callable[[str, int], float]] = {
    "tell": tell,
    "bulk": bulk,
    "ask-median": lambda transport, count: median_us(ask(transport, count)),
    "ask-p99": lambda transport, count: p99_us(ask(transport, count)),
}


def main() -> None:
    """Measure, or be the other side of who does."""
    _, name, where, count = sys.argv
    measure = MEASURES.get(name)
    if measure is not None:
        print(measure(where, int(count)))
    else:
        _be_other_side(name, where, int(count))


if __name__ == "__main__":
    main()
