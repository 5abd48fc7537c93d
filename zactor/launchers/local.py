"""Processes on this computer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from zactor.live.faults import ProcessFault
from zactor.live.host import Assignment, Command, Report, encode_line
from zactor.live.world import Book
from zactor.topology.model import Instance

OnReport = Callable[[Report], None]
OnExit = Callable[[int], None]
"""What an engine calls: with each report of a process, and with its exit code."""


class Handle(Protocol):
    """A started process."""

    pid: int

    def push(self, book: Book) -> None:
        """Send it a book."""

    def start_node(self, instance: Instance) -> None:
        """Let it run one more node."""

    def stop_node(self, name: str, because: str) -> None:
        """Let it stop one of its nodes."""

    def use_faults(self, faults: tuple[ProcessFault, ...], number: int, because: str) -> None:
        """Let it have these faults and no others; it reports the number when it has."""

    def pause(self) -> None:
        """Let it stand still. Raises `UserError` where it cannot do so alone."""

    def resume(self) -> None:
        """Let it go on."""

    def stop(self, because: str) -> None:
        """Ask it to stop."""

    def kill(self) -> None:
        """End it now."""


class Engine(Protocol):
    """What starts processes somewhere."""

    async def start(self, assignment: Assignment, output: Path, on_report: OnReport, on_exit: OnExit) -> Handle:
        """Start a process; its standard error goes to `output`."""


class Local:
    """This computer. Children live in sessions of their own, so only the launcher hears Ctrl-C."""

    async def start(self, assignment: Assignment, output: Path, on_report: OnReport, on_exit: OnExit) -> Handle:
        """Start a Python that runs `zactor.live.main`."""
        with output.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "zactor.live.main",
                assignment.process,
                str(os.getpid()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        assert process.stdin is not None
        process.stdin.write(encode_line(assignment))
        return Child(process, on_report, on_exit)


class Child:
    """A child process and the task that listens to it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        on_report: OnReport,
        on_exit: OnExit,
    ) -> None:
        self.pid = process.pid
        self._process = process
        self._on_report = on_report
        self._on_exit = on_exit
        self._listener = asyncio.get_running_loop().create_task(self._listen())

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                self._on_report(msgspec.json.decode(line, type=Report))
        finally:  # whatever it wrote, its end must be noticed
            self._on_exit(await self._process.wait())

    def push(self, book: Book) -> None:
        """Send it a book."""
        self._write(Command(book=book))

    def start_node(self, instance: Instance) -> None:
        """Let it run one more node."""
        self._write(Command(start_node=instance))

    def stop_node(self, name: str, because: str) -> None:
        """Let it stop one of its nodes."""
        self._write(Command(stop_node=name, because=because))

    def use_faults(self, faults: tuple[ProcessFault, ...], number: int, because: str) -> None:
        """Let it have these faults and no others; it reports the number when it has."""
        self._write(Command(faults=faults, number=number, because=because))

    def pause(self) -> None:
        """Let it stand still."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def stop(self, because: str) -> None:
        """Ask it to stop."""
        self._write(Command(stop=because))

    def _write(self, command: Command) -> None:
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(encode_line(command))

    def kill(self) -> None:
        """End it now."""
        self._signal(signal.SIGKILL)
