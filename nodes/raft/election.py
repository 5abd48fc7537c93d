"""One attempt to become leader (paper 5.2, 5.4.1; thesis 9.6, 3.10): held by a peer while it is a candidate.

First it is asked who would vote, which changes nobody's term, so that a peer that was cut off cannot disturb those
that were not. Then the term is advanced, and everyone asked for a vote; one's own counts when it is durable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .messages import RequestVote, Vote

if TYPE_CHECKING:
    from .core import Raft


class Election:
    """Votes that were granted and refused. `is_pre`: nobody votes yet."""

    def __init__(self, raft: Raft, *, is_pre: bool, is_transfer: bool, because: str) -> None:
        self._raft = raft
        self.is_pre = is_pre
        self._is_transfer = is_transfer
        self._because = because
        self._votes: dict[str, bool] = {}
        self._own_number = 0  # of the save that makes the own vote durable

    def begin(self) -> None:
        """Ask all voters."""
        raft = self._raft
        rule = "Raft thesis 3.10" if self._is_transfer else "Raft thesis 9.6" if self.is_pre else "Raft 5.2"
        if self.is_pre:
            term = raft.term + 1
        else:
            raft.term = term = raft.term + 1
            raft.vote_for(raft.me)
            self._own_number = raft.next_number
        raft.note_candidate(is_pre=self.is_pre, because=self._because, rule=rule)
        message = RequestVote(
            term=term,
            last_index=raft.log.last_index,
            last_term=raft.log.last_term,
            is_pre=self.is_pre,
            is_transfer=self._is_transfer,
        )
        send = raft.send_now if self.is_pre else raft.send_after
        for name in raft.members.all:
            if name != raft.me and raft.members.is_voter(name):
                send(name, message)
        if self.is_pre:
            self._count(raft.me, is_granted=True)

    def on_vote(self, source: str, message: Vote) -> None:
        """A vote came."""
        raft = self._raft
        expected = raft.term + 1 if self.is_pre else raft.term
        if message.is_pre != self.is_pre or (message.is_granted and message.term != expected):
            return  # of another attempt
        self._count(source, is_granted=message.is_granted)

    def on_persisted(self, number: int) -> None:
        """The own vote may be durable."""
        if self._own_number and number >= self._own_number:
            self._own_number = 0
            self._count(self._raft.me, is_granted=True)

    def _count(self, voter: str, *, is_granted: bool) -> None:
        raft, votes = self._raft, self._votes
        votes.setdefault(voter, is_granted)
        if raft.members.agree(lambda name: votes.get(name, False)):
            if self.is_pre:
                raft.election = Election(raft, is_pre=False, is_transfer=False, because=self._because)
                raft.wait_for_leader()
                raft.election.begin()
            else:
                raft.lead()
        elif raft.members.refuse(lambda name: not votes.get(name, True)):
            raft.follow("", because="a majority refused its vote", rule="Raft 5.2")
