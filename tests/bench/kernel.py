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
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.bench import dora
from tests.bench.bench import BLOCK_BYTES, RING, Breed, Crowd, Flood, Ping
from tests.bench.harness import Bar, Bench, Measure, Peer, Row, Scale, figure_of, median_us, p99_us
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
async def launched(file: Path, name: str) -> AsyncIterator[Path]:
    """The run's folder of a topology that is up."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        await zactor(folder, "up", str(file), "-d")
        try:
            home = Home(folder / name, name)
            yield home.run_folder(home.runs()[-1])
        finally:
            await zactor(folder, "down", "-t", name)


@asynccontextmanager
async def topology(file: Path, name: str) -> AsyncIterator[AsyncClient]:
    """A client of a topology that is up."""
    async with launched(file, name) as run, AsyncClient(run / "book.json") as client:
        yield client


def _asked(client: AsyncClient, node: str, message: Message[float]) -> Measure:
    """What a node answers is the figure."""

    async def measure() -> float:
        return await client.ask(client.ref(node), message, CASE_S)

    return measure


def _pinged(client: AsyncClient, node: str, message: Ping, quantile: Callable[[Sequence[int]], float]) -> Measure:
    async def measure() -> float:
        return quantile(await client.ask(client.ref(node), message, CASE_S))

    return measure


def _bulk(client: AsyncClient, node: str, message: Flood) -> Measure:
    async def measure() -> float:
        return BLOCK_BYTES * await client.ask(client.ref(node), message, CASE_S)

    return measure


async def _amid_bulk(client: AsyncClient, transport: str, ping: Ping) -> tuple[Sequence[int], float]:
    """What asks take while blocks flow between the same processes, and the bytes a second that do."""
    sender, flood = client.ref(f"{transport}-block-sender"), Flood(count=4 * RING)
    floods = deque(client.ask(sender, flood, CASE_S) for _ in range(2))  # the next one waits there when one ends
    pinged = asyncio.ensure_future(client.ask(client.ref(f"{transport}-asker"), ping, CASE_S))
    rates = []
    while not pinged.done():
        rates.append(await floods.popleft())
        floods.append(client.ask(sender, flood, CASE_S))
    await asyncio.gather(*floods)
    return await pinged, BLOCK_BYTES * statistics.harmonic_mean(rates)  # of equal floods: all bytes by all time


def _asks_amid_bulk(client: AsyncClient, transport: str, ping: Ping) -> Measure:
    async def measure() -> float:
        return p99_us((await _amid_bulk(client, transport, ping))[0])

    return measure


def _bulk_amid_asks(client: AsyncClient, transport: str, ping: Ping) -> Measure:
    async def measure() -> float:
        return (await _amid_bulk(client, transport, ping))[1]

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
    return [
        *_tells(client, transport, 1_000 * RING * scale),
        *_asks(client, transport, 500 * scale),
        *_blocks(client, transport, 100 * scale, 16 * RING * scale),
    ]


def _tells(client: AsyncClient, transport: str, count: int) -> list[Row]:
    case = f"tell across processes, {transport}"
    measure = _asked(client, f"{transport}-sender", Flood(count=count))
    bare = _peer("pyzmq PUSH/PULL", "sockets", "tell", transport, count)
    osbrain = _peer("osBrain PUSH/PULL", "peers", "osbrain_tell", transport, count // 10, needs="osbrain")
    return [Row(case, "1/s", measure, bare, Bar(ratio=0.7)), Row(case, "1/s", measure, osbrain, Bar(ratio=6))]


def _asks(client: AsyncClient, transport: str, count: int) -> list[Row]:
    case, node, ping = f"ask across processes, {transport}", f"{transport}-asker", Ping(count=count)
    bare, bare_p99 = (_peer("pyzmq by FD", "sockets", name, transport, count) for name in ("ask-median", "ask-p99"))
    xoscar = _peer("xoscar", "peers", "xoscar_ask", CROWD, count, needs="xoscar")
    crowd = Crowd(width=CROWD, count=10 * count)
    return [
        Row(f"{case}, median", "us", _pinged(client, node, ping, median_us), bare, Bar(ratio=1 / 1.4)),
        Row(f"{case}, p99", "us", _pinged(client, node, ping, p99_us), bare_p99, Bar(ratio=1 / 2)),
        Row(f"{case}, {CROWD} at a time", "1/s", _asked(client, node, crowd), xoscar, Bar(ratio=20)),
    ]


def _blocks(client: AsyncClient, transport: str, asks: int, blocks: int) -> list[Row]:
    ping = Ping(count=asks)
    idle = Peer("the same, idle", _pinged(client, f"{transport}-asker", ping, p99_us))
    bare = _peer("pyzmq DEALER/ROUTER", "sockets", "bulk", transport, blocks)
    alone = _bulk(client, f"{transport}-block-sender", Flood(count=blocks))
    amid, meanwhile = _asks_amid_bulk(client, transport, ping), _bulk_amid_asks(client, transport, ping)
    return [
        Row(f"bulk, {transport}", "B/s", alone, bare, Bar(ratio=0.8)),
        Row(f"ask amid bulk, {transport}, p99", "us", amid, idle, Bar(ratio=1 / 3)),
        Row(f"bulk amid asks, {transport}", "B/s", meanwhile),
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
async def _open(wanted: Scale) -> AsyncIterator[list[Row]]:
    scale = 4 if wanted.quick else 10
    if not dora.installed():
        await _say_import_times()
    async with topology(HERE / "kernel.yaml", "bench-kernel") as client:
        rows = [*_local(client, scale), *_across(client, "ipc", scale), *_across(client, "tcp", scale), *_up()]
        for row in rows:
            if row.peer is None or row.peer.name != "dora":
                await row.measure()  # once unmeasured: connections open, and code is warm
        yield rows


BENCH = Bench(_open)
