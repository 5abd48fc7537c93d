"""The shape of a replicated state machine: what is ordered by a log, and by nothing else.

Who orders the log (one server with a journal, Raft, Paxos) sees bytes. The machine sees entries, one after the other,
and comes to the same state wherever it has seen the same ones: it has no clock, no chance and no disk. The only time
that it knows is that of its entries, which never goes back along the log and is for people to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One entry of the log. `index` counts from 1, `time_ns` are nanoseconds since 1970, set by who proposed it.

    `session` is who asked for it; 0 is whoever runs the machine. The machine's answer is for that session alone.
    """

    index: int
    time_ns: int
    session: int
    body: bytes


class Told(msgspec.Struct, frozen=True):
    """An event: the answer to a watch, by the token that it was given."""

    token: int
    answer: bytes


class StateMachine(Protocol):
    """What runs on a log. `apply` never gets more than one batch of the log at once: its entries have one time."""

    def apply(self, entries: Sequence[Entry]) -> list[bytes]:
        """Make the changes of these entries, in order; an answer for each. What cannot be done is an answer, too.

        An entry of the host with an empty body says no more than what time it is.
        """
        ...

    def end_session(self, session: int) -> None:
        """A session is over: give up what it held. Comes at the same place of the log everywhere."""
        ...

    def query(self, body: bytes) -> bytes:
        """Answer a question from the state as it is. Changes nothing. Raises `Refused`."""
        ...

    def events(self) -> list[Any]:
        """What followed from the entries since it was last called, for who runs the machine. Not part of the state."""
        ...

    def snapshot(self) -> Iterator[bytes]:
        """The state as it is at this call, in parts, while `apply` goes on. One at a time; `close` it to give it up."""
        ...

    def restore(self, parts: Iterable[bytes]) -> None:
        """Take over the state of a snapshot, in the place of one's own. Raises `Corrupt`."""
        ...

    def digest(self) -> int:
        """64 bits that are equal for equal states."""
        ...


@runtime_checkable
class Timed(Protocol):
    """A machine in which something ends by itself, such as a lease: at a time of the log, with the next entry."""

    @property
    def due_ns(self) -> int:
        """When something ends: an entry is wanted then, if only an empty one. 0: nothing will."""
        ...


@runtime_checkable
class Watched(Protocol):
    """A machine that can be asked what has changed. What is watched is no part of the state: a `restore` ends it."""

    def watch(self, token: int, body: bytes) -> bytes | None:
        """Answer now, or later by a `Told` in `events`. Raises `Refused`."""
        ...

    def unwatch(self, token: int) -> None:
        """Nobody waits for that answer any more. Nothing happens if it was given."""
        ...
