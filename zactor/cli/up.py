"""`up`: launches a topology, says what it does, and keeps it up.

Ctrl-C once stops everything in order, twice kills. SIGTERM is `down`. Detached, it is the same in a process of
its own, whose first lines go to the terminal until all nodes are ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import TextIO

from zactor.cli.common import FAILED, INTERRUPTED, OK, USAGE, shown, what_to_do
from zactor.cli.metrics import LOOPBACK, PATH, while_serving
from zactor.errors import UserError
from zactor.launchers.control import Control
from zactor.launchers.folders import AlreadyRunning, Home, command_name, file_of, write_json
from zactor.launchers.local import Local
from zactor.launchers.run import Run, StartFailed, file_stem
from zactor.live.host import Assignment, Host, Report, calm_allocator, calm_collector
from zactor.live.world import Book, BookEntry
from zactor.topology.model import Topology
from zactor.topology.placement import is_inline

Say = Callable[[str], None]


def run_up(topology: Topology, home: Home, *, detach: bool, startup_s: float) -> int:
    """Bring a topology up. Returns an exit code: when it is down again or, detached, when it is ready."""
    home.make()
    if detach:
        return _detached(topology, home, startup_s)
    return _attached(topology, home, startup_s, _say, lambda _code: None)


def _say(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read it is gone, as with `up | head`; the topology goes on, and its log has the rest.
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())


def _attached(topology: Topology, home: Home, startup_s: float, say: Say, ready: Callable[[int], None]) -> int:
    run = home.new_run()
    try:
        home.acquire(run, file_of(topology))
    except AlreadyRunning:  # somebody was faster
        shutil.rmtree(home.run_folder(run))
        raise
    try:
        say(f"{topology.name}: run {run}")
        say(f"  state  {shown(home.state)}")
        say(f"  logs   {shown(home.run_folder(run))}")
        if topology.metrics is not None:
            say(f"  metrics  http://{LOOPBACK}:{topology.metrics}{PATH}")
        serve = _serve_inline if is_inline(topology) else _serve
        work = partial(serve, topology, home, run, startup_s, say, ready)
        return asyncio.run(while_serving(topology.metrics, home, work))
    finally:
        home.release()


def _banner(topology: Topology, pids: dict[str, int | None], started_s: float, say: Say) -> None:
    rows = [(i.name, i.kind, p.name) for p in topology.processes for i in p.instances]
    wide = max(len(name) for name, _, _ in rows)
    wide_kind = max(len(kind) for _, kind, _ in rows)
    for name, kind, process in rows:
        where = f"pid {pids.get(process)}" + ("" if process == name else f", process {process}")
        say(f"  {name.ljust(wide)}  {kind.ljust(wide_kind)}  {where}")
    count = len(rows)
    say(f"ready: {count} {'node' if count == 1 else 'nodes'} in {time.monotonic() - started_s:.2f} s")
    if topology.try_:
        say("try:")
        for command in topology.try_:
            words = command.split(" ", 1)
            say("  " + " ".join([command_name() if words[0] == "zactor" else words[0], *words[1:]]))


def _signals(loop: asyncio.AbstractEventLoop, kill: Callable[[], None]) -> tuple[asyncio.Event, list[int]]:
    """Set when Ctrl-C or SIGTERM comes; another Ctrl-C after that kills."""
    asked = asyncio.Event()
    caught: list[int] = []

    def on_signal(number: int) -> None:
        caught.append(number)
        if len(caught) > 1:
            kill()
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal, number)
    return asked, caught


async def _first(*events: asyncio.Task[object]) -> None:
    await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
    for event in events:
        event.cancel()


async def _serve(
    topology: Topology, home: Home, run: str, startup_s: float, say: Say, ready: Callable[[int], None]
) -> int:
    started_s = time.monotonic()
    loop = asyncio.get_running_loop()

    def tell(event: str, name: str, state: str, because: str) -> None:
        say(f"{time.strftime('%H:%M:%S')} {event} {name} {state}: {because}")

    processes = Run(topology, home, run, Local(), tell)
    control = Control(processes, home)
    asked, caught = _signals(loop, processes.kill)
    code = OK
    await control.open()
    start = loop.create_task(processes.start(startup_s))
    try:
        wait: asyncio.Task[object] = loop.create_task(asked.wait())
        await asyncio.wait((start, wait), return_when=asyncio.FIRST_COMPLETED)
        wait.cancel()
        if start.done():
            start.result()
            _banner(topology, processes.pids(), started_s, say)
            ready(OK)
            ended: asyncio.Task[object] = loop.create_task(processes.ended())
            await _first(loop.create_task(asked.wait()), ended)
            if not asked.is_set():
                say(f"{topology.name}: nothing is left running")
                code = FAILED
    except StartFailed as problem:
        sys.stderr.write(f"zactor: {topology.name} did not come up\n")
        for line in str(problem).splitlines():
            sys.stderr.write(f"  {line}\n")
        sys.stderr.write(f"  logs: {shown(home.run_folder(run))}\n")
        code = FAILED
    finally:
        start.cancel()
        with contextlib.suppress(asyncio.CancelledError, StartFailed):
            await start
        if caught:
            say(f"{topology.name}: stopping")
        await control.close()
        await processes.stop()
    return INTERRUPTED if caught[:1] == [signal.SIGINT] else code


async def _serve_inline(
    topology: Topology, home: Home, run: str, startup_s: float, say: Say, ready: Callable[[int], None]
) -> int:
    started_s = time.monotonic()
    process = topology.processes[0]
    folder = home.run_folder(run)
    last: dict[str, Report] = {}
    changed = asyncio.Event()

    def missing() -> list[str]:
        return [each.name for each in process.instances if each.name not in last or last[each.name].state != "ready"]

    def stopped() -> list[str]:
        return [f"{news.node}: {news.because}" for news in last.values() if news.state == "stopped"]

    def report(news: Report) -> None:
        last[news.node] = news
        if news.state not in ("ready", "stopped"):
            say(f"{time.strftime('%H:%M:%S')} node {news.node} {news.state}: {news.because}")
        changed.set()

    assignment = Assignment(
        topology=topology.name,
        cluster=home.cluster(),
        run=run,
        process=process.name,
        number=1,
        incarnation=1,
        transport=process.transport,
        socket=str(home.sockets / "1.1"),
        state=str(home.state),
        log=str(folder / f"{file_stem(process.name)}.jsonl"),
        recording=str(folder / f"{file_stem(process.name)}.1.rec"),
        instances=process.instances,
        peer_timeout_ns=topology.peer_timeout_ns,
        key=secrets.token_hex(16),
    )
    host = Host(assignment, report)
    calm_allocator()
    calm_collector()
    asked, caught = _signals(asyncio.get_running_loop(), lambda: os._exit(INTERRUPTED))
    entry = BookEntry(1, 1, host.bind(), None, os.getpid())
    nodes = {instance.name: process.name for instance in process.instances}
    book = Book(1, run, nodes, {process.name: entry}, key=assignment.key, peer_timeout_ns=topology.peer_timeout_ns)
    write_json(folder / "run.json", topology)
    write_json(folder / "book.json", book)
    loop = asyncio.get_running_loop()
    failed: asyncio.Task[object] = loop.create_task(host.ended())
    waiting: asyncio.Task[object] = loop.create_task(asked.wait())
    try:
        host.use_book(book)
        async with asyncio.timeout(startup_s):
            while missing() and not (failed.done() or waiting.done() or stopped()):
                changed.clear()
                change: asyncio.Task[object] = loop.create_task(changed.wait())
                await asyncio.wait((change, failed, waiting), return_when=asyncio.FIRST_COMPLETED)
                change.cancel()
        if not missing():
            _banner(topology, {process.name: os.getpid()}, started_s, say)
            ready(OK)
        elif stopped() and not waiting.done():
            raise StartFailed("; ".join(stopped()))
        await _first(failed, waiting)
    except StartFailed as problem:
        host.failure = host.failure or f"{topology.name} did not come up: {problem}"
    except TimeoutError:
        host.failure = f"not ready after {startup_s:g} s: {', '.join(missing())}"
    finally:
        await host.stop()
    if host.failure is not None:
        sys.stderr.write(f"zactor: {host.failure}\n")
        return FAILED
    return INTERRUPTED if caught[:1] == [signal.SIGINT] else OK


def _detached(topology: Topology, home: Home, startup_s: float) -> int:
    """The same in a session of its own. Its lines come through a pipe until it says how it went."""
    here, there = os.pipe()
    child = os.fork()
    if child > 0:
        os.close(there)
        return _relay(here, child)
    os.close(here)
    os.setsid()
    code = FAILED
    out = os.fdopen(there, "w", buffering=1)
    try:
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        log = open(home.folder / "up.out", "a", buffering=1)  # noqa: SIM115 - it lives as long as the process
        terminal: list[object] = [out]

        def say(line: str) -> None:
            print(line, file=out if terminal else log)

        def ready(result: int) -> None:
            # From here on nobody reads: the terminal has its prompt back.
            print(f"\0{result}", file=out)
            terminal.clear()
            out.close()
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)

        code = _attached(topology, home, startup_s, say, ready)
    except AlreadyRunning as problem:
        sys.stderr.write(f"zactor: {what_to_do(problem)}\n")
        code = FAILED
    except UserError as problem:
        sys.stderr.write(f"zactor: {problem}\n")
        code = USAGE
    except Exception:
        traceback.print_exc()  # nobody above us will: this process ends here
    finally:
        with contextlib.suppress(ValueError, OSError):
            print(f"\0{code}", file=out)
        os._exit(code)


def _relay(here: int, child: int) -> int:
    with os.fdopen(here) as lines:
        while True:
            try:
                return _show(lines)
            except KeyboardInterrupt:  # it has no terminal that would tell it
                os.kill(child, signal.SIGINT)


def _show(lines: TextIO) -> int:
    for line in lines:
        if line.startswith("\0"):
            return int(line[1:])
        _say(line.rstrip("\n"))
    return FAILED
