"""What a peer keeps: after any crash it has exactly what was promised, and damage is never read as a log."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from nodes.raft.core import HardState, Save
from nodes.raft.members import Members
from nodes.raft.messages import LogEntry
from nodes.raft.storage import Recovered, Storage
from tests.nodes.raft.disks import StepDisk, run
from tests.nodes.raft.group import entry
from zactor.errors import Corrupt

MEMBERS = Members(("p0", "p1", "p2"))
MACHINE = "test.ledger"


class Peer:
    """A storage, and who uses it: what is in the log, what is applied."""

    def __init__(self, disk: StepDisk | None = None) -> None:
        self.disk = disk or StepDisk()
        self.start()

    def start(self) -> None:
        self.storage = Storage(self.disk, MACHINE)
        self.restored: list[bytes] = []
        self.recovered = run(self.storage.recover(self._restore))
        if self.recovered is None:
            run(self.storage.begin(MEMBERS, HardState()))

    def _restore(self, parts: Iterable[bytes]) -> None:
        self.restored = list(parts)

    def save(self, hard_state: HardState, first_index: int, *entries: LogEntry, previous_term: int = 0) -> None:
        self.storage.save(hard_state, Save(0, None, first_index, entries, previous_term))

    def sync(self) -> None:
        run(_sync(self.disk))

    @property
    def found(self) -> Recovered:
        assert self.recovered is not None
        return self.recovered


async def _sync(disk: StepDisk) -> None:
    await disk.synced()


def again(peer: Peer) -> Peer:
    return Peer(peer.disk)


def test_an_empty_folder_is_begun_once() -> None:
    peer = Peer()
    assert peer.recovered is None

    found = again(peer).found
    assert (found.hard_state, found.head.members, found.head.index, found.entries) == (HardState(), MEMBERS, 0, [])


def test_what_was_saved_is_there_again() -> None:
    peer = Peer()
    peer.save(HardState(1, "p0"), 1, entry(1, b"a"), entry(1, b"b"))
    peer.save(HardState(2, ""), 3, previous_term=1)
    peer.save(HardState(3, "p1"), 2, entry(3, b"c"), previous_term=1)

    found = again(peer).found
    assert (found.hard_state, found.entries) == (HardState(3, "p1"), [entry(1, b"a"), entry(3, b"c")])


def test_a_snapshot_takes_the_place_of_the_journals_before_it() -> None:
    peer = Peer()
    peer.save(HardState(1, "p0"), 1, entry(1, b"a"), entry(1, b"b"), entry(1, b"c"))
    head = peer.storage.head(2, 1, members=MEMBERS, applied=2, time_ns=7)
    run(peer.storage.prepare())
    run(peer.storage.switch(head, HardState(1, "p0"), [entry(1, b"c")]))
    peer.save(HardState(1, "p0"), 4, entry(1, b"d"), previous_term=1)
    run(peer.storage.write_snapshot(head, iter([b"ab"])))

    assert peer.disk.names == ["journal.2", "snapshot.2"]
    peer = again(peer)
    assert (peer.found.head, peer.found.entries) == (head, [entry(1, b"c"), entry(1, b"d")])
    assert peer.restored == [b"ab"]


def test_a_snapshot_that_comes_in_chunks_takes_the_place_of_the_log() -> None:
    leader, peer = Peer(), Peer()
    head = leader.storage.head(5, 2, members=MEMBERS, applied=4, time_ns=9)
    run(leader.storage.prepare())
    run(leader.storage.switch(head, HardState(2, ""), []))
    run(leader.storage.write_snapshot(head, iter([b"x" * 300, b"y"])))
    peer.save(HardState(2, "p1"), 1, entry(1, b"a"))

    offset = 0
    while chunk := run(leader.storage.read_chunk(leader.storage.snapshot_number, offset, 100)):
        offset = run(peer.storage.take_chunk("leader", offset, chunk))
    assert offset == leader.storage.snapshot_size
    taken = run(peer.storage.check_taken())
    assert (taken.head, list(taken.parts)) == (head, [b"x" * 300, b"y"])
    run(peer.storage.adopt())
    run(peer.storage.switch(taken.head, HardState(2, "p1"), []))
    peer.save(HardState(2, "p1"), 6, entry(2, b"f"), previous_term=2)

    peer = again(peer)
    assert (peer.found.hard_state, peer.found.head, peer.found.entries) == (HardState(2, "p1"), head, [entry(2, b"f")])
    assert peer.disk.names == ["journal.2", "snapshot.2"]


def test_the_state_of_another_machine_is_refused() -> None:
    peer = Peer()

    with pytest.raises(Corrupt, match=r"is of the machine test\.ledger, this peer hosts other\.one"):
        run(Storage(peer.disk, "other.one").recover(lambda _: None))
