"""A program outside joins a running topology: it asks by name, and neither side suffers when the other goes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tests.live.running import PATIENCE_S, Launched, eventually_in_loop, kind, word
from zactor.actor import Actor, Down, Up, on
from zactor.client import NOTICES_MAX, AsyncClient, AsyncWatch
from zactor.errors import ActorFailed, ActorStopped, AskTimeout, ConnectionLost, UserError
from zactor.launchers.folders import Home, NotRunning
from zactor.live.world import Book, BookEntry, LiveWorld
from zactor.message import Message, Ref
from zactor.neighbours import CLIENTS_MAX

pytestmark = pytest.mark.live

ECHO = f"name: echo\nnodes:\n  echo: {{kind: {kind('Echo')}}}\n"

STUBBORN_CLIENT = """\
import asyncio, os, signal, sys
from pathlib import Path
from zactor import registry
from zactor.client import AsyncClient

async def main():
    module = sys.modules[registry.find(sys.argv[2] + ":Echo", Path("/")).__module__]
    async with AsyncClient(Path(sys.argv[1])) as client:
        client.ask("echo", module.Say(text="x"))
        await client.ask("echo", module.Say(text="x"))
        client.ask("echo", module.Say(text="x"))
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


class Greet(Message[str]):
    name: str


class Wait(Message[None]):
    pass


class Fail(Message[None]):
    pass


class Server(Actor):
    @on
    def greet(self, message: Greet) -> str:
        return f"Hello, {message.name}!"

    @on(interleave=True)
    async def wait(self, message: Wait) -> None:
        await self.sleep(3600)

    @on
    def fail(self, message: Fail) -> None:
        raise RuntimeError("on purpose")


class Service:
    """A server in this process's loop, and the book that leads to it."""

    def __init__(self, folder: Path, runtime: Path, run: str) -> None:
        self.world = LiveWorld("server", number=1, incarnation=1, run=run)
        self.path = folder / "book.json"
        self.world.kernel.life.add("server", Server)
        self.entry = BookEntry(1, 1, self.world.bind(f"ipc://{runtime / 'client-server'}"))
        self.write(1, run)
        self.world.use_book(msgspec.json.decode(self.path.read_bytes(), type=Book))
        self.world.kernel.life.start()

    def write(self, version: int, run: str) -> None:
        processes = {"server": self.entry, "absent": BookEntry(2, 1)}
        nodes = {"server": "server", "lost": "absent", "many/0": "absent", "many/1": "absent"}
        self.path.write_bytes(msgspec.json.encode(Book(version, run, nodes, processes)))


@asynccontextmanager
async def service(folder: Path, runtime: Path, run: str = "r") -> AsyncIterator[Service]:
    made = Service(folder, runtime, run)
    try:
        yield made
    finally:
        await made.world.close()


def test_a_client_asks_a_node_by_its_name(tmp_path: Path, runtime: Path) -> None:
    async def main() -> str:
        async with service(tmp_path, runtime) as made, AsyncClient(made.path) as client:
            return await client.ask("server", Greet(name="world"))

    assert asyncio.run(main()) == "Hello, world!"


def test_a_node_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made, AsyncClient(made.path) as client:
            with pytest.raises(
                UserError,
                match=r"no node 'serber'\. Did you mean 'server'\? The nodes are lost, many/0, many/1, server",
            ):
                client.ask("serber", Greet(name="x"))
            with pytest.raises(UserError, match="'many' is 2 nodes: many/0, many/1; say which one"):
                client.send("many", Greet(name="x"))
            with pytest.raises(UserError, match="no process 'serber'; the processes are absent, server"):
                client.inspect("serber")

    asyncio.run(main())


def test_an_actor_below_a_node_that_does_not_exist_is_a_failure_of_the_ask(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made, AsyncClient(made.path) as client:
            with pytest.raises(ActorStopped, match="server/child"):
                await client.ask(Ref("server/child"), Greet(name="x"))

    asyncio.run(main())


def test_a_failure_that_nobody_awaits_is_not_printed(tmp_path: Path, runtime: Path) -> None:
    said: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context["message"]))
        async with service(tmp_path, runtime) as made, AsyncClient(made.path) as client:
            client.ask(Ref("server/child"), Greet(name="x"))
            with pytest.raises(ActorStopped):
                await client.ask(Ref("server/child"), Greet(name="x"))

    asyncio.run(main())
    gc.collect()
    assert said == []


