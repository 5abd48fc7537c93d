"""A trial on real processes: the workload as clients, what can be done to them, and the same judges.

What the simulator cannot know is tried here: the operating system's own signals, sockets and files. It is the course
of `zactor.sim.runner` on a clock that nobody holds, so a failure comes with its history and its logs, not with a seed.
Other faults of networks, disks and clocks belong to the simulator; they are named and left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from zactor.debug.recorder import Recorder
from zactor.debug.recording import RING_BYTES, Mapped
from zactor.errors import UserError
from zactor.judges.verdict import lines
from zactor.launchers.control import chosen, fault_of
from zactor.launchers.folders import Home
from zactor.launchers.local import Local
from zactor.launchers.run import STARTUP_S, Run
from zactor.live.faults import Kind, ProcessFault
from zactor.live.world import Book, LiveWorld, own_generators
from zactor.message import CLIENT_NUMBER, INCARNATION_BITS, SEQUENCE_BITS
from zactor.sim import runner, swarm
from zactor.sim.heap import Heap
from zactor.sim.runner import Word
from zactor.sim.seen import Seen
from zactor.topology.instances import add_instance
from zactor.topology.model import Instance, Topology
from zactor.topology.trials import Fault

PLAYABLE = ("kill", "pause", "partition", "slow")
"""What can be done to real processes."""

BECAUSE = "zactor chaos"

SEED = 1
"""By which faults are drawn for a topology that has no schedule of its own."""

LOOK_S = 0.05
"""Between two looks at the book and at how far the clients are."""

HISTORY = "history"
"""What the clients saw, beside the logs of their run."""

Say = Callable[[str], None]
Deeds = Sequence[int | tuple[ProcessFault, list[str]]]
"""What a fault comes to: processes that are killed, by their ids, and what is done to nodes."""


class Found(msgspec.Struct, kw_only=True):
    """What became of a trial. `history` is a file for `zactor judge`."""

    verdict: Word
    because: str = ""
    rule: str = ""  # the judge that says so
    run: str
    history: str
    operations: int = 0
    in_flight: int = 0
    faults: dict[str, int] = {}
    skipped: dict[str, int] = {}


class _Over(Exception):
    """The verdict is known before the end."""

    def __init__(self, verdict: Word, because: str, rule: str) -> None:
        super().__init__(because)
        self.verdict: Word = verdict
        self.rule = rule


def schedule_of(topology: Topology) -> tuple[Fault, ...]:
    """The topology's `nemesis` or, without one, faults that are drawn; nobody here sees when a node writes."""
    nodes = [instance.name for process in topology.processes for instance in process.instances]
    span_ns = runner.trial_of(topology).for_ns
    faults = topology.nemesis or swarm.draw_faults(Heap(SEED).stream("faults"), nodes, [], span_ns, [*PLAYABLE])
    faults = tuple(msgspec.structs.replace(fault, writing=False) for fault in faults)
    return tuple(sorted(faults, key=lambda fault: fault.at_ns))


