"""Runs a state machine in one actor: what is answered is durable, and what can be asked for is, too.

Changes are collected while the batch before them is being synced, go into the log as one record, and are applied
when that is durable. So the state never holds anything that a crash could take back, and questions are answered
from it at once.

The actor hands what clients say to `replica`, and what it is told to `on_turn_end`, `on_synced` and `on_disk_failed`;
handles `Beat` and `TakeSnapshot`; and awaits `recover` in its `on_start`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any, cast

from zactor.actor import Actor
from zactor.errors import DiskFull, Failure
from zactor.message import Message

from .messages import NoSpace, Query
from .replica import Change, Replica
from .sessions import Sessions
from .storage import Batch, Storage

SNAPSHOT_SHARE = 2
"""A snapshot is taken when the journal has come to this part of the last one, or to what the setting says if that is
more: so snapshots write at most so many times what the journals do."""


class TakeSnapshot(Message[None]):
    """The actor of a host tells itself: the journal is long."""


class Host:
    """Use it as the top of this file says. `on_events` gets what `events` of the machine tells after each batch."""

    def __init__(
        self,
        actor: Actor,
        sessions: Sessions,
        *,
        lease_ns: int,
        snapshot_size: int,
        on_events: Callable[[list[Any]], None],
    ) -> None:
        self.replica = Replica(actor, sessions, lease_ns=lease_ns)
        self._actor = actor
        self._sessions = sessions
        self._storage = Storage(actor.disk)
        self._snapshot_size = snapshot_size
        self._on_events = on_events
        self._writing: list[Change] = []
        self._batch = Batch(0, 0, 0, ())
        self._cut_size = 0
        self._number = 0  # of the batch that is being written
        self._held = False  # the journal is about to change
        self._snapshots = False  # one is being taken
        self._snapshot_due = snapshot_size  # at so many bytes of journals
        self._is_full = False

    # --- life
    async def recover(self) -> None:
        """Bring the machine to where it was. Raises `Corrupt`, and says what to do."""
        found = await self._storage.recover(self._sessions.restore)
        for batch in found.batches:
            self._sessions.apply(batch.index, batch.time_ns, batch.records)
        self._sessions.machine.events()
        if found.torn_size:
            self._actor.log.warning("journal_cut", bytes=found.torn_size, because="a_write_was_torn")
        for text in found.damaged:
            self._actor.log.error("snapshot_damaged", because=text)
        self._actor.log.info("log_recovered", index=self._storage.index, batches=len(found.batches))
        self._snapshot_due = self._snapshot_step
        self.replica.begin()
        self.replica.start_beating()

    async def settled(self) -> None:
        """Wait in `on_start` until what was proposed so far is durable and done."""
        while self.replica.waiting or self._writing:
            await self._actor.disk.synced()

    @property
    def index(self) -> int:
        """Of the last change that was made."""
        return self._storage.index

    # --- what clients say
    def query(self, message: Query) -> bytes:
        """Answer a `Query`. Raises what the machine refuses with."""
        return self._sessions.machine.query(message.body)

    def propose(self, body: bytes, tell: Callable[[bytes | Failure], None]) -> None:
        """A change by the actor itself. `tell` gets its answer when it is durable, or why there is none."""
        self.replica.propose(body, tell)
        # It may come from where no turn of messages ends.
        self.on_turn_end()

    # --- the log
    def on_turn_end(self) -> None:
        """Write what waits, unless something is being written: one sync for all of it."""
        if self._writing or self._held or not self.replica.waiting:
            return
        self._writing = self.replica.take()
        storage, actor = self._storage, self._actor
        time_ns = max(storage.time_ns, actor.wall_ns())
        records = tuple([change.record for change in self._writing])
        self._batch = Batch(storage.index + 1, sum([change.count for change in self._writing]), time_ns, records)
        self._cut_size = storage.size
        self._number += 1
        storage.append(self._batch)
        actor.disk.commit(self._number)

    def on_synced(self, write_id: int) -> None:
        """The batch is durable: make the changes, and answer."""
        if write_id != self._number or not self._writing:
            return  # of a batch that the disk had no room for
        done, self._writing = self._writing, []
        batch = self._batch
        self._storage.took(batch)
        answers, _ = self._sessions.apply(batch.index, batch.time_ns, batch.records)
        if self._is_full:
            self._is_full = False
            self._actor.log.info("log_writable", because="there_is_room_again")
        self._on_events(self._sessions.machine.events())
        self.replica.settle(done, answers)
        if self._storage.grown > self._snapshot_due and not self._snapshots:
            self._snapshots = True
            self._actor.after(0.0, TakeSnapshot())
        self.on_turn_end()

    def on_disk_failed(self, error: Exception) -> None:
        """The batch did not fit: refuse its changes and go on. Raises any other error."""
        if not isinstance(error, DiskFull) or not self._writing:
            raise error
        refused, self._writing = self._writing, []
        self._storage.cut(self._cut_size)
        if not self._is_full:
            self._is_full = True
            self._actor.log.error("log_full", because=str(error))
        self.replica.refuse(refused, NoSpace(f"the disk of {self._actor.ref.name} is full: nothing was changed"))
        self.on_turn_end()

    # --- snapshots
    async def take_snapshot(self) -> None:
        """Write the state down as it is, so that the journal before it can go. The log goes on meanwhile."""
        try:
            await self._write_snapshot()
        except DiskFull as error:
            # The journals hold it all. The next try is when they have grown as much again.
            await self._storage.give_up_snapshot()
            self._actor.log.warning("snapshot_failed", because=str(error))
            self._snapshot_due = self._storage.grown + self._snapshot_step
        else:
            self._snapshot_due = self._snapshot_step
        self._snapshots = False

    @property
    def _snapshot_step(self) -> int:
        return max(self._snapshot_size, self._storage.snapshot_size // SNAPSHOT_SHARE)

    async def _write_snapshot(self) -> None:
        storage = self._storage
        await storage.prepare()
        self._held = True
        while self._writing:
            await self._actor.disk.synced()
        journal_size = storage.grown
        with contextlib.closing(cast("Generator[bytes]", self._sessions.snapshot())) as parts:
            head = storage.switch()
            self._held = False
            self.on_turn_end()
            await storage.write_snapshot(head, parts)
        self._actor.log.info(
            "snapshot_taken", index=head.index, bytes=storage.snapshot_size, because=f"journal of {journal_size} bytes"
        )
