"""What a run says in its log of messages that nobody handled: each with its reason, and what they come to.

A process logs the first of each reason, and of a flood ever fewer with their number (`zactor.kernel`); when it ends
it logs the sum. So what is listed may be less than what is counted, and a process that was killed has the last
number that it had said.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from zactor.debug.runlog import Event, time_ns


class Loss(msgspec.Struct, frozen=True):
    """A dead letter: a message that has no `target` any more, finds it full, or was under way when a process died."""

    at_ns: int
    reason: str
    message: str
    id: str
    sender: str
    target: str
    process: str


class Losses:
    """Goes over the events of a run, once; then knows the sums."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._events = events
        self.reasons: Counter[str] = Counter()
        """Dead letters by their reason, over all processes."""
        self.with_process: Counter[str] = Counter()
        """Messages that had left for a process which died: so many may not have arrived."""
        self._counts: dict[tuple[str, str], int] = {}

    def __iter__(self) -> Iterator[Loss]:
        for event in self._events:
            with contextlib.suppress(KeyError, TypeError, AttributeError):  # an actor's own event of that name
                loss = self._take(event)
                if loss is not None:
                    yield loss

    def _take(self, event: Event) -> Loss | None:
        name, process = event.get("event"), str(event.get("process", ""))
        if name == "dead_letter":
            fields: dict[str, Any] = {key: str(event[key]) for key in ("reason", "message", "id", "sender", "target")}
            self._count(process, fields["reason"], event["count"], is_new=1)
            return Loss(at_ns=time_ns(event), process=process, **fields)
        if name == "books":
            for reason, count in event["dead_letters"].items():
                self._count(process, reason, count, is_new=0)
                del self._counts[process, reason]  # what this process says next, another life of it says
        elif name == "peer_lost":
            self.with_process[str(event["peer"])] += event["lost_at_most"]
        return None

    def _count(self, process: str, reason: str, count: int, *, is_new: int) -> None:
        """A process says its number again, with so many new ones; what is less than that is of its next life."""
        before = self._counts.get((process, reason), 0)
        self.reasons[reason] += count - before if count - is_new >= before else count
        self._counts[process, reason] = count
