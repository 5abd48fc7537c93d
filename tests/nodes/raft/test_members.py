"""Members: section 4 of the thesis, 6 of the paper; Ongaro 2015, "bug in single-server membership changes"."""

from __future__ import annotations

from nodes.raft.core import HardState
from nodes.raft.log import members_entry
from nodes.raft.members import Members
from nodes.raft.messages import Heartbeat, Kind, LogEntry
from tests.nodes.raft.group import Group, commands


def change(group: Group, leader: str, voters: tuple[str, ...], learners: tuple[str, ...] = ()) -> int | str:
    answer: int | str = group.do(leader, lambda core: core.change_members(voters, learners))
    return answer


# --- the arithmetic
def test_a_majority_is_more_than_half() -> None:
    for count in range(1, 8):
        voters = tuple(f"p{number}" for number in range(count))
        for have in range(count + 1):
            some = voters[:have]
            assert Members(voters).agree(some.__contains__) == (2 * have > count)
            assert Members(voters).refuse(some.__contains__) == (2 * have >= count)


def test_while_joint_both_majorities_are_needed() -> None:
    members = Members(("a", "b", "c"), (), ("c", "d", "e"))
    assert members.agree(lambda name: name in "abde")
    assert not members.agree(lambda name: name in "abc")
    assert members.agreed(lambda name: {"a": 9, "b": 8, "c": 1, "d": 5, "e": 4}[name]) == 4
    assert members.all == ("a", "b", "c", "d", "e")
    assert members.settled() == Members(("a", "b", "c"))


def test_one_voter_more_or_less_is_one_step_and_more_are_joint() -> None:
    members = Members(("a", "b", "c"))
    assert not members.towards(("a", "b", "c", "d"), ()).is_joint
    assert not members.towards(("a", "b"), ("c",)).is_joint
    assert members.towards(("a", "b", "d"), ()) == Members(("a", "b", "d"), (), ("a", "b", "c"))


# --- changes
def test_a_peer_is_added_as_a_learner_and_then_as_a_voter() -> None:
    group = Group(4, voters=("p0", "p1", "p2"))
    leader = group.leader()
    group.propose(leader, b"before")
    group.run(50)
    assert isinstance(change(group, leader, ("p0", "p1", "p2"), ("p3",)), int)
    group.run(50)
    assert commands(group.peers["p3"].applied) == [b"before"]
    assert isinstance(change(group, leader, ("p0", "p1", "p2", "p3")), int)
    group.run(50)

    assert group.core("p3").members == Members(("p0", "p1", "p2", "p3"))


def test_a_learner_neither_votes_nor_stands() -> None:
    group = Group(4, voters=("p0", "p1", "p2"))
    change(group, group.leader(), ("p0", "p1", "p2"), ("p3",))
    group.run(50)
    for name in ("p0", "p1", "p2"):
        group.kill(name)
    group.run(3_000)

    assert group.core("p3").election is None
    assert group.core("p3").term == max(group.leaders)


def test_all_voters_are_replaced_jointly_while_commands_go_on() -> None:
    group = Group(6, voters=("p0", "p1", "p2"))
    leader = group.leader()
    group.propose(leader, b"before")
    change(group, leader, ("p3", "p4", "p5"))
    group.run(300)
    group.run_until(lambda: group._leader() in ("p3", "p4", "p5"))
    new = group.leader()
    group.propose(new, b"after")
    group.run(100)

    assert group.core(new).members == Members(("p3", "p4", "p5"))
    assert commands(group.peers[new].applied) == [b"before", b"after"]
    assert group.core(leader).leadership is None


def test_a_joint_change_that_was_committed_is_ended_by_the_next_leader() -> None:
    group = Group(4, voters=("p0", "p1", "p2"))
    joint = Members(("p1", "p3"), (), ("p0", "p1", "p2"))
    for name, peer in group.peers.items():
        group.kill(name)
        peer.disk.hard_state = HardState(1, "p0")
        peer.disk.entries = [LogEntry(1, Kind.EMPTY, b""), members_entry(1, joint)]
    heard = Heartbeat(term=1, commit_index=2, round=1)  # the last thing that the leader did
    for name in ("p1", "p2", "p3"):
        group.start(name)
        group.do(name, lambda core: core.step("p0", heard, group.now_ns))
    group.leader()
    group.run(500)

    assert group.core(group.leader()).members == Members(("p1", "p3"))


def test_one_change_at_a_time_and_only_in_a_term_that_has_committed() -> None:
    group = Group(4, voters=("p0", "p1", "p2"))
    group.run_until(lambda: group.leaders)
    leader = next(iter(group.leaders.values()))
    assert change(group, leader, ("p0", "p1", "p2", "p3")) == "no entry of this leader's term is committed yet"
    group.run(50)
    assert isinstance(change(group, leader, ("p0", "p1", "p2", "p3")), int)
    assert change(group, leader, ("p0", "p1", "p2")) == "another change of the members is under way"
    group.run(50)
    assert change(group, leader, ()) == "there must be a voter"


def test_a_change_that_is_cut_off_brings_back_the_members_before() -> None:
    group = Group(4, voters=("p0", "p1", "p2"))
    old = group.leader()
    group.cuts = {(old, name) for name in group.peers} | {(name, old) for name in group.peers}
    change(group, old, ("p0", "p1", "p2", "p3"))
    assert group.core(old).members.voters == ("p0", "p1", "p2", "p3")
    group.run(300)
    group.propose(group.leader(), b"x")
    group.run(50)
    group.cuts = set()
    group.run(500)

    assert group.core(old).members.voters == ("p0", "p1", "p2")


def test_a_leader_that_is_removed_leads_until_that_is_committed() -> None:
    group = Group(3)
    leader = group.leader()
    others = tuple(name for name in group.peers if name != leader)
    change(group, leader, others)
    group.run(1)
    assert group.core(leader).leadership is None
    assert group.core(leader).roles[-1].because == "it is no member any more"
    new = group.leader()
    assert new in others
    group.run(2_000)
    assert group.core(new).leadership is not None, "who is no member disturbs nobody"
