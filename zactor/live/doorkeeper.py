"""Who is at the door: the connections that our inbox has accepted, by their file descriptors.

A socket monitor says when a connection begins and ends, with its descriptor; the first message that came by it has
the same one. So the end of a process is noticed within a millisecond of its death. And whoever is not introduced in
time, or says too much that is refused, is shut out: ZeroMQ itself would listen for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import sys
from collections.abc import Callable, Sequence

import zmq

from zactor.wire import SOCKET_SIZE_MAX

INTRODUCED_S = 5.0
"""For a connection to say something that is not refused."""

STRANGERS_MAX = 500
"""Connections that nobody has introduced yet: a topology that starts has fewer, of 1,000 processes with 3 lanes each
not all come at once."""

UNKNOWN_BYTES_MAX = SOCKET_SIZE_MAX
"""What a connection may send before it is introduced, which takes a few hundred. libzmq gathers the parts of a
message, of which there may be endlessly many, before it shows us the first."""

LOOK_S = 0.1
"""Between two looks at those who are not introduced."""

REFUSED_MAX = 10
"""Frames that are refused before a connection is shut. A member whose connection was lost may send a few."""

DISCARDED_BYTES = 1 << 20
DISCARDS_MAX = 16
"""What has come by a connection that is shut is thrown away: at a time, and so many times."""

WATCHED = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

_event = struct.Struct("=hi")
_tcp_info = struct.Struct("128xQ")  # linux/tcp.h: tcpi_bytes_received
_peer_credentials = struct.Struct("3i")


class Monitor:
    """Calls a function with each event of a socket: its number and its value."""

    def __init__(self, watched: zmq.Socket[bytes], events: int, on_event: Callable[[int, int], None]) -> None:
        self._watched = watched
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._socket = watched.get_monitor_socket(events)
        self._loop.add_reader(int(self._socket.get(zmq.FD)), self.drain)
        self._loop.call_soon(self.drain)  # the first edge comes only after a first look

    def drain(self) -> None:
        """Tell all events that there are."""
        while not self._socket.closed and int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
            event, _endpoint = self._socket.recv_multipart(zmq.NOBLOCK)
            self._on_event(*_event.unpack(event))

    def close(self) -> None:
        """Before the watched socket is closed."""
        self._loop.remove_reader(int(self._socket.get(zmq.FD)))
        self._watched.disable_monitor()
        self._socket.close(0)


class Doorkeeper:
    """The connections of one inbox. `ended(identity)` hears of the end of those that had one."""

    def __init__(
        self,
        inbox: zmq.Socket[bytes],
        addresses: Sequence[str],
        ended: Callable[[bytes], None],
        stranger: Callable[[str, str, str], None],
    ) -> None:
        self._ended = ended
        self._stranger = stranger
        self._loop = asyncio.get_running_loop()
        self._addresses = addresses
        self._waiting: dict[int, tuple[float, str]] = {}  # descriptors of those not introduced: since when, and who
        self._failed: int | None = None  # the code of a handshake that failed: the end of its connection comes next
        self._identities: dict[int, bytes] = {}
        self._descriptors: dict[bytes, int] = {}
        self._refused: dict[bytes, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._monitor = Monitor(inbox, WATCHED, self._on_event)

    def _on_event(self, event: int, value: int) -> None:
        if event == zmq.EVENT_DISCONNECTED:
            _since_s, name = self._waiting.pop(value, (0.0, "an unknown connection"))
            if self._failed is not None:
                self._stranger(name, "no handshake", f"it does not speak ZMTP as we do (code {self._failed})")
                self._failed = None
            identity = self._identities.pop(value, None)
            if identity is not None:
                del self._descriptors[identity]
                self._refused.pop(identity, None)
                self._ended(identity)
        elif event != zmq.EVENT_ACCEPTED:
            self._failed = value
        else:
            if len(self._waiting) >= STRANGERS_MAX:  # a member that comes now says HELLO in time; the oldest did not
                oldest = next(iter(self._waiting))
                del self._waiting[oldest]
                self._shut(oldest, "too many strangers", f"{STRANGERS_MAX} others came, and it said nothing of use")
            self._waiting[value] = (self._loop.time(), self._name(value))
            if self._timer is None:
                self._timer = self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """Shut out who has been silent for too long, or sends what we do not get to see."""
        self._monitor.drain()
        now_s = self._loop.time()
        for descriptor, (since_s, _name) in list(self._waiting.items()):
            if now_s - since_s >= INTRODUCED_S:
                del self._waiting[descriptor]
                self._shut(descriptor, "not introduced in time", f"it said nothing of use in {INTRODUCED_S:g} s")
            elif self._received_bytes(descriptor) > UNKNOWN_BYTES_MAX:
                del self._waiting[descriptor]
                self._shut(descriptor, "too much", f"{UNKNOWN_BYTES_MAX:,} bytes and nothing of use in them")
        self._timer = self._loop.call_later(LOOK_S, self._look) if self._waiting else None

    def _received_bytes(self, descriptor: int) -> int:
        """What came by a connection; 0 where the system does not count it, as on a socket in a private folder."""
        with contextlib.suppress(OSError), self._ours(descriptor) as connection:
            if sys.platform == "linux" and connection.family != socket.AF_UNIX:
                about = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _tcp_info.size)
                return int(_tcp_info.unpack(about)[0])
        return 0

    def met(self, identity: bytes, descriptor: int) -> bool:
        """The first message of an identity came by this connection. False: the connection has ended meanwhile.

        What it had sent is still read then, and its number may be somebody else's, who must not pay for it.
        """
        self._monitor.drain()
        if descriptor not in self._waiting:
            return False
        before = self._identities.get(descriptor)
        if before is not None:  # one of the two was too late; nobody knows which, and neither was introduced
            del self._descriptors[before]
            self._refused.pop(before, None)
            self._ended(before)
        self._identities[descriptor] = identity
        self._descriptors[identity] = descriptor
        return True

    def accepted(self, identity: bytes) -> None:
        """Somebody who may be here said something."""
        self._waiting.pop(self._descriptors.get(identity, -1), None)

    def refused(self, identity: bytes, source: str) -> bool:
        """What it said was refused. Returns whether it was shut out for that."""
        descriptor = self._descriptors.get(identity)
        if descriptor is None:  # it has ended
            return False
        count = self._refused[identity] = self._refused.get(identity, 0) + 1
        if count < REFUSED_MAX:
            return False
        self._monitor.drain()
        if identity not in self._descriptors:  # it has just ended: the number may be somebody else's by now
            return False
        self._shut(descriptor, "shut out", f"{count} frames of {source[:100]} were refused")
        return True

    def _name(self, descriptor: int) -> str:
        """Who is at the other end, if it is still there."""
        with contextlib.suppress(OSError), self._ours(descriptor) as connection:
            return _name(connection)
        return "a connection that is gone"

    def _ours(self, descriptor: int) -> socket.socket:
        """A connection of the inbox by its number. Raises OSError if it is a file's or another socket's by now."""
        connection = socket.socket(fileno=os.dup(descriptor))
        if _address(connection.getsockname()) not in self._addresses:
            connection.close()
            raise OSError(f"{descriptor} is no connection of {self._addresses[0]}")
        return connection

    def _shut(self, descriptor: int, reason: str, detail: str) -> None:
        """Shut a connection down; libzmq, whose it is, then sees its end."""
        name = self._name(descriptor)
        with contextlib.suppress(OSError), self._ours(descriptor) as connection:
            connection.shutdown(socket.SHUT_RDWR)  # both ways: whoever pours on is reset by the system
            for _ in range(DISCARDS_MAX):  # libzmq would read what has come already
                if not connection.recv(DISCARDED_BYTES, socket.MSG_DONTWAIT):
                    break
        self._stranger(name, reason, detail)

    def close(self) -> None:
        """Before the inbox is closed."""
        if self._timer is not None:
            self._timer.cancel()
        self._monitor.close()


def _address(name: object) -> str:
    return f"tcp://{name[0]}:{name[1]}" if isinstance(name, tuple) else f"ipc://{name}"


def _name(connection: socket.socket) -> str:
    """Who is at the other end, as far as the system knows."""
    if connection.family != socket.AF_UNIX:
        return _address(connection.getpeername())
    if not hasattr(socket, "SO_PEERCRED"):
        return "a process of this user"
    pid, _, _ = _peer_credentials.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return f"pid {pid}"
