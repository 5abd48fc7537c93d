"""Peers of the chatter: the same nodes as tasks of asyncio, on a bare loop in virtual time, and on simloom's.

They say as much in a second of virtual time, by msgpack, over ways with the same latency; on the bare loop nothing is
traced and nothing can go wrong. simloom runs without its world of hosts, disks and networks, which nobody here uses.
Run by a Python of their own, this file imports nothing of ours.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import random
import selectors
import sys
import time
from typing import Any

import msgspec

NODES, INTERVAL_S, LATENCY_S, JITTER_S = 5, 0.05, 0.0001, 0.00005
"""As in `chatter`."""


class Beat(msgspec.Struct, tag=True, array_like=True):
    """A heartbeat."""

    term: int
    leader: int
    index: int
    commit_index: int


class Heard(msgspec.Struct, tag=True, array_like=True):
    """Its answer."""

    term: int
    follower: int
    index: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Beat | Heard).decode


class Node:
    """A mailbox, a task that reads it, and one that sends heartbeats. `events` counts as ours does."""

    def __init__(self, number: int, nodes: list[Node], chance: random.Random) -> None:
        self.events = 0
        self._number = number
        self._nodes = nodes
        self._chance = chance
        self._mailbox: asyncio.Queue[Beat | Heard] = asyncio.Queue()
        self._index = self._heard = 0

    def _send(self, target: Node, message: Beat | Heard) -> None:
        delay_s = LATENCY_S + JITTER_S * self._chance.random()
        asyncio.get_running_loop().call_later(delay_s, target.take, _encode(message))

    def take(self, frame: bytes) -> None:
        """A message arrives."""
        self._mailbox.put_nowait(_decode(frame))

    async def serve(self) -> None:
        """Handle messages for ever."""
        while True:
            message = await self._mailbox.get()
            self.events += 1
            if isinstance(message, Beat):
                self._send(self._nodes[message.leader], Heard(message.term, self._number, message.index))
            else:
                self._heard += message.index == self._index

    async def beat(self) -> None:
        """Send heartbeats for ever."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            self.events += 1
            self._index += 1
            beat = Beat(3, self._number, self._index, self._index - 1)
            for node in self._nodes:
                if node is not self:
                    self._send(node, beat)


async def chatter(seconds: int) -> int:
    """The events of so many seconds of virtual time."""
    chance = random.Random(1)
    nodes: list[Node] = []
    nodes += [Node(number, nodes, chance) for number in range(NODES)]
    tasks = [asyncio.create_task(work) for node in nodes for work in (node.serve(), node.beat())]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return sum(node.events for node in nodes)


class _Skipping(selectors.BaseSelector):
    """Waits for nothing: time moves on instead."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """What the loop wakes itself by is never written to."""
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """See `register`."""
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Nothing is ever ready."""
        self.now_s += timeout or 0.0
        return []

    def get_map(self) -> dict[Any, selectors.SelectorKey]:
        """Nothing is registered."""
        return {}


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now_s


def bare(seconds: int) -> int:
    """On a bare loop in virtual time."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(chatter(seconds))


def simloom(seconds: int) -> int:
    """On simloom's."""
    engine = importlib.import_module("simloom")
    events: int = engine.run(functools.partial(chatter, seconds), seed=1, world=False).value
    return events


def main() -> None:
    """Measure one engine: events a second of the processor."""
    _, engine, seconds = sys.argv
    started_ns = time.process_time_ns()
    events = {"bare": bare, "simloom": simloom}[engine](int(seconds))
    print(events * 1e9 / (time.process_time_ns() - started_ns))


if __name__ == "__main__":
    main()
