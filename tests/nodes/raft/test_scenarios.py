"""The stories that MIT's course 6.5840 tells of Raft, in virtual time: elections, agreement, persistence, snapshots."""

from __future__ import annotations

from random import Random

import pytest

from nodes.raft.messages import AppendEntries, Kind, Rejected, Vote
from tests.nodes.raft.group import (
    MS,
    Group,
    agree,
    all_agree,
    applied,
    applied_by,
    commands,
    followers,
    isolate,
    unreliable,
)


# --- elections
def test_re_election() -> None:
    group = Group(3)
    first = group.leader()
    isolate(group, first)
    group.run(1_000)
    second = group.leader()
    assert second != first

    group.cuts = set()
    group.run(500)
    assert group.leader() == second, "one who comes back disturbs nobody"
    assert group.core(first).leader == second

    isolate(group, second, first)
    third = next(name for name in group.peers if name not in (first, second))
    isolate(group, first)
    group.cuts |= {(one, other) for one in (second, third) for other in (second, third)}
    group.run(2_000)
    assert all(group.core(name).leadership is None for name in group.peers), "no two can talk"

    group.cuts = set()
    assert group.leader()


def test_many_elections() -> None:
    group = Group(7)
    chance = Random(7)
    for _ in range(20):
        group.leader()
        isolate(group, *chance.sample(list(group.peers), 3))
        group.run(1_000)
        leaders = [name for name in group.peers if group.core(name).leadership is not None]
        assert len(leaders) == 1, "four of seven have a leader, and three have not"
    group.cuts = set()
    assert group.leader()


# --- agreement
def test_each_entry_goes_to_each_peer_once() -> None:
    """RPC bytes: ten commands of 5,000 bytes to two peers are ten commands to two peers."""
    group = Group(3)
    leader = group.leader()
    group.run(50)
    group.sent.clear()
    for number in range(10):
        agree(group, bytes([number]) * 5_000, 3)

    size = sum(len(each.body) for _, _, sent in group.sent if isinstance(sent, AppendEntries) for each in sent.entries)
    assert group.leader() == leader
    assert size == 2 * 10 * 5_000


def test_followers_fail_one_after_the_other() -> None:
    group = Group(3)
    agree(group, b"1", 3)
    leader = group.leader()
    one, other = followers(group, leader)
    isolate(group, one)
    agree(group, b"2", 2)
    group.run(500)
    agree(group, b"3", 2)
    group.cuts |= {(leader, other), (other, leader)}
    group.propose(leader, b"4")
    group.run(1_000)

    assert applied(group, b"4") == 0
    assert applied(group, b"3") == 2


def test_leaders_fail_one_after_the_other() -> None:
    group = Group(3)
    agree(group, b"1", 3)
    first = group.leader()
    isolate(group, first)
    group.run(1_000)
    agree(group, b"2", 2)
    second = group.leader()
    third = next(name for name in group.peers if name not in (first, second))
    group.cuts |= {(second, third), (third, second)}
    for name in group.peers:
        group.propose(name, b"4")
    group.run(1_000)

    assert applied(group, b"4") == 0


def test_a_follower_that_comes_back_agrees() -> None:
    group = Group(3)
    leader = agree(group, b"1", 3)
    other = followers(group, leader)[0]
    isolate(group, other)
    for number in range(2, 6):
        agree(group, b"%d" % number, 2)
    group.run(500)
    group.cuts = set()
    group.run(100)

    assert applied_by(group, other) == [b"1", b"2", b"3", b"4", b"5"]


def test_there_is_no_agreement_when_too_many_are_away() -> None:
    group = Group(5)
    leader = agree(group, b"1", 5)
    away = followers(group, leader)[:3]
    isolate(group, *away)
    index = group.propose(leader, b"2")
    assert index is not None
    group.run(2_000)
    assert applied(group, b"2") == 0

    group.cuts = set()
    agree(group, b"3", 5)
    all_agree(group)


def test_commands_at_once_are_all_taken_in_one_term() -> None:
    group = Group(3)
    leader = group.leader()
    indices = [group.propose(leader, b"%d" % number) for number in range(50)]
    group.run(50)

    assert None not in indices
    assert [applied_by(group, name) for name in group.peers] == [[b"%d" % number for number in range(50)]] * 3


def test_leaders_that_were_cut_off_come_back() -> None:
    """Rejoin of a partitioned leader: twice a leader has entries that nobody else has."""
    group = Group(3)
    first = agree(group, b"101", 3)
    isolate(group, first)
    for body in (b"102", b"103", b"104"):
        group.propose(first, body)
    group.run(500)
    second = agree(group, b"103'", 2)
    isolate(group, second)
    group.run(500)
    agree(group, b"104'", 2)
    group.cuts = set()
    agree(group, b"105", 3)

    assert [applied_by(group, name) for name in group.peers] == [[b"101", b"103'", b"104'", b"105"]] * 3


