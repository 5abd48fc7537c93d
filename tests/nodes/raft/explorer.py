"""Every state that three peers can come to, within bounds: breadth first, over the core that ships.

    python -m tests.nodes.raft.explorer              # every scope, up to 2 million states each
    python -m tests.nodes.raft.explorer three        # those with this in their names
    python -m tests.nodes.raft.explorer led 50000    # up to so many states
    python -m tests.nodes.raft.explorer mutants      # how many states it takes to find each mistake

A state is three peers (`frozen.Peer`), what was sent, and what happened: who led which term, what is committed. There
is no clock. That a leader is silent, that a majority does not answer it, that a disk is done: all of these are steps,
and so is each message that may come. Four thoughts make it quick:

- What a peer does depends on the peer alone. So the core runs once for each peer and each thing that can happen to it,
  and is looked up ever after.
- What was sent may come at any time, any number of times, or never. So mail is a set that only grows, and says all of
  a network that loses, doubles and reorders without bound; and a state is not looked at if one with the same peers and
  more mail was.
- A step that changes no peer only adds mail; so it is taken at once.
- Names mean nothing. So of states that differ by names one is looked at.

A kill loses what was not synced, and the peer is up again at once: being down is mail that comes later. Parts of what
was not synced may survive: that is a sync and then a kill, with answers that never come.
"""

from __future__ import annotations

import resource
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from itertools import permutations
from typing import NamedTuple, TypeAlias

import msgspec

from nodes.raft.core import HardState, Raft, Sent
from nodes.raft.messages import Kind, LogEntry, Vote
from tests.nodes.raft.frozen import (
    BEAT_NS,
    LATE_NS,
    NAMES,
    TRANSFER_NS,
    Peer,
    read,
    renamed,
    started,
    synced,
    turn,
)
from tests.nodes.raft.mutants import MUTANTS, Mutant, broken
from zactor.message import Message

STATES_MAX = 2_000_000

Renaming: TypeAlias = tuple[int, int, int]
"""At each place who stands there afterwards."""

RENAMINGS: tuple[Renaming, ...] = tuple((a, b, c) for a, b, c in permutations(range(3)))
SAME_NAMES = RENAMINGS[0]

# Steps of a peer that no mail makes; those from 0 on are mail. PROPOSE - n proposes the command n; READ - n reads when
# n entries are committed.
SILENCE, UNHEARD, BEAT, GIVE_UP, SYNC, KILL, TRANSFER, PROPOSE, READ = -1, -2, -3, -4, -5, -6, -7, -10, -20
STEPS = 40
"""More than such steps."""

WORDS = {
    SILENCE: "hears nobody for an election timeout",
    UNHEARD: "is not heard by a majority",
    BEAT: "sends heartbeats",
    GIVE_UP: "gives up a transfer",
    SYNC: "has synced its oldest write",
    KILL: "is killed and started again",
    TRANSFER: "is asked to hand over",
    TRANSFER - 1: "is asked to hand over",
}


class Scope(msgspec.Struct, frozen=True):
    """Where it begins, and how far it goes. `logs`: the terms of the entries on each disk; `saved`: term and vote.

    `is_quick`: disks are done within the turn, so that a kill loses only what was in memory.
    `is_sure`: pre-votes are always granted, and at once: more can happen than with them, in fewer states.
    `electors`: the first of them leads, the others have elected it, and that is all that happened.
    """

    name: str
    term_max: int
    commands: int
    kills: int
    transfers: int = 0
    reads: int = 0
    is_quick: bool = False
    is_sure: bool = False
    logs: tuple[tuple[int, ...], ...] = ((), (), ())
    saved: tuple[HardState, ...] = (HardState(), HardState(), HardState())
    electors: tuple[int, ...] = ()


