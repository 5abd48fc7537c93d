"""Whole folders: put, get, copied, walked and removed; what is there already is left, and one failure is one file's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from nodes.files import folders
from nodes.files.client import FilesClient
from nodes.files.messages import BadPath, NotEmpty, NotFound, ReadChunk, StoreSmall, WriteChunk
from tests.nodes.files.standins import Cluster
from zactor.errors import Corrupt
from zactor.message import Message, Ref

LARGE = (2 << 20) + 7


def content_of(size: int, seed: int = 1) -> bytes:
    return (bytes((index * 7 + seed) % 256 for index in range(251)) * (size // 251 + 1))[:size]


def run(cluster: Cluster, work: Callable[[FilesClient], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(work(FilesClient(cluster, Ref("metadata"))))


def count(cluster: Cluster, kind: type[Message[Any]]) -> int:
    return sum(isinstance(message, kind) for _, message in cluster.asked)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with small files, a large one, an empty one, an empty folder, and links."""
    top = tmp_path / "tree"
    (top / "sub" / "empty").mkdir(parents=True)
    for index in range(30):
        (top / "sub" / f"{index:02}").write_bytes(content_of(index * 100, index))
    (top / "large").write_bytes(content_of(LARGE))
    (top / "large").chmod(0o640)
    (top / "script").write_bytes(b"#!/bin/sh\n")
    (top / "script").chmod(0o755)
    (top / "link").symlink_to("sub/01")
    (top / "dangling").symlink_to("nowhere")
    (top / "loop").symlink_to(".")
    (top / "sub").chmod(0o700)
    return top


def seen(top: Path) -> dict[str, Any]:
    """All that is in a folder: modes, links and contents."""
    found: dict[str, Any] = {}
    for folder, names, files in os.walk(top):
        for name in (*names, *files):
            path = Path(folder, name)
            key = path.relative_to(top).as_posix()
            if path.is_symlink():
                found[key] = os.readlink(path)
            else:
                mode = path.stat().st_mode
                found[key] = (mode, None if path.is_dir() else path.read_bytes())
    return found


def test_a_folder_comes_back_as_it_was_put(tree: Path, tmp_path: Path) -> None:
    cluster = Cluster()

    async def work(files: FilesClient) -> tuple[folders.Report, folders.Report]:
        return (
            await folders.put_tree(files, tree, "/a/tree"),
            await folders.get_tree(files, "/a/tree", tmp_path / "back" / "here"),
        )

    put, got = run(cluster, work)

    assert (put.files, put.skipped, put.problems) == (32, 0, [])
    assert put.bytes == got.bytes == LARGE + 10 + sum(range(30)) * 100
    assert (got.files, got.problems) == (32, [])
    assert seen(tmp_path / "back" / "here") == seen(tree)


def test_a_single_file_is_a_tree_too(tree: Path, tmp_path: Path) -> None:
    cluster = Cluster()

    async def work(files: FilesClient) -> None:
        await folders.put_tree(files, tree / "script", "/script")
        await folders.get_tree(files, "/script", tmp_path / "script")

    run(cluster, work)

    assert (tmp_path / "script").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "script").stat().st_mode & 0o777 == 0o755


def test_what_is_there_already_is_left(tree: Path, tmp_path: Path) -> None:
    cluster = Cluster()
    back = tmp_path / "back"

    async def work(files: FilesClient) -> list[folders.Report]:
        await folders.put_tree(files, tree, "/t")
        await folders.get_tree(files, "/t", back)
        cluster.asked.clear()
        (tree / "sub" / "07").write_bytes(b"x" * 700)  # of the same size, but another
        put = await folders.put_tree(files, tree, "/t", resume=True)
        sent = count(cluster, StoreSmall) + count(cluster, WriteChunk)
        got = await folders.get_tree(files, "/t", back, resume=True)
        assert (sent, count(cluster, ReadChunk)) == (2, 1)
        return [put, got]

    for report in run(cluster, work):
        assert (report.files, report.skipped, report.problems) == (1, 31, [])
    assert seen(back) == seen(tree)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_part_is_gone_on_with_behind_what_is_right(tmp_path: Path, is_damaged: bool) -> None:
    cluster = Cluster()
    content = content_of(LARGE)
    there = bytearray(content[: (1 << 20) + 5_000])
    if is_damaged:
        there[10] ^= 1
    (tmp_path / "a.part").write_bytes(there)

    async def work(files: FilesClient) -> None:
        await files.put([content], "/a")
        cluster.asked.clear()
        await folders.get_tree(files, "/a", tmp_path / "a", resume=True)

    run(cluster, work)

    assert (tmp_path / "a").read_bytes() == content
    assert not (tmp_path / "a.part").exists()
    offsets = [message.chunk & 0xFFFF for _, message in cluster.asked if isinstance(message, ReadChunk)]
    assert offsets == ([0, 1, 2] if is_damaged else [1, 2])


