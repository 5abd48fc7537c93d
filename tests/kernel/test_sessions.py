"""Sessions: a connection is whole or it is lost, both sides know which one holds, and nothing old is ever delivered."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.balance import assert_balanced
from tests.kernel.cables import Cables
from tests.kernel.raw import RawClient
from zactor.actor import Actor, Down, Up, on
from zactor.errors import ConnectionLost
from zactor.kernel import Kernel
from zactor.message import Bulk, Message, Ref
from zactor.neighbours import Entry
from zactor.sim.virtual import LATENCY_NS, Virtual
from zactor.wire import BULK, CONTROL, EMPTY, MAIL, Batch, Frame, Route, decode_frame, frame

TIMEOUT_NS = 1_000_000_000


class Item(Message[int]):
    number: int


class Load(Message[int]):
    number: int
    body: Bulk


class Hold(Message[None]):
    pass


class Look(Message[None]):
    name: str


class Receiver(Actor):
    """Notes what comes, and from whom."""

    def on_start(self) -> None:
        self.numbers: list[int] = []

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
        await self.sleep(10.0)


class Watcher(Actor):
    def on_start(self) -> None:
        self.heard: list[str] = []

    @on
    def look(self, message: Look) -> None:
        self.watch(Ref(message.name))

    @on
    def down(self, message: Down) -> None:
        self.heard.append(f"down {message.ref.name}" + " for good" * message.final)

    @on
    def up(self, message: Up) -> None:
        self.heard.append(f"up {message.ref.name}")


def two(timeout_ns: int = 0) -> tuple[Virtual, Kernel, Kernel, Any]:
    """Two processes, each with a receiver, that have talked with each other."""
    virtual = Virtual(peer_timeout_ns=timeout_ns)
    front, back = virtual.add("front"), virtual.add("back")
    front.life.add("near", Receiver)
    back.life.add("far", Receiver)
    virtual.start()
    outside = virtual.outside("front")
    assert virtual.result(outside.ask(outside.to("far"), Item(number=-1))) == -1
    virtual.run(seconds=0.01)
    return virtual, front, back, outside


def received(kernel: Kernel, name: str = "far") -> list[int]:
    actor = kernel.cells[name].actor
    assert isinstance(actor, Receiver)
    return [number for number in actor.numbers if number >= 0]


def peer(kernel: Kernel) -> Any:
    return kernel.neighbours.peers["back" if kernel.process == "front" else "front"]


def lose(kernel: Kernel, because: str = "its connection has ended") -> None:
    """The connections by which the other process reaches this one have ended."""
    for source in sorted(peer(kernel).sources):
        kernel.disconnected(source, because)


def agree(*kernels: Kernel) -> int:
    """Both sides are open in one session, whose number is returned."""
    states = {(peer(kernel).state, peer(kernel).welcomed, peer(kernel).session) for kernel in kernels}
    assert len(states) == 1, states
    state, welcomed, session = states.pop()
    assert (state, welcomed) == ("open", True)
    return int(session)


def letter(number: int) -> bytes:
    batch = Batch()
    batch.add(Item.wire, "far", "near", number, 0, 0, 0, Item(number=number))
    return batch.close()


def inject(back: Kernel, session: int, sequence: int, number: int, source: str = "front#1#mail#virtual") -> bool:
    return back.receive(source, frame(session, sequence, (0, 0, 0), letter(number)))


# --- what is not delivered
@pytest.mark.parametrize("ahead", [2, 3, 65, 1 << 40])
def test_a_gap_is_never_delivered_and_ends_the_session(ahead: int) -> None:
    virtual, front, back, outside = two()
    follows = peer(back).mail.received + 1

    inject(back, 1, follows - 1 + ahead, 7)
    virtual.run()

    assert back.mailroom.strangers == {"frame out of place": 1}
    assert received(back) == []
    assert agree(front, back) == 2
    assert virtual.result(outside.ask(outside.to("far"), Item(number=8))) == 8
    lost = [fields for _, _, event, fields in virtual.logs if event == "peer_lost" and fields["peer"] == "front"]
    assert [fields["because"] for fields in lost] == ["frames from front were lost on the way"]


def test_a_replayed_frame_is_counted_and_the_session_goes_on() -> None:
    virtual, front, back, outside = two()
    last = peer(back).mail.received

    for sequence in range(1, last + 1):
        inject(back, 1, sequence, 7)
    virtual.run()

    assert back.mailroom.strangers == {"frame out of place": last}
    assert received(back) == []
    assert agree(front, back) == 1
    assert virtual.result(outside.ask(outside.to("far"), Item(number=8))) == 8


@pytest.mark.parametrize("lane", ["mail", "control", "bulk"])
def test_a_frame_of_an_old_session_is_counted_and_not_delivered(lane: str) -> None:
    virtual, front, back, outside = two()
    lose(back)
    virtual.run()
    assert agree(front, back) == 2
    virtual.result(outside.ask(outside.to("far"), Item(number=-1)))
    assert peer(back).mail.received == 1

    inject(
        back, 1, peer(back).lanes[("control", "mail", "bulk").index(lane)].received + 1, 7, f"front#1#{lane}#virtual"
    )
    virtual.run()

    assert back.mailroom.strangers == {"old session": 1}
    assert received(back) == []
    assert agree(front, back) == 2


def test_a_frame_of_a_session_that_is_not_there_yet_is_not_delivered() -> None:
    virtual, front, back, _ = two()

    inject(back, 9, 1, 7)
    virtual.run()

    assert back.mailroom.strangers == {"old session": 1}
    assert received(back) == []
    assert agree(front, back) == 1


def test_an_acknowledgement_of_an_old_session_opens_no_window() -> None:
    virtual, front, back, outside = two()
    lose(back)
    virtual.run()
    outside.say("far", Item(number=1))
    virtual.run(seconds=2 * LATENCY_NS / 1e9)  # it has left, and nobody has acknowledged it

    front.receive("back#1#control#virtual", frame(1, 0, (100, 100, 100), EMPTY))

    assert peer(front).mail.under_way == 1


def test_frames_of_an_old_incarnation_are_counted_and_not_delivered() -> None:
    virtual, _, back, _ = two()
    virtual.kill("front")
    virtual.restart("front").life.add("near", Receiver)
    virtual.start()
    virtual.run()
    outside = virtual.outside("front")
    virtual.result(outside.ask(outside.to("far"), Item(number=-1)))

    for lane in ("control", "mail", "bulk"):
        inject(back, 1, 2, 7, f"front#1#{lane}#virtual")
    virtual.run()

    assert back.mailroom.strangers == {"not introduced": 3}
    assert received(back) == []


# --- agreeing on a session
def test_one_side_loses_the_other_and_both_go_on_in_a_new_session() -> None:
    for loser in (0, 1):
        virtual, front, back, outside = two()

        lose((front, back)[loser])
        virtual.run()

        assert agree(front, back) == 2
        assert virtual.result(outside.ask(outside.to("far"), Item(number=8))) == 8
        assert front.mailroom.strangers == back.mailroom.strangers == {}


def test_both_sides_lose_each_other_at_once() -> None:
    virtual, front, back, outside = two()

    lose(front)
    lose(back)
    virtual.run()

    assert agree(front, back) == 2
    assert virtual.result(outside.ask(outside.to("far"), Item(number=8))) == 8


@pytest.mark.parametrize("apart_ns", [1, LATENCY_NS // 2, LATENCY_NS, LATENCY_NS + 1, 2 * LATENCY_NS, 3 * LATENCY_NS])
@pytest.mark.parametrize("first", [0, 1])
def test_both_sides_lose_each_other_one_after_the_other_and_do_not_loop(apart_ns: int, first: int) -> None:
    virtual, front, back, outside = two()
    kernels = (front, back)

    lose(kernels[first])
    virtual.run(seconds=apart_ns / 1e9)
    lose(kernels[1 - first])
    before = virtual.events
    virtual.run()

    assert agree(front, back) in (2, 3)
    assert virtual.events - before < 30
    assert virtual.result(outside.ask(outside.to("far"), Item(number=8))) == 8


@pytest.mark.parametrize("times", [(3, 0), (0, 3), (5, 2), (2, 5)])
def test_the_higher_of_two_sessions_holds_however_far_they_are_apart(times: tuple[int, int]) -> None:
    """One side was lost several times while nothing came through; no heartbeat has to mend it."""
    virtual, front, back, outside = two()
    for kernel, count in zip((front, back), times, strict=True):
        peer(kernel).session += count
        lose(kernel)
    virtual.run()

    assert agree(front, back) == 2 + max(times)
    assert virtual.result(outside.ask(outside.to("far"), Item(number=8))) == 8


def test_a_greeting_of_a_higher_session_is_answered_in_it_though_ours_is_under_way() -> None:
    """HELLO of session 1 is under way, or was lost, when the other side, which had lost us before, says HELLO of 2."""
    virtual = Virtual()
    front, back = virtual.add("front"), virtual.add("back")
    front.life.add("near", Receiver)
    back.life.add("far", Receiver)
    virtual.start()
    virtual.run()
    peer(back).session = 2

    front.neighbours.greet("back")
    back.neighbours.greet("front")
    virtual.run()

    assert agree(front, back) == 2
    outside = virtual.outside("front")
    assert virtual.result(outside.ask(outside.to("far"), Item(number=8))) == 8


@settings(max_examples=60)
@given(
    st.integers(0, 1 << 30),
    st.lists(
        st.tuples(
            st.sampled_from(["cut front", "cut back", "cut both", "lose front", "lose back", "quiet"]),
            st.integers(0, 4 * LATENCY_NS),
        ),
        max_size=12,
    ),
)
def test_random_losses_converge_and_the_books_say_what_was_lost_at_most(
    seed: int, faults: list[tuple[str, int]]
) -> None:
    virtual, front, back, outside = two(TIMEOUT_NS)
    cables = Cables(virtual, seed)
    lose(front)  # from now on by cables
    virtual.run(seconds=0.5)
    other = virtual.outside("back")
    chance = random.Random(seed)
    number = 0
    waits: list[Any] = []
    for fault, span_ns in faults:
        for _ in range(chance.randrange(8)):
            number += 1
            for actor, name in ((outside, "far"), (other, "near")):
                actor.say(name, Item(number=number))
                if chance.random() < 0.3:
                    actor.say(name, Load(number=10_000 + number, body=b"x"))
                if chance.random() < 0.3:
                    waits.append(actor.ask(actor.to(name), Item(number=20_000 + number), timeout_s=3.0))
        virtual.run(seconds=chance.randrange(3) * LATENCY_NS / 1e9)
        kind, _, who = fault.partition(" ")
        for kernel in (front, back):
            if kind == "cut" and who in (kernel.process, "both"):
                cables.cut(kernel.process, peer(kernel).process)
            elif kind == "lose" and who == kernel.process:
                lose(kernel)
        virtual.run(seconds=span_ns / 1e9)
    virtual.run(seconds=5.0)

    session = agree(front, back)
    for actor, name in ((outside, "far"), (other, "near")):
        actor.say(name, Item(number=30_000))
    virtual.run(seconds=1.0)
    assert agree(front, back) == session
    assert all(wait.done or wait.id not in (front.pending | back.pending) for wait in waits)
    assert not [wait for kernel in (front, back) for wait in kernel.pending.values() if wait.target is not None]
    assert_balanced(front, back)
    for sender, taker, name in ((front, back, "far"), (back, front, "near")):
        numbers = received(taker, name)
        for low in (0, 10_000, 20_000):
            mine = [each for each in numbers if low < each <= low + 10_000 - 1]
            assert mine == sorted(set(mine))
        assert numbers[-1] == 30_000
        books = sender.books()
        assert (books["queued"], books["outbox"]) == (0, 0)
        assert 0 <= sender.shipped - taker.received <= sender.neighbours.lost_messages[peer(sender).process]


# --- asks
def test_asks_that_had_left_and_asks_that_had_not_fail_at_once_and_say_which_they_were() -> None:
    virtual, front, _, outside = two()
    outside.say("far", Hold())
    virtual.run(seconds=0.01)
    left = outside.ask(outside.to("far"), Item(number=1))
    left_in_bulk = outside.ask(outside.to("far"), Load(number=2, body=b"x"))
    virtual.run(seconds=0.01)
    front.world.send = lambda *_: False  # type: ignore[method-assign]
    waits = outside.ask(outside.to("far"), Item(number=3))
    waits_in_bulk = outside.ask(outside.to("far"), Load(number=4, body=b"x"))
    virtual.run(seconds=0.01)
    del front.world.send
    lost_ns = virtual.now_ns

    lose(front)

    sent: list[bool] = []
    for wait in (left, left_in_bulk, waits, waits_in_bulk):
        with pytest.raises(ConnectionLost, match="far: its connection has ended") as caught:
            virtual.result(wait)
        sent.append(caught.value.sent)
    assert sent == [True, True, False, False]
    assert virtual.now_ns - lost_ns < LATENCY_NS
    assert front.dead == {"peer lost": 2}
    assert front.neighbours.lost_messages["back"] <= 4
    assert_balanced(front)


def test_an_ask_before_the_first_greeting_was_never_sent() -> None:
    virtual = Virtual()
    front, back = virtual.add("front"), virtual.add("back")
    back.life.add("far", Receiver)
    front.life.add("near", Receiver)
    virtual.start()
    outside = virtual.outside("front")
    wait = outside.ask(outside.to("far"), Item(number=1))

    virtual.kill("back")

    with pytest.raises(ConnectionLost, match="back has ended") as caught:
        virtual.result(wait)
    assert not caught.value.sent
    assert front.neighbours.lost_messages == {}


def test_an_ask_of_an_older_session_does_not_make_a_newer_one_sent() -> None:
    virtual, front, _, outside = two()
    first = outside.ask(outside.to("far"), Hold())
    virtual.run(seconds=0.01)
    lose(front)
    front.world.send = lambda *_: False  # type: ignore[method-assign]
    second = outside.ask(outside.to("far"), Item(number=1))
    virtual.run(seconds=0.01)
    virtual.kill("back")

    for wait, sent in ((first, True), (second, False)):
        with pytest.raises(ConnectionLost) as caught:
            virtual.result(wait)
        assert caught.value.sent is sent


def test_an_answered_ask_does_not_fail_afterwards() -> None:
    virtual, front, _, outside = two()
    wait = outside.ask(outside.to("far"), Item(number=1))
    assert virtual.result(wait) == 1

    lose(front)
    virtual.run()

    assert (wait.value, wait.error) == (1, None)
    assert front.pending == {}


def test_an_answer_of_an_old_session_is_not_taken_for_a_new_one() -> None:
    virtual, front, back, outside = two()
    outside.say("far", Hold())
    wait = outside.ask(outside.to("far"), Item(number=1), timeout_s=20.0)
    virtual.run(seconds=0.01)
    lose(front)
    with pytest.raises(ConnectionLost):
        virtual.result(wait)
    virtual.run(seconds=15.0)

    assert agree(front, back) == 2
    assert front.pending == {}
    assert_balanced(front, back)


def test_the_messages_under_way_are_counted_as_lost_at_most_and_those_that_waited_are_dead_letters() -> None:
    virtual, front, back, outside = two()
    for number in range(5):
        outside.say("far", Item(number=number))
    virtual.run(seconds=LATENCY_NS / 2e9)
    assert front.books()["outbox"] == 0
    front.world.send = lambda *_: False  # type: ignore[method-assign]
    for number in range(3):
        outside.say("far", Item(number=10 + number))
    virtual.run(seconds=LATENCY_NS / 20e9)
    del front.world.send

    lose(front)
    virtual.run()

    assert front.dead == {"peer lost": 3}
    assert received(back) in ([0, 1, 2, 3, 4], [])
    assert front.shipped - back.received <= front.neighbours.lost_messages["back"]
    assert front.inspect()["lost"] == dict(front.neighbours.lost_messages)
    assert_balanced(front, back)


# --- watchers
def test_watchers_hear_down_once_and_up_once_for_each_loss() -> None:
    virtual, front, back, _ = two()
    front.life.spawn(Watcher, "watcher")
    outside = virtual.outside("front")
    outside.say("watcher", Look(name="far"))
    virtual.run(seconds=0.01)
    watcher: Any = front.cells["watcher"].actor

    for times in range(1, 4):
        lose((front, back)[times % 2])
        virtual.run(seconds=0.01)
        lose((front, back)[times % 2])
        lose((back, front)[times % 2])
        virtual.run(seconds=0.1)
        assert watcher.heard[:2] == ["down far", "up far"]
        assert watcher.heard == ["down far", "up far"] * (len(watcher.heard) // 2)
        assert times <= len(watcher.heard) // 2 <= 2 * times
    assert agree(front, back) > 3


def test_one_loss_is_one_down_and_one_up() -> None:
    for loser in (0, 1):
        virtual, front, back, outside = two()
        front.life.spawn(Watcher, "watcher")
        outside.say("watcher", Look(name="far"))
        virtual.run(seconds=0.01)
        watcher: Any = front.cells["watcher"].actor

        lose((front, back)[loser])
        virtual.run(seconds=0.1)

        assert watcher.heard == ["down far", "up far"]


# --- who is superseded
def test_a_superseded_process_ends_when_its_book_says_so() -> None:
    _virtual, front, _, _ = two()

    front.neighbours.on_book({}, {"front": Entry(2, True), "back": Entry(1, True)})

    assert front.fatal == "incarnation 2 of front runs; this is 1"


def test_a_superseded_process_ends_when_another_refuses_it() -> None:
    """It was stopped when the new book came, and goes on: the others tell it."""
    virtual, front, back, _ = two()
    nodes = {"near": "front", "far": "back"}
    back.neighbours.on_book(nodes, {"front": Entry(2, True), "back": Entry(1, True)})
    before = front.fatal

    lose(front)
    virtual.run(seconds=0.1)

    assert (before, front.fatal) == (None, "back says: incarnation 2 of front runs; this is 1")
    assert back.mailroom.strangers["old incarnation"] == 1
    assert received(back) == []


def test_a_superseded_process_ends_when_its_connections_do() -> None:
    """It was stopped while all this happened, and goes on as if it were the current one."""
    virtual, front, back, outside = two()
    Cables(virtual)
    lose(back)
    virtual.run()
    agree(front, back)

    back.neighbours.on_book({"far": "back"}, {"front": Entry(2, True), "back": Entry(1, True)})
    outside.say("far", Item(number=7))
    virtual.run(seconds=0.1)

    assert front.fatal == "back says: incarnation 2 of front runs; this is 1"
    assert received(back) == []


# --- who is refused
class Answers:
    """Notes what a world sends to connections that others opened."""

    def __init__(self, kernel: Kernel) -> None:
        self.frames: list[tuple[str, Frame]] = []
        self._send = kernel.world.send
        kernel.world.send = self.send  # type: ignore[method-assign]

    def send(self, process: str, lane: int, frame: bytes, blobs: list[bytes]) -> bool:
        if Route.parse(process) is not None:
            self.frames.append((process, decode_frame(frame)))
        return self._send(process, lane, frame, blobs)

    def goaways(self) -> list[tuple[str, bool]]:
        """Their texts, and whether they say that somebody is superseded."""
        texts = []
        for _, each in self.frames:
            assert each.names[0] == "$goaway"
            because, superseded = decode(each)
            texts.append((because, superseded))
        return texts


def decode(each: Frame) -> tuple[str, bool]:
    because, superseded = msgspec.msgpack.decode(each.letters[0].body, type=tuple[str, bool])
    return because, superseded


@pytest.mark.parametrize(
    ("wrong", "because", "reason"),
    [
        ({"key": "secret"}, "this is back of run virtual; the HELLO was for another key than it", "wrong HELLO"),
        (
            {"run": "older"},
            "this is back of run virtual; the HELLO was for 'back' of run 'older', not it",
            "wrong HELLO",
        ),
        (
            {"expected": "front"},
            "this is back of run virtual; the HELLO was for 'front' of run 'virtual', not it",
            "wrong HELLO",
        ),
    ],
)
def test_a_hello_with_something_wrong_is_refused_with_a_text_that_says_what(
    wrong: dict[str, str], because: str, reason: str
) -> None:
    virtual, _, back, _ = two()
    answers = Answers(back)
    client = RawClient(virtual, back)

    assert not client.hello(**wrong)
    virtual.run()

    assert answers.goaways() == [(because, False)]
    assert [to for to, _ in answers.frames] == [client.source()]
    assert back.mailroom.strangers[reason] == 1
    assert "@raw" not in back.neighbours.peers


def test_a_process_that_the_next_book_does_not_have_either_is_told_so() -> None:
    virtual, _, back, _ = two()
    answers = Answers(back)
    intruder = RawClient(virtual, back, "intruder")

    assert intruder.hello()  # our book may be on its way
    assert answers.goaways() == []
    del virtual.processes["intruder"]
    virtual.publish()

    assert answers.goaways() == [("intruder is not in the book of back", False)]
    assert back.mailroom.strangers["unknown process"] == 1
    assert "intruder" not in back.neighbours.peers


def test_an_old_incarnation_is_told_that_another_one_runs() -> None:
    virtual, _, back, _ = two()
    back.neighbours.on_book({"far": "back"}, {"front": Entry(5, True), "back": Entry(1, True)})
    answers = Answers(back)
    old = RawClient(virtual, back, "front")
    old.incarnation = 4

    assert not old.hello()

    assert answers.goaways() == [("incarnation 5 of front runs", True)]
    assert back.mailroom.strangers["old incarnation"] == 1


@pytest.mark.parametrize("name", ["front", "back", "@other", ""])
def test_who_calls_itself_otherwise_than_its_connection_is_refused(name: str) -> None:
    virtual, _, back, _ = two()

    assert not RawClient(virtual, back).hello(calls_itself=name)

    assert back.mailroom.strangers["false name"] == 1
    assert "@raw" not in back.neighbours.peers


def test_a_stop_is_a_reason_to_refuse() -> None:
    virtual, _, back, _ = two()
    back.neighbours.leave()
    answers = Answers(back)

    assert not RawClient(virtual, back).hello()

    assert answers.goaways() == [("back stops", False)]


def test_who_was_refused_says_why_to_those_who_ask() -> None:
    virtual, front, back, outside = two()
    back.neighbours._key = "another"
    lose(front)
    virtual.run()
    assert peer(front).state == "refused"

    with pytest.raises(ConnectionLost, match="far: refused: this is back of run virtual") as caught:
        virtual.result(outside.ask(outside.to("far"), Item(number=1)))
    assert not caught.value.sent

    virtual.publish()  # the book comes again: it is tried again, and it is as before
    with pytest.raises(ConnectionLost, match="far: back refused us: this is back of run virtual"):
        virtual.result(outside.ask(outside.to("far"), Item(number=1)))


def test_a_process_that_was_added_is_taken_in_though_its_hello_comes_before_the_book() -> None:
    """The launcher's books do not reach all processes at once."""
    virtual, front, back, _ = two()
    third = virtual.add("third")
    third.life.add("new", Receiver)
    nodes = {"near": "front", "far": "back", "new": "third"}
    entries = {name: Entry(1, True) for name in ("front", "back", "third")}
    third.neighbours.on_book(nodes, entries)
    third.life.start()
    outside = virtual.outside("third")
    wait: Any = outside.ask(outside.to("far"), Item(number=1), timeout_s=5.0)
    virtual.run(seconds=0.01)

    back.neighbours.on_book(nodes, entries)
    front.neighbours.on_book(nodes, entries)

    virtual.run(seconds=1.0)  # it may be told that it is not known yet, at once and before it was sent

    assert wait.done
    assert wait.error is None or not wait.error.sent
    assert virtual.result(outside.ask(outside.to("far"), Item(number=2))) == 2


