"""A log and its snapshots on an actor's disk: `journal.N` holds what followed on the state in `snapshot.N`.

A journal's record is a batch: the changes that were made durable together, under indices that leave no gap. So a
batch is there whole or not at all, and whatever is missing between two of them is seen. The journal of the next
number begins before the snapshot of that number is written, and nothing is removed before the folder says durably
that the snapshot is there; one that is not whole is passed over for the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from zactor.door import Disk
from zactor.errors import Corrupt, DiskFull
from zactor.journal import Journal
from zactor.message import decoder, encode

from .snapshots import JOURNAL, SNAPSHOT, UNFINISHED, numbers, read_snapshot, remove_older, write_snapshot

FORMAT = 2
"""2: a record may hold several changes."""


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """`count` changes with consecutive indices, the first of them `index`, all at one time."""

    index: int
    count: int
    time_ns: int
    records: tuple[bytes, ...]


class Head(msgspec.Struct, frozen=True, array_like=True):
    """How a journal or a snapshot begins. `index` and `time_ns` are of the last change in a snapshot, else 0."""

    format: int
    number: int
    index: int = 0
    time_ns: int = 0


class Recovered(msgspec.Struct, frozen=True):
    """What stood on the disk: changes behind the snapshot, and what was odd about it."""

    batches: list[Batch]
    torn_size: int
    damaged: list[str]


_decode_batch = decoder(Batch)
_decode_head = decoder(Head)


class Storage:
    """The files. `index` and `time_ns` are those of the last change that is durable; call `recover` first."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.index = self.time_ns = 0
        self.number = 0
        self.snapshot_size = 0
        self._older_size = 0  # of journals before this one, since the last snapshot was begun
        self._journal = Journal(disk, "")
        self._next: Journal | None = None

    # --- after a start
    async def recover(self, restore: Callable[[Iterable[bytes]], None]) -> Recovered:
        """Give the newest whole snapshot to `restore`, and return what follows it. Raises `Corrupt`.

        All of it is durable then, as is the name of the journal that goes on.
        """
        names = await self._disk.list()
        journals, snapshots = numbers(names, JOURNAL), numbers(names, SNAPSHOT)
        damaged = await self._restore(snapshots, restore)
        base = self.number
        if journals or base:
            _check_numbers(journals, base or 1)
        batches: list[Batch] = []
        torn_size = 0
        for number in [number for number in journals if number >= base] or [1]:
            self._older_size += self._journal.size
            batches += await self._read_journal(number)
            torn_size += self._journal.torn_size
            self.number = number
        await self._disk.synced()
        await self._disk.sync_folder()
        await remove_older(self._disk, base)
        return Recovered(batches, torn_size, damaged)

    async def _restore(self, snapshots: list[int], restore: Callable[[Iterable[bytes]], None]) -> list[str]:
        damaged = []
        for number in reversed(snapshots):
            try:
                snapshot = await read_snapshot(self._disk, f"{SNAPSHOT}{number}")
                head = _decode_head(snapshot.head)
                _check_head(head, f"{SNAPSHOT}{number}", number)
                restore(snapshot.hand_over())
            except Corrupt as error:
                damaged.append(str(error))
                continue
            self.number, self.index, self.time_ns = head.number, head.index, head.time_ns
            self.snapshot_size = snapshot.size
            return damaged
        if damaged:
            raise Corrupt(f"no snapshot is whole: {'; '.join(damaged)}; put back a copy of this folder that is")
        return damaged

    async def _read_journal(self, number: int) -> list[Batch]:
        self._journal = Journal(self._disk, f"{JOURNAL}{number}")
        payloads = await self._journal.recover()
        if not payloads:
            await self._begin(self._journal, number)
            return []
        _check_head(_decode_head(payloads[0]), self._journal.file, number)
        batches = [_decode_batch(payload) for payload in payloads[1:]]
        for batch in batches:
            if batch.index != self.index + 1:
                raise Corrupt(
                    f"{self._journal.file} goes on with change {batch.index} after {self.index}: some are missing; "
                    "put back a copy of this folder that is whole"
                )
            self.took(batch)
        return batches

    async def _begin(self, journal: Journal, number: int) -> None:
        await journal.append(encode(Head(FORMAT, number)))

    # --- the log
    def append(self, batch: Batch) -> None:
        """Put a batch into the page cache. A commit makes it last; then say `took`, or after a failure `cut`."""
        self._journal.append(encode(batch))

    def took(self, batch: Batch) -> None:
        """The batch is durable."""
        self.index += batch.count
        self.time_ns = batch.time_ns

    def cut(self, size: int) -> None:
        """Take away what a failed append left behind `size`, which `size` said before it."""
        self._journal.cut(size)

    @property
    def size(self) -> int:
        """Bytes of the journal that is written now."""
        return self._journal.size

    @property
    def grown(self) -> int:
        """Bytes in the journals since the last snapshot was begun."""
        return self._older_size + self._journal.size

    # --- snapshots
    async def prepare(self) -> None:
        """Make the next journal. Raises `DiskFull`; then nothing has changed."""
        number = self.number + 1
        self._next = Journal(self._disk, f"{JOURNAL}{number}")
        try:
            await self._begin(self._next, number)
        except DiskFull:
            await self._disk.remove(self._next.file)
            self._next = None
            raise
        await self._disk.synced()
        await self._disk.sync_folder()

    def switch(self) -> Head:
        """Whatever comes now is in the journal that was prepared. Returns the head of the snapshot that it follows."""
        assert self._next is not None, "there is no journal to switch to"
        self._journal, self._next = self._next, None
        self.number += 1
        self._older_size = 0
        return Head(FORMAT, self.number, self.index, self.time_ns)

    async def write_snapshot(self, head: Head, parts: Iterator[bytes]) -> None:
        """Write a snapshot part by part, while the log goes on, and remove what it stands for. Raises `DiskFull`."""
        self.snapshot_size = await write_snapshot(self._disk, head.number, encode(head), parts)
        await remove_older(self._disk, head.number)

    async def give_up_snapshot(self) -> None:
        """Remove one that could not be written: the journals hold all that it would have."""
        await self._disk.remove(UNFINISHED)


def _check_numbers(journals: list[int], first: int) -> None:
    newer = [number for number in journals if number >= first]
    missing = [number for number in range(first, max(newer, default=first) + 1) if number not in newer]
    if missing:
        raise Corrupt(f"{JOURNAL}{missing[0]} is missing; put back a copy of this folder that is whole")


def _check_head(head: Head, file: str, number: int) -> None:
    if head.format != FORMAT:
        raise Corrupt(f"{file} has format {head.format}, this is {FORMAT}: start the version that wrote it")
    if head.number != number:
        raise Corrupt(f"{file} was written as number {head.number}")
