"""An actor that fails in all the ways that a command line has to show."""

import msgspec

from zactor import Actor, Duration, Later, Message, Refused, on


class Repeat(Message[str]):
    """A field of each sort."""

    word: str
    times: int = 1
    pause: Duration = 1_000_000_000
    body: bytes = b""
    note: str | None = None


class Pair(Message[tuple[int, ...]]):
    left: int
    right: int = 2


class Page(msgspec.Struct):
    items: tuple[str, ...] = ()
    more: bool = False


class Describe(Message[Page]):
    pass


class Fail(Message[None]):
    pass


class Refuse(Message[None]):
    pass


class Hang(Message[None]):
    pass


class Odd(Actor):
    """Repeats, adds, fails, refuses and hangs."""

    prefix: str
    patience: Duration = 250_000_000

    @on
    def repeat(self, message: Repeat) -> str:
        text = " ".join([message.word] * message.times)
        return f"{self.prefix} {text} {message.pause} {message.body!r} {message.note}"

    @on
    def pair(self, message: Pair) -> tuple[int, ...]:
        return (message.left, message.right)

    @on
    def describe(self, message: Describe) -> Page:
        return Page()

    @on
    def fail(self, message: Fail) -> None:
        raise ValueError("this actor fails when it is asked to")

    @on
    def refuse(self, message: Refuse) -> None:
        raise Refused("not today")

    @on
    def hang(self, message: Hang) -> Later[None]:
        self._later = self.later()
        return self._later
