"""`ps`, `ask`, `send`: the nodes of a running topology."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from zactor import registry
from zactor.cli.client import TopologyClient, connect
from zactor.cli.common import (
    DirOption,
    JsonOption,
    NodeOption,
    TimeoutOption,
    TopologyOption,
    print_json,
    print_table,
    seconds,
)
from zactor.cli.values import build_message, plain
from zactor.errors import Failure, UserError
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


@app.command()
def ps(
    topology: TopologyOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
    folder: DirOption = None,
) -> None:
    """Show the nodes: state, mailbox and what they wait for."""
    _with_client(topology, folder, lambda client: _ps(client, node, as_json))


async def _ps(client: TopologyClient, pattern: str | None, as_json: bool) -> None:
    answers = await asyncio.gather(*(_inspect(client, process) for process in client.book.processes))
    found = dict(zip(client.book.processes, answers, strict=True))
    shown_names = client.names(pattern)
    rows = [
        _row(client, name, process, found[process])
        for name, process in client.book.nodes.items()
        if name in shown_names
    ]
    if as_json:
        for row in rows:
            print_json(row)
        return
    for row in rows:
        row["restarts"] = (row["restarts"] or 0) + row["process_restarts"]  # in a table, of both together
    columns = ("node", "state", "pid", "mailbox", "handled", "restarts", "waits_for", "last_error")
    shown = [["-" if row[column] is None else _cell(row[column]) for column in columns] for row in rows]
    print_table([column.upper().replace("_", " ") for column in columns], shown)
    books = [about["books"] for about in answers if "books" in about]
    dead = [about["dead_letters"] for about in answers if "dead_letters" in about]
    sys.stdout.write(_books_line(books, dead) + "\n")


def _row(client: TopologyClient, node: str, process: str, about: dict[str, Any]) -> dict[str, Any]:
    """What `ps --json` says of a node. `about` is what its process says of itself."""
    entry = client.book.processes[process]
    actor: dict[str, Any] = next((each for each in about.get("actors", ()) if each["name"] == node), {})
    return {
        "node": node,
        "process": process,
        "pid": entry.pid,
        "state": actor.get("state") or about.get("state") or "stopped",
        "mailbox": actor.get("mailbox"),
        "handled": actor.get("handled"),
        "restarts": actor.get("restarts"),
        "waits_for": actor.get("waits_for"),
        "last_error": actor.get("last_error") or about.get("because"),
        "process_restarts": entry.incarnation - 1,
    }


def _cell(value: object) -> str:
    """One line of a table; `--json` has the whole."""
    text = str(value).partition("\n")[0]
    return text if len(text) <= CELL_LENGTH_MAX else text[: CELL_LENGTH_MAX - 3] + "..."


async def _inspect(client: TopologyClient, process: str) -> dict[str, Any]:
    entry = client.book.processes[process]
    if entry.endpoint is None:
        return {"state": "gone" if entry.gone else "restarting", "because": entry.gone}
    try:
        return await client.inspect(process)
    except Failure as problem:
        return {"state": "no answer", "because": str(problem)}


def _books_line(books: list[dict[str, int]], dead: list[dict[str, int]]) -> str:
    total = {key: sum(book[key] for book in books) for key in ("sent", "received", "handled", "queued", "outbox")}
    reasons: dict[str, int] = {}
    for each in dead:
        for reason, count in each.items():
            reasons[reason] = reasons.get(reason, 0) + count
    lost = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "none"
    waiting = total["queued"] + total["outbox"]
    return f"messages: {total['sent']} sent, {total['handled']} handled, {waiting} waiting; dead letters: {lost}"


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
