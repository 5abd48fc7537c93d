"""A session's client: exactly once, whatever happens to what it sends and to what it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from tests.replication.doors import AskSoon
from zactor.errors import ActorFailed, AskTimeout, ConnectionLost, Corrupt, Failure, Overloaded
from zactor.message import Message, Ref
from zactor.replication.client import GATHERED_SIZE, GIVE_UP_S, OutcomeUnknown, SessionClient, forget
from zactor.replication.messages import (
    WINDOW,
    EndSession,
    NoSpace,
    OpenSession,
    OutOfWindow,
    Query,
    Renew,
    SessionExpired,
    Submit,
)

Fault = Callable[[Message[Any]], Failure | None]


class Host(AskSoon):
    """A door with a list at its end, to which each change appends its body once. `fault` may lose a message on its way
    there, `lose` its answer."""

    def __init__(self) -> None:
        self.made: list[bytes] = []
        self.asked: list[Message[Any]] = []
        self.fault: Fault = lambda message: None
        self.lose: Fault = lambda message: None
        self.time_ns = 0
        self.in_flight_max = 0
        self._in_flight = 0
        self._sessions: dict[int, dict[int, tuple[bytes, ...]]] = {}
        self._opened = 0
        self.cut: int | None = None

    def ask(self, target: Ref[Any], message: Message[Any], timeout_s: float = 5.0) -> Awaitable[Any]:
        self.asked.append(message)
        self._in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self._in_flight)
        return asyncio.ensure_future(self._answer(message))

    async def sleep(self, seconds: float) -> None:
        self.time_ns += int(seconds * 1e9)
        await asyncio.sleep(0)

    def now_ns(self) -> int:
        return self.time_ns

    def end_sessions(self) -> None:
        self._sessions.clear()

    def count(self, kind: type[Message[Any]]) -> int:
        return sum(isinstance(message, kind) for message in self.asked)

    async def _answer(self, message: Any) -> Any:
        for _ in range(10):
            await asyncio.sleep(0)
        self._in_flight -= 1
        if (lost := self.fault(message)) is not None:
            raise lost
        answer = self._handle(message)
        if (lost := self.lose(message)) is not None:
            raise lost
        return answer

    def _handle(self, message: Any) -> Any:
        if isinstance(message, OpenSession):
            self._opened += 1
            self._sessions[self._opened] = {}
            return self._opened
        if isinstance(message, Query):
            return message.body + b"?"
        if message.session not in self._sessions:
            raise SessionExpired("it is over")
        if isinstance(message, EndSession):
            del self._sessions[message.session]
        if isinstance(message, Submit):
            return self._submit(message, self._sessions[message.session])
        return None

    def _submit(self, message: Submit, answers: dict[int, tuple[bytes, ...]]) -> tuple[bytes, ...]:
        for sequence in [each for each in answers if each < message.acknowledged_below]:
            del answers[sequence]
        if not message.acknowledged_below <= message.sequence < message.acknowledged_below + WINDOW:
            raise OutOfWindow(f"{message.sequence} and {message.acknowledged_below}")
        if message.sequence not in answers:
            self.made += message.bodies
            answers[message.sequence] = tuple([body + b"!" for body in message.bodies])
        return answers[message.sequence][: self.cut]


def once(kind: type[Message[Any]], error: Failure) -> Fault:
    """Fails the first message of a kind."""
    left = [error]
    return lambda message: left.pop() if isinstance(message, kind) and left else None


def run(host: Host, work: Callable[[SessionClient], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(work(SessionClient(host, Ref("host"))))


LOST = [ConnectionLost("it died"), AskTimeout("no answer"), ActorFailed("it raised"), Overloaded("full")]


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_a_change_whose_answer_is_lost_is_sent_again_and_made_once(error: Failure) -> None:
    host = Host()
    host.lose = once(Submit, error)

    assert run(host, lambda client: _submit(client, b"a")) == b"a!"

    assert host.made == [b"a"]
    assert host.count(Submit) == 2


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_a_change_that_does_not_arrive_is_sent_again_under_the_same_number(error: Failure) -> None:
    host = Host()
    host.fault = once(Submit, error)

    assert run(host, lambda client: _submit(client, b"a")) == b"a!"

    first, second = [message for message in host.asked if isinstance(message, Submit)]
    assert (host.made, first) == ([b"a"], second)


def test_changes_that_are_begun_at_once_travel_as_one_before_they_are_awaited() -> None:
    host = Host()

    async def work(client: SessionClient) -> list[bytes]:
        await client.open()
        changes = [client.submit(bytes([number])) for number in range(100)]
        await asyncio.sleep(0)
        assert host.count(Submit) == 2
        return [await change for change in changes]

    assert run(host, work) == [bytes([number]) + b"!" for number in range(100)]
    assert [len(message.bodies) for message in host.asked if isinstance(message, Submit)] == [64, 36]
    assert host.in_flight_max == 2


def test_a_large_change_travels_alone() -> None:
    host = Host()

    async def work(client: SessionClient) -> None:
        await client.open()
        await asyncio.gather(*(client.submit(body) for body in (b"a", bytes(GATHERED_SIZE), b"b", b"c")))

    run(host, work)

    assert [len(message.bodies) for message in host.asked if isinstance(message, Submit)] == [1, 1, 2]


def test_changes_that_fail_together_are_sent_again_once() -> None:
    host = Host()
    host.lose = once(Submit, ConnectionLost("it died"))

    async def work(client: SessionClient) -> list[bytes]:
        await client.open()
        return await asyncio.gather(*(client.submit(bytes([number])) for number in range(50)))

    assert run(host, work) == [bytes([number]) + b"!" for number in range(50)]
    assert host.count(Submit) == 2
    assert len(host.made) == 50


def test_a_change_that_nobody_wants_any_more_leaves_the_others_alone() -> None:
    host = Host()

    async def work(client: SessionClient) -> list[bytes]:
        await client.open()
        first, second, third = (asyncio.ensure_future(client.submit(body)) for body in (b"a", b"b", b"c"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second.cancel()
        answers = [await first, await third]
        await client.submit(b"d")
        return answers

    assert run(host, work) == [b"a!", b"c!"]
    last = host.asked[-1]
    assert isinstance(last, Submit)
    assert (last.sequence, last.acknowledged_below) == (2, 2)


def test_changes_that_nobody_wants_any_more_are_not_sent() -> None:
    host = Host()

    async def work(client: SessionClient) -> None:
        await client.open()
        for change in [client.submit(b"a"), client.submit(b"b")]:
            change.cancel()  # type: ignore[attr-defined]
        await client.submit(b"c")

    run(host, work)

    assert host.made == [b"c"]


def test_a_host_that_answers_too_few_changes_is_not_believed() -> None:
    host = Host()
    host.cut = 1

    async def work(client: SessionClient) -> None:
        await client.open()
        await asyncio.gather(client.submit(b"a"), client.submit(b"b"))

    with pytest.raises(Corrupt, match="1 answers came, to change 2 of a submit none"):
        run(host, work)


def test_coroutines_that_need_a_session_at_once_open_one() -> None:
    host = Host()

    async def work(client: SessionClient) -> None:
        await asyncio.gather(*(client.submit(bytes([number])) for number in range(50)))

    run(host, work)

    assert host.count(OpenSession) == 1
    assert sorted(host.made) == [bytes([number]) for number in range(50)]


def test_more_changes_than_a_window_wait_for_room_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zactor.replication.client.CHANGES_MAX", 1)
    host = Host()

    async def work(client: SessionClient) -> None:
        await asyncio.gather(*(client.submit(number.to_bytes(2, "big")) for number in range(2 * WINDOW + 5)))

    run(host, work)

    assert host.in_flight_max == WINDOW
    assert len(set(host.made)) == len(host.made) == 2 * WINDOW + 5


def test_what_was_answered_is_acknowledged_also_around_one_that_was_not() -> None:
    host = Host()

    async def work(client: SessionClient) -> int:
        await client.open()
        slow = client.submit(b"slow")
        for _ in range(5):
            await client.submit(b"x")
        before = host.asked[-1]
        await slow
        await client.submit(b"y")
        assert isinstance(before, Submit) and before.acknowledged_below == 1  # noqa: PT018
        last = host.asked[-1]
        assert isinstance(last, Submit)
        return last.acknowledged_below

    assert run(host, work) == 6  # the first of them left with the slow one


def test_a_change_of_a_session_that_is_over_is_made_in_another_one() -> None:
    host = Host()

    async def work(client: SessionClient) -> bytes:
        await client.submit(b"a")
        host.end_sessions()
        return await client.submit(b"b")

    assert run(host, work) == b"b!"
    assert (host.made, host.count(OpenSession)) == ([b"a", b"b"], 2)


def test_a_change_that_was_sent_before_its_session_was_over_has_an_unknown_outcome() -> None:
    host = Host()

    def lose(message: Message[Any]) -> Failure | None:
        if not isinstance(message, Submit):
            return None
        host.end_sessions()
        return ConnectionLost("it died")

    host.lose = lose

    with pytest.raises(OutcomeUnknown, match="the session was lost"):
        run(host, lambda client: _submit(client, b"a"))

    assert host.made == [b"a"]


def test_a_change_that_was_sent_before_another_was_refused_has_an_unknown_outcome() -> None:
    host = Host()

    def lose(message: Message[Any]) -> Failure | None:
        if not isinstance(message, Submit):
            return None
        host.fault = once(Submit, NoSpace("the disk is full"))
        return ConnectionLost("it died")

    host.lose = lose

    with pytest.raises(OutcomeUnknown, match="the disk is full"):
        run(host, lambda client: _submit(client, b"a"))

    assert host.made == [b"a"]


def test_a_change_that_never_left_before_its_session_was_over_is_made_in_another_one() -> None:
    host = Host()

    async def work(client: SessionClient) -> bytes:
        await client.open()
        host.fault = once(Submit, ConnectionLost("there is no connection", "not sent"))
        host.end_sessions()
        return await client.submit(b"a")

    assert run(host, work) == b"a!"
    assert host.made == [b"a"]


def test_patience_ends_and_says_whether_the_change_may_have_been_made() -> None:
    host = Host()
    host.lose = lambda message: ConnectionLost("it died") if isinstance(message, Submit) else None

    with pytest.raises(OutcomeUnknown, match="it died"):
        run(host, lambda client: _submit(client, b"a"))

    assert host.made == [b"a"]
    assert GIVE_UP_S - 1 <= host.time_ns / 1e9 <= GIVE_UP_S

    host = Host()
    host.fault = lambda message: Overloaded("full") if isinstance(message, Submit) else None
    with pytest.raises(Overloaded):
        run(host, lambda client: _submit(client, b"a"))
    assert host.made == []


def test_after_an_unknown_outcome_the_session_goes_on() -> None:
    host = Host()

    async def work(client: SessionClient) -> bytes:
        await client.open()
        host.lose = lambda message: ConnectionLost("it died") if isinstance(message, Submit) else None
        with pytest.raises(OutcomeUnknown):
            await client.submit(b"a")
        host.lose = lambda message: None
        return await client.submit(b"b")

    assert run(host, work) == b"b!"
    assert (host.made, host.count(OpenSession)) == ([b"a", b"b"], 1)


def test_a_change_that_nobody_awaits_any_more_holds_up_no_others() -> None:
    host = Host()

    async def work(client: SessionClient) -> None:
        await client.open()
        for number in range(WINDOW + 10):
            forget(client.submit(number.to_bytes(2, "big")))
        waiting = asyncio.ensure_future(_submit(client, b"cancelled"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await client.submit(b"last")
        last = host.asked[-1]
        assert isinstance(last, Submit)
        assert last.acknowledged_below == last.sequence

    run(host, work)


def test_a_refusal_is_an_answer() -> None:
    host = Host()
    host.fault = once(Submit, NoSpace("the disk is full"))

    with pytest.raises(NoSpace):
        run(host, lambda client: _submit(client, b"a"))

    assert host.count(Submit) == 1


def test_a_question_is_asked_again_until_it_is_answered() -> None:
    host = Host()
    host.lose = once(Query, ConnectionLost("it died"))

    async def work(client: SessionClient) -> bytes:
        return await client.query(b"who")

    assert run(host, work) == b"who?"
    assert host.count(Query) == 2
    assert host.count(OpenSession) == 0


def test_renewing_says_whether_the_session_lives() -> None:
    host = Host()

    async def work(client: SessionClient) -> tuple[bool, bool, bool, int]:
        none = await client.renew()
        await client.open()
        await host.sleep(5)
        assert client.silent_s >= 5
        alive = await client.renew()
        assert client.silent_s < 1
        host.end_sessions()
        return none, alive, await client.renew(), client.number

    assert run(host, work) == (False, True, False, 0)
    assert host.count(Renew) == 2


def test_closing_ends_the_session_and_bears_that_nobody_hears_it() -> None:
    host = Host()

    async def work(client: SessionClient) -> None:
        await client.submit(b"a")
        await client.close()
        await client.close()
        await client.submit(b"b")
        host.fault = lambda message: ConnectionLost("it died")
        await client.close()

    run(host, work)

    assert host.count(EndSession) == 2
    assert host.count(OpenSession) == 2


async def _submit(client: SessionClient, body: bytes) -> bytes:
    return await client.submit(body)
