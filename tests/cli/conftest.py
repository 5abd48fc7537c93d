from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from tests.cli.terminal import Terminal
from tests.cli.transcript import Place


@pytest.fixture(scope="session")
def stage() -> Iterator[Place]:
    """A place where `stage.yaml` is running."""
    place = Place()
    up = place.shell("zactor up -d stage.yaml")
    try:
        assert up.code == 0, up.err
        yield place
    finally:
        place.close()


@pytest.fixture
def alone() -> Iterator[Place]:
    """A place where nothing is running yet."""
    place = Place()
    try:
        yield place
    finally:
        place.close()


@pytest.fixture
def terminal(stage: Place) -> Iterator[Callable[[str], Terminal]]:
    """Starts a command on a terminal of its own, where `stage.yaml` is running."""
    opened: list[Terminal] = []

    def start(line: str) -> Terminal:
        opened.append(Terminal(stage, line))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.fixture(autouse=True)
def modules_of_this_test_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands that run in this process import the stage's kinds, which are of the same name in each place."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if "/here/" in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]
