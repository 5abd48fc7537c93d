"""Whether operations can be ordered: linearizable, sequentially consistent, or stale by no more than a bound.

*Linearizable* (Herlihy and Wing 1990): there is one order of all operations that the model allows, in which each
takes effect between its invocation and its answer. It holds for a system when it holds for each part of it
(their theorem 1; Horn and Kroening 2015), so each key is searched on its own.

*Sequentially consistent* (Lamport 1979): there is one order that the model allows, in which each client's
operations stand in the order in which it made them. It may hold for every key and not for all together.

*Bounded staleness*: a read may answer what was true up to so long before it was asked; writes are linearizable.
That is linearizability when each read counts as asked by so much earlier (Golab, Li and Shah 2011, Δ-atomicity).

An operation of unknown outcome may take effect at any time after its invocation, or never; one that failed is left
out. The parts take turns under one budget of steps: a hard part does not hide that another has no order.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import Any

import msgspec

from zactor.errors import UserError
from zactor.judges.counterexample import GaveUp, smallest
from zactor.judges.history import Call, Operation
from zactor.judges.models import Model, Overwriting, Showing
from zactor.judges.search import NEVER, NOTHING_SHOWN, Item, Search, Shown, blame, chains, take_turns
from zactor.judges.verdict import Verdict

STEPS_MAX = 1_000_000
STEPS_EACH = 100
"""Calls that are looked at for one history, unless said otherwise: some seconds, or so many for each operation if that
is more."""

ALL = "all parts together"


Moment = tuple[int, int, int]
"""Nanoseconds, the place in the order of events, and the operation."""


class Criterion(msgspec.Struct, frozen=True):
    """What an order must keep: real time or only that of each client; and by how much reads may be late."""

    name: str
    real_time: bool = True
    stale_ns: int = 0


LINEARIZABLE = Criterion("linearizable")
SEQUENTIAL = Criterion("sequentially consistent", real_time=False)


def judge_order(
    operations: Sequence[Operation], model: Model, criterion: Criterion, steps_max: int | None = None
) -> Verdict:
    """Look for the orders that the criterion demands.

    Raises `UserError` when the model does not know an operation, or raises.
    """
    for operation in operations:
        if operation.call.function not in model.reads | model.writes:
            known = ", ".join(sorted(model.reads | model.writes))
            found = f"operation {operation.id} is '{operation.call}'"
            raise UserError(f"{type(model).__name__} knows {known}; {found}: is this the model of that history?")
    steps_max = steps_max or max(STEPS_MAX, STEPS_EACH * len(operations))
    if criterion != LINEARIZABLE and _is_linearizable(operations, model, steps_max // 4):
        return Verdict("ok", f"{_counted(len(operations))} {criterion.name}")
    case = _Case(model, criterion)
    parts = case.parts(operations)
    searches = {name: case.search(part) for name, part in parts.items()}
    refuted, unfinished, _ = take_turns(searches, steps_max)
    for name in unfinished if refuted is None else [refuted]:
        evidence = case.evidence(parts[name], searches[name].blocked(), steps_max)
        if evidence or name == refuted:
            return _violation(name, parts[name], evidence or tuple(parts[name]), criterion)
    if unfinished:
        names = ", ".join(map(_named, unfinished[:3])) + (", ..." if len(unfinished) > 3 else "")
        because = f"after {steps_max:,} steps nobody knows whether {names} can be ordered; all others can"
        return Verdict("unknown", because)
    return Verdict("ok", f"{_counted(len(operations))} {criterion.name}")


def _violation(
    name: Hashable, operations: Sequence[Operation], evidence: tuple[Operation, ...], criterion: Criterion
) -> Verdict:
    rest = len(operations) - len(evidence)
    part = "" if name == "" else f"{_named(name)}: "
    which = "this operation is" if len(evidence) == 1 else f"these {len(evidence)} operations are"
    because = f"{part}{which} not {criterion.name}"
    return Verdict("violation", f"{because}, whatever the {rest} others did" if rest else because, evidence)


def _is_linearizable(operations: Sequence[Operation], model: Model, steps_max: int) -> bool:
    """Whether they certainly keep what is stronger than all else, and mostly found sooner."""
    case = _Case(model, LINEARIZABLE)
    turns = take_turns({name: case.search(part) for name, part in case.parts(operations).items()}, steps_max)
    return turns.refuted is None and not turns.unfinished


class _Case:
    """A model and a criterion, and what they make of operations."""

    def __init__(self, model: Model, criterion: Criterion) -> None:
        self._model = model
        self._criterion = criterion

    def parts(self, operations: Sequence[Operation]) -> dict[Hashable, list[Operation]]:
        """Operations that are searched together, by the name of the part."""
        parts: dict[Hashable, list[Operation]] = {}
        happened = [operation for operation in operations if operation.outcome != "failed"]
        for operation in happened:
            try:
                parts.setdefault(self._model.partition(operation.call), []).append(operation)
            except Exception as error:
                raise blame(error, operation.call) from error
        if not self._criterion.real_time and len(parts) > 1:
            parts[ALL] = happened
        return parts

    def search(self, operations: Sequence[Operation], demanded: Collection[int] | None = None) -> Search:
        """A search for an order. Of all but the `demanded` nothing is: they may happen at any time, or never."""
        items = self._items(operations, demanded)
        ordered = self._criterion.real_time
        names = dict.fromkeys(self._model.partition(operation.call) for operation in operations)
        if len(names) == 1:
            states = self._model.states if isinstance(self._model, Overwriting) else None
            shown = _shown(self._model, [item for _, item in items], ordered)
            found = chains(
                (name, item._replace(call=shown.alike.get(item.id, item.call)))
                for name, item in items
                if item.id not in shown.absent
            )
            return Search(found, self._model.initial, self._model.step, ordered=ordered, states=states, shown=shown)
        together = _Together(self._model, list(names))
        return Search(chains(items), together.initial, together.step, ordered=ordered)

    def evidence(
        self, operations: Sequence[Operation], blocked: Sequence[int], steps_max: int
    ) -> tuple[Operation, ...]:
        """Operations that show that a part has no order; none when it takes too long to find them."""
        left = steps_max

        def attempt(demanded: Collection[int]) -> list[int] | None:
            nonlocal left
            search = self.search(operations, set(demanded))
            turns = take_turns({ALL: search}, left)
            left -= turns.steps
            if turns.unfinished and turns.refuted is None:
                raise GaveUp
            return None if turns.refuted is not None else search.order()

        return smallest(operations, blocked, attempt)

    def _items(self, operations: Sequence[Operation], demanded: Collection[int] | None) -> list[tuple[Hashable, Item]]:
        moments = [self._start(operation) for operation in operations]
        moments += [_end(operation) for operation in operations if operation.completed is not None]
        rank = {moment: index for index, moment in enumerate(sorted(moments))}
        items: list[tuple[Hashable, Item]] = []
        for operation in operations:
            free = demanded is not None and operation.id not in demanded
            optional = free or operation.completed is None
            only_reads = operation.call.function in self._model.reads
            if optional and only_reads:
                continue  # it shows nothing and changes nothing
            call = operation.call
            if free and call.known:
                call = msgspec.structs.replace(call, result=None, known=False)
            start = -1 if free else rank[self._start(operation)]
            end = NEVER if optional else rank[_end(operation)]
            items.append((operation.client, Item(operation.id, call, start, end, only_reads)))
        items.sort(key=lambda each: each[1].start)
        return items

    def _start(self, operation: Operation) -> Moment:
        if self._criterion.stale_ns and operation.call.function in self._model.reads:
            # Before everything at that time: the bound is still kept.
            return operation.invoked_ns - self._criterion.stale_ns, -1, operation.id
        return operation.invoked_ns, operation.invoked, operation.id


def _shown(model: Model, items: Sequence[Item], ordered: bool) -> Shown:
    if not isinstance(model, Showing):
        return NOTHING_SHOWN
    try:
        return model.shown(items, ordered)
    except Exception as error:
        raise blame(error, items[0].call) from error


class _Together:
    """Several parts as one: its state has theirs."""

    def __init__(self, model: Model, names: Sequence[Hashable]) -> None:
        self._model = model
        self._index = {name: index for index, name in enumerate(names)}
        self.initial = (model.initial,) * len(names)

    def step(self, state: tuple[Any, ...], call: Call) -> tuple[bool, tuple[Any, ...]]:
        index = self._index[self._model.partition(call)]
        fits, after = self._model.step(state[index], call)
        return fits, (*state[:index], after, *state[index + 1 :])


def _end(operation: Operation) -> Moment:
    assert operation.ended_ns is not None, operation
    assert operation.completed is not None, operation
    return operation.ended_ns, operation.completed, operation.id


def _counted(count: int) -> str:
    return "one operation is" if count == 1 else f"{count} operations are"


def _named(part: Hashable) -> str:
    return ALL if part is ALL else "what has no key" if part == "" else f"key {part!r}"
