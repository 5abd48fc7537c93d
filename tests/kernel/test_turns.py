"""Turns: how many messages, what ends them, whose turn is next, and what a turn's end knows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernel.balance import assert_all_balanced
from zactor.actor import Actor, on
from zactor.cell import Cell
from zactor.debug.recorder import Recorder
from zactor.debug.recording import Memory
from zactor.errors import ActorFailed
from zactor.kernel import TURN_NS, Kernel
from zactor.message import Envelope, Message, Ref
from zactor.sim.virtual import Virtual


class Item(Message[int]):
    number: int


class Batch(Message[None]):
    count: int


class Nested(Message[int | None]):
    pass


class Collector(Actor):
    """Gathers what comes in a turn and sends it on at its end."""

    to: Ref[Any] | None = None

    def on_start(self) -> None:
        self._items = 0
        self.turns: list[int] = []
        self.envelopes: list[Envelope] = []

    @on
    def item(self, message: Item, envelope: Envelope) -> int:
        self._items += 1
        self.envelopes.append(envelope)
        return message.number

    @on
    def batch(self, message: Batch, envelope: Envelope) -> None:
        self._items += 1
        self.envelopes.append(envelope)

    def on_turn_end(self) -> None:
        self.turns.append(self._items)
        if self.to is not None:
            self.tell(self.to, Batch(count=self._items))
        self._items = 0


class Wide(Collector):
    turn_messages = 1024


class AskingAtItsEnd(Collector):
    answers: list[Any]

    def on_turn_end(self) -> None:
        if self.to is not None and self._items:
            self._items = 0
            wait: Any = self.ask(self.to, Nested(), timeout_s=60.0)
            wait.notify = lambda wait: self.answers.append(wait.value)


class Telling(Actor):
    @on
    def nested(self, message: Nested, envelope: Envelope) -> int | None:
        return envelope.left_ns


class Failing(Collector):
    def on_turn_end(self) -> None:
        if self.turns == []:
            self.turns.append(0)
            raise ValueError("at the end")


class Chatter(Actor):
    """Tells itself for ever."""

    handled: dict[str, int]

    def on_start(self) -> None:
        for _ in range(200):
            self.tell(self.ref, Item(number=0))

    @on
    def item(self, message: Item) -> int:
        self.handled[self.ref.name] = self.handled.get(self.ref.name, 0) + 1
        self.tell(self.ref, message)
        return 0


def one(kind: type[Actor], **given: Any) -> tuple[Virtual, Kernel, Any]:
    virtual = Virtual()
    kernel = virtual.add("p")
    kernel.life.add("sink", Collector)
    kernel.life.add("it", kind, given)
    virtual.start()
    virtual.run()
    return virtual, kernel, virtual.outside("p")


@pytest.mark.parametrize(("kind", "turns"), [(Collector, [64, 64, 22]), (Wide, [150])])
def test_a_turn_takes_64_messages_or_what_its_kind_says_and_ends_once(kind: type[Actor], turns: list[int]) -> None:
    virtual, kernel, outside = one(kind)

    for number in range(150):
        outside.say("it", Item(number=number))
    virtual.run()

    actor: Any = kernel.cells["it"].actor
    assert actor.turns == turns
    assert_all_balanced(virtual)


def test_without_a_message_there_is_no_end_of_a_turn() -> None:
    virtual, kernel, _ = one(Collector)

    kernel.schedule(kernel.cells["it"])
    virtual.run()

    actor: Any = kernel.cells["it"].actor
    assert actor.turns == []


def test_the_end_of_a_turn_sends_with_cause_and_root_of_the_last_message() -> None:
    virtual = Virtual()
    kernel = virtual.add("p")
    kernel.life.add("sink", Collector)
    kernel.life.add("it", Collector, links={"to": "sink"})
    virtual.start()
    virtual.run()
    outside = virtual.outside("p")

    virtual.result(outside.ask(outside.to("it"), Item(number=1)))
    virtual.run()

    sink: Any = kernel.cells["sink"].actor
    it: Any = kernel.cells["it"].actor
    assert sink.envelopes[0].cause == it.envelopes[0].id
    assert sink.envelopes[0].root == it.envelopes[0].root
    assert sink.envelopes[0].sender == Ref("it")


def test_an_ask_at_the_end_of_a_turn_does_not_inherit_the_deadline_of_an_ask_that_is_answered() -> None:
    virtual = Virtual()
    kernel = virtual.add("p")
    answers: list[Any] = []
    kernel.life.add("telling", Telling)
    kernel.life.add("it", AskingAtItsEnd, {"answers": answers}, links={"to": "telling"})
    virtual.start()
    outside = virtual.outside("p")

    virtual.result(outside.ask(outside.to("it"), Item(number=1), timeout_s=0.5))
    virtual.run()

    assert answers[0] > 59 * 1_000_000_000


def test_an_end_of_a_turn_that_fails_is_supervised() -> None:
    virtual, kernel, outside = one(Failing)

    assert virtual.result(outside.ask(outside.to("it"), Item(number=1))) == 1
    virtual.run(seconds=1.0)

    assert kernel.cells["it"].generation == 1
    assert kernel.cells["it"].last_error == "it: ValueError: at the end"


def test_two_busy_actors_have_the_same_share() -> None:
    virtual = Virtual()
    kernel = virtual.add("p")
    handled: dict[str, int] = {}
    kernel.life.add("one", Chatter, {"handled": handled})
    kernel.life.add("two", Chatter, {"handled": handled})
    virtual.start()

    virtual.run(until=lambda: sum(handled.values()) > 20_000)

    assert abs(handled["one"] - handled["two"]) <= 64
    assert_all_balanced(virtual)


def test_a_third_actor_is_heard_while_two_are_busy() -> None:
    virtual = Virtual()
    kernel = virtual.add("p")
    handled: dict[str, int] = {}
    kernel.life.add("one", Chatter, {"handled": handled})
    kernel.life.add("two", Chatter, {"handled": handled})
    kernel.life.add("it", Collector)
    virtual.start()
    virtual.run(until=lambda: sum(handled.values()) > 1000)
    outside = virtual.outside("p")
    started_ns = virtual.now_ns

    assert virtual.result(outside.ask(outside.to("it"), Item(number=3))) == 3

    assert virtual.now_ns - started_ns < 1_000_000


class Slow(Actor):
    """Each message takes a millisecond of its world's time."""

    virtual: Any
    now: list[int]

    @on
    def item(self, message: Item) -> int:
        self.virtual.now_ns += 1_000_000
        self.now.append(self.now_ns())
        return 0


