"""What people do to a run: nodes are started, stopped, restarted and killed, and its topology is changed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.launchers.story import SLOW, Story, instance, life, pair, topology
from zactor.launchers.changes import Change
from zactor.launchers.run import Busy
from zactor.live.host import Report
from zactor.topology.model import Restart

FULL_S = 20.0


def unseen(_changes: list[Change]) -> None:
    """For changes that nobody looks at."""


# --- single nodes
def test_a_node_that_is_stopped_is_gone_from_the_book_with_the_reason_and_comes_back_when_started(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()

        stopped = await story.run.stop_nodes(["a"], "enough", FULL_S)

        assert (stopped.done, stopped.failed) == ({"a": "stopped"}, {})
        assert story.book().processes["a"].gone == "enough"
        assert story.book().stopped == {"a": "enough"}
        assert len(story.engine.started) == 2

        started = await story.during(story.run.start_nodes(["a", "b"], FULL_S))

        assert started.done == {"a": "started", "b": "runs already"}
        entry = story.book().processes["a"]
        assert (entry.gone, entry.incarnation, entry.endpoint) == (None, 2, "ipc://a.2")
        assert story.book().stopped == {}

    asyncio.run(main())


def test_a_restart_is_no_end_for_good_and_has_the_next_incarnation(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()

        outcome = await story.during(story.run.restart_nodes(["a"], "why not", FULL_S))

        assert outcome.done == {"a": "restarted"}
        told = [book.processes["a"] for book in story.engine.last("b").books]
        assert [entry.gone for entry in told] == [None] * len(told)
        assert told[-1].incarnation == 2

    asyncio.run(main())


def test_what_does_not_stop_in_time_is_killed_and_counts_as_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zactor.launchers.run.STOP_S", 0.01)

    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        story.engine.last("a").stops = False

        outcome = await story.run.stop_nodes(["a"], "enough", FULL_S)

        assert outcome.done == {"a": "stopped"}
        assert story.engine.last("a").killed

    asyncio.run(main())


def test_who_does_not_wait_for_a_stop_hears_so_and_a_restart_ends_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zactor.launchers.run.STOP_S", 0.02)

    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        story.engine.last("a").stops = False

        outcome = await story.run.restart_nodes(["a"], "why not", 0.001)

        assert outcome.late
        assert "not stopped in time" in outcome.failed["a"]
        started = await story.during(story.run.start_nodes(["a"], FULL_S))
        assert started.done == {"a": "started"}
        assert story.book().processes["a"].incarnation == 2

    asyncio.run(main())


def test_one_of_several_nodes_is_stopped_and_started_inside_their_process(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path, topology((instance("a"), instance("b")), instance("c")))
        await story.up()
        shared = story.engine.last("a")

        await story.run.stop_nodes(["b"], "enough", FULL_S)

        assert shared.commands == [("stop", "b")]
        assert story.book().processes["a"].gone is None
        assert story.book().stopped == {"b": "enough"}

        await story.run.start_nodes(["b"], FULL_S)

        assert shared.commands == [("stop", "b"), ("start", "b")]
        assert story.book().stopped == {}
        assert not shared.stopped

    asyncio.run(main())


def test_the_last_node_of_a_process_stops_with_it_and_starts_without_those_that_stay_stopped(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path, topology((instance("a"), instance("b")), instance("c")))
        await story.up()
        shared = story.engine.last("a")
        await story.run.stop_nodes(["b"], "enough", FULL_S)

        await story.run.stop_nodes(["a"], "that too", FULL_S)

        assert shared.stopped
        assert story.book().stopped == {"a": "that too", "b": "enough"}

        await story.during(story.run.start_nodes(["a"], FULL_S))

        assert [each.name for each in story.engine.last("a").assignment.instances] == ["a"]
        assert story.book().stopped == {"b": "enough"}

    asyncio.run(main())


def test_a_process_that_crashes_comes_back_without_the_nodes_that_were_stopped(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path, topology((instance("a"), instance("b")), instance("c")))
        await story.up()
        await story.run.stop_nodes(["b"], "enough", FULL_S)

        story.engine.last("a").on_exit(-9)
        await story.turns(lambda: len(story.engine.started) == 3)

        assert [each.name for each in story.engine.last("a").assignment.instances] == ["a"]

    asyncio.run(main())


def test_a_node_that_ends_by_itself_while_its_process_goes_on_is_in_the_book_with_its_reason(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path, topology((instance("a"), instance("b"))))
        await story.up()

        story.engine.last("a").on_report(life("b", "stopped", "stopped by itself"))

        assert story.book().stopped == {"b": "stopped by itself"}
        assert (await story.run.start_nodes(["b"], FULL_S)).done == {"b": "started"}

    asyncio.run(main())


def test_a_process_that_waits_for_its_restart_is_started_at_once_or_not_at_all(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path, pair(SLOW))
        await story.up()
        for process in ("a", "b"):
            story.engine.last(process).on_exit(1)

        assert (await story.run.stop_nodes(["a"], "enough", FULL_S)).done == {"a": "stopped"}
        assert (await story.during(story.run.start_nodes(["b"], FULL_S))).done == {"b": "started"}

        assert story.book().processes["a"].gone == "enough"
        assert len(story.engine.started) == 3

    asyncio.run(main())


def test_a_process_that_was_given_up_starts_with_all_its_restarts_before_it(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        for _ in range(2):
            for count in (1, 2):
                story.engine.last("a").on_exit(1)
                await story.turns(lambda: story.engine.last("a").pid == 99 + len(story.engine.started))
                await story.turns(lambda: story.run.pids()["a"])
                assert story.book().processes["a"].gone is None, count
            story.engine.last("a").on_exit(1)
            assert "2 restarts in 60 s" in str(story.book().processes["a"].gone)

            await story.during(story.run.start_nodes(["a"], FULL_S))

        assert story.book().processes["a"].gone is None

    asyncio.run(main())


def test_what_fails_before_it_was_ready_is_not_tried_again_and_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        await story.run.stop_nodes(["a"], "enough", FULL_S)

        start = asyncio.ensure_future(story.run.start_nodes(["a"], FULL_S))
        await story.turns(lambda: len(story.engine.started) == 3)
        story.engine.last("a").on_report(Report("failed", because="there is no kind 'x'"))
        story.engine.last("a").on_exit(2)

        assert (await start).failed == {"a": "there is no kind 'x' (exit 2)"}
        assert not (await start).late
        assert len(story.engine.started) == 3

    asyncio.run(main())


def test_what_is_not_ready_in_time_says_what_it_waits_for_and_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        await story.run.stop_nodes(["a"], "enough", FULL_S)

        outcome = await story.run.start_nodes(["a"], 0.01)

        assert outcome.late
        assert outcome.failed == {"a": "not ready in time: a waits for its on_start (created)"}
        assert story.run.pids()["a"]

    asyncio.run(main())


def test_a_kill_is_a_crash_for_all_nodes_of_the_process_and_the_policy_acts(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path, topology((instance("a"), instance("b")), instance("c", SLOW)))
        await story.up()

        outcome = await story.run.kill_nodes(["a"], "killed by hand", FULL_S)

        assert outcome.done == {"a": "killed, and with it b in process a"}
        assert story.told[-1] == ("process", "a", "restarting", "killed by hand (killed by signal 9)")
        await story.turns(lambda: len(story.engine.started) == 3)

    asyncio.run(main())


def test_what_does_not_run_cannot_be_killed(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path, pair(SLOW))
        await story.up()
        await story.run.stop_nodes(["a"], "enough", FULL_S)
        story.engine.last("b").on_exit(1)

        outcome = await story.run.kill_nodes(["a", "b"], "killed by hand", FULL_S)

        assert outcome.failed == {
            "a": "it does not run: enough",
            "b": "it does not run: its process is about to be started again",
        }

    asyncio.run(main())


def test_a_run_goes_on_while_somebody_may_start_what_was_stopped(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        ended = asyncio.ensure_future(story.run.ended())
        story.engine.last("b").on_exit(0)

        await story.run.stop_nodes(["a"], "enough", FULL_S)

        await story.turns(lambda: story.book().stopped)
        assert not ended.done()
        ended.cancel()

    asyncio.run(main())


def test_changes_wait_for_each_other_but_not_for_ever(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        story.engine.last("a").stops = False
        first = asyncio.ensure_future(story.run.stop_nodes(["a"], "enough", FULL_S))
        await story.turns(lambda: story.engine.last("a").stopped)

        with pytest.raises(Busy, match="another change of t is still under way"):
            await story.run.start_nodes(["b"], 0.001)

        story.engine.last("a").on_exit(0)
        assert (await first).done == {"a": "stopped"}

    asyncio.run(main())


# --- another topology
def test_a_change_touches_only_what_is_different_and_numbers_stay(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        wanted = topology(instance("c"), instance("b", greeter=("a",)), instance("a", None))
        shown: list[Change] = []

        outcome = await story.during(story.run.change(wanted, shown.extend, FULL_S))

        assert outcome.failed == {}
        assert [str(each) for each in shown] == ["+ c", "~ a: restart failure 1ns..1ns 2 in 1m -> default"]
        assert [each.assignment.process for each in story.engine.started] == ["a", "b", "c", "a"]
        entries = story.book().processes
        assert {name: (entry.number, entry.incarnation) for name, entry in entries.items()} == {
            "a": (1, 2),
            "b": (2, 1),
            "c": (3, 1),
        }
        assert not story.engine.last("b").stopped
        assert {each.name: each.number for each in story.home.read_run(story.run_id).processes} == {
            "c": 3,
            "b": 2,
            "a": 1,
        }

    asyncio.run(main())


def test_what_a_topology_has_no_more_is_stopped_and_its_number_is_kept_for_it(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()

        await story.during(story.run.change(topology(instance("a")), unseen, FULL_S))

        assert story.book().nodes == {"a": "a"}
        assert story.book().processes["b"].gone == "removed from the topology"
        assert any(
            book.nodes == {"a": "a", "b": "b"} and book.processes["b"].gone for book in story.engine.last("a").books
        )

        await story.during(story.run.change(topology(instance("a"), instance("c"), instance("b")), unseen, FULL_S))

        entries = story.book().processes
        assert [(name, entries[name].number, entries[name].incarnation) for name in "abc"] == [
            ("a", 1, 1),
            ("b", 2, 2),
            ("c", 3, 1),
        ]

    asyncio.run(main())


def test_a_node_that_joins_a_process_finds_the_new_book_there(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        a = story.engine.last("a")

        wanted = topology((instance("a"), instance("c", greeter=("d",))), instance("b", greeter=("a",)), instance("d"))
        await story.during(story.run.change(wanted, unseen, FULL_S))

        assert a.commands == [("start", "c")]
        assert not a.stopped
        assert a.books[-1].nodes == {"a": "a", "c": "a", "b": "b", "d": "d"}

    asyncio.run(main())


def test_a_changed_node_that_fails_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        change = asyncio.ensure_future(
            story.run.change(topology(instance("a", None), instance("b"), instance("c")), unseen, FULL_S)
        )
        await story.turns(lambda: len(story.engine.started) == 5)
        story.engine.last("a").on_report(Report("failed", because="no such luck"))
        story.engine.last("a").on_exit(2)
        for process in ("b", "c"):
            story.engine.last(process).bind()
            story.engine.last(process).ready()

        assert (await change).failed == {"a": "no such luck (exit 2)"}
        assert story.book().processes["c"].endpoint

    asyncio.run(main())


def test_what_was_stopped_or_given_up_is_part_of_the_difference(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path, pair(Restart(when="never")))
        await story.up()
        await story.run.stop_nodes(["a"], "enough", FULL_S)
        story.engine.last("b").on_exit(1)

        shown = [str(each) for each in story.run.plan(story.run.topology)]

        assert shown == ["+ a: enough", "+ b: exit 1; its policy is never to restart"]
        outcome = await story.during(story.run.change(story.run.topology, unseen, FULL_S))
        assert outcome.failed == {}
        assert story.run.plan(story.run.topology) == []

    asyncio.run(main())
