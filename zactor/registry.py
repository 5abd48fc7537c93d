"""From the name of a kind to its class: the one place that knows where kinds come from.

Three sources: the packages below `nodes`, the installed distributions that announce themselves in the
entry-point group `zactor.nodes`, and plain files beside a topology (`./greeter.py:Greeter`). The first two
bring a dict `KINDS` of full names (`files.server`) to classes; the word before the dot is the name of the
package or of the entry point.

Two rules hold. Code that fails while it is imported is the mistake of whoever wrote it: it is shown with its
file and line, and it never hides the kinds of others. And a file's module is named by its stem, since the
names of its messages on the wire derive from it: two modules of one name would answer to the same wire names.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, TypeAlias, TypeVar

from zactor.actor import Actor, describe
from zactor.errors import UserError
from zactor.units import Unit

T = TypeVar("T")

SHIPPED = "nodes"
KINDS_GROUP = "zactor.nodes"
COMMANDS_GROUP = "zactor.commands"
MODELS_GROUP = "zactor.models"
INVARIANTS_GROUP = "zactor.invariants"
JUDGES_GROUP = "zactor.judges"
MACHINES_GROUP = "zactor.machines"

WORD_LENGTH_MAX = 64
"""Characters of a word for which a near one is looked for: a longer one is no slip of the fingers."""

_lent: dict[str, type[Actor]] = {}

_OWN_FOLDER = str(Path(__file__).parent) + os.sep
_LIBRARY_FOLDER = str(Path(importlib.__file__).parent) + os.sep


def find(kind: str, base: Path | None) -> type[Actor]:
    """The class of a kind; `base` is the folder that a file kind is relative to.

    Raises `UserError` for a kind that nobody brings (with the nearest name, or else the list of all), for a
    file that cannot be taken, and for code that fails, with its file and line.
    """
    if kind in _lent:
        found, folder = _lent[kind], None
    elif is_file(kind):
        found, folder = _from_file(kind, base)
    else:
        found, folder = _from_plugins(kind), None
    _guarded(f"the settings and links of kind {kind!r} cannot be read", folder, lambda: describe(found))
    return found


def name_of(kind: type[Actor]) -> str | None:
    """The name by which every process here finds a class: a plugin's, or that of a plain file. None if it has none.

    The module of a plain file must be called as the file is, or its messages would have other names elsewhere.
    """
    for name, known in _collect()[0].items():
        if known is kind:
            return name
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    if file is None or Path(file).name != f"{kind.__module__}.py" or kind.__module__ == "__main__":
        return None
    if vars(module).get(kind.__name__) is not kind:  # it stands within another class, or a function
        return None
    return f"{os.path.abspath(file)}:{kind.__name__}"


def lend(kind: type[Actor]) -> str:
    """A name by which this process alone finds a class: one of a notebook, say. The last one of a name counts."""
    name = f"{kind.__module__}:{kind.__qualname__}"
    _lent[name] = kind
    return name


def names() -> list[str]:
    """The sorted names of all kinds that can be used; see `broken` for packages that cannot."""
    return sorted(_collect()[0])


def broken() -> dict[str, str]:
    """The packages that bring kinds and cannot be imported, and why."""
    return _collect()[1]


def commands() -> dict[str, str]:
    """The groups of verbs that kinds bring: name to `module:attribute` of a typer app, not imported yet."""
    return _announced("COMMANDS", COMMANDS_GROUP)


def models() -> dict[str, str]:
    """The models for judging histories that kinds bring: full name to `module:attribute`, not imported yet."""
    return _announced("MODELS", MODELS_GROUP)


def invariants() -> dict[str, str]:
    """The invariants that kinds bring: full name to `module:attribute`, not imported yet."""
    return _announced("INVARIANTS", INVARIANTS_GROUP)


def judges() -> dict[str, str]:
    """The judges of histories that kinds bring: full name to `module:attribute`, not imported yet."""
    return _announced("JUDGES", JUDGES_GROUP)


def machines() -> dict[str, str]:
    """The state machines that kinds bring: full name to `module:attribute`, not imported yet."""
    return _announced("MACHINES", MACHINES_GROUP)


def machine(name: str) -> Callable[[], Any]:
    """The class of a state machine, by its full name (`kv.store`). Raises `UserError`, with the nearest name."""
    made: Callable[[], Any] = load(_machines_found()[_machine_name(name)], None)
    return made


@functools.cache
def _machines_found() -> dict[str, str]:
    """All that there are: looked for once in a process, in which replicas start again and again."""
    return machines()


def _machine_name(name: object) -> str:
    known = _machines_found()
    if not isinstance(name, str) or name not in known:
        near = did_you_mean(name, known) if isinstance(name, str) else ""
        raise UserError(f"there is no state machine {name!r}.{near} There are: {', '.join(sorted(known))}")
    return name


MachineName: TypeAlias = Annotated[str, Unit("the name of a state machine", _machine_name, str)]
"""The type of a setting that names a state machine: a topology that names one that is not there is refused."""


def load(where: str, base: Path | None) -> Any:
    """What `module:attribute` means, or `./file.py:name` relative to a folder. Raises `UserError`."""
    if is_file(where):
        return _in_file(where, base, "class or function", callable)[0]
    module, _, attribute = where.partition(":")
    return _guarded(f"{where} cannot be loaded", None, lambda: getattr(importlib.import_module(module), attribute))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` with the nearest known word, or nothing. Made to end a sentence."""
    if len(word) > WORD_LENGTH_MAX:
        return ""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


