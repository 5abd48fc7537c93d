"""A file that fsspec has opened: one version that is read, or one that is written and appears when it is closed."""

from __future__ import annotations

import errno
import io
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fsspec.spec import AbstractBufferedFile

from zactor.errors import AskTimeout, ConnectionLost, Corrupt, DiskFull, Failure

from .library import Files
from .local import PIECE_SIZE, Feed, NobodyReads
from .messages import (
    AlreadyExists,
    BadPath,
    FileTooLarge,
    IsAFolder,
    Loop,
    NoRoom,
    NotAFolder,
    NotEmpty,
    NotFound,
)

if TYPE_CHECKING:
    from .filesystem import ZactorFileSystem

_ERRNO: dict[type[Failure], int] = {
    NotFound: errno.ENOENT,
    AlreadyExists: errno.EEXIST,
    NotAFolder: errno.ENOTDIR,
    IsAFolder: errno.EISDIR,
    NotEmpty: errno.ENOTEMPTY,
    BadPath: errno.EINVAL,
    Loop: errno.ELOOP,
    NoRoom: errno.ENOSPC,
    DiskFull: errno.ENOSPC,
    FileTooLarge: errno.EFBIG,
    AskTimeout: errno.ETIMEDOUT,
    ConnectionLost: errno.ECONNRESET,
}
"""What the refusals are called elsewhere. OSError makes itself a `FileNotFoundError` and the like of the number."""


class ZactorFile(AbstractBufferedFile):
    """A file that is read, which is one version of it, or one that is written once, from its beginning to its end."""

    closed: bool

    def __init__(
        self,
        fs: ZactorFileSystem,
        path: str,
        mode: str = "rb",
        block_size: Any = None,
        autocommit: bool = True,
        size: int | None = None,  # of whoever opens it again: the version that is there now has its own
        **options: Any,
    ) -> None:
        if mode not in ("rb", "wb", "xb"):
            raise NotImplementedError(
                f"a file is written once, from its beginning, and not by mode {mode!r}; write it anew with 'wb'"
            )
        self._reader: Any = None
        self._upload: _Upload | None = None
        self._whole: bytes | None = None
        self._is_discarded = False
        with as_os_error(path):
            if mode == "rb":
                self._reader = fs.files.open(path)
                size = self._reader.stat.size
                self._details = fs.details_of(path, self._reader.stat, self._reader.stat)
            else:
                _check_writable(fs, path, mode)
        super().__init__(fs, path, mode, block_size if mode == "rb" else PIECE_SIZE, autocommit, size=size, **options)

    def __exit__(self, kind: object, *_error: object) -> None:
        if kind is not None:
            self.discard()
        self.close()

    def __del__(self) -> None:
        """Nobody closed it. It may be any thread in which this runs, also that of the client: nothing is waited for."""
        if self.closed:
            return
        self.closed = True
        if self._reader is not None:
            forgotten.append(self._reader)
        elif self._upload is not None:
            self._upload.give_up()

    def close(self) -> None:
        if self.closed:
            return
        try:
            if self._is_discarded:
                self.closed = True
            super().close()
        finally:
            if self._reader is not None:
                reader, self._reader = self._reader, None
                with as_os_error(self.path):
                    reader.close()

    def discard(self) -> None:
        """Nothing is written, whatever still comes."""
        if self.mode == "rb" or self._is_discarded:
            return
        self._is_discarded = True
        self.buffer, self._whole = io.BytesIO(), None
        if self._upload is not None:
            self._upload.abandon()

    def commit(self) -> None:
        """All that was written becomes the file."""
        with as_os_error(self.path):
            if self._upload is not None:
                self._upload.finish()
            elif self._whole is not None:
                source, size = io.BytesIO(self._whole), len(self._whole)
                self.fs.files.put(source, self.path, size=size, replace=self.mode == "wb")
                self._whole = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self._is_discarded:
            return view.nbytes
        for start in range(0, view.nbytes, PIECE_SIZE):
            super().write(view[start : start + PIECE_SIZE])
        return view.nbytes

    def flush(self, force: bool = False) -> None:
        if not self._is_discarded:
            super().flush(force)

    def _upload_chunk(self, final: bool = False) -> bool:
        """One piece. A file that is no more than that is put when it is closed, without a thread."""
        piece = self.buffer.getvalue()
        if final and self._upload is None:
            self._whole = piece
        else:
            if self._upload is None:
                self._upload = _Upload(self.fs.files, self.path, replace=self.mode == "wb")
            with as_os_error(self.path):
                self._upload.send(piece)
        if final and self.autocommit:
            self.commit()
        return True

    def _fetch_range(self, start: int, end: int) -> bytes:
        with as_os_error(self.path):
            content: bytes = self._reader.read(start, min(end, self.size) - start)
        return content


