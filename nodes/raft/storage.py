"""What a peer keeps on its disk: `journal.N` is one ordered stream of hard state and log, `snapshot.N` stands for its
beginning (paper 5.1 "persistent state", 7; the log and the votes in one stream: thesis 10.2).

Each record has the whole hard state. A snapshot is durable before anything refers to it, and nothing is removed before
what takes its place is durable; so a start takes the newest snapshot that is whole and what the journals know to follow
on it, and where both are there they agree. The journal of the next number begins with all that follows on the snapshot
of that number. `Replay` says what records mean, also around a hole.

Use it so: `recover`, then `begin` if the folder was empty; then `save`, which a commit makes durable. A snapshot of
one's own is `prepare`, `switch`, `write_snapshot`; another's is `take_chunk` ..., `check_taken`, `adopt`, `switch`. One
of both at a time. From before a `switch` is called until it has ended no save is under way and none is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import msgspec

from zactor.door import Disk
from zactor.errors import Corrupt, DiskFull
from zactor.journal import RECORD_SIZE_MAX, Hole, Journal
from zactor.message import decoder, encode
from zactor.replication.snapshots import (
    JOURNAL,
    SNAPSHOT,
    UNFINISHED,
    Snapshot,
    numbers,
    read_snapshot,
    remove_older,
    write_snapshot,
)

from .core import HardState, Save
from .members import Members
from .messages import LogEntry
from .replay import Replay, Written

FORMAT = 2
"""2: a record of a session may hold several changes."""
TAKEN = "snapshot.taken"
PART_SIZE_MAX = RECORD_SIZE_MAX - (1 << 16)
"""Bytes of entries in one record; the rest is for the hard state and the numbers."""
AHEAD = 256 << 10
"""Zeros that are written ahead of small saves: a sync takes three fifths of the time then."""
ENTRY_OVERHEAD = 32
MEND = "remove this folder, and the peer comes back as a learner that is sent everything"


class Begin(msgspec.Struct, frozen=True, array_like=True):
    """The first record of a journal. `members` are those of the very first; later ones are in snapshot and log."""

    format: int
    number: int
    machine: str
    members: Members | None = None


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot stands for: all entries up to `index`, of `term`; the members as of there.

    `applied` and `time_ns` are the replica's: its count of commands, and the time of the last one.
    """

    format: int
    machine: str
    index: int
    term: int
    members: Members
    applied: int
    time_ns: int


class Recovered(msgspec.Struct, frozen=True):
    """What stood on the disk: the snapshot's head (`index` 0: there is none), what follows on it, and what was odd."""

    hard_state: HardState
    head: Head
    entries: list[LogEntry]
    torn_size: int
    damaged: list[str]


_decode_begin = decoder(Begin)
_decode_head = decoder(Head)
_decode_written = decoder(Written)


class Taken(msgspec.Struct):
    """A snapshot that came in chunks, and is whole. `parts` can be read once."""

    head: Head
    parts: Iterator[bytes]


