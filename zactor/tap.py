"""The tap: what sees all that feeds the actors of a kernel, and all that they do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import crc32c

from zactor.cell import Cell
from zactor.message import encode
from zactor.world import Operation


class Tap(Protocol):
    """Sees every input of every actor before it is handled, and all outputs. The recorder sits here.

    What is sent is seen where it arrives: within this process as mail, else in the frames that leave.
    """

    def turn(self, cell: Cell) -> None:
        """What an actor is fed from now on belongs to another turn: sequence, stamp and time stay as they are."""

    def mail(self, cell: Cell, count: int) -> None:
        """It will be fed at most so many messages from the head of its mailbox."""

    def taken(self, cell: Cell, count: int) -> None:
        """It took so many of them."""

    def settled(self, cell: Cell, count: int) -> int:
        """It will be fed so many of its inputs: what it waited for, and news of its disk. Returns `count`."""

    def input(self, cell: Cell, kind: str, *values: Any) -> None:
        """Something else feeds an actor: boot, start, timer, cancel, child, stop.

        Five are answers to what it does: full, unsent, timer_cancelled, spawned and chance.
        """

    def output(self, cell: Cell, kind: str, digest: int) -> None:
        """An actor did something that others can see, other than to send and to answer."""

    def operation(self, cell: Cell, number: int, operation: Operation) -> None:
        """An actor begins an operation: an output, too."""

    def received(self, process: str, heard_ns: int, frame: bytes, blobs: Sequence[bytes]) -> None:
        """A frame with letters came."""

    def sent(self, process: str, frame: bytes, blobs: Sequence[bytes]) -> None:
        """A frame with letters has left."""

    def dropped(self, number: int) -> None:
        """A message that came from another process is a dead letter."""

    def flush(self) -> None:
        """A pass has ended."""


def digest_of(values: Any) -> int:
    """What a tap sees of an output: CRC32C of its encoded form."""
    try:
        return crc32c.crc32c(encode(values))
    except Exception:  # what cannot be encoded is known by its text
        return crc32c.crc32c(repr(values).encode())
