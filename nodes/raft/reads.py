"""Questions to a peer, at four levels, and watches: what is answered at once, and what waits for what.

*Linearizable* (thesis 6.4): the leader asks the core once for all questions of a turn whether it still leads; they are
answered when a majority has said so and all that was committed before is applied. A follower asks the leader for the
index up to which that is. *Bounded*: a follower answers without asking for as long after it asked the last time as the
question allows. *Session*: answered when all is applied that this client has seen. *Eventual*: answered as it is.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from zactor.door import Later
from zactor.errors import Failure, Overloaded, Refused
from zactor.message import Message
from zactor.replication.messages import Query, Unavailable, Watch
from zactor.statemachine import StateMachine, Told, Watched

from .core import Raft
from .messages import ReadIndex

if TYPE_CHECKING:
    from .actor import Peer

WAITING_MAX = 10_000
"""Questions that wait at one peer, and watches."""

WAIT_NS = 5 * 10**9
"""A question waits so long; its asker may have given up before."""

_Asked = tuple[Query | ReadIndex, Later[Any]]


class FetchIndex(Message[None]):
    """A peer tells itself: ask the leader up to where the log is committed."""


class _Waiting:
    """What waits until something has come to a number, for a while."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, Query | Watch, Later[bytes]]] = []
        self._order = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, number: int, until_ns: int, message: Query | Watch, later: Later[bytes]) -> None:
        """Wait for that number until then."""
        self._order += 1
        heapq.heappush(self._heap, (number, self._order, until_ns, message, later))

    def take(self, number: int) -> list[tuple[Query | Watch, Later[bytes]]]:
        """What need not wait any more."""
        taken = []
        while self._heap and self._heap[0][0] <= number:
            _, _, _, message, later = heapq.heappop(self._heap)
            taken.append((message, later))
        return taken

    def expire(self, now_ns: int) -> list[Later[bytes]]:
        """What has waited long enough."""
        late = [each[4] for each in self._heap if each[2] <= now_ns]
        if late:
            self._heap = [each for each in self._heap if each[2] > now_ns]
            heapq.heapify(self._heap)
        return late


