"""A JSON Schema of topologies, for editors: keys, kinds, and the settings and links of each kind that is here.

It follows what `read` accepts as far as a schema can; names that must exist are for `zactor check`. A text with a
variable in it (`${servers}`) is allowed wherever another value is.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from zactor.actor import Actor, Setting, describe
from zactor.topology.model import (
    MAILBOX_MAX,
    NAME_LENGTH_MAX,
    OVERFLOWS,
    RECORDS,
    REPLICA_COUNT_MAX,
    TRANSPORTS,
    WHENS,
)
from zactor.topology.trials import FAULTS
from zactor.units import DURATION_FORMS, Unit

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_TEXT: Schema = {"type": "string"}
_TRUTH: Schema = {"type": "boolean"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_DURATION: Schema = {"type": "string", "description": DURATION_FORMS}
_VARIABLE: Schema = {"type": "string", "pattern": r"\$\{[^}]+\}"}
_NAME = rf"^[a-z0-9][a-z0-9_-]{{0,{NAME_LENGTH_MAX - 1}}}$"


def schema(kinds: Mapping[str, type[Actor]]) -> Schema:
    """The schema of a topology that may use these kinds, and any in plain files."""
    keys = {
        "include": {"anyOf": [_TEXT, _TEXTS], "description": "Files that this one stands above."},
        "vars": {"type": "object", "description": "Values for ${NAME}."},
        "name": {"type": "string", "pattern": _NAME},
        "nodes": {
            "type": "object",
            "propertyNames": {"pattern": _NAME},
            "minProperties": 1,
            "additionalProperties": {"$ref": "#/$defs/node"},
        },
        "processes": {"type": "object", "additionalProperties": _PROCESS},
        "peer_timeout": _DURATION | {"title": "How long a process may be silent before it counts as lost."},
        "sim": _sim(),
        "nemesis": {"type": "array", "items": {"oneOf": [_fault(name) for name in FAULTS]}},
        "try": _TEXTS | {"description": "Commands that `up` suggests."},
    }
    topology = _object(keys) | {"anyOf": [{"required": ["name", "nodes"]}, {"required": ["include"]}]}
    written = {_written(setting.type) for kind in kinds.values() for setting in describe(kind).settings.values()}
    found, definitions = msgspec.json.schema_components(written, ref_template="#/$defs/{name}")
    types_ = dict(zip(written, found, strict=True))
    definitions["node"] = _node(kinds, types_)
    return {"$schema": DIALECT, "title": "A topology of zactor"} | topology | {"$defs": definitions}


def _node(kinds: Mapping[str, type[Actor]], types_: dict[Any, Schema]) -> Schema:
    known = {"enum": sorted(kinds)}
    in_file = {"type": "string", "pattern": r"\.py:", "description": "A class in a file: ./greeter.py:Greeter."}
    keys = {
        "kind": {"anyOf": [known, in_file, _VARIABLE]},
        "replicas": _count(REPLICA_COUNT_MAX, "So many of it, numbered from 0."),
        "settings": {"type": "object"},
        "links": {"type": "object", "additionalProperties": {"anyOf": [_TEXT, _TEXTS]}},
        "mailbox": _count(MAILBOX_MAX, "Messages that it holds at most."),
        "overflow": {"enum": list(OVERFLOWS), "description": "What becomes of a tell that finds its mailbox full."},
        "restart": _object({"when": {"enum": list(WHENS)}, "backoff": _TEXT, "limit": _TEXT}),
        "record": {"enum": list(RECORDS), "description": "What is kept of what feeds it."},
    }
    cases = [
        {"if": {"properties": {"kind": {"const": name}}}, "then": {"properties": _of_kind(kind, types_)}}
        for name, kind in sorted(kinds.items())
    ]
    return _object(keys, ["kind"]) | {"allOf": cases}


def _of_kind(kind: type[Actor], types_: dict[Any, Schema]) -> Schema:
    about = describe(kind)
    settings = {name: _setting(setting, types_) for name, setting in about.settings.items()}
    required = [name for name, setting in about.settings.items() if setting.default is msgspec.UNSET]
    links = {
        name: {"anyOf": [_TEXT, _TEXTS], "description": " | ".join(each.__name__ for each in link.messages)}
        for name, link in about.links.items()
    }
    document = {"description": inspect.cleandoc(kind.__doc__ or "")}
    return {"settings": _object(settings, required) | document, "links": _object(links)}


def _setting(setting: Setting, types_: dict[Any, Schema]) -> Schema:
    return {"anyOf": [types_[_written(setting.type)], _VARIABLE]} | _described(setting)


def _described(setting: Setting) -> Schema:
    for extra in getattr(setting.type, "__metadata__", ()):
        if isinstance(extra, Unit):
            default = extra.format(setting.default) if isinstance(setting.default, int) else None
            return {"description": extra.forms} | ({} if default is None else {"default": default})
    if isinstance(setting.default, str | int | float | bool):
        return {"default": setting.default}
    return {}


def _written(annotation: Any) -> Any:
    """The type of what is written for a value of that type: a quantity is a text, or a number."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        if any(isinstance(extra, Unit) for extra in annotation.__metadata__):
            return str | int
        return annotation
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        hints = typing.get_type_hints(annotation, include_extras=True)
        return annotation if all(_written(hint) == hint for hint in hints.values()) else dict[str, Any]
    if origin is None or origin is typing.Literal:
        return annotation
    inner = tuple(_written(argument) for argument in arguments)
    if origin in (typing.Union, types.UnionType):
        return typing.Union[inner]  # noqa: UP007 - made of a tuple
    return origin[inner]


def _sim() -> Schema:
    keys = {
        "workload": _TEXT,
        "judges": _TEXTS,
        "settles": _TEXTS,
        "sometimes": _TEXTS,
        "clients": {"type": "integer", "minimum": 1},
        "for": _DURATION,
        "heal": _DURATION,
        "replicas": {"type": "object", "additionalProperties": {"type": "string", "pattern": r"^\d+\.\.\d+$"}},
        "damage": {"anyOf": [_COUNT, {"const": "unbounded"}, {"type": "object", "additionalProperties": _COUNT}]},
        "settings": {"type": "object"},
    }
    return _object(keys, ["workload"])


def _fault(name: str) -> Schema:
    kind = FAULTS[name]
    words = {"at": _DURATION, "do": {"const": name}, kind.aim: {"anyOf": [_TEXT, {"type": "array"}]}}
    keys = words | {word: _WORDS[word] for word in (*kind.needs, *kind.takes)}
    return _object(keys, ["at", "do", kind.aim, *kind.needs])


_COUNT: Schema = {"type": "integer", "minimum": 0}

_WORDS: dict[str, Schema] = {
    "for": _DURATION,
    "by": _TEXT,
    "rate": {"type": "string", "pattern": r"^\d{1,3}%$"},
    "times": {"type": "integer", "minimum": 1},
    "ppm": {"type": "integer"},
    "one_way": _TRUTH,
    "writing": _TRUTH,
    "messages": _TEXTS,
}


def _count(most: int, about: str) -> Schema:
    number = {"type": "integer", "minimum": 1, "maximum": most}
    return {"anyOf": [number, _VARIABLE], "description": about}


def _object(keys: Schema, required: Iterable[str] = ()) -> Schema:
    found: Schema = {"type": "object", "properties": keys, "additionalProperties": False}
    wanted = list(required)
    return found | {"required": wanted} if wanted else found


_PROCESS = _object({"nodes": _TEXTS, "transport": {"enum": list(TRANSPORTS)}}, ["nodes"])
