"""The disk of a simulated machine: what outlives a kill, and what outlives the power."""

from __future__ import annotations

from collections import Counter

import pytest

from zactor.errors import DiskFailed, DiskFull
from zactor.sim.disk import Machine
from zactor.sim.heap import Chance, Heap
from zactor.world import Append, Operation, Read, Remove, Rename, Sync, SyncFolder, Truncate, Write

FOLDER = "node"


def machine(seed: int = 1) -> Machine:
    return Machine(Chance(Heap(seed).stream("disk")), Counter())


def append(file: str, data: bytes) -> Append:
    return Append(FOLDER, file, data)


def content(disk: Machine, file: str) -> bytes:
    found = disk.perform(Read(FOLDER, file, 0, -1))
    assert isinstance(found, bytes)
    return found


def sync(disk: Machine, *files: str) -> None:
    for operation in (Sync(FOLDER, files), SyncFolder(FOLDER, "")):
        assert disk.settle(operation, disk.mark(operation)) is None


def test_what_was_synced_with_its_name_outlives_the_power() -> None:
    for seed in range(20):
        disk = machine(seed)
        disk.perform(append("a", b"synced"))
        sync(disk, "a")

        disk.lose_power()

        assert content(disk, "a") == b"synced"


def test_of_what_was_not_synced_a_beginning_is_left_torn_at_any_byte() -> None:
    found = set()
    for seed in range(200):
        disk = machine(seed)
        disk.perform(append("a", b"old"))
        sync(disk, "a")
        disk.perform(append("a", b"12"))
        disk.perform(append("a", b"34"))

        disk.lose_power()

        found.add(content(disk, "a"))
    assert found == {b"old", b"old1", b"old12", b"old123", b"old1234"}


def test_a_sync_covers_what_was_written_when_it_began() -> None:
    found = set()
    for seed in range(50):
        disk = machine(seed)
        disk.perform(append("a", b"before"))
        sync(disk, "a")
        operation = Sync(FOLDER, ("a",))
        disk.perform(append("a", b" in time"))
        mark = disk.mark(operation)
        disk.perform(Truncate(FOLDER, "a", 0))

        assert disk.settle(operation, mark) is None

        disk.lose_power()
        found.add(content(disk, "a"))
    assert found == {b"before in time", b""}


@pytest.mark.parametrize("is_synced", [True, False])
def test_a_rename_outlives_the_power_when_its_folder_was_synced(is_synced: bool) -> None:
    found = set()
    for seed in range(50):
        disk = machine(seed)
        disk.perform(append("a.tmp", b"x"))
        sync(disk, "a.tmp")
        disk.perform(Rename(FOLDER, "a.tmp", "a"))
        if is_synced:
            sync(disk)

        disk.lose_power()

        found.add((content(disk, "a.tmp"), content(disk, "a")))
    assert found == ({(b"", b"x")} if is_synced else {(b"", b"x"), (b"x", b"")})


def test_a_file_that_was_synced_without_its_folder_may_be_gone() -> None:
    found = set()
    for seed in range(50):
        disk = machine(seed)
        disk.perform(append("a", b"x"))
        operation = Sync(FOLDER, ("a",))
        disk.settle(operation, disk.mark(operation))

        disk.lose_power()

        found.add(content(disk, "a"))
    assert found == {b"", b"x"}


def test_a_removed_file_may_come_back_until_its_folder_is_synced() -> None:
    found = set()
    for seed in range(50):
        disk = machine(seed)
        disk.perform(append("a", b"x"))
        sync(disk, "a")
        disk.perform(Remove(FOLDER, "a"))

        disk.lose_power()

        found.add(content(disk, "a"))
    assert found == {b"", b"x"}


def test_a_sync_that_fails_keeps_nothing() -> None:
    disk = machine()
    disk.failing_syncs = 1
    disk.perform(append("a", b"x"))
    operation = Sync(FOLDER, ("a",))

    assert isinstance(disk.settle(operation, disk.mark(operation)), DiskFailed)
    assert disk.settle(operation, disk.mark(operation)) is None


def test_after_a_sync_that_failed_only_what_is_written_again_becomes_durable() -> None:
    for is_written_again in (False, True):
        disk = machine()
        disk.perform(append("a", b"old"))
        sync(disk, "a")
        disk.perform(append("a", b"new"))
        disk.failing_syncs = 1
        operation = Sync(FOLDER, ("a",))
        assert isinstance(disk.settle(operation, disk.mark(operation)), DiskFailed)
        assert content(disk, "a") == b"oldnew"  # clean in the page cache

        if is_written_again:
            disk.perform(Write(FOLDER, "a", 3, b"new"))
        disk.perform(append("a", b"!"))
        sync(disk, "a")
        disk.lose_power()

        assert content(disk, "a") == (b"oldnew!" if is_written_again else b"old\0\0\0!")


def test_a_full_disk_takes_no_more_until_it_has_room_again() -> None:
    disk = machine()
    disk.perform(append("a", b"12345"))
    disk.limit(2)
    disk.perform(append("a", b"67"))
    with pytest.raises(DiskFull):
        disk.perform(append("a", b"8"))
    disk.limit(None)

    disk.perform(append("a", b"8"))

    assert content(disk, "a") == b"12345678"


def test_rot_flips_one_bit_for_good() -> None:
    disk = machine()
    disk.perform(append("a", bytes(100)))
    sync(disk, "a")

    assert disk.rot() is not None

    damaged = content(disk, "a")
    assert sum(byte.bit_count() for byte in damaged) == 1
    disk.lose_power()
    assert content(disk, "a") == damaged


def test_a_misdirected_read_gives_bytes_of_another_place_once() -> None:
    disk = machine()
    disk.perform(append("a", bytes(range(200))))
    disk.misdirected_reads = 1

    operation: Operation = Read(FOLDER, "a", 0, 10)
    first, second = disk.perform(operation), disk.perform(operation)

    assert len(first) == 10
    assert first != second
    assert second == bytes(range(10))


def test_a_write_in_the_middle_is_lost_like_any_other() -> None:
    found = set()
    for seed in range(50):
        disk = machine(seed)
        disk.perform(append("a", b"aaaa"))
        sync(disk, "a")
        disk.perform(Write(FOLDER, "a", 1, b"bb"))

        disk.lose_power()

        found.add(content(disk, "a"))
    assert found == {b"aaaa", b"abaa", b"abba"}
