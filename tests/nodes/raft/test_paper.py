"""The paper, sentence by sentence, for one server: sections 5.1 to 5.4, with the cases that etcd tries.

What takes a group is in `test_elections` and `test_replication`.
"""

from __future__ import annotations

import pytest

from nodes.raft.core import HardState
from nodes.raft.messages import (
    Appended,
    AppendEntries,
    Heartbeat,
    HeartbeatReply,
    Kind,
    LogEntry,
    Rejected,
    RequestVote,
    Vote,
)
from tests.nodes.raft.alone import LONG_NS, SETTINGS, Alone
from tests.nodes.raft.group import MS, Group, entry
from zactor.message import Message

ROLES = ("follower", "pre_candidate", "candidate", "leader")


def one_that_is(role: str, term: int = 0) -> Alone:
    peer = Alone(term=term)
    if role == "pre_candidate":
        peer.waits()
    elif role == "candidate":
        peer.stands()
    elif role == "leader":
        peer.leads()
    assert peer.role == role
    return peer


def append(term: int, previous: tuple[int, int], *terms: int, commit_index: int = 0) -> AppendEntries:
    index, previous_term = previous
    entries = tuple(entry(each, b"%d" % (index + place)) for place, each in enumerate(terms, 1))
    return AppendEntries(
        term=term, previous_index=index, previous_term=previous_term, commit_index=commit_index, entries=entries
    )


# --- 5.1
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "message", [append(9, (0, 0)), Heartbeat(term=9, commit_index=0, round=1), Appended(term=9, index=0)]
)
def test_5_1_whoever_sees_a_later_term_becomes_a_follower_in_it(role: str, message: Message[None]) -> None:
    peer = one_that_is(role)
    peer.hears("p1", message)

    assert peer.role == "follower"
    assert peer.hard_state == HardState(9, "")
    assert peer.core.leader == ("" if isinstance(message, Appended) else "p1")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "message",
    [
        append(2, (0, 0), 2),
        Heartbeat(term=2, commit_index=1, round=1),
        RequestVote(term=2, last_index=9, last_term=2),
        Vote(term=2, is_granted=True),
        Appended(term=2, index=1),
        Rejected(term=2, index=1, hint_index=0, hint_term=0),
    ],
)
def test_5_1_what_comes_from_an_earlier_term_is_refused(role: str, message: Message[None]) -> None:
    peer = one_that_is(role, term=5)
    term, log, hard_state = peer.core.term, peer.core.log.slice(1, 9), peer.hard_state
    sent = peer.hears("p1", message)

    assert (peer.role, peer.core.term, peer.core.log.slice(1, 9), peer.hard_state) == (role, term, log, hard_state)
    is_question = isinstance(message, AppendEntries | Heartbeat | RequestVote)
    assert [(target, answer.term) for target, answer in sent] == ([("p1", term)] if is_question else [])  # type: ignore[attr-defined]
    assert not any(isinstance(answer, Vote) and answer.is_granted for _, answer in sent)


# --- 5.2
def test_5_2_servers_begin_as_followers() -> None:
    assert Alone(term=3).role == "follower"
    assert Alone(term=3).says() == []


def test_5_2_a_leader_beats_to_all_others() -> None:
    peer = one_that_is("leader")
    assert peer.waits(SETTINGS.heartbeat_ns - 1) == []
    sent = peer.waits(1)

    assert [(target, type(message)) for target, message in sent] == [("p1", Heartbeat), ("p2", Heartbeat)]


def test_5_2_a_follower_that_hears_of_its_leader_begins_no_election() -> None:
    peer = Alone()
    for number in range(50):
        peer.hears("p1", Heartbeat(term=1, commit_index=0, round=number))
        peer.waits(SETTINGS.election_timeout_ns - 1)
        assert peer.role == "follower"


