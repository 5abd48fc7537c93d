"""Raft: a log that a majority of peers agrees on, and any state machine on it. Begin with `core` and Figure 2."""

from __future__ import annotations

from zactor.actor import Actor

from .actor import Peer

KINDS: dict[str, type[Actor]] = {"raft.peer": Peer}
COMMANDS = {"raft": "nodes.raft.cli:app"}
