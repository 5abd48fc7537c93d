"""A topology comes up, stays up and goes down, whatever is done to its processes and to its launcher."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.live.running import (
    PATIENCE_S,
    Launched,
    alive,
    command,
    eventually,
    eventually_in_loop,
    kind,
    processes_here,
    word,
    zactor,
)
from zactor.client import AsyncClient
from zactor.errors import ConnectionLost, Failure

pytestmark = pytest.mark.live

T = TypeVar("T")

UPS = int(os.environ.get("ZACTOR_TEST_UPS", "10"))
"""How often a topology is brought up and down; the environment variable ZACTOR_TEST_UPS may say more."""

TINY = "name: tiny\nnodes:\n  greeter: {kind: hello.greeter}\n"
HELLO = (
    "name: hello\nnodes:\n  greeter: {kind: hello.greeter}\n  caller: {kind: hello.caller, links: {greeter: greeter}}\n"
)
CHAIN = f"""\
name: chain
nodes:
  echo: {{kind: {kind("Echo")}}}
  front: {{kind: {kind("Front")}, links: {{echo: echo}}}}
"""


def with_client(launched: Launched, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
    async def main() -> T:
        async with launched.client() as client:
            return await work(client)

    return asyncio.run(main())


def ask(launched: Launched, node: str, message: Any) -> Any:
    return with_client(launched, lambda client: client.ask(client.ref(node), message, PATIENCE_S))


async def ask_until_answered(client: AsyncClient, node: str, message: Any) -> Any:
    """An answer, from whichever incarnation of a process comes to give one."""

    async def attempt() -> Any:
        try:
            return await client.ask(client.ref(node), message, 1.0)
        except Failure:
            return None

    for _ in range(int(PATIENCE_S)):
        if (answer := await attempt()) is not None:
            return answer
        await asyncio.sleep(0.05)  # it is being restarted
    raise AssertionError(f"{node} never answered")


# --- up and down
def test_up_and_down_leave_nothing_behind_however_often(tmp_path: Path, runtime: Path) -> None:
    (tmp_path / "t.yaml").write_text(TINY)
    before = {path for path in runtime.rglob("*") if path.name != "zactor"}  # of launchers that a test has killed
    for _ in range(UPS):
        zactor("up", "-d", "t.yaml", folder=tmp_path)
        assert len(processes_here()) == 2
        assert zactor("ask", "greeter", "Greet", "name=world", folder=tmp_path).stdout == "Hello, world!\n"
        zactor("down", folder=tmp_path)

        assert processes_here() == {}
        assert {path for path in runtime.rglob("*") if path.name != "zactor"} <= before


def test_up_says_what_it_does_and_down_says_so_too(tmp_path: Path) -> None:
    with Launched(tmp_path, HELLO) as launched:
        launched.ready()
        pids = launched.pids()
        said = zactor("down", folder=tmp_path).stdout
        assert launched.wait() == 0

    assert said == "hello: stopped\n"
    assert "ready: 2 nodes in" in launched.text()
    assert "greeter  hello.greeter  pid" in launched.text()
    assert not any(map(alive, pids))


def test_a_detached_topology_returns_the_prompt_when_it_is_ready(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(HELLO)
    try:
        said = zactor("up", "-d", "t.yaml", folder=tmp_path).stdout
        assert "ready: 2 nodes" in said
        assert "tiny" not in zactor("ls", folder=tmp_path).stdout
        assert zactor("ask", "caller", "LastGreeting", folder=tmp_path).stdout == "Hello, world!\n"
    finally:
        zactor("down", folder=tmp_path)


def test_inline_runs_everything_in_the_one_process(tmp_path: Path) -> None:
    with Launched(tmp_path, CHAIN, "--inline") as launched:
        launched.ready()

        assert ask(launched, "front", word("Pid")()) == launched.process.pid
        assert list(processes_here()) == [launched.process.pid]

        launched.process.send_signal(signal.SIGINT)
        assert launched.wait() == 130


def test_a_second_up_of_what_runs_as_its_file_says_changes_nothing(tmp_path: Path) -> None:
    with Launched(tmp_path, TINY) as launched:
        book = launched.ready().book()

        attached = zactor("up", "t.yaml", folder=tmp_path)
        detached = zactor("up", "-d", "t.yaml", folder=tmp_path)

        run = f"(pid {launched.process.pid}, run {book.run})"
        for said in (attached, detached):
            assert said.stdout == f"nothing to change: tiny runs as the file says {run}\n"
        assert launched.book().processes == book.processes
        assert zactor("ask", "greeter", "Greet", "name=x", folder=tmp_path).stdout == "Hello, x!\n"


def test_what_an_actor_prints_is_in_the_file_of_its_process_at_once(tmp_path: Path) -> None:
    with Launched(tmp_path, f"name: printer\nnodes:\n  printer: {{kind: {kind('Printer')}}}\n") as launched:
        launched.ready()

        ask(launched, "printer", word("Say")(text="to standard output"))

        assert (launched.run_folder() / "printer.out").read_text() == "to standard output\n"


# --- how it ends
def test_a_launcher_that_is_killed_takes_all_its_processes_with_it(tmp_path: Path) -> None:
    with Launched(tmp_path, HELLO) as launched:
        pids = launched.ready().pids()

        launched.process.kill()
        launched.process.wait()

        eventually(lambda: not any(map(alive, pids)), timeout_s=2.0)
    zactor("ls", folder=tmp_path)
    with Launched(tmp_path, HELLO) as launched:  # what it left does not stand in the way
        launched.ready()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)])
def test_one_signal_stops_all_in_order(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with Launched(tmp_path, HELLO) as launched:
        pids = launched.ready().pids()

        launched.process.send_signal(number)

        assert launched.wait() == code
        assert "killed" not in launched.text()
        assert not any(map(alive, pids))
        assert launched.home.running() is None


def test_ctrl_c_twice_kills(tmp_path: Path) -> None:
    with Launched(tmp_path, f"name: stubborn\nnodes:\n  node: {{kind: {kind('NeverStops')}}}\n") as launched:
        pids = launched.ready().pids()

        launched.process.send_signal(signal.SIGINT)
        eventually(lambda: "stubborn: stopping" in launched.text())
        launched.process.send_signal(signal.SIGINT)

        assert launched.wait() == 130
        assert "node killed" in launched.text()
        assert not any(map(alive, pids))


def test_a_process_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    with Launched(tmp_path, f"name: stubborn\nnodes:\n  node: {{kind: {kind('NeverStops')}}}\n") as launched:
        pids = launched.ready().pids()

        launched.process.send_signal(signal.SIGTERM)

        assert launched.wait() == 0
        assert not any(map(alive, pids))


def test_ctrl_c_while_nodes_start_stops_what_there_is(tmp_path: Path) -> None:
    with Launched(tmp_path, f"name: slow\nnodes:\n  node: {{kind: {kind('NeverReady')}}}\n") as launched:
        eventually(lambda: len(processes_here()) == 2)

        launched.process.send_signal(signal.SIGINT)

        assert launched.wait() == 130
        assert processes_here() == {}


def test_writes_that_nobody_waits_for_are_done_before_the_process_ends(tmp_path: Path) -> None:
    topology = f"name: writes\nnodes:\n  writer: {{kind: {kind('Writer')}}}\n"
    with Launched(tmp_path, topology) as launched:
        launched.ready()
        ask(launched, "writer", word("Store")(size=1 << 20, times=64))
        zactor("down", folder=tmp_path)
        assert launched.wait() == 0
        out = sorted((launched.home.folder / "runs").glob("*/writer.out"))

    assert (launched.home.state / "writer" / "file").stat().st_size == 64 << 20
    assert out[0].read_text() == ""


# --- what cannot start
def test_up_says_which_node_fails_and_why(tmp_path: Path) -> None:
    topology = f"""\
