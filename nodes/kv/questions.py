"""What can be asked of the store, and the conditions of transactions: everything here looks, and changes nothing."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from zactor.errors import Refused

from . import operations as op
from .items import Items

_RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}


def size_of(items: Iterable[op.Item | None]) -> int:
    """Bytes of their keys and values."""
    return sum([len(item.key) + len(item.value) for item in items if item is not None])


def page(items: Items, question: op.Range, revision: int) -> op.Page:
    """The first keys of a range."""
    taken: list[op.Item] = []
    size = 0
    limit = question.limit or op.PAGE_KEYS_MAX
    for key in items.keys(question.key, question.end):
        if len(taken) >= limit or size >= op.PAGE_SIZE:
            return op.Page(revision, tuple(taken), more=True)
        item = items.by_key[key]
        if question.keys_only:
            item = op.Item(key, b"", item.created, item.modified, item.version, item.lease)
        taken.append(item)
        size += len(key) + len(item.value)
    return op.Page(revision, tuple(taken))


def oldest(items: Items, question: op.Oldest) -> op.Item | None:
    """The item that was created first."""
    return min(_few(items, question.key, question.end), key=_created, default=None)


def newest(items: Items, question: op.Newest) -> op.Item | None:
    """The item that was created last, before a revision."""
    few = _few(items, question.key, question.end)
    return max((item for item in few if item.created < question.created_below), key=_created, default=None)


def _few(items: Items, key: bytes, end: bytes | None) -> list[op.Item]:
    """Raises `TooMuch`."""
    found = [items.by_key[key] for key in islice(items.keys(key, end), op.SCAN_KEYS_MAX + 1)]
    if len(found) > op.SCAN_KEYS_MAX:
        raise op.TooMuch(f"the range has more than {op.SCAN_KEYS_MAX} keys; ask for a smaller one")
    return found


def _created(item: op.Item) -> int:
    # Of several that one transaction created, the first by key: `min` and `max` take the first that they see.
    return item.created


def holds(condition: op.Condition, item: op.Item | None) -> bool:
    """Whether it is so of an item, or of a key that is not there."""
    if condition.target == "value" and item is None:
        return condition.relation == "!="
    found = getattr(item, condition.target) if item is not None else 0
    return _RELATIONS[condition.relation](found, condition.expected)


def check(transaction: op.Transaction) -> None:
    """Raises `Conflicting` when one outcome of it changes a key twice, and `Refused` for a senseless condition."""
    for condition in transaction.conditions:
        if isinstance(condition.expected, bytes) is not (condition.target == "value"):
            raise Refused(f"a condition compares a {condition.target} with a {type(condition.expected).__name__}")
    for steps in (transaction.success, transaction.failure):
        puts: dict[bytes, None] = {}
        for step in steps:
            if isinstance(step, op.Put):
                if step.key in puts:
                    raise op.Conflicting(f"the transaction puts {step.key!r} twice")
                puts[step.key] = None
        for step in steps:
            if isinstance(step, op.Delete):
                key = next((key for key in puts if is_in(key, step.key, step.end)), None)
                if key is not None:
                    raise op.Conflicting(f"the transaction puts and deletes {key!r}")


def is_in(key: bytes, first: bytes, end: bytes | None) -> bool:
    """Whether a key is in a range."""
    if end is None:
        return key == first
    return first <= key and (not end or key < end)