# --- packages below `nodes`, and installed distributions
def _announced(table: str, group: str) -> dict[str, str]:
    """What packages name in a table, and other distributions in a group of entry points; the shipped ones win.

    A package that cannot be imported has none; `broken` says why.
    """
    found: dict[str, str] = {}
    unusable = broken()
    for plugin in _shipped():
        if plugin not in unusable:
            found |= getattr(importlib.import_module(f"{SHIPPED}.{plugin}"), table, {})
    for entry_point in _entry_points(group):
        found.setdefault(entry_point.name, entry_point.value)
    return found


def _entry_points(group: str) -> tuple[importlib.metadata.EntryPoint, ...]:
    """What other distributions announce, as long as nothing is installed or removed. To read it all takes a while."""
    return _announced_in(group, tuple([(folder, _changed_ns(folder)) for folder in sys.path]))


@functools.cache
def _announced_in(group: str, _folders: tuple[tuple[str, int], ...]) -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=group))


def _changed_ns(folder: str) -> int:
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return 0


def _shipped() -> list[str]:
    package = importlib.import_module(SHIPPED)
    return [module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg]


def _tables(plugin: str) -> Iterable[tuple[str, Any]]:
    """Who brings kinds under a name, and its KINDS."""
    if plugin in _shipped():
        origin = f"{SHIPPED}.{plugin}"
        module = _guarded(f"{origin} cannot be imported", None, lambda: importlib.import_module(origin))
        yield origin, getattr(module, "KINDS", {})
    for entry_point in (each for each in _entry_points(KINDS_GROUP) if each.name == plugin):
        yield entry_point.value, _guarded(f"{entry_point.value} cannot be imported", None, entry_point.load)


def _kinds_of(plugin: str) -> dict[str, type[Actor]]:
    """All kinds under a name; none when nobody brings it. Raises `UserError` for code that fails or lies."""
    found: dict[str, type[Actor]] = {}
    for origin, table in _tables(plugin):
        if not isinstance(table, dict):
            raise UserError(f"KINDS of {origin} is a {type(table).__name__}, not a dict of kind names to classes")
        for name, kind in table.items():
            if not (isinstance(name, str) and name.startswith(f"{plugin}.") and _is_kind(kind)):
                raise UserError(f"KINDS of {origin}: {name!r} must begin with '{plugin}.' and be an Actor class")
            if found.setdefault(name, kind) is not kind:
                raise UserError(f"two packages bring the kind {name!r}; {origin} is the second: uninstall one")
    return found


def _collect() -> tuple[dict[str, type[Actor]], dict[str, str]]:
    """Every kind that can be used, and for each package that cannot be, why."""
    installed = (entry_point.name for entry_point in _entry_points(KINDS_GROUP))
    kinds: dict[str, type[Actor]] = {}
    unusable: dict[str, str] = {}
    for plugin in dict.fromkeys([*_shipped(), *installed]):
        try:
            kinds |= _kinds_of(plugin)
        except UserError as error:
            unusable[plugin] = str(error)
    return kinds, unusable


def _from_plugins(kind: str) -> type[Actor]:
    found = _kinds_of(kind.partition(".")[0]).get(kind)
    if found is not None:
        return found
    if ":" in kind:
        mend = "name a class by its file, as in ./greeter.py:Greeter"
        raise UserError(f"there is no kind {kind[:WORD_LENGTH_MAX]!r} outside of the program that made it; {mend}")
    known, unusable = _collect()
    hint = did_you_mean(kind, known)
    if not hint:
        hint = f" The kinds are: {', '.join(sorted(known)) or 'none'}."
        hint += "".join(f" Not usable: {why}." for why in unusable.values())
    raise UserError(f"there is no kind {kind[:WORD_LENGTH_MAX]!r}.{hint}")


