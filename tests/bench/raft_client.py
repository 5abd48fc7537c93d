"""Our side of `bench raft`: what `etcdload.go` does on etcd, on a store that is up.

Run as `python -m tests.bench.raft_client load BOOK put|get CLIENTS CONNECTIONS KEYS BYTES WARM_S MEASURE_S`, or
`probe BOOK` and the nodes; each connection is an `AsyncClient`, in one process. What it prints is as there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import string
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

from nodes.kv.client import KvClient
from zactor.client import AsyncClient
from zactor.errors import Failure

STORE = "kv"

PROBE_EVERY_S = 0.005
PROBES_AT_A_TIME = 400


async def connect(stack: AsyncExitStack, book: Path) -> KvClient:
    """A client of the store on a connection of its own."""
    client = await stack.enter_async_context(AsyncClient(book))
    return KvClient(client, [client.ref(name) for name in client.names(STORE)])


def key(number: int) -> bytes:
    """One of the keys."""
    return b"/bench/%05d" % number


class Load:
    """So many clients, each with one request outstanding; see there."""

    def __init__(self, clients: list[KvClient], keys: int, value: bytes) -> None:
        self._clients = clients
        self._keys = [key(number) for number in range(keys)]
        self._value = value
        self._measuring = self._stopping = False
        self._spans_ns: list[int] = []

    async def run(self, verb: str, width: int, warm_s: float, measure_s: float) -> dict[str, float]:
        """Do it, and what it came to."""
        if verb == "get":
            await asyncio.gather(*(self._fill(first, width) for first in range(width)))
        work = {"put": self._put, "get": self._get}[verb]
        tasks = [asyncio.create_task(work(self._clients[index % len(self._clients)], index)) for index in range(width)]
        await asyncio.sleep(warm_s)
        print(json.dumps({"measuring": True}), flush=True)
        self._measuring, began_ns = True, time.perf_counter_ns()
        await asyncio.sleep(measure_s)
        self._stopping = True
        await asyncio.gather(*tasks)
        elapsed_ns = time.perf_counter_ns() - began_ns
        spans_ns = sorted(self._spans_ns)
        count = len(spans_ns)
        return {
            "count": count,
            "rate": count * 1e9 / elapsed_ns,
            "p50_us": spans_ns[count // 2] / 1e3,
            "p99_us": spans_ns[count * 99 // 100] / 1e3,
        }

    async def _fill(self, first: int, width: int) -> None:
        """What is read is there before."""
        for number in range(first, len(self._keys), width):
            await self._clients[first % len(self._clients)].put(self._keys[number], self._value)

    async def _put(self, client: KvClient, index: int) -> None:
        dice = random.Random(index)
        while not self._stopping:
            counts, name = self._measuring, self._keys[int(dice.random() * len(self._keys))]
            began_ns = time.perf_counter_ns()
            await client.put(name, self._value)
            if counts:
                self._spans_ns.append(time.perf_counter_ns() - began_ns)

    async def _get(self, client: KvClient, index: int) -> None:
        dice = random.Random(index)
        while not self._stopping:
            counts, name = self._measuring, self._keys[int(dice.random() * len(self._keys))]
            began_ns = time.perf_counter_ns()
            found = await client.get(name)
            if counts:
                self._spans_ns.append(time.perf_counter_ns() - began_ns)
            if found is None or len(found.value) != len(self._value):
                raise RuntimeError(f"{name!r} is not as it was put")


async def load(book: Path, verb: str, *words: str) -> None:
    """Load the store and print what was measured."""
    width, connections, keys, size = map(int, words[:4])
    value = "".join(random.choices(string.ascii_lowercase, k=size)).encode()
    async with AsyncExitStack() as stack:
        clients = [await connect(stack, book) for _ in range(connections)]
        print(json.dumps(await Load(clients, keys, value).run(verb, width, float(words[4]), float(words[5]))))


async def probe(book: Path) -> None:
    """Begin a put now and again, whether others are under way or not, until standard input ends."""
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    under_way: set[asyncio.Task[None]] = set()
    async with AsyncExitStack() as stack:
        client = await connect(stack, book)
        while not over.done():
            if len(under_way) < PROBES_AT_A_TIME:
                task = asyncio.create_task(_probe(client))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.sleep(PROBE_EVERY_S)
        os._exit(0)  # what is under way need not end


async def _probe(client: KvClient) -> None:
    began_ns = time.time_ns()
    with contextlib.suppress(Failure):
        await client.put(b"/probe", b"x")
        print(began_ns, time.time_ns(), flush=True)


def main() -> None:
    """Load or probe."""
    _, verb, book, *words = sys.argv
    asyncio.run(load(Path(book), *words) if verb == "load" else probe(Path(book)))


if __name__ == "__main__":
    main()
