"""What holds at every moment, whatever happens: plain functions over the state of all actors that are alive.

A kind brings them in `nodes/KIND/invariants.py` and names them in its package:

    INVARIANTS = {"files.chunks_are_whole": "nodes.files.invariants:chunks_are_whole"}

and a topology asks for them among its `sim.judges`. Whoever runs the actors in one process calls `broken` after each
event; an invariant looks at their fields, changes nothing, and says in one sentence what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
            raise UserError(f"the invariant {name} failed: {type(error).__name__}: {error}") from error
        if problem is not None:
            return name, problem
    return None