@pytest.mark.parametrize("role", ["follower", "candidate"])
def test_5_2_whoever_hears_no_leader_begins_an_election(role: str) -> None:
    peer = one_that_is(role, term=4)
    term = peer.core.term
    sent = peer.stands()

    assert peer.role == "candidate"
    assert peer.hard_state == HardState(term + 1, "p0")
    wanted = RequestVote(term=term + 1, last_index=0, last_term=0)
    assert sent == [("p1", wanted), ("p2", wanted)]


@pytest.mark.parametrize(
    ("count", "votes", "role"),
    [
        (1, {}, "leader"),
        (3, {"p1": True, "p2": True}, "leader"),
        (3, {"p1": True}, "leader"),
        (5, {"p1": True, "p2": True, "p3": True, "p4": True}, "leader"),
        (5, {"p1": True, "p2": True}, "leader"),
        (3, {"p1": False, "p2": False}, "follower"),
        (5, {"p1": False, "p2": False, "p3": False, "p4": False}, "follower"),
        (5, {"p1": True, "p2": False, "p3": False, "p4": False}, "follower"),
        (3, {}, "candidate"),
        (5, {"p1": True}, "candidate"),
        (5, {"p1": False, "p2": False}, "candidate"),
        (5, {"p1": True, "p2": False, "p3": False, "p4": True}, "leader"),
    ],
)
def test_5_2_a_majority_of_votes_makes_a_leader(count: int, votes: dict[str, bool], role: str) -> None:
    peer = Alone(count=count)
    peer.stands()
    for name, is_granted in votes.items():
        peer.hears(name, Vote(term=1, is_granted=is_granted))

    assert (peer.role, peer.core.term) == (role, 1)


def test_5_2_a_vote_counts_once_however_often_it_comes() -> None:
    peer = Alone(count=5)
    peer.stands()
    for _ in range(3):
        peer.hears("p1", Vote(term=1, is_granted=True))

    assert peer.role == "candidate"


@pytest.mark.parametrize(
    ("voted_for", "candidate", "is_granted"),
    [
        ("", "p1", True),
        ("", "p2", True),
        ("p1", "p1", True),
        ("p2", "p2", True),
        ("p1", "p2", False),
        ("p2", "p1", False),
    ],
)
def test_5_2_each_votes_for_one_candidate_of_a_term_who_comes_first(
    voted_for: str, candidate: str, is_granted: bool
) -> None:
    peer = Alone(term=1, voted_for=voted_for)
    sent = peer.hears(candidate, RequestVote(term=1, last_index=0, last_term=0))

    assert sent == [(candidate, Vote(term=1, is_granted=is_granted))]


@pytest.mark.parametrize("role", ["pre_candidate", "candidate"])
@pytest.mark.parametrize("is_later", [True, False])
def test_5_2_a_candidate_follows_the_leader_of_its_term_or_of_a_later(role: str, is_later: bool) -> None:
    peer = one_that_is(role, term=1)
    term = peer.core.term + is_later
    peer.hears("p2", append(term, (0, 0)))

    assert (peer.role, peer.core.term, peer.core.leader) == ("follower", term, "p2")


def test_5_2_election_timeouts_are_drawn_from_an_interval() -> None:
    """Each by itself: over a thousand, all of the interval is used, and nothing else."""
    peer = Alone()
    drawn = []
    for _ in range(1_000):
        peer.core.wait_for_leader()
        drawn.append((peer.core.deadline_ns - peer.now_ns) / SETTINGS.election_timeout_ns)

    assert min(drawn) >= 1
    assert max(drawn) < 2
    tenths = {int(each * 10) for each in drawn}
    assert tenths == set(range(10, 20))


def test_5_2_votes_are_seldom_split() -> None:
    terms = []
    for seed in range(100):
        group = Group(5, seed)
        group.leader()
        terms.append(max(group.leaders))

    assert sum(term == 1 for term in terms) >= 90


