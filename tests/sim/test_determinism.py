"""What actors reach for past their door is found in their source."""

from __future__ import annotations

import inspect
import random
import subprocess
import threading
import time
from datetime import date, datetime
from pathlib import Path
from time import monotonic as now
from typing import Any

import pytest

from tests.sim.stage import Register, topology
from zactor.actor import Actor
from zactor.sim.determinism import escapes_in, escapes_of
from zactor.topology.read import load

CONFIGS = Path(__file__).parents[2] / "configs"


class Aliased(Actor):
    def on_start(self) -> None:
        now()  # time.monotonic


class Inherits(Aliased):
    pass


class Local(Actor):
    def on_start(self) -> None:
        import uuid as ids
        from os import urandom

        ids.uuid4()  # uuid.uuid4
        urandom(8)  # os.urandom


class Dates(Actor):
    def on_start(self) -> None:
        self.today = date.today()  # datetime.date.today
        self.clock = datetime.now  # datetime.datetime.now


class Processes(Actor):
    def on_start(self) -> None:
        subprocess.run(["true"])  # subprocess.run
        threading.Timer(1.0, print)  # threading.Timer
        Path("file").read_text()  # pathlib.Path.read_text


class Helped(Actor):
    def on_start(self) -> None:
        self.helper = Helper()


class Helper:
    def __init__(self) -> None:
        self.sorted = sorted([1, 2], key=lambda _: random.random())  # random.random


class Decent(Actor):
    """What looks like an escape, and is none."""

    written: datetime

    async def on_start(self) -> None:
        time = self.now_ns
        time()
        stream: random.Random = random.Random(1)
        stream.random()
        await self.in_thread(now)
        await self.in_thread(slow, 1)
        datetime.fromtimestamp(1)


def slow(seconds: int) -> None:
    time.sleep(seconds)


@pytest.mark.parametrize("kind", [Aliased, Inherits, Local, Dates, Processes, Helped, Decent, Register])
def test_each_is_found_in_its_line(kind: type[Actor]) -> None:
    owners: list[Any] = [kind, *kind.__bases__, *([Helper] if kind is Helped else [])]
    marked: dict[int, str] = {}
    for owner in owners:
        if owner in (Actor, Register):
            continue
        lines, first = inspect.getsourcelines(owner)
        for number, line in enumerate(lines, first):
            if "  # " in line:
                marked[number] = line.partition("  # ")[2].strip()

    found = {each.line: each.message.partition(":")[0] for each in escapes_in(kind)}

    if kind is Register:
        dates = {"datetime.datetime.now", "datetime.date.today"}
        assert set(found.values()) == {"time.time", "random.random", "uuid.uuid4", "open"} | dates
    else:
        assert found == marked


def test_it_says_where_and_what_to_use_instead() -> None:
    (found,) = escapes_in(Aliased)

    assert str(found) == (
        f"{__file__}:{found.line}:9: Aliased.on_start: time.monotonic: an actor cannot use it in a simulation;"
        " use self.now_ns() and self.sleep(...)\n    now()  # time.monotonic\n    ^"
    )


def test_a_workload_is_looked_at_too() -> None:
    places = [(each.path, each.line) for each in escapes_of(topology())]

    assert len(places) == 6
    assert places == sorted(places, key=lambda place: place[1])


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_what_ships_reaches_for_nothing(file: Path) -> None:
    assert escapes_of(load(file)) == []
