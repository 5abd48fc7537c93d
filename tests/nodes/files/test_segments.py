"""Segments: their layout, which of their records are needed, and a store of them against a dictionary."""

from __future__ import annotations

import random

import pytest

from nodes.files.chunks import content_crc
from nodes.files.holdings import Holdings, Place
from nodes.files.messages import SMALL_SIZE_MAX, Held, chunk_id, held_digest
from nodes.files.segments import (
    END_SIZE,
    OVERHEAD,
    Entry,
    Ledger,
    Segment,
    SegmentName,
    chunk_record,
    closing_records,
    content_of,
    index_offset,
    read_index,
    scan_segment,
    tombstone_record,
)
from tests.nodes.files.servers import Stage
from zactor.journal import record

A = "store/0"


def segment_of(*contents: bytes) -> tuple[bytes, list[Entry]]:
    """A segment with chunks 1, 2, ... and a tombstone, and its entries."""
    content, entries = b"", []
    for chunk, each in enumerate(contents, 1):
        entries.append(Entry(chunk, len(content), len(each), content_crc(each)))
        content += chunk_record(chunk, each)
    entries.append(Entry(99, len(content), 0, 0, is_tombstone=True))
    return content + tombstone_record(99), entries


# --- layout
def test_a_segment_without_an_index_is_found_by_its_records() -> None:
    content, entries = segment_of(b"", b"a", b"b" * SMALL_SIZE_MAX)

    found = scan_segment(content)

    assert found.entries == entries
    assert found.lost_bytes == 0
    for entry in entries[:-1]:
        stored = content[entry.offset : entry.offset + entry.record_size]
        assert content_of(stored, entry.chunk, entry.crc) is not None


def test_an_index_says_what_a_segment_holds() -> None:
    content, entries = segment_of(b"a", b"bc")
    sealed = content + closing_records(entries, len(content))

    offset = index_offset(sealed[-END_SIZE:])

    assert offset == len(content)
    assert read_index(sealed[offset:-END_SIZE]) == entries
    assert scan_segment(sealed).entries == entries, "the index itself is no entry"


@pytest.mark.parametrize("at", range(3 * (OVERHEAD + 20)))
def test_whole_records_behind_a_damaged_one_count(at: int) -> None:
    content, entries = segment_of(b"x" * 20, b"y" * 20, b"z" * 20)
    wrong = bytearray(content)
    wrong[at] ^= 0x41

    found = scan_segment(bytes(wrong))

    hit = at // (OVERHEAD + 20)
    assert found.entries == entries[:hit] + entries[hit + 1 :]
    assert found.lost_bytes == OVERHEAD + 20


@pytest.mark.parametrize("cut", range(1, 2 * OVERHEAD + 3))
def test_a_torn_end_costs_what_is_torn(cut: int) -> None:
    content, entries = segment_of(b"x" * 20, b"y")

    found = scan_segment(content[:-cut])

    assert found.entries == [each for each in entries if each.offset + each.record_size <= len(content) - cut]


def test_a_hole_where_a_write_was_lost_costs_that_write() -> None:
    content, entries = segment_of(b"x" * 2000, b"y" * 2000, b"z")
    hole = content[: OVERHEAD + 2000] + bytes(OVERHEAD + 2000) + content[2 * (OVERHEAD + 2000) :]

    assert scan_segment(hole).entries == [entries[0], *entries[2:]]


def test_what_is_no_index_is_not_taken_for_one() -> None:
    assert index_offset(b"") is None
    assert index_offset(tombstone_record(5)) is None
    assert read_index(tombstone_record(5)) is None
    assert read_index(record(b"I" + b"x" * 20)) is None
    assert read_index(b"") is None


def test_a_record_of_another_chunk_or_content_is_not_taken() -> None:
    stored = chunk_record(5, b"hello")

    assert content_of(stored, 5, content_crc(b"hello")) == b"hello"
    assert content_of(stored, 6, content_crc(b"hello")) is None
    assert content_of(stored, 5, content_crc(b"hellp")) is None
    assert content_of(stored[:-1], 5, content_crc(b"hello")) is None
    assert content_of(b"", 5, 0) is None


