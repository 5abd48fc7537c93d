"""Who takes part: the members of a Raft group, and how they change (thesis 4).

While they change jointly, both the new and the outgoing voters have to agree, each by a majority of their own
(paper 6). Learners are sent all entries, and are asked for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec


class Members(msgspec.Struct, frozen=True, array_like=True):
    """The members from one index of the log on, names of nodes in order. `outgoing`: the voters before, while joint."""

    voters: tuple[str, ...]
    learners: tuple[str, ...] = ()
    outgoing: tuple[str, ...] = ()

    @property
    def is_joint(self) -> bool:
        """Whether the change to `voters` is under way."""
        return bool(self.outgoing)

    @property
    def all(self) -> tuple[str, ...]:
        """All who are sent entries, once each."""
        return tuple(dict.fromkeys((*self.voters, *self.outgoing, *self.learners)))

    def is_voter(self, name: str) -> bool:
        """Whether its vote counts."""
        return name in self.voters or name in self.outgoing

    def agree(self, has: Callable[[str], bool]) -> bool:
        """Whether a majority has it, or both majorities while joint."""
        return _majority(self.voters, has) and (not self.outgoing or _majority(self.outgoing, has))

    def refuse(self, has_not: Callable[[str], bool]) -> bool:
        """Whether so many have not that no majority ever will."""
        return _no_majority(self.voters, has_not) or (bool(self.outgoing) and _no_majority(self.outgoing, has_not))

    def agreed(self, value: Callable[[str], int]) -> int:
        """The highest number that a majority has reached, or both majorities while joint."""
        reached = _reached(self.voters, value)
        return min(reached, _reached(self.outgoing, value)) if self.outgoing else reached

    def towards(self, voters: Iterable[str], learners: Iterable[str]) -> Members:
        """The first step to those members: they themselves if one voter differs at most (thesis 4.1), else joint."""
        after = Members(tuple(sorted(voters)), tuple(sorted(learners)))
        if len(set(after.voters) ^ set(self.voters)) <= 1:
            return after
        return Members(after.voters, after.learners, self.voters)

    def settled(self) -> Members:
        """The second step of a joint change: the outgoing voters go."""
        return Members(self.voters, self.learners)


def _majority(voters: tuple[str, ...], has: Callable[[str], bool]) -> bool:
    return 2 * sum(map(has, voters)) > len(voters)


def _no_majority(voters: tuple[str, ...], has_not: Callable[[str], bool]) -> bool:
    return 2 * sum(map(has_not, voters)) >= len(voters)


def _reached(voters: tuple[str, ...], value: Callable[[str], int]) -> int:
    return sorted(map(value, voters))[(len(voters) - 1) // 2] if voters else 0
