"""A host: exactly what was answered is there after any crash, and nothing else holds it up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any

import pytest

from zactor.actor import Actor, on
from zactor.door import Later
from zactor.errors import DiskFull, Overloaded
from zactor.journal import origin_of, record
from zactor.message import Message, decoder, encode
from zactor.replication.host import Host, TakeSnapshot
from zactor.replication.messages import EndSession, NoSpace, OpenSession, Query, Renew, SessionExpired, Submit
from zactor.replication.replica import Beat
from zactor.replication.sessions import Sessions
from zactor.replication.storage import Head
from zactor.sim.disk import Machine
from zactor.sim.heap import Chance
from zactor.sim.virtual import SYNC_NS, Virtual
from zactor.statemachine import Entry
from zactor.world import Append, Operation, Remove, Sync, SyncFolder

LEASE_NS = 8 * 10**9
JOURNAL = ("host", "journal.1")
_decode_items = decoder(tuple[bytes, ...])


class Ledger:
    """A machine that keeps what it is told, in order, and of whom. A part of its snapshot has two of them."""

    def __init__(self) -> None:
        self.items: list[bytes] = []
        self.times: list[int] = []
        self.ended: list[int] = []

    def apply(self, entries: Sequence[Entry]) -> list[bytes]:
        answers = []
        for entry in entries:
            self.items.append(entry.body)
            self.times.append(entry.time_ns)
            answers.append(b"%d" % len(self.items))
        return answers

    def end_session(self, session: int) -> None:
        self.ended.append(session)

    def query(self, body: bytes) -> bytes:
        return encode(self.items)

    def events(self) -> list[Any]:
        return []

    def snapshot(self) -> Iterator[bytes]:
        items = list(self.items)
        return (encode(items[start : start + 2]) for start in range(0, len(items), 2))

    def restore(self, parts: Iterable[bytes]) -> None:
        self.items = [item for part in parts for item in _decode_items(part)]

    def digest(self) -> int:
        return hash(tuple(self.items))


class Propose(Message[bytes]):
    body: bytes


class Hosted(Actor):
    """An actor that runs a ledger."""

    snapshot_size: int = 1 << 20

    _host: Host
    _ledger: Ledger
    _refused: tuple[str, ...] = ()

    async def on_start(self) -> None:
        self._ledger = Ledger()
        self._host = Host(
            self, Sessions(self._ledger), lease_ns=LEASE_NS, snapshot_size=self.snapshot_size, on_events=lambda _: None
        )
        await self._host.recover()

    @on
    def open_session(self, message: OpenSession) -> Later[int]:
        return self._host.replica.open_session()

    @on
    def renew(self, message: Renew) -> None:
        self._host.replica.renew(message)

    @on
    def end_session(self, message: EndSession) -> Later[None]:
        return self._host.replica.end_session(message)

    @on
    def submit(self, message: Submit) -> Later[tuple[bytes, ...]]:
        return self._host.replica.submit(message)

    @on
    def query(self, message: Query) -> bytes:
        return self._host.query(message)

    @on
    def propose(self, message: Propose) -> Later[bytes]:
        later: Later[bytes] = self.later()
        self._host.propose(message.body, lambda answer: later.reply(answer if isinstance(answer, bytes) else b"full"))
        return later

    @on
    def beat(self, message: Beat) -> None:
        self._host.replica.beat()

    @on(interleave=True)
    async def snapshot(self, message: TakeSnapshot) -> None:
        await self._host.take_snapshot()

    def on_turn_end(self) -> None:
        self._host.on_turn_end()

    def on_synced(self, write_id: int) -> None:
        self._host.on_synced(write_id)

    def on_disk_failed(self, error: Exception) -> None:
        self._host.on_disk_failed(error)


class Worst(Chance):
    """Nothing stays that was not synced."""

    def below(self, end: int) -> int:
        return 0


class PowerDisk(Machine):
    """A disk that keeps what was synced, and of the rest a random part, when the power fails."""

    def __init__(self, virtual: Virtual, seed: int) -> None:
        super().__init__(Chance(Random(seed)), Counter())
        self._virtual = virtual
        self._under_way: list[tuple[int, Operation, Any]] = []
        self.syncs = 0
        self.keeps_all = False  # nothing is removed: as if each time it was killed just before

    def perform(self, operation: Operation) -> Any:
        self._complete()
        if isinstance(operation, Remove) and self.keeps_all:
            return False
        if isinstance(operation, Sync | SyncFolder):
            self.syncs += 1
            self._under_way.append((self._virtual.now_ns + SYNC_NS, operation, self.mark(operation)))
        try:
            return super().perform(operation)
        except DiskFull:
            if isinstance(operation, Append):  # as a real one: what there was room for is written
                fits = operation.data[: self.free_bytes()]
                super().perform(Append(operation.folder, operation.file, fits))
            raise

    def lose_power(self) -> None:
        self._complete()
        self._under_way.clear()
        super().lose_power()

    def _complete(self) -> None:
        while self._under_way and self._under_way[0][0] <= self._virtual.now_ns:
            _, operation, marks = self._under_way.pop(0)
            self.settle(operation, marks)


class Stage:
    """A host in one process, and who asks it in another."""

    def __init__(self, seed: int = 1, **settings: Any) -> None:
        self.virtual = Virtual()
        self.disk = PowerDisk(self.virtual, seed)
        self.virtual.disk = self.disk
        self.settings = settings
        for process in ("host", "user"):
            self.virtual.add(process)
        self.virtual.processes["host"].kernel.life.add("host", Hosted, dict(settings))
        self.virtual.start()
        self.virtual.run(seconds=0.01)

    def begin(self, message: Message[Any], timeout_s: float = 60.0) -> Any:
        """An ask that is under way."""
        outside = self.virtual.outside("user")
        asking: Any = outside.ask(outside.to("host"), message, timeout_s)
        asking.notify = lambda _wait: None
        return asking

    def ask(self, message: Message[Any]) -> Any:
        return self.virtual.result(self.begin(message))

    def submit(self, session: int, sequence: int, body: bytes, acknowledged_below: int = 0) -> Any:
        return self.begin(
            Submit(session=session, sequence=sequence, acknowledged_below=acknowledged_below, bodies=(body,))
        )

    def items(self) -> list[bytes]:
        return list(_decode_items(self.ask(Query(body=b""))))

    def kill(self) -> None:
        self.virtual.kill("host")

    def restart(self) -> None:
        self.virtual.restart("host")
        self.virtual.processes["host"].kernel.life.add("host", Hosted, dict(self.settings))
        self.virtual.start()
        self.virtual.run(seconds=0.01)

    def hosted(self) -> Hosted:
        actor = self.virtual.processes["host"].kernel.cells["host"].actor
        assert isinstance(actor, Hosted)
        return actor

    def events(self, name: str) -> list[dict[str, Any]]:
        return [fields for _, _, event, fields in self.virtual.logs if event == name]

    def files(self) -> list[str]:
        return sorted(file for folder, file in self.disk.files if folder == "host")


@pytest.fixture
def stage() -> Stage:
    return Stage()


# --- exactly once
def test_a_change_is_answered_by_the_machine(stage: Stage) -> None:
    session = stage.ask(OpenSession())

    assert stage.virtual.result(stage.submit(session, 1, b"a")) == (b"1",)
    assert stage.items() == [b"a"]


def test_a_change_that_is_sent_again_is_made_once_and_answered_twice(stage: Stage) -> None:
    session = stage.ask(OpenSession())
    first, second = stage.submit(session, 1, b"a"), stage.submit(session, 1, b"a")

    assert (stage.virtual.result(first), stage.virtual.result(second)) == ((b"1",), (b"1",))
    assert stage.virtual.result(stage.submit(session, 1, b"a")) == (b"1",)
    assert stage.items() == [b"a"]


def test_a_change_that_is_sent_again_after_a_restart_is_made_once(stage: Stage) -> None:
    session = stage.ask(OpenSession())
    stage.virtual.result(stage.submit(session, 1, b"a"))
    stage.kill()
    stage.restart()

    assert stage.virtual.result(stage.submit(session, 1, b"a")) == (b"1",)
    assert stage.items() == [b"a"]


def test_changes_that_come_during_a_sync_share_the_next_one(stage: Stage) -> None:
    session = stage.ask(OpenSession())
    before = stage.disk.syncs
    asked = [stage.submit(session, number, b"%d" % number) for number in range(1, 101)]

    assert [stage.virtual.result(each) for each in asked] == [(b"%d" % number,) for number in range(1, 101)]
    assert stage.disk.syncs - before <= 3


def test_the_time_of_changes_never_goes_back(stage: Stage) -> None:
    session = stage.ask(OpenSession())
    for number in range(1, 4):
        stage.virtual.result(stage.submit(session, number, b"x"))
    times = list(stage.hosted()._ledger.times)
    stage.kill()
    stage.restart()
    stage.virtual.result(stage.submit(session, 4, b"x"))

    again = stage.hosted()._ledger.times
    assert again[:3] == times
    assert again == sorted(again)
    assert times[0] > 10**18


# --- sessions
def test_a_session_that_is_silent_for_a_lease_is_over(stage: Stage) -> None:
    session = stage.ask(OpenSession())
    stage.virtual.run(seconds=10.0)

    with pytest.raises(SessionExpired):
        stage.ask(Renew(session=session))
    assert stage.hosted()._ledger.ended == [session]
    assert stage.events("lease_ended") == [{**stage.events("lease_ended")[0], "because": "client_silent"}]


def test_a_session_that_is_renewed_goes_on(stage: Stage) -> None:
    session = stage.ask(OpenSession())
    for _ in range(5):
        stage.virtual.run(seconds=5.0)
        stage.ask(Renew(session=session))

    assert stage.virtual.result(stage.submit(session, 1, b"a")) == (b"1",)


def test_after_a_restart_every_session_has_a_whole_lease(stage: Stage) -> None:
    session = stage.ask(OpenSession())
    stage.virtual.run(seconds=7.0)
    stage.kill()
    stage.virtual.run(seconds=20.0)
    stage.restart()
    stage.virtual.run(seconds=7.0)

    stage.ask(Renew(session=session))


def test_what_the_host_slept_through_is_no_silence_of_its_clients(stage: Stage) -> None:
    session = stage.ask(OpenSession())
    stage.virtual.run(seconds=4.0)
    stage.virtual.pause("host")
    stage.virtual.run(seconds=30.0)
    stage.virtual.resume("host")

    stage.ask(Renew(session=session))


def test_a_session_that_was_ended_is_over_at_once(stage: Stage) -> None:
    session = stage.ask(OpenSession())
    stage.ask(EndSession(session=session))

    with pytest.raises(SessionExpired):
        stage.virtual.result(stage.submit(session, 1, b"a"))
    stage.ask(EndSession(session=session))


# --- more than it takes
def test_a_host_whose_disk_does_not_follow_says_that_it_is_overloaded(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zactor.replication.replica.WAITING_SIZE_MAX", 1_000)
    session = stage.ask(OpenSession())
    asked = [stage.submit(session, number, b"x" * 400) for number in range(1, 9)]
    stage.virtual.run(seconds=1.0)

    refused = [each for each in asked if each.error is not None]
    assert 0 < len(refused) < 8
    assert all(isinstance(each.error, Overloaded) for each in refused)
    for number in range(1, 9):
        stage.virtual.result(stage.submit(session, number, b"x" * 400))
    assert len(stage.items()) == 8


def test_there_are_so_many_sessions_and_no_more(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zactor.replication.replica.SESSIONS_MAX", 1)
    session = stage.ask(OpenSession())
    with pytest.raises(Overloaded):
        stage.ask(OpenSession())

    stage.ask(EndSession(session=session))
    stage.ask(OpenSession())


# --- its own changes
def test_the_actor_makes_changes_of_its_own(stage: Stage) -> None:
    assert stage.ask(Propose(body=b"own")) == b"1"
    assert stage.items() == [b"own"]


# --- a full disk
def test_a_full_disk_refuses_changes_answers_questions_and_recovers(stage: Stage) -> None:
    session = stage.ask(OpenSession())
    stage.virtual.result(stage.submit(session, 1, b"a"))
    stage.disk.limit(10)

    with pytest.raises(NoSpace, match="nothing was changed"):
        stage.virtual.result(stage.submit(session, 2, b"b" * 100))
    assert stage.ask(Propose(body=b"own" * 100)) == b"full"
    assert stage.items() == [b"a"]
    stage.disk.limit(None)

    assert stage.virtual.result(stage.submit(session, 2, b"b")) == (b"2",)
    stage.kill()
    stage.restart()
    assert stage.items() == [b"a", b"b"]
    assert [len(stage.events(name)) for name in ("log_full", "log_writable")] == [1, 1]


def test_what_follows_a_change_that_had_no_room_is_answered_when_it_is_durable_itself(stage: Stage) -> None:
    session = stage.ask(OpenSession())
    stage.disk.limit(100)
    large = stage.submit(session, 1, b"x" * 500)
    stage.virtual.run(until=lambda: stage.disk.free_bytes() == 0)
    small = stage.begin(Propose(body=b"small"))
    stage.virtual.run(until=lambda: small.done)
    assert isinstance(large.error, NoSpace)
    assert small.value == b"1"

    stage.kill()
    stage.disk.chance = Worst(Random())
    stage.disk.lose_power()
    stage.disk.limit(None)
    stage.restart()
    assert stage.items() == [b"small"]


def test_a_disk_too_full_for_a_snapshot_leaves_the_journals(stage: Stage) -> None:
    stage = Stage(snapshot_size=2_000)
    session = stage.ask(OpenSession())
    for number in range(1, 11):
        stage.virtual.result(stage.submit(session, number, b"x" * 190, number))
    stage.disk.limit(400)
    stage.virtual.result(stage.submit(session, 11, b"y" * 190, 11))
    stage.virtual.run(seconds=0.1)

    assert stage.events("snapshot_failed")
    stage.disk.limit(None)
    stage.kill()
    stage.restart()
    assert stage.items() == [b"x" * 190] * 10 + [b"y" * 190]


# --- snapshots
def grow(stage: Stage, count: int) -> list[bytes]:
    session = stage.ask(OpenSession())
    bodies = [b"%d" % number * 20 for number in range(1, count + 1)]
    for number, body in enumerate(bodies, 1):
        stage.virtual.result(stage.submit(session, number, body, number))
    stage.virtual.run(seconds=0.1)
    return bodies


def test_a_snapshot_takes_the_place_of_the_journals_before_it() -> None:
    stage = Stage(snapshot_size=1_000)
    bodies = grow(stage, 60)

    taken = len(stage.events("snapshot_taken"))
    assert taken >= 2
    assert stage.files() == [f"journal.{taken + 1}", f"snapshot.{taken + 1}"]
    stage.kill()
    stage.restart()
    assert stage.items() == bodies


def test_a_snapshot_is_taken_while_changes_never_cease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zactor.replication.replica.BATCH_SIZE", 1)
    stage = Stage(snapshot_size=1_000)
    session = stage.ask(OpenSession())
    asked = [stage.submit(session, number, b"x" * 20, 1) for number in range(1, 9)]
    for number in range(9, 100):
        stage.virtual.run(until=lambda: asked[number - 9].done)  # noqa: B023
        asked.append(stage.submit(session, number, b"x" * 20, number - 8))

    assert stage.events("snapshot_taken")


def test_a_snapshot_that_is_not_whole_is_passed_over_for_the_one_before_it() -> None:
    stage = Stage(snapshot_size=1_000)
    stage.disk.keeps_all = True
    bodies = grow(stage, 60)
    newest = f"snapshot.{len(stage.events('snapshot_taken')) + 1}"
    stage.kill()
    stage.disk.files["host", newest][30] ^= 1
    stage.restart()

    assert newest in stage.events("snapshot_damaged")[0]["because"]
    assert stage.items() == bodies


def test_without_any_whole_snapshot_it_does_not_start() -> None:
    stage = Stage(snapshot_size=1_000)
    grow(stage, 30)
    stage.kill()
    snapshot = next(file for file in stage.files() if file.startswith("snapshot"))
    del stage.disk.files["host", snapshot][-3:]
    stage.restart()

    assert f"no snapshot is whole: {snapshot}" in failure(stage)


def failure(stage: Stage) -> str:
    text = stage.events("handler_failed")[0]["error"]
    assert isinstance(text, str)
    return text


def test_a_journal_that_is_missing_is_named() -> None:
    stage = Stage(snapshot_size=1_000)
    grow(stage, 30)
    stage.kill()
    journal = next(file for file in stage.files() if file.startswith("journal"))
    del stage.disk.files["host", journal]
    stage.restart()

    assert f"{journal} is missing" in failure(stage)


def test_a_gap_between_journals_is_no_torn_end(stage: Stage) -> None:
    stage.ask(OpenSession())
    whole = bytes(stage.disk.files[JOURNAL])
    stage.ask(Propose(body=b"a"))
    stage.ask(Propose(body=b"b"))
    b_only = bytes(stage.disk.files[JOURNAL])[-(len(stage.disk.files[JOURNAL]) - len(whole)) // 2 :]
    stage.kill()
    stage.disk.files[JOURNAL][:] = whole + b_only
    stage.restart()

    assert "is damaged or misplaced" in failure(stage)


def test_a_journal_of_a_newer_version_is_refused(stage: Stage) -> None:
    stage.kill()
    stage.disk.files[JOURNAL][:] = record(encode(Head(99, 1)), origin_of(JOURNAL[1]))
    stage.restart()

    assert "has format 99" in failure(stage)


# --- crashes
@pytest.mark.parametrize("crash", ["kill", "power", "worst"])
@pytest.mark.parametrize("snapshot_size", [1 << 20, 150])
def test_a_crash_between_any_two_steps_loses_nothing_that_was_answered(crash: str, snapshot_size: int) -> None:
    steps = 0
    while True:
        stage = Stage(seed=steps, snapshot_size=snapshot_size)
        asked: list[tuple[bytes, Any]] = []
        session = stage.ask(OpenSession())
        until = stage.virtual.events + steps
        for number in range(1, 9):
            asked.append((b"%d" % number * 20, stage.submit(session, number, b"%d" % number * 20)))
            stage.virtual.run(until=lambda: asked[-1][1].done or stage.virtual.events >= until)  # noqa: B023
        answered = [body for body, asking in asked if asking.done and asking.error is None]
        finished = stage.virtual.events < until
        if finished:
            stage.virtual.run(seconds=1.0)
        stage.kill()
        if crash == "worst":
            stage.disk.chance = Worst(Random())
        if crash != "kill":
            stage.disk.lose_power()
        stage.restart()

        items = stage.items()
        bodies = [body for body, _ in asked]
        assert items == bodies[: len(items)], f"after {steps} steps"
        assert len(items) >= len(answered), f"after {steps} steps"
        # And it goes on: what is sent again is made once.
        for number, body in enumerate(bodies, 1):
            stage.virtual.result(stage.submit(session, number, body))
        assert stage.items() == bodies, f"after {steps} steps"
        if finished:
            break
        steps += 1
    assert steps > 50
