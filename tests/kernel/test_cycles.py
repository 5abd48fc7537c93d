"""Asks that wait for themselves: each ring fails one ask, at once or within some probes, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernel.balance import assert_all_balanced
from zactor.actor import Actor, on
from zactor.cycles import PROBE_NS
from zactor.door import Later
from zactor.errors import AskCycle, AskTimeout
from zactor.message import Message, Ref
from zactor.sim.virtual import Virtual

SECOND_NS = 1_000_000_000


class Around(Message[str]):
    """Goes from one to the next until somebody fails."""

    hops: int


class Begin(Message[str]):
    """Ask the next one, after a while: the roots of these asks differ."""

    seconds: float


class Value(Message[str]):
    seconds: float


class Answer(Message[None]):
    pass


class Member(Actor):
    """One of a ring. Those who hear of a cycle say so; the others pass on what they get."""

    next: Ref[Any]

    @on
    async def around(self, message: Around) -> str:
        if message.hops == 0:
            return "end"
        try:
            return await self.ask(self.next, Around(hops=message.hops - 1), timeout_s=30.0)
        except AskCycle as error:
            return f"{self.ref.name}: {error}"

    @on
    async def begin(self, message: Begin) -> str:
        await self.sleep(message.seconds)
        try:
            return await self.ask(self.next, Value(seconds=0.0), timeout_s=30.0)
        except AskCycle as error:
            return f"{self.ref.name}: {error}"

    @on
    async def value(self, message: Value) -> str:
        return "value"


class Overtaken(Actor):
    """A member of a ring whose handlers let others pass."""

    next: Ref[Any]

    @on(interleave=True)
    async def begin(self, message: Begin) -> str:
        return await self.ask(self.next, Value(seconds=message.seconds), timeout_s=30.0)

    @on(interleave=True)
    async def around(self, message: Around) -> str:
        if message.hops == 0:
            return "end"
        return await self.ask(self.next, Around(hops=message.hops - 1), timeout_s=30.0)

    @on(interleave=True)
    async def value(self, message: Value) -> str:
        await self.sleep(message.seconds)
        return "value"


class Lazy(Actor):
    """Answers by a `Later`, and asks back in between."""

    next: Ref[Any]
    _later: Later[str] | None = None

    @on
    def value(self, message: Value) -> Later[str]:
        self._later = self.later()
        self.after(message.seconds, Answer())
        return self._later

    @on
    def answer(self, message: Answer) -> None:
        assert self._later is not None
        self._later.reply("later")


def ring(size: int, placement: str, kind: type[Actor] = Member) -> Virtual:
    """Actors `m0`, `m1`, ..., each asking the next; all in one process or each in its own."""
    virtual = Virtual()
    for index in range(size):
        process = "p" if placement == "local" else f"p{index}"
        if process not in virtual.processes:
            virtual.add(process)
        kernel = virtual.processes[process].kernel
        kernel.life.add(f"m{index}", kind, links={"next": f"m{(index + 1) % size}"})
    virtual.start()
    virtual.run()
    return virtual


def outside_of(virtual: Virtual) -> Any:
    return virtual.outside(next(iter(virtual.processes)))


def rotations(names: list[str]) -> set[str]:
    """All the ways to write a ring."""
    return {" -> ".join([*names[start:], *names[:start], names[start]]) for start in range(len(names))}


sizes = pytest.mark.parametrize("size", [1, 2, 3, 5])
placements = pytest.mark.parametrize("placement", ["local", "remote"])


@sizes
@placements
def test_a_chain_that_closes_fails_at_once_with_the_chain(size: int, placement: str) -> None:
    virtual = ring(size, placement)
    outside = outside_of(virtual)
    started_ns = virtual.now_ns

    answer = virtual.result(outside.ask(outside.to("m0"), Around(hops=1000), timeout_s=30.0))

    names = [f"m{index}" for index in range(size)]
    assert answer == f"m{size - 1}: " + " -> ".join([*names, "m0"])
    assert virtual.now_ns - started_ns < PROBE_NS
    virtual.run()
    assert_all_balanced(virtual)


@pytest.mark.parametrize("size", [2, 3, 5])
@placements
def test_roots_that_cross_fail_exactly_one_ask_of_their_ring(size: int, placement: str) -> None:
    virtual = ring(size, placement)
    outside = outside_of(virtual)
    started_ns = virtual.now_ns

    waits = [outside.ask(outside.to(f"m{index}"), Begin(seconds=0.01), timeout_s=30.0) for index in range(size)]
    answers = [virtual.result(wait) for wait in waits]

    failed = [answer for answer in answers if answer != "value"]
    assert len(failed) == 1
    assert failed[0].partition(": ")[2] in rotations([f"m{index}" for index in range(size)])
    assert virtual.now_ns - started_ns < SECOND_NS
    virtual.run()
    assert_all_balanced(virtual)


@placements
@pytest.mark.parametrize("late", [0, 1, 2])
def test_a_ring_whose_last_edge_comes_long_after_the_others_is_found_too(placement: str, late: int) -> None:
    virtual = ring(3, placement)
    outside = outside_of(virtual)

    waits = [
        outside.ask(outside.to(f"m{index}"), Begin(seconds=2.0 if index == late else 0.0), timeout_s=30.0)
        for index in range(3)
    ]
    answers = [virtual.result(wait) for wait in waits]

    assert len([answer for answer in answers if answer != "value"]) == 1
    assert virtual.now_ns < 8 * SECOND_NS


@placements
def test_two_rings_at_once_fail_one_ask_each(placement: str) -> None:
    virtual = Virtual()
    for index in range(4):
        process = "p" if placement == "local" else f"p{index}"
        if process not in virtual.processes:
            virtual.add(process)
        partner = index ^ 1
        virtual.processes[process].kernel.life.add(f"m{index}", Member, links={"next": f"m{partner}"})
    virtual.start()
    virtual.run()
    outside = outside_of(virtual)

    waits = [outside.ask(outside.to(f"m{index}"), Begin(seconds=0.01), timeout_s=30.0) for index in range(4)]
    answers = [virtual.result(wait) for wait in waits]

    assert sorted(answer == "value" for answer in answers) == [False, False, True, True]


@placements
def test_handlers_that_can_be_overtaken_ask_each_other_without_a_cycle(placement: str) -> None:
    virtual = ring(3, placement, Overtaken)
    outside = outside_of(virtual)

    waits = [outside.ask(outside.to(f"m{index}"), Begin(seconds=0.5), timeout_s=30.0) for index in range(3)]

    assert [virtual.result(wait) for wait in waits] == ["value"] * 3
    assert virtual.result(outside.ask(outside.to("m0"), Around(hops=9))) == "end"
    assert_all_balanced(virtual)


@placements
def test_an_ask_that_a_later_will_answer_is_no_cycle(placement: str) -> None:
    virtual = Virtual()
    front = virtual.add("front")
    back = front if placement == "local" else virtual.add("back")
    front.life.add("m0", Member, links={"next": "lazy"})
    back.life.add("lazy", Lazy, links={"next": "m0"})
    virtual.start()
    virtual.run()
    outside = virtual.outside("front")

    class Pulling(Member):
        @on
        async def begin(self, message: Begin) -> str:
            return await self.ask(self.next, Value(seconds=0.6), timeout_s=30.0)

    front.life.add("m1", Pulling, links={"next": "lazy"})
    front.life.start()
    assert virtual.result(outside.ask(outside.to("m1"), Begin(seconds=0.0), timeout_s=30.0)) == "later"
    assert_all_balanced(virtual)


@placements
def test_a_slow_answer_is_no_cycle(placement: str) -> None:
    virtual = Virtual()
    front = virtual.add("front")
    back = front if placement == "local" else virtual.add("back")
    front.life.add("m0", Member, links={"next": "slow"})

    class SlowMember(Member):
        @on
        async def value(self, message: Value) -> str:
            await self.sleep(3.0)
            return "slow"

    back.life.add("slow", SlowMember, links={"next": "m0"})
    virtual.start()
    virtual.run()
    outside = virtual.outside("front")

    waits = [outside.ask(outside.to("m0"), Begin(seconds=0.0), timeout_s=30.0) for _ in range(3)]

    assert [virtual.result(wait) for wait in waits] == ["slow"] * 3


def test_the_asks_outside_of_a_broken_ring_are_not_harmed() -> None:
    virtual = ring(2, "remote")
    outside = outside_of(virtual)
    crossing = [outside.ask(outside.to(name), Begin(seconds=0.01), timeout_s=30.0) for name in ("m0", "m1")]
    bystanders = [outside.ask(outside.to(name), Value(seconds=0.0), timeout_s=30.0) for name in ("m0", "m1")]

    answers = [virtual.result(wait) for wait in crossing]

    assert sum(answer != "value" for answer in answers) == 1
    assert [virtual.result(wait) for wait in bystanders] == ["value", "value"]


def test_an_ask_made_before_it_is_awaited_closes_a_ring_like_any_other() -> None:
    virtual = Virtual()
    kernel = virtual.add("p")

    class Early(Member):
        @on
        async def begin(self, message: Begin) -> str:
            wait = self.ask(self.next, Around(hops=1), timeout_s=30.0)
            await self.sleep(0.2)
            try:
                return await wait
            except AskCycle as error:
                return f"{self.ref.name}: {error}"

    kernel.life.add("early", Early, links={"next": "m0"})
    kernel.life.add("m0", Member, links={"next": "early"})
    virtual.start()
    outside = virtual.outside("p")

    answer = virtual.result(outside.ask(outside.to("early"), Begin(seconds=0.0), timeout_s=30.0))

    assert "early -> m0 -> early" in answer or "m0 -> early -> m0" in answer
    assert virtual.now_ns < 3 * SECOND_NS


def test_without_a_cycle_a_deadline_is_a_deadline() -> None:
    virtual = ring(2, "local")
    outside = outside_of(virtual)

    with pytest.raises(AskTimeout):
        virtual.result(outside.ask(outside.to("m0"), Begin(seconds=9.0), timeout_s=1.0))
