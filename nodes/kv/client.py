"""A client of the store, for actors and for programs: bytes to bytes, exactly once, wherever the leader is.

It talks through a door (`zactor.replication.client`): an actor's `self`, or an `AsyncClient`. Changes and reads are
under way as soon as they are called, so many can be before the first is awaited; all of them have to be. Locks and
elections are in `locks`.

Who wants to read what it wrote, without asking the leader, reads at the level `session`: `revision` is the token.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from itertools import groupby
from typing import Any, Generic, TypeVar

from zactor.errors import Failure
from zactor.message import Ref, encode
from zactor.replication.client import GIVE_UP_S, RETRIED, Door, SessionClient, forget
from zactor.replication.logclock import DRAWN
from zactor.replication.messages import Level, Unavailable

from . import operations as op

T = TypeVar("T")

WATCH_WAIT_S = 10.0
"""Seconds after which a watch without changes is asked again: longer, and a replica that died is noticed later."""

RENEWALS = 3
"""Times that a lease is kept alive while it lives: it outlasts two that are lost."""


class LeaseLost(Failure):
    """A lease has ended, or may have, and with it the keys that it held."""


class KvClient:
    """The keys of one store: of one actor, or of all replicas (`targets`).

    Its methods raise the refusals of `operations`. What gets no answer is tried again for `give_up_s`; then they raise
    the failure of the last attempt, such as `ConnectionLost` or `Unavailable`, or `OutcomeUnknown` for a change that
    may have been made. Reads take a level: see `zactor.replication.messages.Level`; `bound_s` is for `bounded`.
    """

    def __init__(self, door: Door, targets: Ref[Any] | Sequence[Ref[Any]], give_up_s: float = GIVE_UP_S) -> None:
        self.door = door
        self.targets: tuple[Ref[Any], ...] = tuple(targets) if isinstance(targets, Sequence) else (targets,)
        self.revision = 0
        self._session = SessionClient(door, self.targets, give_up_s)

    # --- changes
    def put(self, key: bytes, value: bytes, *, lease: int = 0, previous: bool = False) -> Awaitable[op.Written]:
        """Give a key a value. With `previous` the answer has what was there."""
        return self.change(op.Put(key, value, lease, previous))

    def delete(
        self, key: bytes, end: bytes | None = None, *, limit: int = 0, previous: bool = False
    ) -> Awaitable[op.Deleted]:
        """Delete a key or a range."""
        return self.change(op.Delete(key, end, limit, previous))

    def compare_and_set(
        self, key: bytes, expected: bytes | None, value: bytes, *, lease: int = 0
    ) -> Awaitable[op.Swapped]:
        """Put `value` if the key has the value `expected`; None: if it is not there."""
        return self.change(op.CompareAndSet(key, expected, value, lease))

    def transaction(
        self,
        conditions: Sequence[op.Condition] = (),
        success: Sequence[op.Step] = (),
        failure: Sequence[op.Step] = (),
    ) -> Awaitable[op.Done]:
        """Do `success` if all conditions hold, else `failure`, in one revision."""
        return self.change(op.Transaction(tuple(conditions), tuple(success), tuple(failure)))

    def change(self, operation: op.Operation) -> Awaitable[Any]:
        """Make any change of `operations`."""
        return _Answer(self._session.submit(encode(operation)), self._outcome)

    def _outcome(self, body: bytes) -> Any:
        """What a change was answered by. Raises what it was denied with."""
        outcome = op.decode_outcome(body)
        if outcome.revision > self.revision:
            self.revision = outcome.revision
        if outcome.__class__ is op.Denied:
            raise Failure.from_wire(outcome.error, outcome.text, "")
        return outcome

    # --- reads
    def get(self, key: bytes, *, level: Level = "linearizable", bound_s: float = 0.0) -> Awaitable[op.Item | None]:
        """What a key has; None: it is not there."""
        return self.question(op.Get(key), _item, level=level, bound_s=bound_s)

    def range(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        limit: int = 0,
        keys_only: bool = False,
        level: Level = "linearizable",
        bound_s: float = 0.0,
    ) -> Awaitable[op.Page]:
        """The first keys of a range. The answer says whether there are more."""
        return self.question(op.Range(key, end, limit, keys_only), level=level, bound_s=bound_s)

    async def scan(
        self, key: bytes, end: bytes | None = None, *, keys_only: bool = False, level: Level = "linearizable"
    ) -> AsyncIterator[op.Item]:
        """All keys of a range in order, page by page: each page is of its own moment. See `copy`."""
        more = True
        while more:
            page = await self.range(key, end, keys_only=keys_only, level=level)
            for item in page.items:
                yield item
            more = page.more
            key = page.items[-1].key + b"\0" if page.items else key

    async def copy(self, key: bytes = b"", end: bytes | None = b"") -> tuple[int, list[op.Item]]:
        """A range as it was at one revision, which comes with it, however many pages it has.

        What changed while the pages were read is taken from a watch. Raises `Compacted` when that was too much.
        """
        items: dict[bytes, op.Item] = {}
        first, where, more = 0, key, True
        while more:
            page = await self.range(where, end)
            first = first or page.revision
            items.update({item.key: item for item in page.items})
            more = page.more
            where = page.items[-1].key + b"\0" if more else where
        if page.revision > first:
            await self._catch_up(items, op.WatchFrom(key, end, first + 1), page.revision)
        return page.revision, [items[each] for each in sorted(items)]

    async def _catch_up(self, items: dict[bytes, op.Item], watch: op.WatchFrom, revision: int) -> None:
        start = watch.start
        while start <= revision:
            asked = encode(op.WatchFrom(watch.key, watch.end, start))
            answer = await self._session.watch(asked, at_least=revision, wait_s=0.0)
            if not answer:
                return
            changes: op.Changes = op.decode_changes(answer)
            for item in changes.items:
                if item.modified > revision:
                    return
                if not item.version:
                    items.pop(item.key, None)
                elif item.key not in items or items[item.key].modified < item.modified:
                    items[item.key] = item
            start = changes.revision + 1

    def question(
        self,
        question: op.Question,
        take: Callable[[Any], Any] = lambda answer: answer,
        *,
        level: Level = "linearizable",
        bound_s: float = 0.0,
    ) -> Awaitable[Any]:
        """Ask any question of `operations`; `take` makes of the answer what is given back."""
        at_least = self.revision if level == "session" else 0
        asked = self._session.query(encode(question), level, at_least=at_least, bound_s=bound_s)
        return _Answer(asked, lambda body: take(self._heard(op.decode_answer(body))))

    def _heard(self, answer: Any) -> Any:
        if answer.revision > self.revision:
            self.revision = answer.revision
        return answer

    # --- watches
    async def watch(
        self, key: bytes, end: bytes | None = None, *, start: int = 0, wait_s: float = WATCH_WAIT_S
    ) -> AsyncIterator[op.Changes]:
        """The changes of a key or range, each revision once and in order, from `start` on; 0: from now on.

        It goes on when replicas die. Who read something at a revision watches from the next one, and misses nothing.
        Raises `Compacted` when changes since are not known any more: for who comes too late, or is too slow.
        """
        while True:
            answer = await self._watched(op.WatchFrom(key, end, start), wait_s)
            if answer is None:
                continue
            for revision, items in groupby(answer.items, key=_modified):
                yield op.Changes(revision, tuple(items))
            start = answer.revision + 1

    async def _watched(self, watch: op.WatchFrom, wait_s: float) -> op.Changes | None:
        # A replica that is behind waits until it has all before `start`, or it would not know whether it missed some.
        at_least = watch.start - 1 if watch.start else self.revision
        answer = await self._session.watch(encode(watch), at_least=at_least, wait_s=wait_s)
        return self._heard(op.decode_changes(answer)) if answer else None

    async def changed(self, watch: op.WatchFrom, wait_s: float) -> bool:
        """Wait until there is a change, for `wait_s` at most. A `Compacted` one is a change, too."""
        try:
            answer = await self._watched(watch, wait_s)
        except op.Compacted:
            return True
        return answer is not None and bool(answer.items)

    # --- leases
    async def grant(self, ttl_s: float) -> int:
        """A new lease, which ends when it was not kept alive for so long. Returns its id, for `put`."""
        return (await self._grant(ttl_s)).lease

    async def _grant(self, ttl_s: float) -> op.Granted:
        granted: op.Granted = await self.change(op.Grant(int(ttl_s * 1e9)))
        return granted

    def keep_alive(self, lease: int) -> Awaitable[op.Granted]:
        """The lease begins anew. Raises `NoLease`."""
        return self.change(op.KeepAlive(lease))

    def revoke(self, lease: int) -> Awaitable[op.Deleted]:
        """End a lease: its keys are deleted. Raises `NoLease`."""
        return self.change(op.Revoke(lease))

    def leased(self, lease: int) -> Awaitable[op.Lease]:
        """A lease and its keys. Raises `NoLease`."""
        return self.question(op.GetLease(lease))

    async def hold(self, ttl_s: float) -> HeldLease:
        """A new lease that renews itself, while its `keep` runs."""
        begun_ns = self.door.now_ns()
        granted = await self._grant(ttl_s)
        return HeldLease(self, granted.lease, ttl_s, begun_ns)

    # --- the whole
    def status(self, *, level: Level = "linearizable") -> Awaitable[op.Status]:
        """How large the store is."""
        return self.question(op.GetStatus(), level=level)

    async def renew(self) -> None:
        """Keep the session, for who changes nothing for long: it ends after a silence, and is opened anew."""
        await self._session.renew()

    async def close(self) -> None:
        """End the session. Leases go on, and end by themselves."""
        await self._session.close()


class HeldLease:
    """A lease that is kept alive as long as `keep` runs, beside whatever it is for.

    lease = await client.hold(10.0)
    keeping = asyncio.create_task(lease.keep())     # in an actor: a handler with interleave=True
    """

    def __init__(self, client: KvClient, number: int, ttl_s: float, begun_ns: int) -> None:
        self.client = client
        self.id = number
        self.ttl_s = ttl_s
        self._begun_ns = begun_ns
        self._is_over = False

    @property
    def left_s(self) -> float:
        """Seconds that it surely lives, by this client's clock: since it last *asked* to keep it. 0: it may be over.

        The log, by whose time it ends, may be drawn forwards meanwhile.
        """
        if self._is_over:
            return 0.0
        return max(0.0, self.ttl_s * DRAWN / (DRAWN + 1) - (self.client.door.now_ns() - self._begun_ns) / 1e9)

    async def renew(self) -> None:
        """Keep it alive, now. Raises `LeaseLost`, and what the client does."""
        begun_ns = self.client.door.now_ns()
        try:
            await self.client.keep_alive(self.id)
        except op.NoLease as error:
            self._is_over = True
            raise LeaseLost(str(error)) from error
        self._begun_ns = begun_ns

    async def keep(self) -> None:
        """Keep it alive until it is released or lost. Raises `LeaseLost`: what it was for must end."""
        while True:
            await self.client.door.sleep(self.ttl_s / RENEWALS)
            if self._is_over:
                return
            try:
                await self.renew()
            except (*RETRIED, Unavailable) as error:
                if not self.left_s:
                    self._is_over = True
                    raise LeaseLost(f"lease {self.id} could not be kept alive for {self.ttl_s} s: {error}") from error

    async def ended(self) -> None:
        """Wait until it may be over, by this client's clock: `keep` may still be waiting for an answer then."""
        while left_s := self.left_s:
            await self.client.door.sleep(left_s)

    async def release(self) -> None:
        """End it, and delete its keys. Nothing happens if it is over."""
        self._is_over = True
        try:
            await self.client.revoke(self.id)
        except op.NoLease:
            return


class _Answer(Generic[T]):
    """An answer under way, decoded by `take` when it is awaited."""

    __slots__ = ("_answer", "_take")

    def __init__(self, answer: Awaitable[bytes], take: Callable[[bytes], T]) -> None:
        self._answer = answer
        self._take = take

    def __await__(self) -> Generator[Any, None, T]:
        return self._take((yield from self._answer.__await__()))

    def cancel(self) -> None:
        """Nobody will await it."""
        forget(self._answer)


def _item(answer: Any) -> op.Item | None:
    item: op.Item | None = answer.item
    return item


def _modified(item: op.Item) -> int:
    return item.modified
