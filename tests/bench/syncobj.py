"""PySyncObj as a peer of `bench raft`: three processes, of which one has all clients in it; as it is by default.

Run as `python -m tests.bench.syncobj put CLIENTS CONNECTIONS KEYS BYTES WARM_S MEASURE_S`; it prints what `etcdload.go`
does. Nothing that it acknowledges was synced: its journal, which is off by default, never is before it answers.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import socket
import sys
import time
from multiprocessing.synchronize import Event
from typing import Any

MEMBERS = 3
START_S = 30.0
PAUSE_S = 0.05


def _store(me: str, others: list[str]) -> Any:
    from pysyncobj import SyncObj
    from pysyncobj.batteries import ReplDict

    store = ReplDict()
    return SyncObj(me, others, consumers=[store]), store


def _member(me: str, others: list[str], over: Event) -> None:
    _store(me, others)
    over.wait()


class Load:
    """The clients, by callbacks: each puts again when it was answered."""

    def __init__(self, store: Any, keys: int, value: str) -> None:
        self._store = store
        self._keys = keys
        self._value = value
        self._measuring = self._stopping = False
        self._under_way = self.failed = 0
        self.spans_ns: list[int] = []

    def run(self, width: int, warm_s: float, measure_s: float) -> dict[str, float]:
        """Do it, and what it came to."""
        for index in range(width):
            self._put(random.Random(index))
        time.sleep(warm_s)
        print(json.dumps({"measuring": True}), flush=True)
        self._measuring, began_ns = True, time.perf_counter_ns()
        time.sleep(measure_s)
        self._stopping = True
        elapsed_ns = time.perf_counter_ns() - began_ns
        spans_ns = sorted(self.spans_ns)
        count = len(spans_ns)
        if not count or self.failed > count // 100:
            raise RuntimeError(f"{count} puts were answered, {self.failed} failed")
        return {
            "count": count,
            "rate": count * 1e9 / elapsed_ns,
            "p50_us": spans_ns[count // 2] / 1e3,
            "p99_us": spans_ns[count * 99 // 100] / 1e3,
        }

    def _put(self, dice: random.Random) -> None:
        counts, began_ns = self._measuring, time.perf_counter_ns()

        def done(_result: object, failure: int) -> None:
            if failure:
                self.failed += 1
            elif counts and not self._stopping:
                self.spans_ns.append(time.perf_counter_ns() - began_ns)
            if not self._stopping:
                self._put(dice)

        self._store.set(dice.randrange(self._keys), self._value, callback=done)


def main() -> None:
    """Start the members, and load them through one."""
    _, verb, clients, _connections, keys, size, warm_s, measure_s = sys.argv
    if verb != "put":
        raise SystemExit("it has no linearizable reads")
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(MEMBERS)]
    names = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    processes = multiprocessing.get_context("spawn")
    over = processes.Event()
    members = [
        processes.Process(target=_member, args=(name, [each for each in names if each != name], over))
        for name in names[1:]
    ]
    for member in members:
        member.start()
    raft, store = _store(names[0], names[1:])
    found = _measure(raft, store, int(clients), int(keys), int(size), float(warm_s), float(measure_s))
    over.set()
    for member in members:
        member.join()
    print(json.dumps(found), flush=True)
    raft.destroy()


def _measure(
    raft: Any, store: Any, clients: int, keys: int, size: int, warm_s: float, measure_s: float
) -> dict[str, float]:
    end_s = time.monotonic() + START_S
    while not (raft.isReady() and raft._getLeader() is not None):
        if time.monotonic() > end_s:
            raise SystemExit("PySyncObj has no leader")
        time.sleep(PAUSE_S)
    return Load(store, keys, "x" * size).run(clients, warm_s, measure_s)


if __name__ == "__main__":
    main()
