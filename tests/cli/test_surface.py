"""Every verb and flag with its help line, in one file: a change of the command line is seen as a diff."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from zactor.cli.main import app

SURFACE = Path(__file__).parent / "surface.txt"


def test_every_verb_and_flag_is_in_the_surface(golden: Callable[[Path, str], None]) -> None:
    root = typer.main.get_command(app)

    golden(SURFACE, "\n".join(surface(root, "zactor")) + "\n")


def surface(command: Any, path: str) -> Iterator[str]:
    """The lines of a command and of those below it."""
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    yield " ".join([path, *(shown(each) for each in arguments)])
    yield f"    {(command.help or '').partition(chr(10))[0]}"
    for each in command.params:
        yield f"  {shown(each)}" if each in arguments else f"  {', '.join(each.opts)} {shown(each)}".rstrip()
        yield f"    {each.help or ''}{facts(each)}".rstrip()
    yield ""
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from surface(command.get_command(context, name), f"{path} {name}")


def shown(parameter: Any) -> str:
    """How its value is called; nothing for a switch."""
    if getattr(parameter, "is_flag", False):
        return ""
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required or parameter.param_type_name == "option" else f"[{name}]"


def facts(parameter: Any) -> str:
    """Its default and its environment variable, if it has them."""
    said = ""
    if parameter.default not in (None, False) and not parameter.required:
        said += f" [default: {parameter.default}]"
    if parameter.envvar:
        said += f" [{parameter.envvar}]"
    return said
