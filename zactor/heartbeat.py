"""The failure detector: each kernel says that its loop still turns, and how late it is, and notices who says nothing.

A killed process is noticed by its connection; this is for those whose connection stands while they do nothing:
stopped, caught in a loop, or behind a cable that was pulled. `timeout_ns` is how long a process may be silent, and a
person sets it (`peer_timeout` of a topology); 0 switches all this off, for the virtual world.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zactor.message import decoder
from zactor.peer import Peer
from zactor.wire import Letter

if TYPE_CHECKING:
    from zactor.kernel import Kernel

BEATS = 5
"""In the time after which silence means loss."""

_late_ns = decoder(int)


class Heartbeat:
    """The heartbeats of one kernel, and what it hears of those of others."""

    def __init__(self, kernel: Kernel, timeout_ns: int) -> None:
        self._kernel = kernel
        self._timeout_ns = timeout_ns
        self._interval_ns = timeout_ns // BEATS
        self._due_ns = 0
        self._late_ns = 0

    def start(self) -> None:
        """Begin, once."""
        if self._timeout_ns and not self._due_ns:
            self._next(self._kernel.world.now_ns())

    def _next(self, now_ns: int) -> None:
        self._due_ns = now_ns + self._interval_ns
        self._kernel.waits.at(self._due_ns, self._beat)

    def late_ns(self) -> int:
        """How late this loop was for its last heartbeat, or is for the next."""
        return max(self._late_ns, self._kernel.world.now_ns() - self._due_ns if self._due_ns else 0)

    def _beat(self) -> None:
        kernel = self._kernel
        now_ns = kernel.world.now_ns()
        self._late_ns = max(0, now_ns - self._due_ns)
        for peer in list(kernel.neighbours.peers.values()):
            if self._late_ns > self._interval_ns:
                peer.heard_ns = now_ns  # it is we who were away: what the others said meanwhile is still to be read
            if peer.state == "greeting":
                kernel.neighbours.say_hello(peer)
            elif peer.state == "open":
                kernel.mailroom.post_control(peer, "$beat", "", "", self._late_ns)
            if peer.welcomed and now_ns - peer.heard_ns > self._timeout_ns:
                silent_s = (now_ns - peer.heard_ns) / 1e9
                kernel.neighbours.lost(peer, f"{peer.process} was silent for {silent_s:.1f} s")
        self._next(now_ns)

    def heard(self, peer: Peer, _target: str, _sender: str, letter: Letter) -> None:
        """A heartbeat came."""
        peer.late_ns = _late_ns(letter.body)
