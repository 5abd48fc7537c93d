"""`kinds`: what can be put into a topology."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from zactor import registry
from zactor.actor import Actor, describe
from zactor.cli.common import JsonOption, print_json, print_table
from zactor.cli.values import describe_fields, type_name

app = typer.Typer()


@app.command()
def kinds(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="Such as files.server or ./greeter.py:Greeter.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the kinds, or show one: its settings, links and messages."""
    if kind is not None:
        found = registry.find(kind, Path.cwd())
        if as_json:
            print_json(_about(kind, found))
        else:
            _show(kind, found)
        return
    rows = [(name, _first_line(registry.find(name, None))) for name in registry.names()]
    if as_json:
        for name, text in rows:
            print_json({"kind": name, "about": text})
    else:
        print_table(("KIND", "ABOUT"), rows)
    for package, problem in sorted(registry.broken().items()):
        sys.stderr.write(f"zactor: {package} cannot be used: {problem}\n")


def _first_line(kind: type[Actor]) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def _about(name: str, kind: type[Actor]) -> dict[str, object]:
    about = describe(kind)
    return {
        "kind": name,
        "about": inspect.getdoc(kind),
        "settings": [
            {"name": each.name, "type": type_name(each.type), "default": None if _needed(each) else each.default}
            | {"required": _needed(each)}
            for each in about.settings.values()
        ],
        "links": [
            {"name": each.name, "many": each.many, "optional": each.optional}
            | {"messages": [message.__name__ for message in each.messages]}
            for each in about.links.values()
        ],
        "messages": [
            {"name": each.__name__, "fields": describe_fields(each), "answer": type_name(each.answer)}
            for each in about.messages.values()
        ],
    }


def _needed(setting: object) -> bool:
    return getattr(setting, "default", None) is msgspec.UNSET


def _show(name: str, kind: type[Actor]) -> None:
    about = describe(kind)
    typer.echo(f"{name}\n{inspect.getdoc(kind) or ''}")
    settings = [
        (each.name, type_name(each.type), "required" if _needed(each) else f"{each.default!r}")
        for each in about.settings.values()
    ]
    links = [
        (
            each.name,
            " | ".join(message.__name__ for message in each.messages) or "anything",
            "any number" if each.many else "optional" if each.optional else "one",
        )
        for each in about.links.values()
    ]
    messages = [
        (each.__name__, describe_fields(each), type_name(each.answer) if each.answer else "-")
        for each in about.messages.values()
    ]
    for head, rows in (
        (("SETTING", "TYPE", "DEFAULT"), settings),
        (("LINK", "SENDS", "TAKES"), links),
        (("MESSAGE", "FIELDS", "ANSWER"), messages),
    ):
        if rows:
            typer.echo("")
            print_table(head, rows)
