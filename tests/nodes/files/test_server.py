"""A file server by itself and in a chain: what it takes, what it refuses, and what it says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.files.chunks import block_checksums, content_crc, pack_checksums
from nodes.files.messages import (
    BLOCK_SIZE,
    BUCKETS,
    CHUNK_SIZE_MAX,
    FRAME_SIZE,
    SMALL_SIZE_MAX,
    BadFrame,
    ChainBroken,
    CopyChunk,
    Held,
    MissingChunk,
    NoRoom,
    ReadChecksums,
    ReadChunk,
    SetAside,
    StaleVersion,
    Survey,
    WriteChunk,
    WrongVolume,
    chunk_id,
    held_digest,
)
from nodes.files.server import VOLUME_FILES
from tests.nodes.files.servers import CHUNK, NAMES, VOLUME, Stage, content_of
from zactor.errors import Corrupt
from zactor.world import Write

A, B, C = NAMES
CONTENT = content_of(3 * FRAME_SIZE + 1000)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def write_message(**changes: Any) -> WriteChunk:
    content = changes.pop("content", content_of(FRAME_SIZE))
    fields: dict[str, Any] = {
        "chunk": CHUNK,
        "version": 1,
        "chain": (),
        "offset": 0,
        "checksums": block_checksums(content),
    }
    return WriteChunk(content=content, **(fields | changes))


# --- along the chain
@pytest.mark.parametrize("size", [1, BLOCK_SIZE, FRAME_SIZE, FRAME_SIZE + 1, 1_500_000])
@pytest.mark.parametrize("copies", [1, 2, 3])
def test_a_chunk_that_was_sealed_is_on_all_servers_of_its_chain(stage: Stage, size: int, copies: int) -> None:
    content = content_of(size)

    stage.put(content, NAMES[:copies])

    for name in NAMES[:copies]:
        assert stage.read_all(name, size) == content
        assert stage.server(name).sealed(CHUNK) == (size, content_crc(content))
    assert bool(stage.files(C, ".chunk")) == (copies == 3)


@pytest.mark.parametrize("size", [0, 1, SMALL_SIZE_MAX])
def test_a_small_chunk_is_on_all_servers_that_took_it(stage: Stage, size: int) -> None:
    content = content_of(size)

    stage.store(content, NAMES)

    for name in NAMES:
        assert stage.read(name, SMALL_SIZE_MAX) == content
        assert stage.server(name).sealed(CHUNK) == (size, content_crc(content))
        assert stage.files(name, "00000001.open")


def test_what_comes_is_passed_on_before_it_is_written(stage: Stage) -> None:
    world = stage.virtual.processes[A]
    begin = world.begin
    world.begin = lambda token, operation: None if isinstance(operation, Write) else begin(token, operation)  # type: ignore[method-assign]

    for message in stage.frames(CONTENT, NAMES):
        stage.begin(A, message)
    stage.run(0.1)

    for name in (B, C):
        assert bytes(stage.disk.files[name, stage.files(name, ".tmp")[0]]) == CONTENT


def test_small_chunks_that_come_together_share_syncs(stage: Stage) -> None:
    asked = [stage.begin(A, stage.small(b"x" * 100, chunk_id(inode, 0))) for inode in range(1, 200)]
    before = stage.virtual.now_ns

    for each in asked:
        stage.virtual.result(each)

    assert stage.virtual.now_ns - before < 199 * 200_000 / 4  # the disk's time for a sync is 200 µs


@pytest.mark.parametrize("position", [1, 2])
def test_a_chain_that_breaks_says_where_and_goes_on_without(stage: Stage, position: int) -> None:
    dead, left = NAMES[position], [name for name in NAMES if name != NAMES[position]]
    stage.write(CONTENT[: 2 * FRAME_SIZE], NAMES)
    stage.kill(dead)

    with pytest.raises(ChainBroken, match=f"^{dead}: "):
        stage.write(CONTENT, NAMES, offset=2 * FRAME_SIZE)

    for name in left:
        assert stage.reopen(name, 2, 2 * FRAME_SIZE) == Held(CHUNK, 2 * FRAME_SIZE, 0, False)
    stage.write(CONTENT, left, version=2, offset=2 * FRAME_SIZE)
    stage.seal(CONTENT, left, version=2)
    assert [stage.read_all(name, len(CONTENT)) for name in left] == [CONTENT, CONTENT]


def test_a_chain_whose_head_dies_goes_on_behind_it(stage: Stage) -> None:
    stage.write(CONTENT, NAMES)
    stage.kill(A)

    for name in (B, C):
        assert stage.reopen(name, 2, len(CONTENT)).size == len(CONTENT)
    stage.seal(CONTENT, (B, C), version=2)

    assert stage.read_all(C, len(CONTENT)) == CONTENT


@pytest.mark.parametrize("position", [1, 2])
def test_a_seal_says_who_did_not_do_it_and_is_done_by_the_others(stage: Stage, position: int) -> None:
    stage.write(CONTENT, NAMES)
    stage.kill(NAMES[position])

    with pytest.raises(ChainBroken, match=f"^{NAMES[position]}: "):
        stage.seal(CONTENT, NAMES)

    assert stage.reopen(A, 2, len(CONTENT)) == Held(CHUNK, len(CONTENT), content_crc(CONTENT), True)


def test_a_server_that_was_down_is_passed_on_to_again(stage: Stage) -> None:
    stage.put(b"before", NAMES, chunk_id(6, 0))
    stage.kill(B)
    stage.run(1.0)
    with pytest.raises(ChainBroken, match=r"^store/1: it is down"):
        stage.put(CONTENT, NAMES, chunk_id(7, 0))
    stage.restart(B)

    stage.put(CONTENT, NAMES)

    assert stage.read_all(C, len(CONTENT)) == CONTENT


def test_a_server_that_was_never_heard_of_and_is_down_is_the_one_that_is_named(stage: Stage) -> None:
    stage.kill(C)

    with pytest.raises(ChainBroken, match=r"^store/2: AskTimeout"):
        stage.put(CONTENT, NAMES)


def test_windows_of_many_clients_wait_for_room_behind_and_break_no_chain(stage: Stage) -> None:
    doors = [stage.virtual.outside(process) for process in ("probe", B, C)]
    content = content_of(48 * FRAME_SIZE)
    asked = [
        (door, door.ask(door.to(A), frame, 60.0))
        for inode, door in enumerate(doors, 1)
        for frame in stage.frames(content, (A, B), chunk_id(inode, 0))
    ]

    for _, each in asked:
        stage.virtual.result(each)

    for inode in (1, 2, 3):
        stage.seal(content, (A, B), chunk_id(inode, 0))
        assert stage.read_all(B, len(content), chunk_id(inode, 0)) == content


def test_a_frame_that_changed_on_its_way_is_not_passed_on(stage: Stage) -> None:
    content = content_of(FRAME_SIZE)
    wrong = content[:70_000] + b"!" + content[70_001:]

    with pytest.raises(Corrupt, match="block 1 changed on its way"):
        stage.ask(A, write_message(content=wrong, checksums=block_checksums(content), chain=stage.chain((B,))))

    assert not stage.files(A, ".tmp")
    assert not stage.files(B, ".tmp")


@pytest.mark.parametrize(
    "changes",
    [
        {"offset": FRAME_SIZE},
        {"offset": 3 * FRAME_SIZE},
        {"offset": 2 * FRAME_SIZE + 1},
        {"content": b"", "offset": 2 * FRAME_SIZE},
        {"content": content_of(FRAME_SIZE + 1), "offset": 2 * FRAME_SIZE},
        {"offset": 0},
    ],
)
def test_a_frame_that_is_not_the_next_is_refused_and_changes_nothing(stage: Stage, changes: dict[str, Any]) -> None:
    stage.write(CONTENT[: 2 * FRAME_SIZE], (A,))

    with pytest.raises(BadFrame):
        stage.ask(A, write_message(**changes))

    stage.write(CONTENT, (A,), offset=2 * FRAME_SIZE)
    stage.seal(CONTENT, (A,))


def test_a_frame_with_too_few_checksums_is_refused(stage: Stage) -> None:
    with pytest.raises(Corrupt):
        stage.ask(A, write_message(checksums=block_checksums(content_of(FRAME_SIZE))[:-1]))


def test_a_block_that_is_short_can_only_be_the_last(stage: Stage) -> None:
    stage.write(b"x" * 100, (A,))

    with pytest.raises(BadFrame):
        stage.ask(A, write_message(offset=100))


def test_a_chunk_ends_at_its_largest_size() -> None:
    stage = Stage(1)
    content = bytes(CHUNK_SIZE_MAX)
    stage.write(content, (A,))

    with pytest.raises(BadFrame):
        stage.ask(A, write_message(offset=CHUNK_SIZE_MAX))

    stage.seal(content, (A,))
    assert stage.survey(A).used == CHUNK_SIZE_MAX


def test_a_frame_of_a_chunk_that_is_not_there_is_refused(stage: Stage) -> None:
    with pytest.raises(MissingChunk):
        stage.ask(A, write_message(offset=FRAME_SIZE))


# --- versions
def test_an_older_version_is_refused_by_all_that_could_change_a_chunk(stage: Stage) -> None:
    stage.write(CONTENT[:FRAME_SIZE], (A,), version=1)
    stage.reopen(A, 3, FRAME_SIZE)

    for version in (1, 2):
        with pytest.raises(StaleVersion):
            stage.write(CONTENT, (A,), version=version, offset=FRAME_SIZE)
        with pytest.raises(StaleVersion):
            stage.seal(CONTENT[:FRAME_SIZE], (A,), version=version)
        with pytest.raises(StaleVersion):
            stage.reopen(A, version, FRAME_SIZE)
        with pytest.raises(StaleVersion):
            stage.ask(A, write_message(version=version))


def test_a_higher_version_begins_anew_at_offset_0_and_else_is_to_be_opened_first(stage: Stage) -> None:
    stage.write(CONTENT[: 2 * FRAME_SIZE], (A,))

    with pytest.raises(MissingChunk, match="reopen it"):
        stage.write(CONTENT, (A,), version=2, offset=2 * FRAME_SIZE)
    with pytest.raises(MissingChunk, match="reopen it"):
        stage.seal(CONTENT[: 2 * FRAME_SIZE], (A,), version=2)
    stage.write(b"another", (A,), version=2)
    stage.seal(b"another", (A,), version=2)

    assert stage.read(A, 100) == b"another"
    assert not stage.files(A, ".tmp")


def test_reopening_cuts_what_was_not_acknowledged(stage: Stage) -> None:
    stage.write(CONTENT, (A,))

    assert stage.reopen(A, 2, FRAME_SIZE).size == FRAME_SIZE
    other = CONTENT[:FRAME_SIZE] + content_of(70_000, 9)
    stage.write(other, (A,), version=2, offset=FRAME_SIZE)
    stage.seal(other, (A,), version=2)

    assert stage.read_all(A, len(other)) == other


@pytest.mark.parametrize("crash", ["kill", "lose_power"])
def test_a_version_outlives_a_crash_and_so_does_what_was_synced(stage: Stage, crash: str) -> None:
    stage.write(CONTENT, (A,))
    stage.reopen(A, 2, FRAME_SIZE)
    stage.write(CONTENT, (A,), version=2, offset=FRAME_SIZE)
    stage.put(b"x", (A,), chunk_id(9, 0))  # its sync is one for all files

    getattr(stage, crash)(A)
    stage.restart(A)

    with pytest.raises(StaleVersion):
        stage.reopen(A, 1, FRAME_SIZE)
    with pytest.raises(MissingChunk, match="reopen it"):
        stage.seal(CONTENT, (A,), version=2)
    assert stage.reopen(A, 3, len(CONTENT)).size == len(CONTENT)
    stage.seal(CONTENT, (A,), version=3)
    assert stage.read_all(A, len(CONTENT)) == CONTENT


def test_a_version_that_was_answered_outlives_a_power_failure(stage: Stage) -> None:
    stage.write(CONTENT, (A,))
    stage.reopen(A, 2, FRAME_SIZE)

    stage.lose_power(A)
    stage.restart(A)

    with pytest.raises(StaleVersion):
        stage.reopen(A, 1, 0)


def test_what_a_power_failure_took_cannot_be_reopened(stage: Stage) -> None:
    stage.write(CONTENT, (A,))
    stage.reopen(A, 2, len(CONTENT))

    stage.lose_power(A)
    stage.restart(A)

    with pytest.raises(MissingChunk, match=f"has 0 bytes, not {len(CONTENT)}"):
        stage.reopen(A, 3, len(CONTENT))


def test_a_partial_whose_bytes_changed_in_a_crash_is_not_sealed(stage: Stage) -> None:
    stage.write(CONTENT, (A,))
    stage.kill(A)
    stage.disk.files[A, stage.files(A, ".tmp")[0]][70_000] ^= 1
    stage.restart(A)
    stage.reopen(A, 2, len(CONTENT))

    with pytest.raises(Corrupt):
        stage.seal(CONTENT, (A,), version=2)


def test_of_two_partials_of_one_chunk_the_higher_version_counts(stage: Stage) -> None:
    stage.write(CONTENT, (A,), version=2)
    stage.kill(A)
    stage.disk.files[A, f"{CHUNK:016x}.00000001.tmp"] = bytearray(b"old")
    stage.restart(A)

    assert stage.files(A, ".tmp") == [f"{CHUNK:016x}.00000002.tmp"]
    assert stage.reopen(A, 3, len(CONTENT)).size == len(CONTENT)


# --- sealing
def test_sealing_and_storing_again_is_done_too(stage: Stage) -> None:
    stage.put(CONTENT, (A,))
    stage.seal(CONTENT, (A,))
    stage.store(b"x", (A,), chunk_id(6, 0))
    stage.store(b"x", (A,), chunk_id(6, 0))

    assert stage.read(A, 1, chunk_id(6, 0)) == b"x"
    with pytest.raises(ChainBroken, match="store/1: MissingChunk"):
        stage.seal(CONTENT, (A, B))


def test_a_sealed_chunk_never_changes(stage: Stage) -> None:
    stage.put(CONTENT, (A,))
    stage.store(b"x", (A,), chunk_id(6, 0))

    with pytest.raises(MissingChunk, match="is sealed"):
        stage.ask(A, write_message(version=9))
    with pytest.raises(MissingChunk):
        stage.seal(b"other", (A,))
    with pytest.raises(BadFrame, match="another content"):
        stage.store(b"other", (A,))
    with pytest.raises(BadFrame, match="another content"):
        stage.store(b"y", (A,), chunk_id(6, 0))
    assert stage.read_all(A, len(CONTENT)) == CONTENT


def test_a_seal_with_another_size_or_checksum_is_refused(stage: Stage) -> None:
    stage.write(CONTENT, (A,))

    with pytest.raises(BadFrame):
        stage.seal(CONTENT + b"x", (A,))
    with pytest.raises(Corrupt):
        stage.seal(content_of(len(CONTENT), 9), (A,))
    stage.seal(CONTENT, (A,))


def test_a_seal_whose_asker_gives_up_is_made_or_not_but_never_half(stage: Stage) -> None:
    outcomes = set()
    for timeout_us in range(100, 2_000, 100):
        stage = Stage(1)
        stage.write(CONTENT, (A,))
        stage.begin(A, stage.sealing(CONTENT, (A,)), timeout_us / 1e6)
        stage.run(0.1)

        outcomes.add(stage.reopen(A, 2, len(CONTENT)).is_sealed)
        stage.seal(CONTENT, (A,), version=2)
        assert stage.read_all(A, len(CONTENT)) == CONTENT
    assert outcomes == {True, False}


def test_a_chunk_is_reopened_when_its_seal_has_ended(stage: Stage) -> None:
    stage.write(CONTENT, (A,))
    sealing = stage.begin(A, stage.sealing(CONTENT, (A,)))

    assert stage.reopen(A, 2, 0).is_sealed
    stage.virtual.result(sealing)


def test_a_chunk_that_is_dropped_while_it_is_sealed_stays_dropped(stage: Stage) -> None:
    stage.write(CONTENT, (A,))
    sealing = stage.begin(A, stage.sealing(CONTENT, (A,)))
    stage.drop(A, CHUNK)

    with pytest.raises(MissingChunk, match="was dropped"):
        stage.virtual.result(sealing)
    assert not stage.files(A, ".chunk")
    assert not stage.files(A, ".tmp")


# --- what it says of itself
def test_an_inventory_says_what_there_is(stage: Stage) -> None:
    stage.put(CONTENT, (A,))
    stage.store(b"x", (A,), chunk_id(6, 0))
    stage.write(CONTENT, (A,), chunk_id(7, 0))

    found = stage.survey(A)

    assert found.used == len(CONTENT) + 1
    assert found.room == found.capacity - found.used
    assert found.partials == (chunk_id(7, 0),)
    assert found.digests[5] == held_digest(CHUNK, len(CONTENT), content_crc(CONTENT))
    assert found.digests[6] == held_digest(chunk_id(6, 0), 1, content_crc(b"x"))
    assert sum(map(bool, found.digests)) == 2
    assert stage.server(A).status() == "chunks: 2, 769KiB of 10GiB"


@pytest.mark.parametrize("crash", ["kill", "lose_power"])
def test_what_it_holds_is_the_same_after_a_crash(stage: Stage, crash: str) -> None:
    stage.put(CONTENT, (A,))
    for index in range(20):
        stage.store(content_of(index * 100), (A,), chunk_id(6 + index, 0))
    stage.drop(A, chunk_id(7, 0), chunk_id(100, 0))
    stage.store(b"last", (A,), chunk_id(99, 0))
    before = stage.survey(A)

    getattr(stage, crash)(A)
    stage.restart(A)

    assert stage.survey(A) == before
    assert stage.read(A, SMALL_SIZE_MAX, chunk_id(20, 0)) == content_of(1_400)


def test_room_counts_what_is_being_written_as_free_since_it_is_reserved_elsewhere() -> None:
    stage = Stage(1)
    stage.disk.capacity_bytes = 10 << 20
    before = stage.survey(A).room

    stage.write(CONTENT, (A,))

    assert stage.survey(A).room == before


def test_a_bucket_is_listed_page_by_page(stage: Stage) -> None:
    ids = [chunk_id(inode, 0) for inode in range(1, 2_200 * BUCKETS, BUCKETS)]
    for asked in [stage.begin(A, stage.small(b"x", chunk)) for chunk in ids]:
        stage.virtual.result(asked)

    assert [each.chunk for each in stage.held(A)] == ids
    assert stage.held(A)[0] == Held(ids[0], 1, content_crc(b"x"), True)


def test_what_is_dropped_is_gone_in_whatever_state_it_was(stage: Stage) -> None:
    small, partial = chunk_id(6, 0), chunk_id(7, 0)
    stage.put(CONTENT, (A,))
    stage.store(b"x", (A,), small)
    stage.write(CONTENT, (A,), partial)

    stage.drop(A, CHUNK, small, partial, chunk_id(8, 0))

    assert stage.held(A) == []
    assert not stage.files(A, ".chunk")
    assert not stage.files(A, ".tmp")
    found = stage.survey(A)
    assert (found.used, found.partials, any(found.digests)) == (0, (), False)
    for chunk in (CHUNK, small):
        with pytest.raises(MissingChunk):
            stage.read(A, 1, chunk)


def test_what_is_set_aside_is_kept_apart_and_not_listed(stage: Stage) -> None:
    small, partial = chunk_id(6, 0), chunk_id(7, 0)
    stage.put(CONTENT, (A,))
    stage.store(b"small one", (A,), small)
    stage.write(CONTENT, (A,), partial)

    stage.ask(A, SetAside(volume=VOLUME, chunks=(CHUNK, small, partial, chunk_id(8, 0))))

    assert stage.held(A) == []
    aside = [file for file in stage.files(A) if file.startswith("aside/")]
    assert len(aside) == 3
    assert b"small one" in bytes(stage.disk.files[A, aside[1]])
    found = stage.survey(A)
    assert (found.damaged, found.partials) == ((), ())


# --- copies
def copy_message(content: bytes, sources: tuple[str, ...]) -> CopyChunk:
    refs = Stage.chain(sources)
    return CopyChunk(chunk=CHUNK, size=len(content), crc=content_crc(content), sources=refs)


@pytest.mark.parametrize("size", [0, 1, SMALL_SIZE_MAX, SMALL_SIZE_MAX + 1, 10_000_000])
def test_a_copy_is_as_the_chunk_was_sealed(stage: Stage, size: int) -> None:
    content = content_of(size)
    if size <= SMALL_SIZE_MAX:
        stage.store(content, (A,))
    else:
        stage.put(content, (A,))

    stage.ask(B, copy_message(content, (A,)))
    stage.ask(B, copy_message(content, (C,)))  # it is there already

    stage.lose_power(B)
    stage.restart(B)
    assert stage.read_all(B, size) == content
    assert stage.survey(A).digests == stage.survey(B).digests


def test_a_large_chunk_of_few_bytes_can_be_copied(stage: Stage) -> None:
    stage.put(b"x", (A,))

    stage.ask(B, copy_message(b"x", (A,)))

    assert stage.read(B, 1) == b"x"
    assert stage.survey(A).digests == stage.survey(B).digests


@pytest.mark.parametrize("bad", ["dead", "without", "corrupt"])
def test_a_copy_is_made_from_whoever_has_it(stage: Stage, bad: str) -> None:
    content = content_of(5_000_000)
    stage.put(content, (A, B))
    if bad == "dead":
        stage.kill(A)
    elif bad == "without":
        stage.drop(A, CHUNK)
    else:
        stage.sealed_file(A, content)[3_000_000] ^= 1

    stage.ask(C, copy_message(content, (A, B)))

    assert stage.read_all(C, len(content)) == content


def test_a_chunk_that_nobody_has_cannot_be_copied_and_nothing_of_it_stays(stage: Stage) -> None:
    stage.put(CONTENT, (A,))

    with pytest.raises(MissingChunk, match="store/1 is not there"):
        stage.ask(C, copy_message(CONTENT, (B,)))
    with pytest.raises(Corrupt, match="other checksums"):
        stage.ask(C, copy_message(content_of(len(CONTENT), 2), (A,)))
    stage.sealed_file(A, CONTENT)[3] ^= 1
    with pytest.raises(MissingChunk, match="it is damaged"):
        stage.ask(C, copy_message(CONTENT, (A,)))

    assert stage.files(C) == ["volume", "volume.again"]


# --- room
def test_a_full_server_refuses_what_has_no_room_and_keeps_what_it_has() -> None:
    stage = Stage(1, capacity=2_000_000)
    stage.put(content_of(1_500_000), (A,))

    with pytest.raises(NoRoom, match=r"it may use 1\.907MiB"):
        stage.write(content_of(1_000_000), (A,), chunk_id(6, 0))

    assert stage.read_all(A, 1_500_000) == content_of(1_500_000)
    assert not stage.files(A, ".tmp")
    assert stage.survey(A).room == 500_000
    stage.put(content_of(400_000), (A,), chunk_id(7, 0))


@pytest.mark.parametrize("left", [0, 100, FRAME_SIZE + 100, len(CONTENT), len(CONTENT) + 10])
def test_a_full_disk_takes_nothing_until_there_is_room_again(stage: Stage, left: int) -> None:
    stage.put(CONTENT, (A,))
    stage.store(b"x", (A,), chunk_id(6, 0))
    stage.disk.capacity_bytes = sum(map(len, stage.disk.files.values())) + left

    with pytest.raises(NoRoom):
        stage.put(CONTENT, (A,), chunk_id(7, 0))
    with pytest.raises(NoRoom):
        stage.store(b"y", (A,), chunk_id(8, 0))

    assert stage.survey(A).room == 0
    assert not stage.files(A, ".tmp")
    assert len(stage.events("no_room")) == 1
    assert stage.server(A).status().endswith(", full")
    assert stage.read_all(A, len(CONTENT)) == CONTENT
    assert stage.read(A, 1, chunk_id(6, 0)) == b"x"

    stage.disk.capacity_bytes += 3 << 20
    assert stage.survey(A).room > 1 << 20
    assert len(stage.events("room_again")) == 1
    stage.put(CONTENT, (A,), chunk_id(7, 0))
    stage.store(b"y", (A,), chunk_id(8, 0))
    stage.kill(A)
    stage.restart(A)
    assert stage.read(A, 1, chunk_id(8, 0)) == b"y"


def test_a_small_chunk_that_found_no_room_is_in_no_index() -> None:
    stage = Stage(1, segment_size=100_000)
    stage.store(content_of(30_000, 1), (A,), chunk_id(1, 0))
    stage.disk.capacity_bytes = sum(map(len, stage.disk.files.values())) + 100
    with pytest.raises(NoRoom):
        stage.store(content_of(30_000, 2), (A,), chunk_id(2, 0))
    stage.disk.capacity_bytes += 10 << 20
    stage.survey(A)
    for inode in (3, 4, 5):
        stage.store(content_of(30_000, inode), (A,), chunk_id(inode, 0))
    stage.run(1.0)
    assert "00000001.segment" in stage.files(A)

    stage.kill(A)
    stage.restart(A)

    assert [held.chunk >> 16 for held in stage.held(A)] == [1, 3, 4, 5]
    for inode in (1, 3, 4, 5):
        assert stage.read(A, 30_000, chunk_id(inode, 0)) == content_of(30_000, inode)


def test_a_full_disk_in_the_chain_breaks_it(stage: Stage) -> None:
    full = Stage(3, capacity=100)

    with pytest.raises(NoRoom):
        full.put(CONTENT, (A, B))
    full.server(A).capacity = 1 << 30
    with pytest.raises(ChainBroken, match="store/1: NoRoom"):
        full.put(CONTENT, (A, B))


def test_a_copy_for_which_there_is_no_room_leaves_nothing(stage: Stage) -> None:
    stage.put(CONTENT, (A,))
    stage.disk.capacity_bytes = sum(map(len, stage.disk.files.values())) + len(CONTENT) // 2

    with pytest.raises(NoRoom):
        stage.ask(B, copy_message(CONTENT, (A,)))

    assert stage.files(B) == ["volume", "volume.again"]


# --- whose it is
def test_a_server_takes_nothing_before_its_first_survey() -> None:
    stage = Stage(1, bound=False)

    with pytest.raises(WrongVolume, match="has not heard from its metadata server"):
        stage.put(CONTENT, (A,))
    with pytest.raises(WrongVolume):
        stage.store(b"x", (A,))
    with pytest.raises(WrongVolume):
        stage.drop(A, CHUNK)
    assert stage.survey(A).store == stage.survey(A).store
    stage.put(CONTENT, (A,))


@pytest.mark.parametrize("crash", ["kill", "lose_power"])
def test_a_server_keeps_to_one_volume_and_its_disk_to_one_number(stage: Stage, crash: str) -> None:
    before = stage.survey(A)
    getattr(stage, crash)(A)
    stage.restart(A)

    assert stage.survey(A) == before
    assert before.store != stage.survey(B).store
    with pytest.raises(WrongVolume, match="keeps chunks of volume 0000000000000007, not of 0000000000000008"):
        stage.ask(A, Survey(volume=8))


def test_a_store_of_another_server_is_named_and_does_nothing(stage: Stage) -> None:
    stage.put(CONTENT, (A,))
    stage.kill(A)
    stage.kill(B)
    for (folder, file), content in list(stage.disk.files.items()):
        if folder == A:
            stage.disk.files[B, file] = content
    stage.restart(B)

    for asked in (
        Survey(volume=VOLUME),
        SetAside(volume=VOLUME, chunks=(CHUNK,)),
        ReadChunk(chunk=CHUNK, offset=0, size=1),
        ReadChecksums(chunk=CHUNK),
        write_message(chunk=9),
        stage.small(b"x"),
    ):
        with pytest.raises(WrongVolume, match="the disk of store/1 is that of store/0: its state folder was swapped"):
            stage.ask(B, asked)
    with pytest.raises(WrongVolume):
        stage.drop(B, CHUNK)
    assert stage.files(B, ".chunk")
    assert [fields["server"] for fields in stage.events("wrong_store")] == [A]


def spoil(stage: Stage, file: str, damage: str) -> None:
    if damage == "lost":
        del stage.disk.files[A, file]
    else:
        stage.disk.files[A, file][9] ^= 1


@pytest.mark.parametrize("damage", ["lost", "rotten"])
def test_chunks_of_which_nobody_says_whose_they_are_stop_the_server(stage: Stage, damage: str) -> None:
    stage.put(CONTENT, (A,))
    stage.kill(A)
    for file in VOLUME_FILES:
        spoil(stage, file, damage)
    stage.restart(A)

    assert "its files volume and volume.again are lost or damaged" in stage.events("handler_failed")[0]["error"]


@pytest.mark.parametrize("damage", ["lost", "rotten"])
@pytest.mark.parametrize("file", VOLUME_FILES)
def test_one_file_that_says_whose_the_chunks_are_is_enough(stage: Stage, file: str, damage: str) -> None:
    stage.put(CONTENT, (A,))
    kept = bytes(stage.disk.files[A, file])
    stage.kill(A)
    spoil(stage, file, damage)
    stage.restart(A)

    assert stage.read_all(A, len(CONTENT)) == CONTENT
    assert stage.disk.files[A, file] == kept


# --- reading
def test_a_piece_is_of_whole_blocks_and_ends_with_the_chunk(stage: Stage) -> None:
    stage.put(CONTENT, (A,))

    assert stage.read(A, 1 << 20, offset=BLOCK_SIZE) == CONTENT[BLOCK_SIZE:]
    for offset, size in ((1, 10), (0, 0), (0, (1 << 20) + 1), (100 * BLOCK_SIZE, 1)):
        with pytest.raises(BadFrame):
            stage.read(A, size, offset=offset)
    with pytest.raises(MissingChunk):
        stage.read(A, 1, chunk_id(77, 0))


def test_the_checksums_of_a_chunk_are_those_of_its_blocks(stage: Stage) -> None:
    stage.put(CONTENT, (A,))
    stage.store(b"x", (A,), chunk_id(6, 0))

    assert stage.ask(A, ReadChecksums(chunk=CHUNK)) == pack_checksums(block_checksums(CONTENT))
    assert stage.ask(A, ReadChecksums(chunk=chunk_id(6, 0))) == pack_checksums(block_checksums(b"x"))