# --- files
def is_file(name: str) -> bool:
    """Whether a name means something in a plain file."""
    return ".py:" in name or name.startswith((".", "/"))


def _from_file(kind: str, base: Path | None) -> tuple[type[Actor], Path]:
    """The class in a file, and the file's folder."""
    found, path = _in_file(kind, base, "Actor", _is_kind)
    if not _is_kind(found):
        raise UserError(f"{kind.rpartition(':')[2]!r} in {path} is no subclass of Actor")
    assert isinstance(found, type)
    return found, path.parent


def _in_file(reference: str, base: Path | None, what: str, wanted: Callable[[Any], bool]) -> tuple[Any, Path]:
    """What a file has under a name, and the file; who misspells it is shown what the file has that is wanted."""
    file, colon, name = reference.rpartition(":")
    if not colon or not file.endswith(".py") or not name:
        raise UserError(f"{reference!r} names no class in a file; expected the form ./greeter.py:Greeter")
    if base is None:
        raise UserError(f"{reference!r} is relative to a topology's folder, and here is none")
    path = Path(os.path.abspath(base / file))
    module = _load(path)
    found = getattr(module, name, None)
    if found is None:
        here = [word for word, value in vars(module).items() if wanted(value) and value.__module__ == path.stem]
        listed = f" It has: {', '.join(sorted(here)) or f'no {what}'}."
        raise UserError(f"there is no {name!r} in {path}.{did_you_mean(name, here) or listed}")
    return found, path


def _load(path: Path) -> ModuleType:
    """The module of a file; always the same one for the same file."""
    # Not Path.is_file, which raises for a name that is too long.
    if not os.path.isfile(path):
        raise UserError(f"there is no file {str(path)!r}")
    stem = path.stem
    if not stem.isidentifier():
        raise UserError(f"{str(path)!r} cannot be a module: rename the file to letters, digits and _")
    taken = sys.modules.get(stem)
    if taken is not None and _is_made_from(getattr(taken, "__spec__", None), path):
        return taken
    spec = importlib.util.find_spec(stem) if taken is None else getattr(taken, "__spec__", None)
    # A folder without __init__.py is found as a spec without origin; it hides nothing.
    if taken is not None or (spec is not None and spec.origin is not None and not _is_made_from(spec, path)):
        holder = "made by hand" if spec is None else spec.origin
        raise UserError(f"{path}: there is already a module {stem!r} ({holder}): rename the file")
    if str(path.parent) not in sys.path:
        # At the end: a neighbour of the file must not hide a module of Python.
        sys.path.append(str(path.parent))
    return _guarded(f"{path.name} cannot be imported", path.parent, lambda: _execute(stem, path))


def _execute(stem: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(stem, path)
    assert spec is not None, "a name that ends in .py has a loader"
    assert spec.loader is not None, "a name that ends in .py has a loader"
    module = importlib.util.module_from_spec(spec)
    # Before it runs: type hints of its classes are looked up in sys.modules while they are made.
    sys.modules[stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[stem]
        raise
    return module


def _is_made_from(spec: ModuleSpec | None, path: Path) -> bool:
    origin = None if spec is None else spec.origin
    return origin is not None and os.path.exists(origin) and os.path.samefile(origin, path)


# --- the code of others
def _is_kind(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Actor) and value is not Actor


def _guarded(what: str, folder: Path | None, run: Callable[[], T]) -> T:
    """Run the code of others; what it raises becomes a `UserError` with the place where it happened."""
    try:
        return run()
    # A file that calls sys.exit() when imported is as wrong as one that raises.
    except (Exception, SystemExit) as error:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        place = place_of(error, folder)
        raise UserError(f"{what}: {place}{type(error).__name__}: {text}") from error


def place_of(error: BaseException, folder: Path | None = None) -> str:
    """`file:line: ` of the innermost line that its author can mend: in the folder, or else not in ours."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}:{error.lineno}: "
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_OWN_FOLDER, "<frozen", _LIBRARY_FOLDER))
    ]
    beside = [frame for frame in frames if folder is not None and folder in Path(frame.filename).parents]
    chosen = (beside or frames)[-1:]
    return "".join(f"{frame.filename}:{frame.lineno}: " for frame in chosen)
