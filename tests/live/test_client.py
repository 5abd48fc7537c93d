"""A program outside joins a running topology: it asks by name, and neither side suffers when the other goes."""

from __future__ import annotations

import asyncio
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
from zactor.actor import Actor, on
from zactor.errors import ActorStopped, AskTimeout, ConnectionLost, UserError
from zactor.live.client import Client
from zactor.live.world import Book, BookEntry, LiveWorld
from zactor.message import Message
from zactor.neighbours import CLIENTS_MAX

pytestmark = pytest.mark.live

ECHO = f"name: echo\nnodes:\n  echo: {{kind: {kind('Echo')}}}\n"

STUBBORN_CLIENT = """\
import asyncio, os, signal, sys
from pathlib import Path
from zactor import registry
from zactor.live.client import Client

async def main():
    module = sys.modules[registry.find(sys.argv[2] + ":Echo", Path("/")).__module__]
    async with Client(Path(sys.argv[1])) as client:
        client.ask(client.ref("echo"), module.Say(text="x"))
        await client.ask(client.ref("echo"), module.Say(text="x"))
        client.ask(client.ref("echo"), module.Say(text="x"))
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


class Greet(Message[str]):
    name: str


class Wait(Message[None]):
    pass


class Server(Actor):
    @on
    def greet(self, message: Greet) -> str:
        return f"Hello, {message.name}!"

    @on(interleave=True)
    async def wait(self, message: Wait) -> None:
        await self.sleep(3600)


class Service:
    """A server in this process's loop, and the book that leads to it."""

    def __init__(self, folder: Path, runtime: Path) -> None:
        self.world = LiveWorld("server", number=1, incarnation=1, run="r")
        self.path = folder / "book.json"
        self.world.kernel.life.add("server", Server)
        self.entry = BookEntry(1, 1, self.world.bind(f"ipc://{runtime / 'client-server'}"))
        self.write(1)
        self.world.use_book(msgspec.json.decode(self.path.read_bytes(), type=Book))
        self.world.kernel.life.start()

    def write(self, version: int, run: str = "r") -> None:
        processes = {"server": self.entry, "absent": BookEntry(2, 1)}
        self.path.write_bytes(
            msgspec.json.encode(Book(version, run, {"server": "server", "lost": "absent"}, processes))
        )


@asynccontextmanager
async def service(folder: Path, runtime: Path) -> AsyncIterator[Service]:
    made = Service(folder, runtime)
    yield made
    await made.world.close()


def test_a_client_asks_a_node_by_its_name(tmp_path: Path, runtime: Path) -> None:
    async def main() -> str:
        async with service(tmp_path, runtime) as made, Client(made.path) as client:
            return await client.ask(client.ref("server"), Greet(name="world"))

    assert asyncio.run(main()) == "Hello, world!"


def test_a_node_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made, Client(made.path) as client:
            with pytest.raises(UserError, match="no node 'serber'; the nodes are lost, server"):
                client.ref("serber")

    asyncio.run(main())


