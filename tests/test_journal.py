"""Journals: what is written comes back; a torn end is cut off; damage is never read as a record."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from zactor.actor import Actor, on
from zactor.errors import ActorFailed, Corrupt, DiskFull, TooLarge
from zactor.journal import (
    HEADER,
    RECORD_SIZE_MAX,
    Hole,
    Journal,
    Scan,
    find_record,
    holds_record,
    origin_of,
    record,
    scan,
)
from zactor.message import Message
from zactor.sim.virtual import Outside, Virtual
from zactor.world import Operation, Read

FILE = "events.journal"

payloads = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


class Recover(Message[tuple[bytes, ...]]):
    """Read the journal again."""


class Salvage(Message[tuple[bytes | Hole, ...]]):
    """Read the journal again, around its holes."""


class Note(Message[None]):
    text: bytes


class TornSize(Message[int]):
    pass


class Writer(Actor):
    """Keeps what it is told in a journal."""

    _journal: Journal

    def on_start(self) -> None:
        self._journal = Journal(self.disk, FILE)

    @on
    async def recover(self, message: Recover) -> tuple[bytes, ...]:
        return tuple(await self._journal.recover())

    @on
    async def salvage(self, message: Salvage) -> tuple[bytes | Hole, ...]:
        return tuple(await self._journal.salvage())

    @on
    async def note(self, message: Note) -> None:
        size = self._journal.size
        try:
            await self._journal.append(message.text)
        except DiskFull:
            await self._journal.cut(size)
            raise

    @on
    def torn_size(self, message: TornSize) -> int:
        return self._journal.torn_size


class Bench:
    """A writer in a virtual world, and its file."""

    def __init__(self, content: bytes = b"") -> None:
        self.virtual = Virtual()
        self.virtual.add("p").life.add("writer", Writer)
        self.virtual.start()
        self.outside: Outside = self.virtual.outside("p")
        self.virtual.disk.files["writer", FILE] = bytearray(content)

    def ask(self, message: Message[object]) -> object:
        return self.virtual.result(self.outside.ask(self.outside.to("writer"), message))

    def file(self) -> bytes:
        return bytes(self.virtual.disk.files["writer", FILE])


def journal_of(texts: list[bytes], file: str = FILE) -> bytes:
    content = b""
    for text in texts:
        content += record(text, origin_of(file) + len(content))
    return content


ORIGIN = origin_of(FILE)
TWO = journal_of([b"one", b"two"])


# --- the pure part
@given(payloads)
def test_a_scan_returns_what_was_recorded(texts: list[bytes]) -> None:
    content = journal_of(texts)

    found = scan(content, ORIGIN)

    assert (found.records, found.size, found.damaged) == (texts, len(content), False)


@given(payloads, st.data())
def test_any_prefix_of_a_journal_gives_a_prefix_of_its_records(texts: list[bytes], data: st.DataObject) -> None:
    content = journal_of(texts)
    length = data.draw(st.integers(0, len(content)))

    found = scan(content[:length], ORIGIN)

    assert found.records == texts[: len(found.records)]
    assert found.size == len(journal_of(found.records))
    assert not found.damaged
    assert length - found.size < HEADER.size + 40


@given(payloads, st.data())
def test_one_changed_byte_never_gives_a_wrong_record(texts: list[bytes], data: st.DataObject) -> None:
    assume(texts)
    content = bytearray(journal_of(texts))
    index = data.draw(st.integers(0, len(content) - 1))
    content[index] ^= data.draw(st.integers(1, 255))

    found = scan(bytes(content), ORIGIN)

    assert found.records == texts[: len(found.records)]
    assert len(found.records) < len(texts)


@given(st.binary(max_size=200))
def test_noise_is_never_read_as_a_record(noise: bytes) -> None:
    assert scan(noise, ORIGIN).records == []


def test_a_hole_of_zeros_is_damage_and_holds_no_record() -> None:
    assert scan(bytes(100), ORIGIN).damaged
    assert not holds_record(bytes(100_000))


@given(st.binary(max_size=100), st.binary(min_size=1, max_size=100))
def test_a_record_is_found_behind_anything(before: bytes, payload: bytes) -> None:
    assert holds_record(before + record(payload))


@given(payloads, payloads)
def test_records_that_stand_elsewhere_are_damage(before: list[bytes], texts: list[bytes]) -> None:
    assume(before)
    assume(texts)
    content = journal_of([*before, *texts])[len(journal_of(before)) :]

    assert scan(content, ORIGIN) == Scan([], 0, damaged=True)
    assert scan(content, ORIGIN + len(journal_of(before))).records == texts


def test_a_payload_over_the_limit_is_refused() -> None:
    with pytest.raises(TooLarge, match="16777216 bytes"):
        record(bytes(RECORD_SIZE_MAX + 1))


# --- on a disk
def test_a_missing_file_recovers_as_empty() -> None:
    assert Bench().ask(Recover()) == ()


def test_what_was_appended_is_recovered_and_can_be_appended_to() -> None:
    bench = Bench()
    bench.ask(Recover())
    for text in (b"one", b"two"):
        bench.ask(Note(text=text))

    assert bench.ask(Recover()) == (b"one", b"two")

    bench.ask(Note(text=b"three"))
    assert bench.file() == journal_of([b"one", b"two", b"three"])


def test_records_that_span_several_reads_are_recovered() -> None:
    texts = [bytes([index]) * 700_000 for index in range(1, 6)]

    assert Bench(journal_of(texts)).ask(Recover()) == tuple(texts)


@given(payloads, st.data())
def test_a_torn_end_is_cut_off_and_counted(texts: list[bytes], data: st.DataObject) -> None:
    assume(texts)
    whole = journal_of(texts[:-1])
    torn = record(texts[-1], len(whole))[: data.draw(st.integers(1, HEADER.size + len(texts[-1]) - 1))]
    bench = Bench(whole + torn)

    assert bench.ask(Recover()) == tuple(texts[:-1])

    assert bench.file() == whole
    assert bench.ask(TornSize()) == len(torn)


def test_a_last_record_with_a_wrong_checksum_is_cut_off() -> None:
    whole = journal_of([b"one", b"two"])
    bench = Bench(whole[:-1] + b"X")

    assert bench.ask(Recover()) == (b"one",)
    assert bench.file() == journal_of([b"one"])


@pytest.mark.parametrize("misread_as", [bytes(len(TWO)), TWO[len(TWO) // 2 :], journal_of([b"six", b"ten"], "another")])
def test_what_was_only_misread_is_neither_cut_off_nor_written_over(misread_as: bytes) -> None:
    whole = TWO
    bench = Bench(whole)
    perform = bench.virtual.disk.perform

    def misread(operation: Operation) -> object:
        found = perform(operation)
        if isinstance(operation, Read):
            bench.virtual.disk.perform = perform  # type: ignore[method-assign]
            return misread_as
        return found

    bench.virtual.disk.perform = misread  # type: ignore[method-assign]

    with pytest.raises(Corrupt, match="reads otherwise each time; start again"):
        bench.ask(Recover())

    assert bench.file() == whole
    assert bench.ask(Recover()) == (b"one", b"two")


def test_a_hole_at_the_end_is_cut_off() -> None:
    bench = Bench(journal_of([b"one"]) + bytes(5_000))

    assert bench.ask(Recover()) == (b"one",)
    assert bench.ask(TornSize()) == 5_000


@pytest.mark.parametrize("index", range(HEADER.size + 3))
def test_damage_in_the_middle_is_corrupt_and_nothing_is_cut(index: int) -> None:
    first = journal_of([b"zero"])
    content = bytearray(journal_of([b"zero", b"one", b"two"]))
    content[len(first) + index] ^= 0x40
    bench = Bench(bytes(content))

    with pytest.raises(Corrupt, match=rf"events\.journal: the record at offset {len(first)} is damaged"):
        bench.ask(Recover())

    assert bench.file() == bytes(content)


def test_a_full_disk_refuses_a_record_and_the_journal_goes_on() -> None:
    bench = Bench()
    bench.ask(Recover())
    bench.ask(Note(text=b"one"))
    bench.virtual.disk.capacity_bytes = len(bench.file()) + 5

    with pytest.raises(DiskFull):
        bench.ask(Note(text=b"does not fit"))

    bench.virtual.disk.capacity_bytes = 1 << 20
    bench.ask(Note(text=b"two"))
    assert bench.ask(Recover()) == (b"one", b"two")


def test_an_empty_payload_is_a_mistake_of_the_caller() -> None:
    bench = Bench()

    with pytest.raises(ActorFailed, match="AssertionError"):
        bench.ask(Note(text=b""))


# --- around damage
@given(st.lists(st.binary(min_size=1, max_size=40), min_size=2, max_size=6), st.data())
def test_what_stands_behind_damage_is_salvaged_and_the_hole_is_told(texts: list[bytes], data: st.DataObject) -> None:
    content = bytearray(journal_of(texts))
    damaged = data.draw(st.integers(0, len(texts) - 2))
    begin, end = len(journal_of(texts[:damaged])), len(journal_of(texts[: damaged + 1]))
    content[data.draw(st.integers(begin, end - 1))] ^= 1 << data.draw(st.integers(0, 7))
    bench = Bench(bytes(content))

    hole = Hole(begin, end - begin)
    assert bench.ask(Salvage()) == (*texts[:damaged], hole, *texts[damaged + 1 :])
    assert bench.file() == content
    bench.ask(Note(text=b"more"))
    assert bench.ask(Salvage()) == (*texts[:damaged], hole, *texts[damaged + 1 :], b"more")


def test_a_hole_may_be_longer_than_any_record_and_a_torn_end_follow() -> None:
    texts = [bytes([number]) * (12 << 20) for number in range(1, 6)]
    content = bytearray(journal_of(texts) + b"torn")
    begin, end = len(journal_of(texts[:1])), len(journal_of(texts[:4]))
    content[begin:end] = bytes(end - begin)
    bench = Bench(bytes(content))

    assert bench.ask(Salvage()) == (texts[0], Hole(begin, end - begin), texts[4])
    assert bench.ask(TornSize()) == 4


def test_damage_with_nothing_at_its_place_behind_it_is_corrupt() -> None:
    content = bytearray(TWO + TWO)
    content[len(TWO)] ^= 1

    with pytest.raises(Corrupt, match="is damaged or misplaced"):
        Bench(bytes(content)).ask(Salvage())


def test_without_damage_a_salvage_is_a_recovery() -> None:
    assert Bench(TWO + b"torn").ask(Salvage()) == (b"one", b"two")


@given(payloads, st.binary(max_size=30), st.integers(0, 1 << 33))
def test_the_first_record_at_its_place_is_found_whatever_is_before_it(
    texts: list[bytes], before: bytes, place: int
) -> None:
    assume(texts)
    content = before
    for text in texts:
        content += record(text, place + len(content))

    assert find_record(content, place) == len(before)
    assert find_record(content, place + 1) is None
