"""The difference between a topology that runs and one that is wanted: pure, node by node, in words for people.

A node that runs as it should is in no change. Processes are known by name: one that both have keeps its number, and
no number is given twice in a run, since the ids of messages carry them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from zactor.errors import UserError
from zactor.message import CLIENT_NUMBER
from zactor.supervision import Supervision
from zactor.topology.model import Instance, Process, Restart, Topology
from zactor.units import format_duration

VALUE_LENGTH_MAX = 60
"""Characters of a value that a change shows."""


class Change(msgspec.Struct, frozen=True):
    """What becomes of a node: it is started (`+`), stopped (`-`) or restarted (`~`). `text` says why."""

    sign: Literal["+", "-", "~"]
    node: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.sign} {self.node}" + (f": {self.text}" if self.text else "")


def differences(running: Topology, wanted: Topology, idle: Mapping[str, str]) -> list[Change]:
    """What has to be done. `idle` are the nodes that should run and do not, and why: they are started."""
    before, after = _placed(running), _placed(wanted)
    changes = [Change("-", name) for name in before if name not in after]
    for name, (process, instance) in after.items():
        if name not in before:
            changes.append(Change("+", name))
            continue
        texts = [*_of_process(before[name][0], process), *_of_instance(before[name][1], instance)]
        texts = texts or [*_of_recording(before[name][0], process)]
        if running.peer_timeout_ns != wanted.peer_timeout_ns:
            ends = (format_duration(each.peer_timeout_ns) for each in (running, wanted))
            texts.append(f"peer_timeout {' -> '.join(ends)}")
        changes += [Change("~", name, text) for text in texts]
        if not texts and name in idle:
            changes.append(Change("+", name, idle[name]))
    return changes


def renumbered(topology: Topology, numbers: Mapping[str, int]) -> Topology:
    """The topology with the numbers that its processes have, or with such as nobody had. Raises `UserError`."""
    used = set(numbers.values())
    free = (number for number in range(1, CLIENT_NUMBER) if number not in used)
    processes = []
    for process in topology.processes:
        number = numbers.get(process.name) or next(free, None)
        if number is None:
            raise UserError(f"this run has had {len(used)} processes, and has no number for more: bring it down and up")
        processes.append(msgspec.structs.replace(process, number=number))
    return msgspec.structs.replace(topology, processes=tuple(processes))


def _placed(topology: Topology) -> dict[str, tuple[Process, Instance]]:
    return {instance.name: (process, instance) for process in topology.processes for instance in process.instances}


def _of_process(before: Process, after: Process) -> Iterator[str]:
    if before.name != after.name:
        yield f"process {before.name} -> {after.name}"
    if before.transport != after.transport:
        yield f"transport {before.transport} -> {after.transport}"


def _of_recording(before: Process, after: Process) -> Iterator[str]:
    """A process has one recording, of one kind from its start to its end: so all of its nodes are restarted."""
    old, new = _recording(before), _recording(after)
    if old != new:
        yield f"the recording of {after.name} {old} -> {new}"


def _recording(process: Process) -> str:
    """How a process is recorded: by the node that wants the most."""
    wanted = {instance.record for instance in process.instances}
    return next((record for record in ("full", "ring") if record in wanted), "off")


def _of_instance(before: Instance, after: Instance) -> Iterator[str]:
    if before.kind != after.kind:
        yield f"kind {before.kind} -> {after.kind}"
    elif before.kind.startswith(".") and before.folder != after.folder:
        yield f"kind {before.kind} in {before.folder} -> {after.folder}"
    for name in sorted(before.settings.keys() | after.settings.keys()):
        old, new = _setting(before, name), _setting(after, name)
        if old != new:
            yield f"settings.{name} {_short(old)} -> {_short(new)}"
    for role in sorted(before.links.keys() | after.links.keys()):
        targets = [", ".join(each.links.get(role, ())) or "nobody" for each in (before, after)]
        if targets[0] != targets[1]:
            yield f"links.{role} {_short(targets[0])} -> {_short(targets[1])}"
    if before.restart != after.restart:
        yield f"restart {_policy(before.restart)} -> {_policy(after.restart)}"
    if before.record != after.record:
        yield f"record {before.record} -> {after.record}"
    if before.mailbox != after.mailbox:
        yield f"mailbox {before.mailbox or 'default'} -> {after.mailbox or 'default'}"
    for target in sorted(before.overflow.keys() | after.overflow.keys()):
        ends = [each.overflow.get(target, "default") for each in (before, after)]
        if ends[0] != ends[1]:
            yield f"overflow of {target} {' -> '.join(ends)}"


def _setting(instance: Instance, name: str) -> str:
    value: Any = instance.settings.get(name, msgspec.UNSET)
    return "default" if value is msgspec.UNSET else repr(value)


def _short(text: str) -> str:
    return text if len(text) <= VALUE_LENGTH_MAX else text[: VALUE_LENGTH_MAX - 3] + "..."


def _policy(restart: Restart | None) -> str:
    if restart is None:
        return "default"
    policy: Supervision = restart.supervision()
    backoff = f"{format_duration(policy.backoff_min_ns)}..{format_duration(policy.backoff_max_ns)}"
    return f"{policy.when} {backoff} {policy.limit_count} in {format_duration(policy.limit_window_ns)}"
