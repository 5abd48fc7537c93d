"""Re-executes one actor alone from a recording: all that it does is what was recorded, or the first that differs.

There is no other actor, no disk and no network: whatever the actor sends is compared and forgotten, and all that it
hears comes from the recording, at the times of the recording. It runs in a real kernel whose doors are shut.
"""

from __future__ import annotations

import contextlib
import pdb
import random
import sys
import traceback
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from zactor.actor import Actor, Handler
from zactor.cell import NOTHING, Cell, Mail, RemoteAsk, Wait
from zactor.debug.recording import (
    Lost,
    NothingRecorded,
    Recording,
    Unfrozen,
    Unkept,
    checksum_of,
    find_class,
    operation_digest,
    thaw,
)
from zactor.debug.story import ANSWERS, Doubt, Fed, Known, Story, Turn
from zactor.errors import ActorFailed, Failure, UserError
from zactor.kernel import Kernel
from zactor.message import UNDECODABLE, Opaque, Ref, answer_decoder, decoder, encode, format_id
from zactor.supervision import Supervision
from zactor.tap import digest_of
from zactor.wire import split, unsplit, unwrap
from zactor.world import List, Operation, Read

TEXT_LENGTH_MAX = 300
"""Characters of a value in a report."""

_OWN_FOLDER = str(Path(__file__).parent.parent)

OnLog = Callable[[str, str, str, dict[str, Any]], None]
"""Level, node, event and fields of a log event."""


class Difference(msgspec.Struct, frozen=True):
    """The first output that is not as it was recorded. Texts are for people."""

    output: str
    recorded: str
    replayed: str
    handling: str
    """The message or other input that was being handled."""
    where: str
    """File, line and name of the code that did it, or of the handler; empty when neither is known."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of a replay: how much was fed and compared, and the first difference."""

    node: str
    inputs: int
    outputs: int
    """Of those, how many were compared and were the same."""
    unknown: int
    """Messages and answers of which the recording does not know what they were: nobody had taken them."""
    difference: Difference | None = None
    unkept: str = ""
    """The first input of which not everything was kept: a difference after it may be due to that."""
    stopped_at: str = ""
    """The state before the message that it was to stop at."""


class Differs(BaseException):
    """Ends a replay at once; no handler catches it."""

    def __init__(self, output: str, recorded: str, replayed: str, cause: int = 0) -> None:
        super().__init__(output)
        self.parts = (output, recorded, replayed)
        self.cause = cause  # the id of the message that should have led to it, when it is not the one being handled


class _Cut(BaseException):
    """The recording ends within a handler, where its process was killed."""


class _Stopped(BaseException):
    """The message that the replay was to stop at is next."""


class _World:
    """A world in which nothing happens but what was recorded."""

    def __init__(self, on_log: OnLog) -> None:
        self.time_ns = 0
        self.log = on_log

    def now_ns(self) -> int:
        return self.time_ns

    def wall_ns(self) -> int:
        return 0

    def random(self, _purpose: str) -> random.Random:
        return random.Random(0)  # noqa: S311 - its state is recorded

    def wake(self) -> None:
        pass

    def alarm(self, at_ns: int) -> None:
        pass

    def send(self, _process: str, _lane: int, _frame: bytes, _blobs: list[bytes]) -> bool:
        return True

    def disconnect(self, process: str) -> None:
        pass

    def begin(self, token: int, operation: Operation) -> None:
        pass

    def cancel(self, token: int) -> None:
        pass


class _Inputs(deque[Any]):
    """A cell's inputs; waits are looked up when their turn comes, as an input may answer what the one before asked."""

    def __init__(self, kernel: Kernel, value_of: Callable[..., tuple[Any, Any]]) -> None:
        super().__init__()
        self._kernel = kernel
        self._value_of = value_of

    def popleft(self) -> tuple[Wait | None, Any, BaseException | None]:
        number, *values = super().popleft()
        if number is None:
            return None, *values
        wait = self._kernel.pending.pop(number, None)
        if wait is None:
            name = format_id(number) if number >> 42 else str(number)
            raise Differs(f"what {name} answers", "an ask or operation of that number", "none that still waits")
        wait.cell.outstanding -= 1
        return wait, *self._value_of(wait, *values)


