"""What a recording tells of one actor: the turns in which it was fed, and what is known of what it did.

What it sent is found where it arrived: in the frames that left its process, or as the mail of an actor beside it. So a
message that had not been taken when the recording ends is not known, and is not compared.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Container, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from zactor.debug.recording import (
    CHECKPOINT,
    DROPPED,
    HEAD,
    INPUT,
    MAIL,
    OUTPUTS,
    RECEIVED,
    SENT,
    SETTLED,
    TAKEN,
    Lost,
    Recording,
    thaw,
)
from zactor.errors import ActorFailed, Refused
from zactor.message import Opaque, encode
from zactor.wire import Frame, Letter, decode_frame

ANSWERS = ("full", "unsent", "timer_cancelled", "spawned", "chance")
"""Inputs that answer, at once, what an actor does."""

NESTED = ("boot", "stop", "child")
"""Inputs of turns that may lie within the turn of another actor."""


RUN_FIELDS = 7
"""Of a row that holds what a handler told in one go; others have fewer or more."""


OF_ONE = (MAIL, TAKEN, SETTLED, INPUT, CHECKPOINT)
"""Entries that name the actor that they are of."""


class Fed(msgspec.Struct):
    """A message that an actor was fed. `body` is encoded, or `Lost`."""

    id: int
    cause: int
    root: int
    sender: str | None
    wire: str
    body: Any
    ask: tuple[int, tuple[tuple[str, int], ...]] | None = None
    blobs: tuple[bytes, ...] = ()


class Known(NamedTuple):
    """A message or an answer of an actor, as it arrived. An error has a `body` of its wire name and its text."""

    to: str
    wire: str
    body: Any
    blobs: tuple[bytes, ...] = ()
    cause: int = 0
    root: int = 0


class Turn(msgspec.Struct):
    """What fed an actor at once. `when` is sequence, token, stamp and time; `ends` the sequence after it, if known."""

    when: tuple[int, int, int, int]
    inputs: list[tuple[str, list[Any]]] = []
    mail: list[Fed] = []
    offered: int = 0
    taken: int | None = None
    ends: int | None = None


class Doubt(NamedTuple):
    """A damaged record at an offset. What was done in `turn` may have been due to it, what in `next` is for sure."""

    turn: int
    next: int
    offset: int


class Start(msgspec.Struct):
    """A checkpoint: an object of a class, and how it stood."""

    module: str
    kind: str
    generation: int
    spawned: int
    state: Any
    chance: Any


class Story:
    """One actor's part of a recording. `start` is None when it begins with the actor's own start."""

    def __init__(self, recording: Recording, name: str) -> None:
        self.name = name
        self.start: Start | None = None
        self.turns: list[Turn] = []
        self.sent: dict[int, Known] = {}
        self.answers: dict[int, deque[Known]] = {}
        """By the id of the ask. A second one is possible, and reaches nobody."""
        self.replies: dict[int, tuple[Letter, tuple[bytes, ...]]] = {}
        self.outputs: list[tuple[str, int]] = []
        self.given: list[Any] | None = None
        self.chance: Any = None
        """The state of its chance when it begins with a start that is not its first."""
        self.overwritten = not recording.from_start
        """Whether what came before its first turn here is gone, and no checkpoint stands for it."""
        self.seen = False
        self.is_cut = False
        """Whether the recording ends before anything shows that its last turn did."""
        self._frames: OrderedDict[int, Fed] = OrderedDict()
        self._box: deque[Fed] = deque()
        self._dropped: set[int] = set()
        self._offered: Turn | None = None
        self._open: Turn | None = None
        self.doubts: list[Doubt] = []
        """Where something else was written than can be read, that may have been of this actor."""
        self._read(recording)
        self._deal()

    def _read(self, recording: Recording) -> None:
        damaged = {place.first + step: place for place in recording.doubtful for step in range(max(1, place.entries))}
        others: set[str] | None = None
        for index, (offset, record) in enumerate(recording.records):
            place = damaged.get(index)
            makes_sense = True
            try:
                self._take(record)
            except Exception as problem:  # it may hold anything
                recording.damage.append(f"offset {offset}: a record makes no sense: {problem!r}")
                makes_sense = False
            if place is not None and place.entries and makes_sense:
                if others is None:
                    others = _names(recording, damaged) - {self.name}
                if _is_of_others(record, others):
                    continue
            if place is not None or not makes_sense:
                self._doubt(
                    offset if place is None else place.offset, makes_sense and place is not None and place.entries
                )
        if len(recording.records) in damaged:
            self._doubt(damaged[len(recording.records)].offset, False)

    def _doubt(self, offset: int, is_known: Any) -> None:
        """The record at that offset may be of the last turn; one that could not be read may have begun another."""
        turn = max(0, len(self.turns) - 1)
        self.doubts.append(Doubt(turn, turn if is_known else turn + 1, offset))

    def _take(self, record: list[Any]) -> None:
        kind = record[0]
        if kind == RECEIVED:
            self._received(*record[2:])
        elif kind == SENT:
            self._sent(*record[2:])
        elif kind == MAIL:
            self._mail(*record[1:])
        elif kind == SETTLED:
            self._settled(*record[1:])
        elif kind == INPUT:
            self._input(*record[1:])
        elif kind == TAKEN and record[1] == self.name and self._offered is not None:
            self._offered.taken = record[2]
        elif kind == OUTPUTS:
            self.outputs += [(what, digest) for name, what, digest in record[1] if name == self.name]
        elif kind == DROPPED:
            self._dropped.add(record[1])
        elif kind == CHECKPOINT and record[1] == self.name:
            self._checkpoint(*record[2:])
        elif kind not in (HEAD, TAKEN, CHECKPOINT):
            raise ValueError(f"of kind {kind}")

    def _checkpoint(
        self, module: str, kind: str, generation: int, spawned: int, state: Any, chance: Any, rows: list[Any]
    ) -> None:
        self.seen = True
        self._deal()
        self._box = deque(_fed(row) for row in rows)
        if self.overwritten:  # else it goes on from where we are
            self._begin_here()
            self.start = Start(module, kind, generation, spawned, state, chance)

    def _begin_here(self) -> None:
        self.overwritten = False
        self.turns, self.outputs, self.doubts = [], [], []
        self._offered = self._open = None

    def _turn(self, name: str, when: list[int] | None, nested: bool) -> Turn | None:
        """The turn that an entry belongs to, if it is this actor's."""
        if when is not None and self._open is not None and not nested:
            self._open.ends = when[0]
            self._open = None
            self.is_cut = False
        if name != self.name:
            return None
        self.seen = True
        if when is not None:
            self._deal()
            self.turns.append(Turn((when[0], when[1], when[2], when[3])))
            self._open = self.turns[-1]
            self.is_cut = True
        return self.turns[-1] if self.turns else None

    def _deal(self) -> None:
        """The turn before has ended: it is known how much mail it took."""
        turn, self._offered = self._offered, None
        if turn is not None:
            for _ in range(min(turn.offered if turn.taken is None else turn.taken, len(self._box))):
                turn.mail.append(self._box.popleft())

    def _mail(self, name: str, when: list[int] | None, offered: int, rows: Any) -> None:
        turn = self._turn(name, when, False)
        if turn is None:
            self._theirs(name, rows)
            return
        turn.offered = offered
        self._offered = turn
        if not rows:
            return
        if rows.__class__ is dict:
            for first, count in rows.items():
                self._box.append(self._from_frames(first))
                self._box.extend(self._next_from_frames() for _ in range(min(count - 1, len(self._frames) + 1)))
            return
        self._box.extend(self._from_frames(row) if row.__class__ is int else _fed(row) for row in each_row(rows))

    def _from_frames(self, number: int) -> Fed:
        if number not in self._frames:
            return _lost(number)
        while True:
            found, fed = self._frames.popitem(last=False)
            if found == number:
                return fed

    def _next_from_frames(self) -> Fed:
        while self._frames:
            number, fed = self._frames.popitem(last=False)
            if number not in self._dropped:
                return fed
        return _lost(0)

    def _theirs(self, name: str, rows: Any) -> None:
        """Mail of another actor: some of it may be what this one sent."""
        for row in each_row(rows or (), self.name):  # or a number of what stands in frames
            if row.__class__ is list and row[3] == self.name:
                fed = _fed(row)
                wire, body = fed.wire, fed.body
                if wire == Opaque.wire and not isinstance(body, Lost):
                    wire, body = row[5][0], encode(row[5][1])
                self.sent[fed.id] = Known(name, wire, body, fed.blobs, fed.cause, fed.root)

    def _input(self, name: str, when: list[int] | None, kind: str, values: list[Any]) -> None:
        turn = self._turn(name, when, kind in NESTED)
        if turn is None:
            return
        if kind == "boot":
            self._boot(turn, values)
        turn.inputs.append((kind, values))

    def _boot(self, turn: Turn, values: list[Any]) -> None:
        *self.given, chance, rows = values
        if rows is not None:
            self._box = deque(_fed(row) for row in rows)
            if self.overwritten:
                self._begin_here()
                self.turns.append(turn)
                self.chance = chance

    def _settled(self, name: str, when: list[int] | None, rows: list[Any]) -> None:
        turn = self._turn(name, when, False)
        for row in rows:
            if row.__class__ is list and len(row) == 2:
                row.insert(1, "value")
            if turn is not None:
                self._fed_input(turn, row)
            elif row.__class__ is list and row[0] is not None:
                self._their_answer(name, *row)

    def _fed_input(self, turn: Turn, row: Any) -> None:
        if row.__class__ is int:
            turn.inputs.append(("settle", [row, "reply", None]))
        elif isinstance(row, Lost):
            turn.inputs.append(("settle", [row]))
        else:
            turn.inputs.append(("synced", row[1:]) if row[0] is None else ("settle", row))

    def _their_answer(self, to: str, number: int, how: str, value: Any, blobs: Iterable[bytes] = ()) -> None:
        """An ask of another actor was answered, perhaps by this one."""
        if how == "answer":
            self._answered(number, Known(to, "", _body(value), tuple(blobs)))
        elif how == "opaque":
            self._answered(number, Known(to, "", _body(value[1]), tuple(blobs)))
        elif how == "error":
            error = thaw(value)
            if isinstance(error, ActorFailed | Refused):  # others may come from a kernel
                self._answered(number, Known(to, "error", (error.wire, str(error))))

    def _answered(self, number: int, known: Known) -> None:
        self.answers.setdefault(number, deque()).append(known)

    def _received(self, blobs: list[bytes], heard_ns: int, data: bytes | None) -> None:
        if data is None:
            return  # too large to be kept: what was in it is missed where it is fed
        frame = decode_frame(data)
        taken = 0
        for letter in frame.letters:
            pieces = tuple(blobs[taken : taken + letter.blobs])
            taken += letter.blobs
            kind = frame.names[letter.kind]
            if kind == "$reply":
                self.replies[letter.id] = (letter, pieces)
            elif frame.names[letter.target] == self.name and kind[:1] != "$":
                self._frames[letter.id] = _fed_by(frame, letter, heard_ns, pieces)

    def _sent(self, blobs: list[bytes], _when_ns: int, data: bytes | None) -> None:
        if data is None:
            return
        frame = decode_frame(data)
        if self.name not in frame.names:
            return
        taken = 0
        for letter in frame.letters:
            pieces = tuple(blobs[taken : taken + letter.blobs])
            taken += letter.blobs
            if frame.names[letter.sender] != self.name:
                continue
            kind, target = frame.names[letter.kind], frame.names[letter.target]
            if kind == "$reply":
                self._answered(letter.id, Known(target, "", bytes(letter.body), pieces))
            elif kind == "$error":
                wire, text, _ = msgspec.msgpack.decode(letter.body)
                self._answered(letter.id, Known(target, "error", (wire, text)))
            elif kind[:1] != "$":
                body = bytes(letter.body)
                self.sent[letter.id] = Known(target, kind, body, pieces, letter.cause, letter.root)


