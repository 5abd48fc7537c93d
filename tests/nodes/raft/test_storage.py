"""What a peer keeps: after any crash it has exactly what was promised, and damage is never read as a log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import pytest

from nodes.raft import storage as storage_module
from nodes.raft.core import HardState
from nodes.raft.storage import Storage
from tests.nodes.raft.disks import Crash, StepDisk, run
from tests.nodes.raft.group import entry
from tests.nodes.raft.stories import MEMBERS, Peer, State, happen
from zactor.errors import Corrupt, DiskFull
from zactor.journal import HEADER, Journal, origin_of, record, scan

A, B, C, D = (entry(1, each) for each in (b"a", b"b", b"c", b"d"))
ONE = HardState(1, "p0")


def begun() -> Peer:
    peer = Peer()
    run(peer.start())
    return peer


def test_an_empty_folder_is_begun_once() -> None:
    peer = begun()
    assert peer.recovered is None

    assert run(peer.start()) == State(HardState())
    assert (peer.found.head.index, peer.found.head.members) == (0, MEMBERS)


def test_what_was_saved_is_there_again() -> None:
    peer = begun()
    peer.save(ONE, A, B)
    peer.save(HardState(2, ""))
    peer.save(HardState(3, "p1"), entry(3, b"c"), after=1)

    assert run(peer.start()) == State(HardState(3, "p1"), (A, entry(3, b"c")))


def test_a_snapshot_takes_the_place_of_the_journals_before_it() -> None:
    peer = begun()
    peer.save(ONE, A, B, C)
    run(peer.snapshot(2, D))
    assert peer.disk.names == ["journal.2", "snapshot.2"]

    assert run(peer.start()) == State(ONE, (A, B, C, D))
    assert (peer.found.head.index, peer.found.entries) == (2, [C, D])
    assert (peer.found.head.applied, peer.found.head.time_ns) == (2, 2)


def test_a_snapshot_from_a_leader_takes_the_place_of_another_log() -> None:
    peer = begun()
    peer.save(ONE, A, B, C)
    run(peer.install((A, entry(2, b"x"))))
    peer.save(ONE, entry(2, b"y"))
    assert peer.disk.names == ["journal.2", "snapshot.2"]

    assert run(peer.start()) == State(ONE, (A, entry(2, b"x"), entry(2, b"y")))


def test_section_7_what_follows_on_the_last_entry_of_a_snapshot_stays() -> None:
    peer = begun()
    peer.save(ONE, A, B, C)
    run(peer.install((A, B)))

    assert run(peer.start()) == State(ONE, (A, B, C))
    assert peer.found.head.index == 2


def test_chunks_that_do_not_follow_are_asked_for_again() -> None:
    storage = begun().storage

    assert run(storage.take_chunk("p1", 3, b"def")) == 0
    assert run(storage.take_chunk("p1", 0, b"abc")) == 3
    assert run(storage.take_chunk("p1", 0, b"abc")) == 3
    assert run(storage.take_chunk("p1", 5, b"xy")) == 3
    assert run(storage.take_chunk("p2", 3, b"xy")) == 0
    assert run(storage.take_chunk("p2", 0, b"x")) == 1


def test_a_snapshot_that_did_not_come_whole_is_refused() -> None:
    peer = begun()
    run(peer.storage.take_chunk("p1", 0, b"nothing of the sort"))

    with pytest.raises(Corrupt, match="is not whole"):
        run(peer.storage.check_taken())


def test_a_save_too_large_for_a_record_is_made_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "PART_SIZE_MAX", 100)
    peer = begun()
    log = tuple(entry(1, b"%d" % number) for number in range(20))
    peer.save(ONE, *log)
    run(peer.snapshot(5))

    assert run(peer.start()) == State(ONE, log)
    assert run(peer.start()) == State(ONE, log)


# --- crashes
async def saves(peer: Peer) -> None:
    peer.save(ONE, A, B)
    await peer.sync()
    peer.save(HardState(2, "p1"))
    peer.save(HardState(2, "p1"), entry(2, b"x"), entry(2, b"y"), after=1)
    await peer.sync()
    peer.save(HardState(3, ""), entry(3, b"z"))


async def own_snapshots(peer: Peer) -> None:
    peer.save(ONE, A, B, C)
    await peer.sync()
    peer.save(ONE, D)
    await peer.snapshot(2, entry(1, b"e"))
    peer.save(HardState(2, ""))
    await peer.sync()
    await peer.snapshot(4)


async def other_log(peer: Peer) -> None:
    peer.save(ONE, A, B, C)
    await peer.sync()
    await peer.install((A, entry(2, b"x"), entry(2, b"y")))
    peer.save(HardState(3, ""), entry(3, b"z"))
    await peer.sync()


async def same_log(peer: Peer) -> None:
    peer.save(ONE, A, B, C)
    await peer.snapshot(1)
    await peer.sync()
    peer.save(HardState(2, "p2"))
    await peer.sync()
    await peer.install((A, B))


STORIES = {each.__name__: each for each in (saves, own_snapshots, other_log, same_log)}


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("name", STORIES)
def test_a_crash_between_any_two_steps_leaves_what_was_promised(
    name: str, power: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "PART_SIZE_MAX", 50)
    steps, is_done = 0, False
    while not is_done:
        for seed in range(20 if power else 1):
            peer = Peer(StepDisk(seed))
            is_done = crashing(peer, steps, STORIES[name])
            restarts = 0
            # The start may crash, too, wherever it is.
            while not crashing(peer, restarts, lambda _: _nothing(), power=power):
                restarts += 1 + seed % 3
        steps += 1
    assert steps > 8


async def _nothing() -> None:
    pass


def crashing(peer: Peer, steps: int, act: Callable[[Peer], Awaitable[None]], *, power: bool = False) -> bool:
    """Start and act; crash after so many steps. Returns whether it came to the end."""
    if power:
        peer.disk.machine.lose_power()
    peer.disk.done, peer.disk.steps = 0, steps

    async def live() -> None:
        await peer.go_on()
        await act(peer)

    try:
        run(live())
    except Crash:
        return False
    finally:
        peer.disk.steps = None
    return True


@pytest.mark.parametrize("seed", range(150))
def test_at_random_a_start_finds_what_was_promised(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "PART_SIZE_MAX", 80)
    chance = Random(seed)
    peer = Peer(StepDisk(seed))

    async def act(peer: Peer) -> None:
        for _ in range(30):
            await happen(peer, chance)

    for _ in range(12):
        crashing(peer, chance.randrange(1, 120), act, power=chance.random() < 0.5)
    run(peer.go_on())


# --- a full disk
def test_what_a_full_disk_does_not_hold_is_taken_away_and_saved_again() -> None:
    peer = begun()
    peer.save(ONE, A)
    size = peer.storage.size
    peer.disk.machine.limit(20)
    peer.save(ONE, B)
    peer.storage.cut(size)
    peer.disk.machine.limit(None)
    peer.history.pop()
    peer.save(ONE, C)

    assert run(peer.start()) == State(ONE, (A, C))


@pytest.mark.parametrize("room", [5, 60, 100])
def test_a_disk_too_full_for_a_snapshot_leaves_the_journals(room: int) -> None:
    peer = begun()
    peer.save(ONE, A, B, C)
    peer.disk.machine.limit(room)
    with pytest.raises(DiskFull):
        run(peer.snapshot(3))
    run(peer.storage.give_up_snapshot())
    peer.disk.machine.limit(None)
    peer.save(ONE, D)

    assert run(peer.start()) == State(ONE, (A, B, C, D))
    run(peer.snapshot(4))
    assert run(peer.start()) == State(ONE, (A, B, C, D))


# --- foreign files
def test_the_state_of_another_machine_is_refused() -> None:
    peer = begun()

    with pytest.raises(Corrupt, match=r"is of the machine test\.ledger, this peer hosts other\.one"):
        run(Storage(peer.disk, "other.one").recover(lambda _: None))


@pytest.fixture(autouse=True)
def _little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it is used up now and then."""
    monkeypatch.setattr(storage_module, "AHEAD", 256)


