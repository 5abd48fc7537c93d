"""`ps`, `ask`, `send`: the nodes of a running topology."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from zactor import registry
from zactor.cli.client import TopologyClient, connect
from zactor.cli.common import (
    DirOption,
    JsonOption,
    TimeoutOption,
    TopologyOption,
    print_json,
    seconds,
)
from zactor.cli.values import build_message, plain
from zactor.errors import UserError
from zactor.message import Message

app = typer.Typer()

CELL_LENGTH_MAX = 60

A = TypeVar("A")

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="Such as greeter or store/0.")]
MessageArgument = Annotated[str, typer.Argument(metavar="MESSAGE", help="The class of the message.")]
FieldsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="FIELD=VALUE...", help="Its fields; @FILE is what a file holds.")
]
BodyOption = Annotated[
    str | None,
    typer.Option("--body", metavar="JSON", help="All fields as one JSON object; - reads it from standard input."),
]


def _with_client(topology: str | None, folder: Path | None, work: Callable[[TopologyClient], Awaitable[A]]) -> A:
    async def main() -> A:
        async with connect(topology, folder) as client:
            return await work(client)

    return asyncio.run(main())


def _message(client: TopologyClient, node: str, name: str, fields: list[str], body: str | None) -> Message[Any]:
    client.ref(node)
    for process in client.topology.processes:
        for instance in process.instances:
            if node == instance.name:
                kind = registry.find(instance.kind, Path(instance.folder))
                return build_message(kind, name, fields, body)
    raise UserError(f"{node} is no node of the topology; only nodes can be asked from outside")


@app.command()
def ask(
    node: NodeArgument,
    message: MessageArgument,
    fields: FieldsArgument = None,
    body: BodyOption = None,
    timeout: TimeoutOption = "5s",
    as_json: JsonOption = False,
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Ask a node and print its answer."""
    timeout_s = seconds(timeout)

    async def work(client: TopologyClient) -> Any:
        return await client.ask(node, _message(client, node, message, fields or [], body), timeout_s)

    answer = _with_client(topology, folder, work)
    if isinstance(answer, str) and not as_json:
        typer.echo(answer)
    else:
        print_json(plain(answer))


@app.command()
def send(
    node: NodeArgument,
    message: MessageArgument,
    fields: FieldsArgument = None,
    body: BodyOption = None,
    timeout: TimeoutOption = "5s",
    topology: TopologyOption = None,
    folder: DirOption = None,
) -> None:
    """Tell a node something, and return when its process has it."""
    timeout_s = seconds(timeout)

    async def work(client: TopologyClient) -> None:
        await client.send(node, _message(client, node, message, fields or [], body), timeout_s)
        await client.taken(client.book.nodes[node], timeout_s)

    _with_client(topology, folder, work)
