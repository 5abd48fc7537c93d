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

from zactor.message import EMPTY, Batch, Chain, frame

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
        "acknowledged",
        "batch",
        "dirty",
        "frames",
        "gone",
        "incarnation",
        "messages",
        "outbox_bytes",
        "outbox_messages",
        "owed",
        "owed_bytes",
        "own_incarnation",
        "own_process",
        "paused",
        "process",
        "received",
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
        lost = getattr(self, "outbox_messages", 0)
        self.batch = Batch()
        self.frames: deque[tuple[bytes, int, int]] = deque()  # closed: (rest, messages in it, bytes of letters)
        self.messages = 0  # messages among the letters of the open batch
        self.outbox_messages = 0
        self.outbox_bytes = 0
        self.sequence = 0
        self.unacknowledged: deque[tuple[int, int]] = deque()  # (sequence, bytes)
        self.unacknowledged_bytes = 0
        self.received = 0
        self.acknowledged = 0
        self.owed = 0
        self.owed_bytes = 0
        return lost

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
        self.outbox_bytes += batch.add(kind, target, sender, *numbers, body, ask)
        if is_message:
            self.messages += 1
            self.outbox_messages += 1
        if batch.full():
            self._close()

    def _close(self) -> None:
        self.frames.append((self.batch.close(), self.messages, self.batch.size))
        self.batch = Batch()
        self.messages = 0

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
            self.outbox_messages -= messages
            self.outbox_bytes -= size
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
