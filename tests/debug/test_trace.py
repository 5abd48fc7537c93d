"""What led to a message and what came of it, from the recordings and logs of a run in virtual time."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zactor.actor import Actor, on
from zactor.debug.recorder import Recorder
from zactor.debug.recording import Mapped
from zactor.debug.trace import Hop, Traces
from zactor.message import Message, Opaque, Ref, Refs
from zactor.sim.virtual import Virtual


class Say(Message[int]):
    word: str


class Whisper(Message[None]):
    word: str


class Later(Message[None]):
    word: str


class Talker(Actor):
    """Asks all that it knows, tells them, and says it again a second later."""

    others: Refs[Say | Whisper]

    @on
    async def say(self, message: Say) -> int:
        total = 0
        for other in self.others:
            total += await self.ask(other, Say(word=message.word + "!"))
        for other in self.others:
            for number in range(20):
                self.tell(other, Whisper(word=f"{message.word}{number}"))
        if self.others:
            self.after(1.0, Later(word=message.word))
        return total + 1

    @on
    def again(self, message: Later) -> None:
        self.tell(self.others[0], Whisper(word=f"{message.word} later"))

    @on
    def whisper(self, message: Whisper) -> None:
        if message.word == "die":
            raise ValueError("no")


class Passes(Actor):
    """Passes on what it does not know."""

    behind: Ref[Opaque]

    @on
    async def passed(self, message: Opaque) -> Opaque:
        return await self.ask(self.behind, message)


class Recorded:
    """Processes in virtual time, each recorded, whose logs are kept as live ones are."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        self.virtual = Virtual(3)
        self._recorders = []
        for name in names:
            kernel = self.virtual.add(name)
            about = {"run": "r", "instances": [{"name": name, "kind": "", "folder": ""}]}
            self._recorders.append(Recorder(kernel, Mapped(folder / f"{name}.1.rec", 0), partial(dict, about)))

    def add(self, process: str, kind: type[Actor], **links: Any) -> None:
        self.virtual.processes[process].kernel.life.add(process, kind, links=links)

    def begin(self) -> Any:
        self.virtual.start()
        self.virtual.run(seconds=0.01)
        return self.virtual.outside(next(iter(self.virtual.processes)))

    def end(self) -> Traces:
        for recorder in self._recorders:
            recorder.close()
        with (self.folder / "log.jsonl").open("wb") as file:
            for level, node, event, fields in self.virtual.logs:
                file.write(msgspec.json.encode({"level": level, "node": node, "event": event} | fields) + b"\n")
        return Traces(list(self.folder.glob("*.rec")))


def drawn(traces: Traces, name: str) -> list[str]:
    """The tree of the last message of a type: depth, type, who handled it, and how it ended."""
    number = traces.last_of(name)
    assert number is not None
    root = traces.root_of(number)
    assert root is not None
    hops = traces.tree(root)
    lines = []
    waiting = [(0, hops[root])]
    while waiting:
        depth, hop = waiting.pop()
        ending = f" {hop.lost or hop.failure}" if hop.lost or hop.failure else ""
        lines.append(f"{'  ' * depth}{hop.wire.rpartition('.')[2]} {hop.target}{ending}")
        waiting += [(depth + 1, each) for each in reversed(hop.effects)]
    return lines


def flat(traces: Traces, name: str) -> list[Hop]:
    number = traces.last_of(name)
    assert number is not None
    root = traces.root_of(number)
    assert root is not None
    return sorted(traces.tree(root).values(), key=lambda hop: hop.id)


@pytest.mark.parametrize("processes", [("a", "b"), ("a",)])
def test_causes_and_effects_make_a_tree_within_a_process_and_across(tmp_path: Path, processes: tuple[str, ...]) -> None:
    run = Recorded(tmp_path, *processes)
    run.virtual.processes[processes[-1]].kernel.life.add("b", Talker)
    run.add("a", Talker, others=("b",))
    outside = run.begin()
    outside.say("a", Say(word="hi"))
    outside.say("b", Whisper(word="not of it"))
    run.virtual.run(seconds=3.0)
    traces = run.end()

    expected = ["Say a", "  Say b", *["  Whisper b"] * 20, "  Later a", "    Whisper b"]
    assert drawn(traces, "Say") == expected
    assert drawn(traces, "Later") == expected
    hops = flat(traces, "Later")
    assert all(hop.handled_ns is not None and hop.came for hop in hops)
    assert [hop.process for hop in hops if hop.target == "b"] == [processes[-1]] * 22
    (inner,) = [hop for hop in hops if hop.wire.endswith("Say") and hop.target == "b"]
    assert inner.answered_ns is not None
    assert inner.handled_ns is not None
    assert inner.answered_ns >= inner.handled_ns


