"""Large messages arrive whole and in order, and keep no small ones from being answered."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

from tests.conformance.stage import Stage
from zactor.actor import Actor, on
from zactor.message import Bulk, Message, Ref

LONG_S = 3600.0
CHUNK_SIZE = 256 << 10
CHUNKS = 200
RINGS = 300


class Chunk(Message[None]):
    number: int
    checksum: int
    data: Bulk


class Load(Message[int]):
    """Send all chunks; answered by how many."""


class State(Message[tuple[int, int]]):
    """How many chunks came, and how many were not the next one, whole."""


class Ring(Message[int]):
    number: int


class RingAll(Message[int]):
    """Ring the bell again and again; answered by how often it was answered in its turn."""


class Store(Actor):
    """Looks at each chunk, and keeps none."""

    _came: int = 0
    _wrong: int = 0

    @on
    def chunk(self, message: Chunk) -> None:
        whole = len(message.data) == CHUNK_SIZE and zlib.crc32(message.data) == message.checksum
        self._wrong += message.number != self._came or not whole
        self._came += 1

    @on
    def state(self, message: State) -> tuple[int, int]:
        return self._came, self._wrong


class Loader(Actor):
    """Sends chunks as fast as there is room."""

    store: Ref[Chunk]

    @on
    async def load(self, message: Load) -> int:
        for number in range(CHUNKS):
            data = number.to_bytes(8, "big") * (CHUNK_SIZE // 8)
            await self.send(self.store, Chunk(number=number, checksum=zlib.crc32(data), data=data), timeout_s=LONG_S)
        return CHUNKS


class Bell(Actor):
    """Answers, in the process that takes the chunks."""

    @on
    def ring(self, message: Ring) -> int:
        return message.number


class Ringer(Actor):
    """Asks, in the process that sends them."""

    bell: Ref[Ring]

    @on
    async def ring_all(self, message: RingAll) -> int:
        answered = 0
        for number in range(RINGS):
            answered += await self.ask(self.bell, Ring(number=number), timeout_s=LONG_S) == number
        return answered


async def play(stage: Stage) -> AsyncIterator[str]:
    load = stage.ask("loader", Load())
    rings = stage.ask("ringer", RingAll())
    yield f"rings answered: {await rings}"
    yield f"chunks sent: {await load}"

    async def look() -> tuple[int, int] | None:
        came, wrong = await stage.ask("store", State())
        return (came, wrong) if came >= CHUNKS else None

    came, wrong = await stage.until(look)
    yield f"chunks that came: {came}, not whole or out of order: {wrong}"
