"""What a class of an actor says of itself, and what is refused when it is made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from zactor.actor import Actor, Down, Up, assemble, describe, link, on
from zactor.door import Later
from zactor.errors import ReplyDropped
from zactor.message import Envelope, Message, Ref, Refs
from zactor.sim.virtual import Virtual


class Greet(Message[str]):
    name: str


class Bye(Message[None]):
    pass


class Maybe(Message[int | None]):
    pass


class Count(Message[int]):
    pass


class Loose(Message[None]):
    names: list[str]


class SameA(Message[None], wire="same.Name"):
    pass


class SameB(Message[None], wire="same.Name"):
    pass


class Base(Actor):
    salutation: str = "Hello"
    loud: bool = False
    tags: list[str] = []  # noqa: RUF012 - a setting, copied for each actor
    limit: ClassVar[int] = 3
    greeter: Ref[Greet | Bye]
    others: Refs[Greet]
    spare: Ref[Greet] | None = None
    clock: Ref[Bye] = link(overflow="drop")
    _count = 0

    @on
    def greet(self, message: Greet) -> str:
        return f"{self.salutation}, {message.name}!"

    @on
    def bye(self, message: Bye | Down | Up) -> None:
        self._count += 1

    @on
    async def maybe(self, message: Maybe, envelope: Envelope) -> int | None:
        return envelope.id


class Derived(Base):
    @on
    def greet_politely(self, message: Greet) -> str:
        return f"Dear {message.name}"


class Needs(Actor):
    size: int


class Postponing(Actor):
    """Gives out its `Later`s for a test to use."""

    _later: Later[int] | None = None

    @on
    def count(self, message: Count) -> Later[int]:
        self._later = self.later()
        return self._later


def test_settings_links_and_messages_are_read_from_the_class() -> None:
    about = describe(Base)

    assert set(about.settings) == {"salutation", "loud", "tags"}
    assert about.settings["salutation"].default == "Hello"
    assert set(about.links) == {"greeter", "others", "spare", "clock"}
    assert about.links["greeter"].messages == (Greet, Bye)
    assert (about.links["others"].many, about.links["greeter"].many) == (True, False)
    assert (about.links["spare"].optional, about.links["greeter"].optional) == (True, False)
    assert (about.links["clock"].drop, about.links["greeter"].drop) == (True, False)
    assert set(about.messages) == {"Greet", "Bye", "Down", "Up", "Maybe"}


def test_a_setting_without_a_default_must_be_given() -> None:
    assert describe(Needs).settings["size"].default is msgspec.UNSET
    with pytest.raises(TypeError, match="Needs needs 'size'"):
        assemble(Needs, None, {})


def test_a_setting_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(TypeError, match=r"no setting or link \['sise'\]; it has \['size'\]"):
        assemble(Needs, None, {"sise": 1})


def test_a_default_that_can_be_changed_is_each_actors_own() -> None:
    given: dict[str, Any] = {"greeter": Ref("g"), "clock": Ref("c")}
    one: Any = assemble(Base, None, given)
    two: Any = assemble(Base, None, given)

    one.tags.append("mine")

    assert (two.tags, Base.tags) == ([], [])


def test_a_subclass_handles_what_its_base_does_and_may_handle_it_otherwise() -> None:
    assert Derived._handlers[Greet].function is Derived.greet_politely
    assert Derived._handlers[Bye].function is Base.bye
    assert Base._handlers[Greet].function is Base.greet


def _line_of(marker: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith(f"# {marker}"))


def test_an_answer_of_another_type_is_refused_when_the_class_is_made_with_file_and_line() -> None:
    expected = (
        rf"{re.escape(__file__)}:{_line_of('wrong answer')}: Wrong.greet returns int, but Greet is answered by str"
    )

    with pytest.raises(TypeError, match=expected):

        class Wrong(Actor):
            @on  # wrong answer
            def greet(self, message: Greet) -> int:
                return 1


def test_a_handler_without_an_annotated_answer_is_refused() -> None:
    with pytest.raises(TypeError, match="returns nothing that is annotated, but Greet is answered by str"):

        class Silent(Actor):
            @on
            def greet(self, message: Greet):  # type: ignore[no-untyped-def]
                return "hello"


def test_a_later_of_the_right_type_is_an_answer_and_one_of_another_is_not() -> None:
    assert Postponing._handlers[Count].message is Count
    with pytest.raises(TypeError, match="returns str, but Count is answered by int"):

        class Postponed(Actor):
            @on
            def count(self, message: Count) -> Later[str]:
                return self.later()


def test_two_handlers_for_one_message_are_refused_with_both_names() -> None:
    with pytest.raises(TypeError, match=r"test_actor\.py:\d+: Twice handles Greet twice: in one and in two"):

        class Twice(Actor):
            @on
            def one(self, message: Greet) -> str:
                return "1"

            @on
            def two(self, message: Greet) -> str:
                return "2"


def test_two_messages_of_one_wire_name_are_refused() -> None:
    with pytest.raises(TypeError, match=r"two messages of one wire name: \['same\.Name'\]"):

        class Same(Actor):
            @on
            def both(self, message: SameA | SameB) -> None: ...


def test_a_message_whose_fields_could_be_changed_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Loose\.names is a list"):

        class Handles(Actor):
            @on
            def loose(self, message: Loose) -> None: ...


def test_a_handler_takes_a_message_and_perhaps_the_envelope() -> None:
    with pytest.raises(TypeError, match="a handler takes a message and, if it likes, `envelope`"):

        class Many(Actor):
            @on
            def greet(self, message: Greet, sender: str) -> str:
                return sender


def test_a_handler_of_what_is_no_message_is_refused() -> None:
    with pytest.raises(TypeError, match="needs the type of a Message, not <class 'str'>"):

        class Odd(Actor):
            @on
            def text(self, message: str) -> None: ...


def test_only_an_async_handler_can_be_overtaken() -> None:
    with pytest.raises(TypeError, match="only an async handler can be overtaken"):

        class Hasty(Actor):
            @on(interleave=True)
            def greet(self, message: Greet) -> str:
                return ""


def test_a_later_is_used_once() -> None:
    virtual = Virtual()
    kernel = virtual.add("p")
    kernel.life.spawn(Postponing, "postponing")
    wait = (outside := virtual.outside("p")).ask(outside.to("postponing"), Count())
    virtual.run(seconds=0.001)
    actor = kernel.cells["postponing"].actor
    assert isinstance(actor, Postponing)
    assert actor._later is not None

    actor._later.reply(7)

    with pytest.raises(ReplyDropped):
        actor._later.reply(8)
    assert virtual.result(wait) == 7
