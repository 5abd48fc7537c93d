"""What a key-value store would do if it did one operation after the other: what linearizable histories of it must fit.

A `key` of the history is a group of keys that change together; its names are the first arguments. An answer begins
with the revision of the state that it comes from, and revisions are the order of the log: so an order of the operations
is one only if they grow along it. That is more than linearizability asks for, and makes the search short.

| function | arguments | answer |
| --- | --- | --- |
| `get` | name | revision, value or None, revision of its last change |
| `list` | | revision, ((name, value), ...) sorted |
| `put` | name, value | revision |
| `delete` | name | revision, how many |
| `cas` | name, expected, value | revision, whether it was done |
| `txn` | ((name, expected), ...), ((name, value or None), ...) | revision, whether all was as expected, and done |
| `guard` | token, value | whether the resource took it, which has a higher token if not |

What else clients write down (reads of weaker levels, watches, locks, counters, leases) is for `judges`, and always fits
here.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from zactor.judges.history import Call

WEAK = ("get_bounded", "get_session", "get_eventual")
"""Reads that may show an older state. `get_bounded` has the bound in milliseconds as its second argument."""

LEASES = ("grant", "attach", "keep", "look", "revoke")
"""A lease with a ttl in milliseconds: revision, lease. What else is done with it, which is the argument: revision, and
whether it was there; by `look`, its key. A lease that was not there says no revision but 0."""

LOCKS = ("acquire", "release")
"""With a lease of a ttl in milliseconds: token, milliseconds for which the lock is surely held. And that token."""

ELSEWHERE = frozenset({*WEAK, *LEASES, *LOCKS, "watch", "count"})
"""What is judged by `judges` alone."""


class State(NamedTuple):
    """Of a group: the highest revision that an answered change had, and its names with their values."""

    revision: int = 0
    items: tuple[tuple[str, Any], ...] = ()


class Items:
    """Groups of keys, and resources that locks protect."""

    reads = frozenset({"get", "list"}) | ELSEWHERE
    writes = frozenset({"put", "delete", "cas", "txn", "guard"})
    initial = State()

    def partition(self, call: Call) -> Hashable:
        """A group, or a resource; all that is judged elsewhere is on its own."""
        return "elsewhere" if call.function in ELSEWHERE else call.key

    def step(self, state: State, call: Call) -> tuple[bool, State]:
        if call.function in ELSEWHERE:
            return True, state
        if call.function == "guard":
            return _guard(state, call)
        names = dict(state.items)
        if call.function in ("get", "list"):
            seen = state.items if call.function == "list" else names.get(call.arguments[0])
            return call.result[1] == seen and call.result[0] >= state.revision, state
        answer, changes = _change(names, call)
        revision = call.result[0] if call.known else state.revision
        if call.known and (call.result[1:] != answer or revision < state.revision + bool(changes)):
            return False, state
        for name, value in changes:
            names[name] = value
            if value is None:
                del names[name]
        return True, State(revision, tuple(sorted(names.items()))) if changes else state


def _guard(state: State, call: Call) -> tuple[bool, State]:
    """The revision of a resource is the highest token that it took."""
    token = call.arguments[0]
    takes = token >= state.revision
    return call.answered(takes), State(token) if takes else state


def _change(names: dict[str, Any], call: Call) -> tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]:
    """The answer behind the revision, and the names that get another value, or None."""
    match call.function:
        case "put":
            return (), ((call.arguments[0], call.arguments[1]),)
        case "delete":
            name = call.arguments[0]
            return (int(name in names),), ((name, None),) if name in names else ()
        case "cas":
            name, expected, value = call.arguments
            done = names.get(name) == expected
            return (done,), ((name, value),) if done else ()
    conditions, puts = call.arguments
    done = all(names.get(name) == expected for name, expected in conditions)
    return (done,), tuple((name, value) for name, value in puts if value is not None or name in names) if done else ()