class Storage:
    """The files of one peer. `machine`: the name of the state machine; the state of another one is refused."""

    def __init__(self, disk: Disk, machine: str) -> None:
        self._disk = disk
        self._machine = machine
        self.number = 0
        self.snapshot_number = 0
        """Of the newest whole snapshot; 0 if there is none."""
        self.snapshot_size = 0
        self._older_size = 0  # of journals before this one, since the last snapshot was begun
        self._journal = Journal(disk, "")
        self._next: Journal | None = None
        self._is_told = False  # what the newest journal begins with is all there
        self._source: object = None  # of the chunks that come
        self._taken_size = self._incoming_size = self._incoming_index = 0
        self._adopted_index = 0  # of a snapshot from a leader that no journal has begun with yet

    # --- after a start
    async def recover(self, restore: Callable[[Iterable[bytes]], None]) -> Recovered | None:
        """Give the newest whole snapshot to `restore` and return what follows on it; None if nothing was begun here.

        All of it is durable then. Raises `Corrupt` where no answer would be safe, and says what to do.
        """
        names = await self._disk.list()
        damaged: list[str] = []
        head = await self._restore(numbers(names, SNAPSHOT), restore, damaged)
        journals = _in_a_row(numbers(names, JOURNAL), self.snapshot_number or 1)
        replay = Replay(head.index, head.term) if head is not None else Replay(0, 0)
        members, torn_size = await self._read_journals(journals, replay, damaged)
        if not replay.is_known and head is None and not damaged:
            return None
        if not replay.is_known:
            raise Corrupt(f"no journal says what this peer has promised; {MEND}")
        if head is None and members is None:
            raise Corrupt(f"where the log begins is damaged or gone: {'; '.join(damaged)}; {MEND}")
        head = head or self.head(members=cast("Members", members))
        if damaged or not self._is_told:
            await self._tell_anew(head, replay)
        await self._disk.synced()
        await self._disk.sync_folder()
        await self._remove_older()
        return Recovered(replay.hard_state, head, replay.entries, torn_size, damaged)

    async def _restore(
        self, snapshots: list[int], restore: Callable[[Iterable[bytes]], None], damaged: list[str]
    ) -> Head | None:
        for number in reversed(snapshots):
            try:
                snapshot = await read_snapshot(self._disk, f"{SNAPSHOT}{number}")
            except Corrupt as error:
                damaged.append(str(error))
                continue
            head = self._check_head(snapshot, f"{SNAPSHOT}{number}")
            restore(snapshot.hand_over())
            self.number = self.snapshot_number = number
            self.snapshot_size = snapshot.size
            return head
        return None

    async def _read_journals(
        self, journals: list[int], replay: Replay, damaged: list[str]
    ) -> tuple[Members | None, int]:
        """Replay them. Returns the members that the first of all journals begins with, and the bytes of torn ends."""
        members: Members | None = None
        torn_size = 0
        first = self.snapshot_number or 1
        expected = min(first, *journals) if journals else first
        for number in journals:
            if number != expected:
                damaged.append(f"{JOURNAL}{expected} is missing")
                replay.lose()
            begin = await self._read_journal(number, replay, damaged)
            if begin is not None and number == 1:
                members = begin.members
            torn_size += self._journal.torn_size
            expected = number + 1
        if journals and self.number < first:
            damaged.append(f"{JOURNAL}{first} is missing")
            replay.lose()
        return members, torn_size

    async def _read_journal(self, number: int, replay: Replay, damaged: list[str]) -> Begin | None:
        if self.number >= (self.snapshot_number or 1):
            self._older_size += self._journal.size
        self.number, self._journal = number, Journal(self._disk, f"{JOURNAL}{number}", ahead=AHEAD)
        records = await self._journal.salvage()
        begin = self._check_begin(records[0], number) if records and isinstance(records[0], bytes) else None
        self._is_told = False
        for each in records if begin is None else records[1:]:
            if isinstance(each, Hole):
                damaged.append(f"{self._journal.file}: {each.size} bytes at offset {each.offset}")
                replay.lose()
            else:
                written: Written = _decoded(_decode_written, each, self._journal.file)
                replay.take(written)
                self._is_told = self._is_told or not written.has_more
        return begin

    async def _tell_anew(self, head: Head, replay: Replay) -> None:
        """All that follows on the snapshot, and what is owed: so that what comes now does not follow on a hole."""
        if not self._journal.size:  # its name was durable, and nothing in it
            await self._append_begin(self._journal, self.number)
        await self._carry(self._journal, head, replay.hard_state, replay.entries)

    def _check_begin(self, payload: bytes, number: int) -> Begin:
        file = f"{JOURNAL}{number}"
        begin: Begin = _decoded(_decode_begin, payload, file)
        self._check_origin(file, begin.format, begin.machine)
        if begin.number != number:
            raise Corrupt(f"{file} was written as number {begin.number}; {MEND}")
        return begin

    def _check_head(self, snapshot: Snapshot, file: str) -> Head:
        head: Head = _decoded(_decode_head, snapshot.head, file)
        self._check_origin(file, head.format, head.machine)
        return head

    def _check_origin(self, file: str, written_format: int, machine: str) -> None:
        if written_format != FORMAT:
            raise Corrupt(f"{file} has format {written_format}, this is {FORMAT}: start the version that wrote it")
        if machine != self._machine:
            raise Corrupt(f"{file} is of the machine {machine}, this peer hosts {self._machine}: set `machine` to that")

    async def _remove_older(self) -> None:
        await remove_older(self._disk, self.snapshot_number)
        await self._disk.remove(TAKEN)

    # --- the log
    async def begin(self, members: Members, hard_state: HardState) -> None:
        """The first journal of an empty folder, durably. Raises `DiskFull`."""
        self._journal = await self._make_journal(1, members)
        await self._carry(self._journal, self.head(members=members), hard_state, ())
        self.number = 1
        await self._disk.synced()
        await self._disk.sync_folder()

    def save(self, hard_state: HardState, save: Save) -> None:
        """Put a save into the page cache, with the whole hard state. A commit makes it last; see `cut`.

        It is one record, unless one cannot hold it: then a crash may keep the first of them. A failure is one.
        """
        records = _records(hard_state, save.first_index - 1, save.previous_term, save.entries, is_carried=False)
        self._journal.append(*map(encode, records))

    @property
    def size(self) -> int:
        """Bytes of the journal that is written now."""
        return self._journal.size

    def cut(self, size: int) -> None:
        """Take away what a failed save left behind `size`, which `size` said before it, and all after it."""
        self._journal.cut(size)

    @property
    def grown(self) -> int:
        """Bytes in the journals since the last snapshot was begun."""
        return self._older_size + self._journal.size

    async def _make_journal(self, number: int, members: Members | None = None) -> Journal:
        journal = Journal(self._disk, f"{JOURNAL}{number}", ahead=AHEAD)
        await self._disk.remove(journal.file)  # of an attempt before this one
        await self._append_begin(journal, number, members)
        return journal

    async def _append_begin(self, journal: Journal, number: int, members: Members | None = None) -> None:
        await journal.append(encode(Begin(FORMAT, number, self._machine, members)))

    async def _carry(self, journal: Journal, head: Head, hard_state: HardState, tail: Sequence[LogEntry]) -> None:
        size = journal.size
        try:
            for record in _records(hard_state, head.index, head.term, tail, is_carried=True):
                await journal.append(encode(record))
        except DiskFull:
            await journal.cut(size)
            raise

    # --- a snapshot of one's own
    def head(self, index: int = 0, term: int = 0, *, members: Members, applied: int = 0, time_ns: int = 0) -> Head:
        """The head of a snapshot of this machine."""
        return Head(FORMAT, self._machine, index, term, members, applied, time_ns)

    async def prepare(self) -> None:
        """Make the next journal, durably. Raises `DiskFull`; then nothing has changed."""
        if self._next is not None:
            return  # an attempt before this one came no further; a snapshot may refer to it by now
        number = self.number + 1
        try:
            self._next = await self._make_journal(number)
        except DiskFull:
            await self._disk.remove(f"{JOURNAL}{number}")
            raise
        await self._disk.synced()
        await self._disk.sync_folder()

    async def switch(self, head: Head, hard_state: HardState, tail: Sequence[LogEntry]) -> None:
        """Go on in the journal that was prepared. `tail`: all entries behind the snapshot with that head.

        Raises `DiskFull`; then nothing has changed. After `adopt` it is durable when this returns.
        """
        assert self._next is not None, "there is no journal to switch to"
        await self._carry(self._next, head, hard_state, tail)
        self._journal, self._next = self._next, None
        self.number += 1
        self._older_size = 0
        if self._adopted_index == head.index:
            await self._disk.synced()
            await self._remove_older()
        self._adopted_index = 0

    async def write_snapshot(self, head: Head, parts: Iterator[bytes]) -> None:
        """Write the snapshot that the last `switch` was for, and remove what it stands for. Raises `DiskFull`.

        The log goes on meanwhile.
        """
        number = self.number
        self.snapshot_size = await write_snapshot(self._disk, number, encode(head), parts)
        self.snapshot_number = number
        await self._remove_older()

    async def give_up_snapshot(self) -> None:
        """Remove one that could not be written or taken: the journals hold all that is needed."""
        self._source, self._taken_size = None, 0
        await self._disk.remove(UNFINISHED)
        await self._disk.remove(TAKEN)

    # --- a snapshot for a peer that lags, and from one
    async def read_chunk(self, number: int, offset: int, size: int) -> bytes:
        """Bytes of a whole snapshot, as a file; none if there is a newer one by now."""
        return await self._disk.read(f"{SNAPSHOT}{number}", offset, size)

    async def take_chunk(self, source: object, offset: int, chunk: bytes) -> int:
        """Take bytes of a snapshot; those of another `source` before are forgotten. Returns how many there are now.

        So the next ones are wanted from there. Raises `DiskFull`; then there are none.
        """
        if source != self._source:
            if offset:
                return 0
            self._source, self._taken_size = source, 0
            await self._disk.remove(TAKEN)
        if source != self._source or offset != self._taken_size:
            return self._taken_size
        self._taken_size += len(chunk)
        try:
            await self._disk.append(TAKEN, chunk)
        except DiskFull:
            await self.give_up_snapshot()
            raise
        return self._taken_size

    async def check_taken(self) -> Taken:
        """All chunks are there: read them again. Raises `Corrupt` if it is no whole snapshot of this machine.

        It is durable then, and what it says is not done yet.
        """
        self._source, self._taken_size = None, 0
        snapshot = await read_snapshot(self._disk, TAKEN)
        head = self._check_head(snapshot, TAKEN)
        await self._disk.synced()
        self._incoming_size, self._incoming_index = snapshot.size, head.index
        return Taken(head, snapshot.hand_over())

    async def adopt(self) -> None:
        """Make the snapshot that was checked the newest, durably. It goes beyond what is committed here.

        From here on a start begins with it, and with what of the log follows on its last entry (paper 7, steps 6, 7).
        Let the core do the same, and call `switch`. Raises `DiskFull`; then nothing has changed.
        """
        await self.prepare()
        number = self.number + 1
        await self._disk.rename(TAKEN, f"{SNAPSHOT}{number}")
        await self._disk.sync_folder()
        self.snapshot_number, self.snapshot_size = number, self._incoming_size
        self._adopted_index = self._incoming_index


def _records(
    hard_state: HardState, index: int, term: int, entries: Sequence[LogEntry], *, is_carried: bool
) -> Iterator[Written]:
    """The records that hold those entries, which follow on that index and term: mostly one."""
    begin = 0
    while True:
        end, size = begin, 0
        while end < len(entries):
            size += len(entries[end].body) + ENTRY_OVERHEAD
            if size > PART_SIZE_MAX and end > begin:
                break
            end += 1
        has_more = end < len(entries)
        yield Written(hard_state, index + begin, term, tuple(entries[begin:end]), is_carried, has_more)
        if not has_more:
            return
        begin, term = end, entries[end - 1].term


def _decoded(decode: Callable[[bytes], Any], payload: bytes, file: str) -> Any:
    try:
        return decode(payload)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"{file} was not written by a Raft peer ({error}); {MEND}") from None


def _in_a_row(journals: list[int], first: int) -> list[int]:
    """Without those that lead to `first` no more: they were about to be removed."""
    needed = first
    while needed - 1 in journals:
        needed -= 1
    return [number for number in journals if number >= needed]
