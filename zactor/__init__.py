"""The vocabulary of an actor's author: `from zactor import Actor, Message, Ref, on`.

Importing it loads neither sockets nor an event loop. Inside zactor a name is imported from where it is defined.
"""

from zactor.actor import Actor, Down, Up, link, on
from zactor.door import Disk, Later
from zactor.errors import (
    ActorFailed,
    ActorStopped,
    AskCycle,
    AskTimeout,
    Cancelled,
    ConnectionLost,
    Corrupt,
    DiskFailed,
    DiskFull,
    Failure,
    NeverAnswered,
    Overloaded,
    Refused,
    TooLarge,
    Unhandled,
)
from zactor.message import Bulk, Envelope, Message, Opaque, Ref, Refs
from zactor.supervision import Supervision
from zactor.units import ByteSize, Duration

__all__ = [
    "Actor",
    "ActorFailed",
    "ActorStopped",
    "AskCycle",
    "AskTimeout",
    "Bulk",
    "ByteSize",
    "Cancelled",
    "ConnectionLost",
    "Corrupt",
    "Disk",
    "DiskFailed",
    "DiskFull",
    "Down",
    "Duration",
    "Envelope",
    "Failure",
    "Later",
    "Message",
    "NeverAnswered",
    "Opaque",
    "Overloaded",
    "Ref",
    "Refs",
    "Refused",
    "Supervision",
    "TooLarge",
    "Unhandled",
    "Up",
    "link",
    "on",
]
