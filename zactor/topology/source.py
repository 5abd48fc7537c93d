"""YAML as a tree whose every key and value knows its place.

The scanner is ruamel.yaml's; what plain words mean is decided here, by the core schema of YAML 1.2.2
(10.3.2): `no` is a string, `1:30` is a string, `010` is ten. A key is always text, and comes once. Anchors are
allowed; tags, merge keys and a second document are not. Everything that few bytes could blow up has a bound.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from zactor.topology.diagnostics import WORD_LENGTH_MAX, Position, Report, join, word

DEPTH_MAX = 32
"""Levels of a tree, aliases followed. Settings of settings need a few; the readers behind this recurse."""

VALUES_MAX = 100_000
"""Values of a tree, aliases followed: nine lines of aliases can mean a billion (the "billion laughs")."""

INTEGER_MAX = (1 << 63) - 1
"""Settings travel to other processes, whose decoder takes 64 bits."""

_NULLS = frozenset(["", "~", "null", "Null", "NULL"])
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


class Tree(msgspec.Struct, eq=False):
    """A value and its place. `keys` are the places of a mapping's keys; `size` and `depth` follow aliases."""

    value: bool | float | str | list[Tree] | dict[str, Tree] | None
    at: Position
    keys: dict[str, Position] = {}
    size: int = 1
    depth: int = 1

    def get(self, step: str | int) -> Tree | None:
        """The value under a key or an index, if there is one."""
        if isinstance(self.value, dict) and isinstance(step, str):
            return self.value.get(step)
        if isinstance(self.value, list) and isinstance(step, int) and step < len(self.value):
            return self.value[step]
        return None

    def follow(self, *path: str | int) -> Tree | None:
        """The value that a path leads to, if there is one."""
        tree: Tree | None = self
        for step in path:
            tree = tree.get(step) if tree is not None else None
        return tree

    def place(self, *path: str | int, of_key: bool = False) -> Position:
        """Where the value stands that a path leads to (or its key), or as much of the path as there is."""
        at, tree = self.at, self
        for step in path:
            found = tree.get(step)
            if found is None:
                break
            at = tree.keys[step] if of_key and isinstance(step, str) else found.at
            tree = found
        return at

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        return self.value


def parse(text: str, report: Report, file: str = "", start: Position | None = None) -> Tree | None:
    """The tree of a text, or None when it is no YAML; everything wrong goes to the report.

    `file` is what a `Position` in it has; `start` is where the text begins there, if not at the beginning.
    """
    start = start or Position(1, 1, file)
    builder = _Builder(report, start)
    for event in _events(text, report, start, lambda: builder.at):
        if not builder.take(event):
            return None
    if builder.root is None and not report.count:
        report.add(builder.at, "", "the file is empty; expected a mapping with name and nodes")
    return builder.root


def scalar(text: str, report: Report, at: Position) -> Tree:
    """A value that is one plain word or text, with the meaning that it has in a file."""
    return Tree(_Builder(report, at).meaning(text), at)


class _Open:
    """A collection whose end has not come. `key` is that of the entry being read, `kept` whether it counts."""

    __slots__ = ("anchor", "depth", "kept", "key", "key_at", "size", "tree")

    def __init__(self, value: list[Tree] | dict[str, Tree], at: Position, anchor: str | None) -> None:
        self.tree = Tree(value, at, {})
        self.anchor = anchor
        self.key: str | None = None
        self.key_at = at
        self.kept = True
        self.size = 1
        self.depth = 1

    def step(self) -> str | int:
        return len(self.tree.value) if isinstance(self.tree.value, list) else self.key or ""


