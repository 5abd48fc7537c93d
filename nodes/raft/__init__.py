"""Raft: a log that a majority of peers agrees on, and any state machine on it. Begin with `core` and Figure 2."""

from __future__ import annotations

from zactor.actor import Actor

from .actor import Peer
from .workload import Restless

KINDS: dict[str, type[Actor]] = {"raft.peer": Peer, "raft.restless": Restless}
INVARIANTS = {
    "raft.is_safe": "nodes.raft.invariants:IsSafe",
    "raft.agree": "nodes.raft.invariants:agree",
}
COMMANDS = {"raft": "nodes.raft.cli:app"}
