"""The scheduler of one process: mailboxes, turns, timers, asks, supervision, dead letters, and the tap.

It knows a `World` and imports no clock, socket, loop or dice. One queue holds the actors that have something
to do; each takes a turn, and what a pass of the queue sends to another process leaves as frames at its end,
before any sync to disk begins. Invariants:

- an actor is fed only in `_turn`, and everything that feeds it passes the tap;
- without a crash the books balance: sent + received = handled + dead letters + in flight + shipped.

Read `run`, then `_turn`. Its parts: `life` (what becomes of an actor), `mailroom` (delivery and frames),
`neighbours` and `heartbeat` (other processes), `waits` (timers and operations), `cycles` (asks that wait for
themselves).
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Literal

from msgspec import Raw

from zactor import hlc
from zactor.actor import ASYNC, SYNC, WITH_ENVELOPE, Actor
from zactor.cell import NOTHING, Cell, Mail, RemoteAsk, Task, Wait, chain_of, sender_name
from zactor.cycles import Cycles
from zactor.door import Later
from zactor.errors import (
    ActorFailed,
    ActorStopped,
    AskTimeout,
    Cancelled,
    Failure,
    NeverAnswered,
    Overloaded,
    Unhandled,
)
from zactor.heartbeat import Heartbeat
from zactor.inspection import SLOW_NS, Slow, inspect
from zactor.life import Life
from zactor.mailroom import PROCESS_BYTES, Mailroom
from zactor.message import Envelope, Message, Opaque, Ref, answer_decoder, encode, first_id, format_id
from zactor.neighbours import Neighbours
from zactor.tap import Tap, digest_of
from zactor.waits import Waits
from zactor.wire import CHAIN_LENGTH_MAX, split, unsplit
from zactor.world import World

TURN_NS = 2_000_000
"""An actor's turn and a pass of the queue end after this long, so that nobody waits for a busy neighbour."""

STRIDE = 7
"""A turn looks at the clock where the number of messages taken has none of these bits: after each eighth."""

RUN_TURNS = 256
LOUD_DEAD_LETTERS = 10
"""Dead letters of one kind that are logged one by one; after that, each time their number doubles."""


