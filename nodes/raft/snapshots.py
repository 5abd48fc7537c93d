"""Snapshots of one peer (paper 7): taken so that the log can be cut, sent to those who lag, taken over from a leader.

A snapshot is a file that is read and written in chunks. Whoever gets one goes on as it is until the last chunk is there
and the whole is durable; then it hears nobody while its state and its journal become those of the snapshot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import TYPE_CHECKING, cast

from zactor.errors import Corrupt, DiskFull, Failure, Refused
from zactor.message import Message

from .core import Raft
from .forming import node_of
from .messages import SnapshotChunk, SnapshotTaken
from .storage import Storage

if TYPE_CHECKING:
    from .actor import Peer

CHUNK_SIZE = 1 << 20
"""Bytes of a chunk."""

CHUNK_S = 5.0
"""Seconds that a chunk may take to the disk of who gets it."""

SHARE = 2
"""A snapshot is taken when the journal has come to this part of the last one, or to what the setting says if that is
more: so snapshots write at most so many times what the journals do."""

JOURNAL_SIZE_MAX = 512 << 20
"""It is taken in any case when the journal has come to this: the log is in memory, too."""


class TakeSnapshot(Message[None]):
    """A peer tells itself: the journal is long."""


class SendSnapshot(Message[None]):
    """A peer tells itself: that one needs the snapshot."""

    peer: str


class Snapshots:
    """Of one peer. `is_installing`: its state is about to be another one."""

    def __init__(self, actor: Peer, storage: Storage) -> None:
        self._actor = actor
        self._storage = storage
        self._is_taking = False
        self._due = 0  # bytes of journals
        self._sending: dict[str, None] = {}
        self.is_installing = False

    # --- taken
    def look(self) -> None:
        """Take one if the journal is long, unless one is being sent: the next would take its place."""
        usual = max(self._actor.snapshot_bytes, self._storage.snapshot_size // SHARE)
        due = max(self._due, min(usual, JOURNAL_SIZE_MAX))
        if self._storage.grown > due and not self._is_busy:
            self._is_taking = True
            self._actor.after(0.0, TakeSnapshot())

    @property
    def _is_busy(self) -> bool:
        return self._is_taking or bool(self._sending) or self.is_installing or self._actor.saving.is_full

    async def take(self) -> None:
        """Write the state down as it is. The log goes on meanwhile."""
        try:
            await self._write()
            self._due = 0
        except DiskFull as error:
            # The journals hold it all. The next try is when they have grown as much again.
            self._due = self._storage.grown + self._actor.snapshot_bytes
            self._actor.log.warning("snapshot_failed", because=str(error))

    async def take_now(self) -> int:
        """Take one because somebody wants it. Returns its index. Raises `Refused`, `DiskFull`."""
        raft = self._actor.raft
        if raft is None or self._is_busy:
            raise Refused("a snapshot is being taken or sent here already, or there is no group, or no room")
        self._is_taking = True
        return await self._write()

    async def _write(self) -> int:
        try:
            return await self._write_now()
        except DiskFull:
            await self._storage.give_up_snapshot()
            raise
        finally:
            self._is_taking = False

    async def _write_now(self) -> int:
        actor, storage = self._actor, self._storage
        raft = actor.raft
        assert raft is not None, "it has a log"
        grown = storage.grown
        await storage.prepare()
        async with actor.saving.hold():
            index = actor.applied_index
            term = raft.log.term(index)
            assert term is not None, "what was applied is in the log, or in the snapshot before"
            head = storage.head(
                index, term, members=raft.log.members_at(index), applied=actor.applied, time_ns=actor.time_ns
            )
            parts = cast("Generator[bytes]", actor.sessions.snapshot())
            try:
                await storage.switch(head, raft.hard_state, raft.log.slice(index + 1, raft.log.last_index))
            except DiskFull:
                parts.close()
                raise
        with contextlib.closing(parts):
            await storage.write_snapshot(head, parts)
        self._compact(raft, index)
        actor.log.info(
            "snapshot_taken",
            index=index,
            bytes=storage.snapshot_size,
            because=f"journal of {grown} bytes",
            rule="Raft 7",
        )
        return index

    def _compact(self, raft: Raft, index: int) -> None:
        """Let go of entries that are in the snapshot, but for some for peers that lag a little."""
        kept = 0
        while index >= raft.log.first_index and kept <= self._actor.keep_bytes:
            kept += len(raft.log.entry(index).body)
            index -= 1
        raft.compact(index)

    # --- sent
    def send(self, name: str) -> None:
        """The core says that a peer needs it."""
        if name not in self._sending:
            self._sending[name] = None
            self._actor.after(0.0, SendSnapshot(peer=name))

    async def send_to(self, name: str) -> None:
        """Send it chunk by chunk, each when the one before was taken."""
        actor = self._actor
        try:
            await self._send_chunks(name)
        except Failure as error:
            actor.log.info("snapshot_not_sent", to=name, because=str(error))
            raft = actor.raft
            if raft is not None and raft.leadership is not None:
                raft.leadership.snapshot_failed(name)
        finally:
            del self._sending[name]

    async def _send_chunks(self, name: str) -> None:
        actor, storage = self._actor, self._storage
        target = actor.ref_of(node_of(name))
        number, size, offset = storage.snapshot_number, storage.snapshot_size, 0
        actor.log.info("snapshot_sent", to=name, number=number, bytes=size, rule="Raft 7")
        while offset < size:
            data = await storage.read_chunk(number, offset, CHUNK_SIZE)
            raft = actor.raft
            if not data or raft is None or raft.leadership is None:
                raise Refused("this peer leads no more, or has a newer snapshot")
            chunk = SnapshotChunk(term=raft.term, number=number, offset=offset, size=size, data=data)
            offset = await actor.ask(target, chunk, timeout_s=CHUNK_S)

    # --- taken over
    async def take_chunk(self, chunk: SnapshotChunk, source: str) -> int:
        """A chunk came. Returns from where on the next one is wanted. Raises `NotLeader`, `Refused`, `DiskFull`."""
        actor, raft = self._actor, self._actor.raft
        if raft is None or self._is_taking or self.is_installing:
            raise Refused(f"{actor.ref.name} has no group yet, or takes or takes over another snapshot")
        if not raft.hear_snapshot(source, chunk.term, actor.now_ns()):
            raise actor.not_leader()
        wanted = await self._storage.take_chunk((source, chunk.number, chunk.size), chunk.offset, chunk.data)
        if wanted == chunk.size and not self.is_installing and not self._is_taking:
            self.is_installing = True
            try:
                await self._install(raft, source)
            finally:
                self.is_installing = False
        return wanted

    async def _install(self, raft: Raft, source: str) -> None:
        """All is there. What came from peers meanwhile was not heard, so the log is what it was."""
        actor, storage = self._actor, self._storage
        try:
            taken = await storage.check_taken()
        except Corrupt as error:
            raise Refused(f"the snapshot is of no use here: {error}") from error
        head = taken.head
        if head.index <= raft.commit_index or raft.log.term(head.index) == head.term:
            await storage.give_up_snapshot()  # the log has it all
            raft.install(head.members, head.index, head.term)
        else:
            async with actor.saving.hold():
                await storage.adopt()
                raft.install(head.members, head.index, head.term)
                actor.sessions.restore(taken.parts)
                actor.restored(head)
                await storage.switch(head, raft.hard_state, ())
            actor.log.info("snapshot_installed", index=head.index, by=source, rule="Raft 7")
        actor.send_to(source, SnapshotTaken(term=raft.term, last_index=head.index))