# --- strangers
def stranger(name: str = "front", token: str = "stolen", lane: int = CONTROL) -> str:
    return str(Route(name, 1, lane, token))


def hello(session: int, key: str = "") -> bytes:
    batch = Batch()
    batch.add("$hello", "", "", 0, 0, 0, 0, ("virtual", key, "front", 1, "back"))
    return frame(session, 0, (0, 0, 0), batch.close())


def test_nobody_takes_the_place_of_a_member_by_another_connection() -> None:
    virtual, front, back, outside = two()

    assert not back.receive(stranger(), hello(1))
    for lane in (CONTROL, MAIL, BULK):
        assert not inject(back, 1, peer(back).lanes[lane].received + 1, 7, stranger(lane=lane))
    virtual.run()

    assert back.mailroom.strangers["false name"] == 1
    assert back.mailroom.strangers["not introduced"] == 3
    assert received(back) == []
    assert agree(front, back) == 1
    assert virtual.result(outside.ask(outside.to("far"), Item(number=8))) == 8


def test_without_the_key_nobody_begins_a_new_session_for_a_member() -> None:
    virtual, front, back, outside = two()

    assert not back.receive(stranger(), hello(2, key="guessed"))
    virtual.run()

    assert back.mailroom.strangers["wrong HELLO"] == 1
    assert agree(front, back) == 1
    assert virtual.result(outside.ask(outside.to("far"), Item(number=8))) == 8


