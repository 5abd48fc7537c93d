"""Every verb and flag with its help line, in one file: a change of the command line is seen as a diff."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from zactor.cli.main import _stand_in, app

SURFACE = Path(__file__).parent / "surface.txt"


def test_every_verb_and_flag_is_in_the_surface(golden: Callable[[Path, str], None]) -> None:
    root = typer.main.get_command(app)

    golden(SURFACE, "\n".join(surface(root, "zactor")) + "\n")


def test_the_list_of_verbs_says_what_the_verbs_say() -> None:
    """It reads their texts where they are written, without importing them."""
    root: Any = typer.main.get_command(app)
    context = typer.Context(root)

    found = {name: _stand_in(name) for name in root.list_commands(context)}

    assert [name for name, each in found.items() if each is None] == ["fs", "kv", "raft"]  # those of kinds
    for name, each in found.items():
        if each is not None:
            assert each.get_short_help_str(500) == root.get_command(context, name).get_short_help_str(500)


def test_help_loads_nothing_that_it_does_not_need() -> None:
    heavy = {"zmq", "structlog", "rich", "ruamel.yaml", "zactor.kernel", "zactor.client"}
    code = f"import sys; from zactor.cli.main import run; run(['--help']); print(sorted(set(sys.modules) & {heavy}))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


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
