"""A client of a replicated state machine: its changes happen exactly once, however often they are sent.

It talks through a door, which is whatever has an `ask` that is under way as soon as it is called, a clock and a
pause: an actor's `self`, or a client of a running topology. So it needs no event loop of its own, and many changes are
in flight when many are asked for before the first is awaited. Those that are asked for at once travel as one: on them
lies the cost of one message and of one record in the log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, Protocol, TypeVar, cast

from zactor.errors import ActorFailed, ActorStopped, AskTimeout, ConnectionLost, Corrupt, Failure, Overloaded, Refused
from zactor.message import Message, Ref

from .messages import (
    CHANGES_MAX,
    WINDOW,
    Deposed,
    EndSession,
    Level,
    NotLeader,
    OpenSession,
    Query,
    Renew,
    SessionExpired,
    Submit,
    Unavailable,
    Watch,
)
from .route import Route

A = TypeVar("A")

GIVE_UP_S = 30.0
"""Seconds after which what gets no answer fails. A server that is started again is there long before."""

WATCH_S = 1.0
"""Seconds that the answer to a watch may come after its time is up."""

PAUSE_S = 0.02
PAUSE_S_MAX = 0.5
"""Between attempts that fail at once, as they do when the server is known to be gone; it doubles."""

TURN_S = 0.002
"""Who waits for what another coroutine of this client has under way looks again after so many seconds. A door knows
nothing that two could wait for."""

GATHERED_SIZE = 64 << 10
"""Bytes of changes that travel as one, unless a single one is larger."""

RETRIED = (ConnectionLost, AskTimeout, ActorFailed, ActorStopped, Overloaded, NotLeader, Unavailable)
"""Failures after which the same is asked again: none of them is an answer."""


class OutcomeUnknown(Failure):
    """A change may have been made or not: it was sent, no answer came, and none will."""


class Door(Protocol):
    """What a client asks through: an `Actor` is one, and an `AsyncClient`."""

    def ask(self, target: Ref[Any], message: Message[A], timeout_s: float = 5.0) -> Awaitable[A]:
        """Send at once; the answer or the failure is at the await."""

    def ask_soon(self, make: Callable[[], tuple[Ref[Any], Message[A]] | None], timeout_s: float = 5.0) -> Awaitable[A]:
        """Ask when what is ready now has run: then `make` says whom and what, or None. Several may await the answer."""

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait."""

    def now_ns(self) -> int:
        """Nanoseconds of a clock that never goes back."""


def is_there(answer: Awaitable[Any]) -> bool:
    """Whether what a door was asked for has come, so that awaiting it costs no time."""
    done = cast("Any", answer).done  # of a `Wait` it says so, of a future it is asked
    return bool(done() if callable(done) else done)


def forget(answer: Awaitable[Any] | None) -> None:
    """Nobody will await it: a future or a change is cancelled; what an actor waits for needs nothing."""
    cancel = getattr(answer, "cancel", None)
    if cancel is not None:
        cancel()


class Patience:
    """Pauses between attempts, which get longer, until there was no progress for `give_up_s`."""

    def __init__(self, door: Door, give_up_s: float = GIVE_UP_S, pause_s_max: float = PAUSE_S_MAX) -> None:
        self._door = door
        self._give_up_ns = int(give_up_s * 1e9)
        self._pause_s_max = pause_s_max
        self.progress()

    def progress(self) -> None:
        """Something came of an attempt: the patience is whole again."""
        self._pause_s = PAUSE_S
        self._until_ns = self._door.now_ns() + self._give_up_ns

    @property
    def left_s(self) -> float:
        """Seconds until it ends."""
        return max(0.0, (self._until_ns - self._door.now_ns()) / 1e9)

    async def pause(self, error: Failure) -> None:
        """Wait before the next attempt. Raises `error`, which ended the last one, when the patience has ended."""
        if self.left_s <= self._pause_s:
            raise error
        await self._door.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, self._pause_s_max)


