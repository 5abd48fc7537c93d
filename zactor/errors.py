"""What can go wrong, sorted by who can mend it.

`UserError`: a file or a command is wrong; it is shown as it is, without a traceback.
`Failure`: something that an actor may be told. It crosses the wire as data (a name, a text, a detail)
and has the same type wherever the other actor lives. `Refused` is the one to raise and to subclass:
a handler says no with it, which is an answer and no failure of the actor.
What is our own mistake is an `assert`.
"""

from __future__ import annotations

import sys
from typing import ClassVar


class ZactorError(Exception):
    """The root of all errors that zactor raises."""


class UserError(ZactorError):
    """A file or a command is wrong. The text says what was found, what was expected, and the mend."""


def plugin_name(module: str) -> str:
    """The first half of a wire name: the package that holds a module, or the stem of a lone file.

    `nodes.files.messages` and `nodes.files` give `files`; `greeter` gives `greeter`.
    """
    parts = module.split(".")
    is_package = hasattr(sys.modules.get(module), "__path__")
    return parts[-1] if is_package or len(parts) == 1 else parts[-2]


class Failure(ZactorError):
    """Something an actor is told instead of an answer.

    `detail` is a longer text, such as the rendered traceback of the handler that failed.
    Subclasses take no further arguments: another process makes them from name, text and detail.
    """

    wire: ClassVar[str] = "zactor.Failure"
    by_wire: ClassVar[dict[str, type[Failure]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.wire = f"{plugin_name(cls.__module__)}.{cls.__name__}"
        Failure.by_wire[cls.wire] = cls

    def __init__(self, text: str = "", detail: str = "") -> None:
        super().__init__(text)
        self.detail = detail

    @classmethod
    def from_wire(cls, wire: str, text: str, detail: str) -> Failure:
        """The failure of that name; one that this process does not know becomes a `Refused` that names it."""
        known = cls.by_wire.get(wire)
        return known(text, detail) if known is not None else Refused(f"{wire}: {text}", detail)


class Refused(Failure):
    """A handler says no: the asker gets it, with this type, and the actor goes on. Subclass it."""


class AskTimeout(Failure):
    """No answer came within the time allowed, which nested asks inherit."""


class AskCycle(Failure):
    """The ask waits, over others, for itself. The text is the chain."""


class NeverAnswered(Failure):
    """The handler dropped its `Later` without an answer."""


class ActorFailed(Failure):
    """The handler raised. `detail` holds its traceback."""


class ActorStopped(Failure):
    """The target has stopped, or does not exist."""


class ConnectionLost(Failure):
    """The process of the target died, or the connection to it did.

    `sent` is False when the message never left, so that it is safe to ask again; else it may have been handled.
    """

    def __init__(self, text: str = "", detail: str = "sent") -> None:
        super().__init__(text, detail)
        self.sent = detail == "sent"


class Unhandled(Failure):
    """The target has no handler for this message, or could not decode it."""


class Overloaded(Failure):
    """The target's mailbox or the connection to it is full."""


class TooLarge(Failure):
    """A message exceeds `message.MESSAGE_SIZE_MAX` bytes."""


class DiskFull(Refused):
    """No room is left; nothing was damaged."""


class DiskFailed(ZactorError):
    """The disk lost or may have lost what was written. What the process believes is no longer safe: it ends."""


class Corrupt(Refused):
    """What was read is not what was written: a checksum differs."""


class ReplyDropped(ZactorError):
    """`Later.reply` or `Later.fail` was called twice."""


class Cancelled(BaseException):
    """Thrown into a suspended handler whose asker is gone or whose deadline has passed.

    A `BaseException`, as in asyncio and trio, so that `except Exception` does not keep a cancelled handler alive.
    """
