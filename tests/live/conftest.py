"""Every test here has a runtime folder of its own kind, and leaves no process behind."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.running import eventually, processes_here


@pytest.fixture(scope="session", autouse=True)
def runtime() -> Iterator[Path]:
    """A short private folder for sockets; at the end no process may be left that was started with it."""
    folder = Path(tempfile.mkdtemp(prefix="zt", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        patch.delenv("ZACTOR_DIR", raising=False)
        yield folder
        left = processes_here()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not processes_here())
        shutil.rmtree(folder)
        assert not left, f"left running: {left}"
