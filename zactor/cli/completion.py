"""Completion of command lines: `zactor completion SHELL` prints what a shell has to read, and then it asks here.

The shell calls `zactor` with the words up to the cursor and `ZACTOR_COMPLETE` in its environment, and gets a candidate
a line; when there is none it offers files. What a word can be is known by how the help calls it: a `NODE` is one of the
topology that runs, a `KIND` one that can be imported. So a verb that uses these names need do nothing for it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer

from zactor.errors import UserError

app = typer.Typer()

BASH = """\
_zactor() {
    local IFS=$'\\n'
    COMPREPLY=($(ZACTOR_COMPLETE=1 "$1" ${COMP_WORDS[@]:1:COMP_CWORD-1} "${COMP_WORDS[COMP_CWORD]}" 2>/dev/null))
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -o default -F _zactor zactor bin/zactor
"""

ZSH = """\
#compdef zactor
_zactor() {
    local -a found
    found=("${(@f)$(ZACTOR_COMPLETE=1 "${words[1]}" "${(@)words[2,CURRENT-1]}" "${PREFIX}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then
        compadd -S '' -- ${(M)found:#*=}
        compadd -- ${found:#*=}
        return 0
    else
        _files
    fi
}
compdef _zactor zactor bin/zactor
"""

FISH = """\
function __zactor
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    env ZACTOR_COMPLETE=1 $words "$word" 2>/dev/null
end
complete -c zactor -a '(__zactor)'
"""

SHELLS = {"bash": BASH, "zsh": ZSH, "fish": FISH}

RUN_ALIAS = "latest"


@app.command()
def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help=f"One of {', '.join(SHELLS)}.")],
) -> None:
    """Print what makes a shell complete zactor's words.

    For bash: `source <(zactor completion bash)` in ~/.bashrc; for zsh the same in ~/.zshrc, after compinit; for fish:
    `zactor completion fish > ~/.config/fish/completions/zactor.fish`.
    """
    if shell not in SHELLS:
        raise UserError(f"there is no completion for {shell!r}; the shells are {', '.join(SHELLS)}")
    sys.stdout.write(SHELLS[shell])


class Line(NamedTuple):
    """What stands before the word that is completed, by the names of flags and arguments as the help has them."""

    values: dict[str, str]

    def get(self, *names: str) -> str | None:
        """The value of the first of these that was given."""
        return next((self.values[name] for name in names if name in self.values), None)


def print_candidates(root: Any, words: list[str]) -> None:
    """Answer a shell: one candidate a line for the last of the words. What cannot be looked at has none."""
    with contextlib.suppress(Exception):  # a traceback amid a line that somebody writes helps nobody
        for candidate in candidates(root, words):
            sys.stdout.write(f"{candidate}\n")


def candidates(root: Any, words: list[str]) -> list[str]:
    """What the last of the words may become, in order."""
    *before, word = words or [""]
    flag, equals, value = word.partition("=")
    if flag.startswith("--") and equals:
        return [f"{flag}={each}" for each in candidates(root, [*before, flag, value])]
    if word == "=":  # bash takes `--flag=value` for three words
        word = ""
    command, line, awaited, arguments = _walk(root, before)
    if awaited is not None:
        found = _values(awaited, line)
    elif word.startswith("-"):
        found = [flag for each in command.params for flag in each.opts if flag.startswith("-")]
    elif hasattr(command, "list_commands"):
        found = command.list_commands(typer.Context(command))
    else:
        found = _values(arguments[0], line) if arguments else []
    return [each for each in dict.fromkeys(found) if each.startswith(word)]


def _walk(command: Any, words: Iterable[str]) -> tuple[Any, Line, Any, list[Any]]:
    """Follow words to the command that they mean.

    Returns it, what was given to it, the flag that waits for its value, and the arguments that are still to come.
    """
    line = Line({})
    awaited = None
    arguments = _arguments(command)
    for word in words:
        if word == "=":
            continue
        if awaited is not None:
            line.values[_name(awaited)] = word
            awaited = None
        elif word.startswith("-") and word != "-":
            flag, equals, value = word.partition("=")
            awaited = next((each for each in command.params if flag in each.opts and not each.is_flag), None)
            if awaited is not None and equals:
                line.values[_name(awaited)] = value
                awaited = None
        elif hasattr(command, "list_commands"):
            command = command.get_command(typer.Context(command), word)
            if command is None:
                raise UserError(f"there is no verb {word!r}")
            arguments = _arguments(command)
        elif arguments:
            line.values.setdefault(_name(arguments[0]), word)
            if arguments[0].nargs == 1:
                arguments = arguments[1:]
    return command, line, awaited, arguments


def _arguments(command: Any) -> list[Any]:
    return [each for each in command.params if each.param_type_name == "argument"]


def _name(parameter: Any) -> str:
    """How the help calls its value, without the dots of one that can be repeated."""
    return str(parameter.metavar or "").rstrip(".")


def _values(parameter: Any, line: Line) -> list[str]:
    find = VALUES.get(parameter.metavar)
    return [] if find is None else find(line)


# --- what there is
def _running(line: Line) -> tuple[Any, Any]:
    """The home of the topology that is meant, and its lock."""
    from zactor.launchers.folders import find_running

    folder = line.get("DIR")
    return find_running(line.get("NAME|FILE"), None if folder is None else Path(folder), "-t")


def _topologies(_line: Line) -> list[str]:
    from zactor.launchers.folders import running

    return [home.name for home, _ in running()]


def _instances(line: Line) -> list[Any]:
    home, lock = _running(line)
    return [instance for process in home.read_run(lock.run).processes for instance in process.instances]


def _nodes(line: Line) -> list[str]:
    return [instance.name for instance in _instances(line)]


def _nodes_and_groups(line: Line) -> list[str]:
    """Nodes, and the names that mean all replicas of one."""
    found = _nodes(line)
    return [*found, *(name.partition("/")[0] for name in found if "/" in name)]


def _patterns(line: Line) -> list[str]:
    """Nodes, and the patterns that mean all replicas of one."""
    found = _nodes(line)
    return [*found, *(f"{name.partition('/')[0]}/*" for name in found if "/" in name)]


def _kind_of(line: Line) -> Any:
    from zactor import registry

    instance = next(each for each in _instances(line) if each.name == line.get("NODE"))
    return registry.find(instance.kind, Path(instance.folder))


def _messages(line: Line) -> list[str]:
    from zactor.actor import describe

    return sorted(describe(_kind_of(line)).messages)


def _fields(line: Line) -> list[str]:
    from zactor.actor import describe

    message: Any = describe(_kind_of(line)).messages[line.get("MESSAGE") or ""]
    return [f"{field.name}=" for field in msgspec.structs.fields(message)]


def _runs(line: Line) -> list[str]:
    return [*reversed(_running(line)[0].runs()), RUN_ALIAS]


def _kinds(_line: Line) -> list[str]:
    from zactor import registry

    return registry.names()


def _ways(_line: Line) -> list[str]:
    from zactor.topology.model import RECORDS

    return list(RECORDS)


VALUES: dict[str, Callable[[Line], list[str]]] = {
    "FIELD=VALUE...": _fields,
    "KIND": _kinds,
    "MESSAGE": _messages,
    "NAME|FILE": _topologies,
    "NODE": _nodes,
    "NODE...": _nodes_and_groups,
    "PATTERN": _patterns,
    "RUN": _runs,
    "SHELL": lambda _line: list(SHELLS),
    "WAY": _ways,
}
"""What a word can be, by how the help calls it. Whatever else there is may be a file."""