def test_an_ask_for_a_process_that_is_not_running_ends_with_its_deadline(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made, AsyncClient(made.path) as client:
            with pytest.raises((AskTimeout, ConnectionLost)):
                await client.ask("lost", Greet(name="x"), 0.05)

    asyncio.run(main())


def test_asks_that_are_pending_when_a_client_is_closed_fail_at_once(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made:
            async with AsyncClient(made.path) as client:
                pending = [client.ask("server", Wait(), 3600.0) for _ in range(3)]
                await client.ask("server", Greet(name="x"))
            for each in pending:
                with pytest.raises(ActorStopped, match="the client was closed"):
                    await asyncio.wait_for(each, PATIENCE_S)

    asyncio.run(main())


def test_a_node_forgets_a_client_that_said_goodbye(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made:
            async with AsyncClient(made.path) as client:
                await client.ask("server", Greet(name="x"))
                assert any(name.startswith("@") for name in made.world.kernel.neighbours.peers)
            peers = made.world.kernel.neighbours.peers
            await eventually_in_loop(lambda: not any(name.startswith("@") for name in peers))
            await eventually_in_loop(lambda: not made.world.sockets._clients)

    asyncio.run(main())


def test_a_client_that_was_cut_off_and_forgotten_hears_so_once_and_is_answered_again(
    tmp_path: Path, runtime: Path
) -> None:
    async def main() -> str:
        async with service(tmp_path, runtime) as made, AsyncClient(made.path) as client:
            await client.ask("server", Greet(name="x"))
            (name,) = (name for name in made.world.kernel.neighbours.peers if name.startswith("@"))
            made.world.kernel.neighbours.lost(made.world.kernel.neighbours.peers[name], "its connection broke")

            with pytest.raises(ConnectionLost, match="server lost its connection to us"):
                await client.ask("server", Greet(name="x"))
            return await client.ask("server", Greet(name="again"))

    assert asyncio.run(main()) == "Hello, again!"


def test_more_clients_come_and_go_than_a_node_has_room_for_at_once(tmp_path: Path, runtime: Path) -> None:
    async def main() -> int:
        answered = 0
        async with service(tmp_path, runtime) as made:
            for number in range(CLIENTS_MAX + 100):
                async with AsyncClient(made.path) as client:
                    answered += await client.ask("server", Greet(name=str(number))) == f"Hello, {number}!"
        return answered

    assert asyncio.run(main()) == CLIENTS_MAX + 100


def test_clients_that_went_without_a_goodbye_make_room_for_others(
    tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zactor.neighbours.CLIENTS_MAX", 4)  # with the process itself that no client is

    async def main() -> str:
        async with service(tmp_path, runtime) as made:
            peers = made.world.kernel.neighbours.peers
            async with contextlib.AsyncExitStack() as others:
                while len(peers) < 4:
                    other = await others.enter_async_context(AsyncClient(made.path))
                    assert await other.ask("server", Greet(name="x")) == "Hello, x!"
                async with AsyncClient(made.path) as client:
                    with pytest.raises(ConnectionLost, match="no room for more clients"):
                        await client.ask("server", Greet(name="x"))
                assert other._joined is not None
                other._joined.kernel.neighbours.peers.clear()  # it cannot say goodbye
            await eventually_in_loop(lambda: len(peers) < 4)
            async with AsyncClient(made.path) as client:
                return await client.ask("server", Greet(name="last"))

    assert asyncio.run(main()) == "Hello, last!"


def test_many_clients_ask_at_once(tmp_path: Path, runtime: Path) -> None:
    async def one(path: Path, number: int) -> list[str]:
        async with AsyncClient(path) as client:
            asks = [client.ask("server", Greet(name=f"{number}.{index}")) for index in range(50)]
            return list(await asyncio.gather(*asks))

    async def main() -> list[list[str]]:
        async with service(tmp_path, runtime) as made:
            return await asyncio.gather(*(one(made.path, number) for number in range(50)))

    answers = asyncio.run(main())

    assert answers == [[f"Hello, {number}.{index}!" for index in range(50)] for number in range(50)]


def test_a_client_of_another_run_is_refused_with_the_reason(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made:
            made.write(2, run="another")
            async with AsyncClient(made.path) as client:
                with pytest.raises(ConnectionLost, match="this is server of run r"):
                    await client.ask("server", Greet(name="x"))

    asyncio.run(main())


def test_a_client_finds_a_process_that_restarts_meanwhile(tmp_path: Path) -> None:
    async def main() -> tuple[int, int]:
        async with launched.client() as client:
            first = await client.ask("echo", word("Pid")())
            os.kill(first, signal.SIGKILL)
            await eventually_in_loop(lambda: client.book.processes["echo"].incarnation == 2)
            await eventually_in_loop(lambda: client.book.processes["echo"].endpoint)
            return first, await client.ask("echo", word("Pid")(), PATIENCE_S)

    with Launched(tmp_path, ECHO) as launched:
        launched.ready()
        first, second = asyncio.run(main())

    assert first != second


def test_a_client_that_is_killed_does_not_disturb_the_node(tmp_path: Path) -> None:
    async def main() -> tuple[str, int]:
        async with launched.client() as client:
            text = await client.ask("echo", word("Say")(text="still here"))
            return text, (await client.inspect("echo"))["incarnation"]

    with Launched(tmp_path, ECHO) as launched:
        launched.ready()
        actors = kind("Echo").strip("'").partition(":")[0]
        for _ in range(3):
            arguments = [sys.executable, "-P", "-c", STUBBORN_CLIENT, str(launched.run_folder() / "book.json"), actors]
            killed = subprocess.run(arguments, timeout=PATIENCE_S, capture_output=True, text=True)
            assert killed.returncode == -signal.SIGKILL, killed.stderr

        assert asyncio.run(main()) == ("still here", 1)


# --- what is asked, and what is not waited for any more
def test_nodes_are_found_by_name_and_by_pattern(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made, AsyncClient(made.path) as client:
            assert client.names() == ["server", "lost", "many/0", "many/1"]
            assert client.names("many") == client.names("many/*") == ["many/0", "many/1"]
            assert client.names("server") == ["server"]
            with pytest.raises(UserError, match="no node is like 'man'; the nodes are lost, many/0, many/1, server"):
                client.names("man")

    asyncio.run(main())


def test_what_is_no_message_is_refused_before_it_is_sent(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made, AsyncClient(made.path) as client:
            with pytest.raises(TypeError, match="'hello' is no message; make one, such as Greet"):
                client.ask("server", "hello")  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="Greet'> is no message"):
                client.ask("server", Greet)  # type: ignore[arg-type]

    asyncio.run(main())


def test_a_ref_that_another_client_used_is_as_good_as_its_name(tmp_path: Path, runtime: Path) -> None:
    async def main() -> str:
        ref: Ref[Greet] = Ref("server")
        async with service(tmp_path, runtime) as made:
            async with AsyncClient(made.path) as client:
                await client.ask(ref, Greet(name="first"))
            async with AsyncClient(made.path) as client:
                return await client.ask(ref, Greet(name="second"))

    assert asyncio.run(main()) == "Hello, second!"


def test_an_ask_whose_future_is_cancelled_ends_where_it_is_served(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made, AsyncClient(made.path) as client:
            waiting = asyncio.ensure_future(client.ask("server", Wait(), 3600.0))
            await eventually_in_loop(lambda: made.world.kernel.serving)
            waiting.cancel()

            await eventually_in_loop(lambda: not made.world.kernel.serving)
            assert client._joined is not None
            assert client._joined.kernel.pending == {}
            assert await client.ask("server", Greet(name="next")) == "Hello, next!"

    asyncio.run(main())


def test_several_tasks_await_what_was_asked_once_and_one_of_them_is_cancelled(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made, AsyncClient(made.path) as client:
            server = client.ref("server")
            asked = client.ask_soon(lambda: (server, Greet(name="all")))

            async def wait() -> str:
                return await asked

            first, second, third = (asyncio.ensure_future(wait()) for _ in range(3))
            await asyncio.sleep(0)
            second.cancel()

            assert (await first, await third, await wait()) == ("Hello, all!",) * 3
            with pytest.raises(asyncio.CancelledError):
                await second

    asyncio.run(main())


def test_what_was_to_be_asked_soon_fails_when_the_client_is_closed(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made:
            async with AsyncClient(made.path) as client:
                server = client.ref("server")
                asked = client.ask_soon(lambda: (server, Wait()))

                async def wait() -> None:
                    await asked

                waiting = asyncio.ensure_future(wait())
                await asyncio.sleep(0)
            with pytest.raises(ActorStopped, match="the client was closed"):
                await waiting

    asyncio.run(main())


def test_an_ask_that_never_left_is_forgotten_when_it_is_cancelled(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made, AsyncClient(made.path) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await client.ask("lost", Greet(name="x"), 3600.0)
            assert client._joined is not None
            kernel = client._joined.kernel
            await eventually_in_loop(lambda: not kernel.pending)

    asyncio.run(main())


def test_what_was_sent_leaves_before_the_client_does(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made:
            handled = made.world.kernel.handled
            async with AsyncClient(made.path) as client:
                for number in range(1000):
                    await client.send("server", Greet(name=str(number)))
            await eventually_in_loop(lambda: made.world.kernel.handled == handled + 1000)

    asyncio.run(main())


def test_a_client_says_when_it_cannot_be_used(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made:
            client = AsyncClient(made.path)
            with pytest.raises(RuntimeError, match="not connected; use it as: async with"):
                client.ask("server", Greet(name="x"))
            async with client:
                with pytest.raises(RuntimeError, match="in the loop in which it was entered; other threads use a Clie"):
                    await asyncio.to_thread(client.ask, "server", Greet(name="x"))
            with pytest.raises(RuntimeError, match="the client was closed; make another one"):
                client.names()
            with pytest.raises(RuntimeError, match="entered before; make another one"):
                await client.__aenter__()
            await client.close()

    asyncio.run(main())


# --- watching
def test_whoever_watches_a_node_is_told_when_it_is_down_and_up(tmp_path: Path, runtime: Path) -> None:
    async def main() -> list[Down | Up]:
        async with service(tmp_path, runtime) as made, AsyncClient(made.path) as client:
            watch = client.watch("server")
            with pytest.raises(ActorFailed):
                await client.ask("server", Fail())
            return [await anext(watch), await anext(watch)]

    ref: Ref[object] = Ref("server")
    assert asyncio.run(main()) == [Down(ref=ref, reason="RuntimeError: on purpose", final=False), Up(ref=ref)]


def test_whoever_watches_a_node_that_is_down_is_told_so_each_time(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made, AsyncClient(made.path) as client:
            for watch in [client.watch("lost"), client.watch("lost")]:
                notice = await anext(watch)
                assert isinstance(notice, Down)
                assert (notice.ref.name, notice.reason) == ("lost", "absent is not running")

    asyncio.run(main())


def test_a_node_that_nobody_watches_any_more_is_not_watched(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made, AsyncClient(made.path) as client:
            watchers = made.world.kernel.neighbours.watchers
            watches = [client.watch("server"), client.watch("server")]
            await eventually_in_loop(lambda: watchers.get("server"))
            del watches[0]
            await client.ask("server", Greet(name="x"))
            assert watchers.get("server")
            watches.clear()
            await eventually_in_loop(lambda: not watchers.get("server"))
            assert client._watches == {}

    asyncio.run(main())


def test_a_watch_ends_with_its_client(tmp_path: Path, runtime: Path) -> None:
    async def main() -> list[Down | Up]:
        async with service(tmp_path, runtime) as made:
            async with AsyncClient(made.path) as client:
                watch = client.watch("server")
                told = asyncio.ensure_future(everything(watch))
                await client.ask("server", Greet(name="x"))
            return await told

    assert asyncio.run(main()) == []


def test_a_watch_that_is_not_read_keeps_the_last_notices_and_counts_the_others() -> None:
    async def main() -> tuple[int, list[str]]:
        watch = AsyncWatch()
        ref: Ref[object] = Ref("x")
        for number in range(NOTICES_MAX):
            watch._hear(Down(ref=ref, reason=str(number), final=False))
            watch._hear(Down(ref=ref, reason="told already", final=False))
            watch._hear(Up(ref=ref))
            watch._hear(Up(ref=ref))
        watch._end()
        return watch.missed, [notice.reason for notice in await everything(watch) if isinstance(notice, Down)]

    half = NOTICES_MAX // 2
    assert asyncio.run(main()) == (NOTICES_MAX, [str(number) for number in range(half, NOTICES_MAX)])


async def everything(watch: AsyncWatch) -> list[Down | Up]:
    return [notice async for notice in watch]


# --- from run to run
@asynccontextmanager
async def running(home: Home, run: str, runtime: Path) -> AsyncIterator[None]:
    """A run of a topology in this process."""
    home.make()
    home.acquire(run, f"{home.folder}.yaml")
    try:
        home.run_folder(run).mkdir(parents=True)
        async with service(home.run_folder(run), runtime, run):
            yield
    finally:
        home.release()


def test_a_client_goes_on_when_its_topology_is_started_again(tmp_path: Path, runtime: Path) -> None:
    home = Home(tmp_path / "again", "again")

    async def main() -> None:
        async with running(home, "first", runtime):
            client = await AsyncClient("again").__aenter__()
            watch = client.watch("server")
            waiting = client.ask("server", Wait(), 3600.0)
            await client.ask("server", Greet(name="x"))
        with pytest.raises(ConnectionLost, match=r"server: (again was stopped|the connection to server has ended)"):
            await waiting
        await eventually_in_loop(lambda: client._joined is not None and client._joined.is_over)
        for late in (client.ask("server", Greet(name="x"), 3600.0), client.send("server", Greet(name="x"), 3600.0)):
            with pytest.raises(ConnectionLost, match=r"server: (again was stopped|the connection to server has ended)"):
                await late

        async with running(home, "second", runtime):
            down = await anext(watch)
            if isinstance(down, Down) and not down.final:  # the connection ended before the book said so
                down = await anext(watch)
            assert down == Down(ref=Ref("server"), reason="again was stopped", final=True)
            assert await anext(watch) == Up(ref=Ref("server"))
            assert client.book.run == "second"
            assert await client.ask("server", Greet(name="again")) == "Hello, again!"
            assert client._retiring == set()
            await client.close()

    asyncio.run(main())


def test_a_client_that_was_given_one_run_stays_with_it(tmp_path: Path, runtime: Path) -> None:
    home = Home(tmp_path / "single", "single")

    async def main() -> None:
        async with running(home, "first", runtime):
            client = await AsyncClient(home.run_folder("first")).__aenter__()
        async with running(home, "second", runtime):
            client._look()
            assert client.book.run == "first"
            with pytest.raises((AskTimeout, ConnectionLost)):
                await client.ask("server", Greet(name="x"), 0.2)
            await client.close()

    asyncio.run(main())


def test_a_client_waits_for_a_topology_that_is_being_started(tmp_path: Path, runtime: Path) -> None:
    home = Home(tmp_path / "slow", "slow")

    async def main() -> str:
        home.make()
        home.acquire("run", "/slow.yaml")
        try:
            entering = asyncio.ensure_future(AsyncClient("slow").__aenter__())
            await asyncio.sleep(0)
            assert not entering.done()
            home.run_folder("run").mkdir(parents=True)
            async with service(home.run_folder("run"), runtime, "run"):
                client = await entering
                answer = await client.ask("server", Greet(name="x"))
                await client.close()
                return answer
        finally:
            home.release()

    assert asyncio.run(main()) == "Hello, x!"


def test_a_client_is_told_when_the_topology_that_it_waits_for_does_not_come_up(tmp_path: Path, runtime: Path) -> None:
    home = Home(tmp_path / "stillborn", "stillborn")

    async def main() -> None:
        home.make()
        home.acquire("run", "/stillborn.yaml")
        entering = asyncio.ensure_future(AsyncClient("stillborn").__aenter__())
        await asyncio.sleep(0)
        home.release()
        with pytest.raises(NotRunning, match="stillborn was stopped before its processes were there"):
            await entering

    asyncio.run(main())


def test_a_book_that_cannot_be_read_is_said_to_whoever_asks(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made, AsyncClient(made.path) as client:
            waiting = client.ask("server", Wait(), 3600.0)
            made.path.write_text("{}")
            with pytest.raises(ConnectionLost, match=r"missing required field.*another version of zactor"):
                await waiting
            with pytest.raises(UserError, match=r"missing required field.*another version of zactor"):
                await AsyncClient(made.path).__aenter__()
            made.write(2, "r")
            await eventually_in_loop(lambda: client.book.version == 2)
            assert await client.ask("server", Greet(name="x")) == "Hello, x!"

    asyncio.run(main())
