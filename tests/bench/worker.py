"""A process that measures cases when it is told, and what they cost it and all whom it works with.

A case is a generator. What stands before its first `yield` prepares; between the two it is measured; the second one
yields how much was done, and checked; what follows cleans up. So everybody's clock begins and ends alike, and between
turns the disk comes to rest.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.bench.costs import Disk, cpu_s
from tests.bench.harness import Figure

Case = Callable[..., AsyncIterator[float]]

LINE_BYTES_MAX = 1 << 20

STEP_S = 600.0
"""For one step of a case, after which something is wrong."""


def blocking(case: Callable[..., Iterator[float]]) -> Case:
    """A case of a process that has nothing else to do meanwhile."""

    async def steps(**values: Any) -> AsyncIterator[float]:
        for amount in case(**values):
            yield amount

    return steps


async def serve(cases: Mapping[str, Case]) -> None:
    """Be the worker: a line of JSON with a case, then one for each of its steps; ends with its standard input."""
    lines = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    _say(ready=True)
    while line := await lines.readline():
        asked = json.loads(line)
        steps = aiter(cases[asked["case"]](**asked["values"]))
        await anext(steps)
        _say(prepared=True)
        await lines.readline()
        started_ns = time.perf_counter_ns()
        amount = await anext(steps)
        _say(amount=amount, seconds=(time.perf_counter_ns() - started_ns) / 1e9)
        await lines.readline()
        async for _ in steps:
            raise RuntimeError(f"the case {asked['case']} has a step too many")
        _say(clean=True)


def _say(**values: object) -> None:
    print(json.dumps(values), flush=True)


class Worker:
    """The other side of `serve`. `beside` are processes that work for it and are not its children."""

    def __init__(self, process: asyncio.subprocess.Process, disk: Disk) -> None:
        self._process = process
        self._disk = disk
        self.beside: tuple[int, ...] = ()

    @property
    def pid(self) -> int:
        """The process that measures, or the one that started it in namespaces of its own."""
        return self._process.pid

    async def measure(self, case: str, **values: object) -> Figure:
        """The case's rate a second. Raises RuntimeError when the worker fails; why is on standard error."""
        await self._ask(case=case, values=values)
        await asyncio.to_thread(os.sync)  # nobody pays for what others have left
        cpu_before_s, flushes_before = self._spent()
        done = await self._ask()
        cpu_after_s, flushes_after = self._spent()
        await self._ask()
        syncs = None if flushes_before is None or flushes_after is None else flushes_after - flushes_before
        amount = done["amount"]
        return Figure(amount / done["seconds"], cpu=(cpu_after_s - cpu_before_s) / amount, syncs=_share(syncs, amount))

    def _spent(self) -> tuple[float, int | None]:
        return cpu_s(self.pid, *self.beside), self._disk.flushes()

    async def _ask(self, **values: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(values).encode() + b"\n")
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        """What it says next."""
        assert self._process.stdout is not None
        async with asyncio.timeout(STEP_S):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker {self.pid} has ended with {await self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _share(syncs: int | None, amount: float) -> float | None:
    return None if syncs is None else syncs / amount


@asynccontextmanager
async def worker(disk: Disk, *command: str) -> AsyncIterator[Worker]:
    """A worker that is ready; it ends with the context."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    try:
        started = Worker(process, disk)
        await started.answer()
        yield started
    finally:
        process.stdin.close()
        await process.wait()


def module(name: str, *words: object) -> Sequence[str]:
    """The command that runs a module of the benchmarks."""
    return (sys.executable, "-m", f"tests.bench.{name}", *map(str, words))
