"""The next server of a chain: asked for the same thing, and blamed by name when it is not done.

Time is shared out from behind: each server gives those behind it less than it has itself, so the one next to a dead
server notices first, and says who it was. Frames for one server that are under way at a time are bounded, since an
outbox that is full would break a chain in which nobody failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable
from typing import Any

import msgspec

from zactor.actor import Actor, Down, Up
from zactor.errors import Failure
from zactor.message import Envelope, Ref

from .messages import Chain, ChainBroken

STEP_TIMEOUT_S = 20.0
"""What each server behind may take. A dead one is noticed without it."""

FIRST_TIMEOUT_S = 5.0
"""The same for one that was never heard of, and may be down: only mail for it would tell, and waits for it instead."""

SHARE = 0.8
"""Of the time that is left, what those behind may take."""

UNDER_WAY_MAX = 8 << 20
"""Bytes for one server: what one client has in flight, and half of an outbox."""

RETRY_S = 0.005
"""How often those look who wait for room. At 1 GB/s 5 MB leave in it, which is less than what is under way."""


class Neighbour(msgspec.Struct, eq=False):
    """What this server knows of another one. `down`: why it cannot be asked. `waiting` are in the order they came."""

    down: str = ""
    was_heard: bool = False
    under_way: int = 0
    waiting: deque[object] = msgspec.field(default_factory=deque)

    def has_room(self, size: int) -> bool:
        """Whether so many bytes may be sent now. A single frame always may."""
        return not self.under_way or self.under_way + size <= UNDER_WAY_MAX


class Chaining:
    """Passes on what its actor was asked."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._neighbours: dict[str, Neighbour] = {}

    def on_down(self, notice: Down) -> None:
        """A server that was passed something is gone."""
        self._neighbours[notice.ref.name].down = notice.reason

    def on_up(self, notice: Up) -> None:
        """It is there again."""
        self._neighbours[notice.ref.name].down = ""

    def is_open(self, chain: Chain, size: int) -> bool:
        """Whether so many bytes can be passed on at once, before anything is awaited."""
        if not chain:
            return True
        neighbour = self._neighbour(chain[0])
        return bool(neighbour.down) or (not neighbour.waiting and neighbour.has_room(size))

    async def room(self, chain: Chain, size: int) -> None:
        """Wait until they can, behind all who wait already."""
        neighbour, ticket = self._neighbour(chain[0]), object()
        neighbour.waiting.append(ticket)
        try:
            while not neighbour.down and (neighbour.waiting[0] is not ticket or not neighbour.has_room(size)):
                await self._actor.sleep(RETRY_S)
        finally:
            neighbour.waiting.remove(ticket)

    def pass_on(self, chain: Chain, message: Any, envelope: Envelope, size: int = 0) -> Passed:
        """Ask the next server of the chain, if there is one, for the same. To be awaited by `Passed.done`."""
        if not chain:
            return Passed(None, None, None, 0)
        neighbour = self._neighbour(chain[0])
        if neighbour.down:
            return Passed(chain[0], neighbour, None, 0)
        step_s = STEP_TIMEOUT_S if neighbour.was_heard else FIRST_TIMEOUT_S
        left_s = STEP_TIMEOUT_S * len(chain) if envelope.left_ns is None else envelope.left_ns / 1e9
        timeout_s = min(step_s * len(chain), SHARE * left_s)
        neighbour.under_way += size
        answer = self._actor.ask(chain[0], msgspec.structs.replace(message, chain=chain[1:]), timeout_s)
        return Passed(chain[0], neighbour, answer, size)

    def _neighbour(self, ref: Ref[Any]) -> Neighbour:
        neighbour = self._neighbours.get(ref.name)
        if neighbour is None:
            neighbour = self._neighbours[ref.name] = Neighbour()
            self._actor.watch(ref)
        return neighbour


class Passed:
    """What the servers behind were asked."""

    __slots__ = ("_answer", "_neighbour", "_ref", "_size")

    def __init__(
        self, ref: Ref[Any] | None, neighbour: Neighbour | None, answer: Awaitable[None] | None, size: int
    ) -> None:
        self._ref = ref
        self._neighbour = neighbour
        self._answer = answer
        self._size = size

    async def done(self) -> None:
        """Wait until it is done by all of them. Raises `ChainBroken`, which begins with the name of who did not."""
        if self._neighbour is None or self._ref is None:
            return
        if self._answer is None:
            raise ChainBroken(f"{self._ref.name}: it is down: {self._neighbour.down}")
        try:
            await self._answer
            self._neighbour.was_heard = True
        except ChainBroken:
            raise  # it says who it was
        except Failure as error:
            raise ChainBroken(f"{self._ref.name}: {type(error).__name__}: {error}") from error

    def settle(self) -> None:
        """Nothing is under way any more."""
        if self._neighbour is not None:
            self._neighbour.under_way -= self._size
            self._size = 0
