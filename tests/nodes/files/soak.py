"""A folder and a large file are put while file servers are killed in turn, and are right. A command of its own.

    python -m tests.nodes.files.soak                   # 5,000 files and one of 2 GiB, which takes some minutes
    python -m tests.nodes.files.soak 200 64            # files, MiB

It prints what it sees and ends with 1 if anything is not as it should be.
"""

from __future__ import annotations

import filecmp
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live.running import Launched, command, private_runtime, zactor

TOPOLOGY = """\
name: soak
nodes:
  metadata: {kind: files.metadata, links: {servers: store}}
  store:
    kind: files.server
    replicas: 3
    settings: {capacity: 8GiB}
    restart: {when: failure, backoff: 100ms..1s, limit: 1000 in 60s}
"""

KILL_EVERY_S = 2.0
SIZES = (0, 100, 4_000, 20_000, 70_000)
EMPTY_S = 60.0
LONG_S = 1_800.0


def make(folder: Path, count: int, large_mib: int) -> None:
    """The files to be put: `tree`, in folders of 100, and `large`."""
    chance = random.Random(7)
    for index in range(count):
        file = folder / "tree" / f"{index // 100:03}" / f"{index:05}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(chance.randbytes(SIZES[index % len(SIZES)]))
    with (folder / "large").open("wb") as large:
        for _ in range(large_mib):
            large.write(chance.randbytes(1 << 20))


@contextmanager
def killing(launched: Launched) -> Iterator[list[str]]:
    """Kill the file servers in turn, each when the one before is back. Gives the names of those that were."""
    is_over = threading.Event()
    killed: list[str] = []

    def kill() -> None:
        while not is_over.wait(KILL_EVERY_S):
            name = f"store/{len(killed) % 3}"
            pid = launched.book().processes[name].pid
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                killed.append(name)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        is_over.set()
        thread.join()


def used(launched: Launched) -> list[int]:
    """Bytes on each server, as `df` says."""
    lines = zactor("fs", "df", "--json", folder=launched.folder).stdout.splitlines()
    return [row["used"] for row in map(json.loads, lines) if str(row.get("server", "")).startswith("store/")]


def check(name: str, is_right: Callable[[], bool]) -> bool:
    """Print a line, and whether it is so."""
    began_s = time.monotonic()
    right = is_right()
    sys.stdout.write(f"{'ok ' if right else 'NOT'}  {name}  ({time.monotonic() - began_s:.1f} s)\n")
    sys.stdout.flush()
    return right


def is_done(launched: Launched, *words: str) -> bool:
    """Whether a command ends with 0."""
    done = subprocess.run(command(*words), cwd=launched.folder, capture_output=True, text=True, timeout=LONG_S)
    if done.returncode:
        sys.stdout.write(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}\n")
    return done.returncode == 0


def is_same(left: Path, right: Path) -> bool:
    """Whether two folders hold the same files with the same bytes."""
    found = filecmp.dircmp(left, right)
    if found.left_only or found.right_only or found.funny_files:
        return False
    _, wrong, broken = filecmp.cmpfiles(left, right, found.common_files, shallow=False)
    return not wrong and not broken and all(is_same(left / name, right / name) for name in found.common_dirs)


def becomes(launched: Launched, expected: list[int]) -> bool:
    """Whether `df` says so in time: what was removed is dropped by and by."""
    until_s = time.monotonic() + EMPTY_S
    while (now := used(launched)) != expected and time.monotonic() < until_s:
        time.sleep(0.5)
    if now != expected:
        sys.stdout.write(f"df: {now}, expected {expected}\n")
    return now == expected


def soak(folder: Path, count: int, large_mib: int) -> bool:
    """The whole story. Returns whether all was right."""
    make(folder, count, large_mib)
    with Launched(folder, TOPOLOGY) as launched:
        launched.ready()
        before = used(launched)
        with killing(launched) as killed:
            put = check(f"{count} files are put", lambda: is_done(launched, "fs", "put", "-r", "tree", "/tree"))
            put &= check(f"{large_mib} MiB are put", lambda: is_done(launched, "fs", "put", "large", "/large"))
        sys.stdout.write(f"     {len(killed)} kills: {' '.join(killed)}\n")
        return put and all(
            (
                check("each chunk is on its servers", lambda: is_done(launched, "fs", "fsck", "--verify")),
                check("the folder comes back", lambda: is_done(launched, "fs", "get", "-r", "/tree", "again")),
                check("it is the same", lambda: is_same(folder / "tree", folder / "again")),
                check("the large one comes back", lambda: is_done(launched, "fs", "get", "/large", "large-again")),
                check("it is the same, too", lambda: filecmp.cmp(folder / "large", folder / "large-again", False)),
                check("all is removed", lambda: is_done(launched, "fs", "rm", "-r", "/tree", "/large")),
                check("df is as before", lambda: becomes(launched, before)),
            )
        )


def main(words: list[str]) -> int:
    """Files and MiB, if they are said."""
    count, large_mib = (int(words[0]), int(words[1])) if words else (5_000, 2_048)
    with private_runtime(), tempfile.TemporaryDirectory() as name:
        return 0 if soak(Path(name), count, large_mib) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
