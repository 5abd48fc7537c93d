"""The file system as one of fsspec, on a topology that runs: fsspec's own abstract suite whole, and what is ours."""

from __future__ import annotations

import gc
import gzip
import pickle
import random
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.tests.abstract import (
    AbstractCopyTests,
    AbstractFixtures,
    AbstractGetTests,
    AbstractOpenTests,
    AbstractPipeTests,
    AbstractPutTests,
)

import zactor
from nodes.files.filesystem import ZactorFileSystem, disconnect
from nodes.files.local import PIECE_SIZE
from tests.live.running import eventually, private_runtime

pytestmark = pytest.mark.live

TOPOLOGY = """\
name: fsspec
nodes:
  metadata: {kind: files.metadata, links: {servers: store}, settings: {chunk_size: 4MiB}}
  store: {kind: files.server, replicas: 2, settings: {capacity: 256MiB}}
"""

LARGE = random.Random(1).randbytes(5 * PIECE_SIZE + 12_345)


@pytest.fixture(scope="module", autouse=True)
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One topology for all; the folder in which it keeps its state."""
    folder = tmp_path_factory.mktemp("fsspec")
    file = folder / "t.yaml"
    file.write_text(TOPOLOGY)
    with private_runtime(), zactor.launch(file, folder=folder / "kept"):
        yield folder / "kept"
        disconnect()
        ZactorFileSystem.clear_instance_cache()


@pytest.fixture
def fs() -> Iterator[ZactorFileSystem]:
    found = ZactorFileSystem("fsspec")
    yield found
    for item in found.ls("/", detail=False):
        found.rm(item, recursive=True)


class Suite(AbstractFixtures):
    """What fsspec's suite is to be run on."""

    @pytest.fixture
    def fs(self) -> ZactorFileSystem:
        return ZactorFileSystem("fsspec")

    @pytest.fixture
    def fs_path(self) -> str:
        return "/suite"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(parts)


class TestCopy(AbstractCopyTests, Suite):
    pass


class TestGet(AbstractGetTests, Suite):
    pass


class TestPut(AbstractPutTests, Suite):
    pass


class TestOpen(AbstractOpenTests, Suite):
    pass


class TestPipe(AbstractPipeTests, Suite):
    pass


# --- names
def test_a_url_names_the_topology_and_the_path(fs: ZactorFileSystem) -> None:
    found, path = fsspec.core.url_to_fs("zactor://fsspec/a/b.txt")

    assert (found.files is fs.files, path) == (True, "/a/b.txt")
    assert found.unstrip_protocol(path) == "zactor://fsspec/a/b.txt"


def test_without_a_topology_it_is_the_only_one_that_runs(fs: ZactorFileSystem) -> None:
    with fsspec.open("zactor:///a.txt", "w") as file:
        file.write("hello")

    assert fs.cat("/a.txt") == b"hello"


def test_a_topology_is_found_by_the_folder_of_its_state(running: Path, fs: ZactorFileSystem) -> None:
    fs.pipe("/a", b"1")

    assert fsspec.filesystem("zactor", dir=str(running)).cat("/a") == b"1"


def test_one_that_does_not_run_is_said_with_the_mend() -> None:
    with pytest.raises(zactor.errors.UserError, match="other"):
        ZactorFileSystem("other").ls("/")


@pytest.mark.parametrize("written", ["a", "/a", "//a/", "zactor://fsspec/a", "zactor:///a", "zactor::a"])
def test_a_path_has_one_form(written: str) -> None:
    assert ZactorFileSystem._strip_protocol(written) == "/a"


# --- looking
def test_info_tells_kind_size_mode_inode_and_time(fs: ZactorFileSystem) -> None:
    fs.pipe("/docs/a", b"hello")

    file, folder = fs.info("/docs/a"), fs.info("/docs")

    assert (file["type"], file["size"], file["mode"]) == ("file", 5, stat.S_IFREG | 0o644)
    assert (folder["type"], folder["size"], folder["mode"]) == ("directory", 0, stat.S_IFDIR | 0o755)
    assert file["ino"] != folder["ino"]
    assert fs.modified("/docs/a").timestamp() == pytest.approx(file["mtime"])
    assert file["mtime"] > 1.7e9
    assert fs.ls("/docs") == [file]
    assert fs.ls("/docs/a") == [file]
    assert fs.ls("/docs", detail=False) == ["/docs/a"]


