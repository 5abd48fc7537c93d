"""Snapshots of the namespace: a state that stands still, and comes back whole, or is refused."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from nodes.files import operations as op
from nodes.files import tables
from nodes.files.namespace import Namespace
from tests.nodes.files.machine import MIB, Machine, apply_to, expected, restored
from zactor.errors import Corrupt
from zactor.message import encode

SPACE = encode(op.GetSpace())
ROOT = Path(__file__).parents[3]


class Busy:
    """Clients who do all that there is to do, by chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.machine = Machine()
        self.machine.servers("a", "a", "b", "c", room=1 << 50)
        self.open: list[tuple[int, op.Commit]] = []

    def path(self) -> str:
        chance = self.chance
        return "".join(f"/{chance.choice('abcdef')}" for _ in range(chance.choice([1, 2, 2, 3])))

    def step(self) -> None:
        chance, machine = self.chance, self.machine
        session = chance.choice([1, 2, 3])
        match chance.randrange(14):
            case 0 | 1:
                machine.all(op.MakeFolder(self.path(), parents=True), session=session)
            case 2 | 3 | 4:
                commit = machine.written(chance.choice([0, 9, 2 * MIB + 1]), self.path(), session)
                self.open.append((session, commit))
            case 5 | 6 | 7 if self.open:
                session, commit = self.open.pop(chance.randrange(len(self.open)))
                machine.all(commit, session=session)
            case 8:
                machine.all(op.Remove(self.path()), op.MakeLink(self.path(), self.path()), session=session)
            case 9:
                machine.all(op.Rename(self.path(), self.path()), op.SetMode(self.path(), 0o611), session=session)
            case 10 | 11:
                key = chance.choice(list(machine.namespace.tables.entries) or [b""])
                pinned = machine.all(op.Pin(machine.namespace.tree.path_of(key) if key else "/"), session=session)[0]
                if isinstance(pinned, op.Content) and chance.random() < 0.5:
                    machine.all(op.Unpin(pinned.stat.inode), session=session)
            case 12 if chance.random() < 0.1:
                machine.end(session)
                self.open = [held for held in self.open if held[0] != session]
            case _:
                self.serve()

    def serve(self) -> None:
        chance, machine = self.chance, self.machine
        number = chance.randrange(4)
        for lost in machine.namespace.servers.table:
            if not lost.is_up:
                machine.do(op.Report(lost.name, lost.store, lost.zone, 1 << 50, 0, 1 << 50), 0)
        machine.do(op.Lost(f"s{number}"), 0)
        for chunk in machine.namespace.scan(b"", 1_000).chunks[:1]:
            to = machine.namespace.place_copy(chunk.chunk, chunk.size, chunk.servers)
            if to is not None:
                inode, index = chunk.chunk >> 16, chunk.chunk & 0xFFFF
                machine.do(op.Relocate(inode, index, chunk.servers, (to, *chunk.servers[1:])), 0)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()


@pytest.mark.parametrize("seed", range(6))
def test_a_snapshot_is_the_state_at_its_call_whatever_changes_meanwhile(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BLOCK_ENTRIES", 3)
    busy = Busy(seed)
    namespace = busy.machine.namespace
    for _ in range(8):
        busy.run(200)
        digest, held, space = namespace.digest(), expected(namespace), namespace.query(SPACE)
        parts: list[bytes] = []
        for part in namespace.snapshot():
            parts.append(part)
            busy.run(busy.chance.randrange(12))
        again = restored(parts)
        assert again.digest() == digest
        assert again.query(SPACE) == space
        assert expected(again) == held
    assert len(parts) > 20, "changes fell between the parts"


@pytest.mark.parametrize("seed", range(4))
def test_a_restored_namespace_goes_on_as_the_first_one(seed: int) -> None:
    busy = Busy(seed)
    busy.run(1_000)
    machine, second = busy.machine, busy.machine.restored()
    assert len(machine.namespace.writes.puts) > 2
    assert machine.namespace.pins.counts
    machine.namespace.events()
    seen = len(machine.log)
    busy.run(300)
    for session in (1, 2, 3):
        machine.end(session)

    for entry, answer in zip(machine.log[seen:], machine.answers[seen:], strict=True):
        assert apply_to(second, entry) == answer
    assert second.events() == machine.namespace.events()
    assert second.digest() == machine.namespace.digest()
    assert expected(second) == expected(machine.namespace)
    # With the last session all that it held is free.
    assert [load.reserved for load in second.servers.loads] == [0] * 4
    assert len(second.tables.leaves) + len(second.tables.folders) == len(second.tables.entries) + 1


def test_a_snapshot_can_be_given_up() -> None:
    busy = Busy(1)
    busy.run(300)
    namespace = busy.machine.namespace
    unread = namespace.snapshot()
    unread.close()  # type: ignore[attr-defined]
    begun = namespace.snapshot()
    next(begun)
    next(begun)
    begun.close()  # type: ignore[attr-defined]

    assert restored(list(namespace.snapshot())).digest() == namespace.digest()


def test_a_digest_is_taken_while_a_snapshot_is_under_way() -> None:
    busy = Busy(2)
    busy.run(300)
    namespace = busy.machine.namespace
    digest = namespace.digest()
    parts = namespace.snapshot()
    first = next(parts)

    assert namespace.digest() == digest
    assert restored([first, *parts]).digest() == digest


def test_an_empty_namespace_comes_back() -> None:
    namespace = Namespace()

    assert restored(list(namespace.snapshot())).digest() == namespace.digest()


def test_other_states_have_other_digests() -> None:
    machine = Machine()
    machine.servers("", "")
    digests = {machine.namespace.digest()}
    for change in (
        op.MakeFolder("/a"), op.Create("/a/x"), op.SetMode("/a", 0o700), op.MakeLink("/l", "x"), op.Begin((5,)),
        op.Pin("/a/x"), op.Rename("/a", "/b"), op.Remove("/l"),
    ):  # fmt: skip
        machine.do(change)
        digests.add(machine.namespace.digest())
    machine.do(op.Lost("s0"), 0)

    assert len(digests | {machine.namespace.digest()}) == 10


def test_a_part_of_a_snapshot_is_not_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "PART_SIZE", 2_000)
    busy = Busy(3)
    busy.run(2_000)
    parts = list(busy.machine.namespace.snapshot())

    assert max(map(len, parts)) < 3_000, "one thing more than fits"
    assert restored(parts).digest() == busy.machine.namespace.digest()


def test_a_snapshot_that_is_not_whole_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BLOCK_ENTRIES", 3)
    busy = Busy(3)
    busy.run(500)
    parts = list(busy.machine.namespace.snapshot())

    assert [part[1] for part in parts[:5]] == [0, 1, 2, 3, 4], "a part of each kind"
    for missing in range(len(parts)):
        with pytest.raises(Corrupt):
            restored(parts[:missing] + parts[missing + 1 :])
    for damaged in ([*parts, b"\x00"], [*parts, parts[0]], [*parts, parts[-1][:-1]]):
        with pytest.raises(Corrupt):
            restored(damaged)
    with pytest.raises(Corrupt, match="format 99"):
        restored([parts[0].replace(b"\x01", b"\x63", 1), *parts[1:]])


def test_the_order_of_hashes_makes_no_difference() -> None:
    program = (
        "from tests.nodes.files.test_snapshots import Busy; busy = Busy(5); busy.run(1_000); "
        "print(busy.machine.namespace.digest(), zlib.crc32(b''.join(busy.machine.answers)))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", f"import zlib; {program}"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            check=True,
            capture_output=True,
        ).stdout
        for seed in "12"
    }

    assert len(said) == 1
