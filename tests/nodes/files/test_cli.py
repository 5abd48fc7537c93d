"""`zactor fs` with real processes: files come whole or not at all, whatever is interrupted, killed or damaged."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal
from tests.cli.transcript import Place
from tests.live.running import PATIENCE_S, Launched, command, eventually, private_runtime, zactor

pytestmark = pytest.mark.live

TOPOLOGY = """\
name: files
nodes:
  metadata:
    kind: files.metadata
    links: {servers: store}
    settings: {chunk_size: 4MiB, survey_every: 200ms, repair_after: 30s}
  store: {kind: files.server, replicas: 3, settings: {capacity: 1GiB}}
"""

SIZE = 20_000_003
COPIES = 2


@pytest.fixture(scope="module", autouse=True)
def runtime() -> Iterator[Path]:
    with private_runtime() as folder:
        yield folder


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


def begin(launched: Launched, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """A command that goes on by itself."""
    return subprocess.Popen(
        command("fs", *arguments),
        cwd=launched.folder,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def put_random(launched: Launched, path: str, size: int = SIZE) -> bytes:
    content = random.Random(size).randbytes(size)
    (launched.folder / "here").write_bytes(content)
    fs(launched, "put", "here", path)
    return content


def chunks(launched: Launched) -> list[Path]:
    """The files of sealed chunks that are not set aside."""
    return sorted(launched.home.state.glob("store/*/*.chunk"))


def copies(launched: Launched, chunk: str) -> list[Path]:
    """Those of one chunk."""
    return [path for path in chunks(launched) if path.name.startswith(chunk)]


def flip(path: Path, offset: int = 100_000) -> None:
    """Change one byte of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def stat(launched: Launched, path: str) -> list[dict[str, object]]:
    """The chunks of a file, each on all servers that it should be on, and equal there."""
    found = json.loads(fs(launched, "stat", path, "--json"))["chunks"]
    assert all(len(chunk["held"]) == COPIES and set(chunk["held"].values()) == {chunk["crc"]} for chunk in found)
    return list(found)


# --- whole or not at all
def test_a_file_that_is_got_is_the_one_that_was_put(files: Launched) -> None:
    fs(files, "mkdir", "/docs")
    content = put_random(files, "/docs/a")

    fs(files, "get", "/docs/a", "back")

    assert (files.folder / "back").read_bytes() == content
    assert "docs/" in fs(files, "ls")
    assert len(stat(files, "/docs/a")) == 5
    assert len({chunk.parent for chunk in chunks(files)}) == 3
    assert len(chunks(files)) == 5 * COPIES


def test_files_outlive_the_run(tmp_path: Path) -> None:
    with Launched(tmp_path, TOPOLOGY) as launched:
        content = put_random(launched.ready(), "/a", 5_000_000)
    with Launched(tmp_path, TOPOLOGY) as launched:
        fs(launched.ready(), "get", "/a", "back")

    assert (tmp_path / "back").read_bytes() == content


def test_ctrl_c_in_a_get_leaves_nothing_here(files: Launched) -> None:
    put_random(files, "/a")
    stores = [files.pid(f"store/{number}") for number in range(3)]
    for pid in stores:
        os.kill(pid, signal.SIGSTOP)  # so that the get cannot end
    get = begin(files, "get", "/a", "back")
    eventually(lambda: (files.folder / "back.part").exists())

    get.send_signal(signal.SIGINT)
    for pid in stores:
        os.kill(pid, signal.SIGCONT)
    _, err = get.communicate(timeout=PATIENCE_S)

    assert (get.returncode, err) == (130, b"")
    assert not list(files.folder.glob("back*"))


def test_ctrl_c_in_a_put_leaves_no_file_there_and_frees_its_bytes(files: Launched) -> None:
    put = begin(files, "put", "-", "/a", stdin=subprocess.PIPE)
    assert put.stdin is not None
    put.stdin.write(bytes(SIZE))
    put.stdin.flush()
    eventually(lambda: chunks(files))

    put.send_signal(signal.SIGINT)
    _, err = put.communicate(timeout=PATIENCE_S)

    assert (put.returncode, err) == (130, b"")
    assert fs(files, "ls") == ""
    eventually(
        lambda: not list(files.home.state.glob("store/*/*.chunk")) + list(files.home.state.glob("store/*/*.tmp"))
    )
    servers = json.loads(fs(files, "df", "--json"))["servers"]
    assert [server["reserved"] for server in servers] == [0, 0, 0]


def test_a_put_waits_for_a_pipe_longer_than_a_lease(tmp_path: Path) -> None:
    with Launched(tmp_path, TOPOLOGY.replace("chunk_size", "lease: 3s, chunk_size")) as launched:
        put = begin(launched.ready(), "put", "-", "/a", stdin=subprocess.PIPE)
        assert put.stdin is not None
        put.stdin.write(bytes(SIZE))
        put.stdin.flush()
        eventually(lambda: chunks(launched))
        with pytest.raises(subprocess.TimeoutExpired):
            put.wait(4.0)

        _, err = put.communicate(b"the end", timeout=PATIENCE_S)

        assert (put.returncode, err) == (0, b"")
        assert fs(launched, "get", "/a", "-").endswith("the end")


