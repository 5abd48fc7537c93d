"""What actors obviously reach for past their door, found in the source of kinds without running a handler.

Looked at are the methods of a kind and, from there, every function and class that they name, in its own package or
folder. What a name means is looked up in the module that was loaded, so an alias hides nothing. A function that is
given to `self.call` or `self.in_thread` may do as it likes: that is the door. What comes by other ways, such as
the methods of an object of some library, is found by `guarded` while a simulation runs.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from zactor import registry
from zactor.actor import Actor
from zactor.sim.escapes import CHANCE, CLOCK, DISK, FORBIDDEN, MESSAGES, THREAD
from zactor.topology.diagnostics import Diagnostic
from zactor.topology.model import Topology

_MORE: list[tuple[str, str, tuple[str, ...], str]] = [
    ("time", "", ("localtime", "gmtime", "ctime", "process_time", "process_time_ns", "thread_time"), CLOCK),
    ("datetime", "datetime", ("now", "utcnow", "today"), CLOCK),
    ("datetime", "date", ("today",), CLOCK),
    ("random", "", ("SystemRandom",), CHANCE),
    ("uuid", "", ("uuid1", "uuid4"), CHANCE),
    ("secrets", "", ("choice", "randbelow", "randbits", "token_bytes", "token_hex", "token_urlsafe"), CHANCE),
    ("asyncio", "", ("sleep", "wait_for", "timeout"), CLOCK),
    ("asyncio", "", ("create_task", "gather", "run", "to_thread", "get_running_loop"), THREAD),
    ("threading", "", ("Thread", "Timer"), THREAD),
    ("concurrent.futures", "", ("ThreadPoolExecutor", "ProcessPoolExecutor"), THREAD),
    ("multiprocessing", "", ("Process", "Pool"), THREAD),
    ("subprocess", "", ("Popen", "run", "call", "check_call", "check_output"), THREAD),
    ("os", "", ("system", "popen", "fork"), THREAD),
    ("os", "", ("remove", "rename", "replace", "listdir", "scandir", "mkdir", "makedirs", "unlink"), DISK),
    ("socket", "", ("socket", "create_connection", "create_server", "socketpair"), MESSAGES),
]
"""Module, class in it, names, and what to use instead: beside what a simulation finds while it runs."""

_PATH_METHODS = frozenset({"open", "read_text", "read_bytes", "write_text", "write_bytes", "unlink", "mkdir"})


def escapes_of(topology: Topology) -> list[Diagnostic]:
    """What the kinds of a topology, and its workload, reach for; by file and line, each place once."""
    names = {(instance.kind, instance.folder) for process in topology.processes for instance in process.instances}
    if topology.sim is not None:
        names.add((topology.sim.workload, topology.folder))
    found: dict[tuple[str, int, int], Diagnostic] = {}
    for name, folder in sorted(names):
        for each in escapes_in(registry.find(name, Path(folder))):
            found.setdefault((each.file, each.line, each.column), each)
    return [found[place] for place in sorted(found)]


def escapes_in(kind: type[Actor]) -> Iterator[Diagnostic]:
    """The same for one kind."""
    house = sys.modules[kind.__module__]
    todo: list[Any] = [each for each in kind.__mro__ if _is_near(each, house)]
    seen = set(map(id, todo))
    while todo:
        piece = todo.pop(0)
        look = _Look(sys.modules[piece.__module__], piece.__qualname__)
        yield from look.found
        for other in look.named:
            if id(other) not in seen and _is_near(other, house):
                seen.add(id(other))
                todo.append(other)


def _is_near(piece: Any, house: ModuleType) -> bool:
    """Whether somebody's function or class belongs to the package of the kind, or lies in its folder."""
    module = sys.modules.get(getattr(piece, "__module__", None) or "")
    file, home = getattr(module, "__file__", None), house.__file__
    if module is None or file is None or home is None or not isinstance(getattr(piece, "__qualname__", None), str):
        return False
    package = house.__name__.split(".")[:2]
    same = len(package) > 1 and module.__name__.split(".")[:2] == package
    return same or Path(file).parent == Path(home).parent


