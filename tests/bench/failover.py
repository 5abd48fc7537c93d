"""How long nobody can put after something befell the leader, ours and etcd's, or after ours was told to go.

A probe never stops. After a fault the time counts to the first acknowledgement of a put that was begun after it. etcd
is probed at all its members at once, so it need not find out which of them are there; our client has to. Around a
transfer of the leadership, under load, it is the longest time between two acknowledgements; etcd fails puts then.
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
from functools import partial
from pathlib import Path

from nodes.raft.messages import PeerStatus, Status, Transfer
from tests.bench import etcd
from tests.bench.harness import Bar, Measure, Peer, Row, Scale
from tests.bench.kernel import HERE, launched
from tests.bench.load import CONNECTIONS, Load
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

SILENCE_S = 0.03
AFTER_S = 1.0
"""Around a transfer, the time in which the longest silence is looked for."""

GIVE_UP_S = 30.0
PAUSE_S = 0.05


@dataclass(frozen=True)
class Group:
    """Peers with a leader: the command that probes them, and the leader's process once all of them follow it."""

    probe: tuple[str, ...]
    leader: Callable[[], Awaitable[int]]
    revive: Callable[[int], Awaitable[None]]
    """Start again the one that had this process, where nobody else does."""


@dataclass(frozen=True)
class Ours(Group):
    """Our peers: the command that loads them, and what tells the leader that another one is to lead."""

    load: tuple[str, ...]
    hand_over: Callable[[], Awaitable[None]]


Start = Callable[[], AbstractAsyncContextManager[Group]]


@asynccontextmanager
async def ours() -> AsyncIterator[Ours]:
    """Our store, up; its launcher starts again who is killed."""
    async with launched(CONFIG, NAME) as run, AsyncClient(run / "book.json") as client:
        names = client.names(STORE)

        async def status(name: str) -> PeerStatus | None:
            try:
                return await client.ask(name, Status(), 0.5)
            except Failure:
                return None

        async def name_of_leader() -> str:
            end_s = time.monotonic() + GIVE_UP_S
            while time.monotonic() < end_s:
                said = [await status(name) for name in names]
                leaders = {each.leader for each in said if each is not None}
                if None not in said and len(leaders) == 1 and "" not in leaders:
                    return leaders.pop().partition("~")[0]
                await asyncio.sleep(PAUSE_S)
            raise RuntimeError(f"{NAME} has no leader after {GIVE_UP_S} s")

        async def leader() -> int:
            pid = client.book.processes[client.book.nodes[await name_of_leader()]].pid
            assert pid is not None, "it runs"
            return pid

        async def hand_over() -> None:
            await client.ask(await name_of_leader(), Transfer())

        async def revive(_pid: int) -> None:
            return

        commands = [tuple(module("raft_client", verb, run / "book.json")) for verb in ("probe", "load")]
        yield Ours(commands[0], leader, revive, commands[1], hand_over)


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
        async with start() as group, _probing(group) as probe:
            return statistics.median([await _gap(group, probe, fault) for _ in range(times)])

    return measure


def silences(times: int) -> Measure:
    """Seconds between two acknowledgements of ours, the most around a transfer; the median of several, under one load.

    The load fails when one of its puts does.
    """

    async def measure() -> float:
        load = Load("put", CONNECTIONS, CALM_S, times * (CALM_S + AFTER_S))
        async with ours() as group, _probing(group) as probe:
            loading = await asyncio.create_subprocess_exec(
                *group.load, *load.words(), stdout=asyncio.subprocess.DEVNULL
            )
            found = statistics.median([await _silence(group, probe) for _ in range(times)])
            if await loading.wait():
                raise RuntimeError("a put was lost")
            return found

    return measure


@asynccontextmanager
async def _probing(group: Group) -> AsyncIterator[asyncio.subprocess.Process]:
    probe = await asyncio.create_subprocess_exec(
        *group.probe, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield probe
    finally:
        probe.kill()
        await probe.wait()


async def _silence(group: Ours, probe: asyncio.subprocess.Process) -> float:
    await _calm(probe)
    began_ns = last_ns = time.time_ns()
    await group.hand_over()
    longest_ns = 0
    while last_ns < began_ns + int(AFTER_S * 1e9):
        ended_ns = await _acknowledged(probe, began_ns)
        longest_ns = max(longest_ns, ended_ns - last_ns)
        last_ns = max(last_ns, ended_ns)
    return longest_ns / 1e9


async def _calm(probe: asyncio.subprocess.Process) -> None:
    calm_ns = time.time_ns()
    while await _acknowledged(probe, calm_ns) < calm_ns + int(CALM_S * 1e9):
        pass


async def _gap(group: Group, probe: asyncio.subprocess.Process, fault: signal.Signals) -> float:
    await _calm(probe)
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

    def peer(name: str, timeouts: etcd.Timeouts, measure: Callable[[Start], Measure]) -> Peer:
        if program is None:
            return Peer(name, _nobody, missing=True, mend=etcd.MEND)
        return Peer(name, measure(theirs(program, timeouts)))

    rows = []
    for word, fault in (("killed", signal.SIGKILL), ("paused", signal.SIGSTOP)):
        measure = partial(gaps, fault=fault, times=times)
        case = f"leader {word}, to the next put"
        rows += [
            Row(case, "s", measure(ours), peer("etcd", etcd.BY_DEFAULT, measure), Bar(ours=OURS_S)),
            Row(case, "s", measure(ours), peer("etcd, 30/200 ms", SAME, measure), Bar(ratio=1)),
        ]
    case = f"leader told to go, {CONNECTIONS} clients put, longest silence"
    return [*rows, Row(case, "s", silences(times), bar=Bar(ours=SILENCE_S))]
