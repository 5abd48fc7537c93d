"""A whole file system in the virtual world, and users who do what a test says, each with a client of his own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from nodes.files.client import FilesClient
from nodes.files.invariants import is_whole
from nodes.files.metadata import Metadata
from nodes.files.server import FileServer
from tests.nodes.files.power import PowerDisk
from zactor.actor import Actor, on
from zactor.message import Message, Ref
from zactor.sim.virtual import Virtual

A = TypeVar("A")

ASK_S = 3600.0

Act = Callable[[FilesClient, Actor], Awaitable[Any]]
"""What a user does, with his files and his self."""


class Do(Message[None]):
    """Do the act of that number."""

    number: int


class User(Actor):
    """Does what he is told, and notes what came of it."""

    metadata: Ref[Any]

    _files: FilesClient
    acts: dict[int, Act]
    found: dict[int, Any]

    def on_start(self) -> None:
        self._files = FilesClient(self, self.metadata)

    @on(interleave=True)
    async def do(self, message: Do) -> None:
        self.found[message.number] = await self.acts[message.number](self._files, self)
