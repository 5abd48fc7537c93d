"""A workload: an actor that does to a system what its users would, and writes down what it asked and was told.

Subclass it in a kind's folder, link it as any actor, and give it a `run` that goes on for ever. Each operation is
written down **before** it is sent, and again when its outcome is known; from these log events whoever runs it has
the history that judges read. So it is the same in a simulation and in a topology that runs.
"""

from __future__ import annotations

from typing import Any, ClassVar

from zactor.actor import Actor, on
from zactor.message import Message

INVOKED, ANSWERED, FAILED, UNKNOWN = "operation_invoked", "operation_answered", "operation_failed", "operation_unknown"
"""The log events of a history."""

BAD_ANSWER = "bad_answer"
"""The log event of an answer that is wrong by itself, whatever else happened."""


class Work(Message[None]):
    """A workload tells itself to begin."""


class Workload(Actor):
    """One client. `clients` run beside each other, each under a number of its own, from 0 on."""

    number: int = 0

    model: ClassVar[str] = "register"
    """What its operations are judged by: `zactor judge --help` lists the models."""

    _operations = 0

    def on_start(self) -> None:
        """Begin."""
        self.tell(self.ref, Work())

    @on(interleave=True)
    async def work(self, message: Work) -> None:  # noqa: ARG002 - it has no fields
        """Work until the end."""
        await self.run()

    async def run(self) -> None:
        """What the client does, one operation after another, for ever."""
        raise NotImplementedError(f"{type(self).__name__} says nothing of what its clients do: give it a `run`")

    def invoke(self, function: str, *arguments: Any, key: str = "") -> int:
        """Write down that an operation is about to be sent. Returns its number."""
        self._operations += 1
        self.log.info(INVOKED, operation=self._operations, function=function, arguments=arguments, key=key)
        return self._operations

    def answered(self, operation: int, result: Any = None) -> None:
        """Write down its answer."""
        self.log.info(ANSWERED, operation=operation, result=result)

    def failed(self, operation: int, because: object) -> None:
        """Write down that it certainly did not happen."""
        self.log.info(FAILED, operation=operation, because=str(because))

    def unknown(self, operation: int, because: object) -> None:
        """Write down that nobody knows whether it happened, or will."""
        self.log.info(UNKNOWN, operation=operation, because=str(because))

    def bad_answer(self, because: str) -> None:
        """Write down an answer that no correct system gives."""
        self.log.error(BAD_ANSWER, because=because)
