"""Where a topology keeps its things, and who runs it.

`.zactor/NAME/` beside the topology's file holds `state/` (outlives runs), `runs/ID/` and `lock`. Sockets have
short names (an ipc path ends at 107 bytes), so they live in the user's runtime folder, where a note leads back:
there the commands find what is running, whatever folder they are called from.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from zactor.errors import UserError, ZactorError
from zactor.registry import did_you_mean
from zactor.topology.model import Instance, Topology

RUNS_KEPT = 10

FILE_SUFFIXES = (".yaml", ".yml")
"""By these a topology's file is told from its name."""

ATTEMPTS, ATTEMPT_S = 10, 0.01


class Lock(msgspec.Struct, frozen=True):
    """What the lock of a running topology says.

    `is_program`: it was launched by a program, which is there for other things and goes on when it is stopped.
    """

    pid: int
    run: str
    name: str
    file: str
    is_program: bool = False


class AlreadyRunning(UserError):
    """Somebody runs this topology; `lock` says who, unless that cannot be read yet. `mend` ends the sentence."""

    def __init__(self, name: str, lock: Lock | None, mend: str = "") -> None:
        who = "" if lock is None else f" (pid {lock.pid}, run {lock.run})"
        super().__init__(f"{name} is running already{who}{mend}")
        self.name = name
        self.lock = lock


class Unreachable(ZactorError):
    """The launcher of a running topology does not answer."""


class Late(ZactorError):
    """The time was up before a launcher could do what it was asked."""


class NotRunning(UserError):
    """There is no running topology of that name, or none at all."""


