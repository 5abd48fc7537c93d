"""A client of the store of a running topology, for the verbs of the command line, and for programs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from zactor.client import AsyncClient
from zactor.launchers.folders import Home
from zactor.message import Ref

from .client import KvClient

MACHINE = "kv.store"


class KvDoor(AsyncClient):
    """A client of a topology that knows which of its nodes host a store."""

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        self._of = home

    def replicas(self, node: str | None = None) -> list[Ref[object]]:
        """The replicas of a store; None: of the only one. Raises `UserError`."""
        names = self._of.replicas(
            self.book.run,
            "store",
            f"with the setting machine: {MACHINE}",
            lambda each: each.settings.get("machine") == MACHINE,
            node,
        )
        return [self.ref(name) for name in names]


@asynccontextmanager
async def connect(
    topology: str | os.PathLike[str] | None = None, node: str | None = None, give_up_s: float = 10.0
) -> AsyncIterator[KvClient]:
    """The store of a running topology, by its name or file; None: of the only one that runs.

    Raises `NotRunning`, and `UserError` when it is not clear which store is meant.
    """
    from zactor.launchers.folders import find_running

    home, _ = find_running(None if topology is None else os.fspath(topology), None, "its name or file")
    async with KvDoor(home) as door:
        client = KvClient(door, door.replicas(node), give_up_s)
        try:
            yield client
        finally:
            await client.close()
