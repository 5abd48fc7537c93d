"""Every test here has a runtime folder of its own kind, and leaves no process behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.running import private_runtime


@pytest.fixture(scope="session", autouse=True)
def runtime() -> Iterator[Path]:
    with private_runtime() as folder:
        yield folder
