"""`bench kernel`: tell, ask, spawn and memory in one process; tell and ask across processes; from `up` to an answer.

Our side is what a user has: a topology that `zactor up` launches, and a client that asks its nodes to do the work.
The clock runs inside the node that floods or asks, and stops when the receiver has said how many it handled.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.bench import dora
from tests.bench.bench import RING, Breed, Crowd, Flood, Ping
from tests.bench.harness import Bar, Bench, Measure, Peer, Row, figure_of
from zactor import Message
from zactor.client import AsyncClient
from zactor.launchers.folders import Home

HERE = Path(__file__).parent
ZACTOR = HERE.parent.parent / "bin" / "zactor"

CASE_S = 60.0
"""For one case, after which something is wrong."""

GREETING = "Hello, world!\n"

CROWD = 100
"""Asks under way at a time."""


async def zactor(folder: Path, *words: str) -> str:
    """What a command prints; topologies live below `folder`. Raises RuntimeError if it fails."""
    process = await _start(folder, *words)
    output, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"zactor {' '.join(words)} ended with {process.returncode}: {errors.decode()}")
    return output.decode()


async def _start(folder: Path, *words: str) -> asyncio.subprocess.Process:
    environment = os.environ | {"ZACTOR_DIR": str(folder)}
    return await asyncio.create_subprocess_exec(
        ZACTOR, *words, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


@asynccontextmanager
async def topology(file: Path, name: str) -> AsyncIterator[AsyncClient]:
    """A client of a topology that is up."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        await zactor(folder, "up", str(file), "-d")
        try:
            home = Home(folder / name, name)
            async with AsyncClient(home.run_folder(home.runs()[-1]) / "book.json") as client:
                yield client
        finally:
            await zactor(folder, "down", "-t", name)


def _asked(client: AsyncClient, node: str, message: Message[float]) -> Measure:
    """What a node answers is the figure."""

    async def measure() -> float:
        return await client.ask(client.ref(node), message, CASE_S)

    return measure


def _median_us(client: AsyncClient, node: str, message: Ping) -> Measure:
    async def measure() -> float:
        return statistics.median(await client.ask(client.ref(node), message, CASE_S)) / 1e3

    return measure


def _per_second(client: AsyncClient, node: str, message: Ping) -> Measure:
    async def measure() -> float:
        spans_ns = await client.ask(client.ref(node), message, CASE_S)
        return len(spans_ns) * 1e9 / sum(spans_ns)

    return measure


def _peer(name: str, module: str, *arguments: object, needs: str = "zmq") -> Peer:
    """A peer that measures in a process of its own."""

    async def measure() -> float:
        return await figure_of(sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments))

    return Peer(name, measure, missing=find_spec(needs) is None, mend=f"pip install {needs}")


