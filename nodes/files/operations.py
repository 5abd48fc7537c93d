"""What can be asked of the namespace: changes, which go through its log, and questions.

The body of a `Submit` is a tuple of changes, made in order, each by itself; its answer has an outcome for each. The
body of a `Query` is one question. Paths are resolved where the change is made, never by who asks for it: so nothing
that happens to a folder in the meantime can lead it astray.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from zactor.message import decoder

from .messages import COPIES_MAX, PAGE_SIZE_MAX, Checksum, ChunkId, Size, Version, Volume

OPERATIONS_MAX = 1_024
"""Changes in one body."""

Inode = Annotated[int, msgspec.Meta(ge=1, lt=1 << 47)]
Mode = Annotated[int, msgspec.Meta(ge=0, le=0o7777)]
Path = Annotated[str, msgspec.Meta(max_length=4_096)]
Index = Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]
Servers = Annotated[tuple[str, ...], msgspec.Meta(max_length=COPIES_MAX)]
Kind = Literal["file", "folder", "link"]


class Change(msgspec.Struct, frozen=True, array_like=True):
    """What all changes have in common."""


# --- changes of names
class Create(Change, frozen=True, tag="create"):
    """An empty file; one that is there becomes empty if `replace`, else `AlreadyExists`. Outcome: `Stat`."""

    path: Path
    replace: bool = False
    mode: Mode | None = None


class MakeFolder(Change, frozen=True, tag="mkdir"):
    """A folder. With `parents`, all above it, too, and none of them need be missing. Outcome: `Done`."""

    path: Path
    parents: bool = False
    mode: Mode = 0o755


class MakeLink(Change, frozen=True, tag="symlink"):
    """A symbolic link to a path that need not be there. Outcome: `Done`."""

    path: Path
    target: Path


class Remove(Change, frozen=True, tag="remove"):
    """A file, a link, or a folder with nothing in it goes away. Outcome: `Done`."""

    path: Path


class Rename(Change, frozen=True, tag="rename"):
    """As rename(2): a file takes the place of a file, a folder that of an empty folder. Outcome: `Done`.

    Without `replace` there must be nothing of that name (`AlreadyExists`). `Loop`: a folder below itself.
    """

    path: Path
    to: Path
    replace: bool = True


class SetMode(Change, frozen=True, tag="chmod"):
    """Permissions, which are kept for those who care. Outcome: `Done`."""

    path: Path
    mode: Mode


# --- changes of content: a put is a new inode, which nobody sees before its commit
class Begin(Change, frozen=True, tag="begin"):
    """Puts begin, of files with these sizes (None: not known). Outcome: `Begun`. The session holds their leases.

    Each is given its inode and the place of its first chunk. Raises `NoRoom` for all if one has none.
    """

    sizes: Annotated[tuple[Size | None, ...], msgspec.Meta(min_length=1, max_length=64)]


class Allocate(Change, frozen=True, tag="allocate"):
    """The next chunk of a put, of up to `size` bytes, which are reserved. Outcome: `Placed`.

    Asked again for the same index, the outcome is the same.
    """

    inode: Inode
    index: Index
    size: Size


class Rechain(Change, frozen=True, tag="rechain"):
    """A chunk that is being written goes on with these of its servers and `add` new ones. Outcome: `Placed`.

    `version` is that of the chain until now; the new one is higher. `avoid`: servers not to choose. The kept servers
    come first, in their order. `StaleVersion`.
    """

    inode: Inode
    index: Index
    version: Version
    keep: Servers
    add: Annotated[int, msgspec.Meta(ge=0, le=COPIES_MAX)] = 0
    avoid: Servers = ()


class SealedChunk(msgspec.Struct, frozen=True, array_like=True):
    """What a client says of a chunk that it wrote: where it is sealed with this size and `seal_crc`."""

    size: Size
    crc: Checksum
    version: Version
    servers: Servers


class Commit(Change, frozen=True, tag="commit"):
    """The file of a put appears under `path`, in the place of any that is there. Outcome: `Stat`.

    Its folder must be there. Each chunk must be on `copies` servers that it was given. `mode` None: as that which
    it replaces, or 0o644. Without `replace`: `AlreadyExists`. `checksum`: `chunks.file_checksum`.
    """

    inode: Inode
    path: Path
    size: Size
    checksum: Checksum
    chunks: tuple[SealedChunk, ...]
    mode: Mode | None = None
    replace: bool = True


class Abandon(Change, frozen=True, tag="abandon"):
    """A put will not go on: what it stored is garbage. Outcome: `Done`, also when it is not known."""

    inode: Inode


class Pin(Change, frozen=True, tag="pin"):
    """Begin to read a file: its chunks stay until `Unpin`, or the end of the session. Outcome: `Content`."""

    path: Path


class Unpin(Change, frozen=True, tag="unpin"):
    """The reading has ended. Outcome: `Done`."""

    inode: Inode


# --- changes by whoever runs the machine (session 0)
class Format(Change, frozen=True, tag="format"):
    """The first of all: the number of this volume."""

    volume: Volume


class Configure(Change, frozen=True, tag="configure"):
    """How many servers a chunk is put on from now on, and its size."""

    copies: Annotated[int, msgspec.Meta(ge=1, le=COPIES_MAX)]
    chunk_size: Size


class Report(Change, frozen=True, tag="report"):
    """A file server is there. `store` must be the one that it had before (`Denied` with `WrongVolume`)."""

    server: str
    store: Volume
    zone: str
    capacity: Size
    used: Size
    room: Size


class Lost(Change, frozen=True, tag="lost"):
    """A file server does not answer: nothing new is put there."""

    server: str


class Relocate(Change, frozen=True, tag="relocate"):
    """A chunk of a file is on these servers now: it was copied, and found right there. Outcome: `Done`.

    `was` is what it was decided on; when it is not so any more: `StaleVersion`.
    """

    inode: Inode
    index: Index
    was: Servers
    servers: Servers


Operation: TypeAlias = (
    Create | MakeFolder | MakeLink | Remove | Rename | SetMode | Begin | Allocate | Rechain | Commit | Abandon | Pin
    | Unpin | Format | Configure | Report | Lost | Relocate
)  # fmt: skip


# --- outcomes
class Done(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    """It was done."""


class Denied(msgspec.Struct, frozen=True, array_like=True, tag="no"):
    """It was not: the wire name of the refusal, and its text."""

    error: str
    text: str


class Placed(msgspec.Struct, frozen=True, array_like=True, tag="placed"):
    """The chain of a chunk."""

    version: Version
    servers: Servers


class Begun(msgspec.Struct, frozen=True, array_like=True, tag="begun"):
    """Puts that may go on: for each its inode and its first chunk's chain; and at what size a new chunk begins."""

    inodes: tuple[Inode, ...]
    places: tuple[Placed, ...]
    chunk_size: Size
    copies: int


