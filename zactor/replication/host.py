"""Runs a state machine in one actor: what is answered is durable, and what can be asked for is, too.

Changes are collected while the batch before them is being synced, go into the log as one record, and are applied
when that is durable. So the state never holds anything that a crash could take back, and questions are answered
from it at once. Sessions end after a silence by this actor's own clock, which no other clock has a part in.

The actor hands over what it is sent and told (`open_session` ... `query`, `on_turn_end`, `on_synced`,
`on_disk_failed`), handles `Beat` and `TakeSnapshot`, and awaits `recover` in its `on_start`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any, Protocol, cast

import msgspec

from zactor.actor import Actor
from zactor.door import Later
from zactor.errors import DiskFull, Failure, Overloaded
from zactor.message import Message

from .messages import EndSession, NoSpace, Query, Renew, SessionExpired, Submit
from .sessions import Sessions, Standing, encode_change, encode_end, encode_open, encode_own
from .storage import Batch, Storage

BATCH_SIZE = 1 << 20
"""Bytes of changes after which a batch takes no more. It is applied at once, and questions wait for that."""

WAITING_SIZE_MAX = 64 << 20
"""Bytes of changes that may wait for the disk; then clients are told to come again."""

SESSIONS_MAX = 10_000

SNAPSHOT_SHARE = 2
"""A snapshot is taken when the journal has come to this part of the last one, or to what the setting says if that is
more: so snapshots write at most so many times what the journals do."""


class Beat(Message[None]):
    """The actor of a host tells itself: look at the leases of the sessions."""


class TakeSnapshot(Message[None]):
    """The actor of a host tells itself: the journal is long."""


class Answer(Protocol):
    """Whom a change is answered to; a `Later` is one."""

    def reply(self, value: Any, /) -> None:
        """It is done."""
        ...

    def fail(self, error: Failure, /) -> None:
        """It is not, and will not be."""
        ...


class Told:
    """Answers by a call: with what the machine says, or with why nothing was changed."""

    __slots__ = ("fail", "reply")

    def __init__(self, tell: Callable[[bytes | Failure], None]) -> None:
        self.reply: Callable[[Any], None] = tell
        self.fail: Callable[[Failure], None] = tell


class _Change(msgspec.Struct, eq=False):
    """A change that is not durable yet. `again`: who asked for the same one since."""

    record: bytes
    answer: Answer
    key: tuple[int, int] | None = None
    again: tuple[Answer, ...] = ()


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
        self._actor = actor
        self._sessions = sessions
        self._storage = Storage(actor.disk)
        self._lease_ns = lease_ns
        self._snapshot_size = snapshot_size
        self._on_events = on_events
        self._heard: dict[int, int] = {}  # when a session last said something
        self._beat_ns = 0
        self._waiting: list[_Change] = []
        self._waiting_size = 0
        self._under_way: dict[tuple[int, int], _Change] = {}
        self._writing: list[_Change] = []
        self._batch = Batch(0, 0, ())
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
            self._sessions.apply(_entries(batch))
        self._sessions.machine.events()
        if found.torn_size:
            self._actor.log.warning("journal_cut", bytes=found.torn_size, because="a_write_was_torn")
        for text in found.damaged:
            self._actor.log.error("snapshot_damaged", because=text)
        self._actor.log.info("log_recovered", index=self._storage.index, batches=len(found.batches))
        self._snapshot_due = self._snapshot_step
        self._beat_ns = now_ns = self._actor.now_ns()
        self._heard = dict.fromkeys(self._sessions.ids(), now_ns)
        self._actor.after(self._beat_every_ns / 1e9, Beat())

    async def settled(self) -> None:
        """Wait in `on_start` until what was proposed so far is durable and done."""
        while self._waiting or self._writing:
            await self._actor.disk.synced()

    @property
    def index(self) -> int:
        """Of the last change that was made."""
        return self._storage.index

    # --- what clients say
    def open_session(self) -> Later[int]:
        """Answer an `OpenSession`."""
        later = self._actor.later()
        if len(self._heard) >= SESSIONS_MAX:
            later.fail(Overloaded(f"there are {SESSIONS_MAX} sessions already; each ends after a silence"))
        else:
            self._enqueue(_Change(encode_open(), later))
        return later

    def renew(self, message: Renew) -> None:
        """Answer a `Renew`. Raises `SessionExpired`."""
        if message.session not in self._heard:
            raise SessionExpired(f"session {message.session} is not known, or over")
        self._heard[message.session] = self._actor.now_ns()

    def end_session(self, message: EndSession) -> Later[None]:
        """Answer an `EndSession`."""
        later: Later[None] = self._actor.later()
        if message.session in self._heard:
            self._end(message.session, later)
        else:
            later.reply(None)
        return later

    def _end(self, session: int, later: Later[None] | None) -> None:
        heard_ns = self._heard.pop(session)

        def tell(answer: bytes | Failure) -> None:
            if isinstance(answer, Failure):  # it goes on, and ends by its lease if nobody says more
                self._heard[session] = heard_ns
            if later is not None and isinstance(answer, Failure):
                later.fail(answer)
            elif later is not None:
                later.reply(None)

        self._enqueue(_Change(encode_end(session), Told(tell)))

    def submit(self, message: Submit) -> Later[bytes]:
        """Answer a `Submit`: at once if that was done before, else when it is durable. Raises what it says there."""
        session = message.session
        if session not in self._heard:
            raise SessionExpired(f"session {session} is not known, or over")
        self._heard[session] = self._actor.now_ns()
        key = (session, message.sequence)
        standing = self._sessions.check(message)
        later: Later[bytes] = self._actor.later()
        if standing is Standing.NEW and self._waiting_size > WAITING_SIZE_MAX:
            self._sessions.withdraw(*key)
            later.fail(Overloaded(f"{self._waiting_size} bytes of changes wait for the disk"))
        elif standing is Standing.NEW:
            change = self._under_way[key] = _Change(encode_change(message), later, key)
            self._enqueue(change)
        elif standing is Standing.UNDER_WAY:
            self._under_way[key].again += (later,)
        else:
            later.reply(standing)
        return later

    def query(self, message: Query) -> bytes:
        """Answer a `Query`. Raises what the machine refuses with."""
        return self._sessions.machine.query(message.body)

    def propose(self, body: bytes, tell: Callable[[bytes | Failure], None]) -> None:
        """A change by the actor itself. `tell` gets its answer when it is durable, or why there is none."""
        self._enqueue(_Change(encode_own(body), Told(tell)))
        # It may come from where no turn of messages ends.
        self.on_turn_end()

    # --- the log
    def _enqueue(self, change: _Change) -> None:
        self._waiting.append(change)
        self._waiting_size += len(change.record)

    def on_turn_end(self) -> None:
        """Write what waits, unless something is being written: one sync for all of it."""
        if self._writing or self._held or not self._waiting:
            return
        self._writing = self._take()
        storage, actor = self._storage, self._actor
        time_ns = max(storage.time_ns, actor.wall_ns())
        self._batch = Batch(storage.index + 1, time_ns, tuple([change.record for change in self._writing]))
        self._cut_size = storage.size
        self._number += 1
        storage.append(self._batch)
        actor.disk.commit(self._number)

    def _take(self) -> list[_Change]:
        """What fits into one batch, from the front of what waits."""
        if self._waiting_size <= BATCH_SIZE:
            taken, self._waiting, self._waiting_size = self._waiting, [], 0
            return taken
        size = count = 0
        for change in self._waiting:
            size += len(change.record)
            if size > BATCH_SIZE and count:
                break
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        self._waiting_size -= sum(len(change.record) for change in taken)
        return taken

    def on_synced(self, write_id: int) -> None:
        """The batch is durable: make the changes, and answer."""
        if write_id != self._number or not self._writing:
            return  # of a batch that the disk had no room for
        done, self._writing = self._writing, []
        batch = self._batch
        self._storage.took(batch)
        answers = self._sessions.apply(_entries(batch))
        if self._is_full:
            self._is_full = False
            self._actor.log.info("log_writable", because="there_is_room_again")
        self._on_events(self._sessions.machine.events())
        for change, answer in zip(done, answers, strict=True):
            if answer.__class__ is int:  # a session has begun
                self._heard[answer] = self._actor.now_ns()
            self._answer(change, answer)
        if self._storage.grown > self._snapshot_due and not self._snapshots:
            self._snapshots = True
            self._actor.after(0.0, TakeSnapshot())
        self.on_turn_end()

    def _answer(self, change: _Change, answer: Any) -> None:
        if change.key is not None:
            del self._under_way[change.key]
        for each in (change.answer, *change.again):
            if isinstance(answer, Failure):
                each.fail(answer)
            else:
                each.reply(answer)

    def on_disk_failed(self, error: Exception) -> None:
        """The batch did not fit: refuse its changes and go on. Raises any other error."""
        if not isinstance(error, DiskFull) or not self._writing:
            raise error
        refused, self._writing = self._writing, []
        self._storage.cut(self._cut_size)
        if not self._is_full:
            self._is_full = True
            self._actor.log.error("log_full", because=str(error))
        for change in refused:
            if change.key is not None:
                self._sessions.withdraw(*change.key)
            self._answer(change, NoSpace(f"the disk of {self._actor.ref.name} is full: nothing was changed"))
        self.on_turn_end()

    # --- leases
    @property
    def _beat_every_ns(self) -> int:
        return max(self._lease_ns // 8, 1)

    def beat(self) -> None:
        """End the sessions that were silent for a lease. What this actor slept through is nobody's silence."""
        actor = self._actor
        actor.after(self._beat_every_ns / 1e9, Beat())
        now_ns = actor.now_ns()
        late_ns = now_ns - self._beat_ns - self._beat_every_ns
        self._beat_ns = now_ns
        if late_ns > self._beat_every_ns:
            self._heard = {session: heard_ns + late_ns for session, heard_ns in self._heard.items()}
        silent = [session for session, heard_ns in self._heard.items() if now_ns - heard_ns >= self._lease_ns]
        for session in silent:
            actor.log.info("lease_ended", session=session, because="client_silent")
            self._end(session, None)

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


def _entries(batch: Batch) -> list[tuple[int, int, bytes]]:
    time_ns = batch.time_ns
    return [(index, time_ns, record) for index, record in enumerate(batch.records, batch.index)]
