"""What clients of a key-value store may rely on besides linearizability: functions over their history.

See `models` for what is written down. All of them know the changes of each key by their revisions, from answers and
from watches, and what nobody can have seen. Values are written once, so that they name their write.

| judge | says |
| --- | --- |
| `kv.session` | a read of the level `session` is never older than what its client saw or wrote before |
| `kv.bounded` | one of the level `bounded` is never older than what anybody saw so long before it was asked |
| `kv.eventual` | every read, of whatever level, shows what was there at its revision |
| `kv.watches` | a watch shows each change once and in order, and all of them |
| `kv.locks` | who holds a lock has a higher token than all who held it before, and no two are sure of it at once |
| `kv.once` | what a client changed alone was changed as often as it says |
| `kv.leases` | a lease lives for its ttl at least, and leases end in the order in which they are due: `leasejudge` |
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from zactor.judges.history import Operation
from zactor.judges.verdict import Verdict

from .models import WEAK

DRIFT = 1_001, 1_000
"""A bound is kept by a clock of the replica, which may be slower than that of the history by one in a thousand."""

REVISED = frozenset({"get", "list", "put", "delete", "cas", "txn", "watch", *WEAK})
"""Operations whose answer begins with a revision."""

Name = tuple[str, str]
"""A group and a name in it."""


class Change(NamedTuple):
    """A value that a name got; None: it was deleted."""

    revision: int
    value: Any
    operation: Operation  # who said so


class Wrong(Exception):
    """A violation: what, and the operations that show it."""

    def __init__(self, because: str, *operations: Operation) -> None:
        super().__init__(because)
        self.verdict = Verdict("violation", because, tuple(sorted(set(operations), key=lambda each: each.invoked)))


def judge_session(operations: Sequence[Operation]) -> Verdict:
    """Judge reads of the level `session`."""
    return _verdict(operations, "get_session", _not_older_than_own)


def judge_bounded(operations: Sequence[Operation]) -> Verdict:
    """Judge reads of the level `bounded`."""
    return _verdict(operations, "get_bounded", _not_older_than_bound)


def judge_eventual(operations: Sequence[Operation]) -> Verdict:
    """Judge what reads of all levels show, wherever they saw it."""
    return _verdict(operations, "get_eventual", lambda operations: Known(operations).check_reads(operations))


def judge_watches(operations: Sequence[Operation]) -> Verdict:
    """Judge watches."""
    return _verdict(operations, "watch", lambda operations: Known(operations).check_watches(operations))


def judge_locks(operations: Sequence[Operation]) -> Verdict:
    """Judge the tokens of those who held locks, and for how long they were sure of them."""
    return _verdict(operations, "acquire", _one_holds)


def judge_once(operations: Sequence[Operation]) -> Verdict:
    """Judge the counters that each client has for itself."""
    return _verdict(operations, "count", _counted_once)


def _verdict(operations: Sequence[Operation], function: str, check: Callable[[Sequence[Operation]], None]) -> Verdict:
    try:
        check(operations)
    except Wrong as wrong:
        return wrong.verdict
    count = len(_answered(operations, function))
    return Verdict("ok", f"{count} times {function}: nothing is wrong")


def _answered(operations: Sequence[Operation], *functions: str) -> list[Operation]:
    return [each for each in operations if each.call.function in functions and each.completed is not None]


# --- how old a state may be
def _not_older_than_own(operations: Sequence[Operation]) -> None:
    newest: dict[str, Operation] = {}
    for _, operation, begins in _events(operations):
        client = operation.client
        if not begins:
            if client not in newest or _revision(operation) > _revision(newest[client]):
                newest[client] = operation
        elif operation.call.function == "get_session" and operation.completed is not None and client in newest:
            _demand(operation, newest[client])


def _not_older_than_bound(operations: Sequence[Operation]) -> None:
    answers = [operation for _, operation, begins in _events(operations) if not begins]
    times = [operation.ended_ns or 0 for operation in answers]
    newest = answers[:1]
    for each in answers[1:]:
        newest.append(max(newest[-1], each, key=_revision))
    for read in _answered(operations, "get_bounded"):
        bound_ns = read.call.arguments[1] * 1_000_000 * DRIFT[0] // DRIFT[1]
        count = bisect_right(times, read.invoked_ns - bound_ns)
        if count:
            _demand(read, newest[count - 1])


def _demand(read: Operation, seen: Operation) -> None:
    if _revision(read) < _revision(seen):
        raise Wrong(f"a read of revision {_revision(read)}, where {_revision(seen)} had to be seen", read, seen)


def _revision(operation: Operation) -> int:
    revision: int = operation.call.result[0]
    return revision


def _events(operations: Sequence[Operation]) -> list[tuple[int, Operation, bool]]:
    """When operations with revisions began, and when they were answered."""
    revised = [each for each in operations if each.call.function in REVISED]
    events = [(each.invoked, each, True) for each in revised]
    events += [(each.completed, each, False) for each in revised if each.completed is not None]
    return sorted(events, key=lambda event: event[0])


# --- what was there at a revision
class Known:
    """The changes of each name by their revisions, and who asked for what. Raises `Wrong` for two stories of one."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._writers: dict[tuple[Name, Any], Operation] = {}
        self._deleters: defaultdict[Name, list[Operation]] = defaultdict(list)  # of those that do not say what they did
        found: defaultdict[Name, dict[int, Change]] = defaultdict(dict)
        for operation in operations:
            if operation.outcome != "failed":
                self._note(operation)
            for name, change in _changes(operation) if operation.completed is not None else ():
                other = found[name].setdefault(change.revision, change)
                if other.value != change.value:
                    what = f"{name[0]}/{name[1]} became {other.value!r} and {change.value!r} at one revision"
                    raise Wrong(f"{what}, {change.revision}", other.operation, operation)
        self.changes = {name: sorted(by.values(), key=lambda each: each.revision) for name, by in found.items()}

    def _note(self, operation: Operation) -> None:
        for name, value in _asked(operation):
            if value is not None:
                self._writers[name, value] = operation
            elif operation.completed is None or operation.call.function == "txn":
                self._deleters[name].append(operation)

    def check_reads(self, operations: Sequence[Operation]) -> None:
        """What each read shows was there at its revision."""
        for read in _answered(operations, "get", *WEAK):
            self._check_read(read)

    def _check_read(self, read: Operation) -> None:
        revision, value, modified = read.call.result
        name = (read.call.key, read.call.arguments[0])
        changes = self.changes.get(name, [])
        count = bisect_right(changes, revision, key=lambda each: each.revision)
        latest = changes[count - 1] if count else None
        if value is not None:
            self._check_writer(name, value, read)
        if value is not None and modified > revision:
            raise Wrong(f"a value of revision {modified}, which revision {revision} cannot have", read)
        if latest is None:
            return
        if value is not None and (
            latest.revision > modified or (latest.revision == modified and latest.value != value)
        ):
            because = f"revision {revision} has {latest.value!r} of {latest.revision}, not {value!r} of {modified}"
            raise Wrong(because, read, latest.operation)
        if value is None and latest.value is not None and not self._may_be_gone(name, read, latest.revision):
            raise Wrong(f"nothing was found at revision {revision}, and nobody had deleted it", read, latest.operation)

    def _check_writer(self, name: Name, value: Any, reader: Operation) -> None:
        """Somebody had asked to write it before it was seen."""
        writer = self._writers.get((name, value))
        assert reader.completed is not None, reader
        if writer is None or writer.invoked > reader.completed:
            raise Wrong(
                f"nobody had asked to write {value!r} before it was seen", reader, *([writer] if writer else [])
            )

    def _may_be_gone(self, name: Name, read: Operation, since: int) -> bool:
        for each in self._deleters.get(name, ()):
            if each.completed is None and each.invoked < (read.completed or 0):
                return True
            if each.completed is not None and each.call.result[1] and since < _revision(each) <= _revision(read):
                return True
        return False

    def check_watches(self, operations: Sequence[Operation]) -> None:
        """What each watch shows are the changes of its span."""
        for watch in _answered(operations, "watch"):
            start, (last, events) = watch.call.arguments[0], watch.call.result
            revisions = [revision for revision, _, _ in events]
            if revisions != sorted(revisions) or len({(each[0], each[1]) for each in events}) < len(events):
                raise Wrong("changes out of order, or twice", watch)
            if revisions and not (start <= revisions[0] and revisions[-1] <= last):
                raise Wrong(f"changes that are not of the revisions {start} to {last}", watch)
            shown = {(revision, name) for revision, name, _ in events}
            for _, name, value in events:
                if value is not None:
                    self._check_writer((watch.call.key, name), value, watch)
            self._check_complete(watch, start, last, shown)

    def _check_complete(self, watch: Operation, start: int, last: int, shown: set[tuple[int, str]]) -> None:
        for (group, name), changes in self.changes.items():
            for change in changes if group == watch.call.key else ():
                if start <= change.revision <= last and (change.revision, name) not in shown:
                    raise Wrong(
                        f"the change of {name} at revision {change.revision} is missing", watch, change.operation
                    )


