"""One process's nodes: their state folders belong to them, and they start and stop in order."""

from __future__ import annotations

import asyncio
import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.live.running import PATIENCE_S, Launched, eventually_in_loop, kind, processes_here, word
from zactor.errors import ActorFailed, UserError
from zactor.live.host import BECAUSE_LENGTH_MAX, STATE_FORMAT, Assignment, Host, Report, StateNote
from zactor.live.world import Book, BookEntry
from zactor.topology.model import PEER_TIMEOUT_NS, Instance

pytestmark = pytest.mark.live

WRITER = f"""\
name: writes
nodes:
  writer: {{kind: {kind("Writer")}, restart: {{backoff: 1ms..1ms, limit: 100 in 60s}}}}
"""


def assignment(folder: Path, runtime: Path, name: str = "Writer", cluster: str = "c1") -> Assignment:
    instance = Instance("node", "node", kind(name).strip("'"), str(folder), {}, {}, None)
    return Assignment(
        topology="t",
        cluster=cluster,
        run="r",
        process="node",
        number=1,
        incarnation=1,
        transport="ipc",
        socket=str(runtime / "host"),
        state=str(folder),
        log=str(folder / "log.jsonl"),
        recording=str(folder / "node.1.rec"),
        instances=(instance,),
        peer_timeout_ns=PEER_TIMEOUT_NS,
    )


def note_of(folder: Path) -> Path:
    return folder / "node" / "@node.json"


def start(host: Host) -> None:
    host.use_book(Book(1, "r", {"node": "node"}, {"node": BookEntry(1, 1, host.bind())}))


def write_state(folder: Path, runtime: Path) -> StateNote:
    """Let a node write something; the note that is in its folder then."""

    async def main() -> None:
        host = Host(assignment(folder, runtime), lambda _report: None)
        start(host)
        writer = host.world.kernel.cells["node"].actor
        assert writer is not None
        writer.disk.append("file", b"x")
        await host.stop()

    asyncio.run(main())
    return msgspec.json.decode(note_of(folder).read_bytes(), type=StateNote)


def refusal(folder: Path, runtime: Path, **given: Any) -> str:
    async def main() -> str:
        with pytest.raises(UserError) as raised:
            Host(assignment(folder, runtime, **given), lambda _report: None)
        return str(raised.value)

    return asyncio.run(main())


# --- state folders
def test_a_state_folder_says_whose_it_is(tmp_path: Path, runtime: Path) -> None:
    note = write_state(tmp_path, runtime)

    assert note == StateNote(STATE_FORMAT, "node", kind("Writer").strip("'"), "c1")
    assert write_state(tmp_path, runtime) == note
    assert (tmp_path / "node" / "file").read_bytes() == b"xx"
    assert (tmp_path / "node").stat().st_mode & 0o777 == 0o700


