"""The live world of one process: it answers `zactor.world.World` with an asyncio loop, sockets and files."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from zactor.errors import ZactorError
from zactor.kernel import Kernel
from zactor.live.disk import Disk
from zactor.live.faults import Faults, ProcessFault
from zactor.live.logs import Lines
from zactor.live.sockets import RETRY_S, Sockets
from zactor.neighbours import Entry
from zactor.world import Call, InThread, Operation

PEER_TIMEOUT_NS = 5_000_000_000
"""How long another process may be silent before it counts as lost, unless the topology says otherwise."""

LEAVE_S = 0.5

ALARM_SLACK_S = 0.0002
"""A loop's timer may come a little early; an alarm must not."""


class CallCancelled(ZactorError):
    """A coroutine of `self.call` was cancelled by its library."""


class BookEntry(msgspec.Struct, frozen=True):
    """A process as the launcher knows it. `endpoint` is None while it is not running."""

    number: int
    incarnation: int
    endpoint: str | None = None
    gone: str | None = None
    pid: int | None = None


class Book(msgspec.Struct, frozen=True):
    """Where every node lives. Each change has a higher version."""

    version: int
    run: str
    nodes: dict[str, str]
    processes: dict[str, BookEntry]
    stopped: dict[str, str] = {}  # nodes that have stopped for good, alone or with their process: why
    key: str = ""
    """What only those who may read this know: each HELLO shows it."""
    peer_timeout_ns: int = PEER_TIMEOUT_NS


def own_generators() -> None:
    """Keep asyncio, until its loop ends, from closing the async generators that actors use: the kernel drives those.

    For a thread in which actors run and nothing else does.
    """
    sys.set_asyncgen_hooks(firstiter=None, finalizer=None)


