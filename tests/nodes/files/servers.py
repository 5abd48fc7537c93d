"""File servers alone in the virtual world, and what a client would ask them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nodes.files.chunks import SealedName, block_checksums, content_crc
from nodes.files.messages import (
    BUCKETS,
    FRAME_SIZE,
    DropChunks,
    Held,
    Inventory,
    ListBucket,
    Piece,
    ReadChunk,
    ReopenChunk,
    SealChunk,
    StoreSmall,
    Survey,
    WriteChunk,
    chunk_id,
)
from nodes.files.server import FileServer
from tests.nodes.files.power import PowerDisk
from zactor.message import Message, Ref
from zactor.sim.virtual import Virtual

ASK_S = 3600.0
VOLUME = 7
WINDOW = 32
CHUNK = chunk_id(5, 0)
NAMES = ("store/0", "store/1", "store/2")


def content_of(size: int, seed: int = 1) -> bytes:
    """Bytes that are not alike."""
    return (bytes((index * 7 + seed) % 256 for index in range(251)) * (size // 251 + 1))[:size]


class Stage:
    """File servers, each in a process of its own with its own disk, and a probe that asks them."""

    def __init__(self, servers: int = 3, *, bound: bool = True, **settings: Any) -> None:
        self.virtual = Virtual()
        self.disk = self.virtual.disk = PowerDisk(self.virtual)
        self.settings = {"scrub_every": 0, **settings}
        self.names = NAMES[:servers]
        for process in (*self.names, "probe"):
            self.virtual.add(process)
            self._add_node(process)
        self.virtual.start()
        self._outside = self.virtual.outside("probe")
        self.run(0.01)
        if bound:
            for name in self.names:
                self.survey(name)

    def _add_node(self, process: str) -> None:
        if process != "probe":
            life = self.virtual.processes[process].kernel.life
            life.add(process, FileServer, dict(self.settings))

    # --- what one asks
    def begin(self, name: str, message: Message[Any], timeout_s: float = ASK_S) -> Any:
        """An ask that is under way."""
        wait = self._outside.ask(self._outside.to(name), message, timeout_s)
        wait.notify = lambda _wait: None  # type: ignore[attr-defined]
        return wait

    def ask(self, name: str, message: Message[Any], timeout_s: float = ASK_S) -> Any:
        """The answer, or the failure raised."""
        return self.virtual.result(self.begin(name, message, timeout_s))

    @staticmethod
    def chain(names: Sequence[str]) -> tuple[Ref[Any], ...]:
        return tuple(Ref(name) for name in names)

    def survey(self, name: str, volume: int = VOLUME) -> Inventory:
        found = self.ask(name, Survey(volume=volume))
        assert isinstance(found, Inventory)
        return found

    def frames(
        self, content: bytes, names: Sequence[str], chunk: int = CHUNK, version: int = 1, offset: int = 0
    ) -> list[WriteChunk]:
        """The messages that write what is behind `offset`."""
        return [
            WriteChunk(
                chunk=chunk,
                version=version,
                chain=self.chain(names[1:]),
                offset=start,
                content=content[start : start + FRAME_SIZE],
                checksums=block_checksums(content[start : start + FRAME_SIZE]),
            )
            for start in range(offset, len(content), FRAME_SIZE)
        ]

    def write(
        self, content: bytes, names: Sequence[str], chunk: int = CHUNK, version: int = 1, offset: int = 0
    ) -> None:
        """Write all frames, a window of them at once, and wait for the answers."""
        frames = self.frames(content, names, chunk, version, offset)
        for start in range(0, len(frames), WINDOW):
            for asked in [self.begin(names[0], each) for each in frames[start : start + WINDOW]]:
                self.virtual.result(asked)

    def sealing(self, content: bytes, names: Sequence[str], chunk: int = CHUNK, version: int = 1) -> SealChunk:
        chain = self.chain(names[1:])
        return SealChunk(chunk=chunk, version=version, chain=chain, size=len(content), crc=content_crc(content))

    def seal(self, content: bytes, names: Sequence[str], chunk: int = CHUNK, version: int = 1) -> None:
        self.ask(names[0], self.sealing(content, names, chunk, version))

    def put(self, content: bytes, names: Sequence[str], chunk: int = CHUNK) -> None:
        """Write and seal a chunk."""
        self.write(content, names, chunk)
        self.seal(content, names, chunk)

    @staticmethod
    def small(content: bytes, chunk: int = CHUNK) -> StoreSmall:
        return StoreSmall(chunk=chunk, content=content, crc=content_crc(content))

    def store(self, content: bytes, names: Sequence[str], chunk: int = CHUNK) -> None:
        """Store a small chunk on each of them, at once."""
        for asked in [self.begin(name, self.small(content, chunk)) for name in names]:
            self.virtual.result(asked)

    def reopen(self, name: str, version: int, size: int, chunk: int = CHUNK) -> Held:
        found = self.ask(name, ReopenChunk(chunk=chunk, version=version, size=size))
        assert isinstance(found, Held)
        return found

    def read(self, name: str, size: int, chunk: int = CHUNK, offset: int = 0) -> bytes:
        """A piece."""
        piece = self.ask(name, ReadChunk(chunk=chunk, offset=offset, size=size))
        assert isinstance(piece, Piece)
        assert piece.checksums == block_checksums(piece.content)
        return piece.content

    def read_all(self, name: str, size: int, chunk: int = CHUNK) -> bytes:
        """A whole chunk."""
        starts = range(0, size, 1 << 20)
        return b"".join(self.read(name, min(1 << 20, size - start), chunk, start) for start in starts)

    def drop(self, name: str, *chunks: int) -> None:
        self.ask(name, DropChunks(volume=VOLUME, chunks=chunks))

    def held(self, name: str) -> list[Held]:
        """All sealed chunks, as the metadata server would list them."""
        found: list[Held] = []
        for bucket in range(BUCKETS):
            after, more = 0, True
            while more:
                page = self.ask(name, ListBucket(volume=VOLUME, bucket=bucket, after=after))
                found += page.chunks
                more, after = page.more, page.chunks[-1].chunk if page.chunks else 0
        return found

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
        self.run(0.05)

    # --- what one sees of it
    def server(self, name: str) -> FileServer:
        actor = self.virtual.processes[name].kernel.cells[name].actor
        assert isinstance(actor, FileServer)
        return actor

    def files(self, name: str, ending: str = "") -> list[str]:
        """The files of a server."""
        return sorted(file for folder, file in self.disk.files if folder == name and file.endswith(ending))

    def sealed_file(self, name: str, content: bytes, chunk: int = CHUNK) -> bytearray:
        """The file of a chunk."""
        return self.disk.files[name, str(SealedName(chunk, len(content), content_crc(content)))]

    def events(self, name: str) -> list[dict[str, Any]]:
        """The fields of all log events of that name."""
        return [fields for _, _, event, fields in self.virtual.logs if event == name]
