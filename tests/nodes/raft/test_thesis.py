"""The thesis, and what others learned after it: chapters 3.10, 4, 6.2, 9.6 and 10.2.1, and bugs that became known.

Those that were in `test_elections` and `test_members` before are there.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import pytest

from nodes.raft.core import HardState, Settings
from nodes.raft.log import members_entry
from nodes.raft.members import Members
from nodes.raft.messages import Appended, AppendEntries, Heartbeat, RequestVote, TimeoutNow, Vote
from nodes.raft.progress import State
from tests.nodes.raft.alone import LONG_NS, SETTINGS, Alone
from tests.nodes.raft.group import MS, Group, agree, all_agree, applied_by, commands, entry, followers, isolate
from tests.nodes.raft.mutants import broken
from tests.nodes.raft.test_at_random import test_a_group_stays_right_whatever_happens as at_random

THREE = ("p0", "p1", "p2")


def change(group: Group, leader: str, voters: tuple[str, ...], learners: tuple[str, ...] = ()) -> int | str:
    answer: int | str = group.do(leader, lambda core: core.change_members(voters, learners))
    return answer


def transfer(group: Group, leader: str, target: str) -> str:
    answer: str = group.do(leader, lambda core: core.transfer(target))
    return answer


def put_on_disk(group: Group, name: str, terms: list[int], hard_state: HardState) -> None:
    group.kill(name)
    group.peers[name].disk.entries = [entry(term, b"%d" % index) for index, term in enumerate(terms, 1)]
    group.peers[name].disk.hard_state = hard_state


# --- 9.6: pre-vote
def test_9_6_a_pre_candidate_forgets_its_leader() -> None:
    """etcd 8334: or it would refuse others their pre-votes, for the sake of a leader whom it gave up itself."""
    peer = Alone()
    peer.hears("p1", Heartbeat(term=1, commit_index=0, round=1))
    peer.waits()

    assert (peer.role, peer.core.leader) == ("pre_candidate", "")
    [(_, answer)] = peer.hears("p2", RequestVote(term=2, last_index=0, last_term=0, is_pre=True))
    assert answer == Vote(term=2, is_granted=True, is_pre=True)


def test_9_6_a_pre_vote_is_no_vote() -> None:
    """canonical/raft 196: it leaves term and vote as they were, and may be given to many."""
    peer = Alone(term=3, voted_for="p1")
    for name in ("p1", "p2"):
        wanted = RequestVote(term=4, last_index=0, last_term=0, is_pre=True)
        assert peer.hears(name, wanted) == [(name, Vote(term=4, is_granted=True, is_pre=True))]

    assert peer.hard_state == HardState(3, "p1")


@pytest.mark.parametrize("is_pre", [True, False])
def test_9_6_pre_votes_and_votes_are_counted_apart(is_pre: bool) -> None:
    peer = Alone(count=5)
    peer.waits()
    if not is_pre:
        peer.stands()
    role = peer.role
    for name in ("p1", "p2", "p3", "p4"):
        peer.hears(name, Vote(term=peer.core.term, is_granted=True, is_pre=not is_pre))

    assert (peer.role, role) == (role, "pre_candidate" if is_pre else "candidate")


def test_9_6_pre_votes_that_come_late_elect_nobody() -> None:
    """A candidate of term 1 that stands again has use for pre-votes of term 2 only."""
    peer = Alone()
    peer.stands()
    peer.waits()
    peer.hears("p1", Vote(term=1, is_granted=True, is_pre=True))

    assert (peer.role, peer.core.term) == ("pre_candidate", 1)


def test_9_6_who_lags_behind_is_not_kept_from_electing_another() -> None:
    """Of three, the one with the later term has the shorter log: the others learn its term, and one of them leads."""
    group = Group(3, 1)
    put_on_disk(group, "p0", [1, 1], HardState(1, "p0"))
    put_on_disk(group, "p1", [1, 1], HardState(1, "p0"))
    put_on_disk(group, "p2", [1], HardState(7, "p2"))
    group.start("p0")
    group.start("p2")

    assert group.leader() == "p0"
    assert group.core("p0").term > 7


# --- 4.2.3: who hears a leader does not vote
def test_4_2_3_who_hears_a_leader_does_not_even_look_at_a_later_term() -> None:
    peer = Alone()
    peer.hears("p1", Heartbeat(term=1, commit_index=0, round=1))
    wanted = RequestVote(term=9, last_index=9, last_term=9)
    peer.now_ns += SETTINGS.election_timeout_ns - 1
    assert peer.hears("p2", wanted) == []
    assert peer.hard_state == HardState(1, "")

    peer.now_ns += 1
    assert peer.hears("p2", wanted) == [("p2", Vote(term=9, is_granted=True))]


def test_4_2_3_a_leader_looks_at_no_later_term_and_a_transfer_is_no_disruption() -> None:
    peer = Alone()
    peer.leads()
    assert peer.hears("p2", RequestVote(term=9, last_index=9, last_term=9)) == []
    assert peer.role == "leader"
    wanted = RequestVote(term=9, last_index=9, last_term=9, is_transfer=True)
    assert peer.hears("p2", wanted) == [("p2", Vote(term=9, is_granted=True))]
    assert peer.role == "follower"


def test_4_2_3_a_peer_that_was_removed_and_does_not_know_it_disturbs_nobody() -> None:
    group = Group(4)
    leader = group.leader()
    gone = followers(group, leader)[0]
    isolate(group, gone)
    change(group, leader, tuple(name for name in group.peers if name != gone))
    group.run(1_000)
    group.cuts = set()
    group.run(3_000)

    assert list(group.leaders.values()) == [leader]


# --- 6.2: a leader without a majority
def test_6_2_a_leader_that_hears_nobody_steps_down_though_all_hear_it() -> None:
    """Or its heartbeats would keep a group for ever in which nothing is committed."""
    group = Group(3)
    old = group.leader()
    group.cuts = {(name, old) for name in group.peers}
    group.run(2_000)

    assert group.core(old).leadership is None
    assert agree(group, b"again", 2) != old


@pytest.mark.parametrize("seed", range(10))
def test_6_2_one_link_that_is_cut_makes_no_leader_after_leader(seed: int) -> None:
    """Cloudflare, 2020: two of three that do not hear each other, and both the third."""
    group = Group(3, seed)
    leader = group.leader()
    other = followers(group, leader)[0]
    group.cuts = {(leader, other), (other, leader)}
    group.run(10_000)

    assert list(group.leaders.values()) == [leader]
    agree(group, b"some", 2)


@pytest.mark.parametrize("seed", range(10))
def test_6_2_a_ring_of_five_with_cut_links_has_one_leader(seed: int) -> None:
    """Only who reaches a majority leads, and whoever does is left alone."""
    group = Group(5, seed)
    group.leader()
    names = list(group.peers)
    group.cuts = {(one, other) for one in names for other in names if one != other and "p0" not in (one, other)}
    group.run(5_000)
    assert group.leader() == "p0", "nobody else has a majority"
    terms = len(group.leaders)
    group.run(5_000)

    assert len(group.leaders) == terms


# --- 10.2.1: what is durable, when writes overtake each other's meaning
def test_10_2_1_a_write_is_no_promise_for_entries_that_took_the_place_of_its_own() -> None:
    """etcd's async_storage_writes_append_aba_race: the same entry goes, and comes back, while the first is written."""
    core = Alone().core
    first, second = entry(1, b"1"), entry(1, b"2")
    saves = []
    for term, source, entries in ((1, "p1", (first, second)), (2, "p2", (entry(2, b"x"),)), (3, "p1", (first, second))):
        message = AppendEntries(term=term, previous_index=0, previous_term=0, commit_index=0, entries=entries)
        core.step(source, message, 0)
        saves.append(core.ready())
    durable = []
    for ready in saves:
        assert ready.save is not None
        core.persisted(ready.save.number)
        durable.append(core.durable_index)

    assert durable == [0, 0, 2]
    promised = [message for ready in saves for _, message in ready.send_after]
    assert promised == [Appended(term=1, index=2), Appended(term=2, index=1), Appended(term=3, index=2)]


