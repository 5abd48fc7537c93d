"""What one kernel knows of another process: a session, three lanes with outbox and window, and who is paused there.

A pure machine: bytes go out by the function it is given, nothing else happens. On each lane frames with letters are
numbered from 1 and acknowledged by number, mostly on the back of frames that go the other way. At most
`WINDOW_FRAMES` or `WINDOW_BYTES` are under way unacknowledged, so a sender that never looks up is held at
home, where `tell` can tell it so, rather than in queues that nobody sees.

A **session** is one connection: both sides count it up when they lose the other, and what belongs to an older one, or
does not follow the frame before, is never delivered. States: `closed` (nothing said yet), `greeting` (HELLO is out),
`open` (WELCOME came), `refused` (GOAWAY came).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from zactor.errors import TooLarge
from zactor.message import MESSAGE_SIZE_MAX, Message, encode
from zactor.wire import BULK, CONTROL, EMPTY, FRAME_BYTES, FRAME_LETTERS, LANES, MAIL, Batch, Chain, frame

WINDOW_FRAMES = 64
WINDOW_BYTES = 8 << 20
"""Under way on one lane at a time: enough for a full loopback at 4 ms a turn, little enough to hold."""

WINDOW_BULK_BYTES = 768 << 10
"""The same for bulk: three blocks of 256 KiB, so that one is written, one is read and one is acknowledged. More of it
in the buffers of the system makes small mail wait (see tests/bench), and hardly brings more."""

LETTERS_FIRST = 32
"""Letters of the first frame that a pass closes; each later one holds twice as many, up to `FRAME_LETTERS`. So the
other side begins early, and a flood still travels in full frames."""

OWED_MAX = WINDOW_BYTES // 4
"""Bytes that were taken since the last acknowledgement, when one leaves by itself."""

OWED_FRAME = OWED_MAX // (WINDOW_FRAMES // 4)
"""A frame counts for as many at least: so one leaves after a quarter of the window's frames, too."""

OUTBOX_MESSAGES = 10_000
OUTBOX_BYTES = 16 << 20
"""What may wait at home on one lane before `tell` says Overloaded."""

Send = Callable[[str, int, bytes, "list[bytes]"], bool]
"""`World.send`: process, lane, frame, blobs."""


Closed = tuple[bytes, "list[bytes]", int, int, int]
"""A closed frame without its header: rest, blobs, messages in it, bytes of letters, the last ask in it or before."""