def test_what_is_replaced_has_another_checksum_and_key(fs: ZactorFileSystem) -> None:
    fs.pipe("/a", b"same")
    before = fs.checksum("/a"), fs.ukey("/a")
    assert before == (fs.checksum("/a"), fs.ukey("/a"))

    fs.pipe("/a", b"same")

    after = fs.checksum("/a"), fs.ukey("/a")
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_walk_find_glob_and_du_see_all_files_and_no_circle(fs: ZactorFileSystem) -> None:
    for number in range(30):
        fs.pipe(f"/tree/{number % 3}/{number}.csv", bytes(number))
    fs.files.symlink("/tree/0/up", "/tree")
    fs.files.symlink("/tree/latest.csv", "2/29.csv")

    assert len(fs.find("/tree")) == 32
    assert len(fs.glob("/tree/*/*.csv")) == 30
    assert fs.glob("/tree/**/2?.csv") == fs.glob("/tree/*/2?.csv")
    assert [len(files) for _, _, files in fs.walk("/tree")] == [1, 11, 10, 10]
    assert fs.du("/tree") == sum(range(30)) + 29
    assert fs.cat("/tree/latest.csv") == bytes(29)
    link = fs.info("/tree/latest.csv")
    assert (link["islink"], link["destination"], link["size"]) == (True, "2/29.csv", 29)


def test_what_is_not_there_does_not_exist(fs: ZactorFileSystem) -> None:
    fs.pipe("/file", b"1")
    fs.files.symlink("/broken", "/nowhere")

    for path in ("/nothing", "/nothing/at/all", "/file/below", "/broken"):
        assert not fs.exists(path)
        assert not fs.isfile(path)
        assert not fs.isdir(path)
    assert fs.lexists("/broken")


# --- changing names
def test_errors_are_those_of_any_file_system(fs: ZactorFileSystem) -> None:
    fs.pipe("/docs/a", b"1")

    for error, act in (
        (FileNotFoundError, lambda: fs.info("/nothing")),
        (FileNotFoundError, lambda: fs.open("/nothing", "rb")),
        (FileNotFoundError, lambda: fs.rm("/nothing")),
        (FileNotFoundError, lambda: fs.ls("/nothing")),
        (FileExistsError, lambda: fs.mkdir("/docs")),
        (FileExistsError, lambda: fs.makedirs("/docs")),
        (NotADirectoryError, lambda: fs.ls("/docs/a/b")),
        (NotADirectoryError, lambda: fs.rmdir("/docs/a")),
        (IsADirectoryError, lambda: fs.open("/docs", "rb")),
        (IsADirectoryError, lambda: fs.open("/docs", "wb")),
        (IsADirectoryError, lambda: fs.rm("/docs")),
    ):
        with pytest.raises(error):
            act()
    with pytest.raises(OSError, match=r"not empty|in it"):
        fs.rmdir("/docs")
    with pytest.raises(OSError, match=r"'\.\.'"):
        fs.pipe("/docs/../b", b"1")
    assert not fs.exists("/docs/../b")


def test_folders_are_made_and_removed(fs: ZactorFileSystem) -> None:
    fs.mkdir("/a/b/c")
    fs.makedirs("/a/b/c", exist_ok=True)

    assert fs.isdir("/a/b/c")
    fs.rmdir("/a/b/c")
    assert fs.ls("/a/b") == []


def test_without_auto_mkdir_the_folder_must_be_there(fs: ZactorFileSystem) -> None:
    strict = ZactorFileSystem("fsspec", auto_mkdir=False)

    with pytest.raises(FileNotFoundError):
        strict.pipe("/none/a", b"1")

    fs.mkdir("/none")
    strict.pipe("/none/a", b"1")
    assert fs.cat("/none/a") == b"1"


def test_mv_renames_files_and_folders_in_one_step(fs: ZactorFileSystem) -> None:
    fs.pipe("/a/x", b"1")
    inode = fs.info("/a/x")["ino"]

    fs.mv("/a", "/b", recursive=True)
    fs.mv("/b/x", "/b/y")
    fs.mkdir("/c")
    fs.mv("/b", "/c")

    assert fs.find("/") == ["/c/b/y"]
    assert fs.info("/c/b/y")["ino"] == inode