class Stat(msgspec.Struct, frozen=True, array_like=True, tag="stat"):
    """What a name stands for. `size` is in bytes, 0 for a folder; `target` is that of a link; `name` its last part."""

    name: str
    inode: Inode
    kind: Kind
    size: Size
    mode: Mode
    mtime_ns: int
    checksum: Checksum = 0
    target: str = ""


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """A chunk of a file: where it is, and what it must be."""

    chunk: ChunkId
    size: Size
    crc: Checksum
    servers: Servers


class Content(msgspec.Struct, frozen=True, array_like=True, tag="content"):
    """A file and its chunks, in the order of their bytes."""

    stat: Stat
    chunks: tuple[Chunk, ...]


Outcome: TypeAlias = Done | Denied | Placed | Begun | Stat | Content


# --- questions
class GetStat(msgspec.Struct, frozen=True, array_like=True, tag="stat"):
    """What stands under a path. Answer: `Stat`. A link at its end is followed unless `follow` is False."""

    path: Path
    follow: bool = True


class GetContent(msgspec.Struct, frozen=True, array_like=True, tag="content"):
    """A file and its chunks. Answer: `Content`. Raises `IsAFolder`."""

    path: Path


class GetPage(msgspec.Struct, frozen=True, array_like=True, tag="list"):
    """The names in a folder behind `after`, sorted; of a file, itself. Answer: `Page`."""

    path: Path
    after: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_SIZE_MAX)] = PAGE_SIZE_MAX


class GetSpace(msgspec.Struct, frozen=True, array_like=True, tag="space"):
    """The file servers, and how full they are. Answer: `Space`."""


class GetProblems(msgspec.Struct, frozen=True, array_like=True, tag="problems"):
    """Chunks on fewer servers that are there than they should be, behind a cursor. Answer: `Problems`."""

    after: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_SIZE_MAX)] = PAGE_SIZE_MAX


Question: TypeAlias = GetStat | GetContent | GetPage | GetSpace | GetProblems


class Page(msgspec.Struct, frozen=True, array_like=True, tag="page"):
    """A part of a listing. When `more`, ask again with `after` the last name; it never ends short without saying so."""

    items: tuple[Stat, ...]
    more: bool


class ServerSpace(msgspec.Struct, frozen=True, array_like=True):
    """A file server. `room`: bytes not used and not `reserved` for puts under way."""

    server: str
    zone: str
    is_up: bool
    capacity: Size
    used: Size
    reserved: Size
    room: Size
    chunks: int


class Space(msgspec.Struct, frozen=True, array_like=True, tag="space"):
    """The whole file system. `bytes` are those of all files, once."""

    servers: tuple[ServerSpace, ...]
    files: int
    folders: int
    bytes: Size
    copies: int
    chunk_size: Size


class Problem(msgspec.Struct, frozen=True, array_like=True):
    """A chunk of a file, and those of its servers that are there."""

    path: str
    chunk: Chunk
    up: Servers


class Problems(msgspec.Struct, frozen=True, array_like=True, tag="problems"):
    """What was found among up to `limit` names; `cursor` is where to go on, "" at the end."""

    problems: tuple[Problem, ...]
    names: int
    cursor: str


Answer: TypeAlias = Stat | Content | Page | Space | Problems

decode_operations = decoder(tuple[Operation, ...])
decode_outcomes = decoder(tuple[Outcome, ...])
decode_question = decoder(Question)
decode_answer = decoder(Answer)
