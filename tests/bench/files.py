"""`bench files`: the distributed file system beside what disk and sockets give, and beside others of its kind.

Our side is what a user has: a topology that `zactor up` launches, and a client. All work on one disk, in turns, in
workers whose clocks begin and end alike; what a turn costs is counted for all processes of its side. Peers run in
namespaces of their own and are gone afterwards.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tests.bench.costs import Disk, forget_peak, peak_bytes, temporary_disk
from tests.bench.files_start import ManyFiles
from tests.bench.harness import Bar, Bench, Measure, Peer, Row, Scale, Unit
from tests.bench.kernel import HERE, launched
from tests.bench.peers_files import NAMESPACES, SYSTEMS, missing
from tests.bench.worker import Worker, module, worker
from zactor.launchers.folders import Home
from zactor.live.world import Book

NAME = "bench-files"

COPIES = 3

CLIENTS = 8

PIPELINE = 256
"""Requests under way, where a client does not wait for one before the next."""

THROUGH_BYTES = 4 << 30
MANY_FILES = 1_000_000
MEMORY_BYTES = 150 << 20
"""What a process may have at a time, however much streams through it."""


@dataclass(frozen=True)
class Workload:
    """A case, what our worker is told of it, and what the peers' are: theirs are slower, and wait for each answer."""

    title: str
    case: str
    unit: Unit
    bar: Bar
    ours: Mapping[str, int]
    theirs: Mapping[str, int] = field(default_factory=dict)
    bare: tuple[str, Mapping[str, int]] | None = None
    """What is next to it without a file system, and what that worker is told."""


def _workloads(scale: Scale) -> list[Workload]:
    size = scale.size_bytes or ((32 if scale.quick else 512) << 20)
    stream = {"size_bytes": size}
    small = {"count": 200 if scale.quick else 2_000, "width": CLIENTS}
    theirs = {"count": 100 if scale.quick else 1_000, "width": CLIENTS}
    many = {"count": 5_000 if scale.quick else 30_000, "width": PIPELINE}
    plain = ("3 plain local writers", stream | {"writers": COPIES})
    return [
        Workload("write, 3 copies synced", "write", "B/s", Bar(ratio=0.5), stream, stream, plain),
        Workload("read, verified", "read", "B/s", Bar(ratio=0.6), stream, stream, ("bare ZeroMQ reader", stream)),
        Workload(
            f"durable 4 KiB files, {CLIENTS} tasks", "small", "1/s", Bar(ours=2_000), small, theirs, ("the disk", small)
        ),
        Workload("create, pipelined", "create", "1/s", Bar(ours=15_000), many, theirs),
        Workload("create, 64 a request", "batched", "1/s", Bar(ours=80_000), many | {"width": CLIENTS}),
        Workload("strong stat, pipelined", "stat", "1/s", Bar(ours=30_000), many, theirs),
    ]


def _measure(side: Worker, case: str, values: Mapping[str, int]) -> Measure:
    async def measure() -> float:
        return await side.measure(case, **values)

    return measure


async def _nobody() -> float:
    raise AssertionError("who is missing is not measured")


class Sides:
    """The workers: ours, one that uses disk and sockets as they are, and those of peers, as of their first turn."""

    def __init__(self, stack: AsyncExitStack, disk: Disk, ours: Worker, bare: Worker) -> None:
        self._stack = stack
        self._disk = disk
        self._ours = ours
        self._bare = bare
        self._peers: dict[str, Worker] = {}

    def rows(self, workload: Workload) -> list[Row]:
        """Ours beside each that can do it, too; the bar is on the first."""
        ours = _measure(self._ours, workload.case, workload.ours)
        beside: list[Peer | None] = []
        if workload.bare is not None:
            name, values = workload.bare
            beside.append(Peer(name, _measure(self._bare, workload.case, values)))
        if workload.theirs:
            beside += [self._peer(name, workload) for name in SYSTEMS]
        first, *others = beside or [None]
        return [
            Row(workload.title, workload.unit, ours, first, workload.bar),
            *(Row(workload.title, workload.unit, ours, peer) for peer in others),
        ]

    def _peer(self, name: str, workload: Workload) -> Peer:
        mend = missing(name)
        if mend:
            return Peer(name, _nobody, missing=True, mend=mend)

        async def measure() -> float:
            if name not in self._peers:
                started = peer(self._disk, name, folder(self._stack))
                self._peers[name] = await self._stack.enter_async_context(started)
            return await self._peers[name].measure(workload.case, **workload.theirs)

        return Peer(name, measure)


class Through:
    """What processes need at most while bytes stream through them."""

    def __init__(self, client: Worker, pids: Mapping[str, int], size_bytes: int) -> None:
        self._client = client
        self._pids = {"client": client.pid, **pids}
        self._size = size_bytes

    def rows(self) -> list[Row]:
        """A row for each process; with the first one it all streams through."""
        title = f"peak memory, {self._size / 1e9:.1f} GB through"
        bars = {name: None if name == "metadata" else Bar(ours=MEMORY_BYTES) for name in self._pids}
        return [Row(f"{title}: {name}", "B", self._peak(name), bar=bar, once=True) for name, bar in bars.items()]

    def _peak(self, name: str) -> Measure:
        async def measure() -> float:
            if name == "client":
                for pid in self._pids.values():
                    forget_peak(pid)
                await self._client.measure("through", size_bytes=self._size)
            return peak_bytes(self._pids[name])

        return measure


@asynccontextmanager
async def ours(disk: Disk) -> AsyncIterator[tuple[Worker, Mapping[str, int]]]:
    """A client of a run that is up, and the processes of that."""
    async with launched(HERE / "files.yaml", NAME) as run:
        book = msgspec.json.decode((run / "book.json").read_bytes(), type=Book)
        pids = {name: entry.pid for name, entry in book.processes.items() if entry.pid is not None}
        launcher = Home(run.parent.parent, NAME).running()
        assert launcher is not None, "it is up"
        async with worker(disk, *module("files_client", run / "book.json")) as client:
            client.beside = (launcher.pid, *pids.values())
            yield client, pids


def peer(disk: Disk, name: str, where: Path) -> AbstractAsyncContextManager[Worker]:
    """A peer that keeps everything below a folder."""
    return worker(disk, *NAMESPACES, *module("peers_files", name, where))


def folder(stack: AsyncExitStack) -> Path:
    """A folder on the disk that is measured, until the stack is left."""
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-files-")))


def _say_load(when: str) -> None:
    load = ", ".join(f"{figure:.1f}" for figure in os.getloadavg())
    sys.stderr.write(f"bench: {when} the load of these {os.cpu_count()} cores was {load} (1, 5, 15 minutes)\n")


@asynccontextmanager
async def _open(scale: Scale) -> AsyncIterator[list[Row]]:
    disk = temporary_disk()
    sys.stderr.write(f"bench: {disk}\n")
    _say_load("before")
    async with AsyncExitStack() as stack:
        client, pids = await stack.enter_async_context(ours(disk))
        bare = await stack.enter_async_context(worker(disk, *module("baselines", folder(stack))))
        sides = Sides(stack, disk, client, bare)
        rows = [row for workload in _workloads(scale) for row in sides.rows(workload)]
        through = Through(client, pids, (128 << 20) if scale.quick else THROUGH_BYTES)
        many = ManyFiles(folder(stack), 50_000 if scale.quick else MANY_FILES)
        yield [*rows, *through.rows(), *many.rows()]
    _say_load("after")


BENCH = Bench(_open)
