"""`kinds`: what can be put into a topology."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from zactor import registry
from zactor.actor import Actor, Link, describe
from zactor.cli.common import JsonOption, OutputOption, print_json, print_table, say, write_out
from zactor.cli.values import describe_fields, plain, type_name, written

app = typer.Typer()


@app.command()
def kinds(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help="Such as files.server or ./greeter.py:Greeter.")
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
    rows = [(name, _document(registry.find(name, None)).partition("\n")[0]) for name in registry.names()]
    if as_json:
        for name, text in rows:
            print_json({"kind": name, "about": text})
    else:
        print_table(("KIND", "ABOUT"), rows)
    for package, problem in sorted(registry.broken().items()):
        say(f"{package} cannot be used: {problem}")


@app.command()
def schema(
    output: OutputOption = None,
) -> None:
    """Print the JSON Schema of topologies with all kinds that are here, for editors."""
    from zactor.topology import schema as schemas

    found = schemas.schema({name: registry.find(name, None) for name in registry.names()})
    text = msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n"
    write_out(text, output)


def _document(kind: type[Actor]) -> str:
    # Not inspect.getdoc: a class without a text would show that of Actor.
    return inspect.cleandoc(kind.__doc__ or "")


def _readme(name: str, kind: type[Actor]) -> tuple[str, str] | None:
    """The README beside the package of a kind, and its first paragraph; None when there is none."""
    *package, _ = kind.__module__.split(".")
    file = sys.modules[kind.__module__].__file__
    if file is None or registry.is_file(name) or not Path(file).with_name("README.md").is_file():
        return None
    text = Path(file).with_name("README.md").read_text(errors="replace")
    paragraphs = (part.strip() for part in text.split("\n\n"))
    return "/".join([*package, "README.md"]), next((part for part in paragraphs if part and part[0] != "#"), "")


def _about(name: str, kind: type[Actor]) -> dict[str, object]:
    about = describe(kind)
    return {
        "kind": name,
        "about": _document(kind),
        "readme": None if (readme := _readme(name, kind)) is None else readme[0],
        "settings": [
            {"name": each.name, "type": type_name(each.type), "required": each.default is msgspec.UNSET}
            | ({} if each.default is msgspec.UNSET else {"default": plain(each.default)})
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


def _show(name: str, kind: type[Actor]) -> None:
    about = describe(kind)
    typer.echo(name)
    if _document(kind):
        typer.echo(_document(kind))
    readme = _readme(name, kind)
    if readme is not None:
        typer.echo(f"\n{readme[1]}\n({readme[0]})")
    settings = [
        (
            each.name,
            type_name(each.type),
            "required" if each.default is msgspec.UNSET else written(each.default, each.type),
        )
        for each in about.settings.values()
    ]
    links = [(each.name, _sends(each), _takes(each)) for each in about.links.values()]
    messages = [
        (each.__name__, describe_fields(each), "-" if each.answer is None else type_name(each.answer))
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


def _sends(link: Link) -> str:
    return " | ".join(message.__name__ for message in link.messages) or "anything"


def _takes(link: Link) -> str:
    if link.many:
        return "any number"
    return "one or none" if link.optional else "one"
