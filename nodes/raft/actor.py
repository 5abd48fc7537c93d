"""A Raft peer as an actor: it hosts any state machine, and ties the pure core to mail, disk and time.

In a turn all mail is given to the core (`rpc`) or kept for its end (`submit`, `query`), when the core says once what is
to be sent, saved and applied. What clients wait for is in the `Replica`, what was proposed here in `Proposed`;
questions are in `Reads`, snapshots in `Snapshots`, and who takes part is found out by `Joining`. Only a peer that
leads, and has applied an entry of its own term, answers clients (thesis 6.4): before that it does not know what is
committed.
"""

from __future__ import annotations

from typing import Any, ClassVar

from zactor.actor import Actor, link, on
from zactor.door import Later
from zactor.errors import DiskFull, Failure, Refused, UserError
from zactor.message import Envelope, Message, Ref, Refs, decoder, encode
from zactor.registry import MachineName, machine
from zactor.replication.logclock import LogClock
from zactor.replication.messages import (
    Deposed,
    EndSession,
    NoSpace,
    NotLeader,
    OpenSession,
    Query,
    Renew,
    Submit,
    Watch,
)
from zactor.replication.replica import Beat, Replica
from zactor.replication.sessions import Sessions
from zactor.statemachine import StateMachine, Timed
from zactor.units import ByteSize, Duration, format_duration

from .core import Raft, Ready, Settings
from .explain import explain
from .forming import identity_of, node_of
from .joining import Joining, Seek
from .log import Log
from .members import Members
from .messages import (
    AddPeer,
    Appended,
    AppendEntries,
    BulkEntries,
    Heartbeat,
    HeartbeatReply,
    Hello,
    Here,
    Join,
    Joined,
    Kind,
    LogEntry,
    PeerStatus,
    Progressed,
    ReadIndex,
    Rejected,
    RemovePeer,
    RequestVote,
    SnapshotChunk,
    SnapshotTaken,
    Status,
    TakeSnapshotNow,
    TimeoutNow,
    Transfer,
    Vote,
)
from .ordering import Proposed, decode_batch, encode_batch
from .reads import FetchIndex, Reads
from .saving import Retry, Saving
from .snapshots import SendSnapshot, Snapshots, TakeSnapshot
from .storage import Head, Recovered, Storage

MS_NS = 10**6
BULK_SIZE = 64 << 10
"""Bytes of entries from which on they travel on the bulk lane."""

TICK_NS = MS_NS
"""Between two ticks, at least."""

READS_NS = 500 * MS_NS
"""Between two looks at questions and watches that wait too long."""

_decode_entries = decoder(tuple[LogEntry, ...])


class Tick(Message[None]):
    """A peer tells itself: time for the core."""


def _nothing(_answer: bytes | Failure) -> None:
    """Nobody waits for it."""


