"""An actor is executed again, alone, from a file: from its start or a checkpoint, to the first output that differs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, ClassVar

import pytest

from zactor.actor import Actor, on
from zactor.debug.recorder import Recorder
from zactor.debug.recording import PIECE_BYTES, Mapped, Recording, read
from zactor.debug.replay import Outcome, Replay
from zactor.debug.story import Story
from zactor.errors import DiskFull, UserError
from zactor.message import Bulk, Message, Ref, encode
from zactor.sim.virtual import Outside, Virtual

SEGMENT = 1 << 14


class Add(Message[int]):
    amount: int


class Heard(Message[None]):
    text: str


class Picture(Message[int]):
    pixels: Bulk


class Ears(Actor):
    @on
    def heard(self, message: Heard) -> None: ...


class Adder(Actor):
    """Sums, tells somebody, and draws lots."""

    ears: Ref[Heard]

    def on_start(self) -> None:
        self._sum = 0
        self._seen: dict[int, tuple[int, ...]] = {}

    @on
    def add(self, message: Add) -> int:
        self._sum += message.amount + self.rng.randrange(10)
        self._seen[message.amount % 7] = (message.amount, self._sum)
        self.tell(self.ears, Heard(text=f"{self._sum}"))
        self.log.debug("added", sum=self._sum)
        return self._sum

    @on
    def picture(self, message: Picture) -> int:
        self.disk.append("pictures", message.pixels)
        return sum(message.pixels[:3])


class Forgetful(Adder):
    """Says something else."""

    @on
    def add(self, message: Add) -> int:
        self._sum += message.amount + self.rng.randrange(10)
        self.tell(self.ears, Heard(text=f"the sum is {self._sum}"))
        return self._sum


class Mute(Adder):
    """Says nothing."""

    @on
    def add(self, message: Add) -> int:
        self._sum += message.amount + self.rng.randrange(10)
        return self._sum


class Loud(Adder):
    """Says more."""

    @on
    def add(self, message: Add) -> int:
        self.tell(self.ears, Heard(text="first"))
        return super().add(message)


class Closed(Adder):
    """Its state cannot be written down."""

    def on_start(self) -> None:
        super().on_start()
        self._closed = lambda: None


class Recorded:
    """A run of an adder in one process and its ears beside it or in another, recorded into a file."""

    def __init__(self, path: Path, kind: type[Actor] = Adder, ears: str = "p", budget_bytes: int = 0) -> None:
        self.path = path
        self.virtual = virtual = Virtual(7)
        for process in ("p", "q"):
            virtual.add(process)
        kernel = virtual.processes["p"].kernel
        kernel.life.add("adder", kind, links={"ears": "ears"})
        virtual.processes[ears].kernel.life.add("ears", Ears)
        self.sink = Mapped(path, budget_bytes, SEGMENT if budget_bytes else 0)
        self.recorder = Recorder(kernel, self.sink)
        virtual.start()
        virtual.run(seconds=0.01)
        self.outside: Outside = virtual.outside("q")

    def add(self, count: int) -> Recorded:
        for number in range(count):
            self.virtual.result(self.outside.ask(self.outside.to("adder"), Add(amount=number)))
        self.virtual.run(seconds=0.01)
        return self

    def read(self) -> Recording:
        return read(self.path)


def replay(recording: Recording, kind: type[Actor] | None = None, **options: Any) -> Outcome:
    return Replay(recording, "adder", kind, **options).run()


@pytest.mark.parametrize("ears", ["p", "q"])
def test_all_that_an_actor_did_is_the_same(tmp_path: Path, ears: str) -> None:
    outcome = replay(Recorded(tmp_path / "p.rec", ears=ears).add(50).read())

    assert outcome.difference is None
    assert outcome.outputs == 100
    assert outcome.unknown == 0


@pytest.mark.parametrize("ears", ["p", "q"])
@pytest.mark.parametrize("kind", [Forgetful, Mute, Loud])
def test_a_changed_handler_is_named_with_its_message_and_line(tmp_path: Path, ears: str, kind: type[Actor]) -> None:
    outcome = replay(Recorded(tmp_path / "p.rec", ears=ears).add(5).read(), kind)

    difference = outcome.difference
    assert difference is not None
    assert difference.output.startswith("debug.Heard 1.1.1 to ears")
    assert difference.handling.startswith("Add 2.1.1 from outside-")
    assert outcome.outputs <= 1  # the answer of who says nothing
    if kind is Mute:
        assert difference.replayed == "it is not sent"
    assert f"{__file__}:" in difference.where


def test_a_flipped_byte_of_an_answer_is_named(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path / "p.rec", ears="q").add(5)
    content = bytearray(recorded.path.read_bytes())
    sent = Story(recorded.read(), "adder").sent.values()
    text = next(known.body for known in sent if len(known.body) == len(encode(Heard(text="17"))))
    content[content.index(text) + 2] ^= 1
    recorded.path.write_bytes(content)

    recording = recorded.read()
    outcome = replay(recording)

    assert outcome.difference is not None
    assert outcome.difference.recorded != outcome.difference.replayed
    assert repr(text[2:].decode()) in outcome.difference.replayed
    assert "does not match its checksum" in recording.damage[0]


@pytest.mark.parametrize("ears", ["p", "q"])
def test_a_flipped_byte_anywhere_is_told_with_the_first_output_that_may_be_due_to_it(tmp_path: Path, ears: str) -> None:
    recorded = Recorded(tmp_path / "p.rec", ears=ears).add(12)
    recorded.recorder.close()
    content = recorded.path.read_bytes()
    records = dict(recorded.read().records)
    lot = random.Random(ears)
    for at in lot.sample(range(len(content)), 240):
        damaged = bytearray(content)
        damaged[at] ^= lot.randrange(1, 256)
        recorded.path.write_bytes(damaged)

        recording = recorded.read()
        outcome = replay(recording, Adder)

        assert recording.damage, at
        begins = max((offset for offset in records if offset <= at), default=None)
        if begins is None or records[begins][1] == "ears":
            continue  # what a segment begins with is no record, and this one is not about the adder
        assert outcome.difference is not None, at
        assert outcome.difference.output, at
        assert outcome.unkept == "", at


@pytest.mark.parametrize("size", [0, 1, 200, 1 << 30])
def test_a_damaged_size_costs_one_record_in_a_ring_of_many_laps_too(tmp_path: Path, size: int) -> None:
    recorded = Recorded(tmp_path / "p.rec", budget_bytes=4 * SEGMENT).add(1500)
    content = bytearray(recorded.path.read_bytes())
    whole = recorded.read()
    offset = whole.records[-9][0]
    content[offset + 4 : offset + 8] = size.to_bytes(4, "little")
    recorded.path.write_bytes(content)

    recording = recorded.read()

    assert [record for _, record in recording.records] == [record for at, record in whole.records if at != offset]
    assert len(recording.damage) == 1
    assert recording.damage[0].startswith(f"offset {offset}: ")
    outcome = replay(recording)
    assert outcome.difference is not None
    assert outcome.unkept == ""


def test_after_its_start_was_overwritten_a_replay_begins_at_a_checkpoint(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path / "p.rec", budget_bytes=4 * SEGMENT).add(1500)
    recording = recorded.read()

    outcome = replay(recording)

    assert not recording.from_start
    assert outcome.difference is None
    assert 100 < outcome.inputs < 1500
    assert outcome.outputs == 2 * outcome.inputs


def test_a_kind_without_a_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path / "p.rec", Closed, budget_bytes=4 * SEGMENT).add(1500)

    with pytest.raises(UserError, match="the start of adder was overwritten, and it has no checkpoint; give its kind"):
        replay(recorded.read())


def test_a_checkpoint_of_ones_own_may_leave_out_what_can_be_made_again(tmp_path: Path) -> None:
    class Reopened(Closed):
        def checkpoint(self) -> Any:
            return {name: value for name, value in super().checkpoint().items() if name != "_closed"}

        def from_checkpoint(self, state: Any) -> None:
            super().from_checkpoint(state)
            self._closed = lambda: None

    recorded = Recorded(tmp_path / "p.rec", Reopened, budget_bytes=4 * SEGMENT).add(1500)

    assert replay(recorded.read(), Reopened).difference is None


def test_bulk_that_a_ring_leaves_out_is_said_when_a_difference_may_be_due_to_it(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path / "p.rec", budget_bytes=64 * SEGMENT).add(1)
    adder = recorded.outside.to("adder")
    small = recorded.outside.ask(adder, Picture(pixels=b"\1\2\3"))
    assert recorded.virtual.result(small) == 6
    assert replay(recorded.read()).difference is None
    large = Picture(pixels=bytes(PIECE_BYTES) + b"\1")
    assert recorded.virtual.result(recorded.outside.ask(adder, large)) == 0
    recorded.virtual.run(seconds=0.01)
    assert replay(recorded.read()).difference is None  # nobody has looked into it: what was written is known by its sum

    looked_into = Picture(pixels=b"\1" * (PIECE_BYTES + 1))
    assert recorded.virtual.result(recorded.outside.ask(adder, looked_into)) == 3

    outcome = replay(recorded.read())
    assert outcome.difference is not None
    assert outcome.unkept.startswith("debug.Picture 2.1.")
    assert "bytes of bulk, of which only length and checksum were kept" in outcome.unkept


def test_a_full_recording_keeps_bulk(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path / "p.rec")
    picture = Picture(pixels=b"\1" * (PIECE_BYTES + 1))
    assert recorded.virtual.result(recorded.outside.ask(recorded.outside.to("adder"), picture)) == 3

    assert replay(recorded.read()).difference is None


def test_it_logs_what_was_not_logged(tmp_path: Path) -> None:
    events: list[tuple[str, str, Any]] = []
    recorded = Recorded(tmp_path / "p.rec").add(3)

    replay(recorded.read(), on_log=lambda level, _node, event, fields: events.append((level, event, fields["sum"])))

    assert [event[:2] for event in events] == [("debug", "added")] * 3
    assert [entry for entry in recorded.virtual.logs if entry[0] == "debug"] == []


def test_it_stops_before_a_message_and_shows_the_state(tmp_path: Path) -> None:
    recording = Recorded(tmp_path / "p.rec").add(3).read()

    outcome = replay(recording, stop_at=2 << 54 | 1 << 42 | 3)

    assert "_sum = " in outcome.stopped_at
    assert outcome.outputs == 4


def test_an_actor_that_was_stopped_and_started_again_in_its_process_is_the_same_again(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path / "p.rec").add(3)
    kernel = recorded.virtual.processes["p"].kernel
    kernel.life.stop("adder")
    recorded.virtual.run(seconds=0.01)
    kernel.life.add("adder", Adder, links={"ears": "ears"})
    kernel.life.start()
    recorded.add(4)

    outcome = replay(recorded.read())

    assert outcome.difference is None
    assert outcome.outputs == 2 * 7


def test_an_actor_that_was_not_recorded_is_refused(tmp_path: Path) -> None:
    recording = Recorded(tmp_path / "p.rec").add(1).read()

    with pytest.raises(UserError, match="nothing of nobody was recorded"):
        Replay(recording, "nobody")


def test_a_disk_that_becomes_full_ends_the_recording_with_a_word(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path / "p.rec")

    def refuse(*_values: Any) -> None:
        raise DiskFull("0 MiB are left on the disk")

    recorded.recorder._keep = refuse
    recorded.add(2)

    stopped = [fields for _, _, event, fields in recorded.virtual.logs if event == "recording_stopped"]
    assert stopped == [{"because": "0 MiB are left on the disk"}]


class Held(Actor):
    """Takes one message at a time: most of a turn's offer waits for the next."""

    on_hold: ClassVar[float] = 0.001

    @on
    async def add(self, message: Add) -> int:
        await self.sleep(self.on_hold)
        return message.amount


