"""Crashes: a process ends between any two events, by a kill or with the power; all is whole, or not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from nodes.files.invariants import is_whole
from nodes.files.messages import BLOCK_SIZE
from nodes.files.operations import Operation, Remove, Rename
from tests.nodes.files.conftest import DoChange, DoClose, DoPut, System
from zactor.message import Message

REST_S = 4.0
"""Longer than a lease, some surveys, and what a client tries again."""


def content_of(size: int, seed: int) -> bytes:
    return (bytes((index * 7 + seed) % 256 for index in range(251)) * (size // 251 + 1))[:size]


class Story(NamedTuple):
    """What a user does, to which files, and how they are then: each as before or each as after."""

    act: Callable[[], Message[Any]]
    before: dict[str, bytes]
    after: dict[str, bytes]
    steps_min: int


def change(*operations: Operation) -> Callable[[], Message[Any]]:
    return lambda: DoChange(operations=operations)


SMALL, LARGE, OTHER = content_of(3_000, 1), content_of(2 * BLOCK_SIZE + 5_000, 2), content_of(BLOCK_SIZE + 1, 3)

STORIES = {
    "small over large": Story(lambda: DoPut(path="/a", content=SMALL), {"/a": LARGE}, {"/a": SMALL}, 25),
    "large over small": Story(lambda: DoPut(path="/a", content=LARGE), {"/a": SMALL}, {"/a": LARGE}, 60),
    "large, new": Story(lambda: DoPut(path="/b", content=LARGE, size_known=False), {}, {"/b": LARGE}, 60),
    "rename": Story(change(Rename("/a", "/b")), {"/a": SMALL, "/b": OTHER}, {"/b": SMALL}, 5),
    "remove": Story(change(Remove("/a")), {"/a": OTHER}, {}, 5),
}


@pytest.mark.parametrize("crash", ["kill", "lose_power"])
@pytest.mark.parametrize("victim", ["metadata", "store/0", "store/1", "user"])
@pytest.mark.parametrize("name", STORIES)
def test_a_crash_between_any_two_steps_leaves_all_or_nothing_and_every_copy(name: str, victim: str, crash: str) -> None:
    story = STORIES[name]
    outcomes = set()
    steps, is_done = 0, False
    while not is_done:
        system = System(chunk_size=BLOCK_SIZE, lease=10**9, survey_every=10**9)
        system.put("/kept", OTHER)
        for path, content in story.before.items():
            system.put(path, content)
        acting = system.begin(story.act())
        until = system.virtual.events + steps
        system.virtual.run(until=lambda: acting.done or system.virtual.events >= until)  # noqa: B023
        is_done = acting.done
        getattr(system, crash)(victim)
        system.run(0.01)
        system.restart(victim)
        system.run(REST_S)

        found = {path: system.get(path) for path, _ in [(f"/{item}", 0) for item, _ in system.listing()]}
        assert found.pop("/kept") == OTHER
        outcomes.add("after" if found == story.after else "before")
        assert found in (story.before, story.after), f"after {steps} steps"
        if is_done or victim != "user":
            assert found == story.after, f"after {steps} steps, what was done or went on is not there"
        system.ask(DoClose())
        system.run(2.0)
        assert is_whole(system.actors()) is None, f"after {steps} steps"
        steps += 1
    assert steps > story.steps_min
    assert outcomes == ({"before", "after"} if victim == "user" else {"after"})
