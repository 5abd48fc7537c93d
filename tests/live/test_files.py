"""Files put and got through real processes: whole or not at all, with one clear error when not."""

from __future__ import annotations

import random
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.running import Launched, zactor

pytestmark = pytest.mark.live

TOPOLOGY = """\
name: files
nodes:
  metadata: {kind: files.metadata, links: {servers: store}, settings: {chunk_size: 4MiB}}
  store: {kind: files.server, replicas: 2, settings: {capacity: 1GiB}}
"""

SIZE = 20_000_003


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Launched]:
    with Launched(tmp_path, TOPOLOGY) as launched:
        yield launched.ready()


def fs(launched: Launched, *arguments: str, code: int = 0) -> str:
    """The command's output, or its one line of error when it has to fail."""
    done = zactor("fs", *arguments, folder=launched.folder, code=code)
    if not code:
        return done.stdout
    lines = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.startswith("zactor")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def put_random(launched: Launched, path: str, size: int = SIZE) -> bytes:
    content = random.Random(size).randbytes(size)
    (launched.folder / "here").write_bytes(content)
    fs(launched, "put", "here", path)
    return content


def chunks(launched: Launched, ending: str = "chunk") -> list[Path]:
    return sorted(launched.home.state.glob(f"store/*/*.{ending}"))


def test_a_file_that_is_got_is_the_one_that_was_put(files: Launched) -> None:
    content = put_random(files, "/docs/a")

    fs(files, "get", "/docs/a", "back")

    assert (files.folder / "back").read_bytes() == content
    assert "/docs" in fs(files, "ls") or "docs/" in fs(files, "ls")
    assert len({chunk.parent for chunk in chunks(files)}) == 2


def test_files_outlive_the_run(tmp_path: Path) -> None:
    with Launched(tmp_path, TOPOLOGY) as launched:
        content = put_random(launched.ready(), "/a", 5_000_000)
    with Launched(tmp_path, TOPOLOGY) as launched:
        fs(launched.ready(), "get", "/a", "back")

    assert (tmp_path / "back").read_bytes() == content


def test_a_byte_that_changed_on_disk_is_one_clear_error_and_no_file(files: Launched) -> None:
    put_random(files, "/a")
    victim = chunks(files)[0]
    with victim.open("r+b") as chunk:
        chunk.seek(100_000)
        byte = chunk.read(1)
        chunk.seek(100_000)
        chunk.write(bytes([byte[0] ^ 1]))

    said = fs(files, "get", "/a", "back", code=1)

    assert victim.stem in said
    assert "block 1" in said
    assert not (files.folder / "back").exists()
    assert {path.name for path in files.folder.iterdir() if path.is_file()} == {"t.yaml", "up.log", "here"}


def test_a_path_that_is_none_is_refused_before_anything_is_sent(files: Launched) -> None:
    (files.folder / "here").write_bytes(b"content")

    for path in ("/../a", "/a/../../b", "a", "/a//b", "/./a"):
        assert ".." in fs(files, "put", "here", path, code=1) or ".." not in path

    assert chunks(files) == []
    assert fs(files, "ls") == ""


def test_a_full_disk_is_one_clear_error_and_what_was_there_stays(files: Launched) -> None:
    content = put_random(files, "/small", 100_000)
    for store in ("store/0", "store/1"):
        resource.prlimit(files.pid(store), resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    (files.folder / "here").write_bytes(bytes(SIZE))

    said = fs(files, "put", "here", "/large", code=1)

    assert "room" in said or "full" in said.lower()
    assert "large" not in fs(files, "ls")
    fs(files, "get", "/small", "back")
    assert (files.folder / "back").read_bytes() == content
    assert [files.book().processes[store].incarnation for store in ("store/0", "store/1")] == [1, 1]
