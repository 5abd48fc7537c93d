"""Puts: what begins, goes on, is committed or given up, and which bytes are free then; reading pins."""

from __future__ import annotations

import pytest

from nodes.files import operations as op
from nodes.files.messages import (
    BUCKETS,
    CHUNKS_MAX,
    SMALL_SIZE_MAX,
    AlreadyExists,
    BadCommit,
    FileTooLarge,
    IsAFolder,
    LeaseExpired,
    NoRoom,
    NotFound,
    StaleVersion,
    TooMany,
    WrongVolume,
    chunk_id,
    held_digest,
)
from nodes.files.namespace import Verdict
from nodes.files.placement import NEIGHBOURS, footprint
from tests.nodes.files.machine import MIB, Machine, expected
from zactor.errors import Refused

OTHER = 2
"""Another session."""


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.servers("a", "b", "c")
    return machine


def reserved(machine: Machine) -> list[int]:
    return [server.reserved for server in machine.ask(op.GetSpace()).servers]


def seal(place: op.Placed, size: int, crc: int = 7) -> op.SealedChunk:
    return op.SealedChunk(size, crc, place.version, place.servers)


# --- begin and allocate
def test_inodes_are_never_given_twice(machine: Machine) -> None:
    given = [*machine.do(op.Begin((1, 2, 3))).inodes, machine.do(op.Create("/a")).inode]
    machine.do(op.Abandon(given[0]))
    machine.do(op.Remove("/a"))
    given += machine.do(op.Begin((1,))).inodes
    given += [machine.do(op.Create("/a")).inode]

    assert len(set(given)) == len(given)


def test_a_put_begins_on_as_many_servers_as_there_are_to_be_copies(machine: Machine) -> None:
    begun = machine.do(op.Begin((10, None, 5 * MIB)))

    assert (begun.copies, begun.chunk_size) == (2, MIB)
    for place in begun.places:
        assert place.version == 1
        assert len(set(place.servers)) == 2


def test_small_files_that_begin_together_go_to_the_same_servers_and_large_ones_do_not(machine: Machine) -> None:
    small, large = machine.do(op.Begin((SMALL_SIZE_MAX,) * 20)), machine.do(op.Begin((SMALL_SIZE_MAX + 1,) * 20))
    assert small.inodes[0] // NEIGHBOURS == large.inodes[-1] // NEIGHBOURS

    assert len({place.servers for place in small.places}) == 1
    assert len({frozenset(place.servers) for place in large.places}) == 3


def test_small_files_whose_server_failed_go_on_with_the_same_other_one() -> None:
    machine = Machine()
    machine.servers(*"abcdef")
    begun = machine.do(op.Begin((SMALL_SIZE_MAX,) * 20))
    dead, alive = begun.places[0].servers

    changed = [machine.do(op.Rechain(inode, 0, 1, (alive,), 1, (dead,))) for inode in begun.inodes]

    assert len({place.servers for place in changed}) == 1


def test_room_is_reserved_for_the_first_chunk_and_for_each_that_is_allocated(machine: Machine) -> None:
    begun = machine.do(op.Begin((10, None, 5 * MIB)))
    assert sum(reserved(machine)) == 2 * (footprint(10) + 2 * footprint(MIB))

    first = machine.do(op.Allocate(begun.inodes[2], 1, MIB))
    again = machine.do(op.Allocate(begun.inodes[2], 1, MIB))

    assert again == first
    assert sum(reserved(machine)) == 2 * (footprint(10) + 3 * footprint(MIB))


def test_a_file_for_which_there_is_no_room_is_refused_before_a_byte_is_sent(machine: Machine) -> None:
    for number in range(3):
        machine.do(op.Report(f"s{number}", 100 + number, "", 8 * MIB, 0, 8 * MIB), 0)

    with pytest.raises(NoRoom, match="free: s0 8388608"):
        machine.do(op.Begin((12 * MIB,)))
    with pytest.raises(NoRoom):
        machine.do(op.Begin((6 * MIB, 6 * MIB)))
    assert reserved(machine) == [0, 0, 0]
    machine.do(op.Begin((11 * MIB,)))


