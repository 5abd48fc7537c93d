"""A register for trials on real processes, and its clients. One that `forgets` loses its value with its process."""

from __future__ import annotations

from typing import ClassVar

from zactor.actor import Actor, on
from zactor.errors import Failure
from zactor.message import Message, Ref
from zactor.workload import Workload


class Write(Message[None]):
    value: int


class Read(Message[int | None]):
    pass


class Register(Actor):
    """One value, on its disk before it is acknowledged, unless it `forgets`."""

    forgets: bool = False
    raises: bool = False
    dies: bool = False

    async def on_start(self) -> None:
        if self.dies:
            raise ValueError("it never starts")
        content = await self.disk.read("value", 0, 8)
        self._value = int.from_bytes(content, "little") if len(content) == 8 else None

    @on
    async def write(self, message: Write) -> None:
        if self.raises:
            raise ValueError("a mistake of the author")
        if not self.forgets:
            await self.disk.write("value", 0, message.value.to_bytes(8, "little"))
            await self.disk.synced()
            await self.disk.sync_folder()
        self._value = message.value

    @on
    def read(self, message: Read) -> int | None:
        return self._value


class Client(Workload):
    """Writes and reads."""

    register: Ref[Write | Read]

    model: ClassVar[str] = "register"

    async def run(self) -> None:
        for number in range(1 << 40):
            value = number * 100 + self.number
            is_write = number % 16 == 4 * self.number + 3  # all begin with reads, and mostly read
            operation = self.invoke("write", value) if is_write else self.invoke("read")
            try:
                if is_write:
                    await self.ask(self.register, Write(value=value))
                    self.answered(operation)
                else:
                    self.answered(operation, await self.ask(self.register, Read()))
            except Failure as error:
                self.unknown(operation, error)
            await self.sleep(0.002)
