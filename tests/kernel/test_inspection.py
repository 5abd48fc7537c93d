"""What a kernel tells of itself: where time goes, which handlers are slow, and what actors say of themselves."""

from __future__ import annotations

from typing import Any

import pytest

from zactor.actor import Actor, on
from zactor.inspection import SLOW_EVERY_NS, SLOW_NS, STATUS_LENGTH_MAX
from zactor.kernel import Kernel
from zactor.message import Bulk, Message
from zactor.sim.virtual import Virtual

MS = 1_000_000


class Work(Message[None]):
    """Takes so long."""

    takes_ns: int


class Rest(Message[None]):
    pass


class Load(Message[None]):
    content: Bulk


class Worker(Actor):
    """Takes time as a handler that computes would: the clock of the virtual world goes on meanwhile."""

    virtual: Any = None
    starts_ns: int = 0
    line: Any = ""
    _done: int = 0

    def on_start(self) -> None:
        if self.starts_ns:
            self.virtual.now_ns += self.starts_ns

    @on
    def work(self, message: Work) -> None:
        self.virtual.now_ns += message.takes_ns
        self._done += 1

    @on
    def rest(self, message: Rest) -> None:
        self._done += 1

    @on
    def load(self, message: Load) -> None:
        self._done += len(message.content)

    def status(self) -> str:
        if callable(self.line):
            return str(self.line(self))
        return str(self.line)


def started(**given: Any) -> tuple[Virtual, Kernel, Any]:
    virtual = Virtual()
    kernel = virtual.add("p")
    kernel.life.add("worker", Worker, {"virtual": virtual, **given})
    virtual.start()
    virtual.run()
    return virtual, kernel, virtual.outside("p")


def slow(virtual: Virtual) -> list[dict[str, Any]]:
    """What was logged of slow handlers."""
    return [fields for _, _, event, fields in virtual.logs if event == "slow_handler"]


def about(kernel: Kernel) -> dict[str, Any]:
    """What the kernel tells of the worker."""
    actors: list[dict[str, Any]] = kernel.inspect()["actors"]
    return next(each for each in actors if each["name"] == "worker")


# --- time
def test_the_time_that_turns_take_is_counted_for_their_actor_and_for_the_process() -> None:
    virtual, kernel, outside = started()

    for takes_ms in (3, 4):
        outside.say("worker", Work(takes_ns=takes_ms * MS))
    virtual.run()

    assert about(kernel)["busy_ns"] == kernel.inspect()["busy_ns"] == 7 * MS
    assert kernel.cells[outside._cell.name].busy_ns == 0


def test_what_waits_for_an_answer_takes_no_time() -> None:
    virtual, kernel, outside = started()

    outside.say("worker", Rest())
    virtual.run(seconds=100.0)

    assert about(kernel)["busy_ns"] == 0


# --- slow handlers
def test_a_handler_that_takes_over_50_ms_is_logged_with_actor_message_and_time() -> None:
    virtual, _, outside = started()

    outside.say("worker", Work(takes_ns=SLOW_NS))
    virtual.run()
    assert slow(virtual) == []
    outside.say("worker", Work(takes_ns=80 * MS))
    virtual.run()

    assert [log[:3] for log in virtual.logs if log[2] == "slow_handler"] == [("warning", "worker", "slow_handler")]
    (fields,) = slow(virtual)
    assert fields.pop("message_id")
    assert fields == {"message": "Work", "busy_ms": 80.0, "handled": 1}


def test_a_slow_handler_is_logged_once_a_minute() -> None:
    virtual, _, outside = started()

    for _ in range(5):
        outside.say("worker", Work(takes_ns=80 * MS))
        virtual.run(seconds=1.0)
    assert len(slow(virtual)) == 1
    virtual.now_ns += SLOW_EVERY_NS
    outside.say("worker", Work(takes_ns=90 * MS))
    virtual.run(seconds=1.0)

    assert [fields["busy_ms"] for fields in slow(virtual)] == [80.0, 90.0]


def test_among_many_messages_the_slow_one_is_known_from_the_second_time_on() -> None:
    virtual, kernel, outside = started()
    for _ in range(2):
        for takes_ms in (0, 0, 60):
            outside.say("worker", Work(takes_ns=takes_ms * MS))
        for _ in range(5):
            outside.say("worker", Rest())
        virtual.run(seconds=1.0)

    first, second = slow(virtual)
    assert (first["message"], first["handled"]) == ("Rest", 8)  # it says of how many it is the last
    assert (second["message"], second["handled"]) == ("Work", 3)
    assert kernel.books()["handled"] == 16

    # In the long run nobody pays for one bad moment.
    virtual.run(seconds=SLOW_EVERY_NS / 1e9)
    for takes_ms in (60, 0):
        outside.say("worker", Work(takes_ns=takes_ms * MS))
    virtual.run(seconds=1.0)
    assert slow(virtual)[-1]["handled"] == 2


def test_a_slow_start_is_logged_as_such() -> None:
    virtual, _, _ = started(starts_ns=70 * MS)

    assert slow(virtual) == [{"message": "on_start", "busy_ms": 70.0, "handled": 0}]


# --- status
def test_a_status_is_what_the_kind_says_and_nothing_without_one() -> None:
    assert about(started(line=lambda worker: f"{worker._done} done")[1])["status"] == "0 done"

    virtual = Virtual()
    kernel = virtual.add("p")
    kernel.life.add("worker", Actor)
    virtual.start()
    virtual.run()
    assert about(kernel)["status"] == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (lambda _: 1 // 0, "its status failed: ZeroDivisionError: integer division or modulo by zero"),
        (
            lambda worker: worker.now_ns(),
            "its status failed: RuntimeError: status() only looks at what the actor holds",
        ),
        ("two\nlines\tand  tabs", "two lines and tabs"),
        ("x" * 10_000_000, "x" * (STATUS_LENGTH_MAX - 3) + "..."),
    ],
    ids=["raises", "uses the door", "lines", "long"],
)
def test_a_bad_status_harms_nobody(line: Any, said: str) -> None:
    virtual, kernel, outside = started(line=line)

    assert about(kernel)["status"] == said
    outside.say("worker", Rest())
    virtual.run()
    assert about(kernel)["handled"] == 1


def test_a_status_cannot_send() -> None:
    virtual, kernel, _ = started(line=lambda worker: worker.tell(worker.ref, Rest()))
    before = kernel.books()

    assert about(kernel)["status"].startswith("its status failed: RuntimeError")
    virtual.run()
    assert kernel.books() == before


def test_an_actor_that_is_not_ready_is_not_asked() -> None:
    virtual = Virtual()
    kernel = virtual.add("p")
    kernel.life.add("worker", Worker, {"line": "here"})

    assert about(kernel)["status"] == ""


# --- bytes
def test_bytes_are_those_of_the_frames_that_came_with_letters() -> None:
    virtual, _, outside = started()
    there = virtual.add("q")
    there.life.add("worker2", Worker, {"virtual": virtual})
    virtual.start()
    virtual.run(seconds=1.0)
    before = there.inspect()["bytes_received"]

    outside.say("worker2", Load(content=b"x" * 10_000))
    virtual.run(seconds=1.0)

    assert 10_000 < there.inspect()["bytes_received"] - before < 10_500
