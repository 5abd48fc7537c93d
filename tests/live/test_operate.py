"""A running topology is operated: nodes are stopped, started, given up and changed while the others go on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.live.running import (
    PATIENCE_S,
    Launched,
    alive,
    command,
    eventually,
    kind,
    word,
    zactor,
)
from zactor.errors import Failure

pytestmark = pytest.mark.live

TWO = """\
name: two
nodes:
  one: {kind: hello.greeter, settings: {salutation: Hi}}
  two: {kind: hello.caller, links: {greeter: one}}
"""
WATCHED = f"""\
name: watched
nodes:
  frail: {{kind: {kind("Echo")}, restart: {{backoff: 1ms..1ms, limit: 1 in 60s}}}}
  watcher: {{kind: {kind("Watcher")}, links: {{target: frail}}}}
"""
SHARED = f"""\
name: shared
nodes:
  echo: {{kind: {kind("Echo")}}}
  other: {{kind: {kind("Echo")}}}
  front: {{kind: {kind("Front")}, links: {{echo: echo}}}}
processes:
  both: {{nodes: [echo, other]}}
"""


def ask(launched: Launched, node: str, message: Any) -> Any:
    async def main() -> Any:
        async with launched.client() as client:
            return await client.ask(client.ref(node), message, PATIENCE_S)

    return asyncio.run(main())


def rows(launched: Launched) -> dict[str, dict[str, Any]]:
    """What `ps` says of each node."""
    said = zactor("ps", "--json", folder=launched.folder).stdout
    return {row["node"]: row for row in map(json.loads, said.splitlines())}


@contextmanager
def held(pid: int) -> Iterator[None]:
    """A process stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# --- single nodes
def test_a_process_that_fails_too_often_is_given_up_where_everybody_can_see_it(tmp_path: Path) -> None:
    with Launched(tmp_path, WATCHED) as launched:
        launched.ready()
        for _ in range(2):
            pid = eventually(lambda: launched.book().processes["frail"].pid)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: launched.book().processes["frail"].pid != pid)  # noqa: B023 - it ends here
        because = "killed by signal 9; 1 restarts in 60 s"
        eventually(lambda: launched.book().processes["frail"].gone)

        assert (rows(launched)["frail"]["state"], rows(launched)["frail"]["last_error"]) == ("gone", because)
        assert f"process frail gone: {because}" in launched.text()
        assert any("process_gone" in line and because in line for line in launched.log_lines("@launcher"))
        eventually(lambda: (ask(launched, "watcher", word("Told")()) or [""])[-1] == f"down for good: {because}")
        with pytest.raises(Failure, match="1 restarts in 60 s"):
            ask(launched, "frail", word("Pid")())

        assert zactor("start", "frail", folder=tmp_path).stdout == "frail: started\n"

        assert ask(launched, "frail", word("Pid")()) == launched.pid("frail")
        eventually(lambda: ask(launched, "watcher", word("Told")())[-1] == "up")


def test_a_process_that_stands_still_is_hung_and_can_be_stopped_killed_and_started(tmp_path: Path) -> None:
    with Launched(tmp_path, TWO) as launched:
        pid = launched.ready().pid("one")
        with held(pid):
            assert rows(launched)["one"]["state"] == "hung"
            assert rows(launched)["two"]["state"] == "ready"
            table = zactor("ps", folder=tmp_path).stdout.splitlines()
            assert "hung" in table[1]
            assert "no answer for 1 s" in table[1]
        eventually(lambda: rows(launched)["one"]["state"] == "ready")

        os.kill(pid, signal.SIGSTOP)
        assert zactor("stop", "one", folder=tmp_path).stdout == "one: stopped\n"

        assert not alive(pid)
        assert zactor("start", "one", folder=tmp_path).stdout == "one: started\n"

        again = launched.pid("one")
        os.kill(again, signal.SIGSTOP)
        assert zactor("kill", "one", folder=tmp_path).stdout == "one: killed\n"

        assert not alive(again)
        eventually(lambda: launched.book().processes["one"].endpoint)
        assert launched.pid("one") not in (pid, again)


def test_mail_for_a_node_that_was_stopped_is_refused_at_once_and_not_kept_for_the_next(tmp_path: Path) -> None:
    with Launched(tmp_path, TWO) as launched:
        launched.ready()
        zactor("stop", "one", folder=tmp_path)

        refused = zactor("send", "one", "Greet", "name=x", folder=tmp_path, code=1)
        asked = zactor("ask", "one", "Greet", "name=x", folder=tmp_path, code=1)

        assert "stopped by zactor stop" in refused.stderr
        assert "stopped by zactor stop" in asked.stderr
        zactor("start", "one", folder=tmp_path)
        assert zactor("ask", "one", "Greet", "name=x", folder=tmp_path).stdout == "Hi, x!\n"


def test_one_of_several_nodes_of_a_process_stops_and_starts_while_the_others_go_on(tmp_path: Path) -> None:
    with Launched(tmp_path, SHARED) as launched:
        pid = launched.ready().pid("both")

        assert zactor("stop", "echo", folder=tmp_path).stdout == "echo: stopped\n"

        found = rows(launched)
        assert (found["echo"]["state"], found["echo"]["last_error"]) == ("stopped", "stopped by zactor stop")
        assert ask(launched, "other", word("Pid")()) == pid
        with pytest.raises(Failure):
            ask(launched, "front", word("Pid")())

        assert zactor("restart", "echo", "other", folder=tmp_path).stdout == "echo: restarted\nother: restarted\n"

        assert ask(launched, "front", word("Pid")()) == launched.pid("both")


