"""The metadata server: runs the namespace, and keeps the file servers as it says.

All decisions are the namespace's (which changes by its log alone) and the keeper's (which sees only what is durable).
Here is what ties them to the world: changes and questions of clients go to the host, file servers are watched and
asked what they hold, and what the keeper wants done is done, each thing by itself, so that a slow server holds up
nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, TypeAlias

import msgspec

from zactor.actor import Actor, Down, Up, link, on
from zactor.door import Later
from zactor.errors import Failure, UserError
from zactor.message import Message, Ref, Refs, encode
from zactor.replication.host import Host, TakeSnapshot
from zactor.replication.messages import EndSession, NoSpace, OpenSession, Query, Renew, Submit
from zactor.replication.replica import Beat
from zactor.replication.sessions import Sessions
from zactor.units import ByteSize, Duration, format_duration, format_size

from .keeper import Action, Copy, Drop, Keeper, ListHeld, Note, Propose, PutAside, Settings
from .messages import (
    BLOCK_SIZE,
    CHUNK_SIZE_MAX,
    COPIES_MAX,
    CopyChunk,
    DropChunks,
    ListBucket,
    SetAside,
    Survey,
    WrongVolume,
)
from .namespace import Namespace
from .operations import Change, Configure, Format, decode_outcomes

SECOND_NS = 10**9
FIRST_SURVEY_S = 1.0
"""At its start it waits so long for the file servers: who comes right behind it finds them there."""

SURVEY_TIMEOUT_S = 5.0
LIST_TIMEOUT_S = 10.0
DROP_TIMEOUT_S = 30.0
COPY_TIMEOUT_S = 120.0
"""A chunk of the largest size at half a megabyte a second."""

WORK_EVERY_S = 0.004
"""Between two looks at the next names: a look takes about a quarter of it, and the rest is for clients."""


class Tick(Message[None]):
    """The metadata server tells itself: time for a survey."""


class Work(Message[None]):
    """The metadata server tells itself: the keeper has more names to look at."""


class Act(Message[None]):
    """The metadata server tells itself: do what stands under this number."""

    number: int


class Look(msgspec.Struct, frozen=True):
    """Ask a server what it is and holds."""

    server: str


_Deed: TypeAlias = Look | ListHeld | Drop | PutAside | Copy


class Metadata(Actor):
    """Names, and where the chunks are that they stand for. A file lies on `copies` servers, in chunks of `chunk_size`.

    `lease`: how long a client may be silent before what it was doing is given up. `survey_every`: how often servers
    are asked what they hold. `repair_after`: how long one may be away before its chunks are copied to others,
    `repairs` at a time. `snapshot_bytes`: by how much the journal grows before a snapshot takes its place.
    """

    turn_messages: ClassVar[int] = 1_024

    servers: Refs[Survey | ListBucket | DropChunks | SetAside | CopyChunk] = link(overflow="drop")
    chunk_size: ByteSize = CHUNK_SIZE_MAX
    copies: int = 2
    lease: Duration = 8 * SECOND_NS
    survey_every: Duration = 2 * SECOND_NS
    repair_after: Duration = 30 * SECOND_NS
    repairs: int = 4
    snapshot_bytes: ByteSize = 16 << 20

    _names: Namespace
    _host: Host
    _keeper: Keeper
    _refs: dict[str, Ref[Any]]
    _deeds: dict[int, _Deed]
    _number: int
    _looked: dict[str, None]
    _is_working: bool

    async def on_start(self) -> None:
        """Recover the namespace, and ask the servers once. Raises `Corrupt`, `UserError` or `NoSpace`."""
        self._check_settings()
        self._refs = {server.name: server for server in self.servers}
        self._deeds, self._looked, self._number, self._is_working = {}, {}, 0, False
        self._names = Namespace()
        self._host = Host(
            self,
            Sessions(self._names),
            lease_ns=self.lease,
            snapshot_size=self.snapshot_bytes,
            on_events=lambda events: self._do(self._keeper.on_freed(events)),
        )
        await self._host.recover()
        settings = Settings(self.repair_after, self.repairs, self.survey_every)
        self._keeper = Keeper(self._names, list(self._refs), settings, self.now_ns())
        await self._settle()
        self.log.info("namespace_opened", files=self._names.file_count, index=self._host.index)
        for server in self.servers:
            self.watch(server)
        for name in [server.name for server in self._names.servers.table if server.name not in self._refs]:
            self._do(self._keeper.on_lost(name, "it is not linked any more", self.now_ns()))
        self.after(self.survey_every / 1e9, Tick())
        await self._look_first()

    def _check_settings(self) -> None:
        if not 0 < self.chunk_size <= CHUNK_SIZE_MAX or self.chunk_size % BLOCK_SIZE:
            raise UserError(
                f"chunk_size: expected a multiple of {format_size(BLOCK_SIZE)} up to {format_size(CHUNK_SIZE_MAX)}, "
                f"found {format_size(self.chunk_size)}"
            )
        if not 1 <= self.copies <= COPIES_MAX:
            raise UserError(f"copies: expected 1 to {COPIES_MAX}, found {self.copies}")
        for name, span_ns, least_ns in (("lease", self.lease, SECOND_NS), ("survey_every", self.survey_every, 1)):
            if span_ns < least_ns:
                raise UserError(
                    f"{name}: expected at least {format_duration(least_ns)}, found {format_duration(span_ns)}"
                )
        for name, count in (("repairs", self.repairs), ("snapshot_bytes", self.snapshot_bytes)):
            if count < 1:
                raise UserError(f"{name}: expected at least 1, found {count}")
        if len(self.servers) < self.copies:
            self.log.warning(
                "too_few_servers",
                servers=len(self.servers),
                copies=self.copies,
                because="nothing can be put on fewer servers than there are copies: link more, or set `copies` lower",
            )

    async def _settle(self) -> None:
        """Let the namespace be of this volume, with these settings."""
        if not self._names.volume:
            self._propose(Format(self.rng.getrandbits(63) or 1))
        if (self._names.copies, self._names.chunk_size) != (self.copies, self.chunk_size):
            self._propose(Configure(self.copies, self.chunk_size))
        await self._host.settled()
        if not self._names.volume:
            raise NoSpace("the disk has no room for the first record of the journal; make some")

    async def _look_first(self) -> None:
        asked = [(name, self.ask(ref, self._survey(), timeout_s=FIRST_SURVEY_S)) for name, ref in self._refs.items()]
        for name, answer in asked:
            try:
                inventory = await answer
            except WrongVolume as error:
                self._do(self._keeper.on_refused(name, str(error), self.now_ns()))
            except Failure as error:
                self._do(self._keeper.on_lost(name, str(error), self.now_ns()))
            else:
                self._do(self._keeper.on_inventory(name, inventory, self.now_ns()))
        await self._host.settled()

    def status(self) -> str:
        """How many files there are, how many come, and which servers are there."""
        up = len(self._keeper.up())
        few = f", too few for {self.copies} copies" if up < self.copies else ""
        puts = len(self._names.writes.puts)
        return f"files: {self._names.file_count}, puts under way: {puts}, servers: {up} of {len(self.servers)}{few}"

    @property
    def namespace(self) -> Namespace:
        """What is durable of the namespace, to be looked at."""
        return self._names

    @property
    def index(self) -> int:
        """How many changes of the log are in it."""
        return self._host.index

    # --- clients
    @on
    def open_session(self, message: OpenSession) -> Later[int]:  # noqa: ARG002 - it has no fields
        """Begin a session."""
        return self._host.replica.open_session()

    @on
    def renew(self, message: Renew) -> None:
        """A session goes on. Raises `SessionExpired`."""
        self._host.replica.renew(message)

    @on
    def end_session(self, message: EndSession) -> Later[None]:
        """A session is over."""
        return self._host.replica.end_session(message)

    @on
    def submit(self, message: Submit) -> Later[tuple[bytes, ...]]:
        """Changes of the namespace, made once. Raises `SessionExpired`, `OutOfWindow`, `NoSpace`."""
        return self._host.replica.submit(message)

    @on
    def query(self, message: Query) -> bytes:
        """A question to the namespace. Raises what it refuses with."""
        return self._host.query(message)

    # --- the host
    @on
    def beat(self, message: Beat) -> None:  # noqa: ARG002
        """Look at the leases."""
        self._host.replica.beat()

    @on(interleave=True)
    async def take_snapshot(self, message: TakeSnapshot) -> None:  # noqa: ARG002
        """Write a snapshot beside all else."""
        await self._host.take_snapshot()

    def on_turn_end(self) -> None:
        """Write what was changed in this turn."""
        self._host.on_turn_end()

    def on_synced(self, write_id: int) -> None:
        """Make what is durable now, and answer."""
        self._host.on_synced(write_id)

    def on_disk_failed(self, error: Exception) -> None:
        """Refuse what had no room. Raises any other error."""
        self._host.on_disk_failed(error)

    # --- file servers
    @on
    def server_down(self, message: Down) -> None:
        """Give nothing to a server that is not there."""
        self._do(self._keeper.on_lost(message.ref.name, message.reason, self.now_ns()))

    @on
    def server_up(self, message: Up) -> None:
        """Ask a server that came back what it still has."""
        self._look(message.ref.name)

    @on
    def tick(self, message: Tick) -> None:  # noqa: ARG002
        """Survey all servers, each at its own pace."""
        self.after(self.survey_every / 1e9, Tick())
        for name in self._refs:
            self._look(name)
        self._do(self._keeper.tick(self.now_ns()))

    @on
    def work(self, message: Work) -> None:  # noqa: ARG002
        """Let the keeper look at more names."""
        self._is_working = False
        self._do(self._keeper.tick(self.now_ns()))

    def _look(self, name: str) -> None:
        if name not in self._looked:
            self._looked[name] = None
            self._begin(Look(name))

    def _survey(self) -> Survey:
        return Survey(volume=self._names.volume)

    # --- what the keeper wants
    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Note):
                getattr(self.log, action.level)(action.event, **action.fields)
            elif isinstance(action, Propose):
                self._propose(action.change, action)
            else:
                self._begin(action)
        if self._keeper.is_busy and not self._is_working:
            self._is_working = True
            self.after(WORK_EVERY_S, Work())

    def _propose(self, change: Change, action: Propose | None = None) -> None:
        def tell(answer: bytes | Failure) -> None:
            if action is not None:
                outcome = answer if isinstance(answer, Failure) else decode_outcomes(answer)[0]
                self._do(self._keeper.on_outcome(action, outcome, self.now_ns()))

        self._host.propose(encode((change,)), tell)

    def _begin(self, deed: _Deed) -> None:
        # A timer of no time: it waits behind no client's mail, and nobody's deadline is its own.
        self._number += 1
        self._deeds[self._number] = deed
        self.after(0.0, Act(number=self._number))

    @on(interleave=True)
    async def act(self, message: Act) -> None:
        """Do one thing at a file server, and tell the keeper what came of it."""
        deed = self._deeds.pop(message.number)
        match deed:
            case Look():
                actions = await self._ask_inventory(deed)
            case ListHeld():
                actions = await self._ask_list(deed)
            case Drop():
                actions = await self._ask_drop(deed)
            case PutAside():
                actions = await self._ask_set_aside(deed)
            case Copy():
                actions = await self._ask_copy(deed)
        self._do(actions)

    async def _ask_inventory(self, deed: Look) -> list[Action]:
        name = deed.server
        try:
            inventory = await self.ask(self._refs[name], self._survey(), timeout_s=SURVEY_TIMEOUT_S)
        except WrongVolume as error:
            return self._keeper.on_refused(name, str(error), self.now_ns())
        except Failure as error:
            return self._keeper.on_lost(name, str(error), self.now_ns())
        finally:
            self._looked.pop(name, None)
        return self._keeper.on_inventory(name, inventory, self.now_ns())

    async def _ask_list(self, deed: ListHeld) -> list[Action]:
        asked = ListBucket(volume=self._names.volume, bucket=deed.bucket, after=deed.after)
        try:
            page = await self.ask(self._refs[deed.server], asked, timeout_s=LIST_TIMEOUT_S)
        except Failure:
            return self._keeper.on_list_failed(deed)  # a survey says what is wrong with it
        return self._keeper.on_held(deed, page, self.now_ns())

    async def _ask_drop(self, deed: Drop) -> list[Action]:
        asked = DropChunks(volume=self._names.volume, chunks=deed.chunks)
        try:
            await self.ask(self._refs[deed.server], asked, timeout_s=DROP_TIMEOUT_S)
        except Failure as error:
            self.log.warning("drop_failed", server=deed.server, count=len(deed.chunks), because=str(error))
        return self._keeper.on_dropped(deed, self.now_ns())

    async def _ask_set_aside(self, deed: PutAside) -> list[Action]:
        asked = SetAside(volume=self._names.volume, chunks=deed.chunks)
        try:
            await self.ask(self._refs[deed.server], asked, timeout_s=DROP_TIMEOUT_S)
        except Failure as error:
            self.log.warning("set_aside_failed", server=deed.server, count=len(deed.chunks), because=str(error))
        return self._keeper.on_dropped(deed, self.now_ns())

    async def _ask_copy(self, deed: Copy) -> list[Action]:
        chunk = deed.chunk
        sources = tuple([self._refs[name] for name in deed.sources])
        asked = CopyChunk(chunk=chunk.chunk, size=chunk.size, crc=chunk.crc, sources=sources)
        try:
            await self.ask(self._refs[deed.server], asked, timeout_s=COPY_TIMEOUT_S)
        except Failure as error:
            return self._keeper.on_copy_failed(deed, error, self.now_ns())
        return self._keeper.on_copied(deed, self.now_ns())
