"""The slow truth: tries every order, with no memory, no parts and no shortcut. Written apart from the judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zactor.judges.history import Call, Operation


def is_ordered(
    operations: Sequence[Operation],
    initial: Any,
    step: Callable[[Any, Call], tuple[bool, Any]],
    comes_before: Callable[[Operation, Operation], bool],
) -> bool:
    """Whether there is an order of all answered operations, and any of the others, that `step` allows."""

    def extend(left: tuple[Operation, ...], states: dict[str, Any]) -> bool:
        if all(operation.completed is None for operation in left):
            return True
        not_done = {operation.id for operation in left}
        for operation in left:
            if before[operation.id] & not_done:
                continue
            key = operation.call.key
            fits, after = step(states.get(key, initial), operation.call)
            if fits and extend(tuple(each for each in left if each is not operation), {**states, key: after}):
                return True
        return False

    happened = tuple(operation for operation in operations if operation.outcome != "failed")
    before = {each.id: {other.id for other in happened if comes_before(other, each)} for each in happened}
    return extend(happened, {})


def in_real_time(first: Operation, second: Operation) -> bool:
    """One was answered before the other was asked."""
    return first.completed is not None and first.completed < second.invoked


def in_program(first: Operation, second: Operation) -> bool:
    """The same, within one client."""
    return first.client == second.client and in_real_time(first, second)


def stale(bound_ns: int) -> Callable[[Operation, Operation], bool]:
    """In real time, but a read counts as asked by so much earlier. Reads are called `read` or `get`."""

    def comes_before(first: Operation, second: Operation) -> bool:
        if second.call.function not in ("read", "get"):
            return in_real_time(first, second)
        return in_real_time(first, second) and (first.ended_ns or 0) < second.invoked_ns - bound_ns

    return comes_before
