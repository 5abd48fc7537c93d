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
    Corrupt,
    DiskFailed,
    DiskFull,
    Failure,
    NeverAnswered,
    Overloaded,
    ProcessLost,
    Refused,
    TooLarge,
    Unhandled,
)
from zactor.message import Envelope, Message, Ref, Refs
from zactor.supervision import Supervision
from zactor.units import ByteSize, Duration

__all__ = [
    "Actor",
    "ActorFailed",
    "ActorStopped",
    "AskCycle",
    "AskTimeout",
    "ByteSize",
    "Cancelled",
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
    "Overloaded",
    "ProcessLost",
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
