"""One run of a topology: its processes are started, watched, restarted by the policy, and stopped.

The launcher keeps the book. A process binds, reports its endpoint, and gets the book once all have bound;
each later change is a new version, pushed to all and written to the run's folder for clients.

What people want of a running topology comes here too: `start_nodes`, `stop_nodes`, `restart_nodes`, `kill_nodes`
and `change`, one at a time. A node that has its process to itself is started and stopped with it; one of several
is started and stopped inside it, and the process goes on.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from zactor import hlc
from zactor.errors import ZactorError
from zactor.launchers.changes import Change, differences, renumbered
from zactor.launchers.faults import Faults
from zactor.launchers.folders import Home, write_json
from zactor.launchers.local import Engine
from zactor.launchers.member import Member, NodeState, Outcome
from zactor.live.faults import ProcessFault
from zactor.live.host import Assignment, Report
from zactor.live.logs import Lines
from zactor.live.world import Book, BookEntry
from zactor.supervision import Restarts
from zactor.topology.model import Process, Topology

STARTUP_S = 30.0
"""For every node to be ready, unless told otherwise."""

STOP_S = 1.5
"""For a process to stop before it is killed."""

LAUNCHER = "@launcher"
LOG = f"{LAUNCHER}.jsonl"
"""The launcher's own log, beside those of its processes."""

REMOVED = "removed from the topology"
CHANGED = "changed in the topology"


class StartFailed(ZactorError):
    """A process or node did not come up. The text names it and says why."""

    def explained(self, topology: str, logs: str) -> str:
        """The same for whoever launched the topology, in several lines."""
        return "\n  ".join([f"{topology} did not come up", *str(self).splitlines(), f"logs: {logs}"])


class Busy(ZactorError):
    """Somebody else's change of this run is not done yet."""


class Tell(Protocol):
    """How a run says what happens to a node or a process."""

    def __call__(self, event: str, name: str, state: str, because: str) -> None: ...


