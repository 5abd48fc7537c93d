"""Leases: each ends by the clock of the log, and takes its keys with it.

One heap entry a lease is enough: when its time comes and the lease was kept alive since, it goes back to where it
belongs. What a lease is, is frozen, so a snapshot copies references.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush, heapreplace

import msgspec

from .items import weight
from .operations import LEASE_KEYS_MAX, LEASES_MAX, LeaseId, NoLease, Number, TooMuch, Ttl


class Held(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A lease: it ends with the first entry at `expires_ns` or later."""

    lease: LeaseId
    ttl_ns: Ttl
    expires_ns: Number


class Leases:
    """Leases by id, which is the revision that granted them, and their keys. `weight` is the sum of their weights."""

    def __init__(self, held: Iterable[Held] = ()) -> None:
        self.by_id: dict[int, Held] = {each.lease: each for each in held}
        self._keys: dict[int, dict[bytes, None]] = {lease: {} for lease in self.by_id}
        self._ends = [(each.expires_ns, each.lease) for each in self.by_id.values()]
        heapify(self._ends)
        self.weight = sum([weight(each) for each in self.by_id.values()])

    # --- looking
    def find(self, lease: int) -> Held:
        """Raises `NoLease`."""
        held = self.by_id.get(lease)
        if held is None:
            raise NoLease(f"there is no lease {lease}: it has ended, or never was")
        return held

    def check_room(self, lease: int, count: int = 1) -> None:
        """Raises `NoLease`, and `TooMuch` when so many keys more are too many for it."""
        self.find(lease)
        if len(self._keys[lease]) + count > LEASE_KEYS_MAX:
            raise TooMuch(f"lease {lease} has {len(self._keys[lease])} keys of {LEASE_KEYS_MAX}; take another one")

    def keys(self, lease: int) -> list[bytes]:
        """Its keys in order."""
        return sorted(self._keys[lease])

    @property
    def due_ns(self) -> int:
        """When the first one ends; 0: there is none."""
        ends = self._ends
        while ends:
            expires_ns, lease = ends[0]
            held = self.by_id.get(lease)
            if held is None:
                heappop(ends)
            elif held.expires_ns != expires_ns:
                heapreplace(ends, (held.expires_ns, lease))
            else:
                return expires_ns
        return 0

    def due(self, time_ns: int) -> list[int]:
        """Those that end by that time, in the order of their ends."""
        found = []
        while self.due_ns and self.due_ns <= time_ns:
            found.append(heappop(self._ends)[1])
        return found

    # --- changing
    def grant(self, lease: int, ttl_ns: int, time_ns: int) -> None:
        """A new one. Raises `TooMuch`."""
        if len(self.by_id) >= LEASES_MAX:
            raise TooMuch(f"there are {LEASES_MAX} leases; use one for several keys, or revoke some")
        self._set(Held(lease, ttl_ns, time_ns + ttl_ns))
        self._keys[lease] = {}
        heappush(self._ends, (time_ns + ttl_ns, lease))

    def keep(self, lease: int, time_ns: int) -> Held:
        """It begins anew. Raises `NoLease`."""
        held = self.find(lease)
        self.weight -= weight(held)
        kept = Held(lease, held.ttl_ns, time_ns + held.ttl_ns)
        self._set(kept)
        return kept

    def end(self, lease: int) -> list[bytes]:
        """It is gone. Returns the keys that it had, in order. Raises `NoLease`."""
        self.weight -= weight(self.find(lease))
        del self.by_id[lease]
        return sorted(self._keys.pop(lease))

    def _set(self, held: Held) -> None:
        self.by_id[held.lease] = held
        self.weight += weight(held)

    def attach(self, key: bytes, lease: int) -> None:
        """The key goes away with the lease."""
        self._keys[lease][key] = None

    def detach(self, key: bytes, lease: int) -> None:
        """It does not any more. Nothing happens if the lease is just ending."""
        keys = self._keys.get(lease)
        if keys is not None:
            del keys[key]
