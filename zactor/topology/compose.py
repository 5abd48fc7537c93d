"""One tree from all that a topology is written in: its file, what that includes, its variables, and what is set.

- `include: [base.yaml]` takes in other files. Mappings are merged key by key; of everything else the including file
  has the last word. A path in an included file is relative to that file.
- `vars: {servers: 3}` are values for `${servers}` anywhere else: alone it has the value's type, in a text its words.
- `ZACTOR_SET` and `--set` change a setting (`store.capacity=1GiB`) or a variable (`servers=5`), in that order.

Every value keeps the place where it was written, so that what is wrong with it is shown there.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from zactor.errors import UserError
from zactor.registry import did_you_mean, is_file
from zactor.topology import source
from zactor.topology.diagnostics import Position, Report, join, word
from zactor.topology.source import Tree
from zactor.units import format_size

FILE_SIZE_MAX = 1 << 20
"""Bytes of a topology's file. The largest that people wrote by hand are a hundredth of it."""

FILE_COUNT_MAX = 64
"""Files of a topology, with those that are included."""

TEXT_LENGTH_MAX = 1 << 16
"""Characters of a text with its variables filled in."""

VARIABLE = "ZACTOR_SET"
"""The environment variable with words as `--set` takes them, quoted as in a shell."""

Overrides = Mapping[str, Sequence[str]]
"""Words such as `store.capacity=1GiB`, by where they stand: `ZACTOR_SET` or `--set`. The last one wins."""

_OWN = ("include", "vars")
"""Keys whose work is done here."""

_REFERENCE = re.compile(r"\$(\$)?\{([^}]*)\}")


class Composer:
    """Makes a tree from a file and goes on where it can; what is wrong goes to the report."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._open: list[Path] = []
        self._count = 0
        self._size = 0  # values that variables became

    def compose(self, text: str, path: Path, overrides: Overrides) -> Tree | None:
        """The tree of a file's text, or None when it is no YAML."""
        tree = source.parse(text, self._report)
        if tree is None or not isinstance(tree.value, dict):
            return tree
        tree = self._with_includes(tree, Path(os.path.abspath(path)))
        written = tree.get("vars")
        if written is not None and not isinstance(written.value, dict):
            self._report.add(written.at, "vars", f"expected a mapping, found {word(written.value)}")
        given = dict(_mapping(tree, "vars") or {})
        for name, lines in overrides.items():
            self._report.add_source(name, "\n".join(lines))
            for index, line in enumerate(lines, 1):
                tree = self._override(tree, given, line, Position(index, 1, name))
        return self._filled(tree, given, "")

    # --- include
    def _with_includes(self, tree: Tree, path: Path) -> Tree:
        """The tree with what it includes below it."""
        self._open.append(path)
        written = tree.get("include")
        merged: Tree | None = None
        for index, each in enumerate(_listed(written)):
            at = join("include", index) if isinstance(written and written.value, list) else "include"
            found = self._included(each, at, path.parent)
            if found is not None:
                merged = found if merged is None else merge(merged, found)
        self._open.pop()
        return tree if merged is None else merge(merged, tree)

    def _included(self, tree: Tree, at: str, folder: Path) -> Tree | None:
        if not isinstance(tree.value, str) or not tree.value:
            self._report.add(tree.at, at, f"expected the name of a file, found {word(tree.value)}")
            return None
        path = Path(os.path.abspath(folder / tree.value))
        if path in self._open:
            ring = " -> ".join(each.name for each in [*self._open[self._open.index(path) :], path])
            self._report.add(tree.at, at, f"a file cannot include itself: {ring}")
            return None
        self._count += 1
        if self._count >= FILE_COUNT_MAX:
            self._report.add(tree.at, at, f"a topology has at most {FILE_COUNT_MAX} files")
            return None
        try:
            text = read_text(path)
        except UserError as problem:
            self._report.add(tree.at, at, str(problem))
            return None
        name = os.path.relpath(path, self._open[0].parent)
        shown = str(Path(self._report.file).parent / name)
        self._report.add_source(shown, text)
        found = source.parse(text, self._report, shown)
        if found is None:
            return None
        if not isinstance(found.value, dict):
            self._report.add(found.at, "", f"expected a mapping, found {word(found.value)}")
            return None
        return self._with_includes(_moved(found, Path(name).parent), path)

    # --- set
    def _override(self, tree: Tree, variables: dict[str, Tree], line: str, at: Position) -> Tree:
        """The tree with one setting changed; a variable is changed in `variables`."""
        target, equals, text = line.partition("=")
        node, *steps = target.split(".")
        if not equals or not node or not all(steps):
            self._report.add(at, "", f"expected NODE.SETTING=VALUE or VARIABLE=VALUE, found {word(line)}")
            return tree
        value = self._value(text, at._replace(column=len(target) + 2))
        if value is None:
            return tree
        if not steps:
            if node not in variables:
                hint = did_you_mean(node, variables) or f" There are: {', '.join(variables) or 'none'}."
                self._report.add(at, "", f"there is no variable {word(node)}.", hint)
            else:
                variables[node] = value
            return tree
        nodes = _mapping(tree, "nodes") or {}
        if node not in nodes:
            hint = did_you_mean(node, nodes) or f" The nodes are: {', '.join(nodes)}."
            self._report.add(at, "", f"there is no node {word(node)}.", hint)
            return tree
        return _replaced(tree, ["nodes", node, "settings", *steps], value, at)

    def _value(self, text: str, at: Position) -> Tree | None:
        if text[:1] in ("[", "{", '"', "'"):
            return source.parse(text, self._report, at.file, at)
        return source.scalar(text, self._report, at)

    # --- vars
    def _filled(self, tree: Tree, variables: dict[str, Tree], path: str) -> Tree:
        """The tree with variables filled in."""
        value = tree.value
        if isinstance(value, str) and "${" in value:
            return self._filled_text(tree, value, variables, path)
        if isinstance(value, list):
            items = [self._filled(item, variables, join(path, index)) for index, item in enumerate(value)]
            return msgspec.structs.replace(tree, value=items)
        if isinstance(value, dict):
            own = _OWN if not path else ()
            entries = {
                key: self._filled(item, variables, join(path, key)) for key, item in value.items() if key not in own
            }
            return msgspec.structs.replace(tree, value=entries)
        return tree

    def _filled_text(self, tree: Tree, text: str, variables: dict[str, Tree], path: str) -> Tree:
        for escaped, name in _REFERENCE.findall(text):
            if not escaped and name not in variables:
                hint = did_you_mean(name, variables) or f" There are: {', '.join(variables) or 'none'}."
                self._report.add(
                    tree.at, path, f"there is no variable {word(name)}.", f"{hint} Write $${{ for a plain ${{."
                )
                return tree
        alone = _REFERENCE.fullmatch(text)
        if alone and not alone[1]:
            value = variables[alone[2]]
            self._size += value.size
            if self._size <= source.VALUES_MAX:
                return msgspec.structs.replace(value, at=tree.at)
            self._report.add(tree.at, path, f"more than {source.VALUES_MAX} values, variables filled in")
            return tree

        def fill(found: re.Match[str]) -> str:
            if found[1]:
                return found[0][1:]
            value = variables[found[2]].value
            if isinstance(value, list | dict) or value is None:
                self._report.add(tree.at, path, f"{found[2]} is {word(value)}, which has no place within a text")
            return word(value) if isinstance(value, bool) else str(value)

        filled = _REFERENCE.sub(fill, text)
        if len(filled) > TEXT_LENGTH_MAX:
            self._report.add(tree.at, path, f"more than {TEXT_LENGTH_MAX} characters with its variables")
            return tree
        return msgspec.structs.replace(tree, value=filled)


