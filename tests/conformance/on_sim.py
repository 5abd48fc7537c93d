"""The stage of the simulated world: the launcher of the simulator, its connections, and latency that a seed draws."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

from tests.conformance.on_virtual import played
from tests.conformance.stage import PATIENCE_S, Program
from zactor.message import Message, Ref
from zactor.sim.heap import SECOND_NS
from zactor.sim.world import Knobs
from zactor.testing import Answer, Probe, Simulated
from zactor.topology.model import Topology
from zactor.wire import Inspect

A = TypeVar("A")

LOOK_S = 0.005
"""Between two looks of `until`."""

OUTSIDE = "@outside"

HARM_S = 60.0
"""How long faults come: longer than any program plays."""

FAULTS_BEFORE = 3
"""How many are done before it begins: most programs are over in less than a second."""


class OnSim:
    """A `Stage`. Without knobs its seed draws them; `harm` are kinds of faults that come all the time."""

    def __init__(self, topology: Topology, seed: int, knobs: Knobs | None = None, harm: tuple[str, ...] = ()) -> None:
        self.running = True
        self.undisturbed = True
        self._simulated = simulated = Simulated(seed, topology.peer_timeout_ns / SECOND_NS, knobs)
        simulated.add_topology(topology.file)
        self._launcher = simulated.launcher
        self._processes = [process.name for process in topology.processes]
        self._doors: dict[str, SimDoor] = {}
        self._outside = self.client(OUTSIDE)
        simulated.until(self._launcher.all_ready)
        if harm:
            simulated.trouble(HARM_S, *harm)
            simulated.until(lambda: simulated.faults.total() >= FAULTS_BEFORE)

    def client(self, name: str) -> SimDoor:
        door = self._doors[name] = SimDoor(self._simulated, name)
        simulated = self._simulated
        simulated.until(lambda: simulated.sim.processes[name].incarnations.keys() >= set(self._processes))
        return door

    @property
    def said(self) -> int:
        return sum(door.said() for door in self._doors.values())

    def ask(self, node: str, message: Message[A], timeout_s: float = PATIENCE_S) -> Awaitable[A]:
        return self._outside.ask(node, message, timeout_s)

    def send(self, node: str, message: Message[Any]) -> Awaitable[None]:
        return self._outside.send(node, message)

    async def inspect(self, process: str) -> dict[str, Any]:
        return await self._outside.inspect(process)

    async def until(self, look: Callable[[], Awaitable[A | None]]) -> A:
        end_ns = self._simulated.now_ns + int(PATIENCE_S * SECOND_NS)
        while not (value := await look()):
            assert self._simulated.now_ns < end_ns, f"still {value!r} after {PATIENCE_S:g} s"
            self._simulated.run(LOOK_S)
        return value

    def _is_known(self, process: str) -> bool:
        """Whether the book of the program outside has it."""
        return process in self._simulated.sim.processes[OUTSIDE].incarnations

    async def kill(self, process: str) -> None:
        self.undisturbed = False
        self._simulated.kill(process, stay=True)
        self._simulated.until(lambda: not self._is_known(process))

    async def start(self, process: str) -> None:
        self._simulated.start(process)
        self._simulated.until(lambda: self._launcher.all_ready() and self._is_known(process))

    async def pause(self, process: str) -> None:
        if process in self._doors:
            self.undisturbed = False
            self._simulated.sim.processes[process].pause()
        else:
            self._simulated.pause(process)

    async def resume(self, process: str) -> None:
        if process in self._doors:
            self._simulated.sim.processes[process].resume()
        else:
            self._simulated.resume(process)

    async def stop(self) -> dict[str, dict[str, int]]:
        self.running = False
        kernels = [self._simulated.kernel(process) for process in self._processes]
        for kernel in kernels:
            for name in list(kernel.cells):
                kernel.life.stop(name, "the topology goes down")
        self._simulated.until(
            lambda: not any(kernel.cells or kernel.mailroom.outbox_messages() for kernel in kernels), PATIENCE_S
        )
        self._simulated.settle()  # what has left arrives
        return {kernel.process: kernel.books() for kernel in kernels}


class SimDoor:
    """A `Door`: a client, with a process of its own."""

    def __init__(self, simulated: Simulated, name: str) -> None:
        self._simulated = simulated
        self._probe: Probe = simulated.client(name)
        self._kernel = simulated.kernel(name)
        self._cell = self._kernel.cells[name]
        self._inspected = 0

    def said(self) -> int:
        return self._kernel.shipped - self._inspected

    def ask(self, node: str, message: Message[A], timeout_s: float = PATIENCE_S) -> Awaitable[A]:
        return Awaited(self._probe.start_ask(node, message, timeout_s))

    def send(self, node: str, message: Message[Any]) -> Awaitable[None]:
        wait = self._kernel.send(self._cell, self._kernel.ref(node), message, int(PATIENCE_S * SECOND_NS))
        return Awaited(Answer(self._simulated, wait))

    def inspect(self, process: str) -> Awaitable[dict[str, Any]]:
        self._inspected += 1
        target: Ref[Any] = Ref(process)
        target.peer = self._kernel.neighbours.peers[process]
        wait = self._kernel.ask(self._cell, target, Inspect(), int(PATIENCE_S * SECOND_NS))
        return Awaited(Answer(self._simulated, wait))


class Awaited(Awaitable[Any]):
    """Something that is waited for outside: whoever awaits it lets the simulated world run until it is there."""

    def __init__(self, answer: Answer[Any]) -> None:
        self._answer = answer

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()  # nothing ever suspends
        return self._answer.result()


def story(program: Program, seed: int, knobs: Knobs | None = None, harm: tuple[str, ...] = ()) -> str:
    """What a program tells in the simulated world."""
    return played(program.perform(OnSim(program.topology, seed, knobs, harm)))