class Replay:
    """One actor in a kernel of its own, which takes everything and answers what was recorded.

    `kind` is its class, or None for the one that the recording names; `policy` what the topology says of restarts.
    `state` is the folder of what the nodes keep: there is what was read, if it is still the same.
    Raises `NothingRecorded`, or a plain `UserError` for a recording that it cannot be replayed from.
    """

    def __init__(
        self,
        recording: Recording,
        name: str,
        kind: type[Actor] | None = None,
        policy: Supervision | None = None,
        on_log: OnLog = lambda *_values: None,
        stop_at: int = 0,
        debugger: pdb.Pdb | None = None,
        state: Path | None = None,
    ) -> None:
        self._story = story = Story(recording, name)
        if not story.seen:
            raise NothingRecorded(f"{recording.name}: nothing of {name} was recorded")
        self._unread = "" if story.given or story.start else "its start"
        if story.overwritten or (self._unread and not story.doubts):
            mend = "give its kind a `checkpoint` that can be written down, or record it with `record: full`"
            raise UserError(f"{recording.name}: the start of {name} was overwritten, and it has no checkpoint; {mend}")
        self._stop_at = stop_at
        self._debugger = debugger
        self._state_folder = state
        self._outputs = 0
        self._inputs = 0
        self._unknown = 0
        self._compared = 0
        self._unkept = ""
        self._turn: Turn | None = None
        self._answers: dict[str, deque[Any]] = {}
        self._due = deque(sorted(story.sent))
        self._caught: Differs | None = None
        self._world = _World(on_log)
        self._kernel = kernel = Kernel(self._world, process="replay")
        kernel.log_debug = True
        kind = kind or self._recorded_kind()
        kernel.life.add(name, kind, policy=policy)
        self._cell = cell = kernel.cells[name]
        self._shut_the_doors(kernel)
        self._watch_handlers(cell)

    def _recorded_kind(self) -> type[Actor]:
        story = self._story
        if story.given is not None:
            module, name = story.given[:2]
        elif story.start is not None:
            module, name = story.start.module, story.start.kind
        else:
            return Actor
        try:
            kind: type[Actor] = find_class(module, name)
        except Unfrozen as problem:
            if story.doubts:
                self._unread = f"its class: {problem}"
                return Actor
            raise UserError(f"{self._story.name}: {problem}") from None
        return kind

    def _given(self, given: Any) -> dict[str, Any]:
        if isinstance(given, Lost):
            name = self._story.name
            raise UserError(f"{name} was given {given.because}, which no recording can hold; replay its parent instead")
        try:
            values: dict[str, Any] = thaw(given)
        except Unfrozen as problem:
            raise UserError(f"{self._story.name}: {problem}") from None
        return values

    def _shut_the_doors(self, any_kernel: Any) -> None:
        kernel = any_kernel
        for part, names in (
            (kernel.mailroom, "cancel_ask control queue_up resume"),
            (kernel.neighbours, "watch unwatch notice notice_process"),
            (kernel.cycles, "suspended forget"),
        ):
            for name in names.split():
                setattr(part, name, lambda *_values: None)
        kernel.tap = self
        kernel.mailroom.deliver = self._deliver
        kernel.mailroom.answer = self._answer
        kernel.output = self._output
        kernel.life._spawn = lambda cell: Ref(cell.name)
        kernel.waits.cancel_timer = lambda _cell, _token: self._told("timer_cancelled")[0]
        self._create = create = kernel.life._create
        dropped = kernel.dropped

        def create_child(name: str, *values: Any) -> Cell:
            problem = thaw(self._told("spawned")[0])
            if problem is not None:
                raise problem
            kernel.cells.pop(name, None)
            cell: Cell = create(name, *values)
            return cell

        def drop_later(*values: Any) -> None:
            try:
                dropped(*values)
            except Differs as problem:  # nobody would hear of it: Python is freeing the Later
                self._caught = self._caught or problem

        kernel.life._create = create_child
        kernel.dropped = drop_later

    # --- the tap: what the kernel tells
    def input(self, _cell: Cell, kind: str, *values: Any) -> None:
        if kind == "chance":
            version, words, gauss = self._told("chance")
            values[0].setstate((version, tuple(array("I", words)), gauss))

    def turn(self, *_values: Any) -> None:
        pass

    mail = taken = output = received = sent = dropped = flush = turn

    def settled(self, _cell: Cell, count: int) -> int:
        return count

    def fed(self) -> list[str]:
        """The messages that it was fed, by name and id."""
        mail = (each for turn in self._story.turns for each in turn.mail)
        return [f"{each.wire} {format_id(each.id)}" for each in mail]

    # --- running
    def run(self) -> Outcome:
        """Feed it all that was recorded, until something differs."""
        difference = None
        stopped_at = ""
        turns = self._story.turns
        while self._due and turns and self._due[0] <= turns[0].when[0]:
            self._due.popleft()  # it was sent before what we begin with
        try:
            if self._unread:
                raise self._missed(f"{self._unread} cannot be read")
            self._restore_chance(self._story.chance)
            if self._story.start is not None:
                self._begin_at_checkpoint()
            for index, turn in enumerate(turns):
                self._turn = turn
                self._play(turn)
                following = turns[index + 1].when[0] if index + 1 < len(turns) else None
                self._look_for_missing(following if turn.ends is None else turn.ends)
            self._look_for_unanswered()
            if self._story.doubts:
                raise self._doubted(self._story.doubts[0])
        except Differs as problem:
            difference = self._difference(problem)
        except _Stopped:
            stopped_at = self._state()
        except _Cut:
            if self._story.doubts:
                difference = self._difference(self._doubted(self._story.doubts[0]))
        except Exception as problem:
            if not self._is_in_doubt():
                raise
            difference = self._difference(self._missed(f"it cannot be fed: {problem!r}"))
        if difference is not None and self._is_in_doubt():
            self._unkept = ""  # what is missing is damaged, and was kept
        if self._debugger is not None and self._debugger.quitting:
            difference, stopped_at = None, "the debugger was left"
        return Outcome(
            self._story.name, self._inputs, self._compared, self._unknown, difference, self._unkept, stopped_at
        )

    # --- where the recording is damaged
    def _is_in_doubt(self) -> bool:
        """Whether something that led to the turn which is replayed now may have been damaged."""
        doubts, turn = self._story.doubts, self._turn
        return bool(doubts) and (turn is None or not any(turn is each for each in self._story.turns[: doubts[0].turn]))

    def _missed(self, replayed: str) -> Differs:
        """An input is damaged: so the next output that was recorded cannot be as it was."""
        recorded = f"the record at offset {self._story.doubts[0].offset} is damaged"
        return Differs(self._output_after(self._turn), recorded, replayed)

    def _doubted(self, doubt: Doubt) -> Differs:
        """Nothing differs, as far as can be seen: then it is the first output after the damage that is in doubt."""
        turns = self._story.turns
        self._turn = turns[min(doubt.next, len(turns) - 1)] if turns else None
        text = "the same, as far as the recording can be read"
        return Differs(self._output_after(self._turn), f"the record at offset {doubt.offset} is damaged", text)

    def _output_after(self, turn: Turn | None) -> str:
        """The first output that is known from a turn on; the last one when there is none."""
        story, since = self._story, 0 if turn is None else turn.when[0]
        sent = sorted(story.sent)
        number = next((each for each in sent if each > since), None)
        if number is not None:
            known = story.sent[number]
            return f"{known.wire} {format_id(number)} to {known.to}"
        if turn is not None and turn.mail and turn.mail[0].ask is not None:
            return f"the answer to {format_id(turn.mail[0].id)}"
        return f"output {self._outputs}" if self._outputs else "all that it does"

    def _begin_at_checkpoint(self) -> None:
        start, cell = self._story.start, self._cell
        assert start is not None
        actor = cell.kind.__new__(cell.kind)
        actor._cell = cell
        actor.from_checkpoint(thaw(start.state))
        cell.actor, cell.generation, cell.spawned = actor, start.generation, start.spawned
        cell.state, cell.held = "ready", False
        self._restore_chance(start.chance)

    def _restore_chance(self, state: Any) -> None:
        if state is not None:
            version, words, gauss = state
            self._cell.stream = random.Random(0)  # noqa: S311
            self._cell.stream.setstate((version, tuple(array("I", words)), gauss))

    def _play(self, turn: Turn) -> None:
        kernel, cell = self._kernel, self._cell
        kernel.sequence, kernel.waits.token, kernel.hlc, kernel.now_ns = turn.when
        self._world.time_ns = kernel.now_ns
        self._answers = {each: deque(values for kind, values in turn.inputs if kind == each) for each in ANSWERS}
        inputs = [entry for entry in turn.inputs if entry[0] not in ANSWERS]
        what, values = inputs[0] if inputs else ("", [])
        self._inputs += len(inputs) + len(turn.mail)
        if cell.state == "stopped" and what != "boot":
            return  # by its own failure, in the turn before
        if what == "boot":
            self._boot(values[3])
        elif what == "stop":
            kernel.life.stop_now(cell, values[0])
        elif what == "child":
            kernel.life.failed(cell, NOTHING, thaw(values[0]), "child")
        else:
            self._feed(turn, inputs)
        kernel.queue.clear()
        if self._caught is not None:
            raise self._caught

    def _boot(self, given: Any) -> None:
        if self._cell.state == "stopped":  # somebody started it again while its process went on
            before = self._cell
            self._cell = cell = self._create(before.name, before.kind, {})
            cell.policy = before.policy
            self._watch_handlers(cell)
        self._cell.given = self._given(given)
        self._kernel.life._begin(self._cell)

    def _feed(self, turn: Turn, inputs: list[tuple[str, list[Any]]]) -> None:
        kernel, cell = self._kernel, self._cell
        for what, values in inputs:
            self._queue(what, values)
        if turn.mail:
            cell.mailbox = deque(self._mail(fed) for fed in turn.mail)
        kernel.hlc -= 1  # which the turn adds
        kernel._turn(cell)
        if cell.mailbox:
            self._end_if_cut()
            left = len(cell.mailbox)
            text = f"{len(turn.mail)} messages handled in this turn"
            raise Differs(
                "how much it handles", text, f"{len(turn.mail) - left}: then a handler waits, or it has failed"
            )

    def _queue(self, what: str, values: list[Any]) -> None:
        cell = self._cell
        for value in values:
            if isinstance(value, Lost):
                if self._is_in_doubt():
                    raise self._missed(f"a {what} is not there: {value.because}")
                self._unkept = self._unkept or f"what a {what} brought could not be written down: {value.because}"
                raise Differs("an input", what, "nothing")
        if what == "timer":
            cause, root, sender, wire, body, _ = values
            message = self._message(Fed(0, cause, root, sender, wire, encode(body)))
            if cell.due is None:
                cell.due = deque()
            cell.due.append(Mail(message, 0, cause, root, 0, sender))
        elif what in ("settle", "synced"):
            if cell.inputs is None:
                cell.inputs = _Inputs(self._kernel, self._value)
            if what == "synced":
                write_id, error, number, cause, root = values
                self._kernel.waits._disk(cell).synced_cause = Mail(None, number, cause, root, 0, None)
                values = [None, write_id, thaw(error)]
            queue: deque[Any] = cell.inputs
            queue.append(tuple(values))
        elif what == "cancel":
            self._kernel.direct(cell, "cancel", values[0])
        else:
            assert what == "start", what  # the boot has asked for it

    def _mail(self, fed: Fed) -> Mail:
        ask = None if fed.ask is None else RemoteAsk("recorded", fed.id, *fed.ask)
        return Mail(self._message(fed), fed.id, fed.cause, fed.root, 0, fed.sender, ask)

    def _message(self, fed: Fed) -> Any:
        """What it was fed. Raises `Differs` when its class does not take it any more."""
        if isinstance(fed.body, Lost):
            if self._is_in_doubt():
                raise self._missed("a message is not there")
            self._unkept = self._unkept or f"a message is not there: {fed.body.because}"
            raise Differs("an input", "a message", "nothing")
        handlers = self._cell.kind._wires
        for blob in fed.blobs:
            if isinstance(blob, Unkept):
                self._note_unkept(f"{fed.wire} {format_id(fed.id)} brought {len(blob)} bytes of bulk")
        handler = handlers.get(fed.wire)
        try:
            if fed.wire == Opaque.wire:
                name, rest = msgspec.msgpack.decode(fed.body, type=tuple[str, Raw])
                return Opaque(name=name, body=rest, blobs=fed.blobs)
            if handler is None and Opaque in self._cell.handlers:
                return Opaque(name=fed.wire, body=Raw(fed.body), blobs=fed.blobs)
            if handler is None:
                raise Differs("an input", f"{fed.wire} {format_id(fed.id)}", "no handler for it")
            message = handler.decode(fed.body)
            return unsplit(message, fed.blobs) if fed.blobs or handler.is_bulk else message
        except Exception as problem:
            raise Differs("an input", f"{fed.wire} {format_id(fed.id)}", f"it cannot be decoded: {problem}") from None

    def _value(self, wait: Wait, how: str, value: Any, blobs: Any = ()) -> tuple[Any, BaseException | None]:
        """What an ask or an operation came to."""
        if how == "error":
            return None, thaw(value)
        if how == "value":
            found = thaw(value)
            if isinstance(found, Unkept):
                found = self._read_again(wait.operation, found)
            return tuple(found) if isinstance(wait.operation, List) else found, None
        kind: Any = wait.message.__class__
        if how == "reply":
            if wait.id not in self._story.replies:
                raise Differs(f"the answer to {format_id(wait.id)}", "an answer", "none: its frame was not kept")
            letter, blobs = self._story.replies[wait.id]
            body = bytes(letter.body)
        else:
            body = encode(value if how == "answer" else value[1])
        if any(isinstance(blob, Unkept) for blob in blobs):
            self._note_unkept(f"the answer to {format_id(wait.id)} brought bulk")
        if kind is Opaque:
            return Opaque(name="", body=Raw(body), blobs=tuple(blobs)), None
        return self._unsplit(answer_decoder(kind)(body), tuple(blobs)), None

    def _unsplit(self, value: Any, blobs: tuple[bytes, ...]) -> Any:
        return unsplit(value, blobs) if blobs else value

    def _read_again(self, operation: Any, unkept: Unkept) -> bytes:
        """What a read gave of which only length and checksum were kept: the file may still have it."""
        if self._state_folder is not None and isinstance(operation, Read):
            with (
                contextlib.suppress(OSError),
                (self._state_folder / operation.folder / operation.file).open("rb") as file,
            ):
                file.seek(operation.offset)
                content = file.read(len(unkept))
                if (len(content), checksum_of(content)) == (len(unkept), unkept.checksum):
                    return content
        self._note_unkept(f"a read of {len(unkept)} bytes")
        return unkept

    def _note_unkept(self, text: str) -> None:
        mend = "keep all of it with `record: full`"
        self._unkept = self._unkept or f"{text}, of which only length and checksum were kept; {mend}"

    # --- comparing
    def _told(self, kind: str) -> list[Any]:
        """What answered, at once, what the actor does now."""
        entries = self._answers.get(kind)
        if not entries:
            self._end_if_cut()
            raise Differs(f"what it does: {kind}", "nothing of the kind", "it does so here")
        values: list[Any] = entries.popleft()
        return values

    def _end_if_cut(self) -> None:
        """In the last turn, what the recording does not have may have been about to be written."""
        if self._story.is_cut and self._turn is self._story.turns[-1]:
            raise _Cut

    def _deliver(self, target: Ref[Any], mail: Mail, wait: Wait | None) -> str | None:
        self._compare_message(target, mail)
        unsent, full = self._answers["unsent"], self._answers["full"]
        if unsent and unsent[0][0] == mail.id:
            if wait is not None:
                self._kernel.waits.forget(wait)
            raise thaw(unsent.popleft()[1])
        if full and full[0][0] == mail.id:
            problem: str = full.popleft()[1]
            return problem
        return None

    def _compare_message(self, target: Ref[Any], mail: Mail) -> None:
        message = mail.message
        known = self._story.sent.get(mail.id)
        if known is None:
            turn = self._turn
            if turn is not None and turn.ends is not None and mail.id > turn.ends:
                raise Differs(f"{message.wire} to {target.name}", "nothing more in this turn", _text(message))
            self._unknown += 1
            return
        while self._due and self._due[0] < mail.id:
            self._missing(self._due.popleft())
        if self._due:
            self._due.popleft()
        if isinstance(known.body, Lost):
            self._unknown += 1
            return
        output = f"{known.wire} {format_id(mail.id)} to {known.to}"
        if message.__class__ is Opaque:
            wire, body, blobs = unwrap(message)
        else:
            wire, (body, blobs) = message.wire, split(message)
        if (target.name, wire) != (known.to, known.wire):
            raise Differs(output, _shown(known), f"{wire} to {target.name}: {_text(message)}")
        self._compare(output, known, body, blobs, message, message.__class__)
        current = self._kernel.current
        if (mail.cause, mail.root) != (known.cause, known.root):
            text = f"while it handled {format_id(known.cause)}"
            raise Differs(output, text, f"while it handles {format_id(current.id)}")

    def _compare(self, output: str, known: Known, body: Any, blobs: tuple[bytes, ...], value: Any, kind: Any) -> None:
        if isinstance(known.body, Lost):
            self._unknown += 1
            return
        pieces = [(len(blob), checksum_of(blob)) for blob in blobs]
        same = encode(body) == known.body or _same_value(encode(body), known.body, kind)
        if not same or pieces != [(len(blob), checksum_of(blob)) for blob in known.blobs]:
            raise Differs(output, _shown(known), _text(value))
        self._compared += 1

    def _missing(self, number: int) -> None:
        known = self._story.sent[number]
        raise Differs(f"{known.wire} {format_id(number)} to {known.to}", _shown(known), "it is not sent", known.cause)

    def _look_for_missing(self, ends: int | None) -> None:
        while self._due and (ends is None or self._due[0] <= ends):
            self._missing(self._due.popleft())

    def _look_for_unanswered(self) -> None:
        fed = {each.id for turn in self._story.turns for each in turn.mail}
        for number, answers in self._story.answers.items():
            if number in fed and answers:
                raise Differs(f"the answer to {format_id(number)}", _shown(answers[0]), "it is not answered", number)

    def _answer(self, cell: Cell | None, ask: RemoteAsk, value: Any, error: BaseException | None) -> None:
        if cell is None:
            return  # the kernel's own, to an ask that nobody handled
        answers = self._story.answers.get(ask.id)
        if not answers:
            self._unknown += 1
            return
        known = answers.popleft()
        output = f"the answer to {format_id(ask.id)}"
        if error is None:
            try:
                body, blobs = (value.body, value.blobs) if value.__class__ is Opaque else split(value)
                encode(body)
            except Exception as problem:  # as in `Mailroom.answer`
                error = ActorFailed(f"{cell.name}: its answer cannot be sent: {problem}")
        if error is None and known.wire != "error":
            self._compare(output, known, body, blobs, value, Any)
            return
        if error is None:
            raise Differs(output, _shown(known), _text(value))
        failure = error if isinstance(error, Failure) else ActorFailed(f"{type(error).__name__}: {error}")
        if known.wire != "error" or tuple(known.body) != (failure.wire, str(failure)[:10_000]):
            raise Differs(output, _shown(known), f"{failure.wire}: {failure}")
        self._compared += 1

    def operation(self, _cell: Cell, number: int, operation: Operation) -> None:
        self._compare_digest("operation", operation_digest(number, operation), operation)

    def _output(self, _cell: Cell, kind: str, values: Any) -> None:
        self._compare_digest(kind, digest_of(values), values)

    def _compare_digest(self, kind: str, found: int, values: Any) -> None:
        outputs = self._story.outputs
        if self._outputs >= len(outputs):
            self._unknown += 1
            return
        what, digest = outputs[self._outputs]
        self._outputs += 1
        if (what, digest) != (kind, found):
            raise Differs(f"output {self._outputs}", f"{what}, digest {digest:08x}", f"{kind} {_text(values)}")
        self._compared += 1

    # --- what is told of it
    def _difference(self, problem: Differs) -> Difference:
        mail = self._mail_of(problem.cause) or self._kernel.current
        handling = self._turn.inputs[0][0] if self._turn is not None and self._turn.inputs else "no message"
        where = _place(problem)
        if mail.message is not None:
            name = type(mail.message).__name__
            handling = f"{name} {format_id(mail.id)} from {mail.sender}: {_text(mail.message)}"
            handler = self._cell.handlers.get(type(mail.message))
            if not where and handler is not None:
                code = _code(handler.function)
                where = f"{code.co_filename}:{code.co_firstlineno} {code.co_qualname}"
        return Difference(*problem.parts, handling, where)

    def _mail_of(self, number: int) -> Mail | None:
        for turn in self._story.turns:
            for fed in turn.mail:
                if number and fed.id == number:
                    return self._mail(fed)
        return None

    def _state(self) -> str:
        fields = {name: value for name, value in vars(self._cell.actor).items() if name != "_cell"}
        return "\n".join(f"{name} = {_text(value)}" for name, value in fields.items())

    def _watch_handlers(self, cell: Cell) -> None:
        """Look at the id of each message before its handler runs. A debugger without one stops at the first."""
        if not self._stop_at and self._debugger is None:
            return

        def watched(handler: Handler) -> Handler:
            def before(actor: Actor, *values: Any) -> Any:
                number = self._kernel.current.id
                if self._stop_at in (0, number):
                    if self._debugger is None:
                        raise _Stopped
                    self._stop_at = self._stop_at or -1
                    _break(self._debugger, handler.function)
                return handler.function(actor, *values)

            return msgspec.structs.replace(handler, function=before)

        cell.handlers = {kind: watched(handler) for kind, handler in cell.handlers.items()}


