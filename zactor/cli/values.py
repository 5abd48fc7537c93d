"""Messages from words: `name=world count=3 body=@file`, each value read by its field's declared type."""

from __future__ import annotations

import sys
import types
import typing
from pathlib import Path
from typing import Any

import msgspec

from zactor.actor import Actor, describe
from zactor.errors import UserError
from zactor.message import Message, Ref
from zactor.registry import did_you_mean


def build_message(kind: type[Actor], name: str, fields: list[str], body: str | None) -> Message[Any]:
    """A message that a kind handles. Raises UserError that lists what there is."""
    messages = describe(kind).messages
    if name not in messages:
        known = ", ".join(sorted(messages)) or "no messages"
        raise UserError(f"{kind.__name__} handles no {name!r}.{did_you_mean(name, messages)} It handles {known}")
    message = messages[name]
    types_ = field_types(message)
    values: dict[str, Any] = {}
    if body is not None:
        values = _object(sys.stdin.read() if body == "-" else body, message, types_)
    for word in fields:
        field, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"{word!r} is no FIELD=VALUE; {message.__name__} has {describe_fields(message)}")
        _check_field(field, message, types_)
        values[field] = _read(text, types_[field], f"{message.__name__}.{field}")
    try:
        return typing.cast("Message[Any]", msgspec.convert(list(_ordered(message, values)), message, dec_hook=_hook))
    except msgspec.ValidationError as problem:
        raise UserError(f"{message.__name__}: {problem}; it has {describe_fields(message)}") from None


def field_types(message: type[Message[Any]]) -> dict[str, Any]:
    """The fields of a message in their order, with their types."""
    return {field.name: field.type for field in msgspec.structs.fields(message)}  # type: ignore[arg-type]


def describe_fields(message: type[Message[Any]]) -> str:
    """`name: str, count: int = 1`."""
    parts = []
    for field in msgspec.structs.fields(message):  # type: ignore[arg-type]
        text = f"{field.name}: {type_name(field.type)}"
        if field.default is not msgspec.NODEFAULT:
            text += f" = {field.default!r}"
        parts.append(text)
    return ", ".join(parts) or "no fields"


def type_name(annotation: Any) -> str:
    """A type as it is written."""
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def _ordered(message: type[Message[Any]], values: dict[str, Any]) -> list[Any]:
    ordered = []
    for field in msgspec.structs.fields(message):  # type: ignore[arg-type]
        if field.name in values:
            ordered.append(values[field.name])
        elif field.default is not msgspec.NODEFAULT:
            ordered.append(field.default)
        elif field.default_factory is not msgspec.NODEFAULT:
            ordered.append(field.default_factory())
        else:
            raise UserError(f"{message.__name__} needs {field.name!r}; it has {describe_fields(message)}")
    return ordered


def _object(text: str, message: type[Message[Any]], types_: dict[str, Any]) -> dict[str, Any]:
    try:
        values = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as problem:
        raise UserError(f"--body is no JSON object: {problem}") from None
    for field in values:
        _check_field(field, message, types_)
    return values


def _check_field(field: str, message: type[Message[Any]], types_: dict[str, Any]) -> None:
    if field not in types_:
        hint = did_you_mean(field, types_)
        raise UserError(f"{message.__name__} has no field {field!r}.{hint} It has {describe_fields(message)}")


def _hook(kind: Any, value: Any) -> Any:
    if kind is Ref or typing.get_origin(kind) is Ref:
        return Ref(str(value))
    raise NotImplementedError(f"{kind}")


def _read(text: str, annotation: Any, where: str) -> Any:
    """A value of that type; `@file` is what the file holds."""
    arms = [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        arms = [arm for arm in typing.get_args(annotation) if arm is not type(None)]
        if len(arms) < len(typing.get_args(annotation)) and text == "null":
            return None
    if text.startswith("@") and (str in arms or bytes in arms):
        try:
            data = Path(text[1:]).read_bytes()
        except OSError as problem:
            raise UserError(f"{where}: {problem.strerror}: {text[1:]}") from None
        return data if bytes in arms else data.decode("utf-8", "replace")
    if bytes in arms:
        return text.encode()
    if str in arms or any(typing.get_origin(arm) is Ref or arm is Ref for arm in arms):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError:
        expected = " | ".join(type_name(arm) for arm in arms)
        raise UserError(f"{where}: {text!r} is no {expected}") from None