def _local(client: AsyncClient, scale: int) -> list[Row]:
    tell, ask = 400 * RING * scale, 2_500 * scale
    queue = _peer("asyncio.Queue", "peers", "queue_tell", tell)
    pykka = _peer("pykka", "peers", "pykka_tell", tell // 4, needs="pykka")
    pykka_ask = _peer("pykka", "peers", "pykka_ask", ask // 4, needs="pykka")
    flood = Flood(count=tell)
    return [
        Row("local tell", "1/s", _asked(client, "teller", flood), pykka, Bar(ratio=5)),
        Row("local tell", "1/s", _asked(client, "teller", flood), queue, Bar(ratio=1.1)),
        Row("local tell, async handler", "1/s", _asked(client, "coroutine-teller", flood), queue),
        Row("local send, which waits for room", "1/s", _asked(client, "sender", flood), queue),
        Row("local ask", "1/s", _per_second(client, "asker", Ping(count=ask)), pykka_ask),
        Row(f"local ask, {CROWD} at a time", "1/s", _asked(client, "asker", Crowd(width=CROWD, count=ask))),
        Row("spawn", "1/s", _asked(client, "breeder", Breed(count=2_500 * scale)), bar=Bar(ours=100_000)),
        Row(
            "memory of an idle actor (tracemalloc)",
            "B",
            _asked(client, "breeder", Breed(count=5_000, weigh=True)),
            bar=Bar(ours=2048),
        ),
    ]


def _across(client: AsyncClient, transport: str, scale: int) -> list[Row]:
    tell, ask = 1_000 * RING * scale, 500 * scale
    return [
        Row(
            f"tell across processes, {transport}",
            "1/s",
            _asked(client, f"{transport}-sender", Flood(count=tell)),
            _peer("pyzmq PUSH/PULL", "sockets", "tell", transport, tell),
            Bar(ratio=0.6),
        ),
        Row(
            f"ask across processes, {transport}, median",
            "us",
            _median_us(client, f"{transport}-asker", Ping(count=ask)),
            _peer("pyzmq by descriptor", "sockets", "ask", transport, ask),
        ),
        Row(
            f"ask across processes, {transport}, {CROWD} at a time",
            "1/s",
            _asked(client, f"{transport}-asker", Crowd(width=CROWD, count=10 * ask)),
        ),
    ]


async def _first_answer() -> float:
    """Seconds from `zactor up` until it says `ready`, which it does when the caller has been greeted."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        started_ns = time.perf_counter_ns()
        process = await _start(folder, "up", str(HERE / "hello.yaml"))
        assert process.stdout is not None
        elapsed_ns = 0
        async for line in process.stdout:
            if line.startswith(b"ready:"):
                elapsed_ns = time.perf_counter_ns() - started_ns
                answer = await zactor(folder, "ask", "-t", "bench-hello", "caller", "LastGreeting")
                process.terminate()
        await process.wait()
    if not elapsed_ns or answer != GREETING:
        raise RuntimeError("hello did not come up, or its caller was not greeted")
    return elapsed_ns / 1e9


async def _answer_to_ask() -> float:
    """Seconds from `zactor up -d` until a `zactor ask` after it was answered."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        started_ns = time.perf_counter_ns()
        await zactor(folder, "up", str(HERE / "hello.yaml"), "-d")
        try:
            answer = await zactor(folder, "ask", "-t", "bench-hello", "greeter", "Greet", "name=world")
            elapsed_ns = time.perf_counter_ns() - started_ns
        finally:
            await zactor(folder, "down", "-t", "bench-hello")
    if answer != GREETING:
        raise RuntimeError(f"the answer was {answer!r}")
    return elapsed_ns / 1e9


def _up() -> list[Row]:
    peer = Peer("dora", dora.first_answer, missing=not dora.installed(), mend="pip install dora-rs-cli dora-rs")
    return [
        Row("up of hello, first answer", "s", _first_answer, peer, Bar(ratio=1)),
        Row("up of hello, answer to zactor ask", "s", _answer_to_ask),
    ]


async def _say_import_times() -> None:
    """What of `up` is imports, for where nobody is to compare with."""
    for module in ("zactor.cli.up", "zactor.live.main"):
        code = f"import time; started = time.perf_counter(); import {module}; print(time.perf_counter() - started)"
        sys.stderr.write(f"bench: import {module}: {await figure_of(sys.executable, '-c', code):.3f} s\n")


@asynccontextmanager
async def _open(quick: bool) -> AsyncIterator[list[Row]]:
    scale = 4 if quick else 10
    if not dora.installed():
        await _say_import_times()
    async with topology(HERE / "kernel.yaml", "bench-kernel") as client:
        rows = [*_local(client, scale), *_across(client, "ipc", scale), *_across(client, "tcp", scale), *_up()]
        for row in rows:
            if row.peer is None or row.peer.name != "dora":
                await row.measure()  # once unmeasured: connections open, and code is warm
        yield rows


BENCH = Bench(_open)
