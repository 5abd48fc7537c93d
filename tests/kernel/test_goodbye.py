"""BYE: a process that leaves takes with it nothing that was accepted. What is on its way arrives, both ways."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernel.balance import assert_balanced
from tests.kernel.cables import Cables
from tests.kernel.raw import RawClient
from zactor.actor import Actor, Down, Up, on
from zactor.errors import ActorStopped, ConnectionLost, Failure
from zactor.kernel import Kernel
from zactor.message import Bulk, Message, Ref
from zactor.sim.virtual import LATENCY_NS, Virtual
from zactor.wire import BULK, MAIL, decode_frame

FLOOD = 20_000
"""More than an outbox holds, so that senders wait."""


class Item(Message[int]):
    number: int
    load: bytes = b""


class Load(Message[int]):
    number: int
    body: Bulk


class Hold(Message[None]):
    seconds: float


class Flood(Message[None]):
    to: Ref[Any]
    count: int


class Look(Message[None]):
    ref: Ref[Any]


class Node(Actor):
    mailbox_size = 100

    def on_start(self) -> None:
        self.numbers: list[int] = []
        self.heard: list[str] = []
        self.ended: str | None = None

    @on
    def item(self, message: Item) -> int:
        self.numbers.append(message.number)
        return message.number

    @on
    def load(self, message: Load) -> int:
        self.numbers.append(message.number)
        return message.number

    @on
    async def hold(self, message: Hold) -> None:
        await self.sleep(message.seconds)

    @on(interleave=True)
    async def flood(self, message: Flood) -> None:
        try:
            for number in range(message.count):
                await self.send(message.to, Item(number=number))
        except Failure as failure:
            self.ended = f"{type(failure).__name__}: {failure}"

    @on
    def look(self, message: Look) -> None:
        self.watch(message.ref)

    @on
    def down(self, message: Down) -> None:
        self.heard.append(f"down {message.ref.name}")

    @on
    def up(self, message: Up) -> None:
        self.heard.append(f"up {message.ref.name}")


def processes(*names: str, talk: bool = True) -> tuple[Virtual, list[Kernel]]:
    """Processes whose only actor is called as they are; with `talk` each has asked each."""
    virtual = Virtual()
    kernels = [virtual.add(name) for name in names]
    for kernel in kernels:
        kernel.life.add(kernel.process, Node)
    virtual.start()
    if talk:
        let_talk(virtual, names)
    virtual.run()
    return virtual, kernels


def let_talk(virtual: Virtual, names: tuple[str, ...]) -> None:
    for name in names:
        outside = virtual.outside(name)
        for other in names:
            virtual.result(outside.ask(outside.to(other), Item(number=-1)))
    virtual.run()


def node(kernel: Kernel) -> Node:
    actor = kernel.cells[kernel.process].actor
    assert isinstance(actor, Node)
    return actor


def numbers(kernel: Kernel) -> list[int]:
    return [number for number in node(kernel).numbers if number >= 0]


def leave(virtual: Virtual, *kernels: Kernel) -> None:
    """They say goodbye, at the same time, and end when they may."""
    began_ns = virtual.now_ns
    for kernel in kernels:
        kernel.neighbours.leave()
    virtual.run(until=lambda: all(kernel.neighbours.left() for kernel in kernels), seconds=10.0)
    assert all(kernel.neighbours.left() for kernel in kernels), "somebody waits for a goodbye that does not come"
    assert virtual.now_ns - began_ns < 1_000_000_000


def assert_nothing_lost(virtual: Virtual) -> None:
    """All that was shipped was received, and is handled or a dead letter; nothing is counted as lost, or refused."""
    kernels = [world.kernel for world in virtual.processes.values()]
    assert_balanced(*kernels)
    assert sum(kernel.shipped for kernel in kernels) == sum(kernel.received for kernel in kernels)
    for kernel in kernels:
        books = kernel.books()
        assert (books["queued"], books["outbox"]) == (0, 0)
        assert kernel.neighbours.lost_messages == {}
        assert set(kernel.mailroom.strangers) <= {"old session"}  # a word of the kernels that crossed a goodbye


# --- one leaves
def test_a_process_that_leaves_in_peace_is_gone_for_the_other_too() -> None:
    virtual, (front, back) = processes("front", "back")

    leave(virtual, back)
    virtual.run()

    assert front.neighbours.peers["back"].state == back.neighbours.peers["front"].state == "closed"
    assert front.neighbours.sources == back.neighbours.sources == {}
    assert not [event for _, _, event, _ in virtual.logs if event == "peer_lost"]
    assert_nothing_lost(virtual)


def test_a_process_that_nobody_talked_to_leaves_at_once() -> None:
    virtual, kernels = processes("front", "back", "other", talk=False)

    leave(virtual, kernels[0])
    virtual.run()

    assert_nothing_lost(virtual)
    outside = virtual.outside("back")
    assert virtual.result(outside.ask(outside.to("other"), Item(number=1))) == 1


def test_what_was_told_just_before_goes_out_before_the_goodbye() -> None:
    virtual, (front, back) = processes("front", "back")
    outside = virtual.outside("back")
    for number in range(1000):
        message = Item(number=number) if number % 10 else Load(number=number, body=b"x")
        outside.say("front", message)

    leave(virtual, back)
    virtual.run()

    assert sorted(numbers(front)) == list(range(1000))
    assert_nothing_lost(virtual)


def test_what_is_on_its_way_to_a_process_that_leaves_arrives() -> None:
    virtual, (front, back) = processes("front", "back")
    outside = virtual.outside("front")
    for number in range(50):
        outside.say("back", Item(number=number))
    outside.say("back", Load(number=50, body=bytes(1 << 20)))
    virtual.run(seconds=LATENCY_NS / 2e9)

    leave(virtual, back)
    virtual.run()

    assert sorted(numbers(back)) == list(range(51))
    assert front.dead == {}
    assert_nothing_lost(virtual)


@pytest.mark.parametrize("slow", [MAIL, BULK])
@pytest.mark.parametrize("leaver", [0, 1])
def test_a_goodbye_that_overtakes_mail_waits_for_it(slow: int, leaver: int) -> None:
    """Each lane is a connection of its own, and one may be much slower than control."""
    virtual, kernels = processes("front", "back")
    for kernel in kernels:
        send = kernel.world.send

        def slowly(process: str, lane: int, data: bytes, blobs: list[bytes], send: Any = send) -> bool:
            if lane == slow:
                virtual.push(virtual.now_ns + 50 * LATENCY_NS, lambda: send(process, lane, data, blobs))
                return True
            return bool(send(process, lane, data, blobs))

        kernel.world.send = slowly  # type: ignore[assignment, method-assign]
        other = "back" if kernel.process == "front" else "front"
        outside = virtual.outside(kernel.process)
        for number in range(10):
            outside.say(other, Item(number=number))
            outside.say(other, Load(number=100 + number, body=b"x"))

    leave(virtual, kernels[leaver])
    virtual.run()

    for kernel in kernels:
        assert sorted(numbers(kernel)) == [*range(10), *range(100, 110)]
    assert_nothing_lost(virtual)


def test_mail_that_waits_for_the_first_greeting_arrives_before_the_goodbye() -> None:
    virtual, (front, back) = processes("front", "back", talk=False)
    outside = virtual.outside("back")
    for number in range(5):
        outside.say("front", Item(number=number))

    leave(virtual, back)
    virtual.run()

    assert numbers(front) == list(range(5))
    assert_nothing_lost(virtual)


@pytest.mark.parametrize("when_ns", [0, 1, LATENCY_NS // 2, LATENCY_NS])
@pytest.mark.parametrize("leaver", [0, 1])
def test_one_leaves_under_floods_both_ways(when_ns: int, leaver: int) -> None:
    virtual, kernels = processes("front", "back")
    goes, stays = kernels[leaver], kernels[1 - leaver]
    for kernel, other, count in ((goes, stays, FLOOD), (stays, goes, 10 * FLOOD)):
        virtual.outside(kernel.process).say(kernel.process, Flood(to=Ref(other.process), count=count))
    virtual.run(seconds=(3 * LATENCY_NS + when_ns) / 1e9)

    for name in list(goes.cells):  # as a host does
        goes.life.stop(name, "the topology goes down")
    virtual.run(seconds=LATENCY_NS / 1e9)
    leave(virtual, goes)
    virtual.run(seconds=10.0)

    assert numbers(stays) == list(range(len(numbers(stays))))
    assert str(node(stays).ended).startswith("ActorStopped")
    assert_nothing_lost(virtual)


@pytest.mark.parametrize("when_ns", [0, LATENCY_NS // 2, 5 * LATENCY_NS])
def test_one_leaves_under_a_flood_without_stopping_its_actors(when_ns: int) -> None:
    """A client does so: it has no nodes to stop."""
    virtual, (_front, back) = processes("front", "back")
    virtual.outside("front").say("front", Flood(to=Ref("back"), count=FLOOD))
    virtual.run(seconds=(3 * LATENCY_NS + when_ns) / 1e9)

    leave(virtual, back)
    virtual.run(seconds=10.0)

    assert numbers(back) == list(range(len(numbers(back))))
    assert_nothing_lost(virtual)


def test_those_who_wait_for_room_at_a_process_that_leaves_hear_so() -> None:
    virtual, (front, back) = processes("front", "back")
    outside = virtual.outside("front")
    outside.say("back", Hold(seconds=1.0))
    for _ in range(2):
        outside.say("front", Flood(to=Ref("back"), count=500))
        virtual.run(seconds=0.1)
    assert front.neighbours.peers["back"].paused["back"]

    back.neighbours.leave()
    virtual.run(seconds=0.1)

    assert node(front).ended == "ActorStopped: back stops"
    assert front.dead == {"stopped": 1}
    virtual.run(seconds=5.0)
    assert back.neighbours.left()
    assert_nothing_lost(virtual)


def test_nothing_but_acknowledgements_follows_a_goodbye() -> None:
    virtual, kernels = processes("front", "back")
    said: dict[str, list[list[str]]] = {"front": [], "back": []}
    for kernel in kernels:
        frames, send = said[kernel.process], kernel.world.send

        def noting(
            process: str, lane: int, data: bytes, blobs: list[bytes], frames: Any = frames, send: Any = send
        ) -> bool:
            frame = decode_frame(data)
            frames.append([frame.names[letter.kind] for letter in frame.letters])
            return bool(send(process, lane, data, blobs))

        kernel.world.send = noting  # type: ignore[assignment, method-assign]
        other = "back" if kernel.process == "front" else "front"
        virtual.outside(kernel.process).say(kernel.process, Flood(to=Ref(other), count=FLOOD))
    virtual.run(seconds=5 * LATENCY_NS / 1e9)

    leave(virtual, kernels[0])
    virtual.run(seconds=10.0)

    for frames in said.values():
        assert [kinds for kinds in frames if "$bye" in kinds] == [["$bye"]]
        assert [kinds for kinds in frames[frames.index(["$bye"]) + 1 :] if kinds] == []


# --- asks
def test_an_ask_of_a_process_that_leaves_ends_at_once_and_says_why() -> None:
    """Asked before the goodbye came, while it was on its way, and after it."""
    for when_ns in range(0, 4 * LATENCY_NS, LATENCY_NS // 3):
        virtual, (_front, back) = processes("front", "back")
        outside = virtual.outside("front")
        outside.say("back", Hold(seconds=60.0))
        virtual.run(seconds=0.01)
        waits: list[Any] = [outside.ask(outside.to("back"), Item(number=1), timeout_s=50.0)]
        virtual.run(seconds=0.01)
        asked_ns = virtual.now_ns
        back.life.stop("back", "the topology goes down")
        back.neighbours.leave()
        virtual.run(seconds=when_ns / 1e9)
        waits.append(outside.ask(outside.to("back"), Item(number=2), timeout_s=50.0))
        virtual.run(seconds=0.01)

        assert all(wait.done for wait in waits), f"after {when_ns} ns"
        assert all(isinstance(wait.error, ActorStopped | ConnectionLost) for wait in waits)
        assert virtual.now_ns - asked_ns < 100_000_000
        assert back.neighbours.left()
        assert_nothing_lost(virtual)


def test_an_ask_that_nobody_will_answer_fails_when_the_goodbye_is_over() -> None:
    """The process leaves with a handler suspended, so no actor of it says anything."""
    virtual, (front, back) = processes("front", "back")
    outside = virtual.outside("front")
    outside.say("back", Hold(seconds=60.0))
    wait: Any = outside.ask(outside.to("back"), Item(number=1), timeout_s=50.0)
    virtual.run(seconds=0.01)

    back.neighbours.leave()
    virtual.run(seconds=0.01)
    virtual.kill("back")
    virtual.run(seconds=1.0)

    assert wait.done
    assert isinstance(wait.error, ActorStopped | ConnectionLost)
    assert [wait for wait in front.pending.values() if wait.target is not None] == []


def test_an_answer_that_was_given_before_the_goodbye_arrives() -> None:
    virtual, (_front, back) = processes("front", "back")
    outside = virtual.outside("front")
    wait: Any = outside.ask(outside.to("back"), Item(number=7))
    virtual.run(until=lambda: numbers(back) == [7])

    leave(virtual, back)
    virtual.run()

    assert wait.value == 7
    assert_nothing_lost(virtual)


def test_the_one_that_leaves_still_gets_its_answers() -> None:
    virtual, (front, back) = processes("front", "back")
    outside = virtual.outside("back")
    waits: list[Any] = [outside.ask(outside.to("front"), Item(number=number)) for number in range(3)]
    virtual.run(seconds=LATENCY_NS / 2e9)

    leave(virtual, back)
    virtual.run()

    assert all(wait.done for wait in waits)
    assert [wait.value for wait in waits if wait.error is None] in ([0, 1, 2], [])
    assert numbers(front) == [0, 1, 2]
    assert_nothing_lost(virtual)


# --- watchers
def test_watchers_of_a_process_that_leaves_hear_down_though_its_actors_were_not_stopped() -> None:
    virtual, (front, back) = processes("front", "back")
    outside = virtual.outside("front")
    outside.say("front", Look(ref=Ref("back")))
    virtual.run(seconds=0.01)

    leave(virtual, back)
    virtual.run()
    virtual.kill("back")
    virtual.run()

    assert node(front).heard == ["down back"]
    virtual.restart("back").life.add("back", Node)
    virtual.start()
    virtual.run()
    assert node(front).heard == ["down back", "up back"]


# --- both, all
@pytest.mark.parametrize("flood", [0, FLOOD])
@pytest.mark.parametrize("apart_ns", [0, 1, LATENCY_NS // 2, LATENCY_NS, 2 * LATENCY_NS])
def test_two_leave_at_once_or_nearly_so(flood: int, apart_ns: int) -> None:
    virtual, kernels = processes("front", "back")
    front, back = kernels
    if flood:
        for kernel, other in ((front, "back"), (back, "front")):
            virtual.outside(kernel.process).say(kernel.process, Flood(to=Ref(other), count=flood))
    virtual.run(seconds=3 * LATENCY_NS / 1e9)

    front.neighbours.leave()
    virtual.run(seconds=apart_ns / 1e9)
    leave(virtual, back)
    virtual.run(seconds=10.0)

    assert front.neighbours.left()
    assert_nothing_lost(virtual)


def test_all_of_many_leave_at_once() -> None:
    virtual, kernels = processes(*(f"n{number}" for number in range(6)))
    outside = virtual.outside("n0")
    for kernel in kernels:
        outside.say(kernel.process, Item(number=1))

    leave(virtual, *kernels)
    virtual.run()

    assert [numbers(kernel) for kernel in kernels] == [[1]] * 6
    assert_nothing_lost(virtual)


def test_one_that_is_lost_while_it_is_waited_for_holds_nobody_up() -> None:
    virtual, (front, _back) = processes("front", "back")
    front.neighbours.leave()
    virtual.kill("back")

    virtual.run()

    assert front.neighbours.left()
    assert_balanced(front)


# --- afterwards
def test_mail_for_a_process_that_has_left_waits_for_the_next_incarnation_in_vain() -> None:
    virtual, (front, back) = processes("front", "back")
    outside = virtual.outside("front")
    leave(virtual, back)
    virtual.run()
    virtual.kill("back")
    outside.say("back", Item(number=1))
    wait: Any = outside.ask(outside.to("back"), Item(number=2))
    virtual.run(seconds=0.1)

    again = virtual.restart("back")
    again.life.add("back", Node)
    virtual.start()
    virtual.run(seconds=1.0)

    assert isinstance(wait.error, ConnectionLost)
    assert not wait.error.sent
    assert front.dead == {"peer lost": 2}
    assert numbers(again) == []
    assert virtual.result(outside.ask(outside.to("back"), Item(number=3))) == 3
    assert_balanced(front, again)


def test_mail_for_a_process_that_says_goodbye_is_a_dead_letter_at_once() -> None:
    virtual, (front, back) = processes("front", "back")
    outside = virtual.outside("front")
    virtual.outside("back").say("front", Item(number=0))
    back.neighbours.leave()
    virtual.run(until=lambda: front.neighbours.peers["back"].bye_due is not None)

    outside.say("back", Item(number=1))
    wait = outside.ask(outside.to("back"), Item(number=2))

    assert front.dead == {"stopped": 2}
    with pytest.raises(ActorStopped, match="back: back stops"):
        virtual.result(wait)
    virtual.run()
    assert_nothing_lost(virtual)


def test_a_process_that_left_while_others_stay_is_not_greeted_into_a_refusal() -> None:
    """It waits for a third one; mail for it meanwhile is a dead letter, and nobody holds a grudge after its restart."""
    virtual, (front, back, third) = processes("front", "back", "third", talk=False)
    cables = Cables(virtual)
    let_talk(virtual, ("front", "back", "third"))
    outside = virtual.outside("front")
    back.neighbours.leave()
    virtual.run(until=lambda: front.neighbours.peers["back"].state == "closed")
    assert front.neighbours.peers["back"].state == "closed"

    outside.say("back", Item(number=1))
    virtual.run()
    virtual.kill("back")
    again = virtual.restart("back")
    again.life.add("back", Node)
    cables.lay(virtual.processes["back"])
    virtual.start()
    virtual.run()

    assert front.dead.total() == 1
    assert numbers(again) == []
    assert virtual.result(outside.ask(outside.to("back"), Item(number=3))) == 3
    assert_balanced(front, again, third)


# --- clients
def test_a_client_leaves_when_all_it_sent_has_come() -> None:
    """BYE overtakes mail, since control is a connection of its own: it says how much is still to come."""
    virtual, (front, _) = processes("front", "back")
    client = RawClient(virtual, front)
    client.hello(expected="front")
    virtual.run()
    client.sequences[MAIL] = 2
    client.goodbye()
    virtual.run()
    assert "@raw" in front.neighbours.peers
    client.sequences[MAIL] = 0

    for number in (1, 2):
        client.letter(Item.wire, "front", (number,))
        virtual.run()

    assert numbers(front) == [1, 2]
    assert "@raw" not in front.neighbours.peers
    assert [kind for kind, _, _ in client.letters()] == ["$welcome", "$bye"]
    assert not [event for _, _, event, _ in virtual.logs if event == "peer_lost"]


def test_a_process_leaves_its_clients_too() -> None:
    virtual, (front, _) = processes("front", "back")
    client = RawClient(virtual, front)
    client.hello(expected="front")
    virtual.run()

    front.neighbours.leave()
    virtual.run()
    assert client.letters()[-1] == ("$bye", 0, [0, 0])
    assert not front.neighbours.left()
    client.goodbye()
    virtual.run()

    assert front.neighbours.left()
    assert "@raw" not in front.neighbours.peers


def test_a_client_that_vanishes_without_a_word_holds_nobody_up() -> None:
    virtual, (front, _) = processes("front", "back")
    client = RawClient(virtual, front)
    client.hello(expected="front")
    virtual.run()
    front.neighbours.leave()
    virtual.run()

    front.disconnected(client.source(), "its connection has ended")
    virtual.run()

    assert front.neighbours.left()


@pytest.mark.parametrize("body", [None, 7, (1,), ("a", "b"), (0, 0, 0)])
def test_a_goodbye_that_is_none_is_refused(body: Any) -> None:
    virtual, (front, _) = processes("front", "back")
    client = RawClient(virtual, front)
    client.hello(expected="front")
    virtual.run()

    client.letter("$bye", "", body)
    virtual.run()

    assert front.mailroom.strangers == {"bad control": 1}
    assert "@raw" in front.neighbours.peers
