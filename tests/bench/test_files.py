"""`bench files` on a very small scale: that it runs, and that it counts what it says."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tests.bench import costs
from tests.bench.content import Check, Source, pieces
from tests.bench.files import ours, peer
from tests.bench.files_start import ManyFiles
from tests.bench.harness import Figure, Peer, Row, as_json, as_table
from tests.bench.peers_files import SYSTEMS, missing
from tests.bench.worker import Worker, module, worker
from zactor.errors import UserError

SIZE = 3 << 20
COUNTED = {"count": 40, "width": 4}
CASES: Mapping[str, Mapping[str, int]] = {
    "write": {"size_bytes": SIZE},
    "read": {"size_bytes": SIZE},
    "small": COUNTED,
    "create": COUNTED,
    "stat": COUNTED,
}


def measured(side: AbstractAsyncContextManager[Worker], cases: Mapping[str, Mapping[str, int]]) -> dict[str, Figure]:
    async def measure() -> dict[str, Figure]:
        async with side as started:
            return {case: await started.measure(case, **values) for case, values in cases.items()}

    return asyncio.run(measure())


@pytest.fixture(scope="module")
def disk() -> costs.Disk:
    try:
        return costs.temporary_disk()
    except costs.InMemory as error:
        pytest.skip(str(error))


@pytest.mark.live
def test_what_disk_and_sockets_give_is_measured_with_its_syncs(disk: costs.Disk, tmp_path: Path) -> None:
    cases = {"read": CASES["read"], "small": COUNTED, "write": {"size_bytes": SIZE, "writers": 3}}
    figures = measured(worker(disk, *module("baselines", tmp_path)), cases)

    assert all(figures.values())
    assert list(tmp_path.iterdir()) == []
    if disk.flushes() is not None:
        assert (figures["small"].syncs or 0) >= 1  # several at a time may share a flush of the folder


@pytest.mark.live
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_peer_is_measured_and_nothing_of_it_stays(name: str, disk: costs.Disk, tmp_path: Path) -> None:
    mend = missing(name)
    if mend:
        pytest.skip(f"{name} does not run here ({mend})")
    mounts = Path("/proc/self/mountinfo").read_text()

    assert all(measured(peer(disk, name, tmp_path), CASES).values())
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert costs.family(os.getpid()) == {os.getpid()}


@pytest.mark.live
def test_our_side_is_measured(disk: costs.Disk) -> None:
    @asynccontextmanager
    async def client() -> AsyncIterator[Worker]:
        async with ours(disk) as (started, pids):
            assert sorted(pids) == ["metadata", "store/0", "store/1", "store/2"]
            yield started

    cases = {**CASES, "batched": {"count": 100, "width": 2}, "through": {"size_bytes": SIZE}}
    assert all(measured(client(), cases).values())


@pytest.mark.live
def test_a_metadata_server_starts_from_the_snapshot_that_was_made_for_it(tmp_path: Path) -> None:
    (tmp_path / "snapshot").mkdir()
    rows = ManyFiles(tmp_path / "snapshot", count=2_000).rows()

    async def measure() -> list[float]:
        return [await row.measure() for row in rows]

    assert all(figure > 0 for figure in asyncio.run(measure())[:2])
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot"]


def test_a_worker_that_fails_is_named(disk: costs.Disk) -> None:
    with pytest.raises(RuntimeError, match="has ended with 3"):
        measured(worker(disk, sys.executable, "-c", "raise SystemExit(3)"), {})


@pytest.mark.skipif(not Path("/dev/shm").is_mount(), reason="there is no /dev/shm")
def test_a_folder_in_memory_is_refused_with_the_mend() -> None:
    with pytest.raises(UserError, match=r"is in memory \(tmpfs\): set TMPDIR to a folder on a disk"):
        costs.disk_of(Path("/dev/shm"))


def test_the_cpu_of_children_that_are_gone_counts() -> None:
    async def burn() -> float:
        before_s = costs.cpu_s(os.getpid())
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "sum(range(10_000_000))")
        await process.wait()
        return costs.cpu_s(os.getpid()) - before_s

    assert asyncio.run(burn()) > 0.02


def test_the_peak_of_a_process_is_what_it_had_once() -> None:
    costs.forget_peak(os.getpid())
    before = costs.peak_bytes(os.getpid())
    bytearray(64 << 20).count(1)
    peak = costs.peak_bytes(os.getpid())

    assert peak - before > 60 << 20
    costs.forget_peak(os.getpid())
    assert costs.peak_bytes(os.getpid()) < peak - (60 << 20)


def test_content_that_differs_is_noticed_whatever_its_pieces() -> None:
    right, wrong = Check(SIZE), Check(SIZE)
    source = Source(SIZE)
    while piece := source.read(100_000):
        right.take(piece)
    right.finish()
    for piece in list(pieces(SIZE))[::-1]:
        wrong.take(piece)

    with pytest.raises(RuntimeError, match="they should be"):
        wrong.finish()


def test_what_both_sides_cost_is_in_the_table_for_a_gigabyte_or_a_thousand() -> None:
    ours, theirs = Figure(2e6, cpu=2e-9, syncs=3e-9), Figure(1e6, cpu=5e-9, syncs=None)
    row = Row("case", "B/s", _nothing, Peer("p", _nothing), ours=[ours], theirs=[theirs])

    assert "2 : 5" in as_table([row])
    assert "3 :" in as_table([row])
    assert '"cpu_s": [2e-09, 5e-09], "syncs": [3e-09, null]' in as_json("files", row)


async def _nothing() -> float:
    return 0
