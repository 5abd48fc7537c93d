"""Puts of small files: two exchanges each, since their inodes and places are begun with those before.

Each server of the chunk is asked for itself, all at once: a chain would save the client bytes, but they are few, and
every server of it costs another turn before the file is safe. Others take the place of those that fail.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from zactor.replication.client import Door, Patience

from .chunks import block_checksums, file_checksum, seal_crc
from .messages import SMALL_SIZE_MAX, LeaseExpired, StoreSmall, chunk_id
from .names import Names, refusal
from .operations import Abandon, Begin, Begun, Commit, Create, Placed, Rechain, SealedChunk, Stat
from .upload import ask_each

STASH_MAX = 16
"""Inodes that are begun before they are needed: 1 MiB reserved on each server."""

STORE_TIMEOUT_S = 2.0
"""A server that is there answers at once, and one that does not is done without."""


class Unused(msgspec.Struct, frozen=True):
    """An inode that a session has begun."""

    session: int
    inode: int
    place: Placed
    copies: int


class SmallFiles:
    """Puts files of up to `SMALL_SIZE_MAX` bytes, any number at once.

    Who commits a file begins another one in the same exchange, so that the next who comes finds it in the stash.
    """

    def __init__(self, door: Door, names: Names) -> None:
        self._door = door
        self._names = names
        self._stash: deque[Unused] = deque()
        self._misses = 0
        self._is_used = False  # since `rest` was last called

    async def put(self, content: bytes, path: str, mode: int | None, replace: bool) -> Stat:
        """Store a whole file under `path`."""
        if not content:
            return await self._names.change(Create(path, replace, mode), Stat)
        self._is_used = True
        while True:
            unused = await self._take()
            try:
                sealed = await self._store(unused, content)
                checksum = file_checksum((sealed.crc,))
                commit = Commit(unused.inode, path, len(content), checksum, (sealed,), mode, replace)
                return await self._commit(commit)
            except LeaseExpired:
                if unused.session == self._names.session:
                    raise
                # The session was lost while this one lay in the stash, or just now: nothing was committed.
            except Exception as error:
                await self._names.abandon(unused.inode, error)
                raise
            except BaseException:
                self._names.later(Abandon(unused.inode))
                raise

    def clear(self) -> None:
        """Forget what is in the stash; the end of the session frees it."""
        self._stash.clear()

    async def rest(self) -> None:
        """Called now and then: who has put nothing since the last time gives back what is reserved in the stash."""
        if not self._is_used and self._stash:
            unused, self._misses = [each.inode for each in self._stash], 0
            self._stash.clear()
            await self._names.change_all(tuple(map(Abandon, unused)))
        self._is_used = False

    @property
    def _wanted(self) -> int:
        """How many should be in the stash: none for one file, more for each time that it was empty."""
        return min(1 << self._misses >> 2, STASH_MAX)

    async def _take(self) -> Unused:
        while self._stash:
            unused = self._stash.popleft()
            if unused.session == self._names.session:
                return unused
        self._misses += 1
        self._keep(await self._names.begin((SMALL_SIZE_MAX,)))
        return self._stash.pop()

    def _keep(self, begun: Begun) -> None:
        session = self._names.session
        for inode, place in zip(begun.inodes, begun.places, strict=True):
            self._stash.append(Unused(session, inode, place, begun.copies))

    async def _commit(self, commit: Commit) -> Stat:
        more = (Begin((SMALL_SIZE_MAX,)),) if len(self._stash) < self._wanted else ()
        outcome, *begun = await self._names.change_all((commit, *more, *self._names.left_over()))
        for each in begun:
            if isinstance(each, Begun):  # without room, the next put hears of it
                self._keep(each)
        if not isinstance(outcome, Stat):
            raise refusal(outcome)
        return outcome

    def _pass_over(self, problems: Iterable[str]) -> None:
        """Give up what lies in the stash for servers that failed: it would fail, too, one after the other."""
        failed = [each for each in self._stash if not set(problems).isdisjoint(each.place.servers)]
        for each in failed:
            self._stash.remove(each)
            self._names.later(Abandon(each.inode))

    async def _store(self, unused: Unused, content: bytes) -> SealedChunk:
        crc, place = seal_crc(block_checksums(content)), unused.place
        message = StoreSmall(chunk=chunk_id(unused.inode, 0), content=content, crc=crc)
        patience = Patience(self._door)
        servers: tuple[str, ...] = ()
        while True:
            await self._names.hold(unused.session)
            asked = tuple(server for server in place.servers if server not in servers)
            problems = await ask_each(self._door, asked, message, STORE_TIMEOUT_S)
            servers += tuple(server for server in asked if server not in problems)
            missing = unused.copies - len(servers)
            if not missing:
                return SealedChunk(len(content), crc, place.version, servers)
            if problems:
                self._pass_over(problems)
                await patience.pause(next(iter(problems.values())))
            rechain = Rechain(unused.inode, 0, place.version, servers, missing, tuple(problems))
            place = await self._names.replace(rechain)
