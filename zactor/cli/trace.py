"""`trace`: what led to a message and what came of it, over all processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from zactor import registry
from zactor.actor import describe
from zactor.cli.common import DirOption, JsonOption, RunOption, TopologyOption, clock_of, print_json, print_table, say
from zactor.cli.runs import nodes_of, recordings_of, run_folder
from zactor.cli.values import plain, written
from zactor.debug.trace import MESSAGES_MAX, Hop, Traces
from zactor.errors import UserError
from zactor.message import Message, format_id, parse_id
from zactor.registry import did_you_mean

app = typer.Typer()

SHOWN_MAX = 1_000
"""Messages that are listed for people; `--json` has all of them."""

BODY_LENGTH_MAX = 60


@app.command()
def trace(
    message: Annotated[
        str, typer.Argument(metavar="MESSAGE", help="A message's id, such as 4.1.17, or a type: the last of it.")
    ],
    topology: TopologyOption = None,
    run: RunOption = "latest",
    as_json: JsonOption = False,
    folder: DirOption = None,
) -> None:
    """Show what led to a message and what came of it, as a tree of causes and effects with times."""
    where = run_folder(topology, folder, run)
    traces = Traces(recordings_of(where))
    for problem in traces.problems:
        say(problem)
    silent = sorted(nodes_of(where).keys() - {instance["name"] for instance in traces.instances()})
    if silent:
        say(f"there is no recording of {', '.join(silent)}: what they were sent is shown, and nothing that came of it")
    number = _number(traces, message)
    root = traces.root_of(number)
    if root is None:
        raise UserError(
            f"there is no message {message} in the recordings of {where.name}: nobody was recorded who sent or got it,"
            " or it was overwritten; `record: full` keeps all of them"
        )
    hops = traces.tree(root)
    if len(hops) > MESSAGES_MAX:
        say(f"more than {MESSAGES_MAX} messages come of this: the rest of them is left out")
    line = _line_to(hops, number)
    if as_json:
        for depth, hop in _walk(line):
            print_json(_row(hop, depth))
        return
    _show(line, number, _classes(traces))


def _number(traces: Traces, message: str) -> int:
    if message[:1].isdigit():
        return parse_id(message)
    number = traces.last_of(message)
    if number is None:
        known = sorted(wire.rpartition(".")[2] for wire in _classes(traces))
        hint = did_you_mean(message, known) or f" Its nodes handle {', '.join(known)}."
        raise UserError(f"there is no message of type {message!r} in the recordings of this run.{hint}")
    return number


def _line_to(hops: dict[int, Hop], number: int) -> Hop:
    """The tree with, of what came before a message, only its causes."""
    below = hops[number]
    while below.cause in hops and below.cause != below.id:
        cause = hops[below.cause]
        cause.effects = [below]
        below = cause
    if below.id != below.root and below.root in hops:  # a cause that is not known
        hops[below.root].effects = [below]
        below = hops[below.root]
    return below


def _walk(top: Hop) -> Iterator[tuple[int, Hop]]:
    """Each message before its effects, with its depth; without recursion, since a tree may be deep."""
    waiting = [(0, top)]
    while waiting:
        depth, hop = waiting.pop()
        yield depth, hop
        waiting += [(depth + 1, each) for each in reversed(hop.effects)]


def _row(hop: Hop, depth: int) -> dict[str, Any]:
    """What `--json` says of a message."""
    return {
        "id": format_id(hop.id),
        "cause": format_id(hop.cause) if hop.cause else None,
        "depth": depth,
        "message": hop.wire,
        "sender": hop.sender,
        "target": hop.target,
        "process": hop.process,
        "sent_ns": hop.sent_ns,
        "handled_ns": hop.handled_ns,
        "answered_ns": hop.answered_ns,
        "failure": hop.failure,
        "lost": hop.lost,
    }


def _show(top: Hop, number: int, classes: dict[str, type[Message[Any]]]) -> None:
    began_ns = next((time_ns for _, hop in _walk(top) if (time_ns := hop.sent_ns or hop.handled_ns)), None)
    rows: list[tuple[str, ...]] = []
    for depth, hop in _walk(top):
        if len(rows) == SHOWN_MAX:
            break
        head = f"{'  ' * depth}{'> ' if hop.id == number and depth else ''}{_text(hop, classes)}"
        way = f"{hop.sender or 'nobody'} -> {hop.target}" if not hop.is_timer else f"{hop.target}, a timer"
        sent_ns = hop.sent_ns or hop.handled_ns
        rows.append(
            (
                head,
                way if hop.wire else "",
                _span(began_ns, hop.handled_ns, "+"),
                _span(hop.sent_ns, hop.handled_ns),
                _span(sent_ns, hop.answered_ns),
                format_id(hop.id),
                _ending(hop),
            )
        )
    if began_ns is not None:
        sys.stdout.write(f"{clock_of(began_ns)}\n")
    print_table(("MESSAGE", "WAY", "AT", "WAITED", "ANSWERED", "ID", ""), rows)
    left = sum(1 for _ in _walk(top)) - len(rows)
    if left:
        sys.stdout.write(f"and {left} more, which --json has\n")


def _ending(hop: Hop) -> str:
    if hop.lost:
        return f"LOST: {hop.lost}"
    if hop.failure:
        return f"FAILED: {hop.failure}".partition("\n")[0]
    return ""


def _span(start_ns: int | None, end_ns: int | None, sign: str = "") -> str:
    return "-" if start_ns is None or end_ns is None else f"{sign}{(end_ns - start_ns) / 1e6:.3f} ms"


def _text(hop: Hop, classes: dict[str, type[Message[Any]]]) -> str:
    """A message as Python writes it, if its class is here; else its name."""
    if not hop.wire:
        return "(in no recording)"
    kind = classes.get(hop.wire)
    name = hop.wire.rpartition(".")[2]
    if kind is None:
        return name
    try:
        body = bytes(hop.body) if isinstance(hop.body, msgspec.Raw) else msgspec.msgpack.encode(hop.body)
        fields = plain(msgspec.msgpack.decode(body, type=kind))
    except (msgspec.MsgspecError, TypeError):
        return name
    text = ", ".join(f"{field}={written(value, None)}" for field, value in fields.items())
    text = text if len(text) <= BODY_LENGTH_MAX else f"{text[:BODY_LENGTH_MAX]}..."
    return f"{name}({text})"


def _classes(traces: Traces) -> dict[str, type[Message[Any]]]:
    """The messages that the run's kinds handle, by their wire names. A kind that is gone has none."""
    found: dict[str, Any] = {}
    for instance in traces.instances():
        try:
            kind = registry.find(instance["kind"], Path(instance["folder"]))
        except UserError:
            continue
        found |= {message.wire: message for message in describe(kind).messages.values()}
    return found
