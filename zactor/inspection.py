"""What a kernel tells of itself: plain values in one message to those who ask, and slow handlers to the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.actor import Actor
from zactor.cell import NOTHING, Cell, Mail
from zactor.message import format_id

if TYPE_CHECKING:
    from zactor.kernel import Kernel

ERROR_LENGTH_MAX = 1000
"""Characters of an actor's last error that `inspect` shows; the log has all of it."""

STATUS_LENGTH_MAX = 200
"""Characters of an actor's status: a line on a wide terminal."""

SLOW_NS = 50_000_000
"""A turn that takes longer has a handler in it for which others wait too long."""

SLOW_EVERY_NS = 60_000_000_000
"""A slow handler is logged this often, however often it is slow."""

INSPECTED_MAX = 1000
"""Actors that `inspect` tells of, nodes before their children: the answer has to fit into one message."""


def inspect(kernel: Kernel) -> dict[str, Any]:
    """Books, dead letters, refused frames, neighbours, and actors with what they wait for."""
    cells = [cell for cell in kernel.cells.values() if not cell.name.startswith("@")]
    cells.sort(key=lambda cell: cell.name.count("/") if cell.parent is not None else 0)
    return {
        "process": kernel.process,
        "incarnation": kernel.incarnation,
        "books": kernel.books(),
        "dead_letters": dict(kernel.dead),
        "strangers": dict(kernel.mailroom.strangers),
        "stamps_ahead": dict(kernel.mailroom.stamps_ahead),
        "lost": dict(kernel.neighbours.lost_messages),
        "now_ns": kernel.world.now_ns(),
        "busy_ns": kernel.busy_ns,
        "bytes_received": kernel.bytes_received,
        "late_ms": kernel.heartbeat.late_ns() / 1e6,
        "peers": [peer.about(kernel.world.now_ns()) for peer in kernel.neighbours.peers.values()],
        "actors": [_about(cell) for cell in cells[:INSPECTED_MAX]],
        "actors_in_all": len(cells),
    }


def _about(cell: Cell) -> dict[str, Any]:
    busy = cell.busy()
    waits_for = None
    if busy is not None:
        target = busy.wait.target
        waits_for = "itself" if target is None else target.name
    return {
        "name": cell.name,
        "kind": cell.kind.__name__,
        "state": cell.state,
        "mailbox": len(cell.mailbox),
        "handled": cell.handled,
        "busy_ns": cell.busy_ns,
        "restarts": 0 if cell.restarts is None else cell.restarts.count,
        "waits_for": waits_for,
        "last_error": None if cell.last_error is None else cell.last_error[:ERROR_LENGTH_MAX],
        "status": status(cell),
    }


def status(cell: Cell) -> str:
    """What an actor says of itself: one line, or why it cannot. Whatever its `status` does, nobody else is harmed."""
    actor = cell.actor
    if actor is None or cell.state != "ready" or cell.kind.status is Actor.status:
        return ""
    actor._cell = _SHUT  # nothing can be sent, logged or drawn between turns: no recording would know of it
    try:
        text = str(actor.status())
    except Exception as problem:
        text = f"its status failed: {type(problem).__name__}: {problem}"
    finally:
        actor._cell = cell
    line = " ".join(text[: 2 * STATUS_LENGTH_MAX].split())
    return line if len(line) <= STATUS_LENGTH_MAX else f"{line[: STATUS_LENGTH_MAX - 3]}..."


class _ShutDoor:
    """Stands for an actor's cell while it is asked for its status."""

    def __getattr__(self, _name: str) -> Any:
        raise RuntimeError("status() only looks at what the actor holds")


_SHUT = _ShutDoor()


class Slow:
    """Logs the handlers that make turns too long, each once in a while."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.watched: set[Cell] = set()
        """Actors whose turns look at the clock after each message."""
        self._logged_ns: dict[tuple[type[Actor], str], int] = {}  # has no more entries than there are handlers

    def add(self, cell: Cell, mail: Mail, busy_ns: int, count: int) -> None:
        """A turn took so long; `count` inputs were handled in it, `mail` the last of them."""
        now_ns = self._kernel.world.now_ns()
        if count > 1 and cell not in self.watched:
            # It may have been any of them. For a while turns end with the message by which they get too long.
            self.watched.add(cell)
            self._kernel.waits.at(now_ns + SLOW_EVERY_NS, lambda: self.watched.discard(cell))
        handler = type(mail.message).__name__
        if mail is NOTHING:
            handler = "on_stop" if cell.state == "stopped" else "on_start"
        last_ns = self._logged_ns.get((cell.kind, handler))
        if last_ns is not None and now_ns - last_ns < SLOW_EVERY_NS:
            return
        self._logged_ns[cell.kind, handler] = now_ns
        fields: dict[str, Any] = {"message": handler, "busy_ms": round(busy_ns / 1e6, 1), "handled": count}
        if mail.id:
            fields["message_id"] = format_id(mail.id)
        self._kernel.world.log("warning", cell.name, "slow_handler", fields)
