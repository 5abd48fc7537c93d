"""Opaque: an actor between two others passes on what it does not know, undecoded, and the answer back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.kernel.balance import assert_all_balanced
from zactor.actor import Actor, on
from zactor.debug.recorder import Recorder
from zactor.debug.recording import Memory
from zactor.debug.replay import Replay
from zactor.door import Later
from zactor.errors import ActorStopped, Failure, Refused, Unhandled
from zactor.kernel import Kernel
from zactor.message import Bulk, Message, Opaque, Ref, encode
from zactor.sim.virtual import Virtual
from zactor.wire import BULK, lane_of


class Work(Message[str]):
    name: str


class WorkLater(Message[str], wire=Work.wire):
    """The same message, of a version that nobody can talk to."""

    name: int
    count: int


class Picture(Message[bytes]):
    name: str
    pixels: Bulk
    mask: Bulk


class Part(msgspec.Struct, frozen=True):
    number: int
    body: Bulk


class Cut(Message[Part]):
    size: int


class Note(Message[None]):
    text: str


class Unknown(Message[str]):
    text: str


class Own(Message[str]):
    pass


class No(Refused):
    pass


class Worker(Actor):
    def on_start(self) -> None:
        self.got: list[Any] = []

    @on
    def work(self, message: Work) -> str:
        self.got.append(message)
        if message.name == "no":
            raise No("not that", "detail")
        return f"worked on {message.name}"

    @on
    def picture(self, message: Picture) -> bytes:
        self.got.append(message)
        return message.pixels + message.mask

    @on
    def cut(self, message: Cut) -> Part:
        return Part(number=message.size, body=bytes(message.size))

    @on
    def note(self, message: Note) -> None:
        self.got.append(message)


class Relay(Actor):
    """Has one message of its own, and passes on all others."""

    worker: Ref[Any]

    def on_start(self) -> None:
        self.passed: list[Opaque] = []
        self.answers: list[Any] = []

    @on
    def own(self, message: Own) -> str:
        return "the relay's own"

    @on(interleave=True)
    async def relay(self, message: Opaque) -> Later[Opaque]:
        self.passed.append(message)
        later = self.later()
        try:
            answer = await self.ask(self.worker, message)
            self.answers.append(answer)
            later.reply(answer)
        except Failure as failure:
            later.fail(failure)
        return later


class Forward(Actor):
    """Passes on what needs no answer."""

    worker: Ref[Any]

    @on
    def forward(self, message: Opaque) -> Opaque:
        self.tell(self.worker, message)
        return Opaque(name="", body=msgspec.Raw(encode(None)))


class Straight(Actor):
    """Returns what it is answered, as a handler does that expects no failure."""

    worker: Ref[Any]

    @on(interleave=True)
    async def relay(self, message: Opaque) -> Opaque:
        return await self.ask(self.worker, message)


PLACEMENTS = {
    "all in one process": ("a", "a"),
    "the relay beside the asker": ("a", "b"),
    "the relay beside the worker": ("b", "b"),
    "the worker beside the asker": ("b", "a"),
    "each in its own": ("b", "c"),
}
placed = pytest.mark.parametrize("placement", list(PLACEMENTS))


def line(placement: str, relay: type[Actor] = Relay, between: int = 1) -> tuple[Virtual, Kernel, Kernel, Any]:
    """An asker, relays in a row, and a worker."""
    virtual = Virtual()
    relay_at, worker_at = PLACEMENTS[placement]
    for process in sorted({"a", relay_at, worker_at}):
        virtual.add(process)
    for number in range(between):
        target = "worker" if number == between - 1 else f"relay{number + 1}"
        virtual.processes[relay_at].kernel.life.add(f"relay{number}", relay, links={"worker": target})
    virtual.processes[worker_at].kernel.life.add("worker", Worker)
    virtual.start()
    virtual.run()
    kernels = [virtual.processes[name].kernel for name in (relay_at, worker_at)]
    return virtual, kernels[0], kernels[1], virtual.outside("a")


def passed(kernel: Kernel) -> list[Opaque]:
    actor = kernel.cells["relay0"].actor
    assert isinstance(actor, Relay)
    return actor.passed


def got(kernel: Kernel) -> list[Any]:
    actor = kernel.cells["worker"].actor
    assert isinstance(actor, Worker)
    return actor.got


# --- through a relay
@placed
@pytest.mark.parametrize("between", [1, 2, 3])
@pytest.mark.parametrize("relay", [Relay, Straight])
def test_an_ask_and_its_answer_pass_through(placement: str, between: int, relay: type[Actor]) -> None:
    virtual, _, back, outside = line(placement, relay, between)

    assert virtual.result(outside.ask(outside.to("relay0"), Work(name="x"))) == "worked on x"

    assert got(back) == [Work(name="x")]
    virtual.run()
    assert_all_balanced(virtual)


@placed
def test_what_the_relay_sees_is_not_decoded(placement: str) -> None:
    virtual, middle, _, outside = line(placement)

    virtual.result(outside.ask(outside.to("relay0"), Work(name="x")))

    message = passed(middle)[0]
    assert (message.name, bytes(message.body), message.blobs) == (Work.wire, encode(Work(name="x")), ())
    actor: Any = middle.cells["relay0"].actor
    answer = actor.answers[0]
    assert (type(answer), bytes(answer.body)) == (Opaque, encode("worked on x"))


@placed
def test_bulk_passes_through_both_ways(placement: str) -> None:
    virtual, middle, back, outside = line(placement)
    pixels, mask = bytes(range(256)) * 1000, b"mask"
    picture = Picture(name="p", pixels=pixels, mask=mask)

    assert virtual.result(outside.ask(outside.to("relay0"), picture)) == pixels + mask

    assert got(back) == [picture]
    assert passed(middle)[0].blobs == (pixels, mask)
    assert len(bytes(passed(middle)[0].body)) < 100
    assert lane_of(passed(middle)[0]) == BULK
    virtual.run()
    assert_all_balanced(virtual)


@placed
def test_a_struct_with_bulk_passes_back(placement: str) -> None:
    virtual, _, _, outside = line(placement)

    for size in (0, 10, 200_000):
        assert virtual.result(outside.ask(outside.to("relay0"), Cut(size=size))) == Part(number=size, body=bytes(size))


@placed
def test_an_answer_that_is_only_an_acknowledgement_passes_back(placement: str) -> None:
    virtual, _, back, outside = line(placement)

    assert virtual.result(outside.ask(outside.to("relay0"), Note(text="x"))) is None

    assert got(back) == [Note(text="x")]


@placed
def test_what_needs_no_answer_is_passed_on_in_its_order(placement: str) -> None:
    virtual, _, back, outside = line(placement, Forward, between=2)
    notes = [Note(text=str(number)) for number in range(500)]

    for note in notes:
        outside.say("relay0", note)
    virtual.run()

    assert got(back) == notes
    assert_all_balanced(virtual)


@placed
def test_a_relay_that_knows_a_message_takes_it_itself(placement: str) -> None:
    virtual, middle, _, outside = line(placement)

    assert virtual.result(outside.ask(outside.to("relay0"), Own())) == "the relay's own"

    assert passed(middle) == []


@placed
def test_an_opaque_may_be_made_by_hand_and_its_answer_is_one(placement: str) -> None:
    virtual, _, _, outside = line(placement)
    made = Opaque(name=Work.wire, body=msgspec.Raw(encode(Work(name="x"))))

    for target in ("worker", "relay0"):
        answer = virtual.result(outside.ask(outside.to(target), made))
        assert isinstance(answer, Opaque)
        assert msgspec.msgpack.decode(answer.body) == "worked on x"


# --- what is wrong at the end
@placed
def test_a_name_that_the_worker_does_not_know_is_unhandled_for_the_first_asker(placement: str) -> None:
    virtual, _, back, outside = line(placement, between=2)

    with pytest.raises(Unhandled, match="worker handles "):
        virtual.result(outside.ask(outside.to("relay0"), Unknown(text="x")))

    assert back.dead == {"unhandled": 1}
    assert virtual.result(outside.ask(outside.to("relay0"), Work(name="x"))) == "worked on x"
    virtual.run()
    assert_all_balanced(virtual)


@placed
def test_a_body_that_the_worker_cannot_decode_is_unhandled_for_the_first_asker(placement: str) -> None:
    virtual, _, back, outside = line(placement, between=2)

    with pytest.raises(Unhandled, match=r"worker"):
        virtual.result(outside.ask(outside.to("relay0"), WorkLater(name=7, count=1)))

    assert (got(back), back.dead.total()) == ([], 1)
    assert virtual.result(outside.ask(outside.to("relay0"), Work(name="x"))) == "worked on x"
    virtual.run()
    assert_all_balanced(virtual)


@placed
def test_a_refusal_passes_back_with_its_type(placement: str) -> None:
    virtual, _, _, outside = line(placement, between=2)

    with pytest.raises(No, match="not that") as caught:
        virtual.result(outside.ask(outside.to("relay0"), Work(name="no")))

    assert caught.value.detail == "detail"


@placed
def test_an_answer_that_the_first_asker_cannot_decode_is_unhandled(placement: str) -> None:
    class Older(Message[int], wire=Work.wire):
        name: str

    virtual, _, _, outside = line(placement)

    with pytest.raises(Unhandled, match=r"the answer of relay0: "):
        virtual.result(outside.ask(outside.to("relay0"), Older(name="x")))


@placed
def test_a_worker_that_is_not_there_is_said_to_the_first_asker(placement: str) -> None:
    virtual, _, back, outside = line(placement)
    back.life.stop("worker")
    virtual.run()

    with pytest.raises(ActorStopped):
        virtual.result(outside.ask(outside.to("relay0"), Work(name="x")))


@placed
def test_pieces_that_do_not_fit_the_message_are_unhandled(placement: str) -> None:
    virtual, _, back, outside = line(placement)
    body = msgspec.Raw(encode(Picture(name="p", pixels=b"", mask=b"")))

    for blobs in ((), (b"1",), (b"1", b"2", b"3")):
        with pytest.raises(Unhandled, match="worker"):
            virtual.result(outside.ask(outside.to("relay0"), Opaque(name=Picture.wire, body=body, blobs=blobs)))

    assert got(back) == []
    assert back.dead.total() == 3
    virtual.run()
    assert_all_balanced(virtual)


@placed
@pytest.mark.parametrize("name", ["", "$bye", "$reply", "x" * 300])
def test_an_opaque_of_a_name_that_no_message_has_harms_nobody(placement: str, name: str) -> None:
    virtual, _, _, outside = line(placement)
    made = Opaque(name=name, body=msgspec.Raw(encode((0, 0))))

    for target in ("worker", "relay0"):
        try:
            wait = outside.ask(outside.to(target), made, timeout_s=0.5)
        except (ValueError, TypeError):  # it is refused where it is sent
            continue
        with pytest.raises(Failure):
            virtual.result(wait)

    assert virtual.result(outside.ask(outside.to("relay0"), Work(name="x"))) == "worked on x"
    for world in virtual.processes.values():
        assert world.kernel.mailroom.strangers == {}
        assert all(peer.session == 1 for peer in world.kernel.neighbours.peers.values())


@placed
@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", encode(1) + encode(2), encode(Work(name="x"))[:-1]],
    ids=["nothing", "no msgpack", "two values", "cut short"],
)
def test_an_opaque_whose_body_is_no_message_harms_nobody(placement: str, body: bytes) -> None:
    """It is put into a frame as it is, beside the letters of others."""
    virtual, _, _, outside = line(placement)
    made = Opaque(name=Work.wire, body=msgspec.Raw(body))

    for target in ("worker", "relay0"):
        try:
            wait = outside.ask(outside.to(target), made, timeout_s=0.5)
        except (ValueError, TypeError):
            continue
        with pytest.raises(Failure):
            virtual.result(wait)

    assert virtual.result(outside.ask(outside.to("relay0"), Work(name="x"))) == "worked on x"
    for world in virtual.processes.values():
        assert all(peer.session == 1 for peer in world.kernel.neighbours.peers.values())


# --- the tap
@placed
def test_a_relay_is_re_executed_from_its_record(placement: str) -> None:
    virtual, middle, _, outside = line(placement)
    sink = Memory()
    middle.life.stop("relay0")
    virtual.run()
    Recorder(middle, sink)
    middle.life.spawn(Relay, "relay0", worker=Ref("worker"))
    virtual.run()

    virtual.result(outside.ask(outside.to("relay0"), Work(name="x")))
    virtual.result(outside.ask(outside.to("relay0"), Picture(name="p", pixels=bytes(100_000), mask=b"m")))
    virtual.run()

    outcome = Replay(sink.read(), "relay0").run()

    assert outcome.difference is None
    assert outcome.outputs >= 4  # two asks and their answers
