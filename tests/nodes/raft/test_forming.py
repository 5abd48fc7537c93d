"""A group forms once, and a peer that has forgotten is not who it was."""

from __future__ import annotations

from nodes.raft.forming import (
    first_members,
    genesis,
    has_formed,
    identity_of,
    new_identity,
    node_of,
    with_newcomer,
    without_node,
)
from nodes.raft.members import Members
from nodes.raft.messages import Here

TOKENS = {"kv/0": 10, "kv/1": 11, "kv/2": 12}


def test_a_group_forms_when_all_have_said_who_they_are() -> None:
    assert genesis("kv/0", 10, {"kv/1": Here(11, {}), "kv/2": None}) is None
    assert genesis("kv/0", 10, {"kv/1": Here(11, {}), "kv/2": Here(12, {})}) == TOKENS
    assert first_members(TOKENS) == Members(("kv/0", "kv/1", "kv/2"))


def test_a_peer_alone_is_a_group() -> None:
    assert genesis("kv/0", 10, {}) == {"kv/0": 10}


def test_a_peer_that_was_late_takes_the_list_of_those_who_have_written_it() -> None:
    heard = {"kv/1": Here(11, TOKENS), "kv/2": None}
    assert genesis("kv/0", 10, heard) == TOKENS
    assert has_formed(heard)


def test_a_peer_with_another_token_has_lost_its_disk_and_a_new_one_was_never_there() -> None:
    heard = {"kv/1": Here(11, TOKENS), "kv/2": Here(12, TOKENS)}
    assert genesis("kv/0", 99, heard) is None
    assert genesis("kv/3", 13, {**heard, "kv/0": Here(10, TOKENS)}) is None


def test_a_newcomer_is_a_learner_in_the_place_of_all_that_its_node_was() -> None:
    identity = new_identity("kv/0", 0xAB)
    assert (identity, node_of(identity)) == ("kv/0~000000ab", "kv/0")
    members = Members(("kv/0", "kv/1", "kv/2"), ("kv/0~00000001",))
    assert with_newcomer(members, identity) == (("kv/1", "kv/2"), (identity,))
    assert identity_of(Members(("kv/1",), (identity,)), "kv/0") == identity
    assert identity_of(members, "kv/9") == "kv/9"


def test_a_node_that_is_left_out_goes_under_all_its_names() -> None:
    members = Members(("kv/1", "kv/2~00000001"), ("kv/2~00000002", "kv/3"))
    assert without_node(members, "kv/2") == (("kv/1",), ("kv/3",))
