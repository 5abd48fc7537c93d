"""`bench logs`: what it costs that everything is recorded, beside the same work unrecorded; replay; log events.

Each pair of figures comes from two nodes of one topology that differ in `record` alone, asked in turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.bench import RING, Chatter, Crowd, Flood, Ping
from tests.bench.harness import Bar, Bench, Measure, Peer, Row, Scale, median_us
from tests.bench.kernel import CASE_S, CROWD, HERE, launched
from zactor import Message, registry
from zactor.client import AsyncClient
from zactor.debug.recording import read
from zactor.debug.replay import Replay

UNRECORDED = "the same, record: off"


def _asked(client: AsyncClient, node: str, message: Message[float]) -> Measure:
    async def measure() -> float:
        return await client.ask(client.ref(node), message, CASE_S)

    return measure


def _pinged(client: AsyncClient, node: str, message: Ping) -> Measure:
    async def measure() -> float:
        return median_us(await client.ask(client.ref(node), message, CASE_S))

    return measure


def _pair(case: str, client: AsyncClient, node: str, message: Message[float], bar: float | None) -> Row:
    peer = Peer(UNRECORDED, _asked(client, f"{node}-off", message))
    return Row(case, "1/s", _asked(client, node, message), peer, None if bar is None else Bar(ratio=bar))


def _cost(client: AsyncClient, node: str, message: Message[float]) -> Measure:
    """Microseconds a message that recording adds: of two floods, one after the other."""

    async def measure() -> float:
        recorded = await client.ask(client.ref(node), message, CASE_S)
        unrecorded = await client.ask(client.ref(f"{node}-off"), message, CASE_S)
        return 1e6 / recorded - 1e6 / unrecorded

    return measure


def _span(client: AsyncClient, message: Chatter) -> Measure:
    """Microseconds a log event."""

    async def measure() -> float:
        return 1e6 / await client.ask(client.ref("logger"), message, CASE_S)

    return measure


def _replay(client: AsyncClient, run: Path, scale: int) -> Measure:
    """Messages a second that are fed again to a sink, with reading the file."""

    async def measure() -> float:
        await client.ask(client.ref("far-sender"), Flood(count=50 * RING * scale), CASE_S)
        kind = registry.find("./bench.py:Sink", HERE)

        def replay() -> float:
            started_ns = time.perf_counter_ns()
            outcome = Replay(read(run / "far.1.rec"), "far-sink", kind).run()
            if outcome.difference is not None:
                raise RuntimeError(f"the replay differs: {outcome.difference}")
            return outcome.inputs * 1e9 / (time.perf_counter_ns() - started_ns)

        return await asyncio.to_thread(replay)

    return measure


@asynccontextmanager
async def _open(wanted: Scale) -> AsyncIterator[list[Row]]:
    scale = 4 if wanted.quick else 10
    async with launched(HERE / "logs.yaml", "bench-logs") as run, AsyncClient(run / "book.json") as client:
        flood = Flood(count=1_000 * RING * scale)
        crowd = Crowd(width=CROWD, count=5_000 * scale)
        ping = Ping(count=500 * scale)
        rows = [
            _pair("tell across processes, recorded", client, "far-sender", flood, 0.92),
            _pair(f"ask across processes, {CROWD} at a time, recorded", client, "far-asker", crowd, None),
            Row(
                "ask across processes, recorded, median",
                "us",
                _pinged(client, "far-asker", ping),
                Peer(UNRECORDED, _pinged(client, "far-asker-off", ping)),
            ),
            Row("recording a local message", "us", _cost(client, "teller", flood), bar=Bar(ours=1.0)),
            _pair(f"durable writes, {CROWD} at a time, recorded", client, "keeper-asker", crowd, 0.95),
            Row("replay", "1/s", _replay(client, run, scale), bar=Bar(ours=20_000)),
            Row("an info event", "us", _span(client, Chatter(count=5_000 * scale)), bar=Bar(ours=5.0)),
            Row(
                "a debug event that is not kept",
                "us",
                _span(client, Chatter(count=5_000 * scale, filtered=True)),
                bar=Bar(ours=0.6),
            ),
        ]
        for row in rows:
            await row.measure()  # once unmeasured: connections open, and code is warm
        yield rows


BENCH = Bench(_open)