def as_one(text: str, tree: Tree, overrides: Overrides) -> str:
    """What a tree was made of as the text of one file, which needs neither others nor variables nor what was set."""
    if tree.keys.keys().isdisjoint(_OWN) and not any(overrides.values()):
        return text
    return msgspec.json.format(msgspec.json.encode(tree.plain()), indent=2).decode()


def overrides_from(words: Sequence[str]) -> Overrides:
    """Those of the environment and those of a command line, which come later. Raises `UserError`."""
    try:
        return {VARIABLE: shlex.split(os.environ.get(VARIABLE, "")), "--set": words}
    except ValueError as problem:
        raise UserError(f"{VARIABLE} cannot be read: {problem}; quote its words as in a shell") from None


def merge(below: Tree, above: Tree) -> Tree:
    """Mappings key by key; of everything else `above` has the last word."""
    if not isinstance(below.value, dict) or not isinstance(above.value, dict):
        return above
    entries = dict(below.value)
    for key, value in above.value.items():
        entries[key] = merge(entries[key], value) if key in entries else value
    return msgspec.structs.replace(above, value=entries, keys=below.keys | above.keys)


def read_text(path: Path) -> str:
    """The text of a topology's file. Raises `UserError`: missing, unreadable, too large, or no UTF-8."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_SIZE_MAX + 1)
    except (OSError, ValueError) as error:
        # ValueError: a name with a zero byte.
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{path}: cannot be read: {reason}") from error
    if len(content) > FILE_SIZE_MAX:
        raise UserError(f"{path}: a topology has at most {format_size(FILE_SIZE_MAX)}, this file has more")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = content[error.start]
        raise UserError(f"{path}:{line}: a topology is UTF-8, found the byte {found:#04x}") from error


def _mapping(tree: Tree, key: str) -> dict[str, Tree] | None:
    found = tree.get(key)
    return found.value if found is not None and isinstance(found.value, dict) else None


def _listed(tree: Tree | None) -> list[Tree]:
    if tree is None:
        return []
    return tree.value if isinstance(tree.value, list) else [tree]


def _replaced(tree: Tree, path: list[str], value: Tree, key_at: Position) -> Tree:
    """The tree with another value at a path, whose mappings are made where there are none."""
    if not path:
        return value
    entries = dict(tree.value) if isinstance(tree.value, dict) else {}
    first, *rest = path
    keys = tree.keys if first in entries else tree.keys | {first: key_at}
    entries[first] = _replaced(entries.get(first) or Tree({}, key_at), rest, value, key_at)
    return msgspec.structs.replace(tree, value=entries, keys=keys)


def _moved(tree: Tree, folder: Path) -> Tree:
    """An included tree whose paths are relative to the including file. `folder` is its own, seen from there."""
    if folder == Path():
        return tree

    def moved(each: Tree) -> Tree:
        if isinstance(each.value, list):
            return msgspec.structs.replace(each, value=[moved(item) for item in each.value])
        if isinstance(each.value, str) and is_file(each.value) and not Path(each.value).is_absolute():
            path = os.path.normpath(folder / each.value)
            return msgspec.structs.replace(each, value=path if path.startswith(".") else f"./{path}")
        return each

    for name in _mapping(tree, "nodes") or {}:
        kind = tree.follow("nodes", name, "kind")
        if kind is not None:
            tree = _replaced(tree, ["nodes", name, "kind"], moved(kind), kind.at)
    for key in ("workload", "judges"):
        named = tree.follow("sim", key)
        if named is not None:
            tree = _replaced(tree, ["sim", key], moved(named), named.at)
    return tree
