"""The smallest system there is: one actor that greets, and one that asks to be greeted.

A setting and a link are all that a topology has to know of them. `Caller.on_start` may ask at once: mail
waits for an actor that is not ready, so the order in which the two start does not matter.
"""

from __future__ import annotations

from zactor.actor import Actor, on
from zactor.message import Ref

from .messages import Greet, LastGreeting


class Greeter(Actor):
    """Answers every `Greet` with a greeting."""

    salutation: str = "Hello"

    @on
    def greet(self, message: Greet) -> str:
        """The salutation and the name."""
        return f"{self.salutation}, {message.name}!"


class Caller(Actor):
    """Asks for one greeting when it starts, and remembers it."""

    greeter: Ref[Greet]

    _text: str | None = None

    async def on_start(self) -> None:
        """Ask once."""
        self._text = await self.ask(self.greeter, Greet(name="world"))
        self.log.info("greeted", text=self._text)

    @on
    def last_greeting(self, message: LastGreeting) -> str | None:  # noqa: ARG002 - the question has no fields
        """What the greeter said."""
        return self._text
