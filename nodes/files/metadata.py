"""The metadata server: the one place that says which files there are.

Three promises. A put, a replacement or a removal is answered when its record in the journal is durable. A
chunk is dropped only when no file has it, no put that is under way was given it, and the record that freed it
is durable; since ids are never given twice, what is garbage once stays garbage. And whoever goes away in the
middle of a put leaves only garbage behind, which the next survey finds.

Changes go through one queue: `flush` writes all that wait, syncs once, and then answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any, TypeAlias

import msgspec

from zactor.actor import Actor, Down, Up, link, on
from zactor.door import Later
from zactor.errors import DiskFull, Failure, UserError
from zactor.journal import Journal
from zactor.message import Message, Ref, Refs
from zactor.units import ByteSize, Duration, format_size

from .chunks import file_size
from .messages import (
    CHUNK_SIZE_MAX,
    CHUNKS_MAX,
    PAGE_SIZE_MAX,
    Abandon,
    Allocate,
    BadCommit,
    Begin,
    Begun,
    Commit,
    DropChunk,
    Entry,
    FileTooLarge,
    Inventory,
    LeaseExpired,
    ListFolder,
    Lookup,
    NoRoom,
    Page,
    Place,
    Remove,
    Renew,
    StoredChunk,
    Survey,
)
from .namespace import (
    EPOCH_SHIFT,
    Change,
    Namespace,
    Opened,
    Removed,
    Stored,
    decode_change,
    encode_change,
)

JOURNAL_FILE = "namespace.journal"

PUTS_MAX = 10_000
"""Puts under way: a client that begins puts and never ends them must not fill the memory."""

SURVEY_TIMEOUT_S = 5.0

_Waiting: TypeAlias = tuple[Change, "tuple[Place, ...]", "Later[Any]", Any]
"""A change, the chunks that its put was given, whom to answer, and with what."""


class Tick(Message[None]):
    """The metadata server tells itself: time for a survey."""


class Flush(Message[None]):
    """The metadata server tells itself: changes wait."""


class Put(msgspec.Struct, eq=False):
    """A put that is under way, until its client has been silent too long."""

    path: str
    places: dict[int, Place]
    expires_ns: int


class Metadata(Actor):
    """Names, and the chunks that they stand for. Files are cut into chunks of `chunk_size`.

    `lease`: how long a put may be silent. `survey_every`: how often the servers are asked what they hold.
    """

    servers: Refs[Survey | DropChunk] = link(overflow="drop")
    chunk_size: ByteSize = CHUNK_SIZE_MAX
    lease: Duration = 60 * 10**9
    survey_every: Duration = 10 * 10**9

    _names: Namespace
    _journal: Journal
    _puts: dict[int, Put]
    _waiting: list[_Waiting]
    _held: set[int]
    _rooms: dict[str, int]
    _silent: set[str]
    _refs: dict[str, Ref[Any]]
    _turn: int
    _given: int
    _timer: int

    async def on_start(self) -> None:
        """Read the journal, begin an epoch, and ask the servers once. Raises `Corrupt` or `UserError`."""
        if not 0 < self.chunk_size <= CHUNK_SIZE_MAX:
            raise UserError(f"chunk_size: expected 1B to {format_size(CHUNK_SIZE_MAX)}, found {self.chunk_size}")
        self._puts, self._waiting, self._held = {}, [], set()
        self._rooms, self._silent = {}, set()
        self._refs = {server.name: server for server in self.servers}
        self._turn = self._given = self._timer = 0
        self._names = Namespace()
        self._journal = Journal(self.disk, JOURNAL_FILE)
        for payload in await self._journal.recover():
            self._names.apply(decode_change(payload))
        if self._journal.torn_size:
            self.log.warning("journal_cut", bytes=self._journal.torn_size, because="a_write_was_torn")
        # Synced before anything is done: it makes durable whatever was read just now, too, and no chunk's id
        # of this epoch is given before the epoch itself is safe.
        await self._append(Opened(self._names.volume or self.rng.getrandbits(63) or 1, self._names.epoch + 1))
        await self.disk.synced()
        await self.disk.sync_folder()
        self.log.info("namespace_opened", files=len(self._names), epoch=self._names.epoch)
        for server in self.servers:
            self.watch(server)
        self._arm(self.survey_every)
        await self._survey()

    def status(self) -> str:
        """How many files there are, and how many come."""
        return f"files: {len(self._names)}, puts under way: {len(self._puts)}"

    # --- puts
    @on
    def begin(self, message: Begin) -> Begun:
        """Let a put begin. Raises `BadPath`, `Conflict`, `FileTooLarge` or `NoRoom` before a byte is sent."""
        self._names.check_free(message.path)
        size = message.size or 0
        if size > CHUNKS_MAX * self.chunk_size:
            raise FileTooLarge(f"{format_size(size)} are more than {CHUNKS_MAX} chunks")
        if size > sum(self._rooms.values()) or len(self._puts) >= PUTS_MAX:
            raise NoRoom(f"there is no room for {format_size(size)}: {self._describe_rooms()}")
        token = self._next_id()
        self._puts[token] = Put(message.path, {}, self._expiry_ns())
        return Begun(token, self.chunk_size)

    @on
    def allocate(self, message: Allocate) -> Place:
        """Choose a server for the next chunk, in turn. Raises `LeaseExpired`, `FileTooLarge` or `NoRoom`."""
        put = self._renew(message.token)
        if len(put.places) >= CHUNKS_MAX:
            raise FileTooLarge(f"{put.path} has {CHUNKS_MAX} chunks already")
        needed = file_size(min(self.chunk_size, message.size or self.chunk_size))
        server = self._choose(needed, size_known=message.size is not None)
        self._rooms[server] -= min(needed, self._rooms[server])
        place = Place(self._next_id(), server)
        put.places[place.chunk] = place
        return place

    @on
    def renew(self, message: Renew) -> None:
        """Keep a put alive. Raises `LeaseExpired`."""
        self._renew(message.token)

    @on
    def abandon_put(self, message: Abandon) -> None:
        """Forget a put, and look at the servers anew: one of them may have failed it."""
        put = self._puts.pop(message.token, None)
        if put is not None:
            self._drop(put.places.values())
            self._arm(0)

    @on
    def commit(self, message: Commit) -> Later[Entry]:
        """Let a file appear. Raises `LeaseExpired`, `BadCommit`, `Conflict` or `NoRoom`."""
        put = self._renew(message.token)
        entry = message.entry
        given = {chunk: place.server for chunk, place in put.places.items()}
        if any(given.pop(stored.chunk, None) != stored.server for stored in entry.chunks):
            raise BadCommit(f"{put.path}: a chunk that was not given to this put")
        if sum(stored.size for stored in entry.chunks) != entry.size:
            raise BadCommit(f"{put.path}: the chunks do not add up to {entry.size} bytes")
        del self._puts[message.token]
        return self._enqueue(Stored(put.path, entry), tuple(put.places.values()), entry)

    def _next_id(self) -> int:
        """For a chunk or a put: never given before, since the epoch never was."""
        self._given += 1
        return self.last_id()

    def last_id(self) -> int:
        """The id that was given last, to a chunk or a put."""
        return self._names.epoch << EPOCH_SHIFT | self._given

    def files(self) -> Iterable[tuple[str, Entry]]:
        """All files, by their paths."""
        return self._names.items()

    def _expiry_ns(self) -> int:
        return self.now_ns() + self.lease

    def _renew(self, token: int) -> Put:
        put = self._puts.get(token)
        if put is None:
            raise LeaseExpired("this put is not known any more: its client was silent, or this server restarted")
        put.expires_ns = self._expiry_ns()
        return put

    def _choose(self, needed: int, *, size_known: bool) -> str:
        """The next server in turn with that room; for bytes of unknown number, else the one with most."""
        names = [name for name in self._refs if self._rooms.get(name, 0) >= needed]
        if not names and not size_known and any(self._rooms.values()):
            names = [max(self._rooms, key=lambda name: self._rooms[name])]
        if not names:
            raise NoRoom(f"no file server has room for {format_size(needed)}: {self._describe_rooms()}")
        self._turn += 1
        return names[self._turn % len(names)]

    def _describe_rooms(self) -> str:
        rooms = [f"{name} has {format_size(room)}" for name, room in self._rooms.items()]
        rooms += [f"{name} does not answer" for name in sorted(self._silent)]
        return ", ".join(rooms) or "there is no file server"

    # --- names
    @on
    def lookup(self, message: Lookup) -> Entry:
        """The entry of a file. Raises `BadPath` or `NotFound`."""
        return self._names.lookup(message.path)

    @on
    def list_folder(self, message: ListFolder) -> Page:
        """A page of a listing. Raises `BadPath` or `NotFound`."""
        return self._names.page(message.path, message.after, min(message.limit, PAGE_SIZE_MAX))

    @on
    def remove(self, message: Remove) -> Later[None]:
        """Take a file away. Raises `BadPath`, `NotFound` or `NoRoom`."""
        return self._enqueue(Removed(message.path), (), None)

    # --- the queue of changes
    def _enqueue(self, change: Change, places: tuple[Place, ...], answer: Any) -> Later[Any]:
        # The put is over and the file not there yet: only this keeps its chunks.
        self._held.update(place.chunk for place in places)
        if not self._waiting:
            # A timer of no time: it has no asker, so nobody's deadline can end it between journal and answer.
            self.after(0.0, Flush())
        later = self.later()
        self._waiting.append((change, places, later, answer))
        return later

    @on
    async def flush(self, message: Flush) -> None:  # noqa: ARG002 - it has no fields
        """Write all changes that wait, sync once, answer them, and drop the chunks that they freed."""
        waiting, self._waiting = self._waiting, []
        done: list[tuple[Later[Any], Any]] = []
        freed: list[StoredChunk | Place] = []
        for change, places, later, answer in waiting:
            freed += places
            try:
                self._names.check(change)
                old = await self._append(change)
            except Failure as error:
                later.fail(error)
                continue
            # Until the record is durable a crash may bring the old file back: nothing may drop it before.
            self._held.update(stored.chunk for stored in old)
            freed += old
            done.append((later, answer))
        await self.disk.synced()
        self._held.difference_update(gone.chunk for gone in freed)
        # Before the answer: a put that follows it finds the room that this one made.
        self._drop(freed)
        for later, answer in done:
            later.reply(answer)

    async def _append(self, change: Change) -> tuple[StoredChunk, ...]:
        """Journal a change and make it. Raises `NoRoom` when the disk is full; then nothing has changed."""
        size = self._journal.size
        try:
            await self._journal.append(encode_change(change))
        except DiskFull as error:
            await self._journal.cut(size)
            raise NoRoom(f"the disk of {self.ref.name} is full: {error}") from error
        return self._names.apply(change)

    # --- garbage
    def _drop(self, chunks: Iterable[StoredChunk | Place]) -> None:
        """Have those dropped that are garbage. What is lost on the way is found by a later survey."""
        for gone in chunks:
            server = self._refs.get(gone.server)
            if server is not None and self._is_garbage(gone.chunk):
                self.tell(server, DropChunk(volume=self._names.volume, chunk=gone.chunk))
                if isinstance(gone, StoredChunk) and gone.server in self._rooms:
                    self._rooms[gone.server] += file_size(gone.size)

    def _is_garbage(self, chunk: int) -> bool:
        if self._names.has_chunk(chunk) or chunk in self._held:
            return False
        if chunk > self.last_id():
            # Given by a later start than this journal knows of: it is an old copy, and the chunk not ours to drop.
            self.log.error("chunk_never_given", chunk=f"{chunk:016x}", epoch=self._names.epoch)
            return False
        return not any(chunk in put.places for put in self._puts.values())

    @on(interleave=True)
    async def tick(self, message: Tick) -> None:  # noqa: ARG002 - it has no fields
        """End the leases that ran out, and survey the servers."""
        self._arm(self.survey_every)
        now_ns = self.now_ns()
        for token, put in list(self._puts.items()):
            if put.expires_ns <= now_ns:
                del self._puts[token]
                self.log.info("put_expired", path=put.path, chunks=len(put.places), because="client_silent")
        await self._survey()

    @on
    def server_down(self, message: Down) -> None:
        """Give no chunk to a server that is not there."""
        self._lost(message.ref, message.reason)

    @on
    def server_up(self, message: Up) -> None:  # noqa: ARG002 - all servers are asked
        """Ask a server that came back what it still has."""
        self._arm(0)

    def _arm(self, span_ns: int) -> None:
        self.cancel(self._timer)
        self._timer = self.after(span_ns / 1e9, Tick())

    async def _survey(self) -> None:
        """Ask every server what it holds and how much it can take; have garbage dropped."""
        asked = [(server, self._ask_inventory(server, 0)) for server in self.servers]
        while asked:
            again: list[tuple[Ref[Any], Awaitable[Inventory]]] = []
            for server, answer in asked:
                try:
                    inventory = await answer
                except Failure as error:
                    self._lost(server, str(error))
                    continue
                self._found(server, inventory)
                if inventory.more:
                    again.append((server, self._ask_inventory(server, inventory.chunks[-1])))
            asked = again

    def _ask_inventory(self, server: Ref[Any], after: int) -> Awaitable[Inventory]:
        return self.ask(server, Survey(volume=self._names.volume, after=after), timeout_s=SURVEY_TIMEOUT_S)

    def _lost(self, server: Ref[Any], because: str) -> None:
        self._rooms.pop(server.name, None)
        if server.name not in self._silent:
            self._silent.add(server.name)
            self.log.warning("server_lost", server=server.name, because=because)

    def _found(self, server: Ref[Any], inventory: Inventory) -> None:
        self._rooms[server.name] = inventory.room
        if server.name in self._silent:
            self._silent.discard(server.name)
            self.log.info("server_found", server=server.name, room=inventory.room)
        self._drop(Place(chunk, server.name) for chunk in inventory.chunks)