def test_a_name_says_number_and_kind() -> None:
    assert str(SegmentName(17)) == "00000011.segment"
    for name in (SegmentName(17), SegmentName(1, "open"), SegmentName(2, "merged")):
        assert SegmentName.parse(str(name)) == name
    assert SegmentName.parse("volume") is None


# --- what is needed
def ledger_of(*sizes: tuple[int, int]) -> Ledger:
    """Sealed segments 1, 2, ... with these bytes, of which so many are needed."""
    ledger = Ledger()
    for number, (size, needed) in enumerate(sizes, 1):
        ledger.segments[number] = Segment(number, size, needed)
    return ledger


@pytest.mark.parametrize(
    ("sizes", "merged"),
    [
        ([], []),
        ([(100, 100)], []),
        ([(100, 50)], []),
        ([(100, 49)], [1]),
        ([(100, 0)], [1]),
        ([(100, 90), (100, 20)], [2]),
        ([(100, 100), (10, 10), (10, 10), (10, 10)], []),
        ([(100, 100), (10, 10), (10, 10), (10, 10), (10, 10)], [2, 3, 4, 5]),
        ([(10, 10), (100, 90), (10, 10), (10, 10), (10, 10)], []),
        ([(20, 20), (20, 20), (20, 20), (20, 20)], []),
    ],
)
def test_segments_are_merged_when_that_frees_half_or_many_files(
    sizes: list[tuple[int, int]], merged: list[int]
) -> None:
    assert ledger_of(*sizes).to_merge(list(range(1, len(sizes) + 1)), 100) == merged


def test_a_tombstone_is_needed_as_long_as_an_older_record_is_on_the_disk() -> None:
    ledger = ledger_of((100, 0), (100, 0), (100, 0))
    first, second = Entry(5, 0, 10, 1), Entry(5, 0, 10, 1)
    tombstone = Entry(5, 30, 0, 0, is_tombstone=True)
    ledger.stored(1, first, None)
    ledger.stored(2, second, (1, 10))
    ledger.dropped(3, tombstone, (2, 10))
    assert [segment.needed for segment in ledger.segments.values()] == [0, 0, OVERHEAD]

    ledger.erased(second)
    assert ledger.is_needed(3, tombstone, None)
    ledger.erased(first)
    assert not ledger.is_needed(3, tombstone, None)
    assert ledger.segments[3].needed == 0


def test_of_two_tombstones_in_one_segment_the_newer_is_needed() -> None:
    ledger = ledger_of((100, 0), (100, 0))
    older, newer = (Entry(5, offset, 0, 0, is_tombstone=True) for offset in (0, 90))
    ledger.stored(1, Entry(5, 0, 10, 1), None)
    ledger.dropped(2, older, (1, 10))
    ledger.stored(2, Entry(5, 30, 10, 1), None)
    ledger.dropped(2, newer, (2, 10))

    assert not ledger.is_needed(2, older, None)
    assert ledger.is_needed(2, newer, None)
    assert ledger.segments[2].needed == OVERHEAD


def test_a_tombstone_of_what_was_stored_again_is_not_needed() -> None:
    ledger = ledger_of((100, 0), (100, 0), (100, 0))
    tombstone = Entry(5, 0, 0, 0, is_tombstone=True)
    ledger.stored(1, Entry(5, 0, 10, 1), None)
    ledger.dropped(2, tombstone, (1, 10))
    ledger.stored(3, Entry(5, 0, 10, 1), None)

    assert not ledger.is_needed(2, tombstone, (3, 0))
    assert [segment.needed for segment in ledger.segments.values()] == [0, 0, OVERHEAD + 10]
    ledger.dropped(3, Entry(5, 50, 0, 0, is_tombstone=True), (3, 10))
    ledger.erased(Entry(5, 0, 10, 1))
    assert ledger.is_needed(3, Entry(5, 50, 0, 0, is_tombstone=True), None), "the one in 3 is still there"


