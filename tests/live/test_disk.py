"""Files as they are against files as the virtual world has them; order, syncs beside writes, and a full disk."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.live.running import eventually_in_loop
from zactor.errors import DiskFailed, DiskFull
from zactor.live.disk import INLINE_BYTES, OPEN_FILES, Disk
from zactor.sim.disk import MemoryDisk
from zactor.world import (
    Append,
    DiskOperation,
    FreeBytes,
    List,
    Read,
    Remove,
    Rename,
    Size,
    Sync,
    SyncFolder,
    Truncate,
    Write,
)

pytestmark = pytest.mark.live

STEPS = 400

FULL = """\
import asyncio, resource, sys
from pathlib import Path
from zactor.errors import DiskFull
from zactor.live.disk import Disk
from zactor.world import Append, Size, Write

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
done = []

async def main():
    disk = Disk(Path(sys.argv[1]), lambda *completion: done.append(completion), lambda _, path: path.mkdir())
    sizes = (60_000, 60_000, 40_000, 90_000)
    for token, size in enumerate(sizes):
        disk.begin(token, Append("n", "file", bytes(size)))
    disk.begin(4, Write("n", "other", 99_999, b"xyz"))
    disk.begin(5, Size("n", "file"))
    while len(done) < 6:
        await asyncio.sleep(0.005)
    disk.close()

asyncio.run(main())
for token, value, error in sorted(done, key=lambda completion: completion[0]):
    print(token, value, type(error).__name__, "file: File too large" in str(error))
"""


class Rig:
    """A disk below a folder, and what was completed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: list[tuple[int, Any, BaseException | None]] = []
        self.prepared: list[str] = []
        self.disk = Disk(folder, lambda *completion: self.done.append(completion), self._prepare)
        self._token = 0

    def _prepare(self, name: str, path: Path) -> None:
        self.prepared.append(name)
        path.mkdir(parents=True, exist_ok=True)

    def begin(self, operation: DiskOperation) -> int:
        self._token += 1
        self.disk.begin(self._token, operation)
        return self._token

    async def perform(self, operation: DiskOperation) -> Any:
        """The value or the error of an operation."""
        token = self.begin(operation)
        await eventually_in_loop(lambda: token in self.tokens())
        value, error = next(completion[1:] for completion in self.done if completion[0] == token)
        return value if error is None else error

    def tokens(self) -> list[int]:
        return [token for token, _, _ in self.done]


def run(folder: Path, scenario: Callable[[Rig], Any]) -> Any:
    async def main() -> Any:
        rig = Rig(folder)
        try:
            return await scenario(rig)
        finally:
            rig.disk.close()

    return asyncio.run(main())


def arbitrary(rng: random.Random) -> DiskOperation:
    folder = rng.choice(["a", "b/0"])
    file = rng.choice(["one", "two", "three", "sub/four", "sub/deep/five"])
    size = rng.choice([0, 1, 10, 1000, INLINE_BYTES, INLINE_BYTES + 1, 200_000])
    content = rng.randbytes(size)
    offset = rng.choice([0, 5, 999, 100_000])
    made: list[Callable[[], DiskOperation]] = [
        lambda: Append(folder, file, content),
        lambda: Append(folder, file, content),
        lambda: Write(folder, file, offset, content),
        lambda: Read(folder, file, offset, rng.choice([-1, 0, 10, 100_000])),
        lambda: Read(folder, file, 0, -1),
        lambda: Truncate(folder, file, offset),
        lambda: Size(folder, file),
        lambda: Rename(folder, file, rng.choice(["one", "two", "sub/six", "new/seven"])),
        lambda: Remove(folder, file),
        lambda: SyncFolder(folder, rng.choice(["", "sub", "none"])),
        lambda: Sync(folder, (file, "one", "missing")),
    ]
    return rng.choice(made)()


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) if isinstance(one, Exception) else bool(one == other)