class _Session:
    """A session that was opened, and which of its submits are not answered yet."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.next = 1
        self.low = 1  # of all unanswered, or `next`
        self.unanswered: set[int] = set()

    @property
    def is_full(self) -> bool:
        """Whether the window is used up."""
        return self.next - self.low >= WINDOW

    def take(self) -> int:
        """A number for a submit."""
        sequence = self.next
        self.next += 1
        self.unanswered.add(sequence)
        return sequence

    def settle(self, sequence: int) -> None:
        """Its answers are here, or nobody wants them any more."""
        self.unanswered.discard(sequence)
        while self.low < self.next and self.low not in self.unanswered:
            self.low += 1


class SessionClient:
    """One session with whoever runs a state machine, opened when it is needed, and anew when it was lost.

    `targets`: that actor, or all replicas, of which the client finds the leader, and follows it. `submit`, `query`,
    `renew` and `close` fail with what the machine's host refuses, or when no answer came in `give_up_s` with the
    failure of the last attempt: `ConnectionLost` and its like, `Unavailable` when nobody leads, `OutcomeUnknown` for a
    change that was sent.
    """

    def __init__(self, door: Door, targets: Ref[Any] | Sequence[Ref[Any]], give_up_s: float = GIVE_UP_S) -> None:
        self._door = door
        self._route = Route(targets if isinstance(targets, Sequence) else (targets,))
        self._give_up_s = give_up_s
        self._session: _Session | None = None
        self._gathering: _Submit | None = None
        self._opening = False
        self._heard_ns = 0

    @property
    def number(self) -> int:
        """The id of the session that is open; 0 when there is none, or when it is known to be over."""
        return 0 if self._session is None else self._session.number

    @property
    def silent_s(self) -> float:
        """Seconds since the host last answered in this session, which is how long it has surely lived since."""
        return (self._door.now_ns() - self._heard_ns) / 1e9

    def submit(self, body: bytes) -> Awaitable[bytes]:
        """Make a change, exactly once. If a session is open it leaves with the others that are begun at once.

        Await it in any case. Raises `OutcomeUnknown` when the session was lost after it was sent, and no answer came.
        """
        return _Change(self, body)

    def query(
        self, body: bytes, level: Level = "linearizable", *, at_least: int = 0, bound_s: float = 0.0
    ) -> Awaitable[bytes]:
        """Ask a question. It is under way when this returns. See `Query` for the levels."""
        message = Query(body=body, level=level, at_least=at_least, bound_ns=int(bound_s * 1e9))
        return _Question(self, message)

    async def watch(self, body: bytes, *, at_least: int = 0, wait_s: float = 10.0) -> bytes:
        """Ask any replica what has changed. Returns b"" when nothing has in `wait_s`."""
        message = Watch(body=body, at_least=at_least, wait_ns=int(wait_s * 1e9))
        return await self.ask(message, self._route.any(), wait_s + WATCH_S)

    async def ask(
        self,
        message: Message[A],
        target: Ref[Any] | None = None,
        attempt_s: float = 0.0,
        first: Awaitable[A] | None = None,
    ) -> A:
        """Ask whoever leads, or `target` first, and again when no answer comes: for what may be done twice.

        `attempt_s`: how long an attempt may take, if that is known. `first`: the first one, which is under way.
        """
        patience = self._patience()
        number = 0
        while True:
            target = target or self._route.current
            try:
                answer = first or self._door.ask(target, message, attempt_s or self._route.attempt_s(number))
                first = None
                return await answer
            except RETRIED as error:
                await self._failed(target, error, patience)
            target, number = None, number + 1

    async def open(self) -> None:
        """Open the session now, rather than with the first change."""
        await self._opened()

    async def renew(self) -> bool:
        """The session goes on, if there is one. Returns False when it was lost, with all that it held."""
        session = self._session
        if session is None:
            return False
        try:
            await self.ask(Renew(session=session.number))
        except SessionExpired:
            self._forget(session)
            return False
        self._heard()
        return True

    async def close(self) -> None:
        """End the session: what it held is free. An unreachable host will find out by itself."""
        session, self._session = self._session, None
        if session is not None:
            try:
                await self._door.ask(self._route.current, EndSession(session=session.number))
            except RETRIED:
                return

    async def _opened(self) -> _Session:
        """The session; of several who need one at once, the first opens it."""
        while self._session is None:
            if self._opening:
                await self._door.sleep(TURN_S)
                continue
            self._opening = True
            try:
                # One whose answer is lost holds nothing, and ends by itself.
                self._session = _Session(await self.ask(OpenSession()))
            finally:
                self._opening = False
            self._heard()
        return self._session

    def _gather(self, session: _Session, size: int) -> _Submit:
        """What a change of that size leaves with."""
        gathering = self._gathering
        if gathering is None or gathering.session is not session or not gathering.takes(size):
            gathering = self._gathering = _Submit(self._door, self._route, session)
        return gathering

    def _patience(self) -> Patience:
        return Patience(self._door, self._give_up_s, self._route.pause_s_max)

    async def _failed(
        self, target: Ref[Any], error: Failure, patience: Patience, outcome: Failure | None = None
    ) -> None:
        """An attempt failed: find out where the next one goes, and wait unless it is known to be the right place.

        Raises `outcome` at the end of all patience; without one the error, or of several replicas `Unavailable`.
        """
        if not self._route.failed(target, error):
            await patience.pause(outcome or self._end(error))

    def _end(self, error: Failure) -> Failure:
        if not self._route.is_of_many or isinstance(error, Unavailable):
            return error
        end = Unavailable(f"no replica answers for all of them; the last said: {type(error).__name__}: {error}")
        end.__cause__ = error
        return end

    def _heard(self) -> None:
        self._heard_ns = self._door.now_ns()

    def _forget(self, session: _Session) -> None:
        if self._session is session:
            self._session = None


class _Attempt:
    """One sending of a submit. `answer` may be awaited by all its changes; it is under way when the turn ends."""

    __slots__ = ("answer", "target")

    def __init__(self, submit: _Submit, timeout_s: float) -> None:
        self.target = submit.route.current
        self.answer: Awaitable[tuple[bytes, ...]] = submit.door.ask_soon(lambda: submit.make(self), timeout_s)


class _Submit:
    """Changes that leave as one, under one number of their session for as long as that lives."""

    __slots__ = (
        "_attempts",
        "_bodies",
        "_sequence",
        "_size",
        "_wanted",
        "attempt",
        "door",
        "is_closed",
        "may_be_done",
        "route",
        "session",
    )

    def __init__(self, door: Door, route: Route, session: _Session) -> None:
        self.door, self.route, self.session = door, route, session
        self.is_closed = self.may_be_done = False
        self._sequence = session.take()
        self._bodies: list[bytes] = []
        self._size = self._wanted = self._attempts = 0
        self.attempt = _Attempt(self, route.first_attempt_s)

    def takes(self, size: int) -> bool:
        """Whether one more change of that size can leave with it."""
        return not self.is_closed and len(self._bodies) < CHANGES_MAX and self._size + size <= GATHERED_SIZE

    def add(self, body: bytes) -> int:
        """One more change. Returns its place."""
        self._bodies.append(body)
        self._size += len(body)
        self._wanted += 1
        return len(self._bodies) - 1

    def make(self, attempt: _Attempt) -> tuple[Ref[Any], Submit] | None:
        """The turn has ended: what is asked, and whom."""
        self.is_closed = True
        if not self._wanted:
            return None
        session = self.session
        attempt.target = self.route.current
        return attempt.target, Submit(
            session=session.number,
            sequence=self._sequence,
            acknowledged_below=session.low,
            bodies=tuple(self._bodies),
        )

    def failed(self, error: Failure) -> Failure | None:
        """An attempt failed. Returns how that ends if it was the last: when it may be done, nobody knows."""
        self.may_be_done = self.may_be_done or _may_be_handled(error)
        return _unknown(error) if self.may_be_done else None

    def again(self, attempt: _Attempt) -> None:
        """Send it once more, unless another of its changes has done so since that attempt."""
        if self.attempt is attempt:
            self._attempts += 1
            self.attempt = _Attempt(self, self.route.attempt_s(self._attempts))

    def let_go(self) -> None:
        """One of its changes is answered, or not wanted any more."""
        self._wanted -= 1
        if not self._wanted:
            self.is_closed = True
            self.session.settle(self._sequence)
            if not is_there(self.attempt.answer):
                forget(self.attempt.answer)


class _Change:
    """A change under way."""

    __slots__ = ("_body", "_client", "_place", "_submit")

    def __init__(self, client: SessionClient, body: bytes) -> None:
        self._client = client
        self._body = body
        self._submit: _Submit | None = None
        self._place = 0
        if client._session is not None and not client._session.is_full:
            self._join(client._session)

    def cancel(self) -> None:
        """Nobody will await it. It may be made all the same."""
        self._let_go()

    def _join(self, session: _Session) -> _Submit:
        self._submit = submit = self._client._gather(session, len(self._body))
        self._place = submit.add(self._body)
        return submit

    def __await__(self) -> Generator[Any, None, bytes]:
        # Not by a coroutine: that would be one more object for each change, and most end at their first attempt.
        client = self._client
        patience: Patience | None = None
        try:
            while True:
                submit = self._submit or self._join((yield from self._session().__await__()))
                attempt = submit.attempt
                try:
                    answers = yield from attempt.answer.__await__()
                    client._heard()
                    return self._own(answers)
                except SessionExpired as error:
                    client._forget(submit.session)
                    if submit.may_be_done:
                        raise OutcomeUnknown(f"the session was lost before the answer came: {error}") from error
                    self._let_go()
                except RETRIED as error:
                    outcome = submit.failed(error)
                    patience = patience or client._patience()
                    yield from client._failed(attempt.target, error, patience, outcome).__await__()
                    submit.again(attempt)
                except Refused as error:
                    if submit.may_be_done:  # it was refused now; an earlier attempt was perhaps not
                        raise _unknown(error) from error
                    raise
        finally:
            self._let_go()

    def _own(self, answers: tuple[bytes, ...]) -> bytes:
        if self._place >= len(answers):
            raise Corrupt(f"{len(answers)} answers came, to change {self._place + 1} of a submit none")
        return answers[self._place]

    async def _session(self) -> _Session:
        """A session with room in its window."""
        session = await self._client._opened()
        while session.is_full:
            await self._client._door.sleep(TURN_S)
            session = await self._client._opened()
        return session

    def _let_go(self) -> None:
        submit, self._submit = self._submit, None
        if submit is not None:
            submit.let_go()


class _Question:
    """A question under way."""

    def __init__(self, client: SessionClient, message: Query) -> None:
        self._client = client
        self._message = message
        route = client._route
        self._target = route.current if message.level == "linearizable" else route.any()
        self._first = client._door.ask(self._target, message, route.first_attempt_s)

    def __await__(self) -> Generator[Any, None, bytes]:
        try:
            return (yield from self._first.__await__())
        except RETRIED:
            # It fails once more where it is told what comes next.
            insisting = self._client.ask(self._message, self._target, 0.0, self._first)
        return (yield from insisting.__await__())


def _may_be_handled(error: Failure) -> bool:
    if isinstance(error, ConnectionLost):
        return error.sent
    return not isinstance(error, Overloaded | NotLeader) or isinstance(error, Deposed)


def _unknown(error: Failure) -> Failure:
    unknown = OutcomeUnknown(f"no answer came, and the last attempt failed with: {error}")
    unknown.__cause__ = error
    return unknown
