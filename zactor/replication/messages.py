"""What a client says to whoever runs a state machine, however many of them there are.

A session makes changes happen exactly once: its client numbers its submits from 1 on, may send one again for as long as
it likes, and is given the same answers. `acknowledged_below` says which it has, so that they can be forgotten.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from zactor.errors import Refused
from zactor.message import Message

WINDOW = 1_024
"""Submits of one session that are not acknowledged yet."""

CHANGES_MAX = 64
"""Changes in one submit."""

BODY_SIZE_MAX = 4 << 20
"""Bytes of one change or question."""

Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Session = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
Body = Annotated[bytes, msgspec.Meta(max_length=BODY_SIZE_MAX)]


Level = Literal["linearizable", "bounded", "session", "eventual"]
"""How fresh an answer must be: as if there were one copy (linearizable); as the state was at most `bound_ns` ago
(bounded); with all that this client has seen before (session); whatever that replica has (eventual)."""

WAIT_NS_MAX = 60 * 10**9


class SessionExpired(Refused):
    """The session is over: its client was silent for too long, or ended it. What this asked for was not done now."""


class OutOfWindow(Refused):
    """A change whose answer was acknowledged before, or one too far ahead of those that were not."""


class OpenSession(Message[int]):
    """Begin a session. The answer is its id, which was never given before."""


class Renew(Message[None]):
    """The session goes on; any change says so, too. Raises `SessionExpired`."""

    session: Session


class EndSession(Message[None]):
    """The session is over, and what it held is free. Nothing happens if it is not known."""

    session: Session


class Submit(Message[tuple[bytes, ...]]):
    """Submit number `sequence` of a session: changes that were begun at once, made in this order and once.

    Answered when they are durable and done, by the machine's answer to each. Raises `SessionExpired`, `OutOfWindow`,
    and `NoSpace` when the log cannot grow.
    """

    session: Session
    sequence: Session
    acknowledged_below: Number
    bodies: Annotated[tuple[Body, ...], msgspec.Meta(min_length=1, max_length=CHANGES_MAX)]


class NoSpace(Refused):
    """The disk of whoever orders the log is full: nothing was changed, and questions are still answered."""


class NotLeader(Refused):
    """Another replica orders the log now: its name is in `detail`, or "" if none is known. Nothing was done here."""


class Deposed(NotLeader):
    """Another replica orders the log now, and a change was under way here: it may be made, or not."""


class Query(Message[bytes]):
    """A question to the state. A linearizable answer is of some moment between this ask and its answer.

    `at_least`: for the level `session`, the index of the log up to which the state must have come. Raises what the
    machine refuses with; `NotLeader` where this level cannot be had; `Unavailable` when it cannot be had in time.
    """

    body: Body
    level: Level = "linearizable"
    at_least: Number = 0
    bound_ns: Number = 0


class Watch(Message[bytes]):
    """A question about what has changed, answered when there is something to say, or by b"" after `wait_ns`.

    Any replica answers it, once it has come to `at_least`.
    """

    body: Body
    at_least: Number = 0
    wait_ns: Annotated[int, msgspec.Meta(ge=0, le=WAIT_NS_MAX)] = 10 * 10**9


class Unavailable(Refused):
    """Nobody could answer for all replicas in time, such as when there is no majority. Nothing was changed."""
