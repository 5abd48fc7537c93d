"""The layout of a chunk's file: what was written is verified, and nothing else is."""

from __future__ import annotations

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from nodes.files.chunks import (
    TAIL_SIZE,
    Checksums,
    bad_block,
    file_size,
    footer_size,
    read_footer,
    read_tail,
    write_footer,
)
from nodes.files.messages import BLOCK_SIZE
from zactor.errors import Corrupt

SIZES = [0, 1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE]


def content_of(size: int) -> bytes:
    return bytes(index * 31 % 251 for index in range(size))


def footer_of(content: bytes) -> bytes:
    sums = Checksums()
    sums.add(content)
    return write_footer(sums.footer())


@pytest.mark.parametrize("size", SIZES)
def test_a_footer_says_what_the_content_is(size: int) -> None:
    content = content_of(size)
    file = content + footer_of(content)

    blocks = read_tail(file[-TAIL_SIZE:], len(file))
    footer = read_footer(file[-footer_size(blocks) :])

    assert len(file) == file_size(size)
    assert footer.size == size
    assert bad_block(content, footer.checksums) is None


@given(st.lists(st.integers(0, 2 * BLOCK_SIZE), max_size=5))
def test_checksums_do_not_depend_on_how_the_content_was_cut(cuts: list[int]) -> None:
    content = content_of(2 * BLOCK_SIZE + 7)
    whole, cut = Checksums(), Checksums()
    whole.add(content)

    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(content)], strict=True):
        cut.add(content[start:end])

    assert cut.footer() == whole.footer()
    assert cut.crc == whole.crc == crc32c(content)


@pytest.mark.parametrize("block", [0, 1, 2])
def test_one_flipped_bit_is_found_in_its_block(block: int) -> None:
    content = bytearray(content_of(2 * BLOCK_SIZE + 5))
    checksums = read_footer(footer_of(bytes(content))).checksums
    content[block * BLOCK_SIZE + 3] ^= 1

    assert bad_block(bytes(content), checksums) == block


@pytest.mark.parametrize("change", [-1, 1, -BLOCK_SIZE, BLOCK_SIZE])
def test_content_of_another_size_is_bad(change: int) -> None:
    content = content_of(2 * BLOCK_SIZE)
    checksums = read_footer(footer_of(content)).checksums

    assert bad_block(content_of(len(content) + change), checksums) is not None


@pytest.mark.parametrize("size", [1, BLOCK_SIZE + 1])
def test_any_flipped_bit_of_a_footer_is_corrupt(size: int) -> None:
    content = content_of(size)
    footer = footer_of(content)

    for index in range(len(footer) * 8):
        changed = bytearray(footer)
        changed[index // 8] ^= 1 << index % 8
        with pytest.raises(Corrupt):
            read_footer(bytes(changed))


@given(st.integers(0, 200))
def test_a_file_that_was_cut_short_is_corrupt(length: int) -> None:
    file = content_of(1000) + footer_of(content_of(1000))
    short = file[: len(file) - 1 - length]

    with pytest.raises(Corrupt):
        read_tail(short[-TAIL_SIZE:], len(short))


def test_a_file_of_a_later_version_is_refused_by_its_number() -> None:
    tail = bytearray(footer_of(b""))
    tail[16] = 2

    with pytest.raises(Corrupt, match="version 2"):
        read_tail(bytes(tail), len(tail))
