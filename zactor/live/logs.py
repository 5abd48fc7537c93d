"""The log of one process: JSON lines, kept together while a pass runs and written with one write at its end.

Times are integers; whoever reads the log makes them pretty. A log that cannot be written never stops a process.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

_encode = msgspec.json.Encoder(enc_hook=repr).encode

PENDING_BYTES_MAX = 1 << 20
"""Written out before the pass ends when a flood of events comes to this."""

LOG_BYTES = 64 << 20
"""What is kept of a process's log in a run: when its file has half of it, that takes the place of an older half."""

FREE_BYTES_MIN = 64 << 20
"""Room on the disk below which nothing is logged any more: recordings have stopped before, and state has the rest."""

LOOK_BYTES = 1 << 20
"""How much is written before the room is looked at again."""

OLDER = ".older.jsonl"
"""The end of the name of that older half."""


class Lines:
    """A file of events, one JSON object a line. What the disk did not take is counted, and said when it takes more."""

    def __init__(self, path: Path, budget_bytes: int = LOG_BYTES) -> None:
        self._path = path
        self._size_max = budget_bytes // 2
        self._open()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._stamp = 0  # of the last event, for the one that says what was lost
        self._torn = False  # the file ends within a line
        self.lost = 0

    def _open(self) -> None:
        self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._handle).st_size
        self._unseen = LOOK_BYTES  # bytes since the room on the disk was looked at

    def add(self, event: dict[str, Any]) -> None:
        """Keep an event for the next write. What JSON cannot carry is kept as its text."""
        line = _encode(event)
        self._stamp = event.get("hlc", 0)
        self._pending.append(line)
        self._pending_bytes += len(line)
        if self._pending_bytes > PENDING_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        """Write what is kept."""
        if not self._pending:
            return
        lines, self._pending, self._pending_bytes = self._pending, [], 0
        if self._unseen >= LOOK_BYTES and not self._has_room():
            self.lost += len(lines)
            return
        notice = [b""] * self._torn
        if self.lost:
            notice.append(_encode({"level": "error", "hlc": self._stamp, "event": "lines_lost", "count": self.lost}))
        whole = b"\n".join([*notice, *lines, b""])
        done = 0
        try:
            while done < len(whole):
                done += os.write(self._handle, whole[done:])
            self.lost = 0
        except OSError:
            self.lost += min(whole.count(b"\n", done), len(lines))
        if done:
            self._torn = whole[done - 1 : done] != b"\n"
            self._size += done
            self._unseen += done
        if self._size > self._size_max and not self._torn:
            self._rotate()

    def _has_room(self) -> bool:
        status = os.fstatvfs(self._handle)
        # What is no file, such as /dev/null, has no room of its own.
        if status.f_blocks and status.f_bavail * status.f_frsize < FREE_BYTES_MIN:
            return False
        self._unseen = 0
        return True

    def _rotate(self) -> None:
        """Begin a new file; what there was becomes the older half."""
        try:
            self._path.rename(self._path.with_name(self._path.stem + OLDER))
            full = self._handle
            self._open()
            os.close(full)
        except OSError:
            self._size = 0  # it goes on in the file that there is, and is tried again later

    def close(self) -> None:
        """Write what is kept and close the file."""
        self.flush()
        os.close(self._handle)
