"""The store, feature by feature: each operation, each question, each bound."""

from __future__ import annotations

import pytest

from nodes.kv import backlog, items, leases, watches
from nodes.kv import operations as op
from nodes.kv import store as stores
from tests.nodes.kv.machine import Machine, S, denied
from zactor.errors import Refused
from zactor.message import encode

MIB = 1 << 20


# --- the digest
@pytest.mark.parametrize("unweighed_max", [2, items.UNWEIGHED_MAX])
def test_items_weigh_what_they_are_whenever_they_are_weighed(
    unweighed_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items, "UNWEIGHED_MAX", unweighed_max)
    machine = Machine()
    for number in range(40):
        machine.put(b"k%d" % (number % 7), b"%d" % number)
        if number % 5 == 0:
            machine.do(op.Delete(b"k%d" % (number % 3)))
        held = machine.store.items
        if number % 9 == 0:
            assert held.weight == items.Items(held.by_key.values()).weight

    assert held.weight == items.Items(held.by_key.values()).weight


# --- puts
def test_a_put_has_the_revision_of_its_entry_and_counts_versions() -> None:
    machine = Machine()
    first = machine.put(b"a", b"1")
    machine.put(b"b", b"-")
    last = machine.put(b"a", b"2")

    assert machine.get(b"a") == op.Item(b"a", b"2", first, last, 2)
    assert machine.ask(op.Get(b"a")).revision == last == machine.index


def test_a_put_tells_what_was_there_when_it_is_asked_to() -> None:
    machine = Machine()

    assert machine.do(op.Put(b"a", b"1", previous=True)).previous is None
    assert machine.do(op.Put(b"a", b"2", previous=True)).previous.value == b"1"
    assert machine.do(op.Put(b"a", b"3")).previous is None


@pytest.mark.parametrize(
    "body",
    [
        b"\xc1",
        encode(op.Put(b"", b"")),
        encode(op.Put(b"a" * (op.KEY_SIZE_MAX + 1), b"")),
        encode(op.Put(b"a", b"x" * (op.VALUE_SIZE_MAX + 1))),
        encode(op.Get(b"a")),
        encode(["put", b"a"]),
        encode(op.Grant(1)),
    ],
    ids=["no msgpack", "empty key", "long key", "long value", "a question", "too short", "short lease"],
)
def test_a_body_that_makes_no_sense_is_answered_and_changes_nothing(body: bytes) -> None:
    machine = Machine()
    machine.put(b"a")
    before = machine.store.items.weight

    assert denied(machine.do(body)) is Refused
    assert machine.store.items.weight == before


def test_a_full_store_takes_what_makes_it_no_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "STORE_SIZE_MAX", 10)
    machine = Machine()
    machine.put(b"a", b"12345")

    assert denied(machine.do(op.Put(b"b", b"12345"))) is op.StoreFull
    assert denied(machine.do(op.Transaction(success=(op.Put(b"b", b"12"), op.Put(b"c", b"12"))))) is op.StoreFull
    assert machine.put(b"a", b"54321")
    assert machine.do(op.Delete(b"a")).count == 1
    assert machine.put(b"b", b"12345")


# --- deletions
def test_a_range_is_deleted_and_a_limit_says_what_is_left() -> None:
    machine = Machine()
    for key in (b"a", b"b", b"c", b"d"):
        machine.put(key, key * 2)

    outcome = machine.do(op.Delete(b"b", b"", limit=2, previous=True))
    assert (outcome.count, outcome.more, [item.value for item in outcome.previous]) == (2, True, [b"bb", b"cc"])
    assert machine.do(op.Delete(b"b")).count == 0
    assert machine.keys() == [b"a", b"d"]


def test_more_keys_than_one_turn_may_take_are_deleted_with_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "DELETE_KEYS_MAX", 3)
    machine = Machine()
    for number in range(4):
        machine.put(b"%d" % number)

    assert denied(machine.do(op.Delete(b"", b""))) is op.TooMuch
    assert machine.do(op.Delete(b"", b"", limit=3)).more
    assert machine.keys() == [b"3"]