def test_incorrect_logs_are_backed_up_quickly() -> None:
    """Three times fifty entries that give way cost a refusal for each term, not for each entry."""
    group = Group(5)
    first = agree(group, b"begin", 5)
    minority = [first, followers(group, first)[0]]
    majority = [name for name in group.peers if name not in minority]
    isolate(group, *minority)
    for number in range(50):
        group.propose(first, b"lost %d" % number)
    group.run(500)
    for number in range(50):
        agree(group, b"one %d" % number, 3)
    second = group.leader()
    assert second in majority
    aside = next(name for name in majority if name != second)
    isolate(group, second, *minority)
    group.cuts |= {(one, other) for one in minority for other in group.peers}
    group.cuts |= {(one, other) for other in minority for one in group.peers}
    for number in range(50):
        group.propose(second, b"lost too %d" % number)
    group.run(500)
    isolate(group, aside, *minority)
    third_group = [aside, *minority]
    group.cuts |= {(second, name) for name in group.peers} | {(name, second) for name in group.peers}
    group.run(1_500)
    assert group.leader() in third_group
    for number in range(50):
        agree(group, b"two %d" % number, 3)
    group.sent.clear()
    all_agree(group)

    refusals = [message for _, _, message in group.sent if isinstance(message, Rejected)]
    assert len(refusals) <= 12
    assert len(group.committed) >= 100


def test_an_idle_group_says_little() -> None:
    """Count of RPCs: heartbeats and their answers, and at most a handful for an election and for ten commands."""
    group = Group(3)
    leader = group.leader()
    assert len(group.sent) <= 30
    group.sent.clear()
    for number in range(10):
        group.propose(leader, b"%d" % number)
    group.run(1)
    assert len(group.sent) <= 3 * 2 * 12
    group.run(500)
    group.sent.clear()
    group.run(1_000)

    beats = 1_000 * MS // group.settings.heartbeat_ns + 1
    assert len(group.sent) <= beats * 2 * 2


# --- persistence
def test_all_are_killed_and_started_again_and_again() -> None:
    group = Group(3)
    agree(group, b"11", 3)
    for name in group.peers:
        group.kill(name)
    for name in group.peers:
        group.start(name)
    leader = agree(group, b"12", 3)
    group.kill(leader)
    group.start(leader)
    leader = agree(group, b"13", 3)
    group.kill(leader)
    agree(group, b"14", 2)
    group.start(leader)
    group.run(500)
    away = followers(group, group.leader())[0]
    group.kill(away)
    agree(group, b"15", 2)
    group.start(away)
    agree(group, b"16", 3)

    assert applied_by(group, away) == [b"11", b"12", b"13", b"14", b"15", b"16"]


def test_majorities_that_share_one_peer_carry_the_log_on() -> None:
    group = Group(5)
    for turn in range(5):
        body = b"%d" % turn
        leader = agree(group, body + b"a", 5)
        one, other, *rest = followers(group, leader)
        group.kill(one)
        group.kill(other)
        agree(group, body + b"b", 3)
        for name in (leader, *rest):
            group.kill(name)
        group.start(one)
        group.start(other)
        group.run(1_000)
        assert group._leader() == "", "two of five that missed an entry lead nobody"
        group.start(rest[0])
        agree(group, body + b"c", 3)
        for name in (leader, rest[1]):
            group.start(name)
    all_agree(group)
    assert applied_by(group, "p0") == [b"%d%c" % (turn, each) for turn in range(5) for each in b"abc"] + [b"the end"]


def test_a_leader_and_a_follower_die_and_the_follower_returns_first() -> None:
    group = Group(3)
    leader = agree(group, b"101", 3)
    one, other = followers(group, leader)
    isolate(group, other)
    agree(group, b"102", 2)
    group.kill(leader)
    group.kill(one)
    group.cuts = set()
    group.start(leader)
    agree(group, b"103", 2)
    group.start(one)
    agree(group, b"104", 3)

    assert applied_by(group, other) == [b"101", b"102", b"103", b"104"]


