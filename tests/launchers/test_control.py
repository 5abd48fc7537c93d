"""What a launcher is asked over its socket, by those who know how and by those who do not."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.launchers.story import Story, instance, topology
from zactor.errors import UserError
from zactor.launchers import control
from zactor.launchers.changes import Change
from zactor.launchers.control import Apply, Control, Down, Nodes, Plan, Request, ask_launcher, chosen
from zactor.launchers.folders import Late, Unreachable
from zactor.launchers.member import Outcome
from zactor.launchers.run import LOG

KNOWN = ["greeter", "store/0", "store/1", "stork"]


def controlled(folder: Path, scenario: Callable[[Story, Control], Awaitable[None]]) -> None:
    """Play a scenario with a run that is up and can be asked."""

    async def main() -> None:
        story = Story(folder)
        story.home.acquire(story.run_id, "/t/t.yaml")
        server = Control(story.run, story.home, lambda: None)
        await server.open()
        await story.up()
        try:
            await scenario(story, server)
        finally:
            await server.close()
            await story.run.stop()
            story.home.release()

    asyncio.run(main())


async def asked(story: Story, request: Request, plans: list[Change] | None = None) -> Outcome:
    """What the launcher answers, while whatever it starts gets ready."""

    def on_plan(plan: Plan) -> None:
        if plans is not None:
            plans.extend(plan.changes)

    return await story.during(asyncio.to_thread(ask_launcher, story.home, request, on_plan))


async def raw(story: Story, line: bytes) -> dict[str, Any]:
    """What somebody hears who just writes to the socket."""

    def talk() -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(story.home.sockets / "launcher"))
            connection.sendall(line)
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as replies:
                return replies.read()

    reply: dict[str, Any] = json.loads(await asyncio.to_thread(talk))
    return reply


def test_nodes_are_stopped_started_restarted_and_killed(tmp_path: Path) -> None:
    async def scenario(story: Story, _server: Control) -> None:
        assert (await asked(story, Nodes("stop", ("a",), 20.0))).done == {"a": "stopped"}
        assert story.book().stopped == {"a": "stopped by zactor stop"}
        assert (await asked(story, Nodes("start", ("*",), 20.0))).done == {"a": "started", "b": "runs already"}
        assert (await asked(story, Nodes("restart", ("b",), 20.0))).done == {"b": "restarted"}
        assert (await asked(story, Nodes("kill", ("b",), 20.0))).done == {"b": "killed"}
        assert ("process", "b", "restarting", "killed by zactor kill (killed by signal 9)") in story.told

    controlled(tmp_path, scenario)


def test_a_topology_is_shown_and_applied_and_the_lock_names_its_file(tmp_path: Path) -> None:
    async def scenario(story: Story, _server: Control) -> None:
        wanted = msgspec.structs.replace(topology(instance("a"), instance("c")), file="other.yaml", folder="/t")
        shown: list[Change] = []
        applied: list[Change] = []

        assert await asked(story, Apply(wanted, True, 20.0), shown) == Outcome()
        assert set(story.book().nodes) == {"a", "b"}
        assert await asked(story, Apply(wanted, False, 20.0), applied) == Outcome()

        assert [str(each) for each in applied] == ["- b", "+ c"]
        assert shown == applied
        assert set(story.book().nodes) == {"a", "c"}
        lock = story.home.running()
        assert lock is not None
        assert (lock.run, lock.file) == (story.run_id, "/t/other.yaml")

    controlled(tmp_path, scenario)


def test_another_topology_is_refused(tmp_path: Path) -> None:
    async def scenario(story: Story, _server: Control) -> None:
        other = msgspec.structs.replace(story.run.topology, name="other")

        with pytest.raises(UserError, match="this launcher runs t, not other"):
            await asked(story, Apply(other, False, 20.0))

    controlled(tmp_path, scenario)


def test_an_end_is_asked_for_once_it_is_heard(tmp_path: Path) -> None:
    async def scenario(story: Story, server: Control) -> None:
        ends: list[str] = []
        server._on_down = lambda: ends.append("down")

        assert await asked(story, Down()) == Outcome()
        assert ends == ["down"]

    controlled(tmp_path, scenario)


def test_a_turn_that_does_not_come_in_time_is_late(tmp_path: Path) -> None:
    async def scenario(story: Story, _server: Control) -> None:
        story.engine.last("a").stops = False
        first = asyncio.ensure_future(asked(story, Nodes("stop", ("a",), 20.0)))
        await story.turns(lambda: story.engine.last("a").stopped)

        with pytest.raises(Late, match="still under way"):
            await asked(story, Nodes("start", ("b",), 0.01))

        story.engine.last("a").on_exit(0)
        assert (await first).done == {"a": "stopped"}

    controlled(tmp_path, scenario)


@pytest.mark.parametrize(
    ("line", "because"),
    [
        (b"", "the connection ended within the request"),
        (b'{"type": "nodes"', "the connection ended within the request"),
        (b"\n", "Input data was truncated"),
        (b"[" * 100_000 + b"\n", "Expected `object`"),
        (b"\xff\xfe\n", "JSON is malformed"),
        (b'{"type":"nodes","verb":"\xff"}\n', "this is no request"),
        (b"{}\n", "missing required field `type`"),
        (b'{"type":"reboot"}\n', "Invalid value 'reboot'"),
        (b'{"type":"nodes","verb":"burn","nodes":["a"],"timeout_s":1}\n', "Invalid enum value 'burn'"),
        (b'{"type":"nodes","verb":"stop","nodes":[],"timeout_s":1}\n', "length >= 1"),
        (b'{"type":"nodes","verb":"stop","nodes":["a"],"timeout_s":-1}\n', ">= 0.0"),
        (b'{"type":"nodes","verb":"stop","nodes":["a"],"timeout_s":1,"x":1}\n', "unknown field `x`"),
        (b'{"type":"apply","topology":{},"only_show":true,"timeout_s":1}\n', "missing required field `name`"),
    ],
)
def test_what_is_no_request_is_answered_counted_and_logged_and_the_launcher_goes_on(
    tmp_path: Path, line: bytes, because: str
) -> None:
    async def scenario(story: Story, server: Control) -> None:
        reply = await raw(story, line)

        assert because in reply["because"]
        assert server.refused == 1
        logged = json.loads((story.home.run_folder(story.run_id) / LOG).read_text().splitlines()[-1])
        assert (logged["event"], logged["count"], logged["because"]) == ("request_refused", 1, reply["because"])
        assert (await asked(story, Nodes("start", ("a",), 20.0))).done == {"a": "runs already"}

    controlled(tmp_path, scenario)


def test_a_request_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REQUEST_SIZE_MAX", 1 << 12)

    async def scenario(story: Story, server: Control) -> None:
        with pytest.raises(UserError, match="too large to be changed while it runs"):
            await asked(story, Nodes("stop", ("a" * (1 << 12),), 20.0))
        assert server.refused == 0

        assert (await raw(story, b"x" * (1 << 14)))["because"] == "a request has at most 4KiB"
        assert server.refused == 1

    controlled(tmp_path, scenario)


def test_who_connects_and_says_nothing_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REQUEST_S", 0.01)

    async def scenario(story: Story, server: Control) -> None:
        _reader, writer = await asyncio.open_unix_connection(str(story.home.sockets / "launcher"))
        assert json.loads(await _reader.readline())["because"] == "no request came within 0.01 s"
        writer.close()
        assert server.refused == 1

    controlled(tmp_path, scenario)


def test_so_many_at_a_time_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CONNECTIONS_MAX", 2)

    async def scenario(story: Story, server: Control) -> None:
        path = str(story.home.sockets / "launcher")
        silent = [await asyncio.open_unix_connection(path) for _ in range(2)]
        await story.turns(lambda: len(server._tasks) == 2)

        with pytest.raises(UserError, match="there are 2 requests already; try again"):
            await asked(story, Nodes("start", ("a",), 20.0))

        for _, writer in silent:
            writer.close()

    controlled(tmp_path, scenario)


def test_what_was_asked_is_done_even_if_nobody_waits_for_the_answer(tmp_path: Path) -> None:
    async def scenario(story: Story, _server: Control) -> None:
        _reader, writer = await asyncio.open_unix_connection(str(story.home.sockets / "launcher"))
        writer.write(msgspec.json.encode(Nodes("stop", ("a",), 20.0)) + b"\n")
        await writer.drain()
        writer.close()

        await story.turns(lambda: story.engine.last("a").stopped)
        await story.turns(lambda: story.run.pids()["a"] is None)

    controlled(tmp_path, scenario)


def test_a_launcher_that_hangs_or_ends_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "GRACE_S", 0.01)

    async def scenario(story: Story, server: Control) -> None:
        story.engine.last("a").stops = False
        waiting = asyncio.ensure_future(asked(story, Nodes("stop", ("a",), 20.0)))
        await story.turns(lambda: story.engine.last("a").stopped)
        await server.close()

        with pytest.raises(Unreachable, match="t went down before that was done"):
            await waiting
        story.engine.last("a").on_exit(0)

    controlled(tmp_path, scenario)


def test_a_launcher_that_does_not_answer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "GRACE_S", 0.01)
    story = Story(tmp_path)
    story.home.acquire(story.run_id, "/t/t.yaml")
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(story.home.sockets / "launcher"))
        deaf.listen()

        with pytest.raises(Unreachable, match="the launcher of t does not answer"):
            ask_launcher(story.home, Nodes("stop", ("a",), 0.01))
    story.home.release()


def test_where_nobody_listens_is_said(tmp_path: Path) -> None:
    story = Story(tmp_path)

    with pytest.raises(Unreachable, match="the launcher of t does not listen"):
        ask_launcher(story.home, Nodes("stop", ("a",), 1.0))


# --- which nodes are meant
@pytest.mark.parametrize(
    ("words", "nodes"),
    [
        (["greeter"], ["greeter"]),
        (["store"], ["store/0", "store/1"]),
        (["store/1", "store"], ["store/1", "store/0"]),
        (["sto*"], ["store/0", "store/1", "stork"]),
        (["store/[01]"], ["store/0", "store/1"]),
    ],
)
def test_a_name_means_all_its_replicas_and_a_pattern_what_it_fits(words: list[str], nodes: list[str]) -> None:
    assert chosen(words, KNOWN) == nodes


@pytest.mark.parametrize(
    ("word", "mend"),
    [
        ("greter", "Did you mean 'greeter'"),
        ("store/7", "Did you mean 'store/"),
        ("", "The nodes are greeter, store/0"),
        ("x*", "The nodes are"),
    ],
)
def test_what_means_no_node_is_refused_with_the_mend(word: str, mend: str) -> None:
    with pytest.raises(UserError, match="there is no node") as raised:
        chosen(["greeter", word], KNOWN)

    assert mend in str(raised.value)
