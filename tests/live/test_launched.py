"""A program launches topologies itself: they come and go with it, and to everybody else they are like any other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import zactor
from tests.live.running import (
    ACTORS,
    PATIENCE_S,
    alive,
    eventually,
    eventually_in_loop,
    kind,
    lines_of,
    processes_here,
    word,
)
from tests.live.running import zactor as command
from zactor import Actor, ConnectionLost, Message, Node, Topology, on, registry
from zactor.cli import topology as verbs
from zactor.errors import UserError
from zactor.launchers import control
from zactor.launchers.folders import AlreadyRunning, Home, NotRunning, Unreachable
from zactor.launchers.run import StartFailed

pytestmark = pytest.mark.live

ECHO = f"name: echo\nnodes:\n  echo: {{kind: {kind('Echo')}, settings: {{}}}}\n"
NEVER = f"name: never\nnodes:\n  late: {{kind: {kind('NeverReady')}}}\n"

GREETER = """\
from zactor import Actor, Message, on

class Greet(Message[str]):
    name: str

class Greeter(Actor):
    @on
    def greet(self, message: Greet) -> str:
        return f"Hello, {message.name}!"
"""

PROGRAM = f"""\
import asyncio, os, sys, time
from pathlib import Path
import zactor
from zactor import registry

actors = sys.modules[registry.find("{ACTORS}:Echo", Path("/")).__module__]
"""

RUNNING = """\
with zactor.launch("t.yaml", inline=len(sys.argv) > 1) as run:
    print(run.ask("echo", actors.Pid()), flush=True)
    time.sleep(3600)
