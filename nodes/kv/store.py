"""The store: bytes to bytes, with revisions, leases and watches, as a replicated state machine.

It changes by the entries of its log alone (`zactor.statemachine`), each whole or not at all. The revision of a change
is the index of its entry; leases end by the time of the entries, with the first one that is late enough. The parts
know nothing of each other: keys (`items`), `leases`, the last changes (`backlog`), who waits for some (`watches`).

A put is what it must be quick at; look at `_put` first.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import islice
from typing import Any

from zactor.errors import Refused
from zactor.message import UNDECODABLE, encode
from zactor.statemachine import Entry, Told

from . import operations as op
from .backlog import Backlog
from .items import Items, weight
from .leases import Leases
from .questions import check, holds, newest, oldest, page, size_of
from .snapshots import freeze, restore
from .watches import Watches


class Store:
    """All of it. `apply` and `restore` change it; everything else looks."""

    def __init__(self) -> None:
        self.revision = 0
        self.time_ns = 0
        self._set_up(Items(), Leases(), Backlog())
        self._operations: dict[type, Callable[[Any], Any]] = {
            op.Put: self._put, op.CompareAndSet: self._compare_and_set, op.Delete: self._delete,
            op.Transaction: self._transact, op.Grant: self._grant, op.KeepAlive: self._keep_alive,
            op.Revoke: self._revoke,
        }  # fmt: skip
        self._questions: dict[type, Callable[[Any], Any]] = {
            op.Get: self._get, op.Range: self._range, op.Oldest: self._oldest, op.Newest: self._newest,
            op.Count: self._count, op.GetLease: self._get_lease, op.GetLeases: self._get_leases,
            op.GetStatus: self._get_status,
        }  # fmt: skip
        self._plans: dict[type, Callable[[Any], Any]] = {
            op.Put: self._plan_put, op.Delete: self._plan_delete, op.Get: self._get, op.Range: self._range,
            op.Oldest: self._oldest, op.Newest: self._newest,
        }  # fmt: skip

    def _set_up(self, items: Items, leases: Leases, backlog: Backlog) -> None:
        self.items, self.leases, self.backlog = items, leases, backlog
        self._watches = Watches(backlog)

    # --- a state machine
    def apply(self, entries: Sequence[Entry]) -> list[bytes]:
        """Make the changes of these entries; the answer to each."""
        self.backlog.trim()
        if entries:
            self._begin(entries[0])
        return [self._apply(entry) for entry in entries]

    def _begin(self, entry: Entry) -> None:
        """It is later now. What ends by it, ends under the revision of this entry, before that is made."""
        self.revision, self.time_ns = entry.index, entry.time_ns
        if 0 < self.leases.due_ns <= entry.time_ns:
            for lease in self.leases.due(entry.time_ns):
                self._remove(self.leases.end(lease))

    def _apply(self, entry: Entry) -> bytes:
        body = entry.body
        self.revision = entry.index
        try:
            operation = op.decode_operation(body)
            return encode(self._operations[operation.__class__](operation))
        except Refused as error:
            return encode(op.Denied(self.revision, error.wire, str(error)))
        except UNDECODABLE as error:
            if not body:
                return b""
            return encode(op.Denied(self.revision, Refused.wire, f"this is nothing that the store does: {error}"))

    def end_session(self, session: int) -> None:
        """Nothing here is a session's: what should go away with its client has a lease."""

    def query(self, body: bytes) -> bytes:
        """Answer a question of `operations`. Raises `Refused`."""
        try:
            question = op.decode_question(body)
        except UNDECODABLE as error:
            raise Refused(f"this is no question to the store: {error}") from None
        return encode(self._questions[question.__class__](question))

    def events(self) -> list[Told]:
        """The answers to watches that follow from what was applied since the last call."""
        return self._watches.told(self.revision)

    def snapshot(self) -> Generator[bytes]:
        """The state as it is at this call, in parts. One at a time; `close` it to give it up."""
        return freeze(self.revision, self.time_ns, self.leases, self.backlog, self.items)

    def restore(self, parts: Iterable[bytes]) -> None:
        """Take over the state of a snapshot. Raises `Corrupt`; then nothing has changed."""
        restored = restore(parts)
        self.revision, self.time_ns = restored.head.revision, restored.head.time_ns
        self._set_up(restored.items, restored.leases, restored.backlog)

    def digest(self) -> int:
        """64 bits that are equal for equal states."""
        whole = self.items.weight + self.leases.weight + weight((self.revision, self.time_ns, self.backlog.compacted))
        return whole & 0xFFFF_FFFF_FFFF_FFFF

    # --- what ends by itself
    @property
    def due_ns(self) -> int:
        """When the next lease ends, by the time of entries; 0: none does."""
        return self.leases.due_ns

    # --- watches
    def watch(self, token: int, body: bytes) -> bytes | None:
        """Answer a `WatchFrom` now, or with `events`. Raises `Refused`."""
        try:
            watch = op.decode_watch(body)
        except UNDECODABLE as error:
            raise Refused(f"this is no watch: {error}") from None
        known = self._watches.add(token, watch, self.revision)
        return None if known is None else encode(known)

    def unwatch(self, token: int) -> None:
        """That watch need not be answered."""
        self._watches.remove(token)

    # --- puts
    def _put(self, put: op.Put) -> op.Written:
        was = self.items.by_key.get(put.key)
        self._check_put(put.key, put.value, put.lease, was)
        self._write(put.key, put.value, put.lease, was)
        return op.Written(self.revision, was if put.previous else None)

    def _check_put(self, key: bytes, value: bytes, lease: int, was: op.Item | None) -> None:
        """Raises what keeps this put from being made."""
        items = self.items
        grows = len(value) - len(was.value) if was is not None else len(key) + len(value)
        if grows > 0 and items.size + grows > op.STORE_SIZE_MAX:
            raise _full(items.size)
        if lease and (was is None or was.lease != lease):
            self.leases.check_room(lease)

    def _write(self, key: bytes, value: bytes, lease: int, was: op.Item | None) -> None:
        revision = self.revision
        if was is None:
            item = op.Item(key, value, revision, revision, 1, lease)
            if lease:
                self.leases.attach(key, lease)
        else:
            # The key object of the dictionary is used again: one is enough.
            key = was.key
            item = op.Item(key, value, was.created, revision, was.version + 1, lease)
            if lease != was.lease:
                self._change_lease(key, was.lease, lease)
        self.items.put(item, was)
        self.backlog.add(item)

    def _change_lease(self, key: bytes, before: int, after: int) -> None:
        if before:
            self.leases.detach(key, before)
        if after:
            self.leases.attach(key, after)

    def _compare_and_set(self, change: op.CompareAndSet) -> op.Swapped:
        was = self.items.by_key.get(change.key)
        if (None if was is None else was.value) != change.expected:
            return op.Swapped(self.revision, False, was)
        self._check_put(change.key, change.value, change.lease, was)
        self._write(change.key, change.value, change.lease, was)
        return op.Swapped(self.revision, True)

    # --- deletions
    def _delete(self, delete: op.Delete) -> op.Deleted:
        keys, more = self._doomed(delete)
        answer = self._deleted(delete, keys, more)
        self._remove(keys)
        return answer

    def _doomed(self, delete: op.Delete) -> tuple[list[bytes], bool]:
        """The keys that it deletes, and whether its limit leaves some. Raises `TooMuch`."""
        limit = delete.limit or op.DELETE_KEYS_MAX
        keys = list(islice(self.items.keys(delete.key, delete.end), limit + 1))
        more = len(keys) > limit
        if more and not delete.limit:
            raise op.TooMuch(f"the range has more than {limit} keys; delete them with a limit, until there are no more")
        return keys[:limit], more

    def _deleted(self, delete: op.Delete, keys: list[bytes], more: bool) -> op.Deleted:
        previous = tuple([self.items.by_key[key] for key in keys]) if delete.previous else ()
        if size_of(previous) > op.ANSWER_SIZE_MAX:
            raise op.TooMuch(f"previous values have more than {op.ANSWER_SIZE_MAX} bytes; delete them with a limit")
        return op.Deleted(self.revision, len(keys), more, previous)

    def _remove(self, keys: list[bytes]) -> None:
        """These keys go, if they are there."""
        for key in keys:
            was = self.items.by_key.get(key)
            if was is not None:
                self.items.remove(was)
                if was.lease:
                    self.leases.detach(key, was.lease)
                self.backlog.add(op.Item(key, b"", 0, self.revision, 0))

    # --- transactions
    def _transact(self, transaction: op.Transaction) -> op.Done:
        """All that can be refused is found out first; then the steps are done."""
        check(transaction)
        by_key = self.items.by_key
        succeeded = all(holds(condition, by_key.get(condition.key)) for condition in transaction.conditions)
        steps = transaction.success if succeeded else transaction.failure
        doomed = [self._doomed(step)[0] for step in steps if isinstance(step, op.Delete)]
        answers = self._plan(steps)
        for keys in doomed:
            self._remove(keys)
        for step in steps:
            if isinstance(step, op.Put):
                self._write(step.key, step.value, step.lease, by_key.get(step.key))
        return op.Done(self.revision, succeeded, answers)

    def _plan(self, steps: tuple[op.Step, ...]) -> tuple[Any, ...]:
        """The answers to steps, of the state before them. Raises what keeps one of them from being done."""
        puts = [step for step in steps if isinstance(step, op.Put)]
        if puts:
            self._check_puts(puts)
        answers = []
        size = 0
        for step in steps:
            answer = self._plans[step.__class__](step)
            answers.append(answer)
            size += _answer_size(answer)
            if size > op.ANSWER_SIZE_MAX:
                raise op.TooMuch(f"the answers have more than {op.ANSWER_SIZE_MAX} bytes; ask for less at once")
        return tuple(answers)

    def _check_puts(self, puts: list[op.Put]) -> None:
        """What one put alone cannot see: what they take together."""
        size = sum([len(put.key) + len(put.value) for put in puts])
        if self.items.size + size > op.STORE_SIZE_MAX:
            raise op.StoreFull(
                f"the store holds {self.items.size} bytes of {op.STORE_SIZE_MAX}: delete some keys first"
            )
        counts: dict[int, int] = {}
        for put in puts:
            counts[put.lease] = counts.get(put.lease, 0) + 1
        for lease, count in counts.items():
            if lease:
                self.leases.check_room(lease, count)

    def _plan_put(self, put: op.Put) -> op.Written:
        return op.Written(self.revision, self.items.by_key.get(put.key) if put.previous else None)

    def _plan_delete(self, delete: op.Delete) -> op.Deleted:
        return self._deleted(delete, *self._doomed(delete))

    # --- leases
    def _grant(self, grant: op.Grant) -> op.Granted:
        self.leases.grant(self.revision, grant.ttl_ns, self.time_ns)
        return op.Granted(self.revision, self.revision, grant.ttl_ns)

    def _keep_alive(self, keep: op.KeepAlive) -> op.Granted:
        held = self.leases.keep(keep.lease, self.time_ns)
        return op.Granted(self.revision, held.lease, held.ttl_ns)

    def _revoke(self, revoke: op.Revoke) -> op.Deleted:
        keys = self.leases.end(revoke.lease)
        self._remove(keys)
        return op.Deleted(self.revision, len(keys))

    # --- questions
    def _get(self, question: op.Get) -> op.Found:
        return op.Found(self.revision, self.items.by_key.get(question.key))

    def _range(self, question: op.Range) -> op.Page:
        return page(self.items, question, self.revision)

    def _oldest(self, question: op.Oldest) -> op.Found:
        return op.Found(self.revision, oldest(self.items, question))

    def _newest(self, question: op.Newest) -> op.Found:
        return op.Found(self.revision, newest(self.items, question))

    def _count(self, question: op.Count) -> op.Counted:
        return op.Counted(self.revision, self.items.count(question.key, question.end))

    def _get_lease(self, question: op.GetLease) -> op.Lease:
        held = self.leases.find(question.lease)
        left_ns = max(0, held.expires_ns - self.time_ns)
        return op.Lease(self.revision, held.lease, held.ttl_ns, left_ns, tuple(self.leases.keys(held.lease)))

    def _get_leases(self, question: op.GetLeases) -> op.Leases:
        behind = [lease for lease in self.leases.by_id if lease > question.after]
        return op.Leases(self.revision, tuple(behind[: question.limit]), len(behind) > question.limit)

    def _get_status(self, question: op.GetStatus) -> op.Status:  # noqa: ARG002 - as all questions
        return op.Status(
            self.revision,
            self.backlog.compacted,
            self.time_ns,
            len(self.items.by_key),
            self.items.size,
            len(self.leases.by_id),
            len(self.backlog.changes),
            self.digest(),
        )


def _answer_size(answer: Any) -> int:
    match answer:
        case op.Found():
            return size_of((answer.item,))
        case op.Written():
            return size_of((answer.previous,))
        case op.Page():
            return size_of(answer.items)
    return size_of(answer.previous)


def _full(size: int) -> op.StoreFull:
    return op.StoreFull(f"the store holds {size} bytes of {op.STORE_SIZE_MAX}: delete some keys first")
