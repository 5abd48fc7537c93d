"""A group of cores in one place: a network that loses, doubles and delays, disks that take their time, and crashes.

After every step the properties of Figure 3 are checked over all that ever happened.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec

from nodes.raft.core import HardState, Raft, Save, Sent, Settings
from nodes.raft.log import Log
from nodes.raft.members import Members
from nodes.raft.messages import Kind, LogEntry, SnapshotTaken
from nodes.raft.replay import Replay, Written
from zactor.message import Message

MS = 1_000_000
DEFAULTS = Settings()


class Disk(msgspec.Struct, eq=False):
    """What is durable of one peer, and the records that say so; None stands for a hole."""

    members: Members
    hard_state: HardState = HardState()
    entries: list[LogEntry] = msgspec.field(default_factory=list)
    index: int = 0  # of the snapshot
    term: int = 0
    records: list[Written | None] = msgspec.field(default_factory=list)

    def take(self, save: Save) -> None:
        if save.hard_state is not None:
            assert save.hard_state.term >= self.hard_state.term
            self.hard_state = save.hard_state
        assert save.first_index <= self.index + len(self.entries) + 1, "a hole in the log"
        first_index = max(save.first_index, self.index + 1)  # a snapshot may hold some by now
        del self.entries[first_index - self.index - 1 :]
        entries = save.entries[first_index - save.first_index :]
        self.entries += entries
        previous_term = save.previous_term if first_index == save.first_index else self.term
        self.records.append(Written(self.hard_state, first_index - 1, previous_term, entries))

    def begin_anew(self) -> None:
        """A journal that begins at the snapshot."""
        self.records = []
        self._carry()

    def damage(self, chance: Random) -> bool:
        """Some records in the middle become unreadable. Returns whether there were any."""
        if len(self.records) < 2:
            return False
        first = chance.randrange(len(self.records) - 1)
        end = chance.randrange(first + 1, len(self.records))
        self.records[first:end] = [None]
        replay = self._replay()
        self.entries, self.hard_state = replay.entries, replay.hard_state
        self._carry()
        replay = self._replay()
        assert (replay.entries, replay.hard_state) == (self.entries, self.hard_state)
        return True

    def _carry(self) -> None:
        self.records.append(Written(self.hard_state, self.index, self.term, tuple(self.entries), is_carried=True))

    def _replay(self) -> Replay:
        replay = Replay(self.index, self.term)
        for each in self.records:
            if each is None:
                replay.lose()
            else:
                replay.take(each)
        assert replay.is_known
        return replay


class Peer(msgspec.Struct, eq=False):
    """One peer: its core while it is up, its disk, and what it applied."""

    name: str
    disk: Disk
    core: Raft | None = None
    life: int = 0
    applied: list[LogEntry] = msgspec.field(default_factory=list)
    answered: dict[int, int] = msgspec.field(default_factory=dict)
    refused: list[int] = msgspec.field(default_factory=list)
    saves: list[tuple[Save, list[Sent]]] = msgspec.field(default_factory=list)


class Group:
    """Peers in virtual time. `sync_ns`: how long a save takes; `delay_ns` gives how long a message does, or None."""

    def __init__(
        self, count: int = 3, seed: int = 0, settings: Settings = DEFAULTS, voters: Sequence[str] = ()
    ) -> None:
        self.rng = Random(seed)
        self.settings = settings
        self.now_ns = 0
        names = [f"p{number}" for number in range(count)]
        members = Members(tuple(voters) or tuple(names))
        self.peers = {name: Peer(name, Disk(members)) for name in names}
        self.sync_ns: Callable[[], int] = lambda: 100_000
        self.delay_ns: Callable[[str, str], int | None] = lambda _source, _target: 50_000
        self.cuts: set[tuple[str, str]] = set()
        self.sent: list[tuple[str, str, Message[None]]] = []
        self.leaders: dict[int, str] = {}
        self.committed: list[LogEntry] = []
        self.committed_in: list[int] = []  # of each, the term in which it was known to be
        self.events = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        for name in names:
            self.start(name)

    # --- what happens to peers
    def start(self, name: str) -> Raft:
        peer = self.peers[name]
        disk = peer.disk
        if not disk.records:
            disk.begin_anew()
        log = Log(disk.members, disk.index, disk.term, disk.entries)
        peer.core = Raft(name, log, disk.hard_state, self.settings, Random(self.rng.getrandbits(32)), self.now_ns)
        peer.life += 1
        peer.applied = self.committed[: disk.index]
        self._settle(peer)
        self._wake(peer)
        return peer.core

    def kill(self, name: str) -> None:
        """What was not synced is lost, but for a part from the oldest on."""
        peer = self.peers[name]
        kept = self.rng.randrange(len(peer.saves) + 1)
        for save, _ in peer.saves[:kept]:
            peer.disk.take(save)
        peer.core, peer.saves = None, []
        peer.life += 1

    def damage(self, name: str) -> bool:
        """A peer that is down loses entries in the middle of its journal. Returns whether there were any."""
        lost = self.peers[name].disk.damage(self.rng)
        self.damaged += lost
        return lost

    damaged = 0

    def owing(self) -> list[str]:
        """The peers whose logs lack what they acknowledged once."""
        return [name for name, peer in self.peers.items() if peer.disk.hard_state.owed_term]

    def core(self, name: str) -> Raft:
        core = self.peers[name].core
        assert core is not None, f"{name} is down"
        return core

    # --- time
    def run(self, milliseconds: float) -> None:
        end_ns = self.now_ns + int(milliseconds * MS)
        while self._queue and self._queue[0][0] <= end_ns:
            self.now_ns, _, work = heapq.heappop(self._queue)
            work()
        self.now_ns = end_ns

    def run_until(self, condition: Callable[[], Any], milliseconds: float = 5_000) -> None:
        end_ns = self.now_ns + int(milliseconds * MS)
        while not condition():
            assert self._queue, "nothing happens any more"
            assert self._queue[0][0] <= end_ns, "it did not come to that"
            self.now_ns, _, work = heapq.heappop(self._queue)
            work()

    def leader(self) -> str:
        """The leader of the latest term, which a majority follows."""
        self.run_until(lambda: self._leader())
        return self._leader()

    def _leader(self) -> str:
        up = [peer.core for peer in self.peers.values() if peer.core is not None]
        term = max((core.term for core in up), default=0)
        leaders = [core for core in up if core.leadership is not None and core.term == term]
        if leaders and leaders[0].commit_index >= leaders[0].leadership._first_index:  # type: ignore[union-attr]
            return leaders[0].me
        return ""

    def propose(self, name: str, body: bytes) -> int | None:
        index = self.core(name).propose(body)
        self._settle(self.peers[name])
        return index

    def read(self, name: str, token: int) -> bool:
        could = self.core(name).read_barrier(token)
        self._settle(self.peers[name])
        return could

    def do(self, name: str, what: Callable[[Raft], Any]) -> Any:
        answer = what(self.core(name))
        self._settle(self.peers[name])
        return answer

    # --- the host of a core
    def _at(self, delay_ns: int, work: Callable[[], None]) -> None:
        self.events += 1
        heapq.heappush(self._queue, (self.now_ns + delay_ns, self.events, work))

    def _wake(self, peer: Peer) -> None:
        life = peer.life
        assert peer.core is not None

        def wake() -> None:
            if peer.life != life or peer.core is None:
                return
            if self.now_ns >= peer.core.deadline_ns:
                peer.core.tick(self.now_ns)
                self._settle(peer)
            self._at(max(1, min(peer.core.deadline_ns - self.now_ns, 10 * MS)), wake)

        self._at(max(1, min(peer.core.deadline_ns - self.now_ns, 10 * MS)), wake)

    def _settle(self, peer: Peer) -> None:
        core = peer.core
        assert core is not None
        ready = core.ready()
        for target, message in ready.send_now:
            self._send(peer.name, target, message)
        if ready.save is not None:
            peer.saves.append((ready.save, ready.send_after))
            self._at(self.sync_ns(), self._syncer(peer))
        elif ready.send_after and peer.saves:
            peer.saves[-1][1].extend(ready.send_after)
        else:
            for target, message in ready.send_after:
                self._send(peer.name, target, message)
        for target in ready.snapshots:
            self._snapshot(peer, target)
        self._apply(peer, ready.committed_index, ready.committed)
        for token, index in ready.reads:
            peer.answered[token] = index
        peer.refused += ready.refused_reads
        self._check(peer)

    def _syncer(self, peer: Peer) -> Callable[[], None]:
        life = peer.life

        def synced() -> None:
            if peer.life != life or peer.core is None:
                return
            save, after = peer.saves.pop(0)
            peer.disk.take(save)
            peer.core.persisted(save.number)
            for target, message in after:
                self._send(peer.name, target, message)
            self._settle(peer)

        return synced

    def _send(self, source: str, target: str, message: Message[None]) -> None:
        self.sent.append((source, target, message))
        if (source, target) in self.cuts:
            return
        for _ in range(2 if self.rng.random() < self.doubling else 1):
            delay_ns = self.delay_ns(source, target)
            if delay_ns is not None:
                self._at(delay_ns, lambda: self._deliver(source, target, message))

    doubling = 0.0

    def _deliver(self, source: str, target: str, message: Message[None]) -> None:
        peer = self.peers[target]
        if peer.core is not None and (source, target) not in self.cuts:
            peer.core.step(source, message, self.now_ns)
            self._settle(peer)

    # --- snapshots: as the state after some entry, which is the entries themselves
    def compact(self, name: str) -> None:
        """Let a snapshot take the place of what was applied."""
        peer = self.peers[name]
        index = min(len(peer.applied), peer.disk.index + len(peer.disk.entries))
        core = self.core(name)
        term = core.log.term(index)
        if term is None or index <= peer.disk.index:
            return
        peer.disk.members = core.log.members_at(index)
        del peer.disk.entries[: index - peer.disk.index]
        peer.disk.index, peer.disk.term = index, term
        peer.disk.begin_anew()
        core.compact(index)
        self._settle(peer)

    def _snapshot(self, source: Peer, target: str) -> None:
        disk, core = source.disk, source.core
        assert core is not None
        term, index, last_term, members = core.term, disk.index, disk.term, disk.members
        delay_ns = self.delay_ns(source.name, target)
        life = source.life

        def fail() -> None:
            if source.life == life and source.core is not None and source.core.leadership is not None:
                source.core.leadership.snapshot_failed(target)
                self._settle(source)

        def take() -> None:
            peer = self.peers[target]
            if peer.core is None or (source.name, target) in self.cuts:
                return
            if peer.core.hear_snapshot(source.name, term, self.now_ns):
                if index > peer.core.commit_index and peer.core.log.term(index) != last_term:
                    # Durable before the core is told.
                    peer.disk.members, peer.disk.index, peer.disk.term = members, index, last_term
                    peer.disk.entries, peer.applied = [], self.committed[:index]
                    peer.disk.begin_anew()
                    peer.saves = [(_only_state(save, index), after) for save, after in peer.saves]
                    self.installed += 1
                peer.core.install(members, index, last_term)
                taken = SnapshotTaken(term=peer.core.term, last_index=index)
                peer.core.send_after(source.name, taken)
            self._settle(peer)

        if delay_ns is not None:
            self._at(delay_ns, take)
        self._at(200 * MS, fail)  # nobody says whether it came: then it is found out

    installed = 0

    # --- Figure 3
    def _apply(self, peer: Peer, first: int, entries: tuple[LogEntry, ...]) -> None:
        if not entries:
            return
        assert first == len(peer.applied) + 1, f"applied in order, each once: {first} after {len(peer.applied)}"
        peer.applied += entries
        for place in range(first - 1, len(peer.applied)):
            if place < len(self.committed):
                assert self.committed[place] == peer.applied[place], f"state machine safety at {place + 1}"
            else:
                assert peer.core is not None
                self.committed.append(peer.applied[place])
                self.committed_in.append(peer.core.term)

    def _check(self, peer: Peer) -> None:
        core = peer.core
        assert core is not None
        if core.leadership is not None:
            known = self.leaders.setdefault(core.term, peer.name)
            assert known == peer.name, f"election safety: {known} and {peer.name} lead term {core.term}"
            log = core.log
            for place in range(log.first_index - 1, min(len(self.committed), log.last_index + 1)):
                if self.committed_in[place] >= core.term:
                    break
                assert place < log.last_index, f"leader completeness: {peer.name} lacks {place + 1}"
                assert log.entry(place + 1) == self.committed[place], f"leader completeness at {place + 1}"

    def check_logs(self) -> None:
        """Log matching, over all pairs."""
        cores = [peer.core for peer in self.peers.values() if peer.core is not None]
        for one in cores:
            for other in cores:
                last = min(one.log.last_index, other.log.last_index)
                agree = False
                for index in range(last, max(one.log.first_index, other.log.first_index) - 1, -1):
                    same = one.log.entry(index) == other.log.entry(index)
                    agree = agree or one.log.term(index) == other.log.term(index)
                    assert same or not agree, f"log matching of {one.me} and {other.me} at {index}"


def _only_state(save: Save, index: int) -> Save:
    """Of entries that a snapshot has replaced while they were being written, nothing is kept."""
    return Save(save.number, save.hard_state, index + 1, (), save.previous_term)


def commands(entries: Sequence[LogEntry]) -> list[bytes]:
    return [each.body for each in entries if each.kind is Kind.COMMAND]


def entry(term: int, body: bytes = b"x") -> LogEntry:
    return LogEntry(term, Kind.COMMAND, body)


# --- what tests do with a group
def isolate(group: Group, *names: str) -> None:
    """Cut those off from all others, but not from each other."""
    group.cuts = {(one, other) for one in group.peers for other in group.peers if (one in names) != (other in names)}


def followers(group: Group, leader: str) -> list[str]:
    """All but that one."""
    return [name for name in group.peers if name != leader]


def applied_by(group: Group, name: str) -> list[bytes]:
    """The commands that it has applied, in order."""
    return commands(group.peers[name].applied)


def applied(group: Group, body: bytes) -> int:
    """How many peers have applied that command."""
    return sum(body in commands(peer.applied) for peer in group.peers.values())


def agree(group: Group, body: bytes, count: int) -> str:
    """Have a command applied by that many peers, whoever leads meanwhile. Returns who led last."""
    for _ in range(50):
        leader = group.leader()
        if group.propose(leader, body) is None:
            group.run(10)
            continue
        for _ in range(100):
            group.run(5)
            if applied(group, body) >= count:
                return leader
            if group.peers[leader].core is None or group.core(leader).leadership is None:
                break
    raise AssertionError(f"no agreement on {body!r}")


def all_agree(group: Group) -> None:
    """Everything is mended: all come to have applied the same."""
    reliable(group)
    for name, peer in group.peers.items():
        if peer.core is None:
            group.start(name)
    agree(group, b"the end", len(group.peers))
    group.check_logs()
    assert len({len(peer.applied) for peer in group.peers.values()}) == 1


def reliable(group: Group) -> None:
    """All messages come, soon and once."""
    group.doubling, group.cuts = 0.0, set()
    group.delay_ns = lambda _source, _target: 50_000


def unreliable(group: Group) -> None:
    """A tenth of all messages is lost, a tenth comes late, and a twentieth twice."""
    chance = group.rng
    group.doubling = 0.05

    def delay_ns(_source: str, _target: str) -> int | None:
        if chance.random() < 0.1:
            return None
        return chance.randrange(50_000, 27 * MS if chance.random() < 0.1 else 2 * MS)

    group.delay_ns = delay_ns
