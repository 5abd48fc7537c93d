"""`doctor`: whether this computer has what topologies need, and the mend of what it has not.

A check tries the thing itself where it can: it binds a socket where sockets will be, maps a file where recordings
will be, reads the clock. A finding is `ok`; a `note`, with which everything works, though not as one may think; or
`wrong`, and then the exit code is 1.
"""

from __future__ import annotations

import importlib.metadata
import mmap
import os
import platform
import re
import resource
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
import typer

import zactor
from zactor import registry
from zactor.cli.common import FAILED, DirOption, JsonOption, print_json, print_table, shown
from zactor.debug.recording import RING_BYTES
from zactor.errors import UserError
from zactor.launchers.folders import Home, command_name, runtime_folder
from zactor.live.library import library
from zactor.topology.model import PROCESS_COUNT_MAX
from zactor.units import format_size

app = typer.Typer()

PYTHON_MIN = (3, 11)
PYZMQ_MIN, LIBZMQ_MIN = (27,), (4, 2)
"""What pyproject.toml asks for; and since when libzmq has heartbeats."""

SOCKET_PATH_MAX = 107
"""Bytes: `sun_path` of Linux has 108 with the zero at the end."""

SOCKET_NAME = f"/01234567/{PROCESS_COUNT_MAX}.9999"
"""As long as the name of a process's socket gets in the folder for sockets."""

FILES_MIN = 1024
"""Open files: a process holds three sockets for each process that it talks to, its launcher three pipes for each."""

FREE_BYTES_MIN = 16 * RING_BYTES
"""Logs and recordings of eight processes."""

MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")

CLOCK_READS = 1000
CLOCK_NS_MAX = 1000
"""For one look at the clock: a kernel looks several times a turn, and a turn may take as little as a microsecond."""

ORPHAN_S = 0.5
"""A process whose launcher has just been killed ends by itself; one that is still there then does not."""

YEAR_MIN = 2025
"""A clock that shows less has never been set."""


class Finding(msgspec.Struct, frozen=True):
    """What one check found; `mend` says what to do unless all is well."""

    check: str
    state: Literal["ok", "note", "wrong"]
    found: str
    mend: str = ""


@app.command()
def doctor(as_json: JsonOption = False, folder: DirOption = None) -> None:
    """Check what must be right on this computer, and say the mend."""
    findings = [finding for check in CHECKS for finding in check(_nearest(folder))]
    wrong = sum(finding.state == "wrong" for finding in findings)
    if as_json:
        for finding in findings:
            print_json(finding)
    else:
        print_table(("", "CHECK", "FOUND"), [row for finding in findings for row in _rows(finding)])
        typer.echo("all is well" if not wrong else f"{wrong} of {len(findings)} are wrong")
    if wrong:
        raise typer.Exit(FAILED)


def _rows(finding: Finding) -> Iterator[tuple[str, str, str]]:
    yield finding.state, finding.check, finding.found
    if finding.mend:
        yield "", "", f"mend: {finding.mend}"


def _nearest(folder: Path | None) -> Path:
    """The folder in which state and runs will be, or the one above it that is there already."""
    path = (folder or Path(".zactor")).absolute()
    while not path.is_dir():
        path = path.parent
    return path


# --- what it runs on
def _python(_folder: Path) -> Iterator[Finding]:
    said = f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}"
    if sys.version_info < PYTHON_MIN:
        yield Finding("python", "wrong", said, "install Python 3.11 or newer")
    else:
        yield Finding("python", "ok", said)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _zeromq(_folder: Path) -> Iterator[Finding]:
    mend = f"{sys.executable} -m pip install --upgrade 'pyzmq>={PYZMQ_MIN[0]}'"
    try:
        found = library()
    except ImportError as problem:
        yield Finding("zeromq", "wrong", f"it cannot be imported: {problem}", mend)
        return
    said = f"pyzmq {_dotted(found.pyzmq)}, libzmq {_dotted(found.libzmq)}"
    missing = found.missing
    if found.pyzmq < PYZMQ_MIN or found.libzmq < LIBZMQ_MIN:
        least = f"pyzmq {_dotted(PYZMQ_MIN)} and libzmq {_dotted(LIBZMQ_MIN)} are the least"
        yield Finding("zeromq", "wrong", f"{said}; {least}", mend)
    elif "ipc" in missing:
        yield Finding("zeromq", "wrong", f"{said}, built without ipc", f"take pyzmq's own wheel: {mend}")
    elif missing:
        yield Finding("zeromq", "note", f"{said}, built without CURVE: it stays on this computer", mend)
    else:
        yield Finding("zeromq", "ok", f"{said}, with ipc and CURVE")


