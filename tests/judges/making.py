"""Histories made up by a stream of random numbers: by a system that keeps its promises, and with one edit."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

from zactor.judges.history import History, Operation

Ask = Callable[[random.Random, int], tuple[Any, ...]]
"""Makes the function and the arguments of the next operation; the number is different each time."""


def simulate(
    rng: random.Random,
    ask: Ask,
    apply: Callable[[Any, tuple[Any, ...]], tuple[Any, Any]],
    initial: Any,
    *,
    clients: int,
    count: int,
    keys: Sequence[str] = ("x",),
    lost: float = 0.1,
) -> list[Operation]:
    """What clients of a linearizable system record: each operation takes effect at once, between call and answer.

    Of those whose answers are lost some take effect later, and some never. A client whose answer was lost goes on.
    """
    ticks = itertools.count()
    history = History(lambda: next(ticks) * 1_000_000)
    states = dict.fromkeys(keys, initial)
    under_way: dict[int, tuple[int, str, tuple[Any, ...], list[Any]]] = {}
    lingering: list[tuple[str, tuple[Any, ...]]] = []
    made = 0
    while made < count or under_way:
        if lingering and rng.random() < 0.1:
            key, words = lingering.pop(rng.randrange(len(lingering)))
            states[key], _ = apply(states[key], words)
        client = rng.randrange(clients)
        if client not in under_way:
            if made == count:
                client = rng.choice(sorted(under_way))
            else:
                key, words = rng.choice(list(keys)), ask(rng, made)
                under_way[client] = (history.invoke(f"c{client}", *words, key=key), key, words, [])
                made += 1
                continue
        operation, key, words, answer = under_way[client]
        if not answer:
            if rng.random() < lost:
                lingering.append((key, words))
                if rng.random() < 0.5:
                    history.unknown(operation)
                del under_way[client]
                continue
            states[key], result = apply(states[key], words)
            answer.append(result)
        else:
            history.complete(operation, answer[0])
            del under_way[client]
    return history.operations()


def ask_register(rng: random.Random, number: int) -> tuple[Any, ...]:
    """Half reads, half writes of a new value each."""
    return ("read",) if rng.random() < 0.5 else ("write", number)


def apply_register(state: Any, words: tuple[Any, ...]) -> tuple[Any, Any]:
    """A register, written apart from the model."""
    return (state, state) if words[0] == "read" else (words[1], None)
