"""A run over an engine that starts nothing: what it does when processes report, fail and end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.launchers.story import SLOW, Story, instance, life, pair, topology
from zactor.launchers.run import LOG, StartFailed
from zactor.live.host import Report
from zactor.live.world import Book
from zactor.topology.model import Restart


def test_the_book_is_pushed_when_all_have_bound_and_not_before(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        start = asyncio.ensure_future(story.run.start())
        await story.turns(lambda: len(story.engine.started) == 2)
        a, b = story.engine.started
        a.bind()
        await asyncio.sleep(0)
        assert not a.books

        b.bind()
        await story.turns(lambda: a.books)

        assert a.books == b.books
        assert a.books[0].nodes == {"a": "a", "b": "b"}
        assert [entry.endpoint for entry in a.books[0].processes.values()] == ["ipc://a.1", "ipc://b.1"]
        book = (story.home.run_folder(story.run_id) / "book.json").read_bytes()
        assert msgspec.json.decode(book, type=Book) == a.books[0]
        a.ready()
        b.ready()
        await start

    asyncio.run(main())


def test_a_process_that_ends_is_gone_from_the_book_until_its_next_incarnation_has_bound(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        b = story.engine.last("b")

        story.engine.last("a").on_exit(-9)
        ended = b.books[-1].processes["a"]
        assert (ended.endpoint, ended.gone) == (None, None)
        await story.turns(lambda: len(story.engine.started) == 3)
        again = story.engine.last("a")
        assert again.assignment.incarnation == 2
        again.bind()

        assert b.books[-1].processes["a"].endpoint == "ipc://a.2"
        assert [book.version for book in b.books] == [1, 2, 3]
        assert story.told[0] == ("process", "a", "restarting", "killed by signal 9")
        logged = json.loads((story.home.run_folder(story.run_id) / LOG).read_text().splitlines()[0])
        assert (logged["node"], logged["event"], logged["because"]) == ("a", "process_restarting", "killed by signal 9")

    asyncio.run(main())


def test_a_process_that_fails_too_often_stays_gone_and_the_book_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        for count in (3, 4):
            story.engine.last("a").on_exit(1)
            await story.turns(lambda: len(story.engine.started) == count)  # noqa: B023 - it ends here

        last = story.engine.last("a")
        last.on_report(Report("failed", because="no such luck"))
        last.on_exit(70)

        gone = story.engine.last("b").books[-1].processes["a"].gone
        assert gone == "no such luck (exit 70); 2 restarts in 60 s"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("when", "code", "comes_back"), [("failure", 0, False), ("always", 0, True), ("never", 1, False)]
)
def test_the_policy_says_which_ends_are_followed_by_a_restart(
    tmp_path: Path, when: Any, code: int, comes_back: bool
) -> None:
    async def main() -> None:
        story = Story(tmp_path, pair(Restart(when=when, backoff_min_ns=1, backoff_max_ns=1)))
        await story.up()

        story.engine.last("a").on_exit(code)
        for _ in range(50):
            await asyncio.sleep(0)

        assert (len(story.engine.started) == 3) == comes_back
        assert (story.engine.last("b").books[-1].processes["a"].gone is None) == comes_back

    asyncio.run(main())


def test_a_process_that_ends_before_all_have_bound_fails_the_start_with_its_reason(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        start = asyncio.ensure_future(story.run.start())
        await story.turns(lambda: len(story.engine.started) == 2)
        story.engine.last("a").on_report(Report("failed", because="there is no kind 'x'"))
        story.engine.last("a").on_exit(2)

        with pytest.raises(StartFailed, match=r"a: there is no kind 'x' \(exit 2\)"):
            await start
        await story.run.stop()
        assert story.engine.last("b").stopped

    asyncio.run(main())


def test_a_process_that_ends_before_all_are_ready_fails_the_start_and_is_not_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        start = asyncio.ensure_future(story.run.start())
        await story.turns(lambda: len(story.engine.started) == 2)
        for process in story.engine.started:
            process.bind()
        await story.turns(lambda: story.engine.last("b").books)
        story.engine.last("a").ready()
        story.engine.last("b").on_report(Report("failed", because="5 restarts in 60 s, the last: no such luck"))
        story.engine.last("b").on_exit(70)

        with pytest.raises(StartFailed, match=r"b: 5 restarts in 60 s, the last: no such luck \(exit 70\)"):
            await start
        await story.run.stop()
        assert len(story.engine.started) == 2

    asyncio.run(main())


def test_a_start_that_takes_too_long_names_what_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)

        with pytest.raises(StartFailed) as raised:
            await story.run.start(0.01)

        assert "not ready after 0.01 s" in str(raised.value)
        assert "a waits for its on_start" in str(raised.value)
        assert "b waits for its links a" in str(raised.value)
        await story.run.stop()

    asyncio.run(main())


def test_what_does_not_stop_in_time_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zactor.launchers.run.STOP_S", 0.01)

    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        a, b = story.engine.started
        a.stops = False

        await story.run.stop()

        assert a.stopped
        assert a.killed
        assert b.stopped
        assert not b.killed
        assert story.run.pids() == {"a": None, "b": None}

    asyncio.run(main())


def test_a_process_that_waits_for_its_restart_does_not_come_back_when_all_stop(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path, pair(SLOW))
        await story.up()
        story.engine.last("a").on_exit(1)

        await story.run.stop()
        for _ in range(50):
            await asyncio.sleep(0)

        assert len(story.engine.started) == 2

    asyncio.run(main())


def test_a_process_that_is_told_to_stop_while_it_is_being_started_stops(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        start = asyncio.ensure_future(story.run.start())
        await story.turns(lambda: len(story.engine.started) == 2)
        start.cancel()

        await story.run.stop()

        assert all(process.stopped for process in story.engine.started)

    asyncio.run(main())


def test_what_an_earlier_incarnation_says_late_is_not_believed(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        old = story.engine.last("a")
        old.on_exit(-9)
        await story.turns(lambda: len(story.engine.started) == 3)

        old.bind()

        assert story.engine.last("b").books[-1].processes["a"].endpoint is None

    asyncio.run(main())


def test_a_run_ends_when_no_process_is_left_and_none_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        ended = asyncio.ensure_future(story.run.ended())
        for process in ("a", "b"):
            assert not ended.done()
            story.engine.last(process).on_exit(0)

        await asyncio.wait_for(ended, 5)

    asyncio.run(main())


def test_an_end_that_an_earlier_incarnation_reports_late_is_not_that_of_the_new_one(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        old = story.engine.last("a")
        old.on_exit(-9)
        await story.turns(lambda: len(story.engine.started) == 3)
        story.engine.last("a").bind()

        old.on_exit(-9)

        assert story.book().processes["a"].endpoint == "ipc://a.2"
        assert story.run.pids()["a"] == story.engine.last("a").pid

    asyncio.run(main())


def test_a_process_that_cannot_be_started_again_is_tried_by_its_policy_and_then_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path)
        await story.up()
        story.engine.broken = True

        story.engine.last("a").on_exit(-9)
        await story.turns(lambda: story.book().processes["a"].gone)

        assert "cannot be started: no room for another process; 2 restarts in 60 s" in str(
            story.book().processes["a"].gone
        )
        assert story.told[-1][1:3] == ("a", "gone")

    asyncio.run(main())


def test_a_node_that_stops_for_good_while_others_of_its_process_start_fails_the_start_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        story = Story(tmp_path, topology((instance("a"), instance("b"))))
        start = asyncio.ensure_future(story.run.start())
        await story.turns(lambda: story.engine.started)
        process = story.engine.last("a")
        process.bind()
        await story.turns(lambda: process.books)

        process.on_report(life("b", "stopped", "failed: there is no such device"))

        with pytest.raises(StartFailed, match=r"^b: failed: there is no such device$"):
            await start
        await story.run.stop()

    asyncio.run(main())
