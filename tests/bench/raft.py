"""`bench raft`: the replicated key-value store beside etcd and PySyncObj.

Our side is what a user has: `configs/raft-kv.yaml`, which `zactor up` launches, with recorder, logs and sessions, and
clients of a program. Everybody is driven alike: logical clients with one request outstanding each, which share
connections, random keys, small values; a warm-up, then what is measured. All keep what they have on one disk. etcd and
we sync what we acknowledge; PySyncObj has no such thing.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import msgspec

from tests.bench import etcd
from tests.bench.costs import Disk, temporary_disk
from tests.bench.failover import failover_rows
from tests.bench.harness import Bar, Bench, Measure, Peer, Row, Scale
from tests.bench.kernel import HERE, launched
from tests.bench.load import CONNECTIONS, Load, Measured, measured
from tests.bench.worker import module
from zactor.launchers.folders import Home
from zactor.live.world import Book

NAME = "raft-kv"
CONFIG = HERE.parent.parent / "configs" / "raft-kv.yaml"

CLIENTS = 256

Run = Callable[[Load], Awaitable[Measured]]


class Side:
    """One of those who are measured. What a load measured besides its rate is asked for after it, in the same turn."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._last: dict[Load, Measured] = {}

    def rate(self, load: Load) -> Measure:
        """Requests a second, of a load that is done now."""

        async def measure() -> float:
            self._last[load] = await self._run(load)
            return self._last[load].rate

        return measure

    def p50(self, load: Load) -> Measure:
        """The median, of a load that is done now."""

        async def measure() -> float:
            self._last[load] = await self._run(load)
            return self._last[load].p50_us

        return measure

    def p99(self, load: Load) -> Measure:
        """What 99 of 100 stay below in the load that was done last."""

        async def measure() -> float:
            if load not in self._last:
                self._last[load] = await self._run(load)
            return self._last[load].p99_us

        return measure


@asynccontextmanager
async def ours(disk: Disk) -> AsyncIterator[Side]:
    """Our store, up."""
    async with launched(CONFIG, NAME) as run:
        book = msgspec.json.decode((run / "book.json").read_bytes(), type=Book)
        launcher = Home(run.parent.parent, NAME).running()
        assert launcher is not None, "it is up"
        pids = [launcher.pid, *(entry.pid for entry in book.processes.values() if entry.pid is not None)]

        async def load(wanted: Load) -> Measured:
            return await measured(
                wanted, disk, pids, *module("raft_client", "load", run / "book.json", *wanted.words())
            )

        yield Side(load)


@asynccontextmanager
async def theirs(disk: Disk, program: Path) -> AsyncIterator[Side]:
    """etcd, up, as it is by default."""
    with tempfile.TemporaryDirectory(prefix="bench-raft-") as folder, etcd.running(Path(folder)) as cluster:

        async def load(wanted: Load) -> Measured:
            return await measured(wanted, disk, cluster.pids, str(program), "load", cluster.endpoints, *wanted.words())

        yield Side(load)


def syncobj(disk: Disk) -> Side:
    """PySyncObj, whose load starts it."""

    async def load(wanted: Load) -> Measured:
        return await measured(wanted, disk, (), *module("syncobj", *wanted.words()))

    return Side(load)


async def _nobody() -> float:
    raise AssertionError("who is missing is not measured")


def load_rows(our: Side, their: Side | None, third: Side, scale: Scale) -> list[Row]:
    """The cases without faults."""
    warm_s, measure_s = (1.0, 3.0) if scale.quick else (2.0, 10.0)

    def load(verb: str, clients: int) -> Load:
        return Load(verb, clients, warm_s, measure_s)

    def peer(measure: Measure | None) -> Peer:
        missing = measure is None
        return Peer("etcd", measure or _nobody, missing=missing, mend=etcd.MEND)

    many, some, one, reads = load("put", CLIENTS), load("put", CONNECTIONS), load("put", 1), load("get", CLIENTS)
    no_syncobj = Peer(
        "PySyncObj", third.rate(many), missing=find_spec("pysyncobj") is None, mend="pip install pysyncobj"
    )
    rows = [
        (f"durable puts, {CLIENTS} clients", "1/s", Side.rate, many, 4.0),
        (f"durable puts, {CLIENTS} clients, p99", "us", Side.p99, many, 1 / 0.4),
        (f"durable puts, {CONNECTIONS} clients", "1/s", Side.rate, some, 2.0),
        ("durable puts, 1 client, p50", "us", Side.p50, one, 1.0),
        (f"linearizable reads, {CLIENTS} clients", "1/s", Side.rate, reads, 4.0),
    ]
    made = [
        Row(case, unit, of(our, load), peer(None if their is None else of(their, load)), Bar(ratio=ratio))  # type: ignore[arg-type]
        for case, unit, of, load, ratio in rows
    ]
    return [*made, Row(f"puts, {CLIENTS} clients, theirs not synced", "1/s", our.rate(many), no_syncobj)]


@asynccontextmanager
async def _open(scale: Scale) -> AsyncIterator[list[Row]]:
    disk = temporary_disk()
    sys.stderr.write(f"bench: {disk}\n")
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-raft-")))
        program = None if etcd.missing() else etcd.build(folder)
        their = None if program is None else await stack.enter_async_context(theirs(disk, program))
        our = await stack.enter_async_context(ours(disk))
        yield [*load_rows(our, their, syncobj(disk), scale), *failover_rows(program, scale)]


BENCH = Bench(_open)