class Run:
    """A topology's processes. `tell` hears what happens to them."""

    def __init__(self, topology: Topology, home: Home, run: str, engine: Engine, tell: Tell) -> None:
        self.id = run
        self._topology = topology
        self._home = home
        self._engine = engine
        self._tell = tell
        self._lines = Lines(home.run_folder(run) / LOG)
        self._version = 0
        self._key = secrets.token_hex(16)
        self._ready = False
        self._stopping = False
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._members = {process.name: Member(process) for process in topology.processes}
        self._rng = random.Random()  # noqa: S311 - jitter
        self._faults = Faults(self._until, tell, self.say)

    @property
    def topology(self) -> Topology:
        """What runs, or should."""
        return self._topology

    @property
    def nodes(self) -> dict[str, NodeState]:
        """Its nodes, in the order of their processes."""
        return {name: node for member in self._members.values() for name, node in member.nodes.items()}

    # --- the whole
    async def start(self, startup_s: float = STARTUP_S) -> None:
        """Start everything and wait until every node is ready. Raises `StartFailed`; then call `stop`."""
        async with self._turn:
            write_json(self._home.run_folder(self.id) / "run.json", self._topology)
            for member in self._members.values():
                self._launch(member)
            try:
                async with asyncio.timeout(startup_s):
                    await self._until(lambda: self._broken() or all(each.endpoint for each in self._members.values()))
                    if not self._broken():
                        self._publish()
                    await self._until(lambda: self._broken() or not self._missing(self.nodes))
            except TimeoutError:
                missing = "; ".join(self._missing(self.nodes).values())
                raise StartFailed(f"not ready after {startup_s:g} s: {missing}") from None
            if broken := self._broken():
                raise StartFailed("\n".join(f"{name}: {because}" for name, because in broken.items()))
            self._ready = True

    def _broken(self) -> dict[str, str]:
        """The processes and nodes that do not come up any more, and why."""
        found = {}
        for name, member in self._members.items():
            if member.gone is not None:
                found[name] = member.gone
                continue
            found |= {node: because for node in member.nodes if (because := member.failure(node)) is not None}
        return found

    async def ended(self) -> None:
        """Wait until no process is left and none comes back: neither by itself, nor because somebody starts it."""
        await self._until(
            lambda: (
                all(member.gone is not None for member in self._members.values())
                and all(node.wanted for node in self.nodes.values())
            )
        )

    async def stop(self) -> None:
        """Stop all processes; what does not stop in time is killed."""
        self._stopping = True
        self._faults.end_all(self._members.values(), "the topology goes down")
        for member in self._members.values():
            await self._call_off(member)
            if member.handle is not None:
                member.handle.stop("the topology goes down")
        try:
            async with asyncio.timeout(STOP_S):
                await self._gone()
        except TimeoutError:
            self.kill()
            await self._gone()
        self._lines.close()

    async def _gone(self) -> None:
        await self._until(lambda: all(member.handle is None for member in self._members.values()))

    def kill(self) -> None:
        """End all processes now."""
        for member in self._members.values():
            self._kill(member)

    def _kill(self, member: Member) -> None:
        if member.handle is not None:
            self.say("process", member.process.name, "killed", "it did not stop in time")
            member.handle.kill()

    def pids(self) -> dict[str, int | None]:
        """The process id of each process that runs."""
        return {name: None if each.handle is None else each.handle.pid for name, each in self._members.items()}

    def processes_of(self, names: Iterable[str]) -> list[str]:
        """The processes in which these nodes live, each once."""
        return [member.process.name for member in dict.fromkeys(self._homes(names).values())]

    def may_end(self, process: str) -> bool:
        """Whether a process may end by a failure once more: its policy would not give it up."""
        member = self._members[process]
        return member.restarts.leaves_room(member.policy(), int(asyncio.get_running_loop().time() * 1e9), 1)

    # --- what people want of single nodes
    async def start_nodes(self, names: Collection[str], timeout_s: float) -> Outcome:
        """Start nodes that do not run, and wait until they are ready. Their processes' restarts count from 0 again."""
        async with self._one_at_a_time(timeout_s) as deadline_s:
            nodes = self.nodes
            words = {name: "runs already" if nodes[name].runs else "started" for name in names}
            return _with_words(await self._start(names, deadline_s), words)

    async def stop_nodes(self, names: Collection[str], because: str, timeout_s: float) -> Outcome:
        """Stop nodes in order, until somebody starts them again."""
        async with self._one_at_a_time(timeout_s) as deadline_s:
            stopped = await self._stop(dict.fromkeys(names, because), (), deadline_s)
            return _with_words(stopped, dict.fromkeys(names, "stopped"))

    async def restart_nodes(self, names: Collection[str], because: str, timeout_s: float) -> Outcome:
        """Stop nodes in order, and start their next incarnations."""
        async with self._one_at_a_time(timeout_s) as deadline_s:
            stopped = await self._stop(dict.fromkeys(names, because), names, deadline_s)
            started = await self._start([name for name in names if name not in stopped.failed], deadline_s)
            return _with_words(_both(stopped, started), dict.fromkeys(names, "restarted"))

    async def kill_nodes(self, names: Collection[str], because: str, timeout_s: float) -> Outcome:
        """End the processes of nodes as a crash would, and wait until they have ended. Their policies decide."""
        async with self._one_at_a_time(timeout_s) as deadline_s:
            homes = self._homes(names)
            killed = {member: member.handle for member in homes.values() if member.handle is not None}
            words = {name: _killed(name, member) for name, member in homes.items() if member in killed}
            outcome = Outcome(failed={name: _not_killed(homes[name]) for name in names if name not in words})
            for member, handle in killed.items():
                member.because = because
                handle.kill()
            try:
                async with asyncio.timeout_at(deadline_s):
                    await self._until(lambda: all(member.handle is not killed[member] for member in killed))
            except TimeoutError:
                outcome.late = True
                outcome.failed |= dict.fromkeys(words, "it was killed, and has not ended yet")
            return _with_words(outcome, words)

    async def begin_fault(
        self, fault: ProcessFault, names: Collection[str], for_s: float, timeout_s: float, because: str
    ) -> Outcome:
        """Do a fault to the processes of nodes for so long, or with 0 until it is taken back."""
        return await self._faults.begin(fault, self._homes(names), for_s, timeout_s, because)

    async def end_faults(self, names: Collection[str], only: str | None, timeout_s: float, because: str) -> Outcome:
        """Take back what was done to the processes of nodes, or `only` one kind of it."""
        return await self._faults.end(self._homes(names), only, timeout_s, because)

    def end_all_faults(self, because: str) -> None:
        """Take everything back, and wait for nothing."""
        self._faults.end_all(self._members.values(), because)

    def faulty(self, only: str | None) -> list[str]:
        """The nodes to whose processes something was done, or `only` one kind of it."""
        return [
            name
            for member in self._members.values()
            if any(only in (None, fault.do) for fault in member.faults.values())
            for name in member.nodes
        ]

    def plan(self, wanted: Topology) -> list[Change]:
        """What `change` would do."""
        idle = {
            name: member.gone or node.because
            for member in self._members.values()
            for name, node in member.nodes.items()
            if not node.wanted or member.gone is not None or member.failure(name) is not None
        }
        return differences(self._topology, wanted, idle)

    async def change(self, wanted: Topology, show: Callable[[list[Change]], None], timeout_s: float) -> Outcome:
        """Run another topology from here on: nodes are started, stopped and restarted, all others go on.

        `show` gets what will be done before it is. Raises `UserError` when there are no numbers left for its processes.
        """
        async with self._one_at_a_time(timeout_s) as deadline_s:
            wanted = renumbered(wanted, {name: member.process.number for name, member in self._members.items()})
            changes = self.plan(wanted)
            show(changes)
            why = {"-": REMOVED, "~": CHANGED}
            reasons = {each.node: why[each.sign] for each in changes if each.sign != "+"}
            returning = {each.node for each in changes if each.sign == "~"}
            stopped = await self._stop(reasons, returning, deadline_s)
            self._install(wanted)
            coming = dict.fromkeys(each.node for each in changes if each.sign != "-")
            started = await self._start([name for name in coming if name not in stopped.failed], deadline_s)
            return _both(stopped, started)

    @asynccontextmanager
    async def _one_at_a_time(self, timeout_s: float) -> AsyncIterator[float]:
        """Wait for one's turn; gives the time by which all has to be done. Raises `Busy`."""
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._turn.acquire()
        except TimeoutError:
            raise Busy(f"another change of {self._topology.name} is still under way; try again") from None
        try:
            yield deadline_s
        finally:
            self._turn.release()

    def _homes(self, names: Iterable[str]) -> dict[str, Member]:
        homes = {name: member for member in self._members.values() for name in member.nodes}
        return {name: homes[name] for name in names}

    async def _start(self, names: Iterable[str], deadline_s: float) -> Outcome:
        """Start those that do not run, and wait until each is ready or has failed."""
        homes = self._homes(names)
        outcome = Outcome()
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._until(
                    lambda: all(member.nodes[name].runs or member.can_start(name) for name, member in homes.items())
                )
                self._begin({name: member for name, member in homes.items() if not member.nodes[name].runs})
                await self._until(lambda: all(member.has_come_up(name) for name, member in homes.items()))
        except TimeoutError:
            outcome.late = True
            outcome.failed = {name: f"not ready in time: {why}" for name, why in self._missing(homes).items()}
        for name, member in homes.items():
            if (because := member.failure(name)) is not None:
                outcome.failed[name] = because
        return outcome

    def _begin(self, homes: Mapping[str, Member]) -> None:
        """Start nodes that have stopped: with their process, or inside it."""
        inside = {name: member for name, member in homes.items() if member.handle is not None}
        for name, member in homes.items():
            member.nodes[name].wanted = True
        for member in dict.fromkeys(homes.values()):
            if member.handle is None:
                self._forget_timer(member)
                member.restarts = Restarts()
                member.proven = False
                self._launch(member)
        for name, member in inside.items():
            member.nodes[name].state, member.nodes[name].because = "created", ""
        self._publish()  # before they start: they have to find whom they link to
        for name, member in inside.items():
            assert member.handle is not None, "nothing has happened since it was looked at"
            member.handle.start_node(member.nodes[name].instance)

    async def _stop(self, reasons: Mapping[str, str], returning: Collection[str], deadline_s: float) -> Outcome:
        """Stop nodes, each for its reason. Of those that return the others hear as of a crash: it is not for good."""
        homes = self._homes(reasons)
        outcome = Outcome()
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._until(lambda: all(member.launching is None for member in homes.values()))
                for name, member in homes.items():
                    member.nodes[name].wanted = False
                    member.nodes[name].because = reasons[name]
                for member in dict.fromkeys(homes.values()):
                    self._end(member, {name: reasons[name] for name in member.nodes if name in reasons}, returning)
                await self._until(lambda: all(member.has_stopped(name) for name, member in homes.items()))
        except TimeoutError:
            outcome.late = True
            late = {name: member for name, member in homes.items() if not member.has_stopped(name)}
            outcome.failed = dict.fromkeys(late, "not stopped in time: its process is busy or hangs")
            for member in late.values():
                member.returns = False  # nobody waits any more to start it again
        self._publish()
        return outcome

    def _end(self, member: Member, reasons: Mapping[str, str], returning: Collection[str]) -> None:
        """Stop some nodes of a process: inside it, or with it when no others run there."""
        because = next(iter(reasons.values()))
        if member.handle is None:
            if not member.wanted():
                self._forget_timer(member)
                member.gone = because
        elif any(node.runs for node in member.nodes.values()):
            for name in reasons:
                member.handle.stop_node(name, reasons[name])
        elif member.ending is None:
            member.ending = because
            member.returns = any(name in returning for name in reasons)
            member.handle.stop(because)
            asyncio.get_running_loop().call_later(STOP_S, self._overdue, member, member.incarnation)

    def _overdue(self, member: Member, incarnation: int) -> None:
        if member.incarnation == incarnation:
            self._kill(member)

    def _install(self, wanted: Topology) -> None:
        """Take over what a topology says of processes and nodes. Those that it has no more were stopped."""
        before, self._members = self._members, {}
        for process in wanted.processes:
            member = self._members[process.name] = (
                before.pop(process.name) if process.name in before else Member(process)
            )
            member.install(process)
        for name, member in before.items():  # kept: neither its number nor its incarnations may be used again
            self._members[name] = member
            member.install(Process(name, member.process.number, member.process.transport, ()))
            member.gone = REMOVED
        self._topology = wanted
        write_json(self._home.run_folder(self.id) / "run.json", wanted)

    # --- processes
    async def _until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _missing(self, names: Iterable[str]) -> dict[str, str]:
        """Which of these are not ready yet, and what they wait for."""
        missing = {}
        ready = {name for name, node in self.nodes.items() if node.state == "ready"}
        for name, member in self._homes(names).items():
            if name not in ready:
                node = member.nodes[name]
                links = sorted({each for targets in node.instance.links.values() for each in targets} - ready)
                why = f"its links {', '.join(links)}" if links else "its on_start"
                missing[name] = f"{name} waits for {why} ({member.because or node.state})"
        return missing

    def _launch(self, member: Member) -> None:
        member.begin()
        member.launching = asyncio.get_running_loop().create_task(self._start_process(member))

    async def _start_process(self, member: Member) -> None:
        process, incarnation = member.process, member.incarnation
        folder = self._home.run_folder(self.id)
        stem = file_stem(process.name)
        assignment = Assignment(
            topology=self._topology.name,
            cluster=self._home.cluster(),
            run=self.id,
            process=process.name,
            number=process.number,
            incarnation=incarnation,
            transport=process.transport,
            socket=str(self._home.sockets / f"{process.number}.{incarnation}"),
            state=str(self._home.state),
            log=str(folder / f"{stem}.jsonl"),
            recording=str(folder / f"{stem}.{incarnation}.rec"),
            instances=member.wanted(),
            peer_timeout_ns=self._topology.peer_timeout_ns,
            key=self._key,
            faults=member.inside(),
        )
        try:
            member.handle = await self._engine.start(
                assignment,
                folder / f"{stem}.out",
                lambda report: self._on_report(member, incarnation, report),
                lambda code: self._on_exit(member, incarnation, code),
            )
            if member.inside() != assignment.faults:
                self._faults.renew(member, "something was changed while it was being started")
        except OSError as problem:  # no memory, no handles, no Python
            self._over(member, f"it cannot be started: {problem}", clean=False)
        finally:
            member.launching = None
            self._changed.set()

    def _forget_timer(self, member: Member) -> None:
        if member.timer is not None:
            member.timer.cancel()
            member.timer = None

    async def _call_off(self, member: Member) -> None:
        """Let no new incarnation begin."""
        self._forget_timer(member)
        if member.launching is not None:
            member.launching.cancel()
            await asyncio.wait((member.launching,))

    def _on_report(self, member: Member, incarnation: int, report: Report) -> None:
        if incarnation != member.incarnation:
            return
        if report.event == "bound":
            member.endpoint = report.endpoint
            if self._version:  # a restart: the others learn where it is now
                self._publish()
        elif report.event == "failed":
            member.because = report.because
        elif report.event == "faults":
            member.did = report.number
        elif report.node in member.nodes:
            self._on_life(member, report)
        self._changed.set()

    def _on_life(self, member: Member, report: Report) -> None:
        before = member.nodes[report.node].state
        member.life(report.node, report.state, report.because)
        if not self._version or self._stopping or member.ending is not None:
            return
        if (before, report.state) != ("created", "ready"):
            # Not logged here: the process has said more of it in its own log.
            self._tell("node", report.node, report.state, report.because)
        if report.state == "stopped" and member.at_rest():
            self._publish()  # its process goes on without it

    def _on_exit(self, member: Member, incarnation: int, code: int) -> None:
        if incarnation == member.incarnation:
            how = f"killed by signal {-code}" if code < 0 else f"exit {code}"
            self._over(member, f"{member.because} ({how})" if member.because else how, clean=code == 0)
        self._changed.set()

    def _over(self, member: Member, because: str, *, clean: bool) -> None:
        """An incarnation has ended. What follows is decided by whoever told it to end, or else by the policy."""
        name, ending = member.process.name, member.ending
        member.end(because)
        if self._stopping:
            return
        if ending is None:
            self._decide(member, because, clean=clean)
        else:
            member.gone = None if member.returns else ending
            self.say("process", name, "stopped", ending)
        if self._version:
            self._publish()

    def _decide(self, member: Member, because: str, *, clean: bool) -> None:
        loop, name = asyncio.get_running_loop(), member.process.name
        error = None if clean else StartFailed(because)
        decision = member.restarts.decide(member.policy(), error, int(loop.time() * 1e9), self._rng)
        # What has never worked is not tried again: whoever waits for it wants to know why.
        starting = not (self._ready and member.proven)
        if decision.directive == "restart" and not starting:
            self.say("process", name, "restarting", because, delay_ns=decision.delay_ns)
            member.timer = loop.call_later(decision.delay_ns / 1e9, self._launch, member)
        else:
            member.gone = because if starting else f"{because}; {decision.because}"
            self.say("process", name, "gone", member.gone)

    def _publish(self) -> None:
        self._version += 1
        entries: dict[str, BookEntry] = {}
        nodes: dict[str, str] = {}
        stopped: dict[str, str] = {}
        for name, member in self._members.items():
            if not member.incarnation:
                continue  # it is new, and about to be started
            pid = None if member.handle is None else member.handle.pid
            entries[name] = BookEntry(member.process.number, member.incarnation, member.endpoint, member.gone, pid)
            nodes |= dict.fromkeys(member.nodes, name)
            stopped |= member.stopped()
        timeout_ns = self._topology.peer_timeout_ns
        book = Book(self._version, self.id, nodes, entries, stopped, self._key, timeout_ns)
        write_json(self._home.run_folder(self.id) / "book.json", book)
        for member in self._members.values():
            if member.handle is not None:
                member.handle.push(book)

    def say(self, event: str, name: str, state: str, because: str, **fields: int) -> None:
        """Tell whoever watches the terminal, and whoever reads the logs."""
        self._tell(event, name, state, because)
        head = {"level": "warning", "hlc": hlc.from_wall(time.time_ns()), "node": name, "process": LAUNCHER}
        self._lines.add(head | {"event": f"{event}_{state}", "because": because} | fields)
        self._lines.flush()


def file_stem(process: str) -> str:
    """The stem of a process's files: `store/0` gives `store.0`."""
    return process.replace("/", ".")


def _both(first: Outcome, second: Outcome) -> Outcome:
    return Outcome({}, first.failed | second.failed, first.late or second.late)


def _with_words(outcome: Outcome, words: Mapping[str, str]) -> Outcome:
    """Say of each node that did not fail what became of it."""
    outcome.done = {name: word for name, word in words.items() if name not in outcome.failed}
    return outcome


def _killed(name: str, member: Member) -> str:
    others = ", ".join(each for each, node in member.nodes.items() if each != name and node.runs)
    return f"killed, and with it {others} in process {member.process.name}" if others else "killed"


def _not_killed(member: Member) -> str:
    if member.gone is not None:
        return f"it does not run: {member.gone}"
    return "it does not run: its process is about to be started again"
