"""The namespace: which files there are, of which chunks each is made, and which servers have them.

A replicated state machine (`zactor.statemachine`): it changes by the entries of its log alone, each operation whole or
not at all, so whatever it says has been decided and is durable. The parts are pure and know nothing of each other's
purpose: names (`tree`) on packed tables (`tables`), puts and pins (`writes`), servers and their room (`servers`).

Two rules. Content never changes: a put is a new inode, and a commit points a name to it. And bytes are free only by a
decision here (`Freed`, `verdict`), never by age.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from zactor.errors import Corrupt, Refused
from zactor.message import UNDECODABLE, encode
from zactor.statemachine import Entry

from . import operations as op
from .inodes import Inodes
from .inodes import Verdict as Verdict
from .messages import (
    BLOCK_SIZE,
    BUCKETS,
    CHUNK_SIZE_MAX,
    CHUNKS_MAX,
    AlreadyExists,
    IsAFolder,
    NoRoom,
    StaleVersion,
    TooMany,
    chunk_id,
    inode_of,
)
from .placement import footprint
from .servers import Servers
from .snapshots import FORMAT, Head, OrphansPart, PinsPart, PutsPart, decode_head, decode_part, held_parts
from .tables import ROOT, Block, File, Tables, chunks_of, decode_record, pack_chunks
from .tree import Spot, Tree, last_name
from .writes import Freed, Pins, Writes

FILE_MODE = 0o644
DONE = op.Done()


class Scan(msgspec.Struct, frozen=True):
    """The chunks of some files; `cursor` is where to go on, b"" at the end."""

    chunks: tuple[op.Chunk, ...]
    cursor: bytes


class Namespace:
    """All of it. `apply`, `end_session` and `restore` change it; everything else looks."""

    def __init__(self) -> None:
        self.volume = 0
        self.copies = 2
        self.chunk_size = CHUNK_SIZE_MAX
        self.next_inode = ROOT + 1
        self.file_count = 0
        self.byte_count = 0
        self._set_up(Tables(), Servers())
        self._events: list[Freed] = []
        self._session = self._time_ns = self._shown_count = 0  # of the entry that is being applied
        self._changes: dict[type, Callable[[Any], Any]] = {
            op.Create: self._create, op.MakeFolder: self._make_folder, op.MakeLink: self._make_link,
            op.Remove: self._remove, op.Rename: self._rename, op.SetMode: self._set_mode, op.Begin: self._begin,
            op.Allocate: self._allocate, op.Rechain: self._rechain, op.Commit: self._commit,
            op.Abandon: self._abandon, op.Pin: self._pin, op.Unpin: self._unpin, op.Format: self._format,
            op.Configure: self._configure, op.Report: self._report, op.Lost: self._lost, op.Relocate: self._relocate,
        }  # fmt: skip
        self._questions: dict[type, Callable[[Any], Any]] = {
            op.GetStat: self._get_stat, op.GetContent: self._get_content, op.GetPage: self._get_page,
            op.GetSpace: self._get_space, op.GetProblems: self._get_problems,
        }  # fmt: skip

    def _set_up(self, tables: Tables, servers: Servers) -> None:
        self.tables, self.servers = tables, servers
        self.tree, self.writes, self.pins = Tree(tables), Writes(servers), Pins()
        self.inodes = Inodes(self.tree, servers, self.writes)
        self._orphans: dict[int, None] = {}

    # --- a state machine
    def apply(self, entries: Sequence[Entry]) -> list[bytes]:
        """Make the changes of these entries; for each the outcomes of its operations, encoded."""
        return [self._apply(entry) for entry in entries]

    def _apply(self, entry: Entry) -> bytes:
        try:
            changes = op.decode_operations(entry.body)
        except UNDECODABLE as error:
            return encode((op.Denied(Refused.wire, f"these are no changes of a namespace: {error}"),))
        if len(changes) > op.OPERATIONS_MAX:
            return encode((op.Denied(Refused.wire, f"{len(changes)} changes; one body has {op.OPERATIONS_MAX}"),))
        self._session, self._time_ns, self._shown_count = entry.session, entry.time_ns, 0
        return encode([self._change(change) for change in changes])

    def _change(self, change: op.Change) -> op.Outcome:
        try:
            outcome: op.Outcome = self._changes[type(change)](change)
        except Refused as error:
            return op.Denied(error.wire, str(error))
        return outcome

    def end_session(self, session: int) -> None:
        """Its puts will not go on, and it reads nothing any more."""
        for inode in self.writes.of(session):
            self._events += self.writes.end(inode)
        for inode, times in sorted(self.pins.held.get(session, {}).items()):
            self._let_go(session, inode, times)

    def query(self, body: bytes) -> bytes:
        """Answer a question of `operations`. Raises `Refused`."""
        try:
            question = op.decode_question(body)
        except UNDECODABLE as error:
            raise Refused(f"this is no question to a namespace: {error}") from None
        return encode(self._questions[type(question)](question))

    def events(self) -> list[Freed]:
        """The chunks that were freed since the last call, in order."""
        events, self._events = self._events, []
        return events

    # --- changes of names
    def _new_inode(self) -> int:
        inode = self.next_inode
        self.next_inode += 1
        return inode

    def _create(self, change: op.Create) -> op.Stat:
        spot = self.tree.file_spot(change.path, replace=change.replace)
        mode = self._mode_at(spot) if change.mode is None else change.mode
        return self._appear(spot, self._new_inode(), File(mode, self._time_ns, 0, 0, b""))

    def _mode_at(self, spot: Spot) -> int:
        if spot.inode is None:
            return FILE_MODE
        record = self.tables.leaf(spot.inode)
        return record.mode if isinstance(record, File) else FILE_MODE

    def _appear(self, spot: Spot, inode: int, file: File) -> op.Stat:
        """A file gets its name, from that which had it before."""
        self.tables.set_leaf(inode, file)
        self.tables.link(spot.parent, spot.name, inode, file.mtime_ns)
        self.file_count += 1
        self.byte_count += file.size
        if spot.inode is not None:
            self._unlinked(spot.inode)
        return op.Stat(spot.name.decode(), inode, "file", file.size, file.mode, file.mtime_ns, file.checksum)

    def _make_folder(self, change: op.MakeFolder) -> op.Done:
        if change.parents:
            self.next_inode = self.tree.make_folders(change.path, self.next_inode, change.mode, self._time_ns)
        else:
            self.tree.make_folder(change.path, self.next_inode, change.mode, self._time_ns)
            self.next_inode += 1
        return DONE

    def _make_link(self, change: op.MakeLink) -> op.Done:
        self.tree.make_link(change.path, change.target, self.next_inode, self._time_ns)
        self.next_inode += 1
        return DONE

    def _remove(self, change: op.Remove) -> op.Done:
        self._unlinked(self.tree.remove(change.path, self._time_ns))
        return DONE

    def _rename(self, change: op.Rename) -> op.Done:
        replaced = self.tree.rename(change.path, change.to, replace=change.replace, time_ns=self._time_ns)
        if replaced is not None:
            self._unlinked(replaced)
        return DONE

    def _set_mode(self, change: op.SetMode) -> op.Done:
        self.tree.set_mode(change.path, change.mode)
        return DONE

    def _unlinked(self, inode: int) -> None:
        """No name points to an inode any more. Who reads it may go on."""
        if inode in self.tables.folders:
            self.tables.remove_folder(inode)
            return
        record = self.tables.leaf(inode)
        if isinstance(record, File):
            self.file_count -= 1
            self.byte_count -= record.size
            if inode in self.pins.counts:
                self._orphans[inode] = None
                return
            self._free(inode, record)
        self.tables.remove_leaf(inode)

    def _free(self, inode: int, file: File) -> None:
        chunks = chunks_of(file)
        self.servers.expect(inode, chunks, -1)
        for index, stored in enumerate(chunks):
            self._events.append(Freed(chunk_id(inode, index), self.servers.names(stored.servers)))

    # --- changes of content
    def _begin(self, change: op.Begin) -> op.Begun:
        begun = self.writes.begin(self._session, change.sizes, self.next_inode, self.copies, self.chunk_size)
        self.next_inode += len(change.sizes)
        return begun

    def _allocate(self, change: op.Allocate) -> op.Placed:
        return self.writes.allocate(self._session, change)

    def _rechain(self, change: op.Rechain) -> op.Placed:
        return self.writes.rechain(self._session, change)

    def _commit(self, change: op.Commit) -> op.Stat:
        chunks = self.writes.check(self._session, change)
        spot = self.tree.file_spot(change.path, replace=change.replace)
        mode = self._mode_at(spot) if change.mode is None else change.mode
        self._events += self.writes.end(change.inode, chunks)
        self.servers.expect(change.inode, chunks, 1)
        self.servers.committed(chunks)
        return self._appear(
            spot, change.inode, File(mode, self._time_ns, change.size, change.checksum, pack_chunks(chunks))
        )

    def _abandon(self, change: op.Abandon) -> op.Done:
        put = self.writes.puts.get(change.inode)
        if put is not None and put.session == self._session:
            self._events += self.writes.end(change.inode)
        return DONE

    def _pin(self, change: op.Pin) -> op.Content:
        inode, file = self._file(change.path)
        content = self.inodes.content(last_name(change.path), inode, file)
        if self._shown_count + len(content.chunks) > CHUNKS_MAX:
            raise TooMany(f"the answer to one body shows at most {CHUNKS_MAX} chunks; pin fewer files at once")
        self.pins.add(self._session, inode)
        self._shown_count += len(content.chunks)
        return content

    def _unpin(self, change: op.Unpin) -> op.Done:
        self._let_go(self._session, change.inode, 1)
        return DONE

    def _let_go(self, session: int, inode: int, times: int) -> None:
        if self.pins.remove(session, inode, times) and inode in self._orphans:
            del self._orphans[inode]
            record = self.tables.leaf(inode)
            assert isinstance(record, File), "only files are pinned"
            self._free(inode, record)
            self.tables.remove_leaf(inode)

    # --- changes by whoever runs the machine
    def _format(self, change: op.Format) -> op.Done:
        self._refuse_client()
        if self.volume and self.volume != change.volume:
            raise AlreadyExists(f"this is the volume {self.volume:#x}; it cannot become another one")
        self.volume = change.volume
        return DONE

    def _configure(self, change: op.Configure) -> op.Done:
        self._refuse_client()
        if change.chunk_size % BLOCK_SIZE or not 0 < change.chunk_size <= CHUNK_SIZE_MAX:
            raise Refused(
                f"a chunk size of {change.chunk_size}; it must be a multiple of {BLOCK_SIZE} up to {CHUNK_SIZE_MAX}"
            )
        self.copies, self.chunk_size = change.copies, change.chunk_size
        return DONE

    def _report(self, change: op.Report) -> op.Done:
        self._refuse_client()
        self.servers.report(change)
        return DONE

    def _lost(self, change: op.Lost) -> op.Done:
        self._refuse_client()
        self.servers.lost(change.server)
        return DONE

    def _relocate(self, change: op.Relocate) -> op.Done:
        self._refuse_client()
        was, now = ([self.servers.number(name) for name in names] for names in (change.was, change.servers))
        if not now or len(set(now)) != len(now):
            raise Refused(f"a chunk cannot be on {change.servers}; name one server or more, each once")
        file = self.inodes.file(change.inode)
        chunks = list(chunks_of(file)) if file is not None else []
        if file is None or change.index >= len(chunks) or list(chunks[change.index].servers) != was:
            raise StaleVersion(f"chunk {change.index} of inode {change.inode} is not on {change.was} any more")
        self.servers.expect(change.inode, chunks[change.index : change.index + 1], -1, change.index)
        moved = chunks[change.index] = msgspec.structs.replace(chunks[change.index], servers=tuple(now))
        self.servers.expect(change.inode, (moved,), 1, change.index)
        new = tuple([number for number in now if number not in was])
        self.servers.committed((msgspec.structs.replace(moved, servers=new),))
        self.tables.set_leaf(change.inode, msgspec.structs.replace(file, chunks=pack_chunks(tuple(chunks))))
        gone = [number for number in was if number not in now]
        if gone:
            self._events.append(Freed(chunk_id(change.inode, change.index), self.servers.names(gone)))
        return DONE

    def _refuse_client(self) -> None:
        if self._session:
            raise Refused("only whoever runs the namespace may say this")

    # --- questions
    def _get_stat(self, question: op.GetStat) -> op.Stat:
        _, inode = self.tree.inode(question.path, follow=question.follow)
        return self.tree.stat(last_name(question.path), inode)

    def _get_content(self, question: op.GetContent) -> op.Content:
        inode, file = self._file(question.path)
        return self.inodes.content(last_name(question.path), inode, file)

    def _get_page(self, question: op.GetPage) -> op.Page:
        return self.tree.page(question.path, question.after, question.limit)

    def _get_space(self, _: op.GetSpace) -> op.Space:
        folders = len(self.tables.folders) - 1
        return op.Space(self.servers.space(), self.file_count, folders, self.byte_count, self.copies, self.chunk_size)

    def _get_problems(self, question: op.GetProblems) -> op.Problems:
        try:
            after = bytes.fromhex(question.after)
        except ValueError:
            raise Refused(f"{question.after!r} is no cursor; begin with '', go on with the one that came") from None
        found = self.inodes.slice(after, question.limit)
        problems = []
        for key, inode, index, stored in found.chunks:
            up = self.servers.up(stored.servers)
            if len(up) < self.copies:
                chunk = self.inodes.chunk(inode, index, stored)
                problems.append(op.Problem(self.tree.path_of(key), chunk, self.servers.names(up)))
        return op.Problems(tuple(problems), found.names, found.cursor.hex())

    def _file(self, path: str) -> tuple[int, File]:
        _, inode = self.tree.inode(path)
        if inode in self.tables.folders:
            raise IsAFolder(f"{path} is a folder")
        record = self.tables.leaf(inode)
        assert isinstance(record, File), "a link at the end was followed"
        return inode, record

    # --- for who keeps the servers in order
    def verdict(self, server: str, chunk: int, size: int, crc: int) -> Verdict:
        """What to do with a sealed chunk that a server holds. One that is not sealed has size and checksum 0, which
        no file says: of it, only garbage or foreign tells anything."""
        if inode_of(chunk) >= self.next_inode:
            return Verdict.FOREIGN
        return self.inodes.verdict(self.servers.numbers.get(server, -1), chunk, size, crc)

    def scan(self, cursor: bytes, limit: int, buckets: Collection[int] | None = None) -> Scan:
        """The chunks of up to `limit` names behind a cursor (b"" at first), of all buckets or some."""
        found = self.inodes.slice(cursor, limit, buckets)
        chunks = [self.inodes.chunk(inode, index, chunk) for _, inode, index, chunk in found.chunks]
        return Scan(tuple(chunks), found.cursor)

    def find_chunk(self, chunk: int) -> op.Chunk | None:
        """A chunk of a file that is alive or read, as it must be."""
        return self.inodes.find_chunk(chunk)

    def expected(self, server: str) -> tuple[int, ...]:
        """The digests of what a server should hold, a bucket each."""
        number = self.servers.numbers.get(server)
        return tuple(self.servers.loads[number].digests) if number is not None else (0,) * BUCKETS

    def place_copy(self, chunk: int, size: int, have: Sequence[str]) -> str | None:
        """A server with room for one more copy of a chunk, which is reserved nowhere; None when there is none."""
        numbers = [self.servers.numbers[name] for name in have if name in self.servers.numbers]
        try:
            chosen = self.servers.place(chunk, footprint(size), 1, numbers, ())
        except NoRoom:
            return None
        return self.servers.table[chosen[0]].name

    # --- snapshots
    def snapshot(self) -> Iterator[bytes]:
        """The state as it is at this call, in parts: a head, what sessions hold, then blocks of entries."""
        parts = self._parts(self._little(), self.tables.freeze())
        next(parts)  # to where `close` gives up what is frozen
        return parts

    @staticmethod
    def _parts(little: list[bytes], blocks: Generator[bytes]) -> Iterator[bytes]:
        try:
            yield b""
            yield from little
            yield from blocks
        finally:
            blocks.close()

    def _little(self) -> list[bytes]:
        """The parts of a snapshot before the entries."""
        head = Head(
            FORMAT, self.volume, self.copies, self.chunk_size, self.next_inode, self.tables.folders[ROOT],
            self.servers.table, *self._counts(),
        )  # fmt: skip
        return [encode(head), *held_parts(self.writes, self.pins, self._orphans, self.tables)]

    def _counts(self) -> tuple[int, int, int, int]:
        """How many entries, puts, pins and orphans there are."""
        pins = sum(len(held) for held in self.pins.held.values())
        return len(self.tables.entries), len(self.writes.puts), pins, len(self._orphans)

    def restore(self, parts: Iterable[bytes]) -> None:
        """Take over the state of a snapshot. Raises `Corrupt`, and is then of no use."""
        remaining = iter(parts)
        head = decode_head(next(remaining, b""))
        self.volume, self.copies, self.chunk_size = head.volume, head.copies, head.chunk_size
        self.next_inode = head.next_inode
        self._set_up(Tables(), Servers(head.servers))
        try:
            self.tables.load(self._take_over(remaining))
            self.tables.folders[ROOT] = head.root
            self._derive()
        except (*UNDECODABLE, LookupError) as error:
            raise Corrupt(f"what a snapshot says of files and servers does not fit together: {error!r}") from error
        should_be = head.entry_count, head.put_count, head.pin_count, head.orphan_count
        if self._counts() != should_be:
            raise Corrupt(f"a snapshot has {self._counts()} entries, puts, pins and orphans; it says {should_be}")
        self._events = []

    def _take_over(self, parts: Iterable[bytes]) -> Iterator[Block]:
        """What sessions hold; the blocks are handed on."""
        for part in map(decode_part, parts):
            match part:
                case Block():
                    yield part
                case PutsPart(puts):
                    for inode, put in puts:
                        self.writes.add(inode, put)
                case PinsPart(pins):
                    for session, inode, times in pins:
                        self.pins.add(session, inode, times)
                case OrphansPart(orphans):
                    self._orphans.update(dict.fromkeys([inode for inode, _ in orphans]))
                    self.tables.leaves.update(orphans)
                case Head():
                    raise Corrupt("a snapshot has two heads")

    def _derive(self) -> None:
        """What follows from puts and inodes: room reserved, counts, and what each server should hold."""
        self.writes.reserve_all()
        self.file_count = self.byte_count = 0
        for inode, packed in self.tables.leaves.items():
            record = decode_record(packed)
            if isinstance(record, File):
                self.servers.expect(inode, chunks_of(record), 1)
                if inode not in self._orphans:
                    self.file_count += 1
                    self.byte_count += record.size

    def digest(self) -> int:
        """64 bits of all of it: equal for equal states. It takes as long as a snapshot."""
        digest = blake2b(digest_size=8)
        for part in itertools.chain(self._little(), self.tables.blocks()):
            digest.update(part)
        return int.from_bytes(digest.digest(), "big")
