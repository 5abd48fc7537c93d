"""The file system as a whole, in the virtual world: what was put comes back, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nodes.files.messages import AlreadyExists, BadPath, NoRoom, NotFound
from nodes.files.operations import Create, Denied, MakeFolder, MakeLink, Remove, Rename, Stat
from zactor.errors import Failure

CHUNK_SIZE = 256 << 10
LARGE = 5 * CHUNK_SIZE + 3


def content_of(size: int, seed: int = 1) -> bytes:
    return (bytes((index * 7 + seed) % 256 for index in range(251)) * (size // 251 + 1))[:size]


# --- put, get, list, remove
@pytest.mark.parametrize("size", [0, 1, 64 << 10, (64 << 10) + 1, CHUNK_SIZE, CHUNK_SIZE + 1, LARGE])
@pytest.mark.parametrize("size_known", [True, False])
def test_a_file_comes_back_as_it_was_put(system: Any, size: int, size_known: bool) -> None:
    content = content_of(size)

    stat = system.put("/a", content, size_known=size_known)

    assert stat.size == size
    assert system.get("/a") == content
    assert system.get("/a", offset=size // 2) == content[size // 2 :]
    system.check_copies("/a")


def test_frames_may_end_within_a_chunk_and_within_a_block(make_system: Callable[..., Any]) -> None:
    system = make_system(chunk_size=(1 << 20) + (64 << 10))
    content = content_of(3_000_001)

    system.put("/a", content, piece_size=300_001)

    assert system.get("/a") == content
    assert len(system.content("/a").chunks) == 3


@pytest.mark.parametrize("copies", [1, 3])
def test_as_many_copies_as_the_settings_say(make_system: Callable[..., Any], copies: int) -> None:
    system = make_system(copies=copies)
    for size in (100, LARGE):
        system.put("/a", content_of(size))
        system.check_copies("/a", copies)


def test_progress_is_shown_up_to_the_size_of_the_file(system: Any) -> None:
    system.put("/a", content_of(1 << 20))

    assert system.shown() == tuple(range(256 << 10, (1 << 20) + 1, 256 << 10))


def test_several_users_put_at_once(system: Any, do_put: type[Any]) -> None:
    sizes = [0, 10, 60_000, 600_000] * 5
    asks = [system.begin(do_put(path=f"/{index}", content=content_of(size, index))) for index, size in enumerate(sizes)]
    for ask in asks:
        system.virtual.result(ask)

    assert [system.get(f"/{index}") for index in range(20)] == [
        content_of(size, index) for index, size in enumerate(sizes)
    ]


def test_of_two_who_put_one_path_at_once_one_wins_whole(system: Any, do_put: type[Any]) -> None:
    asks = [system.begin(do_put(path="/a", content=content_of(600_000, seed))) for seed in (1, 2)]
    for ask in asks:
        system.virtual.result(ask)

    assert system.get("/a") in (content_of(600_000, 1), content_of(600_000, 2))
    system.run(5.0)
    assert len(system.chunk_files()) == 2 * 3


def test_a_file_that_was_removed_or_replaced_leaves_no_chunks(system: Any) -> None:
    system.put("/a", content_of(LARGE))
    system.put("/a", content_of(LARGE, 2))
    assert system.get("/a") == content_of(LARGE, 2)
    (outcome,) = system.change(Remove("/a"))
    assert not isinstance(outcome, Denied)

    system.run(5.0)

    assert system.chunk_files() == []
    with pytest.raises(NotFound, match="/a"):
        system.get("/a")


def test_names_in_folders(system: Any) -> None:
    system.change(MakeFolder("/docs/deep", parents=True), Create("/docs/b"), MakeLink("/docs/l", "deep"))
    system.put("/docs/l/c", b"through a link")
    outcomes = system.change(Rename("/docs/deep/c", "/docs/c"), Remove("/docs/deep"), Create("/docs/b"))

    assert system.get("/docs/c") == b"through a link"
    assert [name for name, _ in system.listing("/docs")] == ["b", "c", "l"]
    assert [type(outcome) for outcome in outcomes][-1] is Denied


@pytest.mark.parametrize("path", ["a", "/a/../b", "/a\0b", "//a", "/" + "a" * 256])
def test_a_bad_path_is_refused_everywhere(system: Any, path: str) -> None:
    for size in (0, 10, LARGE):
        with pytest.raises(BadPath):
            system.put(path, content_of(size))
    with pytest.raises(BadPath):
        system.get(path)
    system.run(3.0)
    assert system.chunk_files() == []


def test_what_does_not_fit_is_refused_before_it_is_sent(make_system: Callable[..., Any]) -> None:
    system = make_system(capacity=1 << 20)

    with pytest.raises(NoRoom):
        system.put("/a", content_of(3 << 20))

    assert system.chunk_files() == []


def test_a_disk_that_fills_up_refuses_and_recovers_when_there_is_room(make_system: Callable[..., Any]) -> None:
    system = make_system(capacity=2 << 20)
    system.put("/a", content_of(1 << 20))

    with pytest.raises(NoRoom):
        system.put("/b", content_of(3 << 20), size_known=False)
    assert system.get("/a") == content_of(1 << 20)
    system.change(Remove("/a"))
    system.run(6.0)

    system.put("/b", content_of(2 << 20))
    assert system.get("/b") == content_of(2 << 20)


def test_without_replace_a_file_that_is_there_stays(system: Any) -> None:
    system.put("/a", b"old")
    with pytest.raises(AlreadyExists):
        system.put("/a", content_of(LARGE), replace=False)
    assert system.get("/a") == b"old"


# --- who fails on the way
VICTIMS = ["store/0", "store/1", "store/2", "metadata"]


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("after_ms", [0.3, 1.0, 1.7, 2.5, 4.0, 6.0, 9.0])
@pytest.mark.parametrize("back_after_s", [0.5, 20.0])
def test_a_put_survives_a_server_that_dies_and_comes_back(
    system: Any, do_put: type[Any], victim: str, after_ms: float, back_after_s: float
) -> None:
    content = content_of(LARGE)
    putting = system.begin(do_put(path="/a", content=content))
    system.run(after_ms / 1000)
    system.kill(victim)
    system.run(back_after_s)
    system.restart(victim)

    stat = system.virtual.result(putting)

    assert isinstance(stat, Stat)
    assert system.get("/a") == content
    system.run(10.0)
    system.check_copies("/a")


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("after_ms", [0.3, 1.0, 2.0, 4.0])
def test_a_put_survives_a_server_that_loses_power(system: Any, do_put: type[Any], victim: str, after_ms: float) -> None:
    content = content_of(LARGE)
    putting = system.begin(do_put(path="/a", content=content))
    system.run(after_ms / 1000)
    system.lose_power(victim)
    system.run(1.0)
    system.restart(victim)

    system.virtual.result(putting)

    assert system.get("/a") == content
    system.run(10.0)
    system.check_copies("/a")


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("after_ms", [0.3, 0.6, 1.0])
def test_small_files_survive_a_server_that_dies(system: Any, do_put: type[Any], victim: str, after_ms: float) -> None:
    asks = [system.begin(do_put(path=f"/{index}", content=content_of(2000, index))) for index in range(20)]
    system.run(after_ms / 1000)
    system.kill(victim)
    system.run(5.0)
    system.restart(victim)

    for ask in asks:
        system.virtual.result(ask)

    system.run(10.0)
    for index in range(20):
        assert system.get(f"/{index}") == content_of(2000, index)
        system.check_copies(f"/{index}")


def test_servers_die_in_turn_while_a_file_is_put(system: Any, do_put: type[Any]) -> None:
    content = content_of(40 * CHUNK_SIZE)
    putting = system.begin(do_put(path="/a", content=content))
    for victim in ("store/0", "store/1", "store/2"):
        system.run(0.01)
        system.kill(victim)
        system.run(3.0)
        system.restart(victim)
        system.run(3.0)

    system.virtual.result(putting)

    assert system.get("/a") == content
    system.run(10.0)
    system.check_copies("/a")


def test_all_servers_die_at_once_while_a_file_is_put(system: Any, do_put: type[Any]) -> None:
    content = content_of(LARGE)
    putting = system.begin(do_put(path="/a", content=content))
    system.run(0.002)
    for process in VICTIMS:
        system.kill(process)
    system.run(2.0)
    for process in VICTIMS:
        system.restart(process)

    system.virtual.result(putting)

    assert system.get("/a") == content
    system.run(10.0)
    system.check_copies("/a")


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_get_survives_a_server_that_dies(system: Any, do_get: type[Any], victim: str) -> None:
    content = content_of(40 * CHUNK_SIZE)
    system.put("/a", content)
    getting = system.begin(do_get(path="/a"))
    system.run(0.002)
    system.kill(victim)
    system.run(5.0)
    system.restart(victim)

    assert system.virtual.result(getting) == content


def test_a_client_that_dies_in_mid_put_leaves_no_file_and_its_bytes_are_free_within_ten_seconds(
    make_system: Callable[..., Any], do_put: type[Any]
) -> None:
    system = make_system(users=2)
    before = [(server.used, server.reserved) for server in system.space().servers]
    asked = system.begin(do_put(path="/a", content=content_of(LARGE), stall_after=3 * CHUNK_SIZE), "user2")
    system.run(1.0)
    assert sum(server.reserved for server in system.space().servers) > 0
    system.kill("user2")

    system.run(10.0)

    assert system.listing() == []
    assert [(server.used, server.reserved) for server in system.space().servers] == before
    assert system.chunk_files() == []
    with pytest.raises(Failure):
        system.virtual.result(asked)


def test_a_put_whose_source_stalls_for_longer_than_the_lease_is_given_up(system: Any, do_put: type[Any]) -> None:
    system.begin(do_put(path="/a", content=content_of(LARGE), stall_after=3 * CHUNK_SIZE))
    system.run(12.0)

    assert system.chunk_files() == []
    assert system.listing() == []
    system.put("/b", content_of(LARGE))
    assert system.get("/b") == content_of(LARGE)


def test_a_reader_keeps_its_version_for_as_long_as_it_renews(system: Any, do_read: type[Any]) -> None:
    system.put("/a", content_of(LARGE))
    reading = system.begin(do_read(path="/a", after_s=30))
    system.run(5.0)
    system.put("/a", b"new")
    system.change(Remove("/a"))
    system.run(10.0)

    assert system.virtual.result(reading) == content_of(LARGE)
    system.run(5.0)
    assert system.chunk_files() == []


# --- corruption
@pytest.mark.parametrize("size", [1000, LARGE])
def test_a_flipped_bit_is_read_around_and_healed(system: Any, size: int) -> None:
    system.put("/a", content_of(size))
    server = system.content("/a").chunks[0].servers[0]
    flip(system, server, content_of(size)[:1000])

    for _ in range(4):
        assert system.get("/a") == content_of(size)

    system.run(20.0)
    system.check_copies("/a")


def flip(system: Any, server: str, content: bytes) -> None:
    """Change a bit of the first file of a server's disk that has this content."""
    for (folder, _), file in sorted(system.disk.files.items()):
        place = file.find(content)
        if folder == server and place >= 0:
            file[place + len(content) // 2] ^= 1
            return
    raise AssertionError(f"{server} has no such content")
