"""Which file servers take a chunk: in different zones first, then by chance in proportion to their free room.

The chance is the chunk's id (`lot_of`), in integers alone, so that every copy of the namespace chooses the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .messages import BLOCK_SIZE, SMALL_SIZE_MAX, inode_of

CHECKSUM_SIZE = 4
TAIL_SIZE = 64
"""Bytes beside content and checksums that a chunk needs on a disk, at most: the tail of its file, or a segment's
record."""

NEIGHBOURS = 64
"""Inodes in a row whose small chunks go to the same servers."""


class Candidate(msgspec.Struct, frozen=True):
    """A file server that may be chosen: its number, its zone, and its free bytes."""

    number: int
    zone: str
    free: int


def footprint(size: int) -> int:
    """The bytes that a chunk takes on a disk, with its checksums."""
    return size + CHECKSUM_SIZE * (-(-size // BLOCK_SIZE)) + TAIL_SIZE


def lot_of(chunk: int, room: int) -> int:
    """By which number the servers of a chunk are drawn, which takes up to `room` bytes on a disk.

    Small ones that are put at one time go to the same, for one sync.
    """
    return chunk if room > footprint(SMALL_SIZE_MAX) else inode_of(chunk) // NEIGHBOURS


def choose(candidates: Sequence[Candidate], count: int, lot: int, used_zones: Sequence[str] = ()) -> tuple[int, ...]:
    """The numbers of `count` different candidates, or fewer if there are not as many; by a `lot`.

    `used_zones`: where there are copies already, one each.
    """
    copies = {candidate.zone: 0 for candidate in candidates}
    for zone in used_zones:
        copies[zone] = copies.get(zone, 0) + 1
    left = list(candidates)
    chosen: list[int] = []
    while left and len(chosen) < count:
        fewest = min(copies[candidate.zone] for candidate in left)
        fitting = [candidate for candidate in left if copies[candidate.zone] == fewest]
        taken = _draw(fitting, _mixed(lot, len(used_zones) + len(chosen)))
        copies[taken.zone] += 1
        left.remove(taken)
        chosen.append(taken.number)
    return tuple(chosen)


def fits(free: Sequence[int], size: int, copies: int) -> bool:
    """Whether `size` bytes fit, each of them on `copies` different ones of servers with that much free room.

    A server takes none of them twice, so more than `size` of its room is of no use.
    """
    return len(free) >= copies and sum(min(room, size) for room in free) >= copies * size


def _draw(candidates: Sequence[Candidate], lot: int) -> Candidate:
    """One of them: each as likely as it has room. A little more or less room makes no other of the same lot."""
    lot = lot * sum(candidate.free + 1 for candidate in candidates) >> 64
    for candidate in candidates:
        lot -= candidate.free + 1
        if lot < 0:
            return candidate
    raise AssertionError("the lot is below the sum")


def _mixed(lot: int, turn: int) -> int:
    """64 bits that look like chance (the finalizer of splitmix64)."""
    mixed = (lot + (turn + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return mixed ^ mixed >> 31
