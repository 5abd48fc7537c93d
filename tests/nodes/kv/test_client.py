"""A client of a store on three peers, in virtual and in simulated time: it is answered, and once, whoever dies."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.kv import operations as op
from nodes.kv.client import HeldLease, KvClient, LeaseLost
from nodes.kv.locks import Election, Lock, holder, observe
from tests.nodes.kv.town import Town
from zactor.errors import Refused
from zactor.testing.stage import Simulated, Stage


def end_of(prefix: bytes) -> tuple[bytes, bytes]:
    return prefix, op.prefix_end(prefix)


# --- changes and reads
def test_what_was_put_is_got_with_its_revisions(virtual: Stage) -> None:
    async def script(client: KvClient) -> None:
        first = await client.put(b"a", b"1")
        second = await client.put(b"a", b"2", previous=True)
        assert second.previous == op.Item(b"a", b"1", first.revision, first.revision, 1)
        assert await client.get(b"a") == op.Item(b"a", b"2", first.revision, second.revision, 2)
        assert client.revision == second.revision
        assert (await client.delete(b"a")).count == 1
        assert await client.get(b"a") is None

    Town(virtual).run(script)


def test_many_changes_are_under_way_at_once(virtual: Stage) -> None:
    async def script(client: KvClient) -> None:
        await client.put(b"first", b"")
        begun = [client.put(b"%03d" % number, b"x") for number in range(300)]
        revisions = [(await each).revision for each in begun]
        assert len(set(revisions)) == 300
        assert [item.key async for item in client.scan(b"0", b"1")] == [b"%03d" % number for number in range(100)]

    town = Town(virtual)
    town.run(script)
    assert len({store.digest() for store in town.stores()}) == 1


@pytest.mark.parametrize("level", ["linearizable", "session", "bounded", "eventual"])
def test_each_read_level_answers(virtual: Stage, level: Any) -> None:
    async def script(client: KvClient) -> None:
        await client.put(b"a", b"1")
        item = await client.get(b"a", level=level, bound_s=5.0)
        # A peer that is behind has nothing yet, where the level allows it.
        assert item is None or item.value == b"1"
        assert level not in ("linearizable", "session") or item is not None

    Town(virtual).run(script)


def test_a_refusal_of_the_store_is_raised_as_itself(virtual: Stage) -> None:
    async def script(client: KvClient) -> None:
        with pytest.raises(op.NoLease, match="no lease 77"):
            await client.put(b"a", b"1", lease=77)
        with pytest.raises(op.NoLease):
            await client.leased(77)
        with pytest.raises(Refused):
            await client.put(b"", b"no key is empty")

    Town(virtual).run(script)


def test_a_copy_of_many_pages_is_of_one_revision(virtual: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "PAGE_KEYS_MAX", 3)

    async def script(client: KvClient) -> None:
        for number in range(10):
            await client.put(b"%d" % number, b"before")
        monkeypatch.setattr(client, "range", Between(client))
        revision, items = await client.copy()
        assert [(item.key, item.value) for item in items] == [
            (b"%d" % number, b"after" if number == 1 else b"before") for number in range(10) if number != 2
        ] + [(b"9x", b"new")]
        assert revision >= max(item.modified for item in items)

    Town(virtual).run(script)


class Between:
    """Before the last page: one key of the first page changes, one goes away, and there is a new one."""

    def __init__(self, client: KvClient) -> None:
        self._client, self._range, self._pages = client, client.range, 0

    async def __call__(self, key: bytes, end: bytes | None = None) -> op.Page:
        self._pages += 1
        if self._pages == 2:
            await self._client.put(b"1", b"after")
            await self._client.delete(b"2")
            await self._client.put(b"9x", b"new")
        return await self._range(key, end)


# --- watches
def test_a_watch_sees_each_revision_once_and_in_order(virtual: Stage) -> None:
    seen: list[tuple[int, bytes]] = []

    async def watcher(client: KvClient) -> None:
        async for changes in client.watch(*end_of(b"w/"), start=1):
            seen.extend((changes.revision, item.value) for item in changes.items)
            if len(seen) == 50:
                return

    async def writer(client: KvClient) -> None:
        for number in range(50):
            await client.put(b"w/%d" % (number % 7), b"%d" % number)
            await client.put(b"other", b"%d" % number)

    town = Town(virtual, ("watcher", "writer"))
    watching = town.begin(watcher, "watcher")
    town.run(writer, "writer")
    virtual.until(lambda: watching.done, what="the watch did not see all")
    assert [value for _, value in seen] == [b"%d" % number for number in range(50)]
    assert [revision for revision, _ in seen] == sorted({revision for revision, _ in seen})


def test_a_watch_without_a_start_begins_now(virtual: Stage) -> None:
    seen: list[bytes] = []

    async def watcher(client: KvClient) -> None:
        await client.put(b"a", b"before")
        async for changes in client.watch(b"a"):
            seen.extend(item.value for item in changes.items)
            return

    async def writer(client: KvClient) -> None:
        await client.door.sleep(3.0)
        await client.put(b"a", b"after")

    town = Town(virtual, ("watcher", "writer"))
    watching = town.begin(watcher, "watcher")
    town.run(writer, "writer")
    virtual.until(lambda: watching.done)
    assert seen == [b"after"]


def test_a_watch_goes_on_when_the_leader_dies(simulated: Simulated) -> None:
    seen: list[bytes] = []

    async def watcher(client: KvClient) -> None:
        async for changes in client.watch(b"", b"", start=1):
            seen.extend(item.key for item in changes.items)
            if len(seen) == 30:
                return

    async def writer(client: KvClient) -> None:
        for number in range(30):
            await client.put(b"%02d" % number, b"")
            await client.door.sleep(0.1)

    town = Town(simulated, ("watcher", "writer"))
    watching, writing = town.begin(watcher, "watcher"), town.begin(writer, "writer")
    for _ in range(2):
        simulated.run(0.5)
        simulated.kill(town.leader())
    simulated.until(lambda: watching.done and writing.done, what="not all was seen")
    assert seen == [b"%02d" % number for number in range(30)]


# --- leases
def test_keys_go_with_their_lease_when_nobody_keeps_it(virtual: Stage) -> None:
    async def script(client: KvClient) -> None:
        lease = await client.grant(1.0)
        await client.put(b"a", b"1", lease=lease)
        await client.door.sleep(0.7)
        await client.keep_alive(lease)
        await client.door.sleep(0.7)
        assert await client.get(b"a") is not None
        await client.door.sleep(1.5)
        assert await client.get(b"a") is None
        with pytest.raises(op.NoLease):
            await client.keep_alive(lease)

    Town(virtual).run(script)


def test_a_held_lease_renews_itself_until_it_is_released(virtual: Stage) -> None:
    held: list[HeldLease] = []

    async def script(client: KvClient) -> None:
        lease = await client.hold(1.0)
        held.append(lease)
        await client.put(b"a", b"1", lease=lease.id)
        await lease.keep()

    async def other(client: KvClient) -> None:
        await client.door.sleep(5.0)
        assert await client.get(b"a") is not None
        assert held[0].left_s > 0
        await held[0].release()
        assert held[0].left_s == 0
        assert await client.get(b"a") is None

    town = Town(virtual)
    keeping = town.begin(script)
    town.run(other)
    virtual.until(lambda: keeping.done)
    assert keeping.result() is None


def test_a_held_lease_that_is_revoked_is_lost(virtual: Stage) -> None:
    async def script(client: KvClient) -> None:
        lease = await client.hold(1.0)
        await client.revoke(lease.id)
        with pytest.raises(LeaseLost, match="no lease"):
            await lease.keep()
        assert lease.left_s == 0

    Town(virtual).run(script)


def test_a_held_lease_ends_in_time_though_nobody_answers(simulated: Simulated) -> None:
    began: list[int] = []

    async def script(client: KvClient) -> None:
        lease = await client.hold(3.0)
        began.append(client.door.now_ns())
        await lease.ended()
        assert lease.left_s == 0
        assert client.door.now_ns() - began[0] < 4 * 10**9

    town = Town(simulated)
    ended = town.begin(script)
    simulated.until(lambda: bool(began), what="there is no lease")
    for name in town.names:
        simulated.kill(name, stay=True)
    simulated.until(lambda: ended.done)
    ended.result()


# --- locks and elections
def test_a_lock_is_held_by_one_at_a_time_and_tokens_grow(virtual: Stage) -> None:
    inside: list[str] = []
    tokens: list[int] = []

    def contender(name: str) -> Any:
        async def script(client: KvClient) -> None:
            lock = Lock(b"l", await client.hold(30.0))
            for _ in range(5):
                assert await lock.acquire(name.encode())
                inside.append(name)
                tokens.append(lock.token)
                assert len(inside) == 1
                await client.door.sleep(0.01)
                inside.pop()
                await lock.release()

        return script

    users = ("a", "b", "c")
    town = Town(virtual, users)
    begun = [town.begin(contender(user), user) for user in users]
    virtual.until(lambda: all(each.done for each in begun), what="the lock was not had by all")
    for each in begun:
        each.result()
    assert len(tokens) == 15
    assert tokens == sorted(set(tokens))


def test_a_lock_passes_on_when_the_lease_of_its_holder_ends(virtual: Stage) -> None:
    async def holds(client: KvClient) -> None:
        lock = Lock(b"l", await client.hold(2.0))
        assert await lock.acquire(b"first")
        await client.door.sleep(10.0)  # held up, and nobody keeps its lease
        assert lock.lease.left_s == 0
        done = await client.transaction((lock.condition,), (op.Put(b"guarded", b"late"),))
        assert not done.succeeded
        with pytest.raises(LeaseLost):
            await lock.change_value(b"still me")

    async def waits(client: KvClient) -> None:
        await client.door.sleep(0.5)
        lock = Lock(b"l", await client.hold(60.0))
        assert not await lock.acquire(b"second", wait_s=0.2)
        assert await lock.acquire(b"second")
        assert (await client.transaction((lock.condition,), (op.Put(b"guarded", b"mine"),))).succeeded

    town = Town(virtual, ("a", "b"))
    first, second = town.begin(holds, "a"), town.begin(waits, "b")
    virtual.until(lambda: first.done and second.done)
    first.result()
    second.result()


def test_locks_whose_names_begin_alike_do_not_meet(virtual: Stage) -> None:
    async def script(client: KvClient) -> None:
        first, second = await client.hold(60.0), await client.hold(60.0)
        assert await Lock(b"a", first).acquire(wait_s=0.0)
        assert await Lock(b"a/b", second).acquire(wait_s=0.0)
        assert not await Lock(b"a", second).acquire(wait_s=0.0)

    Town(virtual).run(script)


def test_who_waits_for_a_lock_with_a_lease_that_ends_is_told(virtual: Stage) -> None:
    async def script(client: KvClient) -> None:
        lock = Lock(b"l", await client.hold(60.0))
        assert await lock.acquire()
        with pytest.raises(LeaseLost):
            await Lock(b"l", await client.hold(1.0)).acquire()
        await lock.release()

    async def opens(client: KvClient) -> None:
        await client.door.sleep(20.0)
        found = await client.range(b"l", op.prefix_end(b"l"))
        for item in found.items:
            await client.delete(item.key)

    town = Town(virtual, ("a", "b"))
    first, second = town.begin(script, "a"), town.begin(opens, "b")
    virtual.until(lambda: first.done and second.done)
    first.result()


def test_who_gives_up_waiting_leaves_the_queue(virtual: Stage) -> None:
    async def script(client: KvClient) -> None:
        first, second, third = [Lock(b"l", await client.hold(60.0)) for _ in range(3)]
        assert await first.acquire()
        await second._queue_up(b"")  # it fails in the middle
        await second.release()
        await first.release()
        assert await third.acquire(wait_s=0.0)

    Town(virtual).run(script)


def test_an_election_is_seen_by_all(virtual: Stage) -> None:
    seen: list[bytes | None] = []

    async def observer(client: KvClient) -> None:
        async for item in observe(client, b"e"):
            seen.append(None if item is None else item.value)
            if seen[-1] == b"b leads":
                return

    async def a(client: KvClient) -> None:
        election = Election(b"e", await client.hold(60.0))
        await client.door.sleep(1.0)
        assert await election.campaign(b"a leads")
        await client.door.sleep(1.0)
        await election.proclaim(b"a still leads")
        await client.door.sleep(1.0)
        await election.resign()
        assert election.token == 0

    async def b(client: KvClient) -> None:
        await client.door.sleep(1.5)
        election = Election(b"e", await client.hold(60.0))
        assert await election.campaign(b"b leads")
        item = await holder(client, b"e")
        assert item is not None
        assert item.created == election.token

    town = Town(virtual, ("observer", "a", "b"))
    begun = [town.begin(observer, "observer"), town.begin(a, "a"), town.begin(b, "b")]
    virtual.until(lambda: all(each.done for each in begun))
    for each in begun:
        each.result()
    assert seen == [None, b"a leads", b"a still leads", b"b leads"]