def test_times_have_no_effect_before_its_cause(tmp_path: Path) -> None:
    run = Recorded(tmp_path, "a", "b", "c")
    run.add("a", Talker, others=("b", "c"))
    run.add("b", Talker, others=("c",))
    run.add("c", Talker)
    run.begin().say("a", Say(word="hi"))
    run.virtual.run(seconds=3.0)

    hops = {hop.id: hop for hop in flat(run.end(), "Say")}
    assert len(hops) == 1 + 2 + 1 + 40 + 20 + 2 * 2
    for hop in hops.values():
        assert hop.handled_ns is not None
        if hop.sent_ns is not None:
            assert hop.sent_ns <= hop.handled_ns
        if hop.cause in hops:
            cause_ns = hops[hop.cause].handled_ns
            assert cause_ns is not None
            assert cause_ns <= hop.handled_ns


def test_a_branch_that_was_lost_says_so(tmp_path: Path) -> None:
    run = Recorded(tmp_path, "a", "b", "c")
    run.add("a", Talker, others=("b", "c"))
    run.add("b", Talker)
    run.add("c", Talker)
    outside = run.begin()
    run.virtual.processes["c"].kernel.life.stop("c", "enough")
    outside.say("a", Say(word="hi"))
    run.virtual.run(seconds=3.0)

    lines = drawn(run.end(), "Say")
    assert lines[0].startswith("Say a a: ActorStopped: ")
    assert lines[1] == "  Say b"
    assert lines[2].startswith("  Say c unknown")


def test_what_left_for_a_process_that_died_did_not_arrive(tmp_path: Path) -> None:
    run = Recorded(tmp_path, "a", "b")
    run.add("a", Talker, others=("b",))
    run.add("b", Talker)
    outside = run.begin()
    run.virtual.processes["b"].kernel.tap = None  # what comes from here on is recorded by nobody
    outside.say("a", Say(word="hi"))
    run.virtual.run(seconds=3.0)

    lines = drawn(run.end(), "Say")
    assert lines[:2] == ["Say a", "  Say b it was not seen to arrive"]


def test_a_message_that_is_passed_on_undecoded_is_followed(tmp_path: Path) -> None:
    run = Recorded(tmp_path, "a", "front", "b")
    run.add("a", Talker, others=("front",))
    run.add("front", Passes, behind="b")
    run.add("b", Talker)
    run.begin().say("a", Say(word="hi"))
    run.virtual.run(seconds=3.0)

    assert drawn(run.end(), "Say")[:3] == ["Say a", "  Say front", "    Say b"]


def test_what_is_in_no_recording_is_not_found(tmp_path: Path) -> None:
    run = Recorded(tmp_path, "a")
    run.add("a", Talker)
    run.begin()
    traces = run.end()

    assert traces.last_of("Say") is None
    assert traces.root_of(5 << 54 | 1) is None
    assert traces.root_of(5) is None


def test_a_recording_that_cannot_be_read_is_said_and_the_others_are_shown(tmp_path: Path) -> None:
    run = Recorded(tmp_path, "a")
    run.add("a", Talker)
    run.begin().say("a", Say(word="hi"))
    run.virtual.run(seconds=1.0)
    (tmp_path / "x.1.rec").write_text("no recording")
    traces = run.end()

    assert drawn(traces, "Say") == ["Say a"]
    assert len(traces.problems) == 1
    assert "x.1.rec: is no recording" in traces.problems[0]


def test_a_handler_that_failed_is_marked_though_nobody_asked(tmp_path: Path) -> None:
    run = Recorded(tmp_path, "a")
    run.add("a", Talker)
    run.begin().say("a", Whisper(word="die"))
    run.virtual.run(seconds=1.0)

    assert drawn(run.end(), "Whisper") == ["Whisper a a: ValueError: no"]
