"""Each check of `doctor`, on a computer that is well and on one that is ill."""

from __future__ import annotations

import mmap
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import zmq

from tests.cli.transcript import Place, lines_until
from zactor import registry
from zactor.cli import doctor
from zactor.cli.doctor import Finding
from zactor.launchers.folders import Home

Check = Callable[[Path], Iterator[Finding]]


@pytest.fixture(autouse=True)
def own_runtime_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody else's sockets; its name is short enough to be used."""
    with tempfile.TemporaryDirectory(prefix="zd") as base:
        monkeypatch.setenv("XDG_RUNTIME_DIR", base)
        yield


def only(check: Check, folder: Path) -> Finding:
    (finding,) = check(folder)
    return finding


def refuse(*_: Any, **__: Any) -> NoReturn:
    raise OSError(95, "Operation not supported")


@pytest.mark.parametrize("check", doctor.CHECKS)
def test_this_computer_is_well(check: Check, tmp_path: Path) -> None:
    for finding in check(tmp_path):
        assert finding.state != "wrong"
        assert bool(finding.mend) == (finding.state != "ok")


def test_sockets_are_tried_where_they_will_be(place: Place) -> None:
    done = place.command("zactor doctor --json")

    assert '"check":"sockets","state":"ok"' in done.out
    assert os.listdir(place.base / "run" / "zactor") == []


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    yield place
    place.close()


# --- what it runs on
def test_an_old_python_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PYTHON_MIN", (9, 0))

    assert only(doctor._python, tmp_path).state == "wrong"


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"zmq_version_info": lambda: (4, 1, 8)}, "wrong"),
        ({"pyzmq_version_info": lambda: (26, 4, 0)}, "wrong"),
        ({"has": lambda what: what != "ipc"}, "wrong"),
        ({"has": lambda what: what != "curve"}, "note"),
    ],
    ids=["old libzmq", "old pyzmq", "no ipc", "no CURVE"],
)
def test_a_zeromq_that_lacks_something(
    change: dict[str, Any], state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in change.items():
        monkeypatch.setattr(zmq, name, value)

    finding = only(doctor._zeromq, tmp_path)
    assert (finding.state, "pip install" in finding.mend) == (state, True)


def test_a_zeromq_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zmq", None)

    assert only(doctor._zeromq, tmp_path).state == "wrong"


def test_two_installs_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert only(doctor._installs, tmp_path).state == "ok"

    command = tmp_path / "zactor"
    command.write_text("#!/usr/bin/python2\n")
    command.chmod(0o755)
    assert only(doctor._installs, tmp_path).state == "note"
    command.write_text(f"#!{sys.executable}\n")
    assert only(doctor._installs, tmp_path).state == "ok"

    (tmp_path / "zactor-9.0.dist-info").mkdir()
    (tmp_path / "zactor-9.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: zactor\nVersion: 9.0\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    finding = only(doctor._installs, tmp_path)
    assert (finding.state, "9.0" in finding.found) == ("wrong", True)


def test_a_package_that_another_one_hides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zactor").mkdir()
    (tmp_path / "zactor" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])

    finding = only(doctor._installs, tmp_path)

    assert (finding.state, str(tmp_path) in finding.mend) == ("wrong", True)


# --- sockets and files
def test_a_folder_for_sockets_whose_name_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(deep))

    finding = only(doctor._sockets, tmp_path)

    assert (finding.state, "107 is the most" in finding.found) == ("wrong", True)


def test_a_folder_for_sockets_that_others_can_enter(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.base / "run" / "zactor").mkdir(mode=0o755)
    (place.base / "run" / "zactor").chmod(0o755)
    done = place.command("zactor doctor")

    assert done.code == 1
    assert "must be a folder of yours alone (mode 0700)\n" in done.out
    assert "mend: remove it, or set XDG_RUNTIME_DIR\n" in done.out


