"""Puts and gets while chance loses messages and answers, and kills servers: whole or not at all, and on all copies."""

from __future__ import annotations

import asyncio
import random
from io import BytesIO
from typing import Any

import pytest

from nodes.files.client import FilesClient
from nodes.files.messages import NotFound
from tests.nodes.files.standins import Cluster
from zactor.errors import AskTimeout, ConnectionLost, Failure
from zactor.message import Message, Ref
from zactor.replication.messages import Submit

SIZES = (0, 10, 60_000, 70_000, 300_000, 900_000)
OPERATIONS = 12
PATHS = ("/a", "/b")


class Weather:
    """What goes wrong, drawn by lot: a message in `calm` is lost, or its answer, or its server dies for a while."""

    def __init__(self, cluster: Cluster, rng: random.Random, calm: int) -> None:
        self.cluster = cluster
        self.rng = rng
        self.calm = calm
        self.back_ns: dict[str, int] = {}
        self.hits = 0
        cluster.before, cluster.after = self.before, self.after

    def before(self, server: str, message: Message[Any]) -> None:
        for name, at_ns in list(self.back_ns.items()):
            if self.cluster.time_ns >= at_ns:
                del self.back_ns[name]
                self.cluster.restart(name, with_disk=self.rng.random() < 0.7)
        if not self._strikes():
            return
        if server in self.cluster.servers and self.rng.random() < 0.5:
            self.cluster.kill(server, is_known=self.rng.random() < 0.5)
            self.back_ns[server] = self.cluster.time_ns + int(self.rng.uniform(0.1, 8) * 1e9)
        elif isinstance(message, Submit) and self.rng.random() < 0.1:
            self.cluster.end_sessions()
        else:
            raise self._loss()

    def after(self, _server: str, _message: Message[Any]) -> None:
        if self._strikes():
            raise self._loss()

    def clear_up(self) -> None:
        self.calm = 0
        for name in list(self.back_ns):
            self.cluster.restart(name)
        self.back_ns.clear()

    def _strikes(self) -> bool:
        strikes = self.calm > 0 and self.rng.randrange(self.calm) == 0
        self.hits += strikes
        return strikes

    def _loss(self) -> Failure:
        return self.rng.choice((ConnectionLost("it died"), AskTimeout("no answer")))


@pytest.mark.parametrize("seed", range(40))
def test_what_was_put_is_there_whatever_was_lost(seed: int) -> None:
    asyncio.run(play(seed))


async def play(seed: int) -> int:
    rng = random.Random(seed)
    copies = rng.choice((1, 2, 2, 3))
    cluster = Cluster(servers=4, copies=copies, chunk_size=256 << 10)
    weather = Weather(cluster, rng, calm=rng.choice((8, 15, 40, 100)))
    files = FilesClient(cluster, Ref("metadata"))
    may_be: dict[str, list[bytes | None]] = {path: [None] for path in PATHS}
    for number in range(OPERATIONS):
        path = rng.choice(PATHS)
        content = rng.randbytes(rng.choice(SIZES)) + bytes([number])
        source: Any = BytesIO(content) if rng.random() < 0.7 else [content[:100_000], content[100_000:]]
        try:
            await files.put(source, path, size=len(content) if rng.random() < 0.5 else None)
            may_be[path] = [content]
        except Failure:
            may_be[path].append(content)
        try:
            found = await files.read(path)
        except NotFound:
            assert None in may_be[path]
            may_be[path] = [None]
        except Failure:
            continue
        else:
            assert found in may_be[path]
            may_be[path] = [found]
    weather.clear_up()
    await check(cluster, files, may_be, copies)
    return weather.hits


async def check(cluster: Cluster, files: FilesClient, may_be: dict[str, list[bytes | None]], copies: int) -> None:
    for path, contents in may_be.items():
        if contents == [None]:
            continue
        try:
            found: bytes | None = await files.read(path)
        except NotFound:
            found = None
        assert found in contents
        if found is not None:
            for chunk in (await files.content(path)).chunks:
                assert len(set(chunk.servers)) == copies
                assert set((await files.held(chunk)).values()) == {chunk.crc}
    await files.close()
    assert [server.reserved for server in (await FilesClient(cluster, Ref("metadata")).space()).servers] == [0] * 4
