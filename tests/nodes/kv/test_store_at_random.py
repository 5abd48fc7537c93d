"""The store against a dictionary that keeps its whole history: whatever is done to both, they say the same."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nodes.kv import operations as op
from nodes.kv.questions import is_in
from nodes.kv.store import Store
from tests.nodes.kv.machine import Machine, S, restored
from zactor.message import encode
from zactor.statemachine import Entry

KEYS = some.sampled_from([b"a", b"a\0", b"ab", b"b", b"c", b"\xff", b"\xff\xff"])
ENDS = some.one_of(some.none(), some.just(b""), KEYS)
VALUES = some.sampled_from([b"", b"1", b"2"])

Key = tuple[bytes, int, int, int, int]
"""Value, created, modified, version, lease."""


class Model(RuleBasedStateMachine):
    """What the store should be: a dictionary, leases with the times of their ends, and all changes that ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine()
        self.keys: dict[bytes, Key] = {}
        self.leases: dict[int, tuple[int, int]] = {}
        self.changes: list[op.Item] = []

    # --- what happens to both
    @rule(key=KEYS, value=VALUES, lease=some.integers(0, 2))
    def put(self, key: bytes, value: bytes, lease: int) -> None:
        lease = self._lease(lease)
        outcome = self.machine.do(op.Put(key, value, lease, previous=True))
        self._expire()
        before = self.keys.get(key)
        if lease and lease not in self.leases:
            assert outcome.error == op.NoLease.wire
            return
        assert outcome.previous == (None if before is None else _item(key, before))
        self._set(key, value, lease)

    @rule(key=KEYS, expected=some.one_of(some.none(), VALUES), value=VALUES)
    def compare_and_set(self, key: bytes, expected: bytes | None, value: bytes) -> None:
        outcome = self.machine.do(op.CompareAndSet(key, expected, value))
        self._expire()
        before = self.keys.get(key)
        assert outcome.done == ((None if before is None else before[0]) == expected)
        if outcome.done:
            self._set(key, value, 0)
        else:
            assert outcome.item == (None if before is None else _item(key, before))

    @rule(key=some.one_of(some.just(b""), KEYS), end=ENDS, limit=some.integers(0, 2))
    def delete(self, key: bytes, end: bytes | None, limit: int) -> None:
        outcome = self.machine.do(op.Delete(key, end, limit))
        self._expire()
        found = [each for each in sorted(self.keys) if is_in(each, key, end)]
        gone = found[: limit or None]
        assert (outcome.count, outcome.more) == (len(gone), len(gone) < len(found))
        self._remove(gone)

    @rule(conditions=some.lists(some.tuples(KEYS, some.integers(0, 2)), max_size=2), key=KEYS, other=KEYS)
    def transact(self, conditions: list[tuple[bytes, int]], key: bytes, other: bytes) -> None:
        asked = tuple(op.Condition(each, "version", "=", version) for each, version in conditions)
        outcome = self.machine.do(op.Transaction(asked, (op.Put(key, b"t"), op.Get(other)), (op.Delete(key),)))
        self._expire()
        holds = all(self.keys.get(each, (b"", 0, 0, 0, 0))[3] == version for each, version in conditions)
        assert outcome.succeeded == holds
        if holds:
            before = self.keys.get(other)
            assert outcome.answers[1].item == (None if before is None else _item(other, before))
            self._set(key, b"t", 0)
        else:
            self._remove([key] if key in self.keys else [])

    @rule(ttl=some.integers(1, 5))
    def grant(self, ttl: int) -> None:
        lease = self.machine.do(op.Grant(ttl * S)).lease
        self._expire()
        self.leases[lease] = (ttl * S, self.machine.time_ns + ttl * S)

    @rule(lease=some.integers(1, 2))
    def keep_alive(self, lease: int) -> None:
        lease = self._lease(lease) or 1
        outcome = self.machine.do(op.KeepAlive(lease))
        self._expire()
        assert isinstance(outcome, op.Granted) == (lease in self.leases)
        if lease in self.leases:
            ttl_ns = self.leases[lease][0]
            self.leases[lease] = (ttl_ns, self.machine.time_ns + ttl_ns)

    @rule(lease=some.integers(1, 2))
    def revoke(self, lease: int) -> None:
        lease = self._lease(lease) or 1
        outcome = self.machine.do(op.Revoke(lease))
        self._expire()
        assert isinstance(outcome, op.Deleted) == (lease in self.leases)
        if lease in self.leases:
            del self.leases[lease]
            self._remove([key for key in sorted(self.keys) if self.keys[key][4] == lease])

    @rule(seconds=some.integers(0, 3))
    def time_passes(self, seconds: int) -> None:
        self.machine.time_ns += seconds * S

    @precondition(lambda self: self.machine.index)
    @rule()
    def start_again_from_a_snapshot(self) -> None:
        self.machine.store = restored(self.machine.store)

    # --- what must be so
    @invariant()
    def items_are_those_of_the_model(self) -> None:
        found = self.machine.ask(op.Range(b"", b"")).items
        assert found == tuple(_item(key, self.keys[key]) for key in sorted(self.keys))
        assert self.machine.store.items.size == sum(len(key) + len(self.keys[key][0]) for key in self.keys)

    @invariant()
    def leases_are_those_of_the_model(self) -> None:
        assert self.machine.ask(op.GetLeases()).leases == tuple(sorted(self.leases))
        assert self.machine.store.due_ns == min((end for _, end in self.leases.values()), default=0)

    @invariant()
    def a_watch_from_the_beginning_tells_all_that_ever_was(self) -> None:
        changes = self.machine.watch(0, b"", b"", start=1)
        assert (() if changes is None else changes.items) == tuple(self.changes)
        self.machine.store.unwatch(0)

    # --- the model
    def _lease(self, choice: int) -> int:
        known = [0, *self.leases]
        return known[min(choice, len(known) - 1)]

    def _expire(self) -> None:
        """What had ended when the last entry came, ended before it."""
        ended = sorted((end, lease) for lease, (_, end) in self.leases.items() if end <= self.machine.time_ns)
        for _, lease in ended:
            del self.leases[lease]
            self._remove([key for key in sorted(self.keys) if self.keys[key][4] == lease])

    def _set(self, key: bytes, value: bytes, lease: int) -> None:
        revision = self.machine.index
        _, created, _, version, _ = self.keys.get(key, (b"", revision, 0, 0, 0))
        self.keys[key] = (value, created, revision, version + 1, lease)
        self.changes.append(_item(key, self.keys[key]))

    def _remove(self, keys: list[bytes]) -> None:
        for key in keys:
            del self.keys[key]
            self.changes.append(op.Item(key, b"", 0, self.machine.index, 0))


