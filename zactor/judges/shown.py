"""What the answers of a whole history show of single calls: a search need not look where it cannot be.

A search learns from an answer when it comes to it, and has then to take back all that it did wrongly before. But where
every value is written once, an answer says of an earlier call in which state, or after which others, it was done.
Nothing is demanded but what holds in every order that explains the answers, so it never hides one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any

from msgspec import structs

from zactor.judges.history import Call
from zactor.judges.search import NEVER, Guard, Item, Shown


# --- a value that is overwritten
def shown_of_writes(writes: Mapping[int, Any], values: Iterable[Any], optional: Collection[int]) -> Shown:
    """What is shown of calls (by id) that write their argument: those of a value that nobody read may be absent."""
    seen = set(values)
    return Shown(absent={number for number in optional if number in writes and writes[number] not in seen})


# --- a value that grows
def shown_of_appends(
    appends: Mapping[int, Any], puts: Mapping[int, Any], values: Iterable[Any], optional: Collection[int]
) -> Shown:
    """What is shown of calls (by id) that append their argument to a text or a sequence, and of those that replace it.

    `values` are what was read. Where one can be put together in one way only, each piece of it was appended to what
    stands before it. What is in no value, nobody saw; if it is `optional`, too, it is as if it had never been.
    """
    wholes, pieces = set(puts.values()), Counter(appends.values())
    ids = {piece: number for number, piece in appends.items() if pieces[piece] == 1}
    needs: dict[int, Any] = {}
    makes: dict[int, tuple[Any, ...]] = dict.fromkeys(appends, ())
    for value in dict.fromkeys(values):
        places = [] if value is None else _places(value, wholes, pieces)
        if places is None or any(value[begin:end] not in ids for begin, end in places):
            return Shown(needs=needs)
        for begin, end in places:
            number = ids[value[begin:end]]
            needs[number] = value[:begin] or None
            makes[number] = (value[:end],)
    seen = {*values, *needs.values()}
    unseen = {number for number, value in puts.items() if value not in seen} | {
        each for each in makes if not makes[each]
    }
    return Shown(absent=unseen & set(optional), needs=needs, makes=makes)


def _places(value: Any, wholes: Collection[Any], pieces: Collection[Any]) -> list[tuple[int, int]] | None:
    """Where the pieces of a value begin and end, if there is one way to put it together; else None."""
    if not isinstance(value, str | tuple):
        return None if pieces else []
    nothing = value[:0]
    lengths = {len(piece) for piece in pieces if piece.__class__ is value.__class__ and piece}
    ways = [1 + (nothing in wholes) + (nothing in pieces)]
    begins = [-1]
    for end in range(1, len(value) + 1):
        ways.append(value[:end] in wholes)
        begins.append(-1)
        for begin in (end - length for length in lengths if length <= end):
            if ways[begin] and value[begin:end] in pieces:
                ways[end] += ways[begin]
                begins[end] = begin
    if ways[-1] != 1:
        return None
    places: list[tuple[int, int]] = []
    end = len(value)
    while end > 0 and begins[end] >= 0:
        places.append((begins[end], end))
        end = begins[end]
    return places


# --- first in, first out
def shown_of_queue(items: Sequence[Item], ordered: bool) -> Shown:
    """What is shown of `enqueue value` and `dequeue`, where no value was enqueued twice.

    A value is taken once, and was there before. What was certainly dequeued before another was enqueued before it
    (Gibbons and Korach 1997, section 4). A dequeue whose answer is not known took nothing that others are known to have
    taken. What nobody took and perhaps never came is left out, with the unknown dequeue that perhaps took it.
    """
    enqueues = [item for item in items if item.call.function == "enqueue"]
    taken, contrary = _taken(items, {item.call.arguments[0] for item in enqueues})
    unsure = [item for item in items if item.call.function == "dequeue" and not item.call.known]
    if len({item.call.arguments for item in enqueues}) < len(enqueues):
        return Shown()
    guards: dict[int, Guard] = {item.id: partial(_head_is_free, frozenset(taken)) for item in unsure}
    ids = {item.call.arguments[0]: item.id for item in enqueues}
    ends = sorted((item.end, item.start, ids[value]) for value, item in taken.items() if value in ids)
    for enqueue in enqueues:
        taker = taken.get(enqueue.call.arguments[0])
        if not ordered or (taker is None and unsure):
            continue  # one of those may have taken it
        before = [each for each in ends if each[0] < (NEVER if taker is None else taker.start)]
        latest = max((start for _, start, _ in before), default=-1)
        # The others were dequeued before these were, so they are before these.
        guards[enqueue.id] = partial(_all_done, frozenset(number for end, _, number in before if end > latest))
    absent = {item.id for item in enqueues if item.end == NEVER and item.call.arguments[0] not in taken}
    return Shown(contrary, absent, guards)


def _taken(items: Sequence[Item], values: Collection[Any]) -> tuple[dict[Any, Item], list[int]]:
    """Who took each value; and who took what others did, too, or what nobody brought."""
    taken: dict[Any, Item] = {}
    contrary: list[int] = []
    for item in items:
        value = item.call.result
        if item.call.function == "dequeue" and item.call.known and value is not None:
            other = taken.setdefault(value, item)
            if not contrary and (other is not item or value not in values):
                contrary = [item.id] if other is item else [item.id, other.id]
    return taken, contrary


def _head_is_free(taken: AbstractSet[Any], state: Any, _done: AbstractSet[int]) -> bool:
    return not state or state[0] not in taken


def _all_done(wanted: AbstractSet[int], _state: Any, done: AbstractSet[int]) -> bool:
    return wanted <= done


# --- values that have names
def shown_of_names(items: Sequence[Item]) -> Shown:
    """What is shown of `put`, `create`, `delete` and `rename`, where no value is written twice.

    A value that is gone never comes back. So nothing takes its name away before all have seen it who did. And of those
    that nobody saw, one is like the other.
    """
    written = Counter(item.call.arguments[1] for item in items if item.call.function in ("put", "create"))
    if any(count > 1 for count in written.values()):
        return Shown()
    readers: dict[Any, set[int]] = {}
    for item in items:
        for value in _values_seen(item):
            readers.setdefault(value, set()).add(item.id)
    writers = (item for item in items if item.call.function not in ("get", "list"))
    guards = {item.id: partial(_takes_nothing_unseen, readers, item.call) for item in writers}
    alike = {
        item.id: structs.replace(item.call, arguments=(item.call.arguments[0], ...))
        for item in items
        if item.call.function in ("put", "create") and item.call.arguments[1] not in readers
    }
    return Shown(guards=guards, alike=alike)


def _values_seen(item: Item) -> Iterable[Any]:
    if item.call.function == "get":
        return (item.call.result,)
    is_listing = item.call.function == "list" and isinstance(item.call.result, tuple)
    return (pair[-1] for pair in item.call.result) if is_listing else ()


def _takes_nothing_unseen(
    readers: Mapping[Any, AbstractSet[int]], call: Call, state: Any, done: AbstractSet[int]
) -> bool:
    names = dict(state)
    match call.function:
        case "create":
            return True
        case "rename":
            name = call.arguments[1] if call.arguments[0] in names else None
        case _:
            name = call.arguments[0]
    return name not in names or readers.get(names[name], set()) <= done
