"""Replication: section 5.3 and 5.4.2 of the paper, 8 for reads; 6.4, 10.2.1 of the thesis; the windows of a leader."""

from __future__ import annotations

import pytest

from nodes.raft.core import Settings
from nodes.raft.messages import Appended, AppendEntries, HeartbeatReply, Rejected
from nodes.raft.progress import INFLIGHT_MAX, State
from tests.nodes.raft.alone import Alone
from tests.nodes.raft.group import MS, Group, commands, entry, isolate


def progress(group: Group, leader: str, name: str):  # type: ignore[no-untyped-def]
    leadership = group.core(leader).leadership
    assert leadership is not None
    return leadership.progress[name]


# --- paper 5.3
def test_what_a_majority_has_is_applied_by_all_in_order() -> None:
    group = Group(5)
    leader = group.leader()
    for number in range(100):
        group.propose(leader, b"%d" % number)
        group.run(0.1)
    group.run(100)

    assert all(commands(peer.applied) == [b"%d" % number for number in range(100)] for peer in group.peers.values())


def test_without_a_majority_nothing_is_committed() -> None:
    group = Group(3)
    leader = group.leader()
    before = len(group.committed)
    isolate(group, leader)
    group.propose(leader, b"lost")
    group.run(150)

    assert len(group.committed) == before


def test_entries_of_a_leader_that_was_cut_off_give_way() -> None:
    group = Group(3)
    old = group.leader()
    isolate(group, old)
    for number in range(10):
        group.propose(old, b"old %d" % number)
    group.run(300)
    new = group.leader()
    assert new != old
    group.propose(new, b"new")
    group.run(50)
    group.cuts = set()
    group.run(500)

    assert commands(group.peers[old].applied) == [b"new"]
    assert commands(group.core(old).log.slice(1, group.core(old).log.last_index)) == [b"new"]


@pytest.mark.parametrize(
    ("terms", "refused"),
    [
        ([1, 1, 1, 4, 4, 5, 5, 6, 6], 0),  # Figure 7 (a)
        ([1, 1, 1, 4], 0),  # (b)
        ([1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6], 0),  # (c)
        ([1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7], 0),  # (d)
        ([1, 1, 1, 4, 4, 4, 4], 0),  # (e)
        ([1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3], 0),  # (f)
    ],
)
def test_each_log_of_figure_7_becomes_that_of_the_leader(terms: list[int], refused: int) -> None:
    group = Group(3)
    for name in group.peers:
        group.kill(name)
    leader_terms = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
    for name, own in (("p0", leader_terms), ("p1", leader_terms), ("p2", terms)):
        disk = group.peers[name].disk
        disk.entries = [entry(term) for term in own]
        disk.hard_state = type(disk.hard_state)(8, "")
    group.start("p0")
    group.start("p1")
    leader = group.leader()
    group.start("p2")
    group.run(1_000)

    assert group.core("p2").log.slice(1, 99) == group.core(leader).log.slice(1, 99)
    group.check_logs()
    rejections = [message for _, _, message in group.sent if isinstance(message, Rejected)]
    assert len(rejections) <= 3, "terms are skipped whole"


def test_an_append_that_comes_late_never_shortens_the_log() -> None:
    group = Group(3)
    leader = group.leader()
    other = next(name for name in group.peers if name != leader)
    group.propose(leader, b"1")
    late = next(message for _, target, message in reversed(group.sent) if target == other)
    assert isinstance(late, AppendEntries)
    for number in range(5):
        group.propose(leader, b"more %d" % number)
    group.run(20)
    length = group.core(other).log.last_index
    group.do(other, lambda core: core.step(leader, late, group.now_ns))

    assert group.core(other).log.last_index == length


def test_entries_are_acknowledged_when_they_are_durable() -> None:
    group = Group(3)
    leader = group.leader()
    group.run(50)
    group.sync_ns = lambda: 10 * MS
    group.sent.clear()
    group.propose(leader, b"1")
    group.run(9)
    assert not [message for _, _, message in group.sent if isinstance(message, Appended)]
    assert commands(group.committed) == []
    group.run(3)
    assert commands(group.committed) == [b"1"]


def test_a_majority_need_not_have_the_leader_in_it() -> None:
    """Thesis 10.2.1: its disk is one among others."""
    group = Group(3)
    leader = group.leader()
    group.run(50)
    group.sync_ns = lambda: 100_000
    syncs = iter([50 * MS])
    group.sync_ns = lambda: next(syncs, 100_000)
    group.propose(leader, b"1")
    group.run(5)

    assert commands(group.committed) == [b"1"]
    assert group.core(leader).durable_index < group.core(leader).commit_index