def _asked(operation: Operation) -> Iterator[tuple[Name, Any]]:
    """The values that an operation would give to names."""
    group, arguments = operation.call.key, operation.call.arguments
    match operation.call.function:
        case "put":
            yield (group, arguments[0]), arguments[1]
        case "delete":
            yield (group, arguments[0]), None
        case "cas":
            yield (group, arguments[0]), arguments[2]
        case "txn":
            for name, value in arguments[1]:
                yield (group, name), value


def _changes(operation: Operation) -> Iterator[tuple[Name, Change]]:
    """What an answer says has changed."""
    group, function, result = operation.call.key, operation.call.function, operation.call.result
    if function == "watch":
        for revision, name, value in result[1]:
            yield (group, name), Change(revision, value, operation)
    elif function == "put" or (function in ("delete", "cas") and result[1]):
        for name, value in _asked(operation):
            yield name, Change(result[0], value, operation)
    elif function == "txn" and result[1]:
        for name, value in _asked(operation):
            if value is not None:  # a name that was not there is not deleted
                yield name, Change(result[0], value, operation)


# --- locks and counters
def _one_holds(operations: Sequence[Operation]) -> None:
    held: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in _answered(operations, "acquire"):
        held[operation.call.key].append(operation)
    released = {
        (each.call.key, each.call.arguments[0]): each.invoked_ns
        for each in reversed(operations)
        if each.call.function == "release"
    }
    for key, holds in held.items():
        holds.sort(key=lambda each: each.completed or 0)
        _tokens_grow(holds)
        _one_is_sure(holds, {token: at_ns for (of, token), at_ns in released.items() if of == key})