# --- 5.3
def test_5_3_a_leader_sends_a_command_to_all_in_parallel() -> None:
    peer = one_that_is("leader")
    for name in ("p1", "p2"):
        peer.hears(name, Appended(term=1, index=1))
    assert peer.core.propose(b"some") == 2
    sent = peer.says()

    new = LogEntry(1, Kind.COMMAND, b"some")
    wanted = AppendEntries(term=1, previous_index=1, previous_term=1, commit_index=1, entries=(new,))
    assert sent == [("p1", wanted), ("p2", wanted)]
    assert peer.core.log.slice(2, 2) == (new,)


def test_5_3_a_leader_applies_what_is_committed_and_says_so() -> None:
    peer = one_that_is("leader")
    for name in ("p1", "p2"):
        peer.hears(name, Appended(term=1, index=1))
    peer.core.propose(b"some")
    peer.says()
    peer.hears("p1", Appended(term=1, index=2))

    assert [each.body for each in peer.applied] == [b"", b"some"]
    beats = dict(peer.waits(SETTINGS.heartbeat_ns))
    assert beats["p1"] == Heartbeat(term=1, commit_index=2, round=2)
    assert beats["p2"] == Heartbeat(term=1, commit_index=1, round=2), "no more than it is known to have"


@pytest.mark.parametrize(
    ("count", "names", "is_committed"),
    [
        (1, (), True),
        (3, (), False),
        (3, ("p1",), True),
        (3, ("p1", "p2"), True),
        (5, (), False),
        (5, ("p1",), False),
        (5, ("p1", "p2"), True),
        (5, ("p1", "p2", "p3"), True),
    ],
)
def test_5_3_what_a_majority_has_is_committed(count: int, names: tuple[str, ...], is_committed: bool) -> None:
    peer = Alone(count=count)
    peer.leads()
    for name in peer.core.members.all[1:]:
        peer.hears(name, Appended(term=1, index=1))
    peer.core.propose(b"some")
    peer.says()
    for name in names:
        for _ in range(2):  # who says it twice is no two
            peer.hears(name, Appended(term=1, index=2))

    assert (peer.core.commit_index == 2) == is_committed


@pytest.mark.parametrize("terms", [[], [2], [1, 2], [1]])
def test_5_3_with_an_entry_all_before_it_are_committed(terms: list[int]) -> None:
    peer = Alone(terms, term=2)
    peer.leads()
    peer.core.propose(b"some")
    peer.says()
    peer.hears("p1", Appended(term=3, index=len(terms) + 2))

    assert [each.term for each in peer.applied] == [*terms, 3, 3]
    assert peer.applied[-1].body == b"some"


@pytest.mark.parametrize("commit_index", [1, 2, 3, 9])
def test_5_3_a_follower_applies_in_order_what_its_leader_committed(commit_index: int) -> None:
    peer = Alone()
    peer.hears("p1", append(1, (0, 0), 1, 1, 1, commit_index=commit_index))

    assert [each.body for each in peer.applied] == [b"1", b"2", b"3"][:commit_index]


@pytest.mark.parametrize(
    ("previous", "hint"),
    [
        ((0, 0), None),
        ((1, 1), None),
        ((2, 2), None),
        ((1, 2), (1, 1)),
        ((2, 1), (1, 1)),
        ((3, 3), (2, 2)),
        ((9, 1), (1, 1)),
    ],
)
def test_5_3_a_follower_refuses_what_does_not_follow_on_its_log(
    previous: tuple[int, int], hint: tuple[int, int] | None
) -> None:
    peer = Alone([1, 2], term=2)
    [(target, answer)] = peer.hears("p1", append(2, previous))

    assert target == "p1"
    if hint is None:
        assert answer == Appended(term=2, index=previous[0])
    else:
        assert answer == Rejected(term=2, index=previous[0], hint_index=hint[0], hint_term=hint[1])