def test_with_too_few_servers_it_says_which_are_lost(machine: Machine) -> None:
    machine.do(op.Lost("s1"), 0)
    machine.do(op.Lost("s2"), 0)

    with pytest.raises(NoRoom, match="lost: s1, s2"):
        machine.do(op.Begin((10,)))
    machine.do(op.Report("s2", 102, "c", MIB, 0, MIB), 0)
    assert set(machine.do(op.Begin((10,))).places[0].servers) == {"s0", "s2"}


def test_if_one_of_several_puts_finds_no_room_none_begins(machine: Machine) -> None:
    for number, room in enumerate((10 * MIB, 10 * MIB, 0)):
        machine.do(op.Report(f"s{number}", 100 + number, "", room, 0, room), 0)
    before = machine.namespace.digest()

    with pytest.raises(NoRoom):
        machine.do(op.Begin((None,) * 10))

    assert machine.namespace.digest() == before
    assert reserved(machine) == [0, 0, 0]


def test_a_file_has_a_limit_of_chunks(machine: Machine) -> None:
    with pytest.raises(FileTooLarge):
        machine.do(op.Begin((CHUNKS_MAX * MIB + 1,)))
    begun = machine.do(op.Begin((CHUNKS_MAX * MIB,)))
    with pytest.raises(FileTooLarge):
        machine.do(op.Allocate(begun.inodes[0], CHUNKS_MAX, 1))


def test_a_session_has_a_limit_of_puts(machine: Machine) -> None:
    for _ in range(64):
        machine.do(op.Begin((1,) * 64))

    with pytest.raises(TooMany):
        machine.do(op.Begin((1,)))
    machine.do(op.Begin((1,)), OTHER)


# --- chains
def test_a_chain_goes_on_with_those_who_are_left_under_a_higher_version(machine: Machine) -> None:
    begun = machine.do(op.Begin((MIB,)))
    first, second = begun.places[0].servers
    (third,) = {"s0", "s1", "s2"} - {first, second}

    shorter = machine.do(op.Rechain(begun.inodes[0], 0, 1, (second,)))
    longer = machine.do(op.Rechain(begun.inodes[0], 0, 2, (second,), add=1, avoid=(first,)))

    assert shorter == op.Placed(2, (second,))
    assert longer == op.Placed(3, (second, third))
    space = {server.server: server.reserved for server in machine.ask(op.GetSpace()).servers}
    assert space == {first: 0, second: footprint(MIB), third: footprint(MIB)}


def test_a_chain_is_changed_by_who_knows_it_alone(machine: Machine) -> None:
    begun = machine.do(op.Begin((MIB,)))
    inode, servers = begun.inodes[0], begun.places[0].servers
    (other,) = {"s0", "s1", "s2"} - set(servers)
    machine.do(op.Rechain(inode, 0, 1, servers))

    for version, keep in ((1, servers), (3, servers), (2, (other,))):
        with pytest.raises(StaleVersion):
            machine.do(op.Rechain(inode, 0, version, keep))
    with pytest.raises(StaleVersion):
        machine.do(op.Rechain(inode, 1, 1, ()))
    with pytest.raises(NotFound):
        machine.do(op.Rechain(inode, 0, 2, ("nobody",)))
    with pytest.raises(NoRoom):
        machine.do(op.Rechain(inode, 0, 2, servers, add=2))
    assert machine.do(op.Allocate(inode, 0, MIB)) == op.Placed(2, servers)


