"""One core by itself, whose disk is done at once: what it answers to what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from nodes.raft.core import HardState, Raft, Sent, Settings
from nodes.raft.log import Log
from nodes.raft.members import Members
from nodes.raft.messages import LogEntry, Vote
from tests.nodes.raft.group import entry
from zactor.message import Message

SETTINGS = Settings()
LONG_NS = 10 * SETTINGS.election_timeout_ns


class Alone:
    """`core` is p0 of as many; `hard_state` is what its disk has, `applied` what it was to apply.

    `snapshots`: who was to get one.
    """

    def __init__(self, terms: Sequence[int] = (), term: int = 0, voted_for: str = "", count: int = 3) -> None:
        names = tuple(f"p{number}" for number in range(count))
        self.hard_state = HardState(term, voted_for)
        self.now_ns = 0
        self.applied: list[LogEntry] = []
        self.snapshots: list[str] = []
        log = Log(Members(names), entries=[entry(each, b"%d" % index) for index, each in enumerate(terms, 1)])
        self.core = Raft("p0", log, self.hard_state, SETTINGS, Random(0), 0)

    @property
    def role(self) -> str:
        """What it is now."""
        if self.core.leadership is not None:
            return "leader"
        if self.core.election is not None:
            return "pre_candidate" if self.core.election.is_pre else "candidate"
        return "follower"

    def hears(self, source: str, message: Message[None]) -> list[Sent]:
        """A message comes. Returns what it sends."""
        self.core.step(source, message, self.now_ns)
        return self.says()

    def waits(self, time_ns: int = LONG_NS) -> list[Sent]:
        """Time passes. Returns what it sends."""
        self.now_ns += time_ns
        self.core.tick(self.now_ns)
        return self.says()

    def says(self) -> list[Sent]:
        """What it sends when all of a turn is durable."""
        sent: list[Sent] = []
        while True:
            ready = self.core.ready()
            sent += ready.send_now
            self.applied += ready.committed
            self.snapshots += ready.snapshots
            if ready.save is not None:
                self.hard_state = ready.save.hard_state or self.hard_state
                self.core.persisted(ready.save.number)
            sent += ready.send_after
            if ready.save is None and not ready.send_now and not ready.send_after:
                return sent

    # --- becoming what one is
    def stands(self) -> list[Sent]:
        """Nobody leads, and all others would vote for it: it is a candidate. Returns what it asks of them."""
        self.waits()
        sent: list[Sent] = []
        for name in self.core.members.all[1:]:
            if self.role == "pre_candidate":
                sent += self.hears(name, Vote(term=self.core.term + 1, is_granted=True, is_pre=True))
        return sent

    def leads(self) -> list[Sent]:
        """It is elected by all others. Returns what it begins with."""
        self.stands()
        sent: list[Sent] = []
        for name in self.core.members.all[1:]:
            if self.role == "candidate":
                sent += self.hears(name, Vote(term=self.core.term, is_granted=True))
        return sent
