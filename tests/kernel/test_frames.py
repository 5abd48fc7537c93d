"""What comes in over a connection is not trusted: frames that are garbage, out of place, or lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kernel.balance import assert_all_balanced, assert_balanced
from tests.kernel.raw import RawClient
from zactor.actor import Actor, on
from zactor.errors import Refused
from zactor.hlc import AHEAD_NS_MAX
from zactor.kernel import Kernel
from zactor.message import Message, Ref, encode
from zactor.neighbours import CLIENTS_MAX
from zactor.sim.heap import WALL_NS
from zactor.sim.virtual import Virtual
from zactor.wire import CONTROL, EMPTY, LANES, PROTOCOL_VERSION, Batch, decode_frame, frame


class Greet(Message[str]):
    name: str


class Checked(Message[None]):
    """A message that checks itself, with an error of its own."""

    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise KeyError("negative")


class Picky(Refused):
    """A failure that takes no text, against the rules."""

    def __init__(self) -> None:
        super().__init__("picky")


class Pass(Message[str]):
    name: str


class Hold(Message[None]):
    pass


class Server(Actor):
    @on
    def greet(self, message: Greet) -> str:
        return f"Hello, {message.name}!"

    @on
    def checked(self, message: Checked) -> None: ...

    @on
    async def hold(self, message: Hold) -> None:
        await self.sleep(1.0)


class Small(Server):
    mailbox_size = 2


class Passing(Actor):
    server: Ref[Greet]

    @on
    async def passing(self, message: Pass) -> str:
        return await self.ask(self.server, Greet(name=message.name))


Capture = list[tuple[str, bytes]]


def two(kind: type[Actor] = Server) -> tuple[Virtual, Kernel, Kernel, Capture]:
    """A process that asks and one that answers, and what the second got: source and frame."""
    virtual = Virtual()
    front, back = virtual.add("front"), virtual.add("back")
    back.life.add("server", kind)
    front.life.add("passing", Passing, links={"server": "server"})
    captured: Capture = []
    receive = back.receive

    def capturing(source: str, data: bytes, blobs: Sequence[bytes] = ()) -> bool:
        captured.append((source, data))
        return receive(source, data, blobs)

    back.receive = capturing
    virtual.start()
    virtual.run()
    outside = virtual.outside("front")
    virtual.result(outside.ask(outside.to("server"), Greet(name="first")))
    virtual.result(outside.ask(outside.to("passing"), Pass(name="second")))
    back.receive = receive
    return virtual, front, back, captured


def assert_still_answers(virtual: Virtual, process: str) -> None:
    """From within, and to a client that has just come."""
    kernel = virtual.processes[process].kernel
    outside = virtual.outside(process)
    assert virtual.result(outside.ask(outside.to("server"), Greet(name="a"))) == "Hello, a!"
    client = RawClient(virtual, kernel, "@afterwards")
    client.hello()
    virtual.run(seconds=0.01)
    client.letter(Greet.wire, "server", ("b",), number=5, ask=(1_000_000_000, (("@afterwards/1", 5),)))
    virtual.run(seconds=0.01)
    assert ("$reply", 5, "Hello, b!") in client.letters()
    del virtual.processes["@afterwards"]


CONTROLS = ["$reply", "$error", "$pause", "$resume", "$watch", "$unwatch", "$down", "$up", "$probe", "$break"]
CONTROLS += ["$cancel", "$inspect", "$taken", "$beat", "$bye", "$hello", "$welcome", "$goaway", "$forgotten", "$what"]
VALID = [data for _, data in two()[3] if decode_frame(data).letters]
SOURCES = [f"front#1#{lane}#virtual" for lane in LANES]
SOURCES += ["front#1#control#", "front#1#control#other", "front#2#control#virtual", "back#1#control#virtual"]
SOURCES += ["@x#1#control#x", "@x#1#mail#x", "front#1", ""]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid frame with some bytes changed, cut out, doubled or added."""
    data = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.sampled_from(["change", "cut", "double", "add"]))
        if how == "change" and data:
            data[at] = draw(st.integers(0, 255))
        elif how == "cut":
            del data[at : at + draw(st.integers(1, 8))]
        elif how == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 8))]
        else:
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(SOURCES), mutated()), min_size=1, max_size=5))
def test_mutated_frames_are_refused_or_taken_but_never_raise(frames: list[tuple[str, bytes]]) -> None:
    virtual, front, back, _ = two()

    for source, data in frames:
        back.receive(source, data)
    virtual.run(seconds=0.05)

    assert_still_answers(virtual, "back")
    assert_balanced(front, back)


