"""A client of the running topology, for the verbs of the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from zactor.cli.common import find_running, loaded_run
from zactor.launchers.folders import Home
from zactor.live.client import Client
from zactor.topology.model import Topology


class TopologyClient(Client):
    """A client that knows the topology it talks to."""

    def __init__(self, home: Home, run: str, topology: Topology) -> None:
        super().__init__(home.run_folder(run) / "book.json")
        self.topology = topology

    def nodes(self, kind: str) -> list[str]:
        """The instances of a kind."""
        return [
            instance.name
            for process in self.topology.processes
            for instance in process.instances
            if instance.kind == kind
        ]


@asynccontextmanager
async def connect(topology: str | None, folder: Path | None) -> AsyncIterator[TopologyClient]:
    """Join the running topology that is meant. Raises `NotRunning`, or UserError when there are several."""
    home, lock = find_running(topology, folder)
    async with TopologyClient(home, lock.run, loaded_run(home, lock)) as client:
        yield client
