"""The world in which everything can go wrong."""

from __future__ import annotations

import random
import time
import uuid
from pathlib import Path

import pytest

from zactor.actor import Actor, Down, Up, on
from zactor.errors import AskTimeout, ConnectionLost, Failure
from zactor.message import Message, Ref
from zactor.sim.escapes import SimulationEscape
from zactor.testing import Simulated


class Put(Message[None]):
    value: int
    durable: bool = True


class Get(Message[int]):
    pass


class Escape(Message[None]):
    way: str


class Fetch(Message[str]):
    pass


class Again(Message[None]):
    pass


class Store(Actor):
    """A number on a disk."""

    async def on_start(self) -> None:
        self.value = int.from_bytes(await self.disk.read("value"), "little")
        await self.disk.sync_folder()

    @on
    async def put(self, message: Put) -> None:
        await self.disk.write("value", 0, message.value.to_bytes(8, "little"))
        if message.durable:
            await self.disk.synced()
            await self.disk.sync_folder()
        self.value = message.value

    @on
    def get(self, message: Get) -> int:
        return self.value

    @on
    def escape(self, message: Escape) -> None:
        try:
            match message.way:
                case "time":
                    time.time()
                case "random":
                    random.random()
                case "uuid":
                    uuid.uuid4()
                case "open":
                    open(__file__).close()
        except SimulationEscape:
            self.log.info("caught")

    @on
    async def fetch(self, message: Fetch) -> str:
        return await self.call(fetched, 1)

    @on
    def again(self, message: Again) -> None:
        self.tell(self.ref, Again())


async def fetched(number: int) -> str:
    raise AssertionError("it would reach for the network")


class Client(Actor):
    """Reads at once, and each second again."""

    store: Ref[Get]

    async def on_start(self) -> None:
        self.reads = self.failures = 0
        self.after(1.0, Again())

    @on
    async def again(self, message: Again) -> None:
        try:
            await self.ask(self.store, Get(), timeout_s=0.5)
            self.reads += 1
        except Failure:
            self.failures += 1
        self.after(1.0, Again())


def test_what_is_killed_comes_again_with_its_disk(simulated: Simulated) -> None:
    probe = simulated.probe()
    store = simulated.add("store", Store)
    simulated.ask(store, Put(value=7))
    probe.watch(store)
    simulated.settle()

    simulated.kill(store)

    probe.expect(Down)
    probe.expect(Up)
    simulated.settle()  # clients, such as the test, learn a little later where it is now
    assert simulated.ask(store, Get()) == 7


def test_what_was_not_synced_is_lost_with_the_power(simulated: Simulated) -> None:
    store = simulated.add("store", Store)
    simulated.ask(store, Put(value=7))
    simulated.ask(store, Put(value=9, durable=False))

    simulated.kill(store)
    simulated.settle()
    assert simulated.ask(store, Get()) == 9

    simulated.power(store)
    simulated.settle()
    assert simulated.ask(store, Get()) in (7, 9)


def test_what_is_to_stay_away_does(simulated: Simulated) -> None:
    probe = simulated.probe()
    store = simulated.add("store", Store)
    probe.watch(store)
    simulated.settle()

    simulated.kill(store, stay=True)
    probe.expect(Down)
    probe.expect_nothing(within=100.0)
    simulated.start(store)

    probe.expect(Up)


def test_an_ask_under_way_fails_with_its_target(simulated: Simulated) -> None:
    store = simulated.add("store", Store)
    simulated.settle()
    answer = simulated.start_ask(store, Get())

    simulated.kill(store)

    with pytest.raises(ConnectionLost):
        answer.result()


def test_a_partition_lasts_until_it_is_healed(simulated: Simulated) -> None:
    store = simulated.add("store", Store)
    client = simulated.add("client", Client, store=store)
    simulated.run(10.0)
    assert simulated.actor(client).reads >= 8

    simulated.partition(store, client)
    failures, reads = simulated.actor(client).failures, simulated.actor(client).reads
    simulated.run(10.0)
    assert simulated.actor(client).failures > failures
    assert simulated.actor(client).reads == reads
    assert simulated.ask(store, Get()) == 0

    simulated.heal()
    simulated.run(10.0)
    assert simulated.actor(client).reads > reads


