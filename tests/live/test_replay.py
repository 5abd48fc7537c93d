"""Real processes are recorded by default, are killed, and every actor of them is executed again to the same outputs.

`ZACTOR_TEST_KILLS=100` kills as often as it says.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.live.running import Launched, alive, command, eventually, zactor
from zactor.debug.recording import read
from zactor.debug.story import Story
from zactor.message import encode, format_id

pytestmark = pytest.mark.live

ROOT = Path(__file__).parent.parent.parent
QUICKSTART = ROOT / "configs" / "quickstart.yaml"

KILLS = int(os.environ.get("ZACTOR_TEST_KILLS", "3"))
"""How often a process is killed while it works; the environment variable ZACTOR_TEST_KILLS may say more."""

DIARY = '''\
from zactor import Actor, Message, Ref, on


class Line(Message[None]):
    number: int


class Go(Message[None]):
    pass


class Diary(Actor):
    """Writes every line that it is told into its file, at once."""

    @on
    def line(self, message: Line) -> None:
        self.disk.append("lines", message.number.to_bytes(8, "big"))


class Writer(Actor):
    """Tells line after line, until its process is killed."""

    diary: Ref[Line]

    def on_start(self) -> None:
        self._number = 0
        self.after(0.001, Go())

    @on
    def go(self, message: Go) -> None:
        for _ in range(20):
            self.tell(self.diary, Line(number=self._number))
            self._number += 1
        self.after(0.0005, Go())
'''

TOPOLOGY = """\
name: diary
nodes:
  near: {kind: ./diary.py:Diary, restart: {when: never}}
  far: {kind: ./diary.py:Diary, restart: {when: never}}
  near-writer: {kind: ./diary.py:Writer, links: {diary: near}, restart: {when: never}}
  far-writer: {kind: ./diary.py:Writer, links: {diary: far}, restart: {when: never}}
processes:
  all: {nodes: [near, near-writer, far-writer]}
