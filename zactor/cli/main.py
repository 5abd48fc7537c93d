"""The command `zactor`. A verb's module is imported when the verb is called, a kind's verbs by the registry."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from zactor.errors import AskTimeout, UserError, ZactorError

_VERBS = {
    "up": "topology",
    "down": "topology",
    "ls": "topology",
    "check": "topology",
    "ps": "nodes",
    "ask": "nodes",
    "send": "nodes",
    "kinds": "know",
    "logs": "runs",
}


class _Lazy(TyperGroup):
    """A group whose commands are found by name and imported then."""

    def list_commands(self, _context: Any) -> list[str]:
        from zactor import registry

        return [*_VERBS, *sorted(registry.commands())]

    def get_command(self, _context: Any, name: str) -> Any:
        if name in _VERBS:
            group: Any = typer.main.get_command(importlib.import_module(f"zactor.cli.{_VERBS[name]}").app)
            return getattr(group, "commands", {name: group})[name]  # an app of one verb is that verb
        from zactor import registry

        where = registry.commands().get(name)
        if where is None:
            return None
        module, _, attribute = where.partition(":")
        group = typer.main.get_command(getattr(importlib.import_module(module), attribute))
        group.name = name
        return group


app = typer.Typer(cls=_Lazy, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def zactor(
    version: bool = typer.Option(False, "--version", help="Show the version.", is_eager=True),
) -> None:
    """Launch topologies of actors, talk to them, and read what they did."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"zactor {installed('zactor')}")
        raise typer.Exit


def main() -> None:
    """The entry point. Ends the process with one of the exit codes of `zactor.cli.common`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit code."""
    from zactor.cli.common import DEADLINE, FAILED, INTERRUPTED, NOT_RUNNING, OK, USAGE, NotRunning

    try:
        code = typer.main.get_command(app).main(arguments, prog_name="zactor", standalone_mode=False)
    except TyperException as problem:
        show = getattr(problem, "show", None)
        if show is None:
            return _say(problem, USAGE)
        show()
        return USAGE
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except NotRunning as problem:
        return _say(problem, NOT_RUNNING)
    except UserError as problem:
        return _say(problem, USAGE)
    except AskTimeout as problem:
        return _say(problem, DEADLINE)
    except ZactorError as problem:
        return _say(problem, FAILED)
    return code if isinstance(code, int) else OK


def _say(problem: Exception, code: int) -> int:
    kind = "" if isinstance(problem, UserError) else f"{type(problem).__name__}: "
    sys.stderr.write(f"zactor: {kind}{problem}\n")
    return code


if __name__ == "__main__":
    main()
