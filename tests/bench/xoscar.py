"""A peer of `ask` across processes: an actor of xoscar asks another one, which lives in a pool of its own."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import xoscar

from tests.bench.bench import RING, WORK

ASKS_UNMEASURED = 4 * RING
"""Until the connection is open and the code is warm, as ours are."""


class Echo(xoscar.Actor):  # type: ignore[misc]  # what is not installed everywhere has no types
    """Answers with the index of what it is sent."""

    async def work(self, message: Any) -> int:
        """Handle a message."""
        return int(message.index)


class Asker(xoscar.Actor):  # type: ignore[misc]
    """Asks."""

    async def crowd(self, echo: Any, width: int, count: int) -> float:
        """Ask `count` times in all, `width` at a time; the answer is how many a second."""
        started_ns = time.perf_counter_ns()
        await asyncio.gather(*(_ask(echo, count // width) for _ in range(width)))
        return count * 1e9 / (time.perf_counter_ns() - started_ns)


async def _ask(echo: Any, count: int) -> None:
    for index in range(count):
        if await echo.work(WORK[index % RING]) != index % RING:
            raise RuntimeError("a wrong answer")


async def _asked(width: int, count: int) -> float:
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=2)
    async with pool:
        near, far = pool.sub_processes
        echo = await xoscar.create_actor(Echo, address=far, uid="echo")
        asker = await xoscar.create_actor(Asker, address=near, uid="asker")
        await asker.crowd(echo, width, ASKS_UNMEASURED // width * width)
        return float(await asker.crowd(echo, width, count))


def ask(width: int, count: int) -> float:
    """Asks a second, `width` at a time. `count` is a multiple of it."""
    return asyncio.run(_asked(width, count))
