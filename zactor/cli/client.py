"""A client of the running topology, for the verbs of the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from zactor.cli.common import find_running
from zactor.client import AsyncClient
from zactor.launchers.folders import Home
from zactor.topology.model import Topology


class TopologyClient(AsyncClient):
    """A client that knows the topology it talks to."""

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        self._of = home

    @property
    def topology(self) -> Topology:
        """The topology as its launcher has it."""
        return self._of.read_run(self.book.run)

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
    home, _ = find_running(topology, folder)
    async with TopologyClient(home) as client:
        yield client
