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
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal, Protocol, get_args

from nodes.raft.messages import PeerStatus, Status, Transfer
from tests.bench import etcd
from tests.bench.harness import Bar, Measure, Peer, Row, Scale
from tests.bench.kernel import HERE, launched
from tests.bench.load import CONNECTIONS, Load
from tests.bench.parted import MEND, Parted, parted
from tests.bench.parted import missing as parted_missing
from tests.bench.worker import module
from zactor.client import AsyncClient
from zactor.errors import Failure
from zactor.launchers import control
from zactor.launchers.control import ask_launcher
from zactor.launchers.folders import Home

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

AWAY_S = 1.0
"""A leader that is paused or cut off takes part again so long after somebody else has answered."""

SILENCE_S = 0.03
AFTER_S = 1.0
"""Around a transfer, the time in which the longest silence is looked for."""

GIVE_UP_S = 30.0
PAUSE_S = 0.05


Fault = Literal["killed", "paused", "cut off"]


class Group(Protocol):
    """Peers with a leader."""

    probe: tuple[str, ...]
    """The command that probes them."""

    async def leader(self) -> str:
        """Whom all of them follow, once they do."""

    async def begin(self, fault: Fault, name: str) -> None:
        """Let it befall one of them."""

    async def end(self, fault: Fault, name: str) -> None:
        """Let that one take part again."""


class Ours:
    """Our store, up; its launcher starts again who is killed."""

    def __init__(self, run: Path, client: AsyncClient) -> None:
        self.run = run
        self.home = Home(run.parent.parent, NAME)
        self._client = client
        self.probe, self.load = (tuple(module("raft_client", verb, run / "book.json")) for verb in ("probe", "load"))

    async def _status(self, name: str) -> PeerStatus | None:
        try:
            return await self._client.ask(name, Status(), 0.5)
        except Failure:
            return None

    def _pid(self, name: str) -> int:
        book = self._client.book
        pid = book.processes[book.nodes[name]].pid
        assert pid is not None, "it runs"
        return pid

    def pids(self) -> list[int]:
        """The processes of all peers."""
        return [self._pid(name) for name in self._client.names(STORE)]

    async def applied(self, name: str) -> int:
        """How many commands one of them has applied."""
        return (await self._client.ask(name, Status())).applied

    async def leader(self) -> str:
        end_s = time.monotonic() + GIVE_UP_S
        while time.monotonic() < end_s:
            said = [await self._status(name) for name in self._client.names(STORE)]
            leaders = {each.leader for each in said if each is not None}
            if None not in said and len(leaders) == 1 and "" not in leaders:
                return leaders.pop().partition("~")[0]
            await asyncio.sleep(PAUSE_S)
        raise RuntimeError(f"{NAME} has no leader after {GIVE_UP_S} s")

    async def begin(self, fault: Fault, name: str) -> None:
        if fault == "cut off":
            await asyncio.to_thread(ask_launcher, self.home, control.Fault("cut", (name,), GIVE_UP_S))
        else:
            _signal(self._pid(name), fault)

    async def end(self, fault: Fault, name: str) -> None:
        if fault == "cut off":
            await asyncio.to_thread(ask_launcher, self.home, control.Heal((name,), GIVE_UP_S))
        elif fault == "paused":
            _go_on(self._pid(name))

    async def hand_over(self) -> None:
        """Tell the leader that another one is to lead."""
        await self._client.ask(await self.leader(), Transfer())


class Theirs:
    """etcd, up."""

    def __init__(self, program: Path, cluster: etcd.Etcd, places: Parted | None) -> None:
        self._cluster = cluster
        self._places = places
        self.probe: tuple[str, ...] = (str(program), "probe", cluster.endpoints)

    def _member(self, name: str) -> etcd.Member:
        return next(each for each in self._cluster.members if each.name == name)

    async def leader(self) -> str:
        return (await asyncio.to_thread(self._cluster.leader)).name

    async def begin(self, fault: Fault, name: str) -> None:
        if fault == "cut off":
            assert self._places is not None, "they were asked for"
            self._places.cut(self._cluster.members.index(self._member(name)))
        else:
            _signal(self._member(name).pid, fault)

    async def end(self, fault: Fault, name: str) -> None:
        member = self._member(name)
        if fault == "cut off":
            assert self._places is not None, "they were asked for"
            self._places.tie(self._cluster.members.index(member))
        elif fault == "paused":
            _go_on(member.pid)
        else:
            member.stop()
            await asyncio.to_thread(self._cluster.start, member)


def _signal(pid: int, fault: Fault) -> None:
    os.kill(pid, signal.SIGKILL if fault == "killed" else signal.SIGSTOP)


def _go_on(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


Start = Callable[[], AbstractAsyncContextManager[Group]]


@asynccontextmanager
async def ours() -> AsyncIterator[Ours]:
    """Our store, up."""
    async with launched(CONFIG, NAME) as run, AsyncClient(run / "book.json") as client:
        yield Ours(run, client)


def theirs(program: Path, timeouts: etcd.Timeouts, *, is_parted: bool = False) -> Start:
    """etcd, up; each member with a network of its own if one is to be cut off."""

    @asynccontextmanager
    async def start() -> AsyncIterator[Group]:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-raft-")))
            places = stack.enter_context(parted(etcd.MEMBERS)) if is_parted else None
            yield Theirs(program, stack.enter_context(etcd.running(folder, timeouts, places)), places)

    return start


def gaps(start: Start, fault: Fault, times: int) -> Measure:
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


async def _gap(group: Group, probe: asyncio.subprocess.Process, fault: Fault) -> float:
    await _calm(probe)
    name = await group.leader()
    fault_ns = time.time_ns()
    await group.begin(fault, name)
    # To cut one off takes a moment, which counts. What is put in it may still be answered.
    gap_ns = await _acknowledged(probe, time.time_ns()) - fault_ns
    if fault != "killed":
        await asyncio.sleep(AWAY_S)
    await group.end(fault, name)
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
    """The leader is killed, paused, and cut off: beside etcd as it is by default, and with our timeouts."""
    times = 1 if scale.quick else TIMES
    cannot_part = parted_missing()

    def peer(name: str, timeouts: etcd.Timeouts, fault: Fault) -> Peer:
        is_cut = fault == "cut off"
        if program is None or (is_cut and cannot_part):
            mend = etcd.MEND if program is None else f"it cannot be cut off here: {MEND}"
            return Peer(name, _nobody, missing=True, mend=mend)
        return Peer(name, gaps(theirs(program, timeouts, is_parted=is_cut), fault, times))

    rows = []
    for fault in get_args(Fault):
        measure = gaps(ours, fault, times)
        case = f"leader {fault}, to the next put"
        rows += [
            Row(case, "s", measure, peer("etcd", etcd.BY_DEFAULT, fault), Bar(ours=OURS_S)),
            Row(case, "s", measure, peer("etcd, 30/200 ms", SAME, fault), Bar(ratio=1)),
        ]
    case = f"leader told to go, {CONNECTIONS} clients put, longest silence"
    return [*rows, Row(case, "s", silences(times), bar=Bar(ours=SILENCE_S))]
