"""What the answers of a whole history show of single calls: guards, by which a search leaves out what cannot be right.

A search learns from an answer when it comes to it, and has then to take back all that it did wrongly before. But where
every value is written once, an answer says of an earlier call in which state, or after which others, it was done. A
guard demands no more than what holds in every order that explains the answers, so it never hides one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any

from zactor.judges.search import NEVER, Guard, Item


# --- a value that grows
def guards_of_appends(appends: Mapping[int, Any], wholes: Iterable[Any], shown: Iterable[Any]) -> dict[int, Guard]:
    """Guards of calls (by id) that append their argument to a text or a sequence.

    `wholes` are the values that others put in its place, `shown` those that were read. Where a shown value can be put
    together in one way only, each piece of it was appended to what stands before it.
    """
    wholes = Counter(wholes)
    times = Counter(appends.values())
    ids = {piece: number for number, piece in appends.items() if times[piece] == 1}
    guards: dict[int, Guard] = {}
    for value in set(shown):
        if isinstance(value, str | tuple):
            for place in _places(value, wholes, times):
                piece = value[place[0] : place[1]]
                if piece in ids:
                    guards[ids[piece]] = partial(_is, value[: place[0]] or None)
    return guards


def _is(wanted: Any, state: Any, _done: AbstractSet[int]) -> bool:
    return bool(state == wanted)


def _places(value: Any, wholes: Mapping[Any, int], times: Mapping[Any, int]) -> list[tuple[int, int]]:
    """Where the pieces of a value begin and end, if there is one way to put it together; else nothing."""
    nothing = value[:0]
    lengths = {len(piece) for piece in times if piece.__class__ is value.__class__ and piece}
    ways = [1 + wholes.get(nothing, 0) + times.get(nothing, 0)]
    begins = [-1]
    for end in range(1, len(value) + 1):
        ways.append(wholes.get(value[:end], 0))
        begins.append(-1)
        for begin in (end - length for length in lengths if length <= end):
            found = ways[begin] * times.get(value[begin:end], 0)
            if found:
                ways[end] += found
                begins[end] = begin
    places: list[tuple[int, int]] = []
    end = len(value) if ways[-1] == 1 else 0
    while end > 0 and begins[end] >= 0:
        places.append((begins[end], end))
        end = begins[end]
    return places


# --- first in, first out
def guards_of_queue(items: Sequence[Item], ordered: bool) -> dict[int, Guard]:
    """Guards of `enqueue value` and `dequeue`, where no value was enqueued twice.

    What was certainly dequeued before another was enqueued before it (Gibbons and Korach 1997, section 4); and a
    dequeue whose answer is not known took nothing that others are known to have taken.
    """
    enqueues = [item for item in items if item.call.function == "enqueue"]
    taken = {item.call.result: item for item in items if item.call.function == "dequeue" and item.call.known}
    taken.pop(None, None)
    unsure = [item for item in items if item.call.function == "dequeue" and not item.call.known]
    if len({item.call.arguments for item in enqueues}) < len(enqueues):
        return {}
    guards: dict[int, Guard] = {item.id: partial(_head_is_free, frozenset(taken)) for item in unsure}
    if not ordered:
        return guards
    ids = {item.call.arguments[0]: item.id for item in enqueues}
    ends = sorted((item.end, item.start, ids[value]) for value, item in taken.items() if value in ids)
    for enqueue in enqueues:
        taker = taken.get(enqueue.call.arguments[0])
        if taker is None and unsure:
            continue  # one of those may have taken it
        before = [each for each in ends if each[0] < (NEVER if taker is None else taker.start)]
        latest = max((start for _, start, _ in before), default=-1)
        # The others were dequeued before these were, so they are before these.
        guards[enqueue.id] = partial(_all_done, frozenset(number for end, _, number in before if end > latest))
    return guards


def _head_is_free(taken: AbstractSet[Any], state: Any, _done: AbstractSet[int]) -> bool:
    return not state or state[0] not in taken


def _all_done(wanted: AbstractSet[int], _state: Any, done: AbstractSet[int]) -> bool:
    return wanted <= done