class Peer(Actor):
    """One of a group of peers that run the same state machine, `machine`, as one.

    `election_timeout`: after so long a silence of the leader another is elected, of which heartbeats come one every
    `heartbeat`. `lease`: how long a client may be silent before its session ends. `snapshot_bytes`: by how much the
    journal grows before a snapshot takes its place; `keep_bytes`: entries before it that are kept for slow peers.
    `explain`: log what each message means, with the section of the paper: for learning, not for load.
    """

    turn_messages: ClassVar[int] = 1_024

    peers: Refs[
        RequestVote
        | Vote
        | AppendEntries
        | BulkEntries
        | Appended
        | Rejected
        | Heartbeat
        | HeartbeatReply
        | TimeoutNow
        | SnapshotTaken
        | SnapshotChunk
        | Hello
        | Join
        | ReadIndex
    ] = link(overflow="drop")
    machine: MachineName
    heartbeat: Duration = 30 * MS_NS
    election_timeout: Duration = 200 * MS_NS
    lease: Duration = 30_000 * MS_NS
    snapshot_bytes: ByteSize = 64 << 20
    keep_bytes: ByteSize = 16 << 20
    explain: bool = False

    _raft: Raft | None
    _storage: Storage
    _replica: Replica
    _machine: StateMachine
    _reads: Reads
    _snapshots: Snapshots
    _joining: Joining
    _proposed: Proposed
    _clock: LogClock
    _time_ns: int
    _refs: dict[str, Ref[Any]]
    _identities: dict[str, str]
    _members: Members | None
    _applied: int
    _applied_index: int
    _serving: int
    _saving: Saving
    _timer: int
    _timer_ns: int
    _reads_ns: int
    _is_late: bool

    async def on_start(self) -> None:
        """Recover what the disk has, or take part anew. Raises `Corrupt`, `UserError`."""
        self._check_settings()
        self._refs = {peer.name: peer for peer in self.peers}
        self._identities, self._members, self._applied, self._applied_index, self._serving = {}, None, 0, 0, 0
        self._timer = self._timer_ns = self._reads_ns = 0
        self._is_late = False
        self._machine = machine(self.machine)()
        sessions = Sessions(self._machine)
        self._replica = Replica(self, sessions, lease_ns=self.lease)
        self._proposed = Proposed()
        self._storage = Storage(self.disk, self.machine)
        self._saving = Saving(self, self._storage)
        self._reads = Reads(self, self._machine)
        self._snapshots = Snapshots(self, self._storage)
        self._joining = Joining(self, self._storage)
        self._raft = None
        found = await self._storage.recover(sessions.restore)
        await self._joining.start(found)
        self._replica.start_beating()

    def _check_settings(self) -> None:
        if self.heartbeat < MS_NS or self.election_timeout < 3 * self.heartbeat:
            raise UserError(
                f"election_timeout: expected at least 3 times heartbeat ({format_duration(self.heartbeat)}, of which "
                f"1ms is the least), found {format_duration(self.election_timeout)}"
            )
        for name, value in (("lease", self.lease), ("snapshot_bytes", self.snapshot_bytes)):
            if value < 1:
                raise UserError(f"{name}: expected more than {value}")

    def begin(self, me: str, found: Recovered) -> None:
        """Take part under that name, with what the disk had."""
        head = found.head
        log = Log(head.members, head.index, head.term, found.entries)
        settings = Settings(self.heartbeat, self.election_timeout)
        self._raft = Raft(me, log, found.hard_state, settings, self.rng, self.now_ns())
        self._applied, self._applied_index, self._time_ns = head.applied, head.index, head.time_ns
        self._clock = LogClock(head.time_ns)
        self._machine.events()
        if found.torn_size:
            self.log.warning("journal_cut", bytes=found.torn_size, because="a_write_was_torn")
        for text in found.damaged:
            self.log.error("journal_damaged", because=text, rule="what is missing is fetched before this peer votes")
        self.log.info(
            "log_recovered",
            peer=me,
            term=found.hard_state.term,
            first_index=log.first_index,
            last_index=log.last_index,
            commands=head.applied,
        )
        self._flush()

    # --- what others may see
    def status(self) -> str:
        """Its role, and how far it has come."""
        raft = self._raft
        if raft is None:
            return "joining: it has no group yet"
        return f"{self._role} of term {raft.term}, commit {raft.commit_index}, {self._applied} commands"

    @property
    def raft(self) -> Raft | None:
        """The core, to be looked at; None while it has no group."""
        return self._raft

    @property
    def hosted(self) -> StateMachine:
        """The state machine, to be looked at: all that is applied here is in it."""
        return self._machine

    @property
    def applied(self) -> int:
        """How many commands are in it."""
        return self._applied

    @property
    def applied_index(self) -> int:
        """The index in the log of Raft up to which all is applied."""
        return self._applied_index

    @property
    def _role(self) -> str:
        raft = self._raft
        assert raft is not None, "it takes part"
        if raft.leadership is not None:
            return "leader"
        if raft.election is not None:
            return "candidate"
        return "follower" if raft.members.is_voter(raft.me) else "learner"

    # --- for its snapshots
    @property
    def sessions(self) -> Sessions:
        """The machine with its sessions."""
        return self._replica.sessions

    @property
    def time_ns(self) -> int:
        """Of the last command that was applied."""
        return self._time_ns

    @property
    def saving(self) -> Saving:
        """What is on its way to the disk."""
        return self._saving

    def restored(self, head: Head) -> None:
        """The state is that of a snapshot now."""
        self._applied, self._applied_index, self._time_ns = head.applied, head.index, head.time_ns
        self._clock.heard(head.time_ns, self.now_ns())
        self._machine.events()
        self._reads.restart()

    # --- peers
    @on
    def rpc(
        self,
        message: (
            RequestVote
            | Vote
            | AppendEntries
            | Appended
            | Rejected
            | Heartbeat
            | HeartbeatReply
            | TimeoutNow
            | SnapshotTaken
        ),
        envelope: Envelope,
    ) -> None:
        """What a peer says in its term."""
        if self._raft is None or envelope.sender is None or self._snapshots.is_installing:
            return
        if isinstance(message, TimeoutNow) and self._saving.is_full:
            return  # its vote for itself would not be durable, and meanwhile it would heed no leader
        self._raft.step(self._identity_of(envelope.sender.name), message, self.now_ns())

    @on
    def bulk_entries(self, message: BulkEntries, envelope: Envelope) -> None:
        """Entries that came by the bulk lane."""
        entries = AppendEntries(
            term=message.term,
            previous_index=message.previous_index,
            previous_term=message.previous_term,
            commit_index=message.commit_index,
            entries=_decode_entries(message.entries),
        )
        self.rpc(entries, envelope)

    def _identity_of(self, node: str) -> str:
        assert self._raft is not None, "it takes part"
        if self._members is not self._raft.members:
            self._members = self._raft.members
            self._identities = {node_of(name): name for name in self._members.all}
        return self._identities.get(node, node)

    def send_to(self, target: str, message: Message[None]) -> None:
        """Tell a peer something, as far as there is room."""
        ref = self._refs.get(node_of(target))
        if ref is None:
            return  # no node of this topology: as if it were down
        if self.explain:
            self._explain(message, target)
        if isinstance(message, AppendEntries) and sum([len(each.body) for each in message.entries]) >= BULK_SIZE:
            message = BulkEntries(
                term=message.term,
                previous_index=message.previous_index,
                previous_term=message.previous_term,
                commit_index=message.commit_index,
                entries=encode(message.entries),
            )
        self.tell(ref, message)

    def _explain(self, message: Message[None], target: str) -> None:
        meant = explain(message)
        if meant is not None:
            self.log.info(meant[0], to=target, **meant[1])

    # --- time
    @on
    def tick(self, message: Tick) -> None:  # noqa: ARG002 - it has no fields
        """Tell the core the time."""
        self._timer = 0
        if self._raft is None or self._snapshots.is_installing:
            return
        if self.now_ns() > self._timer_ns + self.heartbeat and not self._is_late:
            # This process slept: what came meanwhile is looked at before anybody is called silent.
            self._is_late = True
            self._timer = self.after(0.0, Tick())
            return
        self._is_late = False
        if self._may_tick:
            self._raft.tick(self.now_ns())
        if self.now_ns() >= self._reads_ns:
            self._reads_ns = self.now_ns() + READS_NS
            self._reads.beat()
        if self._serving and isinstance(self._machine, Timed) and self._is_due(self._machine.due_ns):
            self._replica.propose(b"", _nothing)

    def _is_due(self, due_ns: int) -> bool:
        return 0 < due_ns <= self._clock.read(self.now_ns(), self.wall_ns())

    @property
    def _may_tick(self) -> bool:
        """Whether the core is told the time. Whoever has no room for a vote does not ask for any."""
        assert self._raft is not None, "it takes part"
        return self._raft.leadership is not None or not self._saving.is_full

    def _arm(self) -> None:
        assert self._raft is not None, "it takes part"
        due_ns = self._raft.deadline_ns if self._may_tick else self.now_ns() + self.heartbeat
        if self._timer and self._timer_ns <= due_ns:
            return  # it fires before, and looks again
        if self._timer:
            self.cancel(self._timer)
        self._timer_ns = due_ns
        self._timer = self.after(max(TICK_NS, due_ns - self.now_ns()) / 1e9, Tick())

    # --- the end of a turn
    def on_turn_end(self) -> None:
        """All mail of the turn was looked at."""
        if self._raft is not None:
            self._flush()

    def on_synced(self, write_id: int) -> None:
        """Saves are durable: what waited for them leaves."""
        number = self._saving.on_synced(write_id)
        if number and self._raft is not None:
            self._raft.persisted(number)
            self._flush()

    def on_disk_failed(self, error: Exception) -> None:
        """There was no room for a save: it is kept, and one that has room leads. Raises any other error."""
        if isinstance(error, DiskFull) and self._saving.is_full:
            return  # it was under way with the first one, and is kept with it
        if not isinstance(error, DiskFull) or not self._saving.is_writing:
            raise error
        self._saving.on_full()
        self.log.error("log_full", because=str(error), rule="questions are answered, and nothing is changed")
        raft = self._raft
        assert raft is not None, "it takes part"
        if raft.leadership is not None:
            raft.transfer(self._best_voter())

    @on
    def retry(self, message: Retry) -> None:  # noqa: ARG002
        """See whether there is room on the disk again."""
        self._saving.retry()

    def go_on(self) -> None:
        """What was held back may be saved now."""
        if self._raft is not None:
            self._flush()

    def _flush(self) -> None:
        """Do what the core says, until it says no more."""
        if self._saving.is_held:
            return
        raft = self._raft
        assert raft is not None, "it takes part"
        if self._serving:
            self._propose()
        self._reads.ask(raft)
        while True:
            ready = raft.ready()
            self._note_roles()
            for target, message in ready.send_now:
                self.send_to(target, message)
            if ready.save is not None:
                self._saving.save(raft.hard_state, ready.save)
            self._saving.send_after(ready.send_after)
            if ready.committed:
                self._apply(ready)
            for name in ready.snapshots:
                self._snapshots.send(name)
            self._reads.answer(ready.reads)
            self._reads.refuse(ready.refused_reads)
            if not ready.committed:
                break  # what was applied may have made it propose; else there is nothing new
        self._joining.look(raft)
        self._arm()

    def _propose(self) -> None:
        """Put what waits into the log as one entry, unless the one before is on its way to the own disk.

        There should be as much of it as what is in the log and not committed. So entries overlap where the way to the
        others is long (thesis 10.2.2); where it is short they do not come in ever smaller ones, each of which costs
        as much as a large one.
        """
        raft, replica = self._raft, self._replica
        assert raft is not None, "it takes part"
        if self._saving.is_writing or replica.waiting < max(1, self._proposed.count):
            return
        if self._saving.is_full:
            replica.refuse(replica.take(), self._no_space())
            return
        changes = replica.take()
        time_ns = self._clock.read(self.now_ns(), self.wall_ns())
        index = raft.propose(encode_batch(time_ns, changes))
        if index is None:
            replica.put_back(changes)
        else:
            self._proposed.add(index, raft.term, changes)

    def _no_space(self) -> NoSpace:
        return NoSpace(f"the disk of {self.ref.name} is full: nothing was changed; make room")

    # --- what is committed
    def _apply(self, ready: Ready) -> None:
        """Give what is committed to the machine, and answer who waits for it."""
        raft = self._raft
        assert raft is not None, "it takes part"
        for index, entry in enumerate(ready.committed, ready.committed_index):
            if entry.kind is Kind.COMMAND:
                self._apply_batch(index, entry)
            elif entry.kind is Kind.MEMBERS:
                members = raft.log.members_at(index)
                self.log.info("members_changed", index=index, voters=members.voters, learners=members.learners)
            elif entry.term == raft.term and raft.leadership is not None:
                self._serve(raft.term)
        if self.explain:
            last = ready.committed_index + len(ready.committed) - 1
            self.log.info(
                "applied", first=ready.committed_index, last=last, rule="Raft 5.3, 5.4.2: a majority has them"
            )
        self._applied_index = ready.committed_index + len(ready.committed) - 1
        self._reads.on_events(self._machine.events())
        self._reads.on_applied()
        self._snapshots.look()

    def _apply_batch(self, index: int, entry: LogEntry) -> None:
        batch = decode_batch(entry.body)
        changes = self._proposed.take(index, entry.term)
        if changes is None:  # the clock has gone on since an entry that was made by it
            self._clock.heard(batch.time_ns, self.now_ns())
        self._time_ns = time_ns = max(self._time_ns, batch.time_ns)
        answers, following = self._replica.sessions.apply(self._applied + 1, time_ns, batch.records)
        self._applied = following - 1
        if changes is not None:
            self._replica.settle(changes, answers)

    # --- who leads
    def _serve(self, term: int) -> None:
        """All that was committed before this term is applied: clients can be answered."""
        self._serving = term
        self._replica.begin()
        self.log.info("serving", term=term, commands=self._applied, rule="Raft thesis 6.4")

    def _note_roles(self) -> None:
        raft = self._raft
        assert raft is not None, "it takes part"
        if not raft.roles:
            return
        roles, raft.roles = raft.roles, []
        for role in roles:
            self.log.info(
                f"became_{role.name}", term=role.term, leader=role.leader, because=role.because, rule=role.rule
            )
        if self._serving and (raft.leadership is None or raft.term != self._serving):
            self._serving = 0
            error = self.not_leader()
            deposed = Deposed(f"{self.ref.name} stopped leading before this was known to be committed", error.detail)
            self._replica.refuse(self._proposed.give_up(), deposed)
            while self._replica.waiting:
                self._replica.refuse(self._replica.take(), error)
            self._joining.give_up(error)

    def not_leader(self) -> NotLeader:
        """Why this peer does not answer for the group, and who does as far as it knows."""
        raft = self._raft
        leader = "" if raft is None else node_of(raft.leader)
        if leader == self.ref.name:
            return NotLeader(f"{leader} was just elected, and does not know yet what is committed", leader)
        return NotLeader(f"{self.ref.name} does not lead; {leader or 'nobody that it knows'} does", leader)

    @property
    def is_serving(self) -> bool:
        """Whether it leads, and knows what is committed."""
        return bool(self._serving)

    def leader_ref(self) -> Ref[Any]:
        """The leader that it knows. Raises `NotLeader`."""
        if self._raft is None or not self._raft.leader:
            raise self.not_leader()
        return self.ref_of(node_of(self._raft.leader))

    def ref_of(self, node: str) -> Ref[Any]:
        """A peer of this topology. Raises `Refused`."""
        ref = self.ref if node == self.ref.name else self._refs.get(node)
        if ref is None:
            raise Refused(f"{node} is no peer here; there are {', '.join(sorted((self.ref.name, *self._refs)))}")
        return ref

    def leading(self) -> Raft:
        """The core, of a peer that answers for the group. Raises `NotLeader`."""
        if not self._serving or self._raft is None:
            raise self.not_leader()
        return self._raft

    # --- clients
    @on
    def open_session(self, message: OpenSession) -> Later[int]:  # noqa: ARG002
        """Begin a session. Raises `NotLeader`."""
        self._check_writable()
        return self._replica.open_session()

    @on
    def renew(self, message: Renew) -> None:
        """A session goes on. Raises `NotLeader`, `SessionExpired`."""
        self.leading()
        self._replica.renew(message)

    @on
    def end_session(self, message: EndSession) -> Later[None]:
        """A session is over. Raises `NotLeader`."""
        self._check_writable()
        return self._replica.end_session(message)

    @on
    def submit(self, message: Submit) -> Later[tuple[bytes, ...]]:
        """Make changes, once. Raises `NotLeader`, `SessionExpired`, `OutOfWindow`, `NoSpace`."""
        if not self._serving:
            raise self.not_leader()
        if self._saving.is_full:
            raise self._no_space()
        return self._replica.submit(message)

    def _check_writable(self) -> None:
        self.leading()
        if self._saving.is_full:
            raise self._no_space()

    @on
    def query(self, message: Query) -> Later[bytes]:
        """Ask something, at one of four levels. Raises `NotLeader`, `Unavailable`, what the machine refuses with."""
        return self._reads.query(message)

    @on
    def watch_machine(self, message: Watch) -> Later[bytes]:
        """Ask what has changed, here. Raises what the machine refuses with."""
        return self._reads.watch(message)

    @on
    def read_index(self, message: ReadIndex) -> Later[int]:  # noqa: ARG002
        """Say a follower up to where the log is committed. Raises `NotLeader`."""
        return self._reads.read_index()

    @on
    def beat(self, message: Beat) -> None:  # noqa: ARG002
        """Look at the leases of sessions."""
        self._replica.beat(ends=bool(self._serving))

    @on(interleave=True)
    async def fetch_index(self, message: FetchIndex) -> None:  # noqa: ARG002
        """Ask the leader up to where the log is committed."""
        await self._reads.fetch()

    # --- snapshots
    @on(interleave=True)
    async def take_snapshot(self, message: TakeSnapshot) -> None:  # noqa: ARG002
        """Write a snapshot beside all else."""
        await self._snapshots.take()

    @on(interleave=True)
    async def send_snapshot(self, message: SendSnapshot) -> None:
        """Send the snapshot to a peer beside all else."""
        await self._snapshots.send_to(message.peer)

    @on(interleave=True)
    async def snapshot_chunk(self, message: SnapshotChunk, envelope: Envelope) -> int:
        """Take a part of the leader's snapshot. Raises `NotLeader`, `Refused`, `DiskFull`."""
        assert envelope.sender is not None, "peers have names"
        return await self._snapshots.take_chunk(message, self._identity_of(envelope.sender.name))

    # --- who takes part
    @on
    def hello(self, message: Hello) -> Here:  # noqa: ARG002
        """Say who this peer is."""
        return self._joining.here

    @on(interleave=True)
    async def seek(self, message: Seek) -> None:  # noqa: ARG002
        """Look for the group."""
        await self._joining.seek()

    @on
    def join(self, message: Join) -> Later[Joined]:
        """Take in a node that has no past. Raises `NotLeader`, `NotInvited`."""
        return self._joining.join(message)

    # --- operators
    @on
    def report(self, message: Status) -> PeerStatus:  # noqa: ARG002
        """Say how it fares. Raises `Refused` while it has no group."""
        raft = self._raft
        if raft is None:
            raise Refused(f"{self.ref.name} has no group yet")
        known = raft.leadership.progress if raft.leadership is not None else {}
        return PeerStatus(
            name=raft.me,
            role=self._role,
            term=raft.term,
            leader=raft.leader,
            commit_index=raft.commit_index,
            last_index=raft.log.last_index,
            first_index=raft.log.first_index,
            applied=self._applied,
            digest=self._replica.sessions.digest(),
            members=raft.members,
            peers=tuple(
                [
                    Progressed(name, each.state.value, each.match_index, self.now_ns() - each.heard_ns)
                    for name, each in known.items()
                ]
            ),
        )

    @on
    def transfer(self, message: Transfer) -> str:
        """Hand leadership over. Raises `NotLeader`, `Refused`."""
        raft = self.leading()
        to = identity_of(raft.members, message.to) if message.to else self._best_voter()
        because = raft.transfer(to)
        if because:
            raise Refused(because)
        self.log.info("transfer_begun", to=to, term=raft.term, because="it was asked for", rule="Raft thesis 3.10")
        return node_of(to)

    def _best_voter(self) -> str:
        """The other voter that knows most of the log; "" if there is none."""
        raft = self._raft
        assert raft is not None, "it takes part"
        assert raft.leadership is not None, "it leads"
        known = {name: each for name, each in raft.leadership.progress.items() if name in raft.members.voters}
        return max(known, key=lambda name: known[name].match_index, default="")

    @on
    def add_peer(self, message: AddPeer) -> Later[Members]:
        """Take in a node. Raises `NotLeader`, `Refused`."""
        return self._joining.add(message.node)

    @on
    def remove_peer(self, message: RemovePeer) -> Later[Members]:
        """Leave a node out. Raises `NotLeader`, `Refused`."""
        return self._joining.remove(message.node)

    @on(interleave=True)
    async def take_snapshot_now(self, message: TakeSnapshotNow) -> int:  # noqa: ARG002
        """Write a snapshot, and let go of the log before it. Raises `DiskFull`."""
        return await self._snapshots.take_now()
