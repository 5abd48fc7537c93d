"""`start`, `stop`, `restart`, `kill`: single nodes of a running topology."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zactor.cli.change import ask_launcher_of, exit_code
from zactor.cli.common import (
    DirOption,
    TimeoutOption,
    TopologyOption,
    find_running,
    say,
    seconds,
)
from zactor.launchers.control import Nodes, Verb

app = typer.Typer()

NodesArgument = Annotated[
    list[str], typer.Argument(metavar="NODE...", help="Such as greeter, store/0, store for all its replicas, or 's*'.")
]


@app.command()
def start(
    nodes: NodesArgument, timeout: TimeoutOption = "30s", topology: TopologyOption = None, folder: DirOption = None
) -> None:
    """Start nodes that were stopped or are gone.

    The restarts of their processes count from 0 again.
    """
    _operate("start", nodes, timeout, topology, folder)


@app.command()
def stop(
    nodes: NodesArgument, timeout: TimeoutOption = "30s", topology: TopologyOption = None, folder: DirOption = None
) -> None:
    """Stop nodes in order.

    They stay stopped until `start`, or `up` with their file. One of several in a process stops alone, inside it.
    """
    _operate("stop", nodes, timeout, topology, folder)


@app.command()
def restart(
    nodes: NodesArgument, timeout: TimeoutOption = "30s", topology: TopologyOption = None, folder: DirOption = None
) -> None:
    """Stop nodes in order and start them again.

    Their code is loaded anew, unless others go on in the same process: then they restart inside it.
    """
    _operate("restart", nodes, timeout, topology, folder)


@app.command()
def kill(
    nodes: NodesArgument, timeout: TimeoutOption = "30s", topology: TopologyOption = None, folder: DirOption = None
) -> None:
    """End the processes of nodes at once, as kill -9 does.

    With each ends every node in its process. Their restart policies act as after a crash.
    """
    _operate("kill", nodes, timeout, topology, folder)


def _operate(verb: Verb, nodes: list[str], timeout: str, topology: str | None, folder: Path | None) -> None:
    timeout_s = seconds(timeout)
    home, lock = find_running(topology, folder)
    outcome = ask_launcher_of(home, lock, Nodes(verb, tuple(nodes), timeout_s))
    for node, word in outcome.done.items():
        typer.echo(f"{node}: {word}")
    for node, because in outcome.failed.items():
        say(f"{node}: {because}")
    raise typer.Exit(exit_code(outcome))
