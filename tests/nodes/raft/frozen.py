"""A peer as a value: its core, its disk and what is being written, without clocks and with names that can be changed.

Whatever a core has is in its value, by `vars`, so that a field that is added later cannot be forgotten here. Left out
are only `SAME` (settings and dice), `SILENT` (words for the log), and clocks: what time decides, the explorer chooses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from random import Random
from typing import Any, NamedTuple, TypeAlias

import msgspec

from nodes.raft.core import HardState, Raft, Ready, Save, Sent, Settings
from nodes.raft.log import Log
from nodes.raft.members import Members
from nodes.raft.messages import LogEntry
from nodes.raft.progress import Progress

NAMES = ("p0", "p1", "p2")
MEMBERS = Members(NAMES)
SETTINGS = Settings(append_size_max=-1)
"""One entry in a message: so that a majority may have any part of a log."""

BEAT_NS, TRANSFER_NS, CHECK_NS, LATE_NS = 1, 2, 3, 10**12
"""When, on the clock of every peer at every step, a leader has to beat, a transfer is given up, and all else is due."""

DICE = Random(0)
SAME: dict[str, Any] = {"settings": SETTINGS, "rng": DICE}
SILENT: dict[str, Any] = {"roles": [], "_because": ""}
CLOCKS = {
    "now_ns": 0,
    "heard_ns": 0,
    "_leader_heard_ns": 0,
    "_election_ns": CHECK_NS,
    "_heartbeat_ns": BEAT_NS,
    "_transfer_ns": TRANSFER_NS,
    "_check_ns": CHECK_NS,
}
LEFT_OUT = {*SAME, *SILENT, *CLOCKS}

Frozen: TypeAlias = Any
"""A tuple is (type, content); `ITSELF` is the core within its parts; anything else cannot change."""

ITSELF = "itself"


class Peer(NamedTuple):
    """One peer between two steps. `saves`: writes under way, each with what is sent when it is done."""

    core: Frozen
    hard_state: HardState
    entries: tuple[LogEntry, ...]
    saves: tuple[tuple[Save, tuple[Sent, ...]], ...]


# --- cores
def freeze(value: Any, core: Raft) -> Frozen:
    """The value of a core, or of a part of it."""
    if isinstance(value, list | deque | tuple):
        return type(value), tuple(freeze(each, core) for each in value)
    if isinstance(value, dict):
        return dict, tuple((key, freeze(value[key], core)) for key in sorted(value))
    if isinstance(value, int | str | bytes | Enum) or value is None:
        return value
    if isinstance(value, msgspec.Struct) and type(value).__struct_config__.frozen:
        return value
    names = Progress.__struct_fields__ if isinstance(value, Progress) else sorted(vars(value))
    fields = [(name, getattr(value, name)) for name in names if name not in LEFT_OUT]
    return type(value), tuple((name, ITSELF if field is core else freeze(field, core)) for name, field in fields)


def thaw(frozen: Frozen, core: Raft | None = None) -> Any:
    """A core of its own again."""
    if not isinstance(frozen, tuple):
        return core if frozen == ITSELF else frozen
    kind, content = frozen
    if kind in (list, deque, tuple):
        return kind(thaw(each, core) for each in content)
    if kind is dict:
        return {key: thaw(each, core) for key, each in content}
    if kind is Progress:
        return Progress(**{name: thaw(each, core) for name, each in content})
    made = kind.__new__(kind)
    core = made if kind is Raft else core
    left_out = {name: list(value) if isinstance(value, list) else value for name, value in _LEFT_OUT_OF[kind.__name__]}
    made.__dict__.update(left_out)
    made.__dict__.update((name, thaw(each, core)) for name, each in content)
    return made


_LEFT_OUT_OF: dict[str, list[tuple[str, Any]]] = {
    "Raft": [
        (name, (SAME | SILENT | CLOCKS)[name])
        for name in (*SAME, "roles", "now_ns", "_leader_heard_ns", "_election_ns")
    ],
    "Election": [("_because", "")],
    "Leadership": [(name, CLOCKS[name]) for name in ("_heartbeat_ns", "_transfer_ns", "_check_ns")],
    "Log": [],
}


# --- peers
def started(name: str, hard_state: HardState, entries: tuple[LogEntry, ...]) -> Peer:
    """A peer that has just come up with that disk."""
    core = Raft(name, Log(MEMBERS, entries=entries), hard_state, SETTINGS, DICE, 0)
    return Peer(freeze(core, core), hard_state, entries, ())


def turn(peer: Peer, what: Callable[[Raft], object]) -> tuple[Peer, tuple[Sent, ...]]:
    """Let a core do something, and be its host for a turn. Returns what it is then, and what it sent."""
    core: Raft = thaw(peer.core)
    what(core)
    return _settled(core, peer.hard_state, peer.entries, peer.saves, ())


def read(core: Raft, committed: int) -> None:
    """Ask for a read when so much is committed. There was a heartbeat before, that of its beginning at least."""
    assert core.leadership is not None
    core.leadership._round = 1
    core.read_barrier(committed)


def synced(peer: Peer) -> tuple[Peer, tuple[Sent, ...]]:
    """The oldest write under way is done."""
    core: Raft = thaw(peer.core)
    (save, after), *rest = peer.saves
    hard_state, entries = taken(peer, save)
    core.persisted(save.number)
    return _settled(core, hard_state, entries, tuple(rest), after)


def taken(peer: Peer, save: Save) -> tuple[HardState, tuple[LogEntry, ...]]:
    """What is on the disk after a write."""
    hard_state = peer.hard_state if save.hard_state is None else save.hard_state
    assert hard_state.term >= peer.hard_state.term, "a term that was saved goes back"
    assert save.first_index <= len(peer.entries) + 1, "a hole in the log"
    return hard_state, peer.entries[: save.first_index - 1] + save.entries


def _settled(
    core: Raft,
    hard_state: HardState,
    entries: tuple[LogEntry, ...],
    saves: tuple[tuple[Save, tuple[Sent, ...]], ...],
    sent: tuple[Sent, ...],
) -> tuple[Peer, tuple[Sent, ...]]:
    ready: Ready = core.ready()
    for token, index in ready.reads:
        assert index >= token, f"a read is answered as of {index}, and {token} was committed when it was asked"
    sent += tuple(ready.send_now)
    if ready.save is not None:
        saves += ((ready.save, _in_order(ready.send_after)),)
    elif saves:
        saves = (*saves[:-1], (saves[-1][0], _in_order([*saves[-1][1], *ready.send_after])))
    else:
        sent += tuple(ready.send_after)
    saves = _counted_from_one(core, saves)
    return Peer(freeze(core, core), hard_state, entries, saves), sent


def _in_order(sent: list[Sent]) -> tuple[Sent, ...]:
    """Each message once, as the network has no order and doubles anyway."""
    return tuple(sorted(dict.fromkeys(sent), key=repr))


def _counted_from_one(
    core: Raft, saves: tuple[tuple[Save, tuple[Sent, ...]], ...]
) -> tuple[tuple[Save, tuple[Sent, ...]], ...]:
    """Call the oldest write under way the first, and let heartbeats have no other number than reads wait for."""
    before = core._number - len(saves)
    core._number = len(saves)
    core._saves = deque((number - before, last) for number, last in core._saves)
    if core.election is not None and core.election._own_number:
        core.election._own_number -= before
    if core.leadership is not None:
        last = max((number for number, _, _ in core.leadership._barriers), default=0)
        core.leadership._round = last
        for progress in core.leadership.progress.values():
            progress.round = min(progress.round, last)
    return tuple((msgspec.structs.replace(save, number=save.number - before), after) for save, after in saves)


# --- names
def renamed(frozen: Frozen, names: dict[str, str]) -> Frozen:
    """The same with other names of peers."""
    if isinstance(frozen, str):
        return names.get(frozen, frozen)
    if isinstance(frozen, HardState):
        return HardState(frozen.term, names.get(frozen.voted_for, ""))
    if isinstance(frozen, Save):
        return msgspec.structs.replace(frozen, hard_state=renamed(frozen.hard_state, names))
    if isinstance(frozen, Peer):
        core, hard_state, entries, saves = (renamed(each, names) for each in frozen)
        return Peer(core, hard_state, entries, tuple((save, _in_order(sent)) for save, sent in saves))
    if not isinstance(frozen, tuple):
        return frozen
    if frozen and frozen[0] is dict:
        pairs = [(names[key], renamed(each, names)) for key, each in frozen[1]]
        return dict, tuple(sorted(pairs, key=lambda pair: pair[0]))
    return tuple(renamed(each, names) for each in frozen)
