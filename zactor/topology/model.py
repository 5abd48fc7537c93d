"""What a checked topology is: frozen values that can be sent as JSON, so that a process is told its part of it.

Settings and links stay as they were written; a `Process` holds what its instances need, links followed to the
names of instances. An **instance** is one actor of a node: `store/0` of three, or `greeter`, which is alone.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from zactor.supervision import SECOND_NS, Supervision
from zactor.topology.trials import Fault, Trial

PROCESS_COUNT_MAX = 1_000
"""Processes of a topology. Their numbers have ten bits of each message's id, and clients have the last."""

REPLICA_COUNT_MAX = 1_000
"""Replicas of a node."""

INSTANCE_COUNT_MAX = 10_000
"""Actors that a topology names. More of them are children, which their parents spawn."""

NAME_LENGTH_MAX = 64
"""Characters of the name of a topology, a node or a process: they become the names of folders and sockets."""

PEER_TIMEOUT_NS = 5 * SECOND_NS
"""How long a process may be silent before the others take it for lost, unless a topology says otherwise."""

Transport = Literal["ipc", "tcp"]
TRANSPORTS: tuple[Transport, ...] = ("ipc", "tcp")

When = Literal["failure", "always", "never"]
WHENS: tuple[When, ...] = ("failure", "always", "never")

Record = Literal["ring", "full", "off"]
RECORDS: tuple[Record, ...] = ("ring", "full", "off")
"""What is kept of what feeds a node: the last of it, all of it, or nothing."""


Overflow = Literal["fail", "drop"]
OVERFLOWS: tuple[Overflow, ...] = ("fail", "drop")
"""What becomes of a `tell` to a full mailbox: its sender gets `Overloaded`, or it is dropped and counted."""

MAILBOX_MAX = 1_000_000
"""Messages that a mailbox can be made to hold."""


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """What a topology says about restarts; what it leaves out is as in `Supervision`."""

    when: When = Supervision().when
    backoff_min_ns: int = Supervision().backoff_min_ns
    backoff_max_ns: int = Supervision().backoff_max_ns
    limit_count: int = Supervision().limit_count
    limit_window_ns: int = Supervision().limit_window_ns

    def supervision(self) -> Supervision:
        """The policy that this means."""
        return Supervision(**msgspec.structs.asdict(self))


class Node(msgspec.Struct, frozen=True):
    """A node as it was written. `replicas` is None for a node that is one instance without a number.

    `mailbox` is the messages that it holds at most, if not what its kind says; `overflow` what becomes of those that
    find it full, if not what the link of the sender says.
    """

    name: str
    kind: str
    replicas: int | None
    settings: dict[str, Any]
    links: dict[str, tuple[str, ...]]
    restart: Restart | None
    record: Record = RECORDS[0]
    mailbox: int | None = None
    overflow: Overflow | None = None

    def instances(self) -> list[str]:
        """The names of its instances: `store/0`, `store/1`, or only `greeter`."""
        if self.replicas is None:
            return [self.name]
        return [f"{self.name}/{index}" for index in range(self.replicas)]


class Instance(msgspec.Struct, frozen=True):
    """One actor: what its process needs to make it. `folder` is what a `./file.py` kind is relative to.

    `overflow` has those of its targets that say what becomes of what finds them full.
    """

    name: str
    node: str
    kind: str
    folder: str
    settings: dict[str, Any]
    links: dict[str, tuple[str, ...]]
    restart: Restart | None
    record: Record = RECORDS[0]
    mailbox: int | None = None
    overflow: dict[str, Overflow] = {}


class Process(msgspec.Struct, frozen=True):
    """A process and what runs in it. Numbers count from 1 in the order of the topology.

    One that joins a run later has a number that no process of that run ever had: message ids carry them.
    """

    name: str
    number: int
    transport: Transport
    instances: tuple[Instance, ...]


class Topology(msgspec.Struct, frozen=True):
    """A checked file. `file` is as it was named, `folder` is absolute, `try_` are commands to suggest.

    `text` is all of it in one text: that of the file, unless it includes others or has variables.
    """

    name: str
    file: str
    folder: str
    nodes: dict[str, Node]
    processes: tuple[Process, ...]
    try_: tuple[str, ...]
    peer_timeout_ns: int = PEER_TIMEOUT_NS
    sim: Trial | None = None
    nemesis: tuple[Fault, ...] = ()
    text: str = ""
    metrics: int | None = None
    """The port of this computer at which its counters are served. It is said when it is launched, not in the file."""

    def recorded(self, record: Record) -> Topology:
        """The same with all its nodes recorded in that way."""
        nodes = {name: msgspec.structs.replace(node, record=record) for name, node in self.nodes.items()}
        processes = tuple(
            msgspec.structs.replace(
                process,
                instances=tuple(msgspec.structs.replace(each, record=record) for each in process.instances),
            )
            for process in self.processes
        )
        return msgspec.structs.replace(self, nodes=nodes, processes=processes)
