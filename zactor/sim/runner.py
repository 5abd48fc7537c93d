"""One seed from its beginning to its verdict.

The topology comes up; clients begin; faults come for a while, during which nothing wrong may be seen (safety). Then
all is healed, and every client must get on within a stated time (liveness). What they saw is judged last.
"""

from __future__ import annotations

import gc
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from zactor import registry
from zactor.actor import Actor, describe
from zactor.errors import UserError
from zactor.judges.invariants import Invariant, broken, invariant_named
from zactor.judges.judge import judge_named, model_named
from zactor.judges.verdict import lines
from zactor.kernel import Kernel
from zactor.message import CLIENT_NUMBER
from zactor.sim import swarm
from zactor.sim.escapes import guarded
from zactor.sim.heap import SECOND_NS, Chance
from zactor.sim.launcher import Launcher, fill
from zactor.sim.nemesis import Nemesis
from zactor.sim.seen import Seen
from zactor.sim.world import Knobs, Log, ProcessWorld, Simulation
from zactor.topology.model import Instance, Process, Topology
from zactor.topology.placement import with_replicas
from zactor.topology.trials import FAULTS, Fault, Trial
from zactor.workload import Workload

Word = Literal["ok", "violation", "unknown", "stuck", "idle"]

READY_NS = 60 * SECOND_NS
STEP_NS = SECOND_NS // 10

ENOUGH_S = 20
ENOUGH_OPERATIONS = 200
ENOUGH_CLASSES = 3
"""What a seed needs to count. One that was drawn goes on under faults until it does."""

LONGEST = 4
"""For so many times the usual span faults are drawn: a seed that does not count by then is idle."""

INPUTS_MAX = 200_000
"""Inputs of actors in a tenth of a second of simulated time: more is a storm, in which nothing else gets on."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides a run besides the code: so it can be written down, changed, and run again.

    Faults come for `for_ns`; those behind it only until the run counts.
    """

    seed: int
    knobs: Knobs
    clients: tuple[int, ...]
    replicas: dict[str, int]
    faults: tuple[Fault, ...]
    for_ns: int


class Result(msgspec.Struct, kw_only=True):
    """What became of a seed."""

    seed: int
    verdict: Word
    because: str = ""
    rule: str = ""  # the judge or the invariant that says so
    trace: str = ""
    events: int = 0
    operations: int = 0
    in_flight: int = 0
    simulated_s: float = 0.0
    faults: dict[str, int] = {}
    acted: dict[str, int] = {}
    marks: dict[str, int] = {}


def plan_of(topology: Topology, seed: int) -> Plan:
    """What a seed draws for a topology. A `nemesis` of the topology's own takes the place of the drawn faults."""
    trial = trial_of(topology)
    ground = Simulation(seed, Knobs(), 0)
    chance = Chance(ground.stream("swarm"))
    clients = chance.between(max(2, trial.clients - 1), trial.clients + 2)
    replicas = {name: chance.between(*bounds) for name, bounds in trial.replicas.items()}
    topology = with_replicas(topology, replicas)
    nodes = [instance.name for process in topology.processes for instance in process.instances]
    names = [f"@client-{number}" for number in range(clients)]
    kinds = [kind for kind in FAULTS if kind not in ("refuse",) and (kind not in ("rot",) or trial.damage != 0)]
    faults = topology.nemesis or swarm.draw_faults(
        ground.stream("faults"), nodes, names, trial.for_ns, kinds, (LONGEST - 1) * trial.for_ns
    )
    return Plan(
        seed=seed,
        knobs=swarm.draw_knobs(ground.stream("knobs")),
        clients=tuple(range(clients)),
        replicas=replicas,
        faults=faults,
        for_ns=trial.for_ns,
    )


def trial_of(topology: Topology) -> Trial:
    """What a topology says of its trials. Raises `UserError` when it says nothing."""
    if topology.sim is None:
        raise UserError(
            f"{topology.file}: there is nothing to run: write sim: {{workload: KIND, judges: [NAME]}} into it"
        )
    return topology.sim


