"""Whether a group keeps its leader when nothing is wrong with it: full load, short pauses, and slow syncs.

    python -m tests.bench.soak --minutes 10

Our store, with its defaults, is loaded by as many clients as `bench raft` has. All the time one peer after the other,
drawn at random, stands still for 100 ms; every other while each sync of all of them takes 50 ms longer. An election is
needless then, and the bar is none after the first. Exits with 1 when there was one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.bench.failover import STORE, ours
from tests.bench.load import Load
from tests.bench.raft import CLIENTS
from zactor.launchers import control
from zactor.launchers.control import ask_launcher
from zactor.launchers.folders import Home

PAUSE_S = 0.1
GAPS_S = (0.2, 1.0)
"""Between the end of a pause and the next one."""

SYNC_NS = 50_000_000
WHILE_S = 30.0
"""Syncs are slow for so long, and then as they are for as long."""

TIMEOUT_S = 10.0

ROLES = ("became_leader", "became_candidate", "became_pre_candidate", "peer_lost")


class Found:
    """What was done and what was seen."""

    def __init__(self) -> None:
        self.pauses_s: list[float] = []
        self.slow_whiles = 0
        self.operations = 0
        self.events: list[dict[str, Any]] = []

    def count(self, event: str) -> int:
        """How often a peer logged that."""
        return sum(each["event"] == event for each in self.events)

    def lines(self) -> list[str]:
        """The same for people."""
        events = [f"{at['hlc'] / 1e9:.3f} {at['process']} {at['event']}: {at.get('because', '')}" for at in self.events]
        longest_s, median_s = max(self.pauses_s, default=0.0), statistics.median(self.pauses_s or [0.0])
        pauses = f"{len(self.pauses_s)} pauses of {median_s:.3f} s, the longest {longest_s:.3f} s"
        return [
            *events,
            f"{self.operations} puts; {pauses}; {self.slow_whiles} times {WHILE_S:g} s of slow syncs",
            f"needless elections: {self.count('became_leader')}",
        ]


async def soak(span_s: float, seed: int) -> Found:
    """Load, pause and slow a store for so long."""
    found, dice = Found(), random.Random(seed)
    async with ours() as group:
        name = await group.leader()
        began_ns = time.time_ns()
        load = await asyncio.create_subprocess_exec(
            *group.load, *Load("put", CLIENTS, span_s, 1.0).words(), stdout=asyncio.subprocess.DEVNULL
        )
        slowing = asyncio.create_task(_slow(group.home, found))
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(_pause(group.pids(), dice, found), span_s)
            if await load.wait():
                raise RuntimeError("a put was lost")
        finally:
            slowing.cancel()
            if load.returncode is None:
                load.kill()
                await load.wait()
        found.operations = await group.applied(name)
        found.events = _events(group.run, began_ns)
    return found


async def _pause(pids: Sequence[int], dice: random.Random, found: Found) -> None:
    """One after the other stands still, until this is cancelled."""
    while True:
        await asyncio.sleep(dice.uniform(*GAPS_S))
        pid = dice.choice(pids)
        began_s = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(PAUSE_S)
        finally:
            os.kill(pid, signal.SIGCONT)
        found.pauses_s.append(time.monotonic() - began_s)


async def _slow(home: Home, found: Found) -> None:
    """Every other while syncs are slow, until this is cancelled."""
    while True:
        found.slow_whiles += 1
        fault = control.Fault("slow_disk", (STORE,), TIMEOUT_S, for_s=WHILE_S, by_ns=SYNC_NS)
        await asyncio.to_thread(ask_launcher, home, fault)
        await asyncio.sleep(2 * WHILE_S)


def _events(run: Path, since_ns: int) -> list[dict[str, Any]]:
    """What peers logged of elections since then."""
    lines = [json.loads(line) for path in run.glob(f"{STORE}.*.jsonl") for line in path.read_text().splitlines()]
    return sorted(
        (each for each in lines if each["event"] in ROLES and each["hlc"] > since_ns), key=lambda it: it["hlc"]
    )


def main() -> int:
    """Soak, and say what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    found = asyncio.run(soak(60 * arguments.minutes, arguments.seed))
    print("\n".join(found.lines()))
    return 1 if found.count("became_leader") else 0


if __name__ == "__main__":
    sys.exit(main())
