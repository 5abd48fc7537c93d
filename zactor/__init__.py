"""The vocabulary of an actor's author: `from zactor import Actor, Message, Ref, on`.

Each name is loaded when it is asked for, so that who imports one part of zactor, such as the pytest plugin, pays for
no other; no name but `Client`, `AsyncClient` and `launch`, for programs outside of any topology, loads sockets or an
event loop. Inside zactor a name is imported from where it is defined.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zactor.actor import Actor, Down, Up, link, on
    from zactor.client import AsyncClient, Client
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
    from zactor.launched import launch
    from zactor.message import Bulk, Envelope, Message, Opaque, Ref, Refs
    from zactor.supervision import Supervision
    from zactor.topology.build import Node, Topology
    from zactor.units import ByteSize, Duration
else:
    _NAMES = {
        "actor": "Actor Down Up link on",
        "door": "Disk Later",
        "errors": "ActorFailed ActorStopped AskCycle AskTimeout Cancelled ConnectionLost Corrupt DiskFailed DiskFull"
        " Failure NeverAnswered Overloaded Refused TooLarge Unhandled",
        "message": "Bulk Envelope Message Opaque Ref Refs",
        "supervision": "Supervision",
        "units": "ByteSize Duration",
        "client": "AsyncClient Client",
        "topology.build": "Node Topology",
        "launched": "launch",
    }
    _HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'zactor' has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(f"zactor.{_HOMES[name]}"), name)
        return value


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
    "Node",
    "Opaque",
    "Overloaded",
    "Ref",
    "Refs",
    "Refused",
    "Supervision",
    "TooLarge",
    "Topology",
    "Unhandled",
    "Up",
    "launch",
    "link",
    "on",
]
