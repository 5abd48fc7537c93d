"""The end of a copy that is on this computer: a file appears whole or not at all, and a bar shows how far it is."""

from __future__ import annotations

import asyncio
from io import BytesIO
from pathlib import Path

import pytest

from nodes.files.local import progress_bar, read_pieces, render_bar, whole_file
from nodes.files.messages import PIECE_SIZE


def write_half_and_fail(path: Path) -> None:
    with whole_file(path) as file:
        file.write(b"half")
        raise ValueError("the other half is corrupt")


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    with whole_file(path) as file:
        file.write(b"all of it")
        assert [found.name for found in tmp_path.iterdir()] == ["a.txt.part"]

    assert path.read_bytes() == b"all of it"
    assert list(tmp_path.iterdir()) == [path]


def test_a_copy_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="corrupt"):
        write_half_and_fail(tmp_path / "a.txt")

    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_fails_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    with pytest.raises(ValueError, match="corrupt"):
        write_half_and_fail(path)

    assert path.read_bytes() == b"old"


def test_a_folder_that_is_missing_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_half_and_fail(tmp_path / "missing" / "a.txt")


def test_a_file_is_read_in_pieces() -> None:
    async def read() -> list[int]:
        return [len(piece) async for piece in read_pieces(BytesIO(bytes(2 * PIECE_SIZE + 1)))]

    assert asyncio.run(read()) == [PIECE_SIZE, PIECE_SIZE, 1]


def test_a_bar_shows_share_and_bytes() -> None:
    assert render_bar("/a", 1 << 20, 2 << 20) == "/a [###############---------------]  50% 1MiB"
    assert render_bar("/a", 0, 0) == "/a [##############################] 100% 0B"
    assert render_bar("/a", 5 << 20, None) == "/a 5MiB"


def test_no_bar_is_drawn_unless_somebody_sees_it(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("/a", 10) as show:
        assert show is None

    assert capsys.readouterr().err == ""
