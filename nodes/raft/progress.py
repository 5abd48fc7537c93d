"""What a leader knows of one other peer: how far its log agrees, and what is on its way to it (paper 5.3, 7).

Three states, as in etcd's tracker. *Probe*: it is not known where the logs agree; one message at a time asks.
*Replicate*: entries are sent without waiting, up to a window in messages and in bytes. *Snapshot*: what it lacks is
compacted; nothing is sent until it has the snapshot.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

import msgspec

INFLIGHT_MAX = 64
"""Messages with entries that are on their way to one peer."""

INFLIGHT_SIZE_MAX = 8 << 20
"""Bytes of entries that are on their way to one peer; one message may be larger alone."""


class State(Enum):
    """How a peer is sent entries."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress(msgspec.Struct, eq=False):
    """`match_index`: the logs agree up to there, durably; `next_index`: what is sent next (Figure 2)."""

    match_index: int
    next_index: int
    state: State = State.PROBE
    is_waiting: bool = False  # a probe is on its way
    snapshot_index: int = 0
    commit_index: int = 0  # the last that it was told
    heard_ns: int = 0  # when it last answered in this term
    round: int = 0  # the last heartbeat that it answered
    inflight: deque[tuple[int, int]] = msgspec.field(default_factory=deque)  # last index and bytes of each message
    inflight_size: int = 0

    @property
    def may_send(self) -> bool:
        """Whether another message with entries may leave."""
        if self.state is State.PROBE:
            return not self.is_waiting
        is_open = len(self.inflight) < INFLIGHT_MAX and self.inflight_size < INFLIGHT_SIZE_MAX
        return self.state is State.REPLICATE and is_open

    def sent(self, last_index: int, size: int) -> None:
        """A message with entries up to there is on its way."""
        if self.state is State.PROBE:
            self.is_waiting = True
            return
        self.next_index = last_index + 1
        self.inflight.append((last_index, size))
        self.inflight_size += size

    def appended(self, index: int) -> bool:
        """Its log agrees up to there. Returns whether that is news."""
        while self.inflight and self.inflight[0][0] <= index:
            self.inflight_size -= self.inflight.popleft()[1]
        is_news = index > self.match_index
        self.match_index = max(self.match_index, index)
        self.next_index = max(self.next_index, index + 1)
        if self.state is State.PROBE or (self.state is State.SNAPSHOT and index >= self.snapshot_index):
            self._become(State.REPLICATE, index + 1)
        return is_news

    def rejected(self, index: int, next_index: int) -> None:
        """It has no entry like that at `index`: the next probe is at `next_index`. An old refusal says nothing."""
        if self.state is State.SNAPSHOT or index <= self.match_index:
            return
        if self.state is State.PROBE and index != self.next_index - 1:
            return
        self._become(State.PROBE, max(self.match_index + 1, min(next_index, index)))

    def lost(self) -> None:
        """It may have lost any entry that it acknowledged: ask anew where the logs agree."""
        self.match_index = 0
        if self.state is State.REPLICATE:
            self._become(State.PROBE, self.next_index)

    def send_snapshot(self, index: int) -> None:
        """It lacks what only the snapshot up to `index` has."""
        self._become(State.SNAPSHOT, index + 1)
        self.snapshot_index = index

    def give_up_snapshot(self) -> None:
        """The snapshot could not be sent: find out what it lacks."""
        self._become(State.PROBE, self.match_index + 1)

    def _become(self, state: State, next_index: int) -> None:
        self.state, self.next_index, self.is_waiting = state, next_index, False
        self.inflight.clear()
        self.inflight_size = 0
