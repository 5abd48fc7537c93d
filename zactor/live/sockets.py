"""One process's sockets: a ROUTER that everybody connects to, and a DEALER for each lane to each process.

Bulk has an I/O thread of libzmq's to itself, here and there, so that small mail never stands behind a large block: the
DEALERs for bulk are tied to it, and the ROUTER is bound twice, to an address for each thread.

They are read through their file descriptor in the event loop: `zmq.asyncio` costs 13 times the throughput.
The descriptor is edge-triggered, and asking for EVENTS takes the edge: an inbox that says it is empty needs no second
look. Sending by the same socket takes it too; so answers to clients, which leave by the inbox, are followed by one.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zmq
from zmq.backend import Socket as _Bare

from zactor.live.doorkeeper import Doorkeeper, Monitor
from zactor.peer import WINDOW_FRAMES
from zactor.wire import BULK, CONTROL, FRAME_LETTERS, SOCKET_SIZE_MAX, Route

DRAIN_FRAMES = 16
"""Frames taken before the kernel has a pass again: neither starves the other."""

PARTS_MAX = 4 * FRAME_LETTERS
"""Of a message; nobody who is known sends more."""

BORROWED_BYTES = 1 << 20
"""From this size on libzmq sends bytes from where they are. A thread of pyzmq's hears when it is done with them, and
then wants the interpreter: that costs as much as to copy some hundred KiB, and more where small mail flows too."""

HIGH_WATER_FRAMES = 2 * WINDOW_FRAMES
"""libzmq's queue for one connection; a peer's window is far below it, so only strangers ever fill it."""

SHUT_OUT = ""
"""The source of what comes by a connection after it was shut."""

OUTCASTS_MAX = 1000
"""Whose leavings are known for what they are: those who were shut out last."""

SMALL, LARGE = 1, 2
"""The I/O threads, as ZMQ_AFFINITY has them: one bit each."""

BESIDE = "|"
"""Between the two addresses of an endpoint."""

SOCKETS_MAX = 16_384
HANDSHAKE_MS = 5000
LINGER_MS = 100
"""For the last acknowledgements: by then a goodbye has emptied the connections to all who still listen."""

RETRY_S = 0.001

NOBLOCK, EVENTS, POLLIN = int(zmq.NOBLOCK), int(zmq.EVENTS), int(zmq.POLLIN)
SNDMORE, MORE = int(zmq.SNDMORE), int(zmq.RCVMORE)
"""As plain numbers: pyzmq's enumerations cost more than the calls that they are for."""

Bare: Any = _Bare  # without pyzmq's Python layer, which the hot path would pay for

Socket = zmq.Socket[bytes]
Receive = Callable[[str, bytes, Sequence[bytes]], bool]