def check(topology: Topology) -> None:
    """Raise `UserError` for what would make every seed useless: judges, models and links that there are not."""
    trial = trial_of(topology)
    kind = workload_kind(topology)
    links_of(kind, topology)
    try:
        model_named(kind.model, Path(topology.folder))
    except UserError as problem:
        raise UserError(f"{topology.file}: sim.workload: {trial.workload}: model: {problem}") from None
    try:
        invariants = invariants_of(topology, trial.judges)
        invariants_of(topology, trial.settles)
        for name in trial.judges:
            if name not in invariants:
                judge_named(name)
    except UserError as problem:
        raise UserError(f"{topology.file}: sim.judges: {problem}") from None


Booted = Callable[[Kernel, Sequence[Instance]], None]
"""Hears of each incarnation of a process, also of a client's, and what runs in it; nothing has happened in it yet."""


def run(
    topology: Topology, plan: Plan, listen: Callable[[Log], None] | None = None, booted: Booted | None = None
) -> Result:
    """Run a plan."""
    whole = _Run(with_replicas(topology, plan.replicas), plan, listen, booted)  # kinds are imported before the guard
    enabled = gc.isenabled()
    gc.disable()  # a Later that dies in a cycle is noticed whenever the collector comes by: no two runs alike
    try:
        with guarded() as escapes:
            return whole.run(escapes)
    finally:
        whole.close()
        del whole  # the collector comes by at once
        if enabled:
            gc.enable()


class _Over(Exception):
    """The verdict is known before the end."""

    def __init__(self, verdict: Word, because: str, rule: str = "") -> None:
        super().__init__(because)
        self.verdict: Word = verdict
        self.because = because
        self.rule = rule