@pytest.mark.parametrize("process", ["p", "q"])
def test_mail_that_a_turn_was_offered_and_did_not_take_is_written_once(tmp_path: Path, process: str) -> None:
    virtual = Virtual(1)
    kernel = virtual.add("p")
    virtual.add("q")
    kernel.life.add("adder", Held)
    sink = Mapped(tmp_path / "p.rec", 0)
    Recorder(kernel, sink)
    virtual.start()
    virtual.run(seconds=0.01)
    outside = virtual.outside(process)
    waits = [outside.ask(outside.to("adder"), Add(amount=number)) for number in range(100)]
    assert [virtual.result(wait) for wait in waits] == list(range(100))

    recording = read(tmp_path / "p.rec")

    assert replay(recording).difference is None
    rows = [record[4] for _, record in recording.records if record[0] == 3 and record[1] == "adder" and record[4]]
    assert sum(sum(each.values()) if isinstance(each, dict) else len(each) for each in rows) == 100


class Caller(Actor):
    """Calls a function whose result no recording can hold, and starts a child that is like it."""

    is_child: bool = False

    def on_start(self) -> None:
        if not self.is_child:
            self.spawn(Caller, "child", is_child=True)

    @on
    async def add(self, message: Add) -> int:
        made = await self.in_thread(list if self.is_child else object)
        return message.amount if made is not None else 0


