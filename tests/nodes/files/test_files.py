"""The file system as a whole, in the virtual world: what was put comes back, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from crc32c import crc32c

from nodes.files.messages import (
    Abandon,
    Allocate,
    BadCommit,
    BadPath,
    BadPiece,
    Begin,
    Busy,
    Commit,
    Conflict,
    DropChunk,
    Entry,
    FileTooLarge,
    LeaseExpired,
    ListFolder,
    MissingChunk,
    NoRoom,
    NotFound,
    ReadChunk,
    Renew,
    Replaced,
    SealChunk,
    StoredChunk,
    Survey,
    WriteChunk,
    WrongVolume,
)
from zactor.errors import ActorFailed, Corrupt, Refused
from zactor.world import Operation, Read

CHUNK_SIZE = 256 << 10
JOURNAL = ("metadata", "namespace.journal")


def content_of(size: int, seed: int = 1) -> bytes:
    return (bytes((index * 7 + seed) % 256 for index in range(251)) * (size // 251 + 1))[:size]


# --- put, get, list, remove
@pytest.mark.parametrize(
    "size",
    [0, 1, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, CHUNK_SIZE, CHUNK_SIZE + 1, 1 << 20, (5 << 20) + 3],
)
@pytest.mark.parametrize("size_known", [True, False])
def test_a_file_comes_back_as_it_was_put(system: Any, size: int, size_known: bool) -> None:
    content = content_of(size)

    entry = system.put("/docs/a", content, size_known=size_known)

    assert entry.size == size
    assert len(entry.chunks) == -(-size // CHUNK_SIZE)
    assert system.get("/docs/a") == content


def test_a_chunk_may_hold_many_pieces_and_end_within_one(make_system: Callable[..., Any]) -> None:
    system = make_system(chunk_size=(1 << 20) + 1000)
    content = content_of(3 << 20)

    entry = system.put("/a", content)

    assert [chunk.size for chunk in entry.chunks] == [(1 << 20) + 1000, (1 << 20) + 1000, (1 << 20) - 2000]
    assert system.get("/a") == content


@pytest.mark.parametrize("piece_size", [1000, 300_001])
def test_a_source_may_give_pieces_of_any_size(system: Any, piece_size: int) -> None:
    content = content_of(1_000_000)

    system.put("/a", content, piece_size=piece_size)

    assert system.get("/a") == content


def test_chunks_go_to_the_servers_in_turn(system: Any) -> None:
    entry = system.put("/a", content_of(4 * CHUNK_SIZE))

    servers = [chunk.server for chunk in entry.chunks]
    assert servers in (["store/0", "store/1"] * 2, ["store/1", "store/0"] * 2)


def test_progress_is_shown_up_to_the_size_of_the_file(system: Any) -> None:
    system.put("/a", content_of(1 << 20))

    assert system.shown() == tuple(range(256 << 10, (1 << 20) + 1, 256 << 10))


def test_putting_again_replaces_the_file_and_drops_its_chunks(system: Any) -> None:
    system.put("/a", content_of(3 * CHUNK_SIZE))

    entry = system.put("/a", content_of(100, seed=2))
    system.run(1.0)

    assert system.get("/a") == content_of(100, seed=2)
    assert system.chunk_files() == [(entry.chunks[0].server, f"{entry.chunks[0].chunk:016x}.chunk")]


def test_a_file_that_was_removed_is_gone_with_its_chunks(system: Any) -> None:
    system.put("/a", content_of(3 * CHUNK_SIZE))

    system.remove("/a")
    system.run(1.0)

    assert system.chunk_files() == []
    assert system.listing() == []
    with pytest.raises(NotFound, match="there is no file /a"):
        system.get("/a")
    with pytest.raises(NotFound):
        system.remove("/a")


def test_several_users_put_at_once(system: Any, do_put: type[Any]) -> None:
    asks = [system.begin(do_put(path=f"/{index}", content=content_of(600_000, index))) for index in range(8)]
    for ask in asks:
        system.virtual.result(ask)

    assert [system.get(f"/{index}") for index in range(8)] == [content_of(600_000, index) for index in range(8)]


def test_of_two_who_put_one_path_at_once_one_wins_whole(system: Any, do_put: type[Any]) -> None:
    asks = [system.begin(do_put(path="/a", content=content_of(600_000, seed))) for seed in (1, 2)]
    for ask in asks:
        system.virtual.result(ask)

    assert system.get("/a") in (content_of(600_000, 1), content_of(600_000, 2))
    system.run(1.0)
    assert len(system.chunk_files()) == 3


def test_a_long_list_comes_in_pages(system: Any) -> None:
    for index in range(25):
        system.put(f"/docs/{index:02}", b"")

    page = system.ask(ListFolder(path="/docs", after="03", limit=4), "metadata")

    assert [item.name for item in page.items] == ["04", "05", "06", "07"]
    assert page.more
    assert system.listing("/docs") == [(f"{index:02}", 0) for index in range(25)]
    assert system.listing("/") == [("docs/", None)]


def test_more_names_than_a_page_holds_are_all_listed(system: Any) -> None:
    for index in range(1001):
        token = system.ask(Begin(path=f"/{index:04}"), "metadata").token
        system.ask(Commit(token=token, entry=Entry(0, 0, ())), "metadata")

    assert system.listing() == [(f"{index:04}", 0) for index in range(1001)]


# --- what is refused
@pytest.mark.parametrize("path", ["a", "/a/../b", "/./a", "/a\0b", "//a", "/a/", "/" + "a" * 1024, "/\udc80"])
def test_a_bad_path_is_refused_everywhere(system: Any, path: str) -> None:
    for act, values in ((system.put, (path, b"x")), (system.get, (path,)), (system.remove, (path,))):
        with pytest.raises(BadPath):
            act(*values)
    assert system.chunk_files() == []


def test_a_file_and_a_folder_cannot_have_one_name(system: Any) -> None:
    system.put("/a/b", b"x")

    with pytest.raises(Conflict, match="/a is a folder"):
        system.put("/a", b"x")
    with pytest.raises(Conflict, match="/a/b is a file"):
        system.put("/a/b/c", b"x")


def test_a_conflict_that_comes_up_during_a_put_refuses_its_commit(system: Any) -> None:
    token = system.ask(Begin(path="/a"), "metadata").token
    system.put("/a/b", b"x")

    with pytest.raises(Conflict):
        system.ask(Commit(token=token, entry=Entry(0, 0, ())), "metadata")


def test_a_commit_must_name_what_was_given_to_it(system: Any) -> None:
    mine, other = (system.ask(Begin(path=path), "metadata").token for path in ("/a", "/b"))
    place = system.ask(Allocate(token=mine), "metadata")
    foreign = system.ask(Allocate(token=other), "metadata")
    good = StoredChunk(place.chunk, place.server, 5, 0)

    for entry in (
        Entry(5, 0, (StoredChunk(foreign.chunk, foreign.server, 5, 0),)),
        Entry(5, 0, (StoredChunk(place.chunk, "store/9", 5, 0),)),
        Entry(10, 0, (good, good)),
        Entry(6, 0, (good,)),
    ):
        with pytest.raises(BadCommit):
            system.ask(Commit(token=mine, entry=entry), "metadata")
    assert system.listing() == []


def test_a_file_of_too_many_chunks_is_refused_before_it_is_sent(make_system: Callable[..., Any]) -> None:
    system = make_system(chunk_size=1)

    with pytest.raises(FileTooLarge):
        system.put("/a", content_of(100_001))

    assert system.chunk_files() == []


def test_a_server_takes_only_the_next_piece_of_a_chunk_whole(system: Any) -> None:
    def write(offset: int, content: bytes, crc: int | None = None) -> None:
        right = crc32c(content)
        message = WriteChunk(chunk=77, offset=offset, content=content, crc=right if crc is None else crc)
        system.ask(message, "store/0")

    system.put("/a", b"")
    write(0, b"abc")

    for offset, content in ((0, b"abc"), (2, b"x"), (4, b"x"), (3, b""), (3, bytes((256 << 10) + 1))):
        with pytest.raises(BadPiece):
            write(offset, content)
    with pytest.raises(Corrupt, match="chunk 000000000000004d on store/0: the piece at 3 changed"):
        write(3, b"def", crc=1)
    with pytest.raises(Corrupt, match="has 3 bytes"):
        system.ask(SealChunk(chunk=77, size=3, crc=1), "store/0")
    with pytest.raises(MissingChunk):
        write(3, b"def")
    with pytest.raises(MissingChunk):
        system.ask(ReadChunk(chunk=77, offset=0, size=3), "store/0")


def test_a_chunk_is_not_dropped_while_it_is_being_sealed(system: Any) -> None:
    volume = int(system.events("volume_adopted")[0]["volume"], 16)
    system.ask(WriteChunk(chunk=77, offset=0, content=b"abc", crc=crc32c(b"abc")), "store/0")
    sealing = system.begin(SealChunk(chunk=77, size=3, crc=crc32c(b"abc")), "store/0")
    system.run(0.0003)

    with pytest.raises(Busy):
        system.ask(DropChunk(volume=volume, chunk=77), "store/0")

    system.virtual.result(sealing)
    assert system.ask(ReadChunk(chunk=77, offset=0, size=3), "store/0").content == b"abc"
    system.ask(DropChunk(volume=volume, chunk=77), "store/0")
    with pytest.raises(MissingChunk):
        system.ask(ReadChunk(chunk=77, offset=0, size=3), "store/0")


# --- corruption
def chunk_file(system: Any, entry: Entry, index: int = 0) -> bytearray:
    stored = entry.chunks[index]
    file = system.disk.files[stored.server, f"{stored.chunk:016x}.chunk"]
    assert isinstance(file, bytearray)
    return file


@pytest.mark.parametrize("block", [0, 3])
def test_a_corrupt_block_is_named_with_chunk_and_server(system: Any, block: int) -> None:
    entry = system.put("/a", content_of(2 * CHUNK_SIZE))
    chunk_file(system, entry, 1)[block * (64 << 10) + 5] ^= 1
    stored = entry.chunks[1]

    with pytest.raises(Corrupt, match=f"chunk {stored.chunk:016x} on {stored.server}: block {block} is not"):
        system.get("/a")

    assert len(system.events("block_corrupt")) == 1


def test_a_footer_that_was_misread_once_is_not_kept(make_system: Callable[..., Any]) -> None:
    system = make_system(servers=1)
    system.put("/a", content_of(1000, 1))
    system.put("/b", content_of(1000, 2))
    (mine, other), perform = [file for _, file in system.chunk_files()], system.disk.perform
    left = [1, 2]  # reads of the footer that go to the other chunk's

    def misdirected(operation: Operation) -> Any:
        if isinstance(operation, Read) and operation.file == mine and left:
            left.pop()
            operation = Read(operation.folder, other, operation.offset, operation.size)
        return perform(operation)

    system.disk.perform = misdirected

    with pytest.raises(Corrupt, match="block 0 is not what was written"):
        system.get("/a")

    assert system.get("/a") == content_of(1000, 1)


def test_a_corrupt_footer_is_found(system: Any) -> None:
    entry = system.put("/a", content_of(1000))
    chunk_file(system, entry)[-1] ^= 1

    with pytest.raises(Corrupt, match="the footer's checksum differs"):
        system.get("/a")


def test_a_chunk_that_was_cut_short_is_corrupt(system: Any) -> None:
    entry = system.put("/a", content_of(1000))
    del chunk_file(system, entry)[-100:]

    with pytest.raises(Corrupt):
        system.get("/a")


def test_a_chunk_that_vanished_is_corrupt_and_named(system: Any) -> None:
    entry = system.put("/a", content_of(1000))
    stored = entry.chunks[0]
    del system.disk.files[stored.server, f"{stored.chunk:016x}.chunk"]
    system.kill(stored.server)
    system.restart(stored.server)

    with pytest.raises(Corrupt, match=f"/a: chunk {stored.chunk:016x} on {stored.server} is not there"):
        system.get("/a")


def test_a_whole_chunk_in_the_place_of_another_is_found(system: Any) -> None:
    first, second = system.put("/a", content_of(1000, 1)), system.put("/b", content_of(1000, 2))
    chunk_file(system, first)[:] = chunk_file(system, second)

    with pytest.raises(Corrupt, match="/a: its chunks are whole, but together they are not what was put"):
        system.get("/a")


@pytest.mark.parametrize(
    "act", [lambda system: system.put("/a", b"new"), lambda system: system.remove("/a")], ids=["put", "rm"]
)
def test_a_reader_is_told_that_its_file_was_replaced_or_removed(
    system: Any, do_get: type[Any], act: Callable[[Any], object]
) -> None:
    system.put("/a", content_of(48 << 20))
    reading = system.begin(do_get(path="/a"))
    system.virtual.run(until=lambda: len(system.shown()) > 192)

    act(system)

    with pytest.raises(Replaced):
        system.virtual.result(reading)


# --- full disks
def test_a_server_that_is_full_refuses_and_goes_on(make_system: Callable[..., Any]) -> None:
    system = make_system(servers=1, capacity=1 << 20)
    small = content_of(300_000)
    system.put("/a", small)

    with pytest.raises(NoRoom, match="store/0 has"):
        system.put("/b", content_of(2 << 20))
    with pytest.raises(NoRoom):
        system.put("/b", content_of(2 << 20), size_known=False)
    system.run(1.0)

    assert system.get("/a") == small
    assert len(system.chunk_files()) == 2
    system.put("/c", small)
    assert system.get("/c") == small


def test_the_room_of_a_removed_file_is_there_at_once(make_system: Callable[..., Any]) -> None:
    system = make_system(servers=1, capacity=1 << 20)
    for _ in range(5):
        system.put("/a", content_of(900_000))
        system.remove("/a")


def test_a_full_disk_under_a_server_is_no_room_and_nothing_is_left(system: Any) -> None:
    system.put("/a", content_of(1000))
    system.disk.capacity_bytes = system.disk.capacity_bytes - system.disk.free_bytes() + 700_000

    with pytest.raises(NoRoom, match=r"store/\d is full: no room for"):
        system.put("/b", content_of(900_000))

    system.disk.capacity_bytes = 1 << 30
    system.run(11.0)
    assert len(system.chunk_files()) == 1
    system.put("/b", content_of(900_000))
    assert system.get("/b") == content_of(900_000)


def test_a_server_without_room_is_passed_over(make_system: Callable[..., Any]) -> None:
    system = make_system(capacity=1 << 20)
    put = system.put("/a", content_of(200_000))
    full = put.chunks[0].server

    entries = [system.put(f"/{index}", content_of(200_000)) for index in range(8)]

    used = [entry.chunks[0].server for entry in entries]
    assert {used.count("store/0") + (full == "store/0"), used.count("store/1") + (full == "store/1")} <= {4, 5}
    with pytest.raises(NoRoom):
        system.put("/last", content_of(256_000))


def test_a_seal_does_not_go_on_when_its_footer_finds_the_room_that_its_piece_did_not(system: Any) -> None:
    # Found by seed 4 of configs/files-trial.yaml: the server failed, and with it all that it was doing.
    system.disk.capacity_bytes = system.disk.capacity_bytes - system.disk.free_bytes() + 100

    with pytest.raises(NoRoom, match=r"store/\d is full: no room for 700 bytes"):
        system.put("/a", b"x" * 700)

    system.run(1.0)
    assert system.events("handler_failed") == []
    assert system.chunk_files() == []


def test_a_full_disk_under_the_metadata_server_refuses_a_commit_and_stays_consistent(system: Any) -> None:
    system.put("/a", content_of(1000))
    token = system.ask(Begin(path="/b"), "metadata").token
    before = bytes(system.disk.files[JOURNAL])
    system.disk.capacity_bytes -= system.disk.free_bytes() - 3

    with pytest.raises(NoRoom, match="the disk of metadata is full"):
        system.ask(Commit(token=token, entry=Entry(0, 0, ())), "metadata")

    assert bytes(system.disk.files[JOURNAL]) == before
    assert system.get("/a") == content_of(1000)
    system.disk.capacity_bytes = 1 << 30
    system.put("/b", b"x")
    system.kill("metadata")
    system.restart("metadata")
    assert system.listing() == [("a", 1000), ("b", 1)]


def test_a_torn_record_of_a_full_disk_is_cut_off(system: Any) -> None:
    system.put("/a", b"x")
    before = bytes(system.disk.files[JOURNAL])
    plain_append = system.disk._append

    def torn_append(operation: Any) -> Any:
        if operation.file == JOURNAL[1]:
            system.disk.files[JOURNAL] += operation.data[:10]
            system.disk._grow(bytearray(), 1 << 60)
        return plain_append(operation)

    system.disk._append = torn_append
    with pytest.raises(NoRoom):
        system.remove("/a")
    system.disk._append = plain_append

    assert bytes(system.disk.files[JOURNAL]) == before
    system.remove("/a")
    assert system.listing() == []


# --- puts that are never finished
def test_an_abandoned_put_is_cleaned_up_when_its_lease_ends(system: Any, do_put: type[Any]) -> None:
    system.begin(do_put(path="/a", content=content_of(3 << 20), stall_after=1_000_000))
    system.run(5.0)
    system.kill("user")
    assert len(system.chunk_files()) >= 3

    system.run(50.0)
    assert len(system.chunk_files()) >= 3

    system.run(30.0)
    assert system.chunk_files() == []
    assert [fields["path"] for fields in system.events("put_expired")] == ["/a"]


def test_a_put_that_fails_is_cleaned_up_at_once(system: Any, do_put: type[Any]) -> None:
    token = system.ask(Begin(path="/a"), "metadata").token
    place = system.ask(Allocate(token=token), "metadata")
    content = WriteChunk(chunk=place.chunk, offset=0, content=b"abc", crc=crc32c(b"abc"))
    system.ask(content, place.server)
    assert system.chunk_files() == [(place.server, f"{place.chunk:016x}.tmp")]

    system.ask(Abandon(token=token), "metadata")
    system.run(0.1)

    assert system.chunk_files() == []
    for late in (Allocate(token=token), Renew(token=token), Commit(token=token, entry=Entry(0, 0, ()))):
        with pytest.raises(LeaseExpired):
            system.ask(late, "metadata")


def test_a_put_that_is_renewed_does_not_expire(system: Any) -> None:
    token = system.ask(Begin(path="/a"), "metadata").token
    for _ in range(5):
        system.run(50.0)
        system.ask(Renew(token=token), "metadata")

    system.ask(Commit(token=token, entry=Entry(0, 0, ())), "metadata")

    assert system.listing() == [("a", 0)]


def test_a_put_over_a_server_that_died_fails_and_the_next_avoids_it(system: Any) -> None:
    system.kill("store/0")
    system.run(0.1)

    entry = system.put("/a", content_of(1 << 20))

    assert {chunk.server for chunk in entry.chunks} == {"store/1"}
    system.restart("store/0")
    system.run(1.0)
    assert {chunk.server for chunk in system.put("/b", content_of(1 << 20)).chunks} == set(system.servers)


def test_a_server_that_dies_during_a_put_fails_it_with_the_reason(system: Any, do_put: type[Any]) -> None:
    putting = system.begin(do_put(path="/a", content=content_of(4 << 20)))
    system.virtual.run(until=lambda: len(system.shown()) >= 5)
    system.kill("store/0")

    with pytest.raises(ActorFailed, match="ConnectionLost: store/0"):
        system.virtual.result(putting)

    assert system.listing() == []
    system.restart("store/0")
    system.run(90.0)
    assert system.chunk_files() == []


# --- other volumes
def test_a_server_never_drops_chunks_for_another_volume(system: Any) -> None:
    system.put("/a", content_of(1000))
    files = system.chunk_files()
    system.kill("metadata")
    del system.disk.files[JOURNAL]
    system.virtual.seed += 1  # what is drawn by lot now is not what was drawn before

    system.restart("metadata")
    system.run(30.0)

    assert system.chunk_files() == files
    assert "keeps chunks of volume" in system.events("server_lost")[-1]["because"]
    with pytest.raises(NoRoom, match="store/0 does not answer"):
        system.put("/b", b"x")
    for message in (DropChunk(volume=5, chunk=1), Survey(volume=5)):
        with pytest.raises(WrongVolume):
            system.ask(message, "store/0")


def test_chunks_that_this_journal_cannot_have_given_are_kept(system: Any) -> None:
    journal = bytes(system.disk.files[JOURNAL])
    for _ in range(2):
        system.kill("metadata")
        system.restart("metadata")
        system.run(1.0)
    system.put("/a", content_of(1000))
    files = system.chunk_files()
    system.kill("metadata")
    system.disk.files[JOURNAL] = bytearray(journal)  # an old copy, brought back

    system.restart("metadata")
    system.run(30.0)

    assert system.chunk_files() == files
    assert system.events("chunk_never_given")


def test_a_server_that_lost_its_volume_but_not_its_chunks_does_not_start(system: Any) -> None:
    entry = system.put("/a", content_of(1000))
    server = entry.chunks[0].server
    system.kill(server)
    del system.disk.files[server, "volume"]

    system.restart(server)
    system.run(2.0)

    failures = [fields["error"] for fields in system.events("handler_failed")]
    assert any("its file 'volume' is lost" in text for text in failures)


def test_more_chunks_than_a_page_holds_are_all_surveyed(make_system: Callable[..., Any]) -> None:
    system = make_system(servers=1, chunk_size=1)
    system.put("/a", content_of(1001))
    volume = int(system.events("volume_adopted")[0]["volume"], 16)

    first = system.ask(Survey(volume=volume), "store/0")
    rest = system.ask(Survey(volume=volume, after=first.chunks[-1]), "store/0")

    assert (len(first.chunks), first.more, len(rest.chunks), rest.more) == (1000, True, 1, False)


def test_all_refusals_cross_the_wire_with_their_names() -> None:
    assert {NotFound.wire, NoRoom.wire, BadPath.wire} == {"files.NotFound", "files.NoRoom", "files.BadPath"}
    assert issubclass(NotFound, Refused)
