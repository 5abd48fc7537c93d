"""What a put reads from: a file, or anything that gives bytes, in pieces of the size that is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeAlias


class Readable(Protocol):
    """A file opened for reading, in binary. If it has `seek`, more can be mended."""

    def read(self, size: int, /) -> bytes | None:
        """Up to `size` bytes; none at the end."""


Source: TypeAlias = Readable | Iterable[bytes] | AsyncIterable[bytes]


class SourceReader:
    """A source of any kind, read in pieces of the size that one asks for.

    An async source may give `b""` when it has nothing yet: then `stalled` is called, which keeps the put alive.
    """

    def __init__(self, source: Source, stalled: Callable[[], Awaitable[None]]) -> None:
        self._file: Any = source if hasattr(source, "read") else None
        self._start = None if self._file is None else _position(source)
        self._pieces = None if self._file is not None else _as_async(source)  # type: ignore[arg-type]
        self._stalled = stalled
        self._rest: bytes | memoryview = b""
        self._has_ended = False

    async def read(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end."""
        parts: list[bytes | memoryview] = []
        missing = size
        while missing and (piece := await self._next(missing)):
            parts.append(piece[:missing])
            self._rest = memoryview(piece)[missing:] if len(piece) > missing else b""
            missing -= len(parts[-1])
        return parts[0] if len(parts) == 1 and isinstance(parts[0], bytes) else b"".join(parts)

    def give_back(self, piece: bytes) -> None:
        """What was read last is read again."""
        self._rest = piece + bytes(self._rest)

    @property
    def can_go_back(self) -> bool:
        """Whether the source can be read again."""
        return self._start is not None

    def go_back(self, offset: int) -> None:
        """Go on with the bytes at an offset of the source."""
        assert self._start is not None, "it can go back"
        self._file.seek(self._start + offset)
        self._rest, self._has_ended = b"", False

    async def _next(self, size: int) -> bytes | memoryview:
        if self._rest or self._has_ended:
            return self._rest
        if self._file is not None:
            piece = self._file.read(size) or b""
            self._has_ended = not piece
            return piece
        assert self._pieces is not None, "it is a file, or gives pieces"
        async for piece in self._pieces:
            if piece:
                return piece
            await self._stalled()
        self._has_ended = True
        return b""


def _position(source: Any) -> int | None:
    """Where a file stands, if it can be read again from there."""
    try:
        return int(source.tell()) if source.seekable() else None
    except (AttributeError, OSError):
        return None


async def _as_async(source: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(source, AsyncIterable):
        async for content in source:
            yield content
    else:
        for content in source:
            yield content