# --- room that is made ahead
def test_zeros_ahead_are_written_over_and_are_no_torn_end() -> None:
    disk = StepDisk()
    journal = Journal(disk, "j", ahead=1000)
    texts = [bytes([number]) * 100 for number in range(1, 21)]
    sizes = set()
    for text in texts:
        run(awaited(journal.append(text)))
        sizes.add(len(disk.content("j")))
    assert len(sizes) < len(texts) / 4
    assert len(disk.content("j")) > journal.size

    again = Journal(disk, "j", ahead=1000)
    assert run(again.recover()) == texts
    assert (again.torn_size, len(disk.content("j"))) == (0, journal.size)


def test_a_record_torn_in_the_midst_of_zeros_is_cut_off_with_them() -> None:
    disk = StepDisk()
    journal = Journal(disk, "j", ahead=1000)
    run(awaited(journal.append(b"whole")))
    torn = record(b"torn" * 10, origin_of("j") + journal.size)[:30]
    run(awaited(disk.write("j", journal.size, torn)))

    again = Journal(disk, "j", ahead=1000)
    assert run(again.salvage()) == [b"whole"]
    assert (again.torn_size, len(disk.content("j"))) == (30, journal.size)
    run(awaited(again.append(b"more")))
    assert run(Journal(disk, "j").recover()) == [b"whole", b"more"]


