"""A whole file system in the virtual world, with a user who puts and gets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from io import BytesIO
from typing import Any

import pytest

from nodes.files.client import FilesClient
from nodes.files.messages import Entry, Item
from nodes.files.metadata import Metadata
from nodes.files.server import FileServer
from zactor.actor import Actor, on
from zactor.message import Message, Ref
from zactor.sim.disk import MemoryDisk
from zactor.sim.virtual import SYNC_NS, Virtual
from zactor.world import Operation, Sync, SyncFolder

ASK_S = 3600.0
FOR_EVER_S = 10_000_000.0


class DoPut(Message[Entry]):
    path: str
    content: bytes
    size_known: bool = True
    piece_size: int = 0
    stall_after: int | None = None


class DoGet(Message[bytes]):
    path: str


class DoList(Message[tuple[Item, ...]]):
    path: str = "/"


class DoRemove(Message[None]):
    path: str


class User(Actor):
    """Does with a `FilesClient` what it is told. `stall_after`: the source gives so many bytes, and then none."""

    metadata: Ref[Any]

    _shown: tuple[int, ...] = ()

    @on(interleave=True)
    async def put(self, message: DoPut) -> Entry:
        source: Any = BytesIO(message.content)
        if message.stall_after is not None:
            source = self._stalling(message.content[: message.stall_after])
        elif message.piece_size:
            parts = range(0, len(message.content), message.piece_size)
            source = [message.content[start : start + message.piece_size] for start in parts]
        size = len(message.content) if message.size_known else None
        return await self._files().put(source, message.path, size=size, progress=self._show)

    @on(interleave=True)
    async def get(self, message: DoGet) -> bytes:
        sink = BytesIO()
        await self._files().get(message.path, sink, progress=self._show)
        return sink.getvalue()

    @on(interleave=True)
    async def list(self, message: DoList) -> tuple[Item, ...]:
        return tuple([item async for item in self._files().list(message.path)])

    @on(interleave=True)
    async def remove(self, message: DoRemove) -> None:
        await self._files().remove(message.path)

    def _files(self) -> FilesClient:
        return FilesClient(self, self.metadata)

    def _show(self, done: int) -> None:
        self._shown = (*self._shown, done)

    async def _stalling(self, content: bytes) -> AsyncIterator[bytes]:
        yield content
        await self.sleep(FOR_EVER_S)


class PowerDisk(MemoryDisk):
    """A disk that knows what would outlive a power failure: contents that were synced, names whose folder was.

    A sync counts only from its completion on.
    """

    def __init__(self, virtual: Virtual) -> None:
        super().__init__()
        self._virtual = virtual
        self._under_way: list[tuple[int, Callable[[], None]]] = []
        self._contents: dict[int, tuple[bytearray, bytes]] = {}  # the file keeps its identity alive
        self._names: dict[tuple[str, str], bytearray] = {}

    def perform(self, operation: Operation) -> Any:
        self._complete()
        at_ns = self._virtual.now_ns + SYNC_NS
        if isinstance(operation, Sync):
            own = self._own(operation.folder)
            synced = {key: (file, bytes(file)) for key, file in own.items() if key[1] in operation.files}
            self._under_way.append((at_ns, lambda: self._keep_contents(synced)))
        elif isinstance(operation, SyncFolder):
            folder, names = operation.folder, self._own(operation.folder)
            self._under_way.append((at_ns, lambda: self._keep_names(folder, names)))
        return super().perform(operation)

    def lose_power(self, folder: str) -> None:
        """Forget what was not synced, in one node's folder."""
        self._complete()
        for key in self._own(folder):
            del self.files[key]
        for key, file in self._names.items():
            if key[0] == folder:
                _, content = self._contents.get(id(file), (file, b""))
                self.files[key] = bytearray(content)

    def _own(self, folder: str) -> dict[tuple[str, str], bytearray]:
        return {key: file for key, file in self.files.items() if key[0] == folder}

    def _complete(self) -> None:
        while self._under_way and self._under_way[0][0] <= self._virtual.now_ns:
            self._under_way.pop(0)[1]()

    def _keep_contents(self, synced: dict[tuple[str, str], tuple[bytearray, bytes]]) -> None:
        for file, content in synced.values():
            self._contents[id(file)] = (file, content)

    def _keep_names(self, folder: str, own: dict[tuple[str, str], bytearray]) -> None:
        self._names = {key: file for key, file in self._names.items() if key[0] != folder} | own


class System:
    """One metadata server, file servers, and a user, each in a process of its own."""

    def __init__(self, servers: int = 2, capacity: int = 1 << 30, **metadata: Any) -> None:
        self.virtual = Virtual()
        self.disk = self.virtual.disk = PowerDisk(self.virtual)
        self.capacity = capacity
        self.settings = {"chunk_size": 256 << 10, **metadata}
        self.servers = tuple(f"store/{index}" for index in range(servers))
        for process in (*self.servers, "metadata", "user"):
            self.virtual.add(process)
            self._add_node(process)
        self.virtual.start()
        self.run(0.01)

    def _add_node(self, process: str) -> None:
        life = self.virtual.processes[process].kernel.life
        if process == "metadata":
            life.add("metadata", Metadata, dict(self.settings), {"servers": self.servers})
        elif process == "user":
            life.add("user", User, links={"metadata": "metadata"})
        else:
            life.add(process, FileServer, {"capacity": self.capacity})

    # --- what a user does
    def begin(self, message: Message[Any], name: str = "user", timeout_s: float = ASK_S) -> Any:
        """An ask that is under way."""
        outside = self.virtual.outside("user")
        return outside.ask(outside.to(name), message, timeout_s)

    def ask(self, message: Message[Any], name: str = "user") -> Any:
        return self.virtual.result(self.begin(message, name))

    def put(self, path: str, content: bytes, **how: Any) -> Entry:
        entry = self.ask(DoPut(path=path, content=content, **how))
        assert isinstance(entry, Entry)
        return entry

    def get(self, path: str) -> bytes:
        content = self.ask(DoGet(path=path))
        assert isinstance(content, bytes)
        return content

    def listing(self, path: str = "/") -> list[tuple[str, int | None]]:
        return [(item.name, item.size) for item in self.ask(DoList(path=path))]

    def remove(self, path: str) -> None:
        self.ask(DoRemove(path=path))

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
    def shown(self) -> tuple[int, ...]:
        """The progress that the user was shown."""
        actor = self.virtual.processes["user"].kernel.cells["user"].actor
        assert isinstance(actor, User)
        return actor._shown

    def chunk_files(self) -> list[tuple[str, str]]:
        """(server, file) of all chunks, sealed or not."""
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
def make_system() -> Callable[..., System]:
    return System


@pytest.fixture
def system() -> System:
    return System()
