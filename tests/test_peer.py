"""One connection, from one end, without a kernel."""

from __future__ import annotations

from collections import deque

import pytest

from zactor.errors import TooLarge
from zactor.message import MESSAGE_SIZE_MAX, Message
from zactor.peer import LETTERS_FIRST, OUTBOX_BYTES, OUTBOX_MESSAGES, OWED_MAX, WINDOW_BYTES, WINDOW_FRAMES, Peer
from zactor.wire import (
    BULK,
    CONTROL,
    FRAME_BYTES,
    FRAME_LETTERS,
    MAIL,
    NAMES_KEPT,
    NAMES_MAX,
    Frame,
    decode_frame,
)


class Note(Message[None]):
    body: bytes = b""


class Other(Message[None]):
    pass


class Wire:
    """Where frames go; a lane of it can be full."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.lanes: list[int] = []
        self.blobs: list[list[bytes]] = []
        self.to: list[str] = []
        self.full: set[int] = set()

    def send(self, process: str, lane: int, frame: bytes, blobs: list[bytes]) -> bool:
        if lane in self.full:
            return False
        self.frames.append(decode_frame(frame))
        self.lanes.append(lane)
        self.blobs.append(blobs)
        self.to.append(process)
        return True


def greeted() -> Peer:
    peer = Peer("b", 1)
    peer.state = "open"
    return peer


def take(peer: Peer, lane: int, sequence: int, size: int = 10) -> None:
    """What the mailroom does with a frame that follows."""
    assert peer.took(peer.lanes[lane], sequence, size)
    peer.lanes[lane].granted = sequence


def post(peer: Peer, count: int = 1, body: bytes = b"", lane: int = MAIL, blobs: tuple[bytes, ...] = ()) -> None:
    for number in range(count):
        peer.post(peer.lanes[lane], "k", "t", "s", (number + 1, 0, 0, 0), body, None, blobs)


def test_letters_of_one_pass_leave_as_one_frame_and_names_are_written_once() -> None:
    peer, wire = greeted(), Wire()
    post(peer, 3)

    shipped = peer.flush(wire.send)

    assert shipped == 3
    assert len(wire.frames) == 1
    assert wire.frames[0].names == ["k", "t", "s"]
    assert [letter.id for letter in wire.frames[0].letters] == [1, 2, 3]


def test_a_lane_keeps_few_names_for_its_next_frame_and_begins_anew_when_they_are_many() -> None:
    peer, wire = greeted(), Wire()

    for sender in "abcdefgh":
        peer.post(peer.mail, "k", "t", sender, (1, 0, 0, 0), b"")
        peer.flush(wire.send)

    kept = [len(frame.names) for frame in wire.frames]
    assert kept == [3, 4, 5, 6, 7, NAMES_KEPT, NAMES_KEPT + 1, 3]
    assert [frame.names[frame.letters[0].sender] for frame in wire.frames] == [*"abcdefgh"]


def test_a_frame_of_letters_that_share_no_name_is_taken_after_one_that_left_names() -> None:
    peer, wire = greeted(), Wire()
    for number in range(NAMES_KEPT - 2):
        peer.post(peer.mail, "k", "t", f"{number}", (1, 0, 0, 0), b"")
    peer.flush(wire.send)
    peer.mail.letters_max = FRAME_LETTERS

    for number in range(FRAME_LETTERS):
        peer.post(peer.mail, f"k{number}", f"t{number}", f"s{number}", (1, 0, 0, 0), b"")
    peer.flush(wire.send)

    assert len(wire.frames[1].letters) == FRAME_LETTERS
    assert len(wire.frames[1].names) == NAMES_MAX


def test_a_frame_is_closed_when_it_is_full_and_the_first_of_a_pass_are_smaller() -> None:
    peer, wire = greeted(), Wire()
    post(peer, LETTERS_FIRST + 2 * LETTERS_FIRST + 2 * FRAME_LETTERS + 1)

    peer.flush(wire.send)

    letters = [len(frame.letters) for frame in wire.frames]
    assert letters == [LETTERS_FIRST, 2 * LETTERS_FIRST, FRAME_LETTERS, FRAME_LETTERS, 1]
    assert [frame.sequence for frame in wire.frames] == [1, 2, 3, 4, 5]


def test_nothing_leaves_before_welcome() -> None:
    peer, wire = Peer("b", 1), Wire()
    post(peer)

    assert peer.flush(wire.send) == 0
    peer.acknowledge(wire.send)

    assert wire.frames == []
    assert peer.outbox_messages == 1


def test_a_window_of_frames_is_under_way_and_an_acknowledgement_opens_it() -> None:
    peer, wire = greeted(), Wire()
    post(peer, 3 * LETTERS_FIRST + FRAME_LETTERS * WINDOW_FRAMES)

    peer.flush(wire.send)
    assert len(wire.frames) == WINDOW_FRAMES
    assert peer.outbox_messages == 2 * FRAME_LETTERS

    assert peer.take_acknowledgements((0, 1, 0))
    assert not peer.take_acknowledgements((0, 1, 0))
    peer.flush(wire.send)
    assert len(wire.frames) == WINDOW_FRAMES + 1
    assert [frame.sequence for frame in wire.frames] == list(range(1, WINDOW_FRAMES + 2))


def test_bytes_under_way_are_bounded_too() -> None:
    peer, wire = greeted(), Wire()
    post(peer, 20, bytes(1 << 20))

    peer.flush(wire.send)

    assert len(wire.frames) == WINDOW_BYTES >> 20
    assert peer.outbox_messages == 12


def test_a_connection_that_is_full_keeps_its_frames_and_their_order() -> None:
    peer, wire = greeted(), Wire()
    wire.full = {MAIL}
    post(peer, LETTERS_FIRST * 3)

    assert peer.flush(wire.send) == 0
    wire.full = set()
    assert peer.flush(wire.send) == LETTERS_FIRST * 3

    assert [frame.sequence for frame in wire.frames] == [1, 2]


def test_an_outbox_is_full_at_its_bound_but_takes_answers_and_system_letters() -> None:
    peer = Peer("b", 1)
    for lane in peer.lanes:
        post(peer, OUTBOX_MESSAGES, lane=lane.number)

        assert lane.full()
        lane.post("$reply", "", "s", (1, 0, 0, 0), None)
        assert lane.messages == OUTBOX_MESSAGES
    assert peer.outbox_messages == 3 * OUTBOX_MESSAGES


def test_an_outbox_is_full_by_its_bytes_too() -> None:
    peer = Peer("b", 1)
    post(peer, 15, bytes(1 << 20))
    assert not peer.lanes[MAIL].full()

    post(peer, 1, bytes(1 << 20))

    assert peer.lanes[MAIL].full()
    assert peer.lanes[MAIL].size >= OUTBOX_BYTES
    assert not peer.lanes[BULK].full()


def test_a_message_that_is_too_large_is_refused_and_leaves_the_others_alone() -> None:
    peer, wire = greeted(), Wire()
    post(peer)

    with pytest.raises(TooLarge, match="k to t has"):
        post(peer, 1, bytes(MESSAGE_SIZE_MAX))
    with pytest.raises(TypeError, match="a object cannot be sent"):
        peer.post(peer.mail, "k", "t", "s", (9, 0, 0, 0), object())

    assert peer.flush(wire.send) == 1


def test_a_repeated_frame_is_not_taken() -> None:
    peer = greeted()

    assert peer.took(peer.mail, 1, 10)
    assert not peer.took(peer.mail, 1, 10)
    assert peer.took(peer.mail, 2, 10)
    assert not peer.took(peer.mail, 1, 10)
    assert peer.mail.received == 2


@pytest.mark.parametrize("ahead", [2, WINDOW_FRAMES, WINDOW_FRAMES + 1, 1 << 40])
def test_a_frame_after_a_gap_is_not_taken(ahead: int) -> None:
    peer = greeted()

    assert not peer.took(peer.mail, ahead, 10)
    assert (peer.mail.received, peer.owed) == (0, 0)
    assert peer.took(peer.mail, 1, 10)


def test_an_acknowledgement_leaves_by_itself_after_a_quarter_of_the_window() -> None:
    peer, wire = greeted(), Wire()

    for sequence in range(1, WINDOW_FRAMES // 4 + 1):
        assert peer.owed < OWED_MAX
        take(peer, MAIL, sequence)
    peer.flush(wire.send)

    assert [(frame.sequence, frame.acknowledged) for frame in wire.frames] == [(0, (0, WINDOW_FRAMES // 4, 0))]
    assert wire.lanes == [CONTROL]
    assert peer.owed < OWED_MAX


def test_an_acknowledgement_leaves_by_itself_after_a_quarter_of_the_windows_bytes() -> None:
    peer, wire = greeted(), Wire()

    take(peer, BULK, 1, WINDOW_BYTES // 4)
    peer.flush(wire.send)

    assert [(frame.sequence, frame.acknowledged) for frame in wire.frames] == [(0, (0, 0, 1))]
    assert peer.owed < OWED_MAX


def test_an_acknowledgement_that_finds_no_room_is_still_owed() -> None:
    peer, wire = greeted(), Wire()
    wire.full = {CONTROL}
    take(peer, BULK, 1, WINDOW_BYTES // 4)

    peer.flush(wire.send)

    assert wire.frames == []
    assert peer.owed >= OWED_MAX


def test_what_was_taken_but_not_granted_is_not_acknowledged() -> None:
    peer, wire = greeted(), Wire()
    peer.took(peer.mail, 1, 10)
    post(peer)

    peer.flush(wire.send)

    assert wire.frames[0].acknowledged == (0, 0, 0)


def test_acknowledgements_ride_on_frames_that_go_anyway() -> None:
    peer, wire = greeted(), Wire()
    take(peer, MAIL, 1)
    take(peer, BULK, 1)
    post(peer)

    peer.flush(wire.send)

    assert [(frame.sequence, frame.acknowledged) for frame in wire.frames] == [(1, (0, 1, 1))]


def test_a_reset_forgets_the_connection_and_says_how_many_messages_waited_and_were_under_way() -> None:
    peer, wire = greeted(), Wire()
    post(peer, 3)
    post(peer, 1, lane=BULK)
    peer.flush(wire.send)
    post(peer, 5)
    peer.lanes[CONTROL].post("$beat", "", "", (0, 0, 0, 0), 0)
    peer.bye, peer.bye_due = True, (1, 0)
    peer.sources.add("b#1#mail#x")
    take(peer, MAIL, 1)

    assert peer.reset() == (5, 4)

    assert peer.outbox_messages == 0
    assert all(lane.empty() for lane in peer.lanes)
    assert [(lane.received, lane.granted, lane.sequence, lane.under_way) for lane in peer.lanes] == [(0, 0, 0, 0)] * 3
    assert peer.parted() is False
    assert [peer.bye_due, *peer.sources, peer.owed] == [None, 0]


def test_what_was_acknowledged_is_not_under_way() -> None:
    peer, wire = greeted(), Wire()
    post(peer, 3)
    peer.flush(wire.send)

    peer.take_acknowledgements((0, 1, 0))

    assert peer.reset() == (0, 0)


def test_of_two_acknowledgements_the_later_one_holds_whichever_lane_came_first() -> None:
    peer, wire = greeted(), Wire()
    for _ in range(3):
        post(peer)
        peer.flush(wire.send)

    peer.take_acknowledgements((0, 2, 0))
    peer.take_acknowledgements((0, 1, 0))

    assert peer.reset() == (0, 1)


def test_each_lane_is_numbered_and_held_by_a_window_of_its_own() -> None:
    peer, wire = greeted(), Wire()
    post(peer, 1000, bytes(1 << 14), MAIL)
    peer.flush(wire.send)
    assert peer.lanes[MAIL].messages > 0
    sent = len(wire.frames)

    post(peer, 1, b"", BULK, (b"bulk",))
    peer.lanes[CONTROL].post("$beat", "", "", (0, 0, 0, 0), 0)
    peer.flush(wire.send)

    assert list(zip(wire.lanes[sent:], [frame.sequence for frame in wire.frames[sent:]], strict=True)) == [
        (CONTROL, 1),
        (BULK, 1),
    ]
    assert wire.blobs[-1] == [b"bulk"]


def test_a_lane_that_is_full_does_not_hold_up_the_others_and_control_goes_first() -> None:
    peer, wire = greeted(), Wire()
    wire.full = {MAIL}
    for lane in (BULK, MAIL):
        post(peer, 1, lane=lane)
    peer.lanes[CONTROL].post("$beat", "", "", (0, 0, 0, 0), 0)

    assert peer.flush(wire.send) == 1

    assert wire.lanes == [CONTROL, BULK]
    assert peer.outbox_messages == 1


def test_what_is_an_ask_is_known_to_have_left_when_its_frame_has() -> None:
    peer, wire = greeted(), Wire()
    peer.post(peer.mail, "k", "t", "s", (7, 0, 0, 0), b"", (1, ()))
    assert peer.mail.asked == 0

    peer.flush(wire.send)
    peer.post(peer.mail, "k", "t", "s", (8, 0, 0, 0), b"")
    peer.post(peer.mail, "k", "t", "s", (9, 0, 0, 0), b"", (1, ()))

    assert peer.mail.asked == 7


def test_both_have_parted_when_each_said_goodbye_and_all_of_it_has_come() -> None:
    peer = greeted()
    assert not peer.parted()
    peer.bye = True
    assert not peer.parted()
    peer.bye_due = (2, 1)
    take(peer, MAIL, 1)
    take(peer, MAIL, 2)
    assert not peer.parted()
    take(peer, BULK, 1)
    assert peer.parted()

    peer.bye = False
    assert not peer.parted()


def test_nothing_goes_the_short_way_to_one_that_closes() -> None:
    peer = greeted()
    peer.bye_due = (0, 0)
    post_note(peer, 1)

    assert not tell(peer, 2)


def tell(peer: Peer, number: int, message: Message[None] | None = None, target: str = "t") -> bool:
    return bool(peer.tell(message or Note(), target, "s", number, 0, 0, 0))


def post_note(peer: Peer, number: int) -> None:
    peer.post(peer.mail, Note.wire, "t", "s", (number, 0, 0, 0), Note())


def test_the_short_way_is_open_but_for_the_first_letter_of_a_kind_and_the_last_of_a_frame() -> None:
    peer, wire = greeted(), Wire()

    assert not tell(peer, 1)
    post_note(peer, 1)
    assert all(tell(peer, number) for number in range(2, LETTERS_FIRST))
    assert not tell(peer, LETTERS_FIRST)
    post_note(peer, LETTERS_FIRST)

    assert peer.flush(wire.send) == LETTERS_FIRST
    assert [letter.id for letter in wire.frames[0].letters] == list(range(1, LETTERS_FIRST + 1))
    assert tell(peer, LETTERS_FIRST + 1)
    assert not tell(peer, LETTERS_FIRST + 2, Other())


def test_names_that_are_new_to_a_frame_go_the_short_way() -> None:
    peer, wire = greeted(), Wire()
    post_note(peer, 1)

    assert tell(peer, 2, target="another")
    peer.flush(wire.send)
    frame = wire.frames[0]
    assert [frame.names[letter.target] for letter in frame.letters] == ["t", "another"]


def test_one_that_went_silent_takes_nothing_the_short_way_when_all_has_left() -> None:
    peer, wire = greeted(), Wire()
    post_note(peer, 1)
    peer.paused["t"] = deque()
    peer.silent()
    peer.flush(wire.send)

    assert not tell(peer, 2)


def test_a_frame_that_found_no_room_leaves_first_the_next_time() -> None:
    peer, wire = greeted(), Wire()
    post_note(peer, 1)
    assert peer.flush(lambda *_frame: False) == 0
    assert (peer.outbox_messages, peer.mail.size > 0) == (1, True)
    post_note(peer, 2)

    assert peer.flush(wire.send) == 2
    assert [letter.id for frame in wire.frames for letter in frame.letters] == [1, 2]
    assert (peer.outbox_messages, peer.mail.size) == (0, 0)


def test_the_long_way_stays_the_only_one_while_somebody_waits_for_room() -> None:
    peer = greeted()
    peer.mail.waiters.append(None)
    post_note(peer, 1)
    assert not tell(peer, 2)

    peer.mail.waiters.clear()
    post_note(peer, 2)
    assert tell(peer, 3)


def test_the_short_way_never_brings_the_outbox_beyond_its_bound() -> None:
    peer = greeted()

    for number in range(OUTBOX_MESSAGES):
        if not tell(peer, number):
            assert not peer.mail.full()
            post_note(peer, number)

    assert peer.outbox_messages == OUTBOX_MESSAGES
    assert peer.mail.full()
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
