"""Reads `sim` and `nemesis` of a topology: every word of theirs is held against the nodes and the table of faults."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import msgspec

from zactor import registry
from zactor.errors import UserError
from zactor.registry import did_you_mean
from zactor.topology.diagnostics import Position, Report, join, word
from zactor.topology.links import complaint
from zactor.topology.model import REPLICA_COUNT_MAX, Node
from zactor.topology.settings import convert_settings
from zactor.topology.source import Tree
from zactor.topology.trials import FAULTS, Fault, Trial
from zactor.units import parse_duration
from zactor.workload import Workload

CLIENTS_MAX = 64
FAULTS_MAX = 10_000
TIMES_MAX = 1_000
PPM_MAX = 100_000

Reader = Callable[[Tree, str], Any]


class TrialReader:
    """Makes a `Trial` and faults from trees. `nodes` are those of the file whose instances are known."""

    def __init__(self, report: Report, nodes: dict[str, Node], written: Collection[str], folder: Path) -> None:
        self._report = report
        self._nodes = nodes
        self._written = written
        self._folder = folder

    # --- sim
    def trial(self, tree: Tree) -> Trial | None:
        """`sim`, or None when it makes no sense."""
        readers: dict[str, tuple[str, Reader]] = {
            "workload": ("workload", self._text),
            "judges": ("judges", self._texts),
            "settles": ("settles", self._texts),
            "sometimes": ("sometimes", self._texts),
            "clients": ("clients", lambda each, path: self._number(each, path, 1, CLIENTS_MAX)),
            "for": ("for_ns", self._duration),
            "heal": ("heal_ns", self._duration),
            "replicas": ("replicas", self._replicas),
            "damage": ("damage", self._damage),
            "settings": ("settings", lambda each, path: each.plain() if self._entries(each, path) is not None else {}),
        }
        entries = self._entries(tree, "sim", readers, ("workload",))
        if entries is None or "workload" not in entries:
            return None
        given = {readers[key][0]: readers[key][1](entry, join("sim", key)) for key, entry in entries.items()}
        if self._report.count or not isinstance(given["workload"], str):
            return None
        trial = Trial(**given)
        self._check_workload(trial, tree)
        return trial

    def _check_workload(self, trial: Trial, tree: Tree) -> None:
        try:
            kind = registry.find(trial.workload, self._folder)
        except UserError as error:
            self._report.add(tree.place("workload"), "sim.workload", str(error))
            return
        if not issubclass(kind, Workload):
            text = f"{trial.workload} is a kind of nodes; expected a subclass of zactor.workload.Workload"
            self._report.add(tree.place("workload"), "sim.workload", text)
            return
        for problem in convert_settings(kind, trial.settings)[1]:
            path = ("settings", *problem.path)
            at = tree.place(*path, of_key=problem.of_key)
            self._report.add(at, join("sim", *path), problem.message, problem.hint)

    def _replicas(self, tree: Tree, path: str) -> dict[str, tuple[int, int]]:
        found = {}
        for name, entry in (self._entries(tree, path) or {}).items():
            node = self._nodes.get(name)
            if node is None or node.replicas is None:
                known = [each.name for each in self._nodes.values() if each.replicas is not None]
                listed = ", ".join(known) if known else "none"
                hint = did_you_mean(name, known) or f" Those with replicas are: {listed}."
                self._report.add(
                    tree.keys[name], join(path, name), f"there is no node {word(name)} with replicas.", hint
                )
                continue
            first, dots, last = str(entry.value).partition("..")
            if not (
                dots and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= REPLICA_COUNT_MAX
            ):
                self._report.add(
                    entry.at, join(path, name), f"expected a range such as 1..4, found {word(entry.value)}"
                )
                continue
            found[name] = (int(first), int(last))
        return found

    def _damage(self, tree: Tree, path: str) -> int | dict[str, int] | None:
        if tree.value == "unbounded":
            return None
        if not isinstance(tree.value, dict):
            return self._number(tree, path, 0, REPLICA_COUNT_MAX)
        found = {}
        for name, entry in (self._entries(tree, path, self._nodes) or {}).items():
            found[name] = self._number(entry, join(path, name), 0, REPLICA_COUNT_MAX)
        return found

    # --- nemesis
    def nemesis(self, tree: Tree) -> tuple[Fault, ...]:
        """The schedule, in the order of its times."""
        if not isinstance(tree.value, list):
            self._report.add(tree.at, "nemesis", f"expected a list of faults, found {word(tree.value)}")
            return ()
        if len(tree.value) > FAULTS_MAX:
            self._report.add(tree.at, "nemesis", f"{len(tree.value)} faults are more than {FAULTS_MAX}")
            return ()
        found = [self._fault(entry, join("nemesis", index)) for index, entry in enumerate(tree.value)]
        return tuple(sorted((fault for fault in found if fault is not None), key=lambda fault: fault.at_ns))

    def _fault(self, tree: Tree, path: str) -> Fault | None:
        if not isinstance(tree.value, dict):
            form = "{at: 5s, do: kill, node: store/0}"
            self._report.add(tree.at, path, f"expected a fault such as {form}, found {word(tree.value)}")
            return None
        do = tree.get("do")
        kind = FAULTS.get(str(do.value)) if do is not None else None
        if do is None or kind is None:
            found = "nothing" if do is None else word(do.value)
            hint = did_you_mean(str(do.value), FAULTS) if do is not None else ""
            text = f"there is no fault {found}."
            self._report.add(
                tree.at if do is None else do.at, join(path, "do"), text, hint or f" There are: {', '.join(FAULTS)}."
            )
            return None
        readers: dict[str, tuple[str, Reader]] = {
            "for": ("for_ns", self._duration),
            "by": ("by_ns", self._signed_duration),
            "rate": ("rate", self._percent),
            "times": ("times", lambda each, where: self._number(each, where, 1, TIMES_MAX)),
            "ppm": ("ppm", lambda each, where: self._number(each, where, -PPM_MAX, PPM_MAX)),
            "one_way": ("one_way", self._truth),
            "writing": ("writing", self._truth),
            "messages": ("messages", self._texts),
        }
        aim = kind.aim
        known = ["at", "do", aim, *kind.needs, *kind.takes]
        entries = self._entries(tree, path, known, ["at", aim, *kind.needs])
        if entries is None or not {"at", aim, *kind.needs} <= entries.keys():
            return None
        given = {
            readers[key][0]: readers[key][1](each, join(path, key)) for key, each in entries.items() if key in readers
        }
        at_ns = self._duration(entries["at"], join(path, "at"))
        nodes, others = self._aim(entries[aim], join(path, aim), two=aim == "between")
        return Fault(at_ns=at_ns, do=str(do.value), nodes=nodes, others=others, **given)

    def _aim(self, tree: Tree, path: str, *, two: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if not two:
            return self._names(tree, path), ()
        if not isinstance(tree.value, list) or len(tree.value) != 2:
            self._report.add(tree.at, path, f'expected two sides such as [store/0, "*"], found {word(tree.value)}')
            return (), ()
        first, second = tree.value
        return self._names(first, join(path, 0)), self._names(second, join(path, 1))

    def _names(self, tree: Tree, path: str) -> tuple[str, ...]:
        """One name or a list of them."""
        several = tree.value if isinstance(tree.value, list) else [tree]
        names = []
        for each in several:
            name = str(each.value)
            wrong = None if name == "*" or name[:1] == "@" else complaint(name, self._nodes, self._written)
            if wrong is not None:
                self._report.add(each.at, path, *wrong)
            names.append(name)
        return tuple(names)

    # --- words
    def _entries(
        self, tree: Tree, path: str, known: Collection[str] | None = None, required: Collection[str] = ()
    ) -> dict[str, Tree] | None:
        if not isinstance(tree.value, dict):
            self._report.add(tree.at, path, f"expected a mapping, found {word(tree.value)}")
            return None
        for key, at in tree.keys.items():
            if known is not None and key not in known:
                hint = did_you_mean(key, known) or f" Known are: {', '.join(known)}."
                self._report.add(at, join(path, key), f"there is no key {word(key)}.", hint)
        for key in required:
            if key not in tree.value:
                self._report.add(tree.at, join(path, key), "missing: it must be written")
        return {key: entry for key, entry in tree.value.items() if known is None or key in known}

    def _expected(self, at: Position, path: str, form: str, found: object) -> None:
        self._report.add(at, path, f"expected {form}, found {word(found)}")

    def _text(self, tree: Tree, path: str) -> str:
        if not isinstance(tree.value, str) or not tree.value:
            self._expected(tree.at, path, "a name", tree.value)
            return ""
        return tree.value

    def _texts(self, tree: Tree, path: str) -> tuple[str, ...]:
        if not isinstance(tree.value, list):
            self._expected(tree.at, path, "a list of names", tree.value)
            return ()
        return tuple(self._text(each, join(path, index)) for index, each in enumerate(tree.value))

    def _number(self, tree: Tree, path: str, first: int, last: int) -> int:
        number: Any = tree.value
        if type(number) is not int or not first <= number <= last:
            self._expected(tree.at, path, f"a number from {first} to {last}", number)
            return first
        return number

    def _percent(self, tree: Tree, path: str) -> int:
        text = str(tree.value)
        number = text.removesuffix("%")
        if text == number or not number.isdecimal() or not 0 < int(number) <= 100:
            self._expected(tree.at, path, "a rate such as 10%", tree.value)
            return 1
        return int(number)

    def _truth(self, tree: Tree, path: str) -> bool:
        if not isinstance(tree.value, bool):
            self._expected(tree.at, path, "true or false", tree.value)
        return tree.value is True

    def _duration(self, tree: Tree, path: str) -> int:
        try:
            return parse_duration(tree.value)
        except UserError as error:
            self._report.add(tree.at, path, str(error))
            return 1

    def _signed_duration(self, tree: Tree, path: str) -> int:
        text = tree.value
        if isinstance(text, str) and text.startswith("-"):
            return -self._duration(msgspec.structs.replace(tree, value=text[1:]), path)
        return self._duration(tree, path)
