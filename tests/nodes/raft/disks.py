"""A disk for storage alone: operations are done at once, each may be the last one before a crash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Coroutine, Generator
from random import Random
from typing import Any, TypeVar

from zactor.door import Disk
from zactor.sim.disk import Machine
from zactor.sim.heap import Chance
from zactor.world import Append, Sync, SyncFolder, Write, check_file_name

A = TypeVar("A")
FOLDER = "peer"


class Crash(BaseException):
    """The process ends here."""


class Done:
    """The result of an operation, or its error for who awaits it."""

    def __init__(self, value: Any, error: BaseException | None) -> None:
        self._value = value
        self._error = error

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()
        if self._error is not None:
            raise self._error
        return self._value


class StepDisk(Disk):
    """The files of one peer. `steps`: how many operations there are before the crash, None for no crash."""

    __slots__ = ("done", "machine", "steps")
    folder = FOLDER

    def __init__(self, seed: int = 0) -> None:
        super().__init__(self)
        self.machine = Machine(Chance(Random(seed)), Counter())
        self.steps: int | None = None
        self.done = 0

    def _begin(self, operation: Any, dirty: str | None = None) -> Awaitable[Any]:
        check_file_name(operation)
        self._step()
        marks = self.machine.mark(operation) if isinstance(operation, SyncFolder) else []
        value, error = self.machine.attempt(operation)
        if isinstance(operation, Append) and error is not None:  # as a real one: what there was room for is written
            self.machine.attempt(Append(FOLDER, operation.file, operation.data[: self.machine.free_bytes()]))
        if isinstance(operation, Write) and error is not None:
            part = operation.data[: self.machine.free_bytes()]
            self.machine.attempt(Write(FOLDER, operation.file, operation.offset, part))
        if isinstance(operation, SyncFolder):
            error = self.machine.settle(operation, marks)
        return Done(value, error)

    def synced(self) -> Awaitable[None]:
        self._step()
        names = tuple(name for _, name in self.machine.files)
        sync = Sync(FOLDER, names)
        return Done(None, self.machine.settle(sync, self.machine.mark(sync)))

    def _step(self) -> None:
        if self.steps is not None and self.done >= self.steps:
            raise Crash
        self.done += 1

    @property
    def names(self) -> list[str]:
        return sorted(name for _, name in self.machine.files)

    def content(self, file: str) -> bytearray:
        return self.machine.files[FOLDER, file]

    def flip(self, file: str, bit: int) -> None:
        """Flip a bit, in the page cache and on the disk."""
        content: Any = self.content(file)
        for copy in (content, content.durable):
            copy[bit >> 3] ^= 1 << (bit & 7)


def run(coroutine: Coroutine[Any, Any, A]) -> A:
    """Run what waits for a `StepDisk` alone."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    raise AssertionError("it waits for something else")
