"""A store by hand: operations in, outcomes out, each an entry of the log."""

from __future__ import annotations

from typing import Any

from nodes.kv import operations as op
from nodes.kv.store import Store
from zactor.errors import Failure
from zactor.message import encode
from zactor.statemachine import Entry

S = 10**9


class Machine:
    """The store, and the log that it was given. `index` grows by 3: there are entries that are none of its own."""

    def __init__(self) -> None:
        self.store = Store()
        self.batches: list[list[Entry]] = []
        self.index = 0
        self.time_ns = S
        self.told: dict[int, op.Changes] = {}

    def batch(self, *operations: op.Operation | bytes) -> list[Any]:
        """Make changes in one batch. Returns their outcomes."""
        entries = []
        for operation in operations:
            self.index += 3
            body = operation if isinstance(operation, bytes) else encode(operation)
            entries.append(Entry(self.index, self.time_ns, 1, body))
        self.batches.append(entries)
        answers = self.store.apply(entries)
        for told in self.store.events():
            self.told[told.token] = op.decode_changes(told.answer)
        return [op.decode_outcome(answer) if answer else None for answer in answers]

    def do(self, operation: op.Operation | bytes) -> Any:
        """Make one change."""
        (outcome,) = self.batch(operation)
        return outcome

    def put(self, key: bytes, value: bytes = b"", lease: int = 0) -> int:
        """Returns the revision."""
        outcome = self.do(op.Put(key, value, lease))
        assert isinstance(outcome, op.Written), outcome
        return outcome.revision

    def wait(self, seconds: float) -> None:
        """Time passes, and an entry of the host says so."""
        self.time_ns += int(seconds * S)
        self.do(b"")

    def ask(self, question: op.Question) -> Any:
        """Ask a question."""
        return op.decode_answer(self.store.query(encode(question)))

    def get(self, key: bytes) -> op.Item | None:
        """What a key has."""
        item: op.Item | None = self.ask(op.Get(key)).item
        return item

    def keys(self, key: bytes = b"", end: bytes | None = b"") -> list[bytes]:
        """The keys of a range."""
        return [item.key for item in self.ask(op.Range(key, end)).items]

    def watch(self, token: int, key: bytes, end: bytes | None = None, start: int = 0) -> op.Changes | None:
        """Begin a watch; None: it waits."""
        answer = self.store.watch(token, encode(op.WatchFrom(key, end, start)))
        changes: op.Changes | None = None if answer is None else op.decode_changes(answer)
        return changes


def denied(outcome: Any) -> type[Failure]:
    """What an operation was denied with."""
    assert isinstance(outcome, op.Denied), outcome
    return type(Failure.from_wire(outcome.error, outcome.text, ""))


def restored(store: Store) -> Store:
    """Another one, with its state."""
    other = Store()
    other.restore(list(store.snapshot()))
    return other
