"""Two kernels and their sockets: the first message is never lost, in whatever order the two come to know each other."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import ClassVar

import pytest

from tests.live.running import eventually_in_loop
from zactor.actor import Actor, on
from zactor.live.world import Book, BookEntry, LiveWorld
from zactor.message import Message, Ref

pytestmark = pytest.mark.live

PAIRS = 500


class Item(Message[None]):
    number: int


class Sink(Actor):
    came: ClassVar[asyncio.Future[int]]

    @on
    def item(self, message: Item) -> None:
        Sink.came.set_result(message.number)


class Source(Actor):
    sink: Ref[Item]

    number: int

    def on_start(self) -> None:
        self.tell(self.sink, Item(number=self.number))


def endpoint(folder: Path, transport: str, name: str) -> str:
    return "tcp://127.0.0.1:*" if transport == "tcp" else f"ipc://{folder / name}"


class Pair:
    """Two fresh kernels: `a` holds a source that tells once when it is linked, `b` the sink."""

    def __init__(self, folder: Path, transport: str, number: int) -> None:
        Sink.came = asyncio.get_running_loop().create_future()
        self.a = LiveWorld("a", number=1, incarnation=1, run="r")
        self.b = LiveWorld("b", number=2, incarnation=1, run="r")
        at_a = self.a.bind(endpoint(folder, transport, f"a{number}"))
        at_b = self.b.bind(endpoint(folder, transport, f"b{number}"))
        entries = {"a": BookEntry(1, 1, at_a), "b": BookEntry(2, 1, at_b)}
        self.book = Book(1, "r", {"source": "a", "sink": "b"}, entries)
        self.a.kernel.life.add("source", Source, {"number": number}, {"sink": "sink"})
        self.b.kernel.life.add("sink", Sink)

    def begin(self, world: LiveWorld) -> None:
        world.use_book(self.book)
        world.kernel.life.start()

    async def close(self) -> None:
        await asyncio.gather(self.a.leave(), self.b.leave())
        await self.a.close()
        await self.b.close()


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_what_two_fresh_kernels_tell_once_arrives_without_a_retry(runtime: Path, transport: str) -> None:
    async def tell_once(number: int) -> int:
        pair = Pair(runtime, transport, number)
        # The one that sends knows the other first, last, or at the same moment.
        first, second = (pair.a, pair.b) if number % 2 else (pair.b, pair.a)
        pair.begin(first)
        if number % 3:
            await asyncio.sleep(0)
        pair.begin(second)
        came = await asyncio.wait_for(Sink.came, 20)
        await pair.close()
        return came

    async def main() -> list[int]:
        return [await tell_once(number) for number in range(PAIRS)]

    assert asyncio.run(main()) == list(range(PAIRS))


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_a_hello_that_comes_before_the_first_book_is_answered_when_the_book_comes(
    runtime: Path, transport: str
) -> None:
    async def main() -> int:
        pair = Pair(runtime, transport, 7)
        pair.begin(pair.a)
        greeting = pair.a.kernel.neighbours.peers["b"]
        await eventually_in_loop(lambda: pair.b.kernel.neighbours._early)
        assert greeting.state == "greeting"
        pair.begin(pair.b)
        came = await asyncio.wait_for(Sink.came, 20)
        assert not pair.b.kernel.mailroom.strangers
        await pair.close()
        return came

    assert asyncio.run(main()) == 7


def test_an_ipc_socket_is_removed_when_its_world_is_closed(runtime: Path) -> None:
    folder = runtime / "closed"
    folder.mkdir()

    async def main() -> None:
        world = LiveWorld("a", number=1, incarnation=1, run="r")
        world.bind(f"ipc://{folder / 'gone'}")
        assert sorted(os.listdir(folder)) == ["gone", "goneb"]  # the second is for bulk
        await world.close()

    asyncio.run(main())

    assert not list(folder.iterdir())


def test_a_socket_file_of_a_process_that_was_killed_is_replaced(runtime: Path) -> None:
    folder = runtime / "killed"
    folder.mkdir()
    for name in ("stale", "staleb"):
        (folder / name).write_text("")

    async def main() -> None:
        world = LiveWorld("a", number=1, incarnation=1, run="r")
        world.bind(f"ipc://{folder / 'stale'}")
        await world.close()

    asyncio.run(main())

    assert not list(folder.iterdir())