@pytest.mark.parametrize("token", ["stolen", "virtual"])
def test_nobody_forges_a_goaway(token: str) -> None:
    """It is taken from the connection that was opened from here, whose token is empty, and from no other."""
    virtual, front, back, outside = two()
    lose(back)
    assert peer(back).state == "greeting"
    batch = Batch()
    batch.add("$goaway", "", "", 0, 0, 0, 0, ("go", True))

    assert not back.receive(stranger(token=token), frame(peer(back).session, 0, (0, 0, 0), batch.close()))
    virtual.run()

    assert back.fatal is None
    assert agree(front, back) == 2
    assert virtual.result(outside.ask(outside.to("far"), Item(number=8))) == 8


def test_a_client_that_was_lost_and_greets_again_in_its_old_session_begins_a_new_one() -> None:
    """What comes late of the first life would else take the numbers of the second, and its answers would be dropped."""
    virtual = Virtual()
    back, client = virtual.add("back"), virtual.add("@client")
    back.life.add("far", Receiver)
    virtual.start()
    outside = virtual.outside("@client")
    assert virtual.result(outside.ask(outside.to("far"), Item(number=1))) == 1
    back.neighbours.lost(back.neighbours.peers["@client"], "it was silent", again=False)

    client.neighbours.say_hello(client.neighbours.peers["back"])
    virtual.run()

    assert client.neighbours.peers["back"].session == 2
    assert virtual.result(outside.ask(outside.to("far"), Item(number=2))) == 2


