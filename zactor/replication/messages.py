"""What a client says to whoever runs a state machine, however many of them there are.

A session makes changes happen exactly once: its client numbers them from 1 on, may send one again for as long as it
likes, and is given the same answer. `acknowledged_below` says which answers it has, so that they can be forgotten.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from zactor.errors import Refused
from zactor.message import Message

WINDOW = 1_024
"""Changes of one session that are not acknowledged yet."""

BODY_SIZE_MAX = 4 << 20
"""Bytes of one change or question."""

Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Session = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
Body = Annotated[bytes, msgspec.Meta(max_length=BODY_SIZE_MAX)]


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


class Submit(Message[bytes]):
    """Change number `sequence` of a session. Answered when it is durable and done, once, by the machine's answer.

    Raises `SessionExpired`, `OutOfWindow`, and `NoSpace` when the log cannot grow.
    """

    session: Session
    sequence: Session
    acknowledged_below: Number
    body: Body


class NoSpace(Refused):
    """The disk of whoever orders the log is full: nothing was changed, and questions are still answered."""


class Query(Message[bytes]):
    """A question to the state as it is at some moment between this ask and its answer (linearizable)."""

    body: Body