def test_10_2_1_a_promise_of_an_earlier_term_is_none_in_this() -> None:
    peer = Alone()
    peer.leads()
    peer.core.advance_term(2, because="a test")
    peer.stands()
    peer.hears("p1", Vote(term=3, is_granted=True))
    assert (peer.role, peer.core.term, peer.core.log.last_index) == ("leader", 3, 2)
    peer.hears("p1", Appended(term=1, index=2))

    assert peer.core.commit_index == 0


# --- what PySyncObj does wrong
def elections_among_peers_that_die(seed: int) -> Group:
    """Elections all the time, while who has just voted is killed and started again."""
    group = Group(3, seed, Settings(heartbeat_ns=1 * MS, election_timeout_ns=4 * MS))
    chance = group.rng
    group.delay_ns = lambda _source, _target: chance.randrange(10_000, 3 * MS)
    for _ in range(200):
        group.run(chance.randrange(1, 8))
        name = chance.choice(THREE)
        group.kill(name)
        group.start(name)
    return group


def test_5_2_peers_that_die_elect_one_leader_in_a_term() -> None:
    for seed in range(10):
        assert elections_among_peers_that_die(seed).leaders


def test_5_2_a_vote_that_is_not_saved_elects_two() -> None:
    with broken("votes are not saved (PySyncObj)"), pytest.raises(AssertionError, match="election safety"):
        [elections_among_peers_that_die(seed) for seed in range(10)]