"""

RUNNING_IN_A_LOOP = """\
async def main():
    async with zactor.launch("t.yaml") as run:
        print(await run.ask("echo", actors.Pid()), flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""

COMING_UP = """\
from zactor.launchers import local
started = local.Local.start
async def start(*arguments):
    handle = await started(*arguments)
    print(handle.pid, flush=True)
    return handle
local.Local.start = start
with zactor.launch("t.yaml"):
    pass
"""

FORKED = """\
with zactor.launch("t.yaml") as run:
    inbox = run.book.processes["echo"].endpoint.partition("|")[0].removeprefix("ipc://")
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        print(run.ask("echo", actors.Say(text="from the parent")), zactor.Client("echo").names())
print(os.path.exists(inbox))
"""


class Ask(Message[int]):
    pass


class Here(Actor):
    """What only this program has: other processes do not import the modules of tests by this name."""

    @on
    def answer(self, message: Ask) -> int:
        return os.getpid()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the file of a topology."""
    (tmp_path / "t.yaml").write_text(ECHO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def program(text: str, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM + text, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )


def home(folder: Path, name: str) -> Home:
    return Home(folder / ".zactor" / name, name)


# --- what one does with it
def test_a_program_asks_what_it_has_launched_and_leaves_nothing_behind(folder: Path) -> None:
    with zactor.launch("t.yaml") as run:
        pid = run.ask("echo", word("Pid")())
        assert alive(pid)
        assert run.ask("echo", word("Say")(text="x")) == "x"

    assert not alive(pid)
    assert processes_here() == {}
    assert home(folder, "echo").running() is None


def test_two_topologies_are_launched_side_by_side_in_one_loop(folder: Path) -> None:
    async def both() -> None:
        other = Topology(name="other", nodes={"echo": Node(f"{ACTORS}:Echo", replicas=2)})
        async with zactor.launch("t.yaml") as run, zactor.launch(other) as more:
            pids = await asyncio.gather(
                *(client.ask(name, word("Pid")()) for client in (run, more) for name in client.names())
            )
            assert len(set(pids)) == 3

    asyncio.run(both())

    assert processes_here() == {}


def test_threads_launch_at_once(folder: Path) -> None:
    """The file of their kind is slow to import: none of them may find it half made."""
    (folder / "slowly.py").write_text(f"import time\ntime.sleep(0.1)\n{GREETER}")
    answers: list[str] = []

    def work(name: str) -> None:
        with zactor.launch(Topology(name=name, nodes={"greeter": Node("./slowly.py:Greeter")})) as run:
            answers.append(run.ask("greeter", sys.modules["slowly"].Greet(name=name)))

    threads = [threading.Thread(target=work, args=(f"t{index}",)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    del sys.modules["slowly"]
    assert sorted(answers) == ["Hello, t0!", "Hello, t1!", "Hello, t2!"]


def test_inline_takes_a_class_that_only_the_program_has_and_runs_it_there(folder: Path) -> None:
    mine = Topology(name="mine", nodes={"here": Node(Here), "echo": Node(f"{ACTORS}:Echo")})

    with zactor.launch(mine, inline=True) as run:
        assert run.ask("here", Ask()) == os.getpid()
        assert run.ask("echo", word("Pid")()) == os.getpid()
    with pytest.raises(
        UserError, match=r"only this program knows Here of .*put it into a file of its own.*inline=True"
    ):
        zactor.launch(mine)


def test_a_class_of_a_plain_file_runs_in_a_process_of_its_own(folder: Path) -> None:
    echo = registry.find(f"{ACTORS}:Echo", Path("/"))

    with zactor.launch(Topology(name="mine", nodes={"echo": Node(echo)})) as run:
        assert run.ask("echo", word("Pid")()) != os.getpid()


def test_words_override_the_file_and_state_is_kept_where_it_is_told_to_be(folder: Path) -> None:
    (folder / "t.yaml").write_text("name: hi\nvars: {word: no}\nnodes:\n  greeter: {kind: hello.greeter}\n")
    greet = registry.find("hello.greeter", None)._handlers
    message = next(each for each in greet if each.__name__ == "Greet")

    with zactor.launch("t.yaml", overrides=["greeter.salutation=Hi"], folder=folder / "kept") as run:
        assert run.ask("greeter", message(name="x")) == "Hi, x!"
    with pytest.raises(UserError, match=r"overrides=\['greeter.salutation=Hi'\]"):
        zactor.launch("t.yaml", overrides="greeter.salutation=Hi")

    assert (folder / "kept" / "hi" / "state").is_dir()
    assert not (folder / ".zactor").exists()


# --- what goes wrong
def test_an_exception_within_stops_it_and_goes_on(folder: Path) -> None:
    with pytest.raises(KeyError, match="mine"), zactor.launch("t.yaml"):
        raise KeyError("mine")

    assert processes_here() == {}


@pytest.mark.parametrize("inline", [False, True])
def test_what_does_not_come_up_says_why_and_where_the_logs_are(folder: Path, inline: bool) -> None:
    bad = Topology(name="bad", nodes={"bad": Node(f"{ACTORS}:FailsAtStart", restart={"when": "never"})})

    with pytest.raises(StartFailed) as failed, zactor.launch(bad, inline=inline):
        pass

    first, reason, logs = str(failed.value).splitlines()
    assert first == "bad did not come up"
    assert "no such luck" in reason
    assert list(Path(logs.removeprefix("  logs: ")).glob("*.jsonl"))
    assert processes_here() == {}
    assert home(folder, "bad").running() is None


def test_it_is_given_up_when_its_time_is_over(folder: Path) -> None:
    (folder / "t.yaml").write_text(NEVER)

    with pytest.raises(StartFailed, match=r"not ready after 0.5 s: late waits for its on_start"):
        zactor.launch("t.yaml", timeout_s=0.5).__enter__()


def test_whoever_does_not_wait_for_its_start_any_more_leaves_nothing_behind(folder: Path) -> None:
    (folder / "t.yaml").write_text(NEVER)

    async def give_up() -> None:
        entering = asyncio.create_task(zactor.launch("t.yaml").__aenter__())
        await eventually_in_loop(lambda: processes_here())
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering

    asyncio.run(give_up())

    assert processes_here() == {}


def test_what_somebody_else_runs_is_refused_and_goes_on(folder: Path) -> None:
    with zactor.launch("t.yaml") as run:
        with pytest.raises(AlreadyRunning, match=r"echo is running already .*Client\('echo'\).* down -t echo"):
            zactor.launch("t.yaml").__enter__()
        assert run.ask("echo", word("Say")(text="x")) == "x"


def test_it_is_entered_once(folder: Path) -> None:
    launched = zactor.launch("t.yaml")
    with launched, pytest.raises(RuntimeError, match=r"call zactor\.launch again"):
        launched.__enter__()

    with pytest.raises(RuntimeError, match=r"call zactor\.launch again"):
        launched.__enter__()


def test_where_a_loop_runs_the_plain_form_is_refused_before_anything_starts(folder: Path) -> None:
    async def wrong() -> None:
        with pytest.raises(RuntimeError, match="use: async with"), zactor.launch("t.yaml"):
            pass

    asyncio.run(wrong())

    assert not (folder / ".zactor").exists()


def test_a_restart_is_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with zactor.launch("t.yaml") as run:
        before = run.ask("echo", word("Pid")())
        os.kill(before, signal.SIGKILL)
        eventually(lambda: (entry := run.book.processes["echo"]).incarnation == 2 and entry.endpoint)
        assert run.ask("echo", word("Pid")()) != before

    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [("WARNING", "process echo restarting: killed by signal 9")]


def test_inline_a_failure_beyond_the_actors_starts_all_of_them_again(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(f"{ACTORS}:Echo", restart={"backoff": "10ms..20ms", "limit": "1 in 60s"})
    with zactor.launch(Topology(name="mine", nodes={"echo": node}), inline=True) as run:
        for _ in range(2):
            with pytest.raises(zactor.ActorFailed):
                run.ask("echo", word("Raise")())
        eventually(lambda: (entry := run.book.processes["inline"]).incarnation == 2 and entry.endpoint)
        assert run.ask("echo", word("Say")(text="again")) == "again"

    (told,) = [text for record in caplog.records if "process" in (text := record.getMessage())]
    assert told.startswith("process inline restarting: ")
    assert told.endswith("(exit 70)")


# --- what others do to it
@pytest.mark.parametrize("inline", [False, True])
def test_down_ends_it_and_not_its_program(folder: Path, inline: bool) -> None:
    with zactor.launch("t.yaml", inline=inline) as run:
        assert run.ask("echo", word("Say")(text="x")) == "x"

        assert command("down", folder=folder).stdout == "echo: stopped\n"

        with pytest.raises(ConnectionLost, match=r"(was|has) stopped"):
            run.ask("echo", word("Say")(text="x"))
    assert processes_here() == {}


def test_down_while_it_starts_is_said_to_the_program(folder: Path) -> None:
    (folder / "t.yaml").write_text(NEVER)
    raised: list[BaseException] = []

    def enter() -> None:
        try:
            zactor.launch("t.yaml").__enter__()
        except NotRunning as problem:
            raised.append(problem)

    thread = threading.Thread(target=enter)
    thread.start()
    eventually(lambda: home(folder, "never").running())
    command("down", folder=folder)
    thread.join(PATIENCE_S)

    assert [str(problem) for problem in raised] == ["never was stopped before its processes were there"]


def test_down_names_the_program_that_does_not_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "GRACE_S", 0.1)
    with program(RUNNING, folder) as process:
        next(lines_of(process))
        lock = home(folder, "echo").running()
        assert lock is not None
        process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(Unreachable, match=f"does not answer.*the program with pid {process.pid}: end that"):
                verbs._ask_down(home(folder, "echo"), lock)
        finally:
            process.kill()


@pytest.mark.parametrize("inline", [False, True])
def test_single_nodes_are_stopped_restarted_and_killed(folder: Path, inline: bool) -> None:
    pair = Topology(name="pair", nodes={"a": Node(f"{ACTORS}:Echo"), "b": Node(f"{ACTORS}:Echo")})
    with zactor.launch(pair, inline=inline) as run:
        assert run.ask("a", word("Say")(text="x")) == "x"

        command("stop", "a", folder=folder)
        with pytest.raises(zactor.ActorStopped if inline else ConnectionLost):
            run.ask("a", word("Say")(text="x"))
        assert run.ask("b", word("Say")(text="x")) == "x"
        command("start", "a", folder=folder)
        command("restart", "a", "b", folder=folder)
        command("kill", "b", folder=folder)

        def says(node: str) -> bool:
            with contextlib.suppress(ConnectionLost):  # as long as the program's book is that of before
                return bool(run.ask(node, word("Say")(text="again")) == "again")
            return False

        eventually(lambda: says("a"))
        eventually(lambda: says("b"))
        assert max(entry.incarnation for entry in run.book.processes.values()) == 3


# --- how a program ends
@pytest.mark.parametrize("text", [RUNNING, RUNNING_IN_A_LOOP])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_a_program_that_ends_takes_its_processes_with_it(folder: Path, text: str, number: signal.Signals) -> None:
    with program(text, folder) as process:
        pid = int(next(lines_of(process)))
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE_S)

    assert errors.decode().splitlines()[-1:] == (["KeyboardInterrupt"] if number == signal.SIGINT else [])
    eventually(lambda: not alive(pid))
    assert home(folder, "echo").running() is None


def test_ctrl_c_while_it_starts_stops_what_there_is(folder: Path) -> None:
    (folder / "t.yaml").write_text(NEVER)
    with program(COMING_UP, folder) as process:
        pid = int(next(lines_of(process)))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)

    assert errors.decode().splitlines()[-1] == "KeyboardInterrupt"
    assert not alive(pid)
    assert not home(folder, "never").sockets.exists()


def test_a_fork_that_leaves_it_ends_nothing(folder: Path) -> None:
    with program(FORKED, folder) as process:
        out, errors = process.communicate(timeout=PATIENCE_S)

    assert errors == b""
    assert out.decode().splitlines() == ["True", "from the parent ['echo']", "False"]
