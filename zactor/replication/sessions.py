"""Sessions: changes happen exactly once, whoever orders the log and however often a client sends them.

`Sessions` wraps a state machine. In the log stand records: a session opens, is over, makes the changes of its submit
number n; or the host makes a change of its own. The answers of a session are part of the state until it says that it
has them, so that what stands in the log twice is made once, and what is sent again after a restart gets the answers of
the first time (Raft thesis 6.3). The host asks `check` first, so that in the usual case it is not even logged twice.

Pure: the state is that which the log says. What is under way is known to `check` alone, and is no part of the state.
"""

from __future__ import annotations

import enum
from collections.abc import Generator, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import TypeAlias

import msgspec

from zactor.errors import Corrupt, Refused
from zactor.message import UNDECODABLE, decoder, encode
from zactor.statemachine import Entry, StateMachine

from .messages import WINDOW, OutOfWindow, SessionExpired, Submit

HOST = 0
"""The session of whoever runs the machine: never opened, never over."""

PART_SIZE = 256 << 10
"""Bytes of answers in one part of a snapshot, unless a single one is larger."""


ANSWER_SIZE = 16
"""Bytes of an answer in a part beside itself, about."""


# --- what stands in the log
class Opened(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """A session begins; its id is the index of this record. Answer: the id."""


class Changed(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Submit number `sequence` of a session: changes, each with an index of its own. Answer: the machine's to each."""

    session: int
    sequence: int
    acknowledged_below: int
    bodies: tuple[bytes, ...]


class Ended(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """A session is over. Answer: None, also when it is not known."""

    session: int


class Own(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A change of the host. Answer: the machine's."""

    body: bytes


Record: TypeAlias = Opened | Changed | Ended | Own
Answers: TypeAlias = tuple[bytes, ...]
Answer: TypeAlias = Answers | bytes | int | Refused | None


def encode_open() -> bytes:
    """The record that opens a session."""
    return encode(Opened())


def encode_change(submit: Submit) -> bytes:
    """The record of changes."""
    return encode(Changed(submit.session, submit.sequence, submit.acknowledged_below, submit.bodies))


def encode_end(session: int) -> bytes:
    """The record that ends a session."""
    return encode(Ended(session))


def encode_own(body: bytes) -> bytes:
    """The record of a change of the host's own."""
    return encode(Own(body))


# --- what stands in a snapshot
class Part(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """A session, or more answers of one."""

    session: int
    acknowledged_below: int
    answers: dict[int, Answers]


class Rest(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The end of the sessions: what follows is the machine's."""


_decode_record = decoder(Record)
_decode_part = decoder(Part | Rest)


class Standing(enum.Enum):
    """What a submit is to the host that got it."""

    NEW = "new"
    """Log it."""
    UNDER_WAY = "under way"
    """It is in the log, or about to be: answer it when that one is answered."""


_MAKING: Answers = (b"it is being made",)
"""In the place of the answers to changes that the machine is about to be given."""

Run: TypeAlias = list[tuple[int, "_Session | None", int, int]]
"""Records whose changes the machine is given at once: place, session, sequence, count of changes."""


class _Session:
    """Answers that are not acknowledged, by sequence."""

    __slots__ = ("acknowledged_below", "answers", "under_way")

    def __init__(self, acknowledged_below: int = 1) -> None:
        self.acknowledged_below = acknowledged_below
        self.answers: dict[int, Answers] = {}
        self.under_way: set[int] = set()

    def refuse_outside(self, sequence: int, acknowledged_below: int) -> None:
        """Raise `OutOfWindow` for a submit that was acknowledged, or is too far ahead."""
        low = max(self.acknowledged_below, acknowledged_below)
        if not low <= sequence < low + WINDOW:
            raise OutOfWindow(f"submit {sequence}; those from {low} to {low + WINDOW - 1} are open")

    def begins(self, sequence: int, acknowledged_below: int) -> bool:
        """A submit is in the log: whether its changes are to be made, which they are then."""
        below = acknowledged_below if acknowledged_below < sequence else sequence
        if below > self.acknowledged_below:
            self.acknowledge(below)
        answers = self.answers
        if sequence in answers or not self.acknowledged_below <= sequence < self.acknowledged_below + WINDOW:
            return False
        answers[sequence] = _MAKING
        return True

    def keep(self, sequence: int, answers: Answers) -> None:
        """Its changes were made. A submit that follows it in the log may have acknowledged it already."""
        if sequence >= self.acknowledged_below:
            self.answers[sequence] = answers
        self.under_way.discard(sequence)

    def acknowledge(self, below: int) -> None:
        """Forget the answers that the client has."""
        for sequence in range(self.acknowledged_below, below):
            self.answers.pop(sequence, None)
        self.acknowledged_below = max(self.acknowledged_below, below)


class Sessions:
    """A state machine whose changes happen exactly once."""

    def __init__(self, machine: StateMachine) -> None:
        self.machine = machine
        self._sessions: dict[int, _Session] = {}

    def ids(self) -> tuple[int, ...]:
        """The sessions that are open, the oldest first."""
        return tuple(self._sessions)

    # --- before the log
    def check(self, submit: Submit) -> Answers | Standing:
        """What to do with a submit: here are its answers, or log it, which makes it one that is under way.

        Raises `SessionExpired`, `OutOfWindow`.
        """
        session = self._session(submit.session)
        answer = session.answers.get(submit.sequence)
        if answer is not None:
            return answer
        if submit.sequence in session.under_way:
            return Standing.UNDER_WAY
        # The window moves with the submit itself: what it acknowledges is forgotten first when it is made.
        session.refuse_outside(submit.sequence, min(submit.acknowledged_below, submit.sequence))
        session.under_way.add(submit.sequence)
        return Standing.NEW

    def withdraw(self, session: int, sequence: int) -> None:
        """A submit that was new did not get into the log: when it is sent again it is new."""
        known = self._sessions.get(session)
        if known is not None:
            known.under_way.discard(sequence)

    def _session(self, session: int) -> _Session:
        known = self._sessions.get(session)
        if known is None:
            raise SessionExpired(f"session {session} is over; open another one")
        return known

    # --- from the log
    def apply(self, index: int, time_ns: int, records: Sequence[bytes]) -> tuple[list[Answer], int]:
        """Make what these records say, in order; the first change has that index, and all have that time.

        Returns an answer for each record, and the index after that of the last change. Raises `Corrupt` for a record
        that no version of this file has written.
        """
        answers: list[Answer] = [None] * len(records)
        run: Run = []
        entries: list[Entry] = []
        sessions = self._sessions
        for place, payload in enumerate(records):
            record = _decode(payload)
            if isinstance(record, Changed):
                number, sequence, bodies = record.session, record.sequence, record.bodies
                session = sessions.get(number)
                if session is not None and session.answers.get(sequence) is _MAKING:
                    self._make(run, entries, answers)
                if session is None or not session.begins(sequence, record.acknowledged_below):
                    answers[place] = self._known_answer(record)
                else:
                    run.append((place, session, sequence, len(bodies)))
                    entries += [Entry(at, time_ns, number, body) for at, body in enumerate(bodies, index)]
                index += len(bodies)
                continue
            if isinstance(record, Own):
                run.append((place, None, 0, 1))
                entries.append(Entry(index, time_ns, HOST, record.body))
            else:
                self._make(run, entries, answers)
                answers[place] = self._open_or_end(index, record)
            index += 1
        self._make(run, entries, answers)
        return answers, index

    def _known_answer(self, changed: Changed) -> Answers | Refused:
        """The answers to changes that are not to be made."""
        try:
            session = self._session(changed.session)
            answers = session.answers.get(changed.sequence)
            if answers is None:
                session.refuse_outside(changed.sequence, session.acknowledged_below)
        except Refused as error:
            return error
        assert answers is not None, "what is in the window and has no answers is to be made"
        return answers

    def _make(self, run: Run, entries: list[Entry], answers: list[Answer]) -> None:
        if not run:
            return
        made = self.machine.apply(entries)
        at = 0
        for place, session, sequence, count in run:
            if session is None:
                answers[place] = made[at]
            else:
                answers[place] = its = tuple(made[at : at + count])
                session.keep(sequence, its)
            at += count
        assert at == len(made), "the machine answers each change"
        run.clear()
        entries.clear()

    def _open_or_end(self, index: int, record: Opened | Ended) -> int | None:
        if isinstance(record, Opened):
            self._sessions[index] = _Session()
            return index
        if self._sessions.pop(record.session, None) is not None:
            self.machine.end_session(record.session)
        return None

    # --- snapshots
    def snapshot(self) -> Iterator[bytes]:
        """The sessions with their answers and the machine as they are at this call, in parts; `close` gives it up."""
        held = [
            (number, known.acknowledged_below, list(known.answers.items())) for number, known in self._sessions.items()
        ]
        parts = self._parts(held, self.machine.snapshot())
        next(parts)  # to where `close` gives up the machine's
        return parts

    @staticmethod
    def _parts(held: list[tuple[int, int, list[tuple[int, Answers]]]], rest: Iterator[bytes]) -> Generator[bytes]:
        try:
            yield b""
            yield from _encode_sessions(held)
            yield from rest
        finally:
            close = getattr(rest, "close", None)
            if close is not None:
                close()

    def restore(self, parts: Iterable[bytes]) -> None:
        """Take over the state of a snapshot. Raises `Corrupt`, and is then of no use."""
        sessions: dict[int, _Session] = {}
        remaining = iter(parts)
        while isinstance(part := _decode_session(next(remaining, b"")), Part):
            session = sessions.setdefault(part.session, _Session(part.acknowledged_below))
            session.answers.update(part.answers)
        self.machine.restore(remaining)
        self._sessions = sessions

    def digest(self) -> int:
        """64 bits that are equal for equal states."""
        held = [
            (number, known.acknowledged_below, sorted(known.answers.items()))
            for number, known in self._sessions.items()
        ]
        digest = blake2b(self.machine.digest().to_bytes(8, "big"), digest_size=8)
        for part in _encode_sessions(held):
            digest.update(part)
        return int.from_bytes(digest.digest(), "big")


def _encode_sessions(held: list[tuple[int, int, list[tuple[int, Answers]]]]) -> Iterator[bytes]:
    for number, acknowledged_below, answers in held:
        part: dict[int, Answers] = {}
        size = 0
        for sequence, some in answers:
            if size >= PART_SIZE:
                yield encode(Part(number, acknowledged_below, part))
                part, size = {}, 0
            part[sequence] = some
            size += sum(map(len, some)) + ANSWER_SIZE * len(some)
        yield encode(Part(number, acknowledged_below, part))
    yield encode(Rest())


def _decode(payload: bytes) -> Record:
    try:
        record: Record = _decode_record(payload)
    except UNDECODABLE as error:
        raise Corrupt(f"a record of the log cannot be read: {error}") from error
    return record


def _decode_session(part: bytes) -> Part | Rest:
    try:
        decoded: Part | Rest = _decode_part(part)
    except UNDECODABLE as error:
        raise Corrupt(f"a part of a snapshot cannot be read: {error}") from error
    return decoded
