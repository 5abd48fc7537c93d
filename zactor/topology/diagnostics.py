"""What is wrong with a topology's file, and where: everything at once, the line shown with a caret under it.

The stages that read a file add to one `Report`; only its owner raises. About one place and path there is one
complaint, the first, since what comes after it is mostly its consequence.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from zactor.errors import UserError

SHOWN_LENGTH_MAX = 100
"""Characters of a source line that are shown: of a longer one, those around the place."""

WORD_LENGTH_MAX = 60
"""Characters of a value that an error repeats."""

_LINE_BREAK = re.compile(r"\r\n|\r|\n")


class Position(NamedTuple):
    """A place; both numbers count from 1, columns in characters. `file` is empty for the topology's own."""

    line: int
    column: int
    file: str = ""


class Diagnostic(msgspec.Struct, frozen=True):
    """One complaint. `path` leads to the key (`nodes.kv.kind`), `source` is the text of the line."""

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str = ""
    source: str = ""

    def __str__(self) -> str:
        path = f"{self.path}: " if self.path else ""
        head = f"{self.file}:{self.line}:{self.column}: {path}{self.message}{self.hint}"
        if not self.source.strip():
            return head
        shown = "".join(character if character.isprintable() else " " for character in self.source)
        column = self.column - 1
        first = max(0, min(column, len(shown)) - SHOWN_LENGTH_MAX // 2) if len(shown) > SHOWN_LENGTH_MAX else 0
        shown = shown[first : first + SHOWN_LENGTH_MAX]
        # The indent of the file says nothing here and would push the caret to the right.
        indent = len(shown) - len(shown.lstrip())
        indent = min(indent, column - first)
        return f"{head}\n    {shown[indent:].rstrip()}\n    {' ' * (column - first - indent)}^"


class TopologyError(UserError):
    """A topology's file is wrong. `diagnostics` has all that was found, in the order of the file."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        super().__init__("\n".join(str(diagnostic) for diagnostic in diagnostics))
        self.diagnostics = diagnostics


class Report:
    """Collects what is wrong with a file, and with what belongs to it: other files, and words of a command line."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self._lines: dict[str, list[str]] = {}
        self._found: dict[tuple[Position, str], Diagnostic] = {}
        self.add_source("", text)

    def add_source(self, name: str, text: str) -> None:
        """What a `Position` with that file is in."""
        self._lines[name] = _LINE_BREAK.split(text)

    @property
    def count(self) -> int:
        """Complaints so far."""
        return len(self._found)

    def add(self, at: Position, path: str, message: str, hint: str = "") -> None:
        """Complain. `hint` ends the sentence: it begins with a space, or is empty."""
        lines = self._lines[at.file]
        line = lines[at.line - 1] if at.line <= len(lines) else ""
        diagnostic = Diagnostic(at.file or self.file, at.line, at.column, path, message, hint, line)
        self._found.setdefault((at, path), diagnostic)

    def raise_if_any(self) -> None:
        """Raise `TopologyError` with all complaints, if there are any."""
        if self._found:
            files = list(self._lines)
            places = sorted(self._found, key=lambda place: (files.index(place[0].file), *place))
            raise TopologyError(tuple(self._found[place] for place in places))


def word(value: object) -> str:
    """How an error names what was found: `nothing`, `a list`, `a mapping`, `true`, `5`, `'text'`."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    text = repr(value)
    return text if len(text) <= WORD_LENGTH_MAX else f"{text[:WORD_LENGTH_MAX]}..."


def join(path: str, *steps: str | int) -> str:
    """A longer path: `nodes` and `kv` give `nodes.kv`, `try` and 2 give `try[2]`."""
    for step in steps:
        if isinstance(step, int):
            path = f"{path}[{step}]"
            continue
        shown = step if len(step) <= WORD_LENGTH_MAX else f"{step[:WORD_LENGTH_MAX]}..."
        path = f"{path}.{shown}" if path else shown
    return path