class _Run:
    def __init__(
        self,
        topology: Topology,
        plan: Plan,
        listen: Callable[[Log], None] | None,
        booted: Booted | None,
    ) -> None:
        self._topology = topology
        self._plan = plan
        self._trial = trial_of(topology)
        self._sim = sim = Simulation(plan.seed, plan.knobs, topology.peer_timeout_ns)
        self._booted = booted
        self._launcher = Launcher(sim, topology, self._fill)
        self._nemesis = Nemesis(sim, self._launcher, self._trial.damage)
        self._nemesis.did = self._did
        self._seen = Seen(lambda: sim.now_ns, workload_kind(topology).model, self._accuse)
        self._in_flight = 0
        self._invariants = invariants_of(topology, self._trial.judges)
        self._settles = invariants_of(topology, self._trial.settles)
        if self._invariants:
            sim.after = self._look
        self._wrong: _Over | None = None
        sim.listen.append(lambda log: self._seen.hear(*log[1:]))
        if listen is not None:
            sim.listen.append(listen)
        self._listener = listen
        self._escapes: list[str] = []
        self._clients = [client_of(topology, number) for number in plan.clients]
        self._marks: Counter[str] = Counter(dict.fromkeys(self._trial.sometimes, 0))
        if self._marks:
            sim.listen.append(self._mark)

    def close(self) -> None:
        """Let go of everything."""
        self._sim.close()

    # --- the course of a run
    def run(self, escapes: list[str]) -> Result:
        self._escapes = escapes
        try:
            self._course()
            over = _Over("ok", "")
        except _Over as end:
            over = end
        return self._result(over)

    def _course(self) -> None:
        trial = self._trial
        self._launcher.start()
        self._go_on(READY_NS, self._launcher.all_ready)
        if not self._launcher.all_ready():
            raise _Over("stuck", f"not ready after {READY_NS // SECOND_NS} s: {', '.join(self._launcher.missing())}")
        names = [self._add_client(client) for client in self._clients]
        self._launcher.publish()
        self._nemesis.schedule(self._plan.faults)
        self._go_on(self._plan.for_ns)
        if self._plan.for_ns >= ENOUGH_S * SECOND_NS:
            last_ns = max((fault.at_ns for fault in self._plan.faults), default=0)
            self._go_on(last_ns - self._plan.for_ns, lambda: not self._idle())
        self._nemesis.heal()
        self._seen.healed()
        self._go_on(trial.heal_ns, lambda: not self._seen.late(names))
        late = self._seen.late(names)
        if late:
            raise _Over("stuck", self._stuck(late), "progress")
        self._settle(names)
        self._judge()

    def _settle(self, clients: Sequence[str]) -> None:
        """Without its clients the system comes to rest, and is then as it should be."""
        if not self._settles:
            return
        for name in clients:
            self._sim.end(self._sim.processes[name])
        self._go_on(self._trial.heal_ns, lambda: broken(self._settles, self._actors()) is None)
        found = broken(self._settles, self._actors())
        if found is not None:
            span_s = self._trial.heal_ns // SECOND_NS
            raise _Over("violation", f"{span_s} s after the last client had gone: {found[1]}", found[0])

    def _fill(self, kernel: Kernel, process: Process) -> None:
        fill(kernel, process)
        if self._booted is not None:
            self._booted(kernel, process.instances)

    def _add_client(self, client: Instance) -> str:
        """A client, in a process of its own that the topology does not know."""
        world = self._sim.boot(client.name, CLIENT_NUMBER, client.settings["number"] + 1)
        self._fill(world.kernel, Process(client.name, CLIENT_NUMBER, "ipc", (client,)))
        return client.name

    def _go_on(self, span_ns: int, enough: Callable[[], bool] | None = None) -> None:
        """Let time pass, a tenth of a second after the other, until something is wrong or there is enough."""
        sim = self._sim
        end_ns = sim.now_ns + span_ns
        while sim.now_ns < end_ns and not (enough is not None and enough()):
            before = sim.inputs()
            try:
                sim.run_until(min(end_ns, sim.now_ns + STEP_NS), lambda: sim.inputs() - before > INPUTS_MAX)  # noqa: B023
            except UserError:
                raise
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                text = f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
                raise _Over("violation", f"zactor itself failed: {text}", "kernel") from error
            if self._escapes:
                raise _Over("violation", self._escapes[0], "escape")
            if self._wrong is not None:
                raise self._wrong
            if sim.inputs() - before > INPUTS_MAX:
                raise _Over("stuck", f"more than {INPUTS_MAX} events in 0.1 s; busiest: {self._busiest()}", "storm")

    def _stuck(self, late: list[str]) -> str:
        span_s = self._trial.heal_ns // SECOND_NS
        missing = self._launcher.missing()
        not_ready = f"; not ready: {', '.join(missing)}" if missing else ""
        return f"{span_s} s after the healing {', '.join(late)} did not get on{not_ready}; busiest: {self._busiest()}"

    def _busiest(self) -> str:
        cells = [cell for world in self._sim.processes.values() if world.up for cell in world.kernel.cells.values()]
        cells.sort(key=lambda cell: (-cell.handled, cell.name))
        return ", ".join(f"{cell.name} ({cell.handled})" for cell in cells[:3])

    # --- what is seen
    def _look(self, world: ProcessWorld) -> None:
        """After each pass: do the invariants hold?"""
        if world.process[:1] != "@" and self._wrong is None:
            found = broken(self._invariants, self._actors(without=self._nemesis.damaged))
            if found is not None:
                self._accuse(found[1], found[0])

    def _actors(self, without: Collection[str] = ()) -> dict[str, Actor]:
        """The actors that are ready, by their names. What rotted keeps no promise `without` a copy of it."""
        return {
            name: cell.actor
            for world in self._sim.processes.values()
            if world.up and world.process[:1] != "@" and world.process not in without
            for name, cell in world.kernel.cells.items()
            if cell.state == "ready" and cell.actor is not None
        }

    def _accuse(self, because: str, rule: str) -> None:
        if self._wrong is None:
            self._wrong = _Over("violation", because, rule)

    def _did(self, fault: Fault, what: str) -> None:
        if what == "done":
            self._in_flight += self._seen.in_flight
        if self._listener is not None:
            self._listener((self._sim.now_ns, "info", "nemesis", fault.do, {"what": what, "fault": str(fault)}))

    def _mark(self, log: Log) -> None:
        event = log[3]
        if event in self._marks:
            self._marks[event] += 1

    # --- the verdict
    def _judge(self) -> None:
        judges = [name for name in self._trial.judges if name not in self._invariants]
        found = self._seen.judge(judges, Path(self._topology.folder))
        if found is not None:
            name, verdict = found
            raise _Over(verdict.word, "\n".join(lines(verdict)), name)

    def _result(self, over: _Over) -> Result:
        sim = self._sim
        finished = self._seen.finished()
        acted = {name: count for name, count in sorted(sim.acted.items()) if count}
        faults = dict(sorted(self._nemesis.faults.items()))
        verdict, because = over.verdict, over.because
        if verdict == "ok":
            idle = self._idle()
            if idle:
                verdict, because = "idle", idle
        return Result(
            seed=self._plan.seed,
            verdict=verdict,
            because=because,
            rule=over.rule,
            trace=sim.trace.hexdigest(),
            events=sim.inputs(),
            operations=finished,
            in_flight=self._in_flight,
            simulated_s=(sim.now_ns - SECOND_NS) / SECOND_NS,
            faults=faults,
            acted=acted,
            marks=dict(self._marks),
        )

    def _idle(self) -> str:
        """Why the seed does not count."""
        finished, acted = self._seen.finished(), classes(self._sim.acted)
        if self._plan.for_ns < ENOUGH_S * SECOND_NS:
            return f"{self._plan.for_ns / SECOND_NS:g} s of faults; a seed counts from {ENOUGH_S} s on"
        if finished < ENOUGH_OPERATIONS:
            return f"{finished} operations were finished; a seed counts from {ENOUGH_OPERATIONS} on"
        if len(acted) < ENOUGH_CLASSES:
            return f"{len(acted)} classes of faults acted; a seed counts from {ENOUGH_CLASSES} on"
        return "" if self._in_flight else "no operation was in flight while a fault acted"


