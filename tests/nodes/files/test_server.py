"""A file server by itself and in a chain: what it takes, what it refuses, and what it says of itself."""

from __future__ import annotations

import pytest

from nodes.files.chunks import content_crc
from nodes.files.messages import BadFrame, ChainBroken, MissingChunk, StaleVersion, WriteChunk, chunk_id
from tests.nodes.files.servers import CHUNK, NAMES, Stage, content_of
from zactor.errors import Corrupt


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_chunk_that_was_sealed_is_on_all_servers_of_its_chain(stage: Stage) -> None:
    content = content_of(1_500_000)

    stage.put(content, NAMES)

    for name in NAMES:
        assert stage.read_all(name, len(content)) == content
        assert stage.server(name).sealed(CHUNK) == (len(content), content_crc(content))


def test_a_small_chunk_is_on_all_servers_of_its_chain(stage: Stage) -> None:
    stage.store(b"hello", NAMES)

    for name in NAMES:
        assert stage.read(name, 100) == b"hello"
        assert stage.server(name).sealed(CHUNK) == (5, content_crc(b"hello"))
