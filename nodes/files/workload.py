"""Users of a file system, for trials: they put, get, list and remove a few files that all of them share.

Every put has a size that no other put has, and bytes that follow from it. So a size says which version a reader saw,
a listing says it of every file, and bytes that do not follow from their size are damage that nobody noticed.
"""

from __future__ import annotations

from io import BytesIO

from zactor.errors import ActorFailed, ActorStopped, AskTimeout, ConnectionLost, Corrupt, Failure, Overloaded
from zactor.message import Ref
from zactor.workload import Workload

from .client import FilesClient
from .messages import Abandon, Allocate, Begin, Commit, ListFolder, Lookup, NotFound, Remove, Renew

MAYBE = (ConnectionLost, AskTimeout, ActorFailed, ActorStopped, Overloaded)
"""Failures after which it may have happened all the same."""

CLIENTS_MAX = 64
LOOKS, LOOK_S = 10, 0.5
"""How often a file is looked at again that cannot be read."""

LARGE = 300_000
"""Bytes of which a large file has at least: more than one piece."""


def content_of(size: int) -> bytes:
    """The bytes of the put of that size."""
    word = (size * 2_654_435_761 & 0xFFFFFFFF).to_bytes(4, "little")
    return (word * (size // 4 + 1))[:size]


class FilesWorkload(Workload):
    """One user of `files` files below `/shared`. Between two operations it rests up to `rest_ms`."""

    metadata: Ref[Begin | Allocate | Renew | Commit | Abandon | Lookup | ListFolder | Remove]
    files: int = 5
    rest_ms: int = 100

    model = "kv"

    _puts = 0

    async def run(self) -> None:
        """Mostly put and get, sometimes list and remove."""
        users = FilesClient(self, self.metadata)
        while True:
            dice = self.rng.getrandbits(8)
            path = f"/shared/{self.rng.getrandbits(16) % self.files}"
            if dice < 90:
                await self._put(users, path)
            elif dice < 190:
                await self._get(users, path)
            elif dice < 230:
                await self._list(users)
            else:
                await self._remove(users, path)
            await self.sleep((self.rng.getrandbits(16) * self.rest_ms >> 16) / 1000)

    async def _put(self, users: FilesClient, path: str) -> None:
        self._puts += 1
        large = LARGE if self.rng.getrandbits(6) == 0 else 0
        size = self._puts * CLIENTS_MAX + self.number + large
        operation = self.invoke("put", size, key=path)
        try:
            await users.put(BytesIO(content_of(size)), path, size=size)
        except MAYBE as error:
            self.unknown(operation, error)
        except Failure as error:
            self.failed(operation, error)
        else:
            self.answered(operation)

    async def _get(self, users: FilesClient, path: str) -> None:
        operation = self.invoke("get", key=path)
        sink = BytesIO()
        try:
            await users.get(path, sink)
        except NotFound:
            self.answered(operation, None)
        except Corrupt as error:
            self.failed(operation, error)
            await self._look_again(users, path, str(error))
        except Failure as error:
            self.failed(operation, error)
        else:
            content = sink.getvalue()
            if content != content_of(len(content)):
                self.bad_answer(f"{path}: {len(content)} bytes that nobody put")
            self.answered(operation, len(content))

    async def _look_again(self, users: FilesClient, path: str, because: str) -> None:
        """A disk may err once; a file that stays unreadable is lost."""
        for _ in range(LOOKS):
            await self.sleep(LOOK_S)
            try:
                await users.get(path, BytesIO())
            except Corrupt as error:
                if str(error) != because:
                    return
            except Failure:
                return
            else:
                return
        self.bad_answer(f"{path} is lost: {because}")

    async def _list(self, users: FilesClient) -> None:
        """One answer says of every file whether it is there, and which one."""
        operations = {f"/shared/{index}": self.invoke("get", key=f"/shared/{index}") for index in range(self.files)}
        try:
            found = {f"/shared/{item.name}": item.size async for item in users.list("/shared")}
        except NotFound:
            found = {}
        except Failure as error:
            for operation in operations.values():
                self.failed(operation, error)
            return
        for path, operation in operations.items():
            self.answered(operation, found.get(path))

    async def _remove(self, users: FilesClient, path: str) -> None:
        operation = self.invoke("delete", key=path)
        try:
            await users.remove(path)
        except MAYBE as error:
            self.unknown(operation, error)
        except Failure as error:
            self.failed(operation, error)
        else:
            self.answered(operation)
