"""One process's nodes in the live world: made from an assignment, started by the first book, stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from zactor.debug.recorder import Recorder
from zactor.debug.recording import RING_BYTES, Mapped
from zactor.errors import UserError
from zactor.live.faults import ProcessFault
from zactor.live.world import Book, LiveWorld, own_generators
from zactor.message import MESSAGE_SIZE_MAX
from zactor.topology.instances import add_instance
from zactor.topology.model import Instance

STATE_FORMAT = 1
"""Of what nodes keep in their state folders; a newer one is refused."""

STATE_NOTE = "@node.json"

BECAUSE_LENGTH_MAX = 1000
"""Characters of a reason in a report; the log has all of it."""

STOP_S = 0.8
"""For nodes to stop and for what they sent to leave."""


COLLECT_AFTER = 50_000
"""New objects between two looks of Python's collector at the young ones; its own number is 700."""

KEEP_BYTES = 2 * MESSAGE_SIZE_MAX
"""Of freed memory that each of a process's heaps keeps for what comes next: no message is larger than half of it."""


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What a launcher tells a process. `socket` is where an ipc inbox goes; paths are absolute."""

    topology: str
    cluster: str
    run: str
    process: str
    number: int
    incarnation: int
    transport: str
    socket: str
    state: str
    log: str
    recording: str
    instances: tuple[Instance, ...]
    peer_timeout_ns: int
    key: str = ""
    faults: tuple[ProcessFault, ...] = ()  # that were on before it was started


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line from the launcher: a book, why the process is to stop, one node to start or to stop in it, or faults.

    `faults` are all that are on from here on; the process says when they are, by their `number`.
    """

    book: Book | None = None
    stop: str = ""
    start_node: Instance | None = None
    stop_node: str = ""
    faults: tuple[ProcessFault, ...] = ()
    number: int = 0
    because: str = ""


