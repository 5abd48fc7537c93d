"""Puts under way and files being read: what sessions hold until they let go of it, or end.

A put is an inode that no name points to yet. Each of its chunks has a chain of servers with a version, which every
change of the chain raises, and room reserved on them. What was given to a put is nobody's garbage while it is open.
"""

from __future__ import annotations

import msgspec

from .messages import (
    CHUNKS_MAX,
    BadCommit,
    FileTooLarge,
    LeaseExpired,
    NoRoom,
    StaleVersion,
    TooMany,
    chunk_id,
)
from .operations import Allocate, Begun, Commit, Placed, Rechain, SealedChunk
from .placement import fits, footprint
from .servers import Servers
from .tables import Stored

PUTS_MAX = 4_096
"""Puts under way of one session."""

PINS_MAX = 65_536
"""Files that one session reads at once."""


class Place(msgspec.Struct, array_like=True):
    """Where a chunk of a put is: its chain, all servers that it was ever given, and the bytes reserved on the chain."""

    version: int
    servers: tuple[int, ...]
    given: tuple[int, ...]
    reserved: int


class Put(msgspec.Struct, array_like=True):
    """A file that is being written."""

    session: int
    copies: int
    chunk_size: int
    places: dict[int, Place]


class Freed(msgspec.Struct, frozen=True):
    """An event: a chunk that no file has any more, and who has or may have it. In the order of the log."""

    chunk: int
    servers: tuple[str, ...]


