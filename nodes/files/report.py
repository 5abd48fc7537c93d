"""What `zactor fs` shows of files: lines and tables for people, objects for programs.

The objects are stable: a program that reads `--json` finds these names in every version.
"""

from __future__ import annotations

import stat
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from zactor.cli.common import table
from zactor.errors import Failure
from zactor.units import format_size

from .check import Checked, Examined
from .client import FilesClient
from .folders import join
from .operations import Space, Stat

_FILE_TYPES = {"file": stat.S_IFREG, "folder": stat.S_IFDIR, "link": stat.S_IFLNK}


# --- one name
def line(item: Stat) -> str:
    """A line of `ls`."""
    size = format_size(item.size) if item.kind == "file" else "-"
    return f"{size:>10}  {_shown(item)}"


def long_line(item: Stat) -> str:
    """A line of `ls -l`."""
    size = format_size(item.size) if item.kind == "file" else "-"
    arrow = f" -> {item.target}" if item.kind == "link" else ""
    return f"{_mode(item)}  {size:>10}  {_time(item.mtime_ns)}  {_shown(item)}{arrow}"


def card(item: Stat) -> list[str]:
    """What is known of a name, a line each."""
    rows = [("name", item.name or "/"), ("kind", item.kind), ("inode", item.inode)]
    if item.kind == "file":
        rows += [("size", f"{item.size} bytes"), ("checksum", f"{item.checksum:08x}")]
    if item.kind == "link":
        rows += [("target", item.target)]
    rows += [("mode", f"{item.mode:04o} {_mode(item)}"), ("mtime", _time(item.mtime_ns))]
    return [f"{name:<8}  {value}" for name, value in rows]


def json_of(item: Stat) -> dict[str, Any]:
    """The same for programs. Times are nanoseconds since 1970, checksums CRC32C in hexadecimal digits."""
    found = {
        "name": item.name,
        "kind": item.kind,
        "inode": item.inode,
        "size": item.size,
        "mode": item.mode,
        "mtime_ns": item.mtime_ns,
    }
    if item.kind == "file":
        found["checksum"] = f"{item.checksum:08x}"
    return found | {"target": item.target} if item.kind == "link" else found


# --- chunks
def chunk_lines(chunks: Sequence[Examined]) -> list[str]:
    """Each chunk with its size and checksum, and below it what its servers hold."""
    lines = []
    for each in chunks:
        lines.append(f"chunk {each.chunk.chunk:016x}  {each.chunk.size} bytes  {each.chunk.crc:08x}")
        lines += [f"  {server}  {_held(crc)}" for server, crc in sorted(each.held.items())]
    return lines


def json_of_chunk(examined: Examined) -> dict[str, Any]:
    """The same for programs."""
    held = {server: _held(crc) for server, crc in sorted(examined.held.items())}
    chunk = examined.chunk
    return {"chunk": f"{chunk.chunk:016x}", "size": chunk.size, "crc": f"{chunk.crc:08x}", "held": held}


def checked_line(checked: Checked) -> str:
    """How much was looked at, and whether it is well."""
    found = count(len(checked.problems), "problem") if checked.problems else "no problem"
    looked = (count(checked.files, "file"), count(checked.chunks, "chunk"), count(checked.copies, "copy", "copies"))
    return f"{', '.join(looked)}: {found}"


def count(number: int, one: str, many: str = "") -> str:
    """So many of something, in words."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


# --- folders
async def tree(files: FilesClient, path: str, indent: str = "") -> AsyncIterator[str]:
    """The lines of a tree below a folder."""
    previous: Stat | None = None
    async for item in files.list(path):
        if previous is not None:
            async for shown in _branch(files, path, previous, indent, is_last=False):
                yield shown
        previous = item
    if previous is not None:
        async for shown in _branch(files, path, previous, indent, is_last=True):
            yield shown


async def _branch(files: FilesClient, folder: str, item: Stat, indent: str, *, is_last: bool) -> AsyncIterator[str]:
    arrow = f" -> {item.target}" if item.kind == "link" else ""
    size = f"  {format_size(item.size)}" if item.kind == "file" else ""
    yield f"{indent}{'└── ' if is_last else '├── '}{_shown(item)}{arrow}{size}"
    if item.kind == "folder":
        async for shown in tree(files, join(folder, item.name), indent + ("    " if is_last else "│   ")):
            yield shown


async def sizes(files: FilesClient, path: str) -> AsyncIterator[tuple[str, int]]:
    """The bytes of all files in a folder, those of its folders before its own; of a file, its bytes."""
    own = await files.stat(path, follow=False)
    if own.kind != "folder":
        yield path, own.size
        return
    total = 0
    async for item in files.list(path):
        if item.kind == "file":
            total += item.size
        elif item.kind == "folder":
            async for where, size in sizes(files, join(path, item.name)):
                yield where, size
            total += size  # the last one is that of the folder itself
    yield path, total


def size_line(size: int, path: str) -> str:
    """A line of `du`."""
    return f"{format_size(size):>10}  {path}"


# --- the whole
def space_lines(space: Space) -> list[str]:
    """The file servers, their sum, and what is on them."""
    head = ("SERVER", "ZONE", "STATE", "CAPACITY", "USED", "RESERVED", "ROOM", "CHUNKS")
    rows = [
        (
            each.server,
            each.zone or "-",
            "up" if each.is_up else "lost",
            *map(format_size, (each.capacity, each.used, each.reserved, each.room)),
            each.chunks,
        )
        for each in space.servers
    ]
    up = [each for each in space.servers if each.is_up]
    sums = (sum(getattr(each, name) for each in up) for name in ("capacity", "used", "reserved", "room"))
    copies = count(space.copies, "copy", "copies")
    stored = f"{count(space.files, 'file')} of {format_size(space.bytes)} in {count(space.folders, 'folder')}, {copies}"
    total = ("total", "", f"{len(up)} up", *map(format_size, sums), sum(each.chunks for each in up))
    return [*table(head, [*rows, total]), stored]


def json_of_space(space: Space) -> dict[str, Any]:
    """The same for programs."""
    names = ("server", "zone", "is_up", "capacity", "used", "reserved", "room", "chunks")
    return {
        "servers": [{name: getattr(each, name) for name in names} for each in space.servers],
        **{name: getattr(space, name) for name in ("files", "folders", "bytes", "copies", "chunk_size")},
    }


def _shown(item: Stat) -> str:
    return f"{item.name}/" if item.kind == "folder" else item.name


def _held(crc: int | Failure) -> str:
    return f"{type(crc).__name__}: {crc}" if isinstance(crc, Failure) else f"{crc:08x}"


def _mode(item: Stat) -> str:
    return stat.filemode(_FILE_TYPES[item.kind] | item.mode)


def _time(at_ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ns // 10**9))
