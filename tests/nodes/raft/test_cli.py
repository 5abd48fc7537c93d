"""`zactor raft` with real processes: who leads and who takes part, whatever is killed, paused, lost or damaged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.running import PATIENCE_S, Launched, command, eventually, private_runtime, zactor

pytestmark = pytest.mark.live

TOPOLOGY = """\
name: group
nodes:
  kv:
    kind: raft.peer
    replicas: 3
    links: {peers: kv}
    settings: {machine: kv.store}
    record: full
"""
NAMES = ["kv/0", "kv/1", "kv/2"]


@pytest.fixture(scope="module", autouse=True)
def runtime() -> Iterator[Path]:
    with private_runtime() as folder:
        yield folder


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Launched]:
    with Launched(tmp_path, TOPOLOGY) as launched:
        yield launched.ready()


def run(launched: Launched, *arguments: str, code: int = 0) -> str:
    """The command's output, or its one line of error when it has to fail."""
    done = zactor(*arguments, folder=launched.folder, code=code)
    assert "Traceback" not in done.stderr
    return done.stderr if code else done.stdout


def status(launched: Launched) -> dict[str, dict[str, Any]]:
    """What each peer says of itself."""
    done = subprocess.run(
        command("raft", "status", "--json"), cwd=launched.folder, capture_output=True, text=True, timeout=PATIENCE_S
    )
    return {each["node"]: each for each in map(json.loads, done.stdout.splitlines())}


def leader(launched: Launched, other_than: str = "") -> str:
    """Who leads; waits until somebody does."""

    def found() -> str:
        leading = [name for name, each in status(launched).items() if each.get("role") == "leader"]
        return next((name for name in leading if name != other_than), "")

    return eventually(found)


def voters(launched: Launched) -> list[str]:
    """The nodes that vote, as the leader knows."""
    members = status(launched)[leader(launched)]["members"]
    return sorted(name.partition("~")[0] for name in members["voters"])


def put(launched: Launched, key: str) -> None:
    run(launched, "kv", "put", key, key.upper())


def all_have(launched: Launched, *keys: str) -> bool:
    """Whether every peer has these, and nothing else."""
    found = status(launched)
    if any("error" in each for each in found.values()):
        return False
    same = len({(each["applied"], each["digest"]) for each in found.values()}) == 1
    return same and [run(launched, "kv", "get", key).strip() for key in keys] == [key.upper() for key in keys]


def test_a_put_is_on_all_peers_and_leadership_goes_where_it_is_wanted(group: Launched) -> None:
    put(group, "a")
    old = leader(group)
    to = next(name for name in NAMES if name != old)

    assert run(group, "raft", "transfer", to) == f"{to} is to lead\n"

    assert leader(group, other_than=old) == to
    put(group, "b")
    eventually(lambda: all_have(group, "a", "b"))


def test_leaders_that_are_killed_paused_and_cut_off_are_replaced_and_every_peer_replays(
    group: Launched,
) -> None:
    put(group, "a")
    paused = leader(group)
    os.kill(group.pid(paused), signal.SIGSTOP)
    put(group, "b")
    os.kill(group.pid(paused), signal.SIGCONT)
    killed = leader(group)
    os.kill(group.pid(killed), signal.SIGKILL)
    put(group, "c")
    cut = leader(group)
    run(group, "fault", "cut", cut)
    put(group, "d")
    assert run(group, "fault", "heal") == f"{cut}: no longer cut off from all others\n"
    eventually(lambda: all_have(group, "a", "b", "c", "d"))
    assert leader(group) != cut

    run(group, "down")

    for name in NAMES:
        assert "outputs as recorded" in zactor("replay", name, "-t", str(group.file), folder=group.folder).stdout


def test_a_peer_is_left_out_and_taken_in_again(group: Launched) -> None:
    out = next(name for name in NAMES if name != leader(group))

    assert out not in run(group, "raft", "remove", out)
    put(group, "a")
    assert f"learners: {out}" in run(group, "raft", "add", out)

    eventually(lambda: voters(group) == NAMES)
    eventually(lambda: all_have(group, "a"))


def test_a_lost_disk_comes_back_under_another_name_and_a_damaged_one_is_mended(group: Launched) -> None:
    for number in range(5):
        put(group, f"k{number}")
    lost, damaged = (name for name in NAMES if name != leader(group))
    state = group.home.state
    run(group, "stop", lost)
    for path in (state / lost).iterdir():
        if not path.name.startswith("@"):
            path.unlink() if path.is_file() else shutil.rmtree(path)
    run(group, "start", lost)
    eventually(lambda: voters(group) == NAMES)
    assert any("~" in name for name in status(group)[leader(group)]["members"]["voters"])

    run(group, "stop", damaged)
    journal = state / damaged / "journal.1"
    content = bytearray(journal.read_bytes())
    content[len(content.rstrip(b"\0")) // 2] ^= 1
    journal.write_bytes(content)
    run(group, "start", damaged)

    eventually(lambda: all_have(group, *[f"k{number}" for number in range(5)]))
    assert "journal_damaged" in run(group, "logs", "-n", damaged)


def test_a_snapshot_takes_the_place_of_the_log(group: Launched) -> None:
    for number in range(5):
        put(group, f"k{number}")
    for name in NAMES:
        assert run(group, "raft", "snapshot", name).startswith(f"{name}: a snapshot up to index")
    os.kill(group.pid("kv/0"), signal.SIGKILL)
    eventually(lambda: all_have(group, *[f"k{number}" for number in range(5)]))
    assert (group.home.state / "kv" / "0" / "snapshot.2").exists()


def test_without_a_majority_a_put_says_so(group: Launched) -> None:
    put(group, "a")
    for name in [name for name in NAMES if name != leader(group)]:
        run(group, "stop", name)

    said = run(group, "kv", "put", "b", "B", "--timeout", "2s", code=1)

    assert "no replica answers for all of them" in said
    assert run(group, "kv", "get", "a", "--read", "eventual").strip() == "A"
    assert "nobody leads" in zactor("raft", "status", folder=group.folder, code=1).stderr


def test_what_is_wrong_is_said_in_one_line(group: Launched) -> None:
    assert "kv/9" in run(group, "raft", "add", "kv/9", code=2)
    assert "kv/9 is no other voter" in run(group, "raft", "transfer", "kv/9", code=1)
    assert "no group is called 'kvv'. Did you mean 'kv'?" in run(group, "raft", "status", "-n", "kvv", code=2)
