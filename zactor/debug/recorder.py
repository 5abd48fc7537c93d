"""A tap that writes down all that feeds the actors of one kernel, before they are fed.

What passes between actors is written once. Frames are kept as they came and left; a turn says how many of the
messages in them it was fed. Mail from within the process is kept by who receives it, a batch a turn. So each of these
is the input of the one and the output of the other, and a replay of either finds it there. Of everything else that
others can see there is a digest.

Invariant: an input is in the file before its handler runs, so before anything that it leads to leaves the process.
What is no input of a handler yet (a short frame that came), or was an output, waits for the next record, and at most
until the pass ends: what a record costs is paid once for all of it.
"""

from __future__ import annotations

import random
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from zactor.cell import Cell, Mail, Wait, chain_of, sender_name
from zactor.debug.recording import (
    CHECKPOINT,
    DROPPED,
    FORMAT,
    FUNCTIONS,
    HEAD,
    INPUT,
    MAIL,
    OUTPUTS,
    RECEIVED,
    SENT,
    SETTLED,
    TAKEN,
    Sink,
    Unfrozen,
    freeze,
    keep,
    operation_digest,
    unkept,
)
from zactor.errors import DiskFull
from zactor.kernel import Kernel
from zactor.message import Opaque, bulk_fields, encode
from zactor.wire import split
from zactor.world import Operation

CHECKPOINT_ITEMS_MAX = 10_000
"""Values in the state of an actor: to write down a larger one would take longer than a turn."""

SMALL_BYTES = 4096
"""A shorter frame waits for the next record, and is copied twice: that costs less than a record of its own."""

CHECKPOINT_MAIL_MAX = 256
"""Messages that wait, beyond which its checkpoint does, too: they are written with it."""

PENDING_SHARE = 4
"""What waits for the next record has at most a quarter of the longest one, so that both fit into it."""

RUN_MIN = 8
"""Messages of a turn that were told in one go are written as one when they are, on average, at least so many."""

OUTPUT_BYTES = 256
"""At most, of an output's digest with the names beside it."""

CHECKPOINTS_AT_ONCE = 64
"""At the end of a pass; more would make everybody wait."""

CHECKPOINTS_SHARE = 4
"""At most a quarter of a segment is checkpoints."""


Entry = tuple[Any, ...]
"""What is recorded of one thing; it begins with its kind."""


class Track:
    """What of an actor's mailbox is written down."""

    __slots__ = ("bulky", "gone", "seen", "transient")

    def __init__(self, cell: Cell) -> None:
        self.seen = 0  # messages at its head that are written down already
        self.gone = 0  # of those that came from other processes, how many it was fed
        self.transient = False  # its state cannot be written down
        self.bulky = Opaque in cell.handlers or any(handler.is_bulk for handler in cell.handlers.values())