def test_a_deadline_that_passes_is_said_and_what_was_begun_goes_on(tmp_path: Path) -> None:
    topology = f"name: slow\nnodes:\n  good: {{kind: hello.greeter}}\n  node: {{kind: {kind('StartsWhenTold')}}}\n"
    with Launched(tmp_path, topology) as launched:
        (tmp_path / ".zactor/slow/state/node").mkdir(parents=True)
        (tmp_path / ".zactor/slow/state/node/go").touch()
        launched.ready()
        (tmp_path / ".zactor/slow/state/node/go").unlink()

        refused = zactor("restart", "node", "--timeout", "500ms", folder=tmp_path, code=124)

        assert refused.stderr == "zactor: node: not ready in time: node waits for its on_start (created)\n"
        (tmp_path / ".zactor/slow/state/node/go").touch()
        eventually(lambda: rows(launched)["node"]["state"] == "ready")


# --- another topology
def test_a_change_leaves_what_did_not_change_alone(tmp_path: Path) -> None:
    with Launched(tmp_path, TWO) as launched:
        before = launched.ready().book()
        changed = TWO.replace("Hi}", "Hello}") + "  three: {kind: hello.greeter}\n"
        launched.file.write_text(changed)

        said = zactor("up", "t.yaml", folder=tmp_path).stdout.splitlines()

        assert said[:2] == ["~ one: settings.salutation 'Hi' -> 'Hello'", "+ three"]
        assert said[2].startswith("changed: 1 started, 1 restarted in ")
        after = launched.book()
        assert after.processes["two"] == before.processes["two"]
        assert after.processes["one"].number == before.processes["one"].number
        assert after.processes["three"].number == 3
        assert zactor("ask", "one", "Greet", "name=x", folder=tmp_path).stdout == "Hello, x!\n"
        assert zactor("ask", "three", "Greet", "name=x", folder=tmp_path).stdout == "Hello, x!\n"

        launched.file.write_text(TWO)
        said = zactor("up", "t.yaml", folder=tmp_path).stdout.splitlines()

        assert said[:2] == ["- three", "~ one: settings.salutation 'Hello' -> 'Hi'"]
        assert "there is no node 'three'" in zactor("ask", "three", "Greet", "name=x", folder=tmp_path, code=2).stderr
        assert launched.book().processes["two"] == before.processes["two"]
    assert launched.wait() == 0


def test_a_link_follows_its_node_into_another_process(tmp_path: Path) -> None:
    alone = SHARED.replace("[echo, other]", "[other]")
    with Launched(tmp_path, alone) as launched:
        launched.ready()
        front = launched.pid("front")
        assert ask(launched, "front", word("Pid")()) == launched.pid("echo")

        for topology, process in ((SHARED, "both"), (alone, "echo")):
            launched.file.write_text(topology)
            assert "~ echo: process" in zactor("up", "t.yaml", folder=tmp_path).stdout

            assert ask(launched, "front", word("Pid")()) == launched.pid(process)
        assert launched.pid("front") == front


def test_what_a_node_keeps_outlives_its_removal(tmp_path: Path) -> None:
    writer = f"  writer: {{kind: {kind('Writer')}}}\n"
    with Launched(tmp_path, TWO + writer) as launched:
        launched.ready()
        ask(launched, "writer", word("Store")(size=3, times=1))

        for topology in (TWO, TWO + writer):
            launched.file.write_text(topology)
            zactor("up", "t.yaml", folder=tmp_path)

        assert ask(launched, "writer", word("Load")()) == 3
        assert launched.book().processes["writer"].incarnation == 2


def test_two_that_change_a_topology_at_once_take_turns(tmp_path: Path) -> None:
    with Launched(tmp_path, TWO) as launched:
        launched.ready()
        launched.file.write_text(TWO + "  three: {kind: hello.greeter}\n")
        both = [
            subprocess.Popen(command("up", "t.yaml"), cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(2)
        ]

        said = sorted(process.communicate(timeout=PATIENCE_S)[0].splitlines()[-1] for process in both)

        assert [process.returncode for process in both] == [0, 0]
        assert said[0].startswith("changed: 1 started in ")
        assert said[1].startswith("nothing to change: two runs as the file says")


def test_of_two_that_bring_a_topology_up_at_once_one_does(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(TWO)
    both = [
        subprocess.Popen(
            command("up", "-d", "t.yaml"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        said = ["".join(process.communicate(timeout=PATIENCE_S)) for process in both]

        (launcher,) = [text for text in said if "ready: 2 nodes" in text]
        (other,) = [text for text in said if text != launcher]
        assert "two is running already" in other or "nothing to change" in other
        assert len(zactor("ls", "--json", folder=tmp_path).stdout.splitlines()) == 1
        assert len(list((tmp_path / ".zactor" / "two" / "runs").iterdir())) == 1
    finally:
        zactor("down", folder=tmp_path)
