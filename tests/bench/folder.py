"""A folder in the form of a node's disk, for what is written without a kernel: each operation is done at once."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from zactor import door
from zactor.live import disk
from zactor.world import Sync


class Folder(door.Disk):
    """Files below a path, written as the live world does."""

    def __init__(self, path: Path) -> None:
        super().__init__(SimpleNamespace(folder=""))
        self._files = disk.Folder(path, lambda: None)
        self._dirty: dict[str, None] = {}

    def _begin(self, operation: Any, dirty: str | None = None) -> Awaitable[Any]:
        if dirty is not None:
            self._dirty[dirty] = None
        return Done(self._files.perform(operation))

    def synced(self) -> Awaitable[None]:
        """All that was written is durable."""
        files, self._dirty = tuple(self._dirty), {}
        return Done(self._files.perform(Sync("", files)))


class Done:
    """What is awaited, and has come already."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Generator[None, None, Any]:
        yield from ()
        return self._value
