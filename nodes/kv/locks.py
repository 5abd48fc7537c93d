"""Locks and elections, made of keys with leases, as etcd's recipes are.

Everybody who wants a lock puts a key of its own under the lock's name; whose key was created first has it, and the
others each wait for the one before them, so that one release wakes one. When a lease ends, its key goes, and the next
has it.

The revision at which the key was created is the *fencing token*: it grows with each holder. A client that was held up
may believe that it holds the lock when it does not; what it guards has to refuse smaller tokens. The store does so
itself when a change is made under `Lock.condition`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from . import operations as op
from .client import WATCH_WAIT_S, HeldLease, KvClient, LeaseLost

SEPARATOR = b"\0"
"""Between a lock's name and who wants it: names that begin with another's do not meet."""


def places(name: bytes) -> tuple[bytes, bytes]:
    """The range of the keys of all who want the lock of that name."""
    return name + SEPARATOR, op.prefix_end(name + SEPARATOR)


class Lock:
    """One client's hand on a lock, for as long as its lease lives. Not to be shared by several coroutines.

    `token` is the fencing token, 0 when it is not held. To be sure of the lock, look at `lease.left_s`, or change
    things under `condition`.
    """

    def __init__(self, name: bytes, lease: HeldLease) -> None:
        self.name = name
        self.lease = lease
        self.token = 0
        self._client = lease.client
        self._key = name + SEPARATOR + b"%016x" % lease.id

    @property
    def condition(self) -> op.Condition:
        """What a transaction asks to be made only while this still holds the lock."""
        return op.Condition(self._key, "created", "=", self.token)

    async def acquire(self, value: bytes = b"", wait_s: float | None = None) -> bool:
        """Wait for the lock; False when it could not be had in `wait_s`. Raises `LeaseLost`, and what the client does.

        `value` is what others see of who holds it. Who gives up waiting, such as after another failure, calls
        `release`: it stands in the queue until its lease ends.
        """
        created = await self._queue_up(value)
        until_ns = None if wait_s is None else self._client.door.now_ns() + int(wait_s * 1e9)
        while (found := await self._before(created)).item is not None:
            left_s = WATCH_WAIT_S if until_ns is None else (until_ns - self._client.door.now_ns()) / 1e9
            if left_s <= 0:
                await self.release()
                return False
            # From the moment of that answer on, so that its end is not missed.
            watch = op.WatchFrom(found.item.key, None, found.revision + 1)
            await self._client.changed(watch, min(left_s, WATCH_WAIT_S))
        await self._check_own(created)
        self.token = created
        return True

    async def _queue_up(self, value: bytes) -> int:
        """Put its key, unless it is there: the revision at which it was created."""
        absent = op.Condition(self._key, "created", "=", 0)
        try:
            done = await self._client.transaction(
                (absent,), (op.Put(self._key, value, self.lease.id),), (op.Get(self._key),)
            )
        except op.NoLease as error:
            raise LeaseLost(str(error)) from error
        (answer,) = done.answers
        if isinstance(answer, op.Found) and answer.item is not None:
            return answer.item.created
        return done.revision

    async def _before(self, created: int) -> op.Found:
        found: op.Found = await self._client.question(op.Newest(*places(self.name), created))
        return found

    async def _check_own(self, created: int) -> None:
        own = await self._client.get(self._key)
        if own is None or own.created != created:
            raise LeaseLost(f"the lease {self.lease.id} ended while it waited for {self.name!r}")

    async def change_value(self, value: bytes) -> None:
        """Let others see something else. Raises `LeaseLost` when the lock is not held any more."""
        done = await self._client.transaction((self.condition,), (op.Put(self._key, value, self.lease.id),))
        if not done.succeeded:
            self.token = 0
            raise LeaseLost(f"the lock {self.name!r} is not held any more")

    async def release(self) -> None:
        """Let the next one have it, or leave the queue. Nothing happens if it is not held. The lease goes on."""
        self.token = 0
        # Nobody but this lease has that key: there is no condition to ask for.
        await self._client.delete(self._key)


async def holder(client: KvClient, name: bytes) -> op.Item | None:
    """Who holds a lock, or leads an election: `value` is what it says, `created` its fencing token."""
    found: op.Found = await client.question(op.Oldest(*places(name)))
    return found.item


async def observe(client: KvClient, name: bytes) -> AsyncIterator[op.Item | None]:
    """Who holds a lock or leads, now and whenever that or its value changes; None: nobody. One may be skipped."""
    seen: tuple[op.Item | None, ...] = ()
    while True:
        found: op.Found = await client.question(op.Oldest(*places(name)))
        if (found.item,) != seen:
            seen = (found.item,)
            yield found.item
        while not await client.changed(op.WatchFrom(*places(name), found.revision + 1), WATCH_WAIT_S):
            continue


class Election:
    """One client's candidacy: a lock whose holder leads, and says something of itself."""

    def __init__(self, name: bytes, lease: HeldLease) -> None:
        self.lock = Lock(name, lease)

    @property
    def token(self) -> int:
        """The fencing token of a leader; 0 when this does not lead."""
        return self.lock.token

    async def campaign(self, value: bytes, wait_s: float | None = None) -> bool:
        """Wait to be the leader. As `Lock.acquire`."""
        return await self.lock.acquire(value, wait_s)

    async def proclaim(self, value: bytes) -> None:
        """Say something else as the leader. Raises `LeaseLost` when this does not lead any more."""
        await self.lock.change_value(value)

    async def resign(self) -> None:
        """Let the next one lead."""
        await self.lock.release()
