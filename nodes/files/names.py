"""The namespace as a client sees it: changes and questions through one session, and patience where that helps."""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Sequence
from typing import Any, TypeVar

from zactor.errors import Failure
from zactor.message import Ref, encode
from zactor.replication.client import Door, Patience, SessionClient, forget

from .messages import LeaseExpired, NoRoom
from .operations import (
    Abandon,
    Allocate,
    Answer,
    Begin,
    Begun,
    Content,
    Denied,
    GetContent,
    GetSpace,
    Operation,
    Outcome,
    Placed,
    Question,
    Rechain,
    Space,
    Unpin,
    decode_answer,
    decode_outcomes,
)

OutcomeT = TypeVar("OutcomeT", bound=Outcome)
AnswerT = TypeVar("AnswerT", bound=Answer)

RENEW_S = 2.0
"""Who holds something says so this often: a quarter of the lease."""

LATER_MAX = 64
"""Changes that nobody waits for, made together with another one."""


class Names:
    """One client's way to the namespace."""

    def __init__(self, door: Door, metadata: Ref[Any]) -> None:
        self._door = door
        self._session = SessionClient(door, metadata)
        self._later: list[Abandon | Unpin] = []

    @property
    def session(self) -> int:
        """The session by which all is held at this moment; 0 when there is none."""
        return self._session.number

    # --- changes and questions
    def change_all(self, operations: Sequence[Operation]) -> Awaitable[list[Outcome]]:
        """Make several changes in one exchange. It is under way when this returns, and has to be awaited."""
        return _Outcomes(self._session.submit(encode(tuple(operations))))

    async def change(self, operation: Operation, kind: type[OutcomeT]) -> OutcomeT:
        """Make one change. Raises what it was denied with."""
        (outcome,) = await self.change_all((operation,))
        if not isinstance(outcome, kind):
            raise refusal(outcome)
        return outcome

    async def query(self, question: Question, kind: type[AnswerT]) -> AnswerT:
        """Ask a question."""
        answer = decode_answer(await self._session.query(encode(question)))
        assert isinstance(answer, kind), f"{question} was answered by {answer}"
        return answer

    async def content(self, path: str) -> Content:
        """A file and its chunks."""
        return await self.query(GetContent(path), Content)

    # --- the session
    async def renew(self) -> None:
        """The session goes on, if there is one."""
        await self._session.renew()

    async def keep_alive(self) -> None:
        """Renew the session when it is due, so that what it holds stays."""
        if self._session.number and self._session.silent_s > RENEW_S:
            await self._session.renew()

    async def hold(self, session: int) -> None:
        """Keep a session alive. Raises `LeaseExpired` when it is over, and with it what it held."""
        await self.keep_alive()
        if self.session != session:
            raise LeaseExpired("the session was lost: this client was silent for too long, or it was ended")

    async def close(self) -> None:
        """End the session."""
        await self._session.close()

    # --- puts
    async def begin(self, sizes: tuple[int | None, ...]) -> Begun:
        """Begin puts, and again while file servers are missing."""
        patience = Patience(self._door)
        while True:
            outcome = (await self.change_all((*self.left_over(), Begin(sizes))))[-1]
            if isinstance(outcome, Begun):
                return outcome
            await self._wait_for_servers(refusal(outcome), patience)

    async def place(self, operation: Allocate | Rechain) -> Placed:
        """Ask for a place, and again while file servers are missing."""
        patience = Patience(self._door)
        while True:
            (outcome,) = await self.change_all((operation,))
            if isinstance(outcome, Placed):
                return outcome
            await self._wait_for_servers(refusal(outcome), patience)

    async def replace(self, rechain: Rechain) -> Placed:
        """Ask for others in the place of servers that failed (`avoid`), or these again if there are no others."""
        if rechain.avoid:
            (outcome,) = await self.change_all((rechain,))
            if isinstance(outcome, Placed):
                return outcome
        again = Rechain(rechain.inode, rechain.index, rechain.version, rechain.keep, rechain.add)
        return await self.place(again)

    async def abandon(self, inode: int, error: Exception) -> None:
        """A put failed with that error: its bytes are free."""
        try:
            await self.change_all((Abandon(inode),))
        except Failure as problem:
            error.add_note(f"what was stored is dropped when the session ends; sooner failed with: {problem}")

    def later(self, operation: Abandon | Unpin) -> None:
        """Make a change when nothing can be awaited, or need be: it goes with the next that takes `left_over`."""
        self._later.append(operation)

    def left_over(self) -> tuple[Abandon | Unpin, ...]:
        """What was to be done later, for the next exchange."""
        some, self._later = self._later[:LATER_MAX], self._later[LATER_MAX:]
        return tuple(some)

    async def _wait_for_servers(self, error: Failure, patience: Patience) -> None:
        """Pause if `error` may pass by itself: no room, since too few servers are up. Else raises it."""
        if not isinstance(error, NoRoom):
            raise error
        space = await self.query(GetSpace(), Space)
        if sum(server.is_up for server in space.servers) >= space.copies:
            raise error
        await self.keep_alive()
        await patience.pause(error)


class _Outcomes:
    """What a submit is answered by, decoded."""

    def __init__(self, answer: Awaitable[bytes]) -> None:
        self._answer = answer

    def __await__(self) -> Generator[Any, None, list[Outcome]]:
        answer = yield from self._answer.__await__()
        return list(decode_outcomes(answer))

    def cancel(self) -> None:
        """Nobody will await it."""
        forget(self._answer)


def refusal(outcome: Outcome) -> Failure:
    """What a change was denied with."""
    assert isinstance(outcome, Denied), f"{outcome} is not what that change is answered by"
    return Failure.from_wire(outcome.error, outcome.text, "")
