"""Members of a peer's cluster on computers of their own, as far as the network goes: each can be cut off from all.

A network namespace each, tied by a bridge to which this computer belongs. A member that is taken off the bridge sends
and hears nothing any more, and nobody is told. Linux, root and `ip` of iproute2 alone can do that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

MEND = "be root on Linux with iproute2 (apt-get install iproute2), where network namespaces can be made"

NETWORK = "10.213.77"


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Parted:
    """So many places for members. Names are short: those of interfaces end at 15 characters."""

    def __init__(self, count: int) -> None:
        self._bridge = f"zb{os.getpid()}"
        self._places = [f"zb{os.getpid()}.{index}" for index in range(count)]

    def open(self) -> None:
        """Make them. Raises RuntimeError where that is not possible."""
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{NETWORK}.254/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        for index, place in enumerate(self._places):
            _ip("netns", "add", place)
            _ip("link", "add", place, "type", "veth", "peer", "name", "eth0", "netns", place)
            _ip("link", "set", place, "master", self._bridge, "up")
            _ip("-n", place, "addr", "add", f"{self.address(index)}/24", "dev", "eth0")
            _ip("-n", place, "link", "set", "eth0", "up")
            _ip("-n", place, "link", "set", "lo", "up")

    def close(self) -> None:
        """Nothing of it stays."""
        for place in self._places:
            subprocess.run(["ip", "netns", "del", place], capture_output=True)
            subprocess.run(["ip", "link", "del", place], capture_output=True)
        subprocess.run(["ip", "link", "del", self._bridge], capture_output=True)

    def address(self, index: int) -> str:
        """Where one of them is reached."""
        return f"{NETWORK}.{index + 1}"

    def inside(self, index: int) -> list[str]:
        """What begins the command of whoever lives there."""
        return ["ip", "netns", "exec", self._places[index]]

    def cut(self, index: int) -> None:
        """Nothing gets there or comes from there."""
        _ip("link", "set", self._places[index], "nomaster")

    def tie(self, index: int) -> None:
        """It does again."""
        _ip("link", "set", self._places[index], "master", self._bridge)


@contextmanager
def parted(count: int) -> Iterator[Parted]:
    """Places while they are needed. Raises RuntimeError where there can be none."""
    places = Parted(count)
    try:
        places.open()
        yield places
    finally:
        places.close()


def missing() -> bool:
    """Whether there can be none here."""
    if shutil.which("ip") is None or os.geteuid():
        return True
    try:
        with parted(1):
            return False
    except RuntimeError:
        return True
