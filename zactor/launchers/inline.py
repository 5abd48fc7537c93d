"""Processes that are none: their nodes run in the launcher's own, for a debugger, and for kinds that only it knows.

To a run it is an engine like any other, so what is started, stopped and restarted is so here, too. Two things are
different: code is never loaded anew, and an actor that hangs holds up its launcher.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from zactor.errors import UserError
from zactor.launchers.local import Handle, OnExit, OnReport
from zactor.live.faults import ProcessFault
from zactor.live.host import Assignment, Host, Report
from zactor.live.main import EXIT_ENDED, EXIT_USAGE
from zactor.live.world import Book
from zactor.topology.model import Instance


class Inline:
    """The launcher's own process and loop."""

    async def start(self, assignment: Assignment, output: Path, on_report: OnReport, on_exit: OnExit) -> Handle:
        """Run the nodes here; what they print goes where the launcher prints."""
        del output
        return Guest(assignment, on_report, on_exit)


class Guest:
    """The nodes of one process, and the task that looks after them.

    What it reports arrives in a later pass of the loop, as if it came from elsewhere: an actor may be in the middle
    of something, and the run does not have this handle yet when the first report is made.
    """

    def __init__(self, assignment: Assignment, on_report: OnReport, on_exit: OnExit) -> None:
        self.pid = os.getpid()
        self._on_report = on_report
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._told = asyncio.Event()
        self._host: Host | None = None
        try:
            self._host = Host(assignment, self._report)
            self._report(Report("bound", endpoint=self._host.bind()))
        except (UserError, TypeError, OSError) as problem:
            self._report(Report("failed", because=str(problem)))
            self._told.set()
        self._task = self._loop.create_task(self._live())
        self._task.add_done_callback(self._ended)

    def _report(self, report: Report) -> None:
        self._loop.call_soon(self._on_report, report)

    async def _live(self) -> int:
        """Until it has ended or is told to. Returns what a process would exit with."""
        host = self._host
        if host is None:
            return EXIT_USAGE
        waits = [self._loop.create_task(host.ended()), self._loop.create_task(self._told.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            await host.stop()
        except asyncio.CancelledError:
            await host.close()
            raise
        finally:
            for wait in waits:
                wait.cancel()
        if host.failure is not None:
            self._report(Report("failed", because=host.failure))
            return EXIT_ENDED
        return 0

    def _ended(self, task: asyncio.Task[int]) -> None:
        if task.cancelled():
            self._on_exit(-signal.SIGKILL)
        elif (problem := task.exception()) is not None:
            self._on_report(Report("failed", because=f"zactor itself failed: {problem!r}"))
            self._on_exit(EXIT_ENDED)
        else:
            self._on_exit(task.result())

    def push(self, book: Book) -> None:
        """Send it a book."""
        if self._host is not None:
            self._host.use_book(book)

    def start_node(self, instance: Instance) -> None:
        """Let it run one more node."""
        if self._host is not None:
            self._host.start_node(instance)

    def stop_node(self, name: str, because: str) -> None:
        """Let it stop one of its nodes."""
        if self._host is not None:
            self._host.stop_node(name, because)

    def use_faults(self, faults: tuple[ProcessFault, ...], number: int, because: str) -> None:
        """Let it have these faults and no others; it reports the number when it has."""
        if self._host is not None:
            self._host.use_faults(faults, number, because)

    def pause(self) -> None:
        """It cannot stand still alone."""
        raise UserError("it runs inline: its launcher and all others would stand still with it")

    def resume(self) -> None:
        """Let it go on."""

    def stop(self, because: str) -> None:
        """Ask it to stop."""
        if self._host is not None:
            self._host.because = because
        self._told.set()

    def kill(self) -> None:
        """End it now: nothing more is sent, and nobody is told goodbye."""
        self._task.cancel()
