"""Where a topology keeps its things, and who runs it."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from zactor.errors import UserError
from zactor.launchers.folders import RUNS_KEPT, AlreadyRunning, Home, home_of, running, runtime_folder, write_whole
from zactor.topology.model import Topology


def home(folder: Path, name: str = "t") -> Home:
    made = Home(folder / ".zactor" / name, name)
    made.make()
    return made


def topology(folder: Path) -> Topology:
    return Topology("t", "t.yaml", str(folder), {}, (), ())


# --- folders
def test_a_topology_lives_beside_its_file_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home_of(topology(tmp_path), None).folder == tmp_path / ".zactor" / "t"

    monkeypatch.setenv("ZACTOR_DIR", str(tmp_path / "by-variable"))
    assert home_of(topology(tmp_path), None).folder == tmp_path / "by-variable" / "t"
    assert home_of(topology(tmp_path), tmp_path / "by-flag").folder == tmp_path / "by-flag" / "t"


def test_a_home_can_be_entered_by_its_user_alone(tmp_path: Path) -> None:
    made = home(tmp_path)

    assert made.folder.stat().st_mode & 0o777 == 0o700
    assert made.state.stat().st_mode & 0o777 == 0o700


def test_the_last_runs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = home(tmp_path)
    stamps = iter([f"20260101-0000{number:02}-" for number in range(RUNS_KEPT + 3)])
    monkeypatch.setattr(time, "strftime", lambda *_: next(stamps))

    runs = [made.new_run() for _ in range(RUNS_KEPT + 3)]

    assert made.runs() == runs[3:]


def test_a_cluster_keeps_its_id(tmp_path: Path) -> None:
    made = home(tmp_path)

    assert made.cluster() == made.cluster() == home(tmp_path).cluster()
    assert made.cluster() != home(tmp_path, "other").cluster()


def test_a_file_that_is_replaced_is_never_half_there(tmp_path: Path) -> None:
    write_whole(tmp_path / "book.json", b"old")
    with (tmp_path / "book.json").open("rb") as reader:
        write_whole(tmp_path / "book.json", b"new and longer")

        assert reader.read() == b"old"
    assert (tmp_path / "book.json").read_bytes() == b"new and longer"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["book.json"]


# --- who runs it
def test_whoever_runs_a_topology_is_found_until_it_stops(tmp_path: Path) -> None:
    made = home(tmp_path)
    assert made.running() is None
    made.acquire("run1", "/t.yaml")

    (found,) = running()
    assert found[0].folder == made.folder
    assert found[1] == made.running()
    assert (found[1].pid, found[1].run, found[1].file) == (os.getpid(), "run1", "/t.yaml")

    made.release()
    assert made.running() is None
    assert running() == []
    assert not made.sockets.exists()


def test_a_second_one_is_told_who_runs_it(tmp_path: Path) -> None:
    made = home(tmp_path)
    made.acquire("run1", "/t.yaml")

    with pytest.raises(AlreadyRunning, match=rf"t is running already \(pid {os.getpid()}, run run1\)$"):
        home(tmp_path).acquire("run2", "/t.yaml")

    assert made.running() is not None
    made.release()
    again = home(tmp_path)
    again.acquire("run3", "/t.yaml")
    again.release()


def test_a_fork_that_goes_on_does_not_keep_it_from_running_again(tmp_path: Path) -> None:
    made = home(tmp_path)
    made.acquire("run1", "/t.yaml")
    assert made._handle is not None
    forked = os.dup(made._handle)  # what a fork has of it

    made.release()

    assert made.running() is None
    made.acquire("run2", "/t.yaml")
    made.release()
    os.close(forked)


def test_that_a_program_runs_it_is_said_and_kept(tmp_path: Path) -> None:
    made = home(tmp_path)
    made.acquire("run1", "/t.yaml", is_program=True)
    made.note("run1", "/other.yaml")

    lock = made.running()

    assert lock is not None
    assert (lock.file, lock.is_program) == ("/other.yaml", True)
    made.release()


def test_somebody_who_only_looks_does_not_keep_it_from_running(tmp_path: Path) -> None:
    made = home(tmp_path)
    looker = os.open(made.folder / "lock", os.O_RDONLY | os.O_CREAT)
    fcntl.flock(looker, fcntl.LOCK_SH)
    threading.Timer(0.02, os.close, [looker]).start()

    made.acquire("run1", "/t.yaml")

    made.release()


def test_what_a_killed_launcher_left_is_no_topology_that_runs(tmp_path: Path) -> None:
    made = home(tmp_path)
    made.acquire("run1", "/t.yaml")
    assert made._handle is not None
    os.close(made._handle)  # as its end does; note and lock file stay

    assert running() == []
    made.acquire("run2", "/t.yaml")
    made.release()


def test_a_note_that_leads_nowhere_is_removed(tmp_path: Path) -> None:
    note = runtime_folder() / "0123abcd" / "home"
    note.parent.mkdir()
    note.write_text(str(tmp_path / "gone"))

    assert running() == []
    assert not note.parent.exists()


# --- the folder for sockets
def test_a_runtime_folder_that_others_can_enter_is_refused(runtime: Path) -> None:
    runtime_folder().chmod(0o755)

    with pytest.raises(UserError, match="mode 0700"):
        runtime_folder()


def test_a_runtime_folder_that_is_a_link_is_refused(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (runtime / "zactor").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UserError, match="must be a folder of yours alone"):
        runtime_folder()


def test_a_runtime_folder_that_cannot_be_made_is_one_clear_error(runtime: Path) -> None:
    (runtime / "zactor").write_text("")

    with pytest.raises(UserError, match=r"set XDG_RUNTIME_DIR"):
        runtime_folder()


def test_the_latest_of_several_runs_of_one_second_is_the_last(tmp_path: Path) -> None:
    home = Home(tmp_path / "t", "t")
    ids = [home.new_run() for _ in range(5)]

    assert ids == sorted(ids)
    assert home.runs() == ids
