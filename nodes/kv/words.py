"""Operations as people write them on a command line, and items as they are shown."""

from __future__ import annotations

import shlex
from typing import Any, cast, get_args

from zactor.errors import UserError

from . import operations as op


def text(content: bytes) -> str:
    """Keys and values are bytes; what is not UTF-8 is shown by escapes."""
    return content.decode("utf-8", "backslashreplace")


def as_object(item: op.Item) -> dict[str, Any]:
    """An item for `--json`."""
    return {
        "key": text(item.key),
        "value": text(item.value),
        "created": item.created,
        "modified": item.modified,
        "version": item.version,
        "lease": item.lease,
    }


def parse_condition(written: str) -> op.Condition:
    """A condition: `KEY version|created|modified|lease|value =|!=|<|> EXPECTED`. Raises `UserError`."""
    words = _split(written)
    if len(words) != 4:
        raise UserError(f"{written!r} is no condition; it is written KEY version = 0, or KEY value != text")
    key, target, relation, expected = words
    if target not in get_args(op.Target):
        raise UserError(f"{target!r} in {written!r} is none of {', '.join(get_args(op.Target))}")
    if relation not in get_args(op.Relation):
        raise UserError(f"{relation!r} in {written!r} is none of {' '.join(get_args(op.Relation))}")
    is_number = expected.isascii() and expected.isdigit()
    if target != "value" and not is_number:
        raise UserError(f"{expected!r} in {written!r} is no number, which a {target} is")
    value = expected.encode() if target == "value" else int(expected)
    return op.Condition(key.encode(), cast("op.Target", target), cast("op.Relation", relation), value)


def parse_step(written: str) -> op.Step:
    """A step: `put KEY VALUE`, `delete KEY [END]`, `get KEY` or `range KEY END`. Raises `UserError`."""
    match _split(written):
        case ["put", key, value]:
            return op.Put(key.encode(), value.encode())
        case ["delete", key]:
            return op.Delete(key.encode())
        case ["delete", key, end]:
            return op.Delete(key.encode(), end.encode())
        case ["get", key]:
            return op.Get(key.encode())
        case ["range", key, end]:
            return op.Range(key.encode(), end.encode())
    raise UserError(f"{written!r} is no step; there are: put KEY VALUE, delete KEY [END], get KEY, range KEY END")


def _split(written: str) -> list[str]:
    try:
        return shlex.split(written)
    except ValueError as error:
        raise UserError(f"{written!r} cannot be split into words: {error}") from None


def answer_lines(answer: Any) -> list[str]:
    """What a step of a transaction was answered by."""
    match answer:
        case op.Written():
            return ["put"]
        case op.Deleted():
            return [f"{answer.count} deleted"]
        case op.Found():
            return ["not there"] if answer.item is None else [f"{text(answer.item.key)}  {text(answer.item.value)}"]
    return [f"{text(item.key)}  {text(item.value)}" for item in answer.items]


def change_line(item: op.Item) -> str:
    """A change, as a watch shows it."""
    if not item.version:
        return f"{item.modified}  delete  {text(item.key)}"
    return f"{item.modified}  put  {text(item.key)}  {text(item.value)}"