class _Look(ast.NodeVisitor):
    """One function or class: what it reaches for, and which functions and classes it names."""

    def __init__(self, module: ModuleType, name: str) -> None:
        self.found: list[Diagnostic] = []
        self.named: list[Any] = []
        self._file = str(module.__file__)
        self._known: dict[str, Any] = vars(importlib.import_module("builtins")) | vars(module)
        self._lines, tree = _source(self._file)
        self._path = [name]
        piece = _piece(tree, name.split("."))
        if isinstance(piece, ast.ClassDef):  # what stands in a class outside of its methods runs when it is imported
            for each in piece.body:
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                    self._look_into(each)
        elif isinstance(piece, ast.FunctionDef | ast.AsyncFunctionDef):
            self._path = name.split(".")[:-1]
            self._look_into(piece)

    def _look_into(self, function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        """A function, in which its own names hide those of the module."""
        outer = self._known
        arguments = function.args
        own = {each.arg for each in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]}
        own |= {each.arg for each in (arguments.vararg, arguments.kwarg) if each is not None}
        for node in ast.walk(function):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
        self._known = {name: value for name, value in outer.items() if name not in own}
        body = function.body if isinstance(function.body, list) else [function.body]
        if not isinstance(function, ast.Lambda):
            self._path.append(function.name)
        for each in body:
            self.visit(each)
        if not isinstance(function, ast.Lambda):
            self._path.pop()
        self._known = outer

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._look_into(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._look_into(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._look_into(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Import(self, node: ast.Import) -> None:
        for each in node.names:
            if each.name.partition(".")[0] in sys.stdlib_module_names:
                module = importlib.import_module(each.name)
                name = each.asname or each.name.partition(".")[0]
                self._known[name] = module if each.asname else sys.modules[name]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module is not None and node.module.partition(".")[0] in sys.stdlib_module_names:
            module = importlib.import_module(node.module)
            self._known |= {
                each.asname or each.name: getattr(module, each.name)
                for each in node.names
                if hasattr(module, each.name)
            }

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        is_door = isinstance(function, ast.Attribute) and function.attr in ("call", "in_thread")
        if isinstance(function, ast.Attribute) and function.attr in _PATH_METHODS and self._is_path(function.value):
            self._add(node, f"pathlib.Path.{function.attr}", DISK)
        self.visit(function)
        for argument in node.args[1:] if is_door else node.args:
            self.visit(argument)
        for keyword in node.keywords:
            self.visit(keyword.value)

    def _is_path(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Call) and self._meaning(node.func)[0] is Path

    def visit_Name(self, node: ast.Name) -> None:
        self._judge(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if not self._judge(node):
            self.visit(node.value)

    def _judge(self, node: ast.Name | ast.Attribute) -> bool:
        """Note what a name means. Returns whether it was known."""
        value, owner = self._meaning(node)
        if value is None:
            return False
        by_value, by_owner = _forbidden()
        name = node.attr if isinstance(node, ast.Attribute) else node.id
        reached = by_owner.get((id(owner), name)) or by_value.get(id(value))
        if reached is not None:
            self._add(node, *reached)
        else:
            self.named.append(value)
        return True

    def _meaning(self, node: ast.expr) -> tuple[Any, Any]:
        """What a dotted name means here, and what it was found in; None for what only a run would tell."""
        if isinstance(node, ast.Name):
            return self._known.get(node.id), None
        if isinstance(node, ast.Attribute):
            owner = self._meaning(node.value)[0]
            if isinstance(owner, ModuleType | type):
                return getattr(owner, node.attr, None), owner
        return None, None

    def _add(self, node: ast.expr, name: str, instead: str) -> None:
        line = self._lines[node.lineno - 1]
        column = len(line.encode()[: node.col_offset].decode(errors="replace")) + 1
        where, message = ".".join(self._path), f"{name}: an actor cannot use it in a simulation"
        self.found.append(Diagnostic(self._file, node.lineno, column, where, message, f"; use {instead}", line))


@cache
def _source(file: str) -> tuple[list[str], ast.Module]:
    text = Path(file).read_text()
    return text.split("\n"), ast.parse(text, file)


def _piece(tree: ast.AST, names: list[str]) -> ast.AST | None:
    """The class or function of that dotted name; None when it was made by something else than its own lines."""
    found: ast.AST | None = tree
    for name in names:
        body: list[ast.AST] = getattr(found, "body", [])
        found = next((each for each in body if getattr(each, "name", None) == name), None)
    return found


Known = dict[Any, tuple[str, str]]
"""What to say of a thing: its name, and what to use instead."""


@cache
def _forbidden() -> tuple[Known, Known]:
    """By the identity of a function or class, and, for methods, which are made anew each time, by their class."""
    by_value: Known = {}
    by_owner: Known = {}
    for owner, names, instead in FORBIDDEN:
        for name in names:
            if isinstance(owner, type):  # a class whose objects are forbidden
                by_value[id(owner)] = (owner.__name__, instead)
            elif hasattr(owner, name):
                shown = f"{owner.__name__}.{name}".removeprefix("builtins.")
                by_value.setdefault(id(getattr(owner, name)), (shown, instead))
    for module, inner, names, instead in _MORE:
        owner = importlib.import_module(module)
        owner = getattr(owner, inner) if inner else owner
        for name in names:
            known = (f"{module}.{inner}.{name}" if inner else f"{module}.{name}", instead)
            by_owner[id(owner), name] = known
            if not inner and hasattr(owner, name):
                by_value[id(getattr(owner, name))] = known
    return by_value, by_owner