# --- commit
def test_nothing_is_seen_of_a_file_before_its_commit(machine: Machine) -> None:
    commit = machine.written(3 * MIB + 5, "/a")
    assert machine.names() == []
    stat = machine.do(commit)

    content = machine.ask(op.GetContent("/a"))
    assert (stat.size, stat.checksum, stat.inode) == (3 * MIB + 5, 0xFEED, commit.inode)
    assert content.stat == stat == machine.ask(op.GetStat("/a"))
    assert [chunk.chunk for chunk in content.chunks] == [chunk_id(stat.inode, index) for index in range(4)]
    assert [chunk.servers for chunk in content.chunks] == [chunk.servers for chunk in commit.chunks]
    assert reserved(machine) == [0, 0, 0]
    assert machine.freed() == []


def test_what_is_committed_must_be_what_was_given(machine: Machine) -> None:
    begun = machine.do(op.Begin((MIB + 5, 1)))
    inode, first = begun.inodes[0], begun.places[0]
    second = machine.do(op.Allocate(inode, 1, 5))
    elsewhere = tuple(name for name in ("s0", "s1", "s2") if name not in first.servers)
    good = (seal(first, MIB), seal(second, 5))
    bad = {
        "add up": ((seal(first, MIB),), MIB + 5),
        "was not allocated": ((seal(first, MIB), seal(second, MIB), seal(second, 5)), 2 * MIB + 5),
        "version": ((op.SealedChunk(MIB, 7, 2, first.servers), seal(second, 5)), MIB + 5),
        "all but the last": ((seal(first, MIB - 1), seal(second, 6)), MIB + 5),
        "none has 0": ((seal(first, MIB), seal(second, 0)), MIB),
        "2 different servers": ((op.SealedChunk(MIB, 7, 1, first.servers[:1] * 2), seal(second, 5)), MIB + 5),
        "must be on 2": ((op.SealedChunk(MIB, 7, 1, first.servers[:1]), seal(second, 5)), MIB + 5),
        "its chain is": ((op.SealedChunk(MIB, 7, 1, first.servers[:1] + elsewhere), seal(second, 5)), MIB + 5),
    }
    for reason, (chunks, size) in bad.items():
        with pytest.raises(BadCommit, match=reason):
            machine.do(op.Commit(inode, "/a", size, 0, chunks))
    assert machine.names() == []
    machine.do(op.Commit(inode, "/a", MIB + 5, 0, good))


def test_a_chunk_may_be_on_more_servers_than_it_must(machine: Machine) -> None:
    begun = machine.do(op.Begin((5,)))
    place = machine.do(op.Rechain(begun.inodes[0], 0, 1, begun.places[0].servers, add=1))
    machine.do(op.Commit(begun.inodes[0], "/a", 5, 0, (seal(place, 5),)))

    assert len(machine.ask(op.GetContent("/a")).chunks[0].servers) == 3


def test_a_refused_commit_can_be_made_under_another_name(machine: Machine) -> None:
    machine.do(op.MakeFolder("/d"))
    machine.put("/f")
    commit = machine.written(5, "/d")

    def to(path: str, *, replace: bool = True) -> op.Commit:
        return op.Commit(commit.inode, path, 5, 0, commit.chunks, None, replace)

    for change, error in (
        (to("/d"), IsAFolder),
        (to("/none/x"), NotFound),
        (to("/f", replace=False), AlreadyExists),
    ):
        with pytest.raises(error):
            machine.do(change)
    machine.do(to("/d/x"))
    with pytest.raises(LeaseExpired):
        machine.do(to("/d/y"))


def test_a_file_takes_the_place_of_another_whose_chunks_are_free_then(machine: Machine) -> None:
    old = machine.put("/a", 2 * MIB, mode=0o640)
    servers = [chunk.servers for chunk in machine.ask(op.GetContent("/a")).chunks]
    new = machine.put("/a", 5)

    assert (new.mode, machine.ask(op.GetStat("/a")).inode) == (0o640, new.inode)
    assert machine.freed() == [(chunk_id(old.inode, index), servers[index]) for index in (0, 1)]
    space = machine.ask(op.GetSpace())
    assert (space.files, space.bytes) == (1, 5)


