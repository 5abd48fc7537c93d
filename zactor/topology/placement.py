"""Which process runs what: each instance alone, unless the file puts several together, or all are wanted in one."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

import msgspec

from zactor.topology.diagnostics import Report, join, word
from zactor.topology.links import complaint, expand
from zactor.topology.model import PROCESS_COUNT_MAX, TRANSPORTS, Instance, Node, Process, Topology, Transport
from zactor.topology.source import Tree

INLINE = "inline"
"""The name of the one process that runs everything, for a debugger."""


_PATTERN = frozenset("*?[")


class Group(msgspec.Struct, frozen=True):
    """A process as it was written: the nodes and instances that share it.

    Patterns such as `store/*` take of those that no process names.
    """

    name: str
    transport: Transport
    members: tuple[str, ...]


def check_groups(groups: list[Group], nodes: dict[str, Node], tree: Tree, report: Report) -> dict[str, str]:
    """Complain of groups that name what does not exist, one instance twice, or themselves like another's actor.

    `tree` is the whole file. Returns the group of each instance that is in one.
    """
    node_tree = tree.get("nodes")
    written = node_tree.value if node_tree is not None and isinstance(node_tree.value, dict) else {}
    homes: dict[str, str] = {}
    members = [(group, index, member) for group in groups for index, member in enumerate(group.members)]
    # What a pattern takes is known when all that was named has its place.
    for group, index, member in sorted(members, key=lambda each: _is_pattern(each[2])):
        path = ("processes", group.name, "nodes", index)
        if _is_pattern(member):
            found = [name for name in _all(nodes) if fnmatch.fnmatchcase(name, member)]
            if not found and nodes.keys() == written.keys():
                report.add(tree.place(*path), join(*path), f"no actor has a name like {word(member)}")
            for instance in found:
                homes.setdefault(instance, group.name)
            if found and all(homes[instance] != group.name for instance in found):
                text = f"all that have a name like {word(member)} are in other processes"
                report.add(tree.place(*path), join(*path), text)
            continue
        wrong = complaint(member, nodes, written)
        if wrong is not None:
            report.add(tree.place(*path), join(*path), *wrong)
            continue
        for instance in _members(member, nodes):
            if instance in homes:
                text = f"{instance} is already in process {word(homes[instance])}"
                report.add(tree.place(*path), join(*path), text)
            homes.setdefault(instance, group.name)
    instances = _all(nodes)
    for group in groups:
        if group.name in instances and homes.get(group.name) != group.name:
            at = tree.place("processes", group.name, of_key=True)
            home = f"process {word(homes[group.name])}" if group.name in homes else "a process of its own"
            text = f"the actor of this name is in {home}, which would have the same name"
            report.add(at, join("processes", group.name), text)
    return homes


def check_count(groups: list[Group], nodes: dict[str, Node], homes: dict[str, str], tree: Tree, report: Report) -> None:
    """Complain of more processes than there are numbers for."""
    count = len(groups) + len(_all(nodes) - homes.keys())
    if count > PROCESS_COUNT_MAX:
        text = f"{count} processes are more than {PROCESS_COUNT_MAX}"
        report.add(tree.place("nodes", of_key=True), "nodes", text, "; put some together under processes")


def place(nodes: dict[str, Node], groups: list[Group], homes: dict[str, str], folder: str) -> tuple[Process, ...]:
    """The processes of a correct file: its groups in their order, then those with one instance."""
    crews: dict[str, list[Instance]] = {group.name: [] for group in groups}
    for instance in _instances(nodes, folder):
        crews.setdefault(homes.get(instance.name, instance.name), []).append(instance)
    transports = {group.name: group.transport for group in groups}
    return tuple(
        Process(name, number, transports.get(name, TRANSPORTS[0]), tuple(crew))
        for number, (name, crew) in enumerate(crews.items(), 1)
    )


def place_inline(nodes: dict[str, Node], folder: str) -> tuple[Process, ...]:
    """One process with everything."""
    return (Process(INLINE, 1, TRANSPORTS[0], tuple(_instances(nodes, folder))),)


def with_replicas(topology: Topology, counts: dict[str, int]) -> Topology:
    """The same topology with other numbers of replicas: those that are new have a process each."""
    nodes = {
        name: msgspec.structs.replace(node, replicas=counts[name]) if name in counts else node
        for name, node in topology.nodes.items()
    }
    homes = {each.name: process.name for process in topology.processes for each in process.instances}
    transports = {process.name: process.transport for process in topology.processes}
    groups = [Group(process.name, process.transport, ()) for process in topology.processes]
    placed = place(nodes, groups, homes, topology.folder)
    processes = [process for process in placed if process.instances]
    numbered = tuple(
        msgspec.structs.replace(process, number=number, transport=transports.get(process.name, TRANSPORTS[0]))
        for number, process in enumerate(processes, 1)
    )
    return msgspec.structs.replace(topology, nodes=nodes, processes=numbered)


def is_inline(topology: Topology) -> bool:
    """Whether everything of it was put into one process."""
    return [process.name for process in topology.processes] == [INLINE]


def _all(nodes: dict[str, Node]) -> set[str]:
    return {instance for node in nodes.values() for instance in node.instances()}


def _is_pattern(member: str) -> bool:
    return not _PATTERN.isdisjoint(member)


def _members(member: str, nodes: dict[str, Node]) -> list[str]:
    if "/" in member:
        return [member]
    return nodes[member].instances() if member in nodes else []


def _instances(nodes: dict[str, Node], folder: str) -> Iterator[Instance]:
    for node in nodes.values():
        for name in node.instances():
            links = {role: expand(targets, node, name, nodes) for role, targets in node.links.items()}
            overflow = {
                target: said
                for targets in links.values()
                for target in targets
                if (said := nodes[target.partition("/")[0]].overflow)
            }
            place = (name, node.name, node.kind, folder)
            yield Instance(*place, node.settings, links, node.restart, node.record, node.mailbox, overflow)
