"""Links: from the names that a topology writes to the instances that they mean, and whether those fit the role.

`store` means all instances of a node, `store/1` one of them. The name of one's own node means all the others:
replicas that know each other are the usual case, and none of them needs itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from zactor.actor import Actor, Link, describe
from zactor.message import Message, Opaque
from zactor.registry import did_you_mean
from zactor.topology.diagnostics import Report, join, word
from zactor.topology.model import Node
from zactor.topology.source import Tree

SHOWN_COUNT_MAX = 8
"""Names that an error lists."""

_INDEX = re.compile(r"0|[1-9][0-9]{0,3}")


def complaint(target: str, nodes: dict[str, Node], written: Collection[str]) -> tuple[str, str] | None:
    """What is wrong with the name of a node or an instance, and a hint; None when it is right.

    `written` are the names of all nodes of the file: about one whose own entry is wrong nothing is said.
    """
    name, slash, index = target.partition("/")
    if name not in written:
        hint = did_you_mean(name, written) or f" The nodes are: {_listed(list(written))}."
        return f"there is no node {word(name)}.", hint
    node = nodes.get(name)
    if node is None or not slash:
        return None
    if node.replicas is None:
        return f"{name!r} is one actor without a number.", f" Write {name!r}."
    if _INDEX.fullmatch(index) is None or int(index) >= node.replicas:
        return f"there is no {word(target)}: the replicas of {name!r} count from 0 to {node.replicas - 1}", ""
    return None


def expand(targets: tuple[str, ...], owner: Node, instance: str, nodes: dict[str, Node]) -> tuple[str, ...]:
    """The instances that correct names mean to one instance of `owner`."""
    found: list[str] = []
    for target in targets:
        if target == owner.name:
            found += [other for other in owner.instances() if other != instance]
        elif target in nodes:
            found += nodes[target].instances()
        else:
            found.append(target)
    return tuple(found)


Messages = tuple[type[Message[Any]], ...]


class Links:
    """Holds links against the kinds at both ends.

    `nodes` are those whose instances are known, `kinds` the classes of those that have one, `tree` is the
    mapping `nodes` of the file.
    """

    def __init__(self, nodes: dict[str, Node], kinds: dict[str, type[Actor]], tree: Tree, report: Report) -> None:
        self._nodes = nodes
        self._kinds = kinds
        self._tree = tree
        self._report = report

    def check(self, node: Node) -> None:
        """Check that roles exist, how many each takes, and that the targets handle what is sent to them."""
        about = describe(self._kinds[node.name])
        for role in node.links:
            link = about.links.get(role)
            if link is None:
                hint = did_you_mean(role, about.links) or f" It has: {', '.join(about.links) or 'none'}."
                if role in about.settings:
                    hint = " It is a setting: write it under settings."
                self._complain(node, role, f"{node.kind} has no link {word(role)}.", hint, of_key=True)
            elif self._check_targets(node, link):
                self._check_count(node, link)
        for role, link in about.links.items():
            if role not in node.links and not link.many and not link.optional:
                takes = " | ".join(message.__name__ for message in link.messages) or "any message"
                text = f"missing: {node.kind} needs this link, to an actor that handles {takes}"
                self._complain(node, role, text, of_key=True)

    def _complain(
        self, node: Node, role: str, message: str, hint: str = "", *, index: int | None = None, of_key: bool = False
    ) -> None:
        steps: tuple[str | int, ...] = (node.name, "links", role)
        if index is not None and self._tree.follow(*steps, index) is not None:
            steps = (*steps, index)
        self._report.add(self._tree.place(*steps, of_key=of_key), join("nodes", *steps), message, hint)

    def _check_targets(self, node: Node, link: Link) -> bool:
        """Whether all targets are known, so that they can be counted."""
        written = self._tree.value if isinstance(self._tree.value, dict) else {}
        all_known = True
        for index, target in enumerate(node.links[link.name]):
            wrong = complaint(target, self._nodes, written)
            if wrong is not None:
                self._complain(node, link.name, *wrong, index=index)
            name = target.partition("/")[0]
            kind = self._kinds.get(name)
            if wrong is not None or kind is None or name not in self._nodes:
                all_known = False
                continue
            # What comes as `Opaque` is checked where it comes from.
            sent = tuple(message for message in link.messages if message is not Opaque)
            for end, unhandled in self._unhandled(name, sent, {name}):
                passed = "" if end == name else f"{name} passes on to {end}, and "
                listed = ", ".join(message.__name__ for message in unhandled)
                text = f"{passed}{self._nodes[end].kind} does not handle {listed}, which this link sends"
                handled = ", ".join(message.__name__ for message in self._kinds[end]._handlers) or "nothing"
                self._complain(node, link.name, text, f"; it handles {handled}", index=index)
        return all_known

    def _unhandled(self, name: str, messages: Messages, seen: set[str]) -> Iterator[tuple[str, Messages]]:
        """The nodes that get some of these messages and do not handle them: it, or those to which it passes them on."""
        kind = self._kinds.get(name)
        if kind is None or name not in self._nodes:
            return
        left = tuple(message for message in messages if message not in kind._handlers)
        if left and Opaque not in kind._handlers:
            yield name, left
        elif left:
            roles = [link.name for link in describe(kind).links.values() if Opaque in link.messages]
            targets = [target for role in roles for target in self._nodes[name].links.get(role, ())]
            for further in {target.partition("/")[0]: None for target in targets}:
                if further not in seen:
                    yield from self._unhandled(further, left, seen | {further})

    def _check_count(self, node: Node, link: Link) -> None:
        found = expand(node.links[link.name], node, node.instances()[0], self._nodes)
        twice = [name for name, count in Counter(found).items() if count > 1]
        if twice:
            self._complain(node, link.name, f"{_listed(twice)}: named more than once")
        elif not link.many and len(found) != 1 and (found or not link.optional):
            takes = "at most one actor" if link.optional else "exactly one actor"
            text = f"this link takes {takes}, found {len(found)}"
            self._complain(node, link.name, f"{text}: {_listed(found)}" if found else text)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN_COUNT_MAX])
    return f"{shown}, ..." if len(names) > SHOWN_COUNT_MAX else shown