def test_5_3_a_log_that_is_cut_without_a_conflict_is_seen_at_random() -> None:
    with broken("a follower cuts its log without a conflict (PySyncObj)"), pytest.raises(AssertionError):
        [at_random(seed) for seed in range(20)]


# --- 3.10: transfers
def test_3_10_a_transfer_waits_until_its_target_has_all() -> None:
    group = Group(3)
    leader = group.leader()
    slow = followers(group, leader)[0]
    group.run(50)
    group.delay_ns = lambda _source, target: None if target == slow else 50_000
    for number in range(20):
        group.propose(leader, b"%d" % number)
    group.run(100)
    group.sent.clear()
    assert transfer(group, leader, slow) == ""
    assert not [message for _, _, message in group.sent if isinstance(message, TimeoutNow)]
    group.delay_ns = lambda _source, _target: 50_000
    group.run(100)

    assert group.leader() == slow
    assert applied_by(group, slow) == [b"%d" % number for number in range(20)]


def test_3_10_who_is_to_lead_is_told_again_when_that_was_lost() -> None:
    group = Group(3)
    leader = group.leader()
    to = followers(group, leader)[0]
    group.run(50)
    isolate(group, to)
    assert transfer(group, leader, to) == ""
    group.run(10)
    group.cuts = set()
    group.run(100)

    assert group.leader() == to


def test_3_10_a_transfer_to_one_that_needs_a_snapshot() -> None:
    group = Group(3)
    leader = group.leader()
    away = followers(group, leader)[0]
    isolate(group, away)
    for number in range(10):
        agree(group, b"%d" % number, 2)
    group.compact(leader)
    group.cuts = set()
    transfer(group, leader, away)
    group.run(190)

    assert group.installed == 1
    assert group.leader() == away


def test_3_10_a_leader_refuses_what_cannot_be_a_transfer() -> None:
    group = Group(5, voters=THREE)
    leader = group.leader()
    group.run(50)
    one, other = (name for name in THREE if name != leader)
    assert isinstance(change(group, leader, THREE, ("p3",)), int)
    group.run(50)

    assert "is no other voter" in transfer(group, leader, leader)
    assert "is no other voter" in transfer(group, leader, "p3")
    assert "is no other voter" in transfer(group, leader, "p4")
    assert transfer(group, one, other) == "this peer does not lead"
    isolate(group, one)
    assert transfer(group, leader, one) == ""
    assert transfer(group, leader, one) == "", "asked twice"
    assert transfer(group, leader, other) == f"leadership is being handed over to {one}"
    assert change(group, leader, ("p0", "p1")) == f"leadership is being handed over to {one}"


