"""A namespace with a log in a list: changes and questions as a test writes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nodes.files import operations as op
from nodes.files.namespace import Namespace
from zactor.errors import Failure
from zactor.message import encode
from zactor.statemachine import Entry

MIB = 1 << 20
CLIENT = 1
"""The session of who asks, unless a test says otherwise."""


class Machine:
    """Applies changes as entries of a log, one after the other."""

    def __init__(self) -> None:
        self.namespace = Namespace()
        self.log: list[Entry | int] = []
        """Entries, and sessions that ended."""
        self.answers: list[bytes] = []

    def all(self, *changes: op.Change, session: int = CLIENT) -> tuple[Any, ...]:
        """The outcomes of changes in one body."""
        index = len(self.log) + 1
        self.log.append(Entry(index, index * 1_000, session, encode(changes)))
        self.answers.append(apply_to(self.namespace, self.log[-1]))
        outcomes: tuple[Any, ...] = op.decode_outcomes(self.answers[-1])
        return outcomes

    def end(self, session: int) -> None:
        """A session is over."""
        self.log.append(session)
        self.answers.append(apply_to(self.namespace, session))

    def do(self, change: op.Change, session: int = CLIENT) -> Any:
        """The outcome of a change; what it was denied with is raised."""
        (outcome,) = self.all(change, session=session)
        if isinstance(outcome, op.Denied):
            raise Failure.from_wire(outcome.error, outcome.text, "")
        return outcome

    def ask(self, question: op.Question) -> Any:
        """The answer to a question."""
        return op.decode_answer(self.namespace.query(encode(question)))

    # --- shorter words
    def servers(self, *zones: str, room: int = 1 << 40, copies: int = 2, chunk_size: int = MIB) -> None:
        """Servers `s0`, `s1`, ... in these zones, and how many copies there are to be."""
        self.do(op.Configure(copies, chunk_size), 0)
        for number, zone in enumerate(zones):
            self.do(op.Report(f"s{number}", 100 + number, zone, room, 0, room), 0)

    def put(self, path: str, size: int = 10, session: int = CLIENT, **more: Any) -> op.Stat:
        """A file of that size, written to where it was placed."""
        stat: op.Stat = self.do(self.written(size, path, session, **more), session)
        return stat

    def written(self, size: int, path: str, session: int = CLIENT, **more: Any) -> op.Commit:
        """The commit of a put that stored all that it was to."""
        begun = self.do(op.Begin((size,)), session)
        chunk_size = begun.chunk_size
        sizes = [min(chunk_size, size - start) for start in range(0, size, chunk_size)]
        places = [self.do(op.Allocate(begun.inodes[0], index, part), session) for index, part in enumerate(sizes)]
        chunks = tuple(
            op.SealedChunk(part, 0xC0DE + index, place.version, place.servers)
            for index, (part, place) in enumerate(zip(sizes, places, strict=True))
        )
        return op.Commit(begun.inodes[0], path, size, 0xFEED, chunks, **more)

    def names(self, path: str = "/", page: int = 2) -> list[str]:
        """All names in a folder, by pages."""
        found: list[str] = []
        more = True
        while more:
            answer = self.ask(op.GetPage(path, found[-1] if found else "", page))
            found += [stat.name for stat in answer.items]
            more = answer.more
        return found

    def freed(self) -> list[tuple[int, tuple[str, ...]]]:
        """The chunks that were freed since this was last asked, and their servers."""
        return [(freed.chunk, freed.servers) for freed in self.namespace.events()]

    def restored(self) -> Namespace:
        """Another namespace that was restored from a snapshot of this one."""
        return restored(list(self.namespace.snapshot()))


def apply_to(namespace: Namespace, entry: Entry | int) -> bytes:
    """Apply what stands in the log of a `Machine`."""
    if isinstance(entry, Entry):
        return namespace.apply([entry])[0]
    namespace.end_session(entry)
    return b""


def restored(parts: Iterable[bytes]) -> Namespace:
    """A namespace from a snapshot."""
    namespace = Namespace()
    namespace.restore(parts)
    return namespace


def expected(namespace: Namespace) -> list[tuple[int, ...]]:
    """What each server should hold."""
    return [namespace.expected(server.name) for server in namespace.servers.table]
