"""A register that answers before its write is durable, and a client that finds out."""

from __future__ import annotations

from zactor import Actor, Message, Ref, on
from zactor.errors import Failure
from zactor.workload import Workload


class Write(Message[None]):
    value: int


class Read(Message[int | None]):
    pass


class Register(Actor):
    async def on_start(self) -> None:
        self._value: int | None = None
        if "value" in await self.disk.list():
            self._value = int.from_bytes(await self.disk.read("value", 0, 8), "big")
            self.log.debug("recovered", value=self._value)

    @on
    def write(self, message: Write) -> None:
        self._value = message.value
        self.log.debug("wrote", value=message.value)
        self.disk.write("value", 0, message.value.to_bytes(8, "big"))

    @on
    def read(self, message: Read) -> int | None:
        return self._value


class Client(Workload):
    """Writes a number that nobody else writes, reads, and goes on to the next one."""

    register: Ref[Write | Read]

    async def run(self) -> None:
        value = self.number
        while True:
            value += 10
            await self._do("write", Write(value=value), value)
            await self._do("read", Read())
            await self.sleep(0.05)

    async def _do(self, function: str, message: Write | Read, *arguments: int) -> None:
        operation = self.invoke(function, *arguments)
        try:
            self.answered(operation, await self.ask(self.register, message))
        except Failure as problem:
            self.unknown(operation, problem)
