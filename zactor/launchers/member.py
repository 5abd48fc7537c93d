"""One process of a run over all its incarnations, and its nodes, as the launcher knows them.

A node is **wanted** unless somebody stopped it: a process that is started again comes with its wanted nodes alone.
"""

from __future__ import annotations

import asyncio

import msgspec

from zactor.launchers.local import Handle
from zactor.live.faults import ProcessFault
from zactor.supervision import Restarts, Supervision
from zactor.topology.model import Instance, Process


class Outcome(msgspec.Struct):
    """What became of nodes that were to be started, stopped, killed or tried, each with a word or the reason.

    `late` says that something failed because the time was up.
    """

    done: dict[str, str] = {}
    failed: dict[str, str] = {}
    late: bool = False


class NodeState(msgspec.Struct):
    """A node: what it is, how it fares, and whether it is meant to run."""

    instance: Instance
    state: str = "stopped"
    because: str = ""
    wanted: bool = True

    @property
    def runs(self) -> bool:
        """Whether it is meant to run and has not stopped."""
        return self.wanted and self.state != "stopped"


class Member:
    """A process: its present incarnation, if there is one, and why not otherwise."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.nodes = {instance.name: NodeState(instance) for instance in process.instances}
        self.incarnation = 0
        self.handle: Handle | None = None
        self.endpoint: str | None = None
        self.gone: str | None = None  # why it does not come back
        self.because: str | None = None  # what it said last before its end
        self.ending: str | None = None  # it was told to stop, for this reason
        self.returns = False  # it was told to stop, and comes back
        self.proven = False  # all its nodes were ready since somebody started it
        self.restarts = Restarts()
        self.timer: asyncio.TimerHandle | None = None  # of its next incarnation
        self.launching: asyncio.Task[None] | None = None
        self.faults: dict[int, ProcessFault] = {}  # that are on, by their numbers
        self.told = self.did = 0  # the numbers of what it was told of them last, and of what it has done

    def policy(self) -> Supervision:
        """What happens when it ends: its process restarts as a whole, by the first policy that it has."""
        restarts = [node.instance.restart for node in self.nodes.values() if node.instance.restart is not None]
        return restarts[0].supervision() if restarts else Supervision()

    def wanted(self) -> tuple[Instance, ...]:
        """The nodes that its next incarnation runs."""
        return tuple(node.instance for node in self.nodes.values() if node.wanted)

    def inside(self) -> tuple[ProcessFault, ...]:
        """The faults that its next incarnation would have, too."""
        return tuple(fault for fault in self.faults.values() if fault.do != "pause")

    def at_rest(self) -> bool:
        """Whether it is neither being started nor about to end: it can be told something."""
        ends = self.handle is not None and all(node.state == "stopped" for node in self.nodes.values())
        return self.launching is None and self.ending is None and not ends

    def can_start(self, name: str) -> bool:
        """Whether a node has stopped and its process, if there is one, would hear that it is to start."""
        return self.nodes[name].state == "stopped" and self.at_rest()

    def has_come_up(self, name: str) -> bool:
        """Whether a node is ready, or will not be."""
        return self.nodes[name].state == "ready" or self.failure(name) is not None

    def has_stopped(self, name: str) -> bool:
        """Whether a node has stopped, and its process too if it was told to."""
        return self.nodes[name].state == "stopped" and self.ending is None

    def failure(self, name: str) -> str | None:
        """Why a node does not come up any more, or None. When its process is about to end, that end will tell."""
        node = self.nodes[name]
        if self.gone is not None:
            return self.gone
        return node.because if node.state == "stopped" and self.handle is not None and self.at_rest() else None

    def stopped(self) -> dict[str, str]:
        """The nodes that somebody stopped, and those that ended for good while their process goes on."""
        return {
            name: node.because
            for name, node in self.nodes.items()
            if node.state == "stopped" and (not node.wanted or self.handle is not None)
        }

    def install(self, process: Process) -> None:
        """Have other nodes from now on; those that it had keep their state."""
        self.process = process
        known = self.nodes
        self.nodes = {each.name: known.get(each.name) or NodeState(each) for each in process.instances}
        for instance in process.instances:
            self.nodes[instance.name].instance = instance

    def begin(self) -> None:
        """Another incarnation begins."""
        self.timer = None
        self.incarnation += 1
        self.gone = self.because = None
        for node in self.nodes.values():
            if node.wanted:
                node.state, node.because = "created", ""

    def life(self, name: str, state: str, because: str) -> None:
        """A node said how it fares."""
        node = self.nodes[name]
        node.state = state
        if state in ("restarting", "stopped"):
            self.because = because
            if node.wanted:  # or else it is known why
                node.because = because
        elif state == "ready":
            self.because = None
            self.proven = self.proven or all(each.state == "ready" for each in self.nodes.values() if each.wanted)

    def end(self, because: str) -> None:
        """Its incarnation has ended."""
        self.handle = self.endpoint = self.ending = self.because = None
        self.faults = {fault.number: fault for fault in self.inside()}
        self.did = self.told  # the next one is started with them
        for node in self.nodes.values():
            if node.state != "stopped":
                node.state = "stopped"
                node.because = because if node.wanted else node.because
