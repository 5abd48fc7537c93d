"""The actors that `bench kernel` launches, and what they say to each other.

The file's stem is the name of its package: so its messages have one wire name, whether they are imported from
here or loaded from the file beside the topology.
"""

from __future__ import annotations

import functools
import gc
import time
import tracemalloc

from zactor import Actor, Bulk, Later, Message, Ref, Refused, on

RING = 64
"""Different messages that a flood repeats. A receiver sees from `index` that none is missing and all are in order."""

BLOCK_BYTES = 256 << 10
"""What a file service sends in one piece."""

LINE = bytes(256)
"""What a log of changes holds of one of them."""

MARK_BYTES = 8
"""The first bytes of a block and its last are its index: a cheap look at whether it came as it was sent."""


class Work(Message[int]):
    """What is sent: in shape, one that a consensus protocol sends. Encoded it has 100 bytes."""

    index: int
    leader: str
    term: int
    commit_index: int
    payload: bytes


WORK = tuple(
    Work(index=index, leader="node-2", term=10_456, commit_index=10_450, payload=b"x" * 83) for index in range(RING)
)


class Block(Message[int]):
    """A piece of a file."""

    index: int
    content: Bulk


def content_of(index: int) -> bytes:
    """What the block of that index holds."""
    mark = index.to_bytes(MARK_BYTES)
    return mark + b"x" * (BLOCK_BYTES - 2 * MARK_BYTES) + mark


def is_content(content: bytes, index: int) -> bool:
    """Whether this is what the block of that index holds, by its length and its ends."""
    return len(content) == BLOCK_BYTES and content[:MARK_BYTES] == content[-MARK_BYTES:] == index.to_bytes(MARK_BYTES)


@functools.cache
def blocks() -> tuple[Block, ...]:
    """A ring of blocks: 16 MiB, made where they are needed."""
    return tuple(Block(index=index, content=content_of(index)) for index in range(RING))


class Tally(Message[int]):
    """How many Work came since the last Tally? Refused when one of them was out of place."""


class Handled(Message[int]):
    """Answered when that many Blocks have been handled. Refused when one of them was out of place.

    It is asked before they are sent: afterwards it could overtake them, since they have a lane of their own.
    """

    count: int


class Flood(Message[float]):
    """Have your target handle that many Work or Block; answered by how many a second. `count` is a multiple of RING."""

    count: int


class More(Message[None]):
    """What a flood has left."""

    count: int


class Ping(Message[tuple[int, ...]]):
    """Ask your target that often, one after the other; answered by the nanoseconds that each took."""

    count: int


class Crowd(Message[float]):
    """Have `width` askers ask `count` times in all; answered by how many a second."""

    width: int
    count: int


class Breed(Message[float]):
    """Spawn that many actors; answered by how many a second or, with `weigh`, by the bytes of each."""

    count: int
    weigh: bool = False


class Chatter(Message[float]):
    """Log that many events; answered by how many a second. `filtered`: such as are not kept."""

    count: int
    filtered: bool = False


class Sink(Actor):
    """Counts Work, and notices when one is out of place."""

    def on_start(self) -> None:
        self._count = self._wrong = 0

    @on
    def work(self, message: Work) -> int:
        if message.index != self._count % RING:
            self._wrong += 1
        self._count += 1
        return message.index

    @on
    def tally(self, message: Tally) -> int:
        count, wrong = self._count, self._wrong
        self._count = self._wrong = 0
        if wrong:
            raise Refused(f"{wrong} of {count} were out of place")
        return count


class CoroutineSink(Actor):
    """The same, with a handler that is a coroutine."""

    def on_start(self) -> None:
        self._count = self._wrong = 0

    @on
    async def work(self, message: Work) -> int:
        if message.index != self._count % RING:
            self._wrong += 1
        self._count += 1
        return message.index

    @on
    def tally(self, message: Tally) -> int:
        count, wrong = self._count, self._wrong
        self._count = self._wrong = 0
        if wrong:
            raise Refused(f"{wrong} of {count} were out of place")
        return count


class Keeper(Actor):
    """Answers Work when it is on the disk. What comes while a sync is under way is the next batch."""

    def on_start(self) -> None:
        self._waiting: list[tuple[Later[int], int]] = []
        self._committed: list[tuple[Later[int], int]] = []

    @on
    def work(self, message: Work) -> Later[int]:
        self.disk.append("work", LINE)
        later: Later[int] = self.later()
        self._waiting.append((later, message.index))
        return later

    def on_turn_end(self) -> None:
        self._commit()

    def on_synced(self, write_id: int) -> None:
        committed, self._committed = self._committed, []
        for later, index in committed:
            later.reply(index)
        self._commit()

    def _commit(self) -> None:
        if self._waiting and not self._committed:
            self._committed, self._waiting = self._waiting, []
            self.disk.commit(len(self._committed))


class Logger(Actor):
    """Logs, and does nothing else."""

    @on
    def chatter(self, message: Chatter) -> float:
        started_ns = time.perf_counter_ns()
        event = self.log.debug if message.filtered else self.log.info
        for index in range(message.count):
            event("heard", index=index, text="some words", because="it_was_asked")
        return message.count * 1e9 / (time.perf_counter_ns() - started_ns)


