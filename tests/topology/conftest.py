from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ACTORS = """
from zactor.actor import Actor, on
from zactor.message import Message, Opaque, Ref, Refs
from zactor.units import ByteSize, Duration


class Greet(Message[str]):
    name: str


class Bye(Message[None]):
    pass


class Greeter(Actor):
    salutation: str = "Hello"
    capacity: ByteSize = 1 << 20
    patience: Duration | None = None

    @on
    def greet(self, message: Greet) -> str:
        return self.salutation


class Polite(Greeter):
    title: str

    @on
    def bye(self, message: Bye) -> None:
        pass


class Caller(Actor):
    greeter: Ref[Greet]
    leaver: Ref[Greet | Bye] | None
    others: Refs[Greet]


class Front(Actor):
    behind: Refs[Opaque]

    @on
    def bye(self, message: Bye) -> None:
        pass

    @on
    def passed(self, message: Opaque) -> Opaque:
        return message


class Peer(Actor):
    peers: Refs[Greet]
    next: Ref[Greet] | None

    @on
    def greet(self, message: Greet) -> str:
        return ""
"""


@pytest.fixture(autouse=True)
def modules_of_this_test_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with kinds `./actors_here.py:Greeter`, `Polite`, `Caller` and `Peer`."""
    (tmp_path / "actors_here.py").write_text(ACTORS)
    monkeypatch.chdir(tmp_path)
    return tmp_path
