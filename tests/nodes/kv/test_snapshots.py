"""Snapshots of the store: a state that stands still, and comes back whole, or is refused."""

from __future__ import annotations

import random

import pytest

from nodes.kv import backlog, items, snapshots
from nodes.kv import operations as op
from nodes.kv.store import Store
from tests.nodes.kv.machine import Machine, S, restored
from zactor.errors import Corrupt
from zactor.message import encode


class Busy:
    """Clients who do all that there is to do, by chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.machine = Machine()
        self.leases = [0]

    def key(self) -> bytes:
        return self.chance.choice([b"%02d" % number for number in range(40)])

    def operation(self) -> op.Operation:
        chance = self.chance
        lease = chance.choice(self.leases)
        match chance.randrange(10):
            case 0:
                return op.Delete(self.key(), self.key(), limit=chance.randrange(4))
            case 1:
                return op.CompareAndSet(self.key(), chance.choice([None, b"a", b"b"]), b"a", lease)
            case 2:
                return op.Grant(chance.randrange(1, 9) * S)
            case 3 if lease:
                return op.KeepAlive(lease) if chance.random() < 0.5 else op.Revoke(lease)
            case 4:
                condition = op.Condition(self.key(), "version", chance.choice(["<", "="]), 2)
                return op.Transaction((condition,), (op.Put(self.key(), b"t", lease),), (op.Delete(self.key()),))
        return op.Put(self.key(), chance.choice([b"a", b"b", b"x" * 50]), lease)

    def step(self) -> None:
        self.machine.time_ns += self.chance.randrange(S)
        for outcome in self.machine.batch(*(self.operation() for _ in range(self.chance.randrange(1, 5)))):
            if isinstance(outcome, op.Granted):
                self.leases.append(outcome.lease)


def all_of(store: Store) -> tuple[object, ...]:
    """What a store knows."""
    kept = store.backlog
    return (
        store.revision, store.time_ns, store.digest(), store.items.by_key, list(store.items.keys(b"", b"")),
        store.items.size, store.leases.by_id, store.leases._keys, store.due_ns,
        kept.changes, kept.compacted, kept.first, kept.size,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(10))
def test_a_state_comes_back_whole_and_goes_on_alike(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "CHANGES_MAX", 50)
    monkeypatch.setattr(backlog, "STRIDE", 5)
    monkeypatch.setattr(snapshots, "PART_SIZE", 200)
    busy = Busy(seed)
    for _ in range(100):
        busy.step()
    store, other = busy.machine.store, restored(busy.machine.store)

    assert all_of(other) == all_of(store)
    for _ in range(50):
        busy.step()
        answers = other.apply(busy.machine.batches[-1])
        assert [op.decode_outcome(answer) for answer in answers]
        assert all_of(other) == all_of(store)


@pytest.mark.parametrize("seed", range(10))
def test_a_snapshot_stands_still_while_the_store_goes_on(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items, "BLOCK_ITEMS", 3)
    monkeypatch.setattr(backlog, "CHANGES_MAX", 50)
    monkeypatch.setattr(backlog, "STRIDE", 5)
    monkeypatch.setattr(snapshots, "PART_SIZE", 200)
    busy = Busy(seed)
    for _ in range(60):
        busy.step()
    expected = list(busy.machine.store.snapshot())

    parts = []
    for part in busy.machine.store.snapshot():
        parts.append(part)
        busy.step()
    assert [each for part in parts for each in contents(part)] == [each for part in expected for each in contents(part)]


def contents(part: bytes) -> list[object]:
    decoded = snapshots._decode_part(part)
    match decoded:
        case snapshots.ItemsPart():
            return list(decoded.items)
        case snapshots.ChangesPart():
            return list(decoded.changes)
    return [decoded]


def test_a_snapshot_that_is_given_up_lets_go() -> None:
    machine = Machine()
    machine.put(b"a")
    machine.store.snapshot().close()

    machine.put(b"a")
    assert restored(machine.store).digest() == machine.store.digest()


@pytest.mark.parametrize("seed", range(5))
def test_the_digest_is_that_of_the_contents(seed: int) -> None:
    busy = Busy(seed)
    digests = set()
    for _ in range(50):
        busy.step()
        store = busy.machine.store
        assert store.items.weight == items.Items(store.items.by_key.values()).weight
        digests.add(store.digest())
    assert len(digests) == 50


def test_two_values_that_change_places_change_the_digest() -> None:
    one, other = Machine(), Machine()
    one.batch(op.Put(b"a", b"1"), op.Put(b"b", b"2"))
    other.batch(op.Put(b"a", b"2"), op.Put(b"b", b"1"))

    assert one.store.digest() != other.store.digest()


def test_what_is_no_snapshot_is_refused_and_changes_nothing() -> None:
    machine = Machine()
    lease = machine.do(op.Grant(S)).lease
    machine.put(b"a", b"1", lease)
    good = list(machine.store.snapshot())
    bad = [
        [], [b""], good[1:], good[:-1], [good[0], *good], [*good[:-1], b"\x00"],
        [encode(snapshots.Head(99, 0, 0, 0, 0, 0, 0, 0))], [good[0], *good[2:]],
    ]  # fmt: skip
    for parts in bad:
        with pytest.raises(Corrupt):
            machine.store.restore(parts)
        assert machine.get(b"a") is not None
    machine.store.restore(good)
    assert machine.keys() == [b"a"]


def test_a_restore_ends_watches() -> None:
    machine = Machine()
    start = machine.put(b"a") + 1
    machine.watch(1, b"a", start=start)
    machine.store.restore(list(machine.store.snapshot()))
    machine.put(b"a")

    assert machine.told == {}