def test_a_commit_through_a_link_replaces_the_file_and_keeps_the_link(machine: Machine) -> None:
    machine.do(op.MakeFolder("/d"))
    machine.put("/d/f")
    machine.do(op.MakeLink("/l", "d/f"))
    new = machine.put("/l")

    assert machine.ask(op.GetStat("/d/f")).inode == new.inode
    assert machine.ask(op.GetStat("/l", False)).kind == "link"


def test_an_empty_file_has_no_chunks_and_frees_what_was_begun_for_it(machine: Machine) -> None:
    begun = machine.do(op.Begin((64 << 10,)))
    machine.do(op.Commit(begun.inodes[0], "/a", 0, 0, ()))

    assert machine.ask(op.GetContent("/a")).chunks == ()
    assert machine.freed() == [(chunk_id(begun.inodes[0], 0), begun.places[0].servers)]
    assert reserved(machine) == [0, 0, 0]


def test_what_a_put_was_given_and_did_not_use_is_free_at_its_commit(machine: Machine) -> None:
    begun = machine.do(op.Begin((5,)))
    inode, (first, second) = begun.inodes[0], begun.places[0].servers
    third = machine.do(op.Rechain(inode, 0, 1, (second,), add=1, avoid=(first,)))
    extra = machine.do(op.Allocate(inode, 1, 5))
    machine.do(op.Commit(inode, "/a", 5, 0, (seal(third, 5),)))

    assert machine.freed() == [(chunk_id(inode, 0), (first,)), (chunk_id(inode, 1), extra.servers)]


# --- giving up
def test_an_abandoned_put_frees_all_that_it_was_given(machine: Machine) -> None:
    begun = machine.do(op.Begin((5, 5)))
    machine.do(op.Abandon(begun.inodes[0]))
    machine.do(op.Abandon(begun.inodes[0]))
    machine.do(op.Abandon(99))

    assert machine.freed() == [(chunk_id(begun.inodes[0], 0), begun.places[0].servers)]
    with pytest.raises(LeaseExpired):
        machine.do(op.Allocate(begun.inodes[0], 1, 5))


def test_a_put_is_of_its_session_alone(machine: Machine) -> None:
    commit = machine.written(5, "/a")

    machine.do(op.Abandon(commit.inode), OTHER)
    with pytest.raises(LeaseExpired):
        machine.do(commit, OTHER)
    with pytest.raises(LeaseExpired):
        machine.do(op.Allocate(commit.inode, 0, 5), OTHER)
    with pytest.raises(LeaseExpired):
        machine.do(op.Rechain(commit.inode, 0, 1, ()), OTHER)
    machine.do(commit)


def test_with_the_session_its_puts_and_pins_end(machine: Machine) -> None:
    kept = machine.written(5, "/kept", OTHER)
    machine.put("/read")
    machine.do(op.Pin("/read"))
    machine.do(op.Pin("/read"))
    machine.do(op.Begin((5, 5)))
    machine.do(op.Remove("/read"))
    machine.freed()

    machine.namespace.end_session(1)

    assert len(machine.freed()) == 3
    machine.do(kept, OTHER)
    assert reserved(machine) == [0, 0, 0]
    assert machine.names() == ["kept"]
    machine.namespace.end_session(1)
    assert machine.freed() == []


# --- pins
def test_a_replaced_file_can_be_read_until_the_last_reader_ends(machine: Machine) -> None:
    old = machine.put("/a")
    pinned = machine.do(op.Pin("/a"))
    machine.do(op.Pin("/a"), OTHER)
    machine.put("/a", 3)
    held = expected(machine.namespace)
    assert machine.freed() == []
    assert machine.ask(op.GetSpace()).bytes == 3

    machine.do(op.Unpin(old.inode))
    machine.do(op.Unpin(old.inode))
    assert machine.freed() == []
    assert machine.namespace.find_chunk(chunk_id(old.inode, 0)) == pinned.chunks[0]
    machine.do(op.Unpin(old.inode), OTHER)

    assert machine.freed() == [(chunk_id(old.inode, 0), pinned.chunks[0].servers)]
    assert machine.namespace.find_chunk(chunk_id(old.inode, 0)) is None
    assert expected(machine.namespace) != held


