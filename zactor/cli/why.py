"""`why`: how a node comes to be as it is: what it waits for, its last failure, and what was decided about it."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
import typer

from zactor.cli.client import TopologyClient
from zactor.cli.common import DirOption, JsonOption, RunOption, TopologyOption, clock_of, print_json
from zactor.cli.logs import show_event
from zactor.cli.ps import states
from zactor.cli.runs import home_and_run, nodes_of
from zactor.debug.runlog import Event, Log, time_ns
from zactor.errors import UserError
from zactor.launchers.folders import Home
from zactor.registry import did_you_mean
from zactor.units import format_duration

app = typer.Typer()

DECISIONS_KEPT = 10
"""The last of them are shown."""

DECISIVE = frozenset(
    ["supervised", "process_ends", "process_restarting", "process_gone", "process_stopped", "process_killed"]
)
"""Events of supervisors: of the actor's own, and of the launcher, which has its process."""


class History(msgspec.Struct):
    """What a run's log has of a node: its last failure, and what was decided."""

    failure: Event | None
    decisions: list[Event]


@app.command()
def why(
    node: Annotated[str, typer.Argument(metavar="NODE", help="A node, such as store/0.")],
    topology: TopologyOption = None,
    run: RunOption = "latest",
    as_json: JsonOption = False,
    folder: DirOption = None,
) -> None:
    """Show why a node is as it is: what it waits for, its mailbox, its last failure, and what was decided about it."""
    home, where = home_and_run(topology, folder, run)
    nodes = nodes_of(where)
    if node not in nodes:
        raise UserError(
            f"there is no node {node!r}.{did_you_mean(node, nodes)} The nodes are {', '.join(sorted(nodes))}"
        )
    process = nodes[node]
    lock = None if home is None else home.running()
    now = {}
    if home is not None and lock is not None and where == home.run_folder(lock.run):
        now = asyncio.run(_now(home, node))
    with Log(where) as log:
        history = history_of(log.read(), node, process)
    if as_json:
        print_json({"node": node, "process": process, "now": now} | msgspec.structs.asdict(history))
        return
    _show(node, process, now, history)


def history_of(events: Iterable[Event], node: str, process: str) -> History:
    """The last failure of a node, and the last decisions about it and its process."""
    failure: Event | None = None
    decisions: deque[Event] = deque(maxlen=DECISIONS_KEPT)
    for event in events:
        about = event.get("node")
        if event.get("event") == "handler_failed" and about == node:
            failure = event
        elif event.get("event") in DECISIVE and about in (node, process, ""):
            if about == "" and event.get("process") != process:
                continue
            decisions.append(event)
    return History(failure, list(decisions))


async def _now(home: Home, node: str) -> dict[str, Any]:
    async with TopologyClient(home) as client:
        rows = {row["node"]: row for row in (await states(client))[0]}
    row = rows.get(node)
    if row is None:
        return {}  # it is about to be added
    chain, seen = [], {node}
    waits_for = row["waits_for"]
    while waits_for in rows and waits_for not in seen:
        seen.add(waits_for)
        chain.append(waits_for)
        waits_for = rows[waits_for]["waits_for"]
    return row | {"waits_through": chain, "ends_at": rows[chain[-1]]["state"] if chain else None}


def _show(node: str, process: str, now: dict[str, Any], history: History) -> None:
    if now:
        shared = "" if process == node else f", in process {process}"
        sys.stdout.write(f"{node}  {now['state']}, pid {now['pid']}{shared}\n")
        sys.stdout.write(f"waits for  {_waits(now)}\n")
        if now["mailbox"] is not None:
            sys.stdout.write(f"mailbox    {now['mailbox']} waiting, {now['handled']} handled\n")
    else:
        sys.stdout.write(f"{node}  does not run now\n")
    if history.failure is None:
        sys.stdout.write("last failure: none\n")
    else:
        sys.stdout.write("last failure:\n")
        show_event(history.failure, None, as_json=False)
    if history.decisions:
        sys.stdout.write("decided:\n")
    for event in history.decisions:
        what = event.get("directive") or str(event["event"]).removeprefix("process_")
        delay_ns = event.get("delay_ns")
        after = f" in {format_duration(delay_ns)}" if delay_ns else ""
        sys.stdout.write(f"  {clock_of(time_ns(event))}  {what}{after}: {event.get('because')}\n")


def _waits(now: dict[str, Any]) -> str:
    chain = now["waits_through"]
    if not chain:
        return now["waits_for"] or "nothing"
    return f"{', which waits for '.join(chain)}, which is {now['ends_at']}"