# --- paper 5.4.2
def test_entries_of_earlier_terms_are_not_committed_by_counting() -> None:
    """Figure 8: an entry that a majority has may still be replaced, until one of the leader's term is there, too."""
    group = Group(3)
    for name in group.peers:
        group.kill(name)
    for name, terms in (("p0", [1, 2]), ("p1", [1, 2]), ("p2", [1])):
        disk = group.peers[name].disk
        disk.entries = [entry(term) for term in terms]
        disk.hard_state = type(disk.hard_state)(3, "")
    for name in group.peers:
        group.start(name)
    group.run_until(lambda: group.committed)

    leader = next(iter(group.leaders.values()))
    assert group.core(leader).log.term(group.core(leader).commit_index) == group.core(leader).term


# --- windows
def test_a_follower_that_is_away_costs_no_memory_on_the_way() -> None:
    group = Group(3)
    leader = group.leader()
    other = next(name for name in group.peers if name != leader)
    group.run(50)
    group.delay_ns = lambda _source, target: None if target == other else 50_000
    group.sent.clear()
    for number in range(1_000):
        group.propose(leader, b"%d" % number)
        group.run(0.5)

    appends = [message for _, target, message in group.sent if target == other and isinstance(message, AppendEntries)]
    assert len([message for message in appends if message.entries]) <= INFLIGHT_MAX
    assert len(commands(group.committed)) >= 990
    group.delay_ns = lambda _source, _target: 50_000
    group.run(1_000)
    assert progress(group, leader, other).state is State.REPLICATE
    assert group.core(other).log.last_index == group.core(leader).log.last_index


def test_a_peer_whose_window_is_full_gets_a_snapshot_when_what_it_lacks_is_compacted() -> None:
    """What is sent next is no more in the log when it answers a heartbeat."""
    peer = Alone()
    peer.leads()
    for name in ("p1", "p2"):
        peer.hears(name, Appended(term=1, index=1))
    for index in range(2, INFLIGHT_MAX + 10):
        assert peer.core.propose(b"x") == index
        peer.says()
        peer.hears("p2", Appended(term=1, index=index))
    peer.core.compact(peer.core.commit_index)
    assert peer.core.log.first_index == INFLIGHT_MAX + 10
    peer.hears("p1", HeartbeatReply(term=1, round=1))

    assert peer.snapshots == ["p1"]


def test_what_is_not_committed_is_bounded() -> None:
    group = Group(3, settings=Settings(uncommitted_size_max=1_000))
    leader = group.leader()
    isolate(group, leader)
    taken = [group.propose(leader, bytes(300)) for _ in range(5)]
    assert [index is not None for index in taken] == [True, True, True, False, False]
    group.cuts = set()
    group.run(100)
    assert group.propose(group.leader(), bytes(300)) is not None


# --- thesis 6.4
def test_a_read_is_answered_when_a_majority_took_this_peer_for_the_leader() -> None:
    group = Group(3)
    leader = group.leader()
    group.run(50)
    index = group.core(leader).commit_index
    assert group.read(leader, 1)
    assert group.peers[leader].answered == {}
    group.run(1)
    assert group.peers[leader].answered == {1: index}
    assert not group.read(next(name for name in group.peers if name != leader), 2)


def test_a_leader_that_was_replaced_answers_no_read() -> None:
    group = Group(3)
    old = group.leader()
    isolate(group, old)
    group.read(old, 1)
    group.run(1_000)

    assert group.peers[old].answered == {}
    assert group.peers[old].refused == [1]


def test_a_read_waits_for_an_entry_of_the_leaders_own_term() -> None:
    group = Group(3)
    group.run_until(lambda: group.leaders)
    leader = next(iter(group.leaders.values()))
    group.read(leader, 1)
    assert group.peers[leader].answered == {}
    group.run(10)
    assert group.peers[leader].answered == {1: 1}


def test_a_group_of_one_commits_and_reads_by_itself() -> None:
    group = Group(1)
    leader = group.leader()
    group.propose(leader, b"1")
    group.read(leader, 1)
    group.run(1)

    assert commands(group.committed) == [b"1"]
    assert list(group.peers[leader].answered) == [1]
