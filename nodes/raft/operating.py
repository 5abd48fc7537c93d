"""What an operator asks of a group: how its peers fare, and what only the leader can do.

It talks through a door (`zactor.replication.client.Door`), so the same is used in a simulation and by the command line.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

from zactor.errors import Failure
from zactor.message import Ref
from zactor.replication.client import Door, SessionClient

from .members import Members
from .messages import AddPeer, PeerStatus, RemovePeer, Status, TakeSnapshotNow, Transfer

STATUS_S = 1.0
CHANGE_S = 5.0
SNAPSHOT_S = 600.0


class Operator:
    """Of one group. Gives up after `give_up_s`, with what the last peer said."""

    def __init__(self, door: Door, peers: Sequence[Ref[Any]], give_up_s: float = 10.0) -> None:
        self._door = door
        self._peers = tuple(peers)
        self._client = SessionClient(door, self._peers, give_up_s)  # no session is opened

    async def status(self) -> list[tuple[str, PeerStatus | Failure]]:
        """How each peer fares, by the name of its node, or why that cannot be known."""
        asked: list[tuple[str, Awaitable[PeerStatus]]] = [
            (peer.name, self._door.ask(peer, Status(), STATUS_S)) for peer in self._peers
        ]
        found: list[tuple[str, PeerStatus | Failure]] = []
        for name, answer in asked:
            try:
                found.append((name, await answer))
            except Failure as error:
                found.append((name, error))
        return found

    async def transfer(self, to: str = "") -> str:
        """Hand leadership over; returns to whom. Raises `Refused`, and what a client gets when nobody leads."""
        return await self._client.ask(Transfer(to=to), attempt_s=CHANGE_S)

    async def add(self, node: str) -> Members:
        """Take in a node, first as a learner. Raises `Refused`, and what a client gets when nobody leads."""
        return await self._client.ask(AddPeer(node=node), attempt_s=CHANGE_S)

    async def remove(self, node: str) -> Members:
        """Leave a node out. Raises `Refused`, and what a client gets when nobody leads."""
        return await self._client.ask(RemovePeer(node=node), attempt_s=CHANGE_S)

    async def snapshot(self, peer: Ref[Any]) -> int:
        """Let a peer write a snapshot. Returns the index up to which it stands for the log."""
        return await self._door.ask(peer, TakeSnapshotNow(), SNAPSHOT_S)
