"""How long nobody can put after something befell the leader: ours and etcd's, with a probe that never stops.

The time counts from the fault to the first acknowledgement of a put that was begun after it. etcd is probed at all its
members at once, so it need not find out which of them are there; our client has to.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from nodes.raft.messages import PeerStatus, Status
from tests.bench import etcd
from tests.bench.harness import Bar, Measure, Peer, Row, Scale
from tests.bench.kernel import HERE, launched
from tests.bench.worker import module
from zactor.client import AsyncClient
from zactor.errors import Failure

NAME = "raft-kv"
CONFIG = HERE.parent.parent / "configs" / "raft-kv.yaml"
STORE = "kv"

TIMES = 3
"""Faults in a turn; the median of them is its figure."""

OURS_S = 0.35
SAME = etcd.Timeouts(heartbeat_ms=30, election_ms=200)
"""What ours has by default."""

CALM_S = 1.0
"""Before a fault: all follow, and the probe flows."""

PAUSED_S = 1.0
"""A paused leader goes on so long after somebody else has answered."""

GIVE_UP_S = 30.0
PAUSE_S = 0.05


@dataclass(frozen=True)
class Group:
    """Peers with a leader: the command that probes them, and the leader's process once all of them follow it."""

    probe: tuple[str, ...]
    leader: Callable[[], Awaitable[int]]
    revive: Callable[[int], Awaitable[None]]
    """Start again the one that had this process, where nobody else does."""


Start = Callable[[], AbstractAsyncContextManager[Group]]


@asynccontextmanager
async def ours() -> AsyncIterator[Group]:
    """Our store, up; its launcher starts again who is killed."""
    async with launched(CONFIG, NAME) as run, AsyncClient(run / "book.json") as client:
        names = client.names(STORE)

        async def status(name: str) -> PeerStatus | None:
            try:
                return await client.ask(name, Status(), 0.5)
            except Failure:
                return None

        async def leader() -> int:
            end_s = time.monotonic() + GIVE_UP_S
            while time.monotonic() < end_s:
                said = [await status(name) for name in names]
                leaders = {each.leader for each in said if each is not None}
                if None not in said and len(leaders) == 1 and "" not in leaders:
                    pid = client.book.processes[client.book.nodes[leaders.pop().partition("~")[0]]].pid
                    assert pid is not None, "it runs"
                    return pid
                await asyncio.sleep(PAUSE_S)
            raise RuntimeError(f"{NAME} has no leader after {GIVE_UP_S} s")

        async def revive(_pid: int) -> None:
            return

        yield Group(tuple(module("raft_client", "probe", run / "book.json")), leader, revive)


def theirs(program: Path, timeouts: etcd.Timeouts) -> Start:
    """etcd, up."""

    @asynccontextmanager
    async def start() -> AsyncIterator[Group]:
        with tempfile.TemporaryDirectory(prefix="bench-raft-") as folder, etcd.running(Path(folder), timeouts) as group:

            async def leader() -> int:
                return (await asyncio.to_thread(group.leader)).pid

            async def revive(pid: int) -> None:
                (member,) = [each for each in group.members if each.pid == pid]
                member.stop()
                await asyncio.to_thread(group.start, member)

            yield Group((str(program), "probe", group.endpoints), leader, revive)

    return start


def gaps(start: Start, fault: signal.Signals, times: int) -> Measure:
    """Seconds without an acknowledgement, the median of several faults."""

    async def measure() -> float:
        async with start() as group:
            probe = await asyncio.create_subprocess_exec(
                *group.probe, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            assert probe.stdin is not None
            try:
                return statistics.median([await _gap(group, probe, fault) for _ in range(times)])
            finally:
                probe.kill()
                await probe.wait()

    return measure


async def _gap(group: Group, probe: asyncio.subprocess.Process, fault: signal.Signals) -> float:
    calm_ns = time.time_ns()
    while await _acknowledged(probe, calm_ns) < calm_ns + int(CALM_S * 1e9):
        pass
    pid = await group.leader()
    fault_ns = time.time_ns()
    os.kill(pid, fault)
    gap_ns = await _acknowledged(probe, fault_ns) - fault_ns
    if fault is signal.SIGSTOP:
        await asyncio.sleep(PAUSED_S)
        os.kill(pid, signal.SIGCONT)
    else:
        await group.revive(pid)
    await group.leader()
    return gap_ns / 1e9


async def _acknowledged(probe: asyncio.subprocess.Process, since_ns: int) -> int:
    """When the first put that was begun after a time was acknowledged."""
    assert probe.stdout is not None
    async with asyncio.timeout(GIVE_UP_S):
        while line := await probe.stdout.readline():
            began_ns, ended_ns = map(int, line.split())
            if began_ns > since_ns:
                return ended_ns
    raise RuntimeError("the probe has ended")


async def _nobody() -> float:
    raise AssertionError("who is missing is not measured")


def failover_rows(program: Path | None, scale: Scale) -> list[Row]:
    """The leader is killed, and paused: beside etcd as it is by default, and with our timeouts."""
    times = 1 if scale.quick else TIMES

    def peer(name: str, fault: signal.Signals, timeouts: etcd.Timeouts) -> Peer:
        if program is None:
            return Peer(name, _nobody, missing=True, mend=etcd.MEND)
        return Peer(name, gaps(theirs(program, timeouts), fault, times))

    rows = []
    for word, fault in (("killed", signal.SIGKILL), ("paused", signal.SIGSTOP)):
        case, measure = f"leader {word}, to the next put", gaps(ours, fault, times)
        rows += [
            Row(case, "s", measure, peer("etcd", fault, etcd.BY_DEFAULT), Bar(ours=OURS_S)),
            Row(case, "s", measure, peer("etcd, 30/200 ms", fault, SAME), Bar(ratio=1)),
        ]
    return rows
