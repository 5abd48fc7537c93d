"""A stage: actors in virtual time, and a test that acts from outside and decides when time passes.

Nothing happens between two calls of a test. Each actor that is added has a process of its own unless it says
otherwise, so whatever it sends passes the real codec; it begins with the first call that lets time pass, and mail
for it waits until it is ready.
"""

from __future__ import annotations

import gc
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from zactor.actor import Actor, describe
from zactor.cell import Cell
from zactor.kernel import Kernel
from zactor.message import Message, Ref
from zactor.registry import did_you_mean
from zactor.sim import swarm
from zactor.sim.escapes import SimulationEscape, StandIns, guarded
from zactor.sim.heap import SECOND_NS, Heap
from zactor.sim.launcher import Launcher, fill
from zactor.sim.world import Knobs, Simulation
from zactor.testing.grounds import Ground, SimulatedGround, VirtualGround
from zactor.testing.probe import Answer, Listener, Probe, name_of
from zactor.testing.story import Story
from zactor.topology.model import PEER_TIMEOUT_NS, Instance, Process
from zactor.topology.read import load
from zactor.topology.trials import FAULTS, Fault

A = TypeVar("A")

PATIENCE_S = 60.0
"""Of virtual time, for a world to come to rest; that it passes is a failure."""

STORM_INPUTS = 1_000_000
STORM_NS = SECOND_NS // 10
"""So many messages in so little time are a storm, in which nothing else gets on."""

LOOK_MASK = 63
"""After so many events and one more it is looked whether this is a storm."""

OUTSIDE = "@test"
"""The name of the test, as actors see it."""

FOR_EVER_NS = 1 << 60
"""A fault without an end is taken back by `heal`."""