@pytest.mark.parametrize("seed", range(5))
def test_figure_8_at_random(seed: int) -> None:
    """Leaders take commands and die, with and without having told others; a majority is mostly up."""
    group = Group(5, seed)
    chance = group.rng
    for number in range(1_000):
        up = [name for name, peer in group.peers.items() if peer.core is not None]
        for name in up:
            group.propose(name, b"%d" % number)
        group.run(chance.randrange(1, 500) if chance.random() < 0.1 else chance.random())
        leader = group._leader()
        if leader and chance.random() < 0.5:
            group.kill(leader)
        down = [name for name, peer in group.peers.items() if peer.core is None]
        if len(down) > 2:
            group.start(chance.choice(down))
    group.check_logs()
    all_agree(group)
    assert len(group.leaders) > 20


@pytest.mark.parametrize("seed", range(5))
def test_figure_8_over_a_network_that_loses_and_delays(seed: int) -> None:
    group = Group(5, seed)
    unreliable(group)
    chance = group.rng
    cut: set[str] = set()
    for number in range(1_000):
        for name in group.peers:
            group.propose(name, b"%d" % number)
        group.run(chance.randrange(1, 250) if chance.random() < 0.1 else chance.randrange(1, 13))
        leader = group._leader()
        if leader and chance.random() < 0.5:
            cut.add(leader)
        if len(cut) > 2:
            cut.remove(chance.choice(sorted(cut)))
        group.cuts = {(one, other) for one in group.peers for other in group.peers if one in cut or other in cut}
    group.check_logs()
    all_agree(group)
    assert len(group.leaders) > 20


def test_agreement_over_a_network_that_loses_and_delays() -> None:
    group = Group(5, 3)
    unreliable(group)
    for number in range(50):
        agree(group, b"%d" % number, 3)
    all_agree(group)


@pytest.mark.parametrize("is_reliable", [True, False])
def test_churn(is_reliable: bool) -> None:
    """Peers are cut off, killed and started while three clients go on; what was committed is there in the end."""
    group = Group(5, 11)
    if not is_reliable:
        unreliable(group)
    chance = group.rng
    for number in range(60):
        if chance.random() < 0.2:
            isolate(group, chance.choice(list(group.peers)))
        if chance.random() < 0.5:
            group.cuts = set()
        down = [name for name, peer in group.peers.items() if peer.core is None]
        if down and chance.random() < 0.5:
            group.start(down[0])
        elif len(down) < 2 and chance.random() < 0.2:
            group.kill(chance.choice([name for name in group.peers if name not in down]))
        for client in range(3):
            for name, peer in group.peers.items():
                if peer.core is not None:
                    group.propose(name, b"%d of %d" % (number, client))
        group.run(140)
    known = commands(group.committed)
    all_agree(group)

    assert len(known) > 60
    assert applied_by(group, "p0")[: len(known)] == known


# --- snapshots
def test_what_is_compacted_is_applied_once() -> None:
    group = Group(3)
    for number in range(31):
        agree(group, b"%d" % number, 3)
        if number % 10 == 9:
            for name in group.peers:
                group.compact(name)

    assert group.installed == 0
    assert all(applied_by(group, name) == [b"%d" % number for number in range(31)] for name in group.peers)
    assert all(group.core(name).log.first_index > 30 for name in group.peers)


@pytest.mark.parametrize("is_reliable", [True, False])
@pytest.mark.parametrize("are_killed", [True, False])
def test_who_lacks_what_is_compacted_installs_a_snapshot(is_reliable: bool, are_killed: bool) -> None:
    group = Group(3, 5)
    if not is_reliable:
        unreliable(group)
    leader = agree(group, b"first", 3)
    for turn in range(10):
        victim = followers(group, leader)[turn % 2] if turn % 3 else leader
        if are_killed:
            group.kill(victim)
        else:
            isolate(group, victim)
        for number in range(10):
            leader = agree(group, b"%d.%d" % (turn, number), 2)
        for name, peer in group.peers.items():
            if peer.core is not None and name != victim:
                group.compact(name)
        if are_killed:
            group.start(victim)
        group.cuts = set()
        leader = agree(group, b"%d" % turn, 3)
    all_agree(group)

    assert group.installed >= 5


def test_all_are_killed_with_nothing_but_snapshots() -> None:
    group = Group(3)
    for number in range(5):
        agree(group, b"%d" % number, 3)
    for name in group.peers:
        group.compact(name)
        group.kill(name)
    for name in group.peers:
        group.start(name)
        assert group.core(name).log.first_index > 5
    agree(group, b"5", 3)

    assert applied_by(group, "p0") == [b"%d" % number for number in range(6)]


# --- what a leader begins with
def test_a_leader_begins_with_one_empty_entry_and_no_other() -> None:
    group = Group(3)
    leader = group.leader()
    group.run(1_000)

    assert [each.kind for each in group.core(leader).log.slice(1, 9)] == [Kind.EMPTY]
    assert len([message for _, _, message in group.sent if isinstance(message, Vote)]) <= 8
