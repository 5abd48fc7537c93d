"""The library of the file system over real processes: from plain code, from threads, from asyncio, and amid kills."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from nodes.files.library import AsyncFiles, Files
from nodes.files.messages import AlreadyExists, NotFound
from nodes.files.operations import Create
from tests.live.running import Launched, eventually
from zactor.client import AsyncClient, Client
from zactor.errors import UserError

pytestmark = pytest.mark.live

TOPOLOGY = """\
name: library
nodes:
  metadata:
    kind: files.metadata
    links: {servers: store}
    settings: {chunk_size: 4MiB, copies: 2, survey_every: 300ms, lease: 8s}
  store:
    kind: files.server
    replicas: 3
    settings: {capacity: 1GiB}
    restart: {when: failure, backoff: 50ms..200ms, limit: 100 in 60s}
"""

WITHOUT = "name: without\nnodes:\n  store: {kind: files.server}\n"

TWICE = """\
name: twice
nodes:
  one: {kind: files.metadata, links: {servers: store}, settings: {copies: 1}}
  two: {kind: files.metadata, links: {servers: other}, settings: {copies: 1}}
  store: {kind: files.server}
  other: {kind: files.server}
"""


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    with Launched(tmp_path_factory.mktemp("library"), TOPOLOGY) as running:
        yield running.ready()


@pytest.fixture
def files(launched: Launched) -> Iterator[Files]:
    with Files("library") as client:
        eventually(lambda: sum(server.is_up for server in client.space().servers) == 3)
        yield client
        for item in list(client.list("/")):
            client.remove_tree(f"/{item.name}")


def content_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_plain_code_puts_gets_lists_and_removes(files: Files) -> None:
    content = content_of(9_000_001)
    shown: list[int] = []

    files.mkdir("/docs/deep", parents=True)
    stat = files.put(BytesIO(content), "/docs/a", size=len(content), mode=0o600, progress=shown.append)
    files.symlink("/docs/link", "a")
    files.rename("/docs/a", "/docs/b")
    files.rename("/docs/b", "/docs/a")
    files.chmod("/docs/a", 0o640)
    sink = BytesIO()
    files.get("/docs/link", sink, offset=5)

    assert sink.getvalue() == content[5:]
    assert files.read("/docs/a", 4_000_000, 600_000) == content[4_000_000:4_600_000]
    assert (stat.mode, files.stat("/docs/a").mode, shown[-1]) == (0o600, 0o640, len(content))
    assert [item.name for item in files.list("/docs")] == ["a", "deep", "link"]
    assert files.stat("/docs/link", follow=False).target == "a"
    for chunk in files.content("/docs/a").chunks:
        assert list(files.held(chunk).values()) == [chunk.crc, chunk.crc]
    with pytest.raises(AlreadyExists):
        files.create("/docs/a")
    files.remove("/docs/a")
    with pytest.raises(NotFound, match="/docs/a"):
        files.read("/docs/a")
    assert list(files.problems()) == []


def test_a_reader_keeps_its_version_while_the_metadata_server_is_held_up(files: Files, launched: Launched) -> None:
    content = content_of(5_000_000)
    files.put([content], "/a")
    reader = files.open("/a")
    files.put([b"new"], "/a")
    os.kill(launched.pid("metadata"), signal.SIGSTOP)
    threading.Timer(0.5, os.kill, (launched.pid("metadata"), signal.SIGCONT)).start()

    assert reader.read(4_900_000, 200_000) == content[4_900_000:]

    reader.close()
    assert files.read("/a") == b"new"


def test_many_names_come_in_order_from_several_threads(files: Files) -> None:
    files.mkdir("/many")
    files.change([Create(f"/many/{number:04}") for number in range(1000)])
    files.change([Create(f"/many/{number:04}") for number in range(1000, 1500)])
    found: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: found.append([item.name for item in files.list("/many")])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [[f"{number:04}" for number in range(1500)]] * 4


def test_threads_put_at_once(files: Files) -> None:
    contents = {f"/{number}": content_of(number * 3_000) for number in range(40)}
    threads = [threading.Thread(target=files.put, args=([content], path)) for path, content in contents.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {path: files.read(path) for path in contents} == contents


def test_a_folder_there_and_back_while_servers_are_killed_in_turn(
    files: Files, launched: Launched, tmp_path: Path
) -> None:
    top = tmp_path / "top"
    top.mkdir()
    for number in range(300):
        (top / f"{number}").write_bytes(content_of(number * 20))
    (top / "large").write_bytes(content_of(60_000_000))
    has_ended = threading.Event()

    def kill() -> None:
        turn = 0
        while not has_ended.wait(1.5):
            try:
                os.kill(launched.pid(f"store/{turn % 3}"), signal.SIGKILL)
            except (KeyError, ProcessLookupError, AssertionError, TypeError):  # it is not up again yet
                continue
            turn += 1

    killing = threading.Thread(target=kill)
    killing.start()
    try:
        put = files.put_tree(top, "/top")
        got = files.get_tree("/top", tmp_path / "back")
    finally:
        has_ended.set()
        killing.join()

    assert (put.problems, got.problems, put.files, got.files) == ([], [], 301, 301)
    for path in top.iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()

    def all_copies() -> bool:
        return all(
            list(files.held(chunk).values()) == [chunk.crc, chunk.crc]
            for path, stat in files.walk("/top")
            if stat.kind == "file"
            for chunk in files.content(path).chunks
        )

    eventually(all_copies)


def test_a_get_of_one_version_outlives_its_replacement(files: Files) -> None:
    content = content_of(30_000_000)
    files.put([content], "/a")

    class Slow(BytesIO):
        def write(self, content: object) -> int:
            if not self.tell():
                replaced.set()
            return super().write(content)  # type: ignore[arg-type]

    replaced = threading.Event()
    sink = Slow()
    getting = threading.Thread(target=files.get, args=("/a", sink))
    getting.start()
    assert replaced.wait(30)
    files.put([b"new"], "/a")
    getting.join()

    assert sink.getvalue() == content


def test_asyncio_programs_use_it_too(launched: Launched, files: Files) -> None:
    async def work() -> bytes:
        async with AsyncFiles("library") as client:
            await asyncio.gather(*(client.put(BytesIO(bytes([number])), f"/{number}") for number in range(20)))
            await client.put([content_of(5_000_000)], "/large")
            reader = await client.open("/large")
            content = await reader.read(0, 10**9)
            await reader.close()
            return content

    assert asyncio.run(work()) == content_of(5_000_000)
    assert len(list(files.list("/"))) == 21


def test_what_a_client_reserved_is_free_when_it_leaves(launched: Launched, files: Files) -> None:
    with Files("library") as other:
        for number in range(10):
            other.put([b"x"], f"/{number}")
        assert sum(server.reserved for server in files.space().servers) > 0
    assert sum(server.reserved for server in files.space().servers) == 0


def test_without_files_or_with_several_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with Launched(tmp_path / "a", WITHOUT) as running:
        running.ready()
        with pytest.raises(UserError, match=r"without has no node of kind files\.metadata"):
            Files("without")
    with Launched(tmp_path / "b", TWICE) as running:
        running.ready()
        with pytest.raises(UserError, match=r"twice has 2 nodes of kind files\.metadata; say which: node='one'"):
            Files("twice")
        with Files("twice", node="two") as files:
            eventually(lambda: len(files.space().servers) == 1)
            files.put([b"x"], "/a")
            assert files.read("/a") == b"x"


def test_a_coroutine_function_runs_in_the_thread_of_a_client(launched: Launched) -> None:
    async def work(client: AsyncClient) -> tuple[list[str], bool]:
        before_ns = client.now_ns()
        await client.sleep(0.01)
        return client.names("store"), client.now_ns() - before_ns >= 10_000_000

    with Client("library") as client:
        assert client.run(work) == (["store/0", "store/1", "store/2"], True)
        with pytest.raises(UserError, match="no node"):
            client.run(_fail)


async def _fail(client: AsyncClient) -> None:
    client.names("nobody")
