"""Disks that lie: what is not as it was written is named, set aside, never deleted, and healed by a copy."""

from __future__ import annotations

import pytest

from nodes.files.chunks import content_crc, file_size
from nodes.files.messages import BLOCK_SIZE, CopyChunk, DropChunks, MissingChunk, ReadChecksums, ReadChunk, chunk_id
from nodes.files.server import VOLUME_FILES
from tests.nodes.files.servers import CHUNK, VOLUME, Stage, content_of
from zactor.errors import Corrupt
from zactor.world import Operation, Read

A, B = "store/0", "store/1"
CONTENT = content_of(1_000_000)
SMALL = chunk_id(6, 0)
DAY_NS = 86_400 * 10**9


def flip(stage: Stage, offset: int, name: str = A) -> None:
    """Flip a bit of a chunk's file."""
    stage.sealed_file(name, CONTENT)[offset] ^= 4


def heal(stage: Stage, content: bytes, chunk: int = CHUNK) -> None:
    sources = stage.chain((B,))
    stage.ask(A, CopyChunk(chunk=chunk, size=len(content), crc=content_crc(content), sources=sources))


@pytest.fixture
def stage() -> Stage:
    stage = Stage(2)
    stage.put(CONTENT, (A, B))
    return stage


@pytest.mark.parametrize("block", [0, 1, 14, 15])
def test_a_flipped_bit_is_named_set_aside_and_healed(stage: Stage, block: int) -> None:
    flip(stage, min(block * BLOCK_SIZE + 77, len(CONTENT) - 1))

    with pytest.raises(Corrupt, match=f"chunk 0000000000050000 on store/0: block {block} is not what was written"):
        stage.read_all(A, len(CONTENT))

    found = stage.survey(A)
    assert (found.damaged, found.used, any(found.digests)) == ((CHUNK,), 0, False)
    assert stage.server(A).damaged() == (CHUNK,)
    assert [file for file in stage.files(A) if file.startswith("aside/000001.")]
    assert stage.events("block_corrupt")
    with pytest.raises(MissingChunk, match="it is damaged"):
        stage.read(A, 1)
    stage.kill(A)
    stage.restart(A)
    assert stage.survey(A).damaged == (CHUNK,), "a restart does not forget it"
    heal(stage, CONTENT)
    assert stage.survey(A).damaged == ()
    assert stage.survey(A).digests == stage.survey(B).digests
    assert stage.read_all(A, len(CONTENT)) == CONTENT
    assert [file for file in stage.files(A) if file.startswith("aside/")], "nothing is deleted"


@pytest.mark.parametrize("at", range(len(CONTENT), file_size(len(CONTENT)), 7))
def test_a_flipped_bit_in_a_footer_is_found_too(at: int) -> None:
    stage = Stage(1)
    stage.put(CONTENT, (A,))
    flip(stage, at)
    stage.kill(A)
    stage.restart(A)

    with pytest.raises(Corrupt, match="the footer"):
        stage.ask(A, ReadChecksums(chunk=CHUNK))

    assert stage.survey(A).damaged == (CHUNK,)


@pytest.mark.parametrize("size", [0, 1, BLOCK_SIZE, len(CONTENT), file_size(len(CONTENT)) - 1])
def test_a_truncated_chunk_is_set_aside_at_the_start(stage: Stage, size: int) -> None:
    stage.kill(A)
    del stage.sealed_file(A, CONTENT)[size:]
    stage.restart(A)

    assert stage.survey(A).damaged == (CHUNK,)
    assert stage.held(A) == []
    assert stage.events("chunk_corrupt")
    heal(stage, CONTENT)
    assert stage.read_all(A, len(CONTENT)) == CONTENT


def test_a_chunk_that_became_longer_is_set_aside_at_the_start(stage: Stage) -> None:
    stage.kill(A)
    stage.sealed_file(A, CONTENT).extend(b"x")
    stage.restart(A)

    assert stage.survey(A).damaged == (CHUNK,)


def test_a_chunk_that_is_cut_while_the_server_runs_is_found_when_it_is_read(stage: Stage) -> None:
    del stage.sealed_file(A, CONTENT)[500_000:]

    with pytest.raises(Corrupt, match="the footer has 0 bytes"):
        stage.read_all(A, len(CONTENT))


def test_a_chunk_whose_file_was_taken_away_is_healed(stage: Stage) -> None:
    stage.disk.files.pop((A, stage.files(A, ".chunk")[0]))

    with pytest.raises(Corrupt):
        stage.read(A, 1)

    assert stage.survey(A).damaged == (CHUNK,)
    assert stage.events("file_lost")
    heal(stage, CONTENT)
    assert stage.read_all(A, len(CONTENT)) == CONTENT