def test_removing_a_tree_leaves_what_its_links_lead_to(fs: ZactorFileSystem) -> None:
    fs.pipe("/kept/a", b"1")
    fs.pipe("/tree/b/c", b"1")
    fs.files.symlink("/tree/link", "/kept")
    fs.files.symlink("/tree2", "/kept")

    fs.rm(["/tree", "/tree2"], recursive=True)

    assert fs.find("/") == ["/kept/a"]


def test_touch_makes_an_empty_file_and_keeps_no_time_of_its_own(fs: ZactorFileSystem) -> None:
    fs.pipe("/a", b"1")

    fs.touch("/a")
    fs.touch("/new/b")

    assert (fs.size("/a"), fs.size("/new/b")) == (0, 0)
    with pytest.raises(NotImplementedError, match="truncate=True"):
        fs.touch("/a", truncate=False)


# --- reading
def test_ranges_are_read_and_verified(fs: ZactorFileSystem) -> None:
    fs.pipe("/large", LARGE)
    size = len(LARGE)

    for start, end in ((0, 10), (-10, None), (PIECE_SIZE - 1, PIECE_SIZE + 1), (None, -size + 5), (5, 5), (size, None)):
        assert fs.cat_file("/large", start, end) == LARGE[start:end]
    assert fs.cat_ranges(["/large"] * 2, [0, 70_000], [5, 70_003]) == [LARGE[:5], LARGE[70_000:70_003]]
    assert fs.head("/large", 7) == LARGE[:7]
    assert fs.tail("/large", 7) == LARGE[-7:]


def test_a_file_that_is_open_stays_the_version_that_it_was(fs: ZactorFileSystem) -> None:
    for old in (LARGE, b"small"):
        fs.pipe("/a", old)
        with fs.open("/a", "rb", block_size=65_536, cache_type="none") as file:
            assert file.read(3) == old[:3]
            fs.pipe("/a", b"new")
            file.seek(-2, 2)
            assert file.read() == old[-2:]
            assert file.info()["size"] == len(old)
        assert fs.cat("/a") == b"new"


def test_lines_are_read(fs: ZactorFileSystem) -> None:
    fs.write_text("/lines", "".join(f"line {number}\n" for number in range(10_000)))

    with fs.open("/lines", "r") as file:
        assert [line.strip() for line in file] == [f"line {number}" for number in range(10_000)]
    with fs.open("/lines") as file:
        assert file.readline() == b"line 0\n"


def test_a_file_system_and_a_file_that_is_read_are_pickled(fs: ZactorFileSystem) -> None:
    fs.pipe("/a", b"0123456789")
    with fs.open("/a", "rb") as file:
        file.seek(4)
        other = pickle.loads(pickle.dumps(file))

    assert pickle.loads(pickle.dumps(fs)) == fs
    assert other.read() == b"456789"
    other.close()


def test_readers_that_nobody_closed_are_let_go_of(fs: ZactorFileSystem) -> None:
    fs.pipe("/a", LARGE)
    before = fs.files.space()
    fs.open("/a", "rb").read(1)
    gc.collect()

    fs.rm("/a")

    assert not fs.exists("/a")
    assert fs.files.space().files == before.files - 1


# --- writing
def test_a_file_appears_whole_when_it_is_closed(fs: ZactorFileSystem) -> None:
    for content in (b"small", LARGE):
        with fs.open("/a", "wb") as file:
            for start in range(0, len(content), 100_000):
                file.write(content[start : start + 100_000])
            file.flush()
            assert not fs.exists("/a")
        assert fs.cat("/a") == content
        fs.rm("/a")


def test_one_large_write_is_sent_in_pieces(fs: ZactorFileSystem) -> None:
    with fs.open("/a", "wb") as file:
        assert file.write(LARGE) == len(LARGE)
        assert file.buffer.tell() < PIECE_SIZE

    assert fs.cat("/a") == LARGE


@pytest.mark.parametrize("size", [5, len(LARGE)])
@pytest.mark.parametrize("how", ["wb", "w", "gzip", "transaction", "forgotten"])
def test_a_write_that_fails_leaves_what_was_there(fs: ZactorFileSystem, how: str, size: int) -> None:
    fs.pipe("/a", b"old")
    content: Any = "x" * size if how == "w" else LARGE[:size]

    def fail() -> None:
        if how == "forgotten":
            fs.open("/a", "wb").write(content)
            gc.collect()
            raise ValueError("half of it")
        options = {"compression": "gzip"} if how == "gzip" else {}
        with fs.open("/a", "w" if how == "w" else "wb", **options) as file:
            file.write(content)
            raise ValueError("half of it")

    with pytest.raises(ValueError, match="half of it"), fs.transaction if how == "transaction" else nullcontext():
        fail()

    assert fs.cat("/a") == b"old"
    assert fs.find("/") == ["/a"]


