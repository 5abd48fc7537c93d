"""A simulated run in a folder: each incarnation of each process does the same again, alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sim import stage
from zactor.cli.main import run
from zactor.launchers.trial_runs import run_recorded
from zactor.topology.model import Topology
from zactor.topology.read import read

FILES = Path(__file__).parents[2] / "configs" / "files-trial.yaml"

NEMESIS = """
nemesis:
  - {at: 2s, do: kill, node: metadata}
  - {at: 3s, do: power, node: store/0, writing: true}
  - {at: 5s, do: power, node: metadata, writing: true}
  - {at: 6s, do: blink, node: store}
  - {at: 7s, do: pause, node: metadata, for: 2s}
  - {at: 10s, do: partition, between: [store/0, "*"], for: 2s}
"""


def files() -> Topology:
    """The trial of the files, in which processes end in every way that there is."""
    text = FILES.read_text().replace("  clients: 5", "  for: 12s").replace("{store: 1..4}", "{store: 2..2}")
    return read(text + NEMESIS, FILES)


def replayed(capsys: pytest.CaptureFixture[str], node: str, folder: Path) -> list[dict[str, Any]]:
    """What `zactor replay` says of an actor, an incarnation each."""
    assert run(["replay", node, "-r", str(folder), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_incarnation_of_every_process_does_the_same_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topology = files()
    plan = stage.plan(topology)
    result = run_recorded(topology, plan, tmp_path / "run")
    ended = {"metadata": 2, "store/0": 2, "store/1": 1}
    incarnations = {node: 1 + times for node, times in ended.items()} | {f"@client-{n}": 1 for n in plan.clients}

    assert result.faults.keys() == {"kill", "power", "blink", "pause", "partition"}
    for node, count in incarnations.items():
        outcomes = replayed(capsys, node, tmp_path / "run")
        assert [(each["difference"], each["damage"]) for each in outcomes] == [(None, [])] * count, node
        assert sum(each["outputs"] for each in outcomes) > 100, node


def test_a_recorded_run_is_the_same_run(tmp_path: Path) -> None:
    topology = stage.topology()

    assert run_recorded(topology, stage.plan(topology), tmp_path / "run").trace == stage.run(topology).trace


def test_a_run_takes_the_place_of_the_one_before_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_recorded(stage.topology(), stage.plan(stage.topology()), tmp_path / "run")
    before = replayed(capsys, "register", tmp_path / "run")
    quiet = stage.topology(faults="", span="1s")
    run_recorded(quiet, stage.plan(quiet), tmp_path / "run")

    assert len(before) == 3
    assert len(replayed(capsys, "register", tmp_path / "run")) == 1


def test_the_log_of_a_run_is_shown_as_any_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_recorded(stage.topology(), stage.plan(stage.topology()), tmp_path / "run")

    assert run(["logs", "-r", str(tmp_path / "run"), "-n", "nemesis", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["kill", "pause", "cut", "power"]
    assert sorted(events, key=lambda event: event["hlc"]) == events
