"""A client that reads nothing is dropped, never waited for: nobody else notices it, and it may come back."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tests.conformance.stage import Stage, outcome
from zactor.actor import Actor, on
from zactor.errors import Failure
from zactor.message import Message, Ref

SIZE = 256 << 10
ASKS = 400
"""100 MiB of answers: far more than any outbox or window has room for."""
SLOW = "@slow"


class Fetch(Message[bytes]):
    size: int


class Relay(Message[int]):
    """Fetch by way of another process; answered by the size that came."""

    size: int


class Server(Actor):
    """Answers with so many bytes."""

    @on
    def fetch(self, message: Fetch) -> bytes:
        return bytes(message.size)


class Other(Actor):
    """One of those who are served meanwhile."""

    server: Ref[Fetch]

    @on
    async def relay(self, message: Relay) -> int:
        return len(await self.ask(self.server, Fetch(size=message.size)))


async def play(stage: Stage) -> AsyncIterator[str]:
    slow = stage.client(SLOW)
    yield f"in time: {len(await slow.ask('server', Fetch(size=10)))} bytes"
    asks = [slow.ask("server", Fetch(size=SIZE)) for _ in range(ASKS)]
    await stage.pause(SLOW)

    for number in range(1, 21):
        assert len(await stage.ask("server", Fetch(size=number))) == number
        assert await stage.ask("other", Relay(size=number)) == number
    yield "the others were served meanwhile"

    async def dropped() -> bool:
        about = await stage.inspect("server")
        clients = [peer for peer in about["peers"] if peer["process"].startswith("@")]
        return len(clients) == 1  # who looks is one of them

    yield f"the server keeps nothing for the slow one: {await stage.until(dropped)}"

    await stage.resume(SLOW)
    lost = 0
    for ask in asks:
        try:
            assert len(await ask) == SIZE
        except Failure:
            lost += 1
    yield f"what it did not read in time is lost to it: {0 < lost <= ASKS}"
    yield f"it comes back: {await outcome(slow.ask('server', Fetch(size=3)))}"
