"""The virtual world: one heap of (time, sequence, event), integer nanoseconds, and no faults.

Several kernels share it, each as a process of its own. Frames pass the real codec and take `LATENCY_NS`;
operations of the disk take `DISK_NS`, a sync `SYNC_NS`. A turn costs time too, or two actors could play
ping-pong for ever at one instant. The same programs give the same events, always.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from zactor.actor import Actor
from zactor.cell import Wait
from zactor.kernel import Kernel
from zactor.message import Message, Ref
from zactor.neighbours import Entry
from zactor.sim.disk import MemoryDisk
from zactor.sim.escapes import StandIns, stand_in
from zactor.sim.heap import WALL_NS, Heap
from zactor.sim.world import Log
from zactor.wire import Route
from zactor.world import Call, InThread, Operation

LATENCY_NS = 100_000
DISK_NS = 20_000
SYNC_NS = 200_000
TURN_NS = 1_000


class Virtual(Heap):
    """The world that several processes share. Run it with `run` or `result`; look at it at any time.

    With `peer_timeout_ns` processes send heartbeats, and notice who is silent for so long; then there is always
    something left to do, so `run` wants to know for how long.
    """

    def __init__(self, seed: int = 1, peer_timeout_ns: int = 0) -> None:
        super().__init__(seed)
        self.peer_timeout_ns = peer_timeout_ns
        self.processes: dict[str, VirtualWorld] = {}
        self.disk = MemoryDisk()
        self.logs: list[tuple[str, str, str, dict[str, Any]]] = []
        self.listen: list[Callable[[Log], None]] = []
        self.lives: list[tuple[str, str, str]] = []
        self.stand_ins: StandIns = {}
        self._numbers: dict[str, int] = {}
        self._paused: dict[str, list[Callable[[], None]]] = {}  # what happened to a process meanwhile

    def add(self, process: str, incarnation: int = 1) -> Kernel:
        """A new process, known to all others. Add its nodes, then call `start`."""
        number = self._numbers.setdefault(process, len(self._numbers) + 1)
        world = VirtualWorld(self, process, incarnation)
        world.kernel = Kernel(
            world,
            process=process,
            number=number,
            incarnation=incarnation,
            run="virtual",
            peer_timeout_ns=self.peer_timeout_ns,
        )
        world.kernel.observer = lambda node, state, because: self.lives.append((node, state, because))
        self.processes[process] = world
        return world.kernel

    def start(self) -> None:
        """Push the book to all and start their nodes."""
        self.publish()
        for world in self.processes.values():
            if world.up:
                world.kernel.life.start()

    def publish(self) -> None:
        """Push the book to all. Clients (`@...`) get it, and are not in it."""
        members = {process: world for process, world in self.processes.items() if not process.startswith("@")}
        nodes = {name: process for process, world in members.items() for name in world.kernel.cells}
        entries = {process: Entry(world.incarnation, world.up) for process, world in members.items()}
        for process, world in self.processes.items():
            if world.up:
                self._happen(process, partial(world.kernel.neighbours.on_book, nodes, entries))

    def kill(self, process: str) -> None:
        """End a process between two events, as `kill -9` does. Its disk stays."""
        self.processes[process].up = False
        self._paused.pop(process, None)
        self.publish()

    def restart(self, process: str) -> Kernel:
        """The next incarnation of a process; add its nodes again, then call `start`."""
        incarnation = self.processes.pop(process).incarnation + 1
        return self.add(process, incarnation)

    def pause(self, process: str) -> None:
        """Let a process run nothing, as SIGSTOP does: others only see that it says nothing."""
        self._paused[process] = []

    def resume(self, process: str) -> None:
        """Let it go on, as SIGCONT does: what came for it meanwhile comes now, in the same order."""
        for event in self._paused.pop(process):
            event()

    def outside(self, process: str) -> Outside:
        """A door into a process for a test: it asks and tells as an actor would."""
        kernel = self.processes[process].kernel
        kernel.life.spawn(Outside, f"outside-{len(kernel.cells)}")
        actor = next(reversed(kernel.cells.values())).actor
        assert isinstance(actor, Outside)
        return actor

    def push_for(self, process: str, at_ns: int, event: Callable[[], None]) -> None:
        """The same for what a process notices: while it is paused, it does not."""
        self.push(at_ns, self._happen, process, event)

    def _happen(self, process: str, event: Callable[[], None]) -> None:
        missed = self._paused.get(process)
        if missed is None:
            event()
        else:
            missed.append(event)

    def run(
        self,
        seconds: float | None = None,
        until: Callable[[], object] | None = None,
        events_max: int = 10_000_000,
    ) -> None:
        """Run until nothing is left to do, `seconds` have passed, or `until` is true."""
        end_ns = None if seconds is None else self.now_ns + int(seconds * 1e9)
        while (at_ns := self.next_ns()) is not None and not (until is not None and until()):
            if end_ns is not None and at_ns > end_ns:
                break
            self.step()
            assert self.events < events_max, "the system does not come to rest"
        if end_ns is not None and not (until is not None and until()):
            self.now_ns = max(self.now_ns, end_ns)

    def result(self, wait: Any) -> Any:
        """Run until what an `Outside` asked for is there; return it, or raise the failure."""
        assert isinstance(wait, Wait)
        wait.notify = wait.notify or (lambda _wait: None)
        self.run(until=lambda: wait.done)
        assert wait.done, "nothing is left to do, and there is no answer"
        if wait.error is not None:
            raise wait.error
        return wait.value


class Outside(Actor):
    """A test's own actor: it has no handlers, and asks and tells from outside."""

    def to(self, name: str) -> Ref[Any]:
        """A ref to any actor."""
        ref: Ref[Any] = self._cell.kernel.ref(name)
        return ref

    def say(self, name: str, message: Message[Any]) -> None:
        """Tell an actor by name."""
        self.tell(self.to(name), message)


