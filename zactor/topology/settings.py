"""The settings of a kind from their written form.

They are converted as strictly as messages are decoded: `5` is no string and `"5"` no number. Only units are
understood beside that, wherever an annotation says `ByteSize` or `Duration`. A process converts its share again,
so nothing here reads YAML.
"""

from __future__ import annotations

import re
import types
import typing
from typing import Any, NamedTuple

import msgspec

from zactor import registry
from zactor.actor import Actor, Setting, describe
from zactor.errors import UserError
from zactor.topology.diagnostics import join, word
from zactor.units import Unit

_MISMATCH = re.compile(r"Expected `(.+?)`, got `.+?`")
_MSGSPEC_PATH = re.compile(r"^(.*?)(?: - at `\$(.*)`)?$", re.DOTALL)
_MSGSPEC_STEP = re.compile(r"\.([^.\[\]]+)|\[([0-9]+|\.\.\.)\]")


class Problem(NamedTuple):
    """What is wrong with settings. `path` begins with the setting; `of_key`: its name is wrong, not its value."""

    path: tuple[str | int, ...]
    message: str
    hint: str = ""
    of_key: bool = False


def typed_settings(kind: type[Actor], raw: dict[str, Any]) -> dict[str, Any]:
    """The settings of a kind from their written form: `2GiB` becomes bytes, lists become tuples.

    Those that are not written are left out: the kind has defaults. Raises `UserError` with all that is wrong:
    unknown settings, missing ones, and values of another type.
    """
    typed, problems = convert_settings(kind, raw)
    if problems:
        lines = [f"{join('settings', *problem.path)}: {problem.message}{problem.hint}" for problem in problems]
        raise UserError("\n".join(lines))
    return typed


def convert_settings(kind: type[Actor], raw: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """As `typed_settings`, but what is wrong is returned."""
    about = describe(kind)
    typed: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in raw.items():
        setting = about.settings.get(name)
        if setting is None:
            hint = registry.did_you_mean(name, about.settings)
            if name in about.links:
                hint = " It is a link: write it under links."
            listed = f" It has: {', '.join(about.settings) or 'none'}."
            text = f"{kind.__name__} has no setting {word(name)}."
            problems.append(Problem((name,), text, hint or listed, of_key=True))
            continue
        try:
            typed[name] = _convert(setting.type, value)
        except _WrongValueError as error:
            problems.append(Problem((name, *error.path), str(error)))
    for name, setting in about.settings.items():
        if name not in raw and setting.default is msgspec.UNSET:
            text = f"missing: {kind.__name__} needs this setting: {_expected(setting)}"
            problems.append(Problem((name,), text, of_key=True))
    return typed, problems


class _WrongValueError(Exception):
    """A value does not fit; `path` leads to it from the setting."""

    def __init__(self, path: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.path = path


def _convert(annotation: Any, value: Any) -> Any:
    plain = _without_units(annotation, value, ())
    try:
        return msgspec.convert(plain, annotation, str_keys=True)
    except msgspec.ValidationError as error:
        matched = _MSGSPEC_PATH.fullmatch(str(error))
        assert matched is not None, "the pattern takes any text"
        path, found = _locate(value, matched[2] or "")
        mismatch = _MISMATCH.fullmatch(matched[1])
        expected = f"expected {mismatch[1]}" if mismatch else matched[1][:1].lower() + matched[1][1:]
        raise _WrongValueError(path, f"{expected}, found {word(found)}") from error
    except TypeError as error:
        # The annotation is nothing that msgspec knows: the kind is wrong, not the file.
        raise _WrongValueError((), f"the type of this setting cannot be written in a file: {error}") from error


def _locate(value: Any, steps: str) -> tuple[tuple[str | int, ...], Any]:
    """What msgspec's `.items[3].size` leads to, as far as it says: the keys of a dict it calls `[...]`."""
    path: list[str | int] = []
    for key, index in _MSGSPEC_STEP.findall(steps):
        if index.isdigit() and isinstance(value, list) and int(index) < len(value):
            path.append(int(index))
        elif isinstance(value, dict) and key in value:
            path.append(key)
        else:
            break
        value = value[path[-1]]
    return tuple(path), value


def _without_units(annotation: Any, value: Any, path: tuple[str | int, ...]) -> Any:
    """The value with quantities made numbers wherever the annotation has a unit."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        units = [extra for extra in annotation.__metadata__ if isinstance(extra, Unit)]
        if not units:
            return _without_units(arguments[0], value, path)
        try:
            return units[0].parse(value)
        except UserError as error:
            raise _WrongValueError(path, str(error)) from error
    if origin in (typing.Union, types.UnionType):
        return _without_units_of_one(arguments, value, path)
    if origin in (list, tuple, set, frozenset) and isinstance(value, list):
        is_fixed = origin is tuple and arguments[-1:] != (Ellipsis,)
        inner = arguments if is_fixed else arguments[:1] * len(value)
        if len(inner) != len(value):
            return value
        pairs = enumerate(zip(inner, value, strict=True))
        return [_without_units(part, item, (*path, index)) for index, (part, item) in pairs]
    if isinstance(value, dict):
        if origin is dict and len(arguments) == 2:
            return {key: _without_units(arguments[1], item, (*path, key)) for key, item in value.items()}
        if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
            hints = typing.get_type_hints(annotation, include_extras=True)
            names = {field.encode_name: hints[field.name] for field in msgspec.structs.fields(annotation)}
            return {
                key: _without_units(names[key], item, (*path, key)) if key in names else item
                for key, item in value.items()
            }
    return value


def _without_units_of_one(arms: tuple[Any, ...], value: Any, path: tuple[str | int, ...]) -> Any:
    """As `_without_units` for a union: the first arm that takes the value decides."""
    others = [arm for arm in arms if arm is not type(None)]
    if value is None and len(others) < len(arms):
        return None
    if len(others) == 1:
        return _without_units(others[0], value, path)
    for arm in others:
        try:
            plain = _without_units(arm, value, path)
            msgspec.convert(plain, arm, str_keys=True)
        except (_WrongValueError, msgspec.ValidationError):
            continue
        return plain
    return value


def _expected(setting: Setting) -> str:
    for extra in getattr(setting.type, "__metadata__", ()):
        if isinstance(extra, Unit):
            return extra.forms
    return setting.type.__name__ if isinstance(setting.type, type) else str(setting.type)
