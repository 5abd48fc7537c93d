"""One process's sockets: a ROUTER that everybody connects to, and a DEALER to each process we talk to.

They are read through their file descriptor in the event loop: `zmq.asyncio` costs 13 times the throughput.
The descriptor is edge-triggered, and a send can swallow an edge, so EVENTS is looked at again after each drain.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import zmq

from zactor.message import SOCKET_SIZE_MAX

DRAIN_FRAMES = 16
"""Frames taken before the kernel has a pass again: neither starves the other."""

HIGH_WATER_FRAMES = 1000
"""libzmq's queue for one connection; a peer's window is far below it, so only strangers ever fill it."""

HEARTBEAT_MS = 1000
HEARTBEAT_TIMEOUT_MS = 5000
LINGER_MS = 500
RETRY_S = 0.001


class Sockets:
    """The sockets of a process or, when `bind` is None, of a client, which is answered on its own connections."""

    def __init__(
        self,
        name: str,
        incarnation: int,
        receive: Callable[[str, bytes], None],
        stranger: Callable[[str, str, str], None],
        around_drain: Callable[[], AbstractContextManager[None]],
        knows: Callable[[str], bool],
    ) -> None:
        self._identity = f"{name}#{incarnation}".encode()
        self._receive = receive
        self._stranger = stranger
        self._around_drain = around_drain
        self._knows = knows
        self._loop = asyncio.get_running_loop()
        self._context = zmq.Context()
        self._inbox: zmq.Socket[bytes] | None = None
        self._readers: dict[zmq.Socket[bytes], Callable[[], None]] = {}
        self._dealers: dict[str, tuple[str, zmq.Socket[bytes]]] = {}  # process: (endpoint#incarnation, socket)
        self._rechecked: set[zmq.Socket[bytes]] = set()  # a drain is on its way
        self._clients: dict[str, bytes] = {}  # client: the identity that it greeted us with
        self._ipc: Path | None = None

    def bind(self, endpoint: str) -> str:
        """Bind the inbox. A tcp port of `*` is chosen by the system; the answer is the endpoint to connect to."""
        inbox = self._socket(zmq.ROUTER)
        inbox.set(zmq.ROUTER_MANDATORY, 1)
        inbox.set(zmq.ROUTER_HANDOVER, 1)
        if endpoint.startswith("ipc://"):
            self._ipc = Path(endpoint.removeprefix("ipc://"))
            self._ipc.unlink(missing_ok=True)  # left by a process that was killed
        inbox.bind(endpoint)
        self._inbox = inbox
        self._read(inbox, self._drain_inbox)
        return bytes(inbox.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()

    def connect(self, process: str, incarnation: int, endpoint: str, *, answered_here: bool) -> None:
        """Open the connection to a process; an older one to the same process is closed."""
        key = f"{endpoint}#{incarnation}"
        old = self._dealers.get(process)
        if old is not None:
            if old[0] == key:
                return
            self._close(old[1], 0)
        dealer = self._socket(zmq.DEALER)
        dealer.routing_id = self._identity
        dealer.connect(endpoint)
        self._dealers[process] = (key, dealer)
        if answered_here:
            source = f"{process}#{incarnation}"
            self._read(dealer, lambda: self._drain_dealer(source, dealer))

    def disconnect(self, process: str) -> None:
        """Close the connection to a process that is gone."""
        self._clients.pop(process, None)
        old = self._dealers.pop(process, None)
        if old is not None:
            self._close(old[1], 0)

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.set(zmq.SNDHWM, HIGH_WATER_FRAMES)
        socket.set(zmq.RCVHWM, HIGH_WATER_FRAMES)
        socket.set(zmq.MAXMSGSIZE, SOCKET_SIZE_MAX)
        socket.set(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.set(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        socket.set(zmq.RECONNECT_IVL, 10)
        socket.set(zmq.RECONNECT_IVL_MAX, 1000)
        socket.linger = 0
        return socket

    def _read(self, socket: zmq.Socket[bytes], drain: Callable[[], None]) -> None:
        self._readers[socket] = drain
        self._loop.add_reader(int(socket.get(zmq.FD)), drain)
        self._loop.call_soon(drain)  # the first edge comes only after a first look

    def send(self, process: str, frame: bytes) -> bool | None:
        """Hand over a frame. False: no room now; None: there is no connection to that process."""
        dealer = self._dealers.get(process)
        socket = self._inbox if dealer is None else dealer[1]
        if socket is None:
            return None
        try:
            if dealer is None:
                socket.send_multipart([self._clients[process], frame], zmq.NOBLOCK)
            else:
                socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        except (zmq.ZMQError, KeyError):  # EHOSTUNREACH: a client that went
            self._clients.pop(process, None)
            return None
        if socket in self._readers:
            self._recheck(socket)  # what came meanwhile will not be announced again
        return True

    def _recheck(self, socket: zmq.Socket[bytes]) -> None:
        if socket not in self._rechecked and int(socket.get(zmq.EVENTS)) & zmq.POLLIN:
            self._rechecked.add(socket)
            self._loop.call_soon(self._drain_again, socket)

    def _drain_again(self, socket: zmq.Socket[bytes]) -> None:
        self._rechecked.discard(socket)
        if socket in self._readers:
            self._readers[socket]()

    def _drain_inbox(self) -> None:
        inbox = self._inbox
        if inbox is None or inbox.closed:
            return
        with self._around_drain(), contextlib.suppress(zmq.Again):
            for _ in range(DRAIN_FRAMES):
                self._take(inbox.recv_multipart(zmq.NOBLOCK))
        if not inbox.closed:
            self._recheck(inbox)

    def _take(self, parts: list[bytes]) -> None:
        source = parts[0].decode("ascii", "backslashreplace")
        if len(parts) != 2:
            self._stranger(source, "wrong parts", f"a message of {len(parts) - 1} parts")
            return
        if parts[0][:1] != b"@":
            self._receive(source, parts[1])
            return
        # A client is answered here, so its identity is kept while the kernel knows it, and no longer.
        client = source.partition("#")[0]
        self._clients.setdefault(client, parts[0])
        self._receive(source, parts[1])
        if not self._knows(client):
            del self._clients[client]

    def _drain_dealer(self, source: str, dealer: zmq.Socket[bytes]) -> None:
        if dealer.closed:
            return
        with self._around_drain(), contextlib.suppress(zmq.Again):
            for _ in range(DRAIN_FRAMES):
                self._receive(source, dealer.recv(zmq.NOBLOCK))
        if not dealer.closed:
            self._recheck(dealer)

    def _close(self, socket: zmq.Socket[bytes], linger_ms: int) -> None:
        if socket in self._readers:
            del self._readers[socket]
            self._loop.remove_reader(int(socket.get(zmq.FD)))
        socket.close(linger_ms)

    def close(self) -> None:
        """Let what was sent leave, for at most `LINGER_MS`, and free everything."""
        for _, dealer in self._dealers.values():
            self._close(dealer, LINGER_MS)
        self._dealers.clear()
        if self._inbox is not None:
            self._close(self._inbox, LINGER_MS)
            self._inbox = None
        self._context.term()
        if self._ipc is not None:
            self._ipc.unlink(missing_ok=True)
            self._ipc = None
