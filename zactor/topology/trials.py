"""What a topology says of its trials: `sim`, what the simulator runs and judges, and `nemesis`, what it does to it.

The table of faults stands here: what each is done to, and which words it needs or takes.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from zactor.supervision import SECOND_NS

Aim = Literal["node", "between"]


class Kind(msgspec.Struct, frozen=True):
    """A kind of fault: whether it is done to nodes or to the ways between them, and which words it needs and takes."""

    aim: Aim
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


FAULTS: dict[str, Kind] = {
    # processes
    "kill": Kind("node", (), ("writing",)),
    "power": Kind("node", (), ("writing",)),
    "blink": Kind("node"),
    "pause": Kind("node", ("for",)),
    # the network
    "partition": Kind("between", ("for",), ("one_way",)),
    "refuse": Kind("between", ("for", "messages"), ("one_way",)),
    "cut": Kind("between"),
    "slow": Kind("between", ("for", "by"), ("one_way",)),
    "lose": Kind("between", ("for", "rate"), ("one_way",)),
    "double": Kind("between", ("for", "rate"), ("one_way",)),
    "reorder": Kind("between", ("for", "rate"), ("one_way",)),
    # disks
    "slow_disk": Kind("node", ("for",), ("times",)),
    "full_disk": Kind("node", ("for",)),
    "fail_sync": Kind("node", (), ("times",)),
    "misdirect": Kind("node", (), ("times",)),
    "rot": Kind("node", (), ("times",)),
    # clocks
    "step": Kind("node", ("by",)),
    "drift": Kind("node", ("ppm",)),
}
"""`partition` holds what is sent, `cut` breaks connections, `refuse` breaks them at some kinds of messages; `lose`,
`double` and `reorder` do to frames what ZeroMQ never does. With `writing` an end waits for
the next sync. `blink` is `power` for all at once."""

DAMAGE = frozenset({"rot"})
"""Faults that destroy what was durable: no protocol survives them without another copy."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is done, `at_ns` after everything was ready. `nodes` and `others` are names of instances or `*`.

    `rate` is in a hundred, `by_ns` may be negative for `step`.
    """

    at_ns: int
    do: str
    nodes: tuple[str, ...]
    others: tuple[str, ...] = ()
    for_ns: int = 0
    one_way: bool = False
    writing: bool = False
    messages: tuple[str, ...] = ()
    rate: int = 0
    by_ns: int = 0
    times: int = 1
    ppm: int = 0

    def __str__(self) -> str:
        words = [f"{self.at_ns / SECOND_NS:.3f} s", self.do, " ".join(self.nodes)]
        if self.others:
            words += ["->" if self.one_way else "<->", " ".join(self.others)]
        words += ["while writing"] * self.writing
        if self.for_ns:
            words.append(f"for {self.for_ns / SECOND_NS:.3f} s")
        if self.by_ns:
            words.append(f"by {self.by_ns / SECOND_NS:.3f} s")
        words += [f"{self.rate} %"] * bool(self.rate) + [f"{self.ppm} ppm"] * bool(self.ppm)
        words += [f"{self.times} times"] * (self.times > 1) + list(self.messages)
        return " ".join(words)


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulator runs and judges: clients of `workload`, under faults for `for_ns`, then healed.

    `judges` are judges of histories and invariants; `sometimes` are log events that a campaign of some size must see.

    `settles` are invariants that need not always hold, but must in the end: when all is healed and the clients have
    gone. `replicas` are ranges from which the number of a node's replicas is drawn. `damage` is how many instances may
    lose what is durable, of all together or of each node that is named; None is no bound.
    """

    workload: str
    judges: tuple[str, ...] = ()
    settles: tuple[str, ...] = ()
    sometimes: tuple[str, ...] = ()
    clients: int = 4
    settings: dict[str, Any] = {}
    for_ns: int = 20 * SECOND_NS
    heal_ns: int = 60 * SECOND_NS
    replicas: dict[str, tuple[int, int]] = {}
    damage: int | dict[str, int] | None = 0
