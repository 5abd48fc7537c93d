"""What is done to a process on purpose, from inside: peers on one computer talk by ways that nothing outside can cut.

A process that is cut off from others hears nothing of them and they nothing of it, as in a network that loses
everything: no connection ends, so both sides find out by silence alone. When it is over, what was lost stays lost:
connections by which something was to come or go begin anew, so that no loss goes unnoticed for ever. What is slowed is
late, whole and in its order.

While no fault is on, nothing of this is on the way of a frame, a sync or a look at the clock.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import msgspec

from zactor.live.sockets import RETRY_S
from zactor.units import format_duration
from zactor.wire import Route

if TYPE_CHECKING:
    from zactor.live.world import LiveWorld

Kind = Literal["cut", "slow", "slow_disk", "skew", "pause"]


Way = tuple[str, bool]
"""A process or client, and whether it goes there or comes from there."""


class ProcessFault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is done to a process until the launcher takes it back; `number` is the launcher's.

    `cut`: nothing goes `out` to the processes `others`, or comes `into` this one from them; with `all_but` it is all
    processes and clients but those. `slow`: that comes `by_ns` late. `slow_disk`: each sync ends `by_ns` later.
    `skew`: the wall clock is ahead `by_ns`. `pause` is for the launcher alone: it stands still.
    """

    number: int
    do: Kind
    others: tuple[str, ...] = ()
    all_but: bool = False
    out: bool = True
    into: bool = True
    by_ns: int = 0

    def __str__(self) -> str:
        if self.do == "pause":
            return "paused"
        by = f"{'-' * (self.by_ns < 0)}{format_duration(abs(self.by_ns))}"
        if self.do == "slow_disk":
            return f"slowed by {by} a sync"
        if self.do == "skew":
            return f"skewed by {by}"
        ways = ("cut off from", "sends nothing to", "hears nothing of")
        if self.do == "slow":
            ways = (f"slowed by {by} to and from", f"slowed by {by} to", f"slowed by {by} from")
        way = ways[0] if self.out and self.into else ways[1] if self.out else ways[2]
        return f"{way} {'all others' if self.all_but else ', '.join(self.others)}"

    def concerns(self, process: str) -> bool:
        """Whether it is between this process and that one."""
        return (process in self.others) != self.all_but


class Faults:
    """The faults that are on in one process."""

    def __init__(self, world: LiveWorld) -> None:
        self._world = world
        self._on: tuple[ProcessFault, ...] = ()
        self._losers: dict[str, None] = {}  # processes and clients with whom something was lost
        self._late: dict[Way, deque[Callable[[], object]]] = {}

    def use(self, faults: tuple[ProcessFault, ...], because: str) -> None:
        """Have these on from here on, and no others."""
        for fault in self._on:
            if fault not in faults:
                self._world.log("warning", "", "fault_ended", {"fault": str(fault), "because": because})
        for fault in faults:
            if fault not in self._on:
                self._world.log("warning", "", "fault_begun", {"fault": str(fault), "because": because})
        self._on = faults
        self._install()
        neighbours = self._world.kernel.neighbours
        cut_off = [each for each in self._losers if any(self._between("cut", each, out=out) for out in (True, False))]
        for process in [each for each in self._losers if each not in cut_off]:
            del self._losers[process]
            neighbours.mend(process, f"what went to and fro was lost while {self._world.kernel.process} was cut off")

    def _install(self) -> None:
        """Stand in the way of what has a fault on it, and of nothing else."""
        world, sockets = self._world, self._world.sockets
        kernel = world.kernel
        between = bool(self._late) or any(fault.do in ("cut", "slow") for fault in self._on)
        world.transmit = self._send if between else sockets.send
        sockets.receive = self._receive if between else kernel.receive
        sockets.disconnected = self._disconnected if between else kernel.disconnected
        if world.disk is not None:
            world.disk.late_s = self._by_ns("slow_disk") / 1e9
        ahead_ns = self._by_ns("skew")
        world.wall_ns = (lambda: time.time_ns() + ahead_ns) if ahead_ns else time.time_ns

    def _by_ns(self, kind: Kind) -> int:
        return sum(fault.by_ns for fault in self._on if fault.do == kind)

    def _between(self, kind: Kind, process: str, *, out: bool) -> list[ProcessFault]:
        """What of a kind is on between here and a process, in one direction."""
        return [
            fault
            for fault in self._on
            if fault.do == kind and (fault.out if out else fault.into) and fault.concerns(process)
        ]

    # --- what the sockets are asked, and what they tell
    def _send(self, to: str, lane: int, frame: bytes, blobs: list[bytes]) -> bool | None:
        send = partial(self._world.sockets.send, to, lane, frame, blobs)
        return True if self._held(_process_of(to), send, out=True) else send()

    def _receive(self, source: str, frame: bytes, blobs: Sequence[bytes]) -> bool:
        receive = partial(self._world.kernel.receive, source, frame, blobs)
        return self._held(_process_of(source), receive, out=False) or receive()

    def _disconnected(self, source: str, because: str) -> None:
        """The end of a connection gets through no better than what it has brought."""
        disconnected = partial(self._world.kernel.disconnected, source, because)
        if not self._held(_process_of(source), disconnected, out=False):
            disconnected()

    def _held(self, process: str, deed: Callable[[], object], *, out: bool) -> bool:
        """Whether something does not get through now: it is lost, or done later."""
        if self._between("cut", process, out=out):
            self._losers[process] = None
            return True
        late_ns = sum(fault.by_ns for fault in self._between("slow", process, out=out))
        way = (process, out)
        if not (late_ns or way in self._late):
            return False
        waiting = self._late.setdefault(way, deque())
        waiting.append(deed)
        self._world.loop.call_later(late_ns / 1e9, self._do, way, waiting)
        return True

    def _do(self, way: Way, waiting: deque[Callable[[], object]]) -> None:
        """It is time for one of those that wait: for the first, whichever it was meant for."""
        if self._late.get(way) is not waiting:
            return  # they were forgotten
        if waiting[0]() is False and way[1]:
            self._world.loop.call_later(RETRY_S, self._do, way, waiting)  # there is no room for it yet
            return
        waiting.popleft()
        if not waiting:
            del self._late[way]
            self._install()

    def forget(self, process: str) -> None:
        """Its connection ends here: what was to go by it goes nowhere."""
        self._late.pop((process, True), None)

    def close(self) -> None:
        """Nothing is done any more."""
        self._late.clear()


def _process_of(name: str) -> str:
    """The process of a source, or one that is named itself."""
    route = Route.parse(name)
    return name if route is None else route.process
