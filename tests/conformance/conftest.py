"""The processes of these tests have a runtime folder of their own, and none is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.running import private_runtime


@pytest.fixture(scope="module")
def runtime() -> Iterator[Path]:
    with private_runtime() as folder:
        yield folder
