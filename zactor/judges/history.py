"""What clients asked and were answered: recorded while it happens, written as JSON lines, read by the judges.

An operation is recorded *before* it is sent: one that is under way when everything ends may have taken effect,
and a history without it would accuse the innocent. It ends in one of four ways:

- `ok`: it was answered;
- `failed`: it certainly did not happen, and is judged as if it had never been asked;
- `unknown`: it may have happened, or may happen at any later time (a deadline passed, a connection was lost);
- `pending`: it was still under way when the history ended; judged as `unknown`.

The order of the lines is the order in which things happened; time is for people, and for bounds on staleness.
What stands before a damaged line is itself a history, of a run that ended there: a violation in it is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from zactor.errors import UserError

FORMAT = 1
"""The number of the file format; a reader refuses a higher one."""

Outcome = Literal["ok", "failed", "unknown", "pending"]

SHOWN_LENGTH_MAX = 60
"""Characters of a value that are shown."""

_INTEGER_MAX = 2**63 - 1


class Call(msgspec.Struct, frozen=True):
    """What was asked and answered: all that a model sees.

    It does not say who asked, or when: operations of the same function, key and arguments do the same. So the
    owner of a lock is an argument. `known` is False when there is no answer, and then `result` means nothing.
    """

    function: str
    key: str = ""
    arguments: tuple[Any, ...] = ()
    result: Any = None
    known: bool = True

    def answered(self, value: object) -> bool:
        """Whether it can have been answered by that: True for every value when the answer is not known."""
        return not self.known or self.result == value

    def __str__(self) -> str:
        words = " ".join(part for part in (self.function, self.key, *map(_shown, self.arguments)) if part)
        if not self.known:
            return f"{words} -> ?"
        return words if self.result is None and self.arguments else f"{words} -> {_shown(self.result)}"


class Operation(msgspec.Struct, frozen=True):
    """One operation of one client.

    `invoked` and `completed` are places in the order of events; `completed` is None when it is not known that
    the operation took effect. `ended_ns` is when its outcome was recorded, which `pending` ones never had.
    """

    id: int
    client: str
    call: Call
    invoked: int
    invoked_ns: int
    completed: int | None = None
    ended_ns: int | None = None
    outcome: Outcome = "pending"


class _Header(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    zactor_history: int
    model: str = ""


class _Invoke(msgspec.Struct, tag="invoke", tag_field="event", forbid_unknown_fields=True, omit_defaults=True):
    at: int
    id: int
    client: str
    function: str
    key: str = ""
    arguments: tuple[Any, ...] = ()


class _Complete(msgspec.Struct, tag="ok", tag_field="event", forbid_unknown_fields=True, omit_defaults=True):
    at: int
    id: int
    result: Any = None


class _Fail(msgspec.Struct, tag="failed", tag_field="event", forbid_unknown_fields=True):
    at: int
    id: int


class _Unknown(msgspec.Struct, tag="unknown", tag_field="event", forbid_unknown_fields=True):
    at: int
    id: int


_Event = _Invoke | _Complete | _Fail | _Unknown
_OUTCOMES: dict[type, Outcome] = {_Complete: "ok", _Fail: "failed", _Unknown: "unknown"}

_encode = msgspec.json.Encoder().encode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_header = msgspec.json.Decoder(_Header).decode


class _Story:
    """Events as they come, and the operations that they make."""

    def __init__(self) -> None:
        self.events = 0
        self.operations: dict[int, Operation] = {}
        self._at_ns: int | None = None

    def problem(self, event: _Event) -> str | None:
        """Why this cannot be the next event; None when it can."""
        if self._at_ns is not None and event.at < self._at_ns:
            return f"it is at {event.at}, earlier than the line before it"
        known = self.operations.get(event.id)
        if isinstance(event, _Invoke):
            return None if known is None else f"operation {event.id} was invoked before"
        if known is None:
            return f"operation {event.id} ends and was never invoked"
        return None if known.outcome == "pending" else f"operation {event.id} has ended before"

    def add(self, event: _Event) -> None:
        """Take the next event, which has no problem."""
        self.operations[event.id] = self._begun(event) if isinstance(event, _Invoke) else self._ended(event)
        self._at_ns = event.at
        self.events += 1

    def _begun(self, event: _Invoke) -> Operation:
        call = Call(event.function, event.key, frozen(event.arguments), known=False)
        return Operation(event.id, event.client, call, self.events, event.at)

    def _ended(self, event: _Complete | _Fail | _Unknown) -> Operation:
        begun, completed = self.operations[event.id], None
        call = begun.call
        if isinstance(event, _Complete):
            call = Call(call.function, call.key, call.arguments, frozen(event.result))
            completed = self.events
        outcome = _OUTCOMES[type(event)]
        return Operation(event.id, begun.client, call, begun.invoked, begun.invoked_ns, completed, event.at, outcome)


class History:
    """Records the operations of all clients of one run, in memory and, with `write`, line by line elsewhere.

    `now_ns` is a clock that is the same for all clients and never goes back; `write` takes each line with its
    line break. `model` is the name of what the history is to be judged by: `register`, `kv`, ...
    Values are what JSON has, and are given back immutable: lists as tuples, objects as tuples of sorted pairs.
    """

    def __init__(self, now_ns: Callable[[], int], model: str = "", write: Callable[[str], object] | None = None):
        self.model = model
        self._now_ns = now_ns
        self._write = write
        self._story = _Story()
        self._last_id = -1
        self._say(_Header(FORMAT, model))

    def invoke(self, client: str, function: str, *arguments: Any, key: str = "") -> int:
        """Record that a client is about to ask; call it before anything is sent. Returns the operation's id.

        Raises `UserError` for a value that no file can hold.
        """
        self._last_id += 1
        self._add(_Invoke(self._now_ns(), self._last_id, client, function, key, frozen(arguments)))
        return self._last_id

    def complete(self, operation: int, result: Any = None) -> None:
        """Record that it was answered."""
        self._add(_Complete(self._now_ns(), operation, frozen(result)))

    def fail(self, operation: int) -> None:
        """Record that it certainly did not happen, and never will."""
        self._add(_Fail(self._now_ns(), operation))

    def unknown(self, operation: int) -> None:
        """Record that nobody knows whether it happened, or will happen."""
        self._add(_Unknown(self._now_ns(), operation))

    def operations(self) -> list[Operation]:
        """All operations in the order in which they were invoked."""
        return list(self._story.operations.values())

    def _add(self, event: _Event) -> None:
        problem = self._story.problem(event)
        assert problem is None, problem
        self._story.add(event)
        self._say(event)

    def _say(self, line: _Header | _Event) -> None:
        if self._write is not None:
            self._write(_encode(line).decode() + "\n")


class Recorded(msgspec.Struct, frozen=True):
    """A history that was read. `damage` says what was wrong with the line after the last that was taken."""

    model: str
    operations: list[Operation]
    events: int
    damage: str | None = None


def read(lines: Iterable[bytes], name: str) -> Recorded:
    """Read a history until its end or its first damaged line; `name` is what messages call it.

    Raises `UserError` when the first line is not that of a history.
    """
    rest = iter(lines)
    header = _header(next(rest, b""), name)
    story, damage = _Story(), None
    for number, line in enumerate(rest, start=2):
        problem = _take(story, line)
        if problem is not None:
            damage = f"{name}:{number}: {problem}"
            break
    return Recorded(header.model, list(story.operations.values()), story.events, damage)


def _header(line: bytes, name: str) -> _Header:
    try:
        header = _decode_header(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        expected = _encode(_Header(FORMAT, "register")).decode()
        raise UserError(f"{name}:1: this is no history; expected a first line such as {expected}") from None
    if header.zactor_history > FORMAT:
        raise UserError(
            f"{name}:1: format {header.zactor_history} is newer than {FORMAT}: judge it with a newer zactor"
        )
    return header


def _take(story: _Story, line: bytes) -> str | None:
    """Add the event of a line. Returns why it cannot be one."""
    try:
        event = _decode_event(line)
        problem = story.problem(event)
        if problem is None:
            story.add(event)
        return problem
    except (msgspec.DecodeError, UnicodeDecodeError, UserError) as error:
        return f"it is no event of a history ({error})" if line.endswith(b"\n") else "the line is cut"


def frozen(value: Any) -> Any:
    """A value of JSON made immutable, so that it can be part of a state. Raises `UserError` for any other value."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int) and -_INTEGER_MAX <= value <= _INTEGER_MAX:
        return value
    if isinstance(value, float) and value - value == 0:
        return value
    if isinstance(value, list | tuple):
        return tuple(map(frozen, value))
    if isinstance(value, dict):
        return tuple(sorted((str(key), frozen(each)) for key, each in value.items()))
    raise UserError(f"a history cannot hold {_shown(value)}, a {type(value).__name__}: give it text, or a hash as text")


def _shown(value: object) -> str:
    text = repr(list(value)) if isinstance(value, tuple) else repr(value)
    return text if len(text) <= SHOWN_LENGTH_MAX else f"{text[: SHOWN_LENGTH_MAX - 3]}..."
