"""A group of peers on a stage, that host a ledger, and users who change it and ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nodes.raft.actor import Peer
from nodes.raft.operating import Operator
from tests.nodes.raft.ledger import Ledger
from zactor.actor import Actor, on
from zactor.errors import Failure, Refused
from zactor.message import Message, Ref, Refs, decoder
from zactor.replication.client import SessionClient
from zactor.replication.messages import Level
from zactor.testing.probe import Answer
from zactor.testing.stage import Simulated, Stage

ASK_S = 60.0
items_of: Callable[[bytes], tuple[bytes, ...]] = decoder(tuple[bytes, ...])


class Unknown(Refused):
    """It may have been done, or not."""


class Do(Message[bytes]):
    body: bytes


class Look(Message[tuple[bytes, ...]]):
    level: Level = "linearizable"
    bound_s: float = 0.0
    at_least: int = 0


class Await(Message[bytes]):
    first: int
    wait_s: float = 10.0


class Open(Message[int]):
    pass


class Operate(Message[str]):
    what: str
    node: str = ""


class User(Actor):
    """Changes the ledger, and asks for it."""

    peers: Refs[Any]

    _client: SessionClient
    _operator: Operator

    def on_start(self) -> None:
        self._client = SessionClient(self, self.peers, 20.0)
        self._operator = Operator(self, self.peers)

    @on(interleave=True)
    async def do(self, message: Do) -> bytes:
        try:
            return await self._client.submit(message.body)
        except Refused:
            raise
        except Failure as error:
            raise Unknown(f"{type(error).__name__}: {error}") from error

    @on(interleave=True)
    async def look(self, message: Look) -> tuple[bytes, ...]:
        return items_of(
            await self._client.query(b"", message.level, bound_s=message.bound_s, at_least=message.at_least)
        )

    @on(interleave=True)
    async def wait(self, message: Await) -> bytes:
        return await self._client.watch(b"%d" % message.first, wait_s=message.wait_s)

    @on(interleave=True)
    async def open(self, message: Open) -> int:
        await self._client.open()
        return self._client.number

    @on(interleave=True)
    async def operate(self, message: Operate) -> str:
        operator = self._operator
        if message.what == "transfer":
            return await operator.transfer(message.node)
        if message.what == "snapshot":
            return str(await operator.snapshot(Ref(message.node)))
        change = operator.add if message.what == "add" else operator.remove
        members = await change(message.node)
        return f"voters {' '.join(members.voters)} learners {' '.join(members.learners)}"


class Peers:
    """The group, and a user. `stage` is virtual or simulated."""

    def __init__(self, stage: Stage, count: int = 3, **settings: Any) -> None:
        self.stage = stage
        self.names = [f"kv/{index}" for index in range(count)]
        self._settings = {"machine": "ledger", **settings}
        for name in self.names:
            stage.add(name, Peer, peers=[other for other in self.names if other != name], **self._settings)
        stage.add("user", User, peers=self.names)

    def peer(self, name: str) -> Peer:
        found = self.stage.actor(name)
        assert isinstance(found, Peer)
        return found

    def here(self) -> list[str]:
        """The peers that are up."""
        found = []
        for name in self.names:
            try:
                self.stage.actor(name)
            except ValueError:
                continue
            found.append(name)
        return found

    def leader(self) -> str:
        """Who leads; lets time pass until somebody does."""
        self.stage.until(lambda: bool(self.leaders()), what="nobody leads")
        return self.leaders()[-1]

    def leaders(self) -> list[str]:
        serving = [name for name in self.here() if self._is_up(name) and self.peer(name).is_serving]
        return sorted(serving, key=lambda name: self.term(name))

    def _is_up(self, name: str) -> bool:
        return hasattr(self.stage.actor(name), "_joining")

    def term(self, name: str) -> int:
        raft = self.peer(name).raft
        return raft.term if raft is not None else 0

    def do(self, body: bytes) -> bytes:
        return self.stage.ask("user", Do(body=body), ASK_S)

    def begin(self, body: bytes) -> Answer[bytes]:
        return self.stage.start_ask("user", Do(body=body), ASK_S)

    def look(self, level: Level = "linearizable", bound_s: float = 0.0, at_least: int = 0) -> tuple[bytes, ...]:
        return self.stage.ask("user", Look(level=level, bound_s=bound_s, at_least=at_least), ASK_S)

    def operate(self, what: str, node: str = "") -> str:
        return self.stage.ask("user", Operate(what=what, node=node), ASK_S)

    def power_all(self) -> None:
        """All machines lose their power at once, and come again."""
        simulated = self.stage
        assert isinstance(simulated, Simulated)
        for name in self.names:
            simulated.power(name)
        self.stage.run(1.0)

    def ledger(self, name: str) -> Ledger:
        hosted = self.peer(name).hosted
        assert isinstance(hosted, Ledger)
        return hosted

    def items(self, name: str) -> list[bytes]:
        return self.ledger(name).items

    def until_equal(self) -> list[bytes]:
        """Let time pass until all peers have the same; returns it."""

        def equal() -> bool:
            if not all(name in self.here() and self._is_up(name) for name in self.names):
                return False
            first = self.items(self.names[0])
            return all(self.items(name) == first for name in self.names)

        self.stage.until(equal)
        return self.items(self.names[0])
