"""Connections as ZeroMQ has them, between the processes of a virtual world, to be cut by a test.

What one process sends another on a lane arrives in order, up to where its connection ends; whoever took frames by it
hears of its end. The sender does not: it goes on by a new connection of the same name. Only after `disconnect` its
next one has another token.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from zactor.sim.virtual import LATENCY_NS, Virtual, VirtualWorld
from zactor.wire import Route


class Cable:
    """The way from one process to another, until it disconnects."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.sources: set[str] = set()
        self.cut_ns = 0  # what was sent until then and would arrive after it is lost


class Cables:
    """All of them. Frames that were lost are counted."""

    def __init__(self, virtual: Virtual, seed: int = 1) -> None:
        self._virtual = virtual
        self._chance = random.Random(seed)
        self._cables: dict[tuple[str, str], Cable] = {}
        self._tokens = 0
        self.lost = 0
        for world in virtual.processes.values():
            self.lay(world)

    def lay(self, world: VirtualWorld) -> None:
        """Connect a process. One that was restarted is connected again."""
        for pair in [pair for pair in self._cables if world.process in pair]:
            del self._cables[pair]

        def send(process: str, lane: int, frame: bytes, blobs: list[bytes]) -> bool:
            self._send(world, process, lane, frame, blobs)
            return True

        world.send = send  # type: ignore[method-assign]
        world.disconnect = lambda process: self._disconnect(world, process)  # type: ignore[method-assign]

    def cut(self, process: str, other: str) -> None:
        """The way from one process to another breaks: what is on it is lost from somewhere on."""
        cable = self._cables.get((process, other))
        if cable is not None:
            self._end(cable, other)

    def _send(self, world: VirtualWorld, to: str, lane: int, frame: bytes, blobs: list[bytes]) -> None:
        route = Route.parse(to)
        if route is not None:  # by the connection of the other, if it still stands
            cable = self._cables.get((route.process, world.process))
            if cable is None or cable.token != route.token:
                return
            to, source = route.process, str(Route(world.process, world.incarnation, lane, ""))
        else:
            cable = self._cables.get((world.process, to))
            if cable is None:
                self._tokens += 1
                cable = self._cables[world.process, to] = Cable(f"t{self._tokens}")
            source = str(Route(world.process, world.incarnation, lane, cable.token))
            cable.sources.add(source)
        self._virtual.push(self._virtual.now_ns + LATENCY_NS, self._arrival(cable, to, source, frame, blobs))

    def _arrival(self, cable: Cable, to: str, source: str, frame: bytes, blobs: list[bytes]) -> Callable[[], None]:
        target = self._virtual.processes.get(to)
        sent_ns = self._virtual.now_ns

        def arrive() -> None:
            if sent_ns <= cable.cut_ns < self._virtual.now_ns:
                self.lost += 1
            elif target is not None and target.up and self._virtual.processes.get(to) is target:
                target.kernel.receive(source, frame, blobs)

        return arrive

    def _disconnect(self, world: VirtualWorld, process: str) -> None:
        cable = self._cables.pop((world.process, process), None)
        if cable is not None:
            self._end(cable, process)

    def _end(self, cable: Cable, to: str) -> None:
        ends_ns = self._virtual.now_ns + self._chance.randrange(LATENCY_NS)
        cable.cut_ns = max(cable.cut_ns, ends_ns)
        target = self._virtual.processes.get(to)
        sources, cable.sources = sorted(cable.sources), set()

        def ended() -> None:
            if target is not None and target.up and self._virtual.processes.get(to) is target:
                for source in sources:
                    target.kernel.disconnected(source, "its connection has ended")

        self._virtual.push(ends_ns, ended)
