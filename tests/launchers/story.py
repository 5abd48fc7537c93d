"""A run over an engine that starts nothing: the test says when its processes report, fail and end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from zactor.launchers.folders import Home
from zactor.launchers.local import Handle, OnExit, OnReport
from zactor.launchers.member import Outcome
from zactor.launchers.run import Run
from zactor.live.faults import ProcessFault
from zactor.live.host import Assignment, Report
from zactor.live.world import Book
from zactor.topology.model import Instance, Process, Restart, Topology

QUICK = Restart(backoff_min_ns=1, backoff_max_ns=1, limit_count=2)
PATIENCE_S = 20.0
"""For what a thread does meanwhile; a busy machine is no failure."""

SLOW = Restart(backoff_min_ns=10**12, backoff_max_ns=10**12)


def life(node: str, state: str, because: str = "") -> Report:
    """What a process says of a node."""
    return Report("life", node=node, state=state, because=because)


class Started:
    """A process that only the test moves."""

    def __init__(
        self, assignment: Assignment, on_report: Callable[[Report], None], on_exit: Callable[[int], None], pid: int
    ) -> None:
        self.assignment = assignment
        self.pid = pid
        self.on_report = on_report
        self.on_exit = on_exit
        self.books: list[Book] = []
        self.commands: list[tuple[str, str]] = []
        self.stopped = self.killed = False
        self.stops = self.answers = True
        self.faults: list[tuple[tuple[ProcessFault, ...], str]] = []

    def push(self, book: Book) -> None:
        self.books.append(book)

    def start_node(self, instance: Instance) -> None:
        self.commands.append(("start", instance.name))
        asyncio.get_running_loop().call_soon(self.on_report, life(instance.name, "ready", "started"))

    def stop_node(self, name: str, because: str) -> None:
        self.commands.append(("stop", name))
        if self.stops:
            asyncio.get_running_loop().call_soon(self.on_report, life(name, "stopped", because))

    def use_faults(self, faults: tuple[ProcessFault, ...], number: int, because: str) -> None:
        self.faults.append((faults, because))
        if self.answers:
            asyncio.get_running_loop().call_soon(self.on_report, Report("faults", number=number))

    def pause(self) -> None:
        self.commands.append(("pause", ""))

    def resume(self) -> None:
        self.commands.append(("resume", ""))

    def stop(self, because: str) -> None:
        self.stopped = True
        if self.stops:
            asyncio.get_running_loop().call_soon(self.on_exit, 0)

    def kill(self) -> None:
        self.killed = True
        asyncio.get_running_loop().call_soon(self.on_exit, -9)

    def bind(self) -> None:
        name, incarnation = self.assignment.process, self.assignment.incarnation
        self.on_report(Report("bound", endpoint=f"ipc://{name}.{incarnation}"))

    def ready(self) -> None:
        for instance in self.assignment.instances:
            self.on_report(life(instance.name, "ready", "started"))


class Engine:
    """Remembers what it was asked to start."""

    def __init__(self) -> None:
        self.started: list[Started] = []
        self.broken = False

    async def start(self, assignment: Assignment, output: Path, on_report: OnReport, on_exit: OnExit) -> Handle:
        if self.broken:
            raise OSError("no room for another process")
        self.started.append(Started(assignment, on_report, on_exit, 100 + len(self.started)))
        return self.started[-1]

    def last(self, process: str) -> Started:
        return next(each for each in reversed(self.started) if each.assignment.process == process)


def instance(name: str, restart: Restart | None = QUICK, **links: tuple[str, ...]) -> Instance:
    """A node without replicas."""
    return Instance(name, name.partition("/")[0], "hello.greeter", "/t", {}, links, restart)


def topology(*crews: Instance | tuple[Instance, ...], **given: Any) -> Topology:
    """Each crew in a process of its own, which has the name of its first node."""
    crews_only = [crew if isinstance(crew, tuple) else (crew,) for crew in crews]
    processes = tuple(Process(crew[0].name, number, "ipc", crew) for number, crew in enumerate(crews_only, 1))
    return Topology("t", "t.yaml", "/t", {}, processes, (), **given)


def pair(restart: Restart | None = QUICK) -> Topology:
    """Two processes, `a` and `b`; `b` links to `a`."""
    return topology(instance("a", restart), instance("b", restart, greeter=("a",)))


class Story:
    """A run of a topology: of `pair`, unless there is another."""

    def __init__(self, folder: Path, wanted: Topology | None = None) -> None:
        self.home = Home(folder / "t", "t")
        self.home.make()
        self.run_id = self.home.new_run()
        self.engine = Engine()
        self.told: list[tuple[str, ...]] = []
        self.run = Run(wanted or pair(), self.home, self.run_id, self.engine, lambda *news: self.told.append(news))

    async def turns(self, until: Callable[[], object]) -> None:
        """Let the loop go on until something is so."""
        async with asyncio.timeout(PATIENCE_S):
            while not until():  # noqa: ASYNC110 - whatever happens, happens in a turn of the loop
                await asyncio.sleep(0)

    async def up(self) -> None:
        """Bring all up."""
        start = asyncio.ensure_future(self.run.start())
        await self.turns(lambda: len(self.engine.started) == len(self.run.topology.processes))
        for process in self.engine.started:
            process.bind()
        await self.turns(lambda: all(process.books for process in self.engine.started))
        for process in self.engine.started:
            process.ready()
        await start

    async def during(self, operation: Coroutine[Any, Any, Outcome]) -> Outcome:
        """An operation, while whatever is started for it binds and gets ready."""
        known = len(self.engine.started)
        task = asyncio.ensure_future(operation)

        def finished() -> bool:
            nonlocal known
            new, known = self.engine.started[known:], len(self.engine.started)
            for process in new:
                process.bind()
                process.ready()
            return task.done()

        await self.turns(finished)
        return task.result()

    def book(self) -> Book:
        """The book as clients find it."""
        return msgspec.json.decode((self.home.run_folder(self.run_id) / "book.json").read_bytes(), type=Book)
