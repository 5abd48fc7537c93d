"""A door that is no actor, with a whole file system behind it in memory: the real namespace, and servers that lie down.

Time passes only in pauses and at messages, so a minute of patience costs nothing. `Cluster.before` is called with the
server and the message before each one is handled, and `after` when it was: what they raise is what the asker gets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from nodes.files.chunks import bad_block, block_checksums, pack_checksums, seal_crc
from nodes.files.messages import (
    BLOCK_SIZE,
    BadFrame,
    ChainBroken,
    CopyChunk,
    Held,
    MissingChunk,
    Piece,
    ReadChecksums,
    ReadChunk,
    ReopenChunk,
    SealChunk,
    StaleVersion,
    StoreSmall,
    WriteChunk,
)
from nodes.files.namespace import Namespace
from nodes.files.operations import Configure, Format, Lost, Operation, Report
from tests.replication.doors import AskSoon
from zactor.errors import ConnectionLost, Corrupt, Failure, Refused
from zactor.message import Message, Ref, encode
from zactor.replication.messages import EndSession, OpenSession, Query, Renew, SessionExpired, Submit
from zactor.replication.sessions import Sessions, encode_change, encode_end, encode_open, encode_own

LATENCY_NS = 1_000_000


class Server:
    """Chunks in memory: partial ones as (version, bytes), sealed ones as bytes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_up = True
        self.partials: dict[int, tuple[int, bytearray]] = {}
        self.sealed: dict[int, bytes] = {}

    def write(self, message: WriteChunk) -> None:
        if bad_block(message.content, message.checksums) is not None:
            raise Corrupt("the frame changed on its way")
        version, held = self.partials.get(message.chunk, (0, bytearray()))
        if message.version < version:
            raise StaleVersion(f"version {message.version} is over")
        if message.version > version:
            if message.offset:
                raise MissingChunk(f"nothing under version {message.version}")
            held = bytearray()
        if message.offset != len(held):
            raise BadFrame(f"{message.offset} is not {len(held)}")
        held += message.content
        self.partials[message.chunk] = (message.version, held)

    def seal(self, message: SealChunk) -> None:
        if message.chunk in self.sealed:
            return
        version, held = self.partials.get(message.chunk, (0, bytearray()))
        if version != message.version:
            raise StaleVersion(f"version {message.version}")
        if len(held) != message.size or seal_crc(block_checksums(bytes(held))) != message.crc:
            raise Corrupt("it is not what is to be sealed")
        del self.partials[message.chunk]
        self.sealed[message.chunk] = bytes(held)

    def reopen(self, message: ReopenChunk) -> Held:
        if message.chunk in self.sealed:
            return Held(message.chunk, len(self.sealed[message.chunk]), 0, True)
        version, held = self.partials.get(message.chunk, (0, bytearray()))
        if message.version < version:
            raise StaleVersion(f"version {message.version}")
        if len(held) < message.size:
            raise MissingChunk(f"{len(held)} of {message.size} bytes")
        del held[message.size :]
        self.partials[message.chunk] = (message.version, held)
        return Held(message.chunk, message.size, 0, False)

    def read(self, message: ReadChunk) -> Piece:
        content = self.find(message.chunk)[message.offset : message.offset + message.size]
        assert message.offset % BLOCK_SIZE == 0
        return Piece(content, block_checksums(content))

    def find(self, chunk: int) -> bytes:
        if chunk not in self.sealed:
            raise MissingChunk(f"no chunk {chunk:016x}")
        return self.sealed[chunk]


