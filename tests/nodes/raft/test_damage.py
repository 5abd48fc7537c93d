"""A peer that has lost entries which it acknowledged: 5.4.1 of the paper, read for one's own log."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from nodes.raft.core import HardState, Raft
from nodes.raft.log import Log
from nodes.raft.members import Members
from nodes.raft.messages import AppendEntries, Heartbeat, HeartbeatReply, Rejected, RequestVote, TimeoutNow, Vote
from tests.nodes.raft.group import DEFAULTS, MS, Group, commands, entry
from tests.nodes.raft.ledger import Ledger
from tests.nodes.raft.peers import Peers
from zactor.journal import scan
from zactor.testing.stage import Simulated

MEMBERS = Members(("p0", "p1", "p2"))


def owing(*entries_terms: int, term: int = 2, index: int = 5) -> Raft:
    """A peer that has entries of those terms, and once had one of that term at that index."""
    log = Log(MEMBERS, entries=[entry(each) for each in entries_terms])
    return Raft("p0", log, HardState(3, "", term, index), DEFAULTS, Random(1), 0)


def test_section_5_4_1_a_peer_that_owes_entries_votes_for_nobody() -> None:
    peer = owing(1, 1)

    peer.step("p1", RequestVote(term=9, last_index=90, last_term=8, is_pre=True), MS)
    peer.step("p1", RequestVote(term=9, last_index=90, last_term=8), MS)

    ready = peer.ready()
    assert ready.send_now == [("p1", Vote(term=3, is_granted=False, is_pre=True))]
    assert ready.send_after == [("p1", Vote(term=9, is_granted=False))]
    assert ready.save is not None
    assert ready.save.hard_state == HardState(9, "", 2, 5)


def test_section_5_4_1_a_peer_that_owes_entries_stands_for_no_election() -> None:
    peer = owing(1, 1)
    peer.tick(peer.deadline_ns)
    peer.step("p1", TimeoutNow(term=3), peer.now_ns)

    assert peer.election is None
    assert peer.ready().send_now == []
    assert peer.deadline_ns > peer.now_ns


def test_section_5_4_1_it_is_whole_when_a_leader_has_brought_its_log_to_where_it_ended() -> None:
    peer = owing(1, 1)
    peer.step("p1", AppendEntries(term=3, previous_index=2, previous_term=1, commit_index=0, entries=(entry(2),)), MS)
    before = peer.is_whole
    peer.ready()
    peer.roles.clear()

    # A later term, though at a lower index: no entry of term 2 can be missing before it.
    peer.step("p1", AppendEntries(term=3, previous_index=3, previous_term=2, commit_index=0, entries=(entry(3),)), MS)
    assert (before, peer.is_whole) == (False, True)
    assert [(role.rule, role.because) for role in peer.roles] == [
        ("Raft 5.4.1", "its log is at 4 of term 3 and has again what was lost")
    ]
    save = peer.ready().save
    assert save is not None
    assert save.hard_state == HardState(3, "")


def test_what_agrees_with_no_leader_yet_makes_nothing_whole() -> None:
    peer = owing(1, 1, 2, 2, 2, 2)  # its own, from before

    assert not peer.is_whole
    peer.step("p1", AppendEntries(term=3, previous_index=1, previous_term=1, commit_index=0, entries=(entry(1),)), MS)
    assert not peer.is_whole


def test_a_heartbeat_says_nothing_about_a_log_that_is_not_whole() -> None:
    peer = owing(1, 1)
    peer.step("p1", Heartbeat(term=3, commit_index=5, round=1), MS)

    assert peer.commit_index == 0
    assert peer.ready().send_now == [("p1", HeartbeatReply(term=3, round=1, has_lost=True))]


def test_a_refusal_says_that_what_was_acknowledged_may_be_gone() -> None:
    peer = owing(1, 1)
    peer.step("p1", AppendEntries(term=3, previous_index=5, previous_term=2, commit_index=0), MS)

    assert peer.ready().send_now == [("p1", Rejected(term=3, index=5, hint_index=2, hint_term=1, has_lost=True))]


def damaged_group(count: int) -> tuple[Group, str, list[str]]:
    """A group with a log, its leader, and so many others that have lost the middle of it while they were down."""
    group = Group(5)
    leader = group.leader()
    others = [name for name in group.peers if name != leader][:count]
    for number in range(20):
        group.propose(leader, b"%d" % number)
        group.run(5)
    for name in others:
        group.kill(name)
        disk = group.peers[name].disk
        del disk.entries[7:]
        disk.hard_state = HardState(disk.hard_state.term, disk.hard_state.voted_for, group.core(leader).term, 21)
        disk.begin_anew()
    return group, leader, others


def test_an_idle_leader_brings_it_what_it_believed_it_had() -> None:
    group, leader, (name,) = damaged_group(1)
    group.start(name)
    group.run(300)

    assert group.leader() == leader
    assert group.core(name).is_whole
    assert commands(group.peers[name].applied) == [b"%d" % number for number in range(20)]


def test_where_a_majority_owes_nobody_leads_until_one_is_back_that_does_not() -> None:
    group, leader, others = damaged_group(3)
    group.kill(leader)
    for name in others:
        group.start(name)
    group.run(5_000)
    assert not any(peer.core is not None and peer.core.leadership for peer in group.peers.values())

    # Four of five, two of them whole: still no majority that may vote.
    group.start(leader)
    group.run(5_000)
    assert not any(peer.core is not None and peer.core.leadership for peer in group.peers.values())


# --- whole peers
@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulated]:
    monkeypatch.setattr("nodes.raft.actor.machine", lambda _name: Ledger)
    with Simulated(1) as stage:
        yield stage


@pytest.fixture
def peers(stage: Simulated) -> Peers:
    return Peers(stage)


def test_a_peer_whose_journal_is_damaged_is_brought_what_it_lost_and_may_lead_again(
    stage: Simulated, peers: Peers
) -> None:
    for number in range(10):
        peers.do(b"%d" % number)
    name = next(each for each in peers.names if each != peers.leader())
    stage.kill(name, stay=True)
    content = stage.sim.machines[name].files[name, "journal.1"]
    records = scan(bytes(content)).records
    content[sum(map(len, records[: len(records) // 2])) + 12 * (len(records) // 2) + 20] ^= 4
    stage.start(name)

    stage.until(lambda: bool(stage.logged("journal_damaged", name)))
    assert peers.until_equal() == [b"%d" % number for number in range(10)]
    assert [each for each in stage.logged("became_follower", name) if each["rule"] == "Raft 5.4.1"]
    peers.operate("transfer", name)
    stage.until(lambda: peers.leaders() == [name])
    assert peers.do(b"x") == b"11"