async def awaited(done: Awaitable[object]) -> object:
    return await done


# --- damage
def records_of(peer: Peer, file: str) -> list[tuple[int, int]]:
    """Where the records of a journal begin and end."""
    content = bytes(peer.disk.content(file))
    found, places = scan(content), []
    offset = 0
    for payload in found.records:
        places.append((offset, offset + HEADER.size + len(payload)))
        offset = places[-1][1]
    assert not any(content[offset:])  # zeros that were written ahead
    return places


def saved() -> Peer:
    """A peer with a log of its own, and no snapshot."""
    peer = begun()
    run(saves(peer))
    run(peer.sync())
    peer.save(HardState(4, "p2"))
    run(peer.sync())
    return peer


def last_of(state: State) -> tuple[int, int]:
    return state.log[-1].term, len(state.log)


@pytest.mark.parametrize("place", range(1, 6))
@pytest.mark.parametrize("byte", [0, 1, 5, 9, 12, -1])
def test_damage_in_the_middle_costs_entries_and_no_vote(place: int, byte: int) -> None:
    peer = saved()
    final = peer.state
    begin, end = records_of(peer, "journal.1")[place]
    peer.disk.flip("journal.1", 8 * (begin + byte if byte >= 0 else end - 1) + 3)

    found = run(peer.start())
    assert found.log in [state.log for state in peer.history]
    # What only said again what others say (1), or had a vote (3), is no loss.
    assert found.log == {2: (), 4: (A, B), 5: (A, entry(2, b"x"), entry(2, b"y"))}.get(place, final.log)
    assert found.hard_state == (HardState(4, "p2", *last_of(final)) if found.log != final.log else final.hard_state)
    assert [text.split(":")[0] for text in peer.found.damaged] == ["journal.1"]

    assert run(peer.start()) == found
    peer.history.append(found)
    peer.save(HardState(5, "", found.hard_state.owed_term, found.hard_state.owed_index), entry(5, b"new"))
    assert run(peer.start()) == peer.state
    run(peer.snapshot(len(peer.state.log)))  # of what was committed, in a later term: nothing is owed any more
    assert run(peer.start()) == State(HardState(5, ""), peer.state.log)
    assert peer.found.damaged == []


def test_a_last_record_that_is_damaged_looks_torn() -> None:
    peer = saved()
    begin, end = records_of(peer, "journal.1")[-1]
    peer.disk.flip("journal.1", 8 * begin + 100)

    assert run(peer.start()) == peer.history[-2]
    assert (peer.found.torn_size, peer.found.damaged) == (end - begin, [])


def test_where_the_members_are_gone_the_folder_is_refused() -> None:
    peer = saved()
    peer.disk.flip("journal.1", 100)

    with pytest.raises(Corrupt, match="remove this folder, and the peer comes back as a learner"):
        run(peer.start())


def with_snapshot() -> Peer:
    peer = begun()
    peer.save(ONE, A, B, C, D)
    run(peer.snapshot(2))
    peer.save(HardState(2, "p1"), entry(2, b"x"))
    peer.save(HardState(3, "p1"))
    run(peer.sync())
    return peer


@pytest.mark.parametrize(("place", "kept", "owed"), [(0, 5, (0, 0)), (1, 2, (2, 5)), (2, 4, (2, 5))])
def test_a_journal_behind_a_snapshot_is_followed_up_to_its_hole(place: int, kept: int, owed: tuple[int, int]) -> None:
    peer = with_snapshot()
    begin, _ = records_of(peer, "journal.2")[place]
    peer.disk.flip("journal.2", 8 * begin + 100)

    assert run(peer.start()) == State(HardState(3, "p1", *owed), peer.state.log[:kept])