def test_a_chunk_that_was_damaged_twice_is_set_aside_twice(stage: Stage) -> None:
    for _ in range(2):
        flip(stage, 5)
        with pytest.raises(Corrupt):
            stage.read(A, 1 << 20)
        heal(stage, CONTENT)

    assert len([file for file in stage.files(A) if file.startswith("aside/")]) == 2


def misread_once(stage: Stage) -> None:
    """Let the next reading of a chunk be wrong in its page, and not on the disk."""
    perform = stage.disk.perform

    def misread(operation: Operation) -> object:
        found = perform(operation)
        if not isinstance(operation, Read) or not found:
            return found
        stage.disk.perform = perform  # type: ignore[method-assign]
        return found[:-1] + bytes([found[-1] ^ 1])

    stage.disk.perform = misread  # type: ignore[method-assign]


def test_one_bad_reading_proves_nothing(stage: Stage) -> None:
    stage.store(b"small one", (A,), SMALL)
    for chunk, content in ((CHUNK, CONTENT), (SMALL, b"small one")):
        misread_once(stage)
        assert stage.read(A, len(content), chunk) == content
    assert len(stage.events("misread")) == 2
    assert stage.survey(A).damaged == ()


def test_the_chunk_of_another_name_is_not_taken_for_this_one(stage: Stage) -> None:
    other, chunk = content_of(len(CONTENT), 5), chunk_id(9, 0)
    stage.put(other, (A,), chunk)
    stage.kill(A)
    stage.sealed_file(A, CONTENT)[:] = stage.sealed_file(A, other, chunk)
    stage.restart(A)

    with pytest.raises(Corrupt, match="that of chunk 0000000000090000"):
        stage.read(A, 100)


# --- in segments
def test_a_flipped_bit_of_a_small_chunk_is_found_and_healed(stage: Stage) -> None:
    stage.store(b"before", (A,), chunk_id(7, 0))
    stage.store(b"small one", (A, B), SMALL)
    stage.store(b"after", (A,), chunk_id(8, 0))
    segment = stage.disk.files[A, "00000001.open"]
    segment[segment.index(b"small one") + 3] ^= 1

    with pytest.raises(Corrupt, match="chunk 0000000000060000 on store/0: its record"):
        stage.read(A, 100, SMALL)

    assert stage.survey(A).damaged == (SMALL,)
    assert stage.read(A, 100, chunk_id(7, 0)) == b"before"
    assert stage.read(A, 100, chunk_id(8, 0)) == b"after"
    heal(stage, b"small one", SMALL)
    assert stage.survey(A).damaged == ()
    stage.kill(A)
    stage.restart(A)
    assert stage.read(A, 100, SMALL) == b"small one"


