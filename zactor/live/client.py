"""A program outside that talks to a running topology: it asks and tells nodes by name.

It binds nothing: what it is answered comes back by the connections it opened.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from zactor.actor import Actor
from zactor.cell import Wait
from zactor.errors import ActorStopped, UserError
from zactor.live.world import Book, LiveWorld
from zactor.message import CLIENT_NUMBER, INCARNATION_BITS, SEQUENCE_BITS, Inspect, Message, Ref

A = TypeVar("A")

BOOK_LOOK_S = 0.1


class _Outside(Actor):
    """Stands for the program in its kernel."""


class Client:
    """An async context manager. `book` is the file in which the launcher keeps where every node lives."""

    def __init__(self, book: Path) -> None:
        self._path = book
        self._changed = book.stat().st_mtime_ns  # before it is read: what changes meanwhile is read again
        self._book = self._read()
        self._futures: set[asyncio.Future[Any]] = set()
        name = f"@{secrets.token_hex(6)}"
        self._world = LiveWorld(
            name,
            number=CLIENT_NUMBER,
            incarnation=secrets.randbits(INCARNATION_BITS),
            run=self._book.run,
            first_sequence=secrets.randbits(SEQUENCE_BITS - 1),
        )
        self._kernel = self._world.kernel
        self._actor = self._kernel.life.spawn(_Outside, name).cell.actor
        self._world.use_book(self._book)
        self._watch: asyncio.Task[None] | None = None

    def _read(self) -> Book:
        return msgspec.json.decode(self._path.read_bytes(), type=Book)

    async def __aenter__(self) -> Self:
        self._watch = asyncio.get_running_loop().create_task(self._follow_book())
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for future in self._futures:
            if not future.done():
                future.set_exception(ActorStopped("the client was closed before the answer came"))
                future.exception()  # nobody has to look
        await self._world.leave()
        await self._world.close()

    async def _follow_book(self) -> None:
        while True:
            await asyncio.sleep(BOOK_LOOK_S)
            try:
                changed = self._path.stat().st_mtime_ns
                if changed != self._changed:
                    self._changed = changed
                    self._book = self._read()
                    self._world.use_book(self._book)
            except FileNotFoundError:  # the run is over, and its folder was removed
                continue

    def ref(self, name: str) -> Ref[Any]:
        """A ref to a node, or to an actor below it. Raises UserError for a node that the topology does not have."""
        if not self._kernel.neighbours.process_of(name):
            known = ", ".join(sorted(self._book.nodes))
            raise UserError(f"there is no node {name!r}; the nodes are {known}")
        return self._kernel.ref(name)

    def ask(self, target: Ref[Any], message: Message[A], timeout_s: float = 5.0) -> Awaitable[A]:
        """Ask, as `Actor.ask` does; the ask is under way when this returns."""
        return self._future(self._kernel.ask(self._actor._cell, target, message, int(timeout_s * 1e9)))

    def send(self, target: Ref[Any], message: Message[Any], timeout_s: float = 5.0) -> Awaitable[None]:
        """Tell, waiting for room, as `Actor.send` does."""
        return self._future(self._kernel.send(self._actor._cell, target, message, int(timeout_s * 1e9)))

    def inspect(self, process: str, timeout_s: float = 1.0) -> Awaitable[dict[str, Any]]:
        """What the kernel of a process says of itself."""
        target: Ref[Any] = Ref(process)
        target.peer = self._kernel.neighbours.peers[process]
        return self.ask(target, Inspect(), timeout_s)

    @property
    def book(self) -> Book:
        """Where every node lives, as last read."""
        return self._book

    def _future(self, wait: Wait) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)

        def settle(done: Wait) -> None:
            if future.done():
                return
            if done.error is None:
                future.set_result(done.value)
            else:
                future.set_exception(done.error)

        if wait.done:
            settle(wait)
        else:
            wait.notify = settle
        return future
