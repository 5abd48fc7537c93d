"""Whether replicas end alike: when writing has stopped, all who look see the same (Terry et al. 1995, Bayou).

The last read of each client on each key counts, if it was asked for after every write to that key had ended; all of
them must have the same answer. Whoever ran the system decides how long it may take: it is quiet and healed before the
last reads are made. A replica takes part as a client of its own, with `read`, `get` or `digest` as its last look.
"""

from __future__ import annotations

from collections.abc import Sequence

from zactor.judges.history import Operation
from zactor.judges.verdict import Verdict

LOOKS = frozenset({"read", "get", "digest"})
"""The functions that only look; all others are taken for writes."""


def judge_convergence(operations: Sequence[Operation]) -> Verdict:
    """Compare the last looks. `unknown` when nobody looked twice at anything."""
    last_looks = _last_looks(operations)
    for key, looks in last_looks.items():
        for look in looks[1:]:
            if look.call.result != looks[0].call.result:
                because = f"key {key!r}: the last looks differ, after all writes had ended"
                return Verdict("violation", because, (looks[0], look))
    compared = sum(len(looks) > 1 for looks in last_looks.values())
    if not compared:
        because = "nothing to compare: let two clients or more read every key when all writes have ended"
        return Verdict("unknown", because)
    return Verdict("ok", f"{compared} of {len(last_looks)} keys were looked at by several in the end, and are the same")


def _last_looks(operations: Sequence[Operation]) -> dict[str, list[Operation]]:
    """By key, the last look of each client that was asked for after the last write."""
    quiet_ns: dict[str, int] = {}
    for operation in operations:
        if operation.call.function not in LOOKS and operation.outcome != "failed":
            ended_ns = operation.invoked_ns if operation.ended_ns is None else operation.ended_ns
            quiet_ns[operation.call.key] = max(quiet_ns.get(operation.call.key, 0), ended_ns)
    found: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        key = operation.call.key
        looked = operation.call.function in LOOKS and operation.completed is not None
        if looked and operation.invoked_ns >= quiet_ns.get(key, 0):
            found.setdefault(key, {})[operation.client] = operation
    return {key: list(looks.values()) for key, looks in found.items()}