def test_a_get_is_resumed_where_it_ended(files: Launched) -> None:
    content = put_random(files, "/a")
    part = files.folder / "back.part"
    part.write_bytes(content[: 9 << 20] + b"what is behind the last whole chunk is not believed")

    fs(files, "get", "--resume", "/a", "back")

    assert (files.folder / "back").read_bytes() == content
    assert not part.exists()


def test_a_reader_that_goes_ends_a_cat_quietly(files: Launched) -> None:
    put_random(files, "/a")

    line = f"{sys.executable} -P -m zactor.cli.main fs cat /a | head -c 5 | wc -c"
    done = subprocess.run(["bash", "-c", line], cwd=files.folder, capture_output=True, timeout=PATIENCE_S)

    assert (done.stdout.strip(), done.stderr) == (b"5", b"")


def test_a_bar_is_drawn_on_a_terminal_alone() -> None:
    place = Place()
    try:
        assert place.shell("zactor up -d stage.yaml").code == 0
        (place.folder / "large").write_bytes(bytes(500_000))
        terminal = Terminal(place, "zactor fs put large /large")
        shown = terminal.until(lambda shown: "100%" in shown)
        terminal.process.wait(PATIENCE_S)
        terminal.close()
        quiet = place.shell("zactor fs put large /large2")
    finally:
        place.close()

    assert "/large [##############################] 100% 488.3KiB" in shown
    assert (quiet.out, quiet.err) == ("", "")


# --- what fails
def test_a_put_goes_on_when_a_file_server_is_killed_and_all_copies_are_there(files: Launched) -> None:
    content = random.Random(3).randbytes(SIZE)
    put = begin(files, "put", "-", "/a", stdin=subprocess.PIPE)
    assert put.stdin is not None
    put.stdin.write(content[:15_000_000])
    put.stdin.flush()
    eventually(lambda: chunks(files))

    os.kill(files.pid("store/1"), signal.SIGKILL)
    _, err = put.communicate(content[15_000_000:], timeout=60)

    assert (put.returncode, err) == (0, b"")
    stat(files, "/a")
    fs(files, "get", "/a", "back")
    assert (files.folder / "back").read_bytes() == content


def test_a_byte_that_changed_on_one_disk_harms_nobody_and_is_healed(files: Launched) -> None:
    content = put_random(files, "/a")
    for path in chunks(files):
        if path.parent == chunks(files)[0].parent:
            flip(path)

    assert "problem" in zactor("fs", "fsck", "--verify", folder=files.folder, code=3).stdout
    fs(files, "get", "/a", "back")

    assert (files.folder / "back").read_bytes() == content
    eventually(
        lambda: subprocess.run(command("fs", "fsck", "--verify"), cwd=files.folder, capture_output=True).returncode == 0
    )
    assert list(files.home.state.glob("store/*/aside/*"))


def test_a_byte_that_changed_on_all_disks_is_one_clear_error_and_no_file(files: Launched) -> None:
    put_random(files, "/a")
    chunk = chunks(files)[0].name.partition(".")[0]
    for path in copies(files, chunk):
        flip(path)

    said = fs(files, "get", "/a", "back", code=1)

    assert chunk in said
    assert "block 1" in said
    assert not list(files.folder.glob("back*"))
    assert zactor("fs", "stat", "/a", folder=files.folder, code=3).stderr.startswith(f"zactor: chunk {chunk}: ")


def test_a_server_that_is_away_is_lost_and_its_copies_are_missing(files: Launched) -> None:
    put_random(files, "/a")
    zactor("stop", "store/2", folder=files.folder)

    eventually(lambda: "lost" in fs(files, "df"))

    said = zactor("fs", "fsck", folder=files.folder, code=3).stdout
    assert "store/2 is lost" in said
    zactor("start", "store/2", folder=files.folder)
    eventually(lambda: "lost" not in fs(files, "df"))
    assert fs(files, "fsck").endswith("no problem\n")


def test_a_full_disk_is_one_clear_error_and_what_was_there_stays(files: Launched) -> None:
    content = put_random(files, "/small", 100_000)
    stores = ("store/0", "store/1", "store/2")
    for store in stores:
        resource.prlimit(files.pid(store), resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    (files.folder / "here").write_bytes(bytes(SIZE))

    said = fs(files, "put", "here", "/large", code=1)

    assert "room" in said or "full" in said.lower()
    assert "large" not in fs(files, "ls")
    fs(files, "get", "/small", "back")
    assert (files.folder / "back").read_bytes() == content
    assert [files.book().processes[store].incarnation for store in stores] == [1, 1, 1]


def test_what_fails_with_one_file_does_not_keep_the_others(files: Launched) -> None:
    tree = files.folder / "tree"
    tree.mkdir()
    (tree / "a").write_text("a")
    (tree / "b\x01").write_text("b")
    (tree / "c").write_text("c")

    done = zactor("fs", "put", "-r", "tree", "/", folder=files.folder, code=1)

    assert done.stderr.count("\n") == 1
    assert "b" in done.stderr
    assert fs(files, "cat", "/tree/a", "/tree/c") == "ac"