class Writes:
    """All puts under way, by inode."""

    def __init__(self, servers: Servers) -> None:
        self.puts: dict[int, Put] = {}
        self._servers = servers
        self._held: dict[int, dict[int, None]] = {}

    def put(self, session: int, inode: int) -> Put:
        """A put of that session. Raises `LeaseExpired`."""
        put = self.puts.get(inode)
        if put is None or put.session != session:
            raise LeaseExpired(f"inode {inode} is not a put under way of this session; begin again")
        return put

    # --- its life
    def begin(self, session: int, sizes: tuple[int | None, ...], inode: int, copies: int, chunk_size: int) -> Begun:
        """Puts with inodes from that one on. Raises `NoRoom`, `FileTooLarge`, `TooMany`: for all of them, or none."""
        if len(self._held.get(session, ())) + len(sizes) > PUTS_MAX:
            raise TooMany(f"a session has at most {PUTS_MAX} puts under way; commit or abandon some")
        self._check_room(sizes, copies, chunk_size)
        places: list[Place] = []
        try:
            for offset, size in enumerate(sizes):
                first = chunk_size if size is None else min(size, chunk_size)
                places.append(self._place(chunk_id(inode + offset, 0), first, copies))
        except NoRoom:
            for place in places:
                self._servers.reserve(place.servers, -place.reserved)
            raise
        inodes = tuple(range(inode, inode + len(sizes)))
        for number, place in zip(inodes, places, strict=True):
            self.add(number, Put(session, copies, chunk_size, {0: place}))
        return Begun(inodes, tuple(self._placed(place) for place in places), chunk_size, copies)

    def _check_room(self, sizes: tuple[int | None, ...], copies: int, chunk_size: int) -> None:
        """The whole of each known size must fit before a byte is sent."""
        rooms = [self._servers.free(number) for number in self._servers.up(range(len(self._servers.table)))]
        total = 0
        for size in sizes:
            chunks = -(-(size or 0) // chunk_size)
            if chunks > CHUNKS_MAX:
                raise FileTooLarge(f"{size} bytes are more than {CHUNKS_MAX} chunks of {chunk_size}")
            total += footprint(size or 0) + chunks * footprint(0)
        if not fits(rooms, total, copies):
            raise self._servers.no_room(copies, total)

    def add(self, inode: int, put: Put) -> None:
        """A put, with the room that it has reserved already."""
        self.puts[inode] = put
        self._held.setdefault(put.session, {})[inode] = None

    def _place(self, chunk: int, size: int, copies: int) -> Place:
        room = footprint(size)
        servers = self._servers.place(chunk, room, copies, (), ())
        self._servers.reserve(servers, room)
        return Place(1, servers, servers, room)

    def _placed(self, place: Place) -> Placed:
        return Placed(place.version, self._servers.names(place.servers))

    def allocate(self, session: int, change: Allocate) -> Placed:
        """The place of a chunk; the same one when asked again."""
        put = self.put(session, change.inode)
        place = put.places.get(change.index)
        if place is None:
            if change.index >= CHUNKS_MAX:
                raise FileTooLarge(f"a file has at most {CHUNKS_MAX} chunks of {put.chunk_size} bytes")
            size = min(change.size, put.chunk_size)
            place = self._place(chunk_id(change.inode, change.index), size, put.copies)
            put.places[change.index] = place
        return self._placed(place)

    def rechain(self, session: int, change: Rechain) -> Placed:
        """Another chain for a chunk, under the next version."""
        place = self.put(session, change.inode).places.get(change.index)
        if place is None or place.version != change.version:
            at = "was not allocated" if place is None else f"is at version {place.version}"
            raise StaleVersion(f"chunk {change.index} of inode {change.inode} {at}, not at {change.version}")
        wanted = {self._servers.number(name) for name in change.keep}
        keep = tuple([number for number in place.servers if number in wanted])
        if len(keep) != len(wanted):
            raise StaleVersion(f"the chain is {', '.join(self._servers.names(place.servers))}; keep some of these")
        avoid = [self._servers.numbers[name] for name in change.avoid if name in self._servers.numbers]
        room = place.reserved
        added = self._servers.place(chunk_id(change.inode, change.index), room, change.add, keep, avoid)
        self._servers.reserve(place.servers, -room)
        place.version += 1
        place.servers = keep + added
        place.given += tuple([number for number in added if number not in place.given])
        self._servers.reserve(place.servers, room)
        return self._placed(place)

    # --- its end
    def check(self, session: int, commit: Commit) -> tuple[Stored, ...]:
        """The chunks of a file that is to be committed. Raises `LeaseExpired`, `BadCommit`; changes nothing."""
        put = self.put(session, commit.inode)
        if sum(chunk.size for chunk in commit.chunks) != commit.size:
            raise BadCommit(f"the chunks do not add up to {commit.size} bytes")
        last = len(commit.chunks) - 1
        return tuple(
            [self._check_chunk(put, index, chunk, is_last=index == last) for index, chunk in enumerate(commit.chunks)]
        )

    def _check_chunk(self, put: Put, index: int, chunk: SealedChunk, *, is_last: bool) -> Stored:
        place = put.places.get(index)
        if place is None:
            raise BadCommit(f"chunk {index} was not allocated")
        if chunk.version != place.version:
            raise BadCommit(f"chunk {index} is at version {place.version}, not {chunk.version}")
        if chunk.size != put.chunk_size and not (is_last and 0 < chunk.size < put.chunk_size):
            raise BadCommit(f"chunk {index} has {chunk.size} bytes; all but the last have {put.chunk_size}, none has 0")
        servers = tuple([self._servers.number(name) for name in chunk.servers])
        if len(set(servers)) != len(servers) or len(servers) < put.copies:
            raise BadCommit(f"chunk {index} is on {chunk.servers}; it must be on {put.copies} different servers")
        if any(number not in place.servers for number in servers):
            raise BadCommit(
                f"chunk {index} is on {chunk.servers}, but its chain is {self._servers.names(place.servers)}"
            )
        return Stored(chunk.size, chunk.crc, servers)

    def end(self, inode: int, kept: tuple[Stored, ...] = ()) -> list[Freed]:
        """A put is over, and these of its chunks are a file's. What else it was given is free."""
        put = self.puts.pop(inode)
        held = self._held[put.session]
        del held[inode]
        if not held:
            del self._held[put.session]
        freed = []
        for index, place in sorted(put.places.items()):
            self._servers.reserve(place.servers, -place.reserved)
            stay = kept[index].servers if index < len(kept) else ()
            gone = [number for number in place.given if number not in stay]
            if gone:
                freed.append(Freed(chunk_id(inode, index), self._servers.names(gone)))
        return freed

    def of(self, session: int) -> list[int]:
        """The puts of a session, by inode."""
        return sorted(self._held.get(session, ()))

    def reserve_all(self) -> None:
        """Reserve again, on servers that know of no put, what all puts have."""
        for put in self.puts.values():
            for place in put.places.values():
                self._servers.reserve(place.servers, place.reserved)


class Pins:
    """Which inodes are being read, by how many, and by which sessions."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.held: dict[int, dict[int, int]] = {}

    def add(self, session: int, inode: int, times: int = 1) -> None:
        """A session reads an inode. Raises `TooMany`."""
        held = self.held.get(session, {})
        if inode not in held and len(held) >= PINS_MAX:
            raise TooMany(f"a session reads at most {PINS_MAX} files at once; end some")
        self.held.setdefault(session, held)[inode] = held.get(inode, 0) + times
        self.counts[inode] = self.counts.get(inode, 0) + times

    def remove(self, session: int, inode: int, times: int = 1) -> bool:
        """A session reads it no more; nothing happens when it did not. True when nobody reads it now."""
        held = self.held.get(session, {})
        if inode not in held:
            return False
        held[inode] -= times
        if not held[inode]:
            del held[inode]
        if not held:
            del self.held[session]
        self.counts[inode] -= times
        if self.counts[inode]:
            return False
        del self.counts[inode]
        return True
