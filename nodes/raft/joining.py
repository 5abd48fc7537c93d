"""Who takes part: a peer finds its group or forms one, and a leader takes nodes in and leaves them out.

What is decided is in `forming`; here are the questions and the file. The file is written after the journal was begun,
and a peer takes part after that: so one that crashed before has promised nothing, and tries again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zactor.door import Later
from zactor.errors import Corrupt, DiskFull, Failure, Refused
from zactor.journal import record, scan
from zactor.message import Message, decoder, encode
from zactor.replication.messages import NotLeader

from .core import HardState, Raft
from .forming import (
    IDENTITY,
    Known,
    first_members,
    genesis,
    has_formed,
    new_identity,
    node_of,
    with_newcomer,
    without_node,
)
from .members import Members
from .messages import Hello, Here, Join, Joined, NotInvited
from .progress import State
from .storage import Recovered, Storage

if TYPE_CHECKING:
    from .actor import Peer

ASK_S = 1.0
SEEK_S = 0.1
"""A peer that has no group asks again after so long."""

JOIN_S = 5.0
BEHIND_MAX = 64
"""Entries that a learner may lack when it is made a voter (thesis 4.2.1)."""

_decode = decoder(Known)


class Seek(Message[None]):
    """A peer tells itself: look for the group."""


class Joining:
    """Of one peer. `here`: what it says to others."""

    def __init__(self, actor: Peer, storage: Storage) -> None:
        self._actor = actor
        self._storage = storage
        self._known = Known(0)
        self._found: Recovered | None = None
        self._refusal = ""  # why it was not taken in, when that was last logged
        self._waiting: list[tuple[str, Later[Any]]] = []  # who joins, or ""

    @property
    def here(self) -> Here:
        """Who this peer is."""
        return Here(self._known.token, self._known.genesis)

    # --- a peer that starts
    async def start(self, found: Recovered | None) -> None:
        """Go on in the group, or begin to look for it. Raises `Corrupt`."""
        known = await self._read()
        if (known is None and found is not None) or (known is not None and known.identity and found is None):
            raise Corrupt(
                f"{IDENTITY if known is None else 'the journal'} is missing from this folder; put back a copy that is "
                "whole, or remove the folder: the peer then comes back as a learner, with what the others have"
            )
        if known is None:
            # 53 bits: what JSON holds, too.
            known = Known(self._actor.rng.getrandbits(52) + 1)
            await self._write(known)
        self._known, self._found = known, found
        if known.identity and found is not None:
            self._actor.begin(known.identity, found)
        else:
            self._actor.after(0.0, Seek())

    async def _read(self) -> Known | None:
        content = await self._actor.disk.read(IDENTITY)
        records = scan(content).records
        if not content:
            return None
        if len(records) != 1:
            raise Corrupt(f"{IDENTITY} is damaged; put back a copy of this folder that is whole, or remove the folder")
        known: Known = _decode(records[0])
        return known

    async def _write(self, known: Known) -> None:
        disk = self._actor.disk
        await disk.remove(f"{IDENTITY}.new")
        await disk.append(f"{IDENTITY}.new", record(encode(known)))
        await disk.synced()
        await disk.rename(f"{IDENTITY}.new", IDENTITY)
        await disk.sync_folder()

    async def seek(self) -> None:
        """Ask who is there, until there is a group."""
        actor = self._actor
        while actor.raft is None:
            heard = await self._ask_all()
            tokens = genesis(actor.ref.name, self._known.token, heard)
            try:
                if tokens is not None:
                    await self._begin(actor.ref.name, tokens, first_members(tokens), 0)
                elif has_formed(heard):
                    await self._join(heard)
            except DiskFull as error:
                actor.log.error("log_full", because=str(error), rule="a peer begins when there is room")
            if actor.raft is None:
                await actor.sleep(SEEK_S)

    async def _ask_all(self) -> dict[str, Here | None]:
        heard: dict[str, Here | None] = {}
        asked = [(ref.name, self._actor.ask(ref, Hello(), timeout_s=ASK_S)) for ref in self._actor.peers]
        for name, answer in asked:
            try:
                heard[name] = await answer
            except Failure:
                heard[name] = None
        return heard

    async def _join(self, heard: dict[str, Here | None]) -> None:
        actor = self._actor
        identity = new_identity(actor.ref.name, self._known.token)
        for name, here in heard.items():
            if here is None or not here.genesis:
                continue
            try:
                joined = await actor.ask(actor.ref_of(name), Join(identity=identity), timeout_s=JOIN_S)
            except NotLeader:
                continue
            except Failure as error:
                if str(error) != self._refusal:
                    self._refusal = str(error)
                    actor.log.info("not_taken_in", by=name, because=self._refusal)
                continue
            await self._begin(identity, here.genesis, Members(()), joined.term)
            actor.log.info("taken_in", by=name, identity=identity, term=joined.term)
            return

    async def _begin(self, identity: str, tokens: dict[str, int], members: Members, term: int) -> None:
        if self._found is None:
            hard_state = HardState(term)
            await self._storage.begin(members, hard_state)
            self._found = Recovered(hard_state, self._storage.head(members=members), [], 0, [])
        self._known = Known(self._known.token, identity, tokens)
        await self._write(self._known)
        self._actor.begin(identity, self._found)

    # --- at the leader
    def join(self, message: Join) -> Later[Joined]:
        """Take in a node that has no past, in the place of what it was. Raises `NotLeader`, `NotInvited`, `Refused`."""
        raft = self._actor.leading()
        node = node_of(message.identity)
        if message.identity not in raft.members.all:
            if all(node_of(name) != node for name in raft.members.all):
                raise NotInvited(f"{node} is no member of this group; say: zactor raft add {node}")
            self._change(raft, *with_newcomer(raft.members, message.identity))
            self._actor.log.info("peer_replaced", identity=message.identity, because="its disk was empty")
        later: Later[Joined] = self._actor.later()
        self._waiting.append((message.identity, later))
        return later

    def add(self, node: str) -> Later[Members]:
        """Take in a node. Raises `NotLeader`, `Refused`."""
        raft = self._actor.leading()
        if all(node_of(name) != node for name in raft.members.all):
            self._actor.ref_of(node)
            self._change(raft, raft.members.voters, (*raft.members.learners, node))
        return self._when_settled()

    def remove(self, node: str) -> Later[Members]:
        """Leave a node out. Raises `NotLeader`, `Refused`."""
        raft = self._actor.leading()
        if any(node_of(name) == node for name in raft.members.all):
            self._change(raft, *without_node(raft.members, node))
        return self._when_settled()

    def _when_settled(self) -> Later[Members]:
        later: Later[Members] = self._actor.later()
        self._waiting.append(("", later))
        return later

    @staticmethod
    def _change(raft: Raft, voters: tuple[str, ...], learners: tuple[str, ...]) -> None:
        outcome = raft.change_members(voters, learners)
        if isinstance(outcome, str):
            raise Refused(f"the members cannot be changed now: {outcome}")

    def look(self, raft: Raft) -> None:
        """The end of a turn at a peer: answer who waited, and let a learner vote that has caught up."""
        if self._waiting:
            self._answer(raft)
        if raft.leadership is not None and raft.members.learners and self._actor.is_serving:
            self._promote(raft)

    def _answer(self, raft: Raft) -> None:
        members = raft.members
        if members.is_joint or raft.log.members_index > raft.commit_index:
            return
        waiting, self._waiting = self._waiting, []
        for identity, later in waiting:
            later.reply(Joined(raft.term, members) if identity else members)

    def _promote(self, raft: Raft) -> None:
        assert raft.leadership is not None, "only a leader promotes"
        for name in raft.members.learners:
            progress = raft.leadership.progress.get(name)
            if progress is None or progress.state is not State.REPLICATE:
                continue
            if progress.match_index + BEHIND_MAX < raft.log.last_index:
                continue
            learners = tuple([each for each in raft.members.learners if each != name])
            if isinstance(raft.change_members((*raft.members.voters, name), learners), int):
                self._actor.log.info("peer_promoted", peer=name, because="it has caught up", rule="Raft thesis 4.2.1")
            return

    def give_up(self, error: Failure) -> None:
        """This peer leads no more."""
        waiting, self._waiting = self._waiting, []
        for _, later in waiting:
            later.fail(error)
