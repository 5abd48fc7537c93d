"""Peers as actors: what clients are told holds through elections, crashes, full disks, and changes of members."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nodes.raft.forming import node_of
from tests.nodes.raft.ledger import Ledger
from tests.nodes.raft.peers import Await, Do, Open, Peers, Unknown
from zactor.errors import AskTimeout, Failure, Refused
from zactor.message import decoder
from zactor.replication.messages import NoSpace, NotLeader, Query, Submit, Unavailable
from zactor.testing.stage import Simulated

_items = decoder(tuple[bytes, ...])


@pytest.fixture(autouse=True)
def _ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodes.raft.actor.machine", lambda name: Ledger)


@pytest.fixture
def stage() -> Iterator[Simulated]:
    with Simulated(1) as stage:
        yield stage


@pytest.fixture
def peers(stage: Simulated) -> Peers:
    return Peers(stage)


# --- what clients see
def test_a_change_is_answered_once_a_majority_has_it_and_seen_by_all_reads_after_it(peers: Peers) -> None:
    for number in range(1, 6):
        assert peers.do(b"x") == b"%d" % number
        assert len(peers.look()) == number
    assert peers.until_equal() == [b"x"] * 5


def test_a_change_is_made_once_though_its_answer_is_lost_and_it_is_sent_again(peers: Peers) -> None:
    stage = peers.stage
    assert isinstance(stage, Simulated)
    session = stage.ask("user", Open())
    leader = peers.leader()
    change = Submit(session=session, sequence=1, acknowledged_below=1, bodies=(b"x",))
    assert stage.ask(leader, change) == (b"1",)
    stage.kill(leader)
    assert stage.ask(peers.leader(), change) == (b"1",)
    assert peers.until_equal() == [b"x"]


@pytest.mark.parametrize("fault", ["kill", "power", "pause", "partition"])
def test_another_leads_when_the_leader_is_gone_and_nothing_is_lost(peers: Peers, fault: str) -> None:
    stage = peers.stage
    assert isinstance(stage, Simulated)
    peers.do(b"before")
    old = peers.leader()
    if fault == "partition":
        stage.partition(old)
    else:
        stage.do(fault, old, for_s=None)
    assert peers.do(b"after") == b"2"
    assert peers.leaders()[-1] != old or fault in ("kill", "power")
    stage.heal()
    assert peers.until_equal() == [b"before", b"after"]


def test_thesis_6_4_a_leader_that_was_cut_off_answers_no_linearizable_question(peers: Peers) -> None:
    stage = peers.stage
    assert isinstance(stage, Simulated)
    peers.do(b"before")
    old = peers.leader()
    others = [name for name in peers.names if name != old]
    stage.do("partition", old, others=(*others, "user"))
    question = stage.start_ask(old, Query(body=b""), 3.0)
    peers.do(b"after")
    with pytest.raises((NotLeader, Unavailable, AskTimeout)):
        question.result()
    assert _items(stage.ask(old, Query(body=b"", level="eventual"))) == (b"before",)


def test_a_follower_answers_at_every_level(peers: Peers) -> None:
    stage = peers.stage
    peers.do(b"x")
    follower = next(name for name in peers.names if name != peers.leader())
    for level in ("linearizable", "bounded"):
        assert _items(stage.ask(follower, Query(body=b"", level=level))) == (b"x",)
    at_least = peers.peer(peers.leader()).applied
    assert _items(stage.ask(follower, Query(body=b"", level="session", at_least=at_least))) == (b"x",)


def test_a_bounded_question_is_answered_without_the_leader_for_so_long(peers: Peers) -> None:
    stage = peers.stage
    assert isinstance(stage, Simulated)
    peers.do(b"x")
    leader = peers.leader()
    follower = next(name for name in peers.names if name != leader)
    bounded = Query(body=b"", level="bounded", bound_ns=10**9)
    stage.ask(follower, bounded)
    stage.do("partition", follower, others=tuple(name for name in peers.names if name != follower))
    assert _items(stage.ask(follower, bounded)) == (b"x",)
    stage.run(1.0)
    with pytest.raises(Unavailable, match="leader"):
        stage.ask(follower, bounded)


def test_a_question_of_a_session_waits_for_what_its_client_has_seen(peers: Peers) -> None:
    stage = peers.stage
    assert isinstance(stage, Simulated)
    leader = peers.leader()
    follower = next(name for name in peers.names if name != leader)
    stage.do("partition", follower, others=tuple(name for name in peers.names if name != follower))
    peers.do(b"x")
    question = stage.start_ask(
        follower, Query(body=b"", level="session", at_least=peers.peer(peers.leader()).applied), 4.0
    )
    stage.run(1.0)
    assert not question.done
    stage.heal()
    assert _items(question.result()) == (b"x",)


def test_a_watch_is_answered_when_something_changes_and_by_nothing_when_its_time_is_up(peers: Peers) -> None:
    stage = peers.stage
    peers.do(b"a")
    assert _items(stage.ask("user", Await(first=0))) == (b"a",)
    waiting = stage.start_ask("user", Await(first=1), 20.0)
    stage.run(1.0)
    peers.do(b"b")
    assert _items(waiting.result()) == (b"b",)
    assert stage.ask("user", Await(first=2, wait_s=1.0), 20.0) == b""


def test_what_ends_by_itself_does_so_by_the_time_of_the_log(peers: Peers) -> None:
    peers.do(b"due:2000000000")
    ledger = peers.ledger(peers.leader())
    assert ledger.due_ns
    peers.stage.run(1.5)
    assert ledger.due_ns
    peers.stage.run(1.0)
    assert not ledger.due_ns


def test_a_wrong_time_of_day_of_the_next_leader_ends_nothing_early(stage: Simulated) -> None:
    peers = Peers(stage)
    peers.do(b"x")
    leader = peers.leader()
    for name in peers.names:
        if name != leader:
            stage.do("step", name, by_ns=3600 * 10**9)
    stage.kill(leader, stay=True)
    peers.do(b"y")
    first, second = peers.ledger(peers.leader()).times
    assert 0 < second - first < 5 * 10**9


def test_a_session_ends_when_its_client_is_silent_also_under_the_next_leader(stage: Simulated) -> None:
    peers = Peers(stage, lease=3 * 10**9)
    session = stage.ask("user", Open())
    stage.kill(peers.leader())
    stage.until(lambda: b"end %d" % session in peers.items(peers.leader()), within=10.0)
    assert peers.until_equal() == [b"end %d" % session]


# --- no majority, no room
def test_without_a_majority_a_client_is_told_in_time_and_a_change_that_was_sent_may_be_made(peers: Peers) -> None:
    stage = peers.stage
    assert isinstance(stage, Simulated)
    peers.do(b"x")
    for name in [name for name in peers.names if name != peers.leader()]:
        stage.kill(name, stay=True)
    with pytest.raises((Unknown, Unavailable, NotLeader)):
        peers.do(b"y")
    assert peers.look("eventual") == (b"x",)


def test_a_full_disk_refuses_changes_and_answers_questions_until_there_is_room(peers: Peers) -> None:
    stage = peers.stage
    assert isinstance(stage, Simulated)
    peers.do(b"x")
    for name in peers.names:
        stage.do("full_disk", name, for_s=None)
    lost = peers.begin(b"y" * 300_000)
    stage.until(lambda: bool(stage.logged("log_full", peers.leader())))
    with pytest.raises(NoSpace, match="make room"):
        peers.do(b"z")
    assert peers.look() == (b"x",)
    stage.heal()
    assert lost.result() == b"2"
    assert peers.do(b"z") == b"3"
    peers.until_equal()


def test_a_leader_whose_disk_is_full_hands_over_to_one_that_has_room(peers: Peers) -> None:
    stage = peers.stage
    assert isinstance(stage, Simulated)
    peers.do(b"x")
    old = peers.leader()
    stage.do("full_disk", old, for_s=None)
    peers.do(b"y" * 300_000)
    stage.until(lambda: peers.leader() != old, within=5.0)
    assert peers.do(b"z") == b"3"
    stage.heal()
    peers.until_equal()


# --- snapshots
def test_section_7_a_peer_that_was_away_is_sent_the_snapshot(stage: Simulated) -> None:
    peers = Peers(stage, snapshot_bytes=2000, keep_bytes=300)
    peers.do(b"x")
    away = next(name for name in peers.names if name != peers.leader())
    stage.kill(away, stay=True)
    for _ in range(40):
        peers.do(b"y" * 200)
    assert stage.logged("snapshot_taken")
    stage.start(away)
    assert len(peers.until_equal()) == 41
    assert stage.logged("snapshot_installed", away)
    stage.power(away)
    stage.run(2.0)
    assert len(peers.until_equal()) == 41
    assert peers.do(b"z") == b"42"


def test_a_snapshot_has_the_sessions_too(stage: Simulated) -> None:
    peers = Peers(stage)
    session = stage.ask("user", Open())
    change = Submit(session=session, sequence=1, acknowledged_below=1, bodies=(b"x",))
    stage.ask(peers.leader(), change)
    for name in peers.names:
        peers.operate("snapshot", name)
    peers.power_all()
    assert stage.ask(peers.leader(), change) == (b"1",)
    assert peers.until_equal() == [b"x"]


# --- who takes part
def test_a_group_forms_when_all_are_there_and_not_before(stage: Simulated) -> None:
    peers = Peers(stage)
    stage.begin()
    stage.partition("kv/2")
    stage.run(5.0)
    formed = [name for name in peers.names if peers.peer(name).raft is not None]
    stage.heal()
    assert len(formed) in (0, 3)  # it may have been quicker than the fault
    assert peers.do(b"x") == b"1"


def test_transfer_names_who_is_to_lead_and_loses_nothing(peers: Peers) -> None:
    peers.do(b"x")
    old = peers.leader()
    to = peers.operate("transfer")
    assert to != old
    peers.stage.until(lambda: peers.leader() == to, within=1.0)
    assert peers.do(b"y") == b"2"


def test_a_peer_that_is_left_out_stays_out_and_comes_back_when_it_is_added(peers: Peers) -> None:
    peers.do(b"x")
    out = next(name for name in peers.names if name != peers.leader())
    assert out not in peers.operate("remove", out)
    peers.do(b"y")
    assert peers.operate("add", out).endswith(f"learners {out}")
    peers.stage.until(lambda: out in peers.peer(peers.leader()).raft.members.voters, within=10.0)  # type: ignore[union-attr]
    assert peers.until_equal() == [b"x", b"y"]


def test_only_a_peer_of_the_topology_is_taken_in(peers: Peers) -> None:
    with pytest.raises(Refused, match="kv/9 is no peer here"):
        peers.operate("add", "kv/9")


def test_thesis_4_a_lost_disk_comes_back_as_a_learner_under_another_name(stage: Simulated) -> None:
    peers = Peers(stage)
    peers.do(b"x")
    lost = next(name for name in peers.names if name != peers.leader())
    stage.kill(lost, stay=True)
    machine = stage.sim.machines[lost]
    for key in [key for key in machine.files if key[0] == lost]:
        del machine.files[key]
    peers.do(b"y")
    stage.start(lost)
    assert peers.until_equal() == [b"x", b"y"]
    assert stage.logged("peer_replaced")
    members = peers.peer(peers.leader()).raft.members  # type: ignore[union-attr]
    stage.until(lambda: len(peers.peer(peers.leader()).raft.members.voters) == 3, within=10.0)  # type: ignore[union-attr]
    members = peers.peer(peers.leader()).raft.members  # type: ignore[union-attr]
    assert lost not in members.voters
    assert sorted(map(node_of, members.voters)) == peers.names
    peers.do(b"z")
    peers.power_all()
    assert peers.do(b"!") == b"4"


# --- all of it at once
@pytest.mark.parametrize("seed", range(1, 13))
def test_whatever_goes_wrong_what_was_answered_is_there_once(seed: int) -> None:
    with Simulated(seed) as stage:
        peers = Peers(stage, snapshot_bytes=3000, keep_bytes=300)
        stage.trouble(20.0)
        asked = []
        for number in range(60):
            asked.append((number, stage.start_ask("user", Do(body=b"%d" % number), 60.0)))
            stage.run(0.3)
        stage.heal()
        stage.run(3.0)
        answered = []
        for number, answer in asked:
            try:
                answer.result()
            except Failure:
                continue
            answered.append(b"%d" % number)
        peers.do(b"last")
        items = [item for item in peers.until_equal() if not item.startswith(b"end")]
        assert len(set(items)) == len(items)
        assert set(answered) <= set(items)