class Nemesis:
    """Does the faults of a schedule to the processes of a run. `before` is called before each that is done.

    As in the simulator, a process that its policy would give up after one more end is spared.
    """

    def __init__(self, run: Run, say: Say, before: Callable[[], None]) -> None:
        self._run = run
        self._say = say
        self._before = before
        self.faults: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()

    async def play(self, faults: Sequence[Fault]) -> None:
        """Do them at their times, counted from now."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        for fault in faults:
            await asyncio.sleep(started_s + fault.at_ns / 1e9 - loop.time())
            deeds = self._between(fault) if fault.do in ("partition", "slow") else self._victims(fault)
            if isinstance(deeds, str):
                self.skipped[fault.do] += 1
                self._say(f"  {fault}: skipped, {deeds}")
                continue
            self.faults[fault.do] += 1
            self._before()
            self._say(f"  {fault}")
            for deed in deeds:
                if isinstance(deed, int):
                    _kill(deed)
                else:  # a process that is held up does what it is told when it goes on
                    await self._run.begin_fault(*deed, fault.for_ns / 1e9, 0.0, BECAUSE)

    def _victims(self, fault: Fault) -> Deeds | str:
        """What is done to processes for a fault; or why nothing is."""
        if fault.do not in PLAYABLE:
            return "only the simulator can do that"
        if all(name[:1] == "@" for name in fault.nodes):
            return "clients live in the process of the trial"
        pids = self._run.pids()
        nodes = chosen([name for name in fault.nodes if name[:1] != "@"], self._run.nodes)
        running = [process for process in self._run.processes_of(nodes) if pids[process] is not None]
        if not running:
            return "it does not run"
        if fault.do == "pause":
            paused = self._run.faulty("pause")
            free = [name for name in nodes if name not in paused]
            return [(ProcessFault(0, "pause"), free)] if free else "it is paused"
        kept = [pid for process in running if self._run.may_end(process) and (pid := pids[process]) is not None]
        return kept or "one more end, and its policy would give it up"

    def _between(self, fault: Fault) -> Deeds | str:
        """What parts two sides, or slows the ways between them: done to the nodes of one of them.

        It is done to those of both where clients, or all others, are on one.
        """
        near, far, both = fault.nodes, fault.others, not fault.one_way
        do: Kind = "cut" if fault.do == "partition" else "slow"
        ways = [(self._side(near, far), far, True, both), (self._side(far, near), near, both, True)]
        if not any(map(_is_wide, near)):
            del ways[1]
        elif not any(map(_is_wide, far)):
            del ways[0]
        pids = self._run.pids()
        running = [name for name in self._run.nodes if pids[self._run.processes_of([name])[0]] is not None]
        try:
            deeds = [
                (fault_of(self._run, do, nodes, others, fault.by_ns, out=out, into=into), nodes)
                for side, others, out, into in ways
                if (nodes := [name for name in side if name in running])
            ]
        except UserError as problem:
            return str(problem)
        return deeds or "it does not run"

    def _side(self, names: Sequence[str], others: Sequence[str]) -> list[str]:
        """The nodes of one side of a partition; `*` is all that are not on the other."""
        known = self._run.nodes
        if "*" not in names:
            return chosen(_real(names), known)
        far = chosen(_real(others), known)
        return [name for name in known if name not in far]

    def heal(self) -> None:
        """Take everything back."""
        self._run.end_all_faults(BECAUSE)


def _is_wide(name: str) -> bool:
    return name == "*" or name[:1] == "@"


def _real(names: Iterable[str]) -> list[str]:
    """The names of nodes among these."""
    return [name for name in names if not _is_wide(name)]


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself
        os.kill(pid, signal.SIGKILL)


class _Client(LiveWorld):
    """A workload's end of a run, logged and recorded beside its processes; `hear` is told what it logs."""

    def __init__(self, instance: Instance, book: Book, folder: Path, hear: Callable[..., None]) -> None:
        self._hear = hear
        super().__init__(
            instance.name,
            number=CLIENT_NUMBER,
            incarnation=secrets.randbits(INCARNATION_BITS),
            run=book.run,
            log=folder / f"{instance.name}.jsonl",
            first_sequence=secrets.randbits(SEQUENCE_BITS - 1),
            key=book.key,
            peer_timeout_ns=book.peer_timeout_ns,
        )
        add_instance(self.kernel.life, instance)
        self._recorder = Recorder(
            self.kernel,
            Mapped(folder / f"{instance.name}.1.rec", RING_BYTES),
            lambda: {"run": book.run, "instances": [instance]},
        )

    async def close(self) -> None:
        """End it; whoever waits for it is told."""
        await super().close()
        self._recorder.close()

    def log(self, level: str, node: str, event: str, fields: dict[str, Any]) -> None:
        super().log(level, node, event, fields)
        self._hear(level, node, event, fields)


