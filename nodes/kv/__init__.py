"""A key-value store: bytes to bytes, with revisions, leases and watches. Begin with `operations` and `store`."""

from __future__ import annotations

from zactor.actor import Actor

from .fenced import Fenced
from .workload import KvWorkload

KINDS: dict[str, type[Actor]] = {"kv.fenced": Fenced, "kv.workload": KvWorkload}
MACHINES = {"kv.store": "nodes.kv.store:Store"}
COMMANDS = {"kv": "nodes.kv.cli:app"}
MODELS = {"kv.items": "nodes.kv.models:Items"}
JUDGES = {
    "kv.session": "nodes.kv.judges:judge_session",
    "kv.bounded": "nodes.kv.judges:judge_bounded",
    "kv.eventual": "nodes.kv.judges:judge_eventual",
    "kv.watches": "nodes.kv.judges:judge_watches",
    "kv.locks": "nodes.kv.judges:judge_locks",
    "kv.once": "nodes.kv.judges:judge_once",
    "kv.leases": "nodes.kv.leasejudge:judge_leases",
}
INVARIANTS = {"kv.leases_end": "nodes.kv.invariants:leases_end"}
