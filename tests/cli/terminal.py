"""A terminal without a screen: a command runs on it, keys are pressed, and what it shows is read."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable

from tests.cli.transcript import TIMEOUT_S, Place


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, place: Place, line: str, columns: int = 100) -> None:
        self._main, self.end = pty.openpty()
        self.resize(columns)
        self.usual = termios.tcgetattr(self.end)
        self.shown = ""
        environment = {name: value for name, value in place.environment.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"],
            cwd=place.folder,
            env=environment,
            stdin=self.end,
            stdout=self.end,
            stderr=self.end,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def press(self, key: bytes) -> None:
        os.write(self._main, key)

    def until(self, condition: Callable[[str], object]) -> str:
        """Read until what was shown since the last time is as wanted."""
        self.shown = ""
        deadline_s = time.monotonic() + TIMEOUT_S
        while not condition(self.shown):
            readable, _, _ = select.select([self._main], [], [], max(0.0, deadline_s - time.monotonic()))
            assert readable, f"nothing more than {self.shown!r}"
            self.shown += os.read(self._main, 1 << 16).decode()
        return self.shown

    def ended(self) -> int:
        """The exit code of one that had a screen of its own, when it has put the terminal back as it was."""
        self.until(lambda shown: "\x1b[?1049l" in shown)
        code = self.process.wait(TIMEOUT_S)
        assert termios.tcgetattr(self.end) == self.usual
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._main)
        os.close(self.end)
