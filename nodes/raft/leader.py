"""What only a leader does (Figure 2, leaders; thesis 3.10, 4, 6.4): held by a peer while it leads.

Entries are sent when `ready` is asked for, so that all of a turn leave together, and before they are durable here: the
leader's own log is one among others when a majority is counted (thesis 10.2.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zactor.message import Message

from .log import members_entry
from .members import Members
from .messages import (
    Appended,
    AppendEntries,
    Heartbeat,
    HeartbeatReply,
    Kind,
    LogEntry,
    Rejected,
    SnapshotTaken,
    TimeoutNow,
)
from .progress import Progress, State

if TYPE_CHECKING:
    from .core import Raft


class Leadership:
    """One term of leading. `progress` has all members but oneself."""

    def __init__(self, raft: Raft) -> None:
        self._raft = raft
        self._first_index = raft.log.last_index + 1  # of this term
        self.progress: dict[str, Progress] = {}
        self._heartbeat_ns = 0
        self._check_ns = raft.now_ns + raft.settings.election_timeout_ns
        self._round = 0
        self._asked: list[int] = []  # reads for the next round
        self._barriers: list[tuple[int, int, list[int]]] = []  # round, commit index when it was asked, reads
        self._uncommitted_size = 0
        self._snapshots: list[str] = []  # peers that need one, since they were last taken
        self._transfer = ""
        self._transfer_ns = 0

    def begin(self) -> None:
        """Commit an entry of this term, by which all before it are committed (paper 5.4.2, 8)."""
        self._follow_members()
        self._append(LogEntry(self._raft.term, Kind.EMPTY, b""))
        self._beat()

    def give_up(self) -> list[int]:
        """It leads no more. Returns the reads that nobody answers."""
        return self._asked + [token for _, _, tokens in self._barriers for token in tokens]

    @property
    def deadline_ns(self) -> int:
        """When `tick` has something to do."""
        due = [self._heartbeat_ns, self._check_ns]
        return min([*due, self._transfer_ns] if self._transfer else due)

    def tick(self) -> None:
        """Time has passed: beat, see whether a majority is there, give up a transfer."""
        raft, now_ns = self._raft, self._raft.now_ns
        if now_ns >= self._check_ns:
            self._check_quorum()
            if raft.leadership is not self:
                return
        if self._transfer and now_ns >= self._transfer_ns:
            self._transfer = ""
        if now_ns >= self._heartbeat_ns:
            self._beat()

    def step(self, source: str, message: Message[None]) -> None:
        """An answer came."""
        progress = self.progress.get(source)
        if progress is None:
            return  # it is no member any more
        progress.heard_ns = self._raft.now_ns
        if isinstance(message, Appended):
            self._on_appended(source, progress, message.index)
        elif isinstance(message, Rejected):
            self._on_rejected(progress, message)
        elif isinstance(message, HeartbeatReply):
            progress.round = max(progress.round, message.round)
            if message.has_lost and progress.match_index == self._raft.log.last_index:
                progress.lost()  # nothing is on its way that it could refuse
            self._remind(source, progress)
            self._confirm()
        elif isinstance(message, SnapshotTaken):
            self._on_appended(source, progress, message.last_index)

    # --- heartbeats
    def _beat(self) -> None:
        raft = self._raft
        self._heartbeat_ns = raft.now_ns + raft.settings.heartbeat_ns
        self._round += 1
        if self._asked:
            self._barriers.append((self._round, raft.commit_index, self._asked))
            self._asked = []
        for name, progress in self.progress.items():
            # Never more than it is known to have: the rest of its log may be another one.
            commit_index = min(raft.commit_index, progress.match_index)
            raft.send_now(name, Heartbeat(term=raft.term, commit_index=commit_index, round=self._round))
        self._hand_over()
        self._confirm()

    def _check_quorum(self) -> None:
        """Whoever has not heard from a majority for an election timeout may have been replaced (thesis 6.2)."""
        raft = self._raft
        timeout_ns = raft.settings.election_timeout_ns
        self._check_ns = raft.now_ns + timeout_ns
        if not raft.members.agree(lambda name: name == raft.me or raft.now_ns - self._heard_ns(name) <= timeout_ns):
            raft.follow("", because="no majority answers it", rule="Raft thesis 6.2")

    def _heard_ns(self, name: str) -> int:
        progress = self.progress.get(name)
        return progress.heard_ns if progress is not None else 0

    # --- reads (thesis 6.4)
    def read_barrier(self, token: int) -> None:
        """Answered by `Raft.answer_reads` once a majority took this peer for the leader after this."""
        self._asked.append(token)

    @property
    def _has_committed(self) -> bool:
        """Whether an entry of this term is committed, so that all that was before is known to be."""
        return self._raft.commit_index >= self._first_index

    def _confirm(self) -> None:
        raft = self._raft
        if not self._has_committed:
            return
        confirmed = raft.members.agreed(
            lambda name: self._round if name == raft.me else self.progress[name].round if name in self.progress else 0
        )
        while self._barriers and self._barriers[0][0] <= confirmed:
            _, index, tokens = self._barriers.pop(0)
            # One that was asked before an entry of this term was committed did not know the commit index.
            raft.answer_reads(tokens, max(index, self._first_index))

    # --- entries (paper 5.3)
    def propose(self, body: bytes) -> int | None:
        """Append a command. None while leadership is being handed over, or when too much is not committed."""
        if self._transfer or self._uncommitted_size + len(body) > self._raft.settings.uncommitted_size_max:
            return None
        return self._append(LogEntry(self._raft.term, Kind.COMMAND, body))

    def _append(self, entry: LogEntry) -> int:
        self._uncommitted_size += len(entry.body)
        return self._raft.append(entry)

    def send_entries(self) -> None:
        """Send all what it lacks, as far as its window is open; and the heartbeat that reads wait for."""
        if self._asked:
            self._beat()
        last_index = self._raft.log.last_index
        for name, progress in self.progress.items():
            if progress.next_index > last_index and progress.state is State.REPLICATE:
                continue
            while progress.may_send and self._send_to(name, progress):
                pass

    def _send_to(self, name: str, progress: Progress) -> bool:
        """Send one message with entries. Returns whether there was one to send."""
        raft, log = self._raft, self._raft.log
        if self._needs_snapshot(name, progress):
            return False
        if progress.next_index > log.last_index and progress.state is State.REPLICATE:
            return False
        entries = log.slice(progress.next_index, log.last_index, raft.settings.append_size_max)
        self._send_append(name, progress, entries)
        progress.sent(progress.next_index - 1 + len(entries), sum(len(each.body) for each in entries))
        return True

    def _needs_snapshot(self, name: str, progress: Progress) -> bool:
        """Whether what it is to be sent next is compacted (paper 7): then it is sent the snapshot instead."""
        log = self._raft.log
        if log.term(progress.next_index - 1) is not None:
            return False
        progress.send_snapshot(log.first_index - 1)
        self._snapshots.append(name)
        return True

    def _send_append(self, name: str, progress: Progress, entries: tuple[LogEntry, ...]) -> None:
        raft, previous_index = self._raft, progress.next_index - 1
        previous_term = raft.log.term(previous_index)
        assert previous_term is not None, "what was sent is in the log"
        message = AppendEntries(
            term=raft.term,
            previous_index=previous_index,
            previous_term=previous_term,
            commit_index=raft.commit_index,
            entries=entries,
        )
        raft.send_now(name, message)

    def _remind(self, name: str, progress: Progress) -> None:
        """What is on its way, or its answer, may have been lost: it is asked for anew when the peer refuses this."""
        progress.is_waiting = False
        # A window that is full may have kept it so far behind that what comes next is compacted.
        if progress.state is State.REPLICATE and progress.inflight and not self._needs_snapshot(name, progress):
            self._send_append(name, progress, ())

    def _on_appended(self, name: str, progress: Progress, index: int) -> None:
        if index > self._raft.log.last_index:
            return  # of another log: a peer of another group, or a liar
        if progress.appended(index):
            self._advance_commit()
        if name == self._transfer:
            self._hand_over()

    def _on_rejected(self, progress: Progress, message: Rejected) -> None:
        if message.has_lost:
            progress.match_index = 0  # what it acknowledged before
        index, _ = self._raft.log.agreement(message.hint_index, message.hint_term)
        progress.rejected(message.index, index + 1)

    def on_persisted(self) -> None:
        """The own log is durable up to where it was not before."""
        self._advance_commit()

    def _advance_commit(self) -> None:
        """Figure 2: what a majority has is committed, if it is of this term (5.4.2), and with it all before."""
        raft = self._raft
        reached = raft.members.agreed(self._match_index)
        if reached <= raft.commit_index or raft.log.term(reached) != raft.term:
            return
        before = raft.commit_index
        raft.commit(reached)
        self._uncommitted_size -= sum(
            len(each.body) for each in raft.log.slice(max(before + 1, self._first_index), reached)
        )
        self._confirm()
        # Also what a leader before this one has begun, and did not come to end.
        if before < max(raft.log.members_index, self._first_index) and raft.log.members_index <= reached:
            self._members_committed()

    def _match_index(self, name: str) -> int:
        if name == self._raft.me:
            return self._raft.durable_index
        progress = self.progress.get(name)
        return 0 if progress is None else progress.match_index

    def take_snapshots(self) -> list[str]:
        """Peers that need a snapshot, each once for each time that it does."""
        taken, self._snapshots = self._snapshots, []
        return taken

    def snapshot_failed(self, name: str) -> None:
        """It could not be sent: find out what the peer lacks."""
        progress = self.progress.get(name)
        if progress is not None and progress.state is State.SNAPSHOT:
            progress.give_up_snapshot()

    # --- members (thesis 4)
    def change_members(self, voters: tuple[str, ...], learners: tuple[str, ...]) -> int | str:
        """Begin to change the members. Returns the index of the entry, or why it cannot be done now."""
        raft = self._raft
        if not self._has_committed:
            return "no entry of this leader's term is committed yet"  # Ongaro 2015: or two changes may not overlap
        if raft.log.members_index > raft.commit_index or raft.members.is_joint:
            return "another change of the members is under way"
        if not voters:
            return "there must be a voter"
        if self._transfer:
            return f"leadership is being handed over to {self._transfer}"
        return self._put_members(raft.members.towards(voters, learners))

    def _put_members(self, members: Members) -> int:
        index = self._append(members_entry(self._raft.term, members))
        self._follow_members()
        return index

    def _follow_members(self) -> None:
        raft = self._raft
        names = [name for name in raft.members.all if name != raft.me]
        next_index = raft.log.last_index + 1
        self.progress = {
            name: self.progress.get(name) or Progress(0, next_index, heard_ns=raft.now_ns) for name in names
        }

    def _members_committed(self) -> None:
        raft = self._raft
        if raft.members.is_joint:
            self._put_members(raft.members.settled())
        elif not raft.members.is_voter(raft.me):
            raft.follow("", because="it is no member any more", rule="Raft thesis 4.2.2")

    # --- leadership transfer (thesis 3.10)
    def transfer(self, name: str) -> str:
        """Hand leadership over to a voter. Returns "" or why that cannot be done. Nothing is proposed meanwhile."""
        raft = self._raft
        progress = self.progress.get(name)
        if progress is None or name not in raft.members.voters:
            return f"{name} is no other voter; the voters are {', '.join(raft.members.voters)}"
        if self._transfer and self._transfer != name:
            return f"leadership is being handed over to {self._transfer}"
        self._transfer, self._transfer_ns = name, raft.now_ns + raft.settings.election_timeout_ns
        self._hand_over()
        return ""

    def _hand_over(self) -> None:
        """Tell who is to lead to begin, once it has all; with each heartbeat again, as that may be lost."""
        raft, progress = self._raft, self.progress.get(self._transfer)
        if progress is not None and progress.match_index == raft.log.last_index:
            raft.send_now(self._transfer, TimeoutNow(term=raft.term))
