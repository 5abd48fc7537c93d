"""The simulated world: the processes of a topology on one heap of events, with everything that can go wrong.

A `Simulation` is the ground: heap, trace, network, disks, launcher. A `ProcessWorld` is what one incarnation of a
process sees of it, and answers `zactor.world.World`. It runs the same kernel and the same actors as the live world.

What comes for a process while it is paused waits; what comes for one that has ended is lost. After each pass the
process is busy for `turn_ns`, and what arrives meanwhile is handled together.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from zactor.cell import NOTHING, Cell, Mail
from zactor.kernel import Kernel
from zactor.neighbours import Entry
from zactor.sim.clock import Clock
from zactor.sim.disk import Machine
from zactor.sim.escapes import StandIns, stand_in
from zactor.sim.heap import Chance, Heap
from zactor.sim.network import Network
from zactor.sim.trace import BOOK, DISK, PASS, TIMER, Trace
from zactor.world import Append, Call, InThread, Operation, Sync, SyncFolder, Write

INLINE_BYTES = 64 << 10
"""A write up to this size happens at once, as in the live world; all else in its turn."""

Log = tuple[int, str, str, str, dict[str, Any]]
"""When (true time), level, node, event, fields."""


class Knobs(msgspec.Struct, frozen=True, kw_only=True):
    """What differs from seed to seed and is no fault. All in nanoseconds."""

    latency_ns: int = 100_000
    jitter_ns: int = 50_000
    turn_ns: int = 5_000
    disk_ns: int = 20_000
    sync_ns: int = 500_000
    boot_ns: int = 200_000_000


class Simulation(Heap):
    """All processes of one seed. `listen` hears of each log event; `after` is called after each pass of a process."""

    def __init__(self, seed: int, knobs: Knobs, peer_timeout_ns: int) -> None:
        super().__init__(seed)
        self.knobs = knobs
        self.peer_timeout_ns = peer_timeout_ns
        self.trace = Trace()
        self.acted: Counter[str] = Counter()
        self.processes: dict[str, ProcessWorld] = {}
        self.machines: dict[str, Machine] = {}
        self.clocks: dict[str, Clock] = {}
        self.network = Network(self, knobs.latency_ns, knobs.jitter_ns, self.acted)
        self.listen: list[Callable[[Log], None]] = []
        self.after: Callable[[ProcessWorld], None] | None = None
        self.observe: Callable[[ProcessWorld, str, str, str], None] = lambda _world, _node, _state, _because: None
        self.stand_ins: StandIns = {}
        self.inputs_before = 0  # of incarnations that have ended
        self._kernels: list[Kernel] = []

    def boot(self, process: str, number: int, incarnation: int) -> ProcessWorld:
        """A new incarnation of a process. Its disk and its clock are those of the one before."""
        if process not in self.machines:
            self.machines[process] = Machine(Chance(self.stream(f"disk/{process}")), self.acted)
            self.clocks[process] = Clock(acted=self.acted)
        world = ProcessWorld(self, process, number, incarnation)
        self.processes[process] = world
        self._kernels.append(world.kernel)
        return world

    def close(self) -> None:
        """Nothing follows: let go of all mail. Python's collector does not look into it, so nothing else would."""
        for world in self.processes.values():
            world.up = False
        for kernel in self._kernels:
            for cell in kernel.cells.values():
                _end_tasks(cell)
        self.heap.clear()
        for kernel in self._kernels:
            kernel.current = kernel._last = NOTHING
            kernel.waits.timers.clear()
            kernel.pending.clear()
            kernel.serving.clear()
            for cell in kernel.cells.values():
                cell.empty()
            for peer in kernel.neighbours.peers.values():
                for lane in peer.lanes:
                    lane.waiters.clear()

    def end(self, world: ProcessWorld) -> None:
        """A process ends between two events. Its disk keeps what was written."""
        world.up = False
        world.missed = None
        self.inputs_before += world.inputs()
        self.network.died(world)

    def run_until(self, end_ns: int, enough: Callable[[], bool] | None = None) -> None:
        """Let happen what happens until then, or until `enough` (looked at now and then) is true."""
        heap, pop = self.heap, heapq.heappop
        count = 0
        while heap:
            entry = pop(heap)
            at_ns, _, event, values = entry
            if at_ns > end_ns:
                heapq.heappush(heap, entry)
                break
            if at_ns > self.now_ns:
                self.now_ns = at_ns
            event(*values)
            count += 1
            if not count & 63:
                self.trace.digest()
                if enough is not None and enough():
                    end_ns = self.now_ns
                    break
        self.now_ns = max(self.now_ns, end_ns)
        self.events += count

    def forget(self, is_meant: Callable[[Callable[..., object], tuple[Any, ...]], bool]) -> None:
        """Take events back that were to come."""
        self.heap[:] = [entry for entry in self.heap if not is_meant(entry[2], entry[3])]
        heapq.heapify(self.heap)

    def inputs(self) -> int:
        """What actors were given: messages, timers, answers, and completions of operations."""
        return self.inputs_before + sum(world.inputs() for world in self.processes.values() if world.up)