def test_what_fails_with_one_file_is_said_and_the_rest_goes_on(tree: Path, tmp_path: Path) -> None:
    cluster = Cluster()
    os.mkfifo(tree / "pipe")

    async def work(files: FilesClient) -> list[folders.Report]:
        await files.mkdir("/t/large", parents=True)  # where a file is to go
        put = await folders.put_tree(files, tree, "/t")
        await files.remove("/t/large")
        await files.put([content_of(LARGE)], "/t/large")
        chunk = (await files.content("/t/large")).chunks[0]
        for server in chunk.servers:
            cluster.servers[server].sealed[chunk.chunk] = bytes(chunk.size)
        return [put, await folders.get_tree(files, "/t", tmp_path / "back")]

    put, got = run(cluster, work)

    assert [problem.path for problem in put.problems] == ["/t/pipe", "/t/large"]
    assert put.files == 31
    assert [(problem.path, type(problem.error)) for problem in got.problems] == [("/t/large", Corrupt)]
    assert got.files == 31
    assert not (tmp_path / "back" / "large").exists()


def test_links_are_put_again_in_the_place_of_links_only(tmp_path: Path) -> None:
    cluster = Cluster()
    top = tmp_path / "top"
    top.mkdir()
    (top / "a").symlink_to("one")

    async def work(files: FilesClient) -> tuple[str, folders.Report]:
        await folders.put_tree(files, top, "/t")
        (top / "a").unlink()
        (top / "a").symlink_to("two")
        (top / "b").symlink_to("three")
        await files.create("/t/b")
        report = await folders.put_tree(files, top, "/t")
        return (await files.stat("/t/a", follow=False)).target, report

    target, report = run(cluster, work)
    assert target == "two"
    assert [problem.path for problem in report.problems] == ["/t/b"]


def test_a_tree_is_walked_with_folders_before_what_is_in_them_and_no_link_is_followed(tree: Path) -> None:
    cluster = Cluster()

    async def work(files: FilesClient) -> list[str]:
        await folders.put_tree(files, tree, "/t")
        return [path async for path, _ in folders.walk(files, "/")]

    paths = run(cluster, work)
    assert paths[:4] == ["/", "/t", "/t/dangling", "/t/large"]
    assert paths.index("/t/sub") < paths.index("/t/sub/00")
    assert len(paths) == len(set(paths)) == 2 + len(seen(tree))


def test_a_tree_is_copied_and_removed(tree: Path, tmp_path: Path) -> None:
    cluster = Cluster()

    async def work(files: FilesClient) -> None:
        await folders.put_tree(files, tree, "/t")
        report = await folders.copy_tree(files, "/t", "/copy")
        assert (report.files, report.problems) == (32, [])
        removed = await folders.remove_tree(files, "/t")
        assert removed == 1 + len(seen(tree))
        with pytest.raises(NotFound):
            await files.stat("/t")
        await folders.get_tree(files, "/copy", tmp_path / "back")
        with pytest.raises(BadPath):
            await folders.copy_tree(files, "/copy", "/copy/sub/copy")

    run(cluster, work)
    assert seen(tmp_path / "back") == seen(tree)


def test_a_folder_that_gets_something_new_while_it_is_removed_stays(tree: Path) -> None:
    cluster = Cluster()

    async def work(files: FilesClient) -> list[str]:
        await folders.put_tree(files, tree, "/t")
        await files.create("/t/sub/gone")
        real = files.change

        async def change(operations: Any) -> Any:
            files.change = real  # type: ignore[method-assign]
            await files.remove("/t/sub/gone")
            await files.create("/t/sub/new")
            return await real(operations)

        files.change = change  # type: ignore[method-assign]
        with pytest.raises(NotEmpty, match="/t/sub"):
            await folders.remove_tree(files, "/t")
        return [item.name async for item in files.list("/t/sub")]

    assert run(cluster, work) == ["new"]


def test_a_copy_has_the_mode_of_its_source() -> None:
    cluster = Cluster()

    async def work(files: FilesClient) -> tuple[int, bytes]:
        await files.put([content_of(LARGE)], "/a", mode=0o600)
        stat = await folders.copy(files, "/a", "/b")
        return stat.mode, await files.read("/b")

    assert run(cluster, work) == (0o600, content_of(LARGE))


def test_sixteen_small_files_are_under_way_at_once_and_two_large_ones(tmp_path: Path) -> None:
    cluster = Cluster(latency_turns=50)
    for index in range(60):
        (tmp_path / f"{index}").write_bytes(b"x" * 10)
    for index in range(6):
        (tmp_path / f"large{index}").write_bytes(bytes(LARGE))
    small: list[int] = []
    large: set[int] = set()

    def before(_server: str, message: Message[Any]) -> None:
        if isinstance(message, WriteChunk):
            large.add(message.chunk >> 16)

    cluster.before = before

    async def work(files: FilesClient) -> folders.Report:
        real = files.put
        now = {"small": 0, "large": 0}

        async def put(source: Any, path: str, **how: Any) -> Any:
            kind = "large" if how["size"] > 1000 else "small"
            now[kind] += 1
            assert now["large"] <= 2
            small.append(now["small"])
            try:
                return await real(source, path, **how)
            finally:
                now[kind] -= 1

        files.put = put  # type: ignore[method-assign]
        return await folders.put_tree(files, tmp_path, "/t")

    report = run(cluster, work)
    assert (report.files, report.problems) == (66, [])
    assert max(small) == 16


def test_progress_grows_up_to_all_files_and_bytes(tree: Path) -> None:
    cluster = Cluster()
    shown: list[tuple[int, int]] = []

    run(cluster, lambda files: folders.put_tree(files, tree, "/t", progress=lambda *now: shown.append(now)))

    assert shown == sorted(shown)
    assert shown[-1] == (32, LARGE + 10 + sum(range(30)) * 100)
