"""The stage of the live world: real processes over ipc or tcp, a real launcher, and clients outside."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from tests.conformance.stage import PATIENCE_S, Program
from tests.live.running import eventually_in_loop, stopped
from zactor.client import AsyncClient
from zactor.launchers.folders import Home
from zactor.launchers.local import Handle, Local, OnExit, OnReport
from zactor.launchers.run import Run, file_stem
from zactor.live.host import Assignment
from zactor.live.world import BookEntry
from zactor.message import Message
from zactor.topology.model import Topology, Transport

A = TypeVar("A")


class OnLive:
    """A `Stage`, while its `async with` lasts."""

    def __init__(self, topology: Topology, folder: Path, transport: Transport) -> None:
        processes = tuple(msgspec.structs.replace(each, transport=transport) for each in topology.processes)
        self._topology = msgspec.structs.replace(topology, processes=processes)
        self._home = Home(folder, topology.name)
        self._engine = Held()
        self.running = True
        self.undisturbed = True
        self._inspected = 0
        self._threads: dict[str, Threaded] = {}

    async def __aenter__(self) -> Self:
        self._home.make()
        run = self._home.new_run()
        self._home.acquire(run, self._topology.file)
        self._folder = self._home.run_folder(run)
        self._run = Run(self._topology, self._home, run, self._engine, lambda *_news: None)
        try:
            await self._run.start()
        except BaseException:
            await self._close()
            raise
        self._client = await AsyncClient(self._folder / "book.json").__aenter__()
        return self

    async def __aexit__(self, *_error: object) -> None:
        for client in self._threads.values():
            client.close()
        await self._client.__aexit__()
        await self._close()

    async def _close(self) -> None:
        for pid in self._run.pids().values():
            if pid is not None:
                os.kill(pid, signal.SIGCONT)  # what a program left paused could not stop
        if self.running:
            await self._stop()
        self._home.release()

    async def _stop(self) -> None:
        self.running = False
        await self._run.stop()

    @property
    def said(self) -> int:
        clients = [self._client, *(each.client for each in self._threads.values())]
        return sum(client._joined.kernel.shipped for client in clients if client._joined is not None) - self._inspected

    def ask(self, node: str, message: Message[A], timeout_s: float = PATIENCE_S) -> Awaitable[A]:
        return self._client.ask(self._client.ref(node), message, timeout_s)

    def send(self, node: str, message: Message[Any]) -> Awaitable[None]:
        return self._client.send(self._client.ref(node), message, PATIENCE_S)

    def client(self, name: str) -> Threaded:
        self._threads[name] = Threaded(self._folder / "book.json")
        return self._threads[name]

    async def inspect(self, process: str) -> dict[str, Any]:
        self._inspected += 1
        return await self._client.inspect(process, PATIENCE_S)

    async def until(self, look: Callable[[], Awaitable[A | None]]) -> A:
        value: A = await eventually_in_loop(look, PATIENCE_S)
        return value

    def _entry(self, process: str) -> BookEntry:
        return self._client.book.processes[process]

    def _pid(self, process: str) -> int:
        pid = self._run.pids()[process]
        assert pid is not None, f"{process} is not running"
        return pid

    async def kill(self, process: str) -> None:
        self.undisturbed = False
        os.kill(self._pid(process), signal.SIGKILL)
        await eventually_in_loop(lambda: self._entry(process).endpoint is None)

    async def start(self, process: str) -> None:
        self._engine.let(process)
        await eventually_in_loop(lambda: self._entry(process).endpoint is not None)
        await eventually_in_loop(lambda: self._ready(process))

    async def _ready(self, process: str) -> bool:
        return all(actor["state"] == "ready" for actor in (await self.inspect(process))["actors"])

    async def pause(self, process: str) -> None:
        if process in self._threads:
            self.undisturbed = False
            await asyncio.to_thread(self._threads[process].pause)
            return
        pid = self._pid(process)
        os.kill(pid, signal.SIGSTOP)
        await eventually_in_loop(lambda: stopped(pid))

    async def resume(self, process: str) -> None:
        if process in self._threads:
            self._threads[process].resume()
        else:
            os.kill(self._pid(process), signal.SIGCONT)

    async def stop(self) -> dict[str, dict[str, int]]:
        await self._stop()
        return {process.name: self._last_books(process.name) for process in self._topology.processes}

    def _last_books(self, process: str) -> dict[str, int]:
        lines = (self._folder / f"{file_stem(process)}.jsonl").read_bytes().splitlines()
        events = [event for event in map(msgspec.json.decode, lines) if event["event"] == "books"]
        assert len(events) == 1, f"{process} logged its books {len(events)} times"
        books: dict[str, int] = events[0]
        return books


class Held:
    """The local engine, but the next incarnation of a process waits until the program lets it come."""

    def __init__(self) -> None:
        self._local = Local()
        self._gates: dict[str, asyncio.Event] = {}

    def let(self, process: str) -> None:
        """Let the next incarnation come, or the one that waits."""
        self._gate(process).set()

    def _gate(self, process: str) -> asyncio.Event:
        return self._gates.setdefault(process, asyncio.Event())

    async def start(self, assignment: Assignment, output: Path, on_report: OnReport, on_exit: OnExit) -> Handle:
        """An `Engine`'s."""
        if assignment.incarnation > 1:
            gate = self._gate(assignment.process)
            await gate.wait()
            gate.clear()
        return await self._local.start(assignment, output, on_report, on_exit)


class Threaded:
    """A `Door` in a thread of its own, which can hang: then it reads nothing, as a program that is busy elsewhere."""

    def __init__(self, book: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._go_on = threading.Event()
        self.client = self._call(self._open(book)).result(PATIENCE_S)

    async def _open(self, book: Path) -> AsyncClient:
        return await AsyncClient(book).__aenter__()

    def _call(self, work: Coroutine[Any, Any, A]) -> Future[A]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def ask(self, node: str, message: Message[A], timeout_s: float = PATIENCE_S) -> Awaitable[A]:
        async def work() -> A:
            return await self.client.ask(self.client.ref(node), message, timeout_s)

        return asyncio.wrap_future(self._call(work()))

    def send(self, node: str, message: Message[Any]) -> Awaitable[None]:
        async def work() -> None:
            await self.client.send(self.client.ref(node), message, PATIENCE_S)

        return asyncio.wrap_future(self._call(work()))

    def pause(self) -> None:
        """Hang. What was asked for before is under way by then."""
        hangs = threading.Event()
        self._go_on.clear()
        # A second lap of the loop: what the first began has left then.
        self._loop.call_soon_threadsafe(self._loop.call_soon, self._hang, hangs)
        assert hangs.wait(PATIENCE_S)

    def _hang(self, hangs: threading.Event) -> None:
        hangs.set()
        self._go_on.wait()

    def resume(self) -> None:
        """Go on."""
        self._go_on.set()

    def close(self) -> None:
        """End the thread."""
        self.resume()
        self._call(self.client.__aexit__()).result(PATIENCE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def story(program: Program, folder: Path, transport: Transport) -> str:
    """What a program tells in the live world."""

    async def main() -> str:
        async with OnLive(program.topology, folder, transport) as stage:
            return await program.perform(stage)

    return asyncio.run(main())
