"""What holds among Raft peers at every moment (Figure 3), and when they have come to rest.

See `zactor.judges.invariants`. What one may see of a peer is asked for: its core, its machine, and how much it applied.
A peer is looked at where something in it has changed since the last look.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from zactor.actor import Actor

from .actor import Peer
from .core import Raft
from .messages import LogEntry

Actors = Mapping[str, Actor]


class _Look:
    """What was seen of a peer when it was last looked at."""

    def __init__(self, raft: Raft) -> None:
        self.raft = raft
        self.last_index = raft.log.first_index - 1
        self.last: LogEntry | None = None  # the entry there
        self.commit_index = raft.log.first_index - 1
        self.applied = -1


class _Committed:
    """An index that some peer called committed: the term of the entry, and in which term that was said first."""

    __slots__ = ("by", "entry_term", "term")

    def __init__(self, entry_term: int, term: int, by: str) -> None:
        self.entry_term, self.term, self.by = entry_term, term, by


class IsSafe:
    """Election safety, log matching, leader completeness and state-machine safety, over all of a run."""

    def __init__(self) -> None:
        self._looks: dict[str, _Look] = {}
        self._leaders: dict[int, str] = {}
        self._entries: dict[tuple[int, int], tuple[LogEntry, int | None, str]] = {}  # with the term before it
        self._committed: dict[int, _Committed] = {}
        self._last_committed = 0
        self._digests: dict[int, tuple[int, str]] = {}

    def __call__(self, actors: Actors) -> str | None:
        """Say what does not hold."""
        for name, peer in _peers(actors):
            raft = peer.raft
            if raft is None:
                continue
            look = self._looks.get(name)
            if look is None or look.raft is not raft:
                look = self._looks[name] = _Look(raft)
            problem = self._elections(raft) or self._logs(look) or self._commits(look) or self._states(look, peer)
            if problem is not None:
                return problem
        return None

    def _elections(self, raft: Raft) -> str | None:
        """At most one leader in a term, who has all that was committed in terms before."""
        if raft.leadership is None or self._leaders.get(raft.term) == raft.me:
            return None
        other = self._leaders.setdefault(raft.term, raft.me)
        if other != raft.me:
            return f"election safety (5.2): {other} and {raft.me} both lead in term {raft.term}"
        index = self._last_committed
        while index and (index not in self._committed or self._committed[index].term >= raft.term):
            index -= 1
        if index < raft.log.first_index:
            return None
        known = self._committed[index]
        if raft.log.term(index) != known.entry_term:
            what = f"entry {index} of term {known.entry_term}, which {known.by} called committed in term {known.term}"
            return f"leader completeness (5.4): {raft.me} leads in term {raft.term} without {what}"
        return None

    def _logs(self, look: _Look) -> str | None:
        """Entries of one index and term are the same everywhere, and so are those before them."""
        log, me = look.raft.log, look.raft.me
        if look.last_index >= log.first_index and look.last_index <= log.last_index:
            is_new = log.entry(look.last_index) is not look.last
        else:
            is_new = True
        if not is_new and look.last_index == log.last_index:
            return None
        first = log.first_index if is_new else look.last_index + 1
        for index in range(first, log.last_index + 1):
            entry, before = log.entry(index), log.term(index - 1)
            known, known_before, who = self._entries.setdefault((index, entry.term), (entry, before, me))
            if known is not entry and (known != entry or known_before != before):
                return (
                    f"log matching (5.3): {who} and {me} have different logs up to entry {index} of term {entry.term}"
                )
        look.last_index = log.last_index
        look.last = log.entry(log.last_index) if log.last_index >= log.first_index else None
        return None

    def _commits(self, look: _Look) -> str | None:
        """What is committed at an index is so everywhere and for ever."""
        raft = look.raft
        if raft.commit_index <= look.commit_index:
            return None
        for index in range(max(look.commit_index + 1, raft.log.first_index), raft.commit_index + 1):
            term = raft.log.term(index)
            if term is None:
                return f"{raft.me} calls entry {index} committed, and does not have it"
            known = self._committed.get(index)
            if known is None:
                known = self._committed[index] = _Committed(term, raft.term, raft.me)
            if known.entry_term != term:
                terms = f"of term {known.entry_term} at {known.by}, of term {term} at {raft.me}"
                return f"state-machine safety (5.4.3): two entries are committed at {index}, {terms}"
        look.commit_index = raft.commit_index
        self._last_committed = max(self._last_committed, raft.commit_index)
        return None

    def _states(self, look: _Look, peer: Peer) -> str | None:
        """Machines that have applied as many commands are alike."""
        if peer.applied == look.applied:
            return None
        look.applied = peer.applied
        digest, who = self._digests.setdefault(peer.applied, (peer.hosted.digest(), look.raft.me))
        if digest != peer.hosted.digest():
            return f"state-machine safety: {who} and {look.raft.me} differ after {peer.applied} commands"
        return None


def agree(actors: Actors) -> str | None:
    """All members of the group have the same log committed and applied, and the same state."""
    peers = {peer.raft.me: peer for _, peer in _peers(actors) if peer.raft is not None}
    leaders = [peer for peer in peers.values() if peer.is_serving]
    if len(leaders) != 1:
        return f"{len(leaders)} peers lead, of {len(peers)} that are there"
    raft = leaders[0].raft
    assert raft is not None, "it leads"
    for name in raft.members.all:
        peer = peers.get(name)
        if peer is None:
            return f"{name} is a member, and is not there"
        if (peer.applied, peer.hosted.digest()) != (leaders[0].applied, leaders[0].hosted.digest()):
            return f"{name} has applied {peer.applied} commands, {raft.me}, who leads, {leaders[0].applied}"
    return None


def _peers(actors: Actors) -> Iterator[tuple[str, Peer]]:
    return ((name, actor) for name, actor in actors.items() if isinstance(actor, Peer))
