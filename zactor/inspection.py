"""What a kernel tells of itself to those who ask: plain values that fit into one message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.cell import Cell

if TYPE_CHECKING:
    from zactor.kernel import Kernel

ERROR_LENGTH_MAX = 1000
"""Characters of an actor's last error that `inspect` shows; the log has all of it."""

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
        "restarts": 0 if cell.restarts is None else cell.restarts.count,
        "waits_for": waits_for,
        "last_error": None if cell.last_error is None else cell.last_error[:ERROR_LENGTH_MAX],
    }
