"""The main of one process: `python -m zactor.live.main NAME PARENT`, started by a launcher.

Standard input brings the assignment, then commands, a JSON object a line; its end means that
the launcher is gone, and ends the process. Standard output carries reports; what actors print goes to
standard error, which the launcher keeps in the run's folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import Any

import msgspec

from zactor.errors import UserError
from zactor.live.host import Assignment, Command, Host, Report, calm_allocator, calm_collector, die_with_parent

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_ENDED = 70  # sysexits' EX_SOFTWARE: a failure went beyond the actors

GRACE_S = 2
"""After this long a process that was told to stop, and hangs, is ended by an alarm."""


_decode_command = msgspec.json.Decoder(Command).decode


class Pipes:
    """Lines from standard input; reports to where standard output was."""

    def __init__(self) -> None:
        self._reports = os.dup(1)
        os.dup2(2, 1)
        # What is printed is there at once, and survives `kill -9`; to a file it would wait for 8 KiB.
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        self._rest = b""
        self._stopped = asyncio.Event()

    def report(self, report: Report) -> None:
        """Tell the launcher, if it still listens."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._reports, report.line())

    def first_line(self) -> bytes:
        """The assignment; nothing else happens before it is there."""
        while b"\n" not in self._rest:
            part = os.read(0, 1 << 16)
            if not part:
                sys.exit(EXIT_FAILED)
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def attend(self, host: Host) -> None:
        """Read commands as they come."""
        os.set_blocking(0, False)
        asyncio.get_running_loop().add_reader(0, self._read, host)
        self._handle(host)

    def _read(self, host: Host) -> None:
        try:
            part = os.read(0, 1 << 16)
        except BlockingIOError:
            return
        if not part:
            asyncio.get_running_loop().remove_reader(0)
            self._stopped.set()
            return
        self._rest += part
        self._handle(host)

    def _handle(self, host: Host) -> None:
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            command = _decode_command(line)
            if command.book is not None:
                host.use_book(command.book)
            if command.start_node is not None:
                host.start_node(command.start_node)
            if command.stop_node:
                host.stop_node(command.stop_node, command.because)
            if command.number:
                host.use_faults(command.faults, command.number, command.because)
            if command.stop:
                host.because = command.stop
                self._stopped.set()

    async def stopped(self) -> None:
        """Wait until the launcher wants the process to stop, or is gone."""
        await self._stopped.wait()


async def _serve(pipes: Pipes, assignment: Assignment) -> int:
    broken: list[BaseException] = []
    loop = asyncio.get_running_loop()
    try:
        host = Host(assignment, pipes.report)
        endpoint = host.bind()
    except (UserError, TypeError, OSError) as error:
        pipes.report(Report("failed", because=str(error)))
        return EXIT_USAGE

    def on_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        if "handle" not in context:
            return  # not a callback of the loop: a task or a transport of some library that nobody looked after
        # A mistake of zactor's own: what the kernel believes may be wrong, so the process ends.
        broken.append(context.get("exception") or RuntimeError(context["message"]))
        ended.cancel()

    calm_allocator()
    calm_collector()
    loop.set_exception_handler(on_error)
    pipes.report(Report("bound", endpoint=endpoint))
    ended = loop.create_task(host.ended())
    stopped = loop.create_task(pipes.stopped())
    pipes.attend(host)
    await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
    signal.alarm(GRACE_S)
    await host.stop()
    stopped.cancel()
    ended.cancel()
    failure = host.failure or (f"zactor itself failed: {broken[0]!r}" if broken else None)
    if failure is not None:
        pipes.report(Report("failed", because=failure))
        return EXIT_ENDED
    return 0


def main() -> int:
    """Run one process of a topology. Returns its exit code."""
    die_with_parent(int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher alone hears the terminal
    pipes = Pipes()
    assignment = msgspec.json.decode(pipes.first_line(), type=Assignment)
    return asyncio.run(_serve(pipes, assignment))


if __name__ == "__main__":
    sys.exit(main())
