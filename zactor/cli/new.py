"""`new`: a project for actors of one's own, which runs and passes its tests as it is."""

from __future__ import annotations

import importlib.util
import keyword
import re
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from zactor import registry
from zactor.cli.common import shown
from zactor.errors import UserError
from zactor.launchers.folders import command_name

app = typer.Typer()

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The plugin's name, and that of its folder.")],
) -> None:
    """Write a project in a folder of that name: a plugin, a topology, tests in virtual time and under seeds."""
    folder = Path(name)
    if folder.exists():
        raise UserError(f"{folder} exists already: choose another name, or remove it")
    _check(name)
    try:
        for file, text in FILES.items():
            path = folder / file.replace("NAME", name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text.replace("NAME", name))
    except OSError as problem:
        raise UserError(f"{problem.filename}: cannot be written: {problem.strerror}") from None
    for file in FILES:
        typer.echo(f"{folder / file.replace('NAME', name)}")
    typer.echo(f"try:\n  {_python()} -m pytest {folder}\n  {command_name()} up {folder}/topology.yaml")


def _python() -> str:
    """The Python that zactor is installed for, as one would call it."""
    found = shutil.which("python")
    return "python" if found is not None and Path(found).samefile(sys.executable) else shown(Path(sys.executable))


def _check(name: str) -> None:
    if _NAME.fullmatch(name) is None or keyword.iskeyword(name):
        raise UserError(f"expected at most 32 of a-z, 0-9 and _, the first a letter, and no keyword; found {name!r}")
    taken = {kind.partition(".")[0] for kind in registry.names()}
    if name in taken or importlib.util.find_spec(name) is not None:
        raise UserError(f"{name!r} is the name of another plugin or module: choose another one")


FILES = {
    "NAME.py": '''"""Two kinds: a counter, and a front that has several of them count."""

from __future__ import annotations

from zactor import Actor, Message, Refs, on


class Add(Message[int]):
    """Answered by the sum so far."""

    amount: int = 1


class AddToAll(Message[int]):
    """Answered by the sum over all counters."""

    amount: int = 1


class Counter(Actor):
    """Counts. It begins with `first`."""

    first: int = 0

    def on_start(self) -> None:
        self.count = self.first

    @on
    def add(self, message: Add) -> int:
        self.count += message.amount
        self.log.info("added", amount=message.amount, count=self.count)
        return self.count


class Front(Actor):
    """Has all of its counters count."""

    counters: Refs[Add]

    @on
    async def add_to_all(self, message: AddToAll) -> int:
        total = 0
        for counter in self.counters:
            total += await self.ask(counter, Add(amount=message.amount))
        return total


KINDS = {"NAME.counter": Counter, "NAME.front": Front}
''',
    "topology.yaml": """\
# A front and two counters, each in a process of its own.
name: NAME
nodes:
  front:
    kind: ./NAME.py:Front
    links: {counters: counter}
  counter:
    kind: ./NAME.py:Counter
    replicas: 2
    settings: {first: 10}
try: [zactor ask front AddToAll amount=5, zactor logs, zactor why front]
""",
    "tests/test_NAME.py": '''from __future__ import annotations

from pathlib import Path

from zactor.testing import Simulated, Stage

from NAME import Add, AddToAll, Counter

TOPOLOGY = Path(__file__).parents[1] / "topology.yaml"


def test_a_counter_counts(virtual: Stage) -> None:
    counter = virtual.add("counter", Counter, first=40)

    assert virtual.ask(counter, Add()) == 41
    assert virtual.ask(counter, Add(amount=2)) == 43
    assert [event["count"] for event in virtual.logged("added", counter)] == [41, 43]


def test_the_front_has_all_of_them_count(virtual: Stage) -> None:
    virtual.add_topology(TOPOLOGY)

    assert virtual.ask("front", AddToAll(amount=5)) == 30


def test_nothing_is_counted_twice_whatever_happens(simulated: Simulated) -> None:
    """Run it under many seeds: python -m pytest --zactor-seeds 100."""
    simulated.add_topology(TOPOLOGY)
    simulated.settle()

    simulated.trouble(10.0, "kill", "partition")
    for _ in range(5):
        simulated.tell("front", AddToAll())
        simulated.run(1.0)
    simulated.heal()
    simulated.run(10.0)

    for name in ("counter/0", "counter/1"):
        assert 10 <= simulated.actor(name).count <= 15
''',
    "pyproject.toml": """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "NAME"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["zactor"]

[project.entry-points."zactor.nodes"]
NAME = "NAME:KINDS" # once it is installed, its kinds are NAME.counter and NAME.front everywhere

[tool.setuptools]
py-modules = ["NAME"]

[tool.pytest.ini_options]
pythonpath = ["."]
testpaths = ["tests"]

[tool.mypy]
strict = true
files = ["."]
""",
    "README.md": """\
# NAME

A front and two counters, to begin with: `NAME.py` has the messages and the actors, `topology.yaml` wires them.

    python -m pytest                       # in virtual time, in one process
    python -m pytest --zactor-seeds 100    # under faults that 100 seeds draw
    python -m mypy
    zactor up                              # in processes of their own; then, in a second terminal:
    zactor ask front AddToAll amount=5

`pip install -e .` makes the kinds known by name: `zactor kinds NAME.counter`.
""",
    ".gitignore": ".zactor/\n__pycache__/\n",
}
"""What is written, with `NAME` for the name."""
