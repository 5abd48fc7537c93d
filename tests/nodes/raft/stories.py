"""Peers without a core: what is saved, snapshots, and what a start may find, step by step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

from nodes.raft.core import HardState, Save
from nodes.raft.members import Members
from nodes.raft.messages import LogEntry
from nodes.raft.storage import Recovered, Storage
from tests.nodes.raft.disks import StepDisk
from tests.nodes.raft.group import entry
from zactor.message import decoder, encode

MEMBERS = Members(("p0", "p1", "p2"))
MACHINE = "test.ledger"
_decode_entries = decoder(list[LogEntry])


class State(NamedTuple):
    """What a peer must not forget: its whole log, that in the snapshot, too."""

    hard_state: HardState
    log: tuple[LogEntry, ...] = ()


class Peer:
    """A storage and who uses it. `history`: the states since the start; from `promised` on a crash may leave each."""

    def __init__(self, disk: StepDisk | None = None) -> None:
        self.disk = disk or StepDisk()
        self.history = [State(HardState())]
        self.promised = 0
        self.committed = 0
        self.snapshot_index = 0
        self.storage = Storage(self.disk, MACHINE)
        self.recovered: Recovered | None = None

    @property
    def state(self) -> State:
        return self.history[-1]

    @property
    def found(self) -> Recovered:
        assert self.recovered is not None
        return self.recovered

    def term(self, index: int) -> int:
        return self.state.log[index - 1].term if index else 0

    # --- starts
    async def start(self) -> State:
        """Recover; return what was found."""
        parts: list[bytes] = []

        def restore(given: Iterable[bytes]) -> None:
            parts.extend(given)

        self.storage = Storage(self.disk, MACHINE)
        self.recovered = await self.storage.recover(restore)
        if self.recovered is None:
            await self.storage.begin(MEMBERS, HardState())
            return State(HardState())
        self.snapshot_index = self.recovered.head.index
        prefix = [each for part in parts for each in _decode_entries(part)]
        assert len(prefix) == self.recovered.head.index
        return State(self.recovered.hard_state, tuple(prefix + self.recovered.entries))

    async def go_on(self) -> None:
        """Start after a crash: what is found is one of what may be, and it goes on from there."""
        found = await self.start()
        assert found in self.history[self.promised :]
        assert found == State(HardState()) or self.recovered is not None
        self.history, self.promised = [found], 0
        self.committed = max(self.snapshot_index, min(self.committed, len(found.log)))

    # --- what happens
    def save(self, hard_state: HardState, *entries: LogEntry, after: int | None = None) -> None:
        """Put entries behind the one at index `after`, in the place of all there."""
        log = self.state.log if after is None else self.state.log[:after]
        for count in range(min(1, len(entries)), len(entries) + 1):
            # One that needs more than one record may be there in part.
            self.history.append(State(hard_state, log + entries[:count]))
        self.storage.save(hard_state, Save(0, None, len(log) + 1, entries, self.term(len(log))))

    async def sync(self) -> None:
        await self.disk.synced()
        self.promised = len(self.history) - 1

    async def snapshot(self, index: int, *entries_meanwhile: LogEntry) -> None:
        """Let one of its own take the place of what was applied."""
        head = self.storage.head(index, self.term(index), members=MEMBERS, applied=index, time_ns=index)
        prefix = self.state.log[:index]
        await self.storage.prepare()
        await self.storage.switch(head, self.state.hard_state, self.state.log[index:])
        if entries_meanwhile:
            self.save(self.state.hard_state, *entries_meanwhile)
        await self.storage.write_snapshot(head, parts_of(prefix))
        self.snapshot_index = index

    async def install(self, log: tuple[LogEntry, ...]) -> None:
        """A snapshot of that log comes from a leader."""
        index, storage = len(log), self.storage
        leader = Peer()
        await leader.start()
        leader.save(HardState(log[-1].term, ""), *log)
        await leader.snapshot(index)
        offset = 0
        while chunk := await leader.storage.read_chunk(leader.storage.snapshot_number, offset, 100):
            offset = await storage.take_chunk("leader", offset, chunk)
        assert offset == leader.storage.snapshot_size
        taken = await storage.check_taken()
        fits = len(self.state.log) >= index and self.term(index) == log[-1].term
        self.history.append(self.state if fits else State(self.state.hard_state, log))
        await storage.adopt()
        assert [each for part in taken.parts for each in _decode_entries(part)] == list(log)
        await storage.switch(taken.head, self.state.hard_state, self.state.log[index:])
        self.promised = len(self.history) - 1
        self.committed = self.snapshot_index = index


def parts_of(log: Iterable[LogEntry]) -> Iterator[bytes]:
    for each in log:
        yield encode([each])


async def happen(peer: Peer, chance: Random) -> None:
    """One of the things that a peer does with its disk."""
    what, state = chance.random(), peer.state
    term = state.hard_state.term
    if what < 0.55:
        term = max(1, term + (chance.random() < 0.2))
        last = len(state.log)
        after = chance.randrange(peer.committed, last + 1) if chance.random() < 0.2 else last
        new = tuple(entry(term, b"%d" % chance.randrange(1000)) for _ in range(chance.randrange(4)))
        if term == state.hard_state.term and after < last:
            after = last  # only another leader cuts
        peer.save(HardState(term, chance.choice(["", "p1"])), *new, after=after if new else None)
    elif what < 0.8:
        await peer.sync()
        peer.committed = chance.randrange(peer.committed, len(state.log) + 1)
    elif what < 0.92 and peer.committed > peer.snapshot_index:
        await peer.snapshot(peer.committed)
    elif term:
        await peer.install(later(peer, chance))


def later(peer: Peer, chance: Random) -> tuple[LogEntry, ...]:
    """A log that was committed elsewhere, and goes beyond what is committed here."""
    log = peer.state.log
    if len(log) > peer.committed and chance.random() < 0.5:
        return log[: chance.randrange(peer.committed, len(log)) + 1]
    term = peer.state.hard_state.term + 1
    peer.save(HardState(term, ""))
    return (*log[: peer.committed], *(entry(term, b"l%d" % chance.randrange(1000)) for _ in range(3)))