def test_a_pin_that_ends_while_the_file_has_its_name_frees_nothing(machine: Machine) -> None:
    stat = machine.put("/a")
    machine.do(op.Pin("/a"))
    machine.do(op.Unpin(stat.inode))

    assert machine.freed() == []
    machine.do(op.Remove("/a"))
    assert len(machine.freed()) == 1


def test_only_a_file_can_be_pinned(machine: Machine) -> None:
    machine.do(op.MakeLink("/l", "/"))
    with pytest.raises(IsAFolder):
        machine.do(op.Pin("/l"))
    with pytest.raises(NotFound):
        machine.do(op.Pin("/a"))
    with pytest.raises(IsAFolder):
        machine.ask(op.GetContent("/"))


# --- servers
def test_a_server_keeps_its_store(machine: Machine) -> None:
    with pytest.raises(WrongVolume, match="had 0x64 before"):
        machine.do(op.Report("s0", 999, "", 2, 1, 1), 0)
    with pytest.raises(WrongVolume, match="that of s0"):
        machine.do(op.Report("s1", 100, "", 1, 0, 1), 0)
    with pytest.raises(WrongVolume, match="that of s0"):
        machine.do(op.Report("new", 100, "", 1, 0, 1), 0)
    with pytest.raises(NotFound):
        machine.do(op.Lost("nobody"), 0)


def test_an_empty_store_may_take_the_place_of_another(machine: Machine) -> None:
    machine.do(op.Report("s0", 999, "", 1, 0, 1), 0)

    assert machine.namespace.servers.table[0].store == 999
    with pytest.raises(WrongVolume, match="had 0x3e7 before; give it the folder that it had, or an empty one"):
        machine.do(op.Report("s0", 100, "", 2, 1, 1), 0)


def test_room_shrinks_by_what_is_committed_until_the_server_reports(machine: Machine) -> None:
    machine.do(op.Report("s0", 100, "a", 10 * MIB, 0, 10 * MIB), 0)
    machine.do(op.Lost("s1"), 0)
    machine.put("/a", MIB)
    assert machine.ask(op.GetSpace()).servers[0].room == 10 * MIB - footprint(MIB)

    machine.do(op.Report("s0", 100, "a", 10 * MIB, MIB, 9 * MIB), 0)
    assert machine.ask(op.GetSpace()).servers[0].room == 9 * MIB


def test_space_says_all(machine: Machine) -> None:
    machine.put("/a", 2 * MIB)
    machine.do(op.MakeFolder("/d"))
    machine.do(op.Lost("s2"), 0)
    space = machine.ask(op.GetSpace())

    assert (space.files, space.folders, space.bytes, space.copies) == (1, 1, 2 * MIB, 2)
    assert sum(server.chunks for server in space.servers) == 4
    assert [server.is_up for server in space.servers] == [True, True, False]
    assert space.servers[2].room == 0


def test_a_verdict_says_what_to_do_with_what_a_server_holds(machine: Machine) -> None:
    stat = machine.put("/a", 10)
    chunk = machine.ask(op.GetContent("/a")).chunks[0]
    (other,) = {"s0", "s1", "s2"} - set(chunk.servers)
    begun = machine.do(op.Begin((5,)))
    first, second = begun.places[0].servers
    machine.do(op.Rechain(begun.inodes[0], 0, 1, (second,)))
    verdict = machine.namespace.verdict

    assert verdict(chunk.servers[0], chunk.chunk, 10, chunk.crc) is Verdict.LIVE
    assert verdict(chunk.servers[0], chunk.chunk, 9, chunk.crc) is Verdict.WRONG
    assert verdict(other, chunk.chunk, 10, chunk.crc) is Verdict.GARBAGE
    assert verdict("nobody", chunk.chunk, 10, chunk.crc) is Verdict.GARBAGE
    assert verdict(chunk.servers[0], chunk_id(stat.inode, 1), 10, 0) is Verdict.GARBAGE
    # Whatever a put was ever given may be under way to its server.
    assert verdict(first, chunk_id(begun.inodes[0], 0), 0, 0) is Verdict.LIVE
    assert verdict(first, chunk_id(begun.inodes[0], 1), 0, 0) is Verdict.GARBAGE
    assert verdict(first, chunk_id(begun.inodes[0] + 1, 0), 5, 5) is Verdict.FOREIGN
    machine.do(op.Pin("/a"))
    machine.do(op.Remove("/a"))
    assert verdict(chunk.servers[0], chunk.chunk, 10, chunk.crc) is Verdict.LIVE
    machine.do(op.Unpin(stat.inode))
    assert verdict(chunk.servers[0], chunk.chunk, 10, chunk.crc) is Verdict.GARBAGE


