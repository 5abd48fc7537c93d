"""Real processes by the local engine: they report, are told, and end with their launcher."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.live.running import PATIENCE_S, alive, eventually_in_loop
from zactor.launchers.local import Local
from zactor.live.host import Assignment, Report
from zactor.live.world import Book, BookEntry
from zactor.topology.model import PEER_TIMEOUT_NS, Instance

pytestmark = pytest.mark.live


class Heard:
    """What a process reported, and its end."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.codes: list[int] = []

    def last(self, event: str) -> Report | None:
        return next((report for report in reversed(self.reports) if report.event == event), None)


def assignment(folder: Path, kind: str = "hello.greeter") -> Assignment:
    return Assignment(
        topology="t",
        cluster="c",
        run="r",
        process="greeter",
        number=1,
        incarnation=1,
        transport="tcp",
        socket="",
        state=str(folder / "state"),
        log=str(folder / "log.jsonl"),
        recording=str(folder / "node.1.rec"),
        instances=(Instance("greeter", "greeter", kind, str(folder), {}, {}, None),),
        peer_timeout_ns=PEER_TIMEOUT_NS,
    )


def book(heard: Heard) -> Book:
    bound = heard.last("bound")
    assert bound is not None
    return Book(1, "r", {"greeter": "greeter"}, {"greeter": BookEntry(1, 1, bound.endpoint)})


def test_a_process_reports_its_endpoint_starts_with_the_book_and_stops_when_told(tmp_path: Path) -> None:
    heard = Heard()

    async def main() -> None:
        handle = await Local().start(assignment(tmp_path), tmp_path / "out", heard.reports.append, heard.codes.append)
        await eventually_in_loop(lambda: heard.last("bound"))
        assert heard.last("life") is None
        handle.push(book(heard))
        await eventually_in_loop(lambda: heard.last("life"))
        handle.stop("enough")
        await eventually_in_loop(lambda: heard.codes, PATIENCE_S)
        handle.push(book(heard))  # nobody reads it any more
        handle.kill()

    asyncio.run(main())

    assert [(report.event, report.state) for report in heard.reports] == [
        ("bound", ""),
        ("life", "ready"),
        ("life", "stopped"),
    ]
    assert heard.codes == [0]
    assert (tmp_path / "out").read_text() == ""


def test_a_process_that_is_killed_is_noticed_with_its_signal(tmp_path: Path) -> None:
    heard = Heard()

    async def main() -> None:
        handle = await Local().start(assignment(tmp_path), tmp_path / "out", heard.reports.append, heard.codes.append)
        handle.kill()
        await eventually_in_loop(lambda: heard.codes)
        assert not alive(handle.pid)

    asyncio.run(main())

    assert heard.codes == [-signal.SIGKILL]


def test_a_kind_that_does_not_exist_is_reported_with_its_reason(tmp_path: Path) -> None:
    heard = Heard()

    async def main() -> None:
        wrong = assignment(tmp_path, "hello.greter")
        await Local().start(wrong, tmp_path / "out", heard.reports.append, heard.codes.append)
        await eventually_in_loop(lambda: heard.codes)

    asyncio.run(main())

    failed = heard.last("failed")
    assert failed is not None
    assert "hello.greeter" in failed.because
    assert heard.codes == [2]
