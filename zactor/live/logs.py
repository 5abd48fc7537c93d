"""The log of one process: JSON lines, kept together while a pass runs and written with one write at its end.

Times are integers; whoever reads the log makes them pretty. A log that cannot be written never stops a process.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

_encode = msgspec.json.Encoder(enc_hook=repr, order=None).encode

PENDING_BYTES_MAX = 1 << 20


def render(_logger: Any, level: str, event: MutableMapping[str, Any]) -> bytes:
    """Structlog's last processor: one JSON object a line."""
    return _encode({"level": level, **event}) + b"\n"


class Lines:
    """A file of lines; what structlog hands its lines to. Lost lines are counted."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self.lost = 0

    def msg(self, line: bytes) -> None:
        """Keep a line for the next write."""
        self._pending.append(line)
        self._pending_bytes += len(line)
        if self._pending_bytes > PENDING_BYTES_MAX:
            self.flush()

    debug = info = warning = error = msg

    def flush(self) -> None:
        """Write what is kept."""
        if not self._pending:
            return
        lines, self._pending, self._pending_bytes = self._pending, [], 0
        try:
            os.write(self._handle, b"".join(lines))
        except OSError:
            self.lost += len(lines)

    def close(self) -> None:
        """Write what is kept and close the file."""
        self.flush()
        os.close(self._handle)


def logger(lines: Lines) -> Any:
    """A structlog logger that writes to `lines`: two processors' worth of work an event."""
    return structlog.wrap_logger(
        lines,
        processors=[render],
        wrapper_class=structlog.make_filtering_bound_logger(10),
        cache_logger_on_first_use=True,
    ).bind()
