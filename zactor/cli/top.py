"""`top`: what the nodes of a running topology do right now: rates, mailboxes, the time that their handlers take.

Two looks at the processes make one picture: what was counted between them, by the clock of each process. On a terminal
there is a new one each second; otherwise there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import os
import shutil
import signal
import sys
import termios
import time
import tty
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import msgspec
import typer

from zactor.cli.client import TopologyClient, connect
from zactor.cli.common import (
    DirOption,
    JsonOption,
    NodeOption,
    TopologyOption,
    print_json,
    print_table,
    seconds,
    table,
)
from zactor.cli.ps import states
from zactor.errors import UserError

app = typer.Typer()

INTERVAL_S_MIN = 0.1
"""Between two looks: each of them takes the time of every process."""

QUIT = b"qQ\x03\x04"
"""Keys that end it: q, and Ctrl-C and Ctrl-D where the terminal does not make signals of them."""

ALTERNATE, USUAL = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""A screen of its own without a cursor, and back to where the prompt was (xterm's control sequences)."""

HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"

COLUMNS = ("NODE", "STATE", "MSG/S", "MAILBOX", "BUSY", "RESTARTS", "STATUS")


@app.command()
def top(
    topology: TopologyOption = None,
    node: NodeOption = None,
    interval: Annotated[
        str, typer.Option("--interval", metavar="DURATION", help="Between two looks, such as 500ms.")
    ] = "1s",
    as_json: JsonOption = False,
    folder: DirOption = None,
) -> None:
    """Show what the nodes do: rates, mailboxes, time in handlers.

    On a terminal it is shown anew until q or Ctrl-C, else once. MSG/S are messages that were handled in a second, BUSY
    is the share of the time that the node's turns took; STATUS is what the kind says of itself.
    """
    interval_s = seconds(interval)
    if interval_s < INTERVAL_S_MIN:
        raise UserError(f"--interval is at least {INTERVAL_S_MIN * 1000:g}ms, not {interval}")
    is_live = not as_json and sys.stdout.isatty() and sys.stdin.isatty()

    async def main() -> None:
        async with connect(topology, folder) as client:
            before = await look(client)
            if is_live:
                await _watch(client, node, interval_s, before)
                return
            await asyncio.sleep(interval_s)
            picture = between(before, await look(client), node)
            if as_json:
                for row in picture.rows:
                    print_json(row)
            else:
                print_table(COLUMNS, map(_cells, picture.rows))
                sys.stdout.write(picture.sums + "\n")

    asyncio.run(main())


class Look(msgspec.Struct):
    """What was there at one moment: rows as those of `ps --json`, and what each process said of itself."""

    rows: list[dict[str, Any]]
    processes: dict[str, dict[str, Any]]

    def actor(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What a node's process said of the node; nothing when it did not answer."""
        actors = self.processes.get(row["process"], {}).get("actors", ())
        found: dict[str, Any] = next((each for each in actors if each["name"] == row["node"]), {})
        return found


class Row(msgspec.Struct, frozen=True):
    """A node between two looks. None is what cannot be known: it was not there at one of them, or was made anew."""

    node: str
    process: str
    state: str
    handled_per_s: float | None
    mailbox: int | None
    busy: float | None
    """The share of the time that its turns took."""
    restarts: int
    """Of the actor and of its process."""
    status: str


class Picture(msgspec.Struct, frozen=True):
    """What happened between two looks; `sums` says it of all processes in one line."""

    rows: list[Row]
    sums: str


async def look(client: TopologyClient) -> Look:
    """Ask every process."""
    rows, answers = await states(client)
    return Look(rows, {about["process"]: about for about in answers if "process" in about})


def between(before: Look, after: Look, pattern: str | None = None) -> Picture:
    """What happened between two looks, of the nodes like `pattern`. Raises UserError when none is."""
    rows = [row for row in after.rows if pattern is None or fnmatch.fnmatch(row["node"], pattern)]
    if not rows:
        known = ", ".join(sorted(row["node"] for row in after.rows))
        raise UserError(f"no node is like {pattern!r}; the nodes are {known}")
    return Picture([_row(before, after, row) for row in rows], _sums(before, after))


def _row(before: Look, after: Look, row: Mapping[str, Any]) -> Row:
    was, now = before.actor(row), after.actor(row)
    span_ns = _span_ns(before, after, row["process"])
    handled = busy = None
    if span_ns and was and now and now["handled"] >= was["handled"]:
        handled = round((now["handled"] - was["handled"]) * 1e9 / span_ns, 1)
        busy = round((now["busy_ns"] - was["busy_ns"]) / span_ns, 4)
    return Row(
        node=row["node"],
        process=row["process"],
        state=row["state"],
        handled_per_s=handled,
        mailbox=row["mailbox"],
        busy=busy,
        restarts=(row["restarts"] or 0) + row["process_restarts"],
        status=now.get("status") or ("" if row["state"] == "ready" else row["last_error"] or ""),
    )


def _span_ns(before: Look, after: Look, process: str) -> int:
    """The time between two looks at a process by its own clock; 0 when it was not the same one, or did not answer."""
    was, now = before.processes.get(process), after.processes.get(process)
    if was is None or now is None or was["incarnation"] != now["incarnation"]:
        return 0
    span_ns: int = now["now_ns"] - was["now_ns"]
    return span_ns


def _sums(before: Look, after: Look) -> str:
    rates: Counter[str] = Counter()
    for process, now in after.processes.items():
        if span_ns := _span_ns(before, after, process):
            was = before.processes[process]
            for count in ("sent", "handled", "dead"):
                rates[count] += (now["books"][count] - was["books"][count]) * 1e9 / span_ns
            for count in ("bytes_received", "busy_ns"):
                rates[count] += (now[count] - was[count]) * 1e9 / span_ns
    waiting = sum(now["books"]["queued"] + now["books"]["outbox"] for now in after.processes.values())
    dead = sum(now["books"]["dead"] for now in after.processes.values())
    return (
        f"in a second: {rates['sent']:.0f} messages sent, {rates['handled']:.0f} handled, "
        f"{rates['bytes_received'] / 1024:.0f} KiB between processes, {rates['busy_ns'] / 1e9:.2f} s busy; "
        f"{waiting} waiting, {dead} dead letters"
    )


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.node,
        row.state,
        "-" if row.handled_per_s is None else f"{row.handled_per_s:.0f}",
        "-" if row.mailbox is None else str(row.mailbox),
        "-" if row.busy is None else f"{row.busy:.1%}",
        str(row.restarts),
        row.status.partition("\n")[0] or "-",
    )


