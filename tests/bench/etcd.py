"""etcd as a peer of `bench raft`: three members on loopback, each with its own folder, as Debian ships it.

The members sync what they acknowledge, as they do by default. The load and the probe are Go programs of our own, built
when they are wanted by what Debian packages for it; no other way to drive etcd takes as little of the machine.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.parted import Parted

HERE = Path(__file__).parent

PACKAGED = Path("/usr/share/gocode")
"""Where Debian has the sources that the load is built with."""

MEND = "apt-get install etcd-server golang-go golang-etcd-server-dev"

MEMBERS = 3

PEER_PORT, CLIENT_PORT = 2380, 2379
"""etcd's own, for who has a network to itself."""

START_S = 30.0
PAUSE_S = 0.05
ASK_S = 1.0


def missing() -> bool:
    """Whether it cannot run here."""
    return shutil.which("etcd") is None or shutil.which("go") is None or not (PACKAGED / "src/go.etcd.io/etcd").is_dir()


def build(folder: Path) -> Path:
    """The program that loads and probes. Raises RuntimeError when it does not build."""
    program = folder / "etcdload"
    environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(PACKAGED), "GOFLAGS": ""}
    command = ["go", "build", "-o", str(program), str(HERE / "etcdload.go")]
    built = subprocess.run(command, env=environment, capture_output=True, text=True)
    if built.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {built.returncode}: {built.stderr}")
    return program


@dataclass(frozen=True)
class Timeouts:
    """When a leader says that it is there, and after how long without it there is an election."""

    heartbeat_ms: int = 100
    election_ms: int = 1000


BY_DEFAULT = Timeouts()


class Member:
    """One of them, which can be killed and started again. `inside` begins its command where it has its own network."""

    def __init__(self, name: str, folder: Path, peer: str, client: str, inside: Sequence[str] = ()) -> None:
        self.name = name
        self.peer = f"http://{peer}"
        self.client = client
        self._folder = folder
        self._inside = inside
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self, cluster: str, timeouts: Timeouts) -> None:
        """Start it; with what it has kept, if it has run before."""
        state = "existing" if (self._folder / self.name).exists() else "new"
        urls = {
            "listen-peer-urls": self.peer,
            "initial-advertise-peer-urls": self.peer,
            "listen-client-urls": f"http://{self.client}",
            "advertise-client-urls": f"http://{self.client}",
        }
        command = [
            *self._inside,
            "etcd",
            f"--name={self.name}",
            f"--data-dir={self._folder / self.name}",
            *(f"--{flag}={url}" for flag, url in urls.items()),
            f"--initial-cluster={cluster}",
            f"--initial-cluster-state={state}",
            f"--heartbeat-interval={timeouts.heartbeat_ms}",
            f"--election-timeout={timeouts.election_ms}",
            "--log-level=error",
        ]
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def status(self) -> dict[str, Any] | None:
        """What it says of itself, or None when it says nothing."""
        try:
            with urllib.request.urlopen(f"http://{self.client}/v3/maintenance/status", b"{}", ASK_S) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except OSError:
            return None

    def stop(self) -> None:
        """It is gone afterwards, whatever it was."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Etcd:
    """The members."""

    def __init__(self, folder: Path, timeouts: Timeouts, places: Parted | None) -> None:
        self._timeouts = timeouts
        if places is None:
            ends = [f"127.0.0.1:{port}" for port in _free_ports(2 * MEMBERS)]
            self.members = [Member(f"m{index}", folder, *ends[2 * index : 2 * index + 2]) for index in range(MEMBERS)]
        else:
            hosts = [places.address(index) for index in range(MEMBERS)]
            self.members = [
                Member(f"m{index}", folder, f"{host}:{PEER_PORT}", f"{host}:{CLIENT_PORT}", places.inside(index))
                for index, host in enumerate(hosts)
            ]
        self._cluster = ",".join(f"{member.name}={member.peer}" for member in self.members)

    @property
    def endpoints(self) -> str:
        """Of all members, as the load wants them."""
        return ",".join(member.client for member in self.members)

    @property
    def pids(self) -> tuple[int, ...]:
        """Of all members."""
        return tuple(member.pid for member in self.members)

    def start(self, *members: Member) -> None:
        """Start members, and wait until all of them follow one leader."""
        for member in members:
            member.start(self._cluster, self._timeouts)
        self.leader()

    def leader(self) -> Member:
        """Whom all of them follow, as soon as they do. Raises RuntimeError when they do not agree."""
        end_s = time.monotonic() + START_S
        while time.monotonic() < end_s:
            said = [member.status() for member in self.members]
            found = [each for each in said if each is not None]
            leaders = {each.get("leader", "") for each in found}
            if len(found) == len(said) and len(leaders) == 1 and "" not in leaders:
                ids = [each["header"]["member_id"] for each in found]
                return self.members[ids.index(leaders.pop())]
            time.sleep(PAUSE_S)
        raise RuntimeError(f"etcd has no leader after {START_S} s")

    def stop(self) -> None:
        """All are gone afterwards."""
        for member in self.members:
            member.stop()


@contextmanager
def running(folder: Path, timeouts: Timeouts = BY_DEFAULT, places: Parted | None = None) -> Iterator[Etcd]:
    """Members that keep what they have below a folder, and have a leader; on loopback or in places of their own."""
    cluster = Etcd(folder, timeouts, places)
    try:
        cluster.start(*cluster.members)
        yield cluster
    finally:
        cluster.stop()


def _free_ports(count: int) -> Sequence[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
