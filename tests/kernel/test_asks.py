"""Asks: answers, deadlines, errors as data, cancellation; the same within a process and between two."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest

from tests.kernel.balance import assert_all_balanced
from zactor.actor import Actor, on
from zactor.door import Later
from zactor.errors import (
    ActorFailed,
    ActorStopped,
    AskCycle,
    AskTimeout,
    Cancelled,
    ConnectionLost,
    Failure,
    NeverAnswered,
    Refused,
    TooLarge,
    Unhandled,
)
from zactor.kernel import Kernel
from zactor.message import MESSAGE_SIZE_MAX, Envelope, Message, Ref, format_id
from zactor.sim.virtual import Virtual
from zactor.wire import CHAIN_LENGTH_MAX

MILLISECOND_NS = 1_000_000


class Greet(Message[str]):
    name: str


class Fail(Message[None]):
    text: str


class Refuse(Message[None]):
    text: str


class Slow(Message[str]):
    seconds: float


class Left(Message[int | None]):
    pass


class Pass(Message[str]):
    seconds: float
    timeout_s: float = 5.0


class Postpone(Message[str]):
    pass


class Settle(Message[None]):
    how: str


class Fill(Message[bytes]):
    size: int


class Wrong(Message[int]):
    pass


class Unknown(Message[None]):
    pass


class Dive(Message[int]):
    depth: int


class Stop(Message[None]):
    pass


class Surrogate(Message[str]):
    pass


class NotToday(Refused):
    """A refusal of this file's own."""


class Server(Actor):
    """Answers in every way there is."""

    def on_start(self) -> None:
        self._laters: list[Later[str]] = []
        self.cancelled: list[str] = []

    @on
    def greet(self, message: Greet) -> str:
        return f"Hello, {message.name}!"

    @on
    def fail(self, message: Fail) -> None:
        raise KeyError(message.text)

    @on
    def refuse(self, message: Refuse) -> None:
        raise NotToday(message.text, "why")

    @on(interleave=True)
    async def slow(self, message: Slow) -> str:
        try:
            await self.sleep(message.seconds)
        except Cancelled:
            self.cancelled.append("slow")
            raise
        return "late"

    @on
    def left(self, message: Left, envelope: Envelope) -> int | None:
        return envelope.left_ns

    @on
    def postpone(self, message: Postpone) -> Later[str]:
        later = self.later()
        self._laters.append(later)
        return later

    @on
    def settle(self, message: Settle) -> None:
        if message.how == "reply":
            self._laters.pop().reply("at last")
        elif message.how == "fail":
            self._laters.pop().fail(NotToday("later"))
        elif message.how == "fail oddly":
            self._laters.pop().fail(ValueError("odd"))  # type: ignore[arg-type]
        else:
            self._laters.clear()

    @on
    def fill(self, message: Fill) -> bytes:
        return bytes(message.size)

    @on
    def wrong(self, message: Wrong) -> int:
        return "no int"  # type: ignore[return-value]

    @on
    def surrogate(self, message: Surrogate) -> str:
        return "\ud800"

    @on
    def stopping(self, message: Stop) -> None:
        self.stop()


class Middle(Actor):
    """Passes an ask on, with more patience than its own asker has."""

    server: Ref[Any]

    def on_start(self) -> None:
        self.heard: list[str] = []
        self.cancelled = 0

    @on
    async def forward(self, message: Pass) -> str:
        try:
            return await self.ask(self.server, Slow(seconds=message.seconds), timeout_s=message.timeout_s)
        except AskTimeout as error:
            self.heard.append(str(error))
            raise
        except Cancelled:
            self.cancelled += 1
            raise

    @on
    async def left(self, message: Left) -> int | None:
        return await self.ask(self.server, Left(), timeout_s=60.0)


class Diver(Actor):
    """Asks the next one until it is deep enough; calls itself by two names, so that no ring closes."""

    other: Ref[Dive]

    @on(interleave=True)
    async def dive(self, message: Dive) -> int:
        if message.depth == 0:
            return 0
        return 1 + await self.ask(self.other, Dive(depth=message.depth - 1))


