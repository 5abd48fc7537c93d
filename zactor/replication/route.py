"""Where a client sends what only the leader can do: it is told who leads by those who do not.

Pure. A replica that does not answer is suspected: as long as others still take it for the leader they are asked again,
since they will be the first to know who leads in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zactor.errors import Failure
from zactor.message import Ref

from .messages import NotLeader

ATTEMPT_S = 10.0
"""Seconds that one attempt may take: a sync can stand behind those of others on a busy disk."""

FIRST_ATTEMPT_S = 0.15
"""Seconds after which another replica is asked, if there is one; it doubles. What is sent again is not done again."""

PAUSE_S_MAX = 0.5
PAUSE_S_MAX_OF_MANY = 0.04
"""Between attempts, the longest: among several replicas one leads again in less than half a second."""

SUSPECTED_TIMES = 8
"""After being named so often by others, a replica that did not answer is asked again."""


class Route:
    """`current`: whom to ask."""

    def __init__(self, targets: Sequence[Ref[Any]]) -> None:
        assert targets, "there must be a replica to ask"
        self._targets = tuple(targets)
        self._suspected: Ref[Any] | None = None
        self._named = 0
        self._turn = 0
        self._is_named = False
        self.current = self._targets[0]
        self.first_attempt_s = self.attempt_s(0)
        """How long a first attempt may take. Known beforehand: each change and question has one."""

    @property
    def is_of_many(self) -> bool:
        """Whether there is more than one replica."""
        return len(self._targets) > 1

    @property
    def pause_s_max(self) -> float:
        """The longest pause between attempts."""
        return PAUSE_S_MAX_OF_MANY if self.is_of_many else PAUSE_S_MAX

    def attempt_s(self, number: int) -> float:
        """How long attempt `number`, from 0 on, may take."""
        if not self.is_of_many:
            return ATTEMPT_S
        return min(ATTEMPT_S, FIRST_ATTEMPT_S * (1 << min(number, 10)))

    def any(self) -> Ref[Any]:
        """A replica, for what every one can do: another one each time."""
        self._turn += 1
        return self._targets[self._turn % len(self._targets)]

    def failed(self, target: Ref[Any], error: Failure) -> bool:
        """An attempt failed there. Returns whether it is known where to ask now, so that it need not wait."""
        if target != self.current:
            return self._is_named  # others have found out more since
        self._is_named = False
        if not isinstance(error, NotLeader):
            self._suspected, self._named = target, 0
            self.current = self._next(target)
            return False
        leader = next((each for each in self._targets if each.name == error.detail), None)
        if leader is None or leader == target:
            self.current = self._next(target) if leader is None else target
            return False
        if leader == self._suspected:
            self._named += 1
            if self._named % SUSPECTED_TIMES:
                self.current = self._next(target)
                return False
        self._suspected = None
        self._is_named = True
        self.current = leader
        return True

    def _next(self, target: Ref[Any]) -> Ref[Any]:
        following = self._targets[(self._targets.index(target) + 1) % len(self._targets)]
        if following == self._suspected and len(self._targets) > 2:
            return self._next(following)
        return following
