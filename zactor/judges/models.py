"""What a system would do if it did one operation after the other: the specifications that histories are judged by.

A model is a value without state of its own. `step` takes a state and a call and says whether the call can have
been answered as it was, and the state after it. States are immutable and hashable: the search comes back to them,
and remembers where it has been. A plugin brings its own (`MODELS` in its package, entry points, `./file.py:Model`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, runtime_checkable

from zactor.judges.history import Call
from zactor.judges.search import NEVER, NOTHING_SHOWN, Item, Shown
from zactor.judges.shown import shown_of_appends, shown_of_names, shown_of_queue, shown_of_writes


class Model(Protocol):
    """A sequential specification.

    `reads` are the functions that never change a state, `writes` all others that the model knows. `initial` is the
    state before the first operation. Operations of different `partition` share no state, so that they can be
    judged apart.
    """

    reads: frozenset[str]
    writes: frozenset[str]
    initial: Any

    def step(self, state: Any, call: Call) -> tuple[bool, Any]:
        """Whether the call can be answered so in this state, and the state after it.

        A call whose answer is unknown fits every state (`call.answered` is always True); what it would have
        done there is the next state.
        """
        ...

    def partition(self, call: Call) -> Hashable:
        """What the call touches, mostly its key."""
        ...


@runtime_checkable
class Overwriting(Protocol):
    """A model may know more: then longer histories of more clients can be judged."""

    def states(self, call: Call) -> tuple[Any, ...] | None:
        """Of a call that reads, the one state in which it can be answered so; of another, where it can lead to.

        That is, all states in which it can end when it changes anything; None when they depend on the state before.
        """
        ...


@runtime_checkable
class Showing(Protocol):
    """A model may know what the answers of a whole history show of single calls; see `zactor.judges.shown`."""

    def shown(self, items: Sequence[Item], ordered: bool) -> Shown:
        """What is certain of calls. `ordered`: what ends before another starts is done before it."""
        ...


def _optional(items: Sequence[Item]) -> list[int]:
    return [item.id for item in items if item.end == NEVER]


class Keyed:
    """What models of independent keys have in common."""

    def partition(self, call: Call) -> Hashable:
        """Each key is on its own."""
        return call.key


class Register(Keyed):
    """One value a key: `write value`, `read`. Nothing was written: None. Herlihy and Wing 1990, section 2."""

    reads = frozenset({"read"})
    writes = frozenset({"write"})
    initial: Any = None

    def step(self, state: Any, call: Call) -> tuple[bool, Any]:
        if call.function == "read":
            return call.answered(state), state
        return True, call.arguments[0]

    def states(self, call: Call) -> tuple[Any, ...] | None:
        return (call.result if call.function == "read" else call.arguments[-1],)

    def shown(self, items: Sequence[Item], ordered: bool) -> Shown:  # noqa: ARG002 - in any order
        writes = {item.id: item.call.arguments[0] for item in items if item.call.function == "write"}
        values = [item.call.result for item in items if item.call.function == "read"]
        return shown_of_writes(writes, values, _optional(items))


class CompareAndSet(Register):
    """A register with `cas expected value`, which answers whether it was as expected, and was set."""

    writes = frozenset({"write", "cas"})

    def step(self, state: Any, call: Call) -> tuple[bool, Any]:
        if call.function != "cas":
            return super().step(state, call)
        expected, value = call.arguments
        return call.answered(state == expected), value if state == expected else state

    def shown(self, items: Sequence[Item], ordered: bool) -> Shown:  # noqa: ARG002
        return NOTHING_SHOWN  # a value that nobody read may be why another was not as expected


class KeyValue(Keyed):
    """`get`, `put value`, `delete` and `append value`, which adds to text, or to a list; a missing key is None."""

    reads = frozenset({"get"})
    writes = frozenset({"put", "append", "delete"})
    initial: Any = None

    def step(self, state: Any, call: Call) -> tuple[bool, Any]:
        match call.function:
            case "get":
                return call.answered(state), state
            case "put":
                return True, call.arguments[0]
            case "append":
                return True, call.arguments[0] if state is None else state + call.arguments[0]
        return True, None

    def states(self, call: Call) -> tuple[Any, ...] | None:
        match call.function:
            case "get":
                return (call.result,)
            case "put":
                return (call.arguments[0],)
            case "delete":
                return (None,)
        return None

    def shown(self, items: Sequence[Item], ordered: bool) -> Shown:  # noqa: ARG002 - in any order
        calls = [(item.id, item.call) for item in items]
        appends = {number: call.arguments[0] for number, call in calls if call.function == "append"}
        puts = {number: call.arguments[0] for number, call in calls if call.function == "put"}
        values = [call.result for _, call in calls if call.function == "get" and call.known]
        return shown_of_appends(appends, puts, values, _optional(items))


class Counter(Keyed):
    """`add amount`, answered by nothing or by the sum after it, and `read`. Starts at 0."""

    reads = frozenset({"read"})
    writes = frozenset({"add"})
    initial: Any = 0

    def step(self, state: Any, call: Call) -> tuple[bool, Any]:
        if call.function == "read":
            return call.answered(state), state
        after = state + call.arguments[0]
        return call.result is None or call.answered(after), after


class Lock(Keyed):
    """A mutex with an owner: `acquire owner`, `release owner`.

    Both answer whether they succeeded; None counts as yes. A lock that is held cannot be acquired, not even by its
    owner, and only its owner can release it.
    """

    reads: frozenset[str] = frozenset()
    writes = frozenset({"acquire", "release"})
    initial: Any = None

    def step(self, state: Any, call: Call) -> tuple[bool, Any]:
        owner = call.arguments[0]
        before, after = (None, owner) if call.function == "acquire" else (owner, None)
        succeeds = state == before
        return call.answered(succeeds) or (succeeds and call.result is None), after if succeeds else state


class Queue(Keyed):
    """First in, first out: `enqueue value`, `dequeue`, which answers None when the queue is empty."""

    reads: frozenset[str] = frozenset()
    writes = frozenset({"enqueue", "dequeue"})
    initial: Any = ()

    def step(self, state: Any, call: Call) -> tuple[bool, Any]:
        if call.function == "enqueue":
            return True, (*state, call.arguments[0])
        if not state:
            return call.answered(None), state
        return call.answered(state[0]), state[1:]

    def shown(self, items: Sequence[Item], ordered: bool) -> Shown:
        return shown_of_queue(items, ordered)


class Names(Keyed):
    """Names that values have, as in a folder: `get name`, `list`, `put name value`, `create name value`, `delete name`,
    `rename name to`.

    A missing name is None; a listing is (name, value) pairs, sorted. What needs a name that is there (`delete`,
    `rename`) or one that is not (`create`) answers whether it was so, and else changes nothing. A put and a rename
    replace what was there. A key is a folder: its names share a state, since a rename changes two of them at once.
    """

    reads = frozenset({"get", "list"})
    writes = frozenset({"put", "create", "delete", "rename"})
    initial: Any = ()

    def step(self, state: Any, call: Call) -> tuple[bool, Any]:
        if call.function == "list":
            return call.answered(state), state
        name = call.arguments[0]
        names = dict(state)
        match call.function:
            case "get":
                return call.answered(names.get(name)), state
            case "put":
                return True, _listed(names | {name: call.arguments[1]})
            case "create":
                is_new = name not in names
                return call.answered(is_new), _listed(names | {name: call.arguments[1]}) if is_new else state
        if name not in names:
            return call.answered(False), state
        value = names.pop(name)
        return call.answered(True), _listed(names if call.function == "delete" else names | {call.arguments[1]: value})

    def shown(self, items: Sequence[Item], ordered: bool) -> Shown:  # noqa: ARG002 - in any order
        return shown_of_names(items)


def _listed(names: dict[Any, Any]) -> tuple[tuple[Any, Any], ...]:
    return tuple(sorted(names.items()))


BUILT_IN: dict[str, Model] = {
    "register": Register(),
    "cas": CompareAndSet(),
    "kv": KeyValue(),
    "counter": Counter(),
    "lock": Lock(),
    "queue": Queue(),
    "names": Names(),
}
"""The models that come with zactor, by the names that a history or a command gives."""
