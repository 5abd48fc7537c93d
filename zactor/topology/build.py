"""A topology made in Python: the same keys as in a file, and classes as kinds.

It becomes the text of a file and is read as one, so everything is checked in the same way, and what is wrong is shown
in that text. What comes of it is the checked `model.Topology`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from zactor import registry
from zactor.actor import Actor
from zactor.errors import UserError
from zactor.topology import model
from zactor.topology.compose import overrides_from
from zactor.topology.read import read

FILE = "<Topology>"
"""Where mistakes are shown, and what `ls` has as the file."""


class Node(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node: its kind, which is a name or an Actor class, and what a file can say of it besides."""

    kind: str | type[Actor]
    replicas: int | None = None
    links: Mapping[str, str | Sequence[str]] = {}
    settings: Mapping[str, Any] = {}
    mailbox: int | None = None
    overflow: model.Overflow | None = None
    restart: Mapping[str, str] = {}
    record: model.Record | None = None


class Topology(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"try_": "try"}):
    """A topology to be launched. Every key means what it means in a file; paths are relative to the current folder."""

    name: str
    nodes: Mapping[str, Node]
    processes: Mapping[str, Any] = {}
    peer_timeout: str | None = None
    include: str | Sequence[str] = ()
    vars: Mapping[str, Any] = {}
    sim: Mapping[str, Any] = {}
    nemesis: Sequence[Any] = ()
    try_: Sequence[str] = ()


def load(topology: Topology, *, inline: bool = False, overrides: Sequence[str] = ()) -> model.Topology:
    """The checked and placed topology, as `read.load` makes it of a file.

    With `inline`, kinds may be classes that only this program has. Raises `TopologyError`, and a plain `UserError`
    for a value that has no place in a file or a class that other processes could not import.
    """
    folder = Path.cwd()
    text = written(topology, folder, inline=inline)
    return read(text, Path(FILE), inline=inline, overrides=overrides_from(overrides))


def written(topology: Topology, folder: Path, *, inline: bool) -> str:
    """The text of a file in a folder that says the same."""

    def plain(value: object) -> str:
        if isinstance(value, type) and issubclass(value, Actor):
            return _kind(value, folder, inline=inline)
        expected = "text, numbers, lists and mappings, and an Actor class as kind"
        raise UserError(f"{value!r} has no place in a topology; expected {expected}")

    try:
        return msgspec.json.format(msgspec.json.encode(topology, enc_hook=plain), indent=2).decode()
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as problem:
        raise UserError(f"this topology cannot be written as a file: {problem}") from None


def _kind(kind: type[Actor], folder: Path, *, inline: bool) -> str:
    """The name of a class, by which other processes find it too unless all is inline."""
    name = registry.name_of(kind)
    if name is None and inline:
        return registry.lend(kind)
    if name is None:
        raise UserError(
            f"only this program knows {kind.__qualname__} of {kind.__module__}: put it into a file of its own, such as "
            "actors.py, and import it from there, or into the KINDS of a plugin; or launch it with inline=True"
        )
    file, colon, word = name.rpartition(":")
    if not colon or not file.startswith(f"{folder}{os.sep}"):
        return name
    # As one would write it in a file here: what a node keeps belongs to a kind of that name.
    return f"./{os.path.relpath(file, folder)}:{word}"
