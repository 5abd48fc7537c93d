"""Heartbeats: who is silent for longer than `peer_timeout` is lost, and nobody is who only seems so."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernel.balance import assert_all_balanced, assert_balanced
from tests.kernel.cables import Cables
from tests.kernel.raw import RawClient
from zactor.actor import Actor, Down, Up, on
from zactor.errors import AskTimeout, ConnectionLost
from zactor.heartbeat import BEATS
from zactor.kernel import Kernel
from zactor.message import Message, Ref
from zactor.sim.virtual import LATENCY_NS, Virtual

TIMEOUT_NS = 1_000_000_000
INTERVAL_NS = TIMEOUT_NS // BEATS


class Greet(Message[str]):
    name: str


class Look(Message[None]):
    name: str


class Server(Actor):
    """Greets, and notes what it hears of whom it looks at."""

    def on_start(self) -> None:
        self.heard: list[str] = []

    @on
    def greet(self, message: Greet) -> str:
        return f"Hello, {message.name}!"

    @on
    def look(self, message: Look) -> None:
        self.watch(Ref(message.name))

    @on
    def down(self, message: Down) -> None:
        self.heard.append(f"down {message.ref.name}: {message.reason}")

    @on
    def up(self, message: Up) -> None:
        self.heard.append(f"up {message.ref.name}")


def processes(*names: str, timeout_ns: int = TIMEOUT_NS) -> tuple[Virtual, list[Kernel]]:
    """Processes whose only actor is called as they are, each of which watches all others."""
    virtual = Virtual(peer_timeout_ns=timeout_ns)
    kernels = [virtual.add(name) for name in names]
    for kernel in kernels:
        kernel.life.add(kernel.process, Server)
    virtual.start()
    virtual.run(seconds=0.05)
    for name in names:
        outside = virtual.outside(name)
        for other in names:
            if other != name:
                outside.say(name, Look(name=other))
    virtual.run(seconds=0.5)
    return virtual, kernels


def heard(kernel: Kernel) -> list[str]:
    actor = kernel.cells[kernel.process].actor
    assert isinstance(actor, Server)
    return actor.heard


def losses(virtual: Virtual, of: str) -> list[str]:
    return [fields["because"] for _, _, event, fields in virtual.logs if event == "peer_lost" and fields["peer"] == of]


def about(kernel: Kernel, process: str) -> dict[str, Any]:
    peers: list[dict[str, Any]] = kernel.inspect()["peers"]
    return next(each for each in peers if each["process"] == process)


# --- who is lost
def test_a_process_that_is_stopped_is_lost_after_the_timeout_and_before_one_interval_more() -> None:
    virtual, (front, _back) = processes("front", "back")
    last_ns = front.neighbours.peers["back"].heard_ns

    virtual.pause("back")
    virtual.run(until=lambda: losses(virtual, "back"))

    assert TIMEOUT_NS < virtual.now_ns - last_ns <= TIMEOUT_NS + INTERVAL_NS + 2 * LATENCY_NS
    assert losses(virtual, "back") == [f"back was silent for {(virtual.now_ns - last_ns) / 1e9:.1f} s"]


def test_the_process_that_is_stopped_is_the_only_one_that_is_lost() -> None:
    virtual, kernels = processes("front", "back", "other")

    virtual.pause("back")
    virtual.run(seconds=10.0)

    assert [len(losses(virtual, name)) for name in ("front", "back", "other")] == [0, 2, 0]
    assert [len(heard(kernel)) for kernel in kernels] == [1, 0, 1]


@pytest.mark.parametrize("seconds", [0.1, 0.5, 0.7])
def test_a_shorter_stop_is_no_loss(seconds: float) -> None:
    virtual, kernels = processes("front", "back")

    virtual.pause("back")
    virtual.run(seconds=seconds)
    virtual.resume("back")
    virtual.run(seconds=5.0)

    assert losses(virtual, "back") == losses(virtual, "front") == []
    assert [heard(kernel) for kernel in kernels] == [[], []]


def test_processes_that_have_nothing_to_say_to_each_other_stay_connected() -> None:
    virtual, (front, back) = processes("front", "back")

    virtual.run(seconds=1000.0)

    assert losses(virtual, "back") == losses(virtual, "front") == []
    assert front.neighbours.peers["back"].session == back.neighbours.peers["front"].session == 1
    assert front.mailroom.strangers == back.mailroom.strangers == {}
    assert about(front, "back")["silent_ms"] <= INTERVAL_NS // 1_000_000
    assert_all_balanced(virtual)


def test_with_a_timeout_of_zero_nobody_is_ever_lost() -> None:
    virtual, (front, _) = processes("front", "back", timeout_ns=0)

    virtual.pause("back")
    virtual.run(seconds=100.0)

    assert losses(virtual, "back") == []
    assert front.neighbours.peers["back"].state == "open"
    virtual.run()  # and there comes a time when nothing is left to do


def test_a_process_that_has_not_come_up_yet_is_not_lost() -> None:
    virtual = Virtual(peer_timeout_ns=TIMEOUT_NS)
    front, back = virtual.add("front"), virtual.add("back")
    front.life.add("front", Server, links={})
    back.life.add("back", Server)
    virtual.pause("back")
    virtual.start()
    outside = virtual.outside("front")
    wait: Any = outside.ask(outside.to("back"), Greet(name="x"), timeout_s=20.0)
    virtual.run(seconds=10.0)

    assert losses(virtual, "back") == []
    virtual.resume("back")
    assert virtual.result(wait) == "Hello, x!"


def test_a_client_that_is_silent_is_lost_and_forgotten() -> None:
    virtual, (front, _) = processes("front", "back")
    client = RawClient(virtual, front)
    client.hello(expected="front")
    virtual.run(seconds=0.1)
    assert "@raw" in front.neighbours.peers

    virtual.run(seconds=2.0)

    assert "@raw" not in front.neighbours.peers
    assert client.source() not in front.neighbours.sources


def test_a_heartbeat_that_is_no_number_is_refused() -> None:
    virtual, (front, _) = processes("front", "back")
    client = RawClient(virtual, front)
    client.hello(expected="front")
    virtual.run(seconds=0.01)

    client.letter("$beat", "", "late")
    client.letter("$beat", "", 7)

    assert front.mailroom.strangers == {"bad control": 1}
    assert front.neighbours.peers["@raw"].late_ns == 7


# --- what follows
def test_pending_asks_fail_when_a_process_is_silent_for_too_long() -> None:
    virtual, (front, _) = processes("front", "back")
    outside = virtual.outside("front")
    virtual.pause("back")
    short = outside.ask(outside.to("back"), Greet(name="x"), timeout_s=0.5)
    long = outside.ask(outside.to("back"), Greet(name="x"), timeout_s=60.0)
    began_ns = virtual.now_ns

    with pytest.raises(AskTimeout):
        virtual.result(short)
    with pytest.raises(ConnectionLost, match="back: back was silent for") as caught:
        virtual.result(long)

    assert caught.value.sent
    assert virtual.now_ns - began_ns < TIMEOUT_NS + 2 * INTERVAL_NS
    assert_balanced(front)


@pytest.mark.parametrize("seconds", [2.0, 3.0, 10.0, 60.0])
def test_an_outage_is_one_down_and_one_up_however_long_it_is(seconds: float) -> None:
    virtual, kernels = processes("front", "back")
    front, back = kernels

    virtual.pause("back")
    virtual.run(seconds=seconds)
    assert [each.partition(":")[0] for each in heard(front)] == ["down back"]
    virtual.resume("back")
    virtual.run(seconds=5.0)

    for kernel in kernels:
        other = "back" if kernel is front else "front"
        assert [each.partition(":")[0] for each in heard(kernel)] == [f"down {other}", f"up {other}"]
    outside = virtual.outside("front")
    assert virtual.result(outside.ask(outside.to("back"), Greet(name="x"))) == "Hello, x!"
    assert front.neighbours.peers["back"].session == back.neighbours.peers["front"].session == 2
    assert_balanced(*kernels)


def test_greetings_that_were_said_again_and_again_are_no_strangers() -> None:
    """Refusals are counted against a connection, and one with too many of them is shut."""
    virtual, (front, back) = processes("front", "back")

    virtual.pause("back")
    virtual.run(seconds=20.0)
    virtual.resume("back")
    virtual.run(seconds=5.0)

    # Beside what came for the session that was.
    assert set(front.mailroom.strangers + back.mailroom.strangers) <= {"old session", "not introduced"}


def test_a_greeting_that_was_lost_is_said_again() -> None:
    virtual = Virtual(peer_timeout_ns=TIMEOUT_NS)
    front, back = virtual.add("front"), virtual.add("back")
    back.life.add("back", Server)
    front.life.add("front", Server)
    cables = Cables(virtual)
    virtual.start()
    outside = virtual.outside("front")
    wait: Any = outside.ask(outside.to("back"), Greet(name="x"), timeout_s=5.0)
    for _ in range(20):
        cables.cut("front", "back")
        cables.cut("back", "front")
        virtual.run(seconds=LATENCY_NS / 4e9)

    virtual.run(seconds=2.0)

    assert cables.lost > 0
    assert wait.done
    assert virtual.result(outside.ask(outside.to("back"), Greet(name="x"))) == "Hello, x!"


def test_a_greeting_that_vanished_without_a_word_is_said_again_with_the_next_heartbeat() -> None:
    virtual = Virtual(peer_timeout_ns=TIMEOUT_NS)
    front, back = virtual.add("front"), virtual.add("back")
    back.life.add("back", Server)
    front.world.send = lambda *_: True  # type: ignore[method-assign]
    virtual.start()
    outside = virtual.outside("front")
    wait = outside.ask(outside.to("back"), Greet(name="x"))
    virtual.run(seconds=0.1)
    assert front.neighbours.peers["back"].state == "greeting"
    del front.world.send

    assert virtual.result(wait) == "Hello, x!"
    assert front.mailroom.strangers == back.mailroom.strangers == {}


# --- how late a loop is
def test_how_late_a_process_was_is_known_here_and_there() -> None:
    virtual, (front, back) = processes("front", "back")
    assert about(front, "back")["late_ms"] < 1.0

    virtual.pause("back")
    virtual.run(seconds=0.7)
    assert about(front, "back")["silent_ms"] >= 490  # the last heartbeat was an interval before, at most
    assert back.inspect()["late_ms"] >= 490
    virtual.resume("back")
    virtual.run(seconds=0.01)

    assert 490 <= about(front, "back")["late_ms"] <= 700
    assert about(front, "back")["silent_ms"] < 20
    virtual.run(seconds=1.0)
    assert about(front, "back")["late_ms"] < 1.0
    assert back.inspect()["late_ms"] < 1.0


# --- who is not blamed
def test_a_process_that_was_away_itself_blames_nobody() -> None:
    virtual, (_front, back, other) = processes("front", "back", "other")

    virtual.pause("front")
    virtual.run(seconds=10.0)
    virtual.resume("front")
    virtual.run(seconds=5.0)

    assert len(losses(virtual, "front")) == 2
    assert not [each for name in ("back", "other") for each in losses(virtual, name) if "silent" in each]
    assert [each.partition(":")[0] for each in heard(back)] == ["down front", "up front"]
    assert [each.partition(":")[0] for each in heard(other)] == ["down front", "up front"]


@pytest.mark.parametrize("first", [0, 1])
def test_when_the_whole_computer_was_away_nobody_is_blamed(first: int) -> None:
    virtual, kernels = processes("front", "back")

    names = ("front", "back")
    for name in names:
        virtual.pause(name)
    virtual.run(seconds=30.0)
    virtual.resume(names[first])
    virtual.run(seconds=0.01)
    virtual.resume(names[1 - first])
    virtual.run(seconds=5.0)

    assert losses(virtual, "front") == losses(virtual, "back") == []
    assert [heard(kernel) for kernel in kernels] == [[], []]
    assert_all_balanced(virtual)
