from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from zactor.debug.runlog import Log
from zactor.live.logs import OLDER, Lines


def write(path: Path, *numbers: int, end: str = "") -> None:
    with path.open("a") as file:
        for number in numbers:
            file.write(msgspec.json.encode({"hlc": number, "event": str(number)}).decode() + "\n")
        file.write(end)


def read(log: Log) -> list[str]:
    return [event["event"] for event in log.read()]


def whole(folder: Path) -> list[str]:
    with Log(folder) as log:
        return read(log)


def test_what_processes_wrote_comes_in_the_order_of_its_stamps(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", 1, 4, 5)
    write(tmp_path / "b.jsonl", 2, 3, 6)
    (tmp_path / "c.jsonl").touch()

    assert whole(tmp_path) == ["1", "2", "3", "4", "5", "6"]


def test_a_second_look_gives_what_came_since_also_in_new_files(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        write(tmp_path / "a.jsonl", 1, end='{"hlc":')

        assert read(log) == ["1"]
        assert log.unfinished() == ["a.jsonl"]
        with (tmp_path / "a.jsonl").open("a") as file:
            file.write('4,"event":"4"}\n')
        write(tmp_path / "b.jsonl", 3)
        assert read(log) == ["3", "4"]
        assert log.unfinished() == []
        assert read(log) == []


def test_a_line_that_is_none_is_said_where_it_stands_and_the_rest_is_shown(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", 1, 3, end='{"hlc": 4, \n')
    write(tmp_path / "a.jsonl", 5)
    write(tmp_path / "b.jsonl", 2, 4)

    assert whole(tmp_path) == ["1", "2", "3", "unreadable_line", "4", "5"]


def test_a_log_has_a_budget_and_keeps_the_last_of_it(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "a.jsonl", 2000)
    followed = []
    with Log(tmp_path) as log:
        for number in range(1000):
            lines.add({"hlc": number, "event": str(number)})
            lines.flush()
            if number % 10 == 0:
                followed += read(log)
        lines.close()
        followed += read(log)

    kept = whole(tmp_path)
    assert followed == [str(number) for number in range(1000)]
    assert kept == followed[-len(kept) :]
    assert len(kept) > 25
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a" + OLDER]


def test_on_a_nearly_full_disk_nothing_is_logged_and_what_was_left_out_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines(tmp_path / "a.jsonl")
    full = os.statvfs_result((4096, 4096, 1000, 10, 10, 0, 0, 0, 0, 255))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstatvfs", lambda _: full)
        for number in range(3):
            lines.add({"hlc": number, "event": "left out"})
            lines.flush()
    assert whole(tmp_path) == []
    lines.add({"hlc": 4, "event": "kept"})
    lines.close()

    assert whole(tmp_path) == ["lines_lost", "kept"]
