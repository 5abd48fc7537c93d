"""The end of a copy that is on this computer: a file appears whole or not at all, and a bar shows how far it is."""

from __future__ import annotations

import asyncio
import os
import threading
from io import BytesIO
from pathlib import Path

import pytest

from nodes.files import local
from nodes.files.local import AHEAD, PIECE_SIZE, Feed, NobodyReads, progress_bar, read_pieces, render_bar, whole_file


def write_half_and_fail(path: Path, *, keep_part: bool = False) -> None:
    with whole_file(path, keep_part=keep_part) as file:
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


def test_a_part_that_is_kept_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    with pytest.raises(ValueError, match="corrupt"):
        write_half_and_fail(path, keep_part=True)
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt.part"]
    with whole_file(path, keep_part=True) as file:
        assert file.tell() == 4
        file.write(b" and half")

    assert path.read_bytes() == b"half and half"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_read_in_pieces() -> None:
    async def read() -> list[int]:
        return [len(piece) async for piece in read_pieces(BytesIO(bytes(2 * PIECE_SIZE + 1)))]

    assert asyncio.run(read()) == [PIECE_SIZE, PIECE_SIZE, 1]


@pytest.mark.parametrize("steps", range(2))
def test_a_cancel_that_comes_with_the_end_is_not_lost(steps: int) -> None:
    async def interrupt() -> None:
        feed = Feed(b"")

        async def take() -> list[bytes]:
            return [piece async for piece in feed.pieces()]

        taking = asyncio.create_task(take())
        await asyncio.sleep(0)
        feed.end()
        for _ in range(steps):
            await asyncio.sleep(0)
        assert taking.cancel()
        await taking

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupt())


def test_a_source_that_cannot_be_read_says_so_to_whoever_takes() -> None:
    class Broken:
        def read(self, size: int, /) -> bytes:
            raise OSError(5, "Input/output error")

    async def read() -> list[bytes]:
        return [piece async for piece in read_pieces(Broken())]

    with pytest.raises(OSError, match="Input/output error"):
        asyncio.run(read())


def test_a_pipe_in_which_nothing_comes_gives_empty_pieces_and_is_left_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "STALL_S", 0.001)
    reading, writing = os.pipe()
    pipe = os.fdopen(reading, "rb", buffering=0)

    async def read() -> list[bytes]:
        pieces = read_pieces(pipe)
        got = [await anext(pieces), await anext(pieces)]
        os.write(writing, b"late")
        while not got[-1]:
            got.append(await anext(pieces))
        await pieces.aclose()
        return got

    got = asyncio.run(read())
    os.close(writing)
    pipe.close()

    assert got[:2] == [b"", b""]
    assert got[-1] == b"late"


def test_a_feed_holds_no_more_than_its_room_and_tells_when_nobody_takes() -> None:
    feed = Feed(b"")
    sent: list[int] = []
    stopped = threading.Event()

    def give() -> None:
        try:
            for number in range(100):
                feed.send(bytes([number]))
                sent.append(number)
        except NobodyReads:
            stopped.set()

    async def take() -> list[bytes]:
        thread.start()
        pieces = feed.pieces()
        got = [await anext(pieces), await anext(pieces)]
        await pieces.aclose()
        return got

    thread = threading.Thread(target=give)
    got = asyncio.run(take())
    thread.join()

    assert got == [bytes([0]), bytes([1])]
    assert stopped.is_set()
    assert len(sent) <= 2 + AHEAD


def test_a_bar_shows_share_and_bytes() -> None:
    assert render_bar("/a", 1 << 20, 2 << 20) == "/a [###############---------------]  50% 1MiB"
    assert render_bar("/a", 0, 0) == "/a [##############################] 100% 0B"
    assert render_bar("/a", 5 << 20, None) == "/a 5MiB"


def test_no_bar_is_drawn_unless_somebody_sees_it(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("/a", 10) as show:
        assert show is None

    assert capsys.readouterr().err == ""
