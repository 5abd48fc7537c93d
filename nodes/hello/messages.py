"""What the two actors of the tutorial say to each other."""

from __future__ import annotations

from zactor.message import Message


class Greet(Message[str]):
    """Asks for a greeting; it is answered by its text."""

    name: str


class LastGreeting(Message[str | None]):
    """Asks a caller which greeting it got; None before there was one."""
