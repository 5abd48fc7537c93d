"""Many clients at once that read, put and compare-and-set: how fast a store is, and whether it keeps its promises.

Each client has one operation under way, and a session of its own. With a history, each operation is recorded before it
is sent and when it is answered, for the model `cas`: values are all different, so that a judge knows who wrote what was
read. One of which nobody knows whether it happened is recorded so.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from zactor.errors import Failure
from zactor.judges.history import History
from zactor.message import Ref
from zactor.replication.client import Door, OutcomeUnknown
from zactor.replication.messages import Level

from .client import KvClient
from .operations import prefix_end

Function = Literal["read", "write", "cas"]
FUNCTIONS: tuple[Function, ...] = ("read", "write", "cas")

MODEL = "cas"


class Load(msgspec.Struct, frozen=True):
    """What is asked for. Shares are of all operations; the others are puts. `size` is in bytes of a value."""

    clients: int = 16
    keys: int = 10_000
    seconds: float = 10.0
    size: int = 256
    reads: float = 0.5
    swaps: float = 0.1
    level: Level = "linearizable"
    prefix: str = "load/"
    give_up_s: float = 10.0
    seed: int = 0


class Measured(msgspec.Struct):
    """What came of it. `latencies_ns` are of the operations that were answered."""

    seconds: float = 0.0
    latencies_ns: dict[Function, list[int]] = msgspec.field(default_factory=lambda: {each: [] for each in FUNCTIONS})
    swapped: int = 0
    failed: dict[str, int] = msgspec.field(default_factory=dict)
    unknown: int = 0

    @property
    def operations(self) -> int:
        """Those that were answered."""
        return sum(map(len, self.latencies_ns.values()))

    def quantile_ms(self, function: Function, share: float) -> float | None:
        """The latency below which that share of them was; None: there were none."""
        latencies = sorted(self.latencies_ns[function])
        return latencies[min(len(latencies) - 1, int(share * len(latencies)))] / 1e6 if latencies else None


async def run(door: Door, targets: Sequence[Ref[Any]], load: Load, history: History | None = None) -> Measured:
    """Drive the store for `load.seconds`. What an earlier load has left is deleted first: a history begins empty."""
    await _sweep(KvClient(door, targets, load.give_up_s), load.prefix.encode())
    measured = Measured()
    begun_ns = door.now_ns()
    until_ns = begun_ns + int(load.seconds * 1e9)
    clients = [_Client(number, door, targets, load, measured, history) for number in range(load.clients)]
    await asyncio.gather(*[client.run(until_ns) for client in clients])
    measured.seconds = (door.now_ns() - begun_ns) / 1e9
    return measured


async def _sweep(kv: KvClient, prefix: bytes) -> None:
    while (await kv.delete(prefix, prefix_end(prefix))).more:
        pass
    await kv.close()


class _Client:
    """One of them."""

    def __init__(
        self,
        number: int,
        door: Door,
        targets: Sequence[Ref[Any]],
        load: Load,
        measured: Measured,
        history: History | None,
    ) -> None:
        self._name = f"client-{number}"
        self._door = door
        self._load = load
        self._measured = measured
        self._history = history
        self._chance = random.Random(f"{load.seed} {number}")  # noqa: S311 - which keys, no secret
        self._kv = KvClient(door, targets, load.give_up_s)
        self._seen: dict[int, str | None] = {}
        self._count = 0

    def _value(self, count: int) -> str:
        return f"{self._name}-{count:09d}"

    async def run(self, until_ns: int) -> None:
        """Go on until then."""
        while self._door.now_ns() < until_ns:
            drawn = self._chance.random()
            reads, swaps = self._load.reads, self._load.swaps
            await self._one("read" if drawn < reads else "cas" if drawn < reads + swaps else "write")
        await self._kv.close()

    async def _one(self, function: Function) -> None:
        number = self._chance.randrange(self._load.keys)
        key = f"{self._load.prefix}{number}"
        self._count += 1
        arguments: tuple[str | None, ...] = () if function == "read" else (self._value(self._count),)
        if function == "cas":
            arguments = (self._seen.get(number), *arguments)
        operation = self._history.invoke(self._name, function, *arguments, key=key) if self._history else 0
        begun_ns = self._door.now_ns()
        try:
            result = await self._ask(function, key.encode(), arguments)
        except Failure as error:
            await self._failed(operation, error)
            return
        self._measured.latencies_ns[function].append(self._door.now_ns() - begun_ns)
        if self._history is not None:
            self._history.complete(operation, result)
        if function == "read":
            self._seen[number] = result
        elif function == "write" or result:
            self._seen[number] = arguments[-1]
            self._measured.swapped += function == "cas"

    async def _ask(self, function: Function, key: bytes, arguments: tuple[str | None, ...]) -> Any:
        """What a history says was answered."""
        if function == "read":
            item = await self._kv.get(key, level=self._load.level)
            return None if item is None else item.value.decode().rstrip(".")
        value = self._padded(arguments[-1])
        assert value is not None, "there is always something to write"
        if function == "cas":
            return (await self._kv.compare_and_set(key, self._padded(arguments[0]), value)).done
        await self._kv.put(key, value)
        return None

    def _padded(self, value: str | None) -> bytes | None:
        return None if value is None else value.encode().ljust(self._load.size, b".")

    async def _failed(self, operation: int, error: Failure) -> None:
        is_unknown = isinstance(error, OutcomeUnknown)
        kind = type(error.__cause__ or error).__name__
        self._measured.failed[kind] = self._measured.failed.get(kind, 0) + 1
        self._measured.unknown += is_unknown
        if self._history is not None:
            (self._history.unknown if is_unknown else self._history.fail)(operation)
        # It has been asked for seconds. Who refuses at once is not to be asked in a busy loop.
        await self._door.sleep(0.01)