def test_a_file_system_without_sockets(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", refuse)

    assert "there can be no socket: Operation not supported" in place.command("zactor doctor").out


@pytest.mark.parametrize(("soft", "state"), [(1023, "wrong"), (1024, "ok"), (resource.RLIM_INFINITY, "ok")])
def test_open_files(soft: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, resource.RLIM_INFINITY))

    assert only(doctor._open_files, tmp_path).state == state


def test_disks_that_are_full_or_in_memory_or_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = doctor.FREE_BYTES_MIN
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    monkeypatch.setattr(doctor, "_file_system", lambda _: "ext4")
    assert only(doctor._disk, tmp_path).state == "ok"

    monkeypatch.setattr(doctor, "_file_system", lambda _: "tmpfs")
    assert only(doctor._disk, tmp_path).state == "note"
    free -= 1
    assert only(doctor._disk, tmp_path).state == "wrong"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "nothing may be written" in only(doctor._disk, tmp_path).found


@pytest.mark.skipif(not Path("/proc/self/mounts").exists(), reason="only Linux tells")
def test_the_file_system_is_that_of_the_nearest_mount() -> None:
    assert doctor._file_system(Path("/proc")) == "proc"


def test_a_folder_in_which_no_file_can_be_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmap, "mmap", refuse)

    assert only(doctor._recordings, tmp_path).state == "wrong"


def test_the_folder_that_is_looked_at_is_the_nearest_that_is_there(tmp_path: Path) -> None:
    assert doctor._nearest(tmp_path / "not" / "yet") == tmp_path


# --- time
def test_clocks_that_go_back_or_were_never_set_or_are_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        times = iter(range(doctor.CLOCK_READS, 0, -1))
        patch.setattr(time, "monotonic_ns", lambda: next(times))
        assert "it goes back" in only(doctor._clock, tmp_path).found
    with monkeypatch.context() as patch:
        patch.setattr(time, "gmtime", lambda: time.localtime(0))
        assert "timedatectl" in only(doctor._clock, tmp_path).mend
    monkeypatch.setattr(doctor, "CLOCK_NS_MAX", -1)
    assert only(doctor._clock, tmp_path).state == "note"


# --- what others left behind
@pytest.mark.live
def test_sockets_of_a_launcher_that_was_killed(place: Place) -> None:
    up = place.start("exec zactor up hello.yaml")
    lines_until(up, lambda lines: lines[-1].startswith("ready: "))
    assert "nothing\n" in place.command("zactor doctor").out

    up.send_signal(signal.SIGKILL)
    up.communicate()
    done = place.command("zactor doctor")

    assert (done.code, "sockets of .zactor/hello, whose launcher was killed" in done.out) == (0, True)
    assert f"rm -r {place.base}/run/zactor/" in done.out


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
def test_a_process_that_has_outlived_its_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ORPHAN_S", 0.0)
    words = ["-c", "print(flush=True); input()", "zactor.live.main", "store/0"]

    def found(parent: int) -> list[Finding]:
        process = subprocess.Popen(
            [sys.executable, *words, str(parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()  # now it is a Python, and no longer a copy of this one
            return [each for each in doctor._left_behind(tmp_path) if f"pid {process.pid}" in each.found]
        finally:
            process.communicate(b"\n")

    assert found(os.getpid()) == []
    (finding,) = found(1 << 30)
    assert (finding.state, finding.found.startswith("process store/0 ")) == ("wrong", True)


def test_sockets_of_what_runs_are_not_left_behind(tmp_path: Path) -> None:
    home = Home(tmp_path / "t", "t")
    home.make()
    home.acquire("r", "t.yaml")
    try:
        assert list(doctor._dead_sockets()) == []
    finally:
        home.release()


# --- kinds
def test_kinds_that_cannot_be_imported(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "broken", lambda: {"files": "nodes.files cannot be imported: x.py:3: NameError: y"})
    done = place.command("zactor doctor")

    assert done.code == 1
    assert "files cannot be used: nodes.files cannot be imported: x.py:3: NameError: y\n" in done.out
    assert "mend: mend files, or uninstall it\n" in done.out