class Echo(Actor):
    """Answers Work with its index."""

    @on
    def work(self, message: Work) -> int:
        return message.index


class Teller(Actor):
    """Floods with `tell`, in bursts; between them it tells itself to go on, so that the receiver has its turn."""

    to: Ref[Work | Tally]

    _answer: Later[float] | None = None
    _count = 0
    _started_ns = 0

    @on
    def flood(self, message: Flood) -> Later[float]:
        assert message.count % RING == 0, message
        self._answer = self.later()
        self._count = message.count
        self._started_ns = time.perf_counter_ns()
        self.tell(self.ref, More(count=message.count))
        return self._answer

    @on
    async def more(self, message: More) -> None:
        to, tell = self.to, self.tell
        for work in WORK:
            tell(to, work)
        if message.count > RING:
            tell(self.ref, More(count=message.count - RING))
            return
        assert self._answer is not None
        self._answer.reply(_rate(self._count, await self.ask(to, Tally()), self._started_ns))


class Sender(Actor):
    """Floods with `send`, which waits for room."""

    to: Ref[Work | Tally]

    @on
    async def flood(self, message: Flood) -> float:
        assert message.count % RING == 0, message
        to, send = self.to, self.send
        started_ns = time.perf_counter_ns()
        for _ in range(message.count // RING):
            for work in WORK:
                await send(to, work)
        return _rate(message.count, await self.ask(to, Tally()), started_ns)


class BlockSink(Actor):
    """Counts Blocks, and notices when one is out of place."""

    _answer: Later[int] | None = None
    _expected = 0

    def on_start(self) -> None:
        self._count = self._wrong = 0

    @on
    def block(self, message: Block) -> int:
        if not (message.index == self._count % RING and is_content(message.content, message.index)):
            self._wrong += 1
        self._count += 1
        if self._count == self._expected:
            self._report()
        return message.index

    @on
    def handled(self, message: Handled) -> Later[int]:
        answer = self._answer = self.later()
        self._expected = message.count
        if self._count == self._expected:
            self._report()
        return answer

    def _report(self) -> None:
        assert self._answer is not None
        if self._wrong:
            self._answer.fail(Refused(f"{self._wrong} of {self._count} were out of place"))
        else:
            self._answer.reply(self._count)
        self._answer = None
        self._count = self._wrong = self._expected = 0


class BlockSender(Actor):
    """Floods with blocks."""

    to: Ref[Block | Handled]

    def on_start(self) -> None:
        blocks()  # made before a clock runs

    @on
    async def flood(self, message: Flood) -> float:
        assert message.count % RING == 0, message
        started_ns = time.perf_counter_ns()
        handled = self.ask(self.to, Handled(count=message.count), timeout_s=60)
        for _ in range(message.count // RING):
            for block in blocks():
                await self.send(self.to, block)
        return _rate(message.count, await handled, started_ns)


class Asker(Actor):
    """Asks."""

    to: Ref[Work]

    @on
    async def ping(self, message: Ping) -> tuple[int, ...]:
        spans_ns = []
        for index in range(message.count):
            started_ns = time.perf_counter_ns()
            answer = await self.ask(self.to, WORK[index % RING])
            spans_ns.append(time.perf_counter_ns() - started_ns)
            if answer != index % RING:
                raise Refused(f"the answer to {index % RING} was {answer}")
        return tuple(spans_ns)

    @on
    async def crowd(self, message: Crowd) -> float:
        askers = [self.spawn(Asker, to=self.to) for _ in range(message.width)]
        started_ns = time.perf_counter_ns()
        asked = [self.ask(asker, Ping(count=message.count // message.width), timeout_s=60) for asker in askers]
        answered = 0
        for spans_ns in asked:
            answered += len(await spans_ns)
        elapsed_ns = time.perf_counter_ns() - started_ns
        for asker in askers:
            self.stop(asker)
        return answered * 1e9 / elapsed_ns


class Nest(Actor):
    """A parent of many."""

    @on
    async def breed(self, message: Breed) -> float:
        if message.weigh:
            gc.collect()
            tracemalloc.start()
        started_ns = time.perf_counter_ns()
        children = [self.spawn(Echo) for _ in range(message.count)]
        elapsed_ns = time.perf_counter_ns() - started_ns
        for index, child in enumerate(children):
            if await self.ask(child, WORK[index % RING]) != index % RING:
                raise Refused(f"{child} does not work")
        if not message.weigh:
            return message.count * 1e9 / elapsed_ns
        gc.collect()
        size_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return size_bytes / message.count


class Breeder(Actor):
    """Spawns below a nest, which it stops afterwards."""

    @on
    async def breed(self, message: Breed) -> float:
        nest = self.spawn(Nest)
        figure: float = await self.ask(nest, message, timeout_s=60)
        self.stop(nest)
        return figure


def _rate(sent: int, handled: int, started_ns: int) -> float:
    """Messages a second until now, once it is known that all were handled. Raises `Refused` when they were not."""
    if handled != sent:
        raise Refused(f"{handled} of {sent} were handled")
    return sent * 1e9 / (time.perf_counter_ns() - started_ns)