def test_a_turn_ends_after_its_time_and_its_clock_stands_still_meanwhile() -> None:
    virtual = Virtual()
    kernel = virtual.add("p")
    now: list[int] = []
    kernel.life.add("slow", Slow, {"virtual": virtual, "now": now})
    virtual.start()
    outside = virtual.outside("p")

    for number in range(64):
        outside.say("slow", Item(number=number))
    virtual.run()

    turns = [now.count(each) for each in dict.fromkeys(now)]
    assert max(turns) <= 8  # the clock is looked at after each eighth message
    assert TURN_NS < 8_000_000
    assert len(now) == 64


class BadTap(Recorder):
    """A tap that raises once: a mistake of ours."""

    left = 1

    def mail(self, cell: Cell, count: int) -> None:
        if self.left:
            self.left -= 1
            raise KeyboardInterrupt
        super().mail(cell, count)


def test_after_an_interrupt_in_the_middle_of_a_turn_the_others_go_on() -> None:
    virtual, kernel, outside = one(Collector)
    BadTap(kernel, Memory())
    outside.say("it", Item(number=1))

    with pytest.raises(KeyboardInterrupt):
        virtual.run()

    assert virtual.result(outside.ask(outside.to("it"), Item(number=2))) == 2


class Twice(Actor):
    @on
    def nested(self, message: Nested) -> int | None:
        raise RuntimeError("first")

    @on
    def item(self, message: Item) -> int:
        return message.number


def test_the_log_of_a_failure_says_which_message_and_its_cause() -> None:
    virtual, _, outside = one(Twice)

    with pytest.raises(ActorFailed):
        virtual.result(outside.ask(outside.to("it"), Nested()))

    fields = next(fields for _, _, event, fields in virtual.logs if event == "handler_failed")
    assert fields["message"] == "Nested()"
    assert fields["message_id"].startswith("1.1.")
    assert fields["hlc"] > 0
