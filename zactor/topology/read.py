"""A topology's file: read, checked and placed. `load` is where everybody starts.

All that is wrong with a file is found in one go. So each reader here complains and goes on with what it could
understand; a node that makes no sense is left out of the model, and nothing more is said about its name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from zactor.errors import UserError
from zactor.registry import did_you_mean
from zactor.topology import check, placement
from zactor.topology.compose import Composer, Overrides, as_one, overrides_from, read_text
from zactor.topology.diagnostics import Position, Report, join, word
from zactor.topology.model import (
    INSTANCE_COUNT_MAX,
    MAILBOX_MAX,
    NAME_LENGTH_MAX,
    OVERFLOWS,
    PEER_TIMEOUT_NS,
    RECORDS,
    REPLICA_COUNT_MAX,
    TRANSPORTS,
    WHENS,
    Node,
    Restart,
    Topology,
)
from zactor.topology.placement import Group
from zactor.topology.source import Tree
from zactor.topology.trial_reader import TrialReader
from zactor.units import DURATION_FORMS, format_duration, parse_duration

RESTART_COUNT_MAX = 1_000
"""Restarts that a limit may allow: their times are remembered."""

PEER_TIMEOUT_MIN_NS, PEER_TIMEOUT_MAX_NS = parse_duration("100ms"), parse_duration("1h")
"""Below this a busy machine would count as dead; above it nobody waits any more."""

KEYS = ("include", "vars", "name", "nodes", "processes", "peer_timeout", "sim", "nemesis", "try")
NODE_KEYS = ("kind", "replicas", "links", "settings", "mailbox", "overflow", "restart", "record")

W = TypeVar("W", bound=str)

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_LIMIT = re.compile(r"([0-9]{1,9}) in (\S+)")
_NAME_FORM = f"expected at most {NAME_LENGTH_MAX} of a-z, 0-9, _ and -, the first a letter or digit"


def load(path: Path, *, inline: bool = False, overrides: Sequence[str] = ()) -> Topology:
    """The checked and placed topology of a file; `inline` puts every instance into one process.

    `overrides` are words such as `store.capacity=1GiB`; those of the environment come before them. The kinds that
    it names are imported. Raises `TopologyError` with all that is wrong, and a plain `UserError` when the file is
    missing, cannot be read, is no UTF-8 or exceeds `compose.FILE_SIZE_MAX`.
    """
    return read(read_text(path), path, inline=inline, overrides=overrides_from(overrides))


def read(text: str, path: Path, *, inline: bool = False, overrides: Overrides | None = None) -> Topology:
    """As `load`, for a text that stands or stood in that file; the environment changes nothing of it."""
    report = Report(str(path), text)
    tree = Composer(report).compose(text, path, overrides or {})
    if tree is None:
        report.raise_if_any()
    assert tree is not None, "a text without a tree was complained of"
    folder = Path(os.path.abspath(path)).parent
    written = _Reader(report).topology(tree)
    counted = {name: node for name, node in written.nodes.items() if name not in written.uncounted}
    node_tree = tree.get("nodes")
    if node_tree is not None:
        check.check_nodes(written.nodes, counted, node_tree, folder, report)
    homes = placement.check_groups(written.groups, counted, tree, report)
    if not inline:
        placement.check_count(written.groups, written.nodes, homes, tree, report)
    trials = TrialReader(report, counted, written.nodes, folder)
    nemesis = trials.nemesis(written.nemesis) if written.nemesis is not None else ()
    trial = trials.trial(written.sim) if written.sim is not None else None
    report.raise_if_any()
    if inline:
        processes = placement.place_inline(written.nodes, str(folder))
    else:
        processes = placement.place(written.nodes, written.groups, homes, str(folder))
    return Topology(
        name=written.name,
        file=str(path),
        folder=str(folder),
        nodes=written.nodes,
        processes=processes,
        try_=written.try_,
        peer_timeout_ns=written.peer_timeout_ns,
        sim=trial,
        nemesis=nemesis,
        text=as_one(text, tree, overrides or {}),
    )


class _Written(msgspec.Struct, frozen=True):
    """What could be understood of a file."""

    name: str
    nodes: dict[str, Node]
    uncounted: set[str]
    """Nodes of which it is not known how many instances they have."""
    groups: list[Group]
    try_: tuple[str, ...]
    peer_timeout_ns: int
    sim: Tree | None
    nemesis: Tree | None


class _Reader:
    """Makes the model from a tree. A method takes a value, which may be missing, and the path to it."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._uncounted: set[str] = set()

    def topology(self, tree: Tree) -> _Written:
        entries = self._mapping(tree, "", KEYS, ["name", "nodes"])
        name = ""
        nodes: dict[str, Node] = {}
        groups: list[Group] = []
        try_: tuple[str, ...] = ()
        peer_timeout_ns = PEER_TIMEOUT_NS
        if "name" in entries:
            name = self._string(entries["name"], "name") or ""
            if name and not _is_name(name):
                self._report.add(entries["name"].at, "name", f"{_NAME_FORM}, found {word(name)}")
        if "nodes" in entries:
            nodes = self._nodes(entries["nodes"])
        if "processes" in entries:
            groups = self._groups(entries["processes"])
        if "peer_timeout" in entries:
            peer_timeout_ns = self._peer_timeout(entries["peer_timeout"])
        if "try" in entries:
            try_ = self._strings(entries["try"], "try")
        return _Written(
            name, nodes, self._uncounted, groups, try_, peer_timeout_ns, entries.get("sim"), entries.get("nemesis")
        )

    def _nodes(self, tree: Tree) -> dict[str, Node]:
        nodes: dict[str, Node] = {}
        entries = self._mapping(tree, "nodes")
        if tree.value == {}:
            self._report.add(tree.at, "nodes", "expected at least one node, found none")
        for name, entry in entries.items():
            self._name(name, tree, "nodes")
            node = self._node(name, entry, tree.keys[name])
            if node is not None:
                nodes[name] = node
        count = sum(node.replicas or 1 for node in nodes.values())
        if count > INSTANCE_COUNT_MAX:
            text = f"{count} actors are more than a topology's {INSTANCE_COUNT_MAX}"
            self._report.add(tree.at, "nodes", text)
            # What follows would follow each of their links.
            return {}
        return nodes

    def _node(self, name: str, tree: Tree, key_at: Position) -> Node | None:
        path = join("nodes", name)
        entries = self._mapping(tree, path, NODE_KEYS, ["kind"], key_at)
        kind = self._string(entries["kind"], join(path, "kind")) if "kind" in entries else None
        replicas = None
        if "replicas" in entries:
            replicas = self._count(entries["replicas"], join(path, "replicas"), REPLICA_COUNT_MAX)
            if replicas is None:
                self._uncounted.add(name)
        settings: dict[str, Any] = {}
        if "settings" in entries and self._mapping(entries["settings"], join(path, "settings")):
            settings = entries["settings"].plain()
        links: dict[str, tuple[str, ...]] = {}
        if "links" in entries:
            links = self._links(entries["links"], join(path, "links"))
        restart = self._restart(entries["restart"], join(path, "restart")) if "restart" in entries else None
        record, overflow = RECORDS[0], None
        if "record" in entries:
            record = self._one_of(entries["record"], join(path, "record"), RECORDS)
        if "overflow" in entries:
            overflow = self._one_of(entries["overflow"], join(path, "overflow"), OVERFLOWS)
        mailbox = self._count(entries["mailbox"], join(path, "mailbox"), MAILBOX_MAX) if "mailbox" in entries else None
        if kind is None:
            return None
        return Node(name, kind, replicas, settings, links, restart, record, mailbox, overflow)

    def _links(self, tree: Tree, path: str) -> dict[str, tuple[str, ...]]:
        links: dict[str, tuple[str, ...]] = {}
        for role, target in self._mapping(tree, path).items():
            where = join(path, role)
            if isinstance(target.value, list):
                links[role] = self._strings(target, where)
            else:
                text = self._string(target, where, "the name of a node, node/INDEX or a list of them")
                links[role] = () if text is None else (text,)
        return links

    def _restart(self, tree: Tree, path: str) -> Restart | None:
        """`{when: failure, backoff: 100ms..10s, limit: 5 in 60s}`; each may be left out."""
        entries = self._mapping(tree, path, ["when", "backoff", "limit"])
        given: dict[str, Any] = {}
        if "when" in entries:
            given["when"] = self._one_of(entries["when"], join(path, "when"), WHENS)
        if "backoff" in entries:
            given |= self._backoff(entries["backoff"], join(path, "backoff"))
        if "limit" in entries:
            given |= self._limit(entries["limit"], join(path, "limit"))
        return Restart(**given)

    def _backoff(self, tree: Tree, path: str) -> dict[str, int]:
        text = self._string(tree, path, "a range of durations such as 100ms..10s")
        if text is None:
            return {}
        first, dots, last = text.partition("..")
        if not dots:
            self._report.add(tree.at, path, f"expected a range such as 100ms..10s, found {word(text)}")
            return {}
        try:
            shortest_ns, longest_ns = parse_duration(first), parse_duration(last)
        except UserError as error:
            self._report.add(tree.at, path, str(error))
            return {}
        if shortest_ns > longest_ns:
            text = f"{format_duration(shortest_ns)} is longer than {format_duration(longest_ns)}"
            self._report.add(tree.at, path, text, "; write the shorter one first")
        return {"backoff_min_ns": shortest_ns, "backoff_max_ns": longest_ns}

    def _limit(self, tree: Tree, path: str) -> dict[str, int]:
        form = f"1 to {RESTART_COUNT_MAX} restarts and a duration, such as 5 in 60s"
        text = self._string(tree, path, form)
        if text is None:
            return {}
        matched = _LIMIT.fullmatch(text)
        if matched is None or not 1 <= int(matched[1]) <= RESTART_COUNT_MAX:
            self._report.add(tree.at, path, f"expected {form}, found {word(text)}")
            return {}
        try:
            return {"limit_count": int(matched[1]), "limit_window_ns": parse_duration(matched[2])}
        except UserError as error:
            self._report.add(tree.at, path, str(error))
            return {}

    def _groups(self, tree: Tree) -> list[Group]:
        groups: list[Group] = []
        for name, entry in self._mapping(tree, "processes").items():
            self._name(name, tree, "processes")
            path = join("processes", name)
            entries = self._mapping(entry, path, ["nodes", "transport"], ["nodes"], tree.keys[name])
            transport = TRANSPORTS[0]
            if "transport" in entries:
                transport = self._one_of(entries["transport"], join(path, "transport"), TRANSPORTS)
            members: tuple[str, ...] = ()
            if "nodes" in entries:
                where = join(path, "nodes")
                members = self._strings(entries["nodes"], where)
                if entries["nodes"].value == []:
                    self._report.add(entries["nodes"].at, where, "expected at least one node, found none")
            groups.append(Group(name, transport, members))
        return groups

    def _peer_timeout(self, tree: Tree) -> int:
        if not isinstance(tree.value, str):
            self._report.add(tree.at, "peer_timeout", f"expected {DURATION_FORMS}, found {word(tree.value)}")
            return PEER_TIMEOUT_NS
        try:
            timeout_ns = parse_duration(tree.value)
        except UserError as error:
            self._report.add(tree.at, "peer_timeout", str(error))
            return PEER_TIMEOUT_NS
        if not PEER_TIMEOUT_MIN_NS <= timeout_ns <= PEER_TIMEOUT_MAX_NS:
            bounds = f"{format_duration(PEER_TIMEOUT_MIN_NS)} to {format_duration(PEER_TIMEOUT_MAX_NS)}"
            self._report.add(tree.at, "peer_timeout", f"expected {bounds}, found {word(tree.value)}")
        return timeout_ns

    # --- what every part is made of
    def _mapping(
        self,
        tree: Tree,
        path: str,
        known: Collection[str] | None = None,
        required: Collection[str] = (),
        owner_at: Position | None = None,
    ) -> dict[str, Tree]:
        """The entries of a mapping that has only `known` keys. What is missing is shown at `owner_at`."""
        if not isinstance(tree.value, dict):
            self._report.add(tree.at, path, f"expected a mapping, found {word(tree.value)}")
            return {}
        if known is None:
            return tree.value
        hints = {key: did_you_mean(key, known) for key in tree.keys if key not in known}
        for key, hint in hints.items():
            listed = f" The keys here are: {', '.join(known)}."
            self._report.add(tree.keys[key], join(path, key), f"there is no key {word(key)}.", hint or listed)
        for key in required:
            # A misspelt key is not missing as well.
            if key not in tree.value and did_you_mean(key, [key]) not in hints.values():
                at = tree.at if owner_at is None else owner_at
                self._report.add(at, join(path, key), "missing: it must be written")
        return {key: entry for key, entry in tree.value.items() if key in known}

    def _string(self, tree: Tree, path: str, form: str = "a string") -> str | None:
        if isinstance(tree.value, str) and tree.value:
            return tree.value
        hint = "; quote it if it is text" if isinstance(tree.value, bool | int | float) else ""
        self._report.add(tree.at, path, f"expected {form}, found {word(tree.value)}", hint)
        return None

    def _strings(self, tree: Tree, path: str) -> tuple[str, ...]:
        if not isinstance(tree.value, list):
            self._report.add(tree.at, path, f"expected a list of strings, found {word(tree.value)}")
            return ()
        found = [self._string(item, join(path, index)) for index, item in enumerate(tree.value)]
        # One that is no string keeps its place: those after it are complained of by their index.
        return tuple(text or "" for text in found)

    def _count(self, tree: Tree, path: str, most: int) -> int | None:
        number: Any = tree.value
        if type(number) is int and 1 <= number <= most:
            return number
        self._report.add(tree.at, path, f"expected a number from 1 to {most}, found {word(number)}")
        return None

    def _one_of(self, tree: Tree, path: str, choices: tuple[W, ...]) -> W:
        for choice in choices:
            if tree.value == choice:
                return choice
        hint = did_you_mean(tree.value, choices) if isinstance(tree.value, str) else ""
        self._report.add(tree.at, path, f"expected {', '.join(choices)}; found {word(tree.value)}.", hint)
        return choices[0]

    def _name(self, name: str, tree: Tree, path: str) -> None:
        if not _is_name(name):
            self._report.add(tree.keys[name], join(path, name), f"{_NAME_FORM}, found {word(name)}")


def _is_name(text: str) -> bool:
    return len(text) <= NAME_LENGTH_MAX and _NAME.fullmatch(text) is not None
