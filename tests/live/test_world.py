"""The live world keeps the promises of every world: alarms, operations that complete later, and a log."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from tests.live.running import eventually_in_loop
from zactor.actor import Actor, on
from zactor.errors import Refused
from zactor.live.logs import Lines
from zactor.live.world import Book, BookEntry, CallCancelled, LiveWorld, own_generators
from zactor.message import Message

pytestmark = pytest.mark.live

T = TypeVar("T")


class Tick(Message[None]):
    number: int


class Clock(Actor):
    _ticks: ClassVar[list[tuple[int, int]]] = []

    @on
    def tick(self, message: Tick) -> None:
        Clock._ticks.append((message.number, time.monotonic_ns()))


class Outside(Actor):
    pass


class Opposed(Refused):
    pass


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def oppose() -> None:
    raise Opposed("no")


async def cancel_itself() -> None:
    raise asyncio.CancelledError


def thread_name() -> str:
    return threading.current_thread().name


def refuse() -> None:
    raise Opposed("not in a thread either")


def in_world(work: Callable[[LiveWorld, Actor], Awaitable[T]], **given: Any) -> T:
    """Run with a world and an actor in it."""

    async def main() -> T:
        world = LiveWorld("p", number=1, incarnation=1, run="r", **given)
        actor = world.kernel.life.spawn(Outside, "outside").cell.actor
        try:
            return await work(world, actor)
        finally:
            await world.close()

    return asyncio.run(main())


class Lists(Actor):
    """Is within an async generator of its own that waits."""

    async def on_start(self) -> None:
        async for _ in self._all():
            pass

    async def _all(self) -> AsyncIterator[int]:
        while True:
            await self.sleep(3600.0)
            yield 1


async def outcome(wait: Any) -> Any:
    """The value of what an actor would await, or its error."""
    wait.notify = lambda _wait: None
    await eventually_in_loop(lambda: wait.done)
    return wait.value if wait.error is None else wait.error


def test_an_alarm_never_comes_early(tmp_path: Path) -> None:
    spans_ns = [0, 1, 1_000, 300_000, 1_000_000, 1_500_001, 7_000_000]

    async def work(world: LiveWorld, _actor: Actor) -> int:
        Clock._ticks.clear()
        clock = world.kernel.life.spawn(Clock, "clock").cell.actor
        began_ns = time.monotonic_ns()
        for number, span_ns in enumerate(spans_ns):
            clock.after(span_ns / 1e9, Tick(number=number))
        await eventually_in_loop(lambda: len(Clock._ticks) == len(spans_ns))
        return began_ns

    began_ns = in_world(work)

    assert [number for number, _ in Clock._ticks] == list(range(len(spans_ns)))
    assert all(at_ns >= began_ns + spans_ns[number] for number, at_ns in Clock._ticks)


def test_a_coroutine_of_a_library_gives_its_result_or_its_error() -> None:
    async def work(_world: LiveWorld, actor: Actor) -> list[Any]:
        return [await outcome(actor.call(function, *values)) for function, *values in ((double, 21), (oppose,))]  # type: ignore[arg-type]

    value, error = in_world(work)

    assert value == 42
    assert isinstance(error, Opposed)


def test_a_coroutine_that_its_library_cancels_is_an_error_of_ours_and_not_of_asyncio() -> None:
    async def work(_world: LiveWorld, actor: Actor) -> Any:
        return await outcome(actor.call(cancel_itself))

    assert isinstance(in_world(work), CallCancelled)


def test_a_function_that_blocks_runs_in_a_thread() -> None:
    async def work(_world: LiveWorld, actor: Actor) -> list[Any]:
        return [await outcome(actor.in_thread(function)) for function in (thread_name, refuse)]

    name, error = in_world(work)

    assert name != threading.main_thread().name
    assert isinstance(error, Opposed)


def test_what_an_actor_waits_for_is_cancelled_when_it_stops() -> None:
    ended: list[str] = []

    async def for_ever() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def work(world: LiveWorld, actor: Actor) -> None:
        actor.call(for_ever)
        await eventually_in_loop(lambda: world._tasks)
        await asyncio.sleep(0)
        world.kernel.life.stop("outside")
        await eventually_in_loop(lambda: ended)

    in_world(work)

    assert ended == ["cancelled"]


def test_a_generator_that_an_actor_is_in_is_none_of_asyncio() -> None:
    said: list[str] = []

    async def work(world: LiveWorld, _actor: Actor) -> None:
        own_generators()
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(str(context["message"])))
        cell = world.kernel.life.spawn(Lists, "lists").cell
        await eventually_in_loop(lambda: bool(cell.tasks))

    in_world(work)

    assert said == []


def test_an_older_book_is_not_taken() -> None:
    async def work(world: LiveWorld, _actor: Actor) -> list[str]:
        for version, name in ((2, "new"), (1, "old"), (2, "other")):
            world.use_book(Book(version, "r", {name: name}, {name: BookEntry(2, 1)}))
        return list(world.kernel.neighbours.peers)

    assert in_world(work) == ["new"]


def test_each_purpose_has_a_stream_of_chance_of_its_own() -> None:
    async def work(world: LiveWorld, _actor: Actor) -> list[int]:
        return [world.random(purpose).getrandbits(64) for purpose in ("a", "b", "a")]

    assert len(set(in_world(work))) == 3


# --- the log
def test_log_events_are_lines_of_json_with_stamp_node_and_process(tmp_path: Path) -> None:
    async def work(_world: LiveWorld, actor: Actor) -> None:
        actor.log.info("became_leader", term=4, because="quorum_of_votes", odd={1, 2}, content=b"\xff")
        actor.log.debug("not_kept")

    in_world(work, log=tmp_path / "log.jsonl")

    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    event = json.loads(line)
    assert event["event"] == "became_leader"
    assert event["level"] == "info"
    assert (event["node"], event["process"], event["term"]) == ("outside", "p", 4)
    assert event["hlc"] > 0


def test_a_log_is_appended_to_by_the_next_incarnation(tmp_path: Path) -> None:
    async def work(_world: LiveWorld, actor: Actor) -> None:
        actor.log.info("here")

    in_world(work, log=tmp_path / "log.jsonl")
    in_world(work, log=tmp_path / "log.jsonl")

    assert (tmp_path / "log.jsonl").read_text().count("here") == 2


def test_a_log_that_cannot_be_written_counts_what_it_loses(tmp_path: Path) -> None:
    lines = Lines(Path("/dev/full"))
    for _ in range(3):
        lines.add({"event": "lost"})

    lines.flush()
    lines.close()

    assert lines.lost == 3


def test_the_log_says_what_it_lost_when_it_can_be_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.jsonl"
    lines = Lines(path)
    write = os.write
    room = iter([5])

    def full(handle: int, data: bytes) -> int:
        size = next(room, None)
        if size is None:
            raise OSError(errno.ENOSPC, "no space")
        return write(handle, data[:size])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for _ in range(2):  # the first is torn after five bytes
            lines.add({"event": "lost"})
        lines.flush()
        lines.add({"event": "lost"})
        lines.flush()
    lines.add({"event": "kept"})
    lines.close()

    torn, *whole = path.read_bytes().splitlines()
    assert len(torn) == 5
    assert [json.loads(line) for line in whole] == [
        {"level": "error", "hlc": 0, "event": "lines_lost", "count": 3},
        {"event": "kept"},
    ]
