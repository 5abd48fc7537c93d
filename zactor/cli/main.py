"""The command `zactor`. A verb's module is imported when the verb is called, a kind's verbs by the registry."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from zactor.errors import AskTimeout, Refused, UserError, ZactorError

_VERBS = {
    "up": "topology",
    "down": "topology",
    "ls": "topology",
    "check": "topology",
    "graph": "topology",
    "ps": "ps",
    "top": "top",
    "start": "operate",
    "stop": "operate",
    "restart": "operate",
    "kill": "operate",
    "ask": "nodes",
    "send": "nodes",
    "kinds": "know",
    "schema": "know",
    "new": "new",
    "doctor": "doctor",
    "completion": "completion",
    "logs": "logs",
    "runs": "runs",
    "lost": "lost",
    "trace": "trace",
    "why": "why",
    "replay": "replay",
    "sim": "sim",
    "chaos": "chaos",
    "fault": "fault",
    "judge": "judge",
}

COMPLETE = "ZACTOR_COMPLETE"
"""In the environment when a shell's completion calls; see `zactor.cli.completion`."""


class _Lazy(TyperGroup):
    """A group whose commands are found by name and imported then."""

    def list_commands(self, _context: Any) -> list[str]:
        from zactor import registry

        return [*_VERBS, *sorted(registry.commands())]

    def get_command(self, _context: Any, name: str) -> Any:
        if name in _VERBS:
            app = _command_of(f"zactor.cli.{_VERBS[name]}", "app")
            return getattr(app, "commands", {}).get(name, app)  # an app of one verb, or of one with verbs, is that verb
        from zactor import registry

        where = registry.commands().get(name)
        if where is None:
            return None
        module, _, attribute = where.partition(":")
        group = _command_of(module, attribute)
        group.name = name
        return group

    def format_commands(self, context: Any, formatter: Any) -> None:
        """The list of verbs. To import all of them for their help would take longer than people wait for it."""
        names = self.list_commands(context)
        limit = formatter.width - 6 - max(map(len, names))
        commands = {name: _stand_in(name) or self.get_command(context, name) for name in names}
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(limit)) for name, each in commands.items()])

    def resolve_command(self, context: Any, words: list[str]) -> Any:
        if self.get_command(context, words[0]) is None and not words[0].startswith("-"):
            from zactor.registry import did_you_mean

            known = self.list_commands(context)
            hint = did_you_mean(words[0], known) or f" The verbs are: {', '.join(known)}."
            raise UserError(f"there is no verb {words[0]!r}.{hint}")
        return super().resolve_command(context, words)


def _stand_in(name: str) -> TyperCommand | None:
    """A command with a verb's help, which is the text of its function, as its file has it; None: it is not found so."""
    file = Path(__file__).with_name(f"{_VERBS.get(name)}.py")
    if not file.is_file():
        return None
    found = re.search(rf'^def {name}\(.*?^    """(.*?)"""', file.read_text(), re.DOTALL | re.MULTILINE)
    return None if found is None else TyperCommand(name, help=inspect.cleandoc(found[1]))


def _command_of(module: str, attribute: str) -> Any:
    found: typer.Typer = getattr(importlib.import_module(module), attribute)
    # Whoever wrote the verbs: help looks the same on a terminal and in a pipe, and rich is not loaded.
    found.rich_markup_mode = None
    found._add_completion = False
    return typer.main.get_command(found)


app = typer.Typer(
    cls=_Lazy,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def zactor(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Show the version."),
) -> None:
    """Launch topologies of actors, talk to them, and read what they did."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"zactor {installed('zactor')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        from zactor.cli.common import USAGE

        typer.echo(context.get_help(), err=True)
        raise typer.Exit(USAGE)


def main() -> None:
    """The entry point. Ends the process with one of the exit codes of `zactor.cli.common`."""
    code = 1
    try:
        code = complete(sys.argv[1:]) if COMPLETE in os.environ else run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130  # it came while modules were being imported
    except BrokenPipeError:
        # The reader has gone, as in `zactor logs | head -1`. What is still buffered would complain at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def complete(words: list[str]) -> int:
    """Answer a shell that asks what the last of the words may become."""
    from zactor.cli.completion import print_candidates

    print_candidates(typer.main.get_command(app), words)
    return 0


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit code."""
    from zactor.cli.common import DEADLINE, FAILED, INTERRUPTED, NOT_RUNNING, OK, USAGE, what_to_do
    from zactor.launchers.folders import AlreadyRunning, Late, NotRunning, Unreachable, command_name
    from zactor.topology.diagnostics import TopologyError

    try:
        code = typer.main.get_command(app).main(arguments, prog_name=command_name(), standalone_mode=False)
    except TyperException as problem:
        return _refuse(problem)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except NotRunning as problem:
        return _say(str(problem), NOT_RUNNING)
    except AlreadyRunning as problem:
        return _say(what_to_do(problem), FAILED)
    except Late as problem:
        return _say(str(problem), DEADLINE)
    except Unreachable as problem:
        return _say(str(problem), FAILED)
    except TopologyError as problem:
        count = len(problem.diagnostics)
        sys.stderr.write(f"{problem}\n")  # as compilers do it, so that an editor finds the places
        files = ", ".join(dict.fromkeys(each.file for each in problem.diagnostics))
        return _say(f"{'one mistake' if count == 1 else f'{count} mistakes'} in {files}", USAGE)
    except UserError as problem:
        return _say(str(problem), USAGE)
    except AskTimeout as problem:
        return _say(f"AskTimeout: {problem}", DEADLINE)
    except Refused as problem:
        return _say(str(problem), FAILED)
    except ZactorError as problem:
        return _say(f"{type(problem).__name__}: {problem}", FAILED)
    except OSError as problem:
        if problem.filename is None:
            raise
        return _say(f"{problem.filename}: {problem.strerror}", FAILED)
    return code if isinstance(code, int) else OK


def _refuse(problem: TyperException) -> int:
    """Say what is wrong with the words and flags. A group that is called without a verb shows its help."""
    from zactor.cli.common import USAGE

    text = problem.format_message().rstrip(".")
    context: typer.Context | None = getattr(problem, "ctx", None)
    if context is None:
        return _say(text, USAGE)
    if "\n" not in text:
        return _say(f"{text[:1].lower()}{text[1:]}; see: {context.command_path} --help", USAGE)
    sys.stderr.write(f"{text}\n")
    return USAGE


def _say(text: str, code: int) -> int:
    sys.stderr.write(f"zactor: {text}\n")
    return code


if __name__ == "__main__":
    main()
