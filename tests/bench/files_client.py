"""Our side of `bench files`: one client, through which everything goes. It is a worker.

Run as `python -m tests.bench.files_client BOOK`, with the book of a run that is up.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from nodes.files.client import FilesClient
from nodes.files.operations import Create, Denied, Operation, Outcome, Remove
from tests.bench.content import PIECE_BYTES, SMALL, Check, Source
from tests.bench.worker import Case, serve
from zactor.client import AsyncClient

BATCH = 64
"""Operations in one change, where they go together."""

FOLDER = "/bench"

EMPTY_S = 120.0
"""Until the servers have dropped what was removed."""

PAUSE_S = 0.05


class Sink(Check):
    """A file opened for writing, which keeps nothing."""

    def write(self, content: bytes, /) -> None:
        """Take all of it."""
        self.take(content)


class Cases:
    """What is measured, through the client of a program."""

    def __init__(self, files: FilesClient) -> None:
        self._files = files

    def cases(self) -> Mapping[str, Case]:
        """All of them, by name."""
        return {
            "write": self.write,
            "read": self.read,
            "through": self.through,
            "small": self.small,
            "create": self.create,
            "batched": self.batched,
            "stat": self.stat,
        }

    async def write(self, size_bytes: int) -> AsyncIterator[float]:
        """One stream of bytes into one file."""
        yield 0
        stat = await self._files.put(Source(size_bytes), f"{FOLDER}/written", size=size_bytes)
        yield stat.size
        await self._remove(1, lambda _: "written")

    async def read(self, size_bytes: int) -> AsyncIterator[float]:
        """One file, read from begin to end and checked."""
        await self._files.put(Source(size_bytes), f"{FOLDER}/read", size=size_bytes)
        yield 0
        yield await self._read("read", size_bytes)
        await self._remove(1, lambda _: "read")

    async def through(self, size_bytes: int) -> AsyncIterator[float]:
        """One stream of bytes into a file and out again."""
        yield 0
        await self._files.put(Source(size_bytes), f"{FOLDER}/through")
        yield await self._read("through", size_bytes)
        await self._remove(1, lambda _: "through")

    async def small(self, count: int, width: int) -> AsyncIterator[float]:
        """Durable small files, by so many tasks, each of which waits for one before the next."""

        async def put(number: int) -> None:
            await self._files.put(Source(len(SMALL)), _path(number), size=len(SMALL))

        yield 0
        await _each(count, width, put)
        if await self._files.read(_path(count - 1)) != SMALL:
            raise RuntimeError("a small file has come back as another one")
        yield count
        await self._remove(count, _name)

    async def create(self, count: int, width: int) -> AsyncIterator[float]:
        """Empty files, one operation a request."""
        yield 0
        await _each(count, width, lambda number: self._files.create(_path(number)))
        yield count
        await self._remove(count, _name)

    async def batched(self, count: int, width: int) -> AsyncIterator[float]:
        """Empty files, in requests of `BATCH` operations."""
        yield 0
        await self._batched(count, width, lambda number: Create(_path(number)))
        yield count
        await self._remove(count, _name)

    async def stat(self, count: int, width: int) -> AsyncIterator[float]:
        """What the files of a folder are, asked of who decides it."""
        await self._batched(count, 1, lambda number: Create(_path(number)))
        yield 0
        await _each(count, width, self._stat)
        yield count
        await self._remove(count, _name)

    async def _stat(self, number: int) -> None:
        stat = await self._files.stat(_path(number))
        if stat.name != _name(number):
            raise RuntimeError(f"asked for {_name(number)}, got {stat.name}")

    async def _read(self, name: str, size_bytes: int) -> int:
        sink = Sink(size_bytes)
        stat = await self._files.get(f"{FOLDER}/{name}", sink)
        sink.finish()
        return stat.size

    async def _remove(self, count: int, name: Callable[[int], str]) -> None:
        """Remove files, and wait until the servers have their room again: what they drop later, others would pay."""
        await self._batched(count, 1, lambda number: Remove(f"{FOLDER}/{name(number)}"))
        async with asyncio.timeout(EMPTY_S):
            while True:
                space = await self._files.space()
                if not any(server.used for server in space.servers):
                    return
                await asyncio.sleep(PAUSE_S)

    async def _batched(self, count: int, width: int, operation: Callable[[int], Operation]) -> None:
        async def change(batch: int) -> None:
            numbers = range(batch * BATCH, min((batch + 1) * BATCH, count))
            _check(await self._files.change([operation(number) for number in numbers]))

        await _each((count + BATCH - 1) // BATCH, width, change)


def _check(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, Denied):
            raise RuntimeError(f"{outcome.error}: {outcome.text}")


def _name(number: int) -> str:
    return f"file-{number}"


def _path(number: int) -> str:
    return f"{FOLDER}/{_name(number)}"


async def _each(count: int, width: int, do: Callable[[int], Awaitable[object]]) -> None:
    """Do it with so many numbers, that many at a time."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await do(number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(width):
            tasks.create_task(work())


async def _main() -> None:
    async with AsyncClient(Path(sys.argv[1])) as client:
        files = FilesClient(client, client.ref("metadata"))
        await files.mkdir(FOLDER, parents=True)
        cases = Cases(files)
        async for _ in cases.read(PIECE_BYTES):
            pass  # once unmeasured: connections open, and code is warm
        await serve(cases.cases())
        await files.close()


if __name__ == "__main__":
    asyncio.run(_main())