@pytest.mark.parametrize("at", range(0, 82, 3))
def test_rot_in_one_record_does_not_touch_the_next(at: int) -> None:
    stage = Stage(1)
    chunks = {chunk_id(inode, 0): bytes([65 + inode]) * 20 for inode in (1, 2, 3)}
    for chunk, content in chunks.items():
        stage.store(content, (A,), chunk)
    stage.kill(A)
    stage.disk.files[A, "00000001.open"][at] ^= 1
    stage.restart(A)

    lost = list(chunks)[at // 41]
    assert [held.chunk for held in stage.held(A)] == [chunk for chunk in chunks if chunk != lost]
    assert stage.events("segment_torn")


@pytest.mark.parametrize("at", range(-1, -68, -5))
def test_rot_in_the_index_of_a_segment_loses_nothing(at: int) -> None:
    stage = Stage(1, segment_size=70_000)
    for inode in range(1, 5):
        stage.store(content_of(30_000, inode), (A,), chunk_id(inode, 0))
    stage.run(1.0)
    stage.kill(A)
    assert "00000001.segment" in stage.files(A)
    stage.disk.files[A, "00000001.segment"][at] ^= 1
    stage.restart(A)
    stage.run(1.0)

    assert stage.events("index_corrupt")
    for inode in range(1, 5):
        assert stage.read(A, 1 << 16, chunk_id(inode, 0)) == content_of(30_000, inode)
    stage.kill(A)
    stage.restart(A)
    assert len(stage.events("index_corrupt")) == 1, "it has a new one"


def test_a_segment_with_damaged_records_is_not_merged_before_they_are_healed() -> None:
    stage = Stage(2, segment_size=70_000)
    for inode in range(1, 5):
        stage.store(content_of(30_000, inode), (A, B), chunk_id(inode, 0))
    segment = stage.disk.files[A, "00000001.segment"]
    segment[40_000] ^= 1  # in the second of its two

    stage.drop(A, chunk_id(1, 0))
    stage.run(1.0)

    assert stage.survey(A).damaged == (chunk_id(2, 0),), "the merge has found it"
    assert stage.disk.files[A, "00000001.segment"] is segment
    heal(stage, content_of(30_000, 2), chunk_id(2, 0))
    stage.survey(A)
    stage.run(1.0)
    assert stage.disk.files.get((A, "00000001.segment")) is not segment
    assert stage.read(A, 1 << 16, chunk_id(2, 0)) == content_of(30_000, 2)


def test_a_record_that_is_found_damaged_during_a_merge_is_not_merged_away() -> None:
    content = content_of(30_000, 4)
    wrong = content[:7] + b"!" + content[8:]
    for wait_us in range(400, 900, 10):
        stage = Stage(1, segment_size=70_000)
        for inode in range(1, 7):
            stage.store(content_of(30_000, inode), (A,), chunk_id(inode, 0))
        segment = stage.disk.files[A, "00000002.segment"]
        segment[bytes(segment).index(content) + 7] = ord("!")
        stage.begin(A, DropChunks(volume=VOLUME, chunks=(chunk_id(3, 0), chunk_id(1, 0))))
        stage.run(wait_us / 1e6)
        stage.begin(A, ReadChunk(chunk=chunk_id(4, 0), offset=0, size=100_000))
        stage.run(1.0)

        assert stage.survey(A).damaged == (chunk_id(4, 0),)
        assert any(wrong in bytes(file) for file in stage.disk.files.values()), f"after {wait_us} µs"


# --- scrubbing
def test_a_scrub_looks_at_everything_once_a_round() -> None:
    stage = Stage(2, scrub_every=7 * DAY_NS, segment_size=70_000)
    big = content_of(9_000_000)
    stage.put(CONTENT, (A, B))
    stage.put(big, (A, B), chunk_id(69, 0))  # of the same bucket
    for inode in range(100, 120):
        stage.store(content_of(10_000, inode), (A, B), chunk_id(inode, 0))
    stage.sealed_file(A, big, chunk_id(69, 0))[8_900_000] ^= 1
    flip(stage, 999_999)
    small = next(
        content
        for (folder, _), content in stage.disk.files.items()
        if folder == A and content_of(10_000, 110) in bytes(content)
    )
    small[bytes(small).index(content_of(10_000, 110)) + 10] ^= 1

    stage.run(8 * 86_400)

    assert stage.survey(A).damaged == (CHUNK, chunk_id(69, 0), chunk_id(110, 0))
    assert stage.survey(B).damaged == ()


def test_a_scrub_takes_its_time_and_goes_round_for_ever() -> None:
    stage = Stage(1, scrub_every=DAY_NS)
    stage.put(CONTENT, (A,))
    stage.run(5 * 86_400)
    assert stage.survey(A).damaged == ()

    flip(stage, 5)
    stage.run(2 * 86_400)

    assert stage.survey(A).damaged == (CHUNK,)
    assert stage.virtual.events < 3_000


def test_a_scrub_writes_again_whose_the_chunks_are() -> None:
    stage = Stage(1, scrub_every=DAY_NS)
    stage.put(CONTENT, (A,))
    file = stage.disk.files[A, VOLUME_FILES[0]]
    good = bytes(file)
    file[9] ^= 1

    stage.run(2 * 86_400)

    assert bytes(file) == good


def test_without_a_scrub_nothing_is_looked_at(stage: Stage) -> None:
    flip(stage, 5)

    stage.run(30 * 86_400)

    assert stage.survey(A).damaged == ()


def test_what_reads_otherwise_each_time_is_not_believed(stage: Stage) -> None:
    stage.store(b"small one", (A,), SMALL)
    perform, readings = stage.disk.perform, iter(range(1, 7))

    def misread(operation: Operation) -> object:
        found = perform(operation)
        is_segment = isinstance(operation, Read) and operation.file.endswith(".open") and found
        number = next(readings, 0) if is_segment else 0
        return bytes([number]) * len(found) if number else found

    stage.disk.perform = misread  # type: ignore[method-assign]
    stage.kill(A)
    stage.restart(A)
    stage.run(5.0)

    assert "reads otherwise each time" in stage.events("handler_failed")[0]["error"]
    assert stage.read(A, 9, SMALL) == b"small one"
