"""A replica: a state machine with its sessions, and all that clients wait for. Who orders the log is somebody else.

What clients want changed waits here until whoever orders the log takes it, which is a batch at a time; when that was
ordered, or was not, the answers go out by `settle` or `refuse`. Sessions end after a silence by the own clock of
the replica that answers for them, which no other clock has a part in; that they have ended is a record of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from zactor.actor import Actor
from zactor.door import Later
from zactor.errors import Failure, Overloaded
from zactor.message import Message

from .messages import EndSession, Renew, SessionExpired, Submit
from .sessions import Sessions, Standing, encode_change, encode_end, encode_open, encode_own

BATCH_SIZE = 1 << 20
"""Bytes of changes after which a batch takes no more. It is applied at once, and questions wait for that."""

WAITING_SIZE_MAX = 64 << 20
"""Bytes of changes that may wait for the log; then clients are told to come again."""

SESSIONS_MAX = 10_000


class Beat(Message[None]):
    """The actor of a replica tells itself: look at the leases of the sessions."""


class Answer(Protocol):
    """Whom a change is answered to; a `Later` is one."""

    def reply(self, value: Any, /) -> None:
        """It is done."""
        ...

    def fail(self, error: Failure, /) -> None:
        """It is not, and will not be."""
        ...


class Told:
    """Answers by a call: with what the machine says, or with why nothing was changed."""

    __slots__ = ("fail", "reply")

    def __init__(self, tell: Callable[[bytes | Failure], None]) -> None:
        self.reply: Callable[[Any], None] = tell
        self.fail: Callable[[Failure], None] = tell


class Change(msgspec.Struct, eq=False):
    """A record that is not made yet, of so many changes. `again`: who asked for the same one since."""

    record: bytes
    answer: Answer
    key: tuple[int, int] | None = None
    count: int = 1
    again: tuple[Answer, ...] = ()


class Replica:
    """Use it as the top of this file says. `begin` it when it is this replica that answers."""

    def __init__(self, actor: Actor, sessions: Sessions, *, lease_ns: int) -> None:
        self.sessions = sessions
        self._actor = actor
        self._lease_ns = lease_ns
        self._heard: dict[int, int] = {}  # when a session last said something
        self._beat_ns = 0
        self._waiting: list[Change] = []
        self._waiting_size = 0
        self._under_way: dict[tuple[int, int], Change] = {}

    def begin(self) -> None:
        """From now on it answers for the sessions: each is given a whole lease."""
        self._heard = dict.fromkeys(self.sessions.ids(), self._actor.now_ns())

    # --- what clients say
    def open_session(self) -> Later[int]:
        """Answer an `OpenSession`."""
        later = self._actor.later()
        if len(self._heard) >= SESSIONS_MAX:
            later.fail(Overloaded(f"there are {SESSIONS_MAX} sessions already; each ends after a silence"))
        else:
            self._enqueue(Change(encode_open(), later))
        return later

    def renew(self, message: Renew) -> None:
        """Answer a `Renew`. Raises `SessionExpired`."""
        if message.session not in self._heard:
            raise SessionExpired(f"session {message.session} is not known, or over")
        self._heard[message.session] = self._actor.now_ns()

    def end_session(self, message: EndSession) -> Later[None]:
        """Answer an `EndSession`."""
        later: Later[None] = self._actor.later()
        if message.session in self._heard:
            self._end(message.session, later)
        else:
            later.reply(None)
        return later

    def _end(self, session: int, later: Later[None] | None) -> None:
        heard_ns = self._heard.pop(session)

        def tell(answer: bytes | Failure) -> None:
            if isinstance(answer, Failure):  # it goes on, and ends by its lease if nobody says more
                self._heard[session] = heard_ns
            if later is not None and isinstance(answer, Failure):
                later.fail(answer)
            elif later is not None:
                later.reply(None)

        self._enqueue(Change(encode_end(session), Told(tell)))

    def submit(self, message: Submit) -> Later[tuple[bytes, ...]]:
        """Answer a `Submit`: at once if that was done before, else when it is done. Raises what it says there."""
        session = message.session
        if session not in self._heard:
            raise SessionExpired(f"session {session} is not known, or over")
        self._heard[session] = self._actor.now_ns()
        key = (session, message.sequence)
        standing = self.sessions.check(message)
        later: Later[tuple[bytes, ...]] = self._actor.later()
        if standing is Standing.NEW and self._waiting_size > WAITING_SIZE_MAX:
            self.sessions.withdraw(*key)
            later.fail(Overloaded(f"{self._waiting_size} bytes of changes wait for the log"))
        elif standing is Standing.NEW:
            change = self._under_way[key] = Change(encode_change(message), later, key, len(message.bodies))
            self._enqueue(change)
        elif standing is Standing.UNDER_WAY:
            self._under_way[key].again += (later,)
        else:
            later.reply(standing)
        return later

    def propose(self, body: bytes, tell: Callable[[bytes | Failure], None]) -> None:
        """A change by the actor itself. `tell` gets its answer when it is made, or why there is none."""
        self._enqueue(Change(encode_own(body), Told(tell)))

    def _enqueue(self, change: Change) -> None:
        self._waiting.append(change)
        self._waiting_size += len(change.record)

    # --- for who orders the log
    @property
    def waiting(self) -> int:
        """How many there are to take."""
        return len(self._waiting)

    def take(self) -> list[Change]:
        """What fits into one batch, from the front of what waits."""
        if self._waiting_size <= BATCH_SIZE:
            taken, self._waiting, self._waiting_size = self._waiting, [], 0
            return taken
        size = count = 0
        for change in self._waiting:
            size += len(change.record)
            if size > BATCH_SIZE and count:
                break
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        self._waiting_size -= sum(len(change.record) for change in taken)
        return taken

    def put_back(self, changes: list[Change]) -> None:
        """They could not be taken now: they are the first to be taken again."""
        self._waiting = changes + self._waiting
        self._waiting_size += sum(len(change.record) for change in changes)

    def settle(self, changes: Sequence[Change], answers: Sequence[Any]) -> None:
        """These changes were made: answer."""
        for change, answer in zip(changes, answers, strict=True):
            if answer.__class__ is int:  # a session has begun
                self._heard[answer] = self._actor.now_ns()
            self._answer(change, answer)

    def refuse(self, changes: Sequence[Change], error: Failure) -> None:
        """These changes were not made, as far as one knows here: say why."""
        for change in changes:
            if change.key is not None:
                self.sessions.withdraw(*change.key)
            self._answer(change, error)

    def _answer(self, change: Change, answer: Any) -> None:
        if change.key is not None:
            del self._under_way[change.key]
        for each in (change.answer, *change.again):
            if isinstance(answer, Failure):
                each.fail(answer)
            else:
                each.reply(answer)

    # --- leases
    @property
    def _beat_every_ns(self) -> int:
        return max(self._lease_ns // 8, 1)

    def start_beating(self) -> None:
        """Tell the actor to `beat` from now on."""
        self._beat_ns = self._actor.now_ns()
        self._actor.after(self._beat_every_ns / 1e9, Beat())

    def beat(self, *, ends: bool = True) -> None:
        """End the sessions that were silent for a lease, if `ends`: if it is this replica that answers.

        What this actor slept through is nobody's silence.
        """
        actor = self._actor
        actor.after(self._beat_every_ns / 1e9, Beat())
        now_ns = actor.now_ns()
        late_ns = now_ns - self._beat_ns - self._beat_every_ns
        self._beat_ns = now_ns
        if not ends:
            return
        if late_ns > self._beat_every_ns:
            self._heard = {session: heard_ns + late_ns for session, heard_ns in self._heard.items()}
        silent = [session for session, heard_ns in self._heard.items() if now_ns - heard_ns >= self._lease_ns]
        for session in silent:
            actor.log.info("lease_ended", session=session, because="client_silent")
            self._end(session, None)