SCOPES = (
    Scope("one term, a kill", term_max=1, commands=0, kills=1),
    Scope("one term, a command, a kill", term_max=1, commands=1, kills=1),
    Scope("three terms, two commands, a kill", term_max=3, commands=2, kills=1),
    Scope("quick: two terms", term_max=2, commands=0, kills=0, is_quick=True),
    Scope("quick, sure: two terms, a command", term_max=2, commands=1, kills=0, is_quick=True, is_sure=True),
    Scope("quick, sure: two terms, a kill", term_max=2, commands=0, kills=1, is_quick=True, is_sure=True),
    Scope("led: one term, a command", term_max=1, commands=1, kills=0, is_sure=True, electors=(0, 1)),
    Scope("led: two terms", term_max=2, commands=0, kills=0, is_sure=True, electors=(0, 1)),
    Scope("led: two terms, a command, a kill", term_max=2, commands=1, kills=1, is_sure=True, electors=(0, 1)),
    Scope(
        "figure 7: logs that differ",
        term_max=4,
        commands=0,
        kills=0,
        is_sure=True,
        logs=((1, 1, 3), (1, 2, 2), (1,)),
        saved=(HardState(3, "p0"), HardState(2, "p1"), HardState(3, "p0")),
    ),
    # Old entries on one of three each. The leader of term 3 has that of term 1; whoever has those of term 2 has
    # tried to lead term 3, too.
    Scope(
        "figure 8: old entries",
        term_max=4,
        commands=0,
        kills=0,
        is_sure=True,
        logs=((1,), (2, 2), ()),
        saved=(HardState(2, ""), HardState(3, "p1"), HardState(2, "p1")),
        electors=(0, 2),
    ),
    Scope("read: two terms", term_max=2, commands=0, kills=0, reads=1, is_quick=True, is_sure=True, electors=(0, 1)),
    Scope("transfer: from a leader", term_max=2, commands=0, kills=0, transfers=1, is_sure=True, electors=(0, 1)),
)


class Violation(AssertionError):
    """A state that must not be, and the steps to it."""

    def __init__(self, what: str, steps: list[str]) -> None:
        super().__init__("\n".join([what, *steps]))
        self.what, self.steps = what, steps


class Past(NamedTuple):
    """What happened: the leader of each term, what was committed and in which term, and what may still happen."""

    leaders: tuple[int, ...]  # 3 where nobody led
    committed: tuple[tuple[LogEntry, int], ...]
    commands: int
    kills: int
    transfers: int
    reads: int


class Facts(NamedTuple):
    """What is asked often of a peer."""

    me: int
    term: int
    is_leader: bool
    is_handing_over: bool
    is_writing: bool
    commit_index: int
    log: tuple[LogEntry, ...]
    disk: tuple[LogEntry, ...]


class Mail(NamedTuple):
    """A message that was sent."""

    source: int
    target: int
    message: Message[None]


State: TypeAlias = tuple[int, int, int, int]
"""The numbers of three peers and of a past."""


