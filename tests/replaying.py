"""Records what one actor is fed and what it does, and re-executes that actor alone from the record.

The record is all that `zactor.kernel.Tap` shows. In the re-execution there is no other actor, no disk and no
network: whatever the actor sends is taken and forgotten, and all that it hears comes from the record. If
something fed an actor past the tap, its outputs would differ here.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from zactor.actor import Actor
from zactor.cell import NOTHING, Cell, Mail, RemoteAsk, Wait, chain_of, sender_name
from zactor.kernel import Kernel
from zactor.message import Ref
from zactor.sim.virtual import Virtual

ANSWERS = ("full", "unsent", "timer_cancelled", "spawned")
"""Inputs that answer, at once, what an actor does."""


class Recording:
    """A tap that keeps the inputs and the digests of the outputs of one actor."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[tuple[Any, ...]] = []
        self.outputs: list[tuple[str, int]] = []

    def input(self, cell: Cell, kind: str, *values: Any) -> None:
        if cell.name == self.name:
            self.inputs.append((kind, *(_copy(value) for value in values)))

    def output(self, cell: Cell, kind: str, digest: int) -> None:
        if cell.name == self.name:
            self.outputs.append((kind, digest))

    def kinds(self) -> set[str]:
        """The kinds of what was seen."""
        return {entry[0] for entry in self.inputs} | {entry[0] for entry in self.outputs}


def _copy(value: Any) -> Any:
    """Mail as a recording would hold it: without anything of the process that it came from."""
    if not isinstance(value, Mail):
        return value
    ask = value.ask
    known = None if ask is None else RemoteAsk("recorded", ask.id, ask.deadline_ns, chain_of(ask))
    return msgspec.structs.replace(value, sender=sender_name(value), ask=known)


class _Inputs(deque[Any]):
    """A cell's inputs; waits are looked up when their turn comes, as an input may answer what the one before asked."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self._kernel = kernel

    def popleft(self) -> tuple[Wait | None, Any, BaseException | None]:
        number, value, error = super().popleft()
        if number is None:
            return None, value, error
        wait = self._kernel.pending.pop(number)
        wait.cell.outstanding -= 1
        return wait, value, error


class Alone:
    """One actor in a kernel of its own, which takes everything and answers nothing."""

    def __init__(self, recording: Recording, kind: type[Actor], given: dict[str, Any], process: str, seed: int) -> None:
        self._answers = {each: deque(entry[1:] for entry in recording.inputs if entry[0] == each) for each in ANSWERS}
        self._recording = recording
        self._virtual = Virtual(seed)
        self._kernel = kernel = self._virtual.add(process)
        self.seen = Recording(recording.name)
        kernel.life.add(recording.name, kind, given)
        self._shut_the_doors()
        self._cell = kernel.cells[recording.name]
        kernel.tap = self.seen

    def _shut_the_doors(self) -> None:
        kernel: Any = self._kernel
        for part, names in (
            (kernel.mailroom, "answer cancel_ask control queue_up resume"),
            (kernel.neighbours, "watch unwatch notice"),
            (kernel.cycles, "suspended forget"),
            (kernel.world, "begin cancel wake alarm"),
        ):
            for name in names.split():
                setattr(part, name, lambda *_values: None)
        create = kernel.life._create

        def create_child(name: str, *values: Any) -> Cell:
            problem = self._answers["spawned"].popleft()[0]
            if problem is not None:
                raise problem
            kernel.cells.pop(name, None)
            cell: Cell = create(name, *values)
            return cell

        def cancel_timer(_cell: Cell, _token: int) -> bool:
            in_time: bool = self._answers["timer_cancelled"].popleft()[0]
            return in_time

        kernel.life._create = create_child
        kernel.life._spawn = lambda cell: Ref(cell.name)
        kernel.waits.cancel_timer = cancel_timer
        kernel.mailroom.deliver = self._deliver

    def _deliver(self, _target: Ref[Any], mail: Mail, wait: Wait | None) -> str | None:
        unsent, full = self._answers["unsent"], self._answers["full"]
        if unsent and unsent[0][0] == mail.id:
            if wait is not None:
                self._kernel.waits.forget(wait)
            raise unsent.popleft()[1]
        if full and full[0][0] == mail.id:
            problem: str = full.popleft()[1]
            return problem
        return None

    def run(self) -> list[tuple[str, int]]:
        """Feed it all that was recorded. Returns the digests of its outputs."""
        turns: list[list[tuple[Any, ...]]] = []
        for entry in self._recording.inputs:
            if entry[0] == "turn":
                turns.append([entry])
            elif entry[0] not in ANSWERS:
                turns[-1].append(entry)
        for turn, *inputs in turns:
            self._restore(*turn[1:])
            self._turn(inputs)
        return self.seen.outputs

    def _restore(self, sequence: int, token: int, stamp: int, now_ns: int) -> None:
        kernel = self._kernel
        kernel.sequence, kernel.waits.token, kernel.hlc, kernel.now_ns = sequence, token, stamp, now_ns
        self._virtual.now_ns = now_ns

    def _turn(self, inputs: list[tuple[Any, ...]]) -> None:
        kernel, cell = self._kernel, self._cell
        what = inputs[0][0] if inputs else ""
        if what == "boot":
            kernel.life._begin(cell)
        elif what == "stop":
            kernel.life.stop_now(cell, inputs[0][1])
        elif what == "child":
            kernel.life.failed(cell, NOTHING, inputs[0][1], "child")
        else:
            for entry in inputs:
                self._queue(*entry)
            kernel.hlc -= 1  # which the turn adds
            kernel._turn(cell)
            kernel.queue.clear()

    def _queue(self, kind: str, *values: Any) -> None:
        cell = self._cell
        if kind == "message":
            if not cell.mailbox:
                cell.mailbox = deque()
            cell.mailbox.append(msgspec.structs.replace(values[0]))
        elif kind == "timer":
            if cell.due is None:
                cell.due = deque()
            cell.due.append(msgspec.structs.replace(values[0], id=0))
        elif kind in ("settle", "synced"):
            if cell.inputs is None:
                cell.inputs = _Inputs(self._kernel)
            number, value, error = values if kind == "settle" else (None, *values)
            cell.inputs.append((number, value, error))
        elif kind == "cancel":
            self._kernel.direct(cell, "cancel", values[0])
        else:
            assert kind == "start", kind


def replayed(recording: Recording, kind: type[Actor], given: dict[str, Any], process: str, seed: int) -> list[Any]:
    """The digests of the outputs of an actor that is re-executed alone from a record of its inputs."""
    return Alone(recording, kind, given, process, seed).run()
