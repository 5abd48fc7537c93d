"""`ps`: how the nodes of a running topology fare, what its messages came to, and what was lost."""

from __future__ import annotations

import asyncio
import fnmatch
import os
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import typer

from zactor.cli.client import TopologyClient, connect
from zactor.cli.common import DirOption, JsonOption, NodeOption, TopologyOption, print_json, print_table
from zactor.errors import AskTimeout, Failure, UserError

app = typer.Typer()

CELL_LENGTH_MAX = 60

ANSWER_S = 1.0
"""For a process to answer; the kernel does so between two turns, however full its mailboxes are."""

BUSY_MS = 100
"""How late a loop may be before its process counts as busy."""


@app.command()
def ps(
    topology: TopologyOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
    folder: DirOption = None,
) -> None:
    """Show the nodes: state, mailbox and what they wait for."""

    async def main() -> None:
        async with connect(topology, folder) as client:
            await _ps(client, node, as_json)

    asyncio.run(main())


async def states(client: TopologyClient) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What `ps --json` says of each node, and what each process says of itself."""
    answers = await asyncio.gather(*(_inspect(client, process) for process in client.book.processes))
    found = dict(zip(client.book.processes, answers, strict=True))
    silent = _silences(answers)
    rows = [
        _row(client, name, process, found[process] | {"silent_ms": silent.get(process)})
        for name, process in client.book.nodes.items()
    ]
    return rows, answers


async def _ps(client: TopologyClient, pattern: str | None, as_json: bool) -> None:
    every_row, answers = await states(client)
    rows = [row for row in every_row if pattern is None or fnmatch.fnmatch(row["node"], pattern)]
    if not rows:
        raise UserError(f"no node is like {pattern!r}; the nodes are {', '.join(sorted(client.book.nodes))}")
    if as_json:
        for row in rows:
            print_json(row)
        return
    for row in rows:
        _for_people(row)
    columns = ("node", "state", "pid", "mailbox", "handled", "restarts", "waits_for", "last_error")
    shown = [["-" if row[column] is None else _cell(row[column]) for column in columns] for row in rows]
    print_table([column.upper().replace("_", " ") for column in columns], shown)
    books = [about["books"] for about in answers if "books" in about]
    dead = [about["dead_letters"] for about in answers if "dead_letters" in about]
    sys.stdout.write(_books_line(books, dead) + "\n")
    for process, count in sorted(_lost(answers).items()):
        sys.stdout.write(f"lost with {process}: at most {count}\n")


async def _inspect(client: TopologyClient, process: str) -> dict[str, Any]:
    """What a process says of itself, or else what is known of it."""
    entry = client.book.processes[process]
    if entry.endpoint is None:
        return {"state": "gone" if entry.gone else "restarting", "because": entry.gone}
    try:
        return await client.inspect(process, ANSWER_S)
    except AskTimeout as problem:
        if entry.pid is not None and _lives(entry.pid):
            return {"state": "hung", "because": f"no answer for {ANSWER_S:g} s"}
        return {"state": "no answer", "because": str(problem)}
    except Failure as problem:
        return {"state": "no answer", "because": str(problem)}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's: it is there
    return True


def _silences(answers: list[dict[str, Any]]) -> dict[str, float]:
    """How long each process has said nothing, by the one that heard from it last."""
    silent: dict[str, float] = {}
    for about in answers:
        for peer in about.get("peers", ()):
            silent_ms = peer.get("silent_ms")
            if silent_ms is not None:
                silent[peer["process"]] = min(silent_ms, silent.get(peer["process"], silent_ms))
    return silent


def _row(client: TopologyClient, node: str, process: str, about: dict[str, Any]) -> dict[str, Any]:
    """What `ps --json` says of a node. `about` is what its process says of itself."""
    entry = client.book.processes[process]
    stopped = client.book.stopped.get(node)
    actor: dict[str, Any] = next((each for each in about.get("actors", ()) if each["name"] == node), {})
    return {
        "node": node,
        "process": process,
        "pid": entry.pid,
        "state": actor.get("state") or ("stopped" if stopped is not None else about.get("state", "stopped")),
        "mailbox": actor.get("mailbox"),
        "handled": actor.get("handled"),
        "restarts": actor.get("restarts"),
        "waits_for": actor.get("waits_for"),
        "last_error": actor.get("last_error") or stopped or about.get("because"),
        "process_restarts": entry.incarnation - 1,
        "late_ms": about.get("late_ms"),
        "silent_ms": about["silent_ms"],
    }


def _for_people(row: dict[str, Any]) -> None:
    """Make a row of `--json` one of the table: the state is that of the process where this says more."""
    row["restarts"] = (row["restarts"] or 0) + row["process_restarts"]  # of actor and process together
    if row["state"] == "hung" and row["silent_ms"] is not None:
        row["last_error"] += f", silent for {row['silent_ms'] / 1000:.1f} s"
    if (row["late_ms"] or 0) > BUSY_MS and row["mailbox"] is not None:
        row["state"] = "busy"


def _cell(value: object) -> str:
    """One line of a table; `--json` has the whole."""
    text = str(value).partition("\n")[0]
    return text if len(text) <= CELL_LENGTH_MAX else text[: CELL_LENGTH_MAX - 3] + "..."


def _books_line(books: list[dict[str, int]], dead: list[dict[str, int]]) -> str:
    total = {key: sum(book[key] for book in books) for key in ("sent", "received", "handled", "queued", "outbox")}
    reasons: Counter[str] = Counter()
    for each in dead:
        reasons.update(each)
    lost = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "none"
    waiting = total["queued"] + total["outbox"]
    return f"messages: {total['sent']} sent, {total['handled']} handled, {waiting} waiting; dead letters: {lost}"


def _lost(answers: list[dict[str, Any]]) -> Mapping[str, int]:
    """How many messages were lost with each process that died, at most: what all others say together."""
    lost: Counter[str] = Counter()
    for about in answers:
        lost.update(about.get("lost", {}))
    return lost