@pytest.mark.parametrize("body", ["guessed", ("guessed", 0), None])
def test_nobody_forges_a_welcome_without_the_key(body: Any) -> None:
    virtual, front, back, _ = two()
    back.neighbours._key = front.neighbours._key = "secret"
    lose(back)
    batch = Batch()
    batch.add("$welcome", "", "", 0, 0, 0, 0, body)

    assert not back.receive(stranger(), frame(peer(back).session, 0, (0, 0, 0), batch.close()))

    assert peer(back).state == "greeting"
    assert back.mailroom.strangers.total() == 1
    virtual.run()
    assert agree(front, back) == 2


@pytest.mark.parametrize("kind", ["$welcome", "$goaway", "$forgotten"])
def test_greetings_out_of_place_are_counted_and_change_nothing(kind: str) -> None:
    virtual, front, back, outside = two()
    batch = Batch()
    batch.add(kind, "", "", 0, 0, 0, 0, None)
    greeting = batch.close()
    sources = [stranger(), stranger("nobody"), stranger(lane=MAIL), str(Route("front", 2, CONTROL, "")), "rubbish"]

    for source in sources:
        for session in (0, 1, 2):
            assert not back.receive(source, frame(session, 0, (0, 0, 0), greeting))
    virtual.run()

    assert back.mailroom.strangers == {"frame out of place": 3 * len(sources)}
    assert agree(front, back) == 1
    assert virtual.result(outside.ask(outside.to("far"), Item(number=8))) == 8


def test_a_flood_of_hellos_leaves_members_and_memory_alone() -> None:
    virtual, _front, back, outside = two()
    peers = dict(back.neighbours.peers)

    for number in range(2000):
        name = f"intruder{number}"
        batch = Batch()
        batch.add("$hello", "", "", 0, 0, 0, 0, ("virtual", "", name, 1, "back"))
        back.receive(f"{name}#1#control#x", frame(1, 0, (0, 0, 0), batch.close()))
    virtual.run()

    assert back.neighbours.peers == peers
    assert len(back.neighbours.sources) <= 3
    assert virtual.result(outside.ask(outside.to("far"), Item(number=8))) == 8
