"""What a peer proposed and waits for: batches of changes on their way through the log, and questions with them.

Pure: it knows entries by index and term, and calls nobody. A batch stands in the log as one entry, and the machine's
count of commands goes on with each change in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from zactor.errors import Corrupt
from zactor.message import UNDECODABLE, decoder, encode

if TYPE_CHECKING:
    from zactor.replication.replica import Change


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """The body of a command: records of sessions, all at one time."""

    time_ns: int
    records: tuple[bytes, ...]


_decode = decoder(Batch)


def encode_batch(time_ns: int, changes: Sequence[Change]) -> bytes:
    """The body of the entry for these changes."""
    return encode(Batch(time_ns, tuple([change.record for change in changes])))


def decode_batch(body: bytes) -> Batch:
    """What stands in the body of a command. Raises `Corrupt`."""
    try:
        batch: Batch = _decode(body)
    except UNDECODABLE as error:
        raise Corrupt(f"an entry of the log is no batch of changes: {error}") from error
    return batch


class Proposed:
    """Batches that were proposed here, in the order of the log."""

    def __init__(self) -> None:
        self._batches: deque[tuple[int, int, list[Change]]] = deque()
        self.count = 0
        """Of the changes in them."""

    def add(self, index: int, term: int, changes: list[Change]) -> None:
        """They stand at that index, if the entry there stays of that term."""
        self._batches.append((index, term, changes))
        self.count += len(changes)

    def take(self, index: int, term: int) -> list[Change] | None:
        """The changes of the entry at that index, if it was proposed here."""
        if self._batches and self._batches[0][0] == index and self._batches[0][1] == term:
            changes = self._batches.popleft()[2]
            self.count -= len(changes)
            return changes
        return None

    def give_up(self) -> list[Change]:
        """All that is not known to be committed."""
        changes = [change for _, _, batch in self._batches for change in batch]
        self._batches.clear()
        self.count = 0
        return changes
