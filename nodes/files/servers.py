"""The table of file servers: who is there, how much room each has, and what each should hold.

A server has a number, given once, which is what inodes say. Its free room is what it reported, less what is reserved
for puts under way and what was committed since. What it should hold is kept as one XOR a bucket (`held_digest`), which
follows every change and can be derived again from the inodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from .messages import BUCKETS, NoRoom, NotFound, WrongVolume, chunk_id, held_digest
from .operations import Report, ServerSpace
from .placement import Candidate, choose, footprint, lot_of
from .tables import Stored

LISTED_MAX = 8
"""File servers named in one error."""


class Server(msgspec.Struct, array_like=True):
    """A file server as it is known. `fresh`: bytes committed to it since it reported its room."""

    name: str
    store: int
    zone: str
    capacity: int
    used: int
    room: int
    is_up: bool = True
    fresh: int = 0


class Load(msgspec.Struct):
    """What follows for a server from the puts and files: bytes reserved, and the chunks that it should hold."""

    reserved: int
    chunks: int
    digests: list[int]


class Servers:
    """All file servers that ever reported, by number."""

    def __init__(self, table: Iterable[Server] = ()) -> None:
        self.table = list(table)
        self.loads = [Load(0, 0, [0] * BUCKETS) for _ in self.table]
        self.numbers = {server.name: number for number, server in enumerate(self.table)}

    # --- who is there
    def report(self, report: Report) -> None:
        """A server is there. Raises `WrongVolume` when its store is neither the one that it had nor empty."""
        number = self.numbers.get(report.server)
        for other, server in enumerate(self.table):
            if server.store == report.store and other != number:
                raise WrongVolume(
                    f"{report.server} has the store {report.store:#x}, which is that of {server.name}; "
                    "give each server the folder that it had"
                )
            if server.store != report.store and other == number and report.used:
                raise WrongVolume(
                    f"{report.server} has the store {report.store:#x}, and had {server.store:#x} before; "
                    "give it the folder that it had, or an empty one"
                )
        known = Server(report.server, report.store, report.zone, report.capacity, report.used, report.room)
        if number is not None:
            self.table[number] = known
            return
        self.numbers[report.server] = len(self.table)
        self.table.append(known)
        self.loads.append(Load(0, 0, [0] * BUCKETS))

    def lost(self, name: str) -> None:
        """A server does not answer."""
        self.table[self.number(name)].is_up = False

    def number(self, name: str) -> int:
        """The number of a server. Raises `NotFound`."""
        number = self.numbers.get(name)
        if number is None:
            raise NotFound(f"no file server {name} ever reported")
        return number

    def names(self, numbers: Iterable[int]) -> tuple[str, ...]:
        """The names of servers."""
        table = self.table
        return tuple([table[number].name for number in numbers])

    def up(self, numbers: Iterable[int]) -> list[int]:
        """Those of them that are there."""
        return [number for number in numbers if self.table[number].is_up]

    # --- room
    def free(self, number: int) -> int:
        """Bytes that may still be promised on a server."""
        server = self.table[number]
        return max(0, server.room - self.loads[number].reserved - server.fresh)

    def place(self, chunk: int, room: int, count: int, have: Sequence[int], avoid: Iterable[int]) -> tuple[int, ...]:
        """`count` servers with that much room for a chunk, its `footprint`, beside those that have it.

        Raises `NoRoom`.
        """
        unfit = {*have, *avoid}
        candidates = [
            Candidate(number, server.zone, self.free(number))
            for number, server in enumerate(self.table)
            if server.is_up and number not in unfit and self.free(number) >= room
        ]
        chosen = choose(candidates, count, lot_of(chunk, room), [self.table[number].zone for number in have])
        if len(chosen) < count:
            raise self.no_room(count, room)
        return chosen

    def no_room(self, count: int, size: int) -> NoRoom:
        """Why there is no place for `count` copies of so many bytes."""
        lost = [server.name for server in self.table if not server.is_up]
        rooms = [f"{server.name} {self.free(number)}" for number, server in enumerate(self.table) if server.is_up]
        return NoRoom(
            f"{count} file servers with room for {size} bytes are needed; free: {_listed(rooms)}; lost: {_listed(lost)}"
        )

    def reserve(self, numbers: Iterable[int], size: int) -> None:
        """Promise so many bytes on each; fewer than none gives them back."""
        for number in numbers:
            self.loads[number].reserved += size

    # --- what they should hold
    def expect(self, inode: int, chunks: Iterable[Stored], sign: int, first: int = 0) -> None:
        """Chunks of a file, from index `first` on, should be (sign 1) or should no longer be (-1) where they say."""
        bucket, chunk, loads = inode % BUCKETS, chunk_id(inode, first), self.loads
        for stored in chunks:
            digest = held_digest(chunk, stored.size, stored.crc)
            chunk += 1
            for number in stored.servers:
                load = loads[number]
                load.digests[bucket] ^= digest
                load.chunks += sign

    def committed(self, chunks: Iterable[Stored]) -> None:
        """So much less room than was reported."""
        for stored in chunks:
            for number in stored.servers:
                self.table[number].fresh += footprint(stored.size)

    def space(self) -> tuple[ServerSpace, ...]:
        """How full they are."""
        return tuple(
            ServerSpace(
                server.name, server.zone, server.is_up, server.capacity, server.used + server.fresh, load.reserved,
                self.free(number) if server.is_up else 0, load.chunks,
            )
            for number, (server, load) in enumerate(zip(self.table, self.loads, strict=True))
        )  # fmt: skip


def _listed(words: list[str]) -> str:
    """A few of them, for people."""
    more = [f"and {len(words) - LISTED_MAX} more"] if len(words) > LISTED_MAX else []
    return ", ".join(words[:LISTED_MAX] + more) or "none"