name: broken
nodes:
  good: {{kind: hello.greeter}}
  bad: {{kind: {kind("FailsAtStart")}, restart: {{backoff: 1ms..2ms, limit: 1 in 60s}}}}
"""
    with Launched(tmp_path, topology) as launched:
        assert launched.wait() == 1

    assert "broken did not come up" in launched.text()
    assert "bad: " in launched.text()
    assert "no such luck" in launched.text()
    assert "Traceback" not in launched.text()
    assert processes_here() == {}


def test_up_says_why_a_node_that_is_never_restarted_failed(tmp_path: Path) -> None:
    topology = f"name: broken\nnodes:\n  bad: {{kind: {kind('FailsAtStart')}, restart: {{when: never}}}}\n"
    with Launched(tmp_path, topology) as launched:
        assert launched.wait() == 1

    assert "no such luck" in launched.text().partition("did not come up")[2]


@pytest.mark.parametrize("options", [[], ["--inline"]])
def test_a_node_that_stops_for_good_among_others_fails_the_start_at_once(tmp_path: Path, options: list[str]) -> None:
    topology = f"""\
name: broken
nodes:
  good: {{kind: hello.greeter}}
  bad: {{kind: {kind("FailsAtStart")}, restart: {{when: never}}}}
processes:
  both: {{nodes: [good, bad]}}
