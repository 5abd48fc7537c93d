"""How a group begins, and who takes part in it under which name.

A group is formed once, by all peers together: each has drawn a token and written it down, hears the tokens of all
others, and then writes down the same list. From then on a peer whose disk is empty, or whose token is another than the
list has, is not who it was: it has forgotten what it promised. So it never votes under that name, but asks to be taken
in under a new one (thesis 4.4; Chandra and others, "Paxos Made Live", 5.1).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from .members import Members
from .messages import Here

IDENTITY = "identity"
"""The file with a `Known`."""


class Known(msgspec.Struct, frozen=True, array_like=True):
    """What a peer must know of itself: its token, its name in the group, and the tokens of the first members."""

    token: int
    identity: str = ""
    genesis: dict[str, int] = {}


def node_of(identity: str) -> str:
    """The node that takes part under that name."""
    return identity.partition("~")[0]


def new_identity(node: str, token: int) -> str:
    """The name of a node that was another before."""
    return f"{node}~{token:08x}"


def genesis(me: str, token: int, heard: Mapping[str, Here | None]) -> dict[str, int] | None:
    """The first members with their tokens, once all peers (`heard`: one for each) have said who they are.

    It is what others have written down, if any has, and this peer is on it as it is. None: it is not known yet, or the
    group has formed without this peer.
    """
    for here in heard.values():
        if here is not None and here.genesis:
            return here.genesis if here.genesis.get(me) == token else None
    if any(here is None for here in heard.values()):
        return None
    return dict(sorted({me: token, **{name: here.token for name, here in heard.items() if here}}.items()))


def has_formed(heard: Mapping[str, Here | None]) -> bool:
    """Whether a peer is known that is in a group."""
    return any(here is not None and bool(here.genesis) for here in heard.values())


def first_members(tokens: Mapping[str, int]) -> Members:
    """The members of a group that begins: all vote."""
    return Members(tuple(sorted(tokens)))


def identity_of(members: Members, node: str) -> str:
    """Under which name a node is a member; its own if it is none."""
    return next((name for name in members.all if node_of(name) == node), node)


def with_newcomer(members: Members, identity: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Voters and learners after a node has become a learner under a new name, in the place of all its other names."""
    node = node_of(identity)
    voters = tuple([name for name in members.voters if node_of(name) != node])
    learners = tuple([name for name in members.learners if node_of(name) != node])
    return voters, (*learners, identity)


def without_node(members: Members, node: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Voters and learners after a node has gone."""
    voters = tuple([name for name in members.voters if node_of(name) != node])
    return voters, tuple([name for name in members.learners if node_of(name) != node])
