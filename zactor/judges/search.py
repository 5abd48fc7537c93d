"""Looks for an order: can these calls have been done one after the other, as a model demands?

The search of Wing and Gong (1993), remembering which calls were done in which state (Lowe 2017), without
recursion, and in slices, so that several searches can take turns. Calls stand in chains, each in its order; a
configuration is how far every chain has come, and the state. Three rules keep their number small:

- A call that only reads is done as soon as it can be: in any order that begins here it can be moved to the front.
- An optional call is left out where it changes nothing, and where the next call would be answered alike and lead to
  the same state without it. (Of all orders that exist, one with the fewest calls keeps this rule; and leaving a
  call out leads to a configuration that is looked at, too, so that what is remembered needs no mention of the rule.)
- Optional calls that do the same are one chain: of two, the one that may start first is used first.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from zactor.errors import UserError
from zactor.judges.history import Call

NEVER = 1 << 62
"""Later than everything."""

SLICE_STEPS = 1_000
"""Calls that a search looks at between two pauses."""

_NOTHING = object()


class Item(NamedTuple):
    """A call, by the id of its operation, and from when until when it can take effect.

    What has no end is optional; what only reads changes no state, wherever it is done. No two starts or ends are the
    same, but -1 for starts and `NEVER` for ends.
    """

    id: int
    call: Call
    start: int
    end: int
    only_reads: bool = False


_AFTER_THE_LAST = Item(-1, Call(""), NEVER, NEVER)


def chains(items: Iterable[tuple[Hashable, Item]]) -> list[list[Item]]:
    """Put items into chains; those under one name follow one another where they do not overlap.

    They come in the order of their starts. Optional ones are chained by what they do.
    """
    found: dict[Hashable, list[list[Item]]] = {}
    for name, item in items:
        if item.end == NEVER:
            found.setdefault((item.call,), [[]])[0].append(item)
            continue
        begun = found.setdefault((name, None), [])
        chain = next((each for each in begun if each[-1].end < item.start), None)
        if chain is None:
            begun.append([item])
        else:
            chain.append(item)
    return [chain for begun in found.values() for chain in begun]


class Search:
    """One search; `run` is its progress.

    When it is `ordered`, what ends before another starts is done before it; else only chains hold an order.
    """

    def __init__(
        self,
        chains: Sequence[Sequence[Item]],
        initial: Any,
        step: Callable[[Any, Call], tuple[bool, Any]],
        *,
        ordered: bool,
    ) -> None:
        self._chains = [(*chain, _AFTER_THE_LAST) for chain in chains]
        self._step = step
        self._ordered = ordered
        self._state = initial
        self._left = sum(item.end != NEVER for chain in chains for item in chain)
        # How far each chain has come, and all of that as one number.
        self._places = [0] * len(chains)
        self._heads = [chain[0] for chain in self._chains]
        self._starts = [chain[0].start for chain in self._chains]
        self._ends = [chain[0].end for chain in self._chains]
        self._weights = _weights(self._chains)
        self._code = 0
        # The state before the last call, if that was an optional one.
        self._before: Any = _NOTHING
        self._steps = 0
        # The operation with the earliest end that had to be done next when the search had come furthest.
        self.furthest = -1
        self._horizon = -1
        self._path: list[tuple[int, Any, Any, list[tuple[int, Any]]]] = []

    def order(self) -> list[int]:
        """The operations of the order that was found, or of that which is being tried."""
        places = [0] * len(self._chains)
        ids = []
        for lane, *_ in self._path:
            ids.append(self._chains[lane][places[lane]].id)
            places[lane] += 1
        return ids

    def run(self) -> Generator[int, None, bool]:
        """Search; yields now and then how many calls it looked at since, and returns whether there is an order.

        Raises `UserError` when the model raises.
        """
        seen: set[tuple[int, Any]] = set()
        path = self._path
        moves = self._moves() if self._left else []
        while self._left:
            if self._steps >= SLICE_STEPS:
                yield self._steps
                self._steps = 0
            if moves:
                lane, state = moves.pop()
                configuration = (self._code + self._weights[lane], state)
                if configuration in seen:
                    continue
                seen.add(configuration)
                path.append((lane, self._state, self._before, moves))
                self._before = self._state if self._ends[lane] == NEVER else _NOTHING
                self._state = state
                self._go(lane, 1)
                moves = self._moves()
            elif path:
                lane, self._state, self._before, moves = path.pop()
                self._go(lane, -1)
            else:
                return False
        return True

    def _go(self, lane: int, by: int) -> None:
        """Do the next call of a chain, or take its last one back."""
        chain, place = self._chains[lane], self._places[lane] + by
        done, head = chain[min(place, place - by)], chain[place]
        self._places[lane] = place
        self._code += by * self._weights[lane]
        if done.end != NEVER:
            self._left -= by
        self._heads[lane], self._starts[lane], self._ends[lane] = head, head.start, head.end

    def _moves(self) -> list[tuple[int, Any]]:
        """Which chains may go on from here, and the state after it; the best guess is the last."""
        heads, ends, step, state, before = self._heads, self._ends, self._step, self._state, self._before
        horizon = min(ends)
        if horizon > self._horizon:
            self._horizon = horizon
            self.furthest = heads[ends.index(horizon)].id
        if not self._ordered:
            horizon = NEVER
        lanes = [lane for lane, start in enumerate(self._starts) if start < horizon]
        self._steps += len(lanes)
        # What was answered first, probably happened first; what is optional comes last.
        lanes.sort(key=ends.__getitem__)
        moves = []
        for lane in lanes:
            call = heads[lane].call
            try:
                fits, after = step(state, call)
                if not fits or (before is not _NOTHING and _leads_to(step(before, call), after)):
                    continue
            except Exception as error:
                raise UserError(_blame(error, call, state)) from error
            if heads[lane].only_reads:
                return [(lane, state)]
            if after != state or ends[lane] != NEVER:
                moves.append((lane, after))
        moves.reverse()
        return moves


def _weights(chains: Sequence[Sequence[Item]]) -> list[int]:
    """What the place in each chain counts in a number that stands for all places."""
    weights, weight = [], 1
    for chain in chains:
        weights.append(weight)
        weight *= len(chain)
    return weights


def _leads_to(outcome: tuple[bool, Any], state: Any) -> bool:
    return outcome[0] and bool(outcome[1] == state)


def _blame(error: Exception, call: Call, state: Any) -> str:
    if isinstance(error, UserError):
        return str(error)
    text = f"the model failed at '{call}' in state {state!r}: {type(error).__name__}: {error}"
    return f"{text}; is this the model of that history?"


class Turns(NamedTuple):
    """What became of several searches: the name of the one that found no order, those not finished, the steps made."""

    refuted: Hashable | None
    unfinished: list[Hashable]
    steps: int


def take_turns(searches: Mapping[Hashable, Search], steps_max: int) -> Turns:
    """Run searches a slice each in turn until one finds no order, all have found one, or so many steps were made."""
    waiting = {name: search.run() for name, search in searches.items()}
    steps = 0
    while waiting and steps < steps_max:
        for name, run in list(waiting.items()):
            try:
                steps += next(run)
            except StopIteration as ended:
                del waiting[name]
                if not ended.value:
                    return Turns(name, list(waiting), steps)
    return Turns(None, list(waiting), steps)