def test_the_paused_say_nothing_until_they_go_on(simulated: Simulated) -> None:
    store = simulated.add("store", Store)
    simulated.settle()

    simulated.pause(store)
    with pytest.raises(AskTimeout):
        simulated.ask(store, Get(), timeout_s=1.0)
    simulated.resume(store)

    assert simulated.ask(store, Get()) == 0


def test_after_any_trouble_that_a_seed_draws_it_works(simulated: Simulated) -> None:
    store = simulated.add("store", Store)
    client = simulated.add("client", Client, store=store)

    simulated.trouble(20.0)
    simulated.run(20.0)
    simulated.heal()
    simulated.settle()
    reads = simulated.actor(client).reads
    simulated.until(lambda: simulated.actor(client).reads > reads, within=30.0)

    assert simulated.faults


@pytest.mark.parametrize("way", ["time", "random", "uuid", "open"])
def test_whoever_reaches_past_the_door_is_found(simulated: Simulated, way: str) -> None:
    store = simulated.add("store", Store)

    with pytest.raises(SimulationEscape, match=rf"{__file__}:\d+: .*{way[:4] if way != 'uuid' else 'urandom'}"):
        simulated.ask(store, Escape(way=way))

    assert time.time() > 0, "the test itself may do as it likes"


def test_a_coroutine_of_a_library_has_a_stand_in(simulated: Simulated) -> None:
    store = simulated.add("store", Store)
    simulated.stand_ins[fetched] = lambda number: f"page {number}"

    assert simulated.ask(store, Fetch()) == "page 1"


def test_a_storm_is_no_rest(simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zactor.testing.stage.STORM_INPUTS", 10_000)
    store = simulated.add("store", Store)
    simulated.tell(store, Again())

    with pytest.raises(AssertionError, match=r"storm.*busiest: store \("):
        simulated.settle()


def story_of(seed: int) -> tuple[str, str]:
    with Simulated(seed) as stage:
        stage.add("store", Store)
        stage.add("client", Client, store="store")
        stage.trouble(5.0)
        stage.run(5.0)
        return stage.trace, stage.story()


def test_the_same_seed_is_the_same_run() -> None:
    assert story_of(5) == story_of(5)
    assert story_of(5) != story_of(6)


def test_mistakes_are_named(simulated: Simulated) -> None:
    simulated.add("store", Store)

    with pytest.raises(ValueError, match=r"no node 'stor'. Did you mean 'store'"):
        simulated.kill("stor")
    with pytest.raises(ValueError, match=r"no fault 'kil'. Did you mean 'kill'"):
        simulated.do("kil", "store")
    with pytest.raises(ValueError, match=r"partition is done between nodes: name others"):
        simulated.do("partition", "store")
    with pytest.raises(ValueError, match="kill is done to nodes: leave others out"):
        simulated.do("kill", "store", others=("*",))
    simulated.kill("store", stay=True)
    with pytest.raises(ValueError, match="kill store: nothing was done"):
        simulated.kill("store")
    with pytest.raises(ValueError, match="an actor 'store' already"):
        simulated.add("store", Store)


@pytest.mark.parametrize("seed", range(1, 13))
def test_a_topology_has_come_up_when_it_is_settled(seed: int) -> None:
    with Simulated(seed) as simulated:
        simulated.add_topology(Path(__file__).parents[2] / "configs" / "quickstart.yaml")
        simulated.settle()

        assert [fields["text"] for fields in simulated.logged("greeted", "caller")] == ["Hello, world!"]


def failing() -> None:
    with Simulated(3) as stage:
        stage.ask(stage.add("store", Store), Put(value=1))
        stage.probe().expect(Get, within=1.0)


def test_without_the_fixture_a_failure_has_the_story_as_a_note() -> None:
    with pytest.raises(AssertionError) as failure:
        failing()

    assert "store  <- Put(value=1, durable=True) from @test" in failure.value.__notes__[0]