# --- holdings
def test_holdings_keep_what_they_are_given() -> None:
    holdings = Holdings()
    large = Place(64 << 20, 0xFFFFFFFF)
    small = Place(0, 0, 0xFFFFFF, (256 << 20) - 1)
    holdings.add(chunk_id(1, 0), large)
    holdings.add(chunk_id(65, 3), small)

    assert holdings.get(chunk_id(1, 0)) == large
    assert holdings.get(chunk_id(65, 3)) == small
    assert (holdings.used, holdings.count) == (64 << 20, 2)
    assert holdings.digests[1] == held_digest(chunk_id(1, 0), 64 << 20, 0xFFFFFFFF) ^ held_digest(chunk_id(65, 3), 0, 0)
    assert holdings.page(1, 0, 1).chunks == (Held(chunk_id(1, 0), 64 << 20, 0xFFFFFFFF, True),)
    assert holdings.page(1, 0, 1).more
    assert not holdings.page(1, chunk_id(1, 0), 1).more
    assert holdings.remove(chunk_id(1, 0)) == large
    assert holdings.remove(chunk_id(1, 0)) is None
    holdings.remove(chunk_id(65, 3))
    assert (holdings.used, holdings.count, any(holdings.digests)) == (0, 0, False)


# --- a whole store
@pytest.mark.parametrize("crash", ["kill", "lose_power"])
@pytest.mark.parametrize("seed", range(6))
def test_a_store_of_segments_is_a_dictionary_that_outlives_crashes(seed: int, crash: str) -> None:
    chance = random.Random(seed)
    stage = Stage(1, segment_size=70_000)
    model: dict[int, bytes] = {}
    dropped: set[int] = set()

    for step in range(300):
        chunk = chunk_id(chance.randrange(1, 60), 0)
        what = chance.random()
        if what < 0.55 and chunk not in dropped:
            # Stored again with the same bytes, as a repair would.
            model[chunk] = bytes([chunk >> 16]) * ((chunk >> 16) * 400)
            stage.store(model[chunk], (A,), chunk)
        elif what < 0.9 and model:
            gone = chance.choice(sorted(model))
            del model[gone]
            dropped |= {gone} if crash == "lose_power" else set()
            stage.drop(A, gone)
        elif what > 0.97:
            stage.run(chance.random())
            getattr(stage, crash)(A)
            stage.restart(A)
        if step % 10 == 0:
            held = {each.chunk: each for each in stage.held(A)}
            assert held.keys() >= model.keys()
            assert held.keys() - model.keys() <= dropped
            for key, content in model.items():
                assert stage.read(A, SMALL_SIZE_MAX, key) == content
    assert stage.survey(A).digests == tuple(digests_of(stage))
    assert not stage.events("index_corrupt")

    stage.drop(A, *[each.chunk for each in stage.held(A)])
    stage.run(1.0)
    left = sum(len(content) for (_, file), content in stage.disk.files.items() if file.endswith(".segment"))
    assert left < 35_000, "what nobody needs does not stay"


def digests_of(stage: Stage) -> list[int]:
    """The digests that a list of all gives."""
    digests = [0] * 64
    for each in stage.held(A):
        digests[(each.chunk >> 16) % 64] ^= held_digest(each.chunk, each.size, each.crc)
    return digests


def test_a_merge_for_which_there_is_no_room_is_not_begun() -> None:
    stage = Stage(1, segment_size=70_000)
    for inode in range(1, 10):
        stage.store(bytes([inode]) * 30_000, (A,), chunk_id(inode, 0))
    stage.run(1.0)
    stage.disk.capacity_bytes = sum(map(len, stage.disk.files.values())) + 1000

    stage.drop(A, *[chunk_id(inode, 0) for inode in (1, 3, 5)])
    stage.run(1.0)

    assert stage.events("no_room_to_merge")
    assert not stage.events("segments_merged")
    stage.disk.capacity_bytes += 2 << 20
    stage.survey(A)
    stage.run(1.0)
    assert stage.events("segments_merged")
    for inode in (2, 4, 6, 7, 8, 9):
        assert stage.read(A, SMALL_SIZE_MAX, chunk_id(inode, 0)) == bytes([inode]) * 30_000