class VirtualWorld:
    """One process's view of the virtual world: it answers `zactor.world.World`."""

    def __init__(self, virtual: Virtual, process: str, incarnation: int) -> None:
        self.virtual = virtual
        self.process = process
        self.incarnation = incarnation
        self.up = True
        self.kernel: Kernel
        self._alarm = 0
        self._cancelled: set[int] = set()

    def now_ns(self) -> int:
        return self.virtual.now_ns

    def wall_ns(self) -> int:
        return WALL_NS + self.virtual.now_ns

    def random(self, purpose: str) -> random.Random:
        return self.virtual.stream(f"{self.process}#{self.incarnation}/{purpose}")

    def wake(self) -> None:
        self._push(self.virtual.now_ns + TURN_NS, self._run)

    def _push(self, at_ns: int, event: Callable[[], None]) -> None:
        self.virtual.push_for(self.process, at_ns, event)

    def _run(self) -> None:
        if self.up and self.kernel.fatal is None and self.kernel.run():
            self.wake()

    def alarm(self, at_ns: int) -> None:
        self._alarm += 1
        self._push(at_ns, partial(self.ring, self._alarm))

    def ring(self, number: int) -> None:
        """An alarm has come, which may not be the latest one."""
        if not self.up or self.kernel.fatal is not None:
            return
        if number == self._alarm and not self.kernel.armed:
            self._run()
        elif number == self._alarm:
            self._push(self.virtual.now_ns + TURN_NS, partial(self.ring, number))

    def send(self, process: str, lane: int, frame: bytes, blobs: list[bytes]) -> bool:
        route = Route.parse(process)
        target = self.virtual.processes.get(process if route is None else route.process)
        if target is None or not target.up:
            return True  # nobody takes it, as with a socket whose peer is gone
        # An answer, and all that a client gets, comes back by the connection that the other opened.
        token = "" if route is not None or process[:1] == "@" else "virtual"
        source = str(Route(self.process, self.incarnation, lane, token))

        def arrive() -> None:
            if target.up and self.virtual.processes.get(target.process) is target:
                target.kernel.receive(source, frame, blobs)

        self.virtual.push_for(target.process, self.virtual.now_ns + LATENCY_NS, arrive)
        return True

    def disconnect(self, process: str) -> None:
        pass  # what was on its way arrives, and is of an old session

    def begin(self, token: int, operation: Operation) -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            if isinstance(operation, Call | InThread):
                value, error = stand_in(operation, self.virtual.stand_ins)
            else:
                value = self.virtual.disk.perform(operation)
        except Exception as problem:
            error = problem

        def complete() -> None:
            if self.up and token not in self._cancelled:
                self.kernel.complete(token, value, error)
            self._cancelled.discard(token)

        span_ns = SYNC_NS if type(operation).__name__.startswith("Sync") else DISK_NS
        self._push(self.virtual.now_ns + span_ns, complete)

    def cancel(self, token: int) -> None:
        self._cancelled.add(token)

    def log(self, level: str, node: str, event: str, fields: dict[str, Any]) -> None:
        self.virtual.logs.append((level, node, event, fields))
        for listen in self.virtual.listen:
            listen((self.virtual.now_ns, level, node or self.process, event, fields))
