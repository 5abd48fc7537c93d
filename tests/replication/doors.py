"""What doors of tests share that stand for a kernel in a loop of asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from zactor.message import Message, Ref

Make = Callable[[], tuple[Ref[Any], Message[Any]] | None]


class AskSoon:
    """`ask_soon` by the `ask` of the door that it is mixed into."""

    def ask(self, target: Ref[Any], message: Message[Any], timeout_s: float = 5.0) -> Awaitable[Any]:
        raise NotImplementedError

    def ask_soon(self, make: Make, timeout_s: float = 5.0) -> Awaitable[Any]:
        """Ask when the tasks that can run have run."""
        shared = Shared()

        def begin() -> None:
            made = make()
            if made is not None and not shared.done():
                shared.follow(asyncio.ensure_future(self.ask(*made, timeout_s)))

        asyncio.get_running_loop().call_soon(begin)
        return shared


class Shared:
    """What several tasks await."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked: asyncio.Future[Any] | None = None

    def follow(self, asked: asyncio.Future[Any]) -> None:
        """It is there when this is."""
        self._asked = asked
        asked.add_done_callback(self._take)

    def _take(self, asked: asyncio.Future[Any]) -> None:
        if self._answer.done() or asked.cancelled():
            return
        error = asked.exception()
        if error is None:
            self._answer.set_result(asked.result())
        else:
            self._answer.set_exception(error)
            self._answer.exception()

    def done(self) -> bool:
        return self._answer.done()

    def cancel(self) -> None:
        self._answer.cancel()
        if self._asked is not None:
            self._asked.cancel()

    def __await__(self) -> Generator[Any, None, Any]:
        return (yield from asyncio.shield(self._answer))
