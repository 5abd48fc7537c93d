"""Many clients at once that read, put and compare-and-set: how fast a store is, and whether it keeps its promises.

Each client has one operation under way, and a session of its own. With a history, each operation is recorded before it
is sent and when it is answered, for the model `kv.items` and the judges of this folder: values are all different, so
that a judge knows who wrote what was read. One of which nobody knows whether it happened is recorded so.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

import msgspec

from zactor.errors import Failure
from zactor.judges.history import History
from zactor.message import Ref
from zactor.replication.client import Door, OutcomeUnknown
from zactor.replication.messages import Level

from . import operations as op
from .client import KvClient

Function = Literal["get", "put", "cas"]
FUNCTIONS: tuple[Function, ...] = ("get", "put", "cas")

MODEL = "kv.items"


class Load(msgspec.Struct, frozen=True):
    """What is asked for. Shares are of all operations; the others are puts. `size` is in bytes of a value."""

    clients: int = 16
    keys: int = 10_000
    seconds: float = 10.0
    size: int = 256
    reads: float = 0.5
    swaps: float = 0.1
    level: Level = "linearizable"
    bound_s: float = 1.0
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
    """Drive the store for `load.seconds`, with keys of its own, which it deletes in the end."""
    kv = KvClient(door, targets, load.give_up_s)
    prefix = await _new_prefix(kv)
    measured = Measured()
    begun_ns = door.now_ns()
    until_ns = begun_ns + int(load.seconds * 1e9)
    clients = [_Client(number, door, targets, load, prefix, measured, history) for number in range(load.clients)]
    await asyncio.gather(*[client.run(until_ns) for client in clients])
    measured.seconds = (door.now_ns() - begun_ns) / 1e9
    with suppress(Failure):  # what came of it is to be seen, whatever the store is like by now
        await _delete(kv, prefix)
        await kv.close()
    return measured


async def _new_prefix(kv: KvClient) -> bytes:
    """One that nobody else has: a history must not see what others wrote. A revision is given once."""
    written = await kv.put(b"load", b"")
    return b"load/%d/" % written.revision


async def _delete(kv: KvClient, prefix: bytes) -> None:
    more = True
    while more:
        more = (await kv.delete(prefix, op.prefix_end(prefix), limit=op.DELETE_KEYS_MAX)).more


class _Client:
    """One of them."""

    def __init__(
        self,
        number: int,
        door: Door,
        targets: Sequence[Ref[Any]],
        load: Load,
        prefix: bytes,
        measured: Measured,
        history: History | None,
    ) -> None:
        self._name = f"client-{number}"
        self._door = door
        self._load = load
        self._prefix = prefix
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
            await self._one("get" if drawn < reads else "cas" if drawn < reads + swaps else "put")
        await self._kv.close()

    async def _one(self, function: Function) -> None:
        name = self._chance.randrange(self._load.keys)
        self._count += 1
        operation = self._invoke(function, name)
        begun_ns = self._door.now_ns()
        try:
            result = await self._ask(function, name)
        except Failure as error:
            await self._failed(operation, error)
            return
        self._measured.latencies_ns[function].append(self._door.now_ns() - begun_ns)
        if self._history is not None:
            self._history.complete(operation, result)

    def _invoke(self, function: Function, name: int) -> int:
        """Record what is about to be asked: each key is a group of its own, since nothing changes two of them."""
        if self._history is None:
            return 0
        load, key = self._load, self._key(name).decode()
        value = self._value(self._count)
        arguments: tuple[str | int | None, ...] = ()
        if function != "get":
            arguments = (value,) if function == "put" else (self._seen.get(name), value)
        elif load.level == "bounded":
            arguments = (int(load.bound_s * 1e3),)
        is_weak = function == "get" and load.level != "linearizable"
        return self._history.invoke(
            self._name, f"get_{load.level}" if is_weak else function, str(name), *arguments, key=key
        )

    async def _ask(self, function: Function, name: int) -> Any:
        """What a history says was answered."""
        kv, key = self._kv, self._key(name)
        if function == "get":
            found = await kv.question(op.Get(key), level=self._load.level, bound_s=self._load.bound_s)
            self._seen[name] = None if found.item is None else found.item.value.decode().rstrip(".")
            return found.revision, self._seen[name], 0 if found.item is None else found.item.modified
        value = self._value(self._count)
        if function == "put":
            written = await kv.put(key, self._padded(value))
            self._seen[name] = value
            return (written.revision,)
        seen = self._seen.get(name)
        expected = None if seen is None else self._padded(seen)
        swapped = await kv.compare_and_set(key, expected, self._padded(value))
        if swapped.done:
            self._seen[name] = value
            self._measured.swapped += 1
        return swapped.revision, swapped.done

    def _key(self, name: int) -> bytes:
        return self._prefix + b"%d" % name

    def _padded(self, value: str) -> bytes:
        return value.encode().ljust(self._load.size, b".")

    async def _failed(self, operation: int, error: Failure) -> None:
        is_unknown = isinstance(error, OutcomeUnknown)
        kind = type(error.__cause__ or error).__name__
        self._measured.failed[kind] = self._measured.failed.get(kind, 0) + 1
        self._measured.unknown += is_unknown
        if self._history is not None:
            (self._history.unknown if is_unknown else self._history.fail)(operation)
        # It has been asked for seconds. Who refuses at once is not to be asked in a busy loop.
        await self._door.sleep(0.01)
