"""`up`: launches a topology, says what it does, and keeps it up.

Ctrl-C once stops everything in order, twice kills. SIGTERM is `down`. Detached, it is the same in a process of
its own, whose first lines go to the terminal until all nodes are ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
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
from zactor.launchers.folders import AlreadyRunning, Home, command_name
from zactor.launchers.launcher import Launcher, occupied
from zactor.launchers.run import StartFailed
from zactor.live.host import calm_allocator, calm_collector
from zactor.topology.model import Topology
from zactor.topology.placement import is_inline

Say = Callable[[str], None]


def run_up(topology: Topology, home: Home, *, detach: bool, startup_s: float) -> int:
    """Bring a topology up. Returns an exit code: when it is down again or, detached, when it is ready."""
    if detach:
        home.make()
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
    with occupied(home, topology) as run:
        say(f"{topology.name}: run {run}")
        say(f"  state  {shown(home.state)}")
        say(f"  logs   {shown(home.run_folder(run))}")
        if topology.metrics is not None:
            say(f"  metrics  http://{LOOPBACK}:{topology.metrics}{PATH}")
        work = partial(_serve, topology, home, run, startup_s, say, ready)
        return asyncio.run(while_serving(topology.metrics, home, work))


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


def _signals(asked: asyncio.Event, kill: Callable[[], None]) -> list[int]:
    """Have Ctrl-C and SIGTERM ask for the end; another one after that kills. Returns those that come."""
    caught: list[int] = []

    def on_signal(number: int) -> None:
        caught.append(number)
        if len(caught) > 1:
            kill()
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    return caught


async def _serve(
    topology: Topology, home: Home, run: str, startup_s: float, say: Say, ready: Callable[[int], None]
) -> int:
    started_s = time.monotonic()

    def tell(event: str, name: str, state: str, because: str) -> None:
        say(f"{time.strftime('%H:%M:%S')} {event} {name} {state}: {because}")

    asked = asyncio.Event()
    launcher = Launcher(topology, home, run, tell, asked)
    if is_inline(topology):
        calm_allocator()
        calm_collector()
        caught = _signals(asked, lambda: os._exit(INTERRUPTED))  # what hangs here cannot be killed alone
    else:
        caught = _signals(asked, launcher.run.kill)
    code = OK
    try:
        if await launcher.start(startup_s):
            _banner(topology, launcher.run.pids(), started_s, say)
            ready(OK)
            if await launcher.ended():
                say(f"{topology.name}: nothing is left running")
                code = FAILED
    except StartFailed as problem:
        sys.stderr.write(f"zactor: {problem.explained(topology.name, shown(home.run_folder(run)))}\n")
        code = FAILED
    finally:
        if caught:
            say(f"{topology.name}: stopping")
        await launcher.stop()
    return INTERRUPTED if caught[:1] == [signal.SIGINT] else code


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
