"""Lives: start, failure, restart, escalation, children, stop; and that nothing is left behind."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from tests.kernel.balance import assert_all_balanced
from zactor.actor import Actor, Down, on
from zactor.cell import Cell, Wait
from zactor.door import Later
from zactor.errors import ActorFailed, ActorStopped, Overloaded
from zactor.kernel import Kernel
from zactor.message import NAME_LENGTH_MAX, Message, Ref
from zactor.sim.virtual import Virtual
from zactor.supervision import Supervision

SECOND_NS = 1_000_000_000


class Add(Message[int]):
    number: int


class Break(Message[None]):
    text: str = "broken"


class Wait1(Message[None]):
    """Suspend the handler."""


class Sleep(Message[str]):
    seconds: float


class Tick(Message[None]):
    pass


class Spawn(Message[str]):
    name: str | None = None


class Send(Message[None]):
    target: Ref[Any]


class StopIt(Message[None]):
    child: Ref[Any] | None = None
    then_fail: bool = False


class Postponed(Message[int]):
    pass


class Sum(Actor):
    """Has state that a restart loses."""

    first: int = 0

    def on_start(self) -> None:
        self.total = self.first
        self.ticks = 0
        self.stopped = False
        self.cleaned: list[str] = []

    def on_stop(self) -> None:
        self.stopped = True

    @on
    def add(self, message: Add) -> int:
        self.total += message.number
        return self.total

    @on
    def breaks(self, message: Break) -> None:
        self.total += 1000
        raise ValueError(message.text)

    @on
    async def sleeping(self, message: Sleep) -> str:
        try:
            await self.sleep(message.seconds)
        finally:
            self.cleaned.append("closed")
        return "slept"

    @on(interleave=True)
    async def overtaken(self, message: Wait1) -> None:
        await self.sleep(60.0)

    @on
    def tick(self, message: Tick) -> None:
        self.ticks += 1

    @on
    def postponed(self, message: Postponed) -> Later[int]:
        self.later_kept = self.later()
        return self.later_kept

    @on
    def spawning(self, message: Spawn) -> str:
        return self.spawn(Sum, message.name).name

    @on
    def stopping(self, message: StopIt) -> None:
        self.stop(message.child)
        if message.then_fail:
            raise ValueError("and it fails")

    @on
    def down(self, message: Down) -> None: ...


class Resuming(Sum):
    supervision = Supervision(directives=((ValueError, "resume"),))


class Stopping(Sum):
    supervision = Supervision(when="never")


class Escalating(Sum):
    supervision = Supervision(directives=((ValueError, "escalate"),))


class Parent(Actor):
    """A parent of one child, whose kind is a setting."""

    def on_start(self) -> None:
        self.child = self.spawn(Escalating, "child")


class Stubborn(Actor):
    """Fails in `on_start` as often as it is told to."""

    failures: int = 1
    how: str = "sync"
    starts: list[int] = []  # noqa: RUF012

    def on_start(self) -> Any:
        self._cell.given.setdefault("starts", []).append(self.now_ns())
        if self.how == "async":
            return self._start()
        if len(self._cell.given["starts"]) <= self.failures:
            raise ValueError("not yet")
        return None

    async def _start(self) -> None:
        await self.sleep(0.01)
        if len(self._cell.given["starts"]) <= self.failures:
            raise ValueError("not yet")

    @on
    def add(self, message: Add) -> int:
        return message.number


def one(kind: type[Actor], **given: Any) -> tuple[Virtual, Kernel, Any]:
    virtual = Virtual()
    kernel = virtual.add("p")
    kernel.life.add("it", kind, given)
    virtual.start()
    virtual.run(seconds=0.001)
    return virtual, kernel, virtual.outside("p")


def actor_of(kernel: Kernel, name: str = "it") -> Any:
    return kernel.cells[name].actor


# --- resume, restart, stop, escalate
def test_resume_keeps_the_object_and_its_state() -> None:
    virtual, kernel, outside = one(Resuming)
    before = actor_of(kernel)
    virtual.result(outside.ask(outside.to("it"), Add(number=1)))

    with pytest.raises(ActorFailed, match="ValueError: broken"):
        virtual.result(outside.ask(outside.to("it"), Break()))

    assert virtual.result(outside.ask(outside.to("it"), Add(number=1))) == 1002
    assert actor_of(kernel) is before
    assert_all_balanced(virtual)


def test_restart_makes_a_new_object_under_the_same_ref_and_keeps_the_mailbox() -> None:
    virtual, kernel, outside = one(Sum, first=5)
    before, ref = actor_of(kernel), outside.to("it")
    outside.tell(ref, Add(number=100))
    outside.tell(ref, Break())
    waits = [outside.ask(ref, Add(number=1)) for _ in range(3)]

    assert [virtual.result(wait) for wait in waits] == [6, 7, 8]

    assert actor_of(kernel) is not before
    assert before._cell is None
    assert ref == kernel.cells["it"].ref()
    assert_all_balanced(virtual)


def test_a_restart_waits_and_the_log_says_why() -> None:
    virtual, kernel, outside = one(Sum)
    failed_ns = virtual.now_ns
    outside.say("it", Break())

    virtual.result(outside.ask(outside.to("it"), Add(number=1)))

    assert SECOND_NS // 10 <= virtual.now_ns - failed_ns <= SECOND_NS // 8 + SECOND_NS // 1000
    assert ("it", "restarting", "ValueError: broken") in virtual.lives
    assert ("it", "ready", "restart 1") in virtual.lives
    events = {event: fields for _, node, event, fields in virtual.logs if node == "it"}
    assert "raise ValueError(message.text)" in events["handler_failed"]["traceback"]
    assert events["supervised"]["directive"] == "restart"
    assert kernel.fatal is None


def test_a_restart_ends_timers_children_suspended_handlers_and_pending_asks() -> None:
    virtual, kernel, outside = one(Sum)
    ref = outside.to("it")
    virtual.result(outside.ask(ref, Spawn(name="child")))
    actor_of(kernel).after(0.5, Tick())
    suspended = outside.ask(ref, Wait1())
    later = outside.ask(ref, Postponed())
    virtual.run(seconds=0.01)
    assert "it/child" in kernel.cells

    outside.say("it", Break())

    for wait in (suspended, later):
        with pytest.raises(ActorFailed, match="it: ValueError: broken"):
            virtual.result(wait)
    virtual.run(seconds=2.0)
    assert "it/child" not in kernel.cells
    assert actor_of(kernel).ticks == 0
    assert kernel.cells["it"].tasks is None
    assert kernel.waits.timers == {}
    assert kernel.pending == {}
    assert_all_balanced(virtual)


def test_too_many_restarts_of_a_topmost_actor_end_the_process_and_say_why() -> None:
    virtual, kernel, outside = one(Sum)

    for _ in range(6):
        outside.say("it", Break())
    virtual.run(seconds=30.0)

    assert kernel.fatal == "it failed: 5 restarts in 60 s, the last: broken"
    assert virtual.lives[-1] == ("it", "failed", kernel.fatal)


def test_failures_that_are_rare_never_escalate() -> None:
    virtual, kernel, outside = one(Sum)

    for _ in range(12):
        outside.say("it", Break())
        virtual.run(seconds=20.0)

    assert kernel.fatal is None
    assert kernel.cells["it"].generation == 12


def test_a_policy_of_never_stops_the_actor() -> None:
    virtual, kernel, outside = one(Stopping)
    first = outside.ask(outside.to("it"), Break())
    second = outside.ask(outside.to("it"), Add(number=1))

    with pytest.raises(ActorFailed):
        virtual.result(first)
    with pytest.raises(ActorStopped, match="it: failed: broken"):
        virtual.result(second)

    assert "it" not in kernel.cells
    assert kernel.fatal is None
    assert_all_balanced(virtual)


def test_a_child_that_escalates_is_stopped_and_its_parent_supervised() -> None:
    virtual, kernel, outside = one(Parent)
    before = actor_of(kernel)

    with pytest.raises(ActorFailed):
        virtual.result(outside.ask(outside.to("it/child"), Break()))
    virtual.run(seconds=1.0)

    assert actor_of(kernel) is not before
    assert kernel.cells["it"].generation == 1
    assert kernel.cells["it/child"].generation == 0
    assert "its child it/child failed: broken" in str(kernel.cells["it"].last_error)
    assert_all_balanced(virtual)


def test_an_escalation_at_the_top_ends_the_process() -> None:
    virtual, kernel, outside = one(Escalating)

    outside.say("it", Break())
    virtual.run(seconds=1.0)

    assert kernel.fatal is not None
    assert "its policy for ValueError" in kernel.fatal


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_failing_on_start_is_tried_again_and_mail_waits_for_it(how: str) -> None:
    virtual, kernel, outside = one(Stubborn, failures=2, how=how)

    answer = virtual.result(outside.ask(outside.to("it"), Add(number=3)))

    assert answer == 3
    assert kernel.cells["it"].generation == 2


def test_an_on_start_that_always_fails_ends_the_process() -> None:
    virtual, kernel, _ = one(Stubborn, failures=100)

    virtual.run(seconds=60.0)

    assert kernel.fatal == "it failed: 5 restarts in 60 s, the last: not yet"


class Moody(Actor):
    """Its `__init__` raises in its second life."""

    def __init__(self) -> None:
        if self._cell.generation == 1:
            raise OSError("bad mood")

    @on
    def breaks(self, message: Break) -> None:
        raise ValueError(message.text)

    @on
    def add(self, message: Add) -> int:
        return message.number


def test_an_init_that_raises_in_a_restart_is_a_failure_like_any_other() -> None:
    virtual, kernel, outside = one(Moody)
    outside.say("it", Break())

    assert virtual.result(outside.ask(outside.to("it"), Add(number=3))) == 3

    assert kernel.cells["it"].generation == 2
    assert "OSError: bad mood" in str(kernel.cells["it"].last_error)


class Unmade(Actor):
    def __init__(self) -> None:
        raise OSError("no")


def test_an_init_that_raises_in_a_spawn_leaves_nothing_behind() -> None:
    virtual, kernel, _ = one(Sum)

    with pytest.raises(OSError, match="no"):
        actor_of(kernel).spawn(Unmade, "unmade")

    assert "it/unmade" not in kernel.cells
    assert kernel.cells["it"].children == {}
    assert kernel.books()["sent"] == 0
    virtual.run()


# --- children and stop
class Family(Actor):
    """Has a child, which has a child, and so on; each says when it stops."""

    generations: int
    order: list[str]

    def on_start(self) -> None:
        if self.generations:
            self.spawn(Family, "child", generations=self.generations - 1, order=self.order)

    def on_stop(self) -> None:
        self.order.append(self.ref.name)


def test_children_stop_before_their_parent() -> None:
    order: list[str] = []
    virtual, kernel, _ = one(Family, generations=2, order=order)

    kernel.life.stop("it")
    virtual.run()

    assert order == ["it/child/child", "it/child", "it"]
    assert list(kernel.cells) == ["outside-3"]


def test_children_have_names_of_their_own_or_are_numbered_and_numbers_are_not_used_twice() -> None:
    virtual, _, outside = one(Sum)
    ref = outside.to("it")

    names = [virtual.result(outside.ask(ref, Spawn(name=name))) for name in ("one", None, None)]
    outside.say("it", StopIt(child=Ref("it/sum-0")))
    names.append(virtual.result(outside.ask(ref, Spawn())))

    assert names == ["it/one", "it/sum-0", "it/sum-1", "it/sum-2"]


@pytest.mark.parametrize("name", ["", "a/b", "..", "UPPER", "a b", "ä", "a\0", "-a", "a" * NAME_LENGTH_MAX])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    virtual, kernel, _ = one(Sum)

    with pytest.raises(ValueError):
        actor_of(kernel).spawn(Sum, name)

    assert list(kernel.cells) == ["it", "outside-1"]
    virtual.run()


def test_a_name_that_is_taken_is_refused() -> None:
    virtual, kernel, outside = one(Sum)
    virtual.result(outside.ask(outside.to("it"), Spawn(name="a")))

    with pytest.raises(ValueError, match="there is an actor it/a already"):
        actor_of(kernel).spawn(Sum, "a")


def test_an_actor_that_stops_itself_handles_nothing_more() -> None:
    virtual, kernel, outside = one(Sum)
    ref = outside.to("it")
    before = actor_of(kernel)
    outside.tell(ref, Add(number=1))
    outside.tell(ref, StopIt())
    waits = [outside.ask(ref, Add(number=1)) for _ in range(5)]

    for wait in waits:
        with pytest.raises(ActorStopped, match="it: stopped by itself"):
            virtual.result(wait)

    assert before.total == 1
    assert before.stopped
    assert kernel.dead["stopped"] == 5
    assert_all_balanced(virtual)


class Brief(Sum):
    def on_start(self) -> None:
        super().on_start()
        self.stop()


def test_an_actor_that_stops_itself_in_on_start_never_handles_anything() -> None:
    virtual = Virtual()
    kernel = virtual.add("p")
    kernel.life.add("it", Brief)
    outside = virtual.outside("p")
    wait = outside.ask(outside.to("it"), Add(number=1))
    virtual.start()

    with pytest.raises(ActorStopped):
        virtual.result(wait)

    assert "it" not in kernel.cells
    assert_all_balanced(virtual)


def test_an_actor_that_stops_itself_and_then_fails_is_not_restarted() -> None:
    virtual, kernel, outside = one(Sum)

    with pytest.raises(ActorFailed, match="and it fails"):
        virtual.result(outside.ask(outside.to("it"), StopIt(then_fail=True)))
    virtual.run(seconds=1.0)

    assert "it" not in kernel.cells


def test_a_stop_that_comes_while_an_actor_waits_for_its_restart_stops_it() -> None:
    virtual, kernel, outside = one(Sum)
    outside.say("it", Break())
    virtual.run(seconds=0.01)
    assert kernel.cells["it"].state == "restarting"

    kernel.life.stop("it")
    virtual.run(seconds=1.0)

    assert "it" not in kernel.cells
    assert_all_balanced(virtual)


def test_a_stop_is_not_lost_when_a_child_fails_first() -> None:
    virtual, kernel, outside = one(Parent)
    outside.say("it/child", Break())
    kernel.life.stop("it")

    virtual.run(seconds=1.0)

    assert "it" not in kernel.cells
    assert kernel.dead == {}
    assert_all_balanced(virtual)


def test_only_a_parent_stops_a_child() -> None:
    virtual, kernel, outside = one(Sum)
    virtual.result(outside.ask(outside.to("it"), Spawn(name="a")))
    virtual.result(outside.ask(outside.to("it"), Spawn(name="b")))

    with pytest.raises(ActorFailed, match="it/a can stop itself and its children, not it/b"):
        virtual.result(outside.ask(outside.to("it/a"), StopIt(child=Ref("it/b"))))

    assert "it/b" in kernel.cells


def test_a_stop_closes_suspended_handlers_and_their_askers_hear_why() -> None:
    virtual, kernel, outside = one(Sum)
    before = actor_of(kernel)
    wait = outside.ask(outside.to("it"), Sleep(seconds=9.0))
    virtual.run(seconds=0.01)

    kernel.life.stop("it", "enough")

    with pytest.raises(ActorStopped, match="it: enough"):
        virtual.result(wait)
    assert before.cleaned == ["closed"]
    assert_all_balanced(virtual)


class Fussy(Actor):
    """Cannot be stopped in peace."""

    def on_stop(self) -> None:
        raise ValueError("not in peace")

    @on
    async def sleeping(self, message: Sleep) -> str:
        try:
            await self.sleep(message.seconds)
        finally:
            await self.sleep(1.0)
        return ""


def test_what_fails_while_an_actor_stops_is_logged_and_it_stops() -> None:
    virtual, kernel, outside = one(Fussy)
    wait = outside.ask(outside.to("it"), Sleep(seconds=9.0))
    virtual.run(seconds=0.01)

    kernel.life.stop("it")
    with pytest.raises(ActorStopped):
        virtual.result(wait)

    assert "it" not in kernel.cells
    events = [event for _, node, event, _ in virtual.logs if node == "it"]
    assert events == ["on_stop_failed", "close_failed"]


# --- start
class Asking(Actor):
    server: Ref[Add]

    async def on_start(self) -> None:
        self.answer = await self.ask(self.server, Add(number=7))

    @on
    def add(self, message: Add) -> int:
        return self.answer + message.number


def test_on_start_may_ask_across_processes_in_any_order_of_start_and_no_first_message_is_lost() -> None:
    virtual = Virtual()
    front, back = virtual.add("front"), virtual.add("back")
    front.life.add("asking", Asking, links={"server": "sum"})
    back.life.add("sum", Sum)
    back.life.add("back-asking", Asking, links={"server": "asking"})
    virtual.start()
    outside = virtual.outside("back")

    answer = virtual.result(outside.ask(outside.to("back-asking"), Add(number=1)))

    assert answer == 7 + 7 + 1
    assert_all_balanced(virtual)


def test_an_actor_starts_when_each_process_it_links_to_has_said_welcome() -> None:
    virtual = Virtual()
    front = virtual.add("front")
    front.life.add("asking", Asking, links={"server": "sum"})
    back = virtual.add("back")
    back.life.add("sum", Sum)
    virtual.processes["back"].up = False
    virtual.start()
    virtual.run(seconds=1.0)
    assert front.cells["asking"].state == "created"

    virtual.processes["back"].up = True
    virtual.publish()
    back.life.start()
    virtual.run(seconds=1.0)

    assert front.cells["asking"].state == "ready"


# --- nothing is left behind
class Worker(Sum):
    def on_start(self) -> None:
        super().on_start()
        self.after(3600.0, Tick())


def test_a_thousand_actors_spawned_told_and_stopped_leave_no_garbage() -> None:
    virtual, kernel, outside = one(Sum)
    host = actor_of(kernel)
    gc.collect()
    gc.disable()
    try:
        for index in range(1000):
            ref = host.spawn(Worker, f"w{index}")
            outside.tell(ref, Add(number=1))
            outside.tell(ref, Sleep(seconds=9.0))
            del ref
        virtual.run(seconds=0.01)
        for name in list(kernel.cells):
            if name.startswith("it/"):
                kernel.life.stop(name)
        virtual.run(seconds=0.01)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours: list[Any] = [each for each in gc.garbage if isinstance(each, Worker)]
        ours += [each for each in gc.garbage if isinstance(each, Cell) and each.kernel is kernel]
        ours += [each for each in gc.garbage if isinstance(each, Wait) and each.cell.kernel is kernel]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()

    assert len(kernel.cells) == 2
    assert len(ours) == 0
    assert len(kernel.waits.heap) < 200
    assert kernel.waits.timers == {}
    assert_all_balanced(virtual)


def test_mail_to_an_actor_that_has_stopped_is_a_dead_letter_and_its_ref_finds_a_new_one() -> None:
    virtual, kernel, outside = one(Sum)
    virtual.result(outside.ask(outside.to("it"), Spawn(name="a")))
    ref = outside.to("it/a")
    virtual.result(outside.ask(ref, Add(number=1)))
    kernel.life.stop("it/a")
    virtual.run(seconds=0.01)

    with pytest.raises(ActorStopped):
        virtual.result(outside.ask(ref, Add(number=1)))
    virtual.result(outside.ask(outside.to("it"), Spawn(name="a")))

    assert virtual.result(outside.ask(ref, Add(number=1))) == 1
    assert kernel.dead == {"unknown": 1}
    assert_all_balanced(virtual)


class Small(Sum):
    mailbox_size = 1


def test_a_send_that_waits_for_room_in_an_actor_that_stops_hears_of_it() -> None:
    virtual, kernel, outside = one(Small)
    ref = outside.to("it")
    outside.tell(ref, Sleep(seconds=9.0))
    virtual.run(seconds=0.01)
    outside.tell(ref, Add(number=1))
    with pytest.raises(Overloaded):
        outside.tell(ref, Add(number=1))
    wait = outside.send(ref, Add(number=1))

    kernel.life.stop("it")

    with pytest.raises(ActorStopped):
        virtual.result(wait)
    assert_all_balanced(virtual)
