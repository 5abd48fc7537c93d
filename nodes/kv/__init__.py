"""A key-value store: bytes to bytes, with revisions, leases and watches. Begin with `operations` and `store`."""

from __future__ import annotations

MACHINES = {"kv.store": "nodes.kv.store:Store"}
COMMANDS = {"kv": "nodes.kv.cli:app"}
