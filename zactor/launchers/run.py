"""One run of a topology: its processes are started, watched, restarted by the policy, and stopped.

The launcher keeps the book. A process binds, reports its endpoint, and gets the book once all have bound;
each later change is a new version, pushed to all and written to the run's folder for clients.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from zactor import hlc
from zactor.errors import ZactorError
from zactor.launchers.folders import Home, write_json
from zactor.launchers.local import Engine, Handle
from zactor.live.host import Assignment, Report
from zactor.live.logs import Lines
from zactor.live.world import Book, BookEntry
from zactor.supervision import Restarts, Supervision
from zactor.topology.model import Process, Topology

STARTUP_S = 30.0
"""For every node to be ready, unless told otherwise."""

STOP_S = 1.5
"""For a process to stop before it is killed."""


LAUNCHER = "@launcher"
LOG = f"{LAUNCHER}.jsonl"
"""The launcher's own log, beside those of its processes."""


class StartFailed(ZactorError):
    """A process or node did not come up. The text names it and says why."""


class Tell(Protocol):
    """How a run says what happens to a node or a process."""

    def __call__(self, event: str, name: str, state: str, because: str) -> None: ...


class _Member:
    """A process of the run, over all its incarnations."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.incarnation = 0
        self.handle: Handle | None = None
        self.endpoint: str | None = None
        self.gone: str | None = None
        self.because: str | None = None
        self.restarts = Restarts()
        self.states: dict[str, str] = {instance.name: "created" for instance in process.instances}

    def policy(self) -> Supervision:
        restarts = [instance.restart for instance in self.process.instances if instance.restart is not None]
        return restarts[0].supervision() if restarts else Supervision()


class Run:
    """A topology's processes. `tell` hears what happens to them."""

    def __init__(self, topology: Topology, home: Home, run: str, engine: Engine, tell: Tell) -> None:
        self._topology = topology
        self._home = home
        self._run = run
        self._engine = engine
        self._tell = tell
        self._lines = Lines(home.run_folder(run) / LOG)
        self._version = 0
        self._ready = False
        self._stopping = False
        self._changed = asyncio.Event()
        self._members = {process.name: _Member(process) for process in topology.processes}
        self._tasks: set[asyncio.Task[None]] = set()
        self._rng = random.Random()  # noqa: S311 - jitter

    async def start(self, startup_s: float = STARTUP_S) -> None:
        """Start everything and wait until every node is ready. Raises `StartFailed`; then call `stop`."""
        write_json(self._home.run_folder(self._run) / "run.json", self._topology)
        await asyncio.gather(*(self._launch(member) for member in self._members.values()))
        try:
            async with asyncio.timeout(startup_s):
                await self._until(lambda: all(member.endpoint for member in self._members.values()))
                self._publish()
                await self._until(lambda: not self._missing())
                self._ready = True
        except TimeoutError:
            raise StartFailed(f"not ready after {startup_s:g} s: {'; '.join(self._missing())}") from None

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            failed = [member for member in self._members.values() if member.gone is not None]
            if failed:
                raise StartFailed("\n".join(f"{member.process.name}: {member.gone}" for member in failed))
            self._changed.clear()
            await self._changed.wait()

    def _missing(self) -> list[str]:
        """What is not ready yet, and what it waits for."""
        missing = []
        ready = {name for member in self._members.values() for name, state in member.states.items() if state == "ready"}
        for member in self._members.values():
            for instance in member.process.instances:
                if instance.name in ready:
                    continue
                links = sorted({name for names in instance.links.values() for name in names} - ready)
                why = f"its links {', '.join(links)}" if links else "its on_start"
                missing.append(f"{instance.name} waits for {why} ({member.because or member.states[instance.name]})")
        return missing

    async def _launch(self, member: _Member) -> None:
        process = member.process
        member.incarnation += 1
        member.states = {instance.name: "created" for instance in process.instances}
        folder = self._home.run_folder(self._run)
        stem = file_stem(process.name)
        incarnation = member.incarnation
        assignment = Assignment(
            topology=self._topology.name,
            cluster=self._home.cluster(),
            run=self._run,
            process=process.name,
            number=process.number,
            incarnation=incarnation,
            transport=process.transport,
            socket=str(self._home.sockets / f"{process.number}.{incarnation}"),
            state=str(self._home.state),
            log=str(folder / f"{stem}.jsonl"),
            instances=process.instances,
        )
        member.handle = await self._engine.start(
            assignment,
            folder / f"{stem}.out",
            lambda report: self._on_report(member, incarnation, report),
            lambda code: self._on_exit(member, code),
        )

    def _on_report(self, member: _Member, incarnation: int, report: Report) -> None:
        if incarnation != member.incarnation:
            return
        if report.event == "bound":
            member.endpoint = report.endpoint
            if self._version:  # a restart: the others learn where it is now
                self._publish()
        elif report.event == "failed":
            member.because = report.because
        elif report.node in member.states:
            before = member.states[report.node]
            member.states[report.node] = report.state
            if report.state in ("restarting", "stopped"):
                member.because = report.because
            if self._version and not self._stopping and (before, report.state) != ("created", "ready"):
                # Not logged here: the process has said more of it in its own log.
                self._tell("node", report.node, report.state, report.because)
        self._changed.set()

    def _on_exit(self, member: _Member, code: int) -> None:
        member.handle = None
        member.endpoint = None
        name = member.process.name
        how = f"killed by signal {-code}" if code < 0 else f"exit {code}"
        because = f"{member.because} ({how})" if member.because else how
        for node in member.states:
            member.states[node] = "stopped"
        if not self._stopping:
            self._decide(member, name, because, clean=code == 0)
        self._changed.set()

    def _decide(self, member: _Member, name: str, because: str, *, clean: bool) -> None:
        now_ns = int(asyncio.get_running_loop().time() * 1e9)
        error = None if clean else StartFailed(because)
        decision = member.restarts.decide(member.policy(), error, now_ns, self._rng)
        # What has never worked is not tried again: whoever waits for `up` wants to know why.
        starting = not self._ready
        if decision.directive == "restart" and not starting:
            self._say("process", name, "restarting", because, delay_ns=decision.delay_ns)
            self._task(self._again(member, decision.delay_ns / 1e9))
        else:
            member.gone = because if starting else f"{because}; {decision.because}"
            self._say("process", name, "gone", member.gone)
        member.because = None
        if self._version:
            self._publish()

    async def _again(self, member: _Member, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        if not self._stopping:
            await self._launch(member)

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _publish(self) -> None:
        self._version += 1
        entries = {}
        nodes = {}
        for name, member in self._members.items():
            pid = None if member.handle is None else member.handle.pid
            entries[name] = BookEntry(member.process.number, member.incarnation, member.endpoint, member.gone, pid)
            nodes.update({instance.name: name for instance in member.process.instances})
        book = Book(self._version, self._run, nodes, entries)
        write_json(self._home.run_folder(self._run) / "book.json", book)
        for member in self._members.values():
            if member.handle is not None:
                member.handle.push(book)

    def pids(self) -> dict[str, int | None]:
        """The process id of each process that runs."""
        return {name: None if each.handle is None else each.handle.pid for name, each in self._members.items()}

    async def ended(self) -> None:
        """Wait until no process is left and none comes back."""
        while any(member.gone is None for member in self._members.values()):
            self._changed.clear()
            await self._changed.wait()

    def _say(self, event: str, name: str, state: str, because: str, **fields: int) -> None:
        """Tell whoever watches the terminal, and whoever reads the logs."""
        self._tell(event, name, state, because)
        head = {"level": "warning", "hlc": hlc.from_wall(time.time_ns()), "node": name, "process": LAUNCHER}
        self._lines.add(head | {"event": f"{event}_{state}", "because": because} | fields)
        self._lines.flush()

    async def stop(self) -> None:
        """Stop all processes; what does not stop in time is killed."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        for member in self._members.values():
            if member.handle is not None:
                member.handle.stop()
        try:
            async with asyncio.timeout(STOP_S):
                await self._gone()
        except TimeoutError:
            self.kill()
            await self._gone()
        self._lines.close()

    async def _gone(self) -> None:
        while any(member.handle is not None for member in self._members.values()):
            self._changed.clear()
            await self._changed.wait()

    def kill(self) -> None:
        """End all processes now."""
        for member in self._members.values():
            if member.handle is not None:
                self._say("process", member.process.name, "killed", "it did not stop in time")
                member.handle.kill()


def file_stem(process: str) -> str:
    """The stem of a process's files: `store/0` gives `store.0`."""
    return process.replace("/", ".")
