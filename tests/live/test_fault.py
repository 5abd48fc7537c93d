"""What a process bears that is cut off, slowed and skewed: both sides find out, and nothing hangs when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.live.running import PATIENCE_S, eventually_in_loop, kind, word
from zactor.client import AsyncClient
from zactor.errors import ActorFailed, AskTimeout, ConnectionLost, Failure
from zactor.launchers.control import fault_of
from zactor.launchers.folders import Home
from zactor.launchers.local import Local
from zactor.launchers.run import Run
from zactor.live.faults import ProcessFault
from zactor.live.world import LiveWorld
from zactor.topology import read
from zactor.world import Append, Size, Sync

pytestmark = pytest.mark.live

TOPOLOGY = f"""\
name: faulty
peer_timeout: 500ms
nodes:
  front: {{kind: {kind("Front")}, links: {{echo: echo}}}}
  echo: {{kind: {kind("Echo")}, restart: {{backoff: 10ms..10ms}}}}
"""
SILENCE_S = 0.1


class Stage:
    """The topology while it runs, and a client of it."""

    def __init__(self, run: Run, client: AsyncClient, folder: Path) -> None:
        self.run = run
        self._client = client
        self._folder = folder

    def say(self, node: str, timeout_s: float = PATIENCE_S) -> Awaitable[str]:
        """Ask the echo, or the front of it."""
        return self._client.ask(node, word("Say")(text="hello"), timeout_s)

    async def again(self, node: str) -> None:
        """It answers again. Who asks at once may be the one by whom its connection is found to be lost."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(Failure):
                    assert await self.say(node) == "hello"
                    return

    async def handled(self) -> int:
        """How many messages the echo has handled."""
        (actor,) = (await self._client.inspect("echo"))["actors"]
        return int(actor["handled"])

    async def cut(self, *others: str, for_s: float = 0.0, **ways: bool) -> None:
        """Cut the echo off."""
        fault = fault_of(self.run, "cut", ["echo"], others, **ways)
        assert not (await self.run.begin_fault(fault, ["echo"], for_s, PATIENCE_S, "a test")).failed

    async def heal(self) -> None:
        assert not (await self.run.end_faults(["echo"], None, PATIENCE_S, "a test")).failed

    def logged(self, process: str, event: str) -> list[dict[str, Any]]:
        lines = map(json.loads, (self._folder / f"{process}.jsonl").read_text().splitlines())
        return [line for line in lines if line["event"] == event]


def staged(folder: Path, scenario: Callable[[Stage], Awaitable[None]]) -> None:
    file = folder / "topology.yaml"
    file.write_text(TOPOLOGY)
    topology = read.load(file)
    home = Home(folder / "home", topology.name)
    home.make()
    run_id = home.new_run()
    home.acquire(run_id, topology.file)

    async def main() -> None:
        run = Run(topology, home, run_id, Local(), lambda *_news: None)
        try:
            await run.start()
            async with AsyncClient(home.run_folder(run_id) / "book.json") as client:
                stage = Stage(run, client, home.run_folder(run_id))
                assert [await stage.say(node) for node in ("echo", "front")] == ["hello", "hello"]
                await scenario(stage)
        finally:
            await run.stop()
            home.release()

    asyncio.run(main())


def test_who_is_cut_off_from_all_is_lost_to_all_and_found_again(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.cut("*")
        asking = asyncio.ensure_future(stage.say("front"))
        with pytest.raises((AskTimeout, ConnectionLost)):
            await stage.say("echo", SILENCE_S)
        with pytest.raises(ActorFailed, match="ConnectionLost: echo"):
            await asking
        await eventually_in_loop(lambda: stage.logged("front", "peer_lost") and stage.logged("echo", "peer_lost"))

        await stage.heal()

        await stage.again("echo")
        await stage.again("front")
        assert [line["because"] for line in stage.logged("echo", "fault_begun")] == ["a test"]
        assert [line["fault"] for line in stage.logged("echo", "fault_ended")] == ["cut off from all others"]

    staged(tmp_path, scenario)


def test_a_cut_from_some_is_none_from_others_and_what_it_lost_does_not_hang_afterwards(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.cut("front", into=False)
        asking = asyncio.ensure_future(stage.say("front"))
        assert await stage.say("echo") == "hello"
        while await stage.handled() < 4:  # noqa: ASYNC110 - its answer to the front is lost then
            await asyncio.sleep(0)

        await stage.heal()

        with pytest.raises(ActorFailed, match="ConnectionLost: echo"):  # long before its time is up
            await asking
        await stage.again("front")

    staged(tmp_path, scenario)


def test_what_is_slowed_is_late_and_none_of_it_is_lost_when_that_ends(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        late = fault_of(stage.run, "slow", ["echo"], ["*"], 30_000_000)
        asking = []
        for _ in range(3):
            await stage.run.begin_fault(late, ["echo"], 0.0, PATIENCE_S, "a test")
            asking += [asyncio.ensure_future(stage.say(node)) for node in ("echo", "front") * 10]
            await stage.say("echo")
            asking += [asyncio.ensure_future(stage.say(node)) for node in ("echo", "front") * 10]
            await stage.heal()
            asking += [asyncio.ensure_future(stage.say(node)) for node in ("echo", "front") * 10]

        assert await asyncio.gather(*asking) == ["hello"] * 180
        assert not stage.logged("echo", "peer_lost")

    staged(tmp_path, scenario)


def test_a_process_that_is_started_again_is_still_cut_off(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.cut("*")
        await stage.run.kill_nodes(["echo"], "killed", PATIENCE_S)
        await eventually_in_loop(lambda: stage.run.nodes["echo"].state == "ready")

        with pytest.raises((AskTimeout, ConnectionLost)):
            await stage.say("echo", SILENCE_S)
        await stage.heal()

        await stage.again("echo")

    staged(tmp_path, scenario)


def test_a_slow_sync_ends_after_what_was_begun_later_and_a_skewed_clock_is_ahead(tmp_path: Path) -> None:
    done: list[int] = []

    def complete(token: int, value: object, error: BaseException | None) -> None:
        done.append(token)

    async def main() -> None:
        world = LiveWorld("p", number=1, incarnation=1, run="r", state=tmp_path)
        world.kernel.complete = complete
        hour_ns = 3600 * 10**9
        faults = (ProcessFault(1, "slow_disk", by_ns=20_000_000), ProcessFault(2, "skew", by_ns=hour_ns))

        world.use_faults(faults, "a test")
        world.begin(1, Append("n", "f", b"x"))
        world.begin(2, Sync("n", ("f",)))
        world.begin(3, Size("n", "f"))
        await eventually_in_loop(lambda: len(done) == 3)
        assert world.wall_ns() > time.time_ns() + hour_ns // 2

        world.use_faults((), "enough")
        assert world.wall_ns() < time.time_ns() + hour_ns // 2
        await world.close()

    asyncio.run(main())
    assert done == [1, 3, 2]
