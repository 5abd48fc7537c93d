"""What the programs of the conformance suite play on, and how they are played.

A **program** is a promise of the kernel as a topology with its actors (`programs/NAME.yaml`, `NAME.py`), a script
that acts from outside (`play` in the same file), and the **story** that it gives (`NAME.txt`): lines that must be
the same in every world. What one world may do in another order than the next is sorted or counted by the program.
A world is a `Stage`; a new one is a file beside `on_virtual.py`. A program does not know which one it has.
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tests.conformance.ledger import ledger
from tests.gate import Waiting
from zactor.errors import AskCycle, Failure
from zactor.message import Message
from zactor.topology import read

A = TypeVar("A")

PROGRAMS = Path(__file__).with_name("programs")

PATIENCE_S = 30.0
"""For whatever a program waits for; that it passes is a failure."""

_ID = re.compile(r"\b\d+\.\d+\.\d+\b")


class Door(Protocol):
    """A program outside of the topology, which talks to its nodes."""

    def ask(self, node: str, message: Message[A], timeout_s: float = PATIENCE_S) -> Awaitable[A]:
        """Ask a node. The ask is under way when this returns."""

    def send(self, node: str, message: Message[Any]) -> Awaitable[None]:
        """Tell a node, waiting for room. The message is under way when this returns."""


class Stage(Door, Protocol):
    """A world in which a topology runs; it is a door itself."""

    @property
    def running(self) -> bool:
        """It was not stopped."""

    @property
    def undisturbed(self) -> bool:
        """Nothing was killed, and no client was held up, so no message may be missing between processes."""

    @property
    def said(self) -> int:
        """Messages that came from outside."""

    def client(self, name: str) -> Door:
        """One more program outside. `pause` and `resume` take its name, which begins with `@`."""

    async def until(self, look: Callable[[], Awaitable[A | None]]) -> A:
        """Look again and again. The first true value."""

    async def inspect(self, process: str) -> dict[str, Any]:
        """What a kernel says of itself."""

    async def kill(self, process: str) -> None:
        """`kill -9`. It stays away until `start`."""

    async def start(self, process: str) -> None:
        """Let the next incarnation of a killed process come, and wait until its nodes are ready."""

    async def pause(self, process: str) -> None:
        """SIGSTOP. It runs nothing when this returns."""

    async def resume(self, process: str) -> None:
        """SIGCONT."""

    async def stop(self) -> dict[str, dict[str, int]]:
        """Stop all processes in order, as `down` does; the books of each at its end."""


class Program:
    """A promise, by name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.story = PROGRAMS / f"{name}.txt"
        # Its kinds are imported here, under the name by which the processes of a topology know them.
        self.topology = read.load(PROGRAMS / f"{name}.yaml")
        self.play: Callable[[Stage], AsyncIterator[str]] = sys.modules[name].play

    async def perform(self, stage: Stage) -> str:
        """The story that it gives on a stage; the books are a part of it, unless it stops everything."""
        lines = [line async for line in self.play(stage)]
        if stage.running:
            lines += await ledger(stage, [process.name for process in self.topology.processes])
        return "".join(f"{line}\n" for line in lines)


def told(error: Failure) -> str:
    """An error as a story tells it: its type, and what its text says of names.

    Ids are left out, and why a process counts as lost: each world finds that out in its own way.
    """
    kind, text = type(error).__name__, str(error)
    if isinstance(error, AskCycle):
        text = rotated(text)
    elif kind.endswith("Lost"):
        text = text.partition(":")[0]
    return f"{kind}: {_ID.sub('ID', text)}"


def rotated(ring: str) -> str:
    """A ring `b -> c -> a -> b` as it is written when it begins with the first name of the alphabet."""
    names = ring.split(" -> ")[:-1]
    first = names.index(min(names))
    return " -> ".join([*names[first:], *names[:first], names[first]])


async def outcome(answer: Awaitable[object]) -> str:
    """What became of an ask."""
    try:
        return f"answered {await answer!r}"
    except Failure as error:
        return told(error)


async def crowd(stage: Stage, count: int) -> None:
    """Wait until so many wait at the node `gate`."""

    async def look() -> bool:
        return await stage.ask("gate", Waiting()) == count

    await stage.until(look)
