"""Sessions: a change is made once, answered alike every time, and refused when its session is over."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zactor.errors import Corrupt
from zactor.message import decoder, encode
from zactor.replication.messages import WINDOW, OutOfWindow, SessionExpired, Submit
from zactor.replication.sessions import (
    PART_SIZE,
    Answer,
    Sessions,
    Standing,
    encode_change,
    encode_end,
    encode_open,
    encode_own,
)
from zactor.statemachine import Entry


class Recorder:
    """A machine whose state is what it was told: each change must come once."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.batches: list[int] = []

    def apply(self, entries: Sequence[Entry]) -> list[bytes]:
        self.batches.append(len(entries))
        answers = []
        for entry in entries:
            self.seen.append((entry.index, entry.time_ns, entry.session, entry.body))
            answers.append(b"%d:%s" % (len(self.seen), entry.body))
        return answers

    def end_session(self, session: int) -> None:
        self.seen.append((session,))

    def query(self, body: bytes) -> bytes:
        raise AssertionError

    def events(self) -> list[Any]:
        return []

    def snapshot(self) -> Iterator[bytes]:
        yield encode(self.seen)

    def restore(self, parts: Iterable[bytes]) -> None:
        (part,) = parts
        self.seen = decoder(list[tuple[Any, ...]])(part)

    def digest(self) -> int:
        return sum(part for row in self.seen for part in (len(row), row[0])) & ((1 << 64) - 1)


TIME_NS = 10


class Log:
    """Sessions on a log in a list."""

    def __init__(self) -> None:
        self.machine = Recorder()
        self.sessions = Sessions(self.machine)
        self.records: list[tuple[int, tuple[bytes, ...]]] = []
        self.next = 1

    def apply(self, *payloads: bytes) -> list[Answer]:
        """The answers; to a submit of one change that one."""
        self.records.append((self.next, payloads))
        answers, self.next = self.sessions.apply(self.next, TIME_NS, payloads)
        return [each[0] if isinstance(each, tuple) and len(each) == 1 else each for each in answers]

    def open(self) -> int:
        (session,) = self.apply(encode_open())
        assert isinstance(session, int)
        return session


def change(session: int, sequence: int, body: bytes = b"x", acknowledged_below: int = 1) -> Submit:
    return Submit(session=session, sequence=sequence, acknowledged_below=acknowledged_below, bodies=(body,))


def record(session: int, sequence: int, body: bytes = b"x", acknowledged_below: int = 1) -> bytes:
    return encode_change(change(session, sequence, body, acknowledged_below))


@pytest.fixture
def log() -> Log:
    return Log()


# --- from the log
def test_a_session_is_named_by_where_it_was_opened(log: Log) -> None:
    assert log.apply(encode_open(), encode_own(b"o"), encode_open()) == [1, b"1:o", 3]
    assert log.sessions.ids() == (1, 3)


def test_a_change_reaches_the_machine_with_its_session_and_its_time(log: Log) -> None:
    session = log.open()

    assert log.apply(record(session, 1, b"a"), encode_own(b"b")) == [b"1:a", b"2:b"]
    assert log.machine.seen == [(2, TIME_NS, session, b"a"), (3, TIME_NS, 0, b"b")]


def test_changes_of_one_submit_have_an_index_and_an_answer_each(log: Log) -> None:
    session = log.open()
    submit = Submit(session=session, sequence=1, acknowledged_below=1, bodies=(b"a", b"b", b"c"))

    answers = log.apply(encode_own(b"o"), encode_change(submit), encode_own(b"p"), encode_change(submit))

    assert answers == [b"1:o", (b"2:a", b"3:b", b"4:c"), b"5:p", (b"2:a", b"3:b", b"4:c")]
    assert [row[0] for row in log.machine.seen] == [2, 3, 4, 5, 6]
    assert log.next == 10
    assert log.sessions.check(submit) == (b"2:a", b"3:b", b"4:c")


def test_a_change_that_stands_in_the_log_twice_is_made_once(log: Log) -> None:
    session = log.open()

    answers = log.apply(record(session, 1, b"a"), record(session, 1, b"a"), record(session, 2, b"b"))
    answers += log.apply(record(session, 1, b"a"))

    assert answers == [b"1:a", b"1:a", b"2:b", b"1:a"]
    assert len(log.machine.seen) == 2


def test_changes_need_not_come_in_order(log: Log) -> None:
    session = log.open()

    assert log.apply(record(session, 3), record(session, 1), record(session, 2)) == [b"1:x", b"2:x", b"3:x"]


