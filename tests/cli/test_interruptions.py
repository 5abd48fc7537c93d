"""Ctrl-C, SIGTERM and readers that go away: each ends a command without a traceback."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.cli.transcript import TIMEOUT_S, Place, lines_until
from tests.live.running import alive, eventually

pytestmark = pytest.mark.live


def is_ready(lines: list[str]) -> bool:
    return lines[-1].startswith("ready: 1 node")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_up_stops_in_order_on_a_signal(alone: Place, number: signal.Signals, code: int) -> None:
    up = alone.start("zactor up hello.yaml")
    lines_until(up, is_ready)

    up.send_signal(number)
    out, err = up.communicate(timeout=TIMEOUT_S)

    assert (up.returncode, err) == (code, b"")
    assert out.splitlines()[-1] == b"hello: stopping"
    assert alone.command("zactor ls --json").out == ""


def test_down_ends_an_up_in_another_terminal(alone: Place) -> None:
    up = alone.start("zactor up hello.yaml")
    lines_until(up, is_ready)

    assert alone.command("zactor down").out == "hello: stopped\n"
    up.communicate(timeout=TIMEOUT_S)

    assert up.returncode == 0


def test_ctrl_c_ends_logs_that_follow(stage: Place) -> None:
    logs = stage.start("zactor logs --follow -n caller")
    lines_until(logs, lambda lines: "greeted" in lines[-1])

    logs.send_signal(signal.SIGINT)
    out, err = logs.communicate(timeout=TIMEOUT_S)

    assert (logs.returncode, out, err) == (130, b"", b"")


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_a_campaign(alone: Place, jobs: int) -> None:
    sim = alone.start(f"zactor sim trial.yaml --seeds 1..999 -j {jobs}")
    lines_until(sim, lambda lines: lines[-1].startswith("seed 1"))

    sim.send_signal(signal.SIGINT)
    _, err = sim.communicate(timeout=TIMEOUT_S)

    assert (sim.returncode, err) == (130, b"")


@pytest.mark.skipif(sys.platform != "linux", reason="only there the system ends them")
def test_a_campaign_that_is_killed_leaves_no_process_behind(alone: Place) -> None:
    sim = alone.start("exec zactor sim trial.yaml --seeds 1..999 -j 2")
    lines_until(sim, lambda lines: lines[-1].startswith("seed 1"))
    task = Path(f"/proc/{sim.pid}/task/{sim.pid}/children")
    children = [int(word) for word in task.read_text().split()]

    sim.kill()
    sim.communicate(timeout=TIMEOUT_S)

    assert len(children) >= 2
    eventually(lambda: not any(map(alive, children)))


@pytest.mark.parametrize("words", ["kinds", "logs", "ps --json", "ls", "--help"])
def test_a_reader_that_has_gone_ends_a_command_without_a_traceback(stage: Place, words: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    process = stage.start(f"zactor {words}", stdout=writer)
    os.close(writer)
    err = process.communicate(timeout=TIMEOUT_S)[1]

    assert (process.returncode, err) == (1, b"")