class LiveWorld:
    """One process, or a client, in the real world. `bind` and `use_book` connect it; `close` frees everything."""

    def __init__(
        self,
        process: str,
        *,
        number: int,
        incarnation: int,
        run: str,
        state: Path | None = None,
        log: Path | None = None,
        prepare: Callable[[str, Path], None] = lambda _folder, path: path.mkdir(parents=True, exist_ok=True),
        first_sequence: int = 0,
        key: str = "",
        peer_timeout_ns: int = PEER_TIMEOUT_NS,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._book_version = -1
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: dict[int, asyncio.Future[Any]] = {}
        self._operations: set[int] = set()
        self._lines = None if log is None else Lines(log)
        self._closed = False
        self._left: asyncio.Future[None] | None = None
        self.now_ns = time.monotonic_ns
        self.wall_ns = time.time_ns
        self.kernel = Kernel(
            self,
            process=process,
            number=number,
            incarnation=incarnation,
            run=run,
            first_sequence=first_sequence,
            key=key,
            peer_timeout_ns=peer_timeout_ns,
        )
        self.disk = None if state is None else Disk(state, self._disk_done, prepare)
        self.sockets = Sockets(
            process,
            incarnation,
            self.kernel.receive,
            self.kernel.disconnected,
            self.kernel.mailroom.stranger,
            self._hold,
            self._release,
            peer_timeout_ns // 1_000_000,
        )
        self.transmit: Callable[[str, int, bytes, list[bytes]], bool | None] = self.sockets.send
        self._faults: Faults | None = None

    def bind(self, endpoint: str) -> str:
        """Bind the inbox; the answer is the endpoint that others connect to."""
        return self.sockets.bind(endpoint)

    def use_book(self, book: Book) -> None:
        """Take a newer book: connect to who is new, let go of who is gone."""
        if book.version <= self._book_version:
            return
        self._book_version = book.version
        for process, entry in book.processes.items():
            if process == self.kernel.process:
                continue
            if entry.endpoint is None:
                self.sockets.forget(process)
            else:
                self.sockets.connect(process, entry.incarnation, entry.endpoint)
        entries = {
            process: Entry(entry.incarnation, entry.endpoint is not None, entry.gone)
            for process, entry in book.processes.items()
        }
        self.kernel.neighbours.on_book(book.nodes, entries)

    def use_faults(self, faults: tuple[ProcessFault, ...], because: str) -> None:
        """Have these faults on from here on, and no others."""
        if self._faults is None:
            self._faults = Faults(self)
        self._ring()  # so that what is logged has this time, and not that of the last turn
        self._faults.use(faults, because)

    async def leave(self, deadline_s: float = LEAVE_S) -> None:
        """Say goodbye to everybody, and wait until what is on its way has arrived, here and there."""
        self._left = self.loop.create_future()
        self.kernel.neighbours.leave()
        self.wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._left
        self.kernel.neighbours.give_up()

    async def close(self) -> None:
        """Let what was sent leave, and free everything."""
        self.kernel.mailroom.flush()
        self._closed = True
        if self._faults is not None:
            self._faults.close()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks.values():
            task.cancel()
        self.sockets.close()
        if self.disk is not None:
            self.disk.close()
        await asyncio.sleep(0)  # cancelled tasks end
        if self._lines is not None:
            self._lines.close()

    # --- the loop
    def wake(self) -> None:
        self.loop.call_soon(self._step)

    def _step(self) -> None:
        if self._closed:
            return
        if self.kernel.run():
            self.loop.call_soon(self._step)
        if self._left is not None and not self._left.done() and self.kernel.neighbours.left():
            self._left.set_result(None)
        if self._lines is not None:
            self._lines.flush()

    def _hold(self) -> bool:
        """While frames are taken in nobody need wake us; the answer says whether a pass is coming anyway."""
        was_armed = self.kernel.armed
        self.kernel.armed = True
        return was_armed

    def _release(self, was_armed: bool) -> None:
        """They are in: the pass follows at once."""
        if not was_armed:
            self._step()

    def alarm(self, at_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(at_ns / 1e9 + ALARM_SLACK_S, self._ring)

    def _ring(self) -> None:
        if not self.kernel.armed:
            self._step()

    # --- what the kernel asks
    def random(self, purpose: str) -> random.Random:
        return random.Random(f"{time.time_ns()}/{self.kernel.process}/{purpose}")  # noqa: S311

    def send(self, process: str, lane: int, frame: bytes, blobs: list[bytes]) -> bool:
        sent = self.transmit(process, lane, frame, blobs)
        if sent is False:
            self.loop.call_later(RETRY_S, self.kernel.writable, process)
        # A client's lane that is not there yet: it becomes writable when the client has opened it.
        return sent or (sent is None and process[:1] != "@")

    def disconnect(self, process: str) -> None:
        if self._faults is not None:
            self._faults.forget(process)
        self.sockets.disconnect(process)

    def begin(self, token: int, operation: Operation) -> None:
        if isinstance(operation, Call):
            self._watch(token, self.loop.create_task(operation.function(*operation.values)))
        elif isinstance(operation, InThread):
            self._watch(token, self.loop.run_in_executor(None, operation.function, *operation.values))
        else:
            assert self.disk is not None, "a client has no disk"
            self._operations.add(token)
            self.disk.begin(token, operation)

    def _watch(self, token: int, task: asyncio.Future[Any]) -> None:
        self._tasks[token] = task
        task.add_done_callback(lambda done: self._done(token, done))

    def _done(self, token: int, done: asyncio.Future[Any]) -> None:
        wanted = self._tasks.pop(token, None) is not None
        if done.cancelled():
            error: BaseException | None = CallCancelled("the coroutine was cancelled")
        else:
            error = done.exception()
        if wanted and not self._closed:
            self.kernel.complete(token, None if error is not None else done.result(), error)

    def _disk_done(self, token: int, value: Any, error: BaseException | None) -> None:
        if token in self._operations and not self._closed:
            self._operations.discard(token)
            self.kernel.complete(token, value, error)

    def cancel(self, token: int) -> None:
        self._operations.discard(token)
        task = self._tasks.pop(token, None)
        if task is not None:
            task.cancel()

    def log(self, level: str, node: str, event: str, fields: dict[str, Any]) -> None:
        if self._lines is None:
            return
        kernel = self.kernel
        head = {"level": level, "hlc": kernel.hlc, "node": node, "process": kernel.process, "event": event}
        self._lines.add(head | fields)
        if not kernel.armed:
            self._lines.flush()
