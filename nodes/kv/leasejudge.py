"""Whether leases live as long as they say: a judge of histories.

Leases end by the time of the log alone, so two things can be said of them whatever happened. One that was granted or
kept alive lives for its ttl, by any clock, but for what the log may gain on it (`SOONER`). And leases end in the order
in which they are due: who has been given no more time, no later than another one that is known to have ended, has
ended, too. Revisions are the order of the log, so that needs no clock at all.

How long a lease may live beyond its ttl cannot be said: while nobody leads, no time passes in the log.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from zactor.judges.history import Operation
from zactor.judges.verdict import Verdict
from zactor.replication.logclock import DRAWN

from .judges import DRIFT, Wrong
from .models import LEASES

SOONER = DRIFT[0] * (DRAWN + 1), DRIFT[1] * DRAWN
"""By the history's clock a lease may end so much sooner: the log may be drawn forwards, and clocks run at odds."""

NEVER = 1 << 62


def judge_leases(operations: Sequence[Operation]) -> Verdict:
    """Judge how long leases lived."""
    leases = _leases(operations)
    try:
        for lease in leases:
            lease.check_not_early()
        _check_order(leases)
    except Wrong as wrong:
        return wrong.verdict
    seen = sum(1 for lease in leases if lease.gone)
    return Verdict("ok", f"{len(leases)} leases, of which {seen} were seen to end: nothing is wrong")


class _Lease:
    """What is known of one lease, from its grant on."""

    def __init__(self, grant: Operation) -> None:
        self.id = grant.call.result[1]
        self.ttl_ns = grant.call.arguments[0] * 1_000_000
        self.renewals = [grant]  # that were answered; the grant is one
        self.there: list[Operation] = []
        self.gone: list[Operation] = []
        self.attached = NEVER  # the revision from which on it has its key
        self.revoked = NEVER  # from this place in the history on it may have been ended by its holder
        self.doubtful = NEVER  # from here on it may have been kept alive by what was not answered

    def add(self, operation: Operation) -> None:
        """Something was done with it."""
        function = operation.call.function
        if function == "revoke" and operation.outcome != "failed":
            self.revoked = min(self.revoked, operation.invoked)
        elif operation.completed is None:
            if function == "keep" and operation.outcome != "failed":
                self.doubtful = min(self.doubtful, operation.invoked)
        elif not operation.call.result[1]:
            self.gone.append(operation)
        else:
            self.there.append(operation)
            if function == "keep":
                self.renewals.append(operation)
            elif function == "attach":
                self.attached = operation.call.result[0]

    def settle(self) -> None:
        """All is known: what says nothing is left out."""
        self.gone = [each for each in self.gone if (each.completed or 0) < self.revoked and self._had_key(each)]
        self.renewals.sort(key=_revision)

    def _had_key(self, operation: Operation) -> bool:
        return operation.call.function != "look" or _revision(operation) >= self.attached

    def check_not_early(self) -> None:
        """When it was gone, its time was over since it was last kept alive. Raises `Wrong`."""
        if self.gone:
            first = min(self.gone, key=lambda each: each.ended_ns or 0)
            last = max(self.renewals, key=lambda each: each.invoked_ns)
            lived_ns = (first.ended_ns or 0) - last.invoked_ns
            if lived_ns * SOONER[0] < self.ttl_ns * SOONER[1]:
                since = f"{lived_ns / 1e6:.0f} ms after it was asked for, or kept alive"
                raise Wrong(f"lease {self.id} of {self.ttl_ns // 1_000_000} ms was over {since}", last, first)

    def ends(self) -> Iterator[_End]:
        """That it had ended is known at these revisions, and until which one it had been kept alive at least."""
        for operation in self.gone:
            if _revision(operation):
                yield _End(_revision(operation), _revision(self.renewals[-1]), operation)

    def lives(self) -> Iterator[_Life]:
        """That it was there is known at these revisions, and which one it was kept alive by then."""
        revisions = [_revision(each) for each in self.renewals]
        for operation in self.there:
            if (operation.completed or 0) < self.doubtful:
                revision = _revision(operation)
                find = bisect_right if operation.call.function == "look" else bisect_left
                yield _Life(revision, revisions[find(revisions, revision) - 1], operation)


class _End(NamedTuple):
    revision: int
    renewed: int
    operation: Operation


class _Life(NamedTuple):
    revision: int
    renewed: int
    operation: Operation


def _leases(operations: Iterable[Operation]) -> list[_Lease]:
    found: dict[int, _Lease] = {}
    for operation in operations:
        function = operation.call.function
        if function == "grant":
            if operation.completed is not None:
                found[operation.call.result[1]] = _Lease(operation)
        elif function in LEASES and operation.call.arguments[0] in found:
            found[operation.call.arguments[0]].add(operation)
    for lease in found.values():
        lease.settle()
    return list(found.values())


def _check_order(leases: Sequence[_Lease]) -> None:
    """None is there at a revision at which one has ended that was due later. Raises `Wrong`."""
    by_ttl: defaultdict[int, list[_End]] = defaultdict(list)
    for lease in leases:
        by_ttl[lease.ttl_ns].extend(lease.ends())
    ended = {ttl_ns: _latest(ends) for ttl_ns, ends in by_ttl.items() if ends}
    for lease in leases:
        for life in lease.lives():
            for ttl_ns, ends in ended.items():
                other = _last_before(ends, life.revision) if ttl_ns >= lease.ttl_ns else None
                if other is not None and other.renewed >= life.renewed:
                    because = (
                        f"lease {lease.id} is there at revision {life.revision}, when one that was due later is not"
                    )
                    raise Wrong(because, life.operation, other.operation)


def _latest(ends: Iterable[_End]) -> list[_End]:
    """In the order of their revisions; in the place of each that among those so far that was kept alive last."""
    found: list[_End] = []
    for end in sorted(ends, key=lambda each: each.revision):
        latest = max(found[-1], end, key=lambda each: each.renewed) if found else end
        found.append(latest._replace(revision=end.revision))
    return found


def _last_before(ends: list[_End], revision: int) -> _End | None:
    count = bisect_right(ends, revision, key=lambda each: each.revision)
    return ends[count - 1] if count else None


def _revision(operation: Operation) -> int:
    revision: int = operation.call.result[0]
    return revision
