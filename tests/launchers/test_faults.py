"""What is done to the processes of a run on purpose: to whom, for how long, and what of it outlives a process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.launchers.story import SLOW, Story, instance, life, topology
from zactor.errors import UserError
from zactor.launchers.control import fault_of
from zactor.launchers.faults import TIME_IS_UP
from zactor.live.faults import ProcessFault
from zactor.live.host import Report

FULL_S = 20.0
SOON_S = 0.001
PAUSE = ProcessFault(0, "pause")
SKEW = ProcessFault(0, "skew", by_ns=2_000_000_000)


def played(folder: Path, scenario: Callable[[Story], Awaitable[None]]) -> None:
    """Play a scenario with processes `a`, and `b` in which `c` lives too."""

    async def main() -> None:
        story = Story(folder, topology(instance("a"), (instance("b"), instance("c"))))
        await story.up()
        try:
            await scenario(story)
        finally:
            await story.run.stop()

    asyncio.run(main())


async def begun(story: Story, fault: ProcessFault, *names: str, for_s: float = 0.0) -> dict[str, str]:
    outcome = await story.run.begin_fault(fault, names, for_s, FULL_S, "why not")
    assert not outcome.failed
    return outcome.done


async def healed(story: Story, *names: str, only: str | None = None) -> dict[str, str]:
    return (await story.run.end_faults(names, only, FULL_S, "enough")).done


def inside(story: Story, process: str) -> list[str]:
    """What the process was told last that is on."""
    return [str(fault) for fault in story.engine.last(process).faults[-1][0]]


def test_a_cut_is_done_to_the_processes_of_nodes_and_taken_back(tmp_path: Path) -> None:
    async def scenario(story: Story) -> None:
        fault = fault_of(story.run, "cut", ["a"], ["*"])

        assert await begun(story, fault, "a") == {"a": "cut off from all others"}
        assert inside(story, "a") == ["cut off from all others"]
        assert story.engine.last("b").faults == []
        assert ("fault", "a", "begun", "cut off from all others; why not") in story.told

        assert await healed(story, "a", "b") == {
            "a": "no longer cut off from all others",
            "b": "nothing was done to it",
        }
        assert story.engine.last("a").faults[-1] == ((), "enough")
        assert ("fault", "a", "ended", "cut off from all others; enough") in story.told

    played(tmp_path, scenario)


def test_who_is_cut_off_together_still_reaches_each_other() -> None:
    fault = ProcessFault(1, "cut", ("a", "b"), all_but=True)

    assert [fault.concerns(process) for process in ("a", "b", "c", "@client")] == [False, False, True, True]


def test_a_cut_may_be_from_some_only_and_one_way(tmp_path: Path) -> None:
    async def scenario(story: Story) -> None:
        both = fault_of(story.run, "cut", ["a"], ["c", "@client-0"])
        one_way = fault_of(story.run, "cut", ["a"], ["c"], into=False)

        assert (both.others, both.all_but) == (("@client-0", "b"), False)
        assert str(both) == "cut off from @client-0, b"
        assert (str(one_way), one_way.out, one_way.into) == ("sends nothing to b", True, False)

    played(tmp_path, scenario)


def test_nodes_of_one_process_cannot_be_cut_off_from_each_other(tmp_path: Path) -> None:
    async def scenario(story: Story) -> None:
        with pytest.raises(UserError, match="all of them live in b"):
            fault_of(story.run, "cut", ["b"], ["c"])

    played(tmp_path, scenario)


def test_a_fault_ends_by_itself_when_its_time_is_up(tmp_path: Path) -> None:
    async def scenario(story: Story) -> None:
        assert await begun(story, SKEW, "a", for_s=SOON_S) == {"a": "skewed by 2s for 1ms"}
        await story.turns(lambda: story.engine.last("a").faults[-1] == ((), TIME_IS_UP))

        assert story.run.faulty(None) == []

    played(tmp_path, scenario)


def test_several_faults_are_on_at_once_and_one_kind_of_them_can_be_taken_back(tmp_path: Path) -> None:
    async def scenario(story: Story) -> None:
        await begun(story, SKEW, "a")
        await begun(story, ProcessFault(0, "slow_disk", by_ns=50_000_000), "a", "b")

        assert inside(story, "a") == ["skewed by 2s", "slowed by 50ms a sync"]
        assert story.run.faulty(None) == ["a", "b", "c"]  # what is done to b is done to c, too
        assert await healed(story, "a", only="skew") == {"a": "no longer skewed by 2s"}
        assert inside(story, "a") == inside(story, "b") == ["slowed by 50ms a sync"]

    played(tmp_path, scenario)


def test_a_process_stands_still_until_the_last_pause_has_ended(tmp_path: Path) -> None:
    async def scenario(story: Story) -> None:
        paused = story.engine.last("a")
        await begun(story, PAUSE, "a", for_s=SOON_S)
        assert await begun(story, PAUSE, "a") == {"a": "paused"}

        await story.turns(lambda: ("fault", "a", "ended", f"paused; {TIME_IS_UP}") in story.told)
        assert paused.commands == [("pause", ""), ("pause", "")]

        assert await healed(story, "a", only="pause") == {"a": "no longer paused"}
        assert paused.commands[-1] == ("resume", "")

    played(tmp_path, scenario)


def test_one_that_is_started_again_is_as_cut_off_as_before_and_not_paused(tmp_path: Path) -> None:
    async def scenario(story: Story) -> None:
        await begun(story, SKEW, "a")
        await begun(story, PAUSE, "a")

        await story.during(story.run.kill_nodes(["a"], "killed", FULL_S))
        await story.turns(lambda: story.engine.last("a").assignment.incarnation == 2)

        assert [str(fault) for fault in story.engine.last("a").assignment.faults] == ["skewed by 2s"]
        assert await healed(story, "a") == {"a": "no longer skewed by 2s"}
        assert story.engine.last("a").commands == []
        assert story.run.faulty(None) == []

    played(tmp_path, scenario)


def test_what_does_not_run_and_what_does_not_answer_is_said(tmp_path: Path) -> None:
    async def scenario(story: Story) -> None:
        await story.run.stop_nodes(["a"], "enough", FULL_S)
        story.engine.last("b").answers = False

        outcome = await story.run.begin_fault(SKEW, ["a", "b"], 0.0, SOON_S, "why not")

        assert (outcome.done, outcome.late) == ({}, True)
        assert outcome.failed["a"] == "it does not run"
        assert outcome.failed["b"].startswith("told, and not done yet")

    played(tmp_path, scenario)


def test_what_is_healed_while_a_process_is_being_started_is_not_on_in_it(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path, topology(instance("a", SLOW)))
        await story.up()
        await begun(story, SKEW, "a")
        story.engine.last("a").on_exit(1)
        starting = asyncio.ensure_future(story.run.start_nodes(["a"], FULL_S))
        await story.turns(lambda: len(story.engine.started) == 2)  # its engine is not done yet

        story.run.end_all_faults("enough")
        await story.turns(lambda: story.engine.last("a").faults)

        assert story.engine.last("a").faults[-1][0] == ()
        story.engine.last("a").bind()
        story.engine.last("a").on_report(life("a", "ready"))
        await starting
        await story.run.stop()

    asyncio.run(main())


def test_a_topology_that_goes_down_lets_everybody_go_on_first(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        await begun(story, PAUSE, "a")
        await begun(story, SKEW, "b")

        await story.run.stop()

        assert story.engine.last("a").commands[-1] == ("resume", "")
        assert story.engine.last("b").faults[-1][0] == ()

    asyncio.run(main())


def test_a_fault_is_on_when_the_process_says_so(tmp_path: Path) -> None:
    async def scenario(story: Story) -> None:
        story.engine.last("a").answers = False
        asking = asyncio.ensure_future(story.run.begin_fault(SKEW, ["a"], 0.0, FULL_S, "why not"))
        await story.turns(lambda: story.engine.last("a").faults)
        assert not asking.done()

        story.engine.last("a").on_report(Report("faults", number=10**6))

        assert (await asking).done == {"a": "skewed by 2s"}

    played(tmp_path, scenario)
