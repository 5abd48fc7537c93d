"""Disks: order, commits one at a time after what was sent has left, and failures."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernel.balance import assert_all_balanced
from zactor.actor import Actor, on
from zactor.errors import ActorFailed, DiskFailed, DiskFull
from zactor.kernel import Kernel
from zactor.message import Envelope, Message, Ref
from zactor.sim.disk import MemoryDisk
from zactor.sim.escapes import SimulationEscape
from zactor.sim.virtual import DISK_NS, SYNC_NS, Virtual
from zactor.supervision import Supervision
from zactor.world import Operation, Sync


class Put(Message[None]):
    data: bytes


class Durable(Message[None]):
    data: bytes


class Commit(Message[None]):
    write_id: int


class Unawaited(Message[None]):
    pass


class Late(Message[str]):
    pass


class Break(Message[None]):
    pass


class Files(Message[tuple[str, ...]]):
    pass


class Fetch(Message[int]):
    number: int


class Note(Message[None]):
    text: str


class Writer(Actor):
    to: Ref[Note] | None = None

    def on_start(self) -> None:
        self.synced_ids: list[tuple[int, int]] = []
        self.failures: list[str] = []

    @on
    def put(self, message: Put) -> None:
        self.disk.append("log", message.data)
        if self.to is not None:
            self.tell(self.to, Note(text="written"))

    @on
    def commit(self, message: Commit) -> None:
        self.disk.append("log", b"%d," % message.write_id)
        if self.to is not None:
            self.tell(self.to, Note(text="written"))
        self.disk.commit(message.write_id)

    @on
    async def durable(self, message: Durable) -> None:
        await self.disk.append("log", message.data)
        await self.disk.synced()

    @on
    def unawaited(self, message: Unawaited) -> None:
        self.disk.rename("missing", "there")

    @on
    async def late(self, message: Late) -> str:
        wait = self.disk.rename("missing", "there")
        await self.sleep(0.01)
        try:
            await wait
        except FileNotFoundError as error:
            return f"caught {error}"
        return "no error"

    @on
    def breaks(self, message: Break) -> None:
        raise ValueError("broken")

    @on
    async def files(self, message: Files) -> tuple[str, ...]:
        disk = self.disk
        await disk.write("a", 2, b"xy")
        assert await disk.read("a") == b"\0\0xy"
        assert await disk.append("a", b"z") == 4
        assert await disk.size("a") == 5
        assert await disk.read("a", 2, 2) == b"xy"
        await disk.truncate("a", 3)
        await disk.write("folder/b", 0, b"1")
        await disk.rename("a", "c")
        assert await disk.size("a") is None
        assert await disk.read("a") == b""
        await disk.sync_folder()
        await disk.write("gone", 0, b"1")
        assert await disk.remove("gone") is True
        assert await disk.remove("gone") is False
        assert await disk.free_bytes() > 0
        assert await disk.list("folder") == ("b",)
        return await disk.list()

    def on_synced(self, write_id: int) -> None:
        self.synced_ids.append((write_id, self.now_ns()))


class Tolerant(Writer):
    def on_disk_failed(self, error: Exception) -> None:
        self.failures.append(type(error).__name__)


class Resuming(Writer):
    supervision = Supervision(directives=((ValueError, "resume"),))


class Sink(Actor):
    @on
    def note(self, message: Note) -> None: ...


class Torn(MemoryDisk):
    """Its syncs fail."""

    def perform(self, operation: Operation) -> Any:
        if isinstance(operation, Sync):
            raise DiskFailed("input/output error")
        return super().perform(operation)


def one(kind: type[Actor] = Writer) -> tuple[Virtual, Kernel, Any, Any]:
    virtual = Virtual()
    kernel = virtual.add("p")
    kernel.life.add("writer", kind)
    virtual.start()
    virtual.run()
    return virtual, kernel, kernel.cells["writer"].actor, virtual.outside("p")


def test_every_operation_gives_its_result() -> None:
    virtual, _, _, outside = one()

    assert virtual.result(outside.ask(outside.to("writer"), Files())) == ("c", "folder")

    assert virtual.disk.files["writer", "c"] == b"\0\0x"
    assert_all_balanced(virtual)


def test_operations_on_one_file_happen_in_order() -> None:
    virtual, _, _, outside = one()

    for number in range(100):
        outside.say("writer", Put(data=b"%d," % number))
    virtual.run()

    assert virtual.disk.files["writer", "log"] == b"".join(b"%d," % number for number in range(100))


def test_a_commit_is_reported_when_it_is_durable() -> None:
    virtual, _, writer, outside = one()
    started_ns = virtual.now_ns

    outside.say("writer", Commit(write_id=7))
    virtual.run()

    assert [number for number, _ in writer.synced_ids] == [7]
    assert writer.synced_ids[0][1] - started_ns >= SYNC_NS


def test_what_is_committed_together_is_reported_once_by_its_last_number() -> None:
    virtual, kernel, writer, outside = one()

    for number in range(1, 11):
        outside.say("writer", Commit(write_id=number))
    virtual.run()

    assert [number for number, _ in writer.synced_ids] == [10]
    assert kernel.waits.syncs == {}


def test_one_commit_is_under_way_and_what_comes_meanwhile_is_the_next() -> None:
    virtual, kernel, writer, outside = one()
    under_way: list[int] = []
    begin = kernel.world.begin

    def counting(token: int, operation: Operation) -> None:
        begin(token, operation)
        under_way.append(len(kernel.waits.syncs))

    kernel.world.begin = counting  # type: ignore[method-assign]
    for number in range(1, 31):
        outside.say("writer", Commit(write_id=number))
        virtual.run(seconds=SYNC_NS / 10 / 1e9)
    virtual.run()

    numbers = [number for number, _ in writer.synced_ids]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 30
    assert 3 <= len(numbers) <= 5
    assert max(under_way) == 1


def test_what_a_turn_sends_has_left_before_its_sync_begins() -> None:
    virtual = Virtual()
    front, back = virtual.add("front"), virtual.add("back")
    back.life.add("sink", Sink)
    front.life.add("writer", Writer, links={"to": "sink"})
    virtual.start()
    virtual.run()
    outside = virtual.outside("front")
    order: list[str] = []
    world = front.world
    begin, send = world.begin, world.send

    def noting_begin(token: int, operation: Operation) -> None:
        order.append(type(operation).__name__)
        begin(token, operation)

    def noting_send(process: str, lane: int, frame: bytes, blobs: list[bytes]) -> bool:
        order.append("frame")
        return send(process, lane, frame, blobs)

    world.begin, world.send = noting_begin, noting_send  # type: ignore[method-assign]

    outside.say("writer", Put(data=b"x"))
    outside.say("writer", Commit(write_id=1))
    virtual.run(seconds=SYNC_NS / 2 / 1e9)

    assert order == ["Append", "Append", "frame", "Sync"]


def test_synced_waits_until_all_that_was_written_is_durable() -> None:
    virtual, _, writer, outside = one()
    started_ns = virtual.now_ns

    virtual.result(outside.ask(outside.to("writer"), Durable(data=b"x")))

    assert virtual.now_ns - started_ns >= DISK_NS + SYNC_NS
    assert writer.synced_ids == []


def test_a_failure_that_nobody_awaits_reaches_on_disk_failed() -> None:
    virtual, kernel, writer, outside = one(Tolerant)

    outside.say("writer", Unawaited())
    virtual.run()

    assert writer.failures == ["FileNotFoundError"]
    assert kernel.fatal is None
    assert kernel.pending == {}


def test_on_disk_failed_raises_unless_it_is_overridden() -> None:
    virtual, kernel, _, outside = one()

    outside.say("writer", Unawaited())
    virtual.run(seconds=1.0)

    assert kernel.cells["writer"].generation == 1
    assert kernel.cells["writer"].last_error == "writer: FileNotFoundError: missing"


def test_a_failure_that_came_before_it_is_awaited_is_raised_there_too() -> None:
    virtual, _, writer, outside = one(Tolerant)

    assert virtual.result(outside.ask(outside.to("writer"), Late())) == "caught missing"
    assert writer.failures == ["FileNotFoundError"]


def test_a_full_disk_is_a_refusal_and_damages_nothing() -> None:
    virtual, kernel, writer, outside = one()
    virtual.disk.capacity_bytes = 100

    with pytest.raises(DiskFull, match="no room for 200 bytes"):
        virtual.result(outside.ask(outside.to("writer"), Durable(data=bytes(200))))

    assert kernel.cells["writer"].actor is writer
    assert kernel.fatal is None
    virtual.result(outside.ask(outside.to("writer"), Durable(data=bytes(50))))


@pytest.mark.parametrize("message", [Commit(write_id=1), Durable(data=b"x")])
def test_a_sync_that_fails_ends_the_process(message: Message[None]) -> None:
    virtual, kernel, writer, outside = one()
    virtual.disk = Torn()

    outside.say("writer", message)
    virtual.run()

    assert kernel.fatal == "writer: a sync failed: input/output error"
    assert writer.synced_ids == []
    assert ("writer", "failed", kernel.fatal) in virtual.lives


class Quick(Writer):
    """Is back before a sync has ended."""

    supervision = Supervision(backoff_min_ns=10_000, backoff_max_ns=10_000)


def test_a_restart_does_not_hear_of_the_commits_of_the_object_before() -> None:
    virtual, kernel, _, outside = one(Quick)
    outside.say("writer", Commit(write_id=1))
    virtual.run(seconds=0.000_01)
    outside.say("writer", Commit(write_id=2))
    outside.say("writer", Break())
    virtual.run(seconds=0.000_05)
    writer: Any = kernel.cells["writer"].actor
    assert kernel.cells["writer"].generation == 1
    assert len(kernel.waits.syncs) == 1

    virtual.run()
    assert writer.synced_ids == []
    outside.say("writer", Commit(write_id=3))
    virtual.run()

    assert [number for number, _ in writer.synced_ids] == [3]
    assert virtual.disk.files["writer", "log"] == b"1,2,3,"


def test_a_child_has_a_folder_of_its_own() -> None:
    virtual, _, writer, outside = one()
    child = writer.spawn(Writer, "child")

    outside.say(child.name, Put(data=b"x"))
    virtual.run()

    assert list(virtual.disk.files) == [("writer/@child", "log")]


async def fetch(number: int) -> int:
    """What an asyncio library would do."""
    return number


def blocking(number: int) -> int:
    if number < 0:
        raise OSError("negative")
    return number + 1


class Caller(Actor):
    @on
    async def fetch(self, message: Fetch) -> int:
        return await self.call(fetch, message.number)

    @on
    async def late(self, message: Late) -> str:
        return str(await self.in_thread(blocking, 6))

    @on
    async def unawaited(self, message: Unawaited) -> None:
        await self.in_thread(blocking, -1)


def test_a_call_of_a_library_needs_a_stand_in_here() -> None:
    virtual = Virtual()
    virtual.add("p").life.add("caller", Caller)
    virtual.start()
    outside = virtual.outside("p")

    with pytest.raises(ActorFailed, match=rf"{SimulationEscape.__name__}: self\.call\(fetch\) needs a stand-in"):
        virtual.result(outside.ask(outside.to("caller"), Fetch(number=1)))
    virtual.stand_ins[fetch] = lambda number: number * 2

    assert virtual.result(outside.ask(outside.to("caller"), Fetch(number=4))) == 8


def test_a_function_in_a_thread_gives_its_value_or_its_error() -> None:
    virtual = Virtual()
    virtual.add("p").life.add("caller", Caller)
    virtual.start()
    outside = virtual.outside("p")

    assert virtual.result(outside.ask(outside.to("caller"), Late())) == "7"
    with pytest.raises(ActorFailed, match="OSError: negative"):
        virtual.result(outside.ask(outside.to("caller"), Unawaited()))


class Causes(Actor):
    """Remembers during which message it was told what is durable."""

    def on_start(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.asked: tuple[int, int] | None = None

    @on
    def commit(self, message: Commit, envelope: Envelope) -> None:
        self.asked = (envelope.id, envelope.root)
        self.disk.append("log", b"x")
        self.disk.commit(message.write_id)

    def on_synced(self, write_id: int) -> None:
        current = self._cell.kernel.current
        self.seen.append((current.id, current.root))
        assert current.ask is None


def test_on_synced_has_the_cause_and_the_root_of_the_message_that_committed() -> None:
    virtual, _, actor, outside = one(Causes)

    virtual.result(outside.ask(outside.to("writer"), Commit(write_id=1)))
    virtual.run()

    assert actor.seen == [actor.asked]