class Explorer:
    """Breadth first over the states of a scope. `count`: how many there were, `depth`: how far from the beginning."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.count = self.depth = 0
        self._peers: list[Peer] = []
        self._peer_numbers: dict[Peer, int] = {}
        self._facts: list[Facts] = []
        self._shapes: dict[int, int] = {}
        self._mail: list[Mail] = []
        self._mail_numbers: dict[Mail, int] = {}
        self._mail_to = [0, 0, 0]
        self._pasts: list[Past] = []
        self._past_numbers: dict[Past, int] = {}
        self._done: list[dict[int, tuple[int, int]]] = []  # of each peer: what a step makes of it, and what it sends
        self._idle: list[int] = []  # of each peer: mail that changes nothing of it, if it was looked at
        self._answers: list[dict[int, int]] = []  # of each peer: what it sends on such mail
        self._renamed_peers: dict[Renaming, dict[int, int]] = {each: {} for each in RENAMINGS}
        self._renamed_mail: dict[Renaming, dict[int, int]] = {each: {} for each in RENAMINGS}
        self._renamed_pasts: dict[Renaming, dict[int, int]] = {each: {} for each in RENAMINGS}
        self._nexts: dict[tuple[int, int], int] = {}
        self._durable: dict[tuple[int, int], int] = {}
        self._matching: set[tuple[tuple[LogEntry, ...], tuple[LogEntry, ...]]] = set()
        self._seen: dict[State, list[int]] = {}
        self._parents, self._steps = array("q"), array("q")
        self._todo: deque[tuple[int, State, int]] = deque()

    # --- the search
    def run(self, states_max: int = STATES_MAX, told: Callable[[Explorer], None] | None = None) -> bool:
        """Look at states until there are no others, or so many. Returns whether there are no others."""
        self._begin()
        last_of_depth = 0
        while self._todo:
            if self.count >= states_max:
                return False
            number, state, mail = self._todo.popleft()
            if mail not in self._seen[state]:
                continue  # one with more mail came since
            if number > last_of_depth:
                self.depth += 1
                last_of_depth = self.count - 1
            self._expand(number, state, mail)
            if told is not None and number % 1_000 == 0:
                told(self)
        return True

    @property
    def kept(self) -> int:
        """How many there were but for those that another stands for: with the same peers and more mail."""
        return sum(map(len, self._seen.values()))

    @property
    def peers(self) -> int:
        """How many different peers there were."""
        return len(self._peers)

    @property
    def messages(self) -> int:
        """How many different messages were sent."""
        return len(self._mail)

    def _begin(self) -> None:
        scope = self.scope
        peers = [
            self._peer(started(name, saved, tuple(LogEntry(term, Kind.EMPTY, b"") for term in log)))
            for name, saved, log in zip(NAMES, scope.saved, scope.logs, strict=True)
        ]
        past = Past((3,) * (scope.term_max + 1), (), scope.commands, scope.kills, scope.transfers, scope.reads)
        self._add(-1, STEPS * 3, *self._elected([*peers, self._past(past)], scope.electors))

    def _elected(self, state: list[int], electors: tuple[int, ...]) -> tuple[State, int]:
        """Let the first of them be elected by the others."""
        mail = 0
        todo = [(electors[0], SILENCE)] if electors else []
        while todo:
            place, step = todo.pop(0)
            state[place], sent = self._do(0, place, state[place], step)
            new, mail = sent & ~mail, mail | sent
            if self._facts[state[electors[0]]].is_leader:
                break
            if self._facts[state[place]].is_writing:
                todo.append((place, SYNC))
            todo += [(each, letter) for each in electors for letter in _bits(new & self._mail_to[each])]
        return (state[0], state[1], state[2], state[3]), mail

    def _expand(self, number: int, state: State, mail: int) -> None:
        past = self._pasts[state[3]]
        for place in range(3):
            for step in self._possible(state[place], past, mail & self._mail_to[place]):
                after, sent = self._do(number, place, state[place], step)
                if after == state[place] and step > KILL and not sent & ~mail:
                    continue
                spent = self._spent(state[3], past, step)
                changed = (*state[:place], after, *state[place + 1 : 3], spent)
                code = (step + STEPS) * 3 + place
                self._add(number, code, changed, mail | sent, place)  # type: ignore[arg-type]

    def _possible(self, peer: int, past: Past, mail: int) -> Iterator[int]:
        facts = self._facts[peer]
        if facts.is_leader:
            yield UNHEARD
            yield BEAT
            if past.commands:
                yield PROPOSE - past.commands
            if past.reads:
                yield READ - len(past.committed)
            if facts.is_handing_over:
                yield GIVE_UP
            elif past.transfers:
                yield TRANSFER
                yield TRANSFER - 1
        elif facts.term < self.scope.term_max:
            yield SILENCE
        if facts.is_writing:
            yield SYNC
        if past.kills:
            yield KILL
        yield from _bits(mail & ~self._idle[peer])

    def _spent(self, number: int, past: Past, step: int) -> int:
        if step >= 0 or step > KILL:
            return number
        if step == KILL:
            return self._past(past._replace(kills=past.kills - 1))
        if step <= READ:
            return self._past(past._replace(reads=past.reads - 1))
        if step <= PROPOSE:
            return self._past(past._replace(commands=past.commands - 1))
        return self._past(past._replace(transfers=past.transfers - 1))

    def _add(self, parent: int, code: int, state: State, mail: int, place: int = 3) -> None:
        """A state was come to: whether it is right, and whether it is new."""
        try:
            past = self._watched(state, place)
        except AssertionError as error:
            raise Violation(str(error), self._story(parent, code)) from None
        state, mail, names = self._canonical((*state[:3], past), self._answered(parent, code, state, mail))
        seen = self._seen.get(state)
        if seen is None:
            self._seen[state] = [mail]
        else:
            for each in seen:
                if mail & ~each == 0:
                    return
            seen[:] = [each for each in seen if each & ~mail]
            seen.append(mail)
        self._parents.append(parent)
        self._steps.append(code * 6 + RENAMINGS.index(names))
        self._todo.append((self.count, state, mail))
        self.count += 1

    # --- steps
    def _do(self, number: int, place: int, peer: int, step: int) -> tuple[int, int]:
        """What a step makes of a peer, and the mail that it sends."""
        known = self._done[peer].get(step)
        if known is not None:
            return known
        try:
            after, sent = self._worked(self._peers[peer], place, step)
            while self.scope.is_quick and after.saves:
                after, more = synced(after)
                sent += more
        except AssertionError as error:
            raise Violation(str(error), self._story(number, (step + STEPS) * 3 + place)) from None
        posted = 0
        for target, message in sent:
            posted |= 1 << self._letter(Mail(place, NAMES.index(target), message))
        self._done[peer][step] = found = self._peer(after), posted
        if step >= 0 and found[0] == peer:
            self._idle[peer] |= 1 << step
            if posted:
                self._answers[peer][step] = posted
        if step == BEAT and found[0] == peer:
            self._answers[peer][step] = posted
        return found

    def _worked(self, peer: Peer, place: int, step: int) -> tuple[Peer, tuple[Sent, ...]]:
        if step >= 0:
            mail = self._mail[step]
            return turn(peer, lambda core: core.step(NAMES[mail.source], mail.message, LATE_NS))
        if step == SYNC:
            return synced(peer)
        if step == KILL:
            return started(NAMES[place], peer.hard_state, peer.entries), ()
        if step <= READ:
            return turn(peer, lambda core: read(core, READ - step))
        if step <= PROPOSE:
            return turn(peer, lambda core: core.propose(b"%d" % (PROPOSE - step)))
        if step <= TRANSFER:
            target = NAMES[(place + 1 + TRANSFER - step) % 3]
            return turn(peer, lambda core: core.transfer(target))
        if step == SILENCE and self.scope.is_sure:
            after, sent = turn(peer, _stand)
            return after, tuple((target, message) for target, message in sent if not getattr(message, "is_pre", False))
        now_ns = {BEAT: BEAT_NS, GIVE_UP: TRANSFER_NS}.get(step, LATE_NS)
        return turn(peer, lambda core: core.tick(now_ns))

    def _answered(self, parent: int, code: int, state: State, mail: int) -> int:
        """All mail that there can be while no peer changes."""
        before = -1
        looked_at = [0, 0, 0]
        while mail != before:
            before = mail
            for place in range(3):
                peer = state[place]
                new = mail & self._mail_to[place] & ~looked_at[place]
                looked_at[place] |= new
                mail |= self._answers_of(peer, place, new, (parent, code))
        return mail

    def _answers_of(self, peer: int, place: int, mail: int, way: tuple[int, int]) -> int:
        done, answers = self._done[peer], self._answers[peer]
        sent = 0
        if self._facts[peer].is_leader:
            after, beat = done.get(BEAT) or self._do_next(way, place, peer, BEAT)
            sent = beat if after == peer else 0
        for step in _bits(mail):
            if step not in done:
                self._do_next(way, place, peer, step)
            sent |= answers.get(step, 0)
        return sent

    def _do_next(self, way: tuple[int, int], place: int, peer: int, step: int) -> tuple[int, int]:
        try:
            return self._do(0, place, peer, step)
        except Violation as error:
            raise Violation(error.what, [*self._story(*way), self._words(step, place)]) from None

    # --- what must hold
    def _watched(self, state: State, place: int) -> int:
        """Check all of Figure 3, and what a majority has. Returns the past with what happened just now."""
        past = state[3]
        places = (place,) if place < 3 else (0, 1, 2)
        for each in places:
            past = self._next(past, state[each])
        if past != state[3]:
            for each in range(3):
                assert self._next(past, state[each]) == past
        committed = len(self._pasts[past].committed)
        if committed:
            have = sorted(self._durable_of(past, state[each]) for each in range(3))
            assert have[1] == committed, f"what is committed up to {committed} is durable on a majority up to {have[1]}"
        if place < 3:
            for each in range(3):
                self._check_matching(self._facts[state[place]].log, self._facts[state[each]].log)
        return past

    def _next(self, number: int, peer: int) -> int:
        known = self._nexts.get((number, peer))
        if known is None:
            known = self._nexts[number, peer] = self._past(_lived(self._pasts[number], self._facts[peer]))
        return known

    def _durable_of(self, past: int, peer: int) -> int:
        known = self._durable.get((past, peer))
        if known is None:
            pairs = zip(self._pasts[past].committed, self._facts[peer].disk, strict=False)
            known = 0
            for (entry, _), durable in pairs:
                if entry != durable:
                    break
                known += 1
            self._durable[past, peer] = known
        return known

    def _check_matching(self, one: tuple[LogEntry, ...], other: tuple[LogEntry, ...]) -> None:
        """Log matching: what agrees at some index agrees in all before."""
        if one == other or (one, other) in self._matching:
            return
        for index in range(min(len(one), len(other)) - 1, -1, -1):
            if one[index].term == other[index].term:
                assert one[: index + 1] == other[: index + 1], f"log matching up to {index + 1}"
                break
        self._matching.add((one, other))

    # --- numbers for things
    def _peer(self, peer: Peer) -> int:
        number = self._peer_numbers.setdefault(peer, len(self._peers))
        if number == len(self._peers):
            self._peers.append(peer)
            self._facts.append(_facts(peer))
            self._done.append({})
            self._idle.append(0)
            self._answers.append({})
        return number

    def _letter(self, mail: Mail) -> int:
        number = self._mail_numbers.setdefault(mail, len(self._mail))
        if number == len(self._mail):
            self._mail.append(mail)
            self._mail_to[mail.target] |= 1 << number
        return number

    def _past(self, past: Past) -> int:
        number = self._past_numbers.setdefault(past, len(self._pasts))
        if number == len(self._pasts):
            self._pasts.append(past)
        return number

    # --- names
    def _canonical(self, state: State, mail: int) -> tuple[State, int, Renaming]:
        """The one of all states that differ by names which stands for them; and who it is called by then."""
        shapes = [self._shape(state[place], place) for place in range(3)]
        if shapes[0] < shapes[1] < shapes[2]:
            return state, mail, SAME_NAMES
        ordered = sorted(shapes)
        fitting = [each for each in RENAMINGS if all(ordered[each[place]] == shapes[place] for place in range(3))]
        return min((*self._renamed(state, mail, each), each) for each in fitting)

    def _shape(self, peer: int, place: int) -> int:
        known = self._shapes.get(peer)
        if known is None:
            known = self._shapes[peer] = min(self._renamed_peer(peer, each) for each in RENAMINGS if each[place] == 0)
        return known

    def _renamed(self, state: State, mail: int, names: Renaming) -> tuple[State, int]:
        if names == SAME_NAMES:
            return state, mail
        peers = [0, 0, 0]
        for place in range(3):
            peers[names[place]] = self._renamed_peer(state[place], names)
        return (peers[0], peers[1], peers[2], self._renamed_past(state[3], names)), self._renamed_letters(mail, names)

    def _renamed_peer(self, peer: int, names: Renaming) -> int:
        known = self._renamed_peers[names].get(peer)
        if known is None:
            others = {NAMES[place]: NAMES[names[place]] for place in range(3)}
            known = self._renamed_peers[names][peer] = self._peer(renamed(self._peers[peer], others))
        return known

    def _renamed_past(self, past: int, names: Renaming) -> int:
        known = self._renamed_pasts[names].get(past)
        if known is None:
            before = self._pasts[past]
            leaders = tuple(names[each] if each < 3 else 3 for each in before.leaders)
            known = self._renamed_pasts[names][past] = self._past(before._replace(leaders=leaders))
        return known

    def _renamed_letters(self, mail: int, names: Renaming) -> int:
        known, letters = self._renamed_mail[names], 0
        for letter in _bits(mail):
            bit = known.get(letter)
            if bit is None:
                source, target, message = self._mail[letter]
                bit = known[letter] = 1 << self._letter(Mail(names[source], names[target], message))
            letters |= bit
        return letters

    # --- the way to a state
    def _story(self, number: int, code: int) -> list[str]:
        """The steps to a state and one more, with the names of the beginning."""
        codes = [code * 6]
        while number >= 0:
            codes.append(self._steps[number])
            number = self._parents[number]
        names, lines = SAME_NAMES, []  # what they are called now, and in the beginning
        for each in reversed(codes):
            lines.append(self._words(each // 18 - STEPS, each // 6 % 3, names))
            renaming = RENAMINGS[each % 6]
            first, second, third = (names[renaming.index(place)] for place in range(3))
            names = (first, second, third)
        return lines[1:]

    def _words(self, step: int, place: int, names: Renaming = SAME_NAMES) -> str:
        me = NAMES[names[place]]
        if step >= 0:
            mail = self._mail[step]
            return f"{me} takes of {NAMES[names[mail.source]]} {mail.message}"
        return f"{me} {WORDS.get(step, 'is read' if step <= READ else 'takes a command')}"


def _stand(core: Raft) -> None:
    """Begin an election for which all others are."""
    core.tick(LATE_NS)
    for name in NAMES:
        if name != core.me:
            core.step(name, Vote(term=core.term + 1, is_granted=True, is_pre=True), LATE_NS)


def _bits(number: int) -> Iterator[int]:
    """The places of its ones."""
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low


def _facts(peer: Peer) -> Facts:
    fields = dict(peer.core[1])
    log = tuple(dict(fields["log"][1])["_entries"][1])
    leadership = fields["leadership"]
    return Facts(
        me=NAMES.index(fields["me"]),
        term=fields["term"],
        is_leader=leadership is not None,
        is_handing_over=leadership is not None and bool(dict(leadership[1])["_transfer"]),
        is_writing=bool(peer.saves),
        commit_index=fields["commit_index"],
        log=log,
        disk=peer.entries,
    )


def _lived(past: Past, peer: Facts) -> Past:
    """The past with this peer in it: election safety, state-machine safety, leader completeness."""
    leaders, committed = past.leaders, past.committed
    assert peer.commit_index <= len(peer.log), f"committed up to {peer.commit_index} of {len(peer.log)}"
    if peer.is_leader:
        known = leaders[peer.term]
        assert known in (3, peer.me), f"election safety: two lead term {peer.term}"
        leaders = (*leaders[: peer.term], peer.me, *leaders[peer.term + 1 :])
    for index, entry in enumerate(peer.log[: peer.commit_index]):
        if index == len(committed):
            committed = (*committed, (entry, peer.term))
        assert committed[index][0] == entry, f"state-machine safety at {index + 1}"
    if peer.is_leader:
        before = tuple(entry for entry, term in committed if term < peer.term)
        assert peer.log[: len(before)] == before, f"leader completeness of the leader of term {peer.term}"
    return past._replace(leaders=leaders, committed=committed)


# --- the command
def main(words: list[str]) -> None:
    """See the module."""
    if words == ["mutants"]:
        for mutant in MUTANTS.values():
            if mutant.scope:
                print(f"{mutant.name}: {hunt(mutant)}", flush=True)
        return
    states_max = int(words.pop()) if words and words[-1].isdigit() else STATES_MAX
    for scope in SCOPES:
        if not words or any(word in scope.name for word in words):
            explore(scope, states_max)


def hunt(mutant: Mutant, states_max: int = STATES_MAX) -> str:
    """Explore the core with that mistake. Returns what is wrong then, or "" if nothing is."""
    explorer = Explorer(next(scope for scope in SCOPES if scope.name.startswith(mutant.scope)))
    with broken(mutant.name):
        try:
            explorer.run(states_max)
        except Violation as violation:
            return f"{violation.what}, after {len(violation.steps)} steps; {explorer.count:,} states"
    return ""


def explore(scope: Scope, states_max: int) -> None:
    """Explore a scope, and say how far it came."""
    began_s, told_s = time.monotonic(), 0.0

    def tell(explorer: Explorer, *, end: str = "\r") -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if now_s - told_s < 1 and end == "\r":
            return
        told_s = now_s
        rate = explorer.count / (now_s - began_s)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(
            f"  {explorer.count:>9,} states, depth {explorer.depth:>2}, {explorer.peers:,} peers, "
            f"{explorer.messages:,} messages, {rate:,.0f} states/s, {memory:,} MiB ",
            end=end,
            flush=True,
        )

    print(scope.name)
    explorer = Explorer(scope)
    is_exhausted = explorer.run(states_max, tell if sys.stdout.isatty() else None)
    tell(explorer, end="\n")
    print("  there are no others" if is_exhausted else f"  and so on: it was to end after {states_max:,} states")


if __name__ == "__main__":
    main(sys.argv[1:])