class Home:
    """The folder of one topology."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder.resolve()
        self.name = name
        self._handle: int | None = None
        self._is_program = False

    @property
    def state(self) -> Path:
        """What nodes keep from run to run."""
        return self.folder / "state"

    @property
    def sockets(self) -> Path:
        """Where this topology's sockets are."""
        return runtime_folder() / hashlib.blake2b(str(self.folder).encode(), digest_size=4).hexdigest()

    def run_folder(self, run: str) -> Path:
        """The logs and the book of a run."""
        return self.folder / "runs" / run

    def make(self) -> None:
        """Make the folder, private to the user. Raises `UserError` when that cannot be."""
        make_folder(self.folder)
        make_folder(self.state)

    def running(self) -> Lock | None:
        """Who runs it, or None."""
        try:
            handle = os.open(self.folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_lock(handle)
        finally:
            os.close(handle)
        return None

    def acquire(self, run: str, file: str, *, is_program: bool = False) -> None:
        """Become the one that runs it. Raises `AlreadyRunning`."""
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _lock(handle):
            other = _read_lock(handle)
            os.close(handle)
            raise AlreadyRunning(self.name, other)
        os.ftruncate(handle, 0)
        self._handle = handle
        self._is_program = is_program
        self.note(run, file)
        self.sockets.mkdir(mode=0o700, exist_ok=True)
        (self.sockets / "home").write_text(str(self.folder))

    def note(self, run: str, file: str) -> None:
        """Say in the lock, which must be ours, what is run."""
        assert self._handle is not None, "only who has acquired it says so"
        line = msgspec.json.encode(Lock(os.getpid(), run, self.name, file, self._is_program))
        # One write, and blanks over what was longer: whoever reads meanwhile finds the old or the new.
        os.pwrite(self._handle, line.ljust(os.fstat(self._handle).st_size), 0)

    def release(self) -> None:
        """Let others run it."""
        if self._handle is not None:
            shutil.rmtree(self.sockets, ignore_errors=True)
            os.ftruncate(self._handle, 0)
            # Not by closing alone: a fork of ours that goes on has the handle, too.
            fcntl.flock(self._handle, fcntl.LOCK_UN)
            os.close(self._handle)
            self._handle = None

    def new_run(self) -> str:
        """A folder for a run; the oldest go when there are more than `RUNS_KEPT`. Returns its id."""
        run = _id_after(max(self.runs(), default=""))
        folder = self.run_folder(run)
        folder.mkdir(mode=0o700, parents=True)
        for old in sorted(path for path in folder.parent.iterdir() if path.is_dir())[:-RUNS_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return run

    def runs(self) -> list[str]:
        """The ids of the runs that are kept, oldest first."""
        folder = self.folder / "runs"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def cluster(self) -> str:
        """The id that this topology's state folders bear; made once."""
        path = self.state / "@cluster"
        if not path.exists():
            write_whole(path, secrets.token_hex(8).encode())
        return path.read_text().strip()

    def read_run(self, run: str) -> Topology:
        """The topology as that run had it."""
        return msgspec.json.decode((self.run_folder(run) / "run.json").read_bytes(), type=Topology)

    def replicas(
        self, run: str, what: str, mark: str, is_one: Callable[[Instance], bool], node: str | None
    ) -> list[str]:
        """The replicas of the only node of a run that is such a `what`, known by its `mark`; or of `node`.

        Raises `UserError` when there is none, and when it is not clear which is meant.
        """
        known: dict[str, list[str]] = {}
        for process in self.read_run(run).processes:
            for instance in process.instances:
                if is_one(instance):
                    known.setdefault(instance.node, []).append(instance.name)
        if not known:
            raise UserError(f"{self.name} has no {what}: no node {mark}")
        names = ", ".join(known)
        if node is None and len(known) > 1:
            raise UserError(f"{self.name} has more than one {what}: {names}; say which: -n {next(iter(known))}")
        chosen = node if node is not None else next(iter(known))
        if chosen not in known:
            raise UserError(f"no {what} is called {chosen!r}.{did_you_mean(chosen, known)} There are: {names}")
        return known[chosen]


def _id_after(last: str) -> str:
    """An id of a run that begins now, and comes after the last one also within the same second."""
    second = time.strftime("%Y%m%d-%H%M%S-", time.gmtime())
    first = int(last[len(second) :], 16) + 1 if last.startswith(second) else 0
    return f"{second}{first + secrets.randbelow(0x1000):04x}"


def home_of(topology: Topology, folder: Path | None) -> Home:
    """A topology's home: below `folder`, `ZACTOR_DIR`, or `.zactor` beside its file."""
    return Home((_chosen(folder) or Path(topology.folder) / ".zactor") / topology.name, topology.name)


def _chosen(folder: Path | None) -> Path | None:
    """The folder that was asked for, by name or by the environment."""
    return folder or (Path(os.environ["ZACTOR_DIR"]) if os.environ.get("ZACTOR_DIR") else None)


def command_name() -> str:
    """How the user calls us: `zactor`, or `bin/zactor` in a checkout."""
    return os.environ.get("ZACTOR_COMMAND", "zactor")


def find_running(topology: str | None, folder: Path | None, mend: str) -> tuple[Home, Lock]:
    """The running topology of that name or file, or the only one.

    `folder` is where its home must be, if that matters. Raises `NotRunning`, or UserError when there are several;
    `mend` is how one of them is chosen.
    """
    everything = found = running()
    chosen = _chosen(folder)
    if chosen is not None:
        found = [each for each in found if each[0].folder.parent == chosen.resolve()]
    if topology is not None:
        path = Path(topology)
        if path.suffix in FILE_SUFFIXES or "/" in topology:
            found = [each for each in found if Path(each[1].file) == path.resolve()]
        else:
            found = [each for each in found if each[0].name == topology]
    if not found:
        if topology is None:
            raise NotRunning(f"no topology is running; start one with: {command_name()} up FILE")
        others = ", ".join(home.name for home, _ in everything) or "none"
        raise NotRunning(f"{topology!r} is not running; running are: {others}")
    if len(found) > 1:
        names = "".join(f"\n  {home.name}  {lock.file}" for home, lock in found)
        raise UserError(f"several topologies are running; say which with {mend}:{names}")
    return found[0]


def file_of(topology: Topology) -> str:
    """The file of a topology, the same wherever one is."""
    return str((Path(topology.folder) / Path(topology.file).name).resolve())


def running() -> list[tuple[Home, Lock]]:
    """Every topology that this user runs, by name. Notes that lead nowhere are removed."""
    found = []
    for note in sorted(runtime_folder().glob("*/home")):
        try:
            folder = Path(note.read_text())
        except FileNotFoundError:  # it has just been stopped
            continue
        home = Home(folder, folder.name)
        lock = home.running()
        if lock is not None:
            found.append((home, lock))
        elif not home.folder.exists():
            shutil.rmtree(note.parent, ignore_errors=True)
    return sorted(found, key=lambda each: (each[0].name, each[1].file))


def runtime_folder() -> Path:
    """The user's folder for sockets. Raises UserError when somebody else owns it."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and Path(base).is_dir() and len(base) < 60:
        path = Path(base) / "zactor"
    else:
        path = Path(tempfile.gettempdir()) / f"zactor-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; set XDG_RUNTIME_DIR to a folder of yours") from None
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise UserError(f"{path} must be a folder of yours alone (mode 0700); remove it, or set XDG_RUNTIME_DIR")
    return path


def make_folder(path: Path) -> None:
    """Make a folder of a topology, private to the user. Raises `UserError` when that cannot be."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name another folder with --dir, or by ZACTOR_DIR") from None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that readers see the old one or the new one."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.rename(path)


def write_json(path: Path, value: Any) -> None:
    """The same, for a value."""
    write_whole(path, msgspec.json.encode(value))


def _lock(handle: int) -> bool:
    """Take a lock. Whoever only looks (`running`) holds it for some microseconds: that is no reason to give up."""
    for _ in range(ATTEMPTS):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(ATTEMPT_S)
        else:
            return True
    return False


def _read_lock(handle: int) -> Lock | None:
    try:
        return msgspec.json.decode(os.pread(handle, 1 << 16, 0), type=Lock)
    except msgspec.MsgspecError:
        return None  # it is being written, or has just been released