class Lane:
    """One stream to another process, and what came by the one that goes the other way."""

    __slots__ = (
        "_closed_bytes",
        "_closed_messages",
        "_frames",
        "asked",
        "batch",
        "controls",
        "granted",
        "kinds",
        "last_ask",
        "letters_max",
        "number",
        "received",
        "room",
        "sequence",
        "unacknowledged",
        "unacknowledged_bytes",
        "waiters",
        "weight",
        "window_bytes",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.window_bytes = WINDOW_BULK_BYTES if number == BULK else WINDOW_BYTES
        self.weight = WINDOW_BYTES // self.window_bytes  # of its bytes, as a share of its window
        self.letters_max = LETTERS_FIRST
        self.waiters: deque[Any] = deque()  # those who wait for room
        self.batch = Batch()
        self.controls = 0  # letters of the open batch that are no messages
        self.kinds: set[str] = set()  # of messages that have gone by this lane in this session
        self.room = 0  # letters that `tell` may bring the open batch to; 0: each goes by `post`
        self._frames: deque[Closed] = deque()
        self._closed_messages = 0
        self._closed_bytes = 0
        self.last_ask = 0  # the id of the last ask that was posted
        self.asked = 0  # and of the last that left
        self.sequence = 0
        self.unacknowledged: deque[tuple[int, int, int]] = deque()  # (sequence, bytes, messages)
        self.unacknowledged_bytes = 0
        self.received = 0
        self.granted = 0  # what is acknowledged of it: less while this process holds too much

    @property
    def messages(self) -> int:
        """Messages that have not left."""
        return self._closed_messages + len(self.batch.letters) - self.controls

    @property
    def size(self) -> int:
        """Bytes of letters that have not left."""
        return self._closed_bytes + self.batch.size

    @property
    def under_way(self) -> int:
        """Messages that have left and are not acknowledged, as far as the window was looked at."""
        return sum(entry[2] for entry in self.unacknowledged)

    def empty(self) -> bool:
        """Whether everything has left."""
        return not (self._frames or self.batch.letters)

    def ready(self) -> bool:
        """Whether a whole frame waits."""
        return bool(self._frames)

    def full(self) -> bool:
        """Whether it takes no more messages; answers and system letters it always takes."""
        return self.messages >= OUTBOX_MESSAGES or self.size >= OUTBOX_BYTES

    def roomy(self) -> bool:
        """Whether a whole frame more would leave it within its bounds."""
        return (
            self.messages <= OUTBOX_MESSAGES - FRAME_LETTERS
            and self.size <= OUTBOX_BYTES - FRAME_BYTES - MESSAGE_SIZE_MAX
        )

    def post(
        self,
        kind: str,
        target: str,
        sender: str,
        numbers: tuple[int, int, int, int],
        body: Any,
        ask: tuple[int, Chain] | None = None,
        blobs: tuple[bytes, ...] = (),
        *,
        is_message: bool = False,
        size_max: int = MESSAGE_SIZE_MAX,
    ) -> None:
        """Put a letter in; `numbers` are id, cause, root and HLC. Raises `TooLarge`, TypeError."""
        batch = self.batch
        batch.add(kind, target, sender, *numbers, body, ask, blobs, size_max)
        if not is_message:
            self.controls += 1
        else:
            self.kinds.add(kind)
            if ask is not None:
                self.last_ask = numbers[0]
        if len(batch.letters) >= self.letters_max or batch.size >= FRAME_BYTES:
            self.close()

    def close(self) -> None:
        """Close the open batch: it is a whole frame."""
        self.keep(self._sealed(), is_last=True)
        self.room = 0
        if self.letters_max < FRAME_LETTERS:
            self.letters_max *= 2

    def _sealed(self) -> Closed:
        batch = self.batch
        messages, blobs, size = len(batch.letters) - self.controls, batch.blobs, batch.size
        self.controls = 0
        return batch.close(), blobs, messages, size, self.last_ask

    def keep(self, closed: Closed, *, is_last: bool = False) -> None:
        """A closed frame waits here: it is the first to leave, or the last."""
        if is_last:
            self._frames.append(closed)
        else:
            self._frames.appendleft(closed)
        self._closed_messages += closed[2]
        self._closed_bytes += closed[3]

    def next(self, acknowledged: int, whole_frames: bool) -> Closed | None:
        """The frame that can leave now; it comes back by `keep` if it does not."""
        if len(self.unacknowledged) >= WINDOW_FRAMES or self.unacknowledged_bytes >= self.window_bytes:
            self.acknowledge(acknowledged)
            if len(self.unacknowledged) >= WINDOW_FRAMES or self.unacknowledged_bytes >= self.window_bytes:
                return None
        if not whole_frames:
            self.letters_max = LETTERS_FIRST
        if self._frames:
            closed = self._frames.popleft()
            self._closed_messages -= closed[2]
            self._closed_bytes -= closed[3]
            return closed
        if whole_frames or not self.batch.letters:
            return None
        if self.room:
            self.room = LETTERS_FIRST - 1
        # Closed no earlier than it can leave: while the window is shut, letters gather in one frame.
        return self._sealed()

    def acknowledge(self, sequence: int) -> None:
        """The other side has taken frames up to `sequence`."""
        unacknowledged = self.unacknowledged
        while unacknowledged and unacknowledged[0][0] <= sequence:
            self.unacknowledged_bytes -= unacknowledged.popleft()[1]


class Peer:
    """Another process, from here."""

    __slots__ = (
        "acknowledged",
        "bye",
        "bye_due",
        "dirty",
        "gone",
        "heard_ns",
        "incarnation",
        "is_client",
        "lanes",
        "late_ns",
        "left",
        "life",
        "mail",
        "owed",
        "paused",
        "process",
        "session",
        "shut",
        "sources",
        "state",
        "welcomed",
    )

    def __init__(self, process: str, incarnation: int) -> None:
        self.process = process
        self.is_client = process[:1] == "@"
        self.incarnation = incarnation
        self.session = 1
        self.life = 0  # which of the lives of the session, as the side says that answers clients
        self.state = "closed"
        self.gone: str | None = None  # why it will not come back
        self.left = False  # a node has moved to another process: where refs lead is looked up for each message
        self.dirty = False
        self.paused: dict[str, deque[Any]] = {}  # actors there that are full: those who wait for room
        self.heard_ns = 0
        self.late_ns = 0  # how late its loop was, as it says
        self.lanes: tuple[Lane, ...] = ()
        self.reset()

    def reset(self) -> tuple[int, int]:
        """Forget the connection. Returns how many messages were in the outboxes, and how many were under way."""
        lanes = self._counted()
        waiting, under_way = sum(lane.messages for lane in lanes), sum(lane.under_way for lane in lanes)
        self.lanes = (Lane(CONTROL), Lane(MAIL), Lane(BULK))
        self.mail = self.lanes[MAIL]
        self.acknowledged = (0, 0, 0)  # the last frame of each lane that it has taken
        self.shut = False  # whether something waits for it to take more
        self.sources: set[str] = set()  # the connections by which it reaches us, one a lane
        self.welcomed = False  # whether its frames of this session may come
        self.owed = 0  # bytes that were taken and not acknowledged: see OWED_FRAME
        self.bye = False  # we have said goodbye: nothing but acknowledgements follows
        self.bye_due: tuple[int, int] | None = None  # it has; what it sent by then on mail and bulk
        return waiting, under_way

    @property
    def outbox_messages(self) -> int:
        """Messages that have not left."""
        return sum(lane.messages for lane in self.lanes)

    def post(self, lane: Lane, *letter: Any) -> None:
        """Put a message's letter into a lane; see `Lane.post`."""
        lane.post(*letter, is_message=True)
        if lane is self.mail and not lane.room and lane.batch.letters and not self._held() and lane.roomy():
            lane.room = lane.letters_max - 1

    def _reopen(self) -> None:
        """All has left: `tell` may begin the next frame."""
        mail = self.mail
        if not (mail.room or mail.batch.letters or mail._frames or self.bye or self._held()):
            mail.room = LETTERS_FIRST - 1

    def _held(self) -> bool:
        """Whether `tell` has to look before it adds."""
        return bool(
            self.gone is not None
            or self.bye_due is not None
            or self.left
            or self.paused
            or any(lane.waiters for lane in self.lanes)
        )

    def tell(
        self,
        message: Message[Any],
        target: str,
        sender: str,
        id: int,  # noqa: A002 - the envelope's own word
        cause: int,
        root: int,
        hlc: int,
        ask: tuple[int, Chain] | None = None,
    ) -> int:
        """Put a message into the open batch, if nothing else has to be looked at. Returns how many letters it has now.

        0: it goes by `post`, as the last letter of a frame does, the first of its kind, and all while there is no
        room. After the first letter of a batch the peer is to be touched.
        Across processes this is what a message costs its sender, so it is written out.
        """
        lane = self.mail
        batch = lane.batch
        letters = batch.letters
        count = len(letters)
        if count >= lane.room:
            return 0
        names, wire = batch.names, message.wire
        known = len(names)
        if sender not in names or target not in names or wire not in names:
            if wire not in lane.kinds:
                return 0  # it may belong on another lane
            for name in (wire, target, sender):
                names.setdefault(name, len(names))
        try:
            letter = encode((names[wire], names[target], names[sender], id, cause, root, hlc, message, ask))
            size = len(letter)
            if size > MESSAGE_SIZE_MAX:
                raise TooLarge
        except Exception:  # `post` says why
            batch.forget_names(known)
            return 0
        letters.append(letter)
        batch.size = size = batch.size + size
        if ask is not None:
            lane.last_ask = id
        if size >= FRAME_BYTES:
            lane.close()
        return count + 1

    def flush(self, send: Send, *, whole_frames: bool = False) -> int:
        """Send what the windows let out; with `whole_frames` only what is closed. Returns how many messages left."""
        if self.state != "open":
            return 0
        shipped = 0
        lanes = control, mail, bulk = self.lanes
        granted = (control.granted, mail.granted, bulk.granted)
        for lane in lanes:
            while lane.batch.letters or lane._frames:
                leaving = lane.next(self.acknowledged[lane.number], whole_frames)
                if leaving is None:
                    self.shut = True
                    break
                rest, blobs, messages, size, last_ask = leaving
                sequence = lane.sequence + 1
                if not send(self.process, lane.number, frame(self.session, sequence, granted, rest), blobs):
                    lane.keep(leaving)
                    break
                lane.sequence, lane.asked = sequence, last_ask
                lane.unacknowledged.append((sequence, size, messages))
                lane.unacknowledged_bytes += size
                shipped += messages
                self.owed = 0
        if not (mail.room or whole_frames):
            self._reopen()
        if self.owed and (self.owed >= OWED_MAX or self.bye or self.bye_due is not None):
            self.acknowledge(send)
        return shipped

    def acknowledge(self, send: Send, lane: int = CONTROL) -> None:
        """Say what was taken, in a frame of its own."""
        control, mail, bulk = self.lanes
        granted = (control.granted, mail.granted, bulk.granted)
        if self.state == "open" and send(self.process, lane, frame(self.session, 0, granted, EMPTY), []):
            self.owed = 0

    def took(self, lane: Lane, sequence: int, size: int) -> bool:
        """A frame of that number and size in bytes came. False: it does not follow, and is not to be delivered."""
        if sequence != lane.received + 1:
            return False
        lane.received = sequence
        size *= lane.weight
        self.owed += size if size > OWED_FRAME else OWED_FRAME
        return True

    def take_acknowledgements(self, sequences: tuple[int, int, int]) -> bool:
        """The other side has taken frames up to these. Returns whether something waited for that.

        What stands beside each frame grows with the time at which it was sent, so the greater one is the later one.
        Windows are looked at when they seem full.
        """
        if sequences <= self.acknowledged:
            return False
        self.acknowledged = sequences
        shut, self.shut = self.shut, False
        return shut

    def _counted(self) -> tuple[Lane, ...]:
        """The lanes, when their windows hold only what is not acknowledged."""
        for lane in self.lanes:
            lane.acknowledge(self.acknowledged[lane.number])
        return self.lanes

    def silent(self) -> None:
        """From now on `tell` has to look before it adds."""
        for lane in self.lanes:
            lane.room = 0

    def parted(self) -> bool:
        """Whether both sides have said goodbye, and what was on its way has come, here and there."""
        # A client's goodbye is answered, and nothing more is owed to it.
        if not self.is_client and any(lane.unacknowledged or not lane.empty() for lane in self._counted()):
            return False
        _, mail, bulk = self.lanes
        due = self.bye_due
        return self.bye and due is not None and due[0] <= mail.received and due[1] <= bulk.received

    def about(self, now_ns: int) -> dict[str, Any]:
        """What `ps --json` shows of it."""
        return {
            "process": self.process,
            "state": self.state,
            "session": self.session,
            "lanes": {
                name: {"outbox": lane.messages, "under_way": len(lane.unacknowledged), "received": lane.received}
                for name, lane in zip(LANES, self._counted(), strict=True)
            },
            "paused": sorted(self.paused),
            "silent_ms": (now_ns - self.heard_ns) // 1_000_000 if self.welcomed else None,
            "late_ms": self.late_ns / 1e6,
        }