def _installs(_folder: Path) -> Iterator[Finding]:
    """One zactor: that of this Python, and the command that the shell finds is it."""
    here = str(Path(zactor.__file__).parent.parent)
    named = importlib.metadata.distributions(name="zactor", path=list(dict.fromkeys(sys.path)))
    versions = sorted({f"{each.version} ({Path(str(each.locate_file(''))).resolve()})" for each in named})
    shadowed = [path for path in sys.path if path not in ("", here) and (Path(path) / "zactor/__init__.py").is_file()]
    others = [path for path in _commands() if not _is_of_this_python(path)]
    if len(versions) > 1:
        mend = f"{sys.executable} -m pip uninstall zactor, until one is left"
        yield Finding("install", "wrong", f"this Python has several: {', '.join(versions)}", mend)
    elif shadowed:
        mend = f"remove {shadowed[0]} from PYTHONPATH, or uninstall the one in {here}"
        yield Finding("install", "wrong", f"{here} hides the zactor in {shadowed[0]}", mend)
    elif others:
        mend = "call the one that is meant by its path, or put its folder first in PATH"
        yield Finding("install", "note", f"{here}; the command {others[0]} is of another install", mend)
    else:
        yield Finding("install", "ok", here)


def _commands() -> list[Path]:
    folders = dict.fromkeys(os.environ.get("PATH", "").split(os.pathsep))
    found = [Path(folder) / "zactor" for folder in folders if folder]
    return [path for path in found if path.is_file() and os.access(path, os.X_OK)]


def _is_of_this_python(command: Path) -> bool:
    """Whether a command calls this Python: by its first lines, or as that of a checkout with a Python of its own."""
    prefix = Path(sys.prefix).resolve()
    if command.resolve().parent.parent / ".venv" == prefix:
        return True
    with command.open("rb") as lines:
        return str(sys.prefix).encode() in lines.read(4096)


# --- sockets and files
def _sockets(_folder: Path) -> Iterator[Finding]:
    try:
        place = runtime_folder()
    except UserError as problem:
        found, _, mend = str(problem).partition("; ")
        yield Finding("sockets", "wrong", found, mend)
        return
    length = len(f"{place}{SOCKET_NAME}".encode())
    mend = "set XDG_RUNTIME_DIR to a folder of yours with a short name, on a local disk"
    if length > SOCKET_PATH_MAX:
        text = f"{place}: paths of sockets get {length} bytes long, {SOCKET_PATH_MAX} is the most"
        yield Finding("sockets", "wrong", text, mend)
        return
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix="try-") as name, socket.socket(socket.AF_UNIX) as tried:
            tried.bind(f"{name}/s")
    except OSError as problem:
        yield Finding("sockets", "wrong", f"{place}: there can be no socket: {problem.strerror or problem}", mend)
    else:
        yield Finding("sockets", "ok", str(place))


def _open_files(_folder: Path) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "" if hard == resource.RLIM_INFINITY else f", {hard} can be had"
    if soft != resource.RLIM_INFINITY and soft < FILES_MIN:
        mend = f"ulimit -n {FILES_MIN * 4 if hard > FILES_MIN * 4 else FILES_MIN}, or LimitNOFILE= of a systemd unit"
        yield Finding("open files", "wrong", f"a process may open {soft}{most}; {FILES_MIN} is the least", mend)
    else:
        yield Finding("open files", "ok", f"a process may open {soft}{most}")


