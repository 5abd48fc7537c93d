"""A resource behind a lock: it takes no token lower than the last, also when it was killed meanwhile."""

from __future__ import annotations

from nodes.kv.fenced import Fenced, Guard
from zactor.sim.virtual import Virtual


class Stage:
    """A resource, and somebody who writes to it."""

    def __init__(self) -> None:
        self.virtual = Virtual()
        self.virtual.add("there").life.add("fenced", Fenced)
        self.virtual.add("here")
        self.virtual.start()
        self.virtual.run()

    def write(self, token: int, value: str = "") -> bool:
        """Write under a token."""
        outside = self.virtual.outside("here")
        answer: bool = self.virtual.result(outside.ask(outside.to("fenced"), Guard(token=token, value=value)))
        return answer


def test_a_lower_token_than_the_last_is_refused() -> None:
    stage = Stage()

    assert [stage.write(token) for token in (5, 5, 4, 7, 5)] == [True, True, False, True, False]


def test_the_highest_token_outlives_a_crash() -> None:
    stage = Stage()
    stage.write(5)

    stage.virtual.kill("there")
    stage.virtual.restart("there").life.add("fenced", Fenced)
    stage.virtual.start()
    stage.virtual.run()

    assert [stage.write(token) for token in (4, 5)] == [False, True]