def _item(key: bytes, known: Key) -> op.Item:
    return op.Item(key, *known)


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_the_store_is_a_dictionary_with_a_history = Model.TestCase


@given(bodies=some.lists(some.binary(max_size=40), max_size=10))
@settings(max_examples=100, deadline=None)
def test_whatever_stands_in_the_log_is_answered(bodies: list[bytes]) -> None:
    store = Store()
    answers = store.apply([Entry(index, S, 1, body) for index, body in enumerate(bodies, 1)])

    for body, answer in zip(bodies, answers, strict=True):
        assert answer == b"" if not body else isinstance(op.decode_outcome(answer), op.Denied)


@given(
    batches=some.lists(some.lists(some.tuples(KEYS, VALUES), min_size=1, max_size=5), min_size=1, max_size=10),
    cut=some.integers(0, 10),
)
@settings(max_examples=50, deadline=None)
def test_replicas_answer_alike_one_of_which_was_restored(batches: list[list[tuple[bytes, bytes]]], cut: int) -> None:
    one, other = Store(), Store()
    index = 0
    for number, batch in enumerate(batches):
        entries = []
        for key, value in batch:
            index += 1
            entries.append(Entry(index, number * S, 1, encode(op.Put(key, value, previous=True))))
        if number == cut:
            other = restored(one)
        assert one.apply(entries) == other.apply(entries)
        assert one.digest() == other.digest()
