"""Bounded mailboxes: `tell` fails or drops, `send` waits and loses nothing, system mail passes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernel.balance import assert_all_balanced
from zactor.actor import Actor, link, on
from zactor.errors import ActorFailed, Overloaded
from zactor.kernel import Kernel
from zactor.mailroom import MAILBOX_BYTES, PROCESS_BYTES
from zactor.message import Message, Ref
from zactor.peer import OUTBOX_MESSAGES
from zactor.sim.virtual import Virtual
from zactor.supervision import Supervision

FLOOD = 20_000


class Item(Message[None]):
    number: int
    load: bytes = b""


class Hold(Message[None]):
    """Keep the receiver busy."""

    seconds: float


class Flood(Message[int]):
    count: int
    load: bytes = b""
    timeout_s: float = 1.0


class Tell(Message[None]):
    count: int


class Echo(Message[str]):
    pass


class Receiver(Actor):
    """Handles nothing while it holds."""

    def on_start(self) -> None:
        self.numbers: list[int] = []
        self.largest = 0

    @on
    def item(self, message: Item) -> None:
        self.numbers.append(message.number)
        self.largest = max(self.largest, len(self._cell.mailbox))

    @on
    async def hold(self, message: Hold) -> None:
        await self.sleep(message.seconds)

    @on
    def echo(self, message: Echo) -> str:
        return "echo"


class Small(Receiver):
    mailbox_size = 10


class Unhurried(Small):
    """Takes one message a turn, and sends to itself when it has taken the second."""

    turn_messages = 1

    @on
    def item(self, message: Item) -> None:
        self.numbers.append(message.number)
        if message.number == 1:
            self.room = len(self._cell.mailbox)
            self.sent = self.send(self.ref, Item(number=11))
            self.tell(self.ref, Item(number=99))


class Sender(Actor):
    to: Ref[Any]

    def on_start(self) -> None:
        self.told = 0

    @on
    async def flood(self, message: Flood) -> int:
        for number in range(message.count):
            await self.send(self.to, Item(number=number, load=message.load), timeout_s=message.timeout_s)
        return message.count

    @on
    def tells(self, message: Tell) -> None:
        for number in range(message.count):
            self.tell(self.to, Item(number=number))
            self.told += 1

    @on(interleave=True)
    async def echo(self, message: Echo) -> str:
        return await self.ask(self.to, Echo())


class Dropping(Sender):
    to: Ref[Any] = link(overflow="drop")


class Hasty(Sender):
    """Sends without waiting for what it sends."""

    @on
    async def flood(self, message: Flood) -> int:
        waits = [self.send(self.to, Item(number=number)) for number in range(message.count)]
        for wait in waits:
            await wait
        return message.count


def two(
    placement: str, receiver: type[Actor] = Receiver, sender: type[Actor] = Sender
) -> tuple[Virtual, Kernel, Kernel, Any]:
    virtual = Virtual()
    front = virtual.add("front")
    back = front if placement == "local" else virtual.add("back")
    front.life.add("sender", sender, links={"to": "receiver"})
    back.life.add("receiver", receiver)
    virtual.start()
    virtual.run(seconds=0.01)
    return virtual, front, back, virtual.outside("front")


def received(back: Kernel) -> list[int]:
    actor: Any = back.cells["receiver"].actor
    numbers: list[int] = actor.numbers
    return numbers


both = pytest.mark.parametrize("placement", ["local", "remote"])


# --- tell
def test_a_tell_to_a_full_mailbox_raises_and_what_came_before_it_arrives() -> None:
    virtual, front, back, outside = two("local", Small)
    outside.say("receiver", Hold(seconds=0.1))
    virtual.run(seconds=0.01)

    for number in range(10):
        outside.say("receiver", Item(number=number))
    with pytest.raises(Overloaded, match="the mailbox of receiver holds 10 messages already"):
        outside.say("receiver", Item(number=99))
    virtual.run()

    assert received(back) == list(range(10))
    assert front.dead == {"full": 1}
    assert_all_balanced(virtual)


def test_what_a_topology_says_of_a_mailbox_stands_above_its_kind_and_the_links_to_it() -> None:
    virtual = Virtual()
    kernel = virtual.add("front")
    kernel.life.add("sender", Sender, links={"to": "receiver"}, drops={"receiver": True})
    kernel.life.add("receiver", Receiver, mailbox_size=5)
    virtual.start()
    virtual.run(seconds=0.01)
    outside = virtual.outside("front")

    outside.say("receiver", Hold(seconds=0.5))
    virtual.run(seconds=0.01)
    outside.say("sender", Tell(count=20))
    virtual.run()

    assert received(kernel) == list(range(5))
    assert kernel.dead == {"full": 15}
    assert_all_balanced(virtual)


@both
def test_a_link_that_drops_counts_and_raises_nothing(placement: str) -> None:
    virtual, front, back, outside = two(placement, Small, Dropping)
    outside.say("receiver", Hold(seconds=0.5))
    virtual.run(seconds=0.01)
    for _ in range(3):
        outside.say("sender", Tell(count=20))
        virtual.run(seconds=0.01)
    virtual.run()

    sender: Any = front.cells["sender"].actor
    assert sender.told == 60
    assert front.dead["full"] == 60 - len(received(back)) > 0
    assert_all_balanced(virtual)


def test_a_tell_to_a_paused_actor_elsewhere_raises() -> None:
    virtual, front, back, outside = two("remote", Small)
    outside.say("receiver", Hold(seconds=0.5))
    virtual.run(seconds=0.01)
    outside.say("sender", Tell(count=20))
    virtual.run(seconds=0.01)

    with pytest.raises(Overloaded, match="the mailbox of receiver is full"):
        outside.say("receiver", Item(number=1))
    virtual.run()

    assert received(back) == list(range(20))
    outside.say("receiver", Item(number=20))
    virtual.run()
    assert received(back) == list(range(21))
    assert front.neighbours.peers["back"].paused == {}
    assert_all_balanced(virtual)


def test_a_tell_to_a_full_outbox_raises() -> None:
    virtual, front, _, outside = two("remote")
    front.neighbours.peers["back"].state = "greeting"

    for number in range(OUTBOX_MESSAGES):
        outside.say("receiver", Item(number=number))
    with pytest.raises(Overloaded, match="the outbox for process back is full"):
        outside.say("receiver", Item(number=-1))

    assert front.books()["outbox"] == OUTBOX_MESSAGES
    assert_all_balanced(virtual)


@both
def test_an_ask_of_a_full_actor_is_overloaded(placement: str) -> None:
    virtual, _, _, outside = two(placement, Small)
    outside.say("receiver", Hold(seconds=0.5))
    virtual.run(seconds=0.01)
    for number in range(10):
        outside.say("receiver", Item(number=number))
    virtual.run(seconds=0.01)
    if placement == "remote":  # the eleventh says so to its process
        outside.say("receiver", Item(number=10))
        virtual.run(seconds=0.01)

    with pytest.raises(Overloaded):
        virtual.result(outside.ask(outside.to("receiver"), Echo()))

    virtual.run()
    assert_all_balanced(virtual)


# --- send
@both
@pytest.mark.parametrize("sender", [Sender, Hasty])
def test_a_flood_of_sends_to_a_paused_receiver_arrives_complete_and_in_order(
    placement: str, sender: type[Actor]
) -> None:
    virtual, _, back, outside = two(placement, Receiver, sender)
    outside.say("receiver", Hold(seconds=0.5))
    virtual.run(seconds=0.01)

    sent = virtual.result(outside.ask(outside.to("sender"), Flood(count=FLOOD)))
    virtual.run()

    assert sent == FLOOD
    assert received(back) == list(range(FLOOD))
    assert back.dead == {}
    actor: Any = back.cells["receiver"].actor
    assert actor.largest <= 2 * Receiver.mailbox_size
    assert_all_balanced(virtual)


@both
def test_a_small_mailbox_takes_a_flood_too(placement: str) -> None:
    virtual, _, back, outside = two(placement, Small)

    virtual.result(outside.ask(outside.to("sender"), Flood(count=3000)))
    virtual.run()

    assert received(back) == list(range(3000))
    assert_all_balanced(virtual)


@both
def test_a_send_that_finds_no_room_in_time_is_overloaded(placement: str) -> None:
    virtual, front, back, outside = two(placement, Small)
    outside.say("receiver", Hold(seconds=3.0))
    virtual.run(seconds=0.01)
    started_ns = virtual.now_ns

    with pytest.raises(ActorFailed, match="Overloaded: receiver had no room in time"):
        virtual.result(outside.ask(outside.to("sender"), Flood(count=FLOOD), timeout_s=10.0))

    assert 1_000_000_000 <= virtual.now_ns - started_ns < 1_100_000_000
    assert front.dead["full"] == 1
    assert [wait for wait in front.pending.values() if wait.target is not None] == []
    virtual.run()
    assert received(back) == list(range(len(received(back))))
    assert_all_balanced(virtual)


def test_nobody_overtakes_those_who_wait_for_room_in_a_mailbox() -> None:
    virtual, _, back, outside = two("local", Unhurried)
    outside.say("receiver", Hold(seconds=0.1))
    virtual.run(seconds=0.01)
    back.cells["receiver"].policy = Supervision(directives=((Overloaded, "resume"),))
    for number in range(10):
        outside.say("receiver", Item(number=number))
    first = outside.send(outside.to("receiver"), Item(number=10))

    virtual.run()

    receiver: Any = back.cells["receiver"].actor
    assert receiver.room == 8
    assert (first.done, receiver.sent.done) == (True, True)
    assert received(back) == list(range(12))
    assert back.dead == {"full": 1}
    outside.say("receiver", Item(number=12))
    virtual.run()
    assert received(back) == list(range(13))
    assert_all_balanced(virtual)


def test_nobody_overtakes_those_who_wait_for_room_in_an_outbox() -> None:
    virtual, front, back, outside = two("remote")
    peer = front.neighbours.peers["back"]
    peer.state = "greeting"
    for number in range(OUTBOX_MESSAGES):
        outside.say("receiver", Item(number=number))
    first = outside.send(outside.to("receiver"), Item(number=OUTBOX_MESSAGES))
    peer.state = "open"
    front.shipped += peer.flush(front.world.send)
    assert not peer.mail.full()

    with pytest.raises(Overloaded):
        outside.say("receiver", Item(number=-1))
    second = outside.send(outside.to("receiver"), Item(number=OUTBOX_MESSAGES + 1))
    virtual.run()

    assert (first.done, second.done) == (True, True)
    assert received(back) == list(range(OUTBOX_MESSAGES + 2))
    assert_all_balanced(virtual)


def test_a_sender_that_is_gone_while_it_waits_for_room_leaves_the_books_balanced() -> None:
    for placement in ("local", "remote"):
        virtual, front, _, outside = two(placement, Small)
        outside.say("receiver", Hold(seconds=0.5))
        virtual.run(seconds=0.01)
        outside.ask(outside.to("sender"), Flood(count=100))
        virtual.run(seconds=0.1)

        front.life.stop("sender")
        virtual.run()

        assert_all_balanced(virtual)


def test_sends_that_wait_for_a_process_hear_that_it_is_lost() -> None:
    virtual, front, _, outside = two("remote", Small)
    outside.say("receiver", Hold(seconds=0.5))
    virtual.run(seconds=0.01)
    wait = outside.ask(outside.to("sender"), Flood(count=FLOOD))
    virtual.run(seconds=0.1)

    virtual.kill("back")

    with pytest.raises(ActorFailed, match="ConnectionLost: back has ended"):
        virtual.result(wait)
    assert front.dead["peer lost"] == 1
    assert_all_balanced(virtual)


# --- what passes
@both
def test_an_actor_whose_mailbox_is_full_still_gets_its_answers(placement: str) -> None:
    virtual, front, _, outside = two(placement)
    front.cells["sender"].capacity = 10
    outside.say("receiver", Hold(seconds=0.1))
    waits = [outside.ask(outside.to("sender"), Flood(count=1)) for _ in range(10)]
    virtual.run(seconds=0.001)
    for _ in range(10 - len(front.cells["sender"].mailbox)):
        outside.say("sender", Tell(count=0))
    with pytest.raises(Overloaded):
        outside.say("sender", Tell(count=0))

    assert [virtual.result(wait) for wait in waits] == [1] * 10
    virtual.run()
    assert_all_balanced(virtual)


def test_a_full_actor_can_be_stopped_and_looked_at() -> None:
    virtual, kernel, _, outside = two("local", Small)
    outside.say("receiver", Hold(seconds=0.5))
    virtual.run(seconds=0.01)
    for number in range(10):
        outside.say("receiver", Item(number=number))

    about = {actor["name"]: actor for actor in kernel.inspect()["actors"]}
    kernel.life.stop("receiver")
    virtual.run(seconds=0.01)

    assert about["receiver"]["mailbox"] == 10
    assert about["receiver"]["waits_for"] == "itself"
    assert kernel.dead == {"stopped": 10}
    assert_all_balanced(virtual)


def test_pause_and_resume_hold_a_full_mailbox_near_its_bound() -> None:
    virtual, front, back, outside = two("remote", Small)
    outside.say("receiver", Hold(seconds=0.4))
    virtual.run(seconds=0.01)
    waits: list[Any] = []
    for number in range(200):
        waits.append(outside.send(outside.to("receiver"), Item(number=number)))
        virtual.run(seconds=0.000_1)

    assert list(front.neighbours.peers["back"].paused) == ["receiver"]
    assert back.cells["receiver"].paused == {"front"}
    assert len(back.cells["receiver"].mailbox) < 20
    virtual.run()

    assert all(wait.done for wait in waits)
    assert list(front.neighbours.peers["back"].paused) == []
    assert not back.cells["receiver"].paused
    assert received(back) == list(range(200))
    assert_all_balanced(virtual)


def test_the_bytes_of_a_mailbox_are_bounded_too() -> None:
    virtual, front, back, outside = two("remote")
    outside.say("receiver", Hold(seconds=0.5))
    virtual.run(seconds=0.01)
    load = bytes(4 << 20)
    wait = outside.ask(outside.to("sender"), Flood(count=40, load=load))
    virtual.run(seconds=0.1)

    cell = back.cells["receiver"]
    assert MAILBOX_BYTES <= cell.bytes < PROCESS_BYTES
    assert list(front.neighbours.peers["back"].paused) == ["receiver"]
    virtual.result(wait)
    virtual.run()

    assert received(back) == list(range(40))
    assert cell.bytes == 0
    assert_all_balanced(virtual)


def test_one_full_actor_does_not_hold_up_its_neighbours() -> None:
    virtual, _, back, outside = two("remote", Small)
    back.life.spawn(Receiver, "neighbour")
    virtual.publish()
    outside.say("receiver", Hold(seconds=0.5))
    virtual.run(seconds=0.01)
    outside.ask(outside.to("sender"), Flood(count=500))
    virtual.run(seconds=0.1)
    started_ns = virtual.now_ns

    assert virtual.result(outside.ask(outside.to("neighbour"), Echo())) == "echo"

    assert virtual.now_ns - started_ns < 1_000_000