# --- compare and set
def test_compare_and_set_puts_only_over_what_was_expected() -> None:
    machine = Machine()

    assert machine.do(op.CompareAndSet(b"a", b"", b"1")) == op.Swapped(3, False)
    assert machine.do(op.CompareAndSet(b"a", None, b"1")) == op.Swapped(6, True)
    assert machine.do(op.CompareAndSet(b"a", None, b"2")) == op.Swapped(9, False, op.Item(b"a", b"1", 6, 6, 1))
    assert machine.do(op.CompareAndSet(b"a", b"1", b"2")).done
    assert machine.get(b"a") == op.Item(b"a", b"2", 6, 12, 2)


# --- transactions
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (op.Condition(b"a", "value", "=", b"1"), True),
        (op.Condition(b"a", "value", "<", b"2"), True),
        (op.Condition(b"a", "value", "!=", b"1"), False),
        (op.Condition(b"a", "version", "=", 2), True),
        (op.Condition(b"a", "version", ">", 2), False),
        (op.Condition(b"a", "created", "=", 3), True),
        (op.Condition(b"a", "modified", "=", 6), True),
        (op.Condition(b"a", "lease", "=", 0), True),
        (op.Condition(b"none", "version", "=", 0), True),
        (op.Condition(b"none", "value", "!=", b""), True),
        (op.Condition(b"none", "value", "=", b""), False),
        (op.Condition(b"none", "value", "<", b"z"), False),
    ],
    ids=str,
)
def test_a_transaction_asks_for_conditions(condition: op.Condition, expected: bool) -> None:
    machine = Machine()
    machine.put(b"a", b"0")
    machine.put(b"a", b"1")

    outcome = machine.do(op.Transaction((condition,), (op.Get(b"a"),), ()))
    assert (outcome.succeeded, len(outcome.answers)) == (expected, int(expected))


def test_a_transaction_is_one_revision_and_its_questions_see_the_state_before() -> None:
    machine = Machine()
    machine.put(b"a", b"old")

    outcome = machine.do(
        op.Transaction(success=(op.Put(b"a", b"new"), op.Get(b"a"), op.Delete(b"b", b"c"), op.Put(b"c", b"")))
    )
    assert [type(answer) for answer in outcome.answers] == [op.Written, op.Found, op.Deleted, op.Written]
    assert outcome.answers[1].item.value == b"old"
    assert {item.modified for item in machine.ask(op.Range(b"", b"")).items} == {outcome.revision}


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ((op.Put(b"a", b""), op.Put(b"a", b"")), op.Conflicting),
        ((op.Put(b"b", b""), op.Delete(b"a", b"c")), op.Conflicting),
        ((op.Put(b"b", b""), op.Put(b"c", b"", lease=99)), op.NoLease),
    ],
    ids=["two puts", "put and delete", "no lease"],
)
def test_a_transaction_that_is_refused_changes_nothing(steps: tuple[op.Step, ...], error: type[Refused]) -> None:
    machine = Machine()
    machine.put(b"b", b"1")
    before = machine.store.items.weight

    assert denied(machine.do(op.Transaction(success=steps))) is error
    assert denied(machine.do(op.Transaction((op.Condition(b"b", "version", "=", 0),), failure=steps))) is error
    assert machine.store.items.weight == before


def test_a_condition_that_compares_a_number_with_bytes_is_refused() -> None:
    machine = Machine()

    assert denied(machine.do(op.Transaction((op.Condition(b"a", "version", "=", b""),)))) is Refused
    assert denied(machine.do(op.Transaction((op.Condition(b"a", "value", "=", 1),)))) is Refused


def test_a_transaction_that_has_too_much_to_say_is_refused() -> None:
    machine = Machine()
    for key in (b"a", b"b", b"c", b"d", b"e"):
        machine.put(key, b"x" * MIB)
    gets = tuple(op.Get(key) for key in (b"a", b"b", b"c", b"d", b"e"))

    assert denied(machine.do(op.Transaction(success=(*gets, op.Put(b"f", b""))))) is op.TooMuch
    assert denied(machine.do(op.Delete(b"", b"", previous=True))) is op.TooMuch
    assert len(machine.keys()) == len(machine.ask(op.Range(b"", b"")).items) < 5


