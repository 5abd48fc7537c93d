"""Ctrl-C, SIGTERM and readers that go away: each ends a command without a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.cli.transcript import TIMEOUT_S, Place

pytestmark = pytest.mark.live


def start(place: Place, *words: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """`zactor` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "zactor.cli.main", *words],
        cwd=place.folder,
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(process: subprocess.Popen[str], word: str) -> None:
    """Read lines of its output up to one that begins with a word."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return
    raise AssertionError(f"it ended without a line that begins with {word!r}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_up_stops_in_order_on_a_signal(alone: Place, number: signal.Signals, code: int) -> None:
    up = start(alone, "up", "hello.yaml")
    until(up, "ready: 1 node")

    up.send_signal(number)
    out, err = up.communicate(timeout=TIMEOUT_S)

    assert (up.returncode, err) == (code, "")
    assert out.splitlines()[-1] == "hello: stopping"
    assert alone.command("zactor ls --json").out == ""


def test_down_ends_an_up_in_another_terminal(alone: Place) -> None:
    up = start(alone, "up", "hello.yaml")
    until(up, "ready: 1 node")

    assert alone.command("zactor down").out == "hello: stopped\n"
    up.communicate(timeout=TIMEOUT_S)

    assert up.returncode == 0


def test_ctrl_c_ends_logs_that_follow(stage: Place) -> None:
    logs = start(stage, "logs", "--follow", "-n", "caller")
    until(logs, "")

    logs.send_signal(signal.SIGINT)
    out, err = logs.communicate(timeout=TIMEOUT_S)

    assert (logs.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize("words", [("kinds",), ("logs",), ("ps", "--json"), ("ls",), ("--help",)], ids=" ".join)
def test_a_reader_that_has_gone_ends_a_command_without_a_traceback(stage: Place, words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    process = start(stage, *words, stdout=writer)
    os.close(writer)
    err = process.communicate(timeout=TIMEOUT_S)[1]

    assert (process.returncode, err) == (1, "")
