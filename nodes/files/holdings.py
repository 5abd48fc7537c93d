"""What a file server holds: all its sealed chunks, where they are, and digests by which they are compared. Pure.

A chunk is one integer beside its id (segment, offset, size, crc), since there can be millions of small ones. Chunks
are kept by bucket, so that a bucket is listed without a look at the others, and each bucket's digest is kept up with
every change.
"""

from __future__ import annotations

import heapq

import msgspec

from .messages import BUCKETS, Held, HeldPage, held_digest, inode_of

CRC_BITS, SIZE_BITS, OFFSET_BITS = 32, 27, 28
"""Sizes up to a whole large chunk; offsets up to 256 MiB in a segment."""

_CRC, _SIZE, _OFFSET = ((1 << bits) - 1 for bits in (CRC_BITS, SIZE_BITS, OFFSET_BITS))
_SIZE_AT, _OFFSET_AT, _SEGMENT_AT = CRC_BITS, CRC_BITS + SIZE_BITS, CRC_BITS + SIZE_BITS + OFFSET_BITS


class Place(msgspec.Struct, frozen=True):
    """A sealed chunk: what it is, and in which segment at which offset. In segment 0 it has a file of its own."""

    size: int
    crc: int
    segment: int = 0
    offset: int = 0


def bucket_of(chunk: int) -> int:
    """The bucket that a chunk is compared in."""
    return inode_of(chunk) % BUCKETS


class Holdings:
    """All sealed chunks. `used` is the bytes of their contents, `digests` those of the buckets."""

    def __init__(self) -> None:
        self._buckets: list[dict[int, int]] = [{} for _ in range(BUCKETS)]
        self.digests = [0] * BUCKETS
        self.used = 0
        self.count = 0

    def get(self, chunk: int) -> Place | None:
        """Where a chunk is; None when it is not there."""
        packed = self._buckets[bucket_of(chunk)].get(chunk)
        if packed is None:
            return None
        return Place(packed >> _SIZE_AT & _SIZE, packed & _CRC, packed >> _SEGMENT_AT, packed >> _OFFSET_AT & _OFFSET)

    def add(self, chunk: int, place: Place) -> None:
        """A chunk is there, in the place of what there was."""
        self.remove(chunk)
        assert place.size <= _SIZE, f"{place} is too large"
        assert place.offset <= _OFFSET, f"{place} is too far in its segment"
        bucket = bucket_of(chunk)
        packed = place.segment << _SEGMENT_AT | place.offset << _OFFSET_AT | place.size << _SIZE_AT | place.crc
        self._buckets[bucket][chunk] = packed
        self.digests[bucket] ^= held_digest(chunk, place.size, place.crc)
        self.used += place.size
        self.count += 1

    def remove(self, chunk: int) -> Place | None:
        """A chunk is there no more. Returns where it was."""
        place = self.get(chunk)
        if place is not None:
            bucket = bucket_of(chunk)
            del self._buckets[bucket][chunk]
            self.digests[bucket] ^= held_digest(chunk, place.size, place.crc)
            self.used -= place.size
            self.count -= 1
        return place

    def ids(self, bucket: int, after: int, limit: int) -> list[int]:
        """The lowest ids of a bucket that are above `after`."""
        return heapq.nsmallest(limit, (chunk for chunk in self._buckets[bucket] if chunk > after))

    def page(self, bucket: int, after: int, limit: int) -> HeldPage:
        """The same as an answer."""
        ids = self.ids(bucket, after, limit + 1)
        places = [(chunk, self.get(chunk)) for chunk in ids[:limit]]
        held = tuple(Held(chunk, place.size, place.crc, True) for chunk, place in places if place is not None)
        return HeldPage(held, len(ids) > limit)
