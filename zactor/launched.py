"""A topology that is launched by a program, and goes when the program has done with it:

    with zactor.launch("greeter.yaml") as run:
        run.ask("greeter", Greet(name="x"))

The launcher is the one of `up`, on a loop in a thread of its own; its processes end at the latest when the program
does. To all others it is a running topology like any other: `ps`, `stop` or a second client find it, and `down` ends it
without ending the program. In a notebook, or wherever a loop runs, it is `async with`, which works at the top level of
a cell; to keep it for later cells, enter it with a `contextlib.AsyncExitStack`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from zactor.client import AsyncClient, Client
from zactor.errors import UserError
from zactor.launchers.folders import AlreadyRunning, Home, command_name, home_of
from zactor.launchers.launcher import Launcher, occupied
from zactor.launchers.run import STARTUP_S, StartFailed
from zactor.topology import build, model, read

_log = logging.getLogger("zactor.launch")
_reading = threading.Lock()
"""Reading imports kinds: of two threads, the second must not see a module that the first is still making."""

_QUIET = frozenset(["created", "linked", "starting", "ready"])
"""What a node may become that nobody has to look after."""


def launch(
    topology: str | os.PathLike[str] | build.Topology,
    *,
    inline: bool = False,
    overrides: Sequence[str] = (),
    folder: str | os.PathLike[str] | None = None,
    timeout_s: float = STARTUP_S,
) -> Launched:
    """A topology to be launched by `with`, which gives a `Client`, or by `async with`, which gives an `AsyncClient`.

    It is a file, or a `zactor.Topology` made in Python. `inline` runs all nodes in a thread of this program, for a
    debugger, and lets kinds be classes that only this program has. `overrides` are words such as
    `greeter.salutation=Hi`, as `--set` takes them. `folder` is where state and runs are kept; default: `.zactor`
    beside the file, or in the current folder. `timeout_s` is for all nodes to be ready.

    What restarts or is given up is logged as a warning of `zactor.launch`. Raises `UserError` with all that is wrong
    with the topology; and when it is entered `StartFailed`, and `AlreadyRunning` for one that somebody else runs.
    """
    if isinstance(overrides, str):
        raise UserError(f"overrides is a list of words, such as overrides=[{overrides!r}]")
    with _reading:
        if isinstance(topology, build.Topology):
            checked = build.load(topology, inline=inline, overrides=overrides)
        else:
            checked = read.load(Path(topology), inline=inline, overrides=overrides)
    return Launched(checked, home_of(checked, None if folder is None else Path(folder)), timeout_s)


class Launched:
    """What `launch` gives. It can be entered once."""

    def __init__(self, topology: model.Topology, home: Home, timeout_s: float) -> None:
        self._topology = topology
        self._home = home
        self._timeout_s = timeout_s
        self._pid = 0
        self._asked = asyncio.Event()  # used in the thread alone
        self._thread: threading.Thread | None = None
        # A bare lock, held until it is known how the start went: what `threading.Event` waits by may be broken by a
        # Ctrl-C at a bad moment.
        self._starting = threading.Lock()
        self._starting.acquire()
        self._is_settled = False
        self._problem: BaseException | None = None
        self._client: Client | None = None
        self._async_client: AsyncClient | None = None

    def __enter__(self) -> Client:
        _check_no_loop()
        thread = self._prepare()
        try:
            thread.start()
            with self._starting:
                self._raise_problem()
            self._client = Client(self._home)
        except BaseException:
            self._ask()
            self._join()
            raise
        return self._client

    def __exit__(self, *_error: object) -> None:
        assert self._client is not None, "it was entered"
        if self._pid != os.getpid():
            return  # after a fork: all of it is its parent's
        try:
            self._client.close()
        finally:
            self._ask()
            self._join()
        self._raise_problem()

    async def __aenter__(self) -> AsyncClient:
        thread = self._prepare()
        try:
            thread.start()
            await asyncio.to_thread(self._starting.acquire)
            self._raise_problem()
            self._async_client = AsyncClient(self._home)
            return await self._async_client.__aenter__()
        except BaseException:
            self._ask()
            await asyncio.to_thread(self._join)
            raise

    async def __aexit__(self, *_error: object) -> None:
        assert self._async_client is not None, "it was entered"
        if self._pid != os.getpid():
            return
        try:
            await self._async_client.close()
        finally:
            self._ask()
            await asyncio.to_thread(self._join)
        self._raise_problem()

    # --- in the threads of the program
    def _prepare(self) -> threading.Thread:
        if self._thread is not None:
            raise RuntimeError("this was entered before; call zactor.launch again")
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name="zactor.launch", daemon=True)
        return self._thread

    def _ask(self) -> None:
        """Want an end. The thread comes to it by itself, whether or not somebody waits."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended
            self._loop.call_soon_threadsafe(self._asked.set)

    def _join(self) -> None:
        if self._thread is not None and self._thread.ident is not None:  # else a Ctrl-C came while it was started
            self._thread.join()

    def _raise_problem(self) -> None:
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    # --- in its own thread
    def _work(self) -> None:
        # As long as there are processes: a process dies with the very thread that has started it (prctl(2)).
        try:
            with (
                asyncio.Runner(loop_factory=lambda: self._loop) as runner,
                occupied(self._home, self._topology, is_program=True) as run,
            ):
                runner.run(self._serve(run))
        except AlreadyRunning as problem:
            self._problem = _explained(problem)
        except BaseException as problem:  # whoever waits for it gets it
            self._problem = problem
        finally:
            self._settle()

    async def _serve(self, run: str) -> None:
        launcher = Launcher(self._topology, self._home, run, _tell, self._asked)
        try:
            if await launcher.start(self._timeout_s):
                self._settle()
                # Even if nothing is left running: asks then say why, and nodes can be started again.
                await self._asked.wait()
        except StartFailed as problem:
            raise StartFailed(problem.explained(self._topology.name, str(self._home.run_folder(run)))) from None
        finally:
            await launcher.stop()

    def _settle(self) -> None:
        """It is known how the start went."""
        if not self._is_settled:
            self._is_settled = True
            self._starting.release()


def _tell(event: str, name: str, state: str, because: str) -> None:
    level = logging.INFO if state in _QUIET else logging.WARNING
    _log.log(level, "%s %s %s: %s", event, name, state, because)


def _explained(problem: AlreadyRunning) -> AlreadyRunning:
    """The same with what can be done about it."""
    name = problem.name
    mend = f"; talk to it with zactor.Client({name!r}), or stop it with: {command_name()} down -t {name}"
    return AlreadyRunning(name, problem.lock, mend)


def _check_no_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "`with` waits, and would hold up the loop that runs here, as it does in a notebook; "
        "use: async with zactor.launch(...) as run"
    )
