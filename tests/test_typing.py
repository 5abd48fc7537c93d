"""What type checkers know of messages, and what they refuse."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mypy.api
import pytest

GOOD = """\
from zactor import AsyncClient, Client, Down, Up
from zactor.actor import Actor, link, on
from zactor.message import Envelope
from zactor.door import Later
from zactor.message import Message, Ref, Refs


class Greet(Message[str]):
    name: str
    times: int = 1


class Bye(Message[None]):
    pass


class Caller(Actor):
    salutation: str = "Hello"
    greeter: Ref[Greet | Bye]
    many: Refs[Greet]
    clock: Ref[Bye] = link(overflow="drop")

    async def on_start(self) -> None:
        text: str = await self.ask(self.greeter, Greet(name="world"), timeout_s=1.0)
        self.tell(self.greeter, Bye())
        for ref in self.many:
            await self.send(ref, Greet(name=text, times=2))

    @on
    def greet(self, message: Greet, envelope: Envelope) -> Later[str]:
        return self.later()

    @on(interleave=True)
    async def bye(self, message: Bye) -> None:
        await self.sleep(1.0)


def outside() -> str:
    with Client("quickstart") as client:
        client.send("greeter", Greet(name="world"))
        names: list[str] = client.names("store")
        text: str = client.ask(client.ref(names[0]), Greet(name="world"))
        for notice in client.watch("greeter", timeout_s=1.0):
            text += notice.reason if isinstance(notice, Down) else "up"
        return text + client.ask("greeter", Greet(name="world"), timeout_s=1.0)


async def outside_with_asyncio() -> str:
    async with AsyncClient() as client:
        await client.send("greeter", Bye())
        greeter: Ref[Greet] = client.ref("greeter")
        async for notice in client.watch(greeter):
            both: Down | Up = notice
            await client.send(greeter, Greet(name=both.ref.name))
        return await client.ask(greeter, Greet(name="world"))
"""

BAD = """\
from zactor import AsyncClient, Client
from zactor.actor import Actor
from zactor.message import Message, Ref


class Greet(Message[str]):
    name: str


class Bye(Message[None]):
    pass


class Caller(Actor):
    greeter: Ref[Greet]

    async def on_start(self) -> None:
        number: int = await self.ask(self.greeter, Greet(name="world"))  # another answer
        Greet(nmae="world")  # misspelt
        Greet("world")  # by position
        Greet(name=7)  # another type
        message = Greet(name="world")
        message.name = "moon"  # frozen
        message.nmae  # misspelt when read
        self.tell(self.greeter, Bye())  # not what the link takes


def outside(client: Client) -> None:
    number: int = client.ask("greeter", Greet(name="world"))  # another answer
    client.ask("greeter", "hello")  # no message
    client.ask("greeter", Greet)  # the class of a message
    client.ask(7, Greet(name="world"))  # no node
    client.aks  # misspelt


async def outside_with_asyncio(client: AsyncClient, greeter: Ref[Greet]) -> None:
    text: str = client.ask("greeter", Greet(name="world"))  # not awaited
    number: int = await client.ask("greeter", Greet(name="world"))  # another answer
    await client.send(greeter, Bye())  # not what it takes
"""
ROOT = Path(__file__).parents[1]


def _wrong_lines() -> set[int]:
    lines = BAD.splitlines()
    return {number for number, line in enumerate(lines, 1) if "  # " in line}


def _mypy(folder: Path, program: str) -> tuple[str, int]:
    (folder / "program.py").write_text(program)
    report, errors, status = mypy.api.run(
        ["--strict", "--no-incremental", "--config-file=", "--follow-imports=silent", str(folder / "program.py")]
    )
    assert errors == ""
    return report, status


def test_mypy_knows_the_type_of_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    report, status = _mypy(tmp_path, GOOD)

    assert (status, report.splitlines()) == (0, ["Success: no issues found in 1 source file"])


def test_mypy_refuses_each_mistake_on_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    report, status = _mypy(tmp_path, BAD)

    assert status == 1
    assert {int(number) for number in re.findall(r"program\.py:(\d+): error", report)} == _wrong_lines()


def _pyright(folder: Path, program: str) -> str:
    found = shutil.which("pyright", path=str(Path(sys.executable).parent) + os.pathsep + os.environ.get("PATH", ""))
    if found is None:
        pytest.skip("pyright is not installed")
    file = folder / "program.py"
    file.write_text(program)
    # Without the path of its interpreter it finds no zactor, and then says nothing.
    command = [found, "--pythonpath", sys.executable, str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)
    except subprocess.TimeoutExpired:
        pytest.skip("pyright does not come to an end here: it may be looking for node")
    if not re.search(r"\d+ errors?, ", done.stdout):
        pytest.skip(f"pyright does not run here: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout


def test_pyright_knows_the_type_of_an_answer_and_refuses_each_mistake_on_its_line(tmp_path: Path) -> None:
    good = _pyright(tmp_path, GOOD)
    bad = _pyright(tmp_path, BAD)

    assert "0 errors" in good, good
    assert {int(number) for number in re.findall(r"program\.py:(\d+):\d+ - error", bad)} == _wrong_lines(), bad


def test_the_vocabulary_has_no_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    report, _ = _mypy(tmp_path, "from zactor import Client, Clinet\n")

    assert 'has no attribute "Clinet"' in report
    assert len(report.splitlines()) == 2
