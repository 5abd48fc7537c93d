"""Timers: `after`, `cancel`, `sleep`; they end with their object and do not pile up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernel.balance import assert_all_balanced
from zactor.actor import Actor, on
from zactor.kernel import Kernel
from zactor.message import Envelope, Message
from zactor.sim.virtual import Virtual

MILLISECOND_NS = 1_000_000


class Tick(Message[None]):
    number: int


class Unknown(Message[None]):
    pass


class Begin(Message[None]):
    pass


class Sleep(Message[int]):
    seconds: float


class Clock(Actor):
    mailbox_size = 5

    def on_start(self) -> None:
        self.ticks: list[tuple[int, int]] = []
        self.envelopes: list[Envelope] = []
        self.timers: list[int] = []

    @on
    def tick(self, message: Tick, envelope: Envelope) -> None:
        self.ticks.append((message.number, self.now_ns()))
        self.envelopes.append(envelope)

    @on
    def begin(self, message: Begin, envelope: Envelope) -> None:
        self.envelopes.append(envelope)
        self.timers.append(self.after(0.01, Tick(number=1)))

    @on
    async def sleeping(self, message: Sleep) -> int:
        before_ns = self.now_ns()
        await self.sleep(message.seconds)
        return self.now_ns() - before_ns


def one() -> tuple[Virtual, Kernel, Clock, Any]:
    virtual = Virtual()
    kernel = virtual.add("p")
    kernel.life.add("clock", Clock)
    virtual.start()
    virtual.run()
    clock = kernel.cells["clock"].actor
    assert isinstance(clock, Clock)
    return virtual, kernel, clock, virtual.outside("p")


def test_timers_fire_in_the_order_of_their_times_and_not_early() -> None:
    virtual, _, clock, _ = one()
    started_ns = virtual.now_ns

    for number in (3, 1, 2):
        clock.after(number / 1000, Tick(number=number))
    virtual.run()

    assert [number for number, _ in clock.ticks] == [1, 2, 3]
    for number, at_ns in clock.ticks:
        assert number * MILLISECOND_NS <= at_ns - started_ns < number * MILLISECOND_NS + 10_000
    assert_all_balanced(virtual)


def test_timers_of_one_time_fire_in_the_order_in_which_they_were_set() -> None:
    virtual, _, clock, _ = one()

    for number in range(100):
        clock.after(0.01, Tick(number=number))
    virtual.run()

    assert [number for number, _ in clock.ticks] == list(range(100))


def test_a_timer_that_is_taken_back_in_time_does_not_fire() -> None:
    virtual, _, clock, _ = one()
    timer = clock.after(0.01, Tick(number=1))

    assert clock.cancel(timer) is True
    assert clock.cancel(timer) is False
    virtual.run()

    assert clock.ticks == []
    assert_all_balanced(virtual)


def test_a_timer_that_has_fired_cannot_be_taken_back() -> None:
    virtual, _, clock, _ = one()
    timer = clock.after(0.01, Tick(number=1))

    virtual.run()

    assert clock.cancel(timer) is False


def test_nobody_takes_back_a_timer_of_another() -> None:
    virtual, kernel, clock, _ = one()
    kernel.life.spawn(Clock, "other")
    other = kernel.cells["other"].actor
    assert isinstance(other, Clock)
    timer = clock.after(0.01, Tick(number=1))

    assert other.cancel(timer) is False
    virtual.run()

    assert len(clock.ticks) == 1


def test_a_timer_needs_a_handler() -> None:
    _, _, clock, _ = one()

    with pytest.raises(TypeError, match="Clock has no handler for Unknown"):
        clock.after(1.0, Unknown())


def test_a_timer_keeps_cause_and_root_and_has_no_deadline() -> None:
    virtual, _, clock, outside = one()

    virtual.result(outside.ask(outside.to("clock"), Begin(), timeout_s=0.5))
    virtual.run()

    begin, tick = clock.envelopes
    assert (tick.cause, tick.root) == (begin.id, begin.root)
    assert tick.left_ns is None
    assert tick.sender == clock.ref


def test_a_sleep_lasts_as_long_as_it_says() -> None:
    virtual, _, _, outside = one()

    slept_ns = virtual.result(outside.ask(outside.to("clock"), Sleep(seconds=0.5)))

    assert 500 * MILLISECOND_NS <= slept_ns < 501 * MILLISECOND_NS


def test_a_timer_passes_a_full_mailbox_but_not_a_handler_that_waits() -> None:
    virtual, _, clock, outside = one()
    clock.after(0.01, Tick(number=1))
    wait = outside.ask(outside.to("clock"), Sleep(seconds=0.1))
    virtual.run(seconds=0.001)
    for number in range(5):
        outside.say("clock", Tick(number=100 + number))

    virtual.run(seconds=0.05)
    assert clock.ticks == []
    virtual.result(wait)
    virtual.run()

    assert [number for number, _ in clock.ticks] == [1, 100, 101, 102, 103, 104]


def test_now_stands_still_within_an_input_and_never_goes_back() -> None:
    virtual, _, clock, _ = one()

    for number in range(10):
        clock.after(number / 100, Tick(number=number))
    virtual.run()

    times = [at_ns for _, at_ns in clock.ticks]
    assert times == sorted(times)


def test_timers_that_were_taken_back_do_not_pile_up() -> None:
    _, kernel, clock, _ = one()
    kept = [clock.after(3600.0, Tick(number=0)) for _ in range(10)]

    for number in range(10_000):
        clock.cancel(clock.after(3600.0, Tick(number=number)))

    assert len(kept) == len(kernel.waits.timers) == 10
    assert len(kernel.waits.heap) < 200


def test_those_that_remain_after_many_were_taken_back_still_fire_in_their_order() -> None:
    virtual, _, clock, _ = one()
    lot = virtual.stream("the test")
    timers = [(number, clock.after(number / 10_000, Tick(number=number))) for number in lot.sample(range(1000), 1000)]

    for number, timer in timers:
        if number % 10:
            clock.cancel(timer)
    virtual.run()

    assert [number for number, _ in clock.ticks] == list(range(0, 1000, 10))


def test_timers_of_objects_that_are_gone_do_not_pile_up() -> None:
    virtual, kernel, clock, _ = one()

    for number in range(1000):
        child = clock.spawn(Clock, f"c{number}")
        actor = kernel.cells[child.name].actor
        assert isinstance(actor, Clock)
        actor.after(3600.0, Tick(number=0))
        virtual.run(seconds=0.000_01)
        kernel.life.stop(child.name)
        virtual.run(seconds=0.000_01)

    assert kernel.waits.timers == {}
    assert len(kernel.waits.heap) < 200


def test_asks_that_are_answered_leave_no_timer_each() -> None:
    virtual, kernel, _, outside = one()

    for _ in range(1000):
        virtual.result(outside.ask(outside.to("clock"), Sleep(seconds=0.0)))

    assert kernel.pending == {}
    assert len(kernel.waits.heap) < 200


def test_one_long_ask_and_many_short_ones_leave_few_looks_at_deadlines() -> None:
    virtual, kernel, _, outside = one()
    outside.ask(outside.to("clock"), Sleep(seconds=1e9), timeout_s=3600.0)

    for _ in range(2000):
        outside.ask(outside.to("clock"), Begin(), timeout_s=0.01)
        virtual.run(seconds=0.02)

    assert len(kernel.waits.heap) < 200
