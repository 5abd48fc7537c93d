"""The chatter that engines of simulation are compared by: nodes that send each other heartbeats, and answer them.

What is measured is time of the processor, since all of it happens on one core and waits for nothing.

Here it runs in ours, through the real kernel with frames, acknowledgements and the codec; the trace is hashed. The
file's stem is the name of its package: so its messages have one wire name, wherever it is imported from.
"""

from __future__ import annotations

import gc
import time
from pathlib import Path

from zactor import Actor, Message, Ref, on
from zactor.sim import swarm
from zactor.sim.heap import SECOND_NS, Heap
from zactor.sim.launcher import Launcher
from zactor.sim.nemesis import Nemesis
from zactor.sim.world import Knobs, Simulation
from zactor.topology.read import read
from zactor.topology.trials import FAULTS, Fault

NODES = 5
INTERVAL_S = 0.05
"""Between two heartbeats of a node."""

LATENCY_S, JITTER_S = 0.0001, 0.00005

EVENTS_A_SECOND = round(NODES * (1 + 2 * (NODES - 1)) / INTERVAL_S)
"""Timers, heartbeats and answers in a second of virtual time."""

SPAN_S = 20
"""What a seed runs at least (see `zactor.sim.runner`)."""

PEER_TIMEOUT_NS = 5 * SECOND_NS

TOPOLOGY = f"""\
name: chatter
nodes:
  node:
    kind: './chatter.py:Chatterer'
    links: {{others: node}}
    replicas: {NODES}
"""


class Beat(Message[None]):
    """A heartbeat: in shape, one of a consensus protocol."""

    term: int
    leader: int
    index: int
    commit_index: int


class Heard(Message[None]):
    """Its answer."""

    term: int
    follower: int
    index: int


class Tick(Message[None]):
    """Time for a heartbeat."""


class Chatterer(Actor):
    """Sends heartbeats to all others, and answers theirs."""

    others: tuple[Ref[Beat | Heard], ...]

    def on_start(self) -> None:
        self._index = self._heard = 0
        self._number = _number(self.ref)
        self._by_number = {_number(other): other for other in self.others}
        self.after(INTERVAL_S, Tick())

    @on
    def tick(self, message: Tick) -> None:
        self._index = index = self._index + 1
        beat = Beat(term=3, leader=self._number, index=index, commit_index=index - 1)
        for other in self.others:
            self.tell(other, beat)
        self.after(INTERVAL_S, message)

    @on
    def beat(self, message: Beat) -> None:
        heard = Heard(term=message.term, follower=self._number, index=message.index)
        self.tell(self._by_number[message.leader], heard)

    @on
    def heard(self, message: Heard) -> None:
        self._heard += message.index == self._index  # or it answers what was sent before the last end


def _number(ref: Ref[Beat | Heard]) -> int:
    return int(ref.name.rpartition("/")[2])


def faults_of(seed: int) -> tuple[Fault, ...]:
    """What a seed draws from all kinds of faults."""
    nodes = [f"node/{number}" for number in range(NODES)]
    return swarm.draw_faults(Heap(seed).stream("faults"), nodes, [], SPAN_S * SECOND_NS, [*FAULTS])


def chatter(seeds: int, *, with_faults: bool) -> float:
    """Events that actors are given in a second of the processor, while so many seeds take `SPAN_S` each."""
    spans = [_seed(seed, faults_of(seed) if with_faults else ()) for seed in range(1, seeds + 1)]
    return sum(events for events, _ in spans) * 1e9 / sum(elapsed_ns for _, elapsed_ns in spans)


def _seed(seed: int, faults: tuple[Fault, ...]) -> tuple[int, int]:
    """Events and nanoseconds of one seed. Raises RuntimeError when there were not as many as there should be."""
    topology = read(TOPOLOGY, Path(__file__).with_name("chatter.yaml"))
    sim = Simulation(seed, Knobs(latency_ns=int(LATENCY_S * 1e9), jitter_ns=int(JITTER_S * 1e9)), PEER_TIMEOUT_NS)
    launcher = Launcher(sim, topology)
    nemesis = Nemesis(sim, launcher, None)
    launcher.start()
    while not launcher.all_ready():
        sim.step()
    nemesis.schedule(faults)
    before = sim.inputs()
    gc.collect()
    gc.disable()  # as the simulator's runner does
    try:
        started_ns = time.process_time_ns()
        sim.run_until(sim.now_ns + SPAN_S * SECOND_NS)
        elapsed_ns = time.process_time_ns() - started_ns
    finally:
        gc.enable()
    events = sim.inputs() - before
    if not faults and abs(events - SPAN_S * EVENTS_A_SECOND) > EVENTS_A_SECOND:
        raise RuntimeError(f"{events} events in {SPAN_S} s of virtual time; {EVENTS_A_SECOND} a second were expected")
    return events, elapsed_ns