class Kernel:
    """One process's actors. `observer(node, state, because)` hears of each change in a node's life."""

    # More than thirty attributes without slots are slower to find. A replay puts doors of its own over methods.
    __slots__ = (
        "__dict__",
        "_first_sequence",
        "_last",
        "armed",
        "busy_ns",
        "bytes_received",
        "cells",
        "complete",
        "current",
        "cycles",
        "dead",
        "disconnected",
        "fatal",
        "handled",
        "heartbeat",
        "held_bytes",
        "hlc",
        "incarnation",
        "life",
        "log_debug",
        "mail",
        "mailroom",
        "neighbours",
        "now_ns",
        "observer",
        "pending",
        "process",
        "queue",
        "receive",
        "received",
        "sequence",
        "serving",
        "shipped",
        "slow",
        "tap",
        "unsent",
        "waits",
        "world",
        "writable",
    )

    def __init__(
        self,
        world: World,
        *,
        process: str,
        number: int = 1,
        incarnation: int = 1,
        run: str = "",
        key: str = "",
        first_sequence: int = 0,
        peer_timeout_ns: int = 0,
    ) -> None:
        self.world = world
        self.mail = Mail  # of the object, not of the class: `Actor.tell` finds it faster so
        self.process = process
        self.incarnation = incarnation
        self.tap: Tap | None = None
        self.observer: Callable[[str, str, str], None] = lambda _node, _state, _because: None
        self.log_debug = False
        self.cells: dict[str, Cell] = {}
        self.queue: deque[Cell] = deque()
        self.armed = False
        self.now_ns = world.now_ns()
        self.hlc = hlc.from_wall(world.wall_ns())
        self.sequence = self._first_sequence = first_id(number, incarnation) + first_sequence
        self.unsent = 0  # ids that were given to messages which could not be encoded
        self.current: Mail = NOTHING
        self._last: Mail = NOTHING  # what the turn handled last: the cause of what `on_turn_end` sends
        self.pending: dict[int, Wait] = {}
        self.serving: dict[int, Task] = {}  # suspended handlers that somebody waits for, by the id of the ask
        self.received = self.handled = self.shipped = 0
        self.busy_ns = 0  # in passes
        self.bytes_received = 0  # of frames with letters
        self.held_bytes = 0  # of mail from other processes, in all mailboxes
        self.dead: Counter[str] = Counter()
        self.fatal: str | None = None
        self.life = Life(self)
        self.waits = Waits(self)
        self.cycles = Cycles(self)
        self.heartbeat = Heartbeat(self, peer_timeout_ns)
        self.neighbours = Neighbours(self, run, key)
        self.mailroom = Mailroom(self)
        self.slow = Slow(self)
        # What a world calls; with `run` it is `zactor.world.Driven`.
        self.receive = self.mailroom.receive
        self.writable = self.neighbours.writable
        self.disconnected = self.neighbours.disconnected
        self.complete = self.waits.complete

    def ref(self, name: str, *, drop: bool = False) -> Ref[Any]:
        """A ref to an actor anywhere."""
        return Ref(name, self.cells.get(name), drop=drop)

    def direct(self, cell: Cell, what: str, argument: Any) -> None:
        """Put something into an actor's system lane, which is drained before everything else."""
        if cell.lane is None:
            cell.lane = deque()
        cell.lane.append((what, argument))
        self.schedule(cell)

    def push_due(self, cell: Cell, mail: Mail) -> None:
        """Deliver a timer or a notice: these never queue behind a mailbox."""
        if cell.due is None:
            cell.due = deque()
        cell.due.append(mail)
        self.schedule(cell)

    # --- sending
    def next_id(self) -> int:
        """The id of a message that is counted as sent now."""
        self.sequence = number = self.sequence + 1
        return number

    def tell(self, sender: Cell, target: Ref[Any], message: Message[Any]) -> None:
        """`Actor.tell` where its fast way ends: first mail, a full mailbox, or another process."""
        number = self.next_id()
        current = self.current
        mail = Mail(message, number, current.id, current.root or number, self.hlc, sender)
        problem = self.mailroom.deliver(target, mail, None)
        if problem is not None:
            if self.tap is not None:
                self.tap.input(sender, "full", number, problem)
            self.dead_letter("full", mail, target.name)
            if not target.drop:
                raise Overloaded(problem)

    def send(self, sender: Cell, target: Ref[Any], message: Message[Any], timeout_ns: int) -> Wait:
        """`Actor.send`: like tell, but a full target makes it wait."""
        number = self.next_id()
        current = self.current
        mail = Mail(message, number, current.id, current.root or number, self.hlc, sender)
        problem = self.mailroom.deliver(target, mail, None)
        if problem is None:
            return Wait(sender, 0, done=True)
        wait = self.waits.wait(sender)
        if self.tap is not None:
            self.tap.input(sender, "full", number, problem)
        self.mailroom.queue_up(target, mail, wait)
        wait.deadline_ns = self.world.now_ns() + timeout_ns
        wait.message = message
        self.waits.watch_deadline(wait.deadline_ns)
        return wait

    def ask(
        self, cell: Cell, target: Ref[Any], message: Message[Any], timeout_ns: int, promised: Wait | None = None
    ) -> Wait:
        """`Actor.ask`. `promised`: what is awaited for it already."""
        current = self.current
        parent = current.ask
        now_ns = self.world.now_ns()
        deadline_ns = now_ns + timeout_ns
        depth = 1
        if parent is not None:
            depth = parent.depth + 1
            if parent.deadline_ns < deadline_ns:
                deadline_ns = parent.deadline_ns
        self.sequence = number = self.sequence + 1
        if promised is None:
            wait = Wait(cell, number, deadline_ns, target, parent, depth, message)
        else:
            wait = promised
            wait.id, wait.deadline_ns, wait.target, wait.parent, wait.depth = number, deadline_ns, target, parent, depth
            wait.message = message
        self.pending[number] = wait
        cell.outstanding += 1
        if deadline_ns < self.waits.first_deadline_ns or not self.waits.first_deadline_ns:
            self.waits.watch_deadline(deadline_ns)
        root = current.root or number
        peer = target.peer
        if peer is not None and target.cell is None and depth <= CHAIN_LENGTH_MAX:
            asked = (deadline_ns - now_ns, chain_of(parent))
            letters = peer.tell(message, target.name, cell.name, number, current.id, root, self.hlc, asked)
            if letters == 1:
                self.mailroom.touch(peer)
            if letters:
                return wait
        mail = Mail(message, number, current.id, root, self.hlc, cell, wait)
        problem = self.mailroom.deliver(target, mail, wait)
        if problem is not None:
            self.dead_letter("full", mail, target.name, Overloaded(problem))
        return wait

    def ask_soon(self, cell: Cell, make: Callable[[], tuple[Ref[Any], Message[Any]] | None], timeout_ns: int) -> Wait:
        """`Actor.ask_soon`."""
        wait = Wait(cell, 0)
        if cell.soon is None:
            cell.soon = []
        cell.soon.append((wait, make, timeout_ns, self.current))
        if not cell.queued:
            cell.queued = True
            self.queue.append(cell)
            if not self.armed:
                self.arm()
        return wait

    def _ask_now(self, cell: Cell) -> None:
        """The end of a turn: send what was to be asked soon."""
        while cell.soon:
            asks, cell.soon = cell.soon, None
            for wait, make, timeout_ns, self.current in asks:
                try:
                    asked = None if wait.done else make()
                except Exception as error:
                    self.life.failed(cell, self.current, error, "ask_soon")
                    break
                if asked is not None:
                    self.ask(cell, *asked, timeout_ns, wait)
        self.current = NOTHING

    def push(self, cell: Cell, mail: Mail) -> None:
        """Put mail into a mailbox here, whether there is room or not."""
        if cell.mailbox.__class__ is tuple:  # its first mail
            cell.mailbox = deque()
            cell.limit = cell.capacity
        cell.mailbox.append(mail)
        if not cell.queued:
            cell.queued = True
            self.queue.append(cell)
            if not self.armed:
                self.arm()

    # --- answering
    def answer(self, cell: Cell, ask: Wait | RemoteAsk | None, value: Any, error: BaseException | None) -> None:
        """Answer an ask, if there is one; never queues behind a mailbox."""
        if ask is None:
            return
        if cell.laters is not None:
            cell.laters.pop(ask.id, None)
        if error is not None:
            # Its frames would keep this actor, its messages and its Laters alive for as long as the asker keeps it.
            error.__traceback__ = error.__context__ = error.__cause__ = None
        if ask.__class__ is Wait:
            if Opaque in (value.__class__, ask.message.__class__) and error is None:
                value, error = self._converted(ask, value)
            self.settle(ask, value, error)
        else:
            assert isinstance(ask, RemoteAsk)
            self.mailroom.answer(cell, ask, value, error)

    def _converted(self, ask: Wait, value: Any) -> tuple[Any, BaseException | None]:
        """An answer within this process, `Opaque` on one side or on both."""
        try:
            if value.__class__ is not Opaque:
                body, blobs = split(value)
                value = Opaque(name="", body=Raw(encode(body)), blobs=blobs)
            elif ask.message.__class__ is not Opaque:
                kind: Any = ask.message.__class__
                value = unsplit(answer_decoder(kind)(value.body), value.blobs)
        except Exception as problem:
            return None, Unhandled(f"the answer of {ask.target and ask.target.name}: {problem}")
        return value, None

    def later(self, cell: Cell) -> Later[Any]:
        """`Actor.later`."""
        ask = self.current.ask
        if ask is not None:
            if cell.laters is None:
                cell.laters = {}
            cell.laters[ask.id] = ask
        return Later(cell, ask)

    def answer_later(self, cell: Cell, ask: Wait | RemoteAsk | None, value: Any, error: BaseException | None) -> None:
        """A `Later` was used. One that outlived its actor says nothing: its asker knows already."""
        if ask is not None and cell.laters is not None and cell.laters.pop(ask.id, None) is not None:
            if error is not None and not isinstance(error, Failure):  # the same type, wherever the asker lives
                error = ActorFailed(f"{cell.name}: {type(error).__name__}: {error}")
            self.answer(cell, ask, value, error)

    def dropped(self, cell: Cell, ask: Wait | RemoteAsk | None) -> None:
        """A `Later` was dropped unanswered."""
        if ask is not None and cell.laters is not None and ask.id in cell.laters:
            self.answer_later(cell, ask, None, NeverAnswered(f"{cell.name} dropped its Later of {format_id(ask.id)}"))

    def settle(self, wait: Wait, value: Any, error: BaseException | None) -> None:
        """What was waited for is there, or failed. It reaches the actor in its next turn."""
        if self.pending.pop(wait.id, None) is None:
            return
        cell = wait.cell
        cell.outstanding -= 1
        inputs = cell.inputs
        if inputs is None:
            inputs = cell.inputs = deque()
        inputs.append((wait, value, error))
        if not cell.queued:
            self.schedule(cell)

    def cancel_ask(self, wait: Wait) -> None:
        """An asker is gone: the handler that works for it need not go on."""
        task = self.serving.get(wait.id)
        if task is not None:
            self.direct(task.cell, "cancel", wait.id)
        elif wait.target is not None:
            self.mailroom.cancel_ask(wait)

    # --- running
    def schedule(self, cell: Cell) -> None:
        """Give an actor a turn."""
        if not cell.queued:
            cell.queued = True
            self.queue.append(cell)
        if not self.armed:
            self.arm()

    def arm(self) -> None:
        """See to it that `run` is called."""
        self.armed = True
        self.world.wake()

    def run(self) -> bool:
        """One pass: due timers, then turns, then what they sent leaves, then syncs begin. True: call again."""
        world = self.world
        self.now_ns = began_ns = now_ns = world.now_ns()
        self.armed = True
        stamp = world.wall_ns() & hlc.WALL_MASK
        if stamp > self.hlc:
            self.hlc = stamp
        waits = self.waits
        if waits.alarm_ns and waits.alarm_ns <= began_ns:
            waits.fire()
        queue = self.queue
        turns = RUN_TURNS
        cell: Cell | None = None
        try:
            while queue and turns:
                turns -= 1
                cell = queue.popleft()
                now_ns = self._turn(cell)
                if not queue:
                    break
                self.now_ns = now_ns
                if now_ns > began_ns + TURN_NS:
                    break
        except BaseException:  # a mistake of ours or a Ctrl-C: nobody may stay armed without a turn to come
            self.current = NOTHING
            if cell is not None:
                queue.append(cell)
            self.arm()
            raise
        mailroom = self.mailroom
        if mailroom.dirty:
            mailroom.flush()
        if waits.commits:
            cells, waits.commits = waits.commits, []
            for cell in cells:
                waits.sync(cell)
        if waits.alarm_ns < 0:
            waits.set_alarm()
        if self.tap is not None:
            self.tap.flush()
        self.busy_ns += now_ns - began_ns
        self.armed = more = bool(queue or mailroom.dirty or waits.commits)
        return more

    def ship(self, process: str, lane: int, frame: bytes, blobs: list[bytes]) -> bool:
        """`World.send` for frames with letters."""
        sent = self.world.send(process, lane, frame, blobs)
        if sent and self.tap is not None:
            self.tap.sent(process, frame, blobs)
        return sent

    def _turn(self, cell: Cell) -> int:
        """Feed an actor what it has, for a while. Returns the time after that."""
        self.hlc += 1
        if self.tap is not None:
            self.tap.turn(cell)
        if cell.lane:
            self._drain_lane(cell)
        handled = cell.handled
        budget = cell.turn_messages
        if cell.inputs or cell.due:
            budget = self._urgent(cell, budget)
        if cell.mailbox and not cell.held and budget:
            if len(cell.mailbox) == 1:
                self._take_one(cell)
            else:
                self._take_mail(cell, budget)
        if cell.has_turn_end and cell.handled != handled and cell.actor is not None:
            self._turn_end(cell, cell.actor)
        if cell.soon is not None:
            self._ask_now(cell)
        now_ns = self.world.now_ns()
        busy_ns = now_ns - self.now_ns  # which was read when the turn before had ended
        cell.busy_ns += busy_ns
        if busy_ns > SLOW_NS:
            self.slow.add(cell, self._last, busy_ns, cell.handled - handled)
        self._last = NOTHING
        if (cell.waiters or cell.paused) and len(cell.mailbox) <= cell.capacity >> 1:
            self.mailroom.resume(cell)
        if cell.lane or cell.inputs or (not cell.held and (cell.mailbox or cell.due)):
            self.queue.append(cell)
        else:
            cell.queued = False
        return now_ns

    def _take_one(self, cell: Cell) -> None:
        """Take the only mail that there is, as most turns do where little happens: `_take_mail` without its loop."""
        if self.tap is not None:
            self.tap.mail(cell, 1)
        self.current = mail = cell.mailbox.popleft()
        ask = mail.ask
        try:
            handler = cell.handlers[mail.message.__class__]
            if ask is None and handler.mode == SYNC:
                handler.function(cell.actor, mail.message)
            elif ask is not None and ask.deadline_ns <= self.now_ns:
                self._expired(cell, mail)
            else:
                self._call(cell, handler, mail)
        except Exception as error:
            self._handler_raised(cell, mail, error)
        self._last, self.current = self.current, NOTHING
        if self.tap is not None:
            self.tap.taken(cell, 1)
        if mail.size:
            self.free(cell, mail.size)
        self.handled += 1
        cell.handled += 1

    def _take_mail(self, cell: Cell, budget: int) -> None:
        mailbox, actor = cell.mailbox, cell.actor
        # What is told to oneself meanwhile waits for the next turn, like everybody else's.
        waiting = len(mailbox)
        if waiting < budget:
            budget = waiting
        if self.tap is not None:
            self.tap.mail(cell, budget)
        kind: type | None = None
        taken = freed = 0
        stride = 0 if cell in self.slow.watched else STRIDE
        is_sized = cell.bytes > 0  # else all of it is from within
        for taken in range(1, budget + 1):
            self.current = mail = mailbox.popleft()
            if is_sized:
                freed += mail.size
            message, ask = mail.message, mail.ask
            try:
                if message.__class__ is not kind:  # most mail of a turn is of one kind
                    handler = cell.handlers[message.__class__]
                    kind, is_sync, function = message.__class__, handler.mode == SYNC, handler.function
                if ask is None and is_sync:
                    function(actor, message)
                elif ask is not None and ask.deadline_ns <= self.now_ns:
                    self._expired(cell, mail)
                elif is_sync:
                    result = function(actor, message)
                    if result.__class__ is not Later:
                        self.answer(cell, ask, result, None)
                else:
                    self._call(cell, handler, mail)
            except Exception as error:
                self._handler_raised(cell, mail, error)
            if cell.held:
                break
            if not taken & stride and self.world.now_ns() > self.now_ns + TURN_NS:
                break
        self._last, self.current = self.current, NOTHING
        if self.tap is not None:
            self.tap.taken(cell, taken)
        if freed:
            self.free(cell, freed)
        self.handled += taken
        cell.handled += taken

    def free(self, cell: Cell, size: int) -> None:
        """A mailbox holds so many bytes less."""
        was, self.held_bytes = self.held_bytes, self.held_bytes - size
        cell.bytes -= size
        if was >= PROCESS_BYTES > self.held_bytes:
            self.mailroom.relieved()

    def _handler_raised(self, cell: Cell, mail: Mail, error: Exception) -> None:
        if not isinstance(error, KeyError) or type(mail.message) in cell.handlers:
            self.life.failed(cell, mail, error, "handler")
        elif not self._convert(cell, mail):
            self.unhandled(cell, mail)
        else:
            try:
                self._call(cell, cell.handlers[type(mail.message)], mail)
            except Exception as problem:
                self.life.failed(cell, mail, problem, "handler")

    def _convert(self, cell: Cell, mail: Mail) -> bool:
        """Make mail from this process `Opaque` for who takes that, or what an `Opaque` holds. False: it is neither."""
        message = mail.message
        try:
            if Opaque in cell.handlers:
                body, blobs = split(message)
                mail.message = Opaque(name=message.wire, body=Raw(encode(body)), blobs=blobs)
            elif message.__class__ is Opaque and message.name in cell.kind._wires:
                mail.message = unsplit(cell.kind._wires[message.name].decode(message.body), message.blobs)
            else:
                return False
        except Exception:
            return False
        return True

    def unhandled(self, cell: Cell, mail: Mail) -> None:
        """An actor was sent what it has no handler for."""
        known = ", ".join(sorted(handler.message.__name__ for handler in cell.handlers.values())) or "nothing"
        self.handled -= 1
        name = type(mail.message).__name__
        self.dead_letter("unhandled", mail, cell.name, Unhandled(f"{cell.name} handles {known}, not {name}"))

    def _expired(self, cell: Cell, mail: Mail) -> None:
        self.handled -= 1
        self.dead_letter(
            "expired", mail, cell.name, AskTimeout(f"{format_id(mail.id)} expired in {cell.name}'s mailbox")
        )

    def _call(self, cell: Cell, handler: Any, mail: Mail) -> None:
        """Call a handler that is async or wants the envelope."""
        mode = handler.mode
        if mode & WITH_ENVELOPE:
            ask = mail.ask
            left_ns = None if ask is None else max(0, ask.deadline_ns - self.now_ns)
            sender = mail.sender
            if isinstance(sender, str):
                sender = Ref(sender)
            elif sender is not None:
                sender = sender.ref()
            envelope = Envelope(sender, mail.id, mail.cause, mail.root, left_ns)
            result = handler.function(cell.actor, mail.message, envelope)
            mode &= ~WITH_ENVELOPE
        else:
            result = handler.function(cell.actor, mail.message)
        if mode == SYNC:
            if result.__class__ is not Later:
                self.answer(cell, mail.ask, result, None)
        else:
            self._drive(cell, result, mail, mode == ASYNC)

    def _urgent(self, cell: Cell, budget: int) -> int:
        """Answers and completions first, then timers and notices. Returns what is left of the turn."""
        shown = 0
        while cell.inputs and budget:
            if self.tap is not None:
                if not shown:
                    shown = self.tap.settled(cell, min(len(cell.inputs), budget))
                shown -= 1
            budget -= 1
            wait, value, error = cell.inputs.popleft()
            cell.handled += 1
            if wait is None:
                self._synced(cell, value, error)
            else:
                self._resume(cell, wait, value, error)
        while cell.due and budget and not cell.held:
            budget -= 1
            self.current = mail = cell.due.popleft()
            # Numbered here and not when it became due: so the ids of a turn depend on nothing outside of it.
            mail.id = self.next_id()
            mail.root = mail.root or mail.id
            mail.hlc = self.hlc
            if self.tap is not None:
                self.tap.input(cell, "timer", mail)
            self.handled += 1
            cell.handled += 1
            try:
                self._call(cell, cell.handlers[mail.message.__class__], mail)
            except Exception as error:
                self.life.failed(cell, mail, error, "handler")
            self._last = mail
        self.current = NOTHING
        return budget

    def _synced(self, cell: Cell, write_id: int | None, error: BaseException | None) -> None:
        if isinstance(error, Exception):
            self._disk_failed(cell, error)
            return
        try:
            assert write_id is not None
            assert cell.actor is not None
            assert cell.disk is not None
            self.current = self._last = _without_ask(cell.disk.synced_cause)
            cell.actor.on_synced(write_id)
        except Exception as problem:
            self.life.failed(cell, NOTHING, problem, "on_synced")
        self.current = NOTHING

    def _disk_failed(self, cell: Cell, error: Exception) -> None:
        try:
            assert cell.actor is not None
            cell.actor.on_disk_failed(error)
        except Exception as problem:
            self.life.failed(cell, NOTHING, problem, "on_disk_failed")

    def _resume(self, cell: Cell, wait: Wait, value: Any, error: BaseException | None) -> None:
        wait.done, wait.value, wait.error = True, value, error
        task, others = wait.task, wait.others
        if task is not None or others:
            if task is not None:
                self._continue(cell, task, None)
            while others:  # those that have not ended meanwhile
                self._continue(cell, others[0], None)
        elif wait.notify is not None:
            wait.notify(wait)
        elif wait.operation is not None and not wait.awaited and isinstance(error, Exception):
            self._disk_failed(cell, error)

    def _continue(self, cell: Cell, task: Task, thrown: BaseException | None) -> None:
        """A suspended handler goes on; `thrown` is raised where it waits."""
        task.wait.leave(task)
        self.current = mail = task.mail
        try:
            self._drive(cell, task.coroutine, mail, task.busy, task, thrown)
        except Exception as error:
            self.life.failed(cell, mail, error, "on_start" if mail is NOTHING else "handler")
        self._last, self.current = mail, NOTHING

    def _drive(
        self,
        cell: Cell,
        coroutine: Any,
        mail: Mail,
        busy: bool,
        task: Task | None = None,
        thrown: BaseException | None = None,
    ) -> None:
        """Run a handler by hand until it ends or waits for something that is not there yet; then it has a `task`."""
        try:
            while True:
                wait = coroutine.send(None) if thrown is None else coroutine.throw(thrown)
                thrown = None
                if wait.__class__ is not Wait:
                    thrown = TypeError(f"a handler awaited {wait!r}; asyncio goes through self.call(function, ...)")
                elif wait.cell is not cell:
                    thrown = TypeError(f"{cell.name} awaited what {wait.cell.name} waits for")
                else:
                    break
        except BaseException as ended:
            if task is not None:
                self._ended(cell, task)
            if isinstance(ended, StopIteration):
                if ended.value.__class__ is not Later:
                    self.answer(cell, mail.ask, ended.value, None)
                if mail is NOTHING:
                    self.life.ready(cell)
            elif not isinstance(ended, Cancelled):
                raise
            return
        if task is None:
            task = self._suspended(Task(cell, coroutine, mail, busy, wait))
        task.wait = wait
        if wait.task is None:
            wait.task = task
        else:
            wait.others = [*(wait.others or ()), task]
        if busy and wait.target is not None:
            self.cycles.suspended(cell, wait)

    def _suspended(self, task: Task) -> Task:
        """A handler waits for the first time."""
        cell, ask = task.cell, task.mail.ask
        if cell.tasks is None:
            cell.tasks = []
        cell.tasks.append(task)
        cell.held = cell.held or task.busy
        if ask is not None:
            self.serving[ask.id] = task
            self.waits.watch_deadline(ask.deadline_ns)
        return task

    def _ended(self, cell: Cell, task: Task) -> None:
        """A handler that had waited has ended."""
        assert cell.tasks is not None
        cell.tasks.remove(task)
        if task.busy:
            cell.held = cell.state != "ready"
        if task.mail.ask is not None:
            self.serving.pop(task.mail.ask.id, None)

    def _drain_lane(self, cell: Cell) -> None:
        while cell.lane:
            what, argument = cell.lane.popleft()
            if what == "stop":
                self.life.stop_now(cell, argument)
            elif what == "cancel":
                self._cancel(cell, argument)
            elif what == "start" and cell.actor is not None:
                self._start(cell, cell.actor)

    def _start(self, cell: Cell, actor: Actor) -> None:
        if self.tap is not None:
            self.tap.input(cell, "start")
        try:
            coroutine = actor.on_start()
            if coroutine is None:
                self.life.ready(cell)
            else:
                self._drive(cell, coroutine, NOTHING, True)
        except Exception as error:
            self.life.failed(cell, NOTHING, error, "on_start")

    def _cancel(self, cell: Cell, number: int) -> None:
        task = self.serving.get(number)
        if task is None or task.cell is not cell:
            return
        del self.serving[number]  # it is cancelled but once
        if self.tap is not None:
            self.tap.input(cell, "cancel", number)
        wait = task.wait
        wait.leave(task)
        if wait.id in self.pending and wait.target is not None and not wait.is_awaited:
            self.cancel_ask(wait)
        self._continue(cell, task, Cancelled())

    def _turn_end(self, cell: Cell, actor: Actor) -> None:
        if cell.state not in ("ready", "stopping"):
            return
        self.current = _without_ask(self._last)
        try:
            actor.on_turn_end()
        except Exception as error:
            self.life.failed(cell, NOTHING, error, "on_turn_end")
        self.current = NOTHING

    # --- what is told about
    def dead_letter(self, reason: str, mail: Mail, target: str, error: BaseException | None = None) -> None:
        """Count a message that nobody will handle, tell its asker, and log it while that is no flood."""
        self.dead[reason] += 1
        if mail.size and self.tap is not None:
            self.tap.dropped(mail.id)
        count = self.dead[reason]
        if count <= LOUD_DEAD_LETTERS or count & (count - 1) == 0:
            fields = {
                "reason": reason,
                "message": type(mail.message).__name__,
                "id": format_id(mail.id),
                "cause": format_id(mail.cause) if mail.cause else None,
                "root": format_id(mail.root or mail.id),
                "sender": sender_name(mail),
                "target": target,
                "count": count,
            }
            self.world.log("warning", target, "dead_letter", fields)
        ask = mail.ask
        if ask is not None:
            failure = error or ActorStopped(f"{target}: {reason}")
            if ask.__class__ is Wait:
                self.settle(ask, None, failure)
            else:
                assert isinstance(ask, RemoteAsk)
                self.mailroom.answer(None, ask, None, failure)

    def log(
        self,
        level: Literal["debug", "info", "warning", "error"],
        cell: Cell,
        event: str,
        fields: dict[str, Any],
    ) -> None:
        """Keep a log event with the message being handled, its cause, and the HLC stamp."""
        if level == "debug" and not self.log_debug:
            return
        if self.tap is not None and level != "debug":  # a replay may show what was not asked for then
            self.output(cell, "log", (level, event))
        current = self.current
        stamped: dict[str, Any] = {"hlc": self.hlc}
        if current.id:
            stamped["message_id"] = format_id(current.id)
            stamped["cause"] = format_id(current.cause) if current.cause else None
        self.world.log(level, cell.name, event, stamped | fields)

    def output(self, cell: Cell, kind: str, values: Any) -> None:
        """Show the tap a digest of what an actor did: CRC32C of its encoded form."""
        assert self.tap is not None
        self.tap.output(cell, kind, digest_of(values))

    def rng(self, cell: Cell) -> random.Random:
        """An actor's own stream of chance."""
        if cell.stream is None:
            cell.stream = self.world.random(f"actor/{cell.name}/{cell.generation}")
            if self.tap is not None:
                self.tap.input(cell, "chance", cell.stream)
        return cell.stream

    def books(self) -> dict[str, int]:
        """Where every message is: sent + received = handled + dead + queued + outbox + shipped."""
        queued = sum(len(cell.mailbox) + len(cell.waiters or ()) for cell in self.cells.values())
        return {
            "sent": self.sequence - self._first_sequence - self.unsent,
            "received": self.received,
            "handled": self.handled,
            "dead": sum(self.dead.values()),
            "queued": queued,
            "outbox": self.mailroom.outbox_messages(),
            "shipped": self.shipped,
        }

    def inspect(self) -> dict[str, Any]:
        """What `ps` shows of this process: its books, its neighbours and its actors."""
        return inspect(self)


def _without_ask(mail: Mail) -> Mail:
    """A cause and a root, but no ask: it is answered, and its deadline and chain are not those of a batch."""
    return Mail(mail.message, mail.id, mail.cause, mail.root, mail.hlc, mail.sender)
