"""Whole runs: what is drawn, what acts, what is found, and that the same seed is the same run."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import weakref
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from tests.bench.newer import pythons
from tests.sim import stage
from zactor.actor import Actor, on
from zactor.errors import UserError
from zactor.message import Message
from zactor.sim import runner
from zactor.sim.bundle import Bundle, read_bundle
from zactor.sim.escapes import guarded
from zactor.sim.shrink import shrink
from zactor.sim.world import ProcessWorld
from zactor.testing import Simulated
from zactor.topology.read import load
from zactor.topology.trials import FAULTS
from zactor.world import Append, Operation, World, Write

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ROOT = Path(__file__).parents[2]
TRIAL = ROOT / "configs" / "files-trial.yaml"

TRACES = """
import sys
from pathlib import Path
from zactor.sim.runner import plan_of, run
from zactor.topology.read import load
from tests.sim import stage
for topology, seed in ((load(Path(sys.argv[1])), 3), (stage.topology(), 1)):
    print(run(topology, plan_of(topology, seed)).trace)
"""

PACKAGES = "import crc32c, msgpack, msgspec, ruamel.yaml, structlog, sys, zmq; print(sys.version_info[:2])"


def traces(python: str, hash_seed: int = 0) -> str:
    """What a Python makes of two seeds."""
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    command = [python, "-c", TRACES, str(TRIAL)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def other_pythons() -> dict[str, str]:
    """Pythons of other versions that have the packages. `ZACTOR_PYTHONS` may name more, with `:` between."""
    found: dict[str, str] = {}
    for path in (*filter(None, os.environ.get("ZACTOR_PYTHONS", "").split(":")), *pythons()):
        done = subprocess.run([path, "-c", PACKAGES], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout != f"{sys.version_info[:2]}\n":
            found.setdefault(done.stdout, path)
    return found


def test_a_seed_is_the_same_run_whatever_the_hashes_of_python() -> None:
    assert traces(sys.executable, 0) == traces(sys.executable, 7)


def test_a_seed_is_the_same_run_in_other_versions_of_python() -> None:
    others = other_pythons()
    if not others:
        pytest.skip("no Python of another version has zactor's packages: name one in ZACTOR_PYTHONS")

    assert {traces(python) for python in others.values()} == {traces(sys.executable)}


def test_another_seed_is_another_run() -> None:
    trial = stage.topology()

    assert len({stage.run(trial, seed).trace for seed in range(3)}) == 3


def test_a_flipped_bit_in_one_message_gives_another_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    trial, take = stage.topology(faults=""), ProcessWorld.take
    expected = stage.run(trial).trace
    frames = 0

    def flipping(self: ProcessWorld, source: str, frame: bytes, blobs: Sequence[bytes]) -> None:
        nonlocal frames
        frames += 1
        if frames == 100:
            frame = frame[:-1] + bytes([frame[-1] ^ 1])
        take(self, source, frame, blobs)

    monkeypatch.setattr(ProcessWorld, "take", flipping)

    assert stage.run(trial).trace != expected


class Murmur(Message[None]):
    text: str


class Murmurer(Actor):
    """Tells itself something, and does not listen."""

    text: str

    def on_start(self) -> None:
        self.tell(self.ref, Murmur(text=self.text))

    @on
    def hear(self, message: Murmur) -> None: ...


def test_a_flipped_bit_in_a_message_within_a_process_gives_another_trace() -> None:
    def trace(text: str) -> str:
        with Simulated(1) as simulated:
            simulated.add("one", Murmurer, text=text)
            simulated.run(1.0)
            return simulated.trace

    assert trace("x") == trace("x") != trace("y")


def test_a_flipped_bit_that_is_written_and_never_read_gives_another_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    trial, begin = stage.topology(faults=""), ProcessWorld.begin
    expected = stage.run(trial).trace
    writes = 0

    def flipping(self: ProcessWorld, token: int, operation: Operation) -> None:
        nonlocal writes
        if isinstance(operation, Write | Append):
            writes += 1
            if writes == 100:
                data = operation.data[:-1] + bytes([operation.data[-1] ^ 1])
                operation = msgspec.structs.replace(operation, data=data)
        begin(self, token, operation)

    monkeypatch.setattr(ProcessWorld, "begin", flipping)

    assert stage.run(trial).trace != expected
    assert writes > 100


def test_a_seed_that_ran_long_enough_under_faults_is_ok() -> None:
    result = stage.run(stage.topology())

    assert (result.verdict, result.because) == ("ok", "")
    assert result.faults == {"cut": 1, "kill": 1, "pause": 1, "power": 1}
    assert result.operations >= 200
    assert result.events > result.operations
    assert result.in_flight > 0


@pytest.mark.parametrize(
    ("how", "because"),
    [
        ({"span": "10s"}, "10 s of faults; a seed counts from 20 s on"),
        ({"faults": "{at: 2s, do: kill, node: register}"}, "1 classes of faults acted; a seed counts from 3 on"),
    ],
)
def test_a_seed_that_proves_little_is_idle(how: dict[str, str], because: str) -> None:
    result = stage.run(stage.topology(**how))

    assert (result.verdict, result.because) == ("idle", because)


POWER = (
    "{at: 3s, do: power, node: register, writing: true}, {at: 8s, do: power, node: register, writing: true}, "
    "{at: 13s, do: power, node: register}"
)
CARELESS_SEED = 1
"""One that finds that `careless` acknowledges what is not durable."""

ACTS = {
    "kill": "{node: register}",
    "power": "{node: register}",
    "blink": "{node: '*'}",
    "pause": "{node: register, for: 3s}",
    "partition": "{between: [register, '*'], for: 3s}",
    "cut": "{between: ['*', register]}",
    "refuse": "{between: ['*', register], for: 1s, messages: [stage.Write]}",
    "lose": "{between: ['*', register], for: 2s, rate: 30%}",
    "double": "{between: ['*', register], for: 5s, rate: 30%}",
    "reorder": "{between: ['*', register], for: 5s, rate: 30%}",
    "slow": "{between: ['*', register], for: 5s, by: 50ms}",
    "slow_disk": "{node: register, for: 5s}",
    "full_disk": "{node: register, for: 2s}",
    "fail_sync": "{node: register}",
    "misdirect": "{node: register}",
    "rot": "{node: register}",
    "step": "{node: register, by: -1s}",
    "drift": "{node: register, ppm: 400}",
}
BREAKING = ("kill", "power", "blink", "pause", "partition", "cut", "refuse", "lose")


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_acts_and_is_counted_where_it_does(kind: str) -> None:
    at = "10ms" if kind == "full_disk" else "1s"  # the only file does not grow after its first write
    faults = f"{{at: {at}, do: {kind}, {ACTS[kind][1:]}, {{at: 5s, do: kill, node: register}}"  # it reads its disk
    result = stage.run(stage.topology(faults=faults, damage="unbounded"))

    assert result.acted[kind] > 0


@pytest.mark.parametrize("kind", BREAKING)
def test_what_breaks_connections_is_noticed_by_their_ends(kind: str) -> None:
    fault = f"{{at: 2s, do: {kind}, {ACTS[kind][1:]}"
    result, logs = stage.run_with_logs(stage.topology(faults=fault))

    assert result.faults == {kind: 1}
    unsure = [log for log in logs if log[3] == "operation_unknown"]
    assert unsure or [log for log in logs if log[3] == "peer_lost"]


def test_a_way_that_is_slow_makes_answers_late() -> None:
    quick = stage.run(stage.topology(faults="{at: 1s, do: step, node: register, by: 1s}"))
    slow = stage.run(stage.topology(faults="{at: 1s, do: slow, between: ['*', register], for: 18s, by: 200ms}"))

    assert slow.operations < quick.operations / 2


def test_a_full_disk_refuses_and_takes_again() -> None:
    result, logs = stage.run_with_logs(stage.topology(faults="{at: 10ms, do: full_disk, node: register, for: 2s}"))

    assert result.verdict == "idle"
    assert [log for log in logs if log[3] == "operation_unknown" and "no room" in log[4]["because"]]
    assert result.operations > 200


def test_clocks_step_and_drift_without_anybody_noticing() -> None:
    faults = "{at: 2s, do: step, node: register, by: -1s}, {at: 3s, do: drift, node: register, ppm: 400}"
    faults += ", {at: 4s, do: cut, between: ['*', register]}"

    assert stage.run(stage.topology(faults=faults)).verdict == "ok"


def test_a_run_that_does_not_count_yet_goes_on_with_the_faults_that_are_left() -> None:
    faults = (
        "{at: 2s, do: kill, node: register}, {at: 4s, do: pause, node: register, for: 300ms}, "
        "{at: 30s, do: cut, between: ['*', register]}, {at: 50s, do: power, node: register}"
    )

    result = stage.run(stage.topology(faults=faults))

    assert (result.verdict, result.faults) == ("ok", {"cut": 1, "kill": 1, "pause": 1})


def test_damage_beyond_the_budget_is_spared() -> None:
    rot = "{at: 5s, do: rot, node: register, times: 20}"

    assert stage.run(stage.topology(faults=rot)).faults == {}
    assert stage.run(stage.topology(faults=rot, damage="unbounded")).faults == {"rot": 1}
    assert stage.run(stage.topology(faults=rot, damage="{register: 0}")).faults == {}
    assert stage.run(stage.topology(faults=rot, damage="{register: 1}")).faults == {"rot": 1}


def test_a_budget_of_damage_is_held_against_the_nodes() -> None:
    with pytest.raises(UserError, match=r"sim\.damage\.regster: there is no key 'regster'\. Did you mean 'register'\?"):
        stage.topology(damage="{regster: 1}")


def test_what_settles_is_looked_at_when_all_clients_have_gone() -> None:
    assert stage.run(stage.topology(settles="['./stage.py:nobody_writes']")).verdict == "ok"


def test_what_never_settles_is_a_violation() -> None:
    result = stage.run(stage.topology(settles="['./stage.py:never']"))

    assert (result.verdict, result.rule) == ("violation", "./stage.py:never")
    assert result.because == "20 s after the last client had gone: it is never so"


def test_an_end_beyond_what_the_policy_allows_is_spared() -> None:
    kills = ", ".join(f"{{at: {at}s, do: kill, node: register}}" for at in range(2, 18, 2))

    assert stage.run(stage.topology(faults=kills)).faults == {"kill": 4}


def test_what_is_acknowledged_before_it_is_durable_is_found() -> None:
    result = stage.run(stage.topology(register="careless: true", faults=POWER), CARELESS_SEED)

    assert (result.verdict, result.rule) == ("violation", "linearizable")
    assert "not linearizable" in result.because


@pytest.mark.parametrize(
    ("how", "called"),
    [
        ("time", "time.time"),
        ("random", "random.random"),
        ("uuid", "os.urandom"),
        ("open", "open"),
        ("datetime", "datetime.now"),
        ("date", "date.today"),
    ],
)
def test_an_actor_that_reaches_past_its_door_is_named_with_its_line_even_if_it_hides_it(how: str, called: str) -> None:
    result = stage.run(stage.topology(register=f"escape: {how}"))

    assert (result.verdict, result.rule) == ("violation", "escape")
    assert f"{ROOT / 'tests/sim/stage.py'}:" in result.because
    assert called in result.because


def test_dates_are_made_and_known_as_ever() -> None:
    with guarded():
        made = datetime(2026, 1, 2, tzinfo=UTC)
        assert type(made) is type(datetime.fromtimestamp(0, UTC)) is type(EPOCH)
        assert isinstance(made, datetime)
        assert isinstance(EPOCH, date)
        assert not isinstance(1, datetime)
        assert made - EPOCH == timedelta(days=20455)
        assert msgspec.json.decode(msgspec.json.encode(made), type=type(EPOCH)) == made


def test_a_storm_of_events_names_who_makes_it() -> None:
    result = stage.run(stage.topology(register="storm: true"))

    assert (result.verdict, result.rule) == ("stuck", "storm")
    assert "busiest: register" in result.because


@pytest.mark.parametrize(
    ("wrong", "because"),
    [
        ("raises", rf"RuntimeError: a mistake of the workload's author \(in handler Work\(\), {stage.__file__}:\d+\)"),
        ("answers nobody", "@client-.: operation 7 ended twice, or was never invoked"),
    ],
)
def test_a_workload_that_is_wrong_is_one_clear_message(wrong: str, because: str) -> None:
    result = stage.run(stage.topology(client=f"wrong: {wrong}"))

    assert (result.verdict, result.rule) == ("violation", "mistake")
    assert re.search(because, result.because)


def test_a_failure_in_a_file_runs_again_with_the_same_trace(tmp_path: Path) -> None:
    trial = load(TRIAL)
    plan = runner.plan_of(trial, 2)
    result = runner.run(trial, plan)
    path = tmp_path / "sim" / "seed-2.json"
    Bundle(version="1", file=str(TRIAL), text=TRIAL.read_text(), plan=plan, result=result, command="zactor sim").write(
        path
    )

    bundle = read_bundle(path)

    assert runner.run(bundle.topology(tmp_path), bundle.plan).trace == result.trace


@pytest.mark.parametrize(
    ("content", "because"),
    [
        (b"", "this is no bundle"),
        (b'{"zactor_bundle": 1}', "this is no bundle"),
        (b"\xff\xfe", "this is no bundle"),
    ],
)
def test_a_file_that_is_no_bundle_is_one_clear_message(tmp_path: Path, content: bytes, because: str) -> None:
    path = tmp_path / "bundle.json"
    path.write_bytes(content)

    with pytest.raises(UserError, match=because):
        read_bundle(path)


def test_a_failure_is_shrunk_to_the_faults_that_it_needs() -> None:
    faults = ", ".join(f"{{at: {at}s, do: step, node: register, by: 1s}}" for at in range(1, 18))
    trial = stage.topology(register="careless: true", faults=f"{faults}, {POWER}")
    plan = stage.plan(trial, CARELESS_SEED)
    result = runner.run(trial, plan)
    assert result.verdict == "violation"

    found = shrink(trial, plan, result)

    assert [fault.do for fault in found.plan.faults] == ["power"]
    assert len(found.plan.clients) <= 2
    assert found.result.rule == result.rule
    assert runner.run(trial, found.plan).trace == found.result.trace


def test_replicas_and_clients_are_drawn_from_their_ranges() -> None:
    trial = load(TRIAL)
    plans = [runner.plan_of(trial, seed) for seed in range(60)]

    assert {plan.replicas["store"] for plan in plans} == {3, 4, 5}
    assert {len(plan.clients) for plan in plans} == {4, 5, 6, 7}
    assert len({msgspec.json.encode(plan.knobs) for plan in plans}) > 30
    kinds = [{fault.do for fault in plan.faults} for plan in plans]
    assert min(map(len, kinds)) < 6 < 12 < max(map(len, kinds))


def test_a_run_that_is_over_leaves_nothing_in_memory() -> None:
    trial = load(TRIAL)
    worlds: list[weakref.ref[World]] = []
    runner.run(trial, runner.plan_of(trial, 1), booted=lambda kernel, _nodes: worlds.append(weakref.ref(kernel.world)))

    gc.collect()

    assert len(worlds) > 5
    assert [world() for world in worlds if world() is not None] == []