# --- leases
def test_a_lease_ends_by_the_time_of_entries_and_takes_its_keys() -> None:
    machine = Machine()
    lease = machine.do(op.Grant(10 * S)).lease
    assert machine.store.due_ns == machine.time_ns + 10 * S
    machine.put(b"a", lease=lease)
    machine.put(b"b", lease=lease)
    machine.put(b"b")

    machine.wait(9)
    assert machine.ask(op.GetLease(lease)) == op.Lease(machine.index, lease, 10 * S, S, (b"a",))
    assert machine.keys() == [b"a", b"b"]
    machine.wait(1)
    assert machine.keys() == [b"b"]
    assert machine.store.due_ns == 0
    with pytest.raises(op.NoLease):
        machine.ask(op.GetLease(lease))


def test_a_lease_that_ends_is_over_before_the_entry_that_is_late_enough() -> None:
    machine = Machine()
    lease = machine.do(op.Grant(S)).lease
    machine.put(b"a", b"old", lease)
    machine.time_ns += S

    late, new = machine.batch(op.KeepAlive(lease), op.Put(b"a", b"new"))
    assert denied(late) is op.NoLease
    assert machine.get(b"a") == op.Item(b"a", b"new", new.revision, new.revision, 1)
    changes = machine.watch(1, b"a", start=1)
    assert changes is not None
    assert [(item.modified, item.version) for item in changes.items][1:] == [(late.revision, 0), (new.revision, 1)]


def test_a_lease_that_is_kept_alive_begins_anew() -> None:
    machine = Machine()
    first, second = machine.do(op.Grant(10 * S)).lease, machine.do(op.Grant(12 * S)).lease
    machine.time_ns += 5 * S
    assert machine.do(op.KeepAlive(first)) == op.Granted(machine.index, first, 10 * S)

    assert machine.store.due_ns == 13 * S
    machine.wait(7)
    assert machine.ask(op.GetLeases()).leases == (first,)
    assert machine.store.due_ns == 16 * S
    assert second not in machine.store.leases.by_id


def test_a_lease_can_be_revoked_and_then_is_not_there() -> None:
    machine = Machine()
    lease = machine.do(op.Grant(10 * S)).lease
    machine.put(b"b", lease=lease)
    machine.put(b"a", lease=lease)

    assert machine.do(op.Revoke(lease)).count == 2
    assert denied(machine.do(op.Revoke(lease))) is op.NoLease
    assert denied(machine.do(op.Put(b"a", b"", lease))) is op.NoLease
    assert (machine.keys(), machine.store.due_ns) == ([], 0)


def test_leases_and_their_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASES_MAX", 2)
    monkeypatch.setattr(leases, "LEASE_KEYS_MAX", 2)
    machine = Machine()
    lease, _ = machine.do(op.Grant(S)).lease, machine.do(op.Grant(S)).lease

    assert denied(machine.do(op.Grant(S))) is op.TooMuch
    machine.put(b"a", lease=lease)
    assert (
        denied(machine.do(op.Transaction(success=(op.Put(b"b", b"", lease), op.Put(b"c", b"", lease))))) is op.TooMuch
    )
    machine.put(b"b", lease=lease)
    assert denied(machine.do(op.Put(b"c", b"", lease))) is op.TooMuch
    machine.put(b"b", b"again", lease)


