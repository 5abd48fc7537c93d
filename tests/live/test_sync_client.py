"""A program that knows nothing of asyncio joins a running topology, from several threads, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.running import ACTORS, PATIENCE_S, Launched, eventually, kind, lines_of, word
from zactor import AskTimeout, Client, ConnectionLost, Down, Up
from zactor.errors import ActorStopped, UserError
from zactor.launchers.folders import NotRunning

pytestmark = pytest.mark.live

TOPOLOGY = f"name: sync\nnodes:\n  echo: {{kind: {kind('Echo')}}}\n  pair: {{kind: {kind('Echo')}, replicas: 2}}\n"

PROGRAM = f"""\
import os, signal, sys, threading
from pathlib import Path
from zactor import registry, Client

echo = sys.modules[registry.find("{ACTORS}:Echo", Path("/")).__module__]
"""

INTERRUPTED = """\
with Client("sync") as client:
    print("asking", flush=True)
    try:
        client.ask("pair/0", echo.Hold(), 3600.0)
    except KeyboardInterrupt:
        print("interrupted", client.ask("echo", echo.Say(text="again")), flush=True)
    watch = client.watch("echo")
    try:
        print("watching", flush=True)
        for notice in watch:
            print(notice)
    except KeyboardInterrupt:
        print("interrupted", client.ask("echo", echo.Say(text="again")), flush=True)
