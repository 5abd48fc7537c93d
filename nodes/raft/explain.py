"""What a message means, with the place where it stands in paper or thesis: for logs that are read to learn from."""

from __future__ import annotations

from typing import Any

from zactor.message import Message

from .messages import (
    Appended,
    AppendEntries,
    Heartbeat,
    HeartbeatReply,
    Rejected,
    RequestVote,
    SnapshotTaken,
    TimeoutNow,
    Vote,
)


def explain(message: Message[None]) -> tuple[str, dict[str, Any]] | None:
    """The log event for a message that is sent; None for one that says nothing new."""
    match message:
        case RequestVote(is_pre=True):
            return "would_you_vote_asked", {**_log(message), "rule": "Raft thesis 9.6"}
        case RequestVote():
            return "vote_asked", {**_log(message), "rule": "Raft 5.2"}
        case Vote(is_granted=True):
            rule = "Raft thesis 9.6" if message.is_pre else "Raft 5.2: one vote in a term, for a log that is up to date"
            return "vote_granted", {"term": message.term, "rule": rule}
        case Vote():
            return "vote_refused", {"term": message.term, "rule": "Raft 5.1, 5.4.1"}
        case AppendEntries(entries=()):
            return None
        case AppendEntries():
            first = message.previous_index + 1
            last = message.previous_index + len(message.entries)
            return "entries_sent", {"term": message.term, "first": first, "last": last, "rule": "Raft 5.3"}
        case Appended():
            return "entries_durable", {"index": message.index, "rule": "Raft 5.3: the logs agree up to there"}
        case Rejected():
            return "entries_refused", {"index": message.index, "rule": "Raft 5.3: there is no such entry before them"}
        case TimeoutNow():
            return "leadership_handed_over", {"term": message.term, "rule": "Raft thesis 3.10"}
        case SnapshotTaken():
            return "snapshot_is_in_use", {"index": message.last_index, "rule": "Raft 7"}
        case Heartbeat() | HeartbeatReply():
            return None
    return None


def _log(message: RequestVote) -> dict[str, Any]:
    return {"term": message.term, "last_index": message.last_index, "last_term": message.last_term}
