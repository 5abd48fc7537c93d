"""What very many files cost the metadata server: memory, and the time of a start from a snapshot of them."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from nodes.files.client import FilesClient
from tests.bench.costs import memory_bytes
from tests.bench.harness import Bar, Row, figure_of
from tests.bench.kernel import HERE, zactor
from tests.bench.namespace import path_of
from tests.bench.worker import module
from zactor.client import AsyncClient
from zactor.launchers.folders import Home
from zactor.live.world import Book

NAME = "bench-namespace"

FILE_BYTES = 300
START_S = 3.0


class ManyFiles:
    """A snapshot of them, which whoever comes first makes, and what it costs to have it."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._count = count
        self._started_bytes = 0.0

    def rows(self) -> list[Row]:
        """Their memory as they came, the time of a start, and their memory after it, in this order."""
        files = f"of {self._count:,} files"
        return [
            Row(f"memory of each {files}", "B", self._fill, bar=Bar(ours=FILE_BYTES), once=True),
            Row(f"start from a snapshot {files}", "s", self._start, bar=Bar(ours=START_S)),
            Row(f"memory of each {files}, started", "B", self._memory_after_start, bar=Bar(ours=FILE_BYTES)),
        ]

    async def _fill(self) -> float:
        return await figure_of(*module("namespace", self._folder, self._count))

    async def _start(self) -> float:
        """Seconds from `zactor up` until a file was found."""
        with tempfile.TemporaryDirectory(dir=self._folder.parent) as temporary:
            where = Path(temporary)
            async with _up(where) as book:
                empty_bytes = memory_bytes(_pid(book))
            state = where / NAME / "state" / "metadata"
            for name in [*state.glob("journal.*"), *state.glob("snapshot.*")]:
                name.unlink()
            for name in self._folder.iterdir():
                shutil.copy(name, state)
            started_ns = time.perf_counter_ns()
            async with _up(where) as book:
                async with AsyncClient(book) as client:
                    await FilesClient(client, client.ref("metadata")).stat(path_of(self._count - 1))
                elapsed_ns = time.perf_counter_ns() - started_ns
                self._started_bytes = (memory_bytes(_pid(book)) - empty_bytes) / self._count
            return elapsed_ns / 1e9

    async def _memory_after_start(self) -> float:
        return self._started_bytes


@asynccontextmanager
async def _up(folder: Path) -> AsyncIterator[Path]:
    """The book of a run, whose state stays when it ends."""
    await zactor(folder, "up", str(HERE / "namespace.yaml"), "-d")
    try:
        home = Home(folder / NAME, NAME)
        yield home.run_folder(home.runs()[-1]) / "book.json"
    finally:
        await zactor(folder, "down", "-t", NAME)


def _pid(book: Path) -> int:
    pid = msgspec.json.decode(book.read_bytes(), type=Book).processes["metadata"].pid
    assert pid is not None, "it is up"
    return pid