print(threading.active_count(), flush=True)
"""

FORKED = """\
with Client("sync") as client:
    client.ask("echo", echo.Say(text="x"))
    child = os.fork()
    if not child:
        try:
            client.ask("echo", echo.Say(text="x"))
        except RuntimeError as problem:
            print(problem, flush=True)
        client.close()
        with Client("sync") as another:
            print(another.ask("echo", echo.Say(text="from the child")), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(client.ask("echo", echo.Say(text="from the parent")))
"""

UNCLOSED = """\
client = Client("sync")
print(client.ask("echo", echo.Say(text="and gone")))
"""


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    with Launched(tmp_path_factory.mktemp("sync"), TOPOLOGY) as launched:
        yield launched.ready()


def program(text: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM + text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )


def outcome(process: subprocess.Popen[bytes]) -> tuple[int, list[str], str]:
    """Exit code, what it still said, and what it complained about."""
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out.decode().splitlines(), err.decode()


# --- finding
def test_a_topology_is_found_by_its_name_its_file_and_its_run(launched: Launched) -> None:
    for topology in (None, "sync", str(launched.file), launched.file, launched.run_folder(), launched.home):
        with Client(topology) as client:
            assert client.ask("echo", word("Say")(text="found")) == "found"


def test_what_is_not_running_is_said_with_what_is(launched: Launched, tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="'snyc' is not running; running are: sync"):
        Client("snyc")
    with pytest.raises(UserError, match=f"{tmp_path}: there is no book.json here; expected a topology's name or file"):
        Client(tmp_path)


def test_when_several_topologies_are_running_one_has_to_be_named(launched: Launched, tmp_path: Path) -> None:
    with Launched(tmp_path, TOPOLOGY.replace("sync", "second")) as second:
        second.ready()
        with pytest.raises(
            UserError, match="several topologies are running; say which with its NAME or its FILE:\n  se"
        ):
            Client()
        with Client("second") as client:
            assert client.book.run == second.lock().run


def test_a_folder_that_was_chosen_is_the_one_that_counts(
    launched: Launched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZACTOR_DIR", str(tmp_path))

    with pytest.raises(NotRunning, match="'sync' is not running"):
        Client("sync")


# --- using
def test_nodes_are_asked_told_and_looked_at_by_name(launched: Launched) -> None:
    with Client("sync") as client:
        assert client.names("pair") == ["pair/0", "pair/1"]
        assert client.ask(client.ref("pair/1"), word("Say")(text="by ref")) == "by ref"
        client.send("pair/0", word("Say")(text="nobody answers"))
        assert client.inspect("pair/1")["actors"][0]["name"] == "pair/1"
        with pytest.raises(UserError, match="'pair' is 2 nodes: pair/0, pair/1; say which one"):
            client.ask("pair", word("Say")(text="x"))
        with pytest.raises(AskTimeout):
            client.ask("pair/1", word("Hold")(), 0.01)


def test_several_threads_use_one_client(launched: Launched) -> None:
    answers: list[list[str]] = []

    def ask(number: int) -> None:
        answers.append([client.ask("echo", word("Say")(text=f"{number}.{index}")) for index in range(50)])

    with Client("sync") as client:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)

    assert sorted(answers) == sorted([f"{number}.{index}" for index in range(50)] for number in range(8))


def test_closing_ends_what_other_threads_wait_for_and_leaves_no_thread(launched: Launched) -> None:
    before = threading.active_count()
    client = Client("sync")
    ended: list[object] = []

    def wait_for_an_answer() -> None:
        try:
            client.ask("pair/0", word("Hold")(), 3600.0)
        except ActorStopped as problem:
            ended.append(str(problem))

    def wait_for_notices() -> None:
        ended.append(list(client.watch("echo")))

    threads = [threading.Thread(target=wait_for_an_answer), threading.Thread(target=wait_for_notices)]
    for thread in threads:
        thread.start()
    eventually(lambda: client._client._unsettled and client._client._watches)
    client.close()
    for thread in threads:
        thread.join(PATIENCE_S)

    assert sorted(ended, key=str) == [[], "the client was closed before the answer came"]
    assert threading.active_count() == before
    client.close()
    with pytest.raises(RuntimeError, match="the client was closed; make another one"):
        client.ask("echo", word("Say")(text="x"))
    with pytest.raises(RuntimeError, match="the client was closed; make another one"):
        client.names()


def test_a_client_that_cannot_be_made_leaves_no_thread(launched: Launched) -> None:
    before = threading.active_count()

    with pytest.raises(NotRunning):
        Client("nothing")

    assert threading.active_count() == before


def test_where_a_loop_runs_a_client_that_waits_is_refused(launched: Launched) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="would hold up the loop that runs here; use AsyncClient and await it"):
            Client("sync")
        with pytest.raises(RuntimeError, match="would hold up the loop that runs here; use AsyncClient and await it"):
            client.ask("echo", word("Say")(text="x"))

    with Client("sync") as client:
        asyncio.run(main())


def test_ctrl_c_ends_what_is_waited_for_and_the_client_goes_on(launched: Launched) -> None:
    with Client("sync") as client:
        process = program(INTERRUPTED)
        assert next(lines_of(process)) == "asking"
        eventually(lambda: client.inspect("pair/0")["actors"][0]["waits_for"])
        process.send_signal(signal.SIGINT)
        assert next(lines_of(process)) == "interrupted again"
        eventually(lambda: not client.inspect("pair/0")["actors"][0]["waits_for"])
        assert next(lines_of(process)) == "watching"
        process.send_signal(signal.SIGINT)

        assert outcome(process) == (0, ["interrupted again", "1"], "")


def test_a_forked_child_makes_a_client_of_its_own(launched: Launched) -> None:
    code, lines, _warnings = outcome(program(FORKED))

    assert code == 0
    assert "after a fork, make another one in the child" in lines[0]
    assert lines[1:] == ["from the child", "from the parent"]


def test_a_program_that_does_not_close_its_client_ends_all_the_same(launched: Launched) -> None:
    assert outcome(program(UNCLOSED)) == (0, ["and gone"], "")


# --- death and return
def test_a_client_sees_a_process_die_and_come_back(launched: Launched) -> None:
    lost: list[ConnectionLost] = []

    def wait_for_an_answer() -> None:
        try:
            client.ask("pair/1", word("Hold")(), 3600.0)
        except ConnectionLost as problem:
            lost.append(problem)

    with Client("sync") as client:
        waiting = threading.Thread(target=wait_for_an_answer)
        pid = client.ask("pair/1", word("Pid")())
        watch = client.watch("pair/1", PATIENCE_S)
        waiting.start()
        eventually(lambda: client.inspect("pair/1")["actors"][0]["waits_for"])
        os.kill(pid, signal.SIGKILL)

        notices = iter(watch)
        assert isinstance(next(notices), Down)
        assert next(notices) == Up(ref=client.ref("pair/1"))
        assert client.ask("pair/1", word("Pid")()) != pid
        waiting.join(PATIENCE_S)
        assert "pair/1" in str(lost[0])
        assert watch.missed == 0
        assert list(client.watch("pair/1", timeout_s=0.01)) == []


def test_a_client_goes_on_when_its_topology_is_stopped_and_started(tmp_path: Path) -> None:
    with Launched(tmp_path, TOPOLOGY.replace("sync", "twice")) as launched:
        client = Client(launched.ready().file)
        watch = client.watch("echo", PATIENCE_S)
        pid = client.ask("echo", word("Pid")())
    notices = iter(watch)
    assert isinstance(next(notices), Down)
    eventually(lambda: _fails_at_once(client))
    with Launched(tmp_path, TOPOLOGY.replace("sync", "twice")) as launched:
        assert next(notice for notice in notices if isinstance(notice, Up)) == Up(ref=client.ref("echo"))
        assert client.ask("echo", word("Pid")()) != pid
        assert client.book.run == launched.lock().run
        client.close()


def _fails_at_once(client: Client) -> bool:
    try:
        client.ask("echo", word("Pid")(), PATIENCE_S)
    except ConnectionLost as problem:
        return "twice was stopped" in str(problem)
    return False