@pytest.mark.parametrize(
    ("previous", "new", "terms"),
    [
        ((2, 2), [3], [1, 2, 3]),
        ((1, 1), [3, 4], [1, 3, 4]),
        ((0, 0), [1], [1, 2]),
        ((0, 0), [3], [3]),
        ((0, 0), [1, 2], [1, 2]),
        ((0, 0), [1, 2, 3], [1, 2, 3]),
        ((1, 1), [], [1, 2]),
    ],
)
def test_5_3_a_follower_cuts_its_log_at_a_conflict_only(
    previous: tuple[int, int], new: list[int], terms: list[int]
) -> None:
    peer = Alone([1, 2], term=2)
    peer.hears("p1", append(4, previous, *new))

    assert [each.term for each in peer.core.log.slice(1, 9)] == terms


# --- 5.4
@pytest.mark.parametrize("terms", [[1], [1, 2], [1, 2, 2, 4]])
def test_5_4_1_a_candidate_says_how_far_its_log_is(terms: list[int]) -> None:
    peer = Alone(terms, term=terms[-1])
    sent = peer.stands()

    wanted = RequestVote(term=terms[-1] + 1, last_index=len(terms), last_term=terms[-1])
    assert sent == [("p1", wanted), ("p2", wanted)]


@pytest.mark.parametrize(
    ("terms", "last", "is_granted"),
    [
        ([1], (1, 1), True),
        ([1], (2, 1), True),
        ([1, 1], (1, 1), False),
        ([1], (1, 2), True),
        ([1], (2, 2), True),
        ([1, 1], (1, 2), True),
        ([2], (1, 1), False),
        ([2], (2, 1), False),
        ([2, 1], (1, 1), False),
    ],
)
@pytest.mark.parametrize("is_pre", [True, False])
def test_5_4_1_only_a_log_that_is_up_to_date_gets_a_vote(
    terms: list[int], last: tuple[int, int], is_granted: bool, is_pre: bool
) -> None:
    peer = Alone(terms, term=2)
    [(_, answer)] = peer.hears("p1", RequestVote(term=3, last_index=last[0], last_term=last[1], is_pre=is_pre))

    assert isinstance(answer, Vote)
    assert answer.is_granted == is_granted
    assert peer.hard_state == (HardState(2, "") if is_pre else HardState(3, "p1" if is_granted else ""))


@pytest.mark.parametrize(("index", "commit_index"), [(1, 0), (2, 0), (3, 3)])
def test_5_4_2_only_entries_of_the_leaders_term_are_committed_by_counting(index: int, commit_index: int) -> None:
    peer = Alone([1, 2], term=2)
    peer.leads()
    peer.hears("p1", Appended(term=3, index=index))

    assert peer.core.commit_index == commit_index


# --- 5.5, 5.6
def test_5_5_the_same_message_twice_does_no_harm() -> None:
    peer = Alone()
    first = append(1, (0, 0), 1, 1, commit_index=1)
    once = peer.hears("p1", first)
    log = peer.core.log.slice(1, 9)
    peer.hears("p1", append(1, (2, 1), 1, commit_index=3))

    assert peer.hears("p1", first) == once
    assert peer.core.log.slice(1, 2) == log
    assert peer.core.log.last_index == 3
    assert len(peer.applied) == 3


def test_5_6_a_slow_disk_costs_no_leadership() -> None:
    """The time of a broadcast is much less than the election timeout, or else a leader would not last."""
    group = Group(3)
    group.sync_ns = lambda: 50 * MS
    leader = group.leader()
    for number in range(100):
        group.propose(leader, b"%d" % number)
        group.run(20)

    assert list(group.leaders.values()) == [leader]


def test_a_leader_that_hears_a_vote_request_of_its_own_term_refuses_it() -> None:
    peer = one_that_is("leader")
    sent = peer.hears("p1", RequestVote(term=1, last_index=9, last_term=1))

    assert sent == [("p1", Vote(term=1, is_granted=False))]
    assert peer.role == "leader"


def test_a_heartbeats_answer_repeats_its_round() -> None:
    peer = Alone()
    assert peer.hears("p1", Heartbeat(term=1, commit_index=0, round=7)) == [("p1", HeartbeatReply(term=1, round=7))]
    peer.waits(LONG_NS)
    assert peer.role == "pre_candidate"
