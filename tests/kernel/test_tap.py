"""The tap sees all that feeds an actor: it is re-executed alone from what the tap saw, to the last digest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zactor.actor import Actor, Down, Up, on
from zactor.debug.recorder import Recorder
from zactor.debug.recording import Mapped, Memory, Recording, read
from zactor.debug.replay import Outcome, Replay
from zactor.debug.story import Story
from zactor.door import Later
from zactor.errors import AskCycle, Cancelled, Failure, Overloaded, Refused
from zactor.kernel import Kernel
from zactor.message import Envelope, Message, Ref
from zactor.sim.virtual import Virtual
from zactor.supervision import Supervision


class Step(Message[int]):
    """One thing of many, by lot."""

    number: int


class Tick(Message[None]):
    number: int


class Note(Message[None]):
    text: str


class Slow(Message[str]):
    seconds: float


class Postponed(Message[int]):
    pass


class Back(Message[int]):
    """Asks the one who asked it."""

    whom: Ref[Any]


class Hold(Message[None]):
    seconds: float


class Fragile(Actor):
    """A child that fails, or stops by itself."""

    supervision = Supervision(directives=((ValueError, "escalate"),))

    @on
    def note(self, message: Note) -> None:
        if message.text == "stop":
            self.stop()
        elif message.text == "escalate":
            raise ValueError("the child fails")


class Hub(Actor):
    """Does everything that an actor can do, and remembers it in its state."""

    mailbox_size = 40
    supervision = Supervision(limit_count=100_000, backoff_min_ns=1_000_000, backoff_max_ns=5_000_000)
    near: Ref[Any]
    far: Ref[Any]
    tight: Ref[Any]
    factor: int = 1

    async def on_start(self) -> None:
        self._sum = 0
        self._timers: list[int] = []
        self._laters: list[Later[int]] = []
        self._writes = 0
        log = await self.disk.read("log")
        self._sum += len(log)
        try:
            self._sum += await self.ask(self.far, Step(number=1), timeout_s=0.02)
        except Failure as error:
            self._sum += len(str(error))
        self.watch(self.far)

    @on
    async def step(self, message: Step, envelope: Envelope) -> int:
        self._sum += self.factor * message.number + (envelope.left_ns or 0) % 7
        lot = self.rng.randrange(17)
        try:
            await self._do(lot, message.number)
        except (Overloaded, AskCycle) as error:
            self._sum += len(str(error))
        except Cancelled:
            self.log.info("cancelled", sum=self._sum)
            raise
        return self._sum

    async def _do(self, lot: int, number: int) -> None:
        if lot == 0:
            self.tell(self.near, Note(text=str(self._sum)))
            self.tell(self.far, Note(text=f"{self.now_ns()} {self.wall_ns()}"))
        elif lot == 1:
            self._sum += len(await self.ask(self.far, Slow(seconds=0.002), timeout_s=0.05))
        elif lot == 2:
            self._sum += len(await self.ask(self.near, Slow(seconds=0.03), timeout_s=0.01))
        elif lot == 3:
            self._timers.append(self.after(0.000_1 * number, Tick(number=number)))
        elif lot == 4 and self._timers:
            self._sum += self.cancel(self._timers.pop(0))
        elif lot == 5:
            self._sum += await self.disk.append("log", str(self._sum).encode())
        elif lot == 6:
            self.disk.append("log", b"x")
            self._writes += 1
            self.disk.commit(self._writes)
        elif lot == 7:
            child = self.spawn(Fragile)
            self.tell(child, Note(text=self.rng.choice(["stop", "go on", "escalate"])))
        elif lot == 8:
            self.spawn(Fragile, "named")
        elif lot == 9:
            for index in range(12):
                self.tell(self.tight, Note(text=str(index)))
        elif lot == 10:
            await self.send(self.tight, Note(text="sent"), timeout_s=0.005)
        elif lot == 11:
            await self.sleep(0.001)
            await self.disk.synced()
        elif lot == 12:
            self._sum += await self.ask(self.near, Back(whom=self.ref), timeout_s=0.2)
        elif lot == 13:
            raise Refused("by lot")
        elif lot == 16:
            asked = self.ask_soon(lambda: (self.far, Slow(seconds=0.001)), timeout_s=0.05)
            self._sum += len(await asked) + len(await asked)
        elif lot == 14:
            raise ValueError(f"by lot, at {self._sum}")
        else:
            self.tell(self.far, Note(text="\ud800"))

    @on(interleave=True)
    async def slow(self, message: Slow) -> str:
        await self.sleep(message.seconds)
        return str(self._sum)

    @on
    def postponed(self, message: Postponed) -> Later[int]:
        self._laters.append(self.later())
        if len(self._laters) > 2:
            self._laters.pop(0).reply(self._sum)
        if len(self._laters) > 1 and self._sum % 3 == 0:
            self._laters.clear()
        return self._laters[-1] if self._laters else self.later()

    @on
    def tick(self, message: Tick, envelope: Envelope) -> None:
        self._sum += message.number + envelope.id % 5
        self.tell(self.far, Note(text=str(self._sum)))

    @on
    def note(self, message: Note) -> None:
        self._sum += len(message.text)

    @on
    def down(self, message: Down | Up) -> None:
        self._sum += 3
        self.tell(self.near, Note(text=type(message).__name__))

    def on_synced(self, write_id: int) -> None:
        self._sum += write_id
        self.tell(self.far, Note(text=f"synced {write_id}"))

    def on_turn_end(self) -> None:
        if self._sum % 5 == 0:
            self.tell(self.near, Note(text=f"end {self._sum}"))

    def on_stop(self) -> None:
        self.tell(self.near, Note(text=f"stopped at {self._sum}"))


class ChangedHub(Hub):
    """The same, but for one handler."""

    @on
    def note(self, message: Note) -> None:
        self._sum += len(message.text) + 1


class Other(Actor):
    """Somebody to talk to."""

    supervision = Supervision(limit_count=100_000, backoff_min_ns=1_000_000, backoff_max_ns=5_000_000)

    @on
    def step(self, message: Step) -> int:
        return message.number + self.rng.randrange(100)

    @on(interleave=True)
    async def slow(self, message: Slow) -> str:
        await self.sleep(message.seconds)
        if self.rng.random() < 0.2:
            raise ValueError("by lot")
        return "slow"

    @on
    async def back(self, message: Back) -> int:
        return await self.ask(message.whom, Step(number=2), timeout_s=0.1)

    @on
    def note(self, message: Note) -> None: ...


class Tight(Actor):
    mailbox_size = 5

    @on
    async def note(self, message: Note) -> None:
        await self.sleep(0.001)


GIVEN: dict[str, Any] = {"near": Ref("near"), "far": Ref("far"), "tight": Ref("tight")}


def recorded(seed: int, steps: int = 150, ring: Path | None = None) -> Recording:
    """A run of three processes, in which the hub's inputs and outputs are taken down, perhaps into a small ring."""
    virtual = Virtual(seed)
    virtual.disk.capacity_bytes = 5_000
    kernels: list[Kernel] = [virtual.add(name) for name in ("middle", "side", "client")]
    middle, side, _ = kernels
    middle.life.add("near", Other)
    middle.life.add("hub", Hub, links={"near": "near", "far": "far", "tight": "tight"})
    middle.life.add("tight", Tight)
    side.life.add("far", Other)
    sink = Memory() if ring is None else Mapped(ring, 4 << 14, 1 << 14)
    Recorder(middle, sink)
    virtual.start()
    virtual.run(seconds=0.01)
    lot = virtual.stream("the test")
    outsides = [virtual.outside("middle"), virtual.outside("client")]
    for step in range(steps):
        outside = lot.choice(outsides)
        kind: Message[Any] = lot.choice(
            [Step(number=step), Step(number=step), Slow(seconds=0.005), Postponed(), Note(text="n" * (step % 9))]
        )
        if lot.random() < 0.5:
            outside.ask(outside.to("hub"), kind, timeout_s=lot.choice([0.004, 0.05, 1.0]))
        else:
            try:
                outside.say("hub", kind)
            except Overloaded:
                continue
        virtual.run(seconds=lot.choice([0.0, 0.000_05, 0.001, 0.004]))
        if step == steps // 2:
            virtual.kill("side")
            virtual.restart("side").life.add("far", Other)
            virtual.start()
    virtual.run(seconds=1.0)
    middle.life.stop("hub")
    virtual.run(seconds=0.1)
    return sink.read() if isinstance(sink, Memory) else read(ring or Path())


