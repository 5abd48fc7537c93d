"""ZeroMQ's library as it is installed here, for whoever has to say what is wrong with it."""

from __future__ import annotations

from typing import NamedTuple


class Library(NamedTuple):
    """Versions of pyzmq and of libzmq, and which of the transports and securities it was built without."""

    pyzmq: tuple[int, ...]
    libzmq: tuple[int, ...]
    missing: tuple[str, ...]


def library() -> Library:
    """What there is. Raises ImportError when it cannot be loaded."""
    import zmq

    without = tuple(each for each in ("ipc", "curve") if not zmq.has(each))
    return Library(tuple(map(int, zmq.pyzmq_version_info()[:3])), zmq.zmq_version_info(), without)
