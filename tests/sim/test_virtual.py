"""The virtual world does to processes what an operating system does to them."""

from __future__ import annotations

from typing import Any

from zactor.actor import Actor, Down, Up, on
from zactor.message import Message, Ref
from zactor.sim.virtual import Virtual


class Note(Message[None]):
    text: str


class Notes(Message[tuple[str, ...]]):
    pass


class Writer(Actor):
    """Writes down what comes, and whom it sees go and come."""

    watched: Ref[Any] | None

    def on_start(self) -> None:
        self._notes: list[str] = []
        if self.watched is not None:
            self.watch(self.watched)

    @on
    def note(self, message: Note) -> None:
        self._notes.append(message.text)

    @on
    def down(self, message: Down) -> None:
        self._notes.append(f"down {message.ref.name}")

    @on
    def up(self, message: Up) -> None:
        self._notes.append(f"up {message.ref.name}")

    @on
    def notes(self, message: Notes) -> tuple[str, ...]:
        return tuple(self._notes)


def two_writers() -> Virtual:
    """`one` and `two`, who watches it, in processes `p` and `q`."""
    virtual = Virtual()
    virtual.add("p").life.add("one", Writer)
    virtual.add("q").life.add("two", Writer, links={"watched": "one"})
    virtual.start()
    virtual.run()
    return virtual


def test_a_paused_process_runs_nothing_and_gets_everything_in_order_when_it_goes_on() -> None:
    virtual = two_writers()
    outside = virtual.outside("p")
    two = virtual.processes["q"].kernel.cells["two"].actor
    assert isinstance(two, Writer)
    two.after(0.5, Note(text="timer"))

    virtual.pause("q")
    outside.say("two", Note(text="first"))
    answer = outside.ask(outside.to("two"), Notes())
    virtual.run(seconds=1.0)
    assert two._notes == []
    outside.say("two", Note(text="second"))
    virtual.resume("q")

    assert virtual.result(answer) == ("timer", "first")
    assert virtual.result(outside.ask(outside.to("two"), Notes())) == ("timer", "first", "second")


def test_a_paused_process_learns_of_a_restart_when_it_goes_on() -> None:
    virtual = two_writers()
    virtual.pause("q")
    virtual.kill("p")
    virtual.restart("p").life.add("one", Writer)
    virtual.start()
    virtual.run(seconds=1.0)

    virtual.resume("q")
    virtual.run()

    outside = virtual.outside("p")
    assert virtual.result(outside.ask(outside.to("two"), Notes())) == ("down one", "up one")


def test_what_came_for_a_paused_process_is_not_given_to_its_next_incarnation() -> None:
    virtual = two_writers()
    outside = virtual.outside("p")
    virtual.pause("q")
    outside.say("two", Note(text="old"))
    virtual.run(seconds=1.0)

    virtual.kill("q")
    virtual.restart("q").life.add("two", Writer, links={"watched": "one"})
    virtual.start()
    virtual.run()

    assert virtual.result(outside.ask(outside.to("two"), Notes())) == ()
