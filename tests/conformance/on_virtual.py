"""The stage of the virtual world: several kernels on one heap of events, and nothing ever really waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

from tests.conformance.stage import PATIENCE_S, Program
from zactor.cell import Wait
from zactor.kernel import Kernel
from zactor.message import Message, Ref
from zactor.sim.virtual import Outside, Virtual
from zactor.topology.instances import add_instance
from zactor.topology.model import Process, Topology
from zactor.wire import Inspect

A = TypeVar("A")

LOOK_S = 0.005
"""Between two looks of `until`."""


class OnVirtual:
    """A `Stage`."""

    def __init__(self, topology: Topology) -> None:
        self.running = True
        self.undisturbed = True
        self._virtual = Virtual()
        self._processes = {process.name: process for process in topology.processes}
        for process in topology.processes:
            _fill(self._virtual.add(process.name), process)
        self._doors: list[VirtualDoor] = []
        self._outside = self.client("@outside")
        self._virtual.start()
        self._wait_for(lambda: all(map(self._ready, self._processes)))

    def client(self, name: str) -> VirtualDoor:
        door = VirtualDoor(self._virtual, name)
        self._doors.append(door)
        self._virtual.publish()
        return door

    @property
    def said(self) -> int:
        return sum(door.said() for door in self._doors)

    def ask(self, node: str, message: Message[A], timeout_s: float = PATIENCE_S) -> Awaitable[A]:
        return self._outside.ask(node, message, timeout_s)

    def send(self, node: str, message: Message[Any]) -> Awaitable[None]:
        return self._outside.send(node, message)

    async def inspect(self, process: str) -> dict[str, Any]:
        return await self._outside.inspect(process)

    async def until(self, look: Callable[[], Awaitable[A | None]]) -> A:
        end_ns = self._virtual.now_ns + int(PATIENCE_S * 1e9)
        while not (value := await look()):
            assert self._virtual.now_ns < end_ns, f"still {value!r} after {PATIENCE_S:g} s"
            self._virtual.run(LOOK_S)
        return value

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        self._virtual.run(PATIENCE_S, condition)
        assert condition()

    def _ready(self, process: str) -> bool:
        cells = self._virtual.processes[process].kernel.cells
        return all(cells[instance.name].state == "ready" for instance in self._processes[process].instances)

    async def kill(self, process: str) -> None:
        self.undisturbed = False
        self._virtual.kill(process)

    async def start(self, process: str) -> None:
        _fill(self._virtual.restart(process), self._processes[process])
        self._virtual.start()
        self._wait_for(lambda: self._ready(process))

    async def pause(self, process: str) -> None:
        self.undisturbed = self.undisturbed and not process.startswith("@")
        self._virtual.pause(process)

    async def resume(self, process: str) -> None:
        self._virtual.resume(process)

    async def stop(self) -> dict[str, dict[str, int]]:
        self.running = False
        kernels = [self._virtual.processes[process].kernel for process in self._processes]
        for kernel in kernels:
            for name in list(kernel.cells):
                kernel.life.stop(name, "the topology goes down")
        self._wait_for(lambda: not any(kernel.cells or kernel.mailroom.outbox_messages() for kernel in kernels))
        self._virtual.run(LOOK_S)  # what has left arrives
        return {kernel.process: kernel.books() for kernel in kernels}


class VirtualDoor:
    """A `Door`: a client, with a kernel of its own."""

    def __init__(self, virtual: Virtual, name: str) -> None:
        self._inspected = 0
        self._virtual = virtual
        self._kernel = virtual.add(name)
        self._cell = self._kernel.life.spawn(Outside, name).cell

    def said(self) -> int:
        return self._kernel.shipped - self._inspected

    def ask(self, node: str, message: Message[A], timeout_s: float = PATIENCE_S) -> Awaitable[A]:
        return self._ask(self._kernel.ref(node), message, timeout_s)

    def send(self, node: str, message: Message[Any]) -> Awaitable[None]:
        wait = self._kernel.send(self._cell, self._kernel.ref(node), message, int(PATIENCE_S * 1e9))
        return Answer(self._virtual, wait)

    def inspect(self, process: str) -> Awaitable[dict[str, Any]]:
        self._inspected += 1
        target: Ref[Any] = Ref(process)
        target.peer = self._kernel.neighbours.peers[process]
        return self._ask(target, Inspect(), PATIENCE_S)

    def _ask(self, target: Ref[Any], message: Message[A], timeout_s: float) -> Awaitable[A]:
        return Answer(self._virtual, self._kernel.ask(self._cell, target, message, int(timeout_s * 1e9)))


class Answer(Awaitable[Any]):
    """Something that is waited for outside: whoever awaits it lets the virtual world run until it is there."""

    def __init__(self, virtual: Virtual, wait: Wait) -> None:
        self._virtual = virtual
        self._wait = wait

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()  # nothing ever suspends
        return self._virtual.result(self._wait)


def _fill(kernel: Kernel, process: Process) -> None:
    for instance in process.instances:
        add_instance(kernel.life, instance)


def played(performance: Coroutine[Any, Any, A]) -> A:
    """The result of a coroutine that awaits nothing but its virtual stage, and so never suspends."""
    try:
        performance.send(None)
    except StopIteration as end:
        value: A = end.value
        return value
    raise AssertionError("a program awaits only its stage")


def story(program: Program) -> str:
    """What a program tells in the virtual world."""
    return played(program.perform(OnVirtual(program.topology)))
