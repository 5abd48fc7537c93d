"""Bulk: many bytes travel beside their letter, on a lane of their own, and small mail does not wait for them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.balance import assert_all_balanced, assert_balanced
from zactor.actor import Actor, on
from zactor.debug.recorder import Recorder
from zactor.debug.recording import Memory
from zactor.debug.replay import Replay
from zactor.debug.story import Story
from zactor.errors import ActorFailed, TooLarge, Unhandled
from zactor.kernel import Kernel
from zactor.message import MESSAGE_SIZE_MAX, Bulk, Message, Ref, encode
from zactor.sim.virtual import LATENCY_NS, Virtual
from zactor.wire import BULK, CONTROL, LETTER_BYTES, Batch, frame, split

MEBIBYTE = 1 << 20


class Image(Message[int]):
    name: str
    pixels: Bulk
    mask: Bulk = b""


class Chunk(Message[int]):
    number: int
    body: Bulk


class Full(Message[int]):
    """A message that checks itself."""

    body: Bulk

    def __post_init__(self) -> None:
        if not self.body:
            raise ValueError("a Full that is empty")


class Small(Message[int]):
    number: int


class Read(Message[bytes]):
    size: int


class Text(Message[str]):
    size: int


class Part(msgspec.Struct, frozen=True):
    number: int
    body: Bulk
    more: Bulk = b""


class Fetch(Message[Part]):
    size: int


class Empty(Message[Part]):
    pass


class Bad(Message[Part]):
    pass


class Flood(Message[int]):
    count: int
    size: int


class Store(Actor):
    def on_start(self) -> None:
        self.got: list[Any] = []

    @on
    def image(self, message: Image) -> int:
        self.got.append(message)
        return len(message.pixels) + len(message.mask)

    @on
    def chunk(self, message: Chunk) -> int:
        self.got.append(message)
        return len(message.body)

    @on
    def small(self, message: Small) -> int:
        self.got.append(message)
        return message.number

    @on
    def read(self, message: Read) -> bytes:
        return bytes(range(256)) * (message.size // 256) + bytes(message.size % 256)

    @on
    def text(self, message: Text) -> str:
        return "x" * message.size

    @on
    def fetch(self, message: Fetch) -> Part:
        return Part(number=message.size, body=bytes(message.size), more=b"more")

    @on
    def bad(self, message: Bad) -> Part:
        return Part(number=1, body="text")  # type: ignore[arg-type]


class Source(Actor):
    store: Ref[Any]

    @on(interleave=True)
    async def flood(self, message: Flood) -> int:
        for number in range(message.count):
            await self.send(self.store, Chunk(number=number, body=bytes(message.size)))
        return message.count


def two(placement: str) -> tuple[Virtual, Kernel, Kernel, Any]:
    virtual = Virtual()
    front = virtual.add("front")
    back = front if placement == "local" else virtual.add("back")
    front.life.add("source", Source, links={"store": "store"})
    back.life.add("store", Store)
    virtual.start()
    virtual.run()
    return virtual, front, back, virtual.outside("front")


def got(kernel: Kernel) -> list[Any]:
    actor = kernel.cells["store"].actor
    assert isinstance(actor, Store)
    return actor.got


both = pytest.mark.parametrize("placement", ["local", "remote"])
BYTES = st.binary(max_size=100) | st.integers(0, 2 * LETTER_BYTES).map(bytes)


# --- messages and answers
@settings(max_examples=50)
@given(st.sampled_from(["local", "remote"]), st.lists(st.tuples(BYTES, BYTES), max_size=8))
def test_what_is_told_arrives_as_it_was(placement: str, parts: list[tuple[bytes, bytes]]) -> None:
    virtual, _, back, outside = two(placement)
    images = [Image(name=str(number), pixels=pixels, mask=mask) for number, (pixels, mask) in enumerate(parts)]

    for image in images:
        outside.say("store", image)
    virtual.run()

    assert got(back) == images
    assert_all_balanced(virtual)


@both
def test_an_ask_with_bulk_is_answered(placement: str) -> None:
    virtual, _, back, outside = two(placement)

    answer = virtual.result(outside.ask(outside.to("store"), Image(name="a", pixels=bytes(MEBIBYTE), mask=b"x")))

    assert answer == MEBIBYTE + 1
    assert got(back) == [Image(name="a", pixels=bytes(MEBIBYTE), mask=b"x")]
    assert_all_balanced(virtual)


@both
@pytest.mark.parametrize("size", [0, 1, LETTER_BYTES, LETTER_BYTES + 1, 4 * MEBIBYTE])
def test_bytes_of_any_size_are_an_answer(placement: str, size: int) -> None:
    virtual, _, _, outside = two(placement)

    answer = virtual.result(outside.ask(outside.to("store"), Read(size=size)))

    assert (type(answer), len(answer)) == (bytes, size)
    assert answer[:256] == bytes(range(256))[:size] if size >= 256 else True


@both
@pytest.mark.parametrize("size", [0, LETTER_BYTES + 1])
def test_a_struct_with_bulk_is_an_answer(placement: str, size: int) -> None:
    virtual, _, _, outside = two(placement)

    answer = virtual.result(outside.ask(outside.to("store"), Fetch(size=size)))

    assert answer == Part(number=size, body=bytes(size), more=b"more")


@both
def test_a_long_text_is_an_answer(placement: str) -> None:
    virtual, _, _, outside = two(placement)

    assert virtual.result(outside.ask(outside.to("store"), Text(size=MEBIBYTE))) == "x" * MEBIBYTE


@pytest.mark.parametrize(
    ("message", "lane"), [(Read(size=LETTER_BYTES - 100), CONTROL), (Read(size=LETTER_BYTES + 1), BULK)]
)
def test_only_large_answers_travel_on_the_bulk_lane(message: Read, lane: int) -> None:
    virtual, _, back, outside = two("remote")
    lanes: list[int] = []
    send = back.world.send

    def noting(process: str, number: int, data: bytes, blobs: list[bytes]) -> bool:
        lanes.append(number)
        return send(process, number, data, blobs)

    virtual.result(outside.ask(outside.to("store"), Small(number=1)))
    back.world.send = noting  # type: ignore[method-assign, assignment]

    virtual.result(outside.ask(outside.to("store"), message))

    assert lanes == [lane]


def test_a_message_that_checks_its_own_bulk_is_refused_since_it_would_see_none() -> None:
    with pytest.raises(TypeError, match="Full has Bulk and __post_init__"):

        class Store(Actor):
            @on
            def full(self, message: Full) -> int:
                return len(message.body)


# --- what is wrong
def test_bulk_that_is_no_bytes_is_refused_where_it_is_sent() -> None:
    virtual, front, back, outside = two("remote")

    wrong: tuple[Any, ...] = ("text", bytearray(b"x"), None)
    for bad in wrong:
        with pytest.raises(TypeError, match=r"Chunk\.body is Bulk, so it is bytes, not "):
            outside.say("store", Chunk(number=1, body=bad))
        with pytest.raises(TypeError, match=r"Chunk\.body is Bulk, so it is bytes, not "):
            outside.ask(outside.to("store"), Chunk(number=1, body=bad))
    outside.say("store", Chunk(number=2, body=b"good"))
    virtual.run()

    assert got(back) == [Chunk(number=2, body=b"good")]
    assert (front.unsent, front.pending) == (6, {})
    assert_all_balanced(virtual)


def test_an_answer_whose_bulk_is_no_bytes_fails_the_ask_and_nothing_else() -> None:
    virtual, _, _, outside = two("remote")

    with pytest.raises(ActorFailed, match=r"its answer cannot be sent: Part\.body is Bulk, so it is bytes, not str"):
        virtual.result(outside.ask(outside.to("store"), Bad()))

    assert virtual.result(outside.ask(outside.to("store"), Small(number=3))) == 3


def test_bulk_beyond_the_limit_of_a_message_is_too_large() -> None:
    virtual, front, back, outside = two("remote")

    with pytest.raises(TooLarge, match=f"at most {MESSAGE_SIZE_MAX}"):
        outside.say("store", Chunk(number=1, body=bytes(MESSAGE_SIZE_MAX)))
    with pytest.raises(ActorFailed, match=f"its answer cannot be sent: .* at most {MESSAGE_SIZE_MAX}"):
        virtual.result(outside.ask(outside.to("store"), Read(size=MESSAGE_SIZE_MAX)))

    assert got(back) == []
    assert front.unsent == 1
    assert_all_balanced(virtual)


def inject(front: Kernel, back: Kernel, letters: list[tuple[Any, tuple[bytes, ...]]], blobs: list[bytes]) -> None:
    """A frame on the bulk lane whose letters say that so many of the blobs are theirs."""
    batch = Batch()
    for message, pieces in letters:
        batch.add(message.wire, "store", "source", front.next_id(), 0, 0, 0, message, None, pieces)
    front.shipped += len(letters)
    peer = back.neighbours.peers["front"]
    source = "front#1#bulk#virtual"
    back.receive(source, frame(peer.session, peer.lanes[BULK].received + 1, (0, 0, 0), batch.close()), blobs)


@pytest.mark.parametrize(
    ("pieces", "blobs", "counted"),
    [
        ((), [], "undecodable"),
        ((b"1",), [b"1"], "undecodable"),
        ((b"1", b"2", b"3"), [b"1", b"2", b"3"], "undecodable"),
        ((b"1", b"2"), [b"1"], "bad letter"),
        ((b"1", b"2"), [], "bad letter"),
    ],
)
def test_a_letter_with_the_wrong_number_of_pieces_costs_itself_alone(
    pieces: tuple[bytes, ...], blobs: list[bytes], counted: str
) -> None:
    virtual, front, back, outside = two("remote")
    virtual.result(outside.ask(outside.to("store"), Image(name="a", pixels=b"", mask=b"")))
    got(back).clear()
    image = Image(name="bad", pixels=b"", mask=b"")

    inject(front, back, [(Small(number=1), ()), (image, pieces), (Small(number=2), ())], blobs)
    virtual.run()

    assert got(back) == [Small(number=1), Small(number=2)]
    assert back.dead + back.mailroom.strangers == {counted: 1}
    assert virtual.result(outside.ask(outside.to("store"), Small(number=3))) == 3


def test_pieces_for_a_message_that_has_none_cost_that_message_alone() -> None:
    virtual, front, back, outside = two("remote")
    virtual.result(outside.ask(outside.to("store"), Image(name="a", pixels=b"", mask=b"")))
    got(back).clear()

    inject(front, back, [(Small(number=1), (b"x",)), (Small(number=2), ())], [b"x"])
    virtual.run()

    assert got(back) == [Small(number=2)]
    assert back.dead == {"undecodable": 1}
    assert_all_balanced(virtual)


def test_pieces_that_no_letter_claims_are_counted() -> None:
    virtual, front, back, outside = two("remote")
    virtual.result(outside.ask(outside.to("store"), Image(name="a", pixels=b"", mask=b"")))
    got(back).clear()

    inject(front, back, [(Small(number=1), ())], [b"x", b"y"])
    virtual.run()

    assert got(back) == [Small(number=1)]
    assert back.mailroom.strangers == {"wrong parts": 1}


@pytest.mark.parametrize("pieces", [(), (b"1",), (b"1", b"2", b"3")])
def test_an_answer_with_the_wrong_number_of_pieces_is_unhandled(pieces: tuple[bytes, ...]) -> None:
    virtual, front, back, outside = two("remote")
    virtual.result(outside.ask(outside.to("store"), Fetch(size=1)))
    wait: Any = outside.ask(outside.to("store"), Fetch(size=1))
    batch = Batch()
    batch.add("$reply", "", "store", wait.id, 0, 0, 0, Part(number=1, body=b""), None, pieces)
    peer = front.neighbours.peers["back"]

    whole = frame(peer.session, peer.lanes[BULK].received + 1, (0, 0, 0), batch.close())
    front.receive("back#1#bulk#virtual", whole, pieces)

    with pytest.raises(Unhandled, match=rf"the answer of store: {len(pieces)} pieces of bulk came for Part"):
        virtual.result(wait)
    assert_balanced(front, back)


# --- order
def test_bulk_arrives_in_the_order_in_which_it_was_sent() -> None:
    virtual, _, back, outside = two("remote")

    virtual.result(outside.ask(outside.to("source"), Flood(count=200, size=MEBIBYTE // 2), timeout_s=60.0))
    virtual.run()

    assert [message.number for message in got(back)] == list(range(200))
    assert_all_balanced(virtual)


def test_small_mail_overtakes_bulk() -> None:
    virtual, _, back, outside = two("remote")
    virtual.result(outside.ask(outside.to("store"), Small(number=0)))
    for number in range(15):
        outside.say("store", Chunk(number=number, body=bytes(MEBIBYTE)))
    outside.say("store", Small(number=1))
    virtual.run()

    order = [type(message).__name__ for message in got(back)][1:]
    assert order.count("Chunk") == 15
    assert order.index("Small") <= 8
    assert [message.number for message in got(back) if isinstance(message, Chunk)] == list(range(15))


def test_small_asks_are_answered_at_once_while_bulk_flows_both_ways() -> None:
    virtual, _, _, outside = two("remote")
    virtual.result(outside.ask(outside.to("store"), Small(number=0)))
    for _ in range(10):
        outside.say("store", Chunk(number=0, body=bytes(MEBIBYTE)))
        outside.ask(outside.to("store"), Read(size=4 * MEBIBYTE))
    virtual.run(seconds=LATENCY_NS / 1e9)
    asked_ns = virtual.now_ns

    assert virtual.result(outside.ask(outside.to("store"), Small(number=7))) == 7

    assert virtual.now_ns - asked_ns < 3 * LATENCY_NS


def test_small_mail_has_room_while_senders_of_bulk_wait_for_theirs() -> None:
    """Whoever sends files as fast as they go has the bulk lane full at all times."""
    virtual, front, back, outside = two("remote")
    virtual.result(outside.ask(outside.to("store"), Small(number=0)))
    flood: Any = outside.ask(outside.to("source"), Flood(count=100, size=MEBIBYTE), timeout_s=60.0)
    virtual.run(seconds=LATENCY_NS / 2e9)
    assert front.neighbours.peers["back"].lanes[BULK].full()

    outside.say("store", Small(number=1))
    assert virtual.result(outside.ask(outside.to("store"), Small(number=2))) == 2
    assert not flood.done
    assert virtual.result(flood) == 100

    virtual.run()
    assert [message.number for message in got(back) if isinstance(message, Chunk)] == list(range(100))
    assert [message.number for message in got(back) if isinstance(message, Small)] == [0, 1, 2]
    assert_all_balanced(virtual)


def test_inspection_overtakes_all() -> None:
    virtual, front, back, outside = two("remote")
    virtual.result(outside.ask(outside.to("store"), Small(number=0)))
    peer = front.neighbours.peers["back"]
    for number in range(15_000):
        outside.say("store", Small(number=number))
    for number in range(15):
        outside.say("store", Chunk(number=number, body=bytes(MEBIBYTE)))
    seen: list[int] = []
    receive = back.receive

    def noting(source: str, data: bytes, blobs: Any = ()) -> bool:
        seen.append(("control", "mail", "bulk").index(source.split("#")[2]))
        return receive(source, data, blobs)

    back.receive = noting
    front.mailroom.post_control(peer, "$inspect", "", "", None, 0)
    virtual.run()

    assert seen.index(CONTROL) < 64 + 16  # what was under way already: a window of mail, and of bulk
    assert len(seen) > 115 + 15
    assert back.mailroom.strangers == {}


# --- the tap
def test_a_replay_sees_the_same_message_with_its_bulk() -> None:
    virtual, _, back, outside = two("remote")
    sink = Memory()
    Recorder(back, sink)
    outside.say("store", Image(name="a", pixels=bytes(100_000), mask=b"m"))
    assert virtual.result(outside.ask(outside.to("store"), Chunk(number=1, body=b"abc"))) == 3
    assert len(virtual.result(outside.ask(outside.to("store"), Read(size=MEBIBYTE)))) == MEBIBYTE

    fed = [each for turn in Story(sink.read(), "store").turns for each in turn.mail]

    expected = [Image(name="a", pixels=bytes(100_000), mask=b"m"), Chunk(number=1, body=b"abc"), Read(size=MEBIBYTE)]
    assert [(each.body, each.blobs) for each in fed] == [(encode(body), blobs) for body, blobs in map(split, expected)]


class Counter(Store):
    """Logs how much it has got: what a replay must do again."""

    @on
    def image(self, message: Image) -> int:
        self.log.info("image", bytes=len(message.pixels) + len(message.mask), first=message.pixels[:3])
        return len(message.pixels)


def test_an_actor_that_is_fed_bulk_is_re_executed_to_the_last_digest() -> None:
    virtual = Virtual(3)
    front, back = virtual.add("front"), virtual.add("back")
    sink = Memory()
    Recorder(back, sink)
    back.life.add("counter", Counter)
    virtual.start()
    outside = virtual.outside("front")
    for number in range(5):
        image = Image(name="a", pixels=bytes([number]) * 1000, mask=bytes(70_000))
        assert virtual.result(outside.ask(outside.to("counter"), image)) == 1000
        virtual.result(outside.ask(outside.to("counter"), Read(size=100_000)))

    outcome = Replay(sink.read(), "counter").run()

    assert outcome.difference is None
    assert outcome.outputs == 15
    assert front.mailroom.strangers == {}
