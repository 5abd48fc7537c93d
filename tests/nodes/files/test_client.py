"""The client behind a door that is no actor: it needs no kernel, bounds what is in flight, and trusts nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any

import pytest
from crc32c import crc32c

from nodes.files.client import WINDOW, FilesClient
from nodes.files.messages import (
    Abandon,
    Allocate,
    Begin,
    Begun,
    Commit,
    Entry,
    Lookup,
    NoRoom,
    Piece,
    Place,
    ReadChunk,
    Renew,
    StoredChunk,
    WriteChunk,
)
from zactor.errors import AskTimeout, Corrupt, Failure
from zactor.message import Message, Ref

CONTENT = bytes(range(256)) * 1024
"""One piece of four blocks."""

CHECKSUMS = tuple(crc32c(CONTENT[start : start + 65536]) for start in range(0, len(CONTENT), 65536))


class FakeDoor:
    """Answers each ask by a function, one turn of the event loop later, and counts what is in flight."""

    def __init__(self, **answers: Callable[[Any], Any]) -> None:
        self._answers = answers
        self.asked: list[Message[Any]] = []
        self.in_flight = self.in_flight_max = 0

    def ask(self, target: Ref[Any], message: Message[Any], timeout_s: float = 5.0) -> Awaitable[Any]:
        self.asked.append(message)
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight, self.in_flight_max)
        return asyncio.ensure_future(self._answer(message))

    async def _answer(self, message: Message[Any]) -> Any:
        for _ in range(50):  # long enough for a window to fill
            await asyncio.sleep(0)
        self.in_flight -= 1
        answer = self._answers.get(type(message).__name__)
        found = answer(message) if answer is not None else None
        if isinstance(found, Failure):
            raise found
        return found

    def count(self, kind: type[Message[Any]]) -> int:
        return sum(isinstance(message, kind) for message in self.asked)


def putting_door(**answers: Callable[[Any], Any]) -> FakeDoor:
    common: dict[str, Callable[[Any], Any]] = {
        "Begin": lambda _: Begun(1, 64 << 20),
        "Allocate": lambda _: Place(7, "store/0"),
        "Commit": lambda message: message.entry,
    }
    return FakeDoor(**common | answers)


def getting_door(piece: Piece, chunks: int = 1) -> FakeDoor:
    crc = crc32c(CONTENT * chunks)
    stored = tuple(StoredChunk(index, "store/0", len(CONTENT), 0) for index in range(1, chunks + 1))
    return FakeDoor(Lookup=lambda _: Entry(len(CONTENT) * chunks, crc, stored), ReadChunk=lambda _: piece)


def put(door: FakeDoor, content: bytes) -> Entry:
    async def run() -> Entry:
        return await FilesClient(door, Ref("metadata")).put(BytesIO(content), "/a", size=len(content))

    return asyncio.run(run())


def get(door: FakeDoor) -> bytes:
    sink = BytesIO()

    async def run() -> None:
        await FilesClient(door, Ref("metadata")).get("/a", sink)

    asyncio.run(run())
    return sink.getvalue()


def test_a_put_keeps_a_window_of_pieces_in_flight_and_no_more() -> None:
    door = putting_door()

    put(door, bytes(100 * (256 << 10)))

    assert door.count(WriteChunk) == 100
    assert WINDOW <= door.in_flight_max <= WINDOW + 1  # and the ask that renews the lease


def test_a_get_keeps_a_window_of_pieces_in_flight_and_no_more() -> None:
    door = getting_door(Piece(CONTENT, CHECKSUMS), chunks=50)

    assert get(door) == CONTENT * 50

    assert door.count(ReadChunk) == 50
    assert door.in_flight_max == WINDOW


def test_a_long_put_renews_its_lease() -> None:
    door = putting_door()

    put(door, bytes(20 << 20))

    assert door.count(Renew) == 2


def test_a_put_that_fails_is_abandoned_when_all_its_asks_are_answered() -> None:
    door = putting_door(WriteChunk=lambda _: NoRoom("store/0 is full"))

    with pytest.raises(NoRoom, match="store/0 is full"):
        put(door, bytes(20 << 20))

    assert isinstance(door.asked[-1], Abandon)
    assert (door.count(Commit), door.in_flight) == (0, 0)
    assert door.count(WriteChunk) <= WINDOW + 1


def test_a_put_that_cannot_even_be_abandoned_fails_with_its_first_error_and_a_note() -> None:
    door = putting_door(Allocate=lambda _: NoRoom("full"), Abandon=lambda _: AskTimeout("no answer"))

    with pytest.raises(NoRoom) as caught:
        put(door, b"x")

    assert caught.value.__notes__ == ["what was stored is dropped when the lease ends; sooner failed with: no answer"]


def test_a_put_that_may_not_begin_asks_for_nothing_else() -> None:
    door = putting_door(Begin=lambda _: NoRoom("full"))

    with pytest.raises(NoRoom):
        put(door, b"x")

    assert [type(message) for message in door.asked] == [Begin]
    assert door.count(Allocate) == 0


@pytest.mark.parametrize("block", [0, 3])
def test_a_block_that_changed_on_its_way_is_named(block: int) -> None:
    changed = bytearray(CONTENT)
    changed[block * 65536] ^= 1

    with pytest.raises(Corrupt, match=f"chunk 0000000000000001 from store/0: block {block} changed on its way"):
        get(getting_door(Piece(bytes(changed), CHECKSUMS)))


def test_a_piece_that_is_too_short_is_corrupt() -> None:
    with pytest.raises(Corrupt, match="65536 bytes at 0"):
        get(getting_door(Piece(CONTENT[:65536], CHECKSUMS[:1])))


def test_right_blocks_of_another_file_are_corrupt() -> None:
    other = bytes(len(CONTENT))
    checksums = (crc32c(bytes(65536)),) * 4

    with pytest.raises(Corrupt, match="together they are not what was put"):
        get(getting_door(Piece(other, checksums)))

    assert get(getting_door(Piece(CONTENT, CHECKSUMS))) == CONTENT


def test_asking_again_for_a_file_asks_for_its_entry_again() -> None:
    door = getting_door(Piece(CONTENT, CHECKSUMS))

    get(door)
    get(door)

    assert door.count(Lookup) == 2
