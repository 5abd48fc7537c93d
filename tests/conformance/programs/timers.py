"""Timers fire in the order of their times, an answer may come later, and deadlines are inherited."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tests.conformance.stage import Stage, outcome, told
from zactor.actor import Actor, on
from zactor.door import Later
from zactor.errors import Cancelled, Failure, Refused
from zactor.message import Envelope, Message, Ref

LONG_S = 3600.0
SHORT_S = 0.3


class Busy(Refused):
    """A refusal of this program's own."""


class Chimes(Message[str]):
    """Set some timers, take one of them back; answered in the order in which they fired."""


class Chime(Message[None]):
    text: str


class Nap(Message[str]):
    seconds: float


class Remind(Message[str]):
    """Answered later, by a timer."""

    seconds: float
    text: str


class Answer(Message[None]):
    text: str


class Forget(Message[None]):
    """Its answer is dropped."""


class Refuse(Message[None]):
    """Refused later."""


class Relay(Message[str]):
    """Ask the clock for a nap within a time; answered by what became of it."""

    seconds: float
    timeout_s: float


class Left(Message[int]):
    """Nanoseconds that are left for the answer, as the clock is told."""


class Diary(Message[tuple[str, ...]]):
    pass


class Clock(Actor):
    """Does what it is asked after a while."""

    def on_start(self) -> None:
        self._diary: list[str] = []
        self._chimes: list[str] = []
        self._chiming: Later[str] | None = None
        self._reminders: dict[str, Later[str]] = {}

    @on
    def chimes(self, message: Chimes) -> Later[str]:
        self.after(0.03, Chime(text="last"))
        self.after(0.02, Chime(text="second"))
        wrong = self.after(0.015, Chime(text="taken back"))
        self.after(0.01, Chime(text="first"))
        self._chimes.append("in time" if self.cancel(wrong) else "too late")
        self._chiming = self.later()
        return self._chiming

    @on
    def chime(self, message: Chime) -> None:
        self._chimes.append(message.text)
        if message.text == "last" and self._chiming is not None:
            self._chiming.reply(", ".join(self._chimes))

    @on(interleave=True)
    async def nap(self, message: Nap) -> str:
        try:
            await self.sleep(message.seconds)
        except Cancelled:
            self._diary.append("cancelled a nap")
            raise
        return f"slept {message.seconds:g} s"

    @on
    def left(self, message: Left, envelope: Envelope) -> int:
        return envelope.left_ns or 0

    @on
    def remind(self, message: Remind) -> Later[str]:
        self._reminders[message.text] = self.later()
        self.after(message.seconds, Answer(text=message.text))
        return self._reminders[message.text]

    @on
    def answer(self, message: Answer) -> None:
        self._reminders.pop(message.text).reply(message.text)

    @on
    def forget(self, message: Forget) -> Later[None]:
        return self.later()

    @on
    def refuse(self, message: Refuse) -> Later[None]:
        later = self.later()
        later.fail(Busy("not now"))
        return later

    @on
    def diary(self, message: Diary) -> tuple[str, ...]:
        return tuple(self._diary)


class Front(Actor):
    """Passes asks on to the clock."""

    clock: Ref[Nap | Left]

    def on_start(self) -> None:
        self._diary: list[str] = []

    @on(interleave=True)
    async def relay(self, message: Relay) -> str:
        try:
            return await self.ask(self.clock, Nap(seconds=message.seconds), timeout_s=message.timeout_s)
        except Failure as error:
            return told(error)
        except Cancelled:
            self._diary.append("cancelled a relay")
            raise

    @on
    async def left(self, message: Left) -> int:
        return await self.ask(self.clock, Left(), timeout_s=LONG_S)

    @on
    def diary(self, message: Diary) -> tuple[str, ...]:
        return tuple(self._diary)


async def play(stage: Stage) -> AsyncIterator[str]:
    yield f"timers: {await stage.ask('clock', Chimes())}"
    slow = stage.ask("clock", Remind(seconds=0.05, text="slow"))
    quick = stage.ask("clock", Remind(seconds=0.0, text="quick"))
    yield f"answers given later: {await quick}, {await slow}"
    yield f"one that is dropped: {await outcome(stage.ask('clock', Forget()))}"
    yield f"one that is refused: {await outcome(stage.ask('clock', Refuse()))}"
    yield f"a nap by two processes: {await outcome(stage.ask('front', Relay(seconds=0.01, timeout_s=LONG_S)))}"

    left_ns = await stage.ask("front", Left(), timeout_s=5.0)
    yield f"a deadline of 5 s by two processes, 5 s or less are left: {0 < left_ns <= 5_000_000_000}"

    inner = stage.ask("front", Relay(seconds=LONG_S, timeout_s=SHORT_S))
    outer = stage.ask("front", Relay(seconds=LONG_S, timeout_s=LONG_S), timeout_s=2 * SHORT_S)
    yield f"the inner deadline runs out: {await outcome(inner)}"
    yield f"the outer one does: {await outcome(outer)}"
    for node, count in (("clock", 2), ("front", 1)):

        async def look(node: str = node, count: int = count) -> tuple[str, ...]:
            diary = await stage.ask(node, Diary())
            return diary if len(diary) >= count else ()

        yield f"{node}: {', '.join(await stage.until(look))}"
