"""A program outside that talks to a running topology: `Client` for plain code, `AsyncClient` for asyncio.

It asks, tells and watches nodes by name. It binds nothing: what it is answered comes back by the connections that
it opened. It follows the book that the launcher keeps, so it goes on when a process is restarted and, unless it was
given one run, when the topology is stopped and started again. What was under way then fails with `ConnectionLost` at
once, and while nothing runs so does every ask. One that is made while its process is being restarted waits for it,
and fails when it is there again, since mail for one incarnation is never seen by the next: then ask again.

Each run is a kernel of its own with one actor in it, which stands for the program: see `_Joined`. `AsyncClient` moves
from one to the next. `Client` is an `AsyncClient` on a loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import os
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import msgspec

from zactor.actor import Actor, Down, Up, on
from zactor.cell import Cell, Wait
from zactor.errors import ActorStopped, ConnectionLost, UserError
from zactor.launchers.folders import FILE_SUFFIXES, Home, NotRunning, find_running
from zactor.live.world import Book, LiveWorld
from zactor.message import CLIENT_NUMBER, INCARNATION_BITS, SEQUENCE_BITS, Message, Ref
from zactor.registry import did_you_mean
from zactor.wire import Inspect, Taken

A = TypeVar("A")
M = TypeVar("M", bound=Message[Any])

BOOK = "book.json"
LOOK_S = 0.1
"""The book is looked at this often: a process that is restarted takes longer than that to come up."""

CLOSE_S = 1.0
"""For what was sent to leave. A process that is not there for so long does not get it."""

NOTICES_MAX = 100
"""Notices that wait for somebody who does not read them; beyond it the oldest go, so the last is always there."""


_forks = 0
"""How many forks lie between this process and the one that loaded this: to look at a number costs no system call."""


def _forked() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_forked)


class ClientClosed(RuntimeError):
    """Nothing can be begun by a client that was closed."""


REFS_MAX = 1000
"""Names whose connections a client knows without looking them up; beyond it they are looked up once more."""


class _Outside(Actor):
    """Stands for the program in its kernel."""

    _heard: Callable[[Down | Up], None]

    @on
    def down(self, message: Down) -> None:
        self._heard(message)

    @on
    def up(self, message: Up) -> None:
        self._heard(message)


class _Answer(asyncio.Future[Any]):
    """What a program awaits: its kernel fills it in, and need not go on when it is cancelled.

    A future of its own, since to be told of a cancellation by a callback costs each answer a step of the loop.
    """

    __slots__ = ("_joined", "_unsettled", "_waiting")

    _joined: _Joined
    _unsettled: set[_Answer | _Shared]
    _waiting: Wait

    def begin(self, joined: _Joined, wait: Wait, unsettled: set[_Answer | _Shared]) -> Self:
        """Wait for it, in a set of all that do."""
        if wait.done:
            self._take(wait)
            return self
        self._joined, self._waiting, self._unsettled = joined, wait, unsettled
        unsettled.add(self)
        wait.notify = self._settle
        return self

    def _settle(self, done: Wait) -> None:
        done.notify = None
        self._unsettled.discard(self)
        if not self.done():
            self._take(done)

    def _take(self, done: Wait) -> None:
        if done.error is None:
            self.set_result(done.value)
        else:
            self.fail(done.error)

    def fail(self, error: BaseException) -> None:
        """End with a failure; asyncio would print one that nobody awaits."""
        self.set_exception(error)
        self.exception()

    def cancel(self, msg: Any | None = None) -> bool:
        """Nobody waits for it any more."""
        if not super().cancel(msg):
            return False
        self._unsettled.discard(self)
        self._waiting.notify = None
        self._joined.abandon(self._waiting)
        return True


class _Shared:
    """What several tasks of a program await: each by a future of its own, as each may be cancelled."""

    __slots__ = ("_futures", "_joined", "_loop", "_unsettled", "_waiting")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, joined: _Joined, wait: Wait, unsettled: set[_Answer | _Shared]
    ) -> None:
        self._loop, self._joined, self._waiting, self._unsettled = loop, joined, wait, unsettled
        self._futures: list[asyncio.Future[Any]] = []
        unsettled.add(self)
        wait.notify = self._settle

    def __await__(self) -> Generator[Any, None, Any]:
        if self._waiting.done:
            return (yield from self._waiting.__await__())
        future = self._loop.create_future()
        self._futures.append(future)
        return (yield from future)

    def _settle(self, done: Wait) -> None:
        done.notify = None
        self._unsettled.discard(self)
        for future in self._futures:
            if future.done():
                continue
            if done.error is None:
                future.set_result(done.value)
            else:
                future.set_exception(done.error)

    def done(self) -> bool:
        """Whether it is there."""
        return self._waiting.done

    def fail(self, error: BaseException) -> None:
        """End with a failure."""
        self._waiting.done, self._waiting.error = True, error
        self._settle(self._waiting)

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self._unsettled.discard(self)
        self._waiting.notify = None
        self._joined.abandon(self._waiting)


class _Joined:
    """A run that the program takes part in. Another run is another kernel: none knows the letters of the other."""

    def __init__(self, book: Book, heard: Callable[[Down | Up], None]) -> None:
        name = f"@{secrets.token_hex(6)}"
        self.book = book
        self.is_over = False
        self._world = LiveWorld(
            name,
            number=CLIENT_NUMBER,
            incarnation=secrets.randbits(INCARNATION_BITS),
            run=book.run,
            first_sequence=secrets.randbits(SEQUENCE_BITS - 1),
            key=book.key,
            peer_timeout_ns=book.peer_timeout_ns,
        )
        self.kernel = self._world.kernel
        self.cell: Cell = self.kernel.life.spawn(_Outside, name).cell
        assert isinstance(self.cell.actor, _Outside)
        self.cell.actor._heard = heard
        self._refs: dict[str, Ref[Any]] = {}
        self._world.use_book(book)

    def ref(self, name: str) -> Ref[Any]:
        """Our own ref to an actor: it remembers by which connection it was used, and a caller's is another kernel's."""
        ref = self._refs.get(name)
        if ref is None:
            if len(self._refs) >= REFS_MAX:
                self._refs.clear()
            ref = self._refs[name] = Ref(name)
        return ref

    def use(self, book: Book) -> None:
        """Take a newer book of the same run."""
        self.book = book
        self._world.use_book(book)

    def end(self, because: str) -> None:
        """The run is over: all its processes are gone, for whoever asks or watches them."""
        self.is_over = True
        gone = {
            process: msgspec.structs.replace(entry, endpoint=None, gone=entry.gone or because)
            for process, entry in self.book.processes.items()
        }
        self._world.use_book(msgspec.structs.replace(self.book, version=self.book.version + 1, processes=gone))

    def watch(self, name: str, *, is_down: bool) -> None:
        """Be told of a node; one that is down here may be up there, or come up."""
        self.kernel.life.watch(self.cell, Ref(name))
        if is_down:  # the kernel tells Up only to whom it has told Down
            self.kernel.neighbours.notice(self.cell.name, Down(ref=Ref(name), reason="another run", final=False))

    def gone(self, name: str) -> str | None:
        """Why the process in which an actor lives does not come back, if that is so."""
        peer = self.kernel.neighbours.peers.get(self.kernel.neighbours.process_of(name))
        return None if peer is None else peer.gone

    def unwatch(self, name: str) -> None:
        """Be told no more."""
        self.kernel.life.unwatch(self.cell, Ref(name))

    def abandon(self, wait: Wait) -> None:
        """Nobody waits for it any more: whoever works for it need not go on."""
        if wait.id in self.kernel.pending:
            self.kernel.waits.forget(wait)
            if wait.target is not None:
                self.kernel.cancel_ask(wait)

    async def close(self) -> None:
        """Let what was sent arrive, say goodbye, and free everything."""
        await self._world.leave(CLOSE_S)
        await self._world.close()


class AsyncClient:
    """Talks to a running topology from a program that uses asyncio: `async with AsyncClient("quickstart") as client`.

    `topology` is its name or its file, None for the only one that runs, or the folder of one run (or the book in
    it). Entering it waits for the processes of a topology that is being started, and raises `NotRunning` when
    there is none, UserError when there are several. It belongs to the loop in which it was entered.
    """

    def __init__(self, topology: str | os.PathLike[str] | Home | None = None) -> None:
        self._topology = topology
        self._home: Home | None = None  # None: one run is meant, and no other
        self._book: Path | None = None
        self._seen: tuple[Path, int, int] | None = None  # the book that was read last: path, time of change, inode
        self._joined: _Joined | None = None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._place = (0, 0)  # the thread of the loop, and its process
        self._pid = 0
        self._follower: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._unsettled: set[_Answer | _Shared] = set()
        self._watches: dict[str, list[weakref.ref[AsyncWatch]]] = {}

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise RuntimeError("this client was entered before; make another one")
        self._loop = asyncio.get_running_loop()
        self._place = threading.get_ident(), _forks
        self._pid = os.getpid()
        self._home, self._book = _find(self._topology)
        self._look()
        while self._joined is None:
            if self._book is None:
                assert self._home is not None, "a single run has a book"
                raise NotRunning(f"{self._home.name} was stopped before its processes were there")
            await asyncio.sleep(LOOK_S)
            self._look()
        self._follower = self._loop.create_task(self._follow())
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave: what was sent goes out, asks under way fail with `ActorStopped`, watches end."""
        if self._closed or self._joined is None or self._pid != os.getpid():
            return
        self._closed = True
        if self._follower is not None:
            self._follower.cancel()
        for name in list(self._watches):
            for watch in self._listening(name):
                watch._end()
        for answer in list(self._unsettled):
            if not answer.done():
                answer.fail(ActorStopped("the client was closed before the answer came"))
        await asyncio.gather(self._joined.close(), *self._retiring)

    # --- what a program does
    def ask(self, node: str | Ref[Any], message: Message[A], timeout_s: float = 5.0) -> Awaitable[A]:
        """Ask a node, as `Actor.ask` does; the ask is under way when this returns, and ends when it is cancelled.

        Raises UserError for a name that the topology does not have and TypeError for what is no message; and at the
        await `AskTimeout`, `ActorFailed`, `ActorStopped`, `ConnectionLost`, `Unhandled`, `Overloaded`, or what the node
        refused with. After `ConnectionLost` and `AskTimeout` the message may have been handled all the same.
        """
        joined, target = self._aim(node, message)
        return self._answer(joined, joined.kernel.ask(joined.cell, target, message, _ns(timeout_s)))

    def ask_soon(self, make: Callable[[], tuple[Ref[Any], Message[A]] | None], timeout_s: float = 5.0) -> Awaitable[A]:
        """Ask once all tasks have run that can: then `make` says whom and what, or None, as for `Actor.ask_soon`.

        Several tasks may await the answer.
        """
        joined, loop = self._here_and_now(), self._loop
        assert loop is not None, "it is entered"

        def aimed() -> tuple[Ref[Any], Message[A]] | None:
            made = make()
            return None if made is None else (joined.ref(made[0].name), made[1])

        return _Shared(loop, joined, joined.kernel.ask_soon(joined.cell, aimed, _ns(timeout_s)), self._unsettled)

    def send(self, node: str | Ref[M], message: M, timeout_s: float = 5.0) -> Awaitable[None]:
        """Tell a node something, waiting for room, as `Actor.send` does; `close` lets it leave.

        Raises what `ask` does for a wrong name or message, and at the await `Overloaded` and `ConnectionLost`.
        """
        joined, target = self._aim(node, message)
        gone = joined.gone(target.name)
        if gone is None:
            return self._answer(joined, joined.kernel.send(joined.cell, target, message, _ns(timeout_s)))
        return self._answer(joined, Wait(joined.cell, 0, done=True, error=ConnectionLost(f"{target.name}: {gone}")))

    def watch(self, node: str | Ref[Any]) -> AsyncWatch:
        """Be told when a node goes `Down` and is `Up` again: `async for notice in client.watch("store/1")`.

        It begins with this call and ends when the watch is let go of, or the client is closed. A node that is down
        already is told; of one that is up nothing is said. `Down.final` holds for this run: another may bring it up.
        """
        joined, name = self._here_and_now(), self._name(node)
        watch = AsyncWatch()
        self._watches.setdefault(name, []).append(weakref.ref(watch, lambda _watch: self._let_go(name)))
        joined.watch(name, is_down=False)
        return watch

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait, as `Actor.sleep` does: what is written over a door needs no event loop."""
        return asyncio.sleep(seconds)

    def now_ns(self) -> int:
        """Nanoseconds of a clock that never goes back, as `Actor.now_ns`."""
        return time.monotonic_ns()

    def names(self, nodes: str | None = None) -> list[str]:
        """The nodes: all of them, the replicas of one (`store`), or those like a pattern (`store/*`)."""
        known = self.book.nodes
        found = [name for name in known if nodes is None or fnmatch.fnmatchcase(name, nodes) or _is_of(name, nodes)]
        if not found:
            raise UserError(f"no node is like {nodes!r}; the nodes are {', '.join(sorted(known))}")
        return found

    def ref(self, node: str) -> Ref[Any]:
        """A ref to a node, or to an actor below it. Raises UserError for a node that the topology does not have."""
        joined = self._here()
        if joined.kernel.neighbours.process_of(node):
            return Ref(node)
        replicas = [name for name in joined.book.nodes if _is_of(name, node)]
        if replicas:
            raise UserError(f"{node!r} is {len(replicas)} nodes: {', '.join(replicas)}; say which one")
        nodes = sorted(joined.book.nodes)
        raise UserError(f"there is no node {node!r}.{did_you_mean(node, nodes)} The nodes are {', '.join(nodes)}")

    def inspect(self, process: str, timeout_s: float = 1.0) -> Awaitable[dict[str, Any]]:
        """What the kernel of a process says of itself; `book` has the processes."""
        return self._ask_kernel(process, Inspect(), timeout_s)

    def taken(self, process: str, timeout_s: float = 5.0) -> Awaitable[None]:
        """Wait until a process has taken all messages, but for bulk, that were sent to its nodes before."""
        return self._ask_kernel(process, Taken(), timeout_s)

    def _ask_kernel(self, process: str, message: Message[A], timeout_s: float) -> Awaitable[A]:
        joined = self._here_and_now()
        peers = joined.kernel.neighbours.peers
        if process not in peers:
            raise UserError(f"there is no process {process!r}; the processes are {', '.join(sorted(peers))}")
        target: Ref[Any] = Ref(process)
        target.peer = peers[process]
        return self._answer(joined, joined.kernel.ask(joined.cell, target, message, _ns(timeout_s)))

    @property
    def book(self) -> Book:
        """Where every node lives, as last read."""
        return self._here().book

    # --- one ask, one send
    def _here(self) -> _Joined:
        if self._joined is None:
            raise RuntimeError("the client is not connected; use it as: async with AsyncClient(...) as client")
        _check_usable(self._pid, self._closed)
        return self._joined

    def _here_and_now(self) -> _Joined:
        joined, loop = self._joined, self._loop
        # Not by asking for the loop that runs here, nor for the process: each of them is a call of the system.
        is_here = loop is not None and self._place == (threading.get_ident(), _forks) and loop.is_running()
        if joined is None or self._closed or not is_here:
            self._here()
            raise RuntimeError("an AsyncClient is used in the loop in which it was entered; other threads use a Client")
        return joined

    def _aim(self, node: str | Ref[Any], message: object) -> tuple[_Joined, Ref[Any]]:
        joined = self._here_and_now()
        if not isinstance(message, Message):
            raise TypeError(f"{message!r} is no message; make one, such as Greet(name='world')")
        return joined, joined.ref(self._name(node))

    def _name(self, node: str | Ref[Any]) -> str:
        return self.ref(node).name if isinstance(node, str) else node.name

    def _answer(self, joined: _Joined, wait: Wait) -> _Answer:
        return _Answer(loop=self._loop).begin(joined, wait, self._unsettled)

    # --- the book
    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self._look()
            except OSError:  # such as too many open files: the next look may fare better
                continue
            except UserError as problem:
                assert self._joined is not None, "only a client that has joined a run follows it"
                self._joined.end(str(problem))

    def _look(self) -> None:
        """Take what has changed: the run is over, there is another one, or a newer book of this one."""
        book = self._book
        if self._home is not None:
            lock = self._home.running()
            book = None if lock is None else self._home.run_folder(lock.run) / BOOK
        if book != self._book and self._joined is not None and not self._joined.is_over:
            assert self._home is not None, "a single run has but one book"
            self._joined.end(f"{self._home.name} was stopped")
            self._seen = None
        self._book = book
        if book is None:
            return
        try:
            status = book.stat()
            seen = (book, status.st_mtime_ns, status.st_ino)
            if seen == self._seen:
                return
            content = _read(book)
        except FileNotFoundError:  # its processes are not there yet; or the folder of a run that is over was removed
            return
        self._seen = seen
        if self._joined is None or self._joined.is_over:
            self._join(content)
        else:
            self._joined.use(content)

    def _join(self, book: Book) -> None:
        old, self._joined = self._joined, _Joined(book, self._hear)
        if old is not None:
            task = asyncio.get_running_loop().create_task(old.close())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        for name in list(self._watches):
            if self._listening(name):
                self._joined.watch(name, is_down=True)

    # --- watching
    def _hear(self, notice: Down | Up) -> None:
        for watch in self._listening(notice.ref.name):
            watch._hear(notice)

    def _let_go(self, name: str) -> None:
        """A watch is held by nobody any more, which any thread may find out."""
        assert self._loop is not None, "only a client that was entered has watches"
        with contextlib.suppress(RuntimeError):  # the loop is closed, and so are we
            self._loop.call_soon_threadsafe(self._listening, name)

    def _listening(self, name: str) -> list[AsyncWatch]:
        """The watches of a node; when there are none any more, its kernel need not tell us."""
        held = [(each, watch) for each in self._watches.get(name, ()) if (watch := each()) is not None]
        if held:
            self._watches[name] = [each for each, _ in held]
        elif self._watches.pop(name, None) is not None and not self._closed and self._joined is not None:
            self._joined.unwatch(name)
        return [watch for _, watch in held]


class AsyncWatch:
    """What becomes of a node, as an async iterator that ends with its client. `missed` counts what nobody read.

    `Down` and `Up` take turns: of several reasons for the same absence it tells the first, and one that is final.
    """

    def __init__(self) -> None:
        self.missed = 0
        self._notices: deque[Down | Up] = deque()
        self._news = asyncio.Event()
        self._is_down = self._has_ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Down | Up:
        while not self._notices:
            if self._has_ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._notices.popleft()

    def _hear(self, notice: Down | Up) -> None:
        is_down = isinstance(notice, Down)
        if is_down == self._is_down and not (isinstance(notice, Down) and notice.final):
            return
        self._is_down = is_down
        if len(self._notices) == NOTICES_MAX:
            self._notices.popleft()
            self.missed += 1
        self._notices.append(notice)
        self._news.set()

    def _end(self) -> None:
        self._has_ended = True
        self._news.set()


class Client:
    """Talks to a running topology from plain code: `with Client("quickstart") as client`.

    `topology` is as for `AsyncClient`, whose methods it has; here they wait. It may be used from several threads at
    once. A Ctrl-C while it waits cancels what was waited for. `close` it, or use `with`: it has a thread.
    """

    def __init__(self, topology: str | os.PathLike[str] | Home | None = None) -> None:
        _check_no_loop()
        self._pid = os.getpid()
        self._closed = False
        self._lock = threading.Lock()  # between who begins something and who closes
        self._client = AsyncClient(topology)
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="zactor.Client", daemon=True)
        try:
            self._thread.start()
            self._wait(self._client.__aenter__)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave, as `AsyncClient.close` does. Who waits in another thread gets `ActorStopped`."""
        if self._pid != os.getpid():
            return  # after a fork: thread and sockets are its parent's
        with self._lock:
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._closing.set)
        if self._thread.ident is not None:  # else a Ctrl-C came while it was started
            self._thread.join()

    def _serve(self) -> None:
        """The thread. It frees everything by itself, so that a Ctrl-C in `close` leaves nothing behind."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_closed())

    async def _until_closed(self) -> None:
        await self._closing.wait()
        await self._client.close()
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        if waiting:  # they hear of it in their next step
            await asyncio.wait(waiting, timeout=CLOSE_S)

    def ask(self, node: str | Ref[Any], message: Message[A], timeout_s: float = 5.0) -> A:
        """Ask a node and wait for its answer. Raises what `AsyncClient.ask` raises."""

        async def ask() -> A:
            return await self._client.ask(node, message, timeout_s)

        return self._wait(ask)

    def send(self, node: str | Ref[M], message: M, timeout_s: float = 5.0) -> None:
        """Tell a node something, waiting for room. Raises what `AsyncClient.send` raises."""

        async def send() -> None:
            await self._client.send(node, message, timeout_s)

        self._wait(send)

    def run(self, work: Callable[[AsyncClient], Coroutine[Any, Any, A]]) -> A:
        """Run a coroutine function of an `AsyncClient`, such as one with a service's own client, and wait for it."""

        async def run() -> A:
            return await work(self._client)

        return self._wait(run)

    def watch(self, node: str | Ref[Any], timeout_s: float | None = None) -> Watch:
        """Be told when a node goes `Down` and is `Up` again: `for notice in client.watch("store/1", timeout_s=60)`.

        It is as `AsyncClient.watch`; a loop over it ends when nothing was told for `timeout_s`, and another goes on.
        """

        async def watch() -> AsyncWatch:
            return self._client.watch(node)

        return Watch(self._wait, self._wait(watch), timeout_s)

    def names(self, nodes: str | None = None) -> list[str]:
        """The nodes: all of them, the replicas of one (`store`), or those like a pattern (`store/*`)."""
        return self._client.names(nodes)

    def ref(self, node: str) -> Ref[Any]:
        """A ref to a node, or to an actor below it. Raises UserError for a node that the topology does not have."""
        return self._client.ref(node)

    def inspect(self, process: str, timeout_s: float = 1.0) -> dict[str, Any]:
        """What the kernel of a process says of itself; `book` has the processes."""

        async def inspect() -> dict[str, Any]:
            return await self._client.inspect(process, timeout_s)

        return self._wait(inspect)

    @property
    def book(self) -> Book:
        """Where every node lives, as last read."""
        return self._client.book

    def _wait(self, begin: Callable[[], Coroutine[Any, Any, A]]) -> A:
        """Run a coroutine on the loop and wait for it."""
        _check_no_loop()
        _check_usable(self._pid, self._closed)  # before the lock: at a fork another thread may have held it
        call = _Call(begin)
        try:
            with self._lock:
                _check_usable(self._pid, self._closed)
                self._loop.call_soon_threadsafe(call.start)
            return call.result()
        finally:
            if not call.is_done:  # a Ctrl-C came: nobody waits for it any more
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(call.cancel)


