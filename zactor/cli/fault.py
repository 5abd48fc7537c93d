"""`fault`: something is done on purpose to nodes of a running topology, and taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zactor.cli.change import ask_launcher_of, exit_code
from zactor.cli.common import DirOption, TimeoutOption, TopologyOption, find_running, say, seconds
from zactor.errors import UserError
from zactor.launchers.control import Fault, Heal
from zactor.live.faults import Kind
from zactor.units import parse_duration

app = typer.Typer()

NodesArgument = Annotated[
    list[str], typer.Argument(metavar="NODE...", help="Such as greeter, store/0, store for all its replicas, or 's*'.")
]
SomeNodesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="NODE...", help="Only these; default: whatever something was done to.")
]
ForOption = Annotated[
    str | None, typer.Option("--for", metavar="DURATION", help="It ends by itself after this; default: by `heal`.")
]
FromOption = Annotated[
    list[str] | None,
    typer.Option("--from", metavar="NODE", help="Only from these; it may be said again. Default: all, and clients."),
]


@app.callback()
def fault() -> None:
    """Try what a running topology bears: nodes are cut off, paused and slowed down."""


@app.command()
def cut(
    nodes: NodesArgument,
    others: FromOption = None,
    span: ForOption = None,
    timeout: TimeoutOption = "5s",
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Cut the processes of nodes off from all others, as a network that loses everything.

    No connection ends by it: both sides find out by silence, after the topology's `peer_timeout`. The nodes that are
    named still reach each other. What was lost meanwhile stays lost when it is over.
    """
    _ask(Fault("cut", tuple(nodes), seconds(timeout), tuple(others or ("*",)), _for(span)), topology, folder)


@app.command()
def pause(
    nodes: NodesArgument,
    span: ForOption = None,
    timeout: TimeoutOption = "5s",
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Make the processes of nodes stand still, as SIGSTOP does."""
    _ask(Fault("pause", tuple(nodes), seconds(timeout), for_s=_for(span)), topology, folder)


@app.command()
def resume(
    nodes: SomeNodesArgument = None,
    timeout: TimeoutOption = "5s",
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Let nodes that were paused go on."""
    _ask(Heal(tuple(nodes or ()), seconds(timeout), "pause"), topology, folder)


@app.command()
def slow(
    nodes: NodesArgument,
    by: Annotated[str, typer.Option("--by", metavar="DURATION", help="How late everything is.")],
    others: FromOption = None,
    disk: Annotated[
        bool, typer.Option("--disk", help="Slow the disk instead: each sync takes so much longer.")
    ] = False,
    span: ForOption = None,
    timeout: TimeoutOption = "5s",
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Let all that goes to and from the processes of nodes be late, as over a long way; or slow their disks.

    Nothing is lost, and everything keeps its order.
    """
    if disk and others:
        raise UserError("--disk slows the disk of a node, and --from what comes from others; say one of them")
    kind: Kind = "slow_disk" if disk else "slow"
    by_ns = parse_duration(by)
    _ask(
        Fault(kind, tuple(nodes), seconds(timeout), tuple(others or ("*",)), _for(span), by_ns),
        topology,
        folder,
    )


@app.command()
def skew(
    nodes: NodesArgument,
    by: Annotated[str, typer.Option("--by", metavar="DURATION", help="How far ahead; behind with a minus.")],
    span: ForOption = None,
    timeout: TimeoutOption = "5s",
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Set the wall clocks of the processes of nodes ahead, or behind.

    Deadlines and timers go by another clock.
    """
    by_ns = -parse_duration(by[1:]) if by[:1] == "-" else parse_duration(by)
    _ask(Fault("skew", tuple(nodes), seconds(timeout), for_s=_for(span), by_ns=by_ns), topology, folder)


@app.command()
def heal(
    nodes: SomeNodesArgument = None,
    timeout: TimeoutOption = "5s",
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Take back all that was done to nodes."""
    _ask(Heal(tuple(nodes or ()), seconds(timeout)), topology, folder)


def _for(span: str | None) -> float:
    if span is None:
        return 0.0
    found = seconds(span)
    if not found:
        raise UserError("--for 0s would end it at once; leave it away to have it until: zactor fault heal")
    return found


def _ask(request: Fault | Heal, topology: str | None, folder: Path | None) -> None:
    home, lock = find_running(topology, folder)
    outcome = ask_launcher_of(home, lock, request)
    for node, word in outcome.done.items():
        typer.echo(f"{node}: {word}")
    for node, because in outcome.failed.items():
        say(f"{node}: {because}")
    if not (outcome.done or outcome.failed):
        typer.echo("nothing is done to any node")
    raise typer.Exit(exit_code(outcome))
