"""A resource behind a lock, which looks at the token of who comes: what makes a lock safe that may be lost unnoticed.

Whoever holds the lock of a lease may be late, and then somebody else holds it, too. So each write has the fencing token
of the lock (`locks.Lock.token`), and one with a lower token than the last is refused.
"""

from __future__ import annotations

from zactor.actor import Actor, on
from zactor.errors import DiskFull, Refused
from zactor.message import Message

HIGHEST = "highest"
"""The file with the highest token."""


class Guard(Message[bool]):
    """Write under a lock. Answered by whether that was done: False, when somebody with a higher token came before."""

    token: int
    value: str


class Fenced(Actor):
    """One value that is written under a lock."""

    value = ""
    _highest = 0

    async def on_start(self) -> None:
        """Go on with the highest token that was ever seen here."""
        self._highest = int.from_bytes(await self.disk.read(HIGHEST), "big")

    @on
    async def guard(self, message: Guard) -> bool:
        """Take a write, or not. Raises `Refused` when the disk is full."""
        if message.token < self._highest:
            return False
        if message.token > self._highest:
            # Before the write is answered: a token that is forgotten in a crash would let a lower one in.
            try:
                await self._keep(message.token)
            except DiskFull as error:
                raise Refused(f"{self.ref.name} cannot keep the token: {error}") from error
            self._highest = message.token
        self.value = message.value
        return True

    async def _keep(self, token: int) -> None:
        await self.disk.remove(f"{HIGHEST}.new")
        await self.disk.append(f"{HIGHEST}.new", token.to_bytes(8, "big"))
        await self.disk.synced()
        await self.disk.rename(f"{HIGHEST}.new", HIGHEST)
        await self.disk.sync_folder()