@settings(max_examples=200)
@given(st.binary(max_size=300), st.sampled_from([*SOURCES, "nobody#1#mail#x"]))
def test_arbitrary_bytes_are_counted_and_dropped(data: bytes, source: str) -> None:
    virtual, _, back, _ = two()
    before = back.mailroom.strangers.total()

    back.receive(source, data)
    virtual.run(seconds=0.05)

    assert back.mailroom.strangers.total() == before + 1
    assert_still_answers(virtual, "back")


@settings(max_examples=200)
@given(
    st.sampled_from([*CONTROLS, Greet.wire]),
    st.recursive(
        st.none() | st.integers(-1, 1 << 64 - 1) | st.text(max_size=4) | st.booleans(),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=6,
    ),
    st.integers(0, (1 << 64) - 1),
    st.sampled_from(["server", "passing", "", "nobody", "front", "@raw"]),
)
def test_an_introduced_client_may_say_anything(kind: str, body: Any, number: int, target: str) -> None:
    virtual, front, back, _ = two()
    client = RawClient(virtual, back)
    client.hello()
    virtual.run(seconds=0.01)

    client.letter(kind, target, body, number=number)
    virtual.run(seconds=0.05)

    assert_still_answers(virtual, "back")
    assert_balanced(front, back)


def test_a_client_is_welcomed_answered_and_can_say_goodbye() -> None:
    virtual, _, back, _ = two()
    client = RawClient(virtual, back)

    client.hello()
    client.letter(Greet.wire, "server", ("raw",), number=77, ask=(1_000_000_000, (("@raw/1", 77),)))
    virtual.run(seconds=0.01)
    client.goodbye()
    virtual.run(seconds=0.01)

    assert [kind for kind, _, _ in client.letters()] == ["$welcome", "$reply", "$bye"]
    assert client.letters()[1] == ("$reply", 77, "Hello, raw!")
    assert "@raw" not in back.neighbours.peers


def test_a_ref_to_a_client_that_has_left_leads_to_a_dead_letter() -> None:
    virtual, _, back, _ = two()
    client = RawClient(virtual, back)
    client.hello()
    virtual.run(seconds=0.01)
    outside = virtual.outside("back")
    ref: Ref[Any] = Ref("@raw/1")
    outside.tell(ref, Greet(name=""))
    virtual.run(seconds=0.01)
    client.goodbye()
    virtual.run(seconds=0.01)

    outside.tell(ref, Greet(name=""))

    assert back.dead["peer lost"] == 1
    assert_balanced(back)


def test_inspection_is_answered_while_a_mailbox_is_full() -> None:
    virtual, _, back, _ = two(Small)
    client = RawClient(virtual, back)
    client.hello()
    virtual.run(seconds=0.01)
    outside = virtual.outside("back")
    outside.say("server", Hold())
    virtual.run(seconds=0.01)
    for _ in range(2):
        outside.say("server", Greet(name=""))

    client.letter("$inspect", "", None, number=9)
    virtual.run(seconds=0.01)

    kind, number, about = client.letters()[-1]
    assert (kind, number) == ("$reply", 9)
    assert {actor["name"]: actor["mailbox"] for actor in about["actors"]}["server"] == 2


def test_frames_before_hello_are_counted_and_dropped() -> None:
    virtual, _, back, _ = two()
    client = RawClient(virtual, back)

    client.letter(Greet.wire, "server", ("x",))
    virtual.run(seconds=0.01)

    assert back.mailroom.strangers == {"not introduced": 1}
    assert [each.names[0] for each in client.frames] == ["$forgotten"]  # if it knew us once, it greets us again


def test_a_hello_of_another_run_is_refused_and_a_client_is_told_why() -> None:
    virtual, _, back, _ = two()
    client = RawClient(virtual, back)

    client.hello(run="another")
    virtual.run(seconds=0.01)

    assert back.mailroom.strangers == {"wrong HELLO": 1}
    because = "this is back of run virtual; the HELLO was for 'back' of run 'another', not it"
    assert client.letters() == [("$goaway", 0, [because, False])]
    assert "@raw" not in back.neighbours.peers


def test_a_hello_for_somebody_else_is_refused() -> None:
    virtual, _, back, _ = two()
    client = RawClient(virtual, back)

    client.hello(expected="front")
    virtual.run(seconds=0.01)

    assert back.mailroom.strangers == {"wrong HELLO": 1}


