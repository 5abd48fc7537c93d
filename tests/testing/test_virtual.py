"""The world without faults, for tests of actors."""

from __future__ import annotations

import pytest

from zactor.actor import Actor, Down, on
from zactor.errors import AskTimeout, Refused
from zactor.message import Bulk, Message, Ref, Refs
from zactor.testing import Stage


class Greet(Message[str]):
    name: str


class Bye(Message[None]):
    pass


class Work(Message[str]):
    name: str


class Picture(Message[bytes]):
    name: str
    pixels: Bulk


class Greeter(Actor):
    salutation: str = "Hello"

    @on
    def greet(self, message: Greet) -> str:
        self.log.info("greeted", name=message.name)
        return f"{self.salutation}, {message.name}!"

    @on
    def bye(self, message: Bye) -> None:
        self.stop()


class Worker(Actor):
    """Asks its greeter, and says goodbye half a second later to all whom it knows."""

    greeter: Ref[Greet]
    others: Refs[Bye]

    @on
    async def work(self, message: Work) -> str:
        text = await self.ask(self.greeter, Greet(name=message.name))
        self.after(0.5, Bye())
        return text.upper()

    @on
    def bye(self, message: Bye) -> None:
        for other in self.others:
            self.tell(other, Bye())


def test_an_actor_is_asked(virtual: Stage) -> None:
    greeter = virtual.add("greeter", Greeter, salutation="Hi")

    assert virtual.ask(greeter, Greet(name="you")) == "Hi, you!"
    assert [fields["name"] for fields in virtual.logged("greeted")] == ["you"]


def test_a_probe_stands_where_a_link_leads(virtual: Stage) -> None:
    greeter, other = virtual.probe("greeter"), virtual.probe("other")
    virtual.add("worker", Worker, greeter=greeter, others=[other])

    answer = virtual.start_ask("worker", Work(name="you"))
    assert greeter.expect(Greet) == Greet(name="you")
    assert greeter.sender == "worker"
    greeter.reply("Hello")

    assert answer.result() == "HELLO"
    other.expect_nothing(within=0.4)
    other.expect(Bye, within=0.2)


def test_a_probe_may_share_a_process(virtual: Stage) -> None:
    virtual.add("worker", Worker, greeter="greeter", others=[], process="one")
    virtual.add("greeter", Greeter, process="one")

    assert virtual.ask("worker", Work(name="you")) == "HELLO, YOU!"


def test_settled_is_when_only_timers_are_left(virtual: Stage) -> None:
    virtual.add("greeter", Greeter)
    other = virtual.probe()
    virtual.add("worker", Worker, greeter="greeter", others=["probe"])

    virtual.tell("worker", Work(name="you"))
    virtual.settle()

    assert len(virtual.logged("greeted", "greeter")) == 1
    other.expect_nothing(within=0.4)
    other.expect(Bye, within=0.2)


def test_a_probe_fails_an_ask_and_watches(virtual: Stage) -> None:
    probe = virtual.probe()
    greeter = virtual.add("greeter", Greeter)
    probe.watch(greeter)
    virtual.settle()
    answer = virtual.start_ask(probe, Greet(name="you"))
    probe.expect(Greet)

    probe.fail(Refused("not today"))
    virtual.tell(greeter, Bye())

    with pytest.raises(Refused, match="not today"):
        answer.result()
    assert probe.expect(Down).final


def test_a_probe_takes_bulk_and_gives_it(virtual: Stage) -> None:
    probe = virtual.probe()
    answer = virtual.start_ask(probe, Picture(name="sky", pixels=b"blue" * 50_000))

    assert probe.expect(Picture) == Picture(name="sky", pixels=b"blue" * 50_000)
    probe.reply(b"grey" * 50_000)

    assert answer.result() == b"grey" * 50_000


def test_a_probe_is_strict(virtual: Stage) -> None:
    probe = virtual.probe()
    virtual.tell(probe, Bye())

    with pytest.raises(AssertionError, match=r"'probe' was to get a Greet, and got Bye\(\)"):
        probe.expect(Greet)
    with pytest.raises(AssertionError, match=r"'probe' was to get a Greet: 3 s have passed"):
        probe.expect(Greet)


def test_a_probe_answers_what_it_expected(virtual: Stage) -> None:
    with pytest.raises(AssertionError, match=r"'probe' has expected nothing yet: call expect"):
        virtual.probe().reply(1)


def test_what_is_not_answered_times_out(virtual: Stage) -> None:
    probe = virtual.probe()
    began_ns = virtual.now_ns

    with pytest.raises(AskTimeout):
        virtual.ask(probe, Greet(name="you"), timeout_s=2.0)

    assert 2_000_000_000 <= virtual.now_ns - began_ns < 2_100_000_000


@pytest.mark.parametrize(
    ("given", "text"),
    [({"salutaton": "Hi"}, "no setting or link 'salutaton'. Did you mean 'salutation'?")],
)
def test_what_a_kind_does_not_have_is_refused(virtual: Stage, given: dict[str, str], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        virtual.add("greeter", Greeter, **given)