class Stage:
    """Actors, probes, and what a test does with them. `seed` is None where nothing is drawn."""

    seed: int | None = None

    def __init__(self, ground: Callable[[Stage, Story], Ground]) -> None:
        self._story = Story()
        self._kinds: dict[str, tuple[type[Actor], dict[str, Any], dict[str, Any]]] = {}
        self._waiting: dict[str, list[Instance]] = {}
        self._processes: list[Process] = []
        self._is_running = False
        self._escapes: list[str] = []
        self._ground = ground(self, self._story)
        self._outside = self.client(OUTSIDE)

    @property
    def stand_ins(self) -> StandIns:
        """What runs in place of the coroutines that actors `call`: plain functions of the same values."""
        return self._ground.stand_ins

    @property
    def now_ns(self) -> int:
        """The true time."""
        return self._ground.heap.now_ns

    # --- who is there
    def add(self, name: str, kind: type[Actor], *, process: str = "", **given: Any) -> Ref[Any]:
        """An actor with these settings and links; a link takes names, refs or probes.

        It runs in a process of its own name, or in the one that is named. Raises TypeError for what its class does
        not have, and ValueError for a name that is taken.
        """
        about = describe(kind)
        known = about.settings.keys() | about.links.keys()
        for word in given.keys() - known:
            raise TypeError(f"{kind.__name__} has no setting or link {word!r}.{did_you_mean(word, known)}")
        links = {role: _names(given.pop(role)) for role in about.links.keys() & given.keys()}
        self._kinds[name] = (kind, given, links)
        self._place(Instance(name, name, f"{kind.__module__}:{kind.__qualname__}", "", {}, {}, None), process or name)
        return Ref(name)

    def add_topology(self, file: Path | str) -> None:
        """All nodes of a topology's file, in its processes. Raises `UserError` for what is wrong with it."""
        for process in load(Path(file)).processes:
            for instance in process.instances:
                self._place(instance, process.name)

    def probe(self, name: str = "probe") -> Probe:
        """A probe, which links can lead to."""
        self.add(name, Listener)
        return Probe(self, name, lambda: self._cell(name))

    def client(self, name: str) -> Probe:
        """A probe outside, as a program is that joins a run: no link leads to it, and `*` of a fault means it, too."""
        if name[:1] != "@":
            raise ValueError(f"the name of a client begins with @: @{name}")
        kernel = self._ground.client(name)
        kernel.tap = self._story
        kernel.life.spawn(Listener, name)
        return Probe(self, name, lambda: kernel.cells[name])

    def _place(self, instance: Instance, process: str) -> None:
        placed = [each.name for every in self._processes for each in every.instances]
        placed += [each.name for every in self._waiting.values() for each in every]
        if instance.name in placed:
            raise ValueError(f"there is an actor {instance.name!r} already")
        if process in (each.name for each in self._processes):
            raise ValueError(f"process {process!r} runs already: add its actors before time passes")
        self._waiting.setdefault(process, []).append(instance)

    def begin(self) -> None:
        """Let what was added come up. Whatever lets time pass does that first."""
        __tracebackhide__ = True
        if not self._waiting:
            return
        first = len(self._processes) + 1
        waiting, self._waiting = self._waiting, {}
        added = [
            Process(name, number, "ipc", tuple(instances))
            for number, (name, instances) in enumerate(waiting.items(), first)
        ]
        self._processes += added
        names = {process.name for process in added}
        self._go_on(PATIENCE_S, partial(self._ground.begun, names), lambda: self._ground.begin(added))
        if not self._ground.begun(names):
            raise AssertionError(f"{', '.join(sorted(names))} did not come up in {PATIENCE_S:g} s")

    def fill(self, kernel: Kernel, process: Process) -> None:
        """Give a new kernel the actors of its process."""
        kernel.tap = self._story
        for instance in process.instances:
            if instance.name in self._kinds:
                kernel.life.add(instance.name, *self._kinds[instance.name])
            else:
                fill(kernel, msgspec.structs.replace(process, instances=(instance,)))

    # --- what the test does from outside
    def ask(self, target: Any, message: Message[A], timeout_s: float = 5.0) -> A:
        """Ask an actor, and let time pass until the answer is there. Raises the `Failure` that an asker gets."""
        __tracebackhide__ = True
        return self._outside.ask(target, message, timeout_s)

    def start_ask(self, target: Any, message: Message[A], timeout_s: float = 5.0) -> Answer[A]:
        """Ask, and go on: `result()` of the answer lets time pass."""
        return self._outside.start_ask(target, message, timeout_s)

    def tell(self, target: Any, message: Message[Any]) -> None:
        """Tell an actor; it is handled when time passes."""
        self._outside.tell(target, message)

    # --- time
    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let so many seconds pass, or fewer if `until` becomes true."""
        __tracebackhide__ = True
        self.begin()
        self._go_on(seconds, until)

    def until(self, condition: Callable[[], bool], within: float | None = PATIENCE_S, what: str = "") -> None:
        """Let time pass until the condition is true. Raises `AssertionError` after `within` seconds (None: no end)."""
        __tracebackhide__ = True
        self.begin()
        self._go_on(within, condition)
        if not condition():
            span = "nothing is left to do" if within is None else f"{within:g} s have passed"
            raise AssertionError(f"{what or 'the condition is not true'}: {span}")

    def settle(self, within: float = PATIENCE_S) -> None:
        """Let happen what has begun: messages, answers, disks, restarts. Timers, sleeps and deadlines are not awaited.

        Raises `AssertionError` when there is no rest in so many seconds.
        """
        __tracebackhide__ = True
        self.begin()
        self._go_on(within, self._is_settled)
        if not self._is_settled():
            raise AssertionError(f"no rest in {within:g} s; busiest: {self._busiest()}")

    def _is_settled(self) -> bool:
        return self._ground.heap.every(self._ground.is_timer) and not self._is_linking()

    def _is_linking(self) -> bool:
        """Whether a node has not begun though all that it links to can be greeted: the next HELLO waits for a timer."""
        kernels = self._ground.kernels()
        return any(
            cell.state == "created"
            and all(to in kernels and self._ground.can_talk(process, to) for to in cell.unlinked or ())
            for process, kernel in kernels.items()
            for cell in kernel.cells.values()
        )

    def _go_on(
        self, span_s: float | None, enough: Callable[[], bool], first: Callable[[], None] = lambda: None
    ) -> None:
        __tracebackhide__ = True
        heap = self._ground.heap
        end_ns = None if span_s is None else heap.now_ns + int(span_s * SECOND_NS)
        storm = self._storm()
        with self._running():
            first()
            while not enough():
                at_ns = heap.next_ns()
                if at_ns is None or (end_ns is not None and at_ns > end_ns):
                    heap.now_ns = max(heap.now_ns, end_ns or 0)
                    break
                heap.step()
                if not heap.events & LOOK_MASK and storm():
                    span = f"{STORM_NS / SECOND_NS:g} s"
                    raise AssertionError(f"a storm: {STORM_INPUTS} messages in {span}; busiest: {self._busiest()}")
        if self._escapes:
            raise SimulationEscape(self._escapes[0])

    def _storm(self) -> Callable[[], bool]:
        """A look at whether actors handle more and more, and time does not pass."""
        since_ns, before = self.now_ns, self._handled()

        def look() -> bool:
            nonlocal since_ns, before
            if self.now_ns - since_ns > STORM_NS:
                since_ns, before = self.now_ns, self._handled()
            return self._handled() - before > STORM_INPUTS

        return look

    def _handled(self) -> int:
        return sum(cell.handled for kernel in self._ground.kernels().values() for cell in kernel.cells.values())

    @contextmanager
    def _running(self) -> Iterator[None]:
        """While the world runs, nobody may reach past it, and the collector drops nothing of its own accord."""
        enabled = gc.isenabled()
        gc.disable()
        self._is_running = True
        try:
            yield
        finally:
            self._is_running = False
            if enabled:
                gc.enable()

    # --- what the test may know
    def actor(self, name: Any) -> Any:
        """The object behind a name, to look at. Raises ValueError for one that is not there."""
        self.begin()
        return self._cell(name_of(name)).actor

    def kernel(self, process: str) -> Kernel:
        """The kernel of a process that is up. Raises ValueError for one that is not."""
        self.begin()
        kernels = self._ground.kernels()
        if process not in kernels:
            raise ValueError(f"no process {process!r} is up.{did_you_mean(process, kernels)}")
        return kernels[process]

    def logged(self, event: str, node: Any = None) -> list[dict[str, Any]]:
        """The fields of all log events of that name, in their order; of one node, if it is named."""
        name = None if node is None else name_of(node)
        return [fields for _, _, who, what, fields in self._story.logs if what == event and name in (None, who)]

    def story(self) -> str:
        """The last of what happened, a line an event."""
        return self._story.text()

    def _cell(self, name: str) -> Cell:
        cells = {name: cell for kernel in self._ground.kernels().values() for name, cell in kernel.cells.items()}
        if name not in cells:
            raise ValueError(f"there is no actor {name!r} now.{did_you_mean(name, cells)}")
        return cells[name]

    def _busiest(self) -> str:
        cells = [cell for kernel in self._ground.kernels().values() for cell in kernel.cells.values()]
        cells.sort(key=lambda cell: (-cell.handled, cell.name))
        return ", ".join(f"{cell.name} ({cell.handled})" for cell in cells[:3])

    # --- as a context
    def guard(self) -> AbstractContextManager[list[str]]:
        """What keeps actors from reaching past their door. There is nothing here that a clock could spoil."""
        return nullcontext(self._escapes)

    def __enter__(self) -> Self:
        self._guard = self.guard()
        self._escapes = self._guard.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        self._guard.__exit__(kind, error, place)
        if error is not None:  # for who uses it without the fixture, beside which a failure is shown
            error.add_note(f"what happened:\n{self.story()}")


def in_virtual_time() -> Stage:
    """A stage without faults; every run of it is the same."""
    return Stage(lambda stage, story: VirtualGround(stage.fill, story.heard))


class Simulated(Stage):
    """A stage where everything can go wrong. Latency, disks, start-up and `rng` differ from seed to seed.

    Faults are done to processes, which are meant by their own names and by those of their nodes. Those that have
    no end last until `heal`. `knobs` fixes what is no fault, such as latency.
    """

    _ground: SimulatedGround

    def __init__(
        self, seed: int, peer_timeout_s: float = PEER_TIMEOUT_NS / SECOND_NS, knobs: Knobs | None = None
    ) -> None:
        self.seed = seed
        knobs = knobs or swarm.draw_knobs(Heap(seed).stream("knobs"))
        timeout_ns = int(peer_timeout_s * SECOND_NS)
        super().__init__(
            lambda stage, story: SimulatedGround(Simulation(seed, knobs, timeout_ns), stage.fill, story.heard)
        )
        self._ground.nemesis.did = self._did
        self._rng = self._ground.heap.stream("test")

    @property
    def rng(self) -> random.Random:
        """The test's own stream of chance."""
        return self._rng

    @property
    def sim(self) -> Simulation:
        """The simulated world itself."""
        return self._ground.sim

    @property
    def launcher(self) -> Launcher:
        """Who starts its processes, and starts them again."""
        return self._ground.launcher

    @property
    def faults(self) -> Counter[str]:
        """How often each kind of fault was done so far."""
        return self._ground.nemesis.faults

    @property
    def trace(self) -> str:
        """A hash of all that has happened: the same for the same seed and the same code."""
        return self.sim.trace.hexdigest()

    def guard(self) -> AbstractContextManager[list[str]]:
        """`time.time()` in an actor would make each run another: it raises `SimulationEscape`."""
        return guarded(lambda: self._is_running)

    # --- faults
    def kill(self, node: Any, *, stay: bool = False) -> None:
        """End a process at once, as `kill -9` does. The launcher starts it again; with `stay` it waits for `start`."""
        self.do("kill", node)
        if stay:
            self.launcher.hold(self._home(node))

    def power(self, node: Any) -> None:
        """The same by a power failure: what was not synced is lost, or torn."""
        self.do("power", node)

    def start(self, node: Any) -> None:
        """Let a process come again that was to `stay` away."""
        self.launcher.let(self._home(node))

    def pause(self, node: Any, for_s: float | None = None) -> None:
        """Let a process run nothing, as SIGSTOP does."""
        self.do("pause", node, for_s=for_s)

    def resume(self, node: Any) -> None:
        """Let it go on."""
        world = self.sim.processes[self._home(node)]
        if world.missed is not None:
            with self._running():
                world.resume()

    def partition(self, node: Any, *others: Any, for_s: float | None = None, one_way: bool = False) -> None:
        """Let nothing pass between a node and others (none: all others, and the test): what is sent waits, at first."""
        self.do("partition", node, others=others or ("*",), for_s=for_s, one_way=one_way)

    def do(self, kind: str, *nodes: Any, others: tuple[Any, ...] = (), for_s: float | None = None, **more: Any) -> None:
        """Any fault that a topology's `nemesis` knows, now. `more` are fields of `zactor.topology.trials.Fault`.

        Raises ValueError for what no fault is, and for one that would have done nothing.
        """
        self.begin()
        fault = self._fault(kind, nodes, others, for_s, more)
        news: list[str] = []
        self._ground.nemesis.did = lambda _fault, what: news.append(what)
        try:
            self._ground.nemesis.schedule([fault])
            self._go_on(0.0, lambda: bool(news))
        finally:
            self._ground.nemesis.did = self._did
        self._did(fault, news[0])
        if news[0] != "done":
            text = "it is not running, or its launcher would give it up, or there is nothing to do it to"
            raise ValueError(f"{kind} {', '.join(fault.nodes)}: nothing was done: {text}")

    def trouble(self, seconds: float, *kinds: str) -> None:
        """Faults that the seed draws, of these kinds (none: all that destroy nothing durable), while time passes.

        The time does not pass here: `run` it, then `heal`.
        """
        self.begin()
        for kind in kinds:
            _known(kind)
        chosen = list(kinds) or [kind for kind in FAULTS if kind not in ("refuse", "rot", "misdirect")]
        nodes = [each.name for process in self._processes for each in process.instances]
        stream = self.sim.stream(f"trouble/{self.now_ns}")
        self._ground.nemesis.schedule(swarm.draw_faults(stream, nodes, [OUTSIDE], int(seconds * SECOND_NS), chosen))

    def heal(self) -> None:
        """Take all faults back; what was killed comes again by itself."""
        with self._running():
            self._ground.nemesis.heal()

    def _fault(
        self, kind: str, nodes: tuple[Any, ...], others: tuple[Any, ...], for_s: float | None, more: dict[str, Any]
    ) -> Fault:
        about = _known(kind)
        if (about.aim == "between") != bool(others):
            mend = "name others=(...)" if not others else "leave others out"
            raise ValueError(f"{kind} is done {'between nodes' if not others else 'to nodes'}: {mend}")
        for_ns = FOR_EVER_NS if for_s is None else int(for_s * SECOND_NS)
        return Fault(
            at_ns=0,
            do=kind,
            nodes=tuple(map(self._node, nodes)),
            others=tuple(map(self._node, others)),
            for_ns=for_ns if "for" in about.needs else 0,
            **more,
        )

    def _node(self, node: Any) -> str:
        """The name by which a nemesis knows a node; one of its nodes stands for a process."""
        name = name_of(node)
        if name[:1] in ("*", "@"):
            return name
        home = self._home(name)
        return next(each.instances[0].name for each in self._processes if each.name == home)

    def _home(self, node: Any) -> str:
        """The process of that name, or in which a node of that name runs."""
        self.begin()
        name = name_of(node)
        homes = {each.name: process.name for process in self._processes for each in process.instances}
        homes |= {process.name: process.name for process in self._processes}
        if name not in homes:
            raise ValueError(f"there is no node {name!r}.{did_you_mean(name, homes)}")
        return homes[name]

    def _did(self, fault: Fault, what: str) -> None:
        if what == "done":
            self._story.add(self.now_ns, "nemesis", str(fault).partition(" s ")[2])


def _known(kind: str) -> Any:
    if kind not in FAULTS:
        raise ValueError(f"there is no fault {kind!r}.{did_you_mean(kind, FAULTS)} There are {', '.join(FAULTS)}")
    return FAULTS[kind]


def _names(given: Any) -> Any:
    """What a link is filled with: a name, or several."""
    return tuple(map(name_of, given)) if isinstance(given, (list, tuple)) else name_of(given)
