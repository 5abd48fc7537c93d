"""What a running launcher is asked to do: a request and its replies over a socket, a line of JSON each.

The socket lies in the topology's folder of sockets, which its user alone can enter. Whatever comes in is checked
against the types below and has a bound; what is wrong is answered with the reason, counted and logged, and the
launcher goes on. A request that was taken is carried out even if nobody waits for its reply any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import socket
import time
from collections.abc import Callable, Collection
from typing import Annotated, Literal

import msgspec

from zactor.errors import UserError
from zactor.launchers.changes import Change
from zactor.launchers.faults import between
from zactor.launchers.folders import Home, Late, Unreachable, file_of
from zactor.launchers.member import Outcome
from zactor.launchers.run import Busy, Run
from zactor.live.faults import Kind, ProcessFault
from zactor.registry import did_you_mean
from zactor.topology.model import Topology
from zactor.units import format_size

SOCKET = "launcher"

REQUEST_SIZE_MAX = 64 << 20
"""Bytes of a request: of a topology whose replicas all link to each other, names are most of it."""

REQUEST_S = 5.0
"""For a request to come: who connects and says nothing does not stay."""

CONNECTIONS_MAX = 32
"""Requests at a time; most of them wait for their turn."""

BACKLOG_S = 2.0
"""For a launcher that has just been started to listen."""

GRACE_S = 5.0
"""Beyond its own time, for a reply to come: a launcher that hangs is not waited for."""

Verb = Literal["start", "stop", "restart", "kill"]

Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e6)]


class Nodes(msgspec.Struct, frozen=True, tag="nodes", forbid_unknown_fields=True):
    """Start, stop, restart or kill nodes: instances, nodes with all their replicas, or patterns."""

    verb: Verb
    nodes: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    timeout_s: Seconds


class Fault(msgspec.Struct, frozen=True, tag="fault", forbid_unknown_fields=True):
    """Do something to the processes of nodes: cut them off from `others`, or with `*` from all, pause them, and so on.

    With `for_s` of 0 it lasts until it is taken back. `by_ns` says how slow, or how far ahead.
    """

    do: Kind
    nodes: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    timeout_s: Seconds
    others: tuple[str, ...] = ("*",)
    for_s: Seconds = 0.0
    by_ns: int = 0


class Heal(msgspec.Struct, frozen=True, tag="heal", forbid_unknown_fields=True):
    """Take back all faults of nodes, or `only` one kind of them; without names, of all to which something was done."""

    nodes: tuple[str, ...]
    timeout_s: Seconds
    only: Kind | None = None


class Apply(msgspec.Struct, frozen=True, tag="apply", forbid_unknown_fields=True):
    """Run this topology from here on; or only say what that would change."""

    topology: Topology
    only_show: bool
    timeout_s: Seconds


class Down(msgspec.Struct, frozen=True, tag="down", forbid_unknown_fields=True):
    """Stop everything. It is answered when it begins, and done when the lock is free."""


Request = Nodes | Fault | Heal | Apply | Down


class Plan(msgspec.Struct, frozen=True, tag="plan"):
    """What applying a topology changes; it comes before that is done."""

    changes: tuple[Change, ...]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """What became of the nodes that were meant."""

    outcome: Outcome


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """Why nothing was done: the request is wrong, or else the time was up before its turn came."""

    because: str
    late: bool = False


_decode_request = msgspec.json.Decoder(Request).decode
_decode_reply = msgspec.json.Decoder(Plan | Done | Refusal).decode


class Control:
    """Serves the requests for one run while it lasts."""

    def __init__(self, run: Run, home: Home, on_down: Callable[[], None]) -> None:
        self._run = run
        self._home = home
        self._on_down = on_down
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.refused = 0

    async def open(self) -> None:
        """Listen. Raises OSError when there can be no socket."""
        path = str(self._home.sockets / SOCKET)
        self._server = await asyncio.start_unix_server(self._on_connection, path, limit=REQUEST_SIZE_MAX)

    async def close(self) -> None:
        """Listen no more, and let go of all requests."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _task: writer.close())  # also of one that was cancelled before it began

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _send(writer, await self._reply(reader, writer))

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Done | Refusal:
        if len(self._tasks) > CONNECTIONS_MAX:
            return self._refuse(f"there are {CONNECTIONS_MAX} requests already; try again")
        try:
            async with asyncio.timeout(REQUEST_S):
                request = _decode_request(await reader.readuntil())
        except TimeoutError:
            return self._refuse(f"no request came within {REQUEST_S:g} s")
        except asyncio.LimitOverrunError:
            return self._refuse(f"a request has at most {format_size(REQUEST_SIZE_MAX)}")
        except (asyncio.IncompleteReadError, ConnectionError):
            return self._refuse("the connection ended within the request")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
            return self._refuse(f"this is no request: {problem}")
        if isinstance(request, Down):
            self._on_down()
            return Done(Outcome())
        try:
            if isinstance(request, Apply):
                return await self._apply(request, writer)
            return Done(await self._operate(request))
        except Busy as problem:
            return Refusal(str(problem), late=True)
        except (UserError, OSError) as problem:
            return Refusal(str(problem))

    def _refuse(self, because: str) -> Refusal:
        self.refused += 1
        self._run.say("request", "@launcher", "refused", because, count=self.refused)
        return Refusal(because)

    async def _operate(self, request: Nodes | Fault | Heal) -> Outcome:
        run, timeout_s = self._run, request.timeout_s
        names = chosen(request.nodes, run.nodes)
        if isinstance(request, Fault):
            fault = fault_of(run, request.do, names, request.others, request.by_ns)
            return await run.begin_fault(fault, names, request.for_s, timeout_s, f"zactor fault {_VERB[request.do]}")
        if isinstance(request, Heal):
            names = names if request.nodes else run.faulty(request.only)
            because = f"zactor fault {'resume' if request.only == 'pause' else 'heal'}"
            return await run.end_faults(names, request.only, timeout_s, because)
        verb = request.verb
        because = f"{_PAST[verb]} by zactor {verb}"
        if verb == "start":
            return await run.start_nodes(names, timeout_s)
        if verb == "stop":
            return await run.stop_nodes(names, because, timeout_s)
        if verb == "restart":
            return await run.restart_nodes(names, because, timeout_s)
        return await run.kill_nodes(names, because, timeout_s)

    async def _apply(self, request: Apply, writer: asyncio.StreamWriter) -> Done:
        run, wanted = self._run, request.topology
        if wanted.name != run.topology.name:
            raise UserError(f"this launcher runs {run.topology.name}, not {wanted.name}")

        def show(changes: list[Change]) -> None:
            if not writer.is_closing():
                writer.write(msgspec.json.encode(Plan(tuple(changes))) + b"\n")

        if request.only_show:
            show(run.plan(wanted))
            return Done(Outcome())
        outcome = await run.change(wanted, show, request.timeout_s)
        self._home.note(run.id, file_of(wanted))
        return Done(outcome)