class _Contexts:
    """The contexts of libzmq in this process: one to each world, but one to all clients together.

    Their small frames would else wake as many threads as there are clients, which costs more than to handle them.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """After a fork: the threads are in the parent, and one there may have held the lock."""
        self._lock = threading.Lock()
        self._shared: zmq.Context[Socket] | None = None
        self._clients = 0

    def take(self, *, is_client: bool) -> zmq.Context[Socket]:
        """One with the I/O threads that `Sockets` wants; give it back."""
        if not is_client:
            return self._make()
        with self._lock:
            if self._shared is None:
                self._shared = self._make()
            self._clients += 1
            return self._shared

    def give_back(self, context: zmq.Context[Socket]) -> None:
        """Nobody uses it any more here. The last one waits until what was sent has left."""
        with self._lock:
            if context is self._shared:
                self._clients -= 1
                if self._clients:
                    return
                self._shared = None
        context.term()

    @staticmethod
    def _make() -> zmq.Context[Socket]:
        context: zmq.Context[Socket] = zmq.Context(2)  # I/O threads
        context.max_sockets = SOCKETS_MAX
        return context


_CONTEXTS = _Contexts()
os.register_at_fork(after_in_child=_CONTEXTS.forget)


class Sockets:
    """The sockets of a process, or of a client, which is answered on its own connections and so never binds.

    `hold` and `release` are called around what is taken in; `silence_ms` is after how long libzmq gives up.
    """

    def __init__(
        self,
        process: str,
        incarnation: int,
        receive: Receive,
        disconnected: Callable[[str, str], None],
        stranger: Callable[[str, str, str], None],
        hold: Callable[[], bool],
        release: Callable[[bool], None],
        silence_ms: int,
    ) -> None:
        self._process = process
        self._incarnation = incarnation
        self.receive = receive
        self.disconnected = disconnected
        self._stranger = stranger
        self._hold = hold
        self._release = release
        self._silence_ms = silence_ms
        self._loop = asyncio.get_running_loop()
        self._context = _CONTEXTS.take(is_client=process[:1] == "@")
        self._inbox: Socket | None = None
        self._doorkeeper: Doorkeeper | None = None
        self._looking = False  # a second look at the inbox is on its way
        self._sources: dict[bytes, str] = {}  # identities of those who sent something: as what the kernel knows them
        self._identities: dict[str, bytes] = {}
        self._outcasts: dict[bytes, None] = {}
        self._clients: dict[tuple[str, int], bytes] = {}
        self._endpoints: dict[str, tuple[int, str]] = {}  # process: incarnation, endpoint
        self._tokens: dict[str, str] = {}
        self._dealers: dict[tuple[str, int], Socket] = {}
        self._monitors: dict[Socket, Monitor] = {}
        self._paths: list[Path] = []  # of our own addresses

    def bind(self, endpoint: str) -> str:
        """Bind the inbox to an address, and to one beside it for bulk. The answer is the endpoint to connect to: both.

        A tcp port of `*` is chosen by the system.
        """
        inbox = self._socket(zmq.ROUTER)
        inbox.set(zmq.ROUTER_MANDATORY, 1)
        inbox.set(zmq.ROUTER_HANDOVER, 1)
        bound = []
        for thread, address in ((SMALL, endpoint), (LARGE, _beside(endpoint))):
            if address.startswith("ipc://"):
                self._paths.append(Path(address.removeprefix("ipc://")))
                self._paths[-1].unlink(missing_ok=True)  # left by a process that was killed
            inbox.set(zmq.AFFINITY, thread)
            inbox.bind(address)
            bound.append(bytes(inbox.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode())
        self._doorkeeper = Doorkeeper(inbox, bound, self._ended, self._stranger)
        self._inbox = inbox
        self._read(inbox, self._drain_inbox)
        return BESIDE.join(bound)

    def connect(self, process: str, incarnation: int, endpoint: str) -> None:
        """Say where a process is; connections to an older one are closed, new ones opened when something is sent."""
        if self._endpoints.get(process) != (incarnation, endpoint):
            self.disconnect(process)
            self._endpoints[process] = (incarnation, endpoint)

    def forget(self, process: str) -> None:
        """Nobody is there any more."""
        self._endpoints.pop(process, None)
        self.disconnect(process)

    def disconnect(self, process: str) -> None:
        """Close the connections to a process; the next ones have another token, by which the other side tells them."""
        self._tokens.pop(process, None)
        for key in [key for key in self._dealers if key[0] == process]:
            self._close(self._dealers.pop(key))
        for key in [key for key in self._clients if key[0] == process]:
            del self._clients[key]

    def _open(self, process: str, lane: int) -> Socket | None:
        if process not in self._endpoints:
            return None
        incarnation, endpoint = self._endpoints[process]
        token = self._tokens.setdefault(process, secrets.token_hex(8))
        dealer = self._dealers[process, lane] = self._socket(zmq.DEALER)
        dealer.routing_id = str(Route(self._process, self._incarnation, lane, token)).encode()
        answered_here = self._inbox is None
        if answered_here or lane == CONTROL:  # to a process, only GOAWAY comes back by it
            source = str(Route(process, incarnation, lane, ""))
            self._read(dealer, lambda: self._drain_dealer(source, dealer))
            if answered_here and lane == CONTROL:
                because = f"the connection to {process} has ended"
                self._monitors[dealer] = Monitor(
                    dealer, zmq.EVENT_DISCONNECTED, lambda _event, _value: self.disconnected(source, because)
                )
        small, large = endpoint.split(BESIDE)
        dealer.set(zmq.AFFINITY, LARGE if lane == BULK else SMALL)
        dealer.connect(large if lane == BULK else small)
        return dealer

    def _socket(self, kind: int) -> Socket:
        socket: Socket = self._context.socket(kind)
        socket.set(zmq.SNDHWM, HIGH_WATER_FRAMES)
        socket.set(zmq.RCVHWM, HIGH_WATER_FRAMES)
        socket.set(zmq.MAXMSGSIZE, SOCKET_SIZE_MAX)
        socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        if self._silence_ms and kind == zmq.DEALER:
            # The side that accepts must not ping: libzmq aborts when it does so on a connection whose queue was
            # full when it was reset. It is told by the pings that it gets after how long to give up.
            socket.set(zmq.HEARTBEAT_IVL, max(1, self._silence_ms // 5))
            socket.set(zmq.HEARTBEAT_TIMEOUT, self._silence_ms)
            socket.set(zmq.HEARTBEAT_TTL, self._silence_ms)
        socket.set(zmq.RECONNECT_IVL, 10)
        socket.set(zmq.RECONNECT_IVL_MAX, 1000)
        return socket

    def _read(self, socket: Socket, drain: Callable[[], None]) -> None:
        self._loop.add_reader(int(socket.get(zmq.FD)), drain)
        self._loop.call_soon(drain)  # the first edge comes only after a first look

    # --- out
    def send(self, process: str, lane: int, frame: bytes, blobs: list[bytes]) -> bool | None:
        """Hand over a frame and its blobs. False: no room now; None: there is no such connection yet, or any more."""
        socket = self._dealers.get((process, lane)) or self._open(process, lane)
        parts = [frame, *blobs] if blobs else (frame,)
        if socket is None:
            identity = self._clients.get((process, lane)) or self._identities.get(process)
            socket = self._inbox
            if identity is None or socket is None:
                return None
            parts = [identity, *parts]
        try:
            for part in parts[:-1]:
                Bare.send(socket, part, NOBLOCK | SNDMORE, len(part) < BORROWED_BYTES)
            Bare.send(socket, parts[-1], NOBLOCK, len(parts[-1]) < BORROWED_BYTES)
        except zmq.Again:
            return False
        except zmq.ZMQError:  # EHOSTUNREACH: a client that went
            return None
        if socket is self._inbox or self._inbox is None:
            self._look_again(socket)
        return True

    def _look_again(self, socket: Socket) -> None:
        """What came while we sent by the same socket may not be announced."""
        if not self._looking and Bare.get(socket, EVENTS) & POLLIN:
            self._looking = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._looking = False
        if self._inbox is not None:
            self._drain_inbox()
            return
        for (process, lane), dealer in list(self._dealers.items()):
            self._drain_dealer(str(Route(process, self._endpoints[process][0], lane, "")), dealer)

    # --- in
    def _drain_inbox(self) -> None:
        inbox = self._inbox
        if inbox is None:
            return
        was_held, taken = self._hold(), 0
        try:
            while True:
                identity = Bare.recv(inbox, NOBLOCK)
                source = self._sources.get(identity)
                if source == SHUT_OUT:
                    self._drop(inbox, identity)
                    continue  # there is an end to it soon
                if source is None:
                    self._take_first(inbox, identity)
                else:
                    self._take(inbox, identity, source)
                taken += 1
                # Asking first costs less than an Again, and whatever comes after it makes a new edge.
                if not Bare.get(inbox, EVENTS) & POLLIN:
                    break
                if taken == DRAIN_FRAMES:
                    self._loop.call_soon(self._drain_inbox)
                    break
        except zmq.Again:
            pass
        finally:
            self._release(was_held)

    def _take(self, inbox: Socket, identity: bytes, source: str) -> None:
        """Take what follows an identity."""
        frame = Bare.recv(inbox)
        blobs = _blobs(inbox)
        if not self._welcome(source, frame, blobs):
            self._refused(identity, source)

    def _drop(self, inbox: Socket, identity: bytes) -> None:
        """It was shut out: what it had said besides is counted, and not even looked at."""
        while Bare.get(inbox, MORE):
            Bare.recv(inbox)
        self._stranger(identity.decode("ascii", "backslashreplace"), "poured on", "it was shut out")

    def _refused(self, identity: bytes, source: str) -> None:
        """What it said was refused; of one that is shut out nothing is read any more."""
        if self._doorkeeper is not None and self._doorkeeper.refused(identity, source):
            self._ended(identity)
            self._sources[identity] = SHUT_OUT
            self._outcasts[identity] = None
            if len(self._outcasts) > OUTCASTS_MAX:
                del self._outcasts[next(iter(self._outcasts))]

    def _welcome(self, source: str, frame: bytes, blobs: Sequence[bytes]) -> bool:
        if len(blobs) <= PARTS_MAX:
            return self.receive(source, frame, blobs)
        self._stranger(source, "wrong parts", f"a message of {len(blobs) + 1} parts or more")
        return False

    def _take_first(self, inbox: Socket, identity: bytes) -> None:
        """The same, for the first message of an identity: who it is, and by which connection it came."""
        part = inbox.recv(copy=False)
        assert self._doorkeeper is not None
        is_here = self._doorkeeper.met(identity, int(part.get(zmq.SRCFD)))
        if not is_here and identity in self._outcasts:
            self._drop(inbox, identity)
            return
        frame = part.bytes
        blobs = _blobs(inbox) if part.more else ()
        source = identity.decode("ascii", "backslashreplace")
        if source.endswith("#"):
            source += "?"  # an empty token is that of our own connections
        if not is_here:  # what it left behind: nobody would tell us when to forget it
            self._welcome(source, frame, blobs)
            return
        self._sources[identity] = source
        self._identities[source] = identity
        route = Route.parse(source)
        is_client = route is not None and source[:1] == "@"
        if route is not None and is_client:
            self._clients.setdefault((route.process, route.lane), identity)
        if self._welcome(source, frame, blobs):
            self._doorkeeper.accepted(identity)
            if route is not None and is_client:
                self._clients[route.process, route.lane] = identity
        else:
            self._refused(identity, source)

    def _ended(self, identity: bytes) -> None:
        """The connection of an identity has ended."""
        source = self._sources.pop(identity)
        if source == SHUT_OUT:
            return
        del self._identities[source]
        route = Route.parse(source)
        if route is not None and self._clients.get((route.process, route.lane)) == identity:
            del self._clients[route.process, route.lane]
        was_held = self._hold()
        self.disconnected(source, "its connection has ended")
        self._release(was_held)

    def _drain_dealer(self, source: str, dealer: Socket) -> None:
        was_held = self._hold()
        try:
            for _ in range(DRAIN_FRAMES):
                if dealer.closed:
                    break
                frame = Bare.recv(dealer, NOBLOCK)
                self.receive(source, frame, _blobs(dealer))
            else:
                self._loop.call_soon(self._drain_dealer, source, dealer)
        except zmq.Again:
            pass
        finally:
            self._release(was_held)

    def _close(self, socket: Socket) -> None:
        monitor = self._monitors.pop(socket, None)
        if monitor is not None:
            monitor.close()
        self._loop.remove_reader(int(socket.get(zmq.FD)))
        socket.close(LINGER_MS)

    def close(self) -> None:
        """Let what was sent leave, for at most `LINGER_MS`, and free everything."""
        for dealer in self._dealers.values():
            self._close(dealer)
        self._dealers.clear()
        self._endpoints.clear()
        if self._inbox is not None and self._doorkeeper is not None:
            self._doorkeeper.close()
            self._close(self._inbox)
            self._inbox = None
        _CONTEXTS.give_back(self._context)
        for path in self._paths:
            path.unlink(missing_ok=True)


def _beside(address: str) -> str:
    """The address for bulk of who has this one."""
    return f"{address}b" if address.startswith("ipc://") else f"{address.rpartition(':')[0]}:*"


def _blobs(socket: Socket) -> list[bytes]:
    """The further parts of a message; of too many only some are kept."""
    blobs: list[bytes] = []
    while Bare.get(socket, MORE):
        blob = Bare.recv(socket)
        if len(blobs) <= PARTS_MAX:
            blobs.append(blob)
    return blobs
