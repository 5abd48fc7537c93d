"""A whole file system in the virtual world, with a user who puts and gets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from io import BytesIO
from typing import Any

import pytest

from nodes.files.client import FilesClient
from nodes.files.metadata import Metadata
from nodes.files.operations import Content, Operation, Outcome, Space, Stat
from nodes.files.server import FileServer
from tests.nodes.files.power import PowerDisk
from zactor.actor import Actor, on
from zactor.message import Message, Ref
from zactor.sim.virtual import Virtual

ASK_S = 3600.0
FOR_EVER_S = 10_000_000.0
CHUNK_SIZE = 256 << 10


class DoPut(Message[Stat]):
    path: str
    content: bytes
    size_known: bool = True
    piece_size: int = 0
    stall_after: int | None = None
    replace: bool = True
    mode: int | None = None


class DoGet(Message[bytes]):
    path: str
    offset: int = 0


class DoRead(Message[bytes]):
    """Opens, waits, and then reads all."""

    path: str
    after_s: float


class DoList(Message[tuple[Stat, ...]]):
    path: str = "/"


class DoChange(Message[tuple[Outcome, ...]]):
    operations: tuple[Operation, ...]


class DoContent(Message[Content]):
    path: str


class DoHeld(Message[tuple[tuple[int, str, int | str], ...]]):
    """For each chunk of a file and each of its servers, the checksum there or the failure."""

    path: str


class DoSpace(Message[Space]):
    pass


class DoClose(Message[None]):
    pass


class User(Actor):
    """Does with one `FilesClient` what it is told, many things at once.

    `stall_after`: the source gives so many bytes, and then none.
    """

    metadata: Ref[Any]

    _files: FilesClient
    _shown: tuple[int, ...] = ()

    def on_start(self) -> None:
        self._files = FilesClient(self, self.metadata)

    @on(interleave=True)
    async def put(self, message: DoPut) -> Stat:
        source: Any = BytesIO(message.content)
        if message.stall_after is not None:
            source = self._stalling(message.content[: message.stall_after])
        elif message.piece_size:
            parts = range(0, len(message.content), message.piece_size)
            source = [message.content[start : start + message.piece_size] for start in parts]
        return await self._files.put(
            source,
            message.path,
            size=len(message.content) if message.size_known else None,
            mode=message.mode,
            replace=message.replace,
            progress=self._show,
        )

    @on(interleave=True)
    async def get(self, message: DoGet) -> bytes:
        sink = BytesIO()
        await self._files.get(message.path, sink, offset=message.offset, progress=self._show)
        return sink.getvalue()

    @on(interleave=True)
    async def read(self, message: DoRead) -> bytes:
        reader = await self._files.open(message.path)
        for _ in range(int(message.after_s)):
            await self.sleep(1.0)
            await self._files.renew()
        content = await reader.read(0, reader.stat.size)
        await reader.close()
        return content

    @on(interleave=True)
    async def list(self, message: DoList) -> tuple[Stat, ...]:
        return tuple([item async for item in self._files.list(message.path)])

    @on(interleave=True)
    async def change(self, message: DoChange) -> tuple[Outcome, ...]:
        return tuple(await self._files.change(message.operations))

    @on(interleave=True)
    async def content(self, message: DoContent) -> Content:
        return await self._files.content(message.path)

    @on(interleave=True)
    async def held(self, message: DoHeld) -> tuple[tuple[int, str, int | str], ...]:
        found: list[tuple[int, str, int | str]] = []
        for chunk in (await self._files.content(message.path)).chunks:
            for server, crc in (await self._files.held(chunk)).items():
                found.append((chunk.chunk, server, crc if isinstance(crc, int) else str(crc)))
        return tuple(found)

    @on(interleave=True)
    async def space(self, message: DoSpace) -> Space:
        return await self._files.space()

    @on(interleave=True)
    async def close(self, message: DoClose) -> None:
        await self._files.close()

    def _show(self, done: int) -> None:
        self._shown = (*self._shown, done)

    async def _stalling(self, content: bytes) -> AsyncIterator[bytes]:
        yield content
        await self.sleep(FOR_EVER_S)


class System:
    """One metadata server, file servers, and a user, each in a process of its own."""

    def __init__(self, servers: int = 3, capacity: int = 1 << 30, users: int = 1, **metadata: Any) -> None:
        self.virtual = Virtual()
        self.disk = self.virtual.disk = PowerDisk(self.virtual)
        self.capacity = capacity
        self.settings = {"chunk_size": CHUNK_SIZE, "copies": 2, **metadata}
        self.servers = tuple(f"store/{index}" for index in range(servers))
        self.users = ("user", *(f"user{index}" for index in range(2, users + 1)))
        for process in (*self.servers, "metadata", *self.users):
            self.virtual.add(process)
            self._add_node(process)
        self.virtual.start()
        self.run(2.0)

    def _add_node(self, process: str) -> None:
        life = self.virtual.processes[process].kernel.life
        if process == "metadata":
            life.add("metadata", Metadata, dict(self.settings), {"servers": self.servers})
        elif process in self.users:
            life.add(process, User, links={"metadata": "metadata"})
        else:
            life.add(process, FileServer, {"capacity": self.capacity, "scrub_every": 0})

    # --- what a user does
    def begin(self, message: Message[Any], name: str = "user", timeout_s: float = ASK_S) -> Any:
        """An ask that is under way."""
        outside = self.virtual.outside("user")
        wait = outside.ask(outside.to(name), message, timeout_s)
        wait.notify = lambda _wait: None  # type: ignore[attr-defined]
        return wait

    def ask(self, message: Message[Any], name: str = "user") -> Any:
        return self.virtual.result(self.begin(message, name))

    def put(self, path: str, content: bytes, **how: Any) -> Stat:
        stat = self.ask(DoPut(path=path, content=content, **how))
        assert isinstance(stat, Stat)
        return stat

    def get(self, path: str, offset: int = 0) -> bytes:
        content = self.ask(DoGet(path=path, offset=offset))
        assert isinstance(content, bytes)
        return content

    def change(self, *operations: Operation) -> tuple[Outcome, ...]:
        outcomes: tuple[Outcome, ...] = self.ask(DoChange(operations=operations))
        return outcomes

    def listing(self, path: str = "/") -> list[tuple[str, int]]:
        return [(item.name, item.size) for item in self.ask(DoList(path=path))]

    def content(self, path: str) -> Content:
        content = self.ask(DoContent(path=path))
        assert isinstance(content, Content)
        return content

    def space(self) -> Space:
        space = self.ask(DoSpace())
        assert isinstance(space, Space)
        return space

    # --- what happens to it
    def run(self, seconds: float) -> None:
        self.virtual.run(seconds=seconds)

    def kill(self, process: str) -> None:
        self.virtual.kill(process)

    def lose_power(self, process: str) -> None:
        """Kill it, and take from its disk what was not synced."""
        self.kill(process)
        self.disk.lose_power(process)

    def restart(self, process: str) -> None:
        self.virtual.restart(process)
        self._add_node(process)
        self.virtual.start()

    # --- what one sees of it
    def check_copies(self, path: str, copies: int = 2) -> None:
        """Each chunk lies on as many servers as it should, and each of them has it right."""
        chunks = self.content(path).chunks
        held = self.ask(DoHeld(path=path))
        assert [len(set(chunk.servers)) for chunk in chunks] == [copies] * len(chunks)
        assert sorted(held) == sorted((each.chunk, server, each.crc) for each in chunks for server in each.servers)

    def actors(self) -> dict[str, Actor]:
        """All that are ready, by name."""
        cells = (cell for each in self.virtual.processes.values() for cell in each.kernel.cells.values())
        return {cell.name: cell.actor for cell in cells if cell.state == "ready" and cell.actor is not None}

    def shown(self) -> tuple[int, ...]:
        """The progress that the user was shown."""
        actor = self.virtual.processes["user"].kernel.cells["user"].actor
        assert isinstance(actor, User)
        return actor._shown

    def chunk_files(self) -> list[tuple[str, str]]:
        """(server, file) of all chunks with files of their own, sealed or not."""
        return sorted(key for key in self.disk.files if key[1].endswith((".chunk", ".tmp")))

    def events(self, name: str) -> list[dict[str, Any]]:
        """The fields of all log events of that name."""
        return [fields for _, _, event, fields in self.virtual.logs if event == name]


@pytest.fixture
def do_put() -> type[DoPut]:
    return DoPut


@pytest.fixture
def do_get() -> type[DoGet]:
    return DoGet


@pytest.fixture
def do_read() -> type[DoRead]:
    return DoRead


@pytest.fixture
def make_system() -> Callable[..., System]:
    return System


@pytest.fixture
def system() -> System:
    return System()
