"""Crashes: a process ends between any two events, by a kill or with the power, and no file is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nodes.files.messages import Begin, Commit, Entry

JOURNAL = ("metadata", "namespace.journal")


def content_of(size: int, seed: int = 1) -> bytes:
    return (bytes((index * 7 + seed) % 256 for index in range(251)) * (size // 251 + 1))[:size]


@pytest.mark.parametrize("crash", ["kill", "lose_power"])
@pytest.mark.parametrize("victim", ["metadata", "store/0", "store/1", "user"])
def test_a_crash_between_any_two_steps_loses_no_file_and_leaves_no_garbage(
    make_system: Callable[..., Any], do_put: type[Any], victim: str, crash: str
) -> None:
    old, new, other = content_of(600_000, 1), content_of(500_000, 2), content_of(300_000, 3)
    outcomes = set()
    steps = 0
    while True:
        system = make_system()
        system.put("/kept", other)
        system.put("/a", old)
        putting = system.begin(do_put(path="/a", content=new))
        putting.notify = lambda _wait: None
        until = system.virtual.events + steps
        system.virtual.run(until=lambda: putting.done or system.virtual.events >= until)  # noqa: B023
        answered = putting.done
        getattr(system, crash)(victim)
        system.run(0.01)
        system.restart(victim)
        system.run(100.0)  # longer than a lease and a survey

        found = system.get("/a")
        outcomes.add("new" if found == new else "old")
        assert found == new if answered else found in (old, new), f"after {steps} steps"
        assert system.get("/kept") == other
        expected = 3 if found == old else 2
        assert len(system.chunk_files()) == expected + 2, f"after {steps} steps"
        if answered:
            break
        steps += 1
    assert outcomes == {"old", "new"}
    assert steps > 50


@pytest.mark.parametrize("survey_every", [40_000, 90_000, 150_000])
def test_a_survey_at_any_moment_of_a_replacement_drops_nothing_that_a_crash_could_need(
    make_system: Callable[..., Any], do_put: type[Any], survey_every: int
) -> None:
    old, new = content_of(300_000, 1), content_of(200_000, 2)
    found: set[bytes] = set()
    steps = 0
    answered = False
    while not answered:
        system = make_system(survey_every=survey_every)
        system.put("/a", old)
        putting = system.begin(do_put(path="/a", content=new))
        putting.notify = lambda _wait: None
        until = system.virtual.events + steps
        system.virtual.run(until=lambda: putting.done or system.virtual.events >= until)  # noqa: B023
        answered = putting.done
        system.lose_power("metadata")
        system.settings["survey_every"] = 10 * 10**9
        system.run(0.01)
        system.restart("metadata")
        system.run(0.01)

        found.add(system.get("/a"))
        steps += 5
    assert found == {old, new}


def test_a_removal_that_was_answered_outlives_a_crash(system: Any) -> None:
    system.put("/a", b"x")
    system.put("/b", b"x")
    system.remove("/a")

    system.kill("metadata")
    system.restart("metadata")

    assert system.listing() == [("b", 1)]
    assert system.events("namespace_opened")[-1]["epoch"] == 2


@pytest.mark.parametrize("timeout_us", range(150, 700, 25))
def test_a_commit_whose_client_gives_up_is_made_or_not_but_never_half(system: Any, timeout_us: int) -> None:
    token = system.ask(Begin(path="/a"), "metadata").token
    asking = system.begin(Commit(token=token, entry=Entry(0, 0, ())), "metadata", timeout_us / 1e6)
    asking.notify = lambda _wait: None
    system.run(1.0)
    before = system.listing()

    system.kill("metadata")
    system.restart("metadata")

    assert system.listing() == before == [("a", 0)]


def test_a_metadata_server_whose_journal_is_damaged_says_where_and_does_not_start(system: Any) -> None:
    system.put("/a", b"x")
    system.put("/b", b"x")
    system.kill("metadata")
    system.disk.files[JOURNAL][10] ^= 1

    system.restart("metadata")
    system.run(1.0)

    failure = system.events("handler_failed")[0]["error"]
    assert "namespace.journal: the record at offset 0 is damaged" in failure


def test_a_chunk_size_that_no_server_takes_is_an_error_of_the_topology(make_system: Callable[..., Any]) -> None:
    system = make_system(chunk_size=(64 << 20) + 1)
    system.run(1.0)

    assert "chunk_size: expected 1B to 64MiB" in system.events("handler_failed")[0]["error"]
