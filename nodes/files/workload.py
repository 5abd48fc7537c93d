"""Users of a file system, for trials: they put, get, list, rename and remove a few files that all of them share.

Every put has a size that no other put has, and bytes that follow from it. So a size says which version a reader saw,
a listing says it of every file, and bytes that do not follow from their size are damage that nobody noticed. What
each user has for himself nobody else touches: there everything must go as he says, and once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import blake2b
from io import BytesIO
from itertools import repeat

from zactor.actor import on
from zactor.errors import Corrupt, Failure, Refused
from zactor.message import Message, Ref
from zactor.replication.client import OutcomeUnknown
from zactor.replication.messages import EndSession, OpenSession, Query, Renew, Submit
from zactor.workload import Workload

from .client import FilesClient
from .messages import (
    BLOCK_SIZE,
    AlreadyExists,
    BadCommit,
    BadPath,
    IsAFolder,
    Loop,
    MissingChunk,
    NotAFolder,
    NotEmpty,
    NotFound,
)

CLIENTS_MAX = 64
PUTS_MAX = 900
"""Puts of one client whose sizes differ from each other: those of a class are within 57,600 bytes."""

SIZES = (0, 66_000, 200_000, 400_000)
"""Where the sizes of each class begin: one record of a segment; two blocks or three; one chunk of several frames;
more than one chunk, if those are not larger than 384 KiB."""

_NOISE = b"".join(blake2b(index.to_bytes(4, "little")).digest() for index in range(2 * BLOCK_SIZE // 64))

LOOKS, LOOK_S = 20, 0.5
"""How often a file is looked at again that cannot be read."""

STALLED_S = 1_000_000.0
"""A client that died says nothing any more."""

NEVER_OF_ONES_OWN = (NotFound, AlreadyExists, NotEmpty, NotAFolder, IsAFolder, BadPath, Loop, BadCommit)
"""Refusals that one never gets where nobody else is, unless what was asked once was done twice, or not at all."""


class DieInPut(Message[None]):
    """A workload tells itself to begin a put that is never ended."""

    path: str
    size: int


def content_of(size: int) -> bytes:
    """The bytes of the put of that size. No two of its blocks are alike, nor any of two puts."""
    return b"".join(map(_block, repeat(size), range(-(-size // BLOCK_SIZE))))[:size]


def _block(size: int, index: int) -> bytes:
    word = (size << 20 | index) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    start = word >> 48
    return word.to_bytes(8, "little") + _NOISE[start : start + BLOCK_SIZE - 8]


class FilesWorkload(Workload):
    """One user of `folders` folders with two names in each. Between two operations it rests up to `rest_ms`."""

    metadata: Ref[Submit | Query | OpenSession | Renew | EndSession]
    folders: int = 3
    rest_ms: int = 100

    model = "names"

    _puts = 0
    _own = 0

    async def run(self) -> None:
        """Mostly put and get; sometimes everything else."""
        self._files = FilesClient(self, self.metadata)
        await self._make_folders()
        while True:
            dice = self.rng.getrandbits(8)
            folder = f"/{self.rng.getrandbits(16) % self.folders}"
            name, other = ("a", "b") if self.rng.getrandbits(1) else ("b", "a")
            if dice < 76:
                await self._put(folder, name)
            elif dice < 90:
                await self._create(folder, name)
            elif dice < 140:
                await self._get(folder, name)
            elif dice < 156:
                await self._read_slowly(folder, name)
            elif dice < 184:
                await self._list(folder)
            elif dice < 216:
                await self._rename(folder, name, other)
            elif dice < 240:
                await self._remove(folder, name)
            elif dice < 246:
                self.tell(self.ref, DieInPut(path=f"{folder}/{name}", size=self._size()))
            elif dice < 248:
                await self._begin_anew()
            else:
                await self._keep_house()
            await self.sleep((self.rng.getrandbits(16) * self.rest_ms >> 16) / 1000)

    async def _make_folders(self) -> None:
        for index in range(self.folders):
            while True:
                try:
                    await self._files.mkdir(f"/{index}", parents=True)
                except Failure:
                    await self.sleep(LOOK_S)
                else:
                    break

    async def _begin_anew(self) -> None:
        """Go on in another session."""
        try:
            await self._files.close()
        except Failure as error:
            self.log.info("session_left", because=str(error))

    # --- what all of them do
    async def _put(self, folder: str, name: str) -> None:
        size = self._size()
        operation = self.invoke("put", name, size, key=folder)
        try:
            await self._files.put(BytesIO(content_of(size)), f"{folder}/{name}", size=size)
        except Failure as error:
            self._not_done(operation, error)
        else:
            self.answered(operation)

    async def _create(self, folder: str, name: str) -> None:
        """A put that replaces nothing."""
        size = self._size()
        operation = self.invoke("create", name, size, key=folder)
        try:
            await self._files.put(self._pieces(size), f"{folder}/{name}", replace=False)
        except AlreadyExists:
            self.answered(operation, False)
        except Failure as error:
            self._not_done(operation, error)
        else:
            self.answered(operation, True)

    async def _get(self, folder: str, name: str) -> None:
        operation = self.invoke("get", name, key=folder)
        sink = BytesIO()
        try:
            await self._files.get(f"{folder}/{name}", sink)
        except NotFound:
            self.answered(operation, None)
        except (Corrupt, MissingChunk) as error:
            self.failed(operation, error)
            await self._look_again(f"{folder}/{name}", str(error))
        except Failure as error:
            self.failed(operation, error)
        else:
            content = sink.getvalue()
            self._check(f"{folder}/{name}", len(content), 0, len(content), content)
            self.answered(operation, len(content))

    async def _look_again(self, path: str, because: str) -> None:
        """A disk may err once; a file that stays unreadable is lost."""
        for _ in range(LOOKS):
            await self.sleep(LOOK_S)
            try:
                await self._files.get(path, BytesIO())
            except (Corrupt, MissingChunk):
                continue
            except Failure:
                return
            else:
                return
        self.bad_answer(f"{path} is lost: {because}")

    async def _read_slowly(self, folder: str, name: str) -> None:
        """Some parts of a file, while others may replace it: all of one version."""
        operation = self.invoke("get", name, key=folder)
        try:
            reader = await self._files.open(f"{folder}/{name}")
        except NotFound:
            self.answered(operation, None)
            return
        except Failure as error:
            self.failed(operation, error)
            return
        whole = reader.stat.size
        self.answered(operation, whole)
        try:
            for _ in range(1 + self.rng.getrandbits(2)):
                offset, size = self.rng.getrandbits(24) % (whole + 1), self.rng.getrandbits(18)
                content = await reader.read(offset, size)
                self._check(f"{folder}/{name}", whole, offset, size, content)
                await self.sleep(self.rng.getrandbits(9) / 1000)
            await reader.close()
        except Failure as error:
            self.log.info("reading_ended", path=f"{folder}/{name}", because=str(error))

    async def _list(self, folder: str) -> None:
        """One answer says of every file whether it is there, and which one."""
        operation = self.invoke("list", key=folder)
        try:
            found = [(item.name, item.size) async for item in self._files.list(folder)]
        except Failure as error:
            self.failed(operation, error)
        else:
            self.answered(operation, found)

    async def _rename(self, folder: str, name: str, other: str) -> None:
        operation = self.invoke("rename", name, other, key=folder)
        try:
            await self._files.rename(f"{folder}/{name}", f"{folder}/{other}")
        except NotFound:
            self.answered(operation, False)
        except Failure as error:
            self._not_done(operation, error)
        else:
            self.answered(operation, True)

    async def _remove(self, folder: str, name: str) -> None:
        operation = self.invoke("delete", name, key=folder)
        try:
            await self._files.remove(f"{folder}/{name}")
        except NotFound:
            self.answered(operation, False)
        except Failure as error:
            self._not_done(operation, error)
        else:
            self.answered(operation, True)

    def _not_done(self, operation: int, error: Failure) -> None:
        """What fails was not done, unless the client says that it cannot know."""
        if isinstance(error, OutcomeUnknown):
            self.unknown(operation, error)
        else:
            self.failed(operation, error)

    # --- what one does alone
    async def _keep_house(self) -> None:
        """A folder of one's own: made, filled, moved, read through a link, and removed."""
        self._own += 1
        first, then = f"/own-{self.number}-{self._own}", f"/own-{self.number}-{self._own}-moved"
        try:
            await self._move_house(first, then)
        except Refused as error:
            if isinstance(error, NEVER_OF_ONES_OWN):
                self.bad_answer(f"{first}: nobody else is there, and yet {type(error).__name__}: {error}")
        except Failure as error:
            self.log.info("house_left", path=first, because=str(error))

    async def _move_house(self, first: str, then: str) -> None:
        files, size = self._files, self._size()
        await files.mkdir(first)
        await files.put(BytesIO(content_of(size)), f"{first}/file", size=size)
        await files.symlink(f"{first}/link", "file")
        await files.rename(first, then)
        found = {item.name: (item.kind, item.size) async for item in files.list(then)}
        if {name: kind for name, (kind, _) in found.items()} != {"file": "file", "link": "link"}:
            self.bad_answer(f"{then} has {found}, and nobody else was there")
        content = await files.read(f"{then}/link")
        self._check(f"{then}/link", size, 0, size, content)
        for path in (f"{then}/link", f"{then}/file", then):
            await files.remove(path)

    @on(interleave=True)
    async def die_in_put(self, message: DieInPut) -> None:
        """A client of its own begins a put, and is never heard of again."""
        dying = FilesClient(self, self.metadata)
        try:
            await dying.put(self._pieces(message.size, message.size * 2 // 3), message.path, size=message.size)
        except Failure as error:
            self.log.info("dying_put_failed", because=str(error))
        else:
            self.bad_answer(f"a put of {message.size} bytes to {message.path} was done, and it never came to its end")

    async def _pieces(self, size: int, stop_at: int | None = None) -> AsyncIterator[bytes]:
        content = content_of(size)
        for start in range(0, size if stop_at is None else stop_at, 100_000):
            yield content[start : min(start + 100_000, size if stop_at is None else stop_at)]
        if stop_at is not None:
            await self.sleep(STALLED_S)

    # --- what they have in common
    def _size(self) -> int:
        """That of the next put: mostly small."""
        self._puts += 1
        dice = self.rng.getrandbits(5)
        base = SIZES[3 if dice == 0 else 2 if dice < 3 else 1 if dice < 9 else 0]
        return base + self._puts % PUTS_MAX * CLIENTS_MAX + self.number

    def _check(self, path: str, whole: int, offset: int, size: int, content: bytes) -> None:
        expected = content_of(whole)[offset : offset + size]
        if content != expected:
            self.bad_answer(f"{path}: {len(content)} bytes at {offset} of {whole} that nobody put")