# --- the same as in the virtual world
@pytest.mark.parametrize("seed", range(3))
def test_the_same_operations_have_the_same_results_as_in_the_virtual_world(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    memory = MemoryDisk()

    def expected(operation: DiskOperation) -> Any:
        try:
            return memory.perform(operation)
        except Exception as error:
            return error

    async def scenario(rig: Rig) -> None:
        operations = [arbitrary(rng) for _ in range(STEPS)]
        wanted = [expected(operation) for operation in operations]
        tokens = [rig.begin(operation) for operation in operations]
        await eventually_in_loop(lambda: len(rig.done) == STEPS)
        found = {token: value if error is None else error for token, value, error in rig.done}
        for token, operation, want in zip(tokens, operations, wanted, strict=True):
            assert same(found[token], want), f"{operation!r:.200} gave {found[token]!r:.100}, not {want!r:.100}"

    run(tmp_path, scenario)

    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {f"{folder}/{file}": content for (folder, file), content in memory.files.items()}


def test_a_listing_shows_what_was_written_and_not_what_zactor_keeps_there(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> list[Any]:
        for file in ("b", "a", "sub/c"):
            rig.begin(Append("n", file, b"x"))
        rig.begin(Append("n/@child", "d", b"x"))
        (tmp_path / "n" / "@node.json").write_text("{}")
        return [await rig.perform(List("n", folder)) for folder in ("", "sub", "none")]

    assert run(tmp_path, scenario) == [("a", "b", "sub"), ("c",), ()]


def test_a_folder_is_prepared_once_before_its_first_use(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> list[str]:
        for folder in ("a", "b", "a"):
            await rig.perform(Append(folder, "file", b"x"))
        return rig.prepared

    assert run(tmp_path, scenario) == ["a", "b"]


# --- order
def test_the_operations_of_a_folder_happen_in_their_order_however_large_they_are(tmp_path: Path) -> None:
    sizes = [10, 1 << 20, 20, INLINE_BYTES + 1, 30, 1 << 20, 40]

    async def scenario(rig: Rig) -> tuple[list[int], list[Any]]:
        tokens = [rig.begin(Append("n", "file", bytes([index]) * size)) for index, size in enumerate(sizes)]
        await eventually_in_loop(lambda: len(rig.done) == len(sizes))
        assert rig.tokens() == tokens
        return sizes, [value for _, value, _ in rig.done]

    _, offsets = run(tmp_path, scenario)

    assert offsets == [sum(sizes[:index]) for index in range(len(sizes))]
    assert (tmp_path / "n" / "file").read_bytes() == b"".join(bytes([i]) * size for i, size in enumerate(sizes))


def test_more_files_than_are_kept_open_are_all_written(tmp_path: Path) -> None:
    count = OPEN_FILES * 3

    async def scenario(rig: Rig) -> None:
        for turn in range(2):
            for index in range(count):
                rig.begin(Append("n", f"file{index}", b"%d" % turn))
        await eventually_in_loop(lambda: len(rig.done) == 2 * count)
        open_now = [
            os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd.isdigit() and alive(fd)
        ]
        assert len([name for name in open_now if name.startswith(str(tmp_path))]) == OPEN_FILES

    def alive(fd: str) -> bool:
        return os.path.lexists(f"/proc/self/fd/{fd}")

    run(tmp_path, scenario)

    assert {path.read_bytes() for path in (tmp_path / "n").iterdir()} == {b"01"}


class HeldSync:
    """Lets a sync wait until it is released."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.release = threading.Event()
        self.synced: list[int] = []
        patch.setattr(os, "fdatasync", self._sync)

    def _sync(self, handle: int) -> None:
        assert self.release.wait(20)
        self.synced.append(os.fstat(handle).st_size)


def test_nothing_waits_for_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = HeldSync(monkeypatch)

    async def scenario(rig: Rig) -> None:
        await rig.perform(Append("n", "file", b"first"))
        sync = rig.begin(Sync("n", ("file",)))
        assert await rig.perform(Append("n", "file", b"second")) == 5
        assert await rig.perform(Append("n", "file", bytes(1 << 20))) == 11
        assert sync not in rig.tokens()
        held.release.set()
        await eventually_in_loop(lambda: sync in rig.tokens())

    run(tmp_path, scenario)


def test_a_sync_covers_a_file_that_is_renamed_or_removed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldSync(monkeypatch)

    async def scenario(rig: Rig) -> None:
        rig.begin(Append("n", "one.tmp", b"12345"))
        rig.begin(Append("n", "two.tmp", b"123"))
        sync = rig.begin(Sync("n", ("one.tmp", "two.tmp")))
        await rig.perform(Rename("n", "one.tmp", "one"))
        await rig.perform(Remove("n", "two.tmp"))
        held.release.set()
        await eventually_in_loop(lambda: sync in rig.tokens())

    run(tmp_path, scenario)

    assert held.synced == [5, 3]


def test_a_sync_waits_for_the_large_write_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = HeldSync(monkeypatch)
    held.release.set()

    async def scenario(rig: Rig) -> None:
        rig.begin(Append("n", "file", bytes(8 << 20)))
        sync = rig.begin(Sync("n", ("file",)))
        await eventually_in_loop(lambda: sync in rig.tokens())

    run(tmp_path, scenario)

    assert held.synced == [8 << 20]


def test_what_was_begun_is_done_before_the_disk_is_closed(tmp_path: Path) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        for index in range(50):
            rig.begin(Append("n", "file", bytes([index]) * 100_000))
        rig.disk.close()

    asyncio.run(main())

    assert (tmp_path / "n" / "file").read_bytes() == b"".join(bytes([index]) * 100_000 for index in range(50))


# --- what fails
def test_a_full_disk_is_told_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-P", "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=60)

    assert done.stdout.splitlines() == [
        "0 0 NoneType False",
        "1 None DiskFull True",
        "2 60000 NoneType False",
        "3 None DiskFull True",
        "4 None DiskFull False",
        "5 100000 NoneType False",
    ], done.stderr
    assert (tmp_path / "n" / "file").stat().st_size == 100_000


def test_a_sync_that_fails_is_told_as_a_failure_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)

    async def scenario(rig: Rig) -> Any:
        await rig.perform(Append("n", "file", b"x"))
        return await rig.perform(Sync("n", ("file",)))

    error = run(tmp_path, scenario)

    assert isinstance(error, DiskFailed)
    assert "Input/output error" in str(error)


def test_no_space_is_a_refusal_and_not_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int, _data: bytes, _offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)

    async def scenario(rig: Rig) -> list[Any]:
        return [await rig.perform(Append("n", "file", bytes(size))) for size in (10, 1 << 20)]

    assert [type(error) for error in run(tmp_path, scenario)] == [DiskFull, DiskFull]


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("secret")
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / "file").symlink_to(outside)

    async def scenario(rig: Rig) -> Any:
        return [await rig.perform(operation) for operation in (Read("n", "file", 0, -1), Append("n", "file", b"x"))]

    assert [type(error) for error in run(tmp_path, scenario)] == [DiskFailed, DiskFailed]
    assert outside.read_text() == "secret"


def test_the_free_bytes_are_those_of_the_file_system(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> Any:
        return await rig.perform(FreeBytes("n"))

    assert 0 < run(tmp_path, scenario) <= os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