class Trial:
    """One trial, from the first process to the verdict. `kill` ends it at once; `run` leaves nothing running."""

    def __init__(self, topology: Topology, home: Home, run: str, say: Say) -> None:
        self._topology = topology
        self._trial = runner.trial_of(topology)
        self._say = say
        self._folder = home.run_folder(run)
        self._processes = Run(topology, home, run, Local(), self._tell)
        self._nemesis = Nemesis(self._processes, say, self._count)
        self._clients: list[_Client] = []
        self._in_flight = 0
        self._wrong: _Over | None = None
        self._began_s = 0.0
        self.kill = self._processes.kill

    async def run(self) -> Found:
        """Run it. Raises `StartFailed` when the topology does not come up, and `UserError`."""
        own_generators()  # of its clients
        with (self._folder / HISTORY).open("w", buffering=1) as history:
            model = runner.workload_kind(self._topology).model
            self._seen = Seen(time.monotonic_ns, model, self._accuse, history.write)
            try:
                await self._processes.start(STARTUP_S)
                await self._course()
                over = _Over("ok", "", "")
            except _Over as end:
                over = end
            finally:
                self._nemesis.heal()
                for client in self._clients:
                    await client.close()
                await self._processes.stop()
        return self._found(over)

    async def _course(self) -> None:
        trial, loop = self._trial, asyncio.get_running_loop()
        names = [self._add_client(number) for number in range(trial.clients)]
        count = len(self._processes.nodes)
        self._say(f"ready: {count} nodes; {len(names)} clients of {trial.workload} begin")
        self._began_s = loop.time()
        playing = loop.create_task(self._nemesis.play(schedule_of(self._topology)))
        try:
            await self._go_on(trial.for_ns, lambda: playing.done() and playing.exception() is not None)
        finally:
            playing.cancel()
            await asyncio.wait((playing,))
        if not playing.cancelled():
            playing.result()
        self._nemesis.heal()
        self._seen.healed()
        span_s = trial.heal_ns // 1_000_000_000
        self._say(f"healed: every client must get on within {span_s} s")
        await self._go_on(trial.heal_ns, lambda: not self._seen.late(names))
        self._read_logs()
        if late := self._seen.late(names):
            raise _Over("stuck", f"{span_s} s after the healing {', '.join(late)} did not get on", "progress")
        self._judge()

    def _add_client(self, number: int) -> str:
        book = self._book()
        instance = runner.client_of(self._topology, number)
        client = _Client(instance, book, self._folder, self._seen.hear)
        self._clients.append(client)
        client.use_book(book)
        client.kernel.life.start()
        return instance.name

    def _book(self) -> Book:
        return msgspec.json.decode((self._folder / "book.json").read_bytes(), type=Book)

    async def _go_on(self, span_ns: int, enough: Callable[[], bool]) -> None:
        """Let time pass until something is wrong or there is enough; clients follow the book."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + span_ns / 1e9
        while loop.time() < end_s and not enough():
            if self._wrong is not None:
                raise self._wrong
            book = self._book()
            for client in self._clients:
                client.use_book(book)
            await asyncio.sleep(LOOK_S)

    # --- what is seen
    def _tell(self, event: str, name: str, state: str, because: str) -> None:
        if self._began_s and event != "fault":  # those are told by who does them
            passed_s = asyncio.get_running_loop().time() - self._began_s
            self._say(f"  {passed_s:.3f} s {event} {name} {state}: {because}")

    def _accuse(self, because: str, rule: str) -> None:
        if self._wrong is None:
            self._wrong = _Over("violation", because, rule)

    def _count(self) -> None:
        self._in_flight += self._seen.in_flight

    def _read_logs(self) -> None:
        """What handlers raised in other processes."""
        for event in _failures(self._folder.glob("*.jsonl")):
            self._seen.hear(event["level"], event["node"], event["event"], event)
        if self._wrong is not None:
            raise self._wrong

    def _judge(self) -> None:
        invariants = runner.invariants_of(self._topology, self._trial.judges)
        if invariants:
            self._say(f"not looked at, since only the simulator sees all actors: {', '.join(invariants)}")
        judges = [name for name in self._trial.judges if name not in invariants]
        found = self._seen.judge(judges, Path(self._topology.folder))
        if found is not None:
            name, verdict = found
            raise _Over(verdict.word, "\n".join(lines(verdict)), name)
        if not self._nemesis.faults:
            raise _Over("idle", "no fault was done", "")
        if not self._seen.finished():
            raise _Over("idle", "no operation was answered", "")

    def _found(self, over: _Over) -> Found:
        return Found(
            verdict=over.verdict,
            because=str(over),
            rule=over.rule,
            run=self._processes.id,
            history=str(self._folder / HISTORY),
            operations=self._seen.finished(),
            in_flight=self._in_flight,
            faults=dict(sorted(self._nemesis.faults.items())),
            skipped=dict(sorted(self._nemesis.skipped.items())),
        )


@contextlib.contextmanager
def on_a_copy(home: Home, file: str) -> Iterator[tuple[Home, str]]:
    """A home of its own with a copy of the state, and a run in it; other trials of it have to wait.

    Raises `AlreadyRunning`: nobody can copy what is being written.
    """
    copy = Home(home.folder / "chaos" / home.name, home.name)
    copy.make()
    run = copy.new_run()
    copy.acquire(run, file)
    try:
        shutil.rmtree(copy.state)
        if home.state.is_dir():
            home.acquire(run, file)
            try:
                shutil.copytree(home.state, copy.state)
            finally:
                home.release()
        copy.make()
        yield copy, run
    finally:
        copy.release()


def _failures(logs: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The handlers that failed, as processes have logged them; the last line of one that was killed may be cut."""
    for path in sorted(logs):
        for line in path.read_bytes().splitlines():
            if b'"handler_failed"' in line:
                with contextlib.suppress(msgspec.DecodeError):
                    yield msgspec.json.decode(line)