def _break(debugger: pdb.Pdb, function: Any) -> None:
    """Stop at the first line of a handler, also of one that is a coroutine and runs later."""
    code = _code(function)
    lines = sorted({line for _, _, line in code.co_lines() if line and line > code.co_firstlineno})
    debugger.reset()
    debugger.botframe = sys._getframe()
    debugger.set_break(code.co_filename, lines[0] if lines else code.co_firstlineno, temporary=True)
    debugger.set_continue()
    sys.settrace(debugger.trace_dispatch)


def _code(function: Any) -> Any:
    import inspect

    return inspect.unwrap(function).__code__


def _place(problem: BaseException) -> str:
    """The innermost line outside of zactor's own code."""
    frames = [
        frame for frame in traceback.extract_tb(problem.__traceback__) if not frame.filename.startswith(_OWN_FOLDER)
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno} {frames[-1].name}" if frames else ""


def _same_value(one: bytes, other: bytes, kind: Any) -> bool:
    """Whether they say the same; a set's order is not the same in every process."""
    decode = decoder(kind)
    try:
        return bool(decode(one) == decode(other))
    except UNDECODABLE:
        return False


def _shown(known: Known) -> str:
    if known.wire == "error":
        return f"{known.body[0]}: {known.body[1]}"[:TEXT_LENGTH_MAX]
    if isinstance(known.body, Lost):
        return known.body.because
    return _text(msgspec.msgpack.decode(known.body))


def _text(value: Any) -> str:
    return repr(value)[:TEXT_LENGTH_MAX]
