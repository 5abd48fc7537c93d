"""What a turn takes of the machine beside time: CPU of all processes of a side, flushes of its disk, and memory.

All of it is read from the kernel, so it is counted alike whoever is measured, in whatever language they are written.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zactor.errors import UserError

MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")

TICKS_PER_S = os.sysconf("SC_CLK_TCK")

FLUSHES = 18
"""Where a line of /proc/diskstats has how many flushes were completed, since Linux 5.5 (admin-guide/iostats)."""


class InMemory(UserError):
    """Here is no disk to measure on."""


@dataclass(frozen=True)
class Disk:
    """What is under a folder. `device` is None where no single device is, so that nobody counts its flushes."""

    folder: Path
    file_system: str
    device: str | None

    def flushes(self) -> int | None:
        """How often the device was told to make durable what it has, by anybody: each fdatasync does, alone or not."""
        for line in Path("/proc/diskstats").read_text().splitlines():
            words = line.split()
            if words[2] == self.device and len(words) > FLUSHES:
                return int(words[FLUSHES])
        return None

    def __str__(self) -> str:
        return f"{self.folder} is on {self.file_system}, {self.device or 'whose flushes nobody counts'}"


def disk_of(folder: Path) -> Disk:
    """The disk below a folder. Raises InMemory when what is there is none."""
    number = folder.stat().st_dev
    numbers = f"{os.major(number)}:{os.minor(number)}"
    file_system = next((words[0] for words in _mounts(numbers)), "an unknown file system")
    if file_system in MEMORY_FILE_SYSTEMS:
        raise InMemory(f"{folder} is in memory ({file_system}): set TMPDIR to a folder on a disk")
    block = Path("/sys/dev/block", numbers)
    if not block.exists():
        return Disk(folder, file_system, None)
    whole = block.resolve().parent if (block / "partition").exists() else block.resolve()
    return Disk(folder, file_system, whole.name)  # flushes are counted for all partitions together


def temporary_disk() -> Disk:
    """The disk below what the system calls temporary, where everything is measured. Raises InMemory."""
    return disk_of(Path(tempfile.gettempdir()))


def _mounts(numbers: str) -> Iterable[list[str]]:
    """What /proc/self/mountinfo says behind its dash of the mounts of a device: type, source, options."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split(" ")[2] == numbers:
            yield after.split(" ")


def family(*roots: int) -> set[int]:
    """These processes, and all that came from them and are there."""
    children = defaultdict(list)
    for pid, words in _stats():
        children[int(words[1])].append(pid)
    found: set[int] = set()
    left = list(roots)
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            left += children[pid]
    return found


def cpu_s(*roots: int) -> float:
    """Seconds of CPU that these processes and their families took, with those that are gone and were waited for."""
    pids = family(*roots)
    return sum(sum(map(int, words[11:15])) for pid, words in _stats() if pid in pids) / TICKS_PER_S


def _stats() -> Iterable[tuple[int, list[str]]]:
    """Of each process what proc(5) has in `stat` from the third field on."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue  # it has ended meanwhile
            yield int(entry.name), text.rpartition(")")[2].split()


def forget_peak(pid: int) -> None:
    """From here on the peak of a process counts anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The most memory that a process had at a time."""
    return _status_bytes(pid, "VmHWM:")


def memory_bytes(pid: int) -> int:
    """The memory that a process has."""
    return _status_bytes(pid, "VmRSS:")


def _status_bytes(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"the process {pid} has no memory any more")
