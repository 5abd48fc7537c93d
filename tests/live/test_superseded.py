"""A process that was given up while it hung finds, when it goes on, that another incarnation of it runs: it ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.running import PATIENCE_S, alive, eventually_in_loop, kind, stopped, word
from zactor.client import AsyncClient
from zactor.launchers.folders import Home
from zactor.launchers.local import Handle, Local, OnExit, OnReport
from zactor.launchers.run import Run
from zactor.live.host import Assignment
from zactor.topology import read
from zactor.topology.model import TRANSPORTS, Transport

pytestmark = pytest.mark.live

TOPOLOGY = f"""\
name: superseded
nodes:
  front: {{kind: {kind("Front")}, links: {{echo: echo}}}}
  echo: {{kind: {kind("Echo")}, restart: {{backoff: 10ms..10ms}}}}
processes:
  front: {{nodes: [front], transport: TRANSPORT}}
  echo: {{nodes: [echo], transport: TRANSPORT}}
"""


class OutOfReach:
    """An engine on which processes can be given up without an end being put to them, as on a host that is cut off."""

    def __init__(self) -> None:
        self._local = Local()
        self.given_up: set[int] = set()
        self.give_up: dict[str, Callable[[int], None]] = {}

    async def start(self, assignment: Assignment, output: Path, on_report: OnReport, on_exit: OnExit) -> Handle:
        """An `Engine`'s."""

        def ended(code: int) -> None:
            if handle.pid not in self.given_up:
                on_exit(code)

        handle = await self._local.start(assignment, output, on_report, ended)

        def give_up(code: int) -> None:
            self.given_up.add(handle.pid)
            on_exit(code)

        self.give_up[assignment.process] = give_up
        return handle


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_old_incarnation_that_goes_on_ends_itself(transport: Transport, tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(TOPOLOGY.replace("TRANSPORT", transport))
    topology = read.load(file)
    home = Home(tmp_path / "home", topology.name)
    home.make()
    run_id = home.new_run()
    home.acquire(run_id, topology.file)

    async def main() -> None:
        engine = OutOfReach()
        run = Run(topology, home, run_id, engine, lambda *_news: None)
        await run.start()
        async with AsyncClient(home.run_folder(run_id) / "book.json") as client:
            old = run.pids()["echo"]
            assert old is not None
            assert await client.ask("front", word("Pid")()) == old
            os.kill(old, signal.SIGSTOP)
            await eventually_in_loop(lambda: stopped(old))

            engine.give_up["echo"](-signal.SIGKILL)
            await eventually_in_loop(lambda: run.pids()["echo"] not in (None, old))
            await eventually_in_loop(lambda: client.book.processes["echo"].endpoint is not None)
            os.kill(old, signal.SIGCONT)
            await eventually_in_loop(lambda: not alive(old))

            for node in ("echo", "front"):
                assert await client.ask(node, word("Pid")(), PATIENCE_S) == run.pids()["echo"]
        await run.stop()
        home.release()

    asyncio.run(main())