class ProcessWorld:
    """One incarnation of a process."""

    def __init__(self, sim: Simulation, process: str, number: int, incarnation: int) -> None:
        self.sim = sim
        self.process = process
        self.number = number
        self.incarnation = incarnation
        self.up = True
        self.missed: list[tuple[Callable[..., object], tuple[Any, ...]]] | None = None  # while it is paused
        self.paused_ns = 0  # since when
        self.directions: dict[str, Any] = {}  # to other processes; see `network`
        self.incarnations: dict[str, int] = {}  # of those that can be reached, as its book says
        self.started = False
        self._machine = sim.machines[process]
        self._clock = sim.clocks[process]
        self._trace = sim.trace
        self._add = sim.trace.add
        self._turn_ns = sim.knobs.turn_ns
        self._written_ns: dict[str, int] = {}  # when the last write that happened at once ends, by folder
        self.strike: Callable[[], None] | None = None  # to come during the next sync
        self._busy_ns = 0
        self._alarm = self._alarm_ns = 0
        self._cancelled: set[int] = set()
        self.send = partial(sim.network.send, self)
        self._queues: dict[str, deque[tuple[int, Operation]]] = {}  # of each folder: what is done one after another
        self.kernel = Kernel(
            self,
            process=process,
            number=number,
            incarnation=incarnation,
            run="sim",
            key="sim",
            peer_timeout_ns=sim.peer_timeout_ns,
        )
        self.kernel.observer = self._observed
        self._push = self.kernel.push
        self.kernel.push = self._pushed  # type: ignore[method-assign]
        self.kernel.mail = self._told  # type: ignore[assignment]

    def _pushed(self, cell: Cell, mail: Mail) -> None:
        """Mail within the process: no frame brings it, so it is hashed here."""
        if not mail.size:
            self._trace.mail(self.sim.now_ns, self.number, mail.id, mail.message)
        self._push(cell, mail)

    def _told(self, message: Any, number: int, *rest: Any) -> Mail:
        """The same, for what takes the short way of `tell`."""
        self._trace.mail(self.sim.now_ns, self.number, number, message)
        return Mail(message, number, *rest)

    def inputs(self) -> int:
        """What its actors were given so far."""
        return sum(cell.handled for cell in self.kernel.cells.values())

    def _observed(self, node: str, state: str, because: str) -> None:
        if self.up:
            self.sim.observe(self, node, state, because)

    # --- what happens to it
    def pause(self) -> None:
        """Run nothing, as on SIGSTOP."""
        if self.missed is None:
            self.missed = []
            self.paused_ns = self.sim.now_ns

    def resume(self) -> None:
        """Go on: what came meanwhile comes now, in its order."""
        missed, self.missed = self.missed or [], None
        if missed:
            self.sim.acted["pause"] += 1
        for event, values in missed:
            event(*values)

    def _is_away(self, event: Callable[..., object], *values: Any) -> bool:
        """Whether it cannot take an event now; while it is paused, the event waits."""
        if self.missed is not None and self.up:
            self.missed.append((event, values))
            return True
        return not self.up

    def take(self, source: str, frame: bytes, blobs: Sequence[bytes]) -> None:
        """A frame arrives."""
        if self.missed is not None or not self.up:
            self._is_away(self.take, source, frame, blobs)
            return
        kernel, now_ns = self.kernel, self.sim.now_ns
        self._add((now_ns, self.number, frame))
        if blobs:
            self._add(blobs)
        if kernel.armed:
            kernel.receive(source, frame, blobs)
            return
        kernel.armed = True
        kernel.receive(source, frame, blobs)
        if now_ns >= self._busy_ns:
            self._pass(now_ns)
        else:
            self.sim.push(self._busy_ns, self.run)

    def lost_source(self, source: str) -> None:
        """A connection by which frames came has ended."""
        if not self._is_away(self.lost_source, source):
            self.kernel.disconnected(source, "its connection has ended")

    def use_book(self, nodes: dict[str, str], entries: dict[str, Entry]) -> None:
        """The launcher's book: connections to incarnations that are gone end, and the first one starts the nodes."""
        if self._is_away(self.use_book, nodes, entries):
            return
        known = {process: entry.incarnation for process, entry in entries.items() if entry.reachable}
        self._trace.value(self.sim.now_ns, self.number, BOOK, known)
        for process in [*self.directions]:
            if process[:1] != "@" and known.get(process) != self.incarnations.get(process):
                self.sim.network.disconnect(self, process)
        self.incarnations = known
        self.kernel.neighbours.on_book(nodes, entries)
        if not self.started:
            self.started = True
            self.kernel.life.start()

    def run(self) -> None:
        """A pass of the kernel."""
        if self.missed is None and self.up:
            self._pass(self.sim.now_ns)
        else:
            self._is_away(self.run)

    def _pass(self, now_ns: int) -> None:
        kernel = self.kernel
        more = kernel.run()
        self._add((now_ns, self.number, PASS, kernel.sequence))
        self._busy_ns = now_ns + self._turn_ns
        if more and self.up:
            self.sim.push(self._busy_ns, self.run)
        after = self.sim.after
        if after is not None:
            after(self)

    # --- what its kernel asks
    def now_ns(self) -> int:
        clock = self._clock
        return self.sim.now_ns if clock.is_true else clock.local_ns(self.sim.now_ns)

    def wall_ns(self) -> int:
        return self._clock.wall_ns(self.sim.now_ns)

    def random(self, purpose: str) -> random.Random:
        return self.sim.stream(f"{self.process}#{self.incarnation}/{purpose}")

    def wake(self) -> None:
        self.sim.push(max(self._busy_ns, self.sim.now_ns + 1), self.run)

    def alarm(self, at_ns: int) -> None:
        self._alarm = number = self._alarm + 1
        self._alarm_ns = at_ns
        self.sim.push(max(self._clock.true_ns(at_ns), self._busy_ns), self._ring, number)

    def _ring(self, number: int) -> None:
        if number != self._alarm or self._is_away(self._ring, number) or self.kernel.armed:
            return
        if self.now_ns() < self._alarm_ns:  # the clock has become slower since it was set
            self.alarm(self._alarm_ns)
            return
        now_ns = self.sim.now_ns
        self._add((now_ns, self.number, TIMER, number))
        self._pass(now_ns)

    def disconnect(self, process: str) -> None:
        self.sim.network.disconnect(self, process)

    def begin(self, token: int, operation: Operation) -> None:
        if not self.up:
            return
        machine, sim = self._machine, self.sim
        if isinstance(operation, Call | InThread):
            sim.push(sim.now_ns + sim.knobs.disk_ns, self._complete, token, *stand_in(operation, sim.stand_ins))
            return
        self._trace.value(sim.now_ns, self.number, DISK, operation)
        queue = self._queues.setdefault(operation.folder, deque())
        if not queue and isinstance(operation, Sync):
            self._sync(token, operation)
            return
        if not queue and isinstance(operation, Append | Write) and len(operation.data) <= INLINE_BYTES:
            # Its folder's operations are done in their order, and end in it.
            at_ns = max(sim.now_ns + machine.span_ns(sim.knobs.disk_ns), self._written_ns.get(operation.folder, 0))
            self._written_ns[operation.folder] = at_ns
            sim.push(at_ns, self._complete, token, *machine.attempt(operation))
            return
        queue.append((token, operation))
        if len(queue) == 1:
            self._start_next(operation)

    def _sync(self, token: int, operation: Any) -> None:
        span_ns = self._machine.span_ns(self.sim.knobs.sync_ns)
        self._struck(span_ns)
        self.sim.push(self.sim.now_ns + span_ns, self._finish_sync, token, operation, self._machine.mark(operation))

    def _struck(self, span_ns: int) -> None:
        """An end that waited for a sync comes at any moment of it, or not long after."""
        strike, self.strike = self.strike, None
        if strike is not None:
            self.sim.push(self.sim.now_ns + self._machine.chance.below(3 * span_ns // 2), strike)

    def _start_next(self, operation: Any) -> None:
        knobs, mark = self.sim.knobs, None
        span_ns = knobs.disk_ns
        if isinstance(operation, SyncFolder):
            span_ns, mark = knobs.sync_ns, self._machine.mark(operation)
            self._struck(span_ns)
        at_ns = max(self.sim.now_ns + self._machine.span_ns(span_ns), self._written_ns.get(operation.folder, 0))
        self.sim.push(at_ns, self._finish_next, operation.folder, mark)

    def _finish_next(self, folder: str, mark: Any) -> None:
        if self._is_away(self._finish_next, folder, mark):
            return
        queue = self._queues[folder]
        token, operation = queue.popleft()
        if mark is None:
            done = self._machine.attempt(operation)
        while queue and isinstance(queue[0][1], Sync):  # it begins in its turn, and nobody waits for its end
            self._sync(*queue.popleft())
        if queue:
            self._start_next(queue[0][1])
        if mark is not None:
            self._finish_sync(token, operation, mark)
        else:
            self._complete(token, *done)

    def _finish_sync(self, token: int, operation: Operation, mark: Any) -> None:
        if not self._is_away(self._finish_sync, token, operation, mark):
            self._complete(token, None, self._machine.settle(operation, mark))

    def _complete(self, token: int, value: Any, error: BaseException | None) -> None:
        if self._is_away(self._complete, token, value, error):
            return
        self._trace.value(self.sim.now_ns, self.number, DISK, (token, value, str(error) if error else None))
        if token in self._cancelled:
            self._cancelled.discard(token)
        else:
            self.kernel.complete(token, value, error)

    def cancel(self, token: int) -> None:
        self._cancelled.add(token)

    def log(self, level: str, node: str, event: str, fields: dict[str, Any]) -> None:
        if not self.up:
            return
        sim = self.sim
        self._trace.log(sim.now_ns, self.number, event, node, fields)
        for listen in sim.listen:
            listen((sim.now_ns, level, node or self.process, event, fields))


def _end_tasks(cell: Cell) -> None:
    """A suspended handler knows its task, and that the mail that it handles."""
    for task in cell.tasks or ():
        task.mail = NOTHING
        with suppress(Exception):  # of a `finally` that raises, or awaits: nobody is there any more
            task.coroutine.close()