# --- questions
def test_a_range_comes_in_pages_that_say_whether_there_is_more(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    for number in range(9):
        machine.put(b"%d" % number, b"x" * 100)

    page = machine.ask(op.Range(b"2", b"7", limit=3))
    assert ([item.key for item in page.items], page.more) == ([b"2", b"3", b"4"], True)
    page = machine.ask(op.Range(b"4\0", b"7", limit=3))
    assert ([item.key for item in page.items], page.more) == ([b"5", b"6"], False)
    assert machine.ask(op.Range(b"2", None)).items[0].key == b"2"
    assert machine.ask(op.Range(b"2", keys_only=True)).items[0].value == b""
    assert [machine.ask(op.Count(*each)).count for each in ((b"2", b"7"), (b"2", b""), (b"2", None), (b"7", b"2"))] == [
        5, 7, 1, 0,
    ]  # fmt: skip
    monkeypatch.setattr(op, "PAGE_SIZE", 250)
    assert len(machine.ask(op.Range(b"", b"")).items) == 3


def test_the_oldest_and_the_newest_key_of_a_range_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    created = {key: machine.put(key) for key in (b"l/2", b"l/1", b"l/3")}
    machine.put(b"l/2", b"changed")
    where = (b"l/", op.prefix_end(b"l/"))

    assert machine.ask(op.Oldest(*where)).item.key == b"l/2"
    assert machine.ask(op.Newest(*where)).item.key == b"l/3"
    assert machine.ask(op.Newest(*where, created_below=created[b"l/3"])).item.key == b"l/1"
    assert machine.ask(op.Newest(*where, created_below=created[b"l/2"])).item is None
    monkeypatch.setattr(op, "SCAN_KEYS_MAX", 2)
    with pytest.raises(op.TooMuch):
        machine.ask(op.Oldest(*where))


def test_a_question_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(Refused, match="no question"):
        Machine().store.query(encode(op.Put(b"a", b"")))
    with pytest.raises(Refused, match="no watch"):
        Machine().store.watch(1, encode(op.Get(b"a")))


def test_the_status_says_how_large_it_is() -> None:
    machine = Machine()
    machine.put(b"abc", b"12345")
    machine.do(op.Grant(S))

    status = machine.ask(op.GetStatus())
    assert (status.keys, status.size, status.leases, status.changes, status.compacted) == (1, 8, 1, 1, 0)
    assert (status.revision, status.time_ns, status.digest) == (6, S, machine.store.digest())


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", b""), (b"", b""), (b"ab", b"ac")]
)
def test_the_end_of_a_prefix(prefix: bytes, end: bytes) -> None:
    assert op.prefix_end(prefix) == end


# --- watches
def test_a_watch_from_now_is_told_where_that_is() -> None:
    machine = Machine()
    revision = machine.put(b"a")

    assert machine.watch(1, b"a") == op.Changes(revision)


def test_a_watch_waits_for_its_own_changes_and_is_answered_once() -> None:
    machine = Machine()
    start = machine.put(b"b") + 1
    assert machine.watch(1, b"a", start=start) is None
    assert machine.watch(2, b"a", b"c", start=start) is None
    assert machine.watch(3, b"z", start=start) is None

    machine.put(b"c")
    assert machine.told == {}
    _, second = machine.batch(op.Put(b"a", b"1"), op.Put(b"b", b"2"))
    assert [item.key for item in machine.told[1].items] == [b"a"]
    assert [item.key for item in machine.told[2].items] == [b"a", b"b"]
    assert machine.told[1].revision == machine.told[2].revision == second.revision
    assert sorted(machine.told) == [1, 2]
    machine.told.clear()
    machine.put(b"a")
    assert machine.told == {}


def test_a_watch_of_the_past_is_answered_at_once_with_deletions() -> None:
    machine = Machine()
    first = machine.put(b"a", b"1")
    machine.put(b"z")
    last = machine.do(op.Delete(b"a")).revision

    changes = machine.watch(1, b"a", start=first)
    assert changes == op.Changes(last, (op.Item(b"a", b"1", first, first, 1), op.Item(b"a", b"", 0, last, 0)))


def test_a_watch_of_the_future_does_not_see_what_comes_before() -> None:
    machine = Machine()
    machine.put(b"a")
    assert machine.watch(1, b"a", start=10) is None

    machine.batch(op.Put(b"a", b"6"), op.Put(b"a", b"9"))
    assert machine.told == {}
    machine.batch(op.Put(b"a", b"12"))
    assert [item.value for item in machine.told[1].items] == [b"12"]


