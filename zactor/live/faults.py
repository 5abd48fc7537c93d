"""What is done to a process on purpose, from inside: peers on one computer talk by ways that nothing outside can cut.

A process that is cut off from others hears nothing of them and they nothing of it, as in a network that loses
everything: no connection ends, so both sides find out by silence alone. When it is over, what was lost stays lost:
connections by which something was to come or go begin anew, so that no loss goes unnoticed for ever.

While no fault is on, nothing of this is on the way of a frame, a sync or a look at the clock.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from zactor.units import format_duration
from zactor.wire import Route

if TYPE_CHECKING:
    from zactor.live.world import LiveWorld

Kind = Literal["cut", "slow", "skew", "pause"]


class ProcessFault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is done to a process until the launcher takes it back; `number` is the launcher's.

    `cut`: nothing goes `out` to the processes `others`, or comes `into` this one from them; with `all_but` it is all
    processes and clients but those. `slow`: each sync ends `by_ns` later. `skew`: the wall clock is ahead `by_ns`.
    `pause` is for the launcher alone: it stands still.
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
        if self.do == "slow":
            return f"slowed by {format_duration(self.by_ns)} a sync"
        if self.do == "skew":
            return f"skewed by {'-' * (self.by_ns < 0)}{format_duration(abs(self.by_ns))}"
        way = "cut off from" if self.out and self.into else "sends nothing to" if self.out else "hears nothing of"
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
        for process in [each for each in self._losers if not (self._holds(each, out=True) or self._holds(each))]:
            del self._losers[process]
            neighbours.mend(process, f"what went to and fro was lost while {self._world.kernel.process} was cut off")

    def _install(self) -> None:
        """Stand in the way of what has a fault on it, and of nothing else."""
        world, sockets = self._world, self._world.sockets
        kernel = world.kernel
        is_cut = any(fault.do == "cut" for fault in self._on)
        world.transmit = self._send if is_cut else sockets.send
        sockets.receive = self._receive if is_cut else kernel.receive
        sockets.disconnected = self._disconnected if is_cut else kernel.disconnected
        if world.disk is not None:
            world.disk.late_s = self._by_ns("slow") / 1e9
        ahead_ns = self._by_ns("skew")
        world.wall_ns = (lambda: time.time_ns() + ahead_ns) if ahead_ns else time.time_ns

    def _holds(self, process: str, *, out: bool = False) -> bool:
        """Whether nothing goes to a process now, or else nothing comes from it."""
        return any(
            fault.do == "cut" and (fault.out if out else fault.into) and fault.concerns(process) for fault in self._on
        )

    def _by_ns(self, kind: Kind) -> int:
        return sum(fault.by_ns for fault in self._on if fault.do == kind)

    # --- what the sockets are asked, and what they tell
    def _send(self, to: str, lane: int, frame: bytes, blobs: list[bytes]) -> bool | None:
        process = _process_of(to)
        if not self._holds(process, out=True):
            return self._world.sockets.send(to, lane, frame, blobs)
        self._losers[process] = None
        return True

    def _receive(self, source: str, frame: bytes, blobs: Sequence[bytes]) -> bool:
        process = _process_of(source)
        if not self._holds(process):
            return self._world.kernel.receive(source, frame, blobs)
        self._losers[process] = None
        return True

    def _disconnected(self, source: str, because: str) -> None:
        process = _process_of(source)
        if not self._holds(process):
            self._world.kernel.disconnected(source, because)
        else:
            self._losers[process] = None  # the end of a connection does not get through either


def _process_of(name: str) -> str:
    """The process of a source, or one that is named itself."""
    route = Route.parse(name)
    return name if route is None else route.process