class Total(Message[int]):
    numbers: tuple[int, ...]


class Add(Message[int]):
    number: int


class Adder(Actor):
    """Remembers what it was asked."""

    def on_start(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    @on
    def total(self, message: Total) -> int:
        self.asked.append(message.numbers)
        return sum(message.numbers)


class Gatherer(Actor):
    """Asks once for all that a turn wants added."""

    adder: Ref[Total]

    def on_start(self) -> None:
        self._numbers: list[int] = []
        self._asked: Awaitable[int] | None = None
        self.fails = False

    @on(interleave=True)
    async def add(self, message: Add) -> int:
        self._numbers.append(message.number)
        if self._asked is None:
            self._asked = self.ask_soon(self._make)
        return await self._asked

    def _make(self) -> tuple[Ref[Total], Total] | None:
        if self.fails:
            raise ValueError("nothing to ask")
        numbers, self._numbers, self._asked = tuple(self._numbers), [], None
        return (self.adder, Total(numbers=numbers)) if sum(numbers) else None


def two(placement: str) -> tuple[Virtual, Kernel, Kernel]:
    """One process with everything (`local`), or the server in a process of its own (`remote`)."""
    virtual = Virtual()
    front = virtual.add("front")
    back = front if placement == "local" else virtual.add("back")
    back.life.add("server", Server)
    front.life.add("middle", Middle, links={"server": "server"})
    virtual.start()
    virtual.run()
    return virtual, front, back


def server_of(back: Kernel) -> Server:
    actor = back.cells["server"].actor
    assert isinstance(actor, Server)
    return actor


both = pytest.mark.parametrize("placement", ["local", "remote"])


@both
def test_an_ask_is_answered(placement: str) -> None:
    virtual, _, _ = two(placement)
    outside = virtual.outside("front")

    assert virtual.result(outside.ask(outside.to("server"), Greet(name="world"))) == "Hello, world!"
    assert_all_balanced(virtual)


def test_a_process_that_never_sent_anything_can_answer() -> None:
    virtual = Virtual()
    virtual.add("front")
    virtual.add("back").life.add("server", Server)
    virtual.start()

    outside = virtual.outside("front")

    assert virtual.result(outside.ask(outside.to("server"), Greet(name="you"))) == "Hello, you!"


@both
@pytest.mark.parametrize(
    ("message", "kind", "text"),
    [
        (Fail(text="torn"), ActorFailed, "server: KeyError: 'torn'"),
        (Refuse(text="no"), NotToday, "no"),
        (Unknown(), Unhandled, "server handles"),
    ],
)
def test_an_error_has_the_same_type_and_text_wherever_the_other_lives(
    placement: str, message: Message[None], kind: type[Failure], text: str
) -> None:
    virtual, _, _ = two(placement)
    outside = virtual.outside("front")

    with pytest.raises(kind, match=text) as caught:
        virtual.result(outside.ask(outside.to("server"), message))

    assert type(caught.value) is kind
    assert_all_balanced(virtual)


@both
def test_a_failure_carries_the_rendered_traceback(placement: str) -> None:
    virtual, _, _ = two(placement)
    outside = virtual.outside("front")

    with pytest.raises(ActorFailed) as caught:
        virtual.result(outside.ask(outside.to("server"), Fail(text="torn")))

    assert "raise KeyError(message.text)" in caught.value.detail


@both
def test_a_refusal_is_an_answer_and_no_failure_of_the_actor(placement: str) -> None:
    virtual, _, back = two(placement)
    outside = virtual.outside("front")
    before = server_of(back)

    with pytest.raises(NotToday) as caught:
        virtual.result(outside.ask(outside.to("server"), Refuse(text="no")))

    assert caught.value.detail == "why"
    assert server_of(back) is before
    assert back.cells["server"].last_error is None


@both
def test_an_ask_of_nobody_fails_at_once(placement: str) -> None:
    virtual, front, back = two(placement)
    outside = virtual.outside("front")
    started_ns = virtual.now_ns
    unknown = "nobody" if placement == "local" else "server/nobody"

    with pytest.raises(ActorStopped, match="there is no actor"):
        virtual.result(outside.ask(outside.to(unknown), Greet(name="x")))

    assert virtual.now_ns - started_ns < 10 * MILLISECOND_NS
    assert front.dead["unknown"] + back.dead["unknown"] >= 1
    assert_all_balanced(virtual)


@both
def test_a_timeout_names_message_id_and_target(placement: str) -> None:
    virtual, front, _ = two(placement)
    outside = virtual.outside("front")

    wait = outside.ask(outside.to("server"), Slow(seconds=9.0), timeout_s=0.05)
    number = format_id(front.sequence)
    with pytest.raises(AskTimeout, match=rf"Slow {number} to server"):
        virtual.result(wait)

    assert_all_balanced(virtual)


@both
def test_a_nested_ask_times_out_with_the_outer_one(placement: str) -> None:
    virtual, front, back = two(placement)
    outside = virtual.outside("front")
    started_ns = virtual.now_ns

    with pytest.raises(AskTimeout):
        virtual.result(outside.ask(outside.to("middle"), Pass(seconds=9.0, timeout_s=60.0), timeout_s=0.05))
    virtual.run(seconds=0.01)

    assert virtual.now_ns - started_ns < 65 * MILLISECOND_NS
    assert server_of(back).cancelled == ["slow"]
    assert [wait for wait in front.pending.values() if wait.target is not None] == []
    assert front.serving == back.serving == {}
    assert_all_balanced(virtual)


@both
def test_a_deadline_is_inherited_and_crosses_processes_as_time_left(placement: str) -> None:
    virtual, _, _ = two(placement)
    outside = virtual.outside("front")

    left_ns = virtual.result(outside.ask(outside.to("middle"), Left(), timeout_s=0.2))

    assert 190 * MILLISECOND_NS < left_ns <= 200 * MILLISECOND_NS


@both
def test_a_tell_has_no_deadline(placement: str) -> None:
    virtual = Virtual()
    front = virtual.add("front")
    back = front if placement == "local" else virtual.add("back")
    seen: list[int | None] = []

    class Noting(Server):
        @on
        def left(self, message: Left, envelope: Envelope) -> int | None:
            seen.append(envelope.left_ns)
            return None

    back.life.add("server", Noting)
    virtual.start()
    virtual.outside("front").say("server", Left())
    virtual.run()

    assert seen == [None]


@both
def test_a_handler_is_cancelled_when_its_asker_stops(placement: str) -> None:
    virtual, front, back = two(placement)
    outside = virtual.outside("front")
    outside.ask(outside.to("middle"), Pass(seconds=9.0))
    virtual.run(seconds=0.01)

    front.life.stop("middle")
    virtual.run(seconds=0.01)

    assert server_of(back).cancelled == ["slow"]
    assert front.serving == back.serving == {}
    assert_all_balanced(virtual)


def test_a_handler_is_cancelled_when_the_process_of_its_asker_is_killed() -> None:
    virtual, _, back = two("remote")
    outside = virtual.outside("front")
    outside.ask(outside.to("middle"), Pass(seconds=9.0))
    virtual.run(seconds=0.01)

    virtual.kill("front")
    virtual.run(seconds=0.01)

    assert server_of(back).cancelled == ["slow"]
    assert back.serving == {}


def test_cancellation_goes_down_the_whole_chain() -> None:
    virtual = Virtual()
    for process in ("front", "middle", "back"):
        virtual.add(process)
    kernels = {name: world.kernel for name, world in virtual.processes.items()}
    kernels["back"].life.add("server", Server)
    kernels["middle"].life.add("middle", Middle, links={"server": "server"})
    virtual.start()
    virtual.run()
    outside = virtual.outside("front")
    outside.ask(outside.to("middle"), Pass(seconds=9.0))
    virtual.run(seconds=0.01)

    virtual.kill("front")
    virtual.run(seconds=0.01)

    assert server_of(kernels["back"]).cancelled == ["slow"]
    middle = kernels["middle"].cells["middle"].actor
    assert isinstance(middle, Middle)
    assert middle.cancelled == 1


class Stubborn(Actor):
    """Cleans up, with awaits, when it is cancelled."""

    def on_start(self) -> None:
        self.steps: list[str] = []

    @on
    async def slow(self, message: Slow) -> str:
        try:
            await self.sleep(message.seconds)
        except Cancelled:
            self.steps.append("cancelled")
            await self.sleep(0.05)
            self.steps.append("cleaned up")
            await self.disk.append("log", b"x")
            self.steps.append("written")
        return ""


def test_a_handler_is_cancelled_once_and_may_clean_up_with_awaits() -> None:
    virtual = Virtual()
    kernel = virtual.add("p")
    kernel.life.add("stubborn", Stubborn)
    virtual.start()
    outside = virtual.outside("p")
    with pytest.raises(AskTimeout):
        virtual.result(outside.ask(outside.to("stubborn"), Slow(seconds=9.0), timeout_s=0.01))

    virtual.run(seconds=1.0)

    actor = kernel.cells["stubborn"].actor
    assert isinstance(actor, Stubborn)
    assert actor.steps == ["cancelled", "cleaned up", "written"]


@both
def test_a_later_is_answered_in_a_later_turn(placement: str) -> None:
    virtual, _, _ = two(placement)
    outside = virtual.outside("front")
    wait = outside.ask(outside.to("server"), Postpone())
    virtual.run(seconds=0.01)

    outside.say("server", Settle(how="reply"))

    assert virtual.result(wait) == "at last"
    assert_all_balanced(virtual)


@both
@pytest.mark.parametrize(("how", "kind"), [("fail", NotToday), ("fail oddly", ActorFailed), ("drop", NeverAnswered)])
def test_a_later_can_fail_and_one_that_is_dropped_was_never_answered(
    placement: str, how: str, kind: type[Failure]
) -> None:
    virtual, _, _ = two(placement)
    outside = virtual.outside("front")
    wait = outside.ask(outside.to("server"), Postpone())
    virtual.run(seconds=0.01)

    outside.say("server", Settle(how=how))

    with pytest.raises(kind) as caught:
        virtual.result(wait)
    assert type(caught.value) is kind
    assert_all_balanced(virtual)


@both
def test_an_actor_that_stops_with_laters_open_fails_their_askers_at_once(placement: str) -> None:
    virtual, _, back = two(placement)
    outside = virtual.outside("front")
    waits = [outside.ask(outside.to("server"), Postpone()) for _ in range(3)]
    virtual.run(seconds=0.01)

    outside.say("server", Stop())
    started_ns = virtual.now_ns

    for wait in waits:
        with pytest.raises(ActorStopped, match="server: stopped by itself"):
            virtual.result(wait)
    assert virtual.now_ns - started_ns < 10 * MILLISECOND_NS
    assert back.cells.get("server") is None
    assert_all_balanced(virtual)


def test_a_refusal_that_its_asker_keeps_holds_nothing_of_the_actor_that_refused() -> None:
    virtual, _, _ = two("local")
    outside = virtual.outside("front")
    refused = outside.ask(outside.to("server"), Refuse(text="no"))
    postponed = outside.ask(outside.to("server"), Postpone())
    with pytest.raises(NotToday) as kept:
        virtual.result(refused)

    outside.say("server", Settle(how="drop"))

    with pytest.raises(NeverAnswered):
        virtual.result(postponed)
    assert kept.value.detail == "why"


def test_a_later_of_a_tell_answers_nobody() -> None:
    virtual, _, _ = two("local")
    outside = virtual.outside("front")

    outside.say("server", Postpone())
    outside.say("server", Settle(how="reply"))
    virtual.run()

    assert_all_balanced(virtual)


def test_when_the_process_of_the_target_dies_its_asks_fail_at_once() -> None:
    virtual, front, _ = two("remote")
    outside = virtual.outside("front")
    wait = outside.ask(outside.to("server"), Slow(seconds=9.0))
    virtual.run(seconds=0.01)

    virtual.kill("back")

    with pytest.raises(ConnectionLost, match="server: back has ended"):
        virtual.result(wait)
    assert [wait for wait in front.pending.values() if wait.target is not None] == []


def test_an_answer_that_is_too_large_to_travel_fails_its_asker() -> None:
    virtual, _, back = two("remote")
    outside = virtual.outside("front")
    before = server_of(back)

    with pytest.raises(ActorFailed, match=f"its answer cannot be sent: .* at most {MESSAGE_SIZE_MAX}"):
        virtual.result(outside.ask(outside.to("server"), Fill(size=MESSAGE_SIZE_MAX + 1)))

    assert len(virtual.result(outside.ask(outside.to("server"), Fill(size=MESSAGE_SIZE_MAX // 2)))) > 4_000_000
    assert server_of(back) is before


def test_an_answer_that_cannot_be_encoded_fails_its_asker_and_not_its_actor() -> None:
    virtual, _, back = two("remote")
    outside = virtual.outside("front")
    before = server_of(back)

    with pytest.raises(ActorFailed, match="its answer cannot be sent"):
        virtual.result(outside.ask(outside.to("server"), Surrogate()))

    assert server_of(back) is before


def test_an_answer_of_another_type_is_refused_by_the_process_that_asked() -> None:
    virtual, _, _ = two("remote")
    outside = virtual.outside("front")

    with pytest.raises(Unhandled, match="the answer of server: Expected `int`, got `str`"):
        virtual.result(outside.ask(outside.to("server"), Wrong()))


@pytest.mark.parametrize("name", ["x" * (MESSAGE_SIZE_MAX + 1), "\ud800"])
def test_a_message_that_cannot_travel_is_refused_where_it_is_sent(name: str) -> None:
    virtual, front, _ = two("remote")
    outside = virtual.outside("front")

    for give in (outside.ask, outside.tell, outside.send):
        with pytest.raises((TooLarge, UnicodeEncodeError)):
            give(outside.to("server"), Greet(name=name))

    assert front.pending == {}
    assert front.unsent == 3
    assert_all_balanced(virtual)


@both
def test_asks_nested_too_deep_are_refused_and_those_below_it_are_not(placement: str) -> None:
    virtual = Virtual()
    front = virtual.add("front")
    back = front if placement == "local" else virtual.add("back")
    front.life.add("one", Diver, links={"other": "two"})
    back.life.add("two", Diver, links={"other": "one"})
    virtual.start()
    virtual.run()
    outside = virtual.outside("front")

    deepest = virtual.result(outside.ask(outside.to("one"), Dive(depth=CHAIN_LENGTH_MAX - 1)))
    assert deepest == CHAIN_LENGTH_MAX - 1
    with pytest.raises(ActorFailed) as caught:
        virtual.result(outside.ask(outside.to("one"), Dive(depth=CHAIN_LENGTH_MAX)))

    assert f"{AskCycle.__name__}: asks nested {CHAIN_LENGTH_MAX + 1} deep" in str(caught.value)
    assert_all_balanced(virtual)


def test_an_ask_that_expires_in_a_mailbox_is_a_dead_letter() -> None:
    virtual = Virtual()
    kernel = virtual.add("p")
    kernel.life.add("stubborn", Stubborn)
    virtual.start()
    outside = virtual.outside("p")
    first = outside.ask(outside.to("stubborn"), Slow(seconds=0.2))
    second = outside.ask(outside.to("stubborn"), Slow(seconds=0.2), timeout_s=0.1)

    with pytest.raises(AskTimeout):
        virtual.result(second)
    assert virtual.result(first) == ""
    virtual.run(seconds=1.0)

    assert kernel.dead["expired"] == 1
    assert_all_balanced(virtual)


def test_an_ask_that_is_awaited_after_its_answer_came_gives_it() -> None:
    virtual = Virtual()
    kernel = virtual.add("p")
    heard: list[str] = []

    class Patient(Actor):
        server: Ref[Greet]

        async def on_start(self) -> None:
            wait = self.ask(self.server, Greet(name="a"))
            await self.sleep(0.5)
            heard.append(await wait)

    kernel.life.add("server", Server)
    kernel.life.add("patient", Patient, links={"server": "server"})
    virtual.start()
    virtual.run()

    assert heard == ["Hello, a!"]


class Foreign:
    """An awaitable of a library that knows nothing of actors."""

    def __await__(self) -> Any:
        yield "what only its own loop understands"


class Reaching(Actor):
    @on
    async def greet(self, message: Greet) -> str:
        return str(await Foreign())


def test_awaiting_something_of_asyncio_says_how_it_is_done() -> None:
    virtual = Virtual()
    virtual.add("p").life.add("reaching", Reaching)
    virtual.start()
    outside = virtual.outside("p")

    with pytest.raises(ActorFailed, match=r"asyncio goes through self\.call\(function, \.\.\.\)"):
        virtual.result(outside.ask(outside.to("reaching"), Greet(name="")))


# --- asked when the turn has ended
def gathering(placement: str) -> tuple[Virtual, Kernel, Adder]:
    virtual = Virtual()
    front = virtual.add("front")
    back = front if placement == "local" else virtual.add("back")
    back.life.add("adder", Adder)
    front.life.add("gatherer", Gatherer, links={"adder": "adder"})
    virtual.start()
    virtual.run()
    adder = back.cells["adder"].actor
    assert isinstance(adder, Adder)
    return virtual, front, adder


@both
def test_what_a_turn_wants_is_asked_once_and_all_of_its_handlers_are_answered(placement: str) -> None:
    virtual, _, adder = gathering(placement)
    outside = virtual.outside("front")

    asked = [outside.ask(outside.to("gatherer"), Add(number=number)) for number in (1, 2, 3)]

    assert [virtual.result(each) for each in asked] == [6, 6, 6]
    assert adder.asked == [(1, 2, 3)]
    assert virtual.result(outside.ask(outside.to("gatherer"), Add(number=4))) == 4
    assert_all_balanced(virtual)


def test_a_handler_that_is_cancelled_leaves_the_others_that_wait_for_the_same() -> None:
    virtual, front, adder = gathering("remote")
    outside = virtual.outside("front")
    virtual.pause("back")
    first = outside.ask(outside.to("gatherer"), Add(number=1))
    second = outside.ask(outside.to("gatherer"), Add(number=2), timeout_s=0.05)
    third = outside.ask(outside.to("gatherer"), Add(number=3))

    with pytest.raises(AskTimeout):
        virtual.result(second)
    virtual.resume("back")

    assert (virtual.result(first), virtual.result(third)) == (6, 6)
    assert adder.asked == [(1, 2, 3)]
    assert front.serving == {}
    assert_all_balanced(virtual)


def test_nothing_is_asked_when_nobody_wants_it_any_more() -> None:
    virtual, front, adder = gathering("local")
    outside = virtual.outside("front")

    asked = outside.ask(outside.to("gatherer"), Add(number=0), timeout_s=0.05)
    with pytest.raises(AskTimeout):
        virtual.result(asked)

    assert adder.asked == []
    assert front.pending == {}


def test_an_actor_that_cannot_say_what_it_asks_has_failed() -> None:
    virtual, front, _ = gathering("local")
    outside = virtual.outside("front")
    gatherer = front.cells["gatherer"].actor
    assert isinstance(gatherer, Gatherer)
    gatherer.fails = True

    with pytest.raises(ActorFailed, match="nothing to ask"):
        virtual.result(outside.ask(outside.to("gatherer"), Add(number=1)))

    assert front.cells["gatherer"].actor is not gatherer