def test_3_10_leadership_comes_back() -> None:
    group = Group(3)
    first = group.leader()
    second = followers(group, first)[0]
    for old, new in ((first, second), (second, first)) * 5:
        agree(group, b"%d" % len(group.leaders), 3)
        assert transfer(group, old, new) == ""
        group.run(20)
        assert group.leader() == new
    all_agree(group)


def test_3_10_who_is_told_to_lead_and_is_no_voter_does_not_stand() -> None:
    group = Group(4, voters=THREE)
    leader = group.leader()
    change(group, leader, THREE, ("p3",))
    group.run(50)
    term = group.core(leader).term
    group.do("p3", lambda core: core.step(leader, TimeoutNow(term=term), group.now_ns))
    group.run(50)

    assert group.core("p3").election is None
    assert list(group.leaders.values()) == [leader]


# --- 4.2.1: learners
def test_4_2_1_what_learners_have_is_not_counted() -> None:
    group = Group(5, voters=THREE)
    leader = group.leader()
    group.run(50)
    assert isinstance(change(group, leader, THREE, ("p3", "p4")), int)
    group.run(50)
    isolate(group, *(name for name in THREE if name != leader))
    group.propose(leader, b"some")
    group.run(100)

    assert all(commands(group.core(name).log.slice(1, 9)) == [b"some"] for name in (leader, "p3", "p4"))
    assert commands(group.committed) == []


def test_4_2_1_a_new_learner_gets_a_snapshot_and_becomes_a_voter() -> None:
    group = Group(4, voters=THREE)
    leader = agree(group, b"0", 3)
    for number in range(1, 20):
        agree(group, b"%d" % number, 3)
    for name in THREE:
        group.compact(name)
    change(group, leader, THREE, ("p3",))
    group.run(300)
    assert group.installed == 1
    assert applied_by(group, "p3") == [b"%d" % number for number in range(20)]
    change(group, leader, (*THREE, "p3"))
    group.run(50)
    isolate(group, followers3(leader)[0])
    agree(group, b"20", 3)

    assert group.core("p3").members == Members((*THREE, "p3"))


def test_4_2_1_a_voter_becomes_a_learner() -> None:
    group = Group(3)
    leader = group.leader()
    group.run(50)
    one, other = followers(group, leader)
    assert isinstance(change(group, leader, tuple(sorted((leader, one))), (other,)), int)
    group.run(50)
    group.kill(leader)
    group.run(2_000)

    assert group._leader() == "", "one of two is no majority, and a learner is none at all"
    group.start(leader)
    agree(group, b"some", 3)


# --- 4.2.2: who goes may be needed until that is committed
def test_4_2_2_who_is_no_voter_by_an_entry_that_is_not_committed_still_stands() -> None:
    """Figure 4.6: nobody else has that entry, and so none of the voters gets the votes of those who go."""
    group = Group(5, voters=("p1", "p2", "p3"))
    joint = Members(("p0", "p3", "p4"), (), ("p1", "p2", "p3"))
    changes = [members_entry(1, joint), members_entry(1, joint.settled())]
    for name, count in (("p0", 1), ("p1", 2), ("p2", 2), ("p3", 0), ("p4", 1)):
        put_on_disk(group, name, [1], HardState(1, "p2"))
        group.peers[name].disk.entries += changes[:count]
    for name in group.peers:
        group.start(name)
    assert group.leader()
    group.run(2_000)
    agree(group, b"some", 3)

    assert group.leaders[2] in ("p1", "p2")
    assert group.leader() in ("p0", "p3", "p4")
    assert group.core(group.leader()).members == joint.settled()


