"""`zactor chaos`: process faults on real processes, judged as the simulator judges; nothing is left running."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.live.running import PATIENCE_S, Launched, command, eventually, processes_here, stopped, zactor
from zactor.launchers.folders import Home

pytestmark = pytest.mark.live

MEMORY = str(Path(__file__).with_name("memory.py"))

TOPOLOGY = f"""\
name: trial
nodes:
  register: {{kind: '{MEMORY}:Register', settings: {{SETTINGS}}}}
  other: {{kind: '{MEMORY}:Register', restart: {{when: never}}}}
peer_timeout: 1s
sim:
  workload: {MEMORY}:Client
  clients: 3
  judges: [linearizable]
  for: 2s
  heal: 20s
nemesis: [FAULTS]
"""

KILL = "{at: 500ms, do: kill, node: register}"
LONG_PAUSE = "{at: 100ms, do: pause, node: '*', for: 60s}"


def topology(folder: Path, faults: str = KILL, settings: str = "") -> Path:
    """A file with this schedule and these settings."""
    path = folder / "t.yaml"
    path.write_text(TOPOLOGY.replace("FAULTS", faults).replace("SETTINGS", settings))
    return path


def found_in(text: str) -> dict[str, Any]:
    """What `chaos --json` says in the end."""
    found: dict[str, Any] = msgspec.json.decode(text)
    return found


@pytest.fixture
def trial(runtime: Path, tmp_path: Path) -> Path:
    """A folder in which trials run, and after which no process may be left."""
    return tmp_path


def test_a_register_that_keeps_its_promises_is_ok_while_it_is_killed_and_paused(trial: Path) -> None:
    faults = f"{KILL}, {{at: 1s, do: pause, node: '*', for: 200ms}}, {{at: 1s, do: power, node: register}}"
    done = zactor("chaos", str(topology(trial, faults)), "--json", folder=trial)

    found = found_in(done.stdout)
    assert (found["verdict"], found["faults"], found["skipped"]) == ("ok", {"kill": 1, "pause": 1}, {"power": 1})
    assert found["operations"] > 100


def test_sides_are_parted_or_slowed_and_what_was_lost_between_them_is_no_violation(trial: Path) -> None:
    sides = ['[register, "*"]', '["@client-0", "*"]', '["*", register], one_way: true', "[register, other]"]
    faults = ", ".join(
        f"{{at: {300 * number}ms, do: partition, between: {between}, for: 200ms}}"
        for number, between in enumerate(sides, 1)
    )
    slow = '{at: 1600ms, do: slow, between: ["*", other], by: 20ms, for: 200ms}'
    done = zactor("chaos", str(topology(trial, f"{faults}, {slow}")), folder=trial)

    said = done.stdout.splitlines()
    assert "  1.600 s slow * <-> other for 0.200 s by 0.020 s" in said
    assert "  0.300 s partition register <-> * for 0.200 s" in said
    assert "  0.900 s partition * -> register for 0.200 s" in said
    assert said[-1].startswith("trial: ok")
    assert said[-1].endswith("4 partition, 1 slow")


def test_one_that_forgets_is_found_and_its_history_can_be_judged_again(trial: Path) -> None:
    # Four times: now and then the first thing that it hears after its end is a write.
    faults = ", ".join([KILL, *(f"{{at: {at}ms, do: kill, node: register}}" for at in (1000, 1500, 1900))])
    done = zactor("chaos", str(topology(trial, faults, "forgets: true")), "--json", folder=trial, code=3)

    found = found_in(done.stdout)
    assert (found["verdict"], found["rule"]) == ("violation", "linearizable")
    zactor("judge", found["history"], folder=trial, code=3)


def test_a_mistake_that_a_node_logged_is_a_violation(trial: Path) -> None:
    done = zactor("chaos", str(topology(trial, settings="raises: true")), "--json", folder=trial, code=3)

    found = found_in(done.stdout)
    assert "ValueError" in found["because"]


def test_it_works_on_a_copy_of_the_state(trial: Path) -> None:
    path = topology(trial)
    value = Home(trial / ".zactor" / "trial", "trial").state / "register" / "value"
    with Launched(trial, path.read_text()) as launched:
        launched.ready()
    value.write_bytes((77).to_bytes(8, "little"))

    done = zactor("chaos", str(path), "--json", folder=trial, code=3)

    assert value.read_bytes() == (77).to_bytes(8, "little")
    assert "77" in found_in(done.stdout)["because"]  # that nobody wrote: the judge begins with an empty register


def test_what_does_not_come_up_is_no_verdict(trial: Path) -> None:
    done = zactor("chaos", str(topology(trial, settings="dies: true")), folder=trial, code=1)

    assert "trial did not come up" in done.stderr
    assert "it never starts" in done.stderr


def test_what_a_schedule_cannot_do_is_said_and_left_out(trial: Path) -> None:
    pauses = ", ".join(f"{{at: {at}, do: pause, node: register, for: 1s}}" for at in ("100ms", "200ms"))
    kills = "{at: 300ms, do: kill, node: other}, {at: 1500ms, do: kill, node: register, writing: true}"
    done = zactor("chaos", str(topology(trial, f"{pauses}, {kills}")), folder=trial)

    said = done.stdout.splitlines()
    assert "  0.100 s pause register for 1.000 s" in said
    assert "  0.200 s pause register for 1.000 s: skipped, it is paused" in said
    assert "  0.300 s kill other: skipped, one more end, and its policy would give it up" in said
    assert "  1.500 s kill register" in said


def test_what_runs_cannot_be_copied(trial: Path) -> None:
    path = topology(trial)
    with Launched(trial, path.read_text()) as launched:
        launched.ready()
        done = zactor("chaos", str(path), folder=trial, code=1)

    assert "trial is running already" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_interrupted_while_processes_are_held_up(trial: Path, number: signal.Signals) -> None:
    with _begun(topology(trial, LONG_PAUSE)) as process:
        nodes = eventually(_nodes)
        eventually(lambda: all(stopped(pid) for pid in nodes))
        process.send_signal(number)

        assert process.wait(PATIENCE_S) == 130
    assert not processes_here()


def test_nothing_is_left_when_it_is_killed_while_processes_are_held_up(trial: Path) -> None:
    with _begun(topology(trial, LONG_PAUSE)) as process:
        nodes = eventually(_nodes)
        eventually(lambda: all(stopped(pid) for pid in nodes))
        process.kill()

    eventually(lambda: not processes_here())


def _begun(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command("chaos", str(path)), cwd=path.parent, stdout=subprocess.DEVNULL)


def _nodes() -> list[int]:
    """The processes of both nodes, once they are there."""
    found = [pid for pid, line in processes_here().items() if "zactor.live.main" in line]
    return found if len(found) == 2 else []
