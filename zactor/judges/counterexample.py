"""From a history that cannot be ordered to the few operations that show it.

There is an operation behind which no order led. Of that one everything is demanded, of all others nothing: they
may happen at any time or never, with any answer. As long as there is an order, more is demanded: of the operations
that it made use of, or else of those answered just before. What then has no order is made smaller by leaving out what
is not needed (Zeller and Hildebrandt 2002). So the evidence stands on its own, whatever the other operations did; a
history from which they were simply removed would not: without its write, every read looks wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from zactor.judges.history import Operation
from zactor.judges.search import NEVER

T = TypeVar("T")

Try = Callable[[Collection[int]], list[int] | None]
"""Looks for an order when everything is demanded of those with these ids and nothing of the others.

Returns the ids in the order found, an empty list when it gave up, and None when there is certainly no order.
"""


def smallest(operations: Sequence[Operation], last: int, attempt: Try) -> tuple[Operation, ...]:
    """The operations that are needed to show that there is no order; more than that when it is hard to know.

    `last` is the id of the operation behind which no order leads.
    """
    kept = _enough(_nearest(operations, last), attempt)
    needed = set(reduced(kept, lambda some: attempt(some) is None))
    return tuple(operation for operation in operations if operation.id in needed)


def reduced(kept: list[T], shows_it: Callable[[list[T]], bool]) -> list[T]:
    """A part that still shows it, of which nothing can be left out. What `kept` shows, more would show, too."""
    size = len(kept)
    while size > 1:
        size = (size + 1) // 2
        kept = _without_chunks(kept, size, shows_it)
    return kept


def _nearest(operations: Sequence[Operation], last: int) -> list[int]:
    """The ids, beginning with the last; then those answered before it began, the latest first; then the others."""
    began = next(operation.invoked for operation in operations if operation.id == last)
    answered = {operation.id: operation.completed or NEVER for operation in operations}
    answered[last] = began
    return sorted(answered, key=lambda each: (answered[each] > began, abs(answered[each] - began)))


def _enough(nearest: Sequence[int], attempt: Try) -> list[int]:
    """Operations that have no order."""
    waiting = dict.fromkeys(nearest)
    kept: list[int] = []
    count = 1
    order: list[int] | None = []
    while order is not None and waiting:
        used = [operation for operation in order if operation in waiting]
        if not used:
            used = list(waiting)[:count]
            count *= 2
        for operation in used:
            del waiting[operation]
        kept += used
        order = attempt(kept)
    return kept


def _without_chunks(kept: list[T], size: int, shows_it: Callable[[list[T]], bool]) -> list[T]:
    """Leave out chunks of that size as long as one can be left out."""
    index = 0
    while index < len(kept):
        fewer = kept[:index] + kept[index + size :]
        if shows_it(fewer):
            # What was needed before may not be any more.
            kept, index = fewer, 0 if size == 1 else index
        else:
            index += size
    return kept