"""
    with Launched(tmp_path, topology, "--timeout", "1h", *options) as launched:
        assert launched.wait() == 1

    assert "bad: failed: no such luck" in launched.text().partition("did not come up")[2]


def test_up_names_the_node_whose_on_start_never_returns(tmp_path: Path) -> None:
    topology = f"""\
name: slow
nodes:
  good: {{kind: hello.greeter}}
  late: {{kind: {kind("NeverReady")}}}
"""
    (tmp_path / "detached").mkdir()
    (tmp_path / "detached" / "t.yaml").write_text(topology)
    with Launched(tmp_path, topology, "--timeout", "1s") as launched:
        assert launched.wait() == 1
    refused = zactor("up", "-d", "--timeout", "1s", "t.yaml", folder=tmp_path / "detached", code=1)

    for said in (launched.text(), refused.stderr):
        assert "not ready after 1 s: late waits for its on_start" in said
        assert "good" not in said.partition("not ready")[2]
    assert processes_here() == {}


def test_inline_names_the_node_whose_on_start_never_returns(tmp_path: Path) -> None:
    topology = f"name: slow\nnodes:\n  late: {{kind: {kind('NeverReady')}}}\n"
    with Launched(tmp_path, topology, "--inline", "--timeout", "1s") as launched:
        assert launched.wait() == 1

    assert "not ready after 1 s: late" in launched.text()


# --- a process that dies
def test_a_process_that_is_killed_comes_back_with_a_higher_incarnation(tmp_path: Path) -> None:
    with Launched(tmp_path, CHAIN) as launched:
        launched.ready()
        before = launched.book()

        os.kill(launched.pid("echo"), signal.SIGKILL)
        eventually(lambda: launched.book().processes["echo"].incarnation == 2 and launched.book().processes["echo"].pid)

        after = launched.book()
        assert after.version > before.version
        assert after.processes["echo"].pid != before.processes["echo"].pid
        assert after.processes["front"] == before.processes["front"]
        assert "process echo restarting: killed by signal 9" in launched.text()


def test_what_waits_for_a_process_that_is_killed_hears_so_and_later_asks_are_answered(tmp_path: Path) -> None:
    async def scenario(client: AsyncClient) -> tuple[Any, int]:
        held = client.ask(client.ref("echo"), word("Hold")(), 3600.0)
        through = client.ask(client.ref("front"), word("Hold")(), 3600.0)

        async def both_wait() -> bool:
            actors = [(await client.inspect(process))["actors"][0] for process in ("echo", "front")]
            return all(actor["waits_for"] for actor in actors)

        await eventually_in_loop(both_wait)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(held, PATIENCE_S)
        with pytest.raises(Failure, match=r"echo|signal 9"):
            await asyncio.wait_for(through, PATIENCE_S)
        # The front's link leads to the new process, and so does the client's own ref.
        new = await ask_until_answered(client, "front", word("Pid")())
        return await ask_until_answered(client, "echo", word("Pid")()), new

    with Launched(tmp_path, CHAIN) as launched:
        pid = launched.ready().pid("echo")

        own, through_front = with_client(launched, scenario)

        assert own == through_front != pid
        assert launched.pid("echo") == own


def test_a_node_that_links_to_a_restarted_process_is_linked_again_when_it_restarts_itself(tmp_path: Path) -> None:
    with Launched(tmp_path, CHAIN) as launched:
        launched.ready()

        for process in ("echo", "front", "echo", "front"):
            old = launched.pid(process)
            os.kill(old, signal.SIGKILL)
            eventually(lambda: launched.book().processes[process].pid not in (old, None))  # noqa: B023 - it ends here
            say = word("Say")(text=process)
            assert with_client(launched, lambda client: ask_until_answered(client, "front", say)) == process  # noqa: B023


def test_a_failure_with_a_very_long_text_is_noticed_all_the_same(tmp_path: Path) -> None:
    topology = (
        f"name: long\nnodes:\n  echo: {{kind: {kind('Echo')}, restart: {{backoff: 1ms..2ms, limit: 1 in 60s}}}}\n"
    )

    async def fail_again(client: AsyncClient) -> None:
        with pytest.raises(Failure):
            await client.ask(client.ref("echo"), word("Raise")(size=9_000_000), PATIENCE_S)

    async def fail(client: AsyncClient) -> str:
        with pytest.raises(Failure):
            await client.ask(client.ref("echo"), word("Raise")(size=9_000_000), PATIENCE_S)
        (actor,) = (await client.inspect("echo", PATIENCE_S))["actors"]
        return str(actor["last_error"])

    with Launched(tmp_path, topology) as launched:
        launched.ready()

        assert with_client(launched, fail).startswith("echo: RuntimeError: xxx")
        with_client(launched, fail_again)

        eventually(lambda: "process echo restarting" in launched.text())


def test_up_reads_no_standard_input_and_survives_its_terminal(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(TINY)
    process = subprocess.Popen(
        command("up", "t.yaml"), cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    lines = iter(process.stdout.readline, "")
    assert any(line.startswith("ready:") for line in lines)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    process.stdout.close()


def test_up_goes_on_when_nobody_reads_what_it_says(tmp_path: Path) -> None:
    with Launched(tmp_path, TINY) as launched:  # its home is where we look
        launched.ready()
        zactor("down", folder=tmp_path)
        launched.wait()
    process = subprocess.Popen(command("up", "t.yaml"), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any(line.startswith("ready:") for line in iter(process.stdout.readline, ""))
    process.stdout.close()

    for incarnation in (2, 3):
        os.kill(launched.pid("greeter"), signal.SIGKILL)
        eventually(lambda: launched.book().processes["greeter"].incarnation == incarnation)  # noqa: B023 - it ends here
        eventually(lambda: launched.book().processes["greeter"].endpoint)

    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


def test_ctrl_c_while_a_detached_topology_starts_stops_it(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(f"name: slow\nnodes:\n  node: {{kind: {kind('NeverReady')}}}\n")
    process = subprocess.Popen(command("up", "-d", "t.yaml"), cwd=tmp_path, stdout=subprocess.PIPE)
    eventually(lambda: len(processes_here()) == 3)

    process.send_signal(signal.SIGINT)

    assert process.wait(PATIENCE_S) == 130
    eventually(lambda: processes_here() == {})
    assert process.stdout is not None
    process.stdout.close()


def test_a_mistake_of_zactor_ends_the_process_and_one_of_a_library_does_not(tmp_path: Path) -> None:
    topology = f"name: broken\nnodes:\n  node: {{kind: {kind('Saboteur')}}}\n"
    with Launched(tmp_path, topology) as launched:
        launched.ready()
        ask(launched, "node", word("Break")(task=True))
        eventually(lambda: "nobody looks" in (launched.run_folder() / "node.out").read_text())
        assert ask(launched, "node", word("Pid")()) == launched.pid("node")

        ask(launched, "node", word("Break")(task=False))

        eventually(lambda: "process node restarting: zactor itself failed" in launched.text())
        assert "a mistake of zactor" in launched.text()
