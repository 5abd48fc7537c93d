"""Histories made up by a stream of random numbers: of a system that keeps its promises, and with one edit."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from zactor.judges.history import History, Operation

TICK_NS = 1_000_000


class Service(NamedTuple):
    """A system of its own, written apart from the models: what clients ask of it, and what it does."""

    ask: Callable[[random.Random, int], tuple[Any, ...]]
    apply: Callable[[Any, tuple[Any, ...]], tuple[Any, Any]]
    initial: Any


def simulate(
    rng: random.Random, service: Service, *, clients: int, count: int, keys: Sequence[str] = ("x",), lost: float = 0.1
) -> list[Operation]:
    """What clients of a linearizable system record: each operation takes effect at once, between call and answer.

    Of those whose answers are lost some take effect later, and some never. A client whose answer was lost goes on.
    """
    ticks = itertools.count()
    history = History(lambda: next(ticks) * TICK_NS)
    states = dict.fromkeys(keys, service.initial)
    under_way: dict[int, tuple[int, str, tuple[Any, ...]]] = {}
    done: dict[int, Any] = {}
    lingering: list[tuple[str, tuple[Any, ...]]] = []
    made = 0
    while made < count or under_way:
        if lingering and rng.random() < 0.1:
            key, words = lingering.pop(rng.randrange(len(lingering)))
            states[key], _ = service.apply(states[key], words)
        client = rng.randrange(clients) if made < count else rng.choice(sorted(under_way))
        if client not in under_way:
            key, words = rng.choice(list(keys)), service.ask(rng, made)
            under_way[client] = (history.invoke(f"c{client}", *words, key=key), key, words)
            made += 1
            continue
        operation, key, words = under_way[client]
        if operation in done:
            history.complete(operation, done[operation])
            del under_way[client]
        elif rng.random() < lost:
            lingering.append((key, words))
            if rng.random() < 0.5:
                history.unknown(operation)
            del under_way[client]
        else:
            states[key], done[operation] = service.apply(states[key], words)
    return history.operations()


def edited(rng: random.Random, operations: Sequence[Operation]) -> list[Operation]:
    """The history with one edit: an answer that fits elsewhere, or one operation at another time."""
    changed = list(operations)
    answered = [index for index, operation in enumerate(operations) if operation.completed is not None]
    index = rng.choice(answered)
    if rng.random() < 0.8:
        index = rng.choice([each for each in answered if _shows_something(operations[each])] or answered)
        results = {operations[each].call.result for each in answered}
        others = sorted(results - {operations[index].call.result}, key=repr)
        call = msgspec.structs.replace(operations[index].call, result=rng.choice(others or [None]))
        changed[index] = msgspec.structs.replace(operations[index], call=call)
        return changed
    # Earlier or later as a whole. Places in the order of events stay different from each other.
    other = operations[rng.choice(answered)]
    by = other.invoked - operations[index].invoked
    events = sorted(_events(operations), key=lambda event: event[0] + (by + 0.5 if event[1] == index else 0))
    return _renumbered(changed, events)


def _shows_something(operation: Operation) -> bool:
    return operation.call.result is not None or operation.call.function in ("read", "get", "dequeue")


def _events(operations: Sequence[Operation]) -> list[tuple[int, int, bool]]:
    begins = [(operation.invoked, index, True) for index, operation in enumerate(operations)]
    ends = [(each.completed, index, False) for index, each in enumerate(operations) if each.completed is not None]
    return [*begins, *ends]


def _renumbered(operations: list[Operation], events: Sequence[tuple[int, int, bool]]) -> list[Operation]:
    for place, (_, index, begins) in enumerate(events):
        if begins:
            changes = {"invoked": place, "invoked_ns": place * TICK_NS}
        else:
            changes = {"completed": place, "ended_ns": place * TICK_NS}
        operations[index] = msgspec.structs.replace(operations[index], **changes)
    return sorted(operations, key=lambda operation: operation.invoked)


def width(operations: Sequence[Operation]) -> int:
    """The most operations that were under way at one time; those without an answer are, from their invocation on."""
    events = sorted((place, 1 if begins else -1) for place, _, begins in _events(operations))
    return max(itertools.accumulate(change for _, change in events))


def _apply_register(state: Any, words: tuple[Any, ...]) -> tuple[Any, Any]:
    return (state, state) if words[0] == "read" else (words[1], None)


def _apply_cas(state: Any, words: tuple[Any, ...]) -> tuple[Any, Any]:
    if words[0] != "cas":
        return _apply_register(state, words)
    return (words[2], True) if state == words[1] else (state, False)


def _apply_kv(state: Any, words: tuple[Any, ...]) -> tuple[Any, Any]:
    if words[0] == "get":
        return state, state
    return {"put": words[-1], "append": (state or "") + words[-1], "delete": None}[words[0]], None


def _apply_counter(state: Any, words: tuple[Any, ...]) -> tuple[Any, Any]:
    return (state, state) if words[0] == "read" else (state + words[1], state + words[1] if words[1] % 2 else None)


def _apply_lock(state: Any, words: tuple[Any, ...]) -> tuple[Any, Any]:
    if words[0] == "acquire":
        return (words[1], True) if state is None else (state, False)
    return (None, True) if state == words[1] else (state, False)


def _apply_queue(state: Any, words: tuple[Any, ...]) -> tuple[Any, Any]:
    if words[0] == "enqueue":
        return (*state, words[1]), None
    return (state[1:], state[0]) if state else (state, None)


def _apply_names(state: Any, words: tuple[Any, ...]) -> tuple[Any, Any]:
    function, name, *rest = (*words, "")
    there = dict(state)
    match function:
        case "list":
            return state, state
        case "get":
            return state, there.get(name)
        case "put":
            there[name], answer = rest[0], None
        case "create":
            answer = name not in there
            there.setdefault(name, rest[0])
        case "delete":
            answer = there.pop(name, None) is not None
        case _:
            answer = name in there
            if answer:
                there[rest[0]] = there.pop(name)
    return tuple((each, there[each]) for each in "abc" if each in there), answer


def ask_register(rng: random.Random, number: int) -> tuple[Any, ...]:
    """Half reads, half writes of a new value each."""
    return ("read",) if rng.random() < 0.5 else ("write", number)


def _ask_cas(rng: random.Random, _number: int) -> tuple[Any, ...]:
    value = rng.randrange(3)
    return rng.choice([("read",), ("read",), ("write", value), ("cas", rng.randrange(3), value)])


def _ask_kv(rng: random.Random, number: int) -> tuple[Any, ...]:
    letter = chr(ord("a") + number % 26)
    return rng.choice([*[("get",)] * 5, ("put", letter), ("append", letter), ("append", letter), ("delete",)])


def _ask_counter(rng: random.Random, _number: int) -> tuple[Any, ...]:
    return rng.choice([("read",), ("read",), ("add", 1), ("add", 2)])


def _ask_lock(rng: random.Random, _number: int) -> tuple[Any, ...]:
    return rng.choice(["acquire", "release"]), rng.choice(["a", "b"])


def _ask_queue(rng: random.Random, number: int) -> tuple[Any, ...]:
    return rng.choice([("enqueue", number), ("dequeue",)])


def ask_names(rng: random.Random, number: int) -> tuple[Any, ...]:
    """Half reads; renames between two names, in both directions."""
    name, other = rng.choice([("a", "b"), ("b", "a")])
    writes = [*[("put", name, number)] * 3, ("create", name, number), ("delete", name), ("rename", name, other)]
    return rng.choice([*[("get", name)] * 4, ("list",), ("list",), *writes])


def _ask_names_alike(rng: random.Random, _number: int) -> tuple[Any, ...]:
    return ask_names(rng, rng.randrange(2))


def _ask_kv_alike(rng: random.Random, _number: int) -> tuple[Any, ...]:
    piece = rng.choice(["a", "b", "ab", ""])
    return rng.choice([*[("get",)] * 5, ("put", piece), ("append", piece), ("append", piece), ("delete",)])


def _ask_queue_alike(rng: random.Random, _number: int) -> tuple[Any, ...]:
    return rng.choice([("enqueue", rng.randrange(3)), ("dequeue",)])


SERVICES = {
    "register": Service(ask_register, _apply_register, None),
    "cas": Service(_ask_cas, _apply_cas, None),
    "kv": Service(_ask_kv, _apply_kv, None),
    "counter": Service(_ask_counter, _apply_counter, 0),
    "lock": Service(_ask_lock, _apply_lock, None),
    "queue": Service(_ask_queue, _apply_queue, ()),
    "names": Service(ask_names, _apply_names, ()),
}
"""One for each model, by its name."""

ALIKE = {
    "kv": Service(_ask_kv_alike, _apply_kv, None),
    "queue": Service(_ask_queue_alike, _apply_queue, ()),
    "names": Service(_ask_names_alike, _apply_names, ()),
}
"""The same where many calls write the same, and values can be put together in several ways."""