class _Call(Generic[A]):
    """A coroutine that runs on a loop while another thread waits for it.

    It waits by a bare lock: what `concurrent.futures` waits by may be broken by a Ctrl-C at a bad moment.
    """

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, A]]) -> None:
        self._begin = begin
        self._task: asyncio.Task[A] | None = None
        self._pending = threading.Lock()
        self._pending.acquire()

    @property
    def is_done(self) -> bool:
        """Whether the result is there."""
        return not self._pending.locked()

    def start(self) -> None:
        """Begin, in the loop."""
        self._task = asyncio.get_running_loop().create_task(self._begin())
        self._task.add_done_callback(lambda _task: self._pending.release())

    def cancel(self) -> None:
        """End, in the loop, what was begun."""
        if self._task is not None:
            self._task.cancel()

    def result(self) -> A:
        """Wait, in another thread."""
        with self._pending:
            assert self._task is not None, "it is done, so it was begun"
            return self._task.result()


class Watch:
    """What becomes of a node, to be looped over: see `Client.watch`. `missed` counts what nobody read."""

    def __init__(
        self, wait: Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any], watch: AsyncWatch, timeout_s: float | None
    ) -> None:
        self._wait = wait
        self._watch = watch
        self._timeout_s = timeout_s

    @property
    def missed(self) -> int:
        """The notices that went because nobody read them."""
        return self._watch.missed

    def __iter__(self) -> Iterator[Down | Up]:
        notice: Down | Up | None
        with contextlib.suppress(ClientClosed):
            while (notice := self._wait(self._next)) is not None:
                yield notice

    async def _next(self) -> Down | Up | None:
        """The next notice; None when none comes in time, or at all."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await anext(self._watch, None)
        except TimeoutError:
            return None


def _find(topology: str | os.PathLike[str] | Home | None) -> tuple[Home | None, Path | None]:
    """The home of a running topology, or the book of the one run that is meant."""
    if isinstance(topology, Home):
        return topology, None
    written = None if topology is None else os.fspath(topology)
    if written is None or Path(written).suffix in FILE_SUFFIXES or (written == topology and "/" not in written):
        return find_running(written, None, "its NAME or its FILE")[0], None
    path = Path(written)
    book = path if path.name == BOOK else path / BOOK
    if not book.is_file():
        raise UserError(
            f"{written}: there is no {BOOK} here; expected a topology's name or file, or a run's folder "
            "such as .zactor/NAME/runs/RUN"
        )
    return None, book


def _read(book: Path) -> Book:
    try:
        return msgspec.json.decode(book.read_bytes(), type=Book)
    except msgspec.MsgspecError as problem:
        raise UserError(f"{book}: {problem}; was it written by another version of zactor?") from None


def _is_of(name: str, node: str) -> bool:
    """Whether that is a replica of a node."""
    return name.startswith(f"{node}/")


def _ns(timeout_s: float) -> int:
    return int(timeout_s * 1e9)


def _check_usable(pid: int, closed: bool) -> None:
    if pid != os.getpid():
        raise RuntimeError(f"this client belongs to process {pid}; after a fork, make another one in the child")
    if closed:
        raise ClientClosed("the client was closed; make another one")


def _check_no_loop() -> None:
    if _running_loop() is not None:
        raise RuntimeError("a Client waits, and would hold up the loop that runs here; use AsyncClient and await it")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
