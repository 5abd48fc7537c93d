"""What a handler can wait for besides an answer: a time, and the operations of its world.

Deadlines of asks are looked at together, at the earliest of them: an ask that is answered in time costs no timer.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Any

from zactor.cell import NOTHING, Cell, DiskState, Mail, Wait
from zactor.errors import AskTimeout, DiskFailed
from zactor.message import Message, format_id
from zactor.world import Operation, Remove, Rename, Sync

if TYPE_CHECKING:
    from zactor.kernel import Kernel


class Waits:
    """The timers and operations of one kernel's actors."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.token = 0  # of timers, sleeps and operations
        self.heap: list[tuple[int, int, Any]] = []  # (when, order, token of a timer or a function)
        self.order = 0
        self.timers: dict[int, tuple[Cell, Mail | None]] = {}
        self.first_deadline_ns = 0
        self._looks: set[int] = set()  # when the heap has a look at deadlines
        self.alarm_ns = 0  # 0: there is none; below: see `fire`
        self.commits: list[Cell] = []
        self.syncs: dict[int, tuple[Cell, int, int | None, list[Wait]]] = {}

    def wait(self, cell: Cell) -> Wait:
        """Something for a handler to await, under a new token."""
        self.token = token = self.token + 1
        wait = self._kernel.pending[token] = Wait(cell, token)
        cell.outstanding += 1
        return wait

    def forget(self, wait: Wait) -> None:
        """Nothing is waited for after all."""
        del self._kernel.pending[wait.id]
        wait.cell.outstanding -= 1

    def at(self, when_ns: int, what: Any) -> None:
        """Call a function, or fire the timer of a token, at that time or a little later."""
        self.order += 1
        heapq.heappush(self.heap, (when_ns, self.order, what))
        if when_ns < self.alarm_ns or not self.alarm_ns:
            self.alarm_ns = when_ns
            self._kernel.world.alarm(when_ns)

    def sleep(self, cell: Cell, span_ns: int) -> Wait:
        """`Actor.sleep`."""
        wait = self.wait(cell)
        self._keep(cell, wait.id, None)
        self.at(self._kernel.world.now_ns() + span_ns, wait.id)
        return wait

    def after(self, cell: Cell, span_ns: int, message: Message[Any]) -> int:
        """`Actor.after`."""
        if type(message) not in cell.handlers:
            raise TypeError(f"{cell.kind.__name__} has no handler for {type(message).__name__}")
        self.token = token = self.token + 1
        current = self._kernel.current
        if self._kernel.tap is not None:
            self._kernel.output(cell, "after", (token, span_ns, message))
        self._keep(cell, token, Mail(message, 0, current.id, current.root, 0, cell))
        self.at(self._kernel.world.now_ns() + span_ns, token)
        return token

    def cancel_timer(self, cell: Cell, token: int) -> bool:
        """`Actor.cancel`."""
        timer = self.timers.get(token)
        in_time = timer is not None and timer[0] is cell and timer[1] is not None
        if self._kernel.tap is not None:
            self._kernel.tap.input(cell, "timer_cancelled", in_time)
        if in_time:
            assert cell.timers is not None
            cell.timers.discard(token)
            del self.timers[token]
            self._sweep()
        return in_time

    def _keep(self, cell: Cell, token: int, mail: Mail | None) -> None:
        self.timers[token] = (cell, mail)
        if cell.timers is None:
            cell.timers = set()
        cell.timers.add(token)

    def forget_timers(self, cell: Cell) -> None:
        """An actor's object is gone: so are its timers."""
        for token in cell.timers or ():
            del self.timers[token]
        cell.timers = None
        self._sweep()

    def _sweep(self) -> None:
        """Timers that were taken back would pile up in the heap until their time."""
        if len(self.heap) > 64 + 4 * len(self.timers):
            self.heap[:] = [entry for entry in self.heap if callable(entry[2]) or entry[2] in self.timers]
            heapq.heapify(self.heap)

    def watch_deadline(self, deadline_ns: int) -> None:
        """Look for asks that have run out at that time, unless somebody looks earlier."""
        if not self.first_deadline_ns or deadline_ns < self.first_deadline_ns:
            self.first_deadline_ns = deadline_ns
            if deadline_ns not in self._looks:
                self._looks.add(deadline_ns)
                self.at(deadline_ns, self._expire)

    def _expire(self) -> None:
        """Fail the asks whose time has passed, and cancel the handlers whose askers' time has."""
        now_ns = self._kernel.world.now_ns()
        self._looks = {at_ns for at_ns in self._looks if at_ns > now_ns}
        if now_ns < self.first_deadline_ns:
            return
        self.first_deadline_ns = 0
        earliest = 0
        for wait in [wait for wait in self._kernel.pending.values() if wait.deadline_ns]:
            if wait.deadline_ns > now_ns:
                earliest = min(earliest or wait.deadline_ns, wait.deadline_ns)
            elif wait.target is None:
                self._kernel.mailroom.give_up(wait)
            else:
                name = "" if wait.message is None else wait.message.wire
                self._kernel.settle(
                    wait,
                    None,
                    AskTimeout(f"{name} {format_id(wait.id)} to {wait.target.name}: no answer in time"),
                )
        for number, task in list(self._kernel.serving.items()):
            ask = task.mail.ask
            if ask is None or ask.deadline_ns > now_ns:
                earliest = min(earliest or ask.deadline_ns, ask.deadline_ns) if ask is not None else earliest
            elif task.wait.error is None:
                self._kernel.direct(task.cell, "cancel", number)
        if earliest:
            # One look at everything that waits: not more often than this, however short the deadlines are.
            self.watch_deadline(max(earliest, now_ns + 1_000_000))

    def fire(self) -> None:
        """Do what is due. The next alarm is set at the end of the pass, which may bring an earlier one."""
        heap = self.heap
        now_ns = self._kernel.now_ns
        while heap and heap[0][0] <= now_ns:
            what = heapq.heappop(heap)[2]
            if callable(what):
                what()
                continue
            timer = self.timers.pop(what, None)
            if timer is None:
                continue
            cell, mail = timer
            assert cell.timers is not None
            cell.timers.discard(what)
            if mail is None:
                wait = self._kernel.pending.get(what)
                if wait is not None:
                    self._kernel.settle(wait, None, None)
            else:
                self._kernel.push_due(cell, mail)
        self.alarm_ns = -1

    def set_alarm(self) -> None:
        """Set the next alarm."""
        self.alarm_ns = 0
        if self.heap:
            self.alarm_ns = self.heap[0][0]
            self._kernel.world.alarm(self.alarm_ns)

    def operate(self, cell: Cell, operation: Operation, dirty: str | None) -> Wait:
        """Start an operation of the disk, of an asyncio library, or in a thread."""
        wait = self.wait(cell)
        wait.operation = operation
        if self._kernel.tap is not None:
            self._kernel.tap.operation(cell, wait.id, operation)
        if dirty is not None:
            self._disk(cell).dirty[dirty] = None
        elif cell.disk is not None and isinstance(operation, Rename) and operation.file in cell.disk.dirty:
            del cell.disk.dirty[operation.file]
            cell.disk.dirty[operation.to] = None
        elif cell.disk is not None and isinstance(operation, Remove):
            cell.disk.dirty.pop(operation.file, None)
        self._kernel.world.begin(wait.id, operation)
        return wait

    def _disk(self, cell: Cell) -> DiskState:
        if cell.disk is None:
            cell.disk = DiskState({}, [])
        return cell.disk

    def commit(self, cell: Cell, write_id: int, wait: Wait | None) -> None:
        """`Disk.commit`: begins when this pass has sent what it has to send."""
        if self._kernel.tap is not None:
            self._kernel.output(cell, "commit", write_id if wait is None else wait.id)
        disk = self._disk(cell)
        disk.wanted.append(write_id if wait is None else wait)
        disk.cause = self._kernel.current
        if not disk.under_way and cell not in self.commits:
            self.commits.append(cell)
            if not self._kernel.armed:
                self._kernel.arm()

    def synced(self, cell: Cell) -> Wait:
        """`Disk.synced`."""
        wait = self.wait(cell)
        self.commit(cell, 0, wait)
        return wait

    def sync(self, cell: Cell) -> None:
        """Begin the sync that an actor asked for."""
        disk = self._disk(cell)
        if disk.under_way or cell.actor is None:
            return
        wanted, disk.wanted = disk.wanted, []
        numbers = [each for each in wanted if isinstance(each, int)]
        waits = [each for each in wanted if isinstance(each, Wait)]
        files = tuple(disk.dirty)
        disk.dirty = {}
        disk.under_way = True
        disk.synced_cause, disk.cause = disk.cause, NOTHING
        self.token = token = self.token + 1
        self.syncs[token] = (cell, cell.generation, numbers[-1] if numbers else None, waits)
        self._kernel.world.begin(token, Sync(cell.folder, files))

    def complete(self, token: int, value: Any, error: BaseException | None) -> None:
        """An operation of the world has ended."""
        sync = self.syncs.pop(token, None)
        if sync is not None:
            self._synced(sync, error)
            return
        wait = self._kernel.pending.get(token)
        if wait is None:
            return
        cell = wait.cell
        self._kernel.settle(wait, value, error)
        if isinstance(error, DiskFailed):
            self._kernel.life.end(cell, f"{cell.name}: the disk failed: {error}")

    def _synced(self, sync: tuple[Cell, int, int | None, list[Wait]], error: BaseException | None) -> None:
        cell, generation, write_id, waits = sync
        disk = self._disk(cell)
        disk.under_way = False
        if cell.generation == generation and cell.actor is not None:
            for wait in waits:
                self._kernel.settle(wait, None, error)
            if write_id is not None or (error is not None and not waits):
                self.feed(cell, None, write_id, error)
        if error is not None:
            self._kernel.life.end(cell, f"{cell.name}: a sync failed: {error}")
        elif disk.wanted:
            self.commits.append(cell)
            if not self._kernel.armed:
                self._kernel.arm()

    def feed(self, cell: Cell, wait: Wait | None, value: Any, error: BaseException | None) -> None:
        """Put an input into an actor's queue: what it waits for, or (with no wait) news of its disk."""
        if cell.inputs is None:
            cell.inputs = deque()
        cell.inputs.append((wait, value, error))
        self._kernel.schedule(cell)
