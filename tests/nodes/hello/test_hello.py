"""The tutorial: who is greeted, and how."""

from __future__ import annotations

from typing import Any

from nodes.hello import KINDS
from nodes.hello.actor import Caller, Greeter
from nodes.hello.messages import Greet, LastGreeting
from zactor.message import Message
from zactor.sim.virtual import Virtual


def start(**settings: Any) -> Virtual:
    virtual = Virtual()
    virtual.add("back").life.add("greeter", Greeter, settings)
    virtual.add("front").life.add("caller", Caller, links={"greeter": "greeter"})
    virtual.start()
    return virtual


def ask(virtual: Virtual, name: str, message: Message[Any]) -> Any:
    outside = virtual.outside("front")
    return virtual.result(outside.ask(outside.to(name), message))


def test_a_greeter_greets_by_name() -> None:
    assert ask(start(), "greeter", Greet(name="you")) == "Hello, you!"


def test_the_salutation_is_a_setting() -> None:
    assert ask(start(salutation="Hi"), "greeter", Greet(name="you")) == "Hi, you!"


def test_a_caller_is_greeted_when_it_starts_and_tells_of_it() -> None:
    virtual = start()

    assert ask(virtual, "caller", LastGreeting()) == "Hello, world!"

    (fields,) = [fields for _, node, event, fields in virtual.logs if (node, event) == ("caller", "greeted")]
    assert fields["text"] == "Hello, world!"


def test_the_kinds_are_named_after_the_folder() -> None:
    assert KINDS["hello.greeter"] is Greeter
    assert KINDS["hello.caller"] is Caller
    assert Greet.wire == "hello.Greet"