def test_a_chunk_is_on_other_servers_when_it_was_copied(machine: Machine) -> None:
    stat = machine.put("/a", 2 * MIB + 1)
    first, second = machine.ask(op.GetContent("/a")).chunks[1].servers
    (third,) = {"s0", "s1", "s2"} - {first, second}
    assert machine.namespace.place_copy(chunk_id(stat.inode, 1), MIB, (first, second)) == third
    machine.do(op.Relocate(stat.inode, 1, (first, second), (first, second, third)), 0)
    machine.do(op.Relocate(stat.inode, 1, (first, second, third), (second, third)), 0)

    assert machine.ask(op.GetContent("/a")).chunks[1].servers == (second, third)
    assert machine.freed() == [(chunk_id(stat.inode, 1), (first,))]
    assert expected(machine.restored()) == expected(machine.namespace)
    for was, now, error in (
        ((first, second), (first,), StaleVersion),
        ((second, third), (), Refused),
        ((second, third), (third, third), Refused),
        ((second, third), ("nobody",), NotFound),
    ):
        with pytest.raises(error):
            machine.do(op.Relocate(stat.inode, 1, was, now), 0)
    machine.do(op.Remove("/a"))
    with pytest.raises(StaleVersion):
        machine.do(op.Relocate(stat.inode, 1, (second, third), (first,)), 0)


def test_there_is_no_place_for_a_copy_where_all_have_one(machine: Machine) -> None:
    assert machine.namespace.place_copy(1 << 20, 5, ("s0", "s1", "s2")) is None
    machine.do(op.Lost("s2"), 0)
    assert machine.namespace.place_copy(1 << 20, 5, ("s0", "s1")) is None
    assert machine.namespace.place_copy(1 << 20, 5, ("s0", "gone")) == "s1"


def test_problems_are_chunks_with_too_few_servers_that_are_there(machine: Machine) -> None:
    machine.do(op.MakeFolder("/d/e", parents=True))
    for number in range(7):
        machine.put(f"/d/e/{number}", MIB + 1)
    assert machine.ask(op.GetProblems()) == op.Problems((), 9, "")
    machine.do(op.Lost("s1"), 0)

    found: list[op.Problem] = []
    names, cursor = 0, ""
    while True:
        answer = machine.ask(op.GetProblems(cursor, 2))
        found, names, cursor = [*found, *answer.problems], names + answer.names, answer.cursor
        if not cursor:
            break
    there = [
        (f"/d/e/{number}", chunk)
        for number in range(7)
        for chunk in machine.ask(op.GetContent(f"/d/e/{number}")).chunks
        if "s1" in chunk.servers
    ]
    assert names == 9
    assert [(problem.path, problem.chunk) for problem in found] == there
    assert all(problem.up == tuple(name for name in problem.chunk.servers if name != "s1") for problem in found)
    with pytest.raises(Refused, match="cursor"):
        machine.ask(op.GetProblems("x"))


