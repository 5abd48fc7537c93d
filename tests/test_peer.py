"""One connection, from one end, without a kernel."""

from __future__ import annotations

import pytest

from zactor.errors import TooLarge
from zactor.message import FRAME_BYTES, FRAME_LETTERS, MESSAGE_SIZE_MAX, Frame, Message, decode_frame
from zactor.peer import OUTBOX_MESSAGES, WINDOW_FRAMES, Peer


class Note(Message[None]):
    body: bytes = b""


class Wire:
    """Where frames go; it can be full."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.open = True

    def send(self, process: str, frame: bytes) -> bool:
        if self.open:
            self.frames.append(decode_frame(frame))
        return self.open


def greeted() -> Peer:
    peer = Peer("a", 1, "b", 1)
    peer.state = "open"
    return peer


def post(peer: Peer, count: int = 1, body: bytes = b"") -> None:
    for number in range(count):
        peer.post("k", "t", "s", (number + 1, 0, 0, 0), body, is_message=True)


def test_letters_of_one_pass_leave_as_one_frame_and_names_are_written_once() -> None:
    peer, wire = greeted(), Wire()
    post(peer, 3)

    shipped = peer.flush(wire.send)

    assert shipped == 3
    assert len(wire.frames) == 1
    assert wire.frames[0].names == ["k", "t", "s"]
    assert [letter.id for letter in wire.frames[0].letters] == [1, 2, 3]


def test_a_frame_is_closed_when_it_is_full() -> None:
    peer, wire = greeted(), Wire()
    post(peer, FRAME_LETTERS + 1)

    peer.flush(wire.send)

    assert [len(frame.letters) for frame in wire.frames] == [FRAME_LETTERS, 1]
    assert [frame.sequence for frame in wire.frames] == [1, 2]


def test_nothing_but_the_handshake_leaves_before_welcome() -> None:
    peer, wire = Peer("a", 1, "b", 1), Wire()
    post(peer)

    assert peer.flush(wire.send) == 0
    peer.handshake(wire.send, "$hello", ("run", "b"))

    assert [frame.names[0] for frame in wire.frames] == ["$hello"]
    assert wire.frames[0].sequence == 0
    assert peer.outbox_messages == 1


def test_a_window_of_frames_is_under_way_and_an_acknowledgement_opens_it() -> None:
    peer, wire = greeted(), Wire()
    post(peer, FRAME_LETTERS * (WINDOW_FRAMES + 2))

    peer.flush(wire.send)
    assert len(wire.frames) == WINDOW_FRAMES
    assert peer.outbox_messages == 2 * FRAME_LETTERS

    assert peer.acknowledge(1)
    peer.flush(wire.send)
    assert len(wire.frames) == WINDOW_FRAMES + 1


def test_bytes_under_way_are_bounded_too() -> None:
    peer, wire = greeted(), Wire()
    post(peer, 20, bytes(1 << 20))

    peer.flush(wire.send)

    assert len(wire.frames) == 8
    assert peer.outbox_messages == 12


def test_a_connection_that_is_full_keeps_its_frames_and_their_order() -> None:
    peer, wire = greeted(), Wire()
    wire.open = False
    post(peer, FRAME_LETTERS * 2)

    assert peer.flush(wire.send) == 0
    wire.open = True
    assert peer.flush(wire.send) == FRAME_LETTERS * 2

    assert [frame.sequence for frame in wire.frames] == [1, 2]


def test_an_outbox_is_full_at_its_bound_but_takes_answers_and_system_letters() -> None:
    peer = Peer("a", 1, "b", 1)
    post(peer, OUTBOX_MESSAGES)

    assert peer.full()
    peer.post("$reply", "", "s", (1, 0, 0, 0), None)
    assert peer.outbox_messages == OUTBOX_MESSAGES


def test_a_message_that_is_too_large_is_refused_and_leaves_the_others_alone() -> None:
    peer, wire = greeted(), Wire()
    post(peer)

    with pytest.raises(TooLarge, match="k to t has"):
        post(peer, 1, bytes(MESSAGE_SIZE_MAX))
    with pytest.raises(TypeError, match="a object cannot be sent"):
        peer.post("k", "t", "s", (9, 0, 0, 0), object(), is_message=True)

    assert peer.flush(wire.send) == 1


def test_a_repeated_frame_is_not_taken() -> None:
    peer = greeted()

    assert peer.took(1, 10)
    assert not peer.took(1, 10)
    assert peer.took(2, 10)
    assert not peer.took(1, 10)


def test_a_frame_beyond_the_window_is_not_taken_and_does_not_shut_out_those_that_follow() -> None:
    peer = greeted()

    assert not peer.took(WINDOW_FRAMES + 1, 10)
    assert peer.took(1, 10)


def test_an_acknowledgement_leaves_by_itself_after_a_quarter_of_the_window() -> None:
    peer, wire = greeted(), Wire()

    for sequence in range(1, WINDOW_FRAMES // 4 + 1):
        assert not peer.owed_enough()
        peer.took(sequence, 10)
    peer.flush(wire.send)

    assert [(frame.sequence, frame.acknowledged) for frame in wire.frames] == [(0, WINDOW_FRAMES // 4)]
    assert not peer.owed_enough()


def test_acknowledgements_ride_on_frames_that_go_anyway() -> None:
    peer, wire = greeted(), Wire()
    peer.took(1, 10)
    post(peer)

    peer.flush(wire.send)

    assert [(frame.sequence, frame.acknowledged) for frame in wire.frames] == [(1, 1)]


def test_a_reset_forgets_the_connection_and_says_how_many_messages_were_lost() -> None:
    peer = greeted()
    post(peer, 5)
    peer.took(1, 10)

    assert peer.reset() == 5
    assert (peer.outbox_messages, peer.outbox_bytes, peer.received, peer.sequence) == (0, 0, 0, 0)


def tell(peer: Peer, number: int, message: Message[None] | None = None, target: str = "t") -> bool:
    return peer.tell(message or Note(), target, "s", number, 0, 0, 0)


def post_note(peer: Peer, number: int) -> None:
    peer.post(Note.wire, "t", "s", (number, 0, 0, 0), Note(), is_message=True)


def test_the_short_way_is_open_between_the_first_letter_of_a_frame_and_the_last() -> None:
    peer, wire = greeted(), Wire()

    assert not tell(peer, 1)
    post_note(peer, 1)
    assert all(tell(peer, number) for number in range(2, FRAME_LETTERS))
    assert not tell(peer, FRAME_LETTERS)
    post_note(peer, FRAME_LETTERS)

    assert peer.flush(wire.send) == FRAME_LETTERS
    assert [letter.id for letter in wire.frames[0].letters] == list(range(1, FRAME_LETTERS + 1))
    assert not tell(peer, FRAME_LETTERS + 1)


def test_a_name_that_is_new_to_a_frame_goes_the_long_way() -> None:
    peer = greeted()
    post_note(peer, 1)

    assert not tell(peer, 2, target="another")
    assert tell(peer, 2)


def test_the_long_way_stays_the_only_one_while_somebody_waits_for_room() -> None:
    peer = greeted()
    peer.waiters.append(None)
    post_note(peer, 1)
    assert not tell(peer, 2)

    peer.waiters.clear()
    post_note(peer, 2)
    assert tell(peer, 3)


def test_the_short_way_never_brings_the_outbox_beyond_its_bound() -> None:
    peer = greeted()

    for number in range(OUTBOX_MESSAGES):
        if not tell(peer, number):
            assert not peer.full()
            post_note(peer, number)

    assert peer.outbox_messages == OUTBOX_MESSAGES
    assert peer.full()
    assert not tell(peer, OUTBOX_MESSAGES)


def test_the_short_way_takes_no_more_bytes_into_a_frame_than_the_long_one() -> None:
    peer, wire = greeted(), Wire()
    post_note(peer, 1)

    assert tell(peer, 2, Note(body=bytes(FRAME_BYTES)))
    assert not tell(peer, 3)
    post_note(peer, 3)
    peer.flush(wire.send)

    assert [[letter.id for letter in frame.letters] for frame in wire.frames] == [[1, 2], [3]]


def test_what_is_too_large_is_left_to_the_way_that_says_so() -> None:
    peer = greeted()
    post_note(peer, 1)

    assert not tell(peer, 2, Note(body=bytes(MESSAGE_SIZE_MAX)))
    assert peer.outbox_messages == 1
