"""A small topology for trials of the simulator itself: counters, and clients that add to them and read them."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import ClassVar

from zactor.actor import Actor, on
from zactor.errors import Failure
from zactor.message import Message, Ref
from zactor.sim import runner
from zactor.sim.runner import Plan, Result
from zactor.sim.world import Log
from zactor.topology.model import Topology
from zactor.topology.read import read
from zactor.workload import Workload


class Write(Message[None]):
    value: int


class Read(Message[int | None]):
    pass


class Again(Message[None]):
    pass


class Register(Actor):
    """One value, on its disk before it is acknowledged. `escape` says how it reaches past its door."""

    escape: str = ""
    storm: bool = False
    careless: bool = False

    async def on_start(self) -> None:
        content = await self.disk.read("value", 0, 8)
        self._value = int.from_bytes(content, "little") if len(content) == 8 else None
        self.written_ns = self.now_ns()
        await self.disk.sync_folder()

    @on
    async def write(self, message: Write) -> None:
        self._escape()
        if self.storm:
            self.tell(self.ref, Again())
        await self.disk.write("value", 0, message.value.to_bytes(8, "little"))
        if not self.careless:
            await self.disk.synced()
            await self.disk.sync_folder()
        self._value = message.value
        self.written_ns = self.now_ns()

    @on
    def read(self, message: Read) -> int | None:
        return self._value

    @on
    def again(self, message: Again) -> None:
        self.tell(self.ref, Again())

    def _escape(self) -> None:
        try:
            match self.escape:
                case "time":
                    time.time()
                case "random":
                    random.random()
                case "uuid":
                    uuid.uuid4()
                case "open":
                    open(__file__).close()
                case "datetime":
                    datetime.now(UTC)
                case "date":
                    date.today()
        except Exception:
            self.log.info("caught")


def nobody_writes(actors: Mapping[str, Actor]) -> str | None:
    """An invariant: true once a value has stood for a second, so only when clients have gone."""
    for name, register in actors.items():
        assert isinstance(register, Register)
        if register.now_ns() - register.written_ns < 10**9:
            return f"{name} was written"
    return None


def never(_actors: Mapping[str, Actor]) -> str | None:
    """An invariant that does not hold."""
    return "it is never so"


class Client(Workload):
    """Writes and reads. `wrong`: what it does that no workload should."""

    register: Ref[Write | Read]
    wrong: str = ""

    model: ClassVar[str] = "register"

    async def run(self) -> None:
        for number in range(1 << 40):
            if self.wrong == "raises":
                raise RuntimeError("a mistake of the workload's author")
            if self.wrong == "answers nobody":
                self.answered(7)
            is_write = self.rng.getrandbits(1)
            value = number * 100 + self.number
            operation = self.invoke("write", value) if is_write else self.invoke("read")
            try:
                if is_write:
                    await self.ask(self.register, Write(value=value))
                    self.answered(operation)
                else:
                    self.answered(operation, await self.ask(self.register, Read()))
            except Failure as error:
                self.unknown(operation, error)
            await self.sleep(self.rng.getrandbits(6) / 1000)


TEXT = """\
name: trial
nodes:
  register: {{kind: './stage.py:Register', settings: {{{register}}}}}
peer_timeout: 1s
sim:
  workload: ./stage.py:Client
  clients: 3
  judges: [linearizable]
  sometimes: {sometimes}
  settles: {settles}
  for: {span}
  heal: 20s
  damage: {damage}
  settings: {{{client}}}
nemesis: [{faults}]
"""

MANY = (
    "{at: 2s, do: kill, node: register}, {at: 4s, do: pause, node: register, for: 300ms}, "
    "{at: 6s, do: cut, between: ['*', register]}, {at: 8s, do: power, node: register}"
)


def topology(
    faults: str = MANY,
    span: str = "20s",
    register: str = "",
    client: str = "",
    damage: str = "0",
    sometimes: str = "[]",
    settles: str = "[]",
) -> Topology:
    """The topology with this schedule and these settings."""
    text = TEXT.format(
        faults=faults,
        span=span,
        register=register,
        client=client,
        damage=damage,
        sometimes=sometimes,
        settles=settles,
    )
    return read(text, Path(__file__).parent / "trial.yaml")


def run(trial: Topology, seed: int = 1) -> Result:
    """A seed of it."""
    return runner.run(trial, plan(trial, seed))


def run_with_logs(trial: Topology, seed: int = 1) -> tuple[Result, list[Log]]:
    """A seed of it, and all log events."""
    logs: list[Log] = []
    return runner.run(trial, plan(trial, seed), logs.append), logs


def plan(trial: Topology, seed: int = 1) -> Plan:
    """What a seed draws."""
    return runner.plan_of(trial, seed)
