"""A tap that writes down all that feeds the actors of one kernel, before they are fed.

What passes between actors is written once. Frames are kept as they came and left; a turn says how many of the
messages in them it was fed. Mail from within the process is kept by who receives it, a batch a turn. So each of these
is the input of the one and the output of the other, and a replay of either finds it there. Of everything else that
others can see there is a digest.

Invariant: an input is in the file before its handler runs, so before anything that it leads to leaves the process.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from zactor.cell import Cell, Mail, Wait, chain_of, sender_name
from zactor.debug.recording import (
    CHECKPOINT,
    DROPPED,
    FORMAT,
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

SMALL_BYTES = 1024
"""A shorter frame is copied twice: that costs less than to write it in two pieces."""

CHECKPOINT_MAIL_MAX = 256
"""Messages that wait, beyond which its checkpoint does, too: they are written with it."""

OUTPUTS_MAX = 1_000
"""Digests that are kept before they are written, so that a turn with very many fits into a segment."""

CHECKPOINTS_AT_ONCE = 64
"""At the end of a pass; more would make everybody wait."""

CHECKPOINTS_SHARE = 4
"""At most a quarter of a segment is checkpoints."""


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
        self._append: Callable[[bytes], None] = sink.append
        self._payload_max = sink.payload_max
        self._about = about
        self._outputs: list[tuple[str, str, int]] = []
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
        if self._outputs:
            self._write_outputs()
        if self._wanted and cell in self._wanted:
            self._checkpoint(cell)
        self._fresh = True
        self._sequence = self._kernel.sequence

    def mail(self, cell: Cell, count: int) -> None:
        """MAIL, name, turn, count, and what of the head of the mailbox is not written down yet.

        That is a map of the first id to the number of messages when all came from other processes: the frames have
        them. Else it is a list of ids and, for those from within, of rows.
        """
        if not cell.recorded:
            return
        track = cell.track or self._track(cell)
        mailbox, seen = cell.mailbox, track.seen
        self._count = count
        rows: Any = None
        came = cell.came - track.gone
        if came == len(mailbox):
            self._remote = True
            if count > seen:
                track.seen = count
                rows = {mailbox[seen].id: count - seen}
            self._write(encode((MAIL, cell.name, self._when() if self._fresh else None, count, rows)))
            return
        self._remote = came and [mail.size > 0 for mail in islice(mailbox, count)]
        when = self._when() if self._fresh else None
        try:
            if count <= seen:
                rows = None
            elif self._remote or track.bulky:
                rows = [mail.id if mail.size else self._row(mail) for mail in islice(mailbox, seen, count)]
            else:
                rows = [
                    (mail.id, mail.cause, mail.root, mail.sender.name, mail.message.wire, mail.message)
                    if mail.ask is None
                    else self._row(mail)
                    for mail in islice(mailbox, seen, count)
                ]
            payload = encode((MAIL, cell.name, when, count, rows))
            if len(payload) > self._payload_max:
                raise Unfrozen
        except Exception:  # one that cannot travel, or many large ones
            limit = self._payload_max // (2 * count)
            rows = [mail.id if mail.size else self._safe_row(mail, limit) for mail in islice(mailbox, seen, count)]
            payload = encode((MAIL, cell.name, when, count, rows))
        track.seen = max(seen, count)
        try:
            self._append(payload)
        except DiskFull as problem:
            self._stop(problem)

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
            self._write(encode((TAKEN, cell.name, count)))

    def settled(self, cell: Cell, count: int) -> int:
        """SETTLED, name, turn, rows: an id whose answer stands in a frame, or what `_settle` or `_synced` says."""
        if not cell.recorded:
            return count
        when = self._when() if self._fresh else None
        inputs = cell.inputs or ()
        try:
            rows = [
                wait.id
                if error is None and wait is not None and wait.target is not None and wait.target.cell is None
                else self._settle(cell, wait, value, error)
                for wait, value, error in islice(inputs, count)
            ]
            payload = encode((SETTLED, cell.name, when, rows))
            if len(payload) > self._payload_max:
                raise Unfrozen
        except Exception:  # an answer from within that cannot travel, or many large ones
            limit = self._payload_max // (2 * count)
            rows = [self._safe_settle(cell, limit, *entry) for entry in islice(inputs, count)]
            payload = encode((SETTLED, cell.name, when, rows))
        try:
            self._append(payload)
        except DiskFull as problem:
            self._stop(problem)
        return count

    def input(self, cell: Cell, kind: str, *values: Any) -> None:
        """INPUT, name, turn, kind, values: see the methods below."""
        if not cell.recorded:
            return
        when = self._when() if self._fresh else None
        teller = self._tellers.get(kind)
        told = self._plain(*values) if teller is None else teller(cell, *values)
        try:
            payload = encode((INPUT, cell.name, when, kind, told))
            if len(payload) > self._sink.payload_max:
                raise Unfrozen(f"{len(payload)} bytes")
        except Exception as problem:
            payload = encode((INPUT, cell.name, when, kind, [unkept(problem)]))
        self._write(payload)

    def output(self, cell: Cell, kind: str, digest: int) -> None:
        """OUTPUTS: name, kind, digest of each. They are written at the end of a turn, or when they are many."""
        if cell.recorded:
            self._outputs.append((cell.name, kind, digest))
            if len(self._outputs) >= OUTPUTS_MAX:
                self._write_outputs()

    def operation(self, cell: Cell, number: int, operation: Operation) -> None:
        """The same for an operation that an actor begins."""
        if cell.recorded:
            self.output(cell, "operation", operation_digest(number, operation))

    def received(self, process: str, heard_ns: int, frame: bytes, blobs: Sequence[bytes]) -> None:
        """RECEIVED, process, when, pieces of bulk, frame."""
        pieces = [keep(blob, self._sink.full) for blob in blobs] if blobs else ()
        if len(frame) < SMALL_BYTES:
            self._write(encode((RECEIVED, process, heard_ns, pieces, frame)))
        else:
            self._write_frame(encode((RECEIVED, process, heard_ns, pieces, None)), frame)

    def sent(self, process: str, frame: bytes, blobs: Sequence[bytes]) -> None:
        """SENT, process, pieces of bulk, frame."""
        pieces = [keep(blob, self._sink.full) for blob in blobs] if blobs else ()
        if len(frame) < SMALL_BYTES:
            self._write(encode((SENT, process, pieces, frame)))
        else:
            self._write_frame(encode((SENT, process, pieces, None)), frame)

    def dropped(self, number: int) -> None:
        """DROPPED, id: a message in a frame that nobody was fed."""
        self._write(encode((DROPPED, number)))

    def flush(self) -> None:
        """Write the digests of a pass; nobody is within a turn now."""
        if self._outputs:
            self._write_outputs()
        if self._rolled:
            self._rolled = False
            self._untried = [cell for cell in self._kernel.cells.values() if cell.recorded]
            self._wanted = set(self._untried)
        if self._untried:
            for cell in self._untried[:CHECKPOINTS_AT_ONCE]:
                if cell in self._wanted:
                    self._checkpoint(cell)
            del self._untried[:CHECKPOINTS_AT_ONCE]

    def _write_outputs(self) -> None:
        outputs, self._outputs = self._outputs, []
        self._write(encode((OUTPUTS, outputs)))

    # --- how it is written down
    def _when(self) -> tuple[int, int, int, int]:
        """The turn of the entry that is written now, the first of it."""
        self._fresh = False
        kernel = self._kernel
        return self._sequence, kernel.waits.token, kernel.hlc, kernel.now_ns

    def _write(self, payload: bytes) -> None:
        try:
            self._append(payload)
        except DiskFull as problem:
            self._stop(problem)

    def _stop(self, problem: DiskFull) -> None:
        self._kernel.tap = None
        self._outputs = []
        self._kernel.world.log("warning", "", "recording_stopped", {"because": str(problem)})

    def _write_frame(self, head: bytes, frame: bytes) -> None:
        """Write a record that ends with a frame; `head` has None for it, which one that is too large stays."""
        if len(frame) > self._sink.payload_max:
            self._write(head)
            return
        try:
            self._sink.append_frame(b"%b\xc6%b" % (head[:-1], len(frame).to_bytes(4, "big")), frame)  # msgpack's bin 32
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
        """Cause, root, sender, wire name and body of a timer or notice."""
        return [mail.cause, mail.root, sender_name(mail), mail.message.wire, mail.message]

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
        """HEAD, format, process, incarnation, and what `about` says."""
        self._sink.append(encode((HEAD, FORMAT, self._kernel.process, self._kernel.incarnation, self._about())))
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
        payload = encode((*place, state, stream, self._mailbox(cell)))
        if len(payload) < self._room:
            self._room -= len(payload)
            self._write(payload)
        else:
            track.seen = seen


def chance(stream: random.Random) -> list[Any]:
    """The state of a stream of chance, small and fast to write."""
    version, words, gauss = stream.getstate()
    return [version, array("I", words).tobytes(), gauss]
