"""`bench raft` on a very small scale: that it runs, and that it counts what it says."""

from __future__ import annotations

import asyncio
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest

from tests.bench import etcd, load
from tests.bench.costs import Disk, InMemory, temporary_disk
from tests.bench.failover import Fault, gaps, ours, silences, theirs
from tests.bench.harness import Measure
from tests.bench.load import Load, measured
from tests.bench.raft import ours as our_side
from tests.bench.raft import syncobj
from tests.bench.raft import theirs as their_side
from tests.bench.soak import soak

PUTS = Load("put", 20, 0.1, 0.5)
GETS = Load("get", 20, 0.1, 0.5)

needs_etcd = pytest.mark.skipif(etcd.missing(), reason=f"there is no etcd here ({etcd.MEND})")


@pytest.fixture(scope="module")
def disk() -> Disk:
    try:
        return temporary_disk()
    except InMemory as error:
        pytest.skip(str(error))


def run(measure: Measure) -> float:
    async def measured() -> float:
        return await measure()

    return asyncio.run(measured())


@pytest.mark.live
def test_our_side_is_measured(disk: Disk) -> None:
    async def measure() -> tuple[float, float, float]:
        async with our_side(disk) as side:
            return await side.rate(PUTS)(), await side.p99(PUTS)(), await side.rate(GETS)()

    assert all(asyncio.run(measure()))


@needs_etcd
@pytest.mark.live
def test_etcd_is_measured_and_fails_over_and_nothing_of_it_stays(disk: Disk, tmp_path: Path) -> None:
    program = etcd.build(tmp_path)

    async def measure() -> tuple[float, ...]:
        async with their_side(disk, program) as side:
            rates = await side.rate(PUTS)(), await side.rate(GETS)()
        return *rates, await gaps(theirs(program, etcd.Timeouts(10, 100)), "killed", 1)()

    assert all(asyncio.run(measure()))


@pytest.mark.live
@pytest.mark.parametrize("fault", get_args(Fault))
def test_the_gap_of_a_failover_of_ours_is_measured(fault: Fault) -> None:
    assert run(gaps(ours, fault, 1)) > 0


@pytest.mark.live
def test_a_soak_loads_and_pauses() -> None:
    found = asyncio.run(soak(1.0, 1))

    assert found.operations
    assert found.pauses_s
    assert found.lines()[-1] == f"needless elections: {found.count('became_leader')}"


@pytest.mark.live
def test_the_silence_of_a_transfer_of_ours_is_measured() -> None:
    assert run(silences(1)) > 0


@pytest.mark.live
@pytest.mark.skipif(find_spec("pysyncobj") is None, reason="there is no PySyncObj here (pip install pysyncobj)")
def test_pysyncobj_is_measured(disk: Disk) -> None:
    assert run(syncobj(disk).rate(Load("put", 20, 0.5, 1.0))) > 0


def test_a_load_that_fails_is_named(disk: Disk) -> None:
    silent = 'print(\'{"measuring": true}\\n{"rate": 1, "p50_us": 1, "p99_us": 1}\'); raise SystemExit(3)'

    with pytest.raises(RuntimeError, match="ended with 3"):
        asyncio.run(measured(Load("put", 1, 0, 0), disk, (), sys.executable, "-c", silent))


def test_a_client_more_than_connections_shares_one() -> None:
    assert Load("put", 256, 2, 10).words() == ("put", "256", str(load.CONNECTIONS), "10000", "256", "2", "10")
    assert Load("put", 1, 2, 10).words()[1:3] == ("1", "1")
