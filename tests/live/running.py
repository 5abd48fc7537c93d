"""What the tests with real sockets and processes share: `zactor` in a subprocess, and waiting with a deadline.

Nothing here sleeps for a time that was guessed: what is waited for is looked at again and again, and a deadline
that passes is the failure.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import isawaitable
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import pytest

from zactor import registry
from zactor.client import AsyncClient
from zactor.launchers.folders import Home, Lock
from zactor.live.world import Book

T = TypeVar("T")

LOOK_S = 0.005
PATIENCE_S = 20.0
"""Generous: a busy machine is no failure."""

ACTORS = str(Path(__file__).with_name("actors.py"))


def eventually(condition: Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
    """The first true value of a condition."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline_s, f"still {value!r} after {timeout_s:g} s"
        time.sleep(LOOK_S)
    return value


async def eventually_in_loop(condition: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
    """The same, while a loop runs; the condition may be a coroutine function."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        value = condition()
        if isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline_s, f"still {value!r} after {timeout_s:g} s"
        await asyncio.sleep(LOOK_S)


def word(name: str) -> Any:
    """A class of `actors.py`, as the processes of a topology know it."""
    module = sys.modules[registry.find(f"{ACTORS}:Echo", Path("/")).__module__]
    return getattr(module, name)


def kind(name: str) -> str:
    """A class of `actors.py` as a kind, quoted for a topology."""
    return f"'{ACTORS}:{name}'"


def zactor(*arguments: str, folder: Path, code: int = 0, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, which must have that exit code."""
    done = subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def command(*arguments: str) -> list[str]:
    """The command line of `zactor`."""
    return [sys.executable, "-P", "-m", "zactor.cli.main", *arguments]


def lines_of(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """The lines that a process writes, as they come."""
    assert process.stdout is not None
    for line in iter(process.stdout.readline, b""):
        yield line.decode().rstrip("\n")


def processes_here() -> dict[int, str]:
    """Every process of zactor that was started by these tests: pid and command line. They share a runtime folder."""
    mark = f"XDG_RUNTIME_DIR={os.environ['XDG_RUNTIME_DIR']}\0".encode()
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if "zactor." in line and mark in (folder / "environ").read_bytes():
                found[int(folder.name)] = line.strip()
        except OSError:  # it ended meanwhile, or is not ours
            continue
    return found


def resident_bytes(pid: int) -> int:
    """The memory of a process, as the system counts it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"{pid} has no VmRSS")


class Launched:
    """A topology that runs: `zactor up` in a subprocess. Leaving the `with` brings it down."""

    def __init__(self, folder: Path, topology: str, *options: str) -> None:
        self.folder = folder
        self.file = folder / "t.yaml"
        self.file.write_text(topology)
        self.name = topology.partition("name:")[2].split()[0]
        self.home = Home(folder / ".zactor" / self.name, self.name)
        self.output = folder / "up.log"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command("up", str(self.file), *options),
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def ready(self) -> Launched:
        """Wait until all nodes are ready."""
        eventually(lambda: "ready:" in self.text() or self.process.poll() is not None)
        assert "ready:" in self.text(), self.text()
        return self

    def text(self) -> str:
        """What `up` has said so far."""
        return self.output.read_text()

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(PATIENCE_S)

    def lock(self) -> Lock:
        """Who runs it."""
        lock = self.home.running()
        assert lock is not None
        return lock

    def run_folder(self) -> Path:
        """Logs and book of the run."""
        return self.home.run_folder(self.lock().run)

    def book(self) -> Book:
        """Where every node lives."""
        return msgspec.json.decode((self.run_folder() / "book.json").read_bytes(), type=Book)

    def pid(self, process: str) -> int:
        """The process id of one that runs."""
        pid = self.book().processes[process].pid
        assert pid is not None
        return pid

    def pids(self) -> list[int]:
        """Those of all."""
        return [entry.pid for entry in self.book().processes.values() if entry.pid is not None]

    def client(self) -> AsyncClient:
        """A client, to be made while a loop runs."""
        return AsyncClient(self.run_folder() / "book.json")

    def log_lines(self, process: str) -> Iterator[str]:
        """The log of a process."""
        return iter((self.run_folder() / f"{process}.jsonl").read_text().splitlines())


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    return _state(pid) not in ("Z", "X")


def stopped(pid: int) -> bool:
    """Whether a process was held up by SIGSTOP."""
    return _state(pid) == "T"


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


@contextmanager
def private_runtime() -> Iterator[Path]:
    """A short private folder for sockets; at the end no process may be left that was started with it."""
    folder = Path(tempfile.mkdtemp(prefix="zt", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        patch.delenv("ZACTOR_DIR", raising=False)
        yield folder
        left = processes_here()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not processes_here())
        shutil.rmtree(folder)
        assert not left, f"left running: {left}"