def test_one_that_nobody_waits_for_is_not_told() -> None:
    machine = Machine()
    start = machine.put(b"a") + 1
    machine.watch(1, b"a", start=start)
    machine.store.unwatch(1)
    machine.store.unwatch(2)
    machine.put(b"a")

    assert machine.told == {}
    assert len(machine.store._watches) == 0


def test_a_watch_from_what_is_forgotten_is_refused_with_where_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "STRIDE", 1)
    monkeypatch.setattr(backlog, "KEEP_SHARE", 4)
    monkeypatch.setattr(backlog, "CHANGES_MAX", 8)
    machine = Machine()
    for number in range(10):
        machine.put(b"%d" % number)

    with pytest.raises(op.Compacted, match="from revision 10 on, not from 1") as caught:
        machine.watch(1, b"", b"", start=1)
    changes = machine.watch(1, b"", b"", start=int(caught.value.detail))
    assert changes is not None
    assert [item.key for item in changes.items] == [b"%d" % number for number in range(3, 10)]


def test_the_changes_of_a_transaction_are_forgotten_together_and_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "STRIDE", 1)
    monkeypatch.setattr(backlog, "KEEP_SHARE", 4)
    monkeypatch.setattr(backlog, "CHANGES_MAX", 8)
    monkeypatch.setattr(watches, "ANSWER_CHANGES_MAX", 2)
    machine = Machine()
    together = tuple(op.Put(b"%d" % number, b"") for number in range(5))
    first = machine.do(op.Transaction(success=together)).revision
    second = machine.do(op.Transaction(success=together)).revision
    machine.put(b"z")

    assert machine.store.backlog.compacted == first
    changes = machine.watch(1, b"", b"", start=second)
    assert changes is not None
    assert (changes.revision, len(changes.items)) == (second, 5)


def test_bytes_of_changes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "STRIDE", 1)
    monkeypatch.setattr(backlog, "KEEP_SHARE", 4)
    monkeypatch.setattr(backlog, "CHANGES_SIZE_MAX", 4_000)
    machine = Machine()
    for number in range(100):
        machine.put(b"a", b"%0500d" % number)
        assert machine.store.backlog.size <= 4_000 + 601
    assert machine.store.backlog.size == backlog._size(machine.store.backlog.changes) > 2_000


def test_a_quiet_watch_is_told_how_far_it_came_before_that_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "CHANGES_MAX", 40)
    monkeypatch.setattr(watches, "QUIET_MAX", 10)
    machine = Machine()
    start = machine.put(b"a") + 1
    for number in range(100):
        if machine.watch(number, b"quiet", start=start) is None:
            machine.put(b"a")
        for changes in machine.told.values():
            assert changes.items == ()
            start = changes.revision + 1
        machine.told.clear()


def test_a_watch_far_behind_looks_at_a_bounded_number_of_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "SCAN_MAX", 10)
    machine = Machine()
    for _ in range(25):
        machine.put(b"a")
    last = machine.put(b"quiet")

    asked_for = []
    start = 1
    while start <= last:
        changes = machine.watch(1, b"quiet", start=start)
        assert changes is not None
        asked_for.append(len(changes.items))
        start = changes.revision + 1
    assert asked_for == [0, 0, 1]


def test_watches_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "WATCHES_MAX", 1)
    machine = Machine()
    start = machine.put(b"a") + 1
    machine.watch(1, b"a", start=start)

    with pytest.raises(op.TooMuch):
        machine.watch(2, b"a", start=start)


# --- the whole
def test_an_entry_of_the_host_says_only_what_time_it_is() -> None:
    machine = Machine()
    machine.time_ns = 7 * S

    assert machine.do(b"") is None
    assert (machine.store.time_ns, machine.store.revision) == (7 * S, 3)


def test_the_end_of_a_session_takes_nothing_away() -> None:
    machine = Machine()
    machine.put(b"a")
    machine.store.end_session(1)

    assert machine.keys() == [b"a"]
    assert stores.Store().due_ns == 0
