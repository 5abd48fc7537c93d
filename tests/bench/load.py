"""A load of many clients on a replicated store: a program that warms up, measures and says what it measured.

Whatever language it is written in, it prints `{"measuring": true}` when its clock begins, and then one object with
`count`, `rate`, `p50_us` and `p99_us`. What the store takes of the machine meanwhile is counted from outside.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.bench.costs import Disk, cpu_s
from tests.bench.harness import Figure

KEYS = 10_000
VALUE_BYTES = 256
CONNECTIONS = 16

START_S = 120.0
"""For a load to connect, to put what it is going to read, and to warm up."""


@dataclass(frozen=True)
class Load:
    """What to do, by how many clients with one request outstanding each, and for how long."""

    verb: str
    clients: int
    warm_s: float
    measure_s: float

    def words(self) -> tuple[str, ...]:
        """As the programs want it."""
        counts = (self.clients, min(self.clients, CONNECTIONS), KEYS, VALUE_BYTES, self.warm_s, self.measure_s)
        return (self.verb, *map(str, counts))


@dataclass(frozen=True)
class Measured:
    """What a load has measured: the rate a second, with its costs, and what a request took, in microseconds."""

    rate: Figure
    p50_us: float
    p99_us: float


async def measured(load: Load, disk: Disk, store: Iterable[int], *command: str) -> Measured:
    """Run a load to its end. `store` are the processes that it is on. Raises RuntimeError when it fails."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    roots = (process.pid, *store)
    try:
        await _line(process.stdout, START_S)
        cpu_before_s, flushes_before = cpu_s(*roots), disk.flushes()
        # While the load is still there: its CPU counts, and is gone with it.
        await asyncio.sleep(load.measure_s)
        cpu_after_s, flushes_after = cpu_s(*roots), disk.flushes()
        found = await _line(process.stdout, START_S)
        if await process.wait():
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    done = found["rate"] * load.measure_s
    syncs = None if flushes_before is None or flushes_after is None else (flushes_after - flushes_before) / done
    return Measured(Figure(found["rate"], (cpu_after_s - cpu_before_s) / done, syncs), found["p50_us"], found["p99_us"])


async def _line(stream: asyncio.StreamReader, timeout_s: float) -> dict[str, Any]:
    async with asyncio.timeout(timeout_s):
        line = await stream.readline()
    if not line:
        raise RuntimeError("the load has ended before it measured; why is on standard error")
    found: dict[str, Any] = json.loads(line)
    return found
