"""Elections: section 5.2 and 5.4.1 of the paper; 4.2.3, 6.2, 9.6 and 3.10 of the thesis."""

from __future__ import annotations

import pytest

from nodes.raft.core import HardState
from nodes.raft.messages import RequestVote, Vote
from tests.nodes.raft.group import MS, Group, commands, entry


def roles(group: Group, name: str) -> list[str]:
    return [role.name for role in group.core(name).roles]


# --- paper 5.2
@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_a_group_elects_one_leader_and_all_follow_it(count: int) -> None:
    group = Group(count)
    leader = group.leader()
    group.run(100)

    assert {group.core(name).leader for name in group.peers} == {leader}
    assert len({group.core(name).term for name in group.peers}) == 1


def test_heartbeats_keep_a_leader() -> None:
    group = Group(5)
    leader = group.leader()
    group.run(20_000)

    assert group.leaders == {group.core(leader).term: leader}


def test_a_leader_that_is_killed_is_replaced_within_two_timeouts() -> None:
    for seed in range(20):
        group = Group(3, seed)
        group.kill(group.leader())
        killed_ns = group.now_ns
        group.leader()
        assert group.now_ns - killed_ns < 450 * MS


@pytest.mark.parametrize("count", [3, 5, 7])
def test_who_knows_that_the_leader_has_ended_does_not_wait_for_its_silence(count: int) -> None:
    for seed in range(20):
        group = Group(count, seed)
        lost = group.leader()
        group.kill(lost)
        killed_ns = group.now_ns
        for name in group.peers:
            if name != lost:
                group.do(name, lambda core: core.leader_lost(group.now_ns))  # noqa: B023
        leader = group.leader()

        assert leader == min(name for name in group.peers if name != lost)
        assert group.now_ns - killed_ns < 30 * MS


def test_who_is_told_by_mistake_that_the_leader_has_ended_disturbs_nobody() -> None:
    group = Group(5)
    leader = group.leader()
    group.run(100)
    mistaken = [name for name in group.peers if name != leader][:2]
    for name in mistaken:
        group.do(name, lambda core: core.leader_lost(group.now_ns))
    group.run(1_000)

    assert {group.core(name).leader for name in group.peers} == {leader}
    assert len(group.leaders) == 1


def test_without_a_majority_nobody_leads() -> None:
    group = Group(5)
    group.leader()
    for name in ("p0", "p1", "p2"):
        group.kill(name)
    group.run(5_000)

    assert all(group.core(name).leadership is None for name in ("p3", "p4"))
    group.start("p0")
    assert group.leader()


def test_a_peer_votes_once_in_a_term_even_if_it_is_started_again() -> None:
    group = Group(3)
    group.run(1)
    first = group.do("p0", lambda core: core.step("p1", RequestVote(term=5, last_index=0, last_term=0), group.now_ns))
    group.run(1)
    assert first is None
    assert group.peers["p0"].disk.hard_state == HardState(5, "p1")
    group.kill("p0")
    group.start("p0")
    group.sent.clear()
    group.do("p0", lambda core: core.step("p2", RequestVote(term=5, last_index=9, last_term=4), group.now_ns))
    group.run(1)

    votes = [message for _, target, message in group.sent if target == "p2" and isinstance(message, Vote)]
    assert [vote.is_granted for vote in votes] == [False]


def test_a_vote_leaves_only_when_it_is_durable() -> None:
    group = Group(3)
    group.sync_ns = lambda: 10 * MS
    group.do("p0", lambda core: core.step("p1", RequestVote(term=5, last_index=0, last_term=0), group.now_ns))
    group.run(9)
    assert not [message for _, _, message in group.sent if isinstance(message, Vote)]
    group.run(2)
    assert [message.is_granted for _, _, message in group.sent if isinstance(message, Vote)] == [True]


# --- paper 5.4.1
@pytest.mark.parametrize(
    ("last_index", "last_term", "is_granted"), [(3, 2, True), (2, 3, True), (2, 2, False), (9, 1, False)]
)
def test_only_a_log_that_is_up_to_date_gets_a_vote(last_index: int, last_term: int, is_granted: bool) -> None:
    group = Group(3)
    group.kill("p0")
    group.peers["p0"].disk.entries = [entry(1), entry(2), entry(2)]
    group.start("p0")
    group.do(
        "p0",
        lambda core: core.step("p1", RequestVote(term=5, last_index=last_index, last_term=last_term), group.now_ns),
    )
    group.run(1)

    assert [message.is_granted for _, _, message in group.sent if isinstance(message, Vote)] == [is_granted]


# --- thesis 9.6, 4.2.3, 6.2
def test_a_peer_that_was_cut_off_does_not_disturb_when_it_is_back() -> None:
    group = Group(3)
    leader = group.leader()
    other = next(name for name in group.peers if name != leader)
    term = group.core(leader).term
    group.cuts = {(other, name) for name in group.peers} | {(name, other) for name in group.peers}
    group.run(5_000)
    assert group.core(other).term == term, "a pre-vote changes nobody's term"
    group.cuts = set()
    group.run(2_000)

    assert group.core(leader).leadership is not None
    assert group.core(leader).term == term


def test_a_peer_that_hears_nobody_but_is_heard_does_not_depose_the_leader() -> None:
    group = Group(5)
    leader = group.leader()
    other = next(name for name in group.peers if name != leader)
    group.cuts = {(leader, other)}
    group.run(5_000)

    assert list(group.leaders.values()) == [leader]


def test_a_leader_that_no_majority_answers_steps_down() -> None:
    group = Group(3)
    old = group.leader()
    others = [name for name in group.peers if name != old]
    group.cuts = {(old, name) for name in others} | {(name, old) for name in others}
    group.run(500)

    assert group.core(old).leadership is None
    assert group.core(old).roles[-1].rule in ("Raft thesis 6.2", "Raft thesis 9.6")
    new = group.leader()
    assert new != old
    group.cuts = set()
    group.run(500)
    assert group.core(old).leader == new


def test_a_peer_of_an_earlier_term_learns_the_term_and_votes() -> None:
    """canonical/raft 279: pre-votes alone must not keep a group without a leader for ever."""
    group = Group(3, 4)
    group.kill("p0")
    group.kill("p1")
    group.peers["p2"].disk.hard_state = HardState(9, "p2")
    group.kill("p2")
    for name in group.peers:
        group.start(name)

    assert group.leader()


# --- thesis 3.10
def test_leadership_is_handed_over_at_once_and_nothing_is_lost() -> None:
    group = Group(3)
    old = group.leader()
    new = next(name for name in group.peers if name != old)
    for number in range(5):
        group.propose(old, b"%d" % number)
    asked_ns = group.now_ns
    assert group.do(old, lambda core: core.transfer(new)) == ""
    assert group.propose(old, b"refused") is None
    group.run_until(lambda: group.core(new).leadership is not None)

    assert group.now_ns - asked_ns < 5 * MS
    group.run(100)
    assert commands(group.committed) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_transfer_to_who_does_not_answer_is_given_up() -> None:
    group = Group(3)
    old = group.leader()
    new = next(name for name in group.peers if name != old)
    group.kill(new)
    group.do(old, lambda core: core.transfer(new))
    group.run(300)

    assert group.propose(old, b"again") is not None
    assert group.do(old, lambda core: core.transfer("nobody")).startswith("nobody is no other voter")