# --- on a terminal
async def _watch(client: TopologyClient, pattern: str | None, interval_s: float, before: Look) -> None:
    """Show a new picture each time, and at once when the terminal is resized, until somebody has had enough."""
    between(before, before, pattern)  # a pattern that fits nothing is said where it can be read
    name, resized = client.topology.name, asyncio.Event()
    with _until_enough(resized.set) as task, _screen():
        while not task.cancelling():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await resized.wait()
            resized.clear()
            now = await look(client)
            _draw(f"{name}  run {client.book.run}", before, now, pattern)
            before = now


@contextlib.contextmanager
def _until_enough(resized: Callable[[], None]) -> Iterator[asyncio.Task[Any]]:
    """Ends this block of the task quietly when q is pressed or SIGTERM comes, whatever it waits for."""
    loop, task, keys = asyncio.get_running_loop(), asyncio.current_task(), sys.stdin.fileno()
    assert task is not None, "only a task waits"
    asked: list[bool] = []

    def enough() -> None:
        asked.append(True)
        task.cancel()

    def on_key() -> None:
        pressed = os.read(keys, 64)
        if not pressed or any(key in QUIT for key in pressed):
            loop.remove_reader(keys)
            enough()

    loop.add_reader(keys, on_key)
    loop.add_signal_handler(signal.SIGTERM, enough)
    loop.add_signal_handler(signal.SIGWINCH, resized)
    try:
        yield task
    except asyncio.CancelledError:
        if not asked:  # Ctrl-C
            raise
        task.uncancel()
    finally:
        loop.remove_reader(keys)


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """A screen of its own, on which keys are not shown and need no Enter. The terminal is as before afterwards."""
    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    tty.setcbreak(keys)
    sys.stdout.write(ALTERNATE)
    try:
        yield
    finally:
        sys.stdout.write(USUAL)
        sys.stdout.flush()
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


def _draw(title: str, before: Look, now: Look, pattern: str | None) -> None:
    """Draw over what is there, so that nothing flickers; what does not fit is said."""
    size = shutil.get_terminal_size()
    try:
        picture = between(before, now, pattern)
    except UserError:  # the last node that was like it has just been removed
        picture = Picture([], f"no node is like {pattern!r} any more")
    lines = table(COLUMNS, map(_cells, picture.rows))
    room = max(size.lines - 3, 2)
    if len(lines) > room:
        lines[room - 1 :] = [f"... {len(lines) - room + 1} more; choose some with -n PATTERN"]
    head = f"{title}  {time.strftime('%H:%M:%S')}  q ends it"
    shown = [line[: size.columns - 1] for line in (head, picture.sums, *lines)]
    sys.stdout.write(HOME + "".join(f"{line}{REST_OF_LINE}\r\n" for line in shown) + REST_OF_SCREEN)
    sys.stdout.flush()