def classes(acted: Mapping[str, int]) -> list[str]:
    """The classes of faults that acted. Besides them it is counted what a power failure took."""
    return sorted(name for name, count in acted.items() if count and name in FAULTS)


def workload_kind(topology: Topology) -> type[Workload]:
    """The class of a topology's workload. Raises `UserError`."""
    name = trial_of(topology).workload
    kind = registry.find(name, Path(topology.folder))
    if not issubclass(kind, Workload):
        raise UserError(f"sim.workload: {name} is a kind of nodes; expected one that is a zactor.workload.Workload")
    return kind


def client_of(topology: Topology, number: int) -> Instance:
    """A client that runs a topology's workload, as if the topology named it. Raises `UserError`."""
    trial, kind = trial_of(topology), workload_kind(topology)
    return Instance(
        name=f"@client-{number}",
        node="@client",
        kind=trial.workload,
        folder=topology.folder,
        settings=trial.settings | {"number": number},
        links=links_of(kind, topology),
        restart=None,
    )


def invariants_of(topology: Topology, names: Sequence[str]) -> dict[str, Invariant]:
    """The invariants among the names of judges of a topology. Raises `UserError`."""
    known = registry.invariants()
    found = [name for name in names if name in known or ".py:" in name]
    return {name: invariant_named(name, Path(topology.folder)) for name in found}


def links_of(kind: type[Actor], topology: Topology) -> dict[str, tuple[str, ...]]:
    """The links of a workload: to the nodes that handle all that it sends by them. Raises `UserError`."""
    found: dict[str, tuple[str, ...]] = {}
    for role, link in describe(kind).links.items():
        wanted = set(link.messages)
        names = [
            instance.name
            for process in topology.processes
            for instance in process.instances
            if wanted <= set(describe(registry.find(instance.kind, Path(instance.folder))).messages.values())
        ]
        if not names and not link.optional:
            sent = ", ".join(message.__name__ for message in link.messages)
            raise UserError(f"sim.workload: nothing in this topology handles {sent}, which {kind.__name__} sends")
        if names:
            found[role] = tuple(names)
    return found
