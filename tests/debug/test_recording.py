"""The file of a recording: what is written is there again, and what is damaged is said with its place."""

from __future__ import annotations

import errno
import os
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zactor.actor import Down
from zactor.debug import recording
from zactor.debug.recording import DROPPED, FORMAT, HEAD, Mapped, Unfrozen, Unkept, freeze, read, thaw
from zactor.errors import DiskFull, Overloaded, UserError
from zactor.message import Ref, encode

SEGMENT = 1 << 12


def written(path: Path, count: int, budget_bytes: int = 4 * SEGMENT) -> Mapped:
    """A file of so many small records, which is still open."""
    sink = Mapped(path, budget_bytes, SEGMENT)
    sink.on_segment = lambda: sink.append(encode(((HEAD, FORMAT, "p", 1, {}),)))
    for number in range(count):
        sink.append(encode(((DROPPED, number, "x" * 40),)))
    return sink


def numbers(found: recording.Recording) -> list[int]:
    return [record[1] for _, record in found.records if record[0] == DROPPED]


@pytest.mark.parametrize("is_closed", [False, True])
def test_what_was_written_is_read_in_its_order(tmp_path: Path, is_closed: bool) -> None:
    sink = written(tmp_path / "p.rec", 20)
    if is_closed:
        sink.close()

    found = read(tmp_path / "p.rec")

    assert numbers(found) == list(range(20))
    assert found.from_start
    assert found.damage == []


def test_a_ring_keeps_the_last_of_it_within_its_budget(tmp_path: Path) -> None:
    written(tmp_path / "p.rec", 10_000)

    found = read(tmp_path / "p.rec")

    assert (tmp_path / "p.rec").stat().st_size == 4 * SEGMENT
    assert not found.from_start
    last = numbers(found)
    assert last == list(range(last[0], 10_000))
    assert len(last) > 3 * SEGMENT // 60
    assert found.damage == []


def test_without_a_budget_everything_is_kept(tmp_path: Path) -> None:
    written(tmp_path / "p.rec", 2_000, budget_bytes=0).close()

    assert numbers(read(tmp_path / "p.rec")) == list(range(2_000))


def test_a_flipped_byte_costs_no_other_record_and_is_said_with_its_offset(tmp_path: Path) -> None:
    path = tmp_path / "p.rec"
    written(path, 20).close()
    content = bytearray(path.read_bytes())
    at = content.index(b"x" * 40, 400)
    content[at] ^= 1
    path.write_bytes(content)

    found = read(path)

    assert numbers(found) == list(range(20))
    offset = next(offset for offset, record in found.records if record[2:] == ["y" + "x" * 39])
    assert found.damage == [f"offset {offset}: a record does not match its checksum"]


def test_a_cut_file_is_read_up_to_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "p.rec"
    written(path, 20).close()
    content = path.read_bytes()
    path.write_bytes(content[:-20])

    found = read(path)

    assert numbers(found) == list(range(19))
    assert len(found.damage) == 1
    assert "is cut off" in found.damage[0]


def test_a_missing_segment_is_said(tmp_path: Path) -> None:
    path = tmp_path / "p.rec"
    written(path, 200).close()
    content = bytearray(path.read_bytes())
    content[SEGMENT : 2 * SEGMENT] = bytes(SEGMENT)
    path.write_bytes(content)

    found = read(path)

    assert found.damage == [f"offset {2 * SEGMENT}: segment 2 follows segment 0"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "ended before anything was recorded"),
        (b"\x7fELF" + bytes(5000), "is no recording"),
        (None, "cannot be read"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "p.rec").write_bytes(content)

    with pytest.raises(UserError, match=said):
        read(tmp_path / "p.rec")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    sink = Mapped(tmp_path / "p.rec", 0, SEGMENT)
    sink.on_segment = lambda: sink.append(encode(((HEAD, FORMAT + 1, "p", 1, {}),)))
    sink.append(encode(((DROPPED, 1),)))

    with pytest.raises(UserError, match=f"has format {FORMAT + 1}, this zactor reads {FORMAT}"):
        read(tmp_path / "p.rec")


def test_an_older_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.rec").write_bytes(b"zactrec\x01" + bytes(8) + SEGMENT.to_bytes(8, "little") + b"\x95" * SEGMENT)

    with pytest.raises(UserError, match=f"has format 1, this zactor reads {FORMAT}"):
        read(tmp_path / "p.rec")


def test_on_a_nearly_full_disk_nothing_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "FREE_BYTES_MIN", 1 << 62)

    with pytest.raises(DiskFull, match="MiB are left on the disk"):
        written(tmp_path / "p.rec", 1)


def test_a_disk_that_has_no_blocks_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_values: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)

    with pytest.raises(DiskFull, match="No space left"):
        written(tmp_path / "p.rec", 1)


# --- values
class Point(msgspec.Struct):
    x: int
    y: tuple[int, ...]


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.frozensets(st.integers() | st.text())
        | st.sets(st.integers())
        | st.builds(deque, st.lists(inner))
    ),
    max_leaves=20,
)


@given(VALUES)
def test_a_frozen_value_thaws_to_the_same_with_its_types(value: Any) -> None:
    again = thaw(msgspec.msgpack.decode(encode([freeze(value)]), ext_hook=recording.extension)[0])

    assert again == value
    assert repr(again) == repr(value) or isinstance(value, set | frozenset | dict | list | tuple | deque)


def test_structs_refs_messages_and_errors_thaw() -> None:
    values = [Point(1, (2, 3)), Ref("a", drop=True), Down(ref=Ref("b"), reason="r", final=True), bytearray(b"x")]
    error = Overloaded("full", "detail")

    again = thaw(msgspec.msgpack.decode(encode(freeze([*values, error])), ext_hook=recording.extension))

    assert again[:-1] == values
    assert again[1].drop
    assert (type(again[-1]), str(again[-1]), again[-1].detail) == (Overloaded, "full", "detail")


def test_what_is_held_twice_or_is_no_value_cannot_be_frozen() -> None:
    shared: list[int] = []

    for value in ([shared, shared], object(), [lambda: None]):
        with pytest.raises(Unfrozen):
            freeze(value)
    with pytest.raises(Unfrozen, match="too many"):
        freeze(list(range(100)), items_max=99)


def test_in_a_ring_long_bytes_are_kept_as_length_and_checksum() -> None:
    piece = bytes(range(256)) * 1000

    found = thaw(msgspec.msgpack.decode(encode([freeze(piece, full=False)]), ext_hook=recording.extension)[0])

    assert isinstance(found, Unkept)
    assert found == bytes(len(piece))
    assert recording.checksum_of(found) == recording.checksum_of(piece)
