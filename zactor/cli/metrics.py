"""Counters of a running topology as Prometheus reads them: `up --metrics PORT` serves them, on this computer alone.

The text is Prometheus's exposition format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats), names and units
are by its conventions: seconds, bytes, `_total` for what only grows. Each request asks all processes, so nothing is
kept and nothing is counted twice; what a process counted begins at 0 again when it is started again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from zactor.cli.client import TopologyClient
from zactor.cli.ps import states
from zactor.errors import UserError, ZactorError
from zactor.launchers.folders import Home

LOOPBACK = "127.0.0.1"
PATH = "/metrics"
TEXT = "text/plain; version=0.0.4; charset=utf-8"

REQUEST_SIZE_MAX = 16 << 10
REQUEST_S = 5.0
"""For a request to come, and for its answer to be made: who connects and says nothing does not stay."""

CONNECTIONS_MAX = 8
"""At a time: more than one who asks for counters is a mistake or an attack."""


class Metric(NamedTuple):
    """A line of HELP and TYPE, and how its samples are found: labels beside topology, and the value."""

    name: str
    type: str
    help: str
    samples: Iterable[tuple[Mapping[str, str], float]]


def exposition(topology: str, rows: Iterable[Mapping[str, Any]], answers: Iterable[Mapping[str, Any]]) -> str:
    """All metrics, from what `zactor.cli.ps.states` found."""
    lines = []
    for metric in _metrics(list(rows), list(answers)):
        lines.append(f"# HELP {metric.name} {metric.help}")
        lines.append(f"# TYPE {metric.name} {metric.type}")
        lines += [f"{metric.name}{_labels({'topology': topology, **own})} {value}" for own, value in metric.samples]
    return "\n".join(lines) + "\n"


Value = Callable[[Mapping[str, Any]], float]

OF_NODES: tuple[tuple[str, str, str, Value], ...] = (
    (
        "zactor_messages_handled_total",
        "counter",
        "Messages, answers and timers that a node has handled.",
        lambda actor: actor["handled"],
    ),
    ("zactor_handler_seconds_total", "counter", "Time in a node's turns.", lambda actor: actor["busy_ns"] / 1e9),
    ("zactor_mailbox_messages", "gauge", "Messages that wait in a mailbox.", lambda actor: actor["mailbox"]),
    (
        "zactor_restarts_total",
        "counter",
        "Times that a node was made anew after a failure, within its process.",
        lambda actor: actor["restarts"],
    ),
)
"""Name, type, help and value of what is told of each node, by its row of inspection."""

OF_PROCESSES: tuple[tuple[str, str, str, Value], ...] = (
    ("zactor_messages_sent_total", "counter", "Messages sent by a process.", lambda about: about["books"]["sent"]),
    (
        "zactor_messages_received_total",
        "counter",
        "Messages that came to a process from others.",
        lambda about: about["books"]["received"],
    ),
    (
        "zactor_received_bytes_total",
        "counter",
        "Bytes of frames from other processes.",
        lambda about: about["bytes_received"],
    ),
    (
        "zactor_busy_seconds_total",
        "counter",
        "Time in which a process handled something.",
        lambda about: about["busy_ns"] / 1e9,
    ),
    ("zactor_late_seconds", "gauge", "How late a process's loop is.", lambda about: about["late_ms"] / 1e3),
)
"""The same of each process, by what it says of itself."""


def _metrics(rows: list[Mapping[str, Any]], answers: list[Mapping[str, Any]]) -> Iterator[Metric]:
    processes = [({"process": about["process"]}, about) for about in answers if "process" in about]
    found = {actor["name"]: actor for _, about in processes for actor in about["actors"]}
    nodes = [({"node": row["node"], "process": row["process"]}, row) for row in rows]
    ready = [(labels, int(row["state"] == "ready")) for labels, row in nodes]
    yield Metric("zactor_node_ready", "gauge", "Whether a node is ready: 1, or else 0.", ready)
    for name, kind, about_it, value in OF_NODES:
        known = [(labels, found[row["node"]]) for labels, row in nodes if row["node"] in found]
        yield Metric(name, kind, about_it, [(labels, value(actor)) for labels, actor in known])
    again = {row["process"]: row["process_restarts"] for row in rows}
    starts = [({"process": process}, count) for process, count in again.items()]
    yield Metric("zactor_process_restarts_total", "counter", "Times that a process was started again.", starts)
    for name, kind, about_it, value in OF_PROCESSES:
        yield Metric(name, kind, about_it, [(labels, value(about)) for labels, about in processes])
    dead = [
        (labels | {"reason": reason}, count)
        for labels, about in processes
        for reason, count in sorted(about["dead_letters"].items())
    ]
    yield Metric("zactor_dead_letters_total", "counter", "Messages that nobody handled, by reason.", dead)


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# --- the port
async def while_serving(port: int | None, home: Home, work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Serve counters at a port of loopback while `work` is done, and return what it does; no port: only do it.

    Raises UserError for a port that cannot be had.
    """
    if port is None:
        return await work()
    tasks: set[asyncio.Task[None]] = set()

    def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(_serve(home, len(tasks), reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda _task: writer.close())

    server = await asyncio.start_server(on_connection, sock=bound(port), limit=REQUEST_SIZE_MAX)
    try:
        return await work()
    finally:
        server.close()
        for task in tasks:
            task.cancel()


def bound(port: int) -> socket.socket:
    """A socket at a port of loopback. Raises UserError when it cannot be had."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((LOOPBACK, port))
    except OSError as problem:
        made.close()
        reason = (problem.strerror or str(problem)).lower()
        raise UserError(f"--metrics {port}: {LOOPBACK}:{port} cannot be had: {reason}; choose another port") from None
    return made


async def _serve(home: Home, others: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(REQUEST_S):
            status, text = await _reply(home, others, await reader.readuntil(b"\r\n\r\n"))
            body = text.encode()
            head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {TEXT}\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
            await writer.drain()
    except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        return  # whoever asks for counters will ask again


async def _reply(home: Home, others: int, request: bytes) -> tuple[HTTPStatus, str]:
    method, _, rest = request.partition(b" ")
    if method != b"GET":
        return HTTPStatus.METHOD_NOT_ALLOWED, "GET it\n"
    if rest.split(b" ", 1)[0].split(b"?", 1)[0] != PATH.encode():
        return HTTPStatus.NOT_FOUND, f"the counters are at {PATH}\n"
    if others >= CONNECTIONS_MAX:
        return HTTPStatus.SERVICE_UNAVAILABLE, f"{others} others are asking; try again\n"
    try:
        async with TopologyClient(home) as client:
            return HTTPStatus.OK, exposition(home.name, *await states(client))
    except (ZactorError, OSError) as problem:  # it is starting, or stopping
        return HTTPStatus.SERVICE_UNAVAILABLE, f"{problem}\n"
