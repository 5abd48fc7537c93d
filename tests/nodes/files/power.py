"""A disk of the virtual world that knows what would outlive a power failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zactor.sim.disk import MemoryDisk
from zactor.sim.virtual import SYNC_NS, Virtual
from zactor.world import Operation, Sync, SyncFolder


class PowerDisk(MemoryDisk):
    """Contents outlive it that were synced, and names whose folder was. A sync counts only from its completion on."""

    def __init__(self, virtual: Virtual) -> None:
        super().__init__()
        self._virtual = virtual
        self._under_way: list[tuple[int, str, Callable[[], None]]] = []
        self._contents: dict[int, tuple[bytearray, bytes]] = {}  # the file keeps its identity alive
        self._names: dict[tuple[str, str], bytearray] = {}

    def perform(self, operation: Operation) -> Any:
        self._complete()
        at_ns = self._virtual.now_ns + SYNC_NS
        if isinstance(operation, Sync):
            own = self._own(operation.folder)
            synced = {key: (file, bytes(file)) for key, file in own.items() if key[1] in operation.files}
            self._under_way.append((at_ns, operation.folder, lambda: self._keep_contents(synced)))
        elif isinstance(operation, SyncFolder):
            inside = (operation.folder, operation.file)
            names = {key: file for key, file in self.files.items() if _folder_of(key) == inside}
            self._under_way.append((at_ns, operation.folder, lambda: self._keep_names(inside, names)))
        return super().perform(operation)

    def lose_power(self, folder: str) -> None:
        """Forget what was not synced, in one node's folder."""
        self._complete()
        for key in self._own(folder):
            del self.files[key]
        # What was not done by now never is.
        self._under_way = [each for each in self._under_way if each[1] != folder]
        for key, file in self._names.items():
            if key[0] == folder:
                _, content = self._contents.get(id(file), (file, b""))
                left = self.files[key] = self._names[key] = bytearray(content)
                self._contents[id(left)] = (left, content)

    def _own(self, folder: str) -> dict[tuple[str, str], bytearray]:
        return {key: file for key, file in self.files.items() if key[0] == folder}

    def _complete(self) -> None:
        while self._under_way and self._under_way[0][0] <= self._virtual.now_ns:
            self._under_way.pop(0)[2]()

    def _keep_contents(self, synced: dict[tuple[str, str], tuple[bytearray, bytes]]) -> None:
        for file, content in synced.values():
            self._contents[id(file)] = (file, content)

    def _keep_names(self, inside: tuple[str, str], names: dict[tuple[str, str], bytearray]) -> None:
        self._names = {key: file for key, file in self._names.items() if _folder_of(key) != inside} | names


def _folder_of(key: tuple[str, str]) -> tuple[str, str]:
    return key[0], key[1].rpartition("/")[0]
