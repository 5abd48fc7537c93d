"""What one kernel knows of another process: a greeting, an outbox, a window, and who is paused there.

A pure machine: bytes go out by the function it is given, nothing else happens. Frames with letters are
numbered from 1 and acknowledged by number, mostly on the back of frames that go the other way. At most
`WINDOW_FRAMES` or `WINDOW_BYTES` are under way unacknowledged, so a sender that never looks up is held at
home, where `tell` can tell it so, rather than in queues that nobody sees.

States: `closed` (nothing said yet), `greeting` (HELLO is out), `open` (WELCOME came), `refused` (GOAWAY came).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from zactor.message import EMPTY, FRAME_BYTES, FRAME_LETTERS, MESSAGE_SIZE_MAX, Batch, Chain, Message, encode, frame

WINDOW_FRAMES = 64
WINDOW_BYTES = 8 << 20
"""Under way to one process at a time: enough for a full loopback at 4 ms a turn, little enough to hold."""

ACKNOWLEDGE_EVERY = WINDOW_FRAMES // 4

OUTBOX_MESSAGES = 10_000
OUTBOX_BYTES = 16 << 20
"""What may wait at home for one process before `tell` says Overloaded."""


class Peer:
    """Another process, from here."""

    __slots__ = (
        "_closed_bytes",
        "_closed_messages",
        "batch",
        "controls",
        "dirty",
        "frames",
        "gone",
        "incarnation",
        "owed",
        "owed_bytes",
        "own_incarnation",
        "own_process",
        "paused",
        "process",
        "received",
        "room",
        "sequence",
        "source",
        "state",
        "unacknowledged",
        "unacknowledged_bytes",
        "waiters",
    )

    def __init__(self, own_process: str, own_incarnation: int, process: str, incarnation: int) -> None:
        self.own_process = own_process
        self.own_incarnation = own_incarnation
        self.process = process
        self.incarnation = incarnation
        self.source = ""  # the connection by which it greeted us
        self.state = "closed"
        self.gone: str | None = None  # why it will not come back
        self.dirty = False
        self.paused: dict[str, deque[Any]] = {}  # actors there that are full: those who wait for room
        self.waiters: deque[Any] = deque()  # those who wait for room in the outbox
        self.reset()

    def reset(self) -> int:
        """Forget the connection. Returns how many messages were in the outbox."""
        lost = self.outbox_messages if hasattr(self, "batch") else 0
        self.batch = Batch()
        self.controls = 0  # letters of the open batch that are no messages
        self.room = 0  # letters that `tell` may bring the open batch to; 0: each goes by `post`
        self.frames: deque[tuple[bytes, int, int]] = deque()  # closed: (rest, messages in it, bytes of letters)
        self._closed_messages = 0
        self._closed_bytes = 0
        self.sequence = 0
        self.unacknowledged: deque[tuple[int, int]] = deque()  # (sequence, bytes)
        self.unacknowledged_bytes = 0
        self.received = 0
        self.owed = 0
        self.owed_bytes = 0
        return lost

    @property
    def outbox_messages(self) -> int:
        """Messages that have not left."""
        return self._closed_messages + len(self.batch.letters) - self.controls

    @property
    def outbox_bytes(self) -> int:
        """Bytes of letters that have not left."""
        return self._closed_bytes + self.batch.size

    def full(self) -> bool:
        """Whether the outbox takes no more messages; answers and system letters it always takes."""
        return self.outbox_messages >= OUTBOX_MESSAGES or self.outbox_bytes >= OUTBOX_BYTES

    def post(
        self,
        kind: str,
        target: str,
        sender: str,
        numbers: tuple[int, int, int, int],
        body: Any,
        ask: tuple[int, Chain] | None = None,
        *,
        is_message: bool = False,
    ) -> None:
        """Put a letter into the outbox; `numbers` are id, cause, root and HLC. Raises `TooLarge`, TypeError."""
        batch = self.batch
        if batch.full():
            self._close()
            batch = self.batch
        batch.add(kind, target, sender, *numbers, body, ask)
        if not is_message:
            self.controls += 1
        if batch.full():
            self._close()
        elif is_message and not (self.room or self.waiters or self.paused or self.gone) and self._roomy():
            self.room = FRAME_LETTERS - 1

    def _roomy(self) -> bool:
        """Whether a whole frame more would leave the outbox within its bounds."""
        return (
            self.outbox_messages <= OUTBOX_MESSAGES - FRAME_LETTERS
            and self.outbox_bytes <= OUTBOX_BYTES - FRAME_BYTES - MESSAGE_SIZE_MAX
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
    ) -> bool:
        """Put a message that nobody waits for into the open batch, if nothing else has to be looked at.

        False: it goes by `post`, as the first letter of a frame and the last do, and all while there is no room.
        Across processes this is what a message costs its sender, so it is written out.
        """
        batch = self.batch
        letters = batch.letters
        if len(letters) >= self.room:
            return False
        names = batch.names
        try:
            letter = encode((names[message.wire], names[target], names[sender], id, cause, root, hlc, message))
        except KeyError:  # a name that is new to this frame
            return False
        size = len(letter)
        if size > MESSAGE_SIZE_MAX:
            return False
        letters.append(letter)
        batch.size = size = batch.size + size
        if size >= FRAME_BYTES:
            self.room = 0  # the next one, or the end of the pass, closes the frame
        return True

    def _close(self) -> None:
        messages = len(self.batch.letters) - self.controls
        self.frames.append((self.batch.close(), messages, self.batch.size))
        self._closed_messages += messages
        self._closed_bytes += self.batch.size
        self.batch = Batch()
        self.controls = self.room = 0

    def handshake(self, send: Callable[[str, bytes], bool], kind: str, body: Any) -> bool:
        """Send HELLO, WELCOME or GOAWAY at once, past outbox and window."""
        batch = Batch()
        batch.add(kind, "", "", 0, 0, 0, 0, body)
        return send(self.process, frame(self.own_process, self.own_incarnation, 0, 0, batch.close()))

    def flush(self, send: Callable[[str, bytes], bool], *, whole_frames: bool = False) -> int:
        """Send what the window lets out; with `whole_frames` only what is closed. Returns how many messages left."""
        if self.state != "open":
            return 0
        shipped = 0
        frames = self.frames
        while self._window_open():
            if not frames:
                # Closed no earlier than it can leave: while the window is shut, letters gather in one frame.
                if whole_frames or not self.batch.letters:
                    break
                self._close()
            rest, messages, size = frames[0]
            whole = frame(self.own_process, self.own_incarnation, self.sequence + 1, self.received, rest)
            if not send(self.process, whole):
                return shipped
            frames.popleft()
            self.sequence += 1
            self.owed = self.owed_bytes = 0
            self.unacknowledged.append((self.sequence, len(rest)))
            self.unacknowledged_bytes += len(rest)
            self._closed_messages -= messages
            self._closed_bytes -= size
            shipped += messages
        if self.owed_enough():
            whole = frame(self.own_process, self.own_incarnation, 0, self.received, EMPTY)
            if send(self.process, whole):
                self.owed = self.owed_bytes = 0
        return shipped

    def _window_open(self) -> bool:
        return len(self.unacknowledged) < WINDOW_FRAMES and self.unacknowledged_bytes < WINDOW_BYTES

    def took(self, sequence: int, size: int) -> bool:
        """A frame of that number and size in bytes came. False: it is out of place, and not to be delivered."""
        if sequence == 0:
            return True
        if not self.received < sequence <= self.received + WINDOW_FRAMES:  # no more than that can be under way
            return False
        self.received = sequence
        self.owed += 1
        self.owed_bytes += size
        return True

    def acknowledge(self, sequence: int) -> bool:
        """The other side has taken frames up to `sequence`. Returns whether that opened a closed window."""
        closed = not self._window_open()
        while self.unacknowledged and self.unacknowledged[0][0] <= sequence:
            self.unacknowledged_bytes -= self.unacknowledged.popleft()[1]
        return closed and self._window_open()

    def owed_enough(self) -> bool:
        """Whether an acknowledgement should leave even if no letter does."""
        return self.owed >= ACKNOWLEDGE_EVERY or self.owed_bytes >= WINDOW_BYTES // 4

    def about(self) -> dict[str, Any]:
        """What `ps --json` shows of it."""
        return {
            "process": self.process,
            "state": self.state,
            "outbox": self.outbox_messages,
            "under_way": len(self.unacknowledged),
            "received": self.received,
            "paused": sorted(self.paused),
        }
