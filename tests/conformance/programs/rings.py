"""A ring of asks fails exactly one of them, at once, with the ring; the others are answered."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tests.conformance.stage import Stage, crowd, outcome, told
from tests.gate import Enter, Gate, Open
from zactor.actor import Actor, on
from zactor.errors import AskCycle
from zactor.message import Message, Ref

LONG_S = 3600.0

__all__ = ["Gate", "Member"]


class Around(Message[str]):
    """Passed on from one to the next, for ever."""


class Begin(Message[str]):
    """Wait at the gate, then ask the next one: the roots of these asks differ."""


class Value(Message[str]):
    pass


class Member(Actor):
    """One of a ring. Who hears of the cycle says so, and the others pass it on."""

    next: Ref[Around | Value]
    gate: Ref[Enter]

    @on
    async def around(self, message: Around) -> str:
        try:
            return await self.ask(self.next, Around(), timeout_s=LONG_S)
        except AskCycle as error:
            return f"{self.ref.name} was told {told(error)}"

    @on
    async def begin(self, message: Begin) -> str:
        await self.ask(self.gate, Enter(), timeout_s=LONG_S)
        try:
            return await self.ask(self.next, Value(), timeout_s=LONG_S)
        except AskCycle as error:
            return told(error)

    @on
    def value(self, message: Value) -> str:
        return f"the value of {self.ref.name}"


async def play(stage: Stage) -> AsyncIterator[str]:
    yield f"one chain over three processes: {await outcome(stage.ask('a', Around()))}"
    yield f"and from its middle: {await outcome(stage.ask('c', Around()))}"
    for roots in (("one", "two"), ("a", "b", "c")):
        asks = {root: stage.ask(root, Begin()) for root in roots}
        await crowd(stage, len(roots))
        await stage.ask("gate", Open())
        for root, ask in asks.items():
            yield f"{len(roots)} roots, {root}: {await outcome(ask)}"
