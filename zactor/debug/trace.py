"""What came of a message, over all processes of a run: a tree of causes and effects, from their recordings.

Every message knows its root, the message with which it all began, and its cause, the one that was being handled when
it was sent (`zactor.message.Envelope`). So all that belongs together is found by one number; of a recording no more
is read than has it. Times are those of the hybrid logical clock, in which no effect comes before its cause.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from zactor.debug.recording import (
    DROPPED,
    INPUT,
    MAIL,
    RECEIVED,
    SENT,
    SETTLED,
    NothingRecorded,
    Search,
    read,
)
from zactor.debug.story import each_row
from zactor.errors import UserError
from zactor.hlc import WALL_MASK
from zactor.message import SEQUENCE_BITS, UNDECODABLE, encode, format_id, parse_id
from zactor.wire import Frame, Letter, decode_frame

MESSAGES_MAX = 10_000
"""Of a tree; one with more has no reader."""

AHEAD_MAX = 10_000
"""Entries that are read to find out when a message was fed; it waits longer only in a mailbox that is full."""


TIMER_FIELDS = 6
"""Of the input of a timer."""


class Hop(msgspec.Struct):
    """A message from an actor to another. Times are nanoseconds since 1970, None for what is not known.

    `sent_ns` is not known of one within a process, which takes no time. `lost` says why nobody handled it.
    """

    id: int
    cause: int
    root: int
    wire: str
    sender: str
    target: str
    body: Any = None
    process: str = ""
    is_ask: bool = False
    is_timer: bool = False
    sent_ns: int | None = None
    came: bool = False
    handled_ns: int | None = None
    answered_ns: int | None = None
    failure: str = ""
    lost: str = ""
    effects: list[Hop] = []


class Traces:
    """The recordings of a run, and what is wrong with those that cannot be read; the logs are beside them."""

    def __init__(self, recordings: list[Path]) -> None:
        self.problems: list[str] = []
        self._folder = recordings[0].parent
        self._heads: list[tuple[Path, list[Any]]] = []
        for path in sorted(recordings):
            try:
                self._heads.append((path, read(path, head_only=True).head))
            except NothingRecorded:
                continue
            except UserError as problem:
                self.problems.append(str(problem))

    def _files(self) -> Iterator[Search]:
        """Each recording, one after the other: together they may be larger than the memory."""
        for path, _ in self._heads:
            yield Search(path)

    def instances(self) -> Iterator[dict[str, Any]]:
        """The nodes that were recorded, as their processes were told of them."""
        for _, head in self._heads:
            yield from head[4]["instances"]

    def root_of(self, number: int) -> int | None:
        """The message with which it began that led to this one; None when it is in no recording."""
        if number >> SEQUENCE_BITS == 0:
            return None  # no process has the number 0; and its bytes would be too few to look for
        for file in self._files():
            for _, entry in file.find(_needle(number)):
                hops: dict[int, Hop] = {}
                _gather(hops, entry, None, file.head[2])
                for hop in hops.values():
                    if hop.root == number or number in (hop.id, hop.cause):
                        return hop.root
        return None

    def last_of(self, name: str) -> int | None:
        """The id of the last message of a type, by its wire name or the end of it; None when there is none."""
        found: Hop | None = None
        for hop in self._last_hops(name):
            if found is None or (hop.handled_ns or hop.sent_ns or 0) >= (found.handled_ns or found.sent_ns or 0):
                found = hop
        return None if found is None else found.id

    def tree(self, root: int) -> dict[int, Hop]:
        """All messages of one root by their ids, with their effects, in the order in which they were sent."""
        hops: dict[int, Hop] = {}
        for file in self._files():
            places: list[tuple[int, int]] = []
            for place, entry in file.find(_needle(root)):
                if _gather(hops, entry, root, file.head[2]) and (not places or places[-1] != place):
                    places.append(place)
                if len(hops) > MESSAGES_MAX:
                    break
            _follow(file, places, hops)
            self._settle(file, hops)
        self._lost(hops, root)
        _attach(hops, root)
        return hops

    def _lost(self, hops: dict[int, Hop], root: int) -> None:
        """What the logs say of dead letters and of handlers that failed, and what left and was not seen to arrive."""
        for path in sorted(self._folder.glob("*.jsonl")):
            content = path.read_bytes()
            for event in _events(content, f'"root":"{format_id(root)}"'.encode()):
                if event.get("event") != "dead_letter":
                    continue  # an actor's own
                number, cause = parse_id(event["id"]), parse_id(event["cause"]) if event["cause"] else 0
                hop = _hop(hops, number, cause, root, event["message"], event["sender"], event["target"])
                hop.lost = event["reason"]
                hop.sent_ns = hop.sent_ns or _time(event["hlc"])
            for event in _events(content, b'"event":"handler_failed"'):
                failed = hops.get(parse_id(event["message_id"])) if event.get("message_id") else None
                if failed is not None:
                    failed.failure = failed.failure or str(event["error"])
        recorded = {instance["name"] for instance in self.instances()}
        for hop in hops.values():
            is_recorded = any(hop.target == name or hop.target.startswith(f"{name}/") for name in recorded)
            if hop.wire and not hop.came and is_recorded:
                hop.lost = hop.lost or "it was not seen to arrive"

    def _last_hops(self, name: str) -> Iterator[Hop]:
        """The messages of a type in the last record that has any, of each file. Others may hold its name, too."""
        for file in self._files():
            for entries in file.find_back(name.encode()):
                hops: dict[int, Hop] = {}
                for _, entry in entries:
                    _gather(hops, entry, None, file.head[2])
                found = [hop for hop in hops.values() if name in (hop.wire, hop.wire.rpartition(".")[2])]
                yield from found
                if found:
                    break

    def _settle(self, file: Search, hops: dict[int, Hop]) -> None:
        """When asks within a process were answered."""
        for hop in hops.values():
            if not hop.is_ask or hop.sent_ns is not None or hop.process != file.head[2]:
                continue
            for _, entry in file.find(_needle(hop.id)):
                row = _settled_row(entry, hop.id)
                if row is not None:
                    hop.answered_ns = None if entry[2] is None else _time(entry[2][2])
                    hop.failure = _text_of(row) if row[1] == "error" else ""
                    break


def _needle(number: int) -> bytes:
    """An id as msgpack has it. It is never a short one: the number of its process is in its upper bits."""
    return encode(number)


def _time(stamp: int) -> int:
    return stamp & WALL_MASK


def _gather(hops: dict[int, Hop], entry: list[Any], root: int | None, process: str) -> list[int]:
    """Take from an entry what belongs to a root, or all. Returns the ids of messages that came in a frame."""
    came = []
    if entry[0] in (RECEIVED, SENT):
        for frame, letter in _letters(entry):
            if root is None or root in (letter.root, letter.id):
                _take_letter(hops, frame, letter, process if entry[0] == RECEIVED else "")
                if entry[0] == RECEIVED and frame.names[letter.kind][:1] != "$":
                    came.append(letter.id)
    elif entry[0] == MAIL and entry[4].__class__ is list:
        for row in each_row(entry[4]):
            if row.__class__ is list and (root is None or root in (row[2], row[0])):
                number, cause, of, sender, wire, body, *more = row
                hop = _hop(hops, number, cause, of, wire, sender or "", entry[1])
                hop.body, hop.is_ask, hop.came, hop.process = body, bool(more and more[0]), True, process
                hop.handled_ns = None if entry[2] is None else _time(entry[2][2])
    elif entry[0] == INPUT and entry[3] == "timer" and len(entry[4]) == TIMER_FIELDS:
        cause, of, _, wire, body, number = entry[4]
        if root is None or root in (of, number):
            hop = _hop(hops, number, cause, of or number, wire, entry[1], entry[1])
            hop.body, hop.came, hop.process, hop.is_timer = body, True, process, True
            hop.handled_ns = None if entry[2] is None else _time(entry[2][2])
    return came


def _take_letter(hops: dict[int, Hop], frame: Frame, letter: Letter, process: str) -> None:
    """One letter of a frame that left, or that came to a process."""
    wire = frame.names[letter.kind]
    if wire in ("$reply", "$error"):
        hop = hops.get(letter.id)
        if hop is None:  # its ask may be found later, in the recording of another process
            hop = hops[letter.id] = Hop(letter.id, 0, letter.root, "", "", "")
        hop.answered_ns = _time(letter.hlc)
        if wire == "$error":
            hop.failure = str(msgspec.msgpack.decode(letter.body)[1])
    elif wire[:1] != "$":
        target, sender = frame.names[letter.target], frame.names[letter.sender]
        hop = _hop(hops, letter.id, letter.cause, letter.root, wire, sender, target)
        hop.body, hop.is_ask, hop.sent_ns = letter.body, letter.ask is not None, _time(letter.hlc)
        if process:
            hop.came, hop.process = True, process


def _events(content: bytes, needle: bytes) -> Iterator[dict[str, Any]]:
    """The events of a log whose lines have these bytes in them."""
    at = content.find(needle)
    while at >= 0:
        end = content.find(b"\n", at)
        if end < 0:
            return  # it is being written
        try:
            yield msgspec.json.decode(content[content.rfind(b"\n", 0, at) + 1 : end])
        except msgspec.MsgspecError:
            pass
        at = content.find(needle, end)


def _hop(hops: dict[int, Hop], number: int, cause: int, root: int, wire: str, sender: str, target: str) -> Hop:
    hop = hops.get(number)
    if hop is None:
        hop = hops[number] = Hop(number, cause, root, wire, sender, target)
    elif not hop.wire:
        hop.cause, hop.wire, hop.sender, hop.target = cause, wire, sender, target
    return hop


def _letters(entry: list[Any]) -> Iterator[tuple[Frame, Letter]]:
    if entry[4] is None:
        return  # too large to be kept
    try:
        frame = decode_frame(entry[4])
    except UNDECODABLE:
        return
    for letter in frame.letters:
        yield frame, letter


def _follow(file: Search, places: list[tuple[int, int]], hops: dict[int, Hop]) -> None:
    """Find out when the messages were fed that came in the frames at these places."""
    feeds: dict[str, _Feed] = {}
    reached: tuple[int, int] | None = None
    for number, start in enumerate(places):
        if reached is not None and start <= reached:
            continue
        feeds = {}
        for count, (reached, entry) in enumerate(file.after(start)):
            kind = entry[0]
            if kind == RECEIVED:
                for frame, letter in _letters(entry):
                    if frame.names[letter.kind][:1] != "$":
                        target = frame.names[letter.target]
                        feed = feeds.get(target)
                        if feed is None:
                            feed = feeds[target] = _Feed()
                        feed.came(letter.id, hops.get(letter.id))
            elif kind == DROPPED and entry[1] in hops:
                hops[entry[1]].lost = "nobody was there to handle it"
            elif kind in (MAIL, SETTLED, INPUT) and entry[1] in feeds:
                feeds[entry[1]].turn(entry)
            following = places[number + 1] if number + 1 < len(places) else None
            is_idle = not any(feed.waiting for feed in feeds.values())
            if (is_idle and (following is None or reached < following)) or count > AHEAD_MAX + len(hops):
                break
    for feed in feeds.values():
        for _, hop in feed.waiting:
            hop.lost = hop.lost or "it was still waiting when the recording ended"


class _Feed:
    """The messages that come for one actor, and those of them that wait to be fed.

    A batch is written as its first id and a number, so the order in which messages came says which are in it.
    """

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, Hop]] = deque()
        self._order: dict[int, int] = {}
        self._latest: int | None = None  # the stamp of the actor's turn

    def came(self, number: int, hop: Hop | None) -> None:
        """A message came in a frame; `hop` when it is one of those that are followed."""
        if number not in self._order:
            self._order[number] = len(self._order)
            if hop is not None and hop.handled_ns is None and not hop.lost:
                self.waiting.append((self._order[number], hop))

    def turn(self, entry: list[Any]) -> None:
        """The actor was fed."""
        before = self._latest
        if entry[2] is not None:
            self._latest = entry[2][2]
        if entry[0] != MAIL or not entry[4]:
            return
        rows = entry[4]
        if rows.__class__ is not dict:
            rows = {row: 1 for row in rows if row.__class__ is int}
        for first, count in rows.items():
            place = self._order.get(first)
            if place is None:
                continue  # it began before the first frame that was looked at
            while self.waiting and self.waiting[0][0] < place + count:
                at, hop = self.waiting.popleft()
                stamp = before if at < place else self._latest
                hop.handled_ns = None if stamp is None else _time(stamp)


def _settled_row(entry: list[Any], number: int) -> Any:
    if entry[0] != SETTLED:
        return None
    return next((row for row in entry[3] if row.__class__ is list and row[0] == number), None)


def _text_of(row: list[Any]) -> str:
    return str(row[2][-1]) if isinstance(row[2], list) and row[2] else "it failed"


def _attach(hops: dict[int, Hop], root: int) -> None:
    """Make a tree of them. What has a cause that is not known stands below the root."""
    for number in [number for number, hop in hops.items() if not hop.wire and number != root]:
        del hops[number]  # answers whose asks are in no recording
    top = hops.setdefault(root, Hop(root, 0, root, "", "", ""))
    for hop in hops.values():
        if hop is not top:
            hops.get(hop.cause, top).effects.append(hop)
    for hop in hops.values():
        hop.effects.sort(key=lambda each: each.id)
