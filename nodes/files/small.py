"""Puts of small files: two exchanges each, since their inodes and places are begun many at a time.

The chunk goes down its chain in one message. If that fails, each of its servers is asked by itself, and others in the
place of those that fail.
"""

from __future__ import annotations

from collections import deque

import msgspec

from zactor.errors import Failure
from zactor.replication.client import Door, Patience

from .chunks import block_checksums, file_checksum, seal_crc
from .messages import SMALL_SIZE_MAX, LeaseExpired, StoreSmall, chunk_id
from .names import Names
from .operations import Commit, Create, Placed, Rechain, SealedChunk, Stat
from .upload import ask_each, refs

STASH_MAX = 16
"""Inodes that are begun at once, and kept until they are used: 1 MiB reserved on each server."""

STORE_TIMEOUT_S = 10.0
ALONE_TIMEOUT_S = 2.0
"""A server that is there answers at once, and one that does not is done without."""


class Unused(msgspec.Struct, frozen=True):
    """An inode that a session has begun."""

    session: int
    inode: int
    place: Placed
    copies: int


class SmallFiles:
    """Puts files of up to `SMALL_SIZE_MAX` bytes, any number at once."""

    def __init__(self, door: Door, names: Names) -> None:
        self._door = door
        self._names = names
        self._stash: deque[Unused] = deque()
        self._stash_size = 1
        self._is_filling = False

    async def put(self, content: bytes, path: str, mode: int | None, replace: bool) -> Stat:
        """Store a whole file under `path`."""
        if not content:
            return await self._names.change(Create(path, replace, mode), Stat)
        while True:
            unused = await self._take()
            try:
                sealed = await self._store(unused, content)
                checksum = file_checksum((sealed.crc,))
                commit = Commit(unused.inode, path, len(content), checksum, (sealed,), mode, replace)
                return await self._names.change(commit, Stat)
            except LeaseExpired:
                if unused.session == self._names.session:
                    raise
                # The session was lost while this one lay in the stash, or just now: nothing was committed.
            except Exception as error:
                await self._names.abandon(unused.inode, error)
                raise
            except BaseException:
                self._names.abandon_later(unused.inode)
                raise

    def clear(self) -> None:
        """Forget what is in the stash; the end of the session frees it."""
        self._stash.clear()

    async def _take(self) -> Unused:
        """An inode. The more are used, the more are begun at once."""
        while self._stash:
            unused = self._stash.popleft()
            if unused.session == self._names.session:
                return unused
        # Who comes while another coroutine fills the stash begins one for itself, or all would fill it.
        fills = not self._is_filling
        self._is_filling = True
        try:
            begun = await self._names.begin((SMALL_SIZE_MAX,) * (self._stash_size if fills else 1))
        finally:
            self._is_filling = self._is_filling and not fills
        if fills:
            self._stash_size = min(2 * self._stash_size, STASH_MAX)
        session = self._names.session
        pairs = zip(begun.inodes, begun.places, strict=True)
        first, *rest = [Unused(session, inode, place, begun.copies) for inode, place in pairs]
        self._stash.extend(rest)
        return first

    async def _store(self, unused: Unused, content: bytes) -> SealedChunk:
        crc, place = seal_crc(block_checksums(content)), unused.place
        head, *behind = refs(place.servers)
        message = StoreSmall(chunk=chunk_id(unused.inode, 0), chain=tuple(behind), content=content, crc=crc)
        try:
            await self._door.ask(head, message, STORE_TIMEOUT_S)
        except Failure:
            alone = StoreSmall(chunk=message.chunk, chain=(), content=content, crc=crc)
            return await self._store_on_each(unused, alone)
        return SealedChunk(len(content), crc, place.version, place.servers)

    async def _store_on_each(self, unused: Unused, message: StoreSmall) -> SealedChunk:
        patience = Patience(self._door)
        place = unused.place
        servers: tuple[str, ...] = ()
        while True:
            asked = tuple(server for server in place.servers if server not in servers)
            problems = await ask_each(self._door, asked, message, ALONE_TIMEOUT_S)
            servers += tuple(server for server in asked if server not in problems)
            missing = unused.copies - len(servers)
            if not missing:
                return SealedChunk(len(message.content), message.crc, place.version, servers)
            if problems:
                await self._names.hold(unused.session)
                await patience.pause(next(iter(problems.values())))
            rechain = Rechain(unused.inode, 0, place.version, servers, missing, tuple(problems))
            place = await self._names.replace(rechain)