def test_changes_that_follow_each_other_come_to_the_machine_at_once(log: Log) -> None:
    log.apply(encode_open(), encode_open())
    log.apply(record(1, 1), record(2, 1), encode_own(b""), record(1, 2), encode_end(2), record(1, 3), record(2, 2))

    assert log.machine.batches == [4, 1]


def test_an_acknowledged_answer_is_forgotten_and_its_change_refused(log: Log) -> None:
    session = log.open()
    log.apply(record(session, 1), record(session, 2), record(session, 3, acknowledged_below=2))

    first, second = log.apply(record(session, 1), record(session, 2))
    assert isinstance(first, OutOfWindow)
    assert second == b"2:x"
    assert len(log.machine.seen) == 3


def test_a_change_too_far_ahead_is_refused(log: Log) -> None:
    session = log.open()

    last, ahead = log.apply(record(session, WINDOW), record(session, WINDOW + 1))
    assert last == b"1:x"
    assert isinstance(ahead, OutOfWindow)
    assert log.apply(record(session, WINDOW + 1, acknowledged_below=2)) == [b"2:x"]


def test_what_is_acknowledged_beyond_the_change_itself_does_no_harm(log: Log) -> None:
    session = log.open()

    assert log.apply(record(session, 2, acknowledged_below=1 << 60)) == [b"1:x"]
    assert log.apply(record(session, 3)) == [b"2:x"]


def test_after_its_end_a_session_is_refused_in_the_order_of_the_log(log: Log) -> None:
    session = log.open()

    before, end, after, again = log.apply(
        record(session, 1, b"a"), encode_end(session), record(session, 2), encode_end(session)
    )

    assert (before, end, again) == (b"1:a", None, None)
    assert isinstance(after, SessionExpired)
    assert log.machine.seen == [(2, TIME_NS, session, b"a"), (session,)]
    assert log.sessions.ids() == ()


def test_a_session_that_never_was_is_refused(log: Log) -> None:
    (answer,) = log.apply(record(7, 1))

    assert isinstance(answer, SessionExpired)
    assert log.machine.seen == []


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x91\x09", b"\x92\x01\x02", encode_end(1) + b"\x00"])
def test_a_record_that_is_none_is_corrupt(log: Log, payload: bytes) -> None:
    with pytest.raises(Corrupt):
        log.apply(payload)


# --- before the log
def test_a_change_is_new_then_under_way_then_answered(log: Log) -> None:
    session = log.open()
    check = log.sessions.check

    assert check(change(session, 1)) is Standing.NEW
    assert check(change(session, 1)) is Standing.UNDER_WAY
    assert check(change(session, 2)) is Standing.NEW
    log.apply(record(session, 1, b"a"))
    assert check(change(session, 1)) == (b"1:a",)
    assert check(change(session, 2)) is Standing.UNDER_WAY


def test_a_change_that_did_not_get_into_the_log_is_new_again(log: Log) -> None:
    session = log.open()
    log.sessions.check(change(session, 1))
    log.sessions.withdraw(session, 1)
    log.sessions.withdraw(99, 1)

    assert log.sessions.check(change(session, 1)) is Standing.NEW


def test_what_the_log_would_refuse_is_refused_before(log: Log) -> None:
    session = log.open()
    log.apply(record(session, 1), record(session, 2, acknowledged_below=2))

    with pytest.raises(OutOfWindow):
        log.sessions.check(change(session, 1))
    with pytest.raises(OutOfWindow):
        log.sessions.check(change(session, WINDOW + 2))
    with pytest.raises(SessionExpired):
        log.sessions.check(change(session + 1, 1))
    assert log.sessions.check(change(session, WINDOW + 2, acknowledged_below=3)) is Standing.NEW


def test_the_window_moves_with_what_a_change_acknowledges_itself(log: Log) -> None:
    session = log.open()
    submits = [change(session, sequence, b"x", max(1, sequence - 10)) for sequence in range(1, 3 * WINDOW)]
    for submit in submits:
        assert log.sessions.check(submit) is Standing.NEW
        assert isinstance(log.apply(encode_change(submit))[0], bytes)

    part = next(iter(log.sessions.snapshot()))
    assert len(part) < 400, "acknowledged answers are forgotten"


# --- snapshots
def restored(log: Log) -> Log:
    other = Log()
    other.sessions.restore(list(log.sessions.snapshot()))
    other.records = list(log.records)
    return other


