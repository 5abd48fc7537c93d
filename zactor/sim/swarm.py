"""What a seed is like: how many clients and replicas, how slow everything is, and which faults come, how often.

Each seed draws a random subset of the faults: with all of them in every run the rare combinations never come, since
they drown in the others (Groce et al. 2012, "Swarm Testing"). Everything is drawn by integers.
"""

from __future__ import annotations

import random

from zactor.sim.heap import MILLISECOND_NS, SECOND_NS, Chance
from zactor.sim.world import Knobs
from zactor.topology.trials import FAULTS, Fault

FIRST_NS = 500 * MILLISECOND_NS
"""The clients have begun by then."""

CLASSES_MIN = 4
"""A seed with fewer classes of faults would seldom count."""

FAULTS_MAX = 400

GAPS_NS = tuple(span * MILLISECOND_NS for span in (250, 600, 1500, 3000))
LATENCIES_NS = (50_000, 200_000, 1_000_000, 5_000_000, 15_000_000)
SYNCS_NS = (200_000, 1_000_000, 5_000_000, 20_000_000)
TURNS_NS = (2_000, 20_000, 200_000)


def draw_knobs(stream: random.Random) -> Knobs:
    """How slow network, disks and processes are."""
    chance = Chance(stream)
    latency_ns = chance.pick(LATENCIES_NS)
    return Knobs(
        latency_ns=latency_ns,
        jitter_ns=chance.pick((1, latency_ns >> 1, 2 * latency_ns)),
        turn_ns=chance.pick(TURNS_NS),
        sync_ns=chance.pick(SYNCS_NS),
        boot_ns=chance.pick((20, 100, 400)) * MILLISECOND_NS,
    )


def draw_faults(
    stream: random.Random, nodes: list[str], clients: list[str], span_ns: int, kinds: list[str], more_ns: int = 0
) -> tuple[Fault, ...]:
    """A schedule for `span_ns`: some of these kinds, done to these nodes, and to the ways between all.

    For `more_ns` behind it they come seldom: under too many nothing is done, under too few nothing happens.
    """
    chance = Chance(stream)
    count = chance.between(min(CLASSES_MIN, len(kinds)), len(kinds))
    chosen = chance.some(sorted(kinds), count)
    gap_ns = chance.pick(GAPS_NS)
    faults: list[Fault] = []
    at_ns = FIRST_NS
    while len(faults) < FAULTS_MAX:
        at_ns += chance.waiting(gap_ns if at_ns < span_ns else max(GAPS_NS))
        if at_ns >= span_ns + more_ns:
            break
        faults.append(_fault(chance, chance.pick(chosen), at_ns, nodes, clients))
    return tuple(faults)


def _fault(chance: Chance, kind: str, at_ns: int, nodes: list[str], clients: list[str]) -> Fault:
    about = FAULTS[kind]
    for_ns = chance.pick((100, 400, 1500, 4000)) * MILLISECOND_NS if "for" in about.needs else 0
    for_ns += chance.below(for_ns + 1)
    if about.aim == "between":
        return _between(chance, kind, at_ns, for_ns, nodes, clients)
    victims = chance.some(nodes, chance.between(1, len(nodes))) if kind == "blink" else [chance.pick(nodes)]
    return Fault(
        at_ns=at_ns,
        do=kind,
        nodes=tuple(victims),
        for_ns=for_ns,
        writing="writing" in about.takes and chance.percent(60),
        times=chance.between(1, 3) if "times" in about.takes else 1,
        by_ns=chance.between(-2 * SECOND_NS, 2 * SECOND_NS) if kind == "step" else 0,
        ppm=chance.between(-500, 500) if kind == "drift" else 0,
    )


def _between(chance: Chance, kind: str, at_ns: int, for_ns: int, nodes: list[str], clients: list[str]) -> Fault:
    side = chance.some(nodes, chance.between(1, max(1, len(nodes) // 2)))
    others = ["*"] if chance.bits(1) else [chance.pick([name for name in nodes + clients if name not in side] or ["*"])]
    return Fault(
        at_ns=at_ns,
        do=kind,
        nodes=tuple(side),
        others=tuple(others),
        for_ns=for_ns,
        one_way="one_way" in FAULTS[kind].takes and chance.percent(40),
        by_ns=chance.pick((5, 50, 400)) * MILLISECOND_NS if kind == "slow" else 0,
        rate=chance.pick((2, 10, 30)) if "rate" in FAULTS[kind].needs else 0,
    )
