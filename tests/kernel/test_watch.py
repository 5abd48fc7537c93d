"""`watch`: Down and Up of actors here and elsewhere, of their processes, and no word more."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernel.balance import assert_all_balanced
from zactor.actor import Actor, Down, Up, on
from zactor.errors import ActorFailed, ConnectionLost
from zactor.kernel import Kernel
from zactor.message import Message, Ref
from zactor.neighbours import Entry
from zactor.sim.virtual import Virtual
from zactor.supervision import Supervision


class Break(Message[None]):
    pass


class Look(Message[None]):
    ref: Ref[Any]
    away: bool = False


class Target(Actor):
    @on
    def breaks(self, message: Break) -> None:
        raise ValueError("broken")


class Mortal(Target):
    supervision = Supervision(when="never")


class Watcher(Actor):
    """Notes what it is told."""

    def on_start(self) -> None:
        self.heard: list[tuple[str, str, bool]] = []

    @on
    def look(self, message: Look) -> None:
        if message.away:
            self.unwatch(message.ref)
        else:
            self.watch(message.ref)

    @on
    def down(self, message: Down) -> None:
        self.heard.append((message.ref.name, message.reason, message.final))

    @on
    def up(self, message: Up) -> None:
        self.heard.append((message.ref.name, "up", False))

    @on
    def breaks(self, message: Break) -> None:
        raise ValueError("the watcher itself")


class Blind(Actor):
    @on
    def look(self, message: Look) -> None:
        self.watch(message.ref)


def watching(placement: str, kind: type[Actor] = Target) -> tuple[Virtual, Kernel, Kernel, Watcher]:
    virtual = Virtual()
    front = virtual.add("front")
    back = front if placement == "local" else virtual.add("back")
    front.life.add("watcher", Watcher)
    back.life.add("target", kind)
    virtual.start()
    outside = virtual.outside("front")
    outside.say("watcher", Look(ref=Ref("target")))
    virtual.run(seconds=0.1)
    watcher = front.cells["watcher"].actor
    assert isinstance(watcher, Watcher)
    return virtual, front, back, watcher


def test_an_actor_without_a_handler_for_down_cannot_watch() -> None:
    virtual = Virtual()
    virtual.add("p").life.add("blind", Blind)
    virtual.start()
    outside = virtual.outside("p")

    with pytest.raises(ActorFailed, match="Blind watches x but has no handler for Down"):
        virtual.result(outside.ask(outside.to("blind"), Look(ref=Ref("x"))))


both = pytest.mark.parametrize("placement", ["local", "remote"])


@both
def test_a_restart_is_down_and_up(placement: str) -> None:
    virtual, _, _, watcher = watching(placement)

    virtual.outside("front").say("target", Break())
    virtual.run(seconds=1.0)

    assert watcher.heard == [("target", "ValueError: broken", False), ("target", "up", False)]
    assert_all_balanced(virtual)


@both
def test_an_end_is_final(placement: str) -> None:
    virtual, _, _, watcher = watching(placement, Mortal)

    virtual.outside("front").say("target", Break())
    virtual.run(seconds=1.0)

    assert watcher.heard == [("target", "failed: broken", True)]
    assert_all_balanced(virtual)


@both
def test_a_stop_is_final(placement: str) -> None:
    virtual, _, back, watcher = watching(placement)

    back.life.stop("target", "enough")
    virtual.run(seconds=1.0)

    assert watcher.heard == [("target", "enough", True)]


@both
def test_a_node_that_is_started_again_is_up_for_those_who_watched_it(placement: str) -> None:
    virtual, _, back, watcher = watching(placement)
    outside = virtual.outside("front")
    back.life.stop("target", "enough")
    virtual.run(seconds=1.0)
    outside.say("watcher", Look(ref=Ref("target"), away=True))
    outside.say("watcher", Look(ref=Ref("target")))
    virtual.run(seconds=1.0)

    back.life.add("target", Target)
    back.life.start_node(back.cells["target"])
    virtual.run(seconds=1.0)

    stopped = ("target", "target is not running", True)
    assert watcher.heard == [("target", "enough", True), stopped, ("target", "up", False)]


@both
def test_who_looks_away_is_told_nothing(placement: str) -> None:
    virtual, _, back, watcher = watching(placement)
    outside = virtual.outside("front")
    outside.say("watcher", Look(ref=Ref("target"), away=True))
    virtual.run(seconds=0.1)

    outside.say("target", Break())
    virtual.run(seconds=1.0)

    assert watcher.heard == []
    assert not back.neighbours.watchers.get("target")


@both
def test_a_watch_ends_with_the_object_that_watched(placement: str) -> None:
    virtual, front, back, _ = watching(placement)
    outside = virtual.outside("front")
    outside.say("watcher", Break())
    virtual.run(seconds=1.0)

    outside.say("target", Break())
    virtual.run(seconds=1.0)

    watcher = front.cells["watcher"].actor
    assert isinstance(watcher, Watcher)
    assert watcher.heard == []
    assert not back.neighbours.watchers.get("target")


@both
def test_watching_nobody_is_down_at_once(placement: str) -> None:
    virtual, _, _, watcher = watching(placement)
    name = "nobody" if placement == "local" else "target/nobody"

    virtual.outside("front").say("watcher", Look(ref=Ref(name)))
    virtual.run(seconds=0.1)

    assert watcher.heard == [(name, "there is no such actor", True)]


def test_a_killed_process_is_down_and_its_next_incarnation_up() -> None:
    virtual, _, _, watcher = watching("remote")

    virtual.kill("back")
    virtual.run(seconds=0.1)
    assert watcher.heard == [("target", "back has ended", False)]
    virtual.restart("back").life.add("target", Target)
    virtual.start()
    virtual.run(seconds=0.1)

    assert watcher.heard[1:] == [("target", "up", False)]


def test_a_process_that_is_restarted_between_two_books_is_down_and_up_too() -> None:
    virtual, _, _, watcher = watching("remote")
    virtual.processes["back"].up = False

    virtual.restart("back").life.add("target", Target)
    virtual.start()
    virtual.run(seconds=0.1)

    assert watcher.heard == [("target", "back was replaced", False), ("target", "up", False)]


def test_a_watch_goes_on_over_restarts_of_the_process() -> None:
    virtual, _, _, watcher = watching("remote")
    for _ in range(2):
        virtual.kill("back")
        virtual.restart("back").life.add("target", Target)
        virtual.start()
        virtual.run(seconds=0.1)

    virtual.outside("front").say("target", Break())
    virtual.run(seconds=1.0)

    assert [(reason, final) for _, reason, final in watcher.heard] == [
        ("back has ended", False),
        ("up", False),
        ("back has ended", False),
        ("up", False),
        ("ValueError: broken", False),
        ("up", False),
    ]


def test_a_process_that_never_comes_back_is_down_for_ever() -> None:
    virtual, front, _, watcher = watching("remote")
    virtual.processes["back"].up = False
    nodes = {"target": "back", "watcher": "front"}

    front.neighbours.on_book(nodes, {"back": Entry(1, reachable=False)})
    front.neighbours.on_book(nodes, {"back": Entry(1, reachable=False, gone="it gave up")})
    front.neighbours.on_book(nodes, {"back": Entry(1, reachable=False, gone="it gave up")})
    virtual.run(seconds=0.1)
    outside = virtual.outside("front")

    assert watcher.heard == [("target", "back has ended", False), ("target", "it gave up", True)]
    with pytest.raises(ConnectionLost, match="it gave up"):
        virtual.result(outside.ask(outside.to("target"), Break()))


def test_watching_an_actor_of_a_process_that_is_down_says_so_at_once_and_then_up() -> None:
    virtual, _, _, watcher = watching("remote")
    outside = virtual.outside("front")
    outside.say("watcher", Look(ref=Ref("target"), away=True))
    virtual.run(seconds=0.1)
    virtual.kill("back")

    outside.say("watcher", Look(ref=Ref("target")))
    virtual.run(seconds=0.1)
    virtual.restart("back").life.add("target", Target)
    virtual.start()
    virtual.run(seconds=0.1)

    assert watcher.heard == [("target", "back is not running", False), ("target", "up", False)]


def test_a_notice_passes_a_full_mailbox() -> None:
    class Small(Watcher):
        mailbox_size = 1

    virtual = Virtual()
    kernel = virtual.add("p")
    kernel.life.add("watcher", Small)
    kernel.life.add("target", Target)
    virtual.start()
    outside = virtual.outside("p")
    outside.say("watcher", Look(ref=Ref("target")))
    virtual.run(seconds=0.1)
    outside.say("watcher", Look(ref=Ref("target")))

    kernel.life.stop("target")
    virtual.run(seconds=0.1)

    watcher = kernel.cells["watcher"].actor
    assert isinstance(watcher, Watcher)
    assert watcher.heard[0] == ("target", "stopped", True)
    assert_all_balanced(virtual)
