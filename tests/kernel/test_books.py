"""The books: whatever happens, each message is handled, a dead letter with its reason, or still somewhere."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.balance import assert_all_balanced, assert_balanced
from zactor.actor import Actor, Down, Up, on
from zactor.door import Later
from zactor.errors import ConnectionLost, Failure, Overloaded, Refused
from zactor.message import Message, Ref
from zactor.sim.virtual import Virtual
from zactor.supervision import Supervision
from zactor.wire import Batch, frame


class Do(Message[int]):
    """Something by lot, to somebody by lot."""

    left: int


class Tick(Message[None]):
    pass


class Note(Message[None]):
    text: str


class Stranger(Message[None]):
    pass


class Hold(Message[None]):
    seconds: float


class Busy(Actor):
    """Does one of everything, as its lot falls."""

    mailbox_size = 20
    supervision = Supervision(limit_count=1_000_000, backoff_min_ns=1_000_000, backoff_max_ns=20_000_000)
    names: tuple[str, ...]

    def on_start(self) -> None:
        self._laters: list[Later[int]] = []

    def _whom(self) -> Ref[Any]:
        return Ref(self.rng.choice(self.names))

    @on
    async def do(self, message: Do) -> int:
        left = message.left - 1
        if left <= 0:
            return 0
        lot = self.rng.randrange(12)
        try:
            if lot < 3:
                self.tell(self._whom(), Do(left=left))
                self.tell(self._whom(), Note(text="x"))
            elif lot < 5:
                return await self.ask(self._whom(), Do(left=left), timeout_s=0.05)
            elif lot == 5:
                await self.send(self._whom(), Do(left=left), timeout_s=0.02)
            elif lot == 6:
                self.cancel(self.after(0.001, Tick()))
                self.after(0.002, Tick())
            elif lot == 7:
                self.watch(self._whom())
            elif lot == 8:
                child = self.spawn(Busy, names=self.names)
                self.tell(child, Do(left=left))
                self.stop(child)
            elif lot == 9:
                self.tell(self._whom(), Stranger())
            elif lot == 10:
                await self.sleep(0.003)
            else:
                raise ValueError("by lot")
        except (Overloaded, ConnectionLost):
            return -1
        return left

    @on
    def note(self, message: Note) -> None: ...

    @on
    def tick(self, message: Tick) -> None:
        self.tell(self._whom(), Do(left=3))

    @on
    def down(self, message: Down | Up) -> None: ...

    def on_turn_end(self) -> None:
        if self.rng.random() < 0.05:
            self.tell(self._whom(), Note(text="end"))


class Brief(Actor):
    mailbox_size = 3

    @on
    async def hold(self, message: Hold) -> None:
        await self.sleep(message.seconds)

    @on
    def note(self, message: Note) -> None:
        if message.text == "refuse":
            raise Refused("no")


@settings(max_examples=25)
@given(st.integers(0, 1 << 30), st.sampled_from([1, 2, 3]), st.booleans())
def test_a_storm_of_everything_leaves_the_books_balanced(seed: int, processes: int, kills: bool) -> None:
    virtual = Virtual(seed)
    names = tuple(f"n{index}" for index in range(6))
    lot = random.Random(seed)

    def add_nodes(process: int) -> None:
        kernel = virtual.processes[f"p{process}"].kernel
        for index, name in enumerate(names):
            if index % processes == process:
                kernel.life.add(name, Busy, {"names": (*names, "nobody")})

    for process in range(processes):
        virtual.add(f"p{process}")
        add_nodes(process)
    virtual.start()
    virtual.run(seconds=0.01)
    kernels = [world.kernel for world in virtual.processes.values()]
    outside = virtual.outside("p0")
    for step in range(60):
        for _ in range(5):
            try:
                outside.say(lot.choice(names), Do(left=lot.randrange(1, 8)))
            except Overloaded:
                continue
        virtual.run(seconds=lot.random() / 200)
        assert_balanced(*kernels)
        if kills and processes > 1 and step % 20 == 19:
            victim = lot.randrange(1, processes)
            virtual.kill(f"p{victim}")
            virtual.run(seconds=0.001)
            kernels.append(virtual.restart(f"p{victim}"))
            add_nodes(victim)
            virtual.start()
    virtual.run(seconds=60.0)

    assert_balanced(*kernels)
    living = [world.kernel for world in virtual.processes.values()]
    for kernel in living:
        books = kernel.books()
        assert (books["queued"], books["outbox"]) == (0, 0)
        assert [wait for wait in kernel.pending.values() if wait.target is not None] == []
        assert kernel.serving == {}
    if not kills:
        assert_all_balanced(virtual)


def brief(processes: int = 2) -> tuple[Virtual, Any, Any, Any]:
    virtual = Virtual()
    front = virtual.add("front")
    back = virtual.add("back") if processes == 2 else front
    back.life.add("brief", Brief)
    virtual.start()
    virtual.run()
    return virtual, front, back, virtual.outside("front")


def test_unknown() -> None:
    virtual, front, back, outside = brief()

    outside.say("nobody", Note(text=""))
    outside.say("brief/child", Note(text=""))
    virtual.run()

    assert (front.dead, back.dead) == ({"unknown": 1}, {"unknown": 1})
    assert_all_balanced(virtual)


def test_stopped() -> None:
    virtual, front, _, outside = brief(1)
    outside.say("brief", Hold(seconds=1.0))
    outside.say("brief", Note(text=""))
    virtual.run(seconds=0.1)

    front.life.stop("brief")
    virtual.run()

    assert front.dead == {"stopped": 1}
    assert_all_balanced(virtual)


def test_full() -> None:
    virtual, front, _, outside = brief(1)
    for _ in range(3):
        outside.say("brief", Note(text=""))
    with pytest.raises(Overloaded):
        outside.say("brief", Note(text=""))
    outside.tell(Ref("brief", drop=True), Note(text=""))
    virtual.run()

    assert front.dead == {"full": 2}
    assert_all_balanced(virtual)


def test_expired() -> None:
    virtual, _, back, outside = brief()
    outside.say("brief", Hold(seconds=1.0))
    wait = outside.ask(outside.to("brief"), Note(text=""), timeout_s=0.1)

    with pytest.raises(Failure):
        virtual.result(wait)
    virtual.run()

    assert back.dead == {"expired": 1}
    assert_all_balanced(virtual)


def test_unhandled() -> None:
    virtual, front, back, outside = brief()
    outside.say("brief", Stranger())
    virtual.run()
    assert back.dead == {"unhandled": 1}

    front.life.spawn(Brief, "local")
    outside.say("local", Stranger())
    virtual.run()

    assert front.dead == {"unhandled": 1}
    assert_all_balanced(virtual)


def test_undecodable_costs_that_message_and_not_its_batch() -> None:
    virtual, front, back, outside = brief()
    outside.say("brief", Note(text=""))
    virtual.run()
    number = back.neighbours.peers["front"].mail.received + 1
    batch = Batch()
    for body in (("good",), (7,), ("good",), "no array", ("refuse",)):
        batch.add(Note.wire, "brief", "outside-0", front.next_id(), 0, 0, 0, body)
    front.shipped += 5

    back.receive("front#1#mail#virtual", frame(1, number, (0, 0, 0), batch.close()))
    virtual.run()

    assert back.dead == {"undecodable": 2}
    assert back.handled == 4
    assert_all_balanced(virtual)


def test_peer_lost() -> None:
    virtual, front, _, outside = brief()
    virtual.kill("back")
    for _ in range(3):
        outside.say("brief", Note(text=""))
    assert front.books()["outbox"] == 3

    virtual.restart("back").life.add("brief", Brief)
    virtual.start()
    virtual.run()

    assert front.dead == {"peer lost": 3}
    assert_balanced(front)


def test_dead_letters_are_logged_until_they_are_a_flood() -> None:
    virtual, _, _, outside = brief(1)

    for _ in range(1000):
        outside.say("nobody", Note(text=""))
        virtual.run(seconds=0.001)

    logged = [fields for _, _, event, fields in virtual.logs if event == "dead_letter"]
    assert [fields["count"] for fields in logged] == [*range(1, 11), 16, 32, 64, 128, 256, 512]
    assert logged[0]["sender"] == "outside-1"
    assert logged[0]["reason"] == "unknown"
