"""Looks for an order: can these calls have been done one after the other, as a model demands?

The search of Wing and Gong (1993), remembering which calls were done in which state (Lowe 2017), without
recursion, and in slices, so that several searches can take turns. Calls stand in chains, each in its order; a
configuration is how far every chain has come, and the state. Six rules keep their number small:

- A call that only reads is done as soon as it can be: in any order that begins here it can be moved to the front.
- An optional call is left out where it changes nothing, and where the next call would be answered alike and lead to
  the same state without it. (Of all orders that exist, one with the fewest calls keeps this rule; and leaving a
  call out leads to a configuration that is looked at, too, so that what is remembered needs no mention of the rule.)
- A state that a call still has to read, and that no call can bring back, is not left before. (Where the model knows
  which states a call leads to; it makes clusters of a write and its reads, as in Gibbons and Korach 1997.)
- Optional calls that do the same are one chain: of two, the one that may start first is used first.
- Where all others have come as far, and the state is the same, only what needed fewer optional calls is gone on from.
- What the answers of all calls together show of single ones is kept to: see `zactor.judges.shown`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Generator, Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from zactor import registry
from zactor.errors import UserError
from zactor.judges.history import Call

NEVER = 1 << 62
"""Later than everything."""

SLICE_STEPS = 1_000
"""Calls that a search looks at between two pauses."""

LEAST_MAX = 32
"""Ways to one configuration, by the optional calls that were used, that a new one is held against."""

_NOTHING = object()

States = Callable[[Call], tuple[Any, ...] | None]
"""Of a call that reads, the one state that it can have read; of another, all states that it can lead to from a
different one. None when nobody knows."""


Guard = Callable[[Any, AbstractSet[int]], bool]
"""Whether a call may be done in a state, after the calls with these ids: what the answers of others demand of it."""


class Shown(NamedTuple):
    """What the answers of all calls together show of single ones, by their ids.

    `needs`: the one state in which a call that changes it was done. `makes`: the states that it can lead to and
    somebody sees, instead of what `States` says. `absent`: optional ones without which there is an order, too, if
    there is one with them. `alike`: what does the same as a call, as far as anybody sees. `contrary`: some that cannot
    all be true.
    """

    contrary: Sequence[int] = ()
    absent: Collection[int] = ()
    guards: Mapping[int, Guard] = {}
    needs: Mapping[int, Any] = {}
    makes: Mapping[int, tuple[Any, ...]] = {}
    alike: Mapping[int, Call] = {}


NOTHING_SHOWN = Shown()


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
    `steps` are the calls that it has looked at.
    """

    steps = 0

    def __init__(
        self,
        chains: Sequence[Sequence[Item]],
        initial: Any,
        step: Callable[[Any, Call], tuple[bool, Any]],
        *,
        ordered: bool,
        states: States | None = None,
        shown: Shown = NOTHING_SHOWN,
    ) -> None:
        self._chains = [(*chain, _AFTER_THE_LAST) for chain in chains]
        self._step = step
        self._ordered = ordered
        self._contrary = shown.contrary
        self._guards, self._needs = shown.guards, shown.needs
        self._done: set[int] = set()
        self._state = initial
        self._left = sum(item.end != NEVER for chain in chains for item in chain)
        # How far each chain has come, and all of that as one number.
        self._places = [0] * len(chains)
        self._heads = [chain[0] for chain in self._chains]
        self._starts = [chain[0].start for chain in self._chains]
        self._ends = [chain[0].end for chain in self._chains]
        self._weights = _weights(self._chains)
        self._code = 0
        # The same of chains that must be done alone; and which optional calls were used, a bit each.
        self._bits = _bits(self._chains)
        self._has_optional = any(self._bits)
        self._must = self._used = 0
        self._least: dict[tuple[int, Any], list[int]] = {}
        # By state, the calls left that have to read it, and those that can lead to it.
        self._readers: Counter[Any] = Counter()
        self._makers: Counter[Any] = Counter()
        self._read: dict[int, Any] = dict(shown.needs)
        self._made: dict[int, tuple[Any, ...]] = dict(shown.makes)
        self._counts = states is not None and self._count(states)
        # The state before the last call, if that was an optional one.
        self._before: Any = _NOTHING
        # The call with the earliest end when the search had come furthest, and the state if that had to stay.
        self._horizon = -1
        self._blocked: tuple[int, Any] = (-1, _NOTHING)
        self._path: list[tuple[int, Any, Any, list[tuple[int, Any]]]] = []

    def _count(self, states: States) -> bool:
        """Count who reads and makes each state. Returns whether that is known of all calls."""
        for item in (item for chain in self._chains for item in chain[:-1]):
            try:
                found = self._made[item.id] if item.id in self._made else states(item.call)
            except Exception as error:
                raise blame(error, item.call) from error
            if found is None:
                self._readers.clear()
                return False
            if item.only_reads:
                (self._read[item.id],) = found
            else:
                self._made[item.id] = found
                self._makers.update(found)
            if item.id in self._read:
                self._readers[self._read[item.id]] += 1
        return True

    def order(self) -> list[int]:
        """The operations of the order that was found, or of that which is being tried."""
        places = [0] * len(self._chains)
        ids = []
        for lane, *_ in self._path:
            ids.append(self._chains[lane][places[lane]].id)
            places[lane] += 1
        return ids

    def blocked(self) -> list[int]:
        """Operations at which a search failed, or stood longest: good ones to look at first."""
        if self._contrary:
            return [*self._contrary]
        head, state = self._blocked
        if state is _NOTHING:
            return [head]
        items = (item for chain in self._chains for item in chain[:-1])
        return [max((item.end, item.id) for item in items if self._read.get(item.id, _NOTHING) == state)[1], head]

    def run(self) -> Generator[None, None, bool]:
        """Search, with pauses; returns whether there is an order. Raises `UserError` when the model raises."""
        if self._contrary:
            return False
        seen: set[tuple[int, Any]] = set()
        path = self._path
        moves = self._moves() if self._left else []
        pause = SLICE_STEPS
        while self._left:
            if self.steps >= pause:
                yield
                pause = self.steps + SLICE_STEPS
            if moves:
                lane, state = moves.pop()
                configuration = (self._code + self._weights[lane], state)
                try:
                    if configuration in seen:
                        continue
                except TypeError as error:
                    raise blame(error, self._heads[lane].call, self._state) from error
                seen.add(configuration)
                if self._has_optional and self._is_needless(lane, state):
                    continue
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

    def _is_needless(self, lane: int, state: Any) -> bool:
        """Whether one came as far as with the next call of a chain, to the same state, by fewer optional calls."""
        used, must = self._used, self._must
        if self._bits[lane]:
            used |= self._bits[lane] << self._places[lane]
        else:
            must += self._weights[lane]
        least = self._least.setdefault((must, state), [])
        if any(not other & ~used for other in least):
            return True
        if len(least) < LEAST_MAX:
            least.append(used)
        return False

    def _go(self, lane: int, by: int) -> None:
        """Do the next call of a chain, or take its last one back."""
        chain, place = self._chains[lane], self._places[lane] + by
        done, head = chain[min(place, place - by)], chain[place]
        self._places[lane] = place
        self._code += by * self._weights[lane]
        if self._bits[lane]:
            self._used ^= self._bits[lane] << min(place, place - by)
        else:
            self._must += by * self._weights[lane]
        if self._guards:
            (self._done.add if by > 0 else self._done.discard)(done.id)
        if done.end != NEVER:
            self._left -= by
        if self._counts:
            if done.id in self._read:
                self._readers[self._read[done.id]] -= by
            for state in self._made.get(done.id, ()):
                self._makers[state] -= by
        self._heads[lane], self._starts[lane], self._ends[lane] = head, head.start, head.end

    def _moves(self) -> list[tuple[int, Any]]:
        """Which chains may go on from here, and the state after it; the best guess is the last."""
        heads, ends, step, state, before = self._heads, self._ends, self._step, self._state, self._before
        horizon = min(ends)
        stays = self._readers[state] > 0 and self._makers[state] == 0
        if horizon > self._horizon:
            self._horizon = horizon
            self._blocked = heads[ends.index(horizon)].id, state if stays else _NOTHING
        if not self._ordered:
            horizon = NEVER
        lanes = [lane for lane, start in enumerate(self._starts) if start < horizon]
        self.steps += len(lanes)
        # What was answered first, probably happened first; what is optional comes last.
        lanes.sort(key=ends.__getitem__)
        moves = []
        for lane in lanes:
            call = heads[lane].call
            number = heads[lane].id
            if number in self._guards and not self._guards[number](state, self._done):
                continue
            needs = self._needs.get(number, _NOTHING)
            if needs is not _NOTHING and needs != state:
                continue
            try:
                fits, after = step(state, call)
                if not fits or (before is not _NOTHING and _leads_to(step(before, call), after)):
                    continue
            except Exception as error:
                raise blame(error, call, state) from error
            if heads[lane].only_reads:
                return [(lane, state)]
            leaves = not stays or (needs is not _NOTHING and self._readers[state] == 1)
            if leaves if after != state else ends[lane] != NEVER:
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


