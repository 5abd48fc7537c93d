"""A namespace of very many files, made in a process of its own: what each of them takes of memory, and a snapshot.

Run as `python -m tests.bench.namespace FOLDER COUNT`: prints bytes a file, and leaves in FOLDER what a metadata server
starts from. Each file has one small chunk on three servers, which nobody has ever heard of again.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from nodes.files import operations as op
from nodes.files.namespace import Namespace
from tests.bench.content import SMALL
from tests.bench.costs import memory_bytes
from tests.bench.folder import Folder
from zactor.message import encode
from zactor.replication.messages import Submit
from zactor.replication.sessions import Sessions, encode_change, encode_open, encode_own
from zactor.replication.storage import Storage

SERVERS = ("gone/0", "gone/1", "gone/2")
FILES_IN_FOLDER = 1_000
BATCH = 64
CAPACITY = 1 << 44
CHUNK_SIZE = 64 << 20
SECOND_NS = 10**9


class Log:
    """What a host does: indices for records, and their answers."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.index = 0
        self._session = 0
        self._sequence = 0

    def open(self) -> None:
        """The session of all that is submitted."""
        (answer,) = self._apply(encode_open())
        assert isinstance(answer, int)
        self._session = answer

    def own(self, *operations: op.Operation) -> None:
        """Changes by the host itself."""
        self._outcomes(self._apply(encode_own(encode(operations))))

    def submit(self, operations: Sequence[op.Operation]) -> tuple[op.Outcome, ...]:
        """Changes by the client."""
        self._sequence += 1
        submit = Submit(
            session=self._session,
            sequence=self._sequence,
            acknowledged_below=self._sequence,
            bodies=(encode(tuple(operations)),),
        )
        return self._outcomes(self._apply(encode_change(submit)))

    def _apply(self, record: bytes) -> Sequence[object]:
        self.index += 1
        answers, _ = self.sessions.apply(self.index, self.time_ns, (record,))
        return answers

    @property
    def time_ns(self) -> int:
        """Of the last record: a millisecond each, as if it had been long."""
        return self.index * 10**6

    @staticmethod
    def _outcomes(answers: Sequence[object]) -> tuple[op.Outcome, ...]:
        (answer,) = answers
        if isinstance(answer, tuple):
            (answer,) = answer
        assert isinstance(answer, bytes)
        outcomes: tuple[op.Outcome, ...] = op.decode_outcomes(answer)
        for outcome in outcomes:
            if isinstance(outcome, op.Denied):
                raise RuntimeError(f"{outcome.error}: {outcome.text}")
        return outcomes


def path_of(number: int) -> str:
    """Where a file is."""
    return f"/folder-{number // FILES_IN_FOLDER:04}/file-{number:07}.dat"


def fill(log: Log, count: int) -> None:
    """Make that many files, as clients that store small files do: begun in batches, each committed."""
    log.own(op.Format(volume=1), op.Configure(copies=len(SERVERS), chunk_size=CHUNK_SIZE))
    for number, server in enumerate(SERVERS):
        log.own(op.Report(server, number + 1, "", CAPACITY, 0, CAPACITY))
    log.open()
    for first in range(0, count, FILES_IN_FOLDER):
        log.submit([op.MakeFolder(path_of(first).rpartition("/")[0])])
    for numbers in _batches(count):
        (begun,) = log.submit([op.Begin((len(SMALL),) * len(numbers))])
        assert isinstance(begun, op.Begun)
        log.submit([_commit(number, begun, place) for place, number in enumerate(numbers)])
        log.sessions.machine.events()


def _batches(count: int) -> Iterator[range]:
    for first in range(0, count, BATCH):
        yield range(first, min(first + BATCH, count))


def _commit(number: int, begun: op.Begun, place: int) -> op.Commit:
    chain = begun.places[place]
    crc = number * 0x9E3779B1 & 0xFFFFFFFF  # as different as those of different files
    sealed = op.SealedChunk(len(SMALL), crc, chain.version, chain.servers)
    return op.Commit(begun.inodes[place], path_of(number), len(SMALL), crc, (sealed,))


async def store(log: Log, folder: Path) -> None:
    """Write a snapshot of all of it, as a host does."""
    storage = Storage(Folder(folder))
    await storage.recover(lambda _: None)
    await storage.prepare()
    storage.index, storage.time_ns = log.index, log.time_ns
    await storage.write_snapshot(storage.switch(), log.sessions.snapshot())


def main() -> None:
    """Fill, measure, store."""
    _, where, count = sys.argv
    log = Log(Sessions(Namespace()))
    gc.collect()
    before = memory_bytes(os.getpid())
    fill(log, int(count))
    gc.collect()
    print((memory_bytes(os.getpid()) - before) / int(count))
    asyncio.run(store(log, Path(where)))


if __name__ == "__main__":
    main()