def test_an_actor_below_a_node_that_does_not_exist_is_a_failure_of_the_ask(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made, Client(made.path) as client:
            with pytest.raises(ActorStopped, match="server/child"):
                await client.ask(client.ref("server/child"), Greet(name="x"))

    asyncio.run(main())


def test_an_ask_for_a_process_that_is_not_running_ends_with_its_deadline(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made, Client(made.path) as client:
            with pytest.raises((AskTimeout, ConnectionLost)):
                await client.ask(client.ref("lost"), Greet(name="x"), 0.05)

    asyncio.run(main())


def test_asks_that_are_pending_when_a_client_is_closed_fail_at_once(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made:
            async with Client(made.path) as client:
                pending = [client.ask(client.ref("server"), Wait(), 3600.0) for _ in range(3)]
                await client.ask(client.ref("server"), Greet(name="x"))
            for each in pending:
                with pytest.raises(ActorStopped, match="the client was closed"):
                    await asyncio.wait_for(each, PATIENCE_S)

    asyncio.run(main())


def test_a_node_forgets_a_client_that_said_goodbye(tmp_path: Path, runtime: Path) -> None:
    async def main() -> None:
        async with service(tmp_path, runtime) as made:
            async with Client(made.path) as client:
                await client.ask(client.ref("server"), Greet(name="x"))
                assert any(name.startswith("@") for name in made.world.kernel.neighbours.peers)
            peers = made.world.kernel.neighbours.peers
            await eventually_in_loop(lambda: not any(name.startswith("@") for name in peers))
            assert made.world._sockets._clients == {}

    asyncio.run(main())


def test_a_client_that_was_cut_off_and_forgotten_hears_so_once_and_is_answered_again(
    tmp_path: Path, runtime: Path
) -> None:
    async def main() -> str:
        async with service(tmp_path, runtime) as made, Client(made.path) as client:
            await client.ask(client.ref("server"), Greet(name="x"))
            (name,) = (name for name in made.world.kernel.neighbours.peers if name.startswith("@"))
            made.world.kernel.lost(name, "its connection broke")

            with pytest.raises(ConnectionLost, match="server lost its connection to us"):
                await client.ask(client.ref("server"), Greet(name="x"))
            return await client.ask(client.ref("server"), Greet(name="again"))

    assert asyncio.run(main()) == "Hello, again!"


def test_more_clients_come_and_go_than_a_node_has_room_for_at_once(tmp_path: Path, runtime: Path) -> None:
    async def main() -> int:
        answered = 0
        async with service(tmp_path, runtime) as made:
            for number in range(CLIENTS_MAX + 100):
                async with Client(made.path) as client:
                    answered += await client.ask(client.ref("server"), Greet(name=str(number))) == f"Hello, {number}!"
        return answered

    assert asyncio.run(main()) == CLIENTS_MAX + 100


def test_clients_that_went_without_a_goodbye_make_room_for_others(tmp_path: Path, runtime: Path) -> None:
    async def main() -> str:
        async with service(tmp_path, runtime) as made:
            peers = made.world.kernel.neighbours.peers
            while len(peers) < CLIENTS_MAX:
                client = Client(made.path)
                assert await client.ask(client.ref("server"), Greet(name="x")) == "Hello, x!"
                client._kernel.neighbours.peers.clear()  # it cannot say goodbye
                await client._world.close()
            async with Client(made.path) as client:
                with pytest.raises(ConnectionLost, match="no room for more clients"):
                    await client.ask(client.ref("server"), Greet(name="x"))
            await eventually_in_loop(lambda: len(peers) < CLIENTS_MAX)
            async with Client(made.path) as client:
                return await client.ask(client.ref("server"), Greet(name="last"))

    assert asyncio.run(main()) == "Hello, last!"


def test_many_clients_ask_at_once(tmp_path: Path, runtime: Path) -> None:
    async def one(path: Path, number: int) -> list[str]:
        async with Client(path) as client:
            asks = [client.ask(client.ref("server"), Greet(name=f"{number}.{index}")) for index in range(50)]
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
            async with Client(made.path) as client:
                with pytest.raises(ConnectionLost, match="this is server of run r"):
                    await client.ask(client.ref("server"), Greet(name="x"))

    asyncio.run(main())


def test_a_client_finds_a_process_that_restarts_meanwhile(tmp_path: Path) -> None:
    async def main() -> tuple[int, int]:
        async with launched.client() as client:
            first = await client.ask(client.ref("echo"), word("Pid")())
            os.kill(first, signal.SIGKILL)
            await eventually_in_loop(lambda: client.book.processes["echo"].incarnation == 2)
            await eventually_in_loop(lambda: client.book.processes["echo"].endpoint)
            return first, await client.ask(client.ref("echo"), word("Pid")(), PATIENCE_S)

    with Launched(tmp_path, ECHO) as launched:
        launched.ready()
        first, second = asyncio.run(main())

    assert first != second


def test_a_client_that_is_killed_does_not_disturb_the_node(tmp_path: Path) -> None:
    async def main() -> tuple[str, int]:
        async with launched.client() as client:
            text = await client.ask(client.ref("echo"), word("Say")(text="still here"))
            return text, (await client.inspect("echo"))["incarnation"]

    with Launched(tmp_path, ECHO) as launched:
        launched.ready()
        actors = kind("Echo").strip("'").partition(":")[0]
        for _ in range(3):
            arguments = [sys.executable, "-P", "-c", STUBBORN_CLIENT, str(launched.run_folder() / "book.json"), actors]
            killed = subprocess.run(arguments, timeout=PATIENCE_S, capture_output=True, text=True)
            assert killed.returncode == -signal.SIGKILL, killed.stderr

        assert asyncio.run(main()) == ("still here", 1)