def test_what_is_compressed_is_whole_when_it_is_closed(fs: ZactorFileSystem) -> None:
    with fs.open("/a.gz", "wb", compression="infer") as file:
        file.write(LARGE)
    with fs.open("/b.gz", "wt", compression="gzip") as file:
        file.write("text")

    assert gzip.decompress(fs.cat("/a.gz")) == LARGE
    with fs.open("/b.gz", "rt", compression="gzip") as file:
        assert file.read() == "text"


def test_an_exclusive_file_loses_against_one_that_came_meanwhile(fs: ZactorFileSystem) -> None:
    file = fs.open("/a", "xb")
    file.write(b"mine")
    fs.pipe("/a", b"theirs")

    with pytest.raises(FileExistsError):
        file.close()

    assert file.closed
    assert fs.cat("/a") == b"theirs"


def test_appending_is_refused_and_says_what_to_do(fs: ZactorFileSystem) -> None:
    with pytest.raises(NotImplementedError, match="'wb'"):
        fs.open("/a", "ab")


def test_the_files_of_a_transaction_appear_at_its_end(fs: ZactorFileSystem) -> None:
    with fs.transaction:
        for name, content in (("/a", b"small"), ("/b", LARGE)):
            with fs.open(name, "wb") as file:
                file.write(content)
        assert fs.find("/") == []

    assert (fs.cat("/a"), fs.cat("/b")) == (b"small", LARGE)


def test_a_put_that_does_not_fit_is_told_to_who_writes(tmp_path: Path) -> None:
    topology = tmp_path / "t.yaml"
    topology.write_text(TOPOLOGY.replace("fsspec", "little").replace("256MiB", "32MiB"))
    with zactor.launch(topology, folder=tmp_path / "kept"):
        fs = ZactorFileSystem("little")
        room = max(server.room for server in fs.files.space().servers)
        file = fs.open("/a", "wb")

        def fill() -> None:
            for _ in range(room // PIECE_SIZE + 100):
                file.write(bytes(PIECE_SIZE))

        with pytest.raises(OSError, match="room"):
            fill()
        file.discard()
        file.close()

        assert not fs.exists("/a")
        eventually(lambda: _fits(fs, room // 10 * 9))  # when the servers have dropped what they had of it


def _fits(fs: ZactorFileSystem, size: int) -> bool:
    try:
        fs.pipe_file("/b", bytes(size))
    except OSError:
        return False
    return True


def test_threads_write_and_read_at_once_over_one_client(fs: ZactorFileSystem) -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        own = ZactorFileSystem("fsspec")
        path = f"/many/{number}"
        content = LARGE[number:]
        with own.open(path, "wb") as file:
            file.write(content)
        if own.cat(path) != content or own.files is not fs.files:
            wrong.append(path)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert len(fs.find("/many")) == 8


def test_files_are_put_and_got_with_their_progress(fs: ZactorFileSystem, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(LARGE)
    callback = fsspec.callbacks.Callback()

    fs.put(str(tmp_path / "a"), "/docs/a", callback=callback)
    child = fsspec.callbacks.Callback()
    fs.get_file("/docs/a", str(tmp_path / "deep" / "b"), callback=child)

    assert (tmp_path / "deep" / "b").read_bytes() == LARGE
    assert (child.size, child.value) == (len(LARGE), len(LARGE))
    assert callback.value == 1


def test_pandas_writes_and_reads_by_url(fs: ZactorFileSystem) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas")
    frame = pandas.DataFrame({"name": ["a", "b"], "count": [1, 2]})

    frame.to_csv("zactor://fsspec/frames/a.csv", index=False)
    frame.to_json("zactor://fsspec/frames/a.json.gz")

    assert pandas.read_csv("zactor://fsspec/frames/a.csv").equals(frame)
    assert pandas.read_json("zactor://fsspec/frames/a.json.gz").equals(frame)
