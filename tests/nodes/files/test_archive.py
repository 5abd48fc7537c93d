"""Folders as tar archives: what is saved any tar reads, what any tar wrote is restored, and nothing leads astray."""

from __future__ import annotations

import asyncio
import io
import random
import subprocess
import tarfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from nodes.files import archive, folders
from nodes.files.archive import Moved
from nodes.files.client import FilesClient
from nodes.files.messages import SMALL_SIZE_MAX
from nodes.files.operations import Stat
from tests.nodes.files.standins import Cluster
from zactor.errors import UserError
from zactor.message import Ref

LARGE = random.Random(2).randbytes(3 * SMALL_SIZE_MAX + 5)


def with_files(work: Callable[[FilesClient], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        return await work(FilesClient(Cluster(), Ref("metadata")))

    return asyncio.run(run())


async def fill(files: FilesClient) -> None:
    """A folder with all that can be in one, and names that only pax headers can hold."""
    await files.mkdir("/docs/empty", parents=True)
    await files.mkdir("/docs/private", mode=0o700)
    await files.put([b"hello"], "/docs/a.txt", mode=0o600)
    await files.put([LARGE], "/docs/private/large")
    await files.create("/docs/none")
    await files.symlink("/docs/latest", "private/large")
    await files.put([b"long"], f"/docs/{'ü' * 120}")
    for number in range(40):
        await files.put([bytes(number)], f"/docs/n{number:02}")


async def shape(files: FilesClient, path: str) -> dict[str, tuple[str, int, str, bytes]]:
    """All below a path: kind, mode, target and content."""
    found: dict[str, tuple[str, int, str, bytes]] = {}
    async for here, item in folders.walk(files, path):
        content = await files.read(here) if item.kind == "file" else b""
        found[here.removeprefix(path)] = (item.kind, item.mode, item.target, content)
    return found


async def saved(files: FilesClient, path: str) -> bytes:
    sink = io.BytesIO()
    await archive.save(files, path, sink)
    return sink.getvalue()


def tar_of(*members: tuple[str, bytes | str | None], kind: bytes = tarfile.SYMTYPE) -> bytes:
    """An archive of files (with a content), links (to a name) and folders (None)."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as made:
        for name, what in members:
            info = tarfile.TarInfo(name)
            if isinstance(what, bytes):
                info.size = len(what)
                made.addfile(info, io.BytesIO(what))
            else:
                info.type, info.linkname = (kind, what) if what is not None else (tarfile.DIRTYPE, "")
                info.mode = 0o755
                made.addfile(info)
    return sink.getvalue()


def restored(content: bytes) -> tuple[Moved, dict[str, tuple[str, int, str, bytes]]]:
    async def work(files: FilesClient) -> Any:
        await files.put([b"kept"], "/outside")
        return await archive.restore(files, io.BytesIO(content), "/to"), await shape(files, "/")

    moved, found = with_files(work)
    assert found["outside"][3] == b"kept"
    return moved, found


def test_what_is_saved_and_restored_is_the_same_but_for_its_times() -> None:
    async def work(files: FilesClient) -> None:
        await fill(files)
        moved = await archive.restore(files, io.BytesIO(await saved(files, "/docs")), "/copy")

        assert await shape(files, "/copy") == await shape(files, "/docs")
        assert (moved.files, moved.folders, moved.links, moved.problems) == (44, 2, 1, [])

    with_files(work)


def test_what_is_saved_is_read_by_tar(tmp_path: Path) -> None:
    async def work(files: FilesClient) -> tuple[bytes, Stat]:
        await fill(files)
        return await saved(files, "/docs"), await files.stat("/docs/a.txt")

    content, stat = with_files(work)
    (tmp_path / "docs.tar").write_bytes(content)
    subprocess.run(["tar", "xf", "docs.tar"], cwd=tmp_path, check=True)

    assert len(content) % 10_240 == 0
    assert (tmp_path / "private" / "large").read_bytes() == (tmp_path / "latest").read_bytes() == LARGE
    assert (tmp_path / ("ü" * 120)).read_bytes() == b"long"
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a.txt").stat().st_mtime_ns == stat.mtime_ns
    assert (tmp_path / "empty").is_dir()


@pytest.mark.parametrize("compression", ["", "--gzip", "--xz"])
def test_what_tar_wrote_is_restored(tmp_path: Path, compression: str) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "large").write_bytes(LARGE)
    (source / "small").write_bytes(b"small")
    (source / "same").hardlink_to(source / "small")
    (source / "link").symlink_to("deep/large")
    made = subprocess.run(["tar", "cf", "-", *compression.split(), "."], cwd=source, check=True, capture_output=True)

    moved, found = restored(made.stdout)

    assert moved.problems == []
    assert found["to/deep/large"][3] == found["to/link"][3] or found["to/link"][2] == "deep/large"
    assert found["to/deep/large"][3] == LARGE
    assert found["to/small"][3] == found["to/same"][3] == b"small"


def test_one_file_is_saved_under_its_name() -> None:
    async def work(files: FilesClient) -> bytes:
        await fill(files)
        return await saved(files, "/docs/a.txt")

    with tarfile.open(fileobj=io.BytesIO(with_files(work))) as made:
        assert made.getnames() == ["a.txt"]


def test_files_that_are_there_are_replaced_and_others_stay() -> None:
    async def work(files: FilesClient) -> dict[str, Any]:
        await files.mkdir("/to")
        await files.put([b"old"], "/to/a")
        await files.put([b"old"], "/to/b")
        await files.symlink("/to/link", "/nowhere")
        await archive.restore(files, io.BytesIO(tar_of(("a", b"new"), ("link", "a"), ("a", b"newer"))), "/to")
        return await shape(files, "/to")

    found = with_files(work)
    assert (found["/a"][3], found["/b"][3], found["/link"][2]) == (b"newer", b"old", "a")


def test_a_folder_that_the_archive_does_not_name_is_made() -> None:
    _, found = restored(tar_of(("deep/er/small", b"1"), ("deep/large", LARGE)))

    assert found["to/deep/er/small"][3] == b"1"
    assert found["to/deep/large"][3] == LARGE


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tar_of(("../outside", b"evil"), ("good", b"1")), "leads out of the folder"),
        (tar_of(("a/../../outside", LARGE), ("good", b"1")), "leads out of the folder"),
        (tar_of(("up", "/"), ("up/outside", b"evil"), ("good", b"1")), "leads through the link /to/up"),
        (tar_of(("pipe", ""), ("good", b"1"), kind=tarfile.FIFOTYPE), "is no file, folder or link"),
        (tar_of(("hard", "../outside"), ("good", b"1"), kind=tarfile.LNKTYPE), "leads out of the folder"),
        (tar_of(("hard", "nothing"), ("good", b"1"), kind=tarfile.LNKTYPE), "nothing"),
        (tar_of((f"{'n' * 300}", b"1"), ("good", b"1")), "255"),
        (tar_of(("file", b"1"), ("file/below", b"1"), ("good", b"1")), "file"),
    ],
)
def test_a_member_that_may_not_be_is_named_and_the_others_are_restored(content: bytes, words: str) -> None:
    moved, found = restored(content)

    (problem,) = moved.problems
    assert words in problem
    assert found["to/good"][3] == b"1"


def test_a_link_that_the_archive_brings_is_not_written_through() -> None:
    moved, found = restored(tar_of(("outside", "/outside"), ("outside", b"file")))

    assert moved.problems == []
    assert found["to/outside"][::3] == ("file", b"file")


@pytest.mark.parametrize("content", [b"no archive", LARGE, tar_of(("large", LARGE))[:-100_000]])
def test_what_is_no_whole_archive_is_said(content: bytes) -> None:
    with pytest.raises(UserError, match="no tar archive, or not all of one"):
        restored(content)


def test_a_file_that_goes_while_the_folder_is_saved_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(files: FilesClient) -> Moved:
        await fill(files)
        real: Callable[[str], Awaitable[bytes]] = files.read

        async def read(path: str) -> bytes:
            if path == "/docs/n07":
                await files.remove(path)
            return await real(path)

        monkeypatch.setattr(files, "read", read)
        return await archive.save(files, "/docs", io.BytesIO())

    moved = with_files(work)
    assert moved.problems == ["/docs/n07: was removed before it was read"]
    assert moved.files == 43