class Reads:
    """What is asked of one peer."""

    def __init__(self, actor: Peer, machine: StateMachine) -> None:
        self._actor = actor
        self._machine = machine
        self._turn: list[_Asked] = []  # linearizable, at the leader
        self._rounds: dict[int, list[_Asked]] = {}  # by the token that the core was given
        self._token = 0
        self._fetched: list[tuple[int, Query, Later[bytes]]] = []  # until when; they wait for the leader's answer
        self._is_fetching = False
        self._known: tuple[int, int] | None = None  # when the leader was asked, and what it said
        self._for_index = _Waiting()  # of the log of Raft
        self._for_commands = _Waiting()
        self._watches: dict[int, tuple[int, Later[bytes]]] = {}  # by token: until when
        self._watch_token = 0

    # --- what is asked
    def query(self, message: Query) -> Later[bytes]:
        """Answer a `Query`. Raises `NotLeader` where there is no group."""
        if self._actor.raft is None:
            raise self._actor.not_leader()
        later: Later[bytes] = self._actor.later()
        if message.level == "session" and self._actor.applied < message.at_least:
            self._for_commands.add(message.at_least, self._actor.now_ns() + WAIT_NS, message, later)
        elif message.level in ("session", "eventual") or (message.level == "bounded" and self._is_fresh(message)):
            self._answer(message, later)
        elif self._is_crowded:
            later.fail(Overloaded(f"{WAITING_MAX} questions wait here already"))
        elif self._actor.is_serving:
            self._turn.append((message, later))
        else:
            self._fetched.append((self._actor.now_ns() + WAIT_NS, message, later))
            self._fetch()
        return later

    def read_index(self) -> Later[int]:
        """Answer a `ReadIndex`. Raises `NotLeader`."""
        self._actor.leading()
        later: Later[int] = self._actor.later()
        self._turn.append((ReadIndex(), later))
        return later

    @property
    def _is_crowded(self) -> bool:
        waiting = len(self._turn) + len(self._fetched) + len(self._for_index) + len(self._for_commands)
        return waiting >= WAITING_MAX

    def _is_fresh(self, message: Query) -> bool:
        if self._known is None:
            return False
        asked_ns, index = self._known
        return self._actor.applied_index >= index and self._actor.now_ns() - asked_ns <= message.bound_ns

    def _answer(self, message: Query, later: Later[bytes]) -> None:
        try:
            answer = self._machine.query(message.body)
        except Refused as error:
            later.fail(error)
        else:
            later.reply(answer)

    # --- at the leader
    def ask(self, raft: Raft) -> None:
        """The end of a turn: one question to the core for all."""
        if not self._turn:
            return
        asked, self._turn = self._turn, []
        if raft.read_barrier(self._token + 1):
            self._token += 1
            self._rounds[self._token] = asked
        else:
            self._fail(asked)

    def answer(self, reads: Iterable[tuple[int, int]]) -> None:
        """The core knows: all up to those indices is applied here."""
        for token, index in reads:
            for message, later in self._rounds.pop(token):
                if isinstance(message, Query):
                    self._answer(message, later)
                else:
                    later.reply(index)

    def refuse(self, tokens: Iterable[int]) -> None:
        """This peer leads no more."""
        for token in tokens:
            self._fail(self._rounds.pop(token))

    def _fail(self, asked: Iterable[_Asked]) -> None:
        error = self._actor.not_leader()
        for _, later in asked:
            later.fail(error)

    # --- at a follower
    def _fetch(self) -> None:
        if not self._is_fetching:
            self._is_fetching = True
            # A timer of no time: nobody's deadline is its own.
            self._actor.after(0.0, FetchIndex())

    async def fetch(self) -> None:
        """Ask the leader for all that waits now; what is asked meanwhile is the next round."""
        actor = self._actor
        asked_ns = actor.now_ns()
        asked, self._fetched = self._fetched, []
        try:
            index = await actor.ask(actor.leader_ref(), ReadIndex(), timeout_s=actor.election_timeout / 1e9)
        except Failure as error:
            self._fail_fetched(asked, error)
        else:
            self._known = asked_ns, index
            for until_ns, message, later in asked:
                self._for_index.add(index, until_ns, message, later)
            self.on_applied()
        self._is_fetching = False
        if self._fetched:
            self._fetch()

    @staticmethod
    def _fail_fetched(asked: Iterable[tuple[int, Query, Later[bytes]]], error: Failure) -> None:
        unavailable = Unavailable(f"the leader did not say what is committed: {error}")
        for _, _, later in asked:
            later.fail(unavailable)

    # --- what waits
    def on_applied(self) -> None:
        """The machine has come further."""
        waited = self._for_index.take(self._actor.applied_index) + self._for_commands.take(self._actor.applied)
        for message, later in waited:
            if isinstance(message, Query):
                self._answer(message, later)
            else:
                self._watch(message, self._actor.now_ns() + message.wait_ns, later)

    def beat(self) -> None:
        """Let go of what waited too long: a question fails, a watch has nothing to say."""
        now_ns = self._actor.now_ns()
        for later in self._for_index.expire(now_ns) + self._for_commands.expire(now_ns):
            later.fail(Unavailable("this peer does not hear of what was asked for; ask another"))
        for token in [token for token, (until_ns, _) in self._watches.items() if until_ns <= now_ns]:
            assert isinstance(self._machine, Watched), "it took the watch"
            self._machine.unwatch(token)
            self._watches.pop(token)[1].reply(b"")

    # --- watches
    def watch(self, message: Watch) -> Later[bytes]:
        """Answer a `Watch`. Raises `NotLeader` where there is no group."""
        if self._actor.raft is None:
            raise self._actor.not_leader()
        later: Later[bytes] = self._actor.later()
        until_ns = self._actor.now_ns() + message.wait_ns
        if not isinstance(self._machine, Watched):
            later.fail(Refused("this state machine has nothing that can be watched"))
        elif len(self._watches) + len(self._for_commands) >= WAITING_MAX:
            later.fail(Overloaded(f"{WAITING_MAX} watches wait here already"))
        elif self._actor.applied < message.at_least:
            self._for_commands.add(message.at_least, until_ns, message, later)
        else:
            self._watch(message, until_ns, later)
        return later

    def _watch(self, message: Watch, until_ns: int, later: Later[bytes]) -> None:
        assert isinstance(self._machine, Watched), "it was looked at before"
        self._watch_token += 1
        try:
            answer = self._machine.watch(self._watch_token, message.body)
        except Refused as error:
            later.fail(error)
            return
        if answer is not None:
            later.reply(answer)
        else:
            self._watches[self._watch_token] = until_ns, later

    def on_events(self, events: Iterable[Any]) -> None:
        """What the machine says after it has come further."""
        for event in events:
            if isinstance(event, Told):
                self._watches.pop(event.token)[1].reply(event.answer)

    def restart(self) -> None:
        """The state is that of a snapshot: the machine knows of no watch any more. They are asked anew."""
        watches, self._watches = self._watches, {}
        for _, later in watches.values():
            later.reply(b"")
