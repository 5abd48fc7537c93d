"""Golden files: `pytest --rewrite` writes them anew, so that a change of what people see is read as a diff.

And no test asserts a time, not even how long hypothesis may take for one example on a busy machine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("zactor", parent=settings(), deadline=None)
settings.load_profile("zactor")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write golden files anew instead of comparing with them")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compares a text with a golden file, or makes it that file."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--rewrite"):
            path.write_text(text)
        assert text == path.read_text(), f"{path.name} has changed; if that is right: bin/test --rewrite {path.parent}"

    return compare
