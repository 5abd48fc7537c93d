"""The runtime record of an actor, and of what it handles and waits for. Only kernels touch these.

The ref of an actor points to its cell, and the cell outlives the object: a restart puts a new object behind
the same mailbox. An idle cell is small: its queues are made when the first thing goes into them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeAlias

import msgspec

from zactor.actor import Actor, Handler
from zactor.message import Message, Ref
from zactor.supervision import Restarts, Supervision
from zactor.wire import Chain


class Mail(msgspec.Struct, gc=False):
    """A message in a mailbox. `sender` is a cell of this process or the name of an actor elsewhere."""

    message: Any
    id: int
    cause: int
    root: int
    hlc: int
    sender: Any
    ask: Wait | RemoteAsk | None = None
    size: int = 0  # bytes of its letter; mail from within the process counts by number alone


NOTHING = Mail(None, 0, 0, 0, 0, None)
"""What is being handled when nothing is."""


def sender_name(mail: Mail) -> str | None:
    """Who sent it, as people read it."""
    return mail.sender.name if isinstance(mail.sender, Cell) else mail.sender


class Wait(msgspec.Struct, eq=False):
    """What a handler awaits: an answer, a time, an operation of the world, or room.

    For an ask, `id` is that of its message, `target` whom it asked, and `parent` the ask during which it was
    made: so the chain of who waits for whom is a linked list, written out when it has to travel, and then kept.
    """

    cell: Cell
    id: int
    deadline_ns: int = 0
    target: Ref[Any] | None = None
    parent: Wait | RemoteAsk | None = None
    depth: int = 1  # asks that wait for each other up to this one
    message: Message[Any] | None = None
    operation: Any = None
    task: Task | None = None
    others: list[Task] | None = None  # that wait for the same
    notify: Callable[[Wait], None] | None = None  # for those outside of any actor
    awaited: bool = False
    done: bool = False
    value: Any = None
    error: BaseException | None = None
    chain: Chain | None = None

    def __await__(self) -> Generator[Wait, None, Any]:
        self.awaited = True
        if not self.done:
            yield self
        if self.error is not None:
            raise self.error
        return self.value

    def leave(self, task: Task) -> None:
        """A handler does not wait for it any more."""
        if self.task is task:
            self.task = None
        elif self.others is not None and task in self.others:
            self.others.remove(task)

    @property
    def is_awaited(self) -> bool:
        """Whether a handler waits for it."""
        return self.task is not None or bool(self.others)


Soon: TypeAlias = tuple[Wait, Callable[[], "tuple[Ref[Any], Message[Any]] | None"], int, Mail]
"""What is asked at the end of a turn: what is awaited for it, what makes it, nanoseconds, its cause."""


class RemoteAsk(msgspec.Struct, eq=False, gc=False):
    """An ask from another process; its answer goes back by `process`."""

    process: str
    id: int
    deadline_ns: int
    chain: Chain

    @property
    def depth(self) -> int:
        """Asks that wait for each other up to this one."""
        return len(self.chain)


def chain_of(ask: Wait | RemoteAsk | None) -> Chain:
    """Who waits for this ask, outermost first: (actor, id of its ask)."""
    if ask is None:
        return ()
    if ask.chain is None:
        assert isinstance(ask, Wait)
        ask.chain = (*chain_of(ask.parent), (ask.cell.name, ask.id))
    return ask.chain


class Task(msgspec.Struct, eq=False):
    """A handler that has waited for something. `busy`: its actor handles no other message until it ends."""

    cell: Cell
    coroutine: Coroutine[Any, Any, Any]
    mail: Mail
    busy: bool
    wait: Wait  # what it waits for, or waited for last


class DiskState(msgspec.Struct, eq=False):
    """Which files of a cell hold writes that no sync covers, and who waits for one."""

    dirty: dict[str, None]
    wanted: list[int | Wait]  # write ids to report, waits to settle
    under_way: bool = False
    cause: Mail = msgspec.field(default_factory=lambda: NOTHING)  # during which the last commit was asked for
    synced_cause: Mail = msgspec.field(
        default_factory=lambda: NOTHING
    )  # the same for the sync that is under way or just done


class Cell:
    """An actor in its kernel. `state` is created, starting, ready, restarting, stopping or stopped."""

    __slots__ = (
        "actor",
        "busy_ns",
        "bytes",
        "came",
        "capacity",
        "children",
        "disk",
        "due",
        "folder",
        "generation",
        "given",
        "handled",
        "handlers",
        "has_turn_end",
        "held",
        "inputs",
        "kernel",
        "kind",
        "lane",
        "last_error",
        "laters",
        "limit",
        "mailbox",
        "name",
        "outstanding",
        "parent",
        "paused",
        "policy",
        "queued",
        "recorded",
        "reference",
        "restarts",
        "soon",
        "spawned",
        "state",
        "stream",
        "tasks",
        "timers",
        "track",
        "turn_messages",
        "unlinked",
        "waiters",
        "watching",
        "wires",
    )

    def __init__(self, kernel: Any, name: str, kind: type[Actor], given: dict[str, Any]) -> None:
        self.kernel = kernel
        self.name = name
        self.kind = kind
        self.given = given
        self.folder = name
        self.actor: Actor | None = None
        # Looked up for each message, and a class takes its time to answer.
        self.handlers: dict[type, Handler] = kind._handlers
        self.wires: dict[str, Handler] = kind._wires
        self.turn_messages = kind.turn_messages
        self.has_turn_end = kind._has_turn_end
        self.policy: Supervision = kind.supervision
        self.state = "created"
        self.generation = 0
        self.handled = 0
        self.busy_ns = 0  # in its turns
        self.last_error: str | None = None
        # An empty tuple until the first message: `limit` 0 sends the first one by the slow way.
        self.mailbox: Any = ()
        self.limit = 0
        self.capacity = kind.mailbox_size
        self.bytes = 0
        self.came = 0  # mail from other processes that was ever put into the mailbox
        self.recorded = True
        self.track: Any = None  # what the tap remembers of it
        self.queued = False
        self.held = True  # mail waits: not ready yet, or a handler awaits
        self.tasks: list[Task] | None = None
        self.lane: deque[tuple[str, Any]] | None = None  # start, stop, cancel
        self.inputs: deque[tuple[Wait | None, Any, BaseException | None]] | None = None
        self.due: deque[Mail] | None = None  # timers and notices
        self.soon: list[Soon] | None = None
        self.waiters: deque[tuple[Wait, Ref[Any], Mail]] | None = None
        self.paused: set[str] | None = None  # processes that were told to hold mail for this actor
        self.laters: dict[int, Wait | RemoteAsk] | None = None
        self.outstanding = 0
        self.timers: set[int] | None = None
        self.parent: Cell | None = None
        self.spawned = 0  # children without a name of their own are numbered
        self.children: dict[str, Cell] | None = None
        self.watching: set[str] | None = None
        self.unlinked: set[str] | None = None
        self.restarts: Restarts | None = None
        self.disk: DiskState | None = None
        self.stream: random.Random | None = None
        self.reference: Ref[Any] | None = None

    def ref(self) -> Ref[Any]:
        """A ref to this cell."""
        if self.reference is None:
            self.reference = Ref(self.name, self)
        return self.reference

    def empty(self) -> None:
        """Let go of all that it holds for its actor."""
        self.mailbox = ()
        self.tasks = self.inputs = self.laters = self.lane = self.waiters = self.due = self.soon = self.disk = None

    def busy(self) -> Task | None:
        """The suspended handler that keeps mail waiting."""
        if self.tasks is not None:
            for task in self.tasks:
                if task.busy:
                    return task
        return None
