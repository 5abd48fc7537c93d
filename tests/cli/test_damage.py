"""Recordings that are cut, flipped, overwritten or not ours: a clear message with the offset, and the rest is shown."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.sim import stage
from zactor.cli.main import run
from zactor.launchers.trial_runs import run_recorded

NAME = "register.1.rec"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    topology = stage.topology(faults="", span="2s")
    run_recorded(topology, stage.plan(topology), folder)
    return folder


def damaged(lot: random.Random, content: bytes) -> bytes:
    """The same with a bit flipped, cut, or with random bytes or nothing in the middle."""
    at, size = lot.randrange(len(content)), lot.randrange(1, 5_000)
    match lot.randrange(4):
        case 0:
            return content[:at] + bytes([content[at] ^ 1 << lot.randrange(8)]) + content[at + 1 :]
        case 1:
            return content[:at]
        case 2:
            return content[:at] + lot.randbytes(size) + content[at + size :]
    return content[:at] + bytes(size) + content[at + size :]


def test_whatever_happens_to_a_recording_is_told_in_clear_messages(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lot = random.Random(1)
    content = (whole / NAME).read_bytes()
    codes = set()

    for _ in range(100):
        (tmp_path / NAME).write_bytes(damaged(lot, content))
        code = run(["replay", "register", "-r", str(tmp_path)])
        out, err = capsys.readouterr()
        codes.add(code)
        assert code == 0 or "offset" in err or NAME in err, (code, out, err)
        assert "outputs as recorded" in out or code == 2 or "nothing of register was recorded" in err

    assert codes >= {0, 1, 4}  # cut between two records; damaged; an output that differs


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_text("some notes"), "is no recording: it does not begin as one"),
        (lambda path: path.mkdir(), "cannot be read: Is a directory"),
        (lambda path: path.symlink_to(path.name), "cannot be read: Too many levels of symbolic links"),
    ],
)
def test_what_is_no_recording_is_named_and_does_not_hide_those_beside_it(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], make: object, said: str
) -> None:
    assert callable(make)
    make(tmp_path / "other.1.rec")
    assert run(["replay", "register", "-r", str(tmp_path)]) == 2
    alone = capsys.readouterr().err
    (tmp_path / NAME).write_bytes((whole / NAME).read_bytes())

    assert run(["replay", "register", "-r", str(tmp_path)]) == 0

    out, err = capsys.readouterr()
    assert said in alone
    assert said in err
    assert "outputs as recorded" in out
