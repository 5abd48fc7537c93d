"""A store on peers of Raft, and users whose clients run scripts: coroutine functions of a test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from nodes.kv.client import KvClient
from nodes.kv.store import Store
from nodes.raft.actor import Peer
from zactor.actor import Actor, on
from zactor.message import Message, Refs
from zactor.testing.probe import Answer
from zactor.testing.stage import Stage

Script: TypeAlias = Callable[[KvClient], Awaitable[None]]

ASK_S = 120.0


class Run(Message[None]):
    """Run the script of that number."""

    number: int


class User(Actor):
    """One client of the store."""

    peers: Refs[Any]

    _client: KvClient

    def on_start(self) -> None:
        self._client = KvClient(self, self.peers, 20.0)

    @on(interleave=True)
    async def run(self, message: Run) -> None:
        await SCRIPTS[message.number](self._client)


SCRIPTS: list[Script] = []


class Town:
    """Peers `kv/0` and so on, and users by name."""

    def __init__(self, stage: Stage, users: tuple[str, ...] = ("user",), count: int = 3) -> None:
        self.stage = stage
        self.names = [f"kv/{index}" for index in range(count)]
        for name in self.names:
            stage.add(name, Peer, peers=[each for each in self.names if each != name], machine="kv.store")
        for user in users:
            stage.add(user, User, peers=self.names)

    def begin(self, script: Script, user: str = "user") -> Answer[None]:
        """Let a script run."""
        SCRIPTS.append(script)
        return self.stage.start_ask(user, Run(number=len(SCRIPTS) - 1), ASK_S)

    def run(self, script: Script, user: str = "user") -> None:
        """Run a script to its end. Raises what it does."""
        SCRIPTS.append(script)
        self.stage.ask(user, Run(number=len(SCRIPTS) - 1), ASK_S)

    def leader(self) -> str:
        """Who leads."""
        self.stage.until(lambda: bool(self._leaders()), what="nobody leads")
        return self._leaders()[-1]

    def _leaders(self) -> list[str]:
        found = []
        for name in self.names:
            try:
                peer = self.stage.actor(name)
            except ValueError:
                continue
            if hasattr(peer, "_joining") and peer.is_serving:
                found.append((peer.raft.term, name))
        return [name for _, name in sorted(found)]

    def stores(self) -> list[Store]:
        """The stores of all peers, when they have come to the same index."""

        def equal() -> bool:
            return len({self.stage.actor(name).applied for name in self.names}) == 1

        self.stage.until(equal, what="the peers do not come to the same index")
        return [self.stage.actor(name).hosted for name in self.names]