def test_a_child_is_replayed_by_itself_and_what_could_not_be_kept_is_said(tmp_path: Path) -> None:
    virtual = Virtual(1)
    kernel = virtual.add("p")
    kernel.life.add("caller", Caller)
    Recorder(kernel, Mapped(tmp_path / "p.rec", 0))
    virtual.start()
    virtual.run(seconds=0.01)
    outside = virtual.outside("p")
    for name in ("caller", "caller/child"):
        assert virtual.result(outside.ask(outside.to(name), Add(amount=3))) == 3

    child = Replay(read(tmp_path / "p.rec"), "caller/child").run()
    caller = Replay(read(tmp_path / "p.rec"), "caller").run()

    assert (child.difference, child.outputs) == (None, 2)
    assert caller.difference is not None
    assert caller.unkept == "what a settle brought could not be written down: a object"


class Poster(Actor):
    """Tells a lot at once, some of it large, some of it nothing that travels."""

    ears: Ref[Any]

    @on
    def add(self, message: Add) -> int:
        for number in range(50):
            self.tell(self.ears, Heard(text=str(number) * message.amount))
            self.log.info("posted", number=number)
        self.tell(self.ears, Heard(text=object()))  # type: ignore[arg-type]
        return message.amount


@pytest.mark.parametrize("amount", [1, 100, 2_000])
def test_what_does_not_fit_into_a_record_or_cannot_travel_costs_nothing_else(tmp_path: Path, amount: int) -> None:
    recorded = Recorded(tmp_path / "p.rec", Poster, budget_bytes=8 * SEGMENT)
    adder = recorded.outside.to("adder")
    assert recorded.virtual.result(recorded.outside.ask(adder, Add(amount=amount))) == amount
    recorded.virtual.run(seconds=0.01)

    poster, ears = Replay(recorded.read(), "adder").run(), Replay(recorded.read(), "ears").run()

    assert poster.difference is None
    assert poster.outputs >= 51
    assert poster.unknown <= 51
    assert "a message is not there: " in ears.unkept


def test_a_turn_with_very_many_outputs_is_written_in_pieces(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path / "p.rec", Poster, budget_bytes=64 * SEGMENT)
    waits = [recorded.outside.ask(recorded.outside.to("adder"), Add(amount=0)) for _ in range(60)]
    assert [recorded.virtual.result(wait) for wait in waits] == [0] * 60

    outcome = Replay(recorded.read(), "adder").run()

    assert outcome.difference is None
    assert outcome.outputs >= 3_000
