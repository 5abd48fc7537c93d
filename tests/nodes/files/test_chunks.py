"""The layout of a chunk's file: what was written is verified, and nothing else is."""

from __future__ import annotations

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from nodes.files.chunks import (
    PartialName,
    SealedName,
    bad_block,
    block_checksums,
    content_crc,
    file_checksum,
    file_size,
    footer_size,
    pack_checksums,
    read_footer,
    seal_crc,
    unpack_checksums,
    write_footer,
)
from nodes.files.messages import BLOCK_SIZE, CHUNK_SIZE_MAX
from zactor.errors import Corrupt

SIZES = [0, 1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE]


def content_of(size: int) -> bytes:
    return bytes(index * 31 % 251 for index in range(size))


def name_of(content: bytes, chunk: int = 7) -> SealedName:
    return SealedName(chunk, len(content), content_crc(content))


@pytest.mark.parametrize("size", SIZES)
def test_a_footer_says_what_the_content_is(size: int) -> None:
    content = content_of(size)
    checksums = block_checksums(content)

    footer = write_footer(7, size, checksums)

    assert len(content + footer) == file_size(size)
    assert len(footer) == footer_size(size)
    assert unpack_checksums(read_footer(footer, name_of(content))) == checksums
    assert bad_block(content, checksums) is None


@pytest.mark.parametrize("size", [0, 1, BLOCK_SIZE + 1])
def test_a_footer_in_which_any_bit_flipped_is_refused(size: int) -> None:
    content = content_of(size)
    footer = write_footer(7, size, block_checksums(content))
    for bit in range(8 * len(footer)):
        wrong = bytearray(footer)
        wrong[bit >> 3] ^= 1 << (bit & 7)
        with pytest.raises(Corrupt):
            read_footer(bytes(wrong), name_of(content))


@given(st.integers(0, 40), st.binary(max_size=3))
def test_a_footer_of_another_length_is_refused(cut: int, more: bytes) -> None:
    content = content_of(BLOCK_SIZE + 1)
    footer = write_footer(7, len(content), block_checksums(content))
    wrong = footer[: len(footer) - cut] + more
    if wrong != footer:
        with pytest.raises(Corrupt):
            read_footer(wrong, name_of(content))


def test_a_footer_of_another_chunk_is_refused() -> None:
    content, other = content_of(100), content_of(101)[1:]
    for wrong in (write_footer(8, 100, block_checksums(content)), write_footer(7, 100, block_checksums(other))):
        with pytest.raises(Corrupt, match="the footer is that of chunk"):
            read_footer(wrong, name_of(content))


def test_a_name_says_what_a_file_must_be_and_sorts_by_chunk() -> None:
    sealed, partial = SealedName(0xABC0001, CHUNK_SIZE_MAX, 0xFFFFFFFF), PartialName(0xABC0001, 3)

    assert str(sealed) == "000000000abc0001.04000000.ffffffff.chunk"
    assert str(partial) == "000000000abc0001.00000003.tmp"
    assert SealedName.parse(str(sealed)) == sealed
    assert PartialName.parse(str(partial)) == partial
    for file in ("volume", "aside", "00000001.open", str(partial), str(sealed) + "x", "x" + str(sealed)):
        assert SealedName.parse(file) is None
    assert PartialName.parse(str(sealed)) is None


@pytest.mark.parametrize("size", SIZES)
def test_a_bad_block_is_found_by_its_index(size: int) -> None:
    content = content_of(size)
    checksums = block_checksums(content)
    for block in range(len(checksums)):
        wrong = bytearray(content)
        wrong[min(block * BLOCK_SIZE + 5, size - 1)] ^= 1
        assert bad_block(bytes(wrong), checksums) == block
    assert bad_block(content + b"x" * BLOCK_SIZE, checksums) in (len(checksums), max(0, len(checksums) - 1))
    if size:
        assert bad_block(content[:-1], checksums) == len(checksums) - 1
        assert bad_block(content, checksums[:-1]) == len(checksums) - 1


def test_the_checksum_of_a_chunk_and_of_a_file_is_that_of_the_checksums_of_its_parts() -> None:
    content = content_of(BLOCK_SIZE + 9)
    packed = crc32c(content[:BLOCK_SIZE]).to_bytes(4, "little") + crc32c(content[BLOCK_SIZE:]).to_bytes(4, "little")

    assert pack_checksums(block_checksums(content)) == packed
    assert unpack_checksums(packed, 1, 1) == (crc32c(content[BLOCK_SIZE:]),)
    assert seal_crc(block_checksums(content)) == content_crc(content) == crc32c(packed)
    assert file_checksum([1, 2]) == crc32c(b"\1\0\0\0\2\0\0\0")
    assert seal_crc(()) == file_checksum(()) == 0
