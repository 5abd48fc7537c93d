"""What becomes of an actor: created, linked, starting, ready, restarting, stopping, stopped.

Invariants: the ref, the cell and the mailbox outlive a restart, everything else of the old object ends with it;
whoever waits for an actor that fails or stops hears so at once; children stop before their parent. What to do
after a failure is decided by `zactor.supervision` and done here.
"""

from __future__ import annotations

import re
import traceback
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zactor.actor import Actor, Down, Up, assemble, describe
from zactor.cell import NOTHING, Cell, Mail, Task, sender_name
from zactor.errors import ActorFailed, ActorStopped, DiskFailed, Failure, Refused
from zactor.message import NAME_LENGTH_MAX, Ref
from zactor.supervision import Restarts, Supervision

if TYPE_CHECKING:
    from zactor.kernel import Kernel

NAME = re.compile(r"[a-z0-9@][a-z0-9_-]*")


class Life:
    """The lives of one kernel's actors."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def add(
        self,
        name: str,
        kind: type[Actor],
        given: dict[str, Any] | None = None,
        links: dict[str, tuple[str, ...] | str] | None = None,
        policy: Supervision | None = None,
        *,
        mailbox_size: int | None = None,
        drops: Mapping[str, bool] | None = None,
    ) -> Ref[Any]:
        """Create a node; it starts when `start` is called and each process it links to has said WELCOME.

        `mailbox_size` and `drops` (whether a full target drops, by its name) stand above what kinds say.
        """
        cell = self._create(name, kind, dict(given or {}))
        cell.policy = policy or kind.supervision
        cell.capacity = mailbox_size or cell.capacity
        cell.unlinked = set()
        for role, names in (links or {}).items():
            usual = describe(kind).links[role].drop
            several = (names,) if isinstance(names, str) else names
            refs = tuple(self._kernel.ref(each, drop=(drops or {}).get(each, usual)) for each in several)
            cell.given[role] = refs[0] if isinstance(names, str) else refs
            cell.unlinked.update(several)
        return cell.ref()

    def start(self) -> None:
        """Start the nodes that were added: each when all that it links to exists."""
        for cell in list(self._kernel.cells.values()):
            if cell.state == "created" and cell.unlinked is not None:
                self.start_node(cell)

    def start_node(self, cell: Cell) -> None:
        """Start one node that was added, once: as `start`."""
        assert cell.unlinked is not None, "only a node waits for its links"
        cell.unlinked = {self._kernel.neighbours.process_of(name) for name in cell.unlinked} - {self._kernel.process}
        for process in sorted(cell.unlinked):
            if self._kernel.neighbours.greet(process):
                cell.unlinked.discard(process)
        self.linked(cell)

    def linked(self, cell: Cell) -> None:
        """Start a node if nothing that it links to is missing."""
        if cell.state == "created" and not cell.unlinked:
            self._begin(cell)

    def spawn(self, kind: type[Actor], name: str, **given: Any) -> Ref[Any]:
        """Create and start an actor at once, outside of any topology."""
        return self._spawn(self._create(name, kind, given))

    def _spawn(self, cell: Cell) -> Ref[Any]:
        try:
            self._begin(cell)
        except Exception:  # a setting or link that is missing or unknown, or an `__init__` that raises
            self.stop_now(cell, "it could not be made")
            raise
        return cell.ref()

    def spawn_child(self, parent: Cell, kind: type[Actor], name: str | None, given: dict[str, Any]) -> Ref[Any]:
        """An actor's `spawn`."""
        if parent.children is None:
            parent.children = {}
        if name is None:
            # Counted, and not by how many there are: that some have stopped is not known to their parent.
            name = f"{kind.__name__.lower()}-{parent.spawned}"
            parent.spawned += 1
        elif not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name for a child: use a-z, 0-9, - and _")
        if self._kernel.tap is not None:
            self._kernel.output(parent, "spawn", (name, kind.__name__))
        try:
            cell = self._create(f"{parent.name}/{name}", kind, given)
        except ValueError as problem:  # whether a name is free again is not the parent's own knowledge
            if self._kernel.tap is not None:
                self._kernel.tap.input(parent, "spawned", problem)
            raise
        if self._kernel.tap is not None:
            self._kernel.tap.input(parent, "spawned", None)
        cell.parent = parent
        cell.recorded = parent.recorded
        cell.folder = f"{parent.folder}/@{name}"
        parent.children[name] = cell
        return self._spawn(cell)

    def _create(self, name: str, kind: type[Actor], given: dict[str, Any]) -> Cell:
        if name in self._kernel.cells:
            raise ValueError(f"there is an actor {name} already")
        if len(name) > NAME_LENGTH_MAX:
            raise ValueError(f"the name {name[:40]}... has {len(name)} characters; at most {NAME_LENGTH_MAX} travel")
        cell = Cell(self._kernel, name, kind, given)
        self._kernel.cells[name] = cell
        return cell

    def _begin(self, cell: Cell) -> None:
        """Put an object into a cell and let it start."""
        if self._kernel.tap is not None:
            self._kernel.tap.turn(cell)
            self._kernel.tap.input(cell, "boot")
        cell.actor = assemble(cell.kind, cell, cell.given)
        cell.state = "starting"
        if cell.kind.on_start is Actor.on_start:
            self.ready(cell)
        else:
            self._kernel.direct(cell, "start", None)

    def ready(self, cell: Cell) -> None:
        """Its `on_start` has returned: mail may come."""
        if cell.state == "stopping":  # `on_start` said stop
            return
        again = cell.generation > 0
        cell.state = "ready"
        cell.held = cell.busy() is not None
        if cell.parent is None:
            self._kernel.observer(cell.name, "ready", f"restart {cell.generation}" if again else "started")
        self._kernel.neighbours.notify(cell.name, Up(ref=Ref(cell.name)))
        if cell.mailbox:
            self._kernel.schedule(cell)

    def stop(self, name: str, because: str = "stopped") -> None:
        """Stop an actor and its children, in its next turn."""
        cell = self._kernel.cells.get(name)
        if cell is not None:
            self._kernel.direct(cell, "stop", because)

    def stop_from(self, cell: Cell, child: Ref[Any] | None) -> None:
        """An actor's `stop`."""
        target = cell if child is None else self._kernel.cells.get(child.name)
        if self._kernel.tap is not None:
            self._kernel.output(cell, "stop", None if child is None else child.name)
        if target is None:
            return
        if target is not cell and target.parent is not cell:
            raise ValueError(f"{cell.name} can stop itself and its children, not {target.name}")
        if target is cell:
            cell.state = "stopping"
            cell.held = True
        self._kernel.direct(target, "stop", "stopped by itself" if target is cell else f"stopped by {cell.name}")

    def stop_now(self, cell: Cell, because: str) -> None:
        """Stop an actor, after its children. What waits for it hears why; its mail becomes dead letters."""
        if cell.state == "stopped":
            return
        cell.state = "stopping"
        for child in list((cell.children or {}).values()):
            self.stop_now(child, because)
        if cell.actor is not None:
            self._call_on_stop(cell, because)
        error = ActorStopped(f"{cell.name}: {because}")
        self._abandon(cell, error)
        left = cell.mailbox
        self._kernel.free(cell, cell.bytes)
        # No cycle is left behind for the collector: actor, cell and ref let go of each other.
        cell.limit, cell.mailbox, cell.held = 0, (), True
        for mail in left:
            self._kernel.dead_letter("stopped", mail, cell.name, error)
        waiters, cell.waiters = cell.waiters, None
        for wait, _, mail in waiters or ():
            self._kernel.dead_letter("stopped", mail, cell.name, error)
            self._kernel.settle(wait, None, error)
        self._kernel.mailroom.resume(cell)
        cell.state = "stopped"
        self._kernel.cells.pop(cell.name, None)
        if cell.parent is not None and cell.parent.children is not None:
            cell.parent.children.pop(cell.name.rpartition("/")[2], None)
        self._kernel.neighbours.notify(cell.name, Down(ref=Ref(cell.name), reason=because, final=True))
        self._kernel.neighbours.unwatched(cell.name)
        if cell.actor is not None:
            cell.actor._cell = None
        cell.actor = cell.reference = cell.parent = cell.children = None
        cell.given = {}
        if "/" not in cell.name or cell.unlinked is not None:
            self._kernel.observer(cell.name, "stopped", because)

    def _call_on_stop(self, cell: Cell, because: str) -> None:
        assert cell.actor is not None
        if self._kernel.tap is not None:
            self._kernel.tap.turn(cell)
            self._kernel.tap.input(cell, "stop", because)
        if cell.kind.on_stop is not Actor.on_stop:
            try:
                cell.actor.on_stop()
            except Exception as error:
                self._kernel.log("error", cell, "on_stop_failed", {"error": repr(error)})

    def _abandon(self, cell: Cell, error: Failure) -> None:
        """Close what is suspended; whoever waits for it hears why at once; forget what it waits for."""
        for task in cell.tasks or ():
            if task.mail.ask is not None:
                self._kernel.serving.pop(task.mail.ask.id, None)
            task.wait.leave(task)
            self._close(cell, task)
            self._kernel.answer(cell, task.mail.ask, None, error)
        for ask in list((cell.laters or {}).values()):
            self._kernel.answer(cell, ask, None, error)
        if cell.outstanding:
            for wait in [wait for wait in self._kernel.pending.values() if wait.cell is cell]:
                del self._kernel.pending[wait.id]
                if wait.operation is not None:
                    self._kernel.world.cancel(wait.id)
                elif wait.target is not None:
                    self._kernel.cancel_ask(wait)
        self._kernel.waits.forget_timers(cell)
        if cell.disk is not None:
            cell.disk.wanted = []
        for name in cell.watching or ():
            self._kernel.neighbours.unwatch(cell, name)
        # Timers and notices that are due are messages only when they are handled: these were none yet.
        cell.tasks = cell.inputs = cell.laters = cell.watching = cell.due = None
        cell.outstanding = 0

    def _close(self, cell: Cell, task: Task) -> None:
        self._kernel.current = task.mail
        try:
            task.coroutine.close()
        except Exception as problem:  # a `finally` that raises, or awaits
            self._kernel.log("error", cell, "close_failed", {"error": repr(problem)})
        self._kernel.current = NOTHING

    def failed(self, cell: Cell, mail: Mail, error: BaseException, where: str) -> None:
        """A handler raised: its asker hears of it, and the policy decides what becomes of the actor."""
        if isinstance(error, Refused) and where == "handler":
            self._kernel.answer(cell, mail.ask, None, error)
            if mail.ask is None:
                self._kernel.log("info", cell, "refused", {"error": str(error), "to": sender_name(mail)})
            return
        text = f"{cell.name}: {type(error).__name__}: {error}"
        rendered = "".join(traceback.format_exception(error))
        cell.last_error = text
        self._kernel.log(
            "error",
            cell,
            "handler_failed",
            {"where": where, "message": repr(mail.message)[:200], "error": text, "traceback": rendered},
        )
        self._kernel.answer(cell, mail.ask, None, ActorFailed(text, rendered))
        if cell.state in ("stopping", "stopped"):
            return
        if isinstance(error, DiskFailed):
            self.end(cell, f"{cell.name}: the disk failed: {error}")
            return
        self._supervise(cell, error, starting=where == "on_start")

    def _supervise(self, cell: Cell, error: BaseException, *, starting: bool) -> None:
        if cell.restarts is None:
            cell.restarts = Restarts()
        decision = cell.restarts.decide(
            cell.policy, error, self._kernel.now_ns, self._kernel.world.random("supervision")
        )
        directive = decision.directive
        if directive == "resume" and starting:
            directive = "restart"  # there is nothing to go on with
        self._kernel.log(
            "warning",
            cell,
            "supervised",
            {"directive": directive, "because": decision.because, "delay_ns": decision.delay_ns},
        )
        if directive == "restart":
            self._suspend(cell, error, decision.delay_ns)
        elif directive == "stop":
            self.stop_now(cell, f"failed: {error}")
        elif directive == "escalate":
            parent = cell.parent
            if parent is None:
                self.end(cell, f"{cell.name} failed: {decision.because}, the last: {error}")
                return
            self.stop_now(cell, f"failed: {error}")
            failure = ActorFailed(f"its child {cell.name} failed: {error}")
            if self._kernel.tap is not None:
                self._kernel.tap.turn(parent)
                self._kernel.tap.input(parent, "child", failure)
            self.failed(parent, NOTHING, failure, "child")

    def _suspend(self, cell: Cell, error: BaseException, delay_ns: int) -> None:
        """Take the object out of a cell; after a while a new one comes. The mailbox stays."""
        for child in list((cell.children or {}).values()):
            self.stop_now(child, f"its parent {cell.name} restarts")
        because = f"{type(error).__name__}: {error}"
        self._abandon(cell, ActorFailed(f"{cell.name}: {because}"))
        cell.state = "restarting"
        cell.held = True
        cell.spawned = 0
        cell.lane = deque(entry for entry in cell.lane or () if entry[0] == "stop")
        if cell.actor is not None:
            cell.actor._cell = None
        cell.actor = None
        cell.generation += 1
        self._kernel.neighbours.notify(cell.name, Down(ref=Ref(cell.name), reason=because, final=False))
        if cell.parent is None:
            self._kernel.observer(cell.name, "restarting", because)
        self._kernel.waits.at(self._kernel.world.now_ns() + delay_ns, lambda: self._revive(cell))

    def _revive(self, cell: Cell) -> None:
        if cell.state != "restarting":
            return
        try:
            self._begin(cell)
        except Exception as error:  # its `__init__` raises now
            self.failed(cell, NOTHING, error, "on_start")

    def end(self, cell: Cell | None, because: str) -> None:
        """The failure of an actor, or of no one in particular, goes beyond this process: its launcher decides."""
        name = "" if cell is None else cell.name
        self._kernel.world.log("error", name, "process_ends", {"because": because})
        if self._kernel.fatal is None:
            self._kernel.fatal = because
            self._kernel.observer(name, "failed", because)

    def watch(self, cell: Cell, target: Ref[Any]) -> None:
        """An actor's `watch`."""
        if Down not in cell.handlers:
            raise TypeError(f"{cell.kind.__name__} watches {target.name} but has no handler for Down")
        if self._kernel.tap is not None:
            self._kernel.output(cell, "watch", target.name)
        if cell.watching is None:
            cell.watching = set()
        cell.watching.add(target.name)
        self._kernel.neighbours.watch(cell, target.name)

    def unwatch(self, cell: Cell, target: Ref[Any]) -> None:
        """An actor's `unwatch`."""
        if self._kernel.tap is not None:
            self._kernel.output(cell, "unwatch", target.name)
        if cell.watching is not None:
            cell.watching.discard(target.name)
        self._kernel.neighbours.unwatch(cell, target.name)

    def notice(self, cell: Cell, notice: Down | Up) -> None:
        """Tell a watcher here, past its mailbox's bounds, if it still watches."""
        if cell.watching is not None and notice.ref.name in cell.watching and type(notice) in cell.handlers:
            self._kernel.push_due(cell, Mail(notice, 0, 0, 0, 0, notice.ref.name))