def _body(value: Any) -> Any:
    return value if isinstance(value, Lost) else encode(value)


def _names(recording: Recording, damaged: Container[int]) -> set[str]:
    """The actors of which something whole was recorded."""
    return {
        record[1]
        for index, (_, record) in enumerate(recording.records)
        if record[0] in OF_ONE and index not in damaged and len(record) > 1 and record[1].__class__ is str
    }


def _is_of_others(record: list[Any], others: Container[str]) -> bool:
    """Whether a record that is damaged, but makes sense, can only be about other actors."""
    kind = record[0]
    if kind == OUTPUTS:
        names = [name for name, _, _ in record[1]]
    else:
        names = [record[1]] if kind in OF_ONE else [None]
        if kind == MAIL and record[4].__class__ is list:
            names += [row[3] for row in record[4] if row.__class__ is list]
    return all(name.__class__ is str and name in others for name in names)


def each_row(rows: Iterable[Any], sender: str | None = None) -> Iterator[Any]:
    """The rows of mail; what was told in one go has one in the recording. Of that, perhaps, only what `sender` told."""
    for row in rows:
        if row.__class__ is not list or len(row) != RUN_FIELDS:
            yield row
        elif sender in (None, row[3]):
            first, cause, root, name, wire, messages, _ = row
            for index, message in enumerate(messages):
                yield [first + index, cause, root, name, wire, message]


def _lost(number: int) -> Fed:
    return Fed(number, 0, 0, None, "", Lost("the frame that brought it was overwritten or was too large to be kept"))


def _fed(row: list[Any]) -> Fed:
    number, cause, root, sender, wire, body, *more = row
    ask, blobs = more or (None, ())
    if ask is not None:
        ask = ask[0], tuple((name, link) for name, link in ask[1])
    return Fed(number, cause, root, sender, wire, _body(body), ask, tuple(blobs))


def _fed_by(frame: Frame, letter: Letter, heard_ns: int, blobs: tuple[bytes, ...]) -> Fed:
    sender = frame.names[letter.sender]
    ask = None
    if letter.ask is not None:
        left_ns = min(max(letter.ask.left_ns, 0), 1 << 62)
        ask = heard_ns + left_ns, (*letter.ask.chain, (sender, letter.id))
    kind = frame.names[letter.kind]
    return Fed(letter.id, letter.cause, letter.root, sender, kind, bytes(letter.body), ask, blobs)
