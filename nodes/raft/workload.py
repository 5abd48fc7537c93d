"""An operator who leaves no group alone, for trials: leadership moves, peers go and come back, snapshots come often."""

from __future__ import annotations

from zactor.actor import Actor, on
from zactor.errors import Failure
from zactor.message import Message, Ref, Refs
from zactor.units import Duration

from .forming import node_of
from .messages import AddPeer, PeerStatus, RemovePeer, Status, TakeSnapshotNow, Transfer
from .operating import Operator

LEAST = 3
"""Voters of a group that stay."""


class Change(Message[None]):
    """The operator tells itself to do something."""


class Restless(Actor):
    """An operator of the group of `peers`. It does something about every `pause`."""

    peers: Refs[Status | Transfer | AddPeer | RemovePeer | TakeSnapshotNow]
    pause: Duration = 500_000_000

    def on_start(self) -> None:
        """Begin."""
        self.tell(self.ref, Change())

    @on(interleave=True)
    async def change(self, message: Change) -> None:  # noqa: ARG002 - it has no fields
        """Change something, for ever."""
        operator = Operator(self, self.peers)
        while True:
            await self.sleep(self.pause * (1 + self.rng.getrandbits(8)) / (128 * 1e9))
            try:
                await self._change(operator)
            except Failure as error:
                self.log.info("change_refused", because=str(error))

    async def _change(self, operator: Operator) -> None:
        peer, dice = self._any(), self.rng.getrandbits(3)
        if dice < 2:
            await operator.transfer(peer.name)
        elif dice < 4:
            await operator.snapshot(peer)
        else:
            await self._change_members(operator, peer.name)

    async def _change_members(self, operator: Operator, name: str) -> None:
        """Who is out comes in; else somebody leaves, if enough stay."""
        found = [each for _, each in await operator.status() if isinstance(each, PeerStatus)]
        if not found:
            return
        members = max(found, key=lambda each: (each.commit_index, each.term)).members
        inside = {node_of(each) for each in members.all}
        outside = [peer.name for peer in self.peers if peer.name not in inside]
        if outside:
            await operator.add(outside[0])
        elif len(inside) >= LEAST and not members.is_joint:
            await operator.remove(name)

    def _any(self) -> Ref[Status | Transfer | AddPeer | RemovePeer | TakeSnapshotNow]:
        return self.peers[self.rng.getrandbits(16) % len(self.peers)]
