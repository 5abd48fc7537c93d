"""Messages from words: `name=world count=3 body=@file`, each value read by its field's declared type.

The way back is here, too: how a type, a default and an answer are written for people.
"""

from __future__ import annotations

import re
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from zactor.actor import Actor, describe
from zactor.errors import UserError
from zactor.message import Message, Ref
from zactor.registry import did_you_mean
from zactor.units import Unit, parse_duration, parse_size

_QUANTITIES: dict[Callable[[object], int], str] = {parse_size: "size", parse_duration: "duration"}

_AT_PATH = re.compile(r"(.*?)(?: - at `\$(.*)`)?", re.DOTALL)


def build_message(kind: type[Actor], name: str, fields: list[str], body: str | None) -> Message[Any]:
    """A message that a kind handles. Raises UserError that lists what there is."""
    messages = describe(kind).messages
    if name not in messages:
        known = ", ".join(sorted(messages)) or "no messages"
        raise UserError(f"{kind.__name__} handles no {name!r}.{did_you_mean(name, messages)} It handles {known}")
    message = messages[name]
    known_fields = _fields(message)
    values: dict[str, Any] = {}
    if body is not None:
        values = _object(sys.stdin.read() if body == "-" else body)
    for word in fields:
        field, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"{word!r} is no FIELD=VALUE; {message.__name__} has {describe_fields(message)}")
        values[field] = text if field not in known_fields else _read(text, known_fields[field].type, message, field)
    for field in values:
        if field not in known_fields:
            hint = did_you_mean(field, known_fields)
            raise UserError(f"{message.__name__} has no field {field!r}.{hint} It has {describe_fields(message)}")
    for field, about in known_fields.items():
        if field not in values and about.required:
            raise UserError(f"{message.__name__} needs {field!r}; it has {describe_fields(message)}")
    return message(**{field: _convert(value, known_fields[field], message) for field, value in values.items()})


def describe_fields(message: type[Message[Any]]) -> str:
    """`name: str, count: int = 1`."""
    parts = []
    for field in _fields(message).values():
        text = f"{field.name}: {type_name(field.type)}"
        if field.default is not msgspec.NODEFAULT:
            text += f" = {written(field.default, field.type)}"
        elif field.default_factory is not msgspec.NODEFAULT:
            text += f" = {written(field.default_factory(), field.type)}"
        parts.append(text)
    return ", ".join(parts) or "no fields"


def type_name(annotation: Any) -> str:
    """A type as people write it: `size`, `int`, `str | None`, `tuple[Item, ...]`."""
    if annotation is None or annotation is type(None):
        return "None"
    if annotation is Ellipsis:
        return "..."
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        unit = _unit(annotation)
        return (
            type_name(arguments[0]) if unit is None or arguments[0] is str else _QUANTITIES.get(unit.parse, "quantity")
        )
    if origin in (typing.Union, types.UnionType):
        return " | ".join(type_name(arm) for arm in arguments)
    if origin is typing.Literal:
        return " | ".join(written(value, None) for value in arguments)
    name = getattr(origin or annotation, "__name__", str(annotation))
    return f"{name}[{', '.join(type_name(part) for part in arguments)}]" if arguments else name


def written(value: Any, annotation: Any) -> str:
    """A value as a topology has it: `10GiB`, `60s`, `"Hello"`, `null`."""
    unit = _unit(annotation)
    if unit is not None and isinstance(value, int):
        return unit.format(value)
    return msgspec.json.encode(plain(value), enc_hook=str).decode()


def plain(value: Any) -> Any:
    """The same with the names of fields: on the wire, and so in JSON, a message is an array."""
    if isinstance(value, msgspec.Struct):
        return {field: plain(getattr(value, field)) for field in value.__struct_fields__}
    if isinstance(value, tuple | list | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value.name if isinstance(value, Ref) else value


def _unit(annotation: Any) -> Unit | None:
    """The unit of a quantity, also of one that may be missing."""
    for part in (annotation, *typing.get_args(annotation)):
        for extra in getattr(part, "__metadata__", ()):
            if isinstance(extra, Unit):
                return extra
    return None


def _fields(message: type[Message[Any]]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.name: field for field in msgspec.structs.fields(message)}  # type: ignore[arg-type]


def _object(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as problem:
        raise UserError(f"--body is no JSON object: {_without_ticks(str(problem))}") from None


def _convert(value: Any, field: msgspec.structs.FieldInfo, message: type[Message[Any]]) -> Any:
    """A value that `--body` or a word brought, checked as strictly as one that comes by wire."""
    try:
        # JSON has no bytes: a word brings them as they are, `--body` in base 64.
        return value if isinstance(value, bytes) else msgspec.convert(value, field.type, dec_hook=_hook)
    except msgspec.ValidationError as problem:
        matched = _AT_PATH.fullmatch(str(problem))
        assert matched is not None, "the pattern takes any text"
        where = f"{message.__name__}.{field.name}{matched[2] or ''}"
        raise UserError(f"{where}: {_without_ticks(matched[1])}; it has {describe_fields(message)}") from None


def _without_ticks(text: str) -> str:
    return text[:1].lower() + text[1:].replace("`", "")


def _hook(kind: Any, value: Any) -> Any:
    if kind is Ref or typing.get_origin(kind) is Ref:
        return Ref(str(value))
    raise TypeError(f"{kind} cannot be written on the command line")


def _read(text: str, annotation: Any, message: type[Message[Any]], field: str) -> Any:
    """A value of that type; `@file` is what the file holds."""
    where = f"{message.__name__}.{field}"
    arms = [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        arms = [arm for arm in typing.get_args(annotation) if arm is not type(None)]
        if len(arms) < len(typing.get_args(annotation)) and text == "null":
            return None
    bare = [typing.get_args(arm)[0] if typing.get_origin(arm) is typing.Annotated else arm for arm in arms]
    if text.startswith("@") and (str in bare or bytes in bare):
        return _file(text[1:], bytes in bare, where)
    if bytes in bare:
        return text.encode()
    if str in bare or any(typing.get_origin(arm) is Ref or arm is Ref for arm in bare):
        return text
    unit = _unit(annotation)
    try:
        return msgspec.json.decode(text) if unit is None else unit.parse(text)
    except UserError as problem:
        raise UserError(f"{where}: {problem}") from None
    except msgspec.MsgspecError:
        if any(typing.get_origin(arm) is typing.Literal for arm in bare):
            return text  # one of a few words, or else `_convert` complains
        expected = " | ".join(type_name(arm) for arm in arms)
        raise UserError(f"{where}: {text!r} is no {expected}") from None


def _file(name: str, as_bytes: bool, where: str) -> bytes | str:
    try:
        content = Path(name).read_bytes()
        return content if as_bytes else content.decode()
    except OSError as problem:
        raise UserError(f"{where}: {problem.strerror}: {name}") from None
    except UnicodeDecodeError:
        raise UserError(f"{where}: {name} is no UTF-8 text") from None