class Recorder:
    """The tap of one kernel. `about` is what a recording says of the nodes in it."""

    def __init__(self, kernel: Kernel, sink: Sink, about: Callable[[], Any] = lambda: None) -> None:
        self._kernel = kernel
        self._sink = sink
        self._keep: Callable[[bytes], None] = sink.append
        self._payload_max = sink.payload_max
        self._about = about
        self._pending: list[Entry] = []
        self._pending_bytes = 0  # of frames in it
        self._outputs: list[tuple[str, Any, Any]] = []  # name, kind and digest, or number and operation
        self._outputs_max = self._payload_max // PENDING_SHARE // OUTPUT_BYTES
        self._fresh = False  # whether the next entry is the first of its turn
        self._sequence = 0  # as the turn began
        self._count = 0  # messages that the turn was offered
        self._remote: Any = False  # which of them came from other processes: all, none, or a list
        self._begun = False
        self._rolled = False  # whether a segment has begun that has no checkpoints yet
        self._wanted: set[Cell] = set()  # who has no checkpoint in this segment
        self._untried: list[Cell] = []  # those of them who may have been idle ever since
        self._room = 0  # bytes that checkpoints may still take of this segment
        self._tellers: dict[str, Callable[..., list[Any]]] = {
            "boot": self._boot,
            "timer": self._timer,
            "chance": self._chance,
        }
        sink.on_segment = self._begin_segment
        kernel.tap = self

    def close(self) -> None:
        """Nothing follows."""
        self.flush()
        self._kernel.tap = None
        self._sink.close()

    # --- what the kernel calls
    def turn(self, cell: Cell) -> None:
        """What an actor is fed from now on belongs to another turn."""
        if self._wanted and not cell.tasks and cell in self._wanted:
            self._checkpoint(cell)
        self._fresh = True
        self._sequence = self._kernel.sequence

    def mail(self, cell: Cell, count: int) -> None:
        """MAIL, name, turn, count, and what of the head of the mailbox is not written down yet.

        That is a map of the first id to the number of messages when all came from other processes: the frames have
        them. Else it is a list of ids and, for those from within, of `_runs` or of rows.
        """
        if not cell.recorded:
            return
        track = cell.track or self._track(cell)
        mailbox, seen = cell.mailbox, track.seen
        self._count = count
        when = self._when() if self._fresh else None
        came = cell.came - track.gone
        if came == len(mailbox):
            self._remote = True
            rows: Any = None
            if count > seen:
                track.seen = count
                rows = {mailbox[seen].id: count - seen}
            self._write((MAIL, cell.name, when, count, rows))
            return
        self._remote = came and [mail.size > 0 for mail in islice(mailbox, count)]
        track.seen = max(seen, count)
        if count <= seen:
            self._write((MAIL, cell.name, when, count, None))
            return
        try:
            few = came or track.bulky or count - seen < RUN_MIN
            rows = None if few else self._runs(mailbox, seen, count)
            if rows is None:
                rows = [
                    mail.id
                    if mail.size
                    else self._row(mail)
                    if track.bulky or mail.ask is not None
                    else (mail.id, mail.cause, mail.root, mail.sender.name, mail.message.wire, mail.message)
                    for mail in islice(mailbox, seen, count)
                ]
            self._write((MAIL, cell.name, when, count, rows))
        except Exception:  # one that cannot travel, or many large ones
            limit = self._payload_max // (2 * count)
            rows = [mail.id if mail.size else self._safe_row(mail, limit) for mail in islice(mailbox, seen, count)]
            self._write((MAIL, cell.name, when, count, rows))

    def _runs(self, mailbox: deque[Mail], start: int, end: int) -> list[Any] | None:
        """First id, cause, root, sender, wire name, messages and their number, of what each handler told in one go.

        None when that is few at a time, or something else is among it: then every message has a row of its own.
        """
        rows: list[Any] = []
        enough = (end - start) // RUN_MIN
        while start < end:
            if len(rows) == enough:
                return None
            first = mailbox[start]
            cause, sender, kind = first.cause, first.sender, first.message.__class__
            low, stop = start + 1, end
            if mailbox[end - 1].cause is not cause:
                while low < stop:
                    middle = low + stop >> 1
                    if mailbox[middle].cause is cause:
                        low = middle + 1
                    else:
                        stop = middle
            last = mailbox[stop - 1]
            # Messages of one sender lie in the order of their ids, so ids without a gap at the ends have none between.
            if last.id - first.id != stop - start - 1 or last.root != first.root:
                return None
            messages = [
                mail.message
                for mail in islice(mailbox, start, stop)
                if mail.cause is cause and mail.sender is sender and mail.ask is None and mail.message.__class__ is kind
            ]
            if len(messages) != stop - start:
                return None
            rows.append((first.id, cause, first.root, sender.name, kind.wire, messages, len(messages)))
            start = stop
        return rows

    def taken(self, cell: Cell, count: int) -> None:
        """TAKEN, name, count: when it is not what it was offered."""
        track: Track | None = cell.track
        if track is None:
            return
        track.seen -= count
        if self._remote is True:
            track.gone += count
        elif self._remote:
            track.gone += sum(self._remote[:count])
        if count != self._count:
            self._pending.append((TAKEN, cell.name, count))

    def settled(self, cell: Cell, count: int) -> int:
        """SETTLED, name, turn, rows: an id whose answer stands in a frame, or what `_settle` or `_synced` says."""
        if not cell.recorded:
            return count
        when = self._when() if self._fresh else None
        inputs: Any = cell.inputs
        if count == 1:
            wait, _, error = inputs[0]
            if error is None and wait is not None and wait.target is not None and wait.target.cell is None:
                self._write((SETTLED, cell.name, when, (wait.id,)))
                return count
        try:
            rows = [
                self._settle(cell, wait, value, error)
                if error is not None or wait is None
                else (wait.id, value)
                if value.__class__ is int and wait.target is None
                else wait.id
                if wait.target is not None and wait.target.cell is None
                else self._settle(cell, wait, value, error)
                for wait, value, error in (inputs if len(inputs) == count else islice(inputs, count))
            ]
            self._write((SETTLED, cell.name, when, rows))
        except Exception:  # an answer from within that cannot travel, or many large ones
            limit = self._payload_max // (2 * count)
            rows = [self._safe_settle(cell, limit, *entry) for entry in islice(inputs, count)]
            self._write((SETTLED, cell.name, when, rows))
        return count

    def input(self, cell: Cell, kind: str, *values: Any) -> None:
        """INPUT, name, turn, kind, values: see the methods below."""
        if not cell.recorded:
            return
        when = self._when() if self._fresh else None
        teller = self._tellers.get(kind)
        told = self._plain(*values) if teller is None else teller(cell, *values)
        try:
            self._write((INPUT, cell.name, when, kind, told))
        except Exception as problem:
            self._write((INPUT, cell.name, when, kind, [unkept(problem)]))

    def output(self, cell: Cell, kind: str, digest: int) -> None:
        """OUTPUTS: name, kind, digest of each."""
        if cell.recorded:
            self._outputs.append((cell.name, kind, digest))

    def operation(self, cell: Cell, number: int, operation: Operation) -> None:
        """The same for an operation that an actor begins."""
        if not cell.recorded:
            return
        if operation.__class__ in FUNCTIONS:  # their values may change meanwhile
            self._outputs.append((cell.name, "operation", operation_digest(number, operation)))
        else:
            self._outputs.append((cell.name, number, operation))

    def received(self, process: str, heard_ns: int, frame: bytes, blobs: Sequence[bytes]) -> None:
        """RECEIVED, process, pieces of bulk, when, frame."""
        self._keep_frame(RECEIVED, process, heard_ns, frame, blobs)

    def sent(self, process: str, frame: bytes, blobs: Sequence[bytes]) -> None:
        """SENT, process, pieces of bulk, 0, frame."""
        self._keep_frame(SENT, process, 0, frame, blobs)

    def dropped(self, number: int) -> None:
        """DROPPED, id: a message in a frame that nobody was fed."""
        self._pending.append((DROPPED, number))

    def flush(self) -> None:
        """Write what waits at the end of a pass; nobody is within a turn now."""
        if self._pending or self._outputs:
            self._write_pending()
        if self._rolled:
            self._rolled = False
            self._untried = [cell for cell in self._kernel.cells.values() if cell.recorded]
            self._wanted = set(self._untried)
        if self._untried:
            for cell in self._untried[:CHECKPOINTS_AT_ONCE]:
                if cell in self._wanted:
                    self._checkpoint(cell)
            del self._untried[:CHECKPOINTS_AT_ONCE]

    # --- how it is written down
    def _when(self) -> tuple[int, int, int, int]:
        """The turn of the entry that is written now, the first of it."""
        self._fresh = False
        kernel = self._kernel
        return self._sequence, kernel.waits.token, kernel.hlc, kernel.now_ns

    def _write(self, entry: Entry) -> None:
        """Write an entry, after what waits for it. Raises `Unfrozen` or others when it cannot be, or is too long."""
        if self._outputs:
            self._digest()
        pending = self._pending
        payload = encode((*pending, entry) if pending else (entry,))
        if len(payload) > self._payload_max:
            if not pending:
                raise Unfrozen(f"{len(payload)} bytes")
            self._write_pending()
            self._write(entry)
            return
        if pending:
            self._pending = []
            self._pending_bytes = 0
        try:
            self._keep(payload)
        except DiskFull as problem:
            self._stop(problem)

    def _write_pending(self) -> None:
        if self._outputs:
            self._digest()
        pending, self._pending = self._pending, []
        self._pending_bytes = 0
        try:
            self._keep(encode(pending))
        except DiskFull as problem:
            self._stop(problem)

    def _digest(self) -> None:
        """Outputs wait for the next record from now on; so many that it would be long are written at once."""
        outputs, self._outputs = self._outputs, []
        digests = [
            (name, what, value) if what.__class__ is str else (name, "operation", operation_digest(what, value))
            for name, what, value in outputs
        ]
        while len(digests) > self._outputs_max:
            self._pending.append((OUTPUTS, digests[: self._outputs_max]))
            del digests[: self._outputs_max]
            self._write_pending()
        self._pending.append((OUTPUTS, digests))

    def _stop(self, problem: DiskFull) -> None:
        if self._kernel.tap is None:
            return
        self._kernel.tap = None
        self._pending, self._outputs = [], []
        self._kernel.world.log("warning", "", "recording_stopped", {"because": str(problem)})

    def _keep_frame(self, kind: int, process: str, when_ns: int, frame: bytes, blobs: Sequence[bytes]) -> None:
        """Keep an entry that ends with a frame, or with None for one that is too large."""
        pieces = [keep(blob, self._sink.full) for blob in blobs] if blobs else ()
        size = len(frame)
        if size < SMALL_BYTES:
            self._pending.append((kind, process, pieces, when_ns, frame))
            self._pending_bytes += size
            if self._pending_bytes * PENDING_SHARE > self._payload_max:
                self._write_pending()
            return
        if self._pending or self._outputs:
            self._write_pending()
        start = encode(((kind, process, pieces, when_ns, None),))
        try:
            if size > self._payload_max:
                self._keep(start)
            else:
                self._sink.append_frame(b"%b\xc6%b" % (start[:-1], size.to_bytes(4, "big")), frame)  # msgpack's bin 32
        except DiskFull as problem:
            self._stop(problem)

    def _track(self, cell: Cell) -> Track:
        cell.track = track = Track(cell)
        return track

    def _safe_row(self, mail: Mail, limit: int) -> tuple[Any, ...]:
        """The same, where each row may have so many bytes, or cannot be written at all."""
        try:
            row = self._row(mail)
            size = len(encode(row))
            if size <= limit:
                return row
            problem: Exception = ValueError(f"a message of {size} bytes")
        except Exception as found:
            problem = found
        wire = getattr(mail.message, "wire", "")
        return mail.id, mail.cause, mail.root, sender_name(mail), wire, unkept(problem)

    def _row(self, mail: Mail) -> tuple[Any, ...]:
        """Id, cause, root, sender, wire name, body, deadline and chain of an ask, pieces of bulk."""
        message, ask = mail.message, mail.ask
        body: Any = message
        blobs: tuple[bytes, ...] = ()
        if message.__class__ is Opaque:
            body, blobs = (message.name, message.body), message.blobs
        elif bulk_fields(message.__class__):
            body, blobs = split(message)
        asked = None if ask is None else (ask.deadline_ns, chain_of(ask))
        pieces = [keep(blob, self._sink.full) for blob in blobs]
        return mail.id, mail.cause, mail.root, sender_name(mail), message.wire, body, asked, pieces

    def _plain(self, *values: Any) -> list[Any]:
        """start, cancel, child, stop, full, unsent, timer_cancelled, spawned: their values."""
        return [freeze(value) for value in values]

    def _boot(self, cell: Cell) -> list[Any]:
        """Module and name of the class, which object of the cell it is, what it was given, chance, and mailbox.

        The last two are what an object finds that is not the first; a replay that begins with it needs them.
        """
        try:
            given: Any = freeze(cell.given)
        except Unfrozen as problem:
            given = unkept(problem)
        kind, stream = cell.kind, None if cell.stream is None else chance(cell.stream)
        return [kind.__module__, kind.__qualname__, cell.generation, given, stream, self._mailbox(cell)]

    def _mailbox(self, cell: Cell) -> list[Any] | None:
        """All that is in a mailbox, which counts as written down then; None when it is much, or nothing is lost."""
        if self._sink.full or len(cell.mailbox) > CHECKPOINT_MAIL_MAX:
            return None
        limit = self._payload_max // 2
        rows = [self._safe_row(mail, limit) for mail in cell.mailbox]
        if len(encode(rows)) > limit:
            rows = [self._safe_row(mail, limit // len(rows)) for mail in cell.mailbox]
        (cell.track or self._track(cell)).seen = len(rows)
        return rows

    def _timer(self, _cell: Cell, mail: Mail) -> list[Any]:
        """Cause, root, sender, wire name, body and id of a timer or notice."""
        return [mail.cause, mail.root, sender_name(mail), mail.message.wire, mail.message, mail.id]

    def _safe_settle(self, cell: Cell, limit: int, wait: Wait | None, value: Any, error: BaseException | None) -> Any:
        """The same, where each may have so many bytes, or cannot be written at all."""
        if error is None and wait is not None and wait.target is not None and wait.target.cell is None:
            return wait.id
        try:
            row = self._settle(cell, wait, value, error)
            size = len(encode(row))
        except Exception as problem:
            return unkept(problem)
        return row if size <= limit else unkept(ValueError(f"a value of {size} bytes"))

    def _settle(self, cell: Cell, wait: Wait | None, value: Any, error: BaseException | None) -> tuple[Any, ...]:
        """Id, how, what: an error, an answer with its pieces of bulk, or a value."""
        if wait is None:
            return self._synced(cell, value, error)
        if error is not None:
            return wait.id, "error", freeze(error)
        if wait.target is None:
            return wait.id, "value", value if value.__class__ is int else self._value(value)
        if value.__class__ is Opaque:
            return wait.id, "opaque", (value.name, value.body), [keep(blob, self._sink.full) for blob in value.blobs]
        body, blobs = split(value)
        return wait.id, "answer", body, [keep(blob, self._sink.full) for blob in blobs]

    def _value(self, value: Any) -> Any:
        try:
            return freeze(value, self._sink.full)
        except Unfrozen as problem:
            return unkept(problem)

    def _synced(self, cell: Cell, write_id: int | None, error: BaseException | None) -> tuple[Any, ...]:
        """None, the write, an error, and id, cause and root of the message during which it was asked for."""
        assert cell.disk is not None
        cause = cell.disk.synced_cause
        return None, write_id, freeze(error), cause.id, cause.cause, cause.root

    def _chance(self, _cell: Cell, stream: random.Random) -> list[Any]:
        """The state of an actor's stream of chance, before its first use."""
        return chance(stream)

    # --- segments
    def _begin_segment(self) -> None:
        """HEAD, format, process, incarnation, what `about` says. Twice: without it nobody knows whose the rest is."""
        head = encode(((HEAD, FORMAT, self._kernel.process, self._kernel.incarnation, self._about()),))
        self._keep(head)
        self._keep(head)
        self._rolled = not self._sink.full and self._begun  # what the first segment begins with is the beginning
        self._begun = True
        self._wanted, self._untried = set(), []
        self._room = self._sink.payload_max * 2 // CHECKPOINTS_SHARE

    def _checkpoint(self, cell: Cell) -> None:
        """CHECKPOINT, name, class, generation, children spawned, state, chance, mailbox: if nothing is under way."""
        actor, disk = cell.actor, cell.disk
        if actor is None or cell.state != "ready" or cell.tasks or cell.laters or cell.outstanding or cell.inputs:
            return
        if len(cell.mailbox) > CHECKPOINT_MAIL_MAX or (disk is not None and (disk.under_way or disk.wanted)):
            return
        self._wanted.discard(cell)
        track = cell.track or self._track(cell)
        if track.transient or self._room <= 0:
            return
        try:
            state = freeze(actor.checkpoint(), items_max=CHECKPOINT_ITEMS_MAX)
        except Exception:  # a kind without one: it is replayed from its start, while that is there
            track.transient = True
            return
        # Python keeps the attributes of an object that nobody asked for its dict in a faster form. Until 3.13 a dict
        # that shares its keys with others, as `vars` makes it, is the slowest: it cost a message 0.08 µs.
        actor.__dict__ = dict(vars(actor))
        kind, seen = cell.kind, track.seen
        stream = None if cell.stream is None else chance(cell.stream)
        place = (CHECKPOINT, cell.name, kind.__module__, kind.__qualname__, cell.generation, cell.spawned)
        entry = (*place, state, stream, self._mailbox(cell))
        size = len(encode(entry))
        if size < self._room:
            self._room -= size
            self._write(entry)
        else:
            track.seen = seen


def chance(stream: random.Random) -> list[Any]:
    """The state of a stream of chance, small and fast to write."""
    version, words, gauss = stream.getstate()
    return [version, array("I", words).tobytes(), gauss]
