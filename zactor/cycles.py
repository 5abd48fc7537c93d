"""Asks that wait for themselves are failed, not left to their deadlines.

Two forms. Within one causal chain the ask that closes the ring meets the chain it carries, and fails at once.
Between two roots no chain closes: a asks b while b asks a. For these a handler that has waited `PROBE_NS` for an
answer sends a probe along its ask; whoever holds that ask up behind a wait of its own sends it on, and a probe
that comes home has found a ring (Chandy, Misra and Haas 1983, "Distributed Deadlock Detection", the AND model
with one resource). Every finder breaks the ask with the smallest id, so one ask of a ring fails, and no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zactor.cell import Cell, RemoteAsk, Task, Wait, chain_of
from zactor.errors import AskCycle
from zactor.message import Ref
from zactor.wire import CHAIN_LENGTH_MAX, Chain

if TYPE_CHECKING:
    from zactor.kernel import Kernel

PROBE_NS = 20_000_000
"""An answer that is coming has come by then, so nearly all asks go without a probe."""

PROBE_NS_MAX = 1_280_000_000
"""Probes are repeated, each after twice the time: an edge of the ring may have been on its way."""


class Cycles:
    """The waits of one kernel's actors."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._blocked: dict[Cell, tuple[Wait, int, int]] = {}  # wait, when to probe, how long to wait next
        self._looking = False

    def closes(self, cell: Cell, ask: Wait | RemoteAsk) -> str | None:
        """The ring as text, if `cell` waits for something that this ask is a part of."""
        busy = cell.busy()
        if busy is None or busy.wait.target is None:
            return None
        chain = chain_of(ask)
        for position, (_, number) in enumerate(chain):
            if number == busy.wait.id:
                return _text([name for name, _ in chain[position:]])
        return None

    def suspended(self, cell: Cell, wait: Wait) -> None:
        """A handler that keeps mail waiting now awaits an answer."""
        assert wait.target is not None
        if wait.target.name == cell.name:
            self._kernel.settle(wait, None, AskCycle(_text([cell.name])))
            return
        now_ns = self._kernel.now_ns
        self._blocked[cell] = (wait, now_ns + PROBE_NS, PROBE_NS)
        if not self._looking:
            self._look(now_ns)

    def _look(self, now_ns: int) -> None:
        self._looking = True
        self._kernel.waits.at(now_ns + PROBE_NS, self._probe)

    def _probe(self) -> None:
        self._looking = False
        now_ns = self._kernel.now_ns
        for cell, (wait, when_ns, span_ns) in list(self._blocked.items()):
            if not wait.is_awaited:  # it waits no more: looked at here, not at each of its answers
                del self._blocked[cell]
            elif when_ns <= now_ns and wait.target is not None:
                span_ns = min(2 * span_ns, PROBE_NS_MAX)
                self._blocked[cell] = (wait, now_ns + span_ns, span_ns)
                self._follow(wait.target, ((cell.name, wait.id),))
        if self._blocked:
            self._look(now_ns)

    def _follow(self, target: Ref[object], path: Chain) -> None:
        cell = self._kernel.cells.get(target.name)
        if cell is not None:
            self.arrive(cell, path)
        else:
            self._kernel.mailroom.control(target.name, "$probe", path[0][0], path)

    def arrive(self, cell: Cell, path: Chain) -> None:
        """A probe reached the target of the last ask in its path."""
        task = self._holder(cell, path[-1][1])
        if task is None or task.wait.target is None or task.wait.id not in self._kernel.pending:
            return
        edge = (cell.name, task.wait.id)
        if edge in path:
            self._break(path[path.index(edge) :])
        elif len(path) < CHAIN_LENGTH_MAX:
            self._follow(task.wait.target, (*path, edge))

    def _holder(self, cell: Cell, number: int) -> Task | None:
        """The suspended handler that keeps this ask waiting: the one that serves it, or the one it queues behind."""
        serving = self._kernel.serving.get(number)
        if serving is not None:
            return serving if serving.cell is cell else None
        if any(mail.ask is not None and mail.ask.id == number for mail in cell.mailbox):
            return cell.busy()
        return None

    def _break(self, ring: Chain) -> None:
        name, number = min(ring, key=lambda edge: edge[1])
        text = _text([name for name, _ in ring])
        if name in self._kernel.cells:
            self.broken(number, text)
        else:
            self._kernel.mailroom.control(name, "$break", "", (number, text))

    def broken(self, number: int, text: str) -> None:
        """An ask of ours is the one to fail."""
        wait = self._kernel.pending.get(number)
        if wait is not None and wait.target is not None:
            self._kernel.settle(wait, None, AskCycle(text))


def _text(names: list[str]) -> str:
    return " -> ".join([*names, names[0]])
