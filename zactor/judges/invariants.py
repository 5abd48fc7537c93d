"""What holds at every moment, whatever happens: plain functions over the state of all actors that are alive.

A kind brings them in `nodes/KIND/invariants.py` and names them in its package:

    INVARIANTS = {"files.chunks_are_whole": "nodes.files.invariants:chunks_are_whole"}

and a topology asks for them among its `sim.judges`. Whoever runs the actors in one process calls `broken` after each
event; an invariant looks at their fields, changes nothing, and says in one sentence what is wrong. One that compares a
moment with those before it is a class: each run has an object of its own, whose `__call__` is the invariant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from zactor import registry
from zactor.actor import Actor
from zactor.errors import UserError

Actors = Mapping[str, Actor]
"""The actors that are alive, by their full names (`store/0`)."""

Invariant = Callable[[Actors], str | None]
"""Says what is wrong, or None."""


def broken(invariants: Mapping[str, Invariant], actors: Actors) -> tuple[str, str] | None:
    """The name of the first invariant that does not hold, and what it says. Raises `UserError` for one that raises."""
    for name, invariant in invariants.items():
        try:
            problem = invariant(actors)
        except Exception as error:
            text = f"{registry.place_of(error)}{type(error).__name__}: {error}"
            raise UserError(f"the invariant {name} failed: {text}") from error
        if problem is not None:
            return name, problem
    return None


def invariant_named(name: str, base: Path | None) -> Invariant:
    """The invariant of that name, brought by a kind or in `./file.py:name` relative to `base`. Raises `UserError`."""
    known = registry.invariants()
    if name not in known and ".py:" not in name:
        hint = registry.did_you_mean(name, known) or f" There are: {', '.join(sorted(known)) or 'none'}."
        raise UserError(f"there is no invariant {name!r}.{hint}")
    invariant: Invariant = registry.load(known.get(name, name), base)
    if isinstance(invariant, type):
        invariant = invariant()
    if not callable(invariant):
        raise UserError(
            f"{name!r} is no invariant: expected a function of all actors (see zactor/judges/invariants.py)"
        )
    return invariant