class _Builder:
    """Makes a tree from events, without recursion."""

    def __init__(self, report: Report, start: Position) -> None:
        self.root: Tree | None = None
        self.at = start
        self._report = report
        self._start_at = start
        self._open: list[_Open] = []
        self._anchors: dict[str, Tree] = {}
        self._documents = 0

    def take(self, event: Any) -> bool:
        """Whether to go on."""
        self.at = _at(event.start_mark, self._start_at)
        if isinstance(event, DocumentStartEvent):
            return self._document(event)
        if isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent) and event.tag is not None:
            self._complain(f"tags are not allowed here, found {word(event.tag)}")
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        if isinstance(event, AliasEvent):
            return self._alias(event.anchor)
        if isinstance(event, SequenceStartEvent | MappingStartEvent):
            return self._start([] if isinstance(event, SequenceStartEvent) else {}, event.anchor)
        if isinstance(event, SequenceEndEvent | MappingEndEvent):
            return self._end()
        return True

    def _complain(self, message: str) -> None:
        path = ""
        for collection in self._open:
            step = collection.step()
            path = join(path, step) if step != "" else path
        self._report.add(self.at, path, message)

    def _document(self, event: DocumentStartEvent) -> bool:
        self._documents += 1
        if self._documents > 1:
            self._complain("a topology is one document; a second one begins here")
        elif event.version not in (None, (1, 2)):
            self._complain("a topology is YAML 1.2; leave the %YAML line out")
        else:
            return True
        return False

    def _wants_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].tree.value, dict) and self._open[-1].key is None

    def _scalar(self, event: ScalarEvent) -> bool:
        text = event.value
        is_plain = event.style is None and event.tag is None
        if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text):
            self._complain("half a surrogate pair is no character")
            return False
        if self._wants_key():
            self._key(text, is_plain)
            return True
        if is_plain and not text and self._open:
            # What is left out has no place of its own: the scanner's is wherever the next word stands.
            self.at = self._open[-1].key_at
        return self._add(Tree(self.meaning(text) if is_plain else text, self.at), event.anchor)

    def _key(self, text: str, is_plain: bool) -> None:
        mapping = self._open[-1]
        mapping.key, mapping.key_at, mapping.kept = text, self.at, True
        first = mapping.tree.keys.get(text)
        if is_plain and text == "<<":
            mapping.kept = False
            self._complain("merge keys are not part of YAML 1.2; write the keys out")
        elif first is not None:
            mapping.kept = False
            self._complain(f"the key {word(text)} stands in line {first.line} already")

    def meaning(self, text: str) -> bool | float | str | None:
        """What a plain word means in the core schema; one that cannot be sent is complained of."""
        if text in _NULLS:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if _INTEGER.fullmatch(text):
            # A longer one is too large, unless it begins with zeros that nobody means.
            number = int(text, 0 if text[:2] in ("0o", "0x") else 10) if len(text) < WORD_LENGTH_MAX else None
            if number is not None and -INTEGER_MAX <= number <= INTEGER_MAX:
                return number
            self._complain(f"{word(text)} does not fit into 64 bits; quote it if it is text")
        elif _FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text):
            real = math.inf if _NOT_FINITE.fullmatch(text) else float(text)
            if math.isfinite(real):
                return real
            self._complain(f"{word(text)} is not a finite number; quote it if it is text")
        return text

    def _alias(self, anchor: str) -> bool:
        if self._wants_key():
            self._complain("a key is text, found an alias")
            return False
        known = self._anchors.get(anchor)
        if known is None:
            self._complain(f"there is no finished anchor {word(anchor)} before this alias")
            return False
        return self._add(known, None)

    def _start(self, value: list[Tree] | dict[str, Tree], anchor: str | None) -> bool:
        if self._wants_key():
            self._complain(f"a key is text, found {word(value)}")
            return False
        if len(self._open) >= DEPTH_MAX:
            self._complain(f"deeper than {DEPTH_MAX} levels")
            return False
        self._open.append(_Open(value, self.at, anchor))
        return True

    def _end(self) -> bool:
        done = self._open.pop()
        done.tree.size, done.tree.depth = done.size, done.depth
        return self._add(done.tree, done.anchor)

    def _add(self, tree: Tree, anchor: str | None) -> bool:
        """Put a finished value into the collection that is open, or make it the root."""
        if anchor is not None:
            self._anchors[anchor] = tree
        if not self._open:
            self.root = tree
            return True
        into = self._open[-1]
        into.size += tree.size
        into.depth = max(into.depth, tree.depth + 1)
        if into.size > VALUES_MAX or len(self._open) + tree.depth > DEPTH_MAX + 1:
            self._complain(f"more than {VALUES_MAX} values or {DEPTH_MAX} levels, aliases followed")
            return False
        if isinstance(into.tree.value, list):
            into.tree.value.append(tree)
        elif isinstance(into.tree.value, dict) and into.key is not None:
            if into.kept:
                into.tree.value[into.key] = tree
                into.tree.keys[into.key] = into.key_at
            into.key = None
        return True


def _events(text: str, report: Report, start: Position, here: Callable[[], Position]) -> Iterator[Any]:
    """The events of a text; ends early, with a complaint, where it stops being YAML."""
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except ReaderError as error:
        report.add(_position(text, error.position, start), "", f"the character {error.character:#04x} is not allowed")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = here() if mark is None else _at(mark, start)
        context = f"{error.context}: " if error.context else ""
        report.add(at, "", f"this is not YAML: {context}{error.problem}")
    except (YAMLError, ValueError, OverflowError) as error:
        # The latter two: an escape such as "\U00110000", which chr() refuses inside the scanner.
        report.add(here(), "", f"this is not YAML: {error}")


def _at(mark: Any, start: Position) -> Position:
    """The place of the scanner's mark in a text that begins at `start`."""
    first_column = start.column if mark.line == 0 else 1
    return Position(start.line + mark.line, first_column + mark.column, start.file)


def _position(text: str, index: int, start: Position) -> Position:
    begin = max(text.rfind("\n", 0, index), text.rfind("\r", 0, index)) + 1
    line = len(re.findall(r"\r\n|\r|\n", text[:begin]))
    return Position(start.line + line, (1 if line else start.column) + index - begin, start.file)