def test_a_node_that_writes_nothing_has_no_state_folder(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        host = Host(assignment(tmp_path, runtime, "Echo"), lambda _report: None)
        start(host)
        await host.stop()

    asyncio.run(main())

    assert not (tmp_path / "node").exists()


def test_the_state_of_another_kind_is_refused_with_the_mend(tmp_path: Path, runtime: Path) -> None:
    write_state(tmp_path, runtime)

    said = refusal(tmp_path, runtime, name="Echo")

    assert "the state belongs to node" in said
    assert "Writer" in said
    assert "zactor down --delete-state" in said


def test_the_state_of_another_cluster_is_refused_with_the_mend(tmp_path: Path, runtime: Path) -> None:
    write_state(tmp_path, runtime)

    said = refusal(tmp_path, runtime, cluster="c2")

    assert "of another topology" in said
    assert "move it away" in said


def test_the_state_of_a_newer_zactor_is_refused_with_the_mend(tmp_path: Path, runtime: Path) -> None:
    note = write_state(tmp_path, runtime)
    newer = msgspec.structs.replace(note, format=STATE_FORMAT + 1)
    note_of(tmp_path).write_bytes(msgspec.json.encode(newer))

    said = refusal(tmp_path, runtime)

    assert f"has format {STATE_FORMAT + 1}, this zactor reads {STATE_FORMAT}; use the zactor that wrote it" in said


def test_a_note_that_cannot_be_read_is_refused_with_its_path(tmp_path: Path, runtime: Path) -> None:
    write_state(tmp_path, runtime)
    note_of(tmp_path).write_text("{")

    assert str(note_of(tmp_path)) in refusal(tmp_path, runtime)


def test_up_shows_the_refusal_of_a_state_folder_and_starts_nothing(tmp_path: Path) -> None:
    with Launched(tmp_path, WRITER) as launched:
        launched.ready()
        ask_writer(launched, word("Store")(size=1, times=1))
    note = launched.home.state / "writer" / "@node.json"
    note.write_bytes(note.read_bytes().replace(b'"format":1', b'"format":99'))

    with Launched(tmp_path, WRITER) as launched:
        assert launched.wait() == 1

    assert "the state has format 99" in launched.text()
    assert "Traceback" not in launched.text()
    assert processes_here() == {}


def ask_writer(launched: Launched, message: Any) -> Any:
    async def main() -> Any:
        async with launched.client() as client:
            return await client.ask(client.ref("writer"), message, PATIENCE_S)

    return asyncio.run(main())


def test_a_name_that_could_leave_the_folder_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with Launched(tmp_path, WRITER) as launched:
        launched.ready()
        ask_writer(launched, word("Store")(size=1, times=1))
        before = sorted(tmp_path.rglob("*"))

        for name in ("../x", "/tmp/x", "", ".", "..", "a/../../x", "a//x", "a\0x", "@node.json", "x" * 300):
            for message in (word("Store")(size=1, times=1, file=name), word("Load")(file=name)):
                with pytest.raises(ActorFailed, match="is no name for a file"):
                    ask_writer(launched, message)

        assert sorted(tmp_path.rglob("*")) == before
        assert ask_writer(launched, word("Load")()) == 1
        assert launched.book().processes["writer"].incarnation == 1


# --- life
def test_a_host_tells_how_its_nodes_fare_and_ends_when_all_have_stopped(tmp_path: Path, runtime: Path) -> None:
    reports: list[Report] = []

    async def main() -> None:
        host = Host(assignment(tmp_path, runtime, "Echo"), reports.append)
        start(host)
        assert [(report.node, report.state) for report in reports] == [("node", "ready")]
        host.world.kernel.life.stop("node", "enough")
        await asyncio.wait_for(host.ended(), PATIENCE_S)
        await host.stop()

    asyncio.run(main())

    assert reports[-1] == Report("life", node="node", state="stopped", because="enough")


def test_a_node_that_fails_beyond_its_policy_ends_its_host(tmp_path: Path, runtime: Path) -> None:
    async def main() -> str | None:
        instance = assignment(tmp_path, runtime, "FailsAtStart")
        host = Host(instance, lambda _report: None)
        host.world.kernel.cells["node"].policy = msgspec.structs.replace(
            host.world.kernel.cells["node"].policy, limit_count=0
        )
        start(host)
        await asyncio.wait_for(host.ended(), PATIENCE_S)
        await host.stop()
        return host.failure

    failure = asyncio.run(main())

    assert failure is not None
    assert "node failed: 0 restarts in 60 s, the last: no such luck" in failure


def test_a_host_starts_and_stops_single_nodes_and_reports_what_is_wrong_with_one(tmp_path: Path, runtime: Path) -> None:
    reports: list[Report] = []

    async def main() -> None:
        host = Host(assignment(tmp_path, runtime, "Echo"), reports.append)
        more = msgspec.structs.replace(assignment(tmp_path, runtime, "Echo").instances[0], name="more", node="more")
        host.start_node(more)  # before the first book: it starts with the others
        assert reports == []
        host.use_book(Book(1, "r", {"node": "node", "more": "node"}, {"node": BookEntry(1, 1, host.bind())}))
        host.stop_node("more", "enough")
        await eventually_in_loop(lambda: reports[-1].state == "stopped")
        host.start_node(more)
        host.start_node(msgspec.structs.replace(more, name="wrong", kind="hello.greter"))
        host.start_node(msgspec.structs.replace(more, name="worse", settings={"size": 1}))
        await host.stop()

    asyncio.run(main())

    assert [(report.node, report.state) for report in reports[:4]] == [
        ("node", "ready"),
        ("more", "ready"),
        ("more", "stopped"),
        ("more", "ready"),
    ]
    assert reports[2].because == "enough"
    assert "there is no kind 'hello.greter'" in reports[4].because
    assert "has no setting 'size'" in reports[5].because


def test_a_report_is_short_enough_for_whoever_reads_it() -> None:
    line = Report("failed", because="x" * 1_000_000).line()

    assert msgspec.json.decode(line, type=Report).because == "x" * BECAUSE_LENGTH_MAX


def test_what_is_sent_while_a_host_stops_leaves_before_it_ends(tmp_path: Path, runtime: Path) -> None:
    async def main() -> str:
        host = Host(assignment(tmp_path, runtime, "Echo"), lambda _report: None)
        start(host)
        kernel = host.world.kernel
        echo = kernel.cells["node"].actor
        assert echo is not None
        wait = kernel.ask(echo._cell, kernel.ref("node"), word("Say")(text="late"), 10**9)
        wait.notify = lambda _wait: None
        await eventually_in_loop(lambda: wait.done)
        await host.stop()
        return str(wait.value)

    assert asyncio.run(main()) == "late"


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_the_memory_of_large_messages_is_used_again() -> None:
    program = """if True:
        import resource
        from zactor.live.host import calm_allocator

        def churn():
            messages = [bytes(256 << 10) for _ in range(4)]

        calm_allocator()
        churn()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(100):
            churn()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert int(done.stdout) < 1000, "pages that the system handed out; 10,400 without"