def replay(recording: Recording, kind: type[Actor]) -> Outcome:
    return Replay(recording, "hub", kind).run()


def kinds_of(recording: Recording) -> set[str]:
    """The kinds of what was seen."""
    story = Story(recording, "hub")
    kinds = {kind for turn in story.turns for kind, _ in turn.inputs} | {kind for kind, _ in story.outputs}
    kinds |= (
        {"message" for turn in story.turns if turn.mail}
        | {"tell" for _ in story.sent}
        | {"answer" for _ in story.answers}
    )
    return kinds


@settings(max_examples=40)
@given(st.integers(0, 1 << 30))
def test_an_actor_is_re_executed_alone_from_the_tap_to_the_last_output(seed: int) -> None:
    recording = recorded(seed)

    outcome = replay(recording, Hub)

    assert recording.damage == []
    assert outcome.difference is None
    assert outcome.outputs > 100
    assert outcome.unknown < outcome.outputs // 4


@pytest.mark.parametrize("seed", range(3))
def test_a_record_that_ends_anywhere_as_after_kill_9_differs_nowhere(seed: int) -> None:
    whole = recorded(seed, steps=40)

    for count in range(1, len(whole.records)):
        beginning = Recording("cut", whole.records[:count], from_start=True)
        if Story(beginning, "hub").given is not None:
            outcome = replay(beginning, Hub)
            assert outcome.difference is None, (count, outcome.difference)


@pytest.mark.parametrize("seed", range(12))
def test_it_is_re_executed_from_whatever_a_ring_still_holds(seed: int, tmp_path: Path) -> None:
    recording = recorded(seed, steps=400, ring=tmp_path / "hub.rec")

    outcome = replay(recording, Hub)

    assert not recording.from_start
    assert outcome.difference is None
    assert outcome.outputs > 10


def test_the_record_of_some_runs_holds_everything_that_there_is() -> None:
    kinds: set[str] = set()
    for seed in range(8):
        kinds |= kinds_of(recorded(seed))

    inputs = {"boot", "start", "message", "timer", "settle", "synced", "cancel", "child", "stop"}
    answers = {"full", "unsent", "timer_cancelled", "spawned", "chance"}
    outputs = {"tell", "answer", "after", "operation", "commit", "spawn", "watch", "log"}
    assert kinds == inputs | answers | outputs


def test_a_handler_that_was_changed_differs() -> None:
    changed = replay(recorded(1), ChangedHub)

    assert changed.difference is not None


def test_the_same_seed_gives_the_same_record() -> None:
    one, two = recorded(3), recorded(3)

    assert one.records == two.records