def test_a_scan_comes_by_all_chunks_in_slices_and_by_bucket(machine: Machine) -> None:
    machine.do(op.MakeFolder("/d"))
    stats = [machine.put(f"/d/{number:03}", MIB + 1) for number in range(70)]

    def scan(bucket: int | None) -> list[int]:
        found, cursor = list[int](), b""
        while True:
            part = machine.namespace.scan(cursor, 7, None if bucket is None else (bucket,))
            found += [chunk.chunk for chunk in part.chunks]
            cursor = part.cursor
            if not cursor:
                return found

    ids = [chunk_id(stat.inode, index) for stat in stats for index in (0, 1)]
    assert scan(None) == ids
    assert scan(stats[0].inode % 64) == [chunk for chunk in ids if (chunk >> 16) % 64 == stats[0].inode % 64]


def test_a_slice_is_cut_short_by_files_of_many_chunks(machine: Machine) -> None:
    stats = [machine.put(f"/{number}", 6 * MIB) for number in range(3)]

    first = machine.namespace.scan(b"", 5)
    assert {chunk.chunk >> 16 for chunk in first.chunks} == {stats[0].inode}
    rest = machine.namespace.scan(first.cursor, 100)
    assert ({chunk.chunk >> 16 for chunk in rest.chunks}, rest.cursor) == ({stats[1].inode, stats[2].inode}, b"")


def test_the_answer_to_one_body_does_not_grow_without_bound(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodes.files.namespace.CHUNKS_MAX", 10)
    machine.put("/a", 6 * MIB)

    outcomes = machine.all(op.Pin("/a"), op.Pin("/a"))
    assert isinstance(outcomes[0], op.Content)
    assert outcomes[1].error == TooMany.wire
    machine.do(op.Pin("/a"))


def test_an_error_names_a_few_of_many_servers() -> None:
    machine = Machine()
    machine.servers(*[""] * 30)
    for number in range(30):
        machine.do(op.Lost(f"s{number}"), 0)

    with pytest.raises(NoRoom, match=r"free: none; lost: s0, s1, .*, s7, and 22 more"):
        machine.do(op.Begin((1,)))


def test_a_server_that_left_the_chain_has_no_say_in_the_commit(machine: Machine) -> None:
    begun = machine.do(op.Begin((5,)))
    first, second = begun.places[0].servers
    place = machine.do(op.Rechain(begun.inodes[0], 0, 1, (second,), add=1, avoid=(first,)))

    with pytest.raises(BadCommit, match="its chain is"):
        machine.do(op.Commit(begun.inodes[0], "/a", 5, 0, (op.SealedChunk(5, 7, place.version, (first, second)),)))


def test_what_joined_a_chain_is_live_while_the_put_is_open_and_free_after_it(machine: Machine) -> None:
    begun = machine.do(op.Begin((5,)))
    inode, (first, second) = begun.inodes[0], begun.places[0].servers
    added = machine.do(op.Rechain(inode, 0, 1, (second,), add=1, avoid=(first,))).servers[1]

    assert machine.namespace.verdict(added, chunk_id(inode, 0), 0, 0) is Verdict.LIVE
    machine.do(op.Abandon(inode))
    assert machine.freed() == [(chunk_id(inode, 0), (first, second, added))]


def test_a_server_should_hold_the_digests_of_the_chunks_of_files(machine: Machine) -> None:
    machine.put("/a", 2 * MIB)
    machine.put("/b", 5)
    machine.put("/gone", 5)
    machine.do(op.Remove("/gone"))
    machine.do(op.Begin((5,)))
    for server in ("s0", "s1", "s2"):
        digests = [0] * BUCKETS
        for chunk in (*machine.ask(op.GetContent("/a")).chunks, *machine.ask(op.GetContent("/b")).chunks):
            if server in chunk.servers:
                digests[(chunk.chunk >> 16) % BUCKETS] ^= held_digest(chunk.chunk, chunk.size, chunk.crc)
        assert machine.namespace.expected(server) == tuple(digests)
    assert machine.namespace.expected("nobody") == (0,) * BUCKETS