class StateNote(msgspec.Struct, frozen=True):
    """What a state folder says of itself."""

    format: int
    node: str
    kind: str
    cluster: str


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a process tells its launcher: `bound` with its endpoint, `life` of a node, `failed`, or `faults` are on."""

    event: str
    endpoint: str = ""
    node: str = ""
    state: str = ""
    because: str = ""
    number: int = 0

    def line(self) -> bytes:
        """One line of JSON, short enough for whoever reads lines with a bound."""
        return encode_line(msgspec.structs.replace(self, because=self.because[:BECAUSE_LENGTH_MAX]))


class Host:
    """The nodes of one process. Raises UserError for a kind, a setting or a state folder that is wrong."""

    def __init__(self, assignment: Assignment, report: Callable[[Report], None]) -> None:
        own_generators()
        self._assignment = assignment
        self._report = report
        self._started = False
        self._ended = asyncio.Event()
        self._recorder: Recorder | None = None
        self.failure: str | None = None
        self.because = "the topology goes down"  # what is said when it is told to stop
        self._kinds = {instance.name: instance.kind for instance in assignment.instances}
        for instance in assignment.instances:
            self._check_state(instance)
        self.world = LiveWorld(
            assignment.process,
            number=assignment.number,
            incarnation=assignment.incarnation,
            run=assignment.run,
            state=Path(assignment.state),
            log=Path(assignment.log),
            prepare=self._prepare,
            key=assignment.key,
            peer_timeout_ns=assignment.peer_timeout_ns,
        )
        self.world.kernel.observer = self._observe
        if assignment.faults:
            self.world.use_faults(assignment.faults, "they were on before it was started")
        self._instances = {instance.name: instance for instance in assignment.instances}
        for instance in assignment.instances:
            self._add(instance)
        self._record()

    def _add(self, instance: Instance) -> None:
        add_instance(self.world.kernel.life, instance)
        self._instances[instance.name] = instance
        self.world.kernel.cells[instance.name].recorded = instance.record != "off"

    def _record(self) -> None:
        """Record what feeds the nodes, unless none of them is to be recorded. One that wants all makes it all."""
        wanted = {instance.record for instance in self._assignment.instances}
        path = Path(self._assignment.recording)
        if wanted - {"off"}:
            self._recorder = Recorder(
                self.world.kernel, Mapped(path, 0 if "full" in wanted else RING_BYTES), self._about
            )
        if "full" not in wanted:
            # A process that fails again and again keeps what came before its last failure, and no more.
            stem, _, number = path.stem.rpartition(".")
            with contextlib.suppress(OSError):
                path.with_name(f"{stem}.{int(number) - 2}{path.suffix}").unlink()

    def _about(self) -> dict[str, Any]:
        """What a replay has to know of the nodes here."""
        return {"run": self._assignment.run, "instances": list(self._instances.values())}

    def _check_state(self, instance: Instance) -> None:
        path = Path(self._assignment.state) / instance.name / STATE_NOTE
        try:
            note = msgspec.json.decode(path.read_bytes(), type=StateNote)
        except FileNotFoundError:
            return
        except (msgspec.MsgspecError, OSError) as problem:
            raise UserError(
                f"{path}: {problem}; restore it, or remove the state with: zactor down --delete-state"
            ) from None
        expected = StateNote(STATE_FORMAT, instance.name, instance.kind, self._assignment.cluster)
        if note.format > STATE_FORMAT:
            mend = "use the zactor that wrote it"
            raise UserError(f"{path}: the state has format {note.format}, this zactor reads {STATE_FORMAT}; {mend}")
        if note != expected:
            mend = "move it away, or remove the state with: zactor down --delete-state"
            raise UserError(f"{path}: the state belongs to {note.node} ({note.kind}) of another topology; {mend}")

    def _prepare(self, folder: str, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        note = path / STATE_NOTE
        if folder in self._kinds and not note.exists():
            value = StateNote(STATE_FORMAT, folder, self._kinds[folder], self._assignment.cluster)
            part = note.with_suffix(".part")
            part.write_bytes(msgspec.json.encode(value))
            part.rename(note)

    def _observe(self, node: str, state: str, because: str) -> None:
        if state == "failed":
            self.failure = because
            self._ended.set()
        if node in self._kinds:
            self._report(Report("life", node=node, state=state, because=because))
        if state == "stopped" and not any(name in self.world.kernel.cells for name in self._kinds):
            self._ended.set()

    def bind(self) -> str:
        """Bind the inbox; the answer is the endpoint."""
        if self._assignment.transport == "tcp":
            return self.world.bind("tcp://127.0.0.1:*")
        return self.world.bind(f"ipc://{self._assignment.socket}")

    def use_book(self, book: Book) -> None:
        """Take a book; with the first one the nodes start."""
        self.world.use_book(book)
        if not self._started:
            self._started = True
            self.world.kernel.life.start()

    def start_node(self, instance: Instance) -> None:
        """Start a node that was stopped, or a new one, while the others go on. What is wrong with it is reported."""
        try:
            self._check_state(instance)
            self._add(instance)
        except (UserError, TypeError, ValueError) as problem:
            self._report(Report("life", node=instance.name, state="stopped", because=str(problem)))
            return
        self._kinds[instance.name] = instance.kind
        if self._started:
            self.world.kernel.life.start_node(self.world.kernel.cells[instance.name])

    def stop_node(self, name: str, because: str) -> None:
        """Stop one node while the others go on."""
        self.world.kernel.life.stop(name, because)

    def use_faults(self, faults: tuple[ProcessFault, ...], number: int, because: str) -> None:
        """Have these faults on from here on, and say so."""
        self.world.use_faults(faults, because)
        self._report(Report("faults", number=number))

    async def ended(self) -> None:
        """Wait until every node has stopped, or one has failed for good."""
        await self._ended.wait()

    async def stop(self) -> None:
        """Stop all nodes, say goodbye to the other processes, and free everything."""
        kernel = self.world.kernel
        if self.failure is None:
            for name in list(kernel.cells):
                kernel.life.stop(name, self.because)
        await self.world.leave(STOP_S)
        kernel.world.log("info", "", "books", kernel.books() | {"dead_letters": dict(kernel.dead)})
        await self.close()

    async def close(self) -> None:
        """Free everything. Nobody is told: to the others it is a crash, unless it has stopped before."""
        await self.world.close()
        if self._recorder is not None:
            self._recorder.close()


def calm_collector() -> None:
    """Make Python's collector look less often, and not at what was loaded.

    Actors and messages that end leave no cycles behind, so its looks find nothing; at its usual pace they cost
    three quarters of the rate at which actors can be spawned.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 100)


def calm_allocator() -> None:
    """Make the C library keep freed memory for the next large message, as it does for small ones. glibc only.

    It would give it back, and the system would have to hand out every page anew: for a block of 256 KiB that takes
    three times as long as to copy it.
    """
    import ctypes

    m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h; to set one of them stops glibc from adapting the other
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(m_trim_threshold, KEEP_BYTES)
        mallopt(m_mmap_threshold, KEEP_BYTES)


def die_with_parent(parent: int) -> None:
    """Be killed when the launcher is, even if it could not close our standard input. Linux only."""
    try:
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, 9)
    except (OSError, AttributeError):
        return  # not Linux: standard input alone tells
    if os.getppid() != parent:
        os._exit(1)


def encode_line(value: Any) -> bytes:
    """One JSON object a line: how launcher and process talk over pipes."""
    return msgspec.json.encode(value) + b"\n"
