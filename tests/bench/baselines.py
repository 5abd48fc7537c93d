"""What disk and sockets give without a file system between: the baselines of `bench files`. It is a worker.

Run as `python -m tests.bench.baselines FOLDER`. Three processes that write and sync; a bare ZeroMQ server and a reader
that checks; files that are durable one by one.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import zmq
from crc32c import crc32c

from tests.bench.content import SMALL, pieces
from tests.bench.worker import Case, blocking, serve

SYNC_BYTES = 64 << 20
"""What a plain writer lets gather before it syncs: what a chunk has."""

FRAME_BYTES = 1 << 20
WINDOW_FRAMES = 8

PROCESSES = multiprocessing.get_context("fork")


class Baselines:
    """The cases, below a folder on the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def cases(self) -> Mapping[str, Case]:
        """All of them, by name."""
        return {"write": blocking(self.write), "read": blocking(self.read), "small": blocking(self.small)}

    def write(self, size_bytes: int, writers: int) -> Iterator[float]:
        """Processes that each write a file of that size; how much each of them wrote when the last is done."""
        together = PROCESSES.Barrier(writers + 1)
        paths = [self._folder / f"plain-{number}" for number in range(writers)]
        processes = [PROCESSES.Process(target=_write, args=(path, size_bytes, together)) for path in paths]
        for process in processes:
            process.start()
        yield 0
        together.wait()
        for process in processes:
            process.join()
        if any(path.stat().st_size != size_bytes for path in paths):
            raise RuntimeError("a plain writer has not written what it was to")
        yield size_bytes
        for path in paths:
            path.unlink()

    def read(self, size_bytes: int) -> Iterator[float]:
        """Frames from the page cache of a server process through a socket, each with its checksum."""
        path = self._folder / "served"
        _write(path, size_bytes)
        port, theirs = PROCESSES.Pipe(duplex=False)
        server = PROCESSES.Process(target=_serve_frames, args=(path, theirs))
        server.start()
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.connect(f"tcp://127.0.0.1:{port.recv()}")
        _ask_frame(dealer, 0)
        _take_frame(dealer)
        yield 0
        offsets = iter(range(0, size_bytes, FRAME_BYTES))
        for offset in islice(offsets, WINDOW_FRAMES):
            _ask_frame(dealer, offset)
        read = 0
        while read < size_bytes:
            read += _take_frame(dealer)
            for offset in islice(offsets, 1):
                _ask_frame(dealer, offset)
        yield read
        dealer.send(b"")
        server.join()
        context.destroy(linger=0)
        path.unlink()

    def small(self, count: int, width: int) -> Iterator[float]:
        """Small files that each are durable under their names before the next one, by so many threads at a time."""
        folder = self._folder / "small"
        folder.mkdir()
        yield 0
        with ThreadPoolExecutor(width) as threads:
            for _ in threads.map(partial(_publish, folder), range(count)):
                pass
        if len(os.listdir(folder)) != count:
            raise RuntimeError(f"there are not {count} files")
        yield count
        shutil.rmtree(folder)


def _write(path: Path, size_bytes: int, together: Barrier | None = None) -> None:
    if together is not None:
        together.wait()
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    unsynced = 0
    for piece in pieces(size_bytes):
        if os.write(handle, piece) != len(piece):
            raise RuntimeError("the disk took less than it was given")
        unsynced += len(piece)
        if unsynced >= SYNC_BYTES:
            os.fdatasync(handle)
            unsynced = 0
    os.fdatasync(handle)
    os.close(handle)


def _publish(folder: Path, number: int) -> None:
    """As everybody should: the name is there once the content is durable, and then durable itself."""
    temporary, path = folder / f"{number}.tmp", folder / str(number)
    handle = os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(handle, SMALL)
    os.fdatasync(handle)
    os.close(handle)
    temporary.rename(path)
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def _serve_frames(path: Path, port: Connection) -> None:
    """Answer offsets with what is there and its checksum, until nothing is asked."""
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    port.send(router.bind_to_random_port("tcp://127.0.0.1"))
    handle = os.open(path, os.O_RDONLY)
    while True:
        reader, asked = router.recv_multipart()
        if not asked:
            break
        frame = os.pread(handle, FRAME_BYTES, int.from_bytes(asked))
        router.send_multipart([reader, crc32c(frame).to_bytes(4), frame], copy=False)
    context.destroy(linger=0)


def _ask_frame(dealer: zmq.Socket[bytes], offset: int) -> None:
    dealer.send(offset.to_bytes(8))


def _take_frame(dealer: zmq.Socket[bytes]) -> int:
    checksum, frame = dealer.recv_multipart(copy=False)
    if crc32c(frame.buffer) != int.from_bytes(checksum.buffer):
        raise RuntimeError("a frame is not what was sent")
    return len(frame.buffer)


if __name__ == "__main__":
    asyncio.run(serve(Baselines(Path(sys.argv[1])).cases()))