def _tokens_grow(holds: Sequence[Operation]) -> None:
    """The token of a hold is higher than those of all that were known when it was asked for, and nobody else's."""
    highest: list[Operation] = []
    for hold in holds:
        if highest and _token(hold) == _token(highest[-1]):
            raise Wrong(f"two hold the lock with token {_token(hold)}", hold, highest[-1])
        highest.append(max(highest[-1] if highest else hold, hold, key=_token))
    ends = [hold.completed or 0 for hold in holds]
    for hold in holds:
        count = bisect_right(ends, hold.invoked)
        if count and _token(highest[count - 1]) >= _token(hold):
            raise Wrong(f"token {_token(hold)} is not higher than that of one before", hold, highest[count - 1])


def _one_is_sure(holds: Sequence[Operation], released: Mapping[int, int]) -> None:
    """A holder is sure of the lock for as long as its lease surely lives, if it does not let it go before."""
    last: tuple[int, Operation] | None = None
    for hold in holds:
        begin_ns = hold.ended_ns or 0
        left_ns = (
            hold.call.result[1] * 1_000_000 - hold.call.arguments[0] * 1_000_000 * (DRIFT[0] - DRIFT[1]) // DRIFT[0]
        )
        end_ns = min(begin_ns + left_ns, released.get(_token(hold), begin_ns + left_ns))
        if last is not None and begin_ns < min(last[0], end_ns):
            raise Wrong("two are sure that they hold the lock", last[1], hold)
        last = max(last or (end_ns, hold), (end_ns, hold), key=lambda each: each[0])


def _token(hold: Operation) -> int:
    token: int = hold.call.result[0]
    return token


def _counted_once(operations: Sequence[Operation]) -> None:
    """Of the puts of a client to its own key: each version is one more than those before, as far as it knows them."""
    last: dict[str, Operation] = {}
    doubtful: defaultdict[str, int] = defaultdict(int)
    for count in operations:
        if count.call.function != "count" or count.outcome == "failed":
            continue
        if count.completed is None:
            doubtful[count.client] += 1
            continue
        before = last.get(count.client)
        least = 1 if before is None else before.call.result[1] + 1
        version = count.call.result[1]
        if not least <= version <= least + doubtful[count.client]:
            because = f"version {version} of what only {count.client} changes, where {least} was due"
            if doubtful[count.client]:
                because += f", or up to {doubtful[count.client]} more"
            raise Wrong(because, count, *([before] if before else []))
        last[count.client], doubtful[count.client] = count, doubtful[count.client] - (version - least)
