"""The launcher of a simulated topology: it starts processes, starts them again by the same policy, and keeps the book.

It is told of an end as a launcher is, a moment later, and asks `zactor.supervision` what follows. What it pushes
reaches processes by pipes of their own, which no partition touches; clients read the book from its file now and then.
"""

from __future__ import annotations

from collections.abc import Callable

from zactor.errors import ZactorError
from zactor.kernel import Kernel
from zactor.neighbours import Entry
from zactor.sim.heap import MILLISECOND_NS, Chance
from zactor.sim.world import ProcessWorld, Simulation
from zactor.supervision import Restarts, Supervision
from zactor.topology.instances import add_instance
from zactor.topology.model import Process, Topology

CLIENT_LOOK_NS = 100 * MILLISECOND_NS
"""How often a client looks at the book."""

Fill = Callable[[Kernel, Process], None]
"""Gives a kernel that is new the nodes of its process."""


def fill(kernel: Kernel, process: Process) -> None:
    """The nodes of a topology, by the names of their kinds."""
    for instance in process.instances:
        add_instance(kernel.life, instance)


class ProcessEnded(ZactorError):
    """A process came to an end that nobody wanted."""


class Member:
    """A process over all its incarnations."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.incarnation = 0
        self.world: ProcessWorld | None = None
        self.bound = False
        self.gone: str | None = None
        self.restarts = Restarts()
        self.ready: set[str] = set()  # its nodes that are, in this incarnation

    def policy(self) -> Supervision:
        """What happens when it ends: as in the live launcher, the first policy that one of its nodes has."""
        policies = [each.restart for each in self.process.instances if each.restart is not None]
        return policies[0].supervision() if policies else Supervision()


class Launcher:
    """The processes of a topology in one simulation. `fill` gives each incarnation its nodes."""

    def __init__(self, sim: Simulation, topology: Topology | None = None, fill: Fill = fill) -> None:
        self._sim = sim
        self._fill = fill
        self._held: dict[str, bool] = {}  # processes that stay away, and whether it is time for the next incarnation
        self._chance = Chance(sim.stream("launcher"))
        self._policy_stream = sim.stream("supervision")
        self.members = {process.name: Member(process) for process in topology.processes} if topology else {}
        self._pushed_ns: dict[str, int] = {}
        self._published = False
        sim.observe = self._observed

    def start(self) -> None:
        """Start all; the nodes start when all processes have bound."""
        for member in self.members.values():
            self._boot(member)

    def add(self, process: Process) -> None:
        """Start one more."""
        member = self.members[process.name] = Member(process)
        self._boot(member)

    def hold(self, process: str) -> None:
        """Let no next incarnation of a process come before `let`."""
        self._held.setdefault(process, False)

    def let(self, process: str) -> None:
        """Take a `hold` back: what waited for that comes."""
        if self._held.pop(process, False):
            self._boot(self.members[process])

    def all_ready(self) -> bool:
        """Whether every node is ready."""
        return not self.missing()

    def missing(self) -> list[str]:
        """The nodes that are not ready, with the reason if their process is gone for good."""
        return [
            f"{instance.name} ({member.gone})" if member.gone else instance.name
            for member in self.members.values()
            for instance in member.process.instances
            if instance.name not in member.ready
        ]

    def _boot(self, member: Member) -> None:
        if member.process.name in self._held:
            self._held[member.process.name] = True
            return
        member.incarnation += 1
        member.bound = False
        span_ns = self._sim.knobs.boot_ns
        self._sim.push(self._sim.now_ns + span_ns + self._chance.below(span_ns + 1), self._bind, member)

    def _bind(self, member: Member) -> None:
        world = self._sim.boot(member.process.name, member.process.number, member.incarnation)
        member.world, member.bound = world, True
        self._fill(world.kernel, member.process)
        if self._published or all(each.bound for each in self.members.values()):
            self.publish()

    def kill(self, world: ProcessWorld, because: str) -> None:
        """End a process at once. The launcher notices a moment later."""
        member = self.members[world.process]
        self._sim.end(world)
        member.ready = set()
        member.world = None
        self._sim.push(self._sim.now_ns + MILLISECOND_NS, self._over, member, because)

    def _observed(self, world: ProcessWorld, node: str, state: str, because: str) -> None:
        member = self.members.get(world.process)
        if member is None:
            return
        if state == "ready":
            member.ready.add(node)
        else:
            member.ready.discard(node)
        if state == "failed":
            self._sim.push(self._sim.now_ns, self._fail, world, because)

    def _fail(self, world: ProcessWorld, because: str) -> None:
        if world.up:
            self.kill(world, because)

    def _over(self, member: Member, because: str) -> None:
        now_ns = self._sim.now_ns
        decision = member.restarts.decide(member.policy(), ProcessEnded(because), now_ns, self._policy_stream)
        if decision.directive == "restart":
            self._sim.push(now_ns + decision.delay_ns, self._boot, member)
        else:
            member.gone = f"{because}; {decision.because}"
        self.publish()

    def publish(self) -> None:
        """Push the book to everybody."""
        self._published = True
        nodes = {each.name: name for name, member in self.members.items() for each in member.process.instances}
        entries = {
            name: Entry(member.incarnation, member.world is not None, member.gone)
            for name, member in self.members.items()
            if member.incarnation
        }
        for process, world in self._sim.processes.items():
            if world.up:
                most_ns = CLIENT_LOOK_NS if process[:1] == "@" else MILLISECOND_NS
                at_ns = self._sim.now_ns + self._chance.between(1, most_ns)
                self._pushed_ns[process] = at_ns = max(at_ns, self._pushed_ns.get(process, 0))
                self._sim.push(at_ns, world.use_book, nodes, entries)
