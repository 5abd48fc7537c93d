"""Users of a key-value store, for trials: they read and write a few keys that all of them share, and watch them.

Every value is written once, so that it names its write. Besides, each has a counter and leases that nobody else
touches, and all fight for one lock, which some of them lose and some forget. What they write down is in `models`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from zactor.actor import on
from zactor.errors import Failure, Refused
from zactor.message import Message, Ref, Refs
from zactor.replication.client import OutcomeUnknown
from zactor.replication.messages import EndSession, Level, OpenSession, Query, Renew, Submit, Watch
from zactor.workload import Workload

from . import operations as op
from .client import HeldLease, KvClient, LeaseLost
from .fenced import Guard
from .locks import Lock

NAMES = ("a", "b")
"""Of each group: a transaction changes both."""

GIVE_UP_S = 10.0
PAUSE_S = 0.2

LOCK = b"lock"
TTL_S = 1.5
LOCK_WAIT_S = 3.0
FORGOTTEN = 4
"""One hold in so many is not kept alive; every second one of these is never let go."""

TTLS_S = (0.8, 2.4)
LOOKS = 6
"""Times that a lease is kept alive or looked at, at most: then it is left to its end."""

WEAK: tuple[Level, ...] = ("bounded", "session", "eventual")
LEVELS: tuple[Level, ...] = ("linearizable", *WEAK)


class Follow(Message[None]):
    """A workload tells itself to watch a group."""

    group: str


class Keep(Message[None]):
    """A workload tells itself to keep the lease of its lock alive."""


class Hold(Message[None]):
    """A workload tells itself to take the lock, and let it go, again and again."""


class Tend(Message[None]):
    """A workload tells itself to take a lease, keep it alive, and see it end, again and again."""


class KvWorkload(Workload):
    """One user of `groups` groups of keys. Between two operations it rests up to `rest_ms`.

    `bound_ms`: how old its bounded reads may be. `fenced`: what they fight for the lock about; without it they do not.
    """

    store: Refs[Submit | Query | OpenSession | Renew | EndSession | Watch]
    fenced: Ref[Guard] | None
    groups: int = 3
    rest_ms: int = 60
    bound_ms: int = 300

    model = "kv.items"

    _values = 0
    _lease: HeldLease | None = None

    async def run(self) -> None:
        """Mostly reads and puts; sometimes everything else."""
        self._kv = KvClient(self, self.store, give_up_s=GIVE_UP_S)
        self._seen: dict[tuple[str, str], str | None] = {}
        self.tell(self.ref, Follow(group=str(self.number % self.groups)))
        self.tell(self.ref, Tend())
        if self.fenced is not None:
            self.tell(self.ref, Hold())
        while True:
            await self._once(self.rng.getrandbits(8))
            await self.sleep((self.rng.getrandbits(16) * self.rest_ms >> 16) / 1000)

    async def _once(self, dice: int) -> None:
        group = str(self.rng.getrandbits(16) % self.groups)
        name, other = NAMES if self.rng.getrandbits(1) else NAMES[::-1]
        if dice < 60:
            await self._put(group, name)
        elif dice < 80:
            await self._delete(group, name)
        elif dice < 110:
            await self._compare_and_set(group, name)
        elif dice < 140:
            await self._transact(group, name, other)
        elif dice < 170:
            await self._get(group, name, "linearizable")
        elif dice < 215:
            await self._get(group, name, WEAK[dice % 3])
        elif dice < 232:
            await self._list(group)
        elif dice < 254:
            await self._count()
        else:
            await self._begin_anew()

    # --- what all of them do
    async def _do(
        self,
        ask: Callable[[], Awaitable[Any]],
        answer: Callable[[Any], Any],
        function: str,
        *arguments: Any,
        key: str = "",
    ) -> Any:
        """Write down an operation, ask for it, and write down its answer. Returns the answer, or None."""
        operation = self.invoke(function, *arguments, key=key)
        try:
            found = await ask()
        except OutcomeUnknown as error:
            self.unknown(operation, error)
            return None
        except Failure as error:
            self.failed(operation, error)
            return None
        self.answered(operation, answer(found))
        return found

    async def _put(self, group: str, name: str) -> None:
        value = self._value()
        await self._do(
            lambda: self._kv.put(_key(group, name), value.encode()), _revision, "put", name, value, key=group
        )

    async def _delete(self, group: str, name: str) -> None:
        await self._do(
            lambda: self._kv.delete(_key(group, name)),
            lambda done: [done.revision, done.count],
            "delete",
            name,
            key=group,
        )

    async def _compare_and_set(self, group: str, name: str) -> None:
        value, expected = self._value(), self._seen.get((group, name))
        done = await self._do(
            lambda: self._kv.compare_and_set(_key(group, name), _bytes(expected), value.encode()),
            lambda done: [done.revision, done.done],
            "cas",
            name,
            expected,
            value,
            key=group,
        )
        if done is not None:
            self._seen[group, name] = value if done.done else _text(done.item)

    async def _transact(self, group: str, name: str, other: str) -> None:
        """Put one name and put or delete the other, if one of them or both are as they were seen last."""
        values = {name: self._value(), other: self._value() if self.rng.getrandbits(1) else None}
        expected = {each: self._seen.get((group, each)) for each in (name, other)[: 1 + self.rng.getrandbits(1)]}
        done = await self._do(
            lambda: self._kv.transaction(
                [_is(_key(group, each), value) for each, value in expected.items()],
                [_step(_key(group, each), value) for each, value in values.items()],
                [op.Get(_key(group, each)) for each in values],
            ),
            lambda done: [done.revision, done.succeeded],
            "txn",
            [*expected.items()],
            [*values.items()],
            key=group,
        )
        if done is not None and not done.succeeded:
            values = {each: _text(found.item) for each, found in zip(values, done.answers, strict=True)}
        if done is not None:
            self._seen.update({(group, each): value for each, value in values.items()})

    async def _get(self, group: str, name: str, level: Level) -> None:
        function, arguments = "get" if level == "linearizable" else f"get_{level}", (name,)
        found = await self._do(
            lambda: self._kv.question(op.Get(_key(group, name)), level=level, bound_s=self.bound_ms / 1000),
            lambda found: [found.revision, _text(found.item), found.item.modified if found.item else 0],
            function,
            *arguments,
            *([self.bound_ms] if level == "bounded" else []),
            key=group,
        )
        if found is not None:
            self._seen[group, name] = _text(found.item)

    async def _list(self, group: str) -> None:
        """One answer says of all names of a group what they have."""
        await self._do(
            lambda: self._kv.range(*_all(group)),
            lambda page: [page.revision, [[_name(item), _text(item)] for item in page.items]],
            "list",
            key=group,
        )

    async def _begin_anew(self) -> None:
        """Go on in another session."""
        try:
            await self._kv.close()
        except Failure as error:
            self.log.info("session_left", because=str(error))

    # --- what one does alone
    async def _count(self) -> None:
        """A key of one's own: its version says how often it was put."""
        await self._do(
            lambda: self._kv.put(b"own/%d" % self.number, self._value().encode(), previous=True),
            lambda done: [done.revision, 1 if done.previous is None else done.previous.version + 1],
            "count",
            key=f"own/{self.number}",
        )

    # --- watches
    @on(interleave=True)
    async def follow(self, message: Follow) -> None:
        """Watch a group from one revision to the next, and see nothing twice."""
        start = 0
        while True:
            if not start:
                start = await self._beginning(message.group)
            operation = self.invoke("watch", start, key=message.group)
            try:
                async for changes in self._kv.watch(*_all(message.group), start=start):
                    items = [[item.modified, _name(item), _text(item)] for item in changes.items]
                    self.answered(operation, [changes.revision, items])
                    start = changes.revision + 1
                    operation = self.invoke("watch", start, key=message.group)
            except op.Compacted as error:
                self.failed(operation, error)
                self.log.info("watch_compacted", start=start)
                start = 0
            except Failure as error:
                self.failed(operation, error)
                await self.sleep(PAUSE_S)

    async def _beginning(self, group: str) -> int:
        """What is there is known: the revision behind it."""
        while True:
            try:
                page: op.Page = await self._kv.range(*_all(group))
            except Failure:
                await self.sleep(PAUSE_S)
            else:
                return page.revision + 1

    # --- leases
    @on(interleave=True)
    async def tend(self, message: Tend) -> None:  # noqa: ARG002
        """Have one lease after the other, each with a key that nobody else writes."""
        while True:
            ttl_ms = int(TTLS_S[self.rng.getrandbits(1)] * 1000)
            granted = await self._do(
                lambda: self._kv.change(op.Grant(ttl_ms * 10**6)),  # noqa: B023 - it is awaited here
                lambda granted: [granted.revision, granted.lease],
                "grant",
                ttl_ms,
            )
            if granted is not None:
                await self._tend(granted.lease, ttl_ms)
            await self.sleep(PAUSE_S)

    async def _tend(self, lease: int, ttl_ms: int) -> None:
        """Keep it alive or look at its key, at random, until that is gone; some are ended before."""
        key = b"leased/%d" % lease
        await self._with_lease(lambda: self._kv.put(key, b"", lease=lease), "attach", lease)
        for _ in range(LOOKS):
            await self.sleep(ttl_ms * self.rng.getrandbits(10) / (1 << 10) / 1000)
            dice = self.rng.getrandbits(3)
            if dice < 1:
                await self._with_lease(lambda: self._kv.revoke(lease), "revoke", lease)
                return
            if dice < 4:
                is_there = await self._with_lease(lambda: self._kv.keep_alive(lease), "keep", lease)
            else:
                is_there = await self._look(key, lease)
            if is_there is False:
                self.log.info("lease_gone", lease=lease)
                return

    async def _with_lease(self, ask: Callable[[], Awaitable[Any]], function: str, lease: int) -> bool | None:
        """Do something with a lease. Returns whether it was there; None: nobody knows."""

        async def asked() -> tuple[int, bool]:
            try:
                return (await ask()).revision, True
            except op.NoLease:
                return 0, False

        found = await self._do(asked, list, function, lease)
        return None if found is None else bool(found[1])

    async def _look(self, key: bytes, lease: int) -> bool | None:
        """Whether the key of a lease is there; None: nobody knows."""
        level = LEVELS[self.rng.getrandbits(2)]
        found = await self._do(
            lambda: self._kv.question(op.Get(key), level=level, bound_s=self.bound_ms / 1000),
            lambda found: [found.revision, found.item is not None],
            "look",
            lease,
        )
        return None if found is None else found.item is not None

    # --- a lock
    @on(interleave=True)
    async def hold(self, message: Hold) -> None:  # noqa: ARG002 - it has no fields
        """Take the lock, write under it, and let it go."""
        while True:
            try:
                await self._hold()
            except LeaseLost as error:
                self.log.info("lock_lost", because=str(error))
            except Failure as error:
                self.log.info("lock_left", because=str(error))
            self._lease = None
            await self.sleep(PAUSE_S + self.rng.getrandbits(10) / 1000)

    async def _hold(self) -> None:
        self._lease = lease = await self._kv.hold(TTL_S)
        is_kept = self.rng.getrandbits(16) % FORGOTTEN > 0
        if is_kept:
            self.tell(self.ref, Keep())
        lock = Lock(LOCK, lease)
        try:
            await self._use(lock)
        finally:
            if is_kept or self.rng.getrandbits(1):
                await self._let_go(lock.token, lease.release)
            else:
                self.log.info("lock_abandoned", token=lock.token)

    async def _use(self, lock: Lock) -> None:
        operation = self.invoke("acquire", int(TTL_S * 1000), key=LOCK.decode())
        try:
            is_held = await lock.acquire(str(self.number).encode(), LOCK_WAIT_S)
        except Failure as error:
            self.failed(operation, error)
            raise
        if not is_held:
            self.failed(operation, "others had it")
            return
        self.answered(operation, [lock.token, int(lock.lease.left_s * 1000)])
        await self._write_under(lock)
        if self.rng.getrandbits(1):
            await self._let_go(lock.token, lock.release)

    async def _let_go(self, token: int, release: Callable[[], Awaitable[None]]) -> None:
        """From the moment that this is written down others may have the lock."""
        await self._do(release, lambda _: None, "release", token, key=LOCK.decode())

    async def _write_under(self, lock: Lock) -> None:
        """As often as it likes, also when the lock may be lost by now: the resource looks at the token."""
        token = lock.token
        for _ in range(1 + self.rng.getrandbits(2)):
            value = self._value()
            operation = self.invoke("guard", token, value, key="fenced")
            try:
                assert self.fenced is not None, "without it nobody fights for the lock"
                is_taken = await self.ask(self.fenced, Guard(token=token, value=value))
            except Refused as error:
                self.failed(operation, error)
            except Failure as error:
                self.unknown(operation, error)
            else:
                self.answered(operation, is_taken)
                if not is_taken:
                    self.log.info("write_fenced", token=token)
            await self.sleep(self.rng.getrandbits(10) / 1000)

    @on(interleave=True)
    async def keep(self, message: Keep) -> None:  # noqa: ARG002
        """Keep the lease alive until it is released or lost."""
        lease = self._lease
        if lease is None:
            return
        try:
            await lease.keep()
        except Failure as error:
            self.log.info("lease_lost", because=str(error))

    # --- what they have in common
    def _value(self) -> str:
        self._values += 1
        return f"{self.number}.{self._values}"


def _key(group: str, name: str) -> bytes:
    return f"{group}/{name}".encode()


def _all(group: str) -> tuple[bytes, bytes]:
    prefix = f"{group}/".encode()
    return prefix, op.prefix_end(prefix)


def _name(item: op.Item) -> str:
    return item.key.decode().partition("/")[2]


def _text(item: op.Item | None) -> str | None:
    return item.value.decode() if item is not None and item.version else None


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def _is(key: bytes, value: str | None) -> op.Condition:
    return op.Condition(key, "created", "=", 0) if value is None else op.Condition(key, "value", "=", value.encode())


def _step(key: bytes, value: str | None) -> op.Step:
    return op.Delete(key) if value is None else op.Put(key, value.encode())


def _revision(done: Any) -> list[int]:
    return [done.revision]
