"""Peers across processes: bare pyzmq sockets. Run as `python -m tests.bench.sockets tell|ask TRANSPORT COUNT`.

`tell` is PUSH to PULL, one message a frame, both blocking: the most that pyzmq gives. `ask` is a round trip between
a DEALER and a ROUTER that event loops read by their descriptors, as a kernel does, and as nothing beyond that.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

import zmq

from tests.bench.bench import RING, WORK
from zactor.message import encode

BODIES = tuple(encode(work) for work in WORK)


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


def ask(transport: str, count: int) -> float:
    """The median of a round trip in microseconds."""
    context = zmq.Context()
    with _other_side("echo", transport, count) as (endpoint, _):
        dealer = context.socket(zmq.DEALER)
        dealer.connect(endpoint)
        spans_ns = asyncio.run(_ask(dealer, count))
    context.destroy()
    return statistics.median(spans_ns) / 1e3


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
    else:
        asyncio.run(_echo(socket, count))
    context.destroy(linger=1000)


def main() -> None:
    """Measure, or be the other side of who does."""
    _, name, where, count = sys.argv
    if name in ("tell", "ask"):
        print((tell if name == "tell" else ask)(where, int(count)))
    else:
        _be_other_side(name, where, int(count))


if __name__ == "__main__":
    main()
