"""The actors that the tests with real processes launch, by this file's name."""

from __future__ import annotations

import asyncio
import os
import threading

from tests.gate import Enter
from tests.gate import Gate as Gate  # kinds and words of the topologies here
from tests.gate import Open as Open
from tests.gate import Waiting as Waiting
from zactor.actor import Actor, Down, Up, on
from zactor.errors import AskCycle, Overloaded
from zactor.message import Message, Ref


class Say(Message[str]):
    text: str


class Pid(Message[int]):
    pass


class Hold(Message[None]):
    """Keep the actor busy until the gate is opened."""


class Raise(Message[None]):
    size: int = 10


class Items(Message[tuple[int, int]]):
    """How many items came, and how many of them out of order."""


class Item(Message[None]):
    number: int


class Go(Message[None]):
    count: int


class Sent(Message[int]):
    pass


class Around(Message[str]):
    pass


class Outcome(Message[str]):
    """What became of the ask: it waits behind it."""


class Nothing(Message[None]):
    pass


class Begin(Message[None]):
    pass


class Store(Message[int]):
    """Write so many bytes so many times, and wait for none of it; answered by how many writes began."""

    size: int
    times: int
    file: str = "file"


class Load(Message[int]):
    """The size of a file."""

    file: str = "file"


class Echo(Actor):
    @on
    def say(self, message: Say) -> str:
        return message.text

    @on
    def pid(self, message: Pid) -> int:
        return os.getpid()

    @on
    def fail(self, message: Raise) -> None:
        raise RuntimeError("x" * message.size)

    @on
    async def hold(self, message: Hold) -> None:
        await self.sleep(3600)


class Front(Actor):
    """Passes what it is asked on to an echo."""

    echo: Ref[Say | Pid | Hold]

    @on
    async def say(self, message: Say) -> str:
        return await self.ask(self.echo, message)

    @on
    async def pid(self, message: Pid) -> int:
        return await self.ask(self.echo, message)

    @on
    async def hold(self, message: Hold) -> None:
        await self.ask(self.echo, message, timeout_s=3600)


class Printer(Actor):
    @on
    def say(self, message: Say) -> str:
        print(message.text)
        return message.text


class Receiver(Actor):
    gate: Ref[Enter]

    _count: int = 0
    _wrong: int = 0

    @on
    async def hold(self, message: Hold) -> None:
        await self.ask(self.gate, Enter(), timeout_s=3600)

    @on
    def item(self, message: Item) -> None:
        self._wrong += message.number != self._count
        self._count += 1

    @on
    def items(self, message: Items) -> tuple[int, int]:
        return self._count, self._wrong


class Sender(Actor):
    receiver: Ref[Item]

    _sent: int = 0

    @on(interleave=True)
    async def go(self, message: Go) -> None:
        while self._sent < message.count:
            try:
                await self.send(self.receiver, Item(number=self._sent))
            except Overloaded:
                continue  # it found no room for a second
            self._sent += 1

    @on
    def sent(self, message: Sent) -> int:
        return self._sent


class Ring(Actor):
    """One of several that ask each other in a circle."""

    next: Ref[Around | Nothing]
    gate: Ref[Enter]

    def on_start(self) -> None:
        self._outcome = ""

    @on
    async def around(self, message: Around) -> str:
        try:
            return await self.ask(self.next, message, timeout_s=60.0)
        except AskCycle as problem:
            return f"cycle {problem}"

    @on
    async def begin(self, message: Begin) -> None:
        await self.ask(self.gate, Enter(), timeout_s=60.0)
        try:
            await self.ask(self.next, Nothing(), timeout_s=60.0)
            self._outcome = "answered"
        except AskCycle as problem:
            self._outcome = f"cycle {problem}"

    @on
    def nothing(self, message: Nothing) -> None: ...

    @on
    def outcome(self, message: Outcome) -> str:
        return self._outcome


class FailsAtStart(Actor):
    def on_start(self) -> None:
        raise RuntimeError("no such luck")


class NeverReady(Actor):
    async def on_start(self) -> None:
        await self.sleep(3600)


class NeverStops(Actor):
    """Blocks its process when it is told to stop."""

    def on_stop(self) -> None:
        threading.Event().wait()


class Writer(Actor):
    @on
    def store(self, message: Store) -> int:
        for index in range(message.times):
            self.disk.append(message.file, bytes([index % 256]) * message.size)
        return message.times

    @on
    async def load(self, message: Load) -> int:
        return await self.disk.size(message.file) or 0


class Break(Message[None]):
    """Let something fail that is no actor: a callback of the loop, or a task that nobody looks after."""

    task: bool


async def fail_in_a_task() -> None:
    async def fail() -> None:
        raise RuntimeError("nobody looks")

    asyncio.create_task(fail())  # noqa: RUF006 - that is the mistake
    await asyncio.sleep(0)


def fail_in_a_callback() -> None:
    raise RuntimeError("a mistake of zactor")


class Saboteur(Actor):
    @on
    async def sabotage(self, message: Break) -> None:
        if message.task:
            await self.call(fail_in_a_task)
        else:
            asyncio.get_running_loop().call_soon(fail_in_a_callback)

    @on
    def pid(self, message: Pid) -> int:
        return os.getpid()


class Told(Message[tuple[str, ...]]):
    """What a watcher was told."""


class Watcher(Actor):
    """Watches an actor, and remembers what it was told."""

    target: Ref[Pid]

    def on_start(self) -> None:
        self._told: list[str] = []
        self.watch(self.target)

    @on
    def down(self, message: Down) -> None:
        self._told.append(f"{'down for good' if message.final else 'down'}: {message.reason}")

    @on
    def up(self, message: Up) -> None:
        self._told.append("up")

    @on
    def told(self, message: Told) -> tuple[str, ...]:
        return tuple(self._told)


class StartsWhenTold(Actor):
    """Is ready when there is a file `go` among what it keeps."""

    async def on_start(self) -> None:
        while await self.disk.size("go") is None:
            await self.sleep(0.01)
