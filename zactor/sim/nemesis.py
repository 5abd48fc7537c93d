"""What goes wrong, and when: a schedule of faults, done to a simulation, and taken back at the end.

A budget spares what the system could not survive by its own promises: a process that the launcher's policy would give
up for good after one more end, and the durable data of more nodes than the trial allows. What was spared is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from zactor.sim.launcher import Launcher
from zactor.sim.trace import FAULT
from zactor.sim.world import ProcessWorld, Simulation
from zactor.topology.trials import DAMAGE, Fault

ENDINGS = frozenset({"kill", "power", "blink", "fail_sync"})


class Nemesis:
    """Does faults to a simulation. `did` hears of each, with whether it was spared.

    `damaged`: processes whose durable data is not what it should be.
    """

    def __init__(self, sim: Simulation, launcher: Launcher, damage: int | Mapping[str, int] | None) -> None:
        self._sim = sim
        self._launcher = launcher
        self._damage = damage
        self.damaged: set[str] = set()
        self.faults: Counter[str] = Counter()
        self.spared: Counter[str] = Counter()
        self.did: Callable[[Fault, str], None] = lambda _fault, _what: None

    def schedule(self, faults: Sequence[Fault]) -> None:
        """Do them at their times, counted from now."""
        for fault in faults:
            self._sim.push(self._sim.now_ns + fault.at_ns, self._do, fault)

    def heal(self) -> None:
        """Take all back, and do no more."""
        sim = self._sim
        sim.forget(lambda event, _values: getattr(event, "__self__", None) is self)
        sim.network.heal()
        for machine in sim.machines.values():
            machine.failing_syncs = machine.misdirected_reads = 0
            machine.slowness = 1
            machine.limit(None)
        for world in sim.processes.values():
            if world.missed is not None:
                world.resume()

    def processes(self, names: Sequence[str]) -> list[str]:
        """The processes that names of nodes, instances, clients or `*` mean, each once."""
        members = self._launcher.members
        homes = {each.name: name for name, member in members.items() for each in member.process.instances}
        found: dict[str, None] = {}
        for name in names:
            if name == "*":
                found |= dict.fromkeys([*members, *filter(_is_client, self._sim.processes)])
            elif _is_client(name):
                found[name] = None
            else:
                meant = (home for node, home in homes.items() if node == name or node.startswith(f"{name}/"))
                found |= dict.fromkeys(meant)
        return list(found)

    def _do(self, fault: Fault) -> None:
        kind, sim = fault.do, self._sim
        names = self.processes(fault.nodes)
        sim.trace.value(sim.now_ns, 0, FAULT, str(fault))
        if fault.others:
            done = bool(self._shake(fault, self._pairs(fault, names)))
        else:
            done = [name for name in names if not _is_client(name) and self._hit(fault, name)] != []
        if done:
            self.faults[kind] += 1
        self.did(fault, "done" if done else "spared")

    def _pairs(self, fault: Fault, names: list[str]) -> list[tuple[str, str]]:
        others = self.processes(fault.others)
        if "*" in fault.nodes:  # all others than those of the other side
            names = [name for name in names if name not in others]
        others = [name for name in others if name not in names]
        pairs = [(name, other) for name in names for other in others]
        return pairs if fault.one_way else pairs + [(other, name) for name, other in pairs]

    # --- to processes, their disks and their clocks
    def _hit(self, fault: Fault, process: str) -> bool:
        """Do it to one process. Returns whether anything was done."""
        world = self._launcher.members[process].world
        if fault.do in ENDINGS and not self._may_end(process, fault.times):
            self.spared[fault.do] += 1
            return False
        if fault.do in DAMAGE and not self._may_damage(process):
            self.spared[fault.do] += 1
            return False
        if fault.do in ("kill", "power", "blink", "pause") and world is None:
            return False
        return self._act(fault, process, world)

    def _may_end(self, process: str, times: int) -> bool:
        member = self._launcher.members[process]
        times += self._sim.machines[process].failing_syncs
        return member.restarts.leaves_room(member.policy(), self._sim.now_ns, times)

    def _may_damage(self, process: str) -> bool:
        damaged = self.damaged | {process}
        bounds = self._damage
        if isinstance(bounds, Mapping):
            nodes = Counter(node for name in damaged for node in self._nodes_in(name))
            too_many = any(count > bounds.get(node, 0) for node, count in nodes.items())
        else:
            too_many = bounds is not None and len(damaged) > bounds
        if too_many:
            return False
        self.damaged = damaged
        return True

    def _nodes_in(self, process: str) -> dict[str, None]:
        return dict.fromkeys(each.node for each in self._launcher.members[process].process.instances)

    def _act(self, fault: Fault, process: str, world: ProcessWorld | None) -> bool:
        sim = self._sim
        machine, clock = sim.machines[process], sim.clocks[process]
        match fault.do:
            case "kill" | "power" | "blink":
                assert world is not None
                if fault.writing:
                    world.strike = partial(self._strike, fault, process, world)
                else:
                    self._strike(fault, process, world)
            case "pause":
                assert world is not None
                world.pause()
                self._sim.push(self._sim.now_ns + self._sim.peer_timeout_ns, self._silenced, world, world.paused_ns)
                self._later(fault, self._resume, world)
            case "slow_disk":
                machine.slowness = 10 * fault.times
                self._later(fault, self._set, machine, "slowness", 1)
            case "full_disk":
                machine.limit(0)
                self._later(fault, machine.limit, None)
            case "fail_sync":
                machine.failing_syncs += fault.times
            case "misdirect":
                machine.misdirected_reads += fault.times
            case "rot":
                return [machine.rot() for _ in range(fault.times)] != [None] * fault.times
            case "step":
                clock.offset_ns += fault.by_ns
            case "drift":
                clock.drift(sim.now_ns, 1000 * fault.ppm)
        return True

    def _strike(self, fault: Fault, process: str, world: ProcessWorld) -> None:
        if not world.up or not self._may_end(process, 1):
            return
        self._launcher.kill(world, f"nemesis: {fault.do}")
        self._sim.acted[fault.do] += 1
        if fault.do != "kill":
            self._sim.machines[process].lose_power()

    def _later(self, fault: Fault, event: Callable[..., object], *values: object) -> None:
        self._sim.push(self._sim.now_ns + fault.for_ns, self._undo, event, values)

    def _undo(self, event: Callable[..., object], values: tuple[object, ...]) -> None:
        event(*values)

    def _silenced(self, world: ProcessWorld, since_ns: int) -> None:
        if world.up and world.missed is not None and world.paused_ns == since_ns:
            self._sim.network.silenced(world.process)

    def _resume(self, world: ProcessWorld) -> None:
        if world.up and world.missed is not None:
            world.resume()

    def _set(self, target: object, name: str, value: object) -> None:
        setattr(target, name, value)

    # --- to the ways between them
    def _shake(self, fault: Fault, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Do it to the ways from each to each. Returns those to which something was done."""
        network = self._sim.network
        if fault.do == "cut":
            pairs = [pair for pair in pairs if network.cut(*pair)]
            self._sim.acted["cut"] += len(pairs)
            return pairs
        for source, target in pairs:
            way = network.way(source, target)
            match fault.do:
                case "partition":
                    network.shut(source, target)
                    self._later(fault, network.open, source, target)
                    continue
                case "refuse":
                    way.refused = tuple(kind.encode() for kind in fault.messages)
                    self._later(fault, self._restore, way, "refused", ())
                case "slow":
                    way.extra_ns = fault.by_ns
                    self._later(fault, self._restore, way, "extra_ns", 0)
                case "lose" | "double" | "reorder":
                    name = f"{fault.do}s"
                    setattr(way, name, fault.rate)
                    if fault.do == "lose":
                        self._later(fault, network.lose_no_more, source, target)
                    else:
                        self._later(fault, self._restore, way, name, 0)
            way.judge()
        return pairs

    def _restore(self, way: object, name: str, value: object) -> None:
        setattr(way, name, value)
        way.judge()  # type: ignore[attr-defined]


def _is_client(name: str) -> bool:
    return name[:1] == "@"
