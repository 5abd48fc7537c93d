"""Raft, pure: it is told what happened and asked what to do, and has no clock, disk, network or dice of its own.

Read it beside Figure 2 of the paper. `step` takes a message, `tick` the time, `propose` a command, `read_barrier` a
question for the commit index, `persisted` the news that something is durable. After all of a turn `ready` says what to
do, in this order: send `send_now`; make `save` durable as one write in one stream, then call `persisted` and send
`send_after`; apply `committed`; answer `reads`.

What every server does is here; what only a leader does is in `leader`, elections are in `election`. The invariants:
nothing that promises (a vote, an acknowledgement of entries) leaves before what it promises is durable, and a term,
once seen, is never seen to go back.

A peer whose disk has lost entries that it acknowledged *owes* them: it neither votes nor stands for election until a
leader has brought its log to at least the term and index at which it once ended. That is safe by the rule of 5.4.1,
read for one's own log: an entry that was committed with this peer's acknowledgement was in the log that ended so. If
the log, as far as it agrees with a leader's, ends in a later term, its last entry is of a leader that had the committed
one (leader completeness); if it ends in the same term at no lower index, it is the log of the same leader (log
matching). Until then it believes no heartbeat about what is committed, either: what a leader knows of its log is old.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from zactor.message import Message

from .election import Election
from .leader import Leadership
from .log import Log
from .members import Members
from .messages import (
    Appended,
    AppendEntries,
    Heartbeat,
    HeartbeatReply,
    LogEntry,
    Rejected,
    RequestVote,
    TimeoutNow,
    Vote,
)

if TYPE_CHECKING:
    from random import Random

Sent: TypeAlias = tuple[str, Message[None]]
"""To whom, and what."""


NO_LEADER = "this peer does not lead"


class Settings(msgspec.Struct, frozen=True):
    """`election_timeout_ns`: silence of a leader after which another is elected; each draws one up to twice as long."""

    heartbeat_ns: int = 30_000_000
    election_timeout_ns: int = 200_000_000
    append_size_max: int = 1 << 20  # bytes of entries in one message
    uncommitted_size_max: int = 64 << 20  # bytes of entries that are proposed and not committed


class HardState(msgspec.Struct, frozen=True, array_like=True):
    """What a peer must never forget (Figure 2, persistent state): `voted_for` is "" for nobody.

    `owed_term` and `owed_index`: how its log once ended, if it has lost entries since; 0 when it is whole.
    """

    term: int = 0
    voted_for: str = ""
    owed_term: int = 0
    owed_index: int = 0


class Save(msgspec.Struct, frozen=True):
    """One write: the hard state if it changed, then the entries from `first_index` on, in the place of all there.

    `previous_term` is of the entry before them.
    """

    number: int
    hard_state: HardState | None
    first_index: int
    entries: tuple[LogEntry, ...]
    previous_term: int


class Ready(msgspec.Struct):
    """What to do after a turn. `committed` begins at `committed_index`; `snapshots`: peers that need one.

    `reads` are answered when what is committed up to their index was applied; `refused_reads` have no answer here.
    """

    send_now: list[Sent]
    save: Save | None
    send_after: list[Sent]
    committed_index: int
    committed: tuple[LogEntry, ...]
    reads: list[tuple[int, int]]
    refused_reads: list[int]
    snapshots: list[str]


class Role(msgspec.Struct, frozen=True):
    """Who one is in a term, and why: for the log."""

    name: str
    term: int
    leader: str
    because: str
    rule: str


class Raft:
    """One peer. `leader`: whom it takes for the leader of `term`, "" if nobody."""

    def __init__(
        self,
        me: str,
        log: Log,
        hard_state: HardState,
        settings: Settings,
        rng: Random,
        now_ns: int,
        commit_index: int = 0,
    ) -> None:
        self.me = me
        self.log = log
        self.settings = settings
        self.rng = rng
        self.term, self.voted_for = hard_state.term, hard_state.voted_for
        self._owed = (hard_state.owed_term, hard_state.owed_index)
        self.leader = ""
        self.commit_index = max(commit_index, log.first_index - 1)
        self.now_ns = now_ns
        self.election: Election | None = None
        self.leadership: Leadership | None = None
        self.roles: list[Role] = []  # since they were last taken
        self._leader_heard_ns = now_ns - 2 * settings.election_timeout_ns
        self._election_ns = 0
        self._handed_over = self.commit_index  # to be applied
        self._send_now: list[Sent] = []
        self._send_after: list[Sent] = []
        self._saved_state = hard_state
        self._unsaved: int | None = None  # the first index that changed since the last save
        self._number = 0
        self._saves: deque[tuple[int, int]] = deque()  # under way: number, and the last index that it makes durable
        self.durable_index = log.last_index
        self._reads: list[tuple[int, int]] = []
        self._refused_reads: list[int] = []
        self.follow("", because="it has just started", rule="Raft 5.2")

    # --- who one is
    @property
    def hard_state(self) -> HardState:
        """What it must not forget now, saved or not."""
        return HardState(self.term, self.voted_for, *self._owed)

    @property
    def is_whole(self) -> bool:
        """Whether its log has all that it ever acknowledged; see the module."""
        return self._owed == (0, 0)

    @property
    def members(self) -> Members:
        """The members by this peer's log."""
        return self.log.members

    def follow(self, leader: str, *, because: str, rule: str) -> None:
        """Be a follower of that leader, or of nobody yet."""
        if self.leadership is not None:
            self._refused_reads += self.leadership.give_up()
        if self.leadership is not None or self.election is not None or leader != self.leader or not self.roles:
            self.roles.append(Role("follower", self.term, leader, because, rule))
        if self.leadership is not None or self.election is not None or not self._election_ns:
            self.wait_for_leader()  # who followed waits on: only a vote or a leader makes it wait anew
        self.election = self.leadership = None
        self.leader = leader

    def wait_for_leader(self) -> None:
        """Begin an election after a timeout of its own (paper 5.2: so that votes are seldom split)."""
        timeout_ns = self.settings.election_timeout_ns
        self._election_ns = self.now_ns + timeout_ns + self.rng.randrange(timeout_ns)

    def advance_term(self, term: int, *, leader: str = "", because: str) -> None:
        """A later term was seen (Figure 2, all servers): nobody was voted for in it yet."""
        self.term, self.voted_for = term, ""
        self.leader = ""
        self.follow(leader, because=because, rule="Raft 5.1")

    def note_candidate(self, *, is_pre: bool, because: str, rule: str) -> None:
        """An election begins."""
        self.roles.append(Role("pre_candidate" if is_pre else "candidate", self.term, "", because, rule))

    def lead(self) -> None:
        """The election is won."""
        self.election = None
        self.leader = self.me
        self.leadership = Leadership(self)
        self.roles.append(Role("leader", self.term, self.me, "a majority voted for it", "Raft 5.2"))
        self.leadership.begin()

    # --- what is told
    def tick(self, now_ns: int) -> None:
        """Time has passed."""
        self.now_ns = now_ns
        if self.leadership is not None:
            self.leadership.tick()
        elif now_ns >= self._election_ns:
            self.campaign(because="nobody leads" if not self.leader else f"{self.leader} is silent")

    def leader_lost(self, now_ns: int) -> None:
        """The leader's process has ended, or is out of reach: nobody need wait until it was silent for long (5.2).

        One voter after the other stands, so that votes are not split. Who is told so by mistake finds no majority: the
        others hear the leader, and would not vote (thesis 4.2.3, 9.6).
        """
        self.now_ns = now_ns
        if self.leadership is not None or not self.leader:
            return
        before_me = [name for name in self.members.voters if name < self.me and name != self.leader]
        self.follow("", because=f"{self.leader} has ended or is out of reach", rule="Raft 5.2")
        self._election_ns = min(self._election_ns, now_ns + len(before_me) * self.settings.heartbeat_ns)

    @property
    def deadline_ns(self) -> int:
        """When `tick` has something to do."""
        return self.leadership.deadline_ns if self.leadership is not None else self._election_ns

    @property
    def _may_stand(self) -> bool:
        """Thesis 4.2.2: also who is no voter any more, by an entry that is not known to be committed.

        It may be that nobody else has that entry, and that all others need the vote of one who has.
        """
        log = self.log
        if self.members.is_voter(self.me):
            return True
        return log.members_index > self.commit_index and log.members_at(log.members_index - 1).is_voter(self.me)

    def campaign(self, *, because: str, is_transfer: bool = False) -> None:
        """Ask to become leader: whether others would vote first, unless the leader wants it (thesis 9.6, 3.10)."""
        self.wait_for_leader()
        if not self._may_stand or not self.is_whole:
            return
        self.leader = ""
        self.election = Election(self, is_pre=not is_transfer, is_transfer=is_transfer, because=because)
        self.election.begin()

    def step(self, source: str, message: Message[None], now_ns: int) -> None:
        """A message came. Those of later terms are obeyed first, those of earlier ones are told of this one."""
        self.now_ns = now_ns
        term: int = message.term  # type: ignore[attr-defined]
        if isinstance(message, RequestVote) and self._is_disruptive(message):
            return  # not even its term is looked at
        is_granted_pre = isinstance(message, Vote) and message.is_pre and message.is_granted
        is_pre = isinstance(message, RequestVote) and message.is_pre
        if term > self.term and not is_pre and not is_granted_pre:
            is_leader = isinstance(message, AppendEntries | Heartbeat)
            self.advance_term(term, leader=source if is_leader else "", because=f"{source} is in term {term}")
        if term < self.term:
            self._answer_older(source, message)
        elif isinstance(message, RequestVote):
            self._on_request_vote(source, message)
        elif isinstance(message, Vote):
            if self.election is not None:
                self.election.on_vote(source, message)
        elif isinstance(message, AppendEntries):
            self._heard(source)
            self._on_append_entries(source, message)
        elif isinstance(message, Heartbeat):
            self._heard(source)
            self.send_now(source, HeartbeatReply(term=self.term, round=message.round, has_lost=not self.is_whole))
            # The leader says no more than it knows to agree; the rest of this log may be another one.
            if self.is_whole:
                self.commit(min(message.commit_index, self.log.last_index))
        elif isinstance(message, TimeoutNow) and self.leadership is None:
            self.campaign(because=f"{source} wants it to lead", is_transfer=True)
        elif self.leadership is not None:
            self.leadership.step(source, message)

    def propose(self, body: bytes) -> int | None:
        """Put a command into the log. Returns its index, or None: this peer does not lead, or takes none now."""
        return None if self.leadership is None else self.leadership.propose(body)

    def read_barrier(self, token: int) -> bool:
        """Find out up to where the log is surely committed now (thesis 6.4). Returns False where nobody leads."""
        if self.leadership is None:
            return False
        self.leadership.read_barrier(token)
        return True

    def transfer(self, name: str) -> str:
        """Hand leadership over to a voter (thesis 3.10). Returns "" or why that cannot be done."""
        return NO_LEADER if self.leadership is None else self.leadership.transfer(name)

    def change_members(self, voters: tuple[str, ...], learners: tuple[str, ...]) -> int | str:
        """Begin to change the members (thesis 4). Returns the index of the entry, or why it cannot be done now."""
        return NO_LEADER if self.leadership is None else self.leadership.change_members(voters, learners)

    def persisted(self, number: int) -> None:
        """That save, and all before it, are durable."""
        while self._saves and self._saves[0][0] <= number:
            self.durable_index = self._saves.popleft()[1]
        if self.election is not None:
            self.election.on_persisted(number)
        if self.leadership is not None:
            self.leadership.on_persisted()

    def compact(self, index: int) -> None:
        """A durable snapshot holds all that was applied up to there (paper 7): those entries go."""
        assert index <= self._handed_over, "a snapshot holds what was applied"
        if index >= self.log.first_index:
            self.log.compact(index)

    def hear_snapshot(self, source: str, term: int, now_ns: int) -> bool:
        """A part of a snapshot came: whether it is from the leader of this term, so that it is to be taken."""
        self.now_ns = now_ns
        if term > self.term:
            self.advance_term(term, leader=source, because=f"{source} is in term {term}")
        if term == self.term:
            self._heard(source)
        return term == self.term

    def install(self, members: Members, index: int, term: int) -> bool:
        """A whole snapshot is durable. Returns whether it takes the place of the log; False: the log has all of it.

        The host has made the state that of the snapshot, and its journal begins anew, before it says so here.
        """
        if index <= self.commit_index:
            return False
        if self.log.term(index) == term:
            self.commit(index)  # paper 7, step 6: what follows stays
            self._agree(index)
            return False
        self.log.restore(members, index, term)
        self._agree(index)
        self.commit_index = self._handed_over = self.durable_index = index
        self._unsaved = None
        self._saves = deque([(number, index) for number, _ in self._saves])
        return True

    def ready(self) -> Ready:
        """What to do now; see the module."""
        if self.leadership is not None:
            self.leadership.send_entries()
        save = self._save()
        first, last = self._handed_over + 1, self.commit_index
        committed = self.log.slice(first, last) if last >= first else ()
        self._handed_over = last
        ready = Ready(self._send_now, save, self._send_after, first, committed, self._reads, self._refused_reads, [])
        if self.leadership is not None:
            ready.snapshots = self.leadership.take_snapshots()
        self._send_now, self._send_after, self._reads, self._refused_reads = [], [], [], []
        return ready

    # --- for its parts
    def send_now(self, target: str, message: Message[None]) -> None:
        """Send what promises nothing."""
        self._send_now.append((target, message))

    def send_after(self, target: str, message: Message[None]) -> None:
        """Send when all is durable that is to be saved by then."""
        self._send_after.append((target, message))

    def vote_for(self, candidate: str) -> None:
        """Paper 5.2: one vote in a term. It counts when it is durable."""
        self.voted_for = candidate

    @property
    def next_number(self) -> int:
        """The number of the save that will hold what changed until now."""
        return self._number + 1

    def append(self, entry: LogEntry) -> int:
        """A leader's own entry. Returns its index."""
        index = self.log.last_index + 1
        self.log.append((entry,))
        self._changed(index)
        return index

    def answer_reads(self, tokens: list[int], index: int) -> None:
        """They may be answered from a state in which all up to that index is applied."""
        self._reads += [(token, index) for token in tokens]

    # --- followers
    def _heard(self, source: str) -> None:
        """The leader of this term is there."""
        assert self.leadership is None, f"{source} and {self.me} lead the same term"
        self._leader_heard_ns = self.now_ns
        if self.leader != source or self.election is not None:
            self.follow(source, because=f"{source} leads", rule="Raft 5.2")
        self.wait_for_leader()

    def _is_disruptive(self, message: RequestVote) -> bool:
        """Thesis 4.2.3: whoever hears a leader helps nobody to take its place."""
        if message.is_transfer or message.term <= self.term:
            return False
        if self.leadership is not None:
            return True  # it steps down by itself when no majority hears it
        return bool(self.leader) and self.now_ns - self._leader_heard_ns < self.settings.election_timeout_ns

    def _on_request_vote(self, source: str, message: RequestVote) -> None:
        is_free = message.term > self.term or self.voted_for in ("", source)
        is_granted = (
            is_free
            and self.leadership is None
            and self.is_whole
            and self.log.is_up_to_date(message.last_index, message.last_term)
        )
        if message.is_pre:
            term = message.term if is_granted else self.term
            self.send_now(source, Vote(term=term, is_granted=is_granted, is_pre=True))
            return
        if is_granted:
            self.vote_for(source)
            self.wait_for_leader()
        self.send_after(source, Vote(term=self.term, is_granted=is_granted))

    def _on_append_entries(self, source: str, message: AppendEntries) -> None:
        previous, term = message.previous_index, message.previous_term
        if previous < self.commit_index:
            # What is committed here is the same there (leader completeness): the entries before it say nothing new.
            skipped = self.commit_index - previous
            if len(message.entries) < skipped:
                self.send_after(source, Appended(term=self.term, index=previous + len(message.entries)))
                return
            entries = message.entries[skipped:]
            previous = self.commit_index
        else:
            entries = message.entries
            if self.log.term(previous) != term:
                hint_index, hint_term = self.log.agreement(previous, term)
                self.send_now(
                    source,
                    Rejected(
                        term=self.term,
                        index=previous,
                        hint_index=hint_index,
                        hint_term=hint_term,
                        has_lost=not self.is_whole,
                    ),
                )
                return
        first, new = self.log.merge(previous, entries)
        if new:
            self._changed(first)
        last = previous + len(entries)
        self._agree(last)
        self.send_after(source, Appended(term=self.term, index=last))
        self.commit(min(message.commit_index, last))

    def _agree(self, index: int) -> None:
        """The log agrees with the leader's up to there: whether that is all it owes (see the module)."""
        term = self.log.term(index)
        assert term is not None, "it was compared there"
        if not self.is_whole and (term, index) >= self._owed:
            self._owed = (0, 0)
            because = f"its log is at {index} of term {term} and has again what was lost"
            self.roles.append(Role("follower", self.term, self.leader, because, "Raft 5.4.1"))

    def _answer_older(self, source: str, message: Message[None]) -> None:
        """Tell those who ask in an earlier term of this one, or they would never know (canonical/raft 279)."""
        if isinstance(message, RequestVote):
            self.send_now(source, Vote(term=self.term, is_granted=False, is_pre=message.is_pre))
        elif isinstance(message, AppendEntries | Heartbeat):
            self.send_now(source, HeartbeatReply(term=self.term, round=0))

    def commit(self, index: int) -> None:
        """All up to that index is on a majority."""
        if index > self.commit_index:
            self.commit_index = index

    # --- what is saved
    def _changed(self, first_index: int) -> None:
        """The log is another one from that index on."""
        self._unsaved = first_index if self._unsaved is None else min(first_index, self._unsaved)
        # What is being written of entries that were cut is no promise for those in their place.
        self.durable_index = min(self.durable_index, first_index - 1)
        self._saves = deque([(number, min(last, first_index - 1)) for number, last in self._saves])

    def _save(self) -> Save | None:
        hard_state = self.hard_state
        if self._unsaved is None and hard_state == self._saved_state:
            return None
        first = self._unsaved if self._unsaved is not None else self.log.last_index + 1
        entries = self.log.slice(first, self.log.last_index)
        previous_term = self.log.term(first - 1)
        assert previous_term is not None, "what changes is not compacted"
        changed = hard_state if hard_state != self._saved_state else None
        save = Save(self.next_number, changed, first, entries, previous_term)
        self._number = save.number
        self._saves.append((save.number, self.log.last_index))
        self._saved_state, self._unsaved = hard_state, None
        return save
