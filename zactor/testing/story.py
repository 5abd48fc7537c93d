"""What happened on a stage, as far back as a reader of a failure wants to know.

It listens as a kernel's tap and as a world's log: what actors were given, what they said, and what was done to them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec

from zactor.actor import Down, Up
from zactor.cell import Cell, Mail, sender_name
from zactor.message import Message, Opaque, decoder
from zactor.sim.world import Log
from zactor.wire import unsplit
from zactor.world import Operation

EVENTS_MAX = 40
"""Lines of a story: a screen."""

LINE_LENGTH_MAX = 160

LOGS_MAX = 100_000
"""Log events that are kept for `logged`."""

_HIDDEN = frozenset({"hlc", "message_id", "cause", "root", "traceback"})


class _Event(msgspec.Struct):
    at_ns: int
    node: str
    what: str
    mail: Mail | None


class Story:
    """Lines of `seconds  node  what`; the earliest are forgotten."""

    def __init__(self) -> None:
        self.logs: deque[Log] = deque(maxlen=LOGS_MAX)
        self._events: deque[_Event] = deque(maxlen=EVENTS_MAX)
        self._offered: list[_Event] = []
        self._count = 0

    def add(self, at_ns: int, node: str, what: str, mail: Mail | None = None) -> _Event:
        """Something happened. A message is made text only when somebody reads it."""
        self._count += 1
        event = _Event(at_ns, node, what, mail)
        self._events.append(event)
        return event

    def heard(self, log: Log) -> None:
        """A log event."""
        self.logs.append(log)
        at_ns, level, node, event, fields = log
        words = [f"{name}={value}" for name, value in fields.items() if name not in _HIDDEN]
        self.add(at_ns, node, " ".join([f"[{level}] {event}", *words]))
        for line in str(fields.get("traceback") or "").splitlines():
            self.add(at_ns, node, f"  {line}")

    # --- a `zactor.kernel.Tap`
    def mail(self, cell: Cell, count: int) -> None:
        """An actor is offered messages: they are told of before what it does with them."""
        now_ns = cell.kernel.world.now_ns()
        self._offered = [self.add(now_ns, cell.name, "message", mail) for mail in islice(cell.mailbox, count)]

    def taken(self, cell: Cell, count: int) -> None:  # noqa: ARG002 - it is the one that was offered them
        """It took so many of them; of the others nothing is told yet."""
        for event in self._offered[count:]:
            event.what = ""
            self._count -= 1

    def settled(self, cell: Cell, count: int) -> int:
        """What it waited for is there."""
        now_ns = cell.kernel.world.now_ns()
        for _, value, error in islice(cell.inputs or (), count):
            if error is not None:  # as text: it would keep frames alive
                self.add(now_ns, cell.name, f"gets {type(error).__name__}: {error}")
            elif value is not None:
                self.add(now_ns, cell.name, f"gets {_cut(repr(value))}")
        return count

    def input(self, cell: Cell, kind: str, *values: Any) -> None:
        """Something else feeds an actor."""
        now_ns = cell.kernel.world.now_ns()
        match kind, values:
            case "timer", (mail,):
                self.add(now_ns, cell.name, kind, mail)
            case "boot", ():
                self.add(now_ns, cell.name, "starts again" if cell.generation else "starts")
            case "stop", (because,):
                self.add(now_ns, cell.name, f"stops: {because}")

    def turn(self, cell: Cell) -> None:
        """The rest of a tap is no news: whoever is told something says so."""

    def output(self, cell: Cell, kind: str, digest: int) -> None:
        """No news."""

    def operation(self, cell: Cell, number: int, operation: Operation) -> None:
        """No news."""

    def received(self, process: str, heard_ns: int, frame: bytes, blobs: Sequence[bytes]) -> None:
        """No news."""

    def sent(self, process: str, frame: bytes, blobs: Sequence[bytes]) -> None:
        """No news."""

    def dropped(self, number: int) -> None:
        """No news."""

    def flush(self) -> None:
        """No news."""

    def text(self) -> str:
        """All that is remembered, a line an event."""
        events = [event for event in self._events if event.what]
        if not events:
            return "nothing has happened"
        width = max(len(event.node) for event in events)
        lines = [
            f"{event.at_ns / 1e9:11.6f}  {event.node:<{width}}  {_line(event.what, event.mail)}" for event in events
        ]
        forgotten = self._count - len(lines)
        return "\n".join([f"... {forgotten} earlier events", *lines] if forgotten else lines)


def _line(what: str, mail: Mail | None) -> str:
    if mail is None:
        return _cut(what)
    if what == "timer":
        return f"{'is told' if isinstance(mail.message, Down | Up) else 'timer'} {shown(mail.message)}"
    return f"<- {shown(mail.message)} from {sender_name(mail) or 'nobody'}"


def shown(message: Any) -> str:
    """A message as its author would write it; one that came undecoded, if its class is loaded."""
    if isinstance(message, Opaque):
        kind = _kinds(Message).get(message.name)
        if kind is None:
            return f"{message.name}(...)"
        try:
            message = unpacked(message, kind)
        except (msgspec.MsgspecError, ValueError):
            return f"{message.name}(which does not fit {kind.__module__}.{kind.__qualname__})"
    return _cut(repr(message))


def unpacked(message: Opaque, kind: type[Message[Any]]) -> Any:
    """The message that an `Opaque` holds. Raises `msgspec.MsgspecError` when it is not of that kind."""
    return unsplit(decoder(kind)(message.body), message.blobs)


def _kinds(base: type[Message[Any]]) -> dict[str, type[Message[Any]]]:
    """All kinds of messages that are loaded, by their wire names."""
    found: dict[str, type[Message[Any]]] = {}
    for kind in base.__subclasses__():
        found |= {kind.wire: kind} | _kinds(kind)
    return found


def _cut(text: str) -> str:
    return text if len(text) <= LINE_LENGTH_MAX else f"{text[: LINE_LENGTH_MAX - 3]}..."