def _disk(folder: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(folder).free
    system = _file_system(folder)
    said = f"{folder}: {format_size(free)} free"
    elsewhere = "keep topologies elsewhere: --dir DIR or ZACTOR_DIR"
    if not os.access(folder, os.W_OK):
        yield Finding("disk", "wrong", f"{folder}: nothing may be written here", elsewhere)
    elif free < FREE_BYTES_MIN:
        mend = f"make room ({command_name()} runs prune), or {elsewhere}"
        yield Finding("disk", "wrong", f"{said}; {format_size(FREE_BYTES_MIN)} is the least", mend)
    elif system in MEMORY_FILE_SYSTEMS:
        text = f"{said}, but in memory ({system}): what nodes keep is gone when this computer is"
        yield Finding("disk", "note", text, elsewhere)
    else:
        yield Finding("disk", "ok", said)


def _file_system(folder: Path) -> str:
    """The type of the file system of a folder; nothing where the system does not tell."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    mounts = [line.split(" ") for line in lines]
    above = [mount for mount in mounts if folder.resolve().is_relative_to(re.sub(r"\\040", " ", mount[1]))]
    return max(above, key=lambda mount: len(mount[1]))[2] if above else ""  # the last of those on one another


def _recordings(folder: Path) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.truncate(mmap.PAGESIZE)
            with mmap.mmap(file.fileno(), mmap.PAGESIZE) as mapped:
                mapped[:4] = b"tick"
                mapped.flush()
            file.seek(0)
            assert file.read(4) == b"tick", "what is written to a mapped file is in the file"
    except OSError as problem:
        text = f"{folder}: no file can be mapped: {problem.strerror or problem}"
        yield Finding("recordings", "wrong", text, "keep topologies on a local disk: --dir DIR or ZACTOR_DIR")
    else:
        yield Finding("recordings", "ok", f"{folder}: files can be mapped")


# --- time
def _clock(_folder: Path) -> Iterator[Finding]:
    began_ns = time.perf_counter_ns()
    seen = [time.monotonic_ns() for _ in range(CLOCK_READS)]
    cost_ns = (time.perf_counter_ns() - began_ns) // CLOCK_READS
    source = _read(Path("/sys/devices/system/clocksource/clocksource0/current_clocksource"))
    said = f"{cost_ns} ns to look at it" + (f", {source}" if source else "")
    if seen != sorted(seen):
        yield Finding("clock", "wrong", f"{said}; it goes back", "choose another clock source in the kernel")
    elif time.gmtime().tm_year < YEAR_MIN:
        text = f"{said}; it says that it is {time.strftime('%Y-%m-%d')}"
        yield Finding("clock", "wrong", text, "set the date, for instance with: timedatectl set-ntp true")
    elif cost_ns > CLOCK_NS_MAX:
        known = _read(Path("/sys/devices/system/clocksource/clocksource0/available_clocksource"))
        mend = f"choose a faster clock source of {known}" if known else "let the virtual machine have its host's clock"
        yield Finding("clock", "note", f"{said}: each turn looks at it, and is that much slower", mend)
    else:
        yield Finding("clock", "ok", said)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


# --- what others left behind
def _left_behind(_folder: Path) -> Iterator[Finding]:
    """Sockets of launchers that were killed, and processes that outlived theirs."""
    found = list(_dead_sockets())
    if orphans := _orphans():
        time.sleep(ORPHAN_S)
        found += [finding for finding in _orphans() if finding in orphans]
    yield from found or [Finding("left behind", "ok", "nothing")]


def _dead_sockets() -> Iterator[Finding]:
    try:
        notes = sorted(runtime_folder().glob("*/home"))
    except UserError:
        return  # `_sockets` says so
    for note in notes:
        home = Home(Path(_read(note)), "")
        if home.running() is None and note.exists():
            text = f"sockets of {shown(home.folder)}, whose launcher was killed"
            mend = f"bring it up again, or remove them: rm -r {note.parent}"
            yield Finding("left behind", "note", text, mend)


def _orphans() -> list[Finding]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        words = _read(entry / "cmdline").split("\0")
        if "zactor.live.main" not in words[:-2]:
            continue
        process, parent = words[words.index("zactor.live.main") + 1 :][:2]
        status = dict(line.split(":\t", 1) for line in _read(entry / "status").splitlines() if ":\t" in line)
        if status.get("PPid") not in (parent, None) and status.get("Uid", "").split("\t")[0] == str(os.getuid()):
            text = f"process {process} (pid {entry.name}) has outlived its launcher (pid {parent})"
            found.append(Finding("left behind", "wrong", text, f"kill -9 {entry.name}"))
    return found


# --- what can be put into a topology
def _kinds(_folder: Path) -> Iterator[Finding]:
    broken = registry.broken()
    for package, problem in sorted(broken.items()):
        yield Finding("kinds", "wrong", f"{package} cannot be used: {problem}", f"mend {package}, or uninstall it")
    if not broken:
        yield Finding("kinds", "ok", f"{len(registry.names())} kinds")


CHECKS: tuple[Callable[[Path], Iterator[Finding]], ...] = (
    _python,
    _zeromq,
    _installs,
    _sockets,
    _open_files,
    _disk,
    _recordings,
    _clock,
    _left_behind,
    _kinds,
)
"""In the order in which they are mended best. Each gets the folder for state and runs, or one above it."""