def test_answers_survive_in_a_snapshot(log: Log) -> None:
    first, second = log.open(), log.open()
    log.apply(*(record(first, sequence, b"%d" % sequence) for sequence in range(1, 600)), record(second, 5))
    log.apply(record(first, 600, acknowledged_below=3))
    other = restored(log)

    assert other.sessions.digest() == log.sessions.digest()
    assert other.sessions.ids() == (first, second)
    assert other.sessions.check(change(first, 599)) == (b"599:599",)
    assert other.apply(record(first, 2))[0].__class__ is OutOfWindow
    assert other.apply(record(second, 5)) == [b"600:x"]
    assert other.machine.seen == log.machine.seen


def test_a_part_of_a_snapshot_is_not_large(log: Log) -> None:
    session = log.open()
    for sequence in range(1, 101):
        log.apply(record(session, sequence, bytes(50_000)))
    parts = list(log.sessions.snapshot())[:-1]

    assert max(map(len, parts)) < PART_SIZE + 60_000
    assert restored(log).sessions.digest() == log.sessions.digest()


def test_a_snapshot_is_the_state_at_its_call(log: Log) -> None:
    session = log.open()
    log.apply(record(session, 1))
    digest = log.sessions.digest()
    parts = log.sessions.snapshot()
    log.apply(record(session, 2, acknowledged_below=2))
    # The machine here streams as it is when it is read; its own tests say that it freezes. The sessions do.
    sessions_alone = next(parts)
    log.sessions.restore([sessions_alone, *list(parts)])

    assert log.sessions.digest() != digest
    assert log.sessions.check(change(session, 1)) == (b"1:x",)
    assert log.sessions.check(change(session, 2)) is Standing.NEW


def test_what_is_under_way_is_no_part_of_the_state(log: Log) -> None:
    session = log.open()
    digest = log.sessions.digest()
    log.sessions.check(change(session, 1))

    assert log.sessions.digest() == digest
    assert restored(log).sessions.check(change(session, 1)) is Standing.NEW


def test_a_damaged_snapshot_is_refused(log: Log) -> None:
    log.open()
    parts = list(log.sessions.snapshot())

    for damaged in ([], parts[:1], [b"\xc1", *parts[1:]]):
        with pytest.raises((Corrupt, ValueError)):
            Log().sessions.restore(damaged)


# --- by chance
@given(st.integers(0, 1 << 30), st.integers(1, 40))
def test_whatever_is_sent_again_is_made_once_and_answered_alike(seed: int, count: int) -> None:
    """Clients send again at will, the host restarts from snapshots, and applies in batches of any size."""
    chance = random.Random(seed)
    log = Log()
    session = log.open()
    answers: dict[int, set[Answer]] = {}
    todo = [sequence for sequence in range(1, count + 1) for _ in range(chance.choice([1, 1, 2, 3]))]
    chance.shuffle(todo)
    while todo:
        batch = [todo.pop() for _ in range(min(len(todo), chance.choice([1, 2, 5])))]
        made = log.apply(*(record(session, sequence, b"%d" % sequence) for sequence in batch))
        for sequence, answer in zip(batch, made, strict=True):
            answers.setdefault(sequence, set()).add(answer)
        if chance.random() < 0.2:
            log = restored(log)

    assert all(len(found) == 1 for found in answers.values())
    assert sorted(int(row[3]) for row in log.machine.seen) == list(range(1, count + 1))


@given(st.integers(0, 1 << 30))
def test_how_the_log_is_cut_into_batches_makes_no_difference(seed: int) -> None:
    chance = random.Random(seed)
    payloads = [encode_open(), encode_open()]
    for _ in range(60):
        session, sequence = chance.choice([1, 1, 2, 9]), chance.randrange(1, 20)
        ended = encode_end(session) if chance.random() < 0.05 else encode_own(b"own")
        changed = record(session, sequence, b"%d" % sequence, chance.randrange(1, 12))
        payloads.append(changed if chance.random() < 0.9 else ended)
    whole, cut = Log(), Log()
    answers = whole.apply(*payloads)
    again: list[Answer] = []
    while len(again) < len(payloads):
        again += cut.apply(*payloads[len(again) : len(again) + chance.randrange(1, 6)])

    assert [answer if isinstance(answer, bytes) else type(answer) for answer in again] == [
        answer if isinstance(answer, bytes) else type(answer) for answer in answers
    ]
    assert cut.machine.seen == whole.machine.seen
    assert cut.sessions.digest() == whole.sessions.digest()
