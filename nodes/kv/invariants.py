"""What holds in key-value stores when they have come to rest. See `zactor.judges.invariants`."""

from __future__ import annotations

from collections.abc import Mapping

from zactor.actor import Actor

from .store import Store


def leases_end(actors: Mapping[str, Actor]) -> str | None:
    """Leases that nobody keeps alive any more have ended, and their keys are gone.

    It is looked at in the stores that have come furthest: one that its group has left out hears of nothing.
    """
    stores = {
        name: store for name, actor in actors.items() if isinstance(store := getattr(actor, "hosted", None), Store)
    }
    last = max((store.revision for store in stores.values()), default=0)
    for name, store in stores.items():
        if store.revision == last and store.leases.by_id:
            return f"{name} has {len(store.leases.by_id)} leases, and nobody is there who keeps them"
    return None