_VERB: dict[Kind, str] = {"cut": "cut", "slow": "slow", "slow_disk": "slow", "skew": "skew", "pause": "pause"}

_PAST: dict[Verb, str] = {"start": "started", "stop": "stopped", "restart": "restarted", "kill": "killed"}


def chosen(wanted: Collection[str], known: Collection[str]) -> list[str]:
    """The nodes that are meant by names and patterns, each once. Raises `UserError` for one that means none."""
    found: dict[str, None] = {}
    for word in wanted:
        fitting = [name for name in known if word in (name, name.partition("/")[0])]
        fitting = fitting or [name for name in known if fnmatch.fnmatchcase(name, word)]
        if not fitting:
            nodes = sorted({name.partition("/")[0] for name in known} | set(known))
            listed = f" The nodes are {', '.join(sorted(known))}."
            raise UserError(f"there is no node {word!r}.{did_you_mean(word, nodes) or listed}")
        found |= dict.fromkeys(fitting)
    return list(found)


def fault_of(
    run: Run,
    do: Kind,
    names: Collection[str],
    others: Collection[str],
    by_ns: int = 0,
    *,
    out: bool = True,
    into: bool = True,
) -> ProcessFault:
    """The fault that is meant by nodes and by whom they are to be cut off from: patterns, clients, or `*` for all.

    Raises `UserError` when there is nothing between them.
    """
    fault = ProcessFault(0, do, out=out, into=into, by_ns=by_ns)
    if do not in ("cut", "slow"):
        return fault
    far = [name for name in others if name == "*" or name[:1] == "@"]
    nodes = [name for name in others if name not in far]
    return between(fault, run.processes_of(names), [*far, *run.processes_of(chosen(nodes, run.nodes))])


async def _send(writer: asyncio.StreamWriter, reply: Done | Refusal) -> None:
    with contextlib.suppress(ConnectionError):  # whoever asked has gone
        writer.write(msgspec.json.encode(reply) + b"\n")
        await writer.drain()


def ask_launcher(home: Home, request: Request, on_plan: Callable[[Plan], None] = lambda _plan: None) -> Outcome:
    """Ask the launcher of a running topology, and wait until it has done it.

    Raises `UserError` for a request that is wrong, `Late` when its turn did not come in time, and `Unreachable`.
    """
    line = msgspec.json.encode(request) + b"\n"
    if len(line) > REQUEST_SIZE_MAX:
        raise UserError(f"this topology is too large to be changed while it runs; bring {home.name} down and up")
    with _connected(home) as connection:
        connection.settimeout(GRACE_S + (0.0 if isinstance(request, Down) else request.timeout_s))
        try:
            with contextlib.suppress(BrokenPipeError):  # refused before it was read: why, is there to be read
                connection.sendall(line)
            with connection.makefile("rb") as lines:
                for reply in lines:
                    answer = _decode_reply(reply)
                    if isinstance(answer, Done):
                        return answer.outcome
                    if isinstance(answer, Refusal):
                        raise Late(answer.because) if answer.late else UserError(answer.because)
                    on_plan(answer)
        except TimeoutError:
            raise Unreachable(f"the launcher of {home.name} does not answer: it is busy or hangs") from None
        except (ConnectionError, msgspec.DecodeError):
            pass  # it ended, perhaps within a line
    raise Unreachable(f"{home.name} went down before that was done")


def _connected(home: Home) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(BACKLOG_S)
    deadline_s = time.monotonic() + BACKLOG_S
    while True:
        try:
            connection.connect(str(home.sockets / SOCKET))
        except (FileNotFoundError, ConnectionRefusedError) as problem:
            # It is about to listen: a launcher has its lock before it has anything else.
            if time.monotonic() > deadline_s or home.running() is None:
                connection.close()
                raise Unreachable(f"the launcher of {home.name} does not listen") from problem
            time.sleep(0.01)
        except OSError as problem:
            connection.close()
            raise Unreachable(f"the launcher of {home.name} does not listen: {problem}") from problem
        else:
            return connection
