"""Everything at once, at random, over cores alone: the properties of Figure 3 hold, and in the end all agree."""

from __future__ import annotations

from random import Random

import pytest

from nodes.raft.core import Raft
from tests.nodes.raft.group import MS, Group, Peer


def happen(group: Group, chance: Random, owing_max: int = 1) -> None:
    """One of the things that can happen to a group. A disk loses records in the middle for so many peers at once."""
    up = [peer for peer in group.peers.values() if peer.core is not None]
    down = [peer for peer in group.peers.values() if peer.core is None]
    names = list(group.peers)
    what = chance.random()
    if what < 0.06 and len(up) > len(names) // 2:
        group.kill(chance.choice(up).name)
    elif what < 0.2 and down:
        name = chance.choice(down).name
        if chance.random() < 0.5 and len(group.owing()) < owing_max:
            group.damage(name)
        group.start(name)
    elif what < 0.25:
        one = chance.choice(names)
        group.cuts = {(one, other) for other in names}
        if chance.random() < 0.5:
            group.cuts |= {(other, one) for other in names}
    elif what < 0.35:
        group.cuts = set()
    elif what < 0.45 and up:
        group.compact(chance.choice(up).name)
    for peer in up:
        if peer.core is not None and peer.core.leadership is not None:
            lead(group, peer, chance)


def lead(group: Group, peer: Peer, chance: Random) -> None:
    """What may be asked of a leader."""
    names = list(group.peers)
    if chance.random() < 0.05:
        group.do(peer.name, lambda core: core.transfer(chance.choice(names)))
    elif chance.random() < 0.1:
        voters = tuple(sorted(chance.sample(names, chance.randrange(3, len(names) + 1))))
        learners = tuple(name for name in names if name not in voters)
        group.do(peer.name, lambda core: core.change_members(voters, learners))
    for _ in range(chance.randrange(5)):
        group.propose(peer.name, b"%d" % group.events)


def delay_ns(chance: Random) -> int | None:
    """How long a message is on its way; a few for long, and a few for ever."""
    longest_ns = 60 * MS if chance.random() < 0.05 else 3 * MS
    return None if chance.random() < 0.03 else chance.randrange(10_000, longest_ns)


def at_random(seed: int, owing_max: int) -> Group:
    """A group to which everything has happened; it is checked at each step."""
    group = Group(3 + 2 * (seed % 3), seed)
    chance = group.rng
    group.doubling = 0.05
    group.delay_ns = lambda _source, _target: delay_ns(chance)
    group.sync_ns = lambda: chance.randrange(50_000, 5_000_000)
    for _ in range(150):
        group.run(chance.randrange(1, 60))
        happen(group, chance, owing_max)
    group.check_logs()
    return group


@pytest.mark.parametrize("seed", range(40))
def test_a_group_stays_right_whatever_happens(seed: int) -> None:
    group = at_random(seed, owing_max=1)

    group.cuts, group.delay_ns = set(), lambda _source, _target: 100_000
    for name, peer in group.peers.items():
        if peer.core is None:
            group.start(name)
    group.leader()
    group.run(2_000)
    group.check_logs()
    members = group.core(group.leader()).members
    assert {len(group.peers[name].applied) for name in members.all} == {len(group.committed)}
    assert not [name for name in group.owing() if name in members.all]


@pytest.mark.parametrize("seed", range(20))
def test_a_group_stays_right_however_many_disks_are_damaged(seed: int) -> None:
    at_random(seed, owing_max=9)  # where a majority owes, nobody leads


def test_a_peer_that_votes_though_it_has_lost_entries_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Raft, "is_whole", property(lambda _: True))

    with pytest.raises(AssertionError, match=r"leader completeness|state machine safety"):
        trials(100)


def trials(count: int) -> None:
    for seed in range(count):
        at_random(seed, owing_max=9)
