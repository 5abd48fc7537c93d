"""What a client may rely on within its session, however far replicas are apart (Terry et al. 1994).

- *Read your writes*: a read sees every write that its client completed before.
- *Monotonic reads*: a read sees every write that an earlier read of its client saw.
- *Monotonic writes*: who sees a write, sees all that its client wrote before it, and in that order.
- *Writes follow reads*: who sees a write, sees all that its client had read from before it, and in that order.

All four together are causal consistency (Brzezinski et al. 2004). The order of the writes to one key is taken to be the
same everywhere (Burckhardt 2014, arbitration); no order is demanded between keys. A read shows what it saw when every
write to its key has a value of its own: it saw that write, whatever that one brought along, and nothing to that key
that is later. So each read gives facts of the form "this write was before that one", and a circle of them is a
violation. Reads that no write explains, or only one that was asked for later, are violations of all four.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from zactor.errors import UserError
from zactor.judges.counterexample import reduced
from zactor.judges.history import Operation
from zactor.judges.verdict import Verdict

READ_YOUR_WRITES = "read-your-writes"
MONOTONIC_READS = "monotonic-reads"
MONOTONIC_WRITES = "monotonic-writes"
WRITES_FOLLOW_READS = "writes-follow-reads"
GUARANTEES = (READ_YOUR_WRITES, MONOTONIC_READS, MONOTONIC_WRITES, WRITES_FOLLOW_READS)

_READS = frozenset({"read", "get"})
_WRITES = frozenset({"write", "put", "delete"})

_INITIAL = -1
"""The source of a read that found nothing written."""


def judge_sessions(operations: Sequence[Operation], guarantees: Collection[str]) -> Verdict:
    """Judge reads and writes. Raises `UserError` for operations that are neither."""
    judged = [operation for operation in operations if operation.outcome != "failed"]
    for operation in judged:
        if operation.call.function not in _READS | _WRITES:
            known = ", ".join(sorted(_READS | _WRITES))
            raise UserError(f"sessions are judged by {known}; operation {operation.id} is '{operation.call}'")
    sources, doubtful = {}, 0
    for read in judged:
        if read.call.function in _READS and read.completed is not None:
            found = _sources(read, judged)
            if not found:
                return Verdict("violation", "nobody had asked to write what this operation read", (read,))
            if len(found) == 1:
                sources[read.id] = found[0]
            doubtful += len(found) > 1
    if _contradicts(judged, sources, guarantees):
        evidence = tuple(reduced(judged, lambda some: _contradicts(some, sources, guarantees)))
        return Verdict("violation", f"these {len(evidence)} operations break {_listed(guarantees)}", evidence)
    if doubtful:
        because = f"{doubtful} reads do not show which write they saw: give every write to a key a value of its own"
        return Verdict("unknown", because)
    return Verdict("ok", f"{len(operations)} operations keep {_listed(guarantees)}")


def _sources(read: Operation, operations: Sequence[Operation]) -> list[int]:
    """The ids of the writes that a read can have seen."""
    assert read.completed is not None, read
    found = [_INITIAL] if read.call.result is None else []
    for write in operations:
        same = write.call.function in _WRITES and write.call.key == read.call.key and write.invoked < read.completed
        if same and _written(write) == read.call.result:
            found.append(write.id)
    return found


def _written(write: Operation) -> object:
    return None if write.call.function == "delete" else write.call.arguments[0]


def _contradicts(operations: Sequence[Operation], sources: Mapping[int, int], guarantees: Collection[str]) -> bool:
    """Whether what the reads saw of these writes makes a circle."""
    facts = _Facts(guarantees)
    events = [(operation.invoked, operation, True) for operation in operations]
    events += [(each.completed, each, False) for each in operations if each.completed is not None]
    for _, operation, begins in sorted(events, key=lambda event: event[0]):
        if operation.call.function in _WRITES:
            (facts.write_begins if begins else facts.write_ends)(operation)
        elif begins:
            facts.read_begins(operation)
        else:
            facts.read_ends(operation, sources.get(operation.id))
    return facts.wrong or facts.circle()


class _Facts:
    """What follows from operations, in the order of events. Sets of writes are numbers with a bit for each."""

    def __init__(self, guarantees: Collection[str]) -> None:
        self._guarantees = guarantees
        self._bits: dict[int, int] = {}
        self._of_key: dict[str, int] = {}
        # By client: the writes that it completed, and those that its reads saw, each with what they brought along.
        self._own: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        # By write: what it brings along, and what was before it.
        self._along: dict[int, int] = {}
        self._before: dict[int, int] = {}
        # By read that is under way: what it has to see.
        self._due: dict[int, int] = {}
        self.wrong = False

    def write_begins(self, write: Operation) -> None:
        bit = 1 << len(self._bits)
        self._bits[write.id] = bit
        key = write.call.key
        along = self._of(self._own, write, MONOTONIC_WRITES) | self._of(self._seen, write, WRITES_FOLLOW_READS)
        self._along[bit] = along
        self._before[bit] = along & self._of_key.get(key, 0)
        self._of_key[key] = self._of_key.get(key, 0) | bit

    def write_ends(self, write: Operation) -> None:
        bit = self._bits[write.id]
        self._own[write.client] = self._own.get(write.client, 0) | bit | self._along[bit]

    def read_begins(self, read: Operation) -> None:
        self._due[read.id] = self._of(self._own, read, READ_YOUR_WRITES) | self._of(self._seen, read, MONOTONIC_READS)

    def read_ends(self, read: Operation, source: int | None) -> None:
        sees = self._due.pop(read.id)
        bit = 0 if source is None or source == _INITIAL else self._bits.get(source, 0)
        if bit:
            sees |= bit | self._along[bit]
            self._before[bit] |= sees & self._of_key[read.call.key] & ~bit
        elif source == _INITIAL and sees & self._of_key.get(read.call.key, 0):
            self.wrong = True
        self._seen[read.client] = self._seen.get(read.client, 0) | sees

    def circle(self) -> bool:
        """Whether writes come before themselves."""
        left = dict(self._before)
        while left:
            all_left = sum(left)
            first = [bit for bit, before in left.items() if not before & all_left]
            if not first:
                return True
            for bit in first:
                del left[bit]
        return False

    def _of(self, writes: Mapping[str, int], operation: Operation, guarantee: str) -> int:
        return writes.get(operation.client, 0) if guarantee in self._guarantees else 0


def _listed(guarantees: Collection[str]) -> str:
    return ", ".join(guarantee for guarantee in GUARANTEES if guarantee in guarantees)
