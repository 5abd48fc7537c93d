"""The programs find what they are there for: each mutant breaks one promise of the kernel, and its program notices."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance import on_sim, on_virtual
from tests.conformance.stage import Program
from zactor.actor import Up
from zactor.cell import NOTHING
from zactor.cycles import Cycles
from zactor.errors import Failure
from zactor.kernel import Kernel
from zactor.life import Life
from zactor.mailroom import Mailroom
from zactor.neighbours import Neighbours
from zactor.peer import Peer
from zactor.sim.virtual import Virtual
from zactor.sim.world import Knobs, ProcessWorld
from zactor.waits import Waits
from zactor.wire import Batch

Patch = pytest.MonkeyPatch
Mutant = Callable[[Patch], None]

MUTANTS: list[Any] = []


def found_by(program: str) -> Callable[[Mutant], Mutant]:
    def add(mutant: Mutant) -> Mutant:
        MUTANTS.append(pytest.param(program, mutant, id=f"{program}-{mutant.__name__}"))
        return mutant

    return add


def nothing(*_arguments: Any, **_options: Any) -> None:
    """What a mutant does instead."""


@found_by("timers")
def timers_fire_in_the_order_in_which_they_were_set(patch: Patch) -> None:
    after = Waits.after
    patch.setattr(Waits, "after", lambda self, cell, span_ns, message: after(self, cell, 0, message))


@found_by("timers")
def a_later_that_is_dropped_is_not_noticed(patch: Patch) -> None:
    patch.setattr(Kernel, "dropped", nothing)


@found_by("timers")
def errors_lose_their_type_on_the_way(patch: Patch) -> None:
    patch.setattr(Failure, "from_wire", lambda wire, text, detail: Failure(text, detail))


@found_by("timers")
def nested_asks_have_a_deadline_of_their_own(patch: Patch) -> None:
    ask = Kernel.ask

    def mutated(self: Kernel, *arguments: Any) -> Any:
        current, self.current = self.current, NOTHING
        try:
            return ask(self, *arguments)
        finally:
            self.current = current

    patch.setattr(Kernel, "ask", mutated)


@found_by("timers")
def nobody_looks_at_deadlines(patch: Patch) -> None:
    patch.setattr(Waits, "_expire", nothing)


@found_by("rings")
def a_ring_within_one_chain_is_left_to_the_probes(patch: Patch) -> None:
    patch.setattr(Cycles, "closes", nothing)


@found_by("rings")
def no_probe_is_sent(patch: Patch) -> None:
    patch.setattr(Cycles, "_probe", nothing)


@found_by("rings")
def every_ask_of_a_ring_fails(patch: Patch) -> None:
    break_one = Cycles._break

    def mutated(self: Cycles, ring: Any) -> None:
        for edge in ring:
            break_one(self, (edge,))

    patch.setattr(Cycles, "_break", mutated)


@found_by("crash")
def asks_of_a_lost_process_go_on_waiting(patch: Patch) -> None:
    lost = Neighbours.lost

    def mutated(self: Neighbours, *arguments: Any, **options: Any) -> None:
        kernel = self._kernel
        pending, kernel.pending = kernel.pending, {}
        lost(self, *arguments, **options)
        kernel.pending = pending

    patch.setattr(Neighbours, "lost", mutated)


@found_by("crash")
def watchers_are_not_told_of_a_return(patch: Patch) -> None:
    notice = Neighbours.notice

    def mutated(self: Neighbours, watcher: str, what: Any) -> None:
        if not isinstance(what, Up):
            notice(self, watcher, what)

    patch.setattr(Neighbours, "notice", mutated)


@found_by("crash")
def watchers_are_told_everything_twice(patch: Patch) -> None:
    notice = Life.notice

    def mutated(self: Life, *arguments: Any) -> None:
        notice(self, *arguments)
        notice(self, *arguments)

    patch.setattr(Life, "notice", mutated)


@found_by("flood")
def dead_letters_are_not_counted(patch: Patch) -> None:
    dead_letter = Kernel.dead_letter

    def mutated(self: Kernel, reason: str, *arguments: Any) -> None:
        dead_letter(self, reason, *arguments)
        self.dead[reason] -= 1

    patch.setattr(Kernel, "dead_letter", mutated)


@found_by("flood")
def who_finds_no_room_is_told_that_it_was_taken(patch: Patch) -> None:
    patch.setattr(Mailroom, "queue_up", lambda self, target, mail, wait: self._kernel.settle(wait, None, None))


@found_by("flood")
def the_last_frame_is_taken_first(patch: Patch) -> None:
    take = Mailroom._take

    def mutated(self: Mailroom, peer: Peer, frame: Any, size: int, blobs: Any) -> None:
        frame.letters.reverse()
        take(self, peer, frame, size, blobs)

    patch.setattr(Mailroom, "_take", mutated)


@found_by("mutual_flood")
def nobody_hears_that_there_is_room_again(patch: Patch) -> None:
    patch.setattr(Mailroom, "_on_resume", nothing)


@found_by("mutual_flood")
def a_frame_is_taken_twice(patch: Patch) -> None:
    take = Mailroom._take

    def mutated(self: Mailroom, peer: Peer, frame: Any, size: int, blobs: Any) -> None:
        take(self, peer, frame, size, blobs)
        if peer.mail.received == frame.sequence == 7:
            take(self, peer, frame, size, blobs)

    patch.setattr(Mailroom, "_take", mutated)


@found_by("mutual_flood")
def a_frame_is_lost(patch: Patch) -> None:
    take = Mailroom._take

    def mutated(self: Mailroom, peer: Peer, frame: Any, size: int, blobs: Any) -> None:
        if not (peer.mail.received == frame.sequence == 7):
            take(self, peer, frame, size, blobs)

    patch.setattr(Mailroom, "_take", mutated)


@found_by("actor_restart")
def a_restart_empties_the_mailbox(patch: Patch) -> None:
    suspend = Life._suspend

    def mutated(self: Life, cell: Any, *arguments: Any) -> None:
        cell.mailbox.clear()
        suspend(self, cell, *arguments)

    patch.setattr(Life, "_suspend", mutated)


@found_by("actor_restart")
def timers_outlive_their_actor(patch: Patch) -> None:
    patch.setattr(Waits, "forget_timers", nothing)


@found_by("actor_restart")
def promises_are_forgotten_with_their_actor(patch: Patch) -> None:
    abandon = Life._abandon

    def mutated(self: Life, cell: Any, *arguments: Any) -> None:
        cell.laters = None
        abandon(self, cell, *arguments)

    patch.setattr(Life, "_abandon", mutated)


@found_by("process_restart")
def what_is_lost_with_a_process_is_not_counted(patch: Patch) -> None:
    reset = Peer.reset

    def mutated(self: Peer) -> tuple[int, int]:
        reset(self)
        return 0, 0

    patch.setattr(Peer, "reset", mutated)


@found_by("process_restart")
def the_next_incarnation_gets_the_mail_of_the_last(patch: Patch) -> None:
    reset = Peer.reset

    def mutated(self: Peer) -> tuple[int, int]:
        batch = self.mail.batch if self.lanes else Batch()
        reset(self)
        self.mail.batch = batch
        return 0, 0

    patch.setattr(Peer, "reset", mutated)


@found_by("pause")
def what_comes_for_a_paused_process_is_lost(patch: Patch) -> None:
    pause = Virtual.pause

    def mutated(self: Virtual, process: str) -> None:
        pause(self, process)
        self._paused[process] = deque(maxlen=0)  # type: ignore[assignment]

    def forgetful(self: ProcessWorld) -> None:
        self.missed = None

    patch.setattr(Virtual, "pause", mutated)
    patch.setattr(ProcessWorld, "resume", forgetful)


def in_sim(program: Program) -> str:
    """With fixed knobs: a network that a seed draws slow hides mistakes in the order of things."""
    return on_sim.story(program, 1, Knobs())


WORLDS = {"virtual": on_virtual.story, "sim": in_sim}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(("name", "mutant"), MUTANTS)
def test_a_mutant_does_not_tell_the_story(name: str, mutant: Mutant, world: str, monkeypatch: Patch) -> None:
    program = Program(name)
    mutant(monkeypatch)

    try:
        told = WORLDS[world](program)
    except Exception as problem:
        told = repr(problem)

    assert told != program.story.read_text()
