"""The client behind a door that is no actor: what it keeps in flight, whom it trusts, and how it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from io import BytesIO
from typing import Any

import pytest

from nodes.files.client import FilesClient
from nodes.files.download import WINDOW as READ_WINDOW
from nodes.files.messages import (
    FRAME_SIZE,
    SMALL_SIZE_MAX,
    AlreadyExists,
    BadPath,
    CopyChunk,
    MissingChunk,
    NoRoom,
    NotFound,
    ReadChecksums,
    ReadChunk,
    ReopenChunk,
    Replaced,
    SealChunk,
    StoreSmall,
    WriteChunk,
)
from nodes.files.operations import Create, Denied, Relocate, Remove, Stat
from nodes.files.upload import WINDOW
from tests.nodes.files.standins import Cluster
from zactor.errors import AskTimeout, ConnectionLost, Corrupt, Failure
from zactor.message import Message, Ref
from zactor.replication.messages import OpenSession, Query, Renew, Submit

CHUNK_SIZE = 1 << 20
SIZES = [0, 1, SMALL_SIZE_MAX, SMALL_SIZE_MAX + 1, CHUNK_SIZE, CHUNK_SIZE + 1, (3 << 20) + 5]
LARGE = 3 * CHUNK_SIZE + 5
FRAMES = 13
SENT = 2 * (FRAMES + 4)
"""Frames and seals that servers get for a file of that size: two copies, four chunks."""


def content_of(size: int, seed: int = 1) -> bytes:
    return (bytes((index * 7 + seed) % 256 for index in range(251)) * (size // 251 + 1))[:size]


def run(cluster: Cluster, work: Callable[[FilesClient], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(work(FilesClient(cluster, Ref("metadata"))))


def put(cluster: Cluster, content: bytes, path: str = "/a", **how: Any) -> Stat:
    how.setdefault("size", len(content))
    stat = run(cluster, lambda files: files.put(BytesIO(content), path, **how))
    assert isinstance(stat, Stat)
    return stat


def get(cluster: Cluster, path: str = "/a", **how: Any) -> bytes:
    sink = BytesIO()
    run(cluster, lambda files: files.get(path, sink, **how))
    return sink.getvalue()


def count(cluster: Cluster, kind: type[Message[Any]]) -> int:
    return sum(isinstance(message, kind) for _, message in cluster.asked)


def check_copies(cluster: Cluster, copies: int = 2, path: str = "/a") -> None:
    """Every chunk lies whole on as many servers as it should."""

    async def work(files: FilesClient) -> None:
        for chunk in (await files.content(path)).chunks:
            assert len(set(chunk.servers)) == len(chunk.servers) == copies
            assert set((await files.held(chunk)).values()) == {chunk.crc}

    run(cluster, work)


class OneWay:
    """A source that gives its bytes once."""

    def __init__(self, content: bytes, piece_size: int) -> None:
        self._pieces = [content[start : start + piece_size] for start in range(0, len(content), piece_size)]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)


# --- put and get
@pytest.mark.parametrize("is_size_known", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_a_file_comes_back_as_it_was_put(size: int, is_size_known: bool) -> None:
    cluster = Cluster()
    content = content_of(size)

    stat = put(cluster, content, size=size if is_size_known else None)

    assert (stat.size, stat.kind) == (size, "file")
    assert get(cluster) == content
    check_copies(cluster)


@pytest.mark.parametrize("copies", [1, 3])
def test_each_chunk_has_as_many_copies_as_it_should(copies: int) -> None:
    cluster = Cluster(copies=copies)

    put(cluster, content_of(LARGE))

    check_copies(cluster, copies)


@pytest.mark.parametrize("piece_size", [1000, 65_536, 300_001, CHUNK_SIZE])
def test_a_source_may_give_pieces_of_any_size(piece_size: int) -> None:
    cluster = Cluster()
    content = content_of(LARGE)

    run(cluster, lambda files: files.put(OneWay(content, piece_size), "/a"))

    assert get(cluster) == content


def test_a_put_keeps_a_window_of_frames_in_flight_and_no_more() -> None:
    cluster = Cluster(chunk_size=16 << 20, copies=1, latency_turns=100)

    put(cluster, bytes(40 << 20))

    assert cluster.in_flight_max == WINDOW


def test_a_chunk_is_sealed_while_the_frames_of_the_next_one_flow() -> None:
    cluster = Cluster(copies=1)

    put(cluster, content_of(LARGE))

    names = [type(message).__name__ for _, message in cluster.asked]
    assert names.index("SealChunk") < len(names) - names[::-1].index("WriteChunk")


def test_a_get_keeps_a_window_of_pieces_in_flight_and_no_more() -> None:
    cluster = Cluster(chunk_size=16 << 20, copies=1, latency_turns=100)
    put(cluster, bytes(40 << 20))
    cluster.in_flight_max = 0

    assert get(cluster) == bytes(40 << 20)

    assert cluster.in_flight_max == READ_WINDOW


@pytest.mark.parametrize("offset", [0, 1, 65_536, 100_000, CHUNK_SIZE - 1, CHUNK_SIZE, LARGE - 1, LARGE, LARGE + 9])
def test_a_part_of_a_file_is_read(offset: int) -> None:
    cluster = Cluster()
    content = content_of(LARGE)
    put(cluster, content)

    assert get(cluster, offset=offset) == content[offset:]
    assert run(cluster, lambda files: files.read("/a", offset, 70_000)) == content[offset : offset + 70_000]


def test_progress_goes_up_to_the_size_of_the_file() -> None:
    cluster = Cluster()
    puts: list[int] = []
    gets: list[int] = []

    put(cluster, content_of(LARGE), progress=puts.append)
    get(cluster, progress=gets.append)

    assert puts == sorted(set(puts))
    assert len(puts) == FRAMES
    assert (puts[-1], gets[-1]) == (LARGE, LARGE)


# --- small files
def test_a_small_file_takes_two_exchanges_once_some_were_put() -> None:
    cluster = Cluster()

    async def work(files: FilesClient) -> None:
        for index in range(20):
            await files.put(BytesIO(b"x" * 100), f"/{index}")

    run(cluster, work)
    asked = [message for server, message in cluster.asked if server == "metadata"]

    assert sum(isinstance(message, Submit) for message in asked) == 20 + 2  # the first two do not find one begun
    assert (count(cluster, OpenSession), count(cluster, StoreSmall)) == (1, 2 * 20)


def test_a_small_file_goes_to_all_its_servers_before_one_of_them_has_it() -> None:
    cluster = Cluster()
    had: list[int] = []

    def after(_server: str, message: Message[Any]) -> None:
        if isinstance(message, StoreSmall):
            had.append(count(cluster, StoreSmall))

    cluster.after = after
    put(cluster, b"x" * 1000)

    assert had == [2, 2]
    check_copies(cluster)


def test_many_puts_at_once_share_a_session() -> None:
    cluster = Cluster()
    contents = {f"/{index}": content_of(index * 9_000, index) for index in range(40)}

    async def work(files: FilesClient) -> dict[str, bytes]:
        await asyncio.gather(*(files.put(BytesIO(content), path) for path, content in contents.items()))
        return {path: await files.read(path) for path in contents}

    assert run(cluster, work) == contents
    assert count(cluster, OpenSession) == 1


def test_inodes_that_lay_in_the_stash_when_the_session_was_lost_are_not_used() -> None:
    cluster = Cluster()

    async def work(files: FilesClient) -> bytes:
        for index in range(3):
            await files.put(BytesIO(b"x"), f"/{index}")
        cluster.end_sessions()
        await files.put(BytesIO(b"y"), "/y")
        return await files.read("/y")

    assert run(cluster, work) == b"y"


def test_what_is_reserved_for_small_files_is_free_after_close() -> None:
    cluster = Cluster()

    async def work(files: FilesClient) -> list[int]:
        for index in range(4):
            await files.put(BytesIO(b"x"), f"/{index}")
        held = sum(server.reserved for server in (await files.space()).servers)
        await files.close()
        return [held, *(server.reserved for server in (await files.space()).servers)]

    held, *after = run(cluster, work)
    assert held > 0
    assert after == [0, 0, 0]


def test_what_is_reserved_for_small_files_is_free_when_none_come() -> None:
    cluster = Cluster()

    async def work(files: FilesClient) -> list[int]:
        for index in range(8):
            await files.put(BytesIO(b"x"), f"/{index}")
        held = []
        for _ in range(2):
            await files.renew()
            held.append(sum(server.reserved for server in (await files.space()).servers))
        await files.put(BytesIO(b"y"), "/y")
        return held

    held, after = run(cluster, work)
    assert held > 0
    assert after == 0


@pytest.mark.parametrize("victim", ["store/0", "store/1", "store/2"])
def test_a_small_file_goes_elsewhere_when_a_server_is_away(victim: str) -> None:
    cluster = Cluster()
    cluster.kill(victim)

    put(cluster, b"x" * 1000)

    check_copies(cluster)
    assert count(cluster, StoreSmall) <= 3, "who has it is not asked again"


def test_a_small_file_waits_for_servers_that_come_back() -> None:
    cluster = Cluster()
    cluster.kill("store/0")
    cluster.kill("store/1")

    def before(server: str, message: Message[Any]) -> None:
        if isinstance(message, StoreSmall) and server != "store/2" and count(cluster, StoreSmall) > 6:
            cluster.restart("store/0")

    cluster.before = before
    put(cluster, b"x" * 1000)

    check_copies(cluster)


def test_what_lies_in_the_stash_for_a_server_that_failed_is_not_tried() -> None:
    cluster = Cluster()

    async def work(files: FilesClient) -> int:
        for index in range(10):
            await files.put(BytesIO(b"x"), f"/{index}")
        cluster.kill("store/0", is_known=True)
        cluster.asked.clear()
        for index in range(30):
            await files.put(BytesIO(b"y"), f"/{index}")
        failed = sum(server == "store/0" for server, _ in cluster.asked)
        await files.close()
        return failed

    assert run(cluster, work) <= 4
    assert [server.reserved for server in run(cluster, lambda files: files.space()).servers] == [0, 0, 0]


# --- a server dies in mid-put
@pytest.mark.parametrize("is_back", [False, True], ids=["gone", "restarted"])
@pytest.mark.parametrize("victim", ["store/0", "store/1", "store/2"])
@pytest.mark.parametrize("step", range(1, SENT + 1, 2))
def test_a_put_goes_on_when_a_server_dies_at_any_step(step: int, victim: str, is_back: bool) -> None:
    cluster = Cluster()
    content = content_of(LARGE)
    sent = 0

    def before(_server: str, message: Message[Any]) -> None:
        nonlocal sent
        if isinstance(message, WriteChunk | SealChunk | CopyChunk):
            sent += 1
            if sent == step:
                cluster.kill(victim)
            if is_back and sent == step + 3 and not cluster.servers[victim].is_up:
                cluster.restart(victim)

    cluster.before = before
    put(cluster, content)

    if not cluster.servers[victim].is_up:
        cluster.restart(victim)
    check_copies(cluster)
    assert get(cluster) == content


def test_two_servers_die_in_turn() -> None:
    cluster = Cluster(servers=4)
    content = content_of(LARGE)
    sent = 0

    def before(_server: str, message: Message[Any]) -> None:
        nonlocal sent
        if isinstance(message, WriteChunk):
            sent += 1
            if sent == 5:
                cluster.kill("store/0")
            if sent == 15:
                cluster.restart("store/0")
                cluster.kill("store/1")
            if sent == 25:
                cluster.kill("store/2")
                cluster.restart("store/1")

    cluster.before = before
    put(cluster, content)

    cluster.restart("store/2")
    check_copies(cluster)
    assert get(cluster) == content


def test_a_chunk_whose_only_server_comes_back_with_it_goes_on() -> None:
    cluster = Cluster(servers=1, copies=1, chunk_size=4 << 20)
    content = content_of(LARGE)
    kill_at(cluster, "store/0", 6, back_after_s=3.0)

    run(cluster, lambda files: files.put(OneWay(content, FRAME_SIZE), "/a"))

    assert get(cluster) == content
    assert count(cluster, ReopenChunk) > 0


def test_a_chunk_whose_only_server_comes_back_without_it_begins_again_if_the_source_can() -> None:
    cluster = Cluster(servers=1, copies=1, chunk_size=4 << 20)
    content = content_of(LARGE)
    kill_at(cluster, "store/0", 6, back_after_s=1.0, with_disk=False)

    put(cluster, content)

    assert get(cluster) == content


@pytest.mark.parametrize("index", [1, 2, 3])
def test_the_chunks_before_one_that_begins_again_go_on(index: int) -> None:
    cluster = Cluster(servers=4, copies=1)
    content = content_of(4 * CHUNK_SIZE)
    killed: list[str] = []

    def before(server: str, message: Message[Any]) -> None:
        if isinstance(message, WriteChunk) and message.chunk & 0xFFFF == index and message.offset and not killed:
            killed.append(server)
            cluster.kill(server)
            back_after(cluster, server, 1.0, with_disk=False)

    cluster.before = before
    put(cluster, content)

    assert len(killed) == 1
    assert get(cluster) == content


def test_a_chunk_that_is_lost_fails_a_put_whose_source_cannot_begin_again() -> None:
    cluster = Cluster(servers=1, copies=1, chunk_size=4 << 20)
    kill_at(cluster, "store/0", 6, back_after_s=1.0, with_disk=False)

    with pytest.raises(MissingChunk):
        run(cluster, lambda files: files.put(OneWay(content_of(LARGE), FRAME_SIZE), "/a"))

    with pytest.raises(NotFound):
        get(cluster)


def test_a_chunk_whose_servers_stay_away_begins_again_on_others() -> None:
    cluster = Cluster(servers=3, copies=1, chunk_size=4 << 20)
    content = content_of(LARGE)
    sent = 0

    def before(server: str, message: Message[Any]) -> None:
        nonlocal sent
        if isinstance(message, WriteChunk):
            sent += 1
            if sent == 7:
                cluster.kill(server, is_known=True)

    cluster.before = before
    put(cluster, content)

    assert get(cluster) == content


def test_a_put_gives_up_when_too_few_servers_are_there_for_half_a_minute() -> None:
    cluster = Cluster(servers=2, copies=2)
    kill_at(cluster, "store/0", 5)

    with pytest.raises((NoRoom, ConnectionLost)):
        put(cluster, content_of(LARGE))

    assert 29 <= cluster.time_ns / 1e9 <= 75
    assert sum(server.reserved for server in run(cluster, lambda files: files.space()).servers) == 0


def test_a_put_waits_for_servers_that_come_back() -> None:
    cluster = Cluster(servers=2, copies=2)
    cluster.kill("store/0", is_known=True)
    back_after(cluster, "store/0", 10.0)

    put(cluster, content_of(LARGE))

    check_copies(cluster)


def test_no_room_for_the_bytes_is_said_at_once_and_before_one_is_sent() -> None:
    cluster = Cluster()

    with pytest.raises(NoRoom):
        put(cluster, b"", size=1 << 35)

    assert count(cluster, WriteChunk) == 0
    assert cluster.time_ns < 1e9


def test_a_server_that_is_full_is_done_without() -> None:
    cluster = Cluster()

    def before(server: str, message: Message[Any]) -> None:
        if server == "store/1" and isinstance(message, WriteChunk) and message.offset:
            raise NoRoom("store/1 is full")

    cluster.before = before
    put(cluster, content_of(LARGE))

    check_copies(cluster)


@pytest.mark.parametrize("kind", [WriteChunk, SealChunk, ReopenChunk, StoreSmall, CopyChunk])
def test_what_fails_once_is_mended(kind: type[Message[Any]]) -> None:
    for error in (AskTimeout("late"), Corrupt("it changed on its way"), ConnectionLost("it died")):
        cluster = Cluster()
        left: list[Failure] = [error]
        started = [WriteChunk] if kind in (ReopenChunk, CopyChunk) else []

        def before(_server: str, message: Message[Any], left: Any = left, started: Any = started) -> None:
            if started and isinstance(message, WriteChunk) and message.offset:
                started.clear()
                raise ConnectionLost("a first one")
            if isinstance(message, kind) and left:
                raise left.pop()

        cluster.before = before
        put(cluster, content_of(1000 if kind is StoreSmall else LARGE))
        check_copies(cluster)
        assert get(cluster) == content_of(1000 if kind is StoreSmall else LARGE)


# --- the session
def test_a_put_stays_alive_while_its_source_has_nothing() -> None:
    cluster = Cluster()

    async def pieces() -> AsyncIterator[bytes]:
        yield content_of(300_000)
        for _ in range(10):
            await cluster.sleep(2.5)
            yield b""
        yield content_of(100)

    run(cluster, lambda files: files.put(pieces(), "/a"))

    assert count(cluster, Renew) == 10


def test_a_put_whose_session_was_lost_fails_and_leaves_nothing() -> None:
    cluster = Cluster()

    async def pieces() -> AsyncIterator[bytes]:
        yield content_of(300_000)
        cluster.end_sessions()
        await cluster.sleep(2.5)
        yield content_of(300_000)

    with pytest.raises(Failure, match="session"):
        run(cluster, lambda files: files.put(pieces(), "/a"))
    with pytest.raises(NotFound):
        get(cluster)


def test_a_put_whose_source_fails_is_abandoned() -> None:
    cluster = Cluster()

    async def pieces() -> AsyncIterator[bytes]:
        yield content_of(3_000_000)
        raise OSError("the disk is on fire")

    async def work(files: FilesClient) -> int:
        with pytest.raises(OSError, match="fire"):
            await files.put(pieces(), "/a")
        return sum(server.reserved for server in (await files.space()).servers)

    assert run(cluster, work) == 0


def test_a_put_that_was_cancelled_is_given_up_with_the_next() -> None:
    cluster = Cluster()

    async def pieces() -> AsyncIterator[bytes]:
        yield content_of(3_000_000)
        stalled.set()
        await asyncio.Event().wait()

    stalled = asyncio.Event()

    async def work(files: FilesClient) -> list[int]:
        task = asyncio.ensure_future(files.put(pieces(), "/a"))
        await stalled.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        held = sum(server.reserved for server in (await files.space()).servers)
        await files.put(BytesIO(b"x"), "/b")
        return [held, sum(server.reserved for server in (await files.space()).servers)]

    held, after = run(cluster, work)
    assert held > 2 * CHUNK_SIZE
    assert after == 0


def test_a_get_that_was_cancelled_lets_its_version_go_with_the_next_change() -> None:
    cluster = Cluster()
    put(cluster, content_of(LARGE))

    async def work(files: FilesClient) -> None:
        task = asyncio.ensure_future(files.get("/a", BytesIO()))
        while not count(cluster, ReadChunk):  # noqa: ASYNC110 (the cluster has no event)
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await files.remove("/a")
        assert cluster.namespace.events() == []
        await files.put(BytesIO(b"x"), "/b")
        assert len(cluster.namespace.events()) > 0

    run(cluster, work)


# --- reading
@pytest.mark.parametrize("size", [1000, 300_000, LARGE])
@pytest.mark.parametrize("victim", ["store/0", "store/1", "store/2"])
def test_a_file_is_read_while_a_server_is_away(victim: str, size: int) -> None:
    cluster = Cluster()
    put(cluster, content_of(size))
    cluster.kill(victim)

    assert get(cluster) == content_of(size)


def test_a_get_waits_for_servers_that_come_back() -> None:
    cluster = Cluster()
    put(cluster, content_of(LARGE))
    for server in cluster.servers:
        cluster.kill(server)
    start_ns = cluster.time_ns
    back_after(cluster, "store/0", 10.0)
    back_after(cluster, "store/1", 12.0)

    assert get(cluster) == content_of(LARGE)

    assert cluster.time_ns - start_ns >= 10e9


def test_a_get_gives_up_after_half_a_minute_without_progress() -> None:
    cluster = Cluster()
    put(cluster, content_of(LARGE))
    for server in cluster.servers:
        cluster.kill(server)
    start_ns = cluster.time_ns

    with pytest.raises(ConnectionLost):
        get(cluster)

    assert 29 <= (cluster.time_ns - start_ns) / 1e9 <= 40


@pytest.mark.parametrize("size", [1000, 300_000, LARGE])
def test_a_copy_that_is_wrong_is_not_believed(size: int) -> None:
    cluster = Cluster()
    put(cluster, content_of(size))
    chunk = run(cluster, lambda files: files.content("/a")).chunks[0]
    damage(cluster, chunk.servers[0], chunk.chunk)

    for _ in range(3):
        assert get(cluster) == content_of(size)


@pytest.mark.parametrize("size", [1000, 300_000, LARGE])
def test_when_all_copies_are_wrong_it_is_corrupt_and_the_sink_has_only_what_is_right(size: int) -> None:
    cluster = Cluster()
    put(cluster, content_of(size))
    content = run(cluster, lambda files: files.content("/a"))
    for server in content.chunks[-1].servers:
        damage(cluster, server, content.chunks[-1].chunk)
    sink = BytesIO()

    with pytest.raises(Corrupt, match="than the namespace says"):
        run(cluster, lambda files: files.get("/a", sink))

    assert content_of(size).startswith(sink.getvalue())


def test_a_chunk_that_was_copied_elsewhere_is_found_there() -> None:
    cluster = Cluster(servers=4)
    put(cluster, content_of(1_000_000))
    chunk = run(cluster, lambda files: files.content("/a")).chunks[0]
    others = tuple(name for name in cluster.servers if name not in chunk.servers)

    def before(_server: str, message: Message[Any]) -> None:
        if isinstance(message, ReadChunk) and message.chunk == chunk.chunk and others[0] not in moved:
            moved.append(others[0])
            for old, new in zip(chunk.servers, others, strict=True):
                cluster.servers[new].sealed[chunk.chunk] = cluster.servers[old].sealed.pop(chunk.chunk)
            cluster.own(Relocate(chunk.chunk >> 16, 0, chunk.servers, others))

    moved: list[str] = []
    cluster.before = before

    assert get(cluster) == content_of(1_000_000)


def test_a_reader_has_one_version_whatever_happens_to_its_name() -> None:
    cluster = Cluster()
    put(cluster, content_of(LARGE))

    async def work(files: FilesClient) -> tuple[bytes, bytes]:
        reader = await files.open("/a")
        first = await reader.read(0, CHUNK_SIZE)
        await files.put(BytesIO(b"new"), "/a")
        rest = await reader.read(CHUNK_SIZE, LARGE)
        await files.remove("/a")
        assert await reader.read(0, 10) == first[:10]
        assert await reader.read(LARGE, 10) == b""
        await reader.close()
        await reader.close()
        return first, rest

    assert b"".join(run(cluster, work)) == content_of(LARGE)
    assert len(cluster.namespace.events()) > 0  # its chunks were freed at the close


def test_a_reader_that_lost_its_session_goes_on_with_the_same_file_only() -> None:
    cluster = Cluster()
    put(cluster, content_of(LARGE))

    async def work(files: FilesClient) -> None:
        reader = await files.open("/a")
        cluster.end_sessions()
        await cluster.sleep(20)
        assert await reader.read(5, 10) == content_of(LARGE)[5:15]
        cluster.end_sessions()
        await files.put(BytesIO(b"new"), "/a")
        with pytest.raises(Replaced, match="/a was replaced"):
            await reader.read(5, 10)
        await reader.close()

    run(cluster, work)


def test_here_and_there_in_a_large_chunk_asks_for_its_checksums_once() -> None:
    cluster = Cluster(chunk_size=8 << 20)
    content = content_of(8 << 20)
    put(cluster, content)

    async def work(files: FilesClient) -> None:
        reader = await files.open("/a")
        for offset in (0, 5_000_000, 100, 7_999_990):
            assert await reader.read(offset, 1000) == content[offset : offset + 1000]
        await reader.close()

    run(cluster, work)
    assert count(cluster, ReadChecksums) == 1


def test_a_small_file_that_is_replaced_while_it_is_read_is_read_as_it_is_now() -> None:
    cluster = Cluster()
    put(cluster, b"old")
    chunk = run(cluster, lambda files: files.content("/a")).chunks[0]

    async def work(files: FilesClient) -> bytes:
        other = FilesClient(cluster, Ref("metadata"))

        async def replace() -> None:
            await other.put(BytesIO(b"new"), "/a")
            for server in chunk.servers:
                cluster.servers[server].sealed.pop(chunk.chunk, None)

        replacing: list[Any] = []

        def before(_server: str, message: Message[Any]) -> None:
            if isinstance(message, ReadChunk) and not replacing:
                replacing.append(asyncio.ensure_future(replace()))
                raise ConnectionLost("a moment")

        cluster.before = before
        return await files.read("/a")

    assert run(cluster, work) in (b"old", b"new")


# --- names
def test_names_are_made_listed_moved_and_removed() -> None:
    cluster = Cluster()

    async def work(files: FilesClient) -> list[str]:
        await files.mkdir("/docs/deep", parents=True)
        await files.create("/docs/b", mode=0o600)
        await files.symlink("/docs/link", "b")
        await files.rename("/docs/b", "/docs/c")
        await files.chmod("/docs/c", 0o640)
        assert (await files.stat("/docs/c")).mode == 0o640
        assert (await files.stat("/docs/link", follow=False)).target == "b"
        with pytest.raises(AlreadyExists):
            await files.create("/docs/c")
        await files.remove("/docs/link")
        return [item.name async for item in files.list("/docs")]

    assert run(cluster, work) == ["c", "deep"]


def test_a_long_list_comes_in_pages() -> None:
    cluster = Cluster()

    async def work(files: FilesClient) -> list[str]:
        for start in range(0, 2500, 500):
            await files.change([Create(f"/{index:04}") for index in range(start, start + 500)])
        return [item.name async for item in files.list("/")]

    assert run(cluster, work) == [f"{index:04}" for index in range(2500)]
    assert count(cluster, Query) == 3


def test_several_changes_are_one_exchange_with_an_outcome_each() -> None:
    cluster = Cluster()

    async def work(files: FilesClient) -> list[Any]:
        return await files.change([Create("/a"), Remove("/b"), Create("/c")])

    first, second, third = run(cluster, work)
    assert (first.name, third.name) == ("a", "c")
    assert isinstance(second, Denied)
    assert count(cluster, Submit) == 1


@pytest.mark.parametrize("path", ["a", "/a/../b", "/a\0b", "", "/" + "x" * 256])
def test_a_bad_path_is_refused_with_its_own_type(path: str) -> None:
    cluster = Cluster()
    for size in (0, 10, LARGE):
        with pytest.raises(BadPath):
            put(cluster, content_of(size), path)
    with pytest.raises(BadPath):
        get(cluster, path)


def test_without_replace_a_file_that_is_there_stays() -> None:
    cluster = Cluster()
    put(cluster, b"old")
    for size in (0, 10, LARGE):
        with pytest.raises(AlreadyExists):
            put(cluster, content_of(size), replace=False)
    assert get(cluster) == b"old"


def test_problems_are_chunks_on_servers_that_are_lost() -> None:
    cluster = Cluster()
    put(cluster, content_of(LARGE))
    chunk = run(cluster, lambda files: files.content("/a")).chunks[0]
    cluster.kill(chunk.servers[0], is_known=True)

    async def work(files: FilesClient) -> list[Any]:
        return [problem async for problem in files.problems()]

    found = run(cluster, work)
    assert chunk in [problem.chunk for problem in found]
    assert {problem.path for problem in found} == {"/a"}


# --- what happens to servers
def kill_at(
    cluster: Cluster, server: str, frame: int, *, back_after_s: float | None = None, with_disk: bool = True
) -> None:
    """Kill it at its so many-th frame; it may be back some time later."""
    seen = 0

    def before(name: str, message: Message[Any]) -> None:
        nonlocal seen
        if name == server and isinstance(message, WriteChunk):
            seen += 1
            if seen == frame:
                cluster.kill(server)
                if back_after_s is not None:
                    back_after(cluster, server, back_after_s, with_disk=with_disk)

    cluster.before = before


def back_after(cluster: Cluster, server: str, seconds: float, *, with_disk: bool = True) -> None:
    at_ns = cluster.time_ns + int(seconds * 1e9)
    earlier = cluster.before

    def before(name: str, message: Message[Any]) -> None:
        if cluster.time_ns >= at_ns and not cluster.servers[server].is_up:
            cluster.restart(server, with_disk=with_disk)
        earlier(name, message)

    cluster.before = before


def damage(cluster: Cluster, server: str, chunk: int) -> None:
    """Bits change, and the server does not notice."""
    content = bytearray(cluster.servers[server].sealed[chunk])
    content[len(content) // 2] ^= 1
    cluster.servers[server].sealed[chunk] = bytes(content)
