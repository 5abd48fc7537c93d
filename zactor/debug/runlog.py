"""The log of a run: what its processes wrote, in one order, and while they write it.

Each file is read as a stream, so a log of any length is shown from its first line at once. The order is that of the
stamps (`zactor.hlc`), in which no effect comes before its cause.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

import msgspec

from zactor.hlc import COUNTER_MASK

Event = dict[str, Any]

_decode = msgspec.json.Decoder(Event).decode


def stamp_of(event: Event) -> int:
    """Its place in the order; 0 when it has none."""
    stamp = event.get("hlc", 0)
    return stamp if isinstance(stamp, int) else 0


def time_ns(event: Event) -> int:
    """Nanoseconds since 1970."""
    return stamp_of(event) & ~COUNTER_MASK


class Log:
    """All files of a run's folder, within a `with`. A file that is put aside for a new one is read to its end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tails: dict[int, _Tail] = {}  # by inode, since names change

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for tail in self._tails.values():
            tail.file.close()

    def read(self) -> Iterator[Event]:
        """What is there, oldest first; a second time, what has come since."""
        for path in sorted(self._folder.glob("*.jsonl")):
            try:
                file = path.open("rb")
            except FileNotFoundError:  # it has just been put aside
                continue
            number = os.fstat(file.fileno()).st_ino
            if number in self._tails:
                file.close()
            else:
                self._tails[number] = _Tail(path.name, file)
        return heapq.merge(*(tail.read() for tail in self._tails.values()), key=stamp_of)

    def begin_ns(self) -> int:
        """When its first event was, in nanoseconds since 1970; 0 when there is none."""
        with Log(self._folder) as log:
            event = next(log.read(), None)
        return 0 if event is None else time_ns(event)

    def unfinished(self) -> list[str]:
        """The files that end within a line."""
        return [tail.name for tail in self._tails.values() if tail.rest]


class _Tail:
    """A file, read from where the last look ended."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self.name = name
        self.file = file
        self.rest = b""  # the beginning of a line
        self._stamp = 0

    def read(self) -> Iterator[Event]:
        for line in self.file:
            whole = self.rest + line
            if not line.endswith(b"\n"):
                self.rest = whole
                return
            self.rest = b""
            try:
                event = _decode(whole)
            except msgspec.MsgspecError:
                # Its own place in the order is not known: after the one before it.
                event = {"level": "error", "hlc": self._stamp, "event": "unreadable_line", "file": self.name}
            self._stamp = stamp_of(event) or self._stamp
            yield event
