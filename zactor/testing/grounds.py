"""The two worlds that a stage can stand on: one without faults, and the simulator's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from zactor.kernel import Kernel
from zactor.message import CLIENT_NUMBER
from zactor.sim.escapes import StandIns
from zactor.sim.heap import Heap
from zactor.sim.launcher import Fill, Launcher
from zactor.sim.nemesis import Nemesis
from zactor.sim.network import Network
from zactor.sim.virtual import Virtual, VirtualWorld
from zactor.sim.world import Log, ProcessWorld, Simulation
from zactor.topology.model import Process

DAMAGE = None
"""How many nodes may lose what is durable: a test does to them what it says."""


class Ground(Protocol):
    """What a stage needs from its world."""

    @property
    def heap(self) -> Heap:
        """What will happen."""

    @property
    def stand_ins(self) -> StandIns:
        """What runs in place of coroutines of libraries."""

    def client(self, name: str) -> Kernel:
        """A kernel of its own for a program outside."""

    def begin(self, processes: list[Process]) -> None:
        """Let these come up."""

    def begun(self, names: set[str]) -> bool:
        """Whether these are up, and everybody knows them."""

    def kernels(self) -> dict[str, Kernel]:
        """The kernels of all processes that are up, clients included."""

    def can_talk(self, process: str, other: str) -> bool:
        """Whether what two processes that are up say to each other arrives."""

    def is_timer(self, event: Callable[..., object], values: tuple[Any, ...]) -> bool:
        """Whether an event only waits for its time: an alarm, or a fault that is to come or to end."""


class VirtualGround:
    """The virtual world."""

    def __init__(self, fill: Fill, listen: Callable[[Log], None]) -> None:
        self.heap = self._virtual = Virtual()
        self.stand_ins = self._virtual.stand_ins
        self._fill = fill
        self._virtual.listen.append(listen)

    def client(self, name: str) -> Kernel:
        return self._virtual.add(name)

    def begin(self, processes: list[Process]) -> None:
        for process in processes:
            self._fill(self._virtual.add(process.name), process)
        self._virtual.start()

    def begun(self, names: set[str]) -> bool:
        return names <= self._virtual.processes.keys()

    def kernels(self) -> dict[str, Kernel]:
        return {name: world.kernel for name, world in self._virtual.processes.items() if world.up}

    def can_talk(self, process: str, other: str) -> bool:
        return {process, other} <= self.kernels().keys()

    def is_timer(self, event: Callable[..., object], values: tuple[Any, ...]) -> bool:
        happening = values[-1] if event == self._virtual._happen else None
        return isinstance(happening, partial) and getattr(happening.func, "__func__", None) is VirtualWorld.ring


class SimulatedGround:
    """The simulated world."""

    def __init__(self, sim: Simulation, fill: Fill, listen: Callable[[Log], None]) -> None:
        self.heap = self.sim = sim
        self.stand_ins = self.sim.stand_ins
        self.launcher = Launcher(self.sim, fill=fill)
        self.nemesis = Nemesis(self.sim, self.launcher, DAMAGE)
        self.sim.listen.append(listen)
        self._clients = 0

    def client(self, name: str) -> Kernel:
        self._clients += 1
        kernel = self.sim.boot(name, CLIENT_NUMBER, self._clients).kernel
        self.launcher.publish()
        return kernel

    def begin(self, processes: list[Process]) -> None:
        for process in processes:
            self.launcher.add(process)

    def begun(self, names: set[str]) -> bool:
        members = self.launcher.members
        running = {name for name in names if members[name].world is not None}
        return all(members[name].bound for name in names) and all(
            world.started and running <= world.incarnations.keys()
            for world in self.sim.processes.values()
            if world.up and world.missed is None
        )

    def kernels(self) -> dict[str, Kernel]:
        return {name: world.kernel for name, world in self.sim.processes.items() if world.up}

    def can_talk(self, process: str, other: str) -> bool:
        awake = all(self.sim.processes[name].missed is None for name in (process, other))
        way = self.sim.network.way
        return awake and way(process, other).plain and way(other, process).plain

    def is_timer(self, event: Callable[..., object], values: tuple[Any, ...]) -> bool:  # noqa: ARG002 - the other's
        return getattr(event, "__func__", None) in _TIMERS


_TIMERS = frozenset(
    {
        ProcessWorld._ring,
        Network._silence,
        Nemesis._do,
        Nemesis._undo,
        Nemesis._silenced,
        Nemesis._strike,
    }
)