"""


def replay(launched: Launched, node: str, *options: str, code: int = 0) -> list[dict[str, Any]]:
    """What `zactor replay` says of an actor, a recording each."""
    done = zactor("replay", node, "-t", str(launched.file), "--json", *options, folder=launched.folder, code=code)
    return [json.loads(line) for line in done.stdout.splitlines()]


NODES = ("metadata", "store/0", "store/1", "greeter", "caller")


def use_and_kill(launched: Launched, *commands: tuple[str, ...]) -> None:
    """Let the actors of the quickstart work, and kill all processes."""
    launched.ready()
    for words in (("ask", "greeter", "Greet", "name=you"), *commands):
        zactor(*words, folder=launched.folder)
    pids = launched.pids()
    launched.process.kill()
    launched.process.wait()
    for pid in pids:
        eventually(lambda pid=pid: not alive(pid))  # type: ignore[misc]


PUT, GET = ("fs", "put", "file", "/a"), ("fs", "get", "/a", "again")


@pytest.mark.parametrize(("size", "record"), [(60_000, "ring"), (300_000, "full")])
def test_every_actor_of_the_quickstart_is_replayed_after_kill_9(tmp_path: Path, size: int, record: str) -> None:
    (tmp_path / "file").write_bytes(random.Random(1).randbytes(size))
    topology = QUICKSTART.read_text().replace("replicas: 2", f"replicas: 2\n    record: {record}")
    with Launched(tmp_path, topology) as launched:
        use_and_kill(launched, PUT, GET)

    outputs = 0
    for node in NODES:
        (outcome,) = replay(launched, node)
        assert outcome["difference"] is None, outcome
        assert outcome["damage"] == []
        outputs += outcome["outputs"]
    assert outputs > 30


def test_what_a_ring_does_not_keep_is_taken_from_the_file_or_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(random.Random(1).randbytes(300_000))
    with Launched(tmp_path, QUICKSTART.read_text()) as launched:
        use_and_kill(launched, PUT)
    (outcome,) = replay(launched, "store/0", code=1)
    assert "262144 bytes of bulk, of which only length and checksum were kept" in outcome["unkept"]
    assert "`record: full`" in outcome["unkept"]

    with Launched(tmp_path, QUICKSTART.read_text()) as launched:
        use_and_kill(launched, GET)
    assert [replay(launched, node)[0]["difference"] for node in NODES] == [None] * len(NODES)
    for path in launched.home.state.glob("store/*/*.chunk"):
        path.write_bytes(b"")
    told = []
    for node in ("store/0", "store/1"):  # one of them was read from
        words = command("replay", node, "-t", str(launched.file), "--json")
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False)
        told.append((done.returncode, json.loads(done.stdout)["unkept"][:12]))
    assert sorted(told) == [(0, ""), (1, "a read of 30")], told


def test_a_flipped_byte_and_a_changed_handler_end_with_4_and_name_the_output(tmp_path: Path) -> None:
    (tmp_path / "diary.py").write_text(DIARY)
    with Launched(tmp_path, TOPOLOGY) as launched:
        launched.ready()
        for node in ("near", "far"):
            eventually(lambda node=node: _lines(launched, node) > 100)  # type: ignore[misc]

    (whole,) = replay(launched, "far-writer")
    assert whole["difference"] is None
    assert whole["outputs"] > 100
    run = launched.home.run_folder(launched.home.runs()[-1])
    path = run / "all.1.rec"
    content = path.read_bytes()
    number, known = sorted(Story(read(path), "far-writer").sent.items())[50]
    assert known.body == encode([50])
    letter = content.index(known.body, content.index(number.to_bytes(8, "big")))
    path.write_bytes(content[: letter + 1] + b"\x33" + content[letter + 2 :])

    (flipped,) = replay(launched, "far-writer", code=4)
    assert (flipped["difference"]["recorded"], flipped["difference"]["replayed"]) == ("[51]", "Line(number=50)")
    assert len(flipped["damage"]) == 1

    path.write_bytes(content)
    (tmp_path / "diary.py").write_text(DIARY.replace("self._number += 1", "self._number += 1 + self._number // 70"))
    (changed,) = replay(launched, "near-writer", code=4)
    assert (changed["difference"]["recorded"], changed["difference"]["replayed"]) == ("[71]", "Line(number=72)")
    assert "diary.py:" in changed["difference"]["where"]


def _lines(launched: Launched, node: str) -> int:
    path = launched.home.state / node / "lines"
    return path.stat().st_size // 8 if path.exists() else 0


@pytest.mark.parametrize("number", range(KILLS))
def test_after_kill_9_no_recorded_input_is_lost(tmp_path: Path, number: int) -> None:
    (tmp_path / "diary.py").write_text(DIARY)
    with Launched(tmp_path, TOPOLOGY) as launched:
        launched.ready()
        pids = {name: launched.pid(name) for name in ("all", "far")}
        eventually(lambda: _lines(launched, "near") > 50 and _lines(launched, "far") > 50)
        time.sleep(random.Random(number).random() / 20)  # so that each kill finds it somewhere else
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        for pid in pids.values():
            eventually(lambda pid=pid: not alive(pid))  # type: ignore[misc]

    run = launched.home.run_folder(launched.home.runs()[-1])
    for node, process in (("near", "all"), ("far", "far")):
        story = Story(read(run / f"{process}.1.rec"), node)
        fed = [each for turn in story.turns for each in turn.mail]
        assert len(fed) >= _lines(launched, node)  # what it did is on the disk, so what led to it is there
        (outcome,) = replay(launched, node)
        assert outcome["difference"] is None, outcome
        assert outcome["outputs"] > 50


@pytest.mark.parametrize(("index", "shown"), [(7, "7000"), (None, "0")])
def test_the_debugger_stops_in_the_handler_of_a_message(tmp_path: Path, index: int | None, shown: str) -> None:
    (tmp_path / "diary.py").write_text(DIARY)
    with Launched(tmp_path, TOPOLOGY) as launched:
        launched.ready()
        eventually(lambda: _lines(launched, "far") > 20)
    run = launched.home.run_folder(launched.home.runs()[-1])
    fed = [each for turn in Story(read(run / "far.1.rec"), "far").turns for each in turn.mail]

    where = [] if index is None else ["--stop-at", format_id(fed[index].id)]  # without one, it is the first

    done = subprocess.run(
        command("replay", "far", "-t", str(launched.file), *where, "--pdb"),
        cwd=tmp_path,
        input="p message.number * 1000\nc\n",
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert "Diary" not in done.stderr
    assert "diary.py(" in done.stdout
    assert f"\n(Pdb) {shown}\n" in done.stdout
    assert "outputs as recorded" in done.stdout
    assert done.returncode == 0


def test_what_came_before_the_last_failure_of_a_process_is_kept_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "diary.py").write_text(DIARY)
    with Launched(tmp_path, TOPOLOGY.replace("when: never", "backoff: 1ms..1ms")) as launched:
        launched.ready()
        for incarnation in range(2, 5):
            os.kill(launched.pid("far"), signal.SIGKILL)
            before = _lines(launched, "far")
            path = launched.run_folder() / f"far.{incarnation}.rec"
            eventually(lambda path=path: path.exists() and path.stat().st_size)  # type: ignore[misc]
            eventually(lambda before=before: _lines(launched, "far") > before)  # type: ignore[misc]
        assert sorted(path.name for path in launched.run_folder().glob("far.*.rec")) == ["far.3.rec", "far.4.rec"]

    assert [outcome["difference"] for outcome in replay(launched, "far")] == [None, None]