def _bits(chains: Sequence[Sequence[Item]]) -> list[int]:
    """The bit of the first call of each optional chain; 0 for the others."""
    bits, bit = [], 1
    for chain in chains:
        is_optional = len(chain) > 1 and chain[0].end == NEVER
        bits.append(bit if is_optional else 0)
        bit <<= (len(chain) - 1) * is_optional
    return bits


def _leads_to(outcome: tuple[bool, Any], state: Any) -> bool:
    return outcome[0] and bool(outcome[1] == state)


def blame(error: Exception, call: Call, state: Any = _NOTHING) -> UserError:
    """What to say of a model that raised."""
    if isinstance(error, UserError):
        return error
    when = "" if state is _NOTHING else f" in state {state!r}"
    what = f"{registry.place_of(error)}{type(error).__name__}: {error}"
    return UserError(f"the model failed at '{call}'{when}: {what}; is this the model of that history?")


class Turns(NamedTuple):
    """What became of several searches: the name of the one that found no order, those not finished, the steps made."""

    refuted: Hashable | None
    unfinished: list[Hashable]
    steps: int


def take_turns(searches: Mapping[Hashable, Search], steps_max: int) -> Turns:
    """Run searches a slice each in turn until one finds no order, all have found one, or so many steps were made."""
    waiting = {name: search.run() for name, search in searches.items()}
    refuted = None
    while waiting and refuted is None and _steps(searches) < steps_max:
        for name, run in list(waiting.items()):
            try:
                next(run)
            except StopIteration as ended:
                del waiting[name]
                if not ended.value:
                    refuted = name
                    break
    return Turns(refuted, list(waiting), _steps(searches))


def _steps(searches: Mapping[Hashable, Search]) -> int:
    return sum(search.steps for search in searches.values())