def test_a_process_that_is_not_in_the_next_book_either_is_refused() -> None:
    virtual, _, back, _ = two()
    client = RawClient(virtual, back, "intruder")

    client.hello()
    client.letter(Greet.wire, "server", ("x",))
    assert back.mailroom.strangers == {"not introduced": 1}
    del virtual.processes["intruder"]
    virtual.publish()

    assert back.mailroom.strangers == {"not introduced": 1, "unknown process": 1}
    assert "intruder" not in back.neighbours.peers


def test_frames_of_an_older_incarnation_are_refused() -> None:
    virtual, _, back, captured = two()
    virtual.kill("front")
    virtual.restart("front").life.add("passing", Passing, links={"server": "server"})
    virtual.start()
    virtual.run(seconds=0.01)
    before, received = back.mailroom.strangers.total(), back.received

    for source, data in captured:
        back.receive(source, data)
    virtual.run(seconds=0.01)

    assert back.mailroom.strangers.total() == before + len(captured)
    assert back.received == received
    outside = virtual.outside("front")
    assert virtual.result(outside.ask(outside.to("server"), Greet(name="x"))) == "Hello, x!"


def test_a_repeated_frame_is_not_delivered_again() -> None:
    virtual, _, back, captured = two()
    handled = back.handled
    source, data = next(each for each in reversed(captured) if decode_frame(each[1]).sequence)

    back.receive(source, data)
    virtual.run(seconds=0.01)

    assert back.mailroom.strangers == {"frame out of place": 1}
    assert back.handled == handled
    assert_still_answers(virtual, "back")


def test_a_sequence_that_cannot_be_ends_the_session_and_does_not_shut_out_those_that_follow() -> None:
    virtual, front, back, _ = two()

    back.receive("front#1#mail#virtual", frame(1, 1 << 40, (0, 0, 0), EMPTY))
    virtual.run(seconds=0.01)
    outside = virtual.outside("front")

    assert virtual.result(outside.ask(outside.to("server"), Greet(name="x"))) == "Hello, x!"
    assert back.mailroom.strangers == {"frame out of place": 1}
    assert back.neighbours.peers["front"].session == front.neighbours.peers["back"].session == 2


def test_a_frame_from_another_connection_than_the_one_that_greeted_is_refused() -> None:
    virtual, _, back, _ = two()

    for source in ("front#7#mail#virtual", "front#1#mail#another", "front#1#control#another", "front#1#bulk#"):
        back.receive(source, frame(1, 3, (0, 0, 0), EMPTY))
    virtual.run(seconds=0.01)

    assert back.mailroom.strangers == {"not introduced": 4}
    assert_still_answers(virtual, "back")


def test_another_version_of_the_protocol_is_refused() -> None:
    virtual, _, back, _ = two()

    back.receive("front#1#mail#virtual", encode((PROTOCOL_VERSION + 1, 1, 3, (0, 0, 0), [], [])))
    virtual.run(seconds=0.01)

    assert back.mailroom.strangers == {"wrong version": 1}


def test_a_stamp_far_ahead_is_delivered_counted_and_does_not_move_our_clock() -> None:
    virtual, _, back, _ = two()
    client = RawClient(virtual, back)
    client.hello()
    virtual.run(seconds=0.01)
    handled = back.handled
    ahead = WALL_NS + virtual.now_ns + AHEAD_NS_MAX

    client.letter(Greet.wire, "server", ("x",), stamp=ahead + 1_000_000_000)
    virtual.run(seconds=0.01)

    assert back.hlc < ahead
    assert back.mailroom.stamps_ahead == {"@raw": 1}
    assert back.handled == handled + 1


def test_a_stamp_a_little_ahead_moves_our_clock() -> None:
    virtual, _, back, _ = two()
    client = RawClient(virtual, back)
    client.hello()
    virtual.run(seconds=0.01)
    ahead = WALL_NS + virtual.now_ns + AHEAD_NS_MAX // 2

    client.letter(Greet.wire, "server", ("x",), stamp=ahead)

    assert back.hlc == ahead
    assert back.mailroom.stamps_ahead == {}


def test_a_message_that_fails_its_own_check_is_undecodable() -> None:
    virtual, _, back, _ = two()
    client = RawClient(virtual, back)
    client.hello()
    virtual.run(seconds=0.01)

    client.letter(Checked.wire, "server", (-1,))
    virtual.run(seconds=0.01)

    assert back.dead == {"undecodable": 1}
    assert_still_answers(virtual, "back")


