"""What Raft peers say to each other: the RPCs of Figure 2 of the paper, each as two messages that answer no ask.

*Paper* is Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014), *thesis* is Ongaro,
"Consensus: Bridging Theory and Practice" (2014). Each message carries the term of its sender. A peer is called by the
name of its node. Indices count from 1; index 0 and term 0 stand for the beginning of the log.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

import msgspec

from zactor.errors import Refused
from zactor.message import Bulk, Message

from .members import Members

ENTRY_SIZE_MAX = 8 << 20
"""Bytes of one entry, which is all that one turn of the leader proposed."""

Term = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Index = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Round = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Kind(IntEnum):
    """What an entry is: opaque bytes, nothing (the first entry of a leader, paper 8), or the members from there on."""

    COMMAND = 0
    EMPTY = 1
    MEMBERS = 2


class LogEntry(msgspec.Struct, frozen=True, array_like=True):
    """One entry of the log. Raft does not look into the body of a command."""

    term: Term
    kind: Kind
    body: Annotated[bytes, msgspec.Meta(max_length=ENTRY_SIZE_MAX)]


class RequestVote(Message[None]):
    """Paper 5.2. `is_pre`: nobody's term changes, it is asked who would vote (thesis 9.6); `term` is the next one then.

    `is_transfer`: the leader wants it, so that it is no disruption (thesis 4.2.3, 3.10).
    """

    term: Term
    last_index: Index
    last_term: Term
    is_pre: bool = False
    is_transfer: bool = False


class Vote(Message[None]):
    """The answer. A granted pre-vote repeats the term that was asked for; any other says that of its sender."""

    term: Term
    is_granted: bool
    is_pre: bool = False


class AppendEntries(Message[None]):
    """Paper 5.3: entries that follow on the one at `previous_index`, and how far the leader has committed."""

    term: Term
    previous_index: Index
    previous_term: Term
    commit_index: Index
    entries: tuple[LogEntry, ...] = ()


class Appended(Message[None]):
    """The log agrees with the leader's up to `index`, and is durable."""

    term: Term
    index: Index


class Rejected(Message[None]):
    """There is no entry like the one at `index` here; the logs may agree up to `hint_index`, of `hint_term` here.

    The terms of those above it are skipped (paper 5.3, the optimization at its end). `has_lost`: entries that its
    sender acknowledged before may be gone, so that the leader believes this rather than those.
    """

    term: Term
    index: Index
    hint_index: Index
    hint_term: Term
    has_lost: bool = False


class Heartbeat(Message[None]):
    """Paper 5.2, apart from entries, so that they never delay it. `round` counts them (thesis 6.4)."""

    term: Term
    commit_index: Index
    round: Round


class HeartbeatReply(Message[None]):
    """In that round its sender had no leader of a later term. `has_lost`: as in `Rejected`."""

    term: Term
    round: Round
    has_lost: bool = False


class TimeoutNow(Message[None]):
    """Thesis 3.10: begin an election at once; the leader wants its receiver in its place."""

    term: Term


class SnapshotTaken(Message[None]):
    """Paper 7: a snapshot of all entries up to `last_index` is durable here, and in use."""

    term: Term
    last_index: Index


# --- beside the paper: how entries and snapshots travel, how a group forms, what operators ask
class BulkEntries(Message[None]):
    """An `AppendEntries` whose entries are many bytes: they travel on the bulk lane, and delay no heartbeat."""

    term: Term
    previous_index: Index
    previous_term: Term
    commit_index: Index
    entries: Bulk


class SnapshotChunk(Message[int]):
    """Paper 7, InstallSnapshot: bytes of the leader's snapshot `number` from `offset` on; `size` is of the whole.

    Answered, when they are taken, by the offset from which the next ones are wanted. Raises `NotLeader` from one that
    knows a later term, `Refused`, `DiskFull`.
    """

    term: Term
    number: Index
    offset: Index
    size: Index
    data: Bulk


class Here(msgspec.Struct, frozen=True, array_like=True):
    """Who a peer is. `token`: drawn when its disk was empty. `genesis`: the tokens of the first members, by name.

    It is empty while the group has not formed, as far as that peer knows.
    """

    token: int
    genesis: dict[str, int]


class Hello(Message[Here]):
    """A peer without a past asks who is there."""


class Joined(msgspec.Struct, frozen=True, array_like=True):
    """A peer takes part under its new name. Nobody of an earlier term has anything to say to it."""

    term: Term
    members: Members


class Join(Message[Joined]):
    """A peer without a past asks the leader to take it in, as a learner first, in the place of what it was before.

    Raises `NotLeader`, `NotInvited`.
    """

    identity: str


class NotInvited(Refused):
    """The node is no member, and nobody has asked for it to become one."""


class ReadIndex(Message[int]):
    """Thesis 6.4: up to where the log is committed, surely, at a moment after this was asked. Raises `NotLeader`."""


class Progressed(msgspec.Struct, frozen=True, array_like=True):
    """What a leader knows of a peer."""

    name: str
    state: str
    match_index: int
    silent_ns: int


class PeerStatus(msgspec.Struct, frozen=True, array_like=True):
    """How a peer fares. `applied`: commands, of which entries have many; `digest`: of its state at that place."""

    name: str
    role: str
    term: int
    leader: str
    commit_index: int
    last_index: int
    first_index: int
    applied: int
    digest: int
    members: Members
    peers: tuple[Progressed, ...] = ()


class Status(Message[PeerStatus]):
    """Ask any peer how it fares."""


class Transfer(Message[str]):
    """Hand leadership over to a voter, or to the one who knows most; answered by its name when it was begun.

    Raises `NotLeader`, `Refused`.
    """

    to: str = ""


class AddPeer(Message[Members]):
    """Take in a node as a learner, and as a voter when it has caught up. Answered when it is a learner, durably.

    Raises `NotLeader`, `Refused`.
    """

    node: str


class RemovePeer(Message[Members]):
    """Leave a node out. Answered when that holds. Raises `NotLeader`, `Refused`."""

    node: str


class TakeSnapshotNow(Message[int]):
    """Write a snapshot here and let go of the log before it. Answered by the index up to which it stands for it."""