class Cluster(AskSoon):
    """A `Door` to `metadata` and `store/0`, `store/1`, ..."""

    def __init__(self, servers: int = 3, copies: int = 2, chunk_size: int = 1 << 20, latency_turns: int = 3) -> None:
        self.time_ns = 0
        self.namespace = Namespace()
        self.sessions = Sessions(self.namespace)
        self.servers = {f"store/{index}": Server(f"store/{index}") for index in range(servers)}
        self.before: Callable[[str, Message[Any]], None] = lambda server, message: None
        self.after: Callable[[str, Message[Any]], None] = lambda server, message: None
        self.asked: list[tuple[str, Message[Any]]] = []
        self.in_flight = self.in_flight_max = 0
        self._turns = latency_turns
        self._next = 1
        self.own(Format(77), Configure(copies, chunk_size))
        for number, server in enumerate(self.servers.values()):
            self.own(self.report(server, number))

    # --- what happens to it
    def own(self, *operations: Operation) -> None:
        """Changes by whoever runs the namespace."""
        self._log(encode_own(encode(operations)))

    @staticmethod
    def report(server: Server, number: int = 0) -> Report:
        return Report(server.name, int(server.name.partition("/")[2]) + 1, "", 1 << 34, 0, 1 << 34)

    def kill(self, name: str, *, is_known: bool = False) -> None:
        self.servers[name].is_up = False
        if is_known:
            self.own(Lost(name))

    def restart(self, name: str, *, with_disk: bool = True) -> None:
        server = self.servers[name]
        server.is_up = True
        if not with_disk:
            server.partials.clear()
        self.own(self.report(server))

    def end_sessions(self) -> None:
        for session in self.sessions.ids():
            self._log(encode_end(session))

    # --- the door
    def ask(self, target: Ref[Any], message: Message[Any], timeout_s: float = 5.0) -> Awaitable[Any]:
        self.asked.append((target.name, message))
        self.in_flight += isinstance(message, WriteChunk | ReadChunk)
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        future = asyncio.ensure_future(self._answer(target.name, message))
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future

    async def sleep(self, seconds: float) -> None:
        self.time_ns += int(seconds * 1e9)
        await asyncio.sleep(0)

    def now_ns(self) -> int:
        return self.time_ns

    async def _answer(self, target: str, message: Message[Any]) -> Any:
        self.time_ns += LATENCY_NS
        try:
            for _ in range(self._turns):
                await asyncio.sleep(0)
            self.before(target, message)
            if target == "metadata":
                answer = self._host(message)
            else:
                answer = await self._serve(self.servers[target], message)
            self.after(target, message)
            return answer
        finally:
            self.in_flight -= isinstance(message, WriteChunk | ReadChunk)

    # --- the metadata server
    def _host(self, message: Any) -> Any:
        match message:
            case OpenSession():
                return self._log(encode_open())
            case Renew(session=session):
                if session not in self.sessions.ids():
                    raise SessionExpired("it is over")
            case EndSession(session=session):
                self._log(encode_end(session))
            case Submit():
                found = self.sessions.check(message)
                return found if isinstance(found, tuple) else self._log(encode_change(message))
            case Query(body=body):
                return self.namespace.query(body)
        return None

    def _log(self, record: bytes) -> Any:
        (answer,), self._next = self.sessions.apply(self._next, self.time_ns, (record,))
        if isinstance(answer, Refused):
            raise answer
        return answer

    # --- the file servers
    async def _serve(self, server: Server, message: Any) -> Any:
        if not server.is_up:
            raise ConnectionLost(f"{server.name} is away")
        match message:
            case WriteChunk():
                server.write(message)
                await self._forward(message)
            case SealChunk():
                await self._forward(message)
                server.seal(message)
            case StoreSmall():
                server.sealed[message.chunk] = message.content
            case ReopenChunk():
                return server.reopen(message)
            case ReadChunk():
                return server.read(message)
            case ReadChecksums(chunk=chunk):
                return pack_checksums(block_checksums(server.find(chunk)))
            case CopyChunk():
                await self._copy(server, message)
        return None

    async def _copy(self, server: Server, message: CopyChunk) -> None:
        for source in message.sources:
            if self.servers[source.name].is_up:
                server.sealed[message.chunk] = self.servers[source.name].find(message.chunk)
                return
        raise MissingChunk("no source")

    async def _forward(self, message: Any) -> None:
        if message.chain:
            fields = {name: getattr(message, name) for name in message.__struct_fields__}
            fields["chain"] = message.chain[1:]
            try:
                await self.ask(message.chain[0], type(message)(**fields))
            except Failure as error:
                raise ChainBroken(f"{message.chain[0].name}: {error}") from error