def test_a_peer_whose_only_snapshot_is_damaged_is_refused() -> None:
    peer = with_snapshot()
    peer.disk.flip("snapshot.2", 8 * 30)

    with pytest.raises(Corrupt, match=r"snapshot\.2 is not whole.*remove this folder"):
        run(peer.start())


def test_a_damaged_snapshot_is_passed_over_for_what_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = with_snapshot()
    monkeypatch.setattr("nodes.raft.storage.remove_older", _keep)
    run(peer.snapshot(4))
    assert peer.disk.names == ["journal.2", "journal.3", "snapshot.2", "snapshot.3"]
    peer.disk.flip("snapshot.3", 8 * 30)

    assert run(peer.start()) == peer.state
    assert peer.found.head.index == 2
    assert len(peer.found.damaged) == 1


async def _keep(_disk: object, _oldest: int) -> None:
    """Nothing is removed: as if it were killed just before."""


def test_a_journal_that_is_missing_is_told_as_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = with_snapshot()
    monkeypatch.setattr("nodes.raft.storage.write_snapshot", _full)
    for _ in range(2):
        with pytest.raises(DiskFull):
            run(peer.snapshot(4))
        peer.save(HardState(4, ""), entry(4, b"y"))
    run(peer.sync())
    del peer.disk.machine.files["peer", "journal.3"]

    # The one behind it begins with all that follows on the state when it began.
    assert run(peer.start()) == peer.state
    assert peer.found.damaged == ["journal.3 is missing"]


async def _full(*_: object) -> int:
    raise DiskFull("no room")


def test_a_folder_without_its_journals_is_refused() -> None:
    peer = with_snapshot()
    del peer.disk.machine.files["peer", "journal.2"]

    with pytest.raises(Corrupt, match="no journal says what this peer has promised"):
        run(peer.start())


@pytest.mark.parametrize("seed", range(60))
def test_at_random_damage_is_told_and_never_read_as_a_log(seed: int) -> None:
    chance = Random(seed)
    peer = Peer(StepDisk(seed))
    run(peer.start())
    states = peer.history

    async def live() -> None:
        for _ in range(chance.randrange(5, 60)):
            await happen(peer, chance)
        peer.save(HardState(peer.state.hard_state.term + 1, "p2"))
        await peer.sync()

    run(live())
    final = states[-1]
    file = chance.choice([name for name in peer.disk.names if name.startswith("journal.")])
    begin, end = chance.choice(records_of(peer, file)[:-1])
    peer.disk.flip(file, chance.randrange(8 * begin, 8 * end))
    if (file, begin) == ("journal.1", 0):
        with pytest.raises(Corrupt, match="remove this folder"):
            run(peer.start())
        return
    found = run(peer.start())
    known = found.hard_state
    owed = (known.owed_term, known.owed_index)
    assert (known.term, known.voted_for) == (final.hard_state.term, "p2")
    assert found.log in [state.log for state in states]
    assert found.log == final.log if owed == (0, 0) else owed >= last_of(final)


def test_a_disk_too_full_to_go_on_behind_a_snapshot_from_a_leader_loses_nothing() -> None:
    leader, peer = begun(), begun()
    peer.save(ONE, A, B, C)
    log = (A, B, C, *(entry(1, b"%d" % number) for number in range(9)))
    leader.save(ONE, *log)
    run(leader.snapshot(12))
    storage = peer.storage
    run(storage.take_chunk("leader", 0, run(leader.storage.read_chunk(2, 0, 10_000))))
    taken = run(storage.check_taken())
    run(storage.adopt())
    peer.disk.machine.limit(10)
    with pytest.raises(DiskFull):
        run(storage.switch(taken.head, ONE, (entry(1, b"beyond the room ahead" * 20_000),)))
    peer.disk.machine.limit(None)
    peer.history.append(State(ONE, log))

    peer.save(ONE, D)
    peer.disk.machine.limit(300)
    with pytest.raises(DiskFull):  # neither is there room for one of its own
        run(peer.snapshot(13))
    peer.disk.machine.limit(None)
    assert run(peer.start()) == State(ONE, (*log, D))


def test_a_disk_too_full_for_a_snapshot_from_a_leader_keeps_the_log() -> None:
    peer = begun()
    peer.save(ONE, A, B, C)
    peer.disk.machine.limit(50)
    with pytest.raises(DiskFull):
        run(peer.install((A, B, C, D)))
    peer.disk.machine.limit(None)

    assert run(peer.start()).log == (A, B, C)
    assert peer.disk.names == ["journal.1"]
