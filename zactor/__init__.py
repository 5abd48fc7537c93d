"""The vocabulary of an actor's author: `from zactor import Actor, Message, Ref, on`.

Importing it loads neither sockets nor an event loop; `Client` and `AsyncClient`, for programs outside of any
topology, are loaded when they are asked for. Inside zactor a name is imported from where it is defined.
"""

import importlib
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from zactor.client import AsyncClient, Client
else:

    def __getattr__(name: str) -> Any:
        if name in ("AsyncClient", "Client"):
            return getattr(importlib.import_module("zactor.client"), name)
        raise AttributeError(f"module 'zactor' has no attribute {name!r}")


__all__ = [
    "Actor",
    "ActorFailed",
    "ActorStopped",
    "AskCycle",
    "AskTimeout",
    "AsyncClient",
    "Bulk",
    "ByteSize",
    "Cancelled",
    "Client",
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