def test_an_error_that_cannot_be_made_here_reaches_its_asker_as_a_refusal() -> None:
    virtual, front, _, _ = two()
    outside = virtual.outside("front")
    outside.say("server", Hold())
    wait = outside.ask(outside.to("server"), Greet(name="x"), timeout_s=0.5)
    virtual.run(seconds=0.01)
    batch = Batch()
    batch.add("$error", "", "server", wait.id, 0, 0, 0, (Picky.wire, "text", ""))  # type: ignore[attr-defined]
    sequence = front.neighbours.peers["back"].lanes[CONTROL].received + 1

    front.receive("back#1#control#virtual", frame(1, sequence, (0, 0, 0), batch.close()))

    with pytest.raises(Refused, match=r"Picky: text"):
        virtual.result(wait)


def test_a_peer_answers_only_what_it_was_asked() -> None:
    virtual, front, back, _ = two()
    outside = virtual.outside("back")
    outside.say("server", Hold())
    wait = outside.ask(outside.to("server"), Greet(name="x"))
    batch = Batch()
    batch.add("$reply", "", "", wait.id, 0, 0, 0, "forged")  # type: ignore[attr-defined]
    sequence = back.neighbours.peers["front"].lanes[CONTROL].received + 1

    back.receive("front#1#control#virtual", frame(1, sequence, (0, 0, 0), batch.close()))

    assert virtual.result(wait) == "Hello, x!"
    assert front.pending == {}


def test_a_letter_that_points_beyond_its_names_costs_itself_alone() -> None:
    virtual, _, back, _ = two()
    sequence = back.neighbours.peers["front"].mail.received + 1
    good = [0, 1, 2, 1, 0, 0, 0, ["x"]]
    bad = [0, 9, 2, 1, 0, 0, 0, ["x"]]
    handled = back.handled

    data = msgspec.msgpack.encode(
        [PROTOCOL_VERSION, 1, sequence, [0, 0, 0], [Greet.wire, "server", "s"], [good, bad, good]]
    )
    back.receive("front#1#mail#virtual", data)
    virtual.run(seconds=0.01)

    assert back.mailroom.strangers == {"bad letter": 1}
    assert back.handled == handled + 2


def test_clients_are_bounded() -> None:
    _, _, back, _ = two()

    for number in range(CLIENTS_MAX + 100):
        name = f"@{number}"
        batch = Batch()
        batch.add("$hello", "", "", 0, 0, 0, 0, ("virtual", "", name, 1, "back"))
        back.receive(f"{name}#1#control#x", frame(1, 0, (0, 0, 0), batch.close()))

    assert len(back.neighbours.peers) == CLIENTS_MAX
    assert back.mailroom.strangers["unknown process"] > 100


def test_refused_frames_are_logged_with_their_source_until_they_are_a_flood() -> None:
    virtual, _, back, _ = two()

    for _ in range(1000):
        back.receive("somebody#1", b"\xc1")

    logged = [fields for _, _, event, fields in virtual.logs if event == "frame_refused"]
    assert [fields["count"] for fields in logged] == [*range(1, 11), 16, 32, 64, 128, 256, 512]
    assert {fields["source"] for fields in logged} == {"somebody#1"}


def test_many_messages_that_cannot_be_sent_do_not_spoil_the_frame_of_those_that_can() -> None:
    virtual, front, back, _ = two()
    outside = virtual.outside("front")
    handled = back.handled

    for number in range(1000):
        with pytest.raises(UnicodeEncodeError):
            outside.say(f"server/{number}", Greet(name="\ud800"))
    outside.say("server", Greet(name="good"))
    virtual.run(seconds=0.01)

    assert back.mailroom.strangers == {}
    assert back.handled == handled + 1
    assert_all_balanced(virtual)
    assert front.unsent == 1000


def test_a_name_that_is_too_long_to_travel_is_unknown_and_does_not_spoil_a_frame() -> None:
    virtual, front, back, _ = two()
    outside = virtual.outside("front")
    handled = back.handled

    outside.say("server/" + "x" * 300, Greet(name="lost"))
    outside.say("server", Greet(name="good"))
    virtual.run(seconds=0.01)

    assert front.dead == {"unknown": 1}
    assert back.mailroom.strangers == {}
    assert back.handled == handled + 1
    assert_all_balanced(virtual)
