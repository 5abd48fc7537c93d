"""A probe: an actor that does what a test says, and shows the test what it was sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from zactor.actor import Actor, Down, Up, on
from zactor.cell import Cell, Wait
from zactor.door import Later
from zactor.errors import Failure
from zactor.message import Envelope, Message, Opaque, encode
from zactor.testing.story import shown, unpacked
from zactor.wire import split

if TYPE_CHECKING:
    from zactor.testing.stage import Stage

A = TypeVar("A")
M = TypeVar("M", bound=Message[Any])

WITHIN_S = 3.0
"""How long a probe waits for a message: less than an ask does, which may still be answered then."""

QUIET_S = 1.0
"""How long nothing is to come."""


class Received(msgspec.Struct):
    """What a probe was sent."""

    message: Message[Any]
    sender: str | None = None
    later: Later[Any] | None = None


class Listener(Actor):
    """Takes whatever comes, undecoded, and answers when it is told to."""

    def __init__(self) -> None:
        self.received: deque[Received] = deque()

    @on
    def take(self, message: Opaque, envelope: Envelope) -> Later[Opaque]:
        later = self.later()
        self.received.append(Received(message, envelope.sender.name if envelope.sender else None, later))
        return later

    @on
    def notice(self, message: Down | Up) -> None:
        self.received.append(Received(message))


class Answer(Generic[A]):
    """What was asked for, and may not be there yet."""

    def __init__(self, stage: Stage, wait: Wait) -> None:
        self._stage = stage
        self._wait = wait
        wait.notify = wait.notify or (lambda _wait: None)

    @property
    def done(self) -> bool:
        """Whether the answer, or the failure, is there."""
        return self._wait.done

    def result(self) -> A:
        """Let time pass until it is there; the answer, or the `Failure` raised. An ask ends at its deadline."""
        __tracebackhide__ = True
        self._stage.until(lambda: self._wait.done, within=None, what="the answer")
        if self._wait.error is not None:
            raise self._wait.error
        value: A = self._wait.value
        return value


class Probe:
    """Stands where a link leads, under a name of its own; `cell` is that of its actor once the stage has begun."""

    def __init__(self, stage: Stage, name: str, cell: Callable[[], Cell]) -> None:
        self.name = name
        self._stage = stage
        self._cell = cell
        self._last: Received | None = None

    def __repr__(self) -> str:
        return f"Probe({self.name!r})"

    # --- what it was sent
    def expect(self, kind: type[M], within: float = WITHIN_S) -> M:
        """The next message, which must be of that kind and come within so many seconds. Raises `AssertionError`."""
        __tracebackhide__ = True
        received = self._received()
        self._stage.until(lambda: bool(received), within, f"{self.name!r} was to get a {kind.__name__}")
        self._last = received.popleft()
        message = self._last.message
        if isinstance(message, Opaque) and message.name == kind.wire:
            return unpacked(message, kind)  # type: ignore[no-any-return]
        if isinstance(message, kind):
            return message
        raise AssertionError(f"{self.name!r} was to get a {kind.__name__}, and got {shown(message)}")

    def expect_nothing(self, within: float = QUIET_S) -> None:
        """Let so many seconds pass, in which nothing may come. Raises `AssertionError`."""
        __tracebackhide__ = True
        received = self._received()
        self._stage.run(within, until=lambda: bool(received))
        if received:
            raise AssertionError(f"{self.name!r} was to get nothing, and got {shown(received[0].message)}")

    @property
    def sender(self) -> str | None:
        """Who sent what was expected last; None when nobody did."""
        return self._expected().sender

    def reply(self, value: Any) -> None:
        """Answer what was expected last."""
        body, blobs = split(value)
        self._later().reply(Opaque(name="", body=msgspec.Raw(encode(body)), blobs=blobs))

    def fail(self, error: Failure) -> None:
        """Answer it with an error."""
        self._later().fail(error)

    def _expected(self) -> Received:
        if self._last is None:
            raise AssertionError(f"{self.name!r} has expected nothing yet: call expect(...) first")
        return self._last

    def _later(self) -> Later[Any]:
        later = self._expected().later
        if later is None:
            raise AssertionError(f"{shown(self._expected().message)} is a notice, which nobody waits for")
        return later

    def _received(self) -> deque[Received]:
        self._stage.begin()
        actor = self._cell().actor
        assert isinstance(actor, Listener)
        return actor.received

    # --- what it does itself
    def tell(self, target: Any, message: Message[Any]) -> None:
        """Tell somebody. Raises `Overloaded` as in an actor."""
        cell = self._acting()
        cell.kernel.tell(cell, cell.kernel.ref(name_of(target)), message)

    def start_ask(self, target: Any, message: Message[A], timeout_s: float = 5.0) -> Answer[A]:
        """Ask somebody, and go on: the ask is under way when time passes."""
        cell = self._acting()
        ref = cell.kernel.ref(name_of(target))
        return Answer(self._stage, cell.kernel.ask(cell, ref, message, int(timeout_s * 1e9)))

    def ask(self, target: Any, message: Message[A], timeout_s: float = 5.0) -> A:
        """Ask somebody, and let time pass until the answer is there. Raises what an ask in an actor does."""
        __tracebackhide__ = True
        return self.start_ask(target, message, timeout_s).result()

    def watch(self, target: Any) -> None:
        """Be sent `Down` and `Up` of somebody."""
        cell = self._acting()
        cell.kernel.life.watch(cell, cell.kernel.ref(name_of(target)))

    def _acting(self) -> Cell:
        self._stage.begin()
        return self._cell()


def name_of(target: Any) -> str:
    """The name that a name, a ref or a probe stands for."""
    return target if isinstance(target, str) else str(target.name)
