"""Crashes of a file server between any two events: what was acknowledged is whole afterwards, by kill or power loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from nodes.files.chunks import content_crc
from nodes.files.messages import FRAME_SIZE, CopyChunk, DropChunks, SetAside, Survey, chunk_id
from tests.nodes.files.servers import CHUNK, VOLUME, Stage, content_of

A, B = "store/0", "store/1"
CONTENT = content_of(FRAME_SIZE + 100_000)
OLD = chunk_id(77, 0)
SEGMENT_SIZE = 70_000
CRASHES = pytest.mark.parametrize("crash", ["kill", "lose_power"])


def crashes_at_every_step(
    prepare: Callable[[], Stage], begin: Callable[[Stage], object], victim: str, crash: str
) -> Iterator[tuple[Stage, bool]]:
    """A stage after a crash at each step of what `begin` begins, restarted, and whether that was answered."""
    steps, answered = 0, False
    while not answered:
        stage = prepare()
        asked = begin(stage)
        until = stage.virtual.events + steps
        stage.virtual.run(until=lambda: asked.done or stage.virtual.events >= until)  # type: ignore[attr-defined] # noqa: B023
        answered = asked.done  # type: ignore[attr-defined]
        getattr(stage, crash)(victim)
        stage.restart(victim)
        yield stage, answered
        steps += 1
    assert steps > 10


def all_is_whole(stage: Stage, name: str) -> None:
    """Whatever the server lists it can read, and nothing was set aside."""
    for held in stage.held(name):
        assert content_crc(stage.read_all(name, held.size, held.chunk)) == held.crc
    assert not [file for file in stage.files(name) if file.startswith("aside/")]
    assert stage.survey(name).damaged == ()


@CRASHES
@pytest.mark.parametrize("victim", [A, B])
def test_a_chunk_whose_seal_was_answered_is_whole_and_else_is_whole_or_can_be_sealed_again(
    victim: str, crash: str
) -> None:
    def prepare() -> Stage:
        stage = Stage(2)
        stage.write(CONTENT, (A, B))
        return stage

    outcomes = set()
    for stage, answered in crashes_at_every_step(
        prepare, lambda stage: stage.begin(A, stage.sealing(CONTENT, (A, B))), victim, crash
    ):
        all_is_whole(stage, victim)
        sealed = stage.server(victim).sealed(CHUNK)
        outcomes.add(sealed)
        assert sealed in (None, (len(CONTENT), content_crc(CONTENT)))
        assert sealed or not answered
        if sealed:
            assert stage.read_all(victim, len(CONTENT)) == CONTENT
        elif crash == "kill":
            stage.reopen(victim, 2, len(CONTENT))
            stage.seal(CONTENT, (victim,), version=2)
    assert len(outcomes) == 2


@CRASHES
def test_a_chunk_that_was_sealed_again_after_a_crash_outlives_the_next(crash: str) -> None:
    """What a crash left in the page cache may count as clean there; the second answer must not trust it."""
    for stage, _ in crashes_at_every_step(
        lambda: Stage(1), lambda stage: stage.begin(A, stage.small(b"x" * 1000)), A, crash
    ):
        stage.store(b"x" * 1000, (A,))
        stage.lose_power(A)
        stage.restart(A)
        assert stage.read(A, 1000) == b"x" * 1000


@CRASHES
def test_small_chunks_that_were_answered_are_whole(crash: str) -> None:
    def prepare() -> Stage:
        stage = Stage(1, segment_size=SEGMENT_SIZE)
        stage.store(b"old", (A,), OLD)
        return stage

    def begin(stage: Stage) -> object:
        for index in range(1, 5):
            stage.begin(A, stage.small(content_of(20_000, index), chunk_id(index, 0)))
        return stage.begin(A, stage.small(content_of(20_000)))

    for stage, answered in crashes_at_every_step(prepare, begin, A, crash):
        all_is_whole(stage, A)
        assert stage.read(A, 3, OLD) == b"old"
        if answered:
            assert stage.read(A, 20_000) == content_of(20_000)
        stage.store(b"new", (A,), chunk_id(99, 0))
        assert stage.read(A, 3, chunk_id(99, 0)) == b"new"


@CRASHES
def test_segments_are_merged_without_a_moment_in_which_something_could_be_lost(crash: str) -> None:
    kept = [chunk_id(inode, 0) for inode in range(2, 20, 3)]
    dropped = [chunk_id(inode, 0) for inode in range(1, 20) if chunk_id(inode, 0) not in kept]

    def prepare() -> Stage:
        stage = Stage(1, segment_size=SEGMENT_SIZE)
        for inode in range(1, 20):
            stage.store(content_of(20_000, inode), (A,), chunk_id(inode, 0))
        stage.drop(A, dropped[0])
        return stage

    class Merged:
        """Done when the segments are merged, and what the merge made superfluous is removed."""

        def __init__(self, stage: Stage) -> None:
            self._stage = stage

        @property
        def done(self) -> bool:
            merged = self._stage.events("segments_merged")
            return len(merged) > 1 and not self._stage.server(A)._store.segments.needs_tending

    def begin(stage: Stage) -> Merged:
        stage.begin(A, DropChunks(volume=VOLUME, chunks=tuple(dropped)))
        return Merged(stage)

    steps = 0
    for stage, _ in crashes_at_every_step(prepare, begin, A, crash):
        all_is_whole(stage, A)
        for chunk in kept:
            assert stage.read(A, 20_000, chunk) == content_of(20_000, chunk >> 16)
        stage.drop(A, *dropped)
        stage.run(1.0)
        assert [held.chunk for held in stage.held(A)] == sorted(kept, key=lambda chunk: (chunk >> 16) % 64)
        assert not stage.files(A, ".merged")
        steps += 1
    assert steps > 50


@CRASHES
def test_a_copy_that_was_answered_is_whole_and_else_is_whole_or_absent(crash: str) -> None:
    def prepare() -> Stage:
        stage = Stage(2)
        stage.put(CONTENT, (A,))
        return stage

    message = CopyChunk(chunk=CHUNK, size=len(CONTENT), crc=content_crc(CONTENT), sources=Stage.chain((A,)))
    outcomes = set()
    for stage, answered in crashes_at_every_step(prepare, lambda stage: stage.begin(B, message), B, crash):
        all_is_whole(stage, B)
        outcomes.add(stage.server(B).sealed(CHUNK))
        assert stage.server(B).sealed(CHUNK) or not answered
        assert not stage.files(B, ".copy")
    assert len(outcomes) == 2


@CRASHES
def test_the_first_survey_binds_a_server_wholly_or_not_at_all(crash: str) -> None:
    for stage, _ in crashes_at_every_step(
        lambda: Stage(1, bound=False), lambda stage: stage.begin(A, Survey(volume=VOLUME)), A, crash
    ):
        stage.survey(A)
        stage.put(CONTENT, (A,))
        stage.lose_power(A)
        stage.restart(A)
        assert stage.read_all(A, len(CONTENT)) == CONTENT


@CRASHES
def test_what_is_set_aside_is_in_one_of_two_places(crash: str) -> None:
    def prepare() -> Stage:
        stage = Stage(1)
        stage.put(CONTENT, (A,))
        stage.store(b"small one", (A,), OLD)
        return stage

    message = SetAside(volume=VOLUME, chunks=(CHUNK, OLD))
    for stage, _ in crashes_at_every_step(prepare, lambda stage: stage.begin(A, message), A, crash):
        found = b"".join(bytes(content) for _, content in stage.disk.files.items())
        assert CONTENT in found
        assert b"small one" in found