forgotten: deque[Any] = deque()
"""Readers that nobody closed, until somebody has time to."""


class _Abandoned(Exception):
    """The put was given up by whoever wrote the file."""


class _Upload:
    """A put under way in a thread, which is sent its pieces. It holds its lease until `finish`, however long."""

    def __init__(self, files: Files, path: str, *, replace: bool) -> None:
        self._feed = Feed(b"")
        self._problem: BaseException | None = None
        self._thread = threading.Thread(
            target=self._put, args=(files, path, replace), name="zactor.filesystem", daemon=True
        )
        self._thread.start()

    def send(self, piece: bytes) -> None:
        """Give a piece, when there is room for it. Raises what the put failed with."""
        try:
            if piece:
                self._feed.send(piece)
        except NobodyReads:
            self._end()

    def finish(self) -> None:
        """That was all: wait until the file is there. Raises what the put failed with."""
        with suppress(NobodyReads):
            self._feed.end()
        self._end()

    def abandon(self) -> None:
        """It shall not be there. Waits until the put has ended."""
        self.give_up()
        with suppress(_Abandoned, Failure):
            self._end()

    def give_up(self) -> None:
        """It shall not be there; nothing is waited for."""
        with suppress(NobodyReads):
            self._feed.fail(_Abandoned())

    def _end(self) -> None:
        self._thread.join()
        if self._problem is not None:
            raise self._problem

    def _put(self, files: Files, path: str, replace: bool) -> None:
        try:
            files.put(self._feed.pieces(), path, replace=replace)
        except BaseException as problem:  # whatever it was, it is for the thread that writes
            self._problem = problem
        finally:
            self._feed.close()


def _check_writable(fs: ZactorFileSystem, path: str, mode: str) -> None:
    """Say before anything is sent what could not be written, and make the folders on the way."""
    fs.make_parents(path)
    with suppress(NotFound):
        found = fs.files.stat(path)
        if found.kind == "folder":
            raise IsAFolder(f"{path} is a folder")
        if mode == "xb":
            raise AlreadyExists(f"{path} is there")


class Text(io.TextIOWrapper):
    """Text on a file: when its `with` fails, it leaves nothing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self.writable():
            self.buffer.discard()  # type: ignore[attr-defined]
        super().__exit__(kind, error, trace)


class Compressed:
    """What (de)compresses a file, and closes it or leaves nothing."""

    def __init__(self, inner: Any, path: str, compression: str) -> None:
        from fsspec.compression import compr
        from fsspec.core import get_compression

        name = get_compression(path, compression)
        self._inner = inner
        self._outer = inner if name is None else compr[name](inner, mode=inner.mode[0])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outer, name)

    def __iter__(self) -> Any:
        return iter(self._outer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_error: object) -> None:
        if kind is not None:
            self.discard()
        self.close()

    def discard(self) -> None:
        """Nothing is written, whatever still comes."""
        self._inner.discard()

    def close(self) -> None:
        """Finish what is compressed, and the file."""
        self._outer.close()
        self._inner.close()


@contextmanager
def as_os_error(path: str) -> Iterator[None]:
    """Refusals are OSErrors with their numbers here, and what fails otherwise one of input and output."""
    try:
        yield
    except Failure as failure:
        number = next((number for kind, number in _ERRNO.items() if isinstance(failure, kind)), errno.EIO)
        prefix = f"{type(failure).__name__}: " if isinstance(failure, Corrupt) or number == errno.EIO else ""
        raise OSError(number, f"{prefix}{failure}", path) from failure