# --- Ongaro 2015: single-server changes need an entry of the leader's own term
def two_changes_that_do_not_know_of_each_other() -> Group:
    """Four servers. The first leader adds p4, and only p4 hears of it; the second, p1, removes p0 at once."""
    group = Group(5, voters=("p0", "p1", "p2", "p3"))
    added = members_entry(1, Members(("p0", "p1", "p2", "p3", "p4")))
    for name in group.peers:
        put_on_disk(group, name, [1], HardState(1, "p0"))
        if name in ("p0", "p4"):
            group.peers[name].disk.entries.append(added)
        group.start(name)
    isolate(group, "p0", "p4")
    group.do("p1", lambda core: core.campaign(because="a test", is_transfer=True))
    group.run_until(lambda: group.core("p1").leadership is not None)
    isolate(group, "p1", "p2")
    change(group, "p1", ("p1", "p2", "p3"))
    group.run(20)
    isolate(group, "p0", "p3", "p4")
    group.run(2_000)
    return group


def test_4_1_two_changes_that_do_not_overlap_are_not_both_committed() -> None:
    group = two_changes_that_do_not_know_of_each_other()
    group.cuts = set()
    group.run(2_000)
    agree(group, b"some", len(group.core(group.leader()).members.all))
    group.check_logs()


def test_4_1_without_an_entry_of_the_own_term_they_are() -> None:
    mistake = "members change before an entry of the leader's term is committed (Ongaro 2015)"
    with broken(mistake), pytest.raises(AssertionError, match="leader completeness"):
        two_changes_that_do_not_know_of_each_other()


# --- crashes at every step
def happen(group: Group, count: int) -> None:
    """Let so many events happen."""
    for _ in range(count):
        group.now_ns, _, work = heapq.heappop(group._queue)
        work()


def begun(what: Callable[[Group, str], object]) -> tuple[Group, str]:
    """A group of five of which three are voters, with a command, and a leader that was asked for something."""
    group = Group(5, 2, voters=THREE)
    leader = agree(group, b"before", 3)
    group.run(50)
    what(group, leader)
    group.propose(leader, b"during")
    return group, leader


ASKED: dict[str, Callable[[Group, str], object]] = {
    "all voters are replaced but one": lambda group, leader: change(group, leader, ("p2", "p3", "p4")),
    "the leader goes": lambda group, leader: change(group, leader, tuple(name for name in THREE if name != leader)),
    "a voter comes": lambda group, leader: change(group, leader, (*THREE, "p3")),
    "two voters become learners": lambda group, leader: change(group, leader, (leader,), tuple(followers3(leader))),
    "a transfer": lambda group, leader: transfer(group, leader, followers3(leader)[0]),
}


def followers3(leader: str) -> list[str]:
    return [name for name in THREE if name != leader]


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("victims", ["the leader", "a follower", "a new one", "all"])
def test_4_3_a_crash_at_any_step_leaves_a_group_that_goes_on(asked: str, victims: str) -> None:
    what = ASKED[asked]
    for count in range(70):
        group, leader = begun(what)
        before = commands(group.committed)
        happen(group, count)
        down = {
            "the leader": [leader],
            "a follower": followers3(leader)[:1],
            "a new one": ["p3"],
            "all": list(group.peers),
        }[victims]
        for name in down:
            group.kill(name)
        group.run(700)
        for name in down:
            group.start(name)
        group.run(3_000)
        agree(group, b"after", 1)
        group.run(500)
        group.check_logs()

        members = group.core(group.leader()).members
        assert not members.is_joint, "a change that was begun is ended, or was never"
        assert {tuple(applied_by(group, name)) for name in members.all} == {tuple(commands(group.committed))}
        assert commands(group.committed)[: len(before)] == before


# --- what is in the way of a leader that begins
def test_a_leader_finds_out_what_each_peer_lacks_before_it_sends_without_waiting() -> None:
    peer = Alone([1, 1], term=1)
    peer.leads()
    leadership = peer.core.leadership
    assert leadership is not None
    assert {each.state for each in leadership.progress.values()} == {State.PROBE}
    for _ in range(5):
        peer.core.propose(b"x")
        assert not [message for _, message in peer.says() if isinstance(message, AppendEntries)]
    peer.hears("p1", Appended(term=2, index=3))

    assert leadership.progress["p1"].state is State.REPLICATE
    peer.waits(LONG_NS)
