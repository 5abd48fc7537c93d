"""What holds in a file system, whatever happens to it: at every moment, and when it has come to rest.

See `zactor.judges.invariants`. What one may see of an actor is asked for; nothing here reads a disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from zactor.actor import Actor

from .messages import BUCKETS, PAGE_SIZE_MAX, chunk_id, held_digest, inode_of
from .metadata import Metadata
from .namespace import Namespace
from .operations import Chunk
from .server import FileServer

Actors = Mapping[str, Actor]

_Held = dict[str, tuple[FileServer, tuple[int, ...], tuple[int, ...]]]
"""Of each server the digests of what it has, and what is damaged there."""


class IsSound:
    """What holds at every moment. It is looked at where something has changed since the last look."""

    def __init__(self) -> None:
        self._metadata: Metadata | None = None
        self._index = 0
        self._held: _Held = {}

    def __call__(self, actors: Actors) -> str | None:
        """Say what does not hold."""
        metadata = _metadata(actors)
        if metadata is None:
            return None
        servers = _servers(actors)
        held = {name: (server, server.digests(), server.damaged()) for name, server in servers.items()}
        is_changed = metadata is not self._metadata or metadata.index != self._index
        problem = None
        if is_changed:
            problem = room_adds_up(metadata.namespace) or what_is_read_stays(metadata.namespace)
        if is_changed or held != self._held:
            problem = problem or chunks_are_sealed(metadata.namespace, servers)
            problem = problem or ids_are_given_once(metadata.namespace, self._new_chunks(held))
        self._metadata, self._index, self._held = metadata, metadata.index, held
        return problem

    def _new_chunks(self, held: _Held) -> list[tuple[str, int]]:
        """Servers, and what they have in buckets that were not so before."""
        found = []
        for name, (server, digests, _) in held.items():
            _, known, _ = self._held.get(name, (None, (), ()))
            if digests != known:
                changed = [bucket for bucket in range(BUCKETS) if not known or digests[bucket] != known[bucket]]
                found += [(name, chunk) for bucket in changed for chunk in server.held(bucket)]
        return found


# --- at every moment
def chunks_are_sealed(namespace: Namespace, servers: Mapping[str, FileServer]) -> str | None:
    """Every chunk of every file is sealed on all servers that should have it, are there, and do not call it damaged."""
    for chunk in chunks_of(namespace):
        problem = _misplaced(chunk, servers)
        if problem is not None:
            return problem
    return None


def ids_are_given_once(namespace: Namespace, held: Iterable[tuple[str, int]]) -> str | None:
    """No file server has a chunk of an inode that has still to be given."""
    for name, chunk in held:
        if inode_of(chunk) >= namespace.next_inode:
            return f"{name} has chunk {chunk:016x}; inode {namespace.next_inode:x} is the next one to be given"
    return None


def room_adds_up(namespace: Namespace) -> str | None:
    """What is reserved on the servers is what puts under way need, and what they should hold is what files need."""
    table, loads = namespace.servers.table, namespace.servers.loads
    reserved = [0] * len(table)
    for put in namespace.writes.puts.values():
        for place in put.places.values():
            for number in place.servers:
                reserved[number] += place.reserved
    expected = _expected(namespace)
    for number, server in enumerate(table):
        if loads[number].reserved != reserved[number]:
            return f"{loads[number].reserved} bytes are reserved on {server.name}; its puts need {reserved[number]}"
        if loads[number].digests != expected[server.name]:
            return f"the digests of what {server.name} should hold are not those of the files' chunks"
    return None


def what_is_read_stays(namespace: Namespace) -> str | None:
    """A file that is being read is there, with or without a name."""
    for inode in namespace.pins.counts:
        if inode not in namespace.tables.leaves:
            return f"inode {inode:x} is being read, and is gone"
    return None


# --- at rest
def is_whole(actors: Actors) -> str | None:
    """Each chunk is on as many servers as it should be, and nothing else is anywhere."""
    metadata = _metadata(actors)
    if metadata is None:
        return "the metadata server is not there"
    namespace, servers = metadata.namespace, _servers(actors)
    if namespace.writes.puts or namespace.pins.counts:
        return f"{len(namespace.writes.puts)} puts are under way, {len(namespace.pins.counts)} files are being read"
    for chunk in chunks_of(namespace):
        missing = [name for name in chunk.servers if name not in servers]
        if missing or len(chunk.servers) != namespace.copies:
            lost = f", of which {', '.join(missing)} cannot be asked" if missing else ""
            return f"chunk {chunk.chunk:016x} is on {', '.join(chunk.servers)}{lost}; {namespace.copies} copies are due"
        problem = _misplaced(chunk, servers)
        if problem is not None:
            return problem
    return _leftovers(namespace, servers)


def _leftovers(namespace: Namespace, servers: dict[str, FileServer]) -> str | None:
    expected = {name: dict[int, int]() for name in servers}
    for chunk in chunks_of(namespace):
        for name in chunk.servers:
            expected[name][chunk.chunk] = chunk.size
    for known in namespace.servers.table:
        name, server = known.name, servers.get(known.name)
        if server is None or server.store_number() != known.store:
            continue  # it is gone, or lost its memory and is refused
        if not known.is_up:
            return f"{name} is there, and is taken for lost"
        garbage = [chunk for chunk in _held_by(server) if chunk not in expected[name]]
        if garbage or server.partials():
            return f"{name} keeps {len(garbage)} chunks and {len(server.partials())} partial ones that no file needs"
        if server.damaged():
            return f"{name} has {len(server.damaged())} damaged chunks that are not mended"
        needed = sum(expected[name].values())
        if (known.used, server.used()) != (needed, needed):
            return f"{name} uses {server.used()} bytes and is said to use {known.used}; files need {needed}"
    return None


# --- what they look at
def chunks_of(namespace: Namespace) -> Iterator[Chunk]:
    """All chunks of files that have a name, or are being read."""
    cursor = b""
    while True:
        found = namespace.scan(cursor, PAGE_SIZE_MAX)
        yield from found.chunks
        cursor = found.cursor
        if not cursor:
            break
    for inode in namespace.pins.counts:
        index = 0
        while (chunk := namespace.find_chunk(chunk_id(inode, index))) is not None:
            yield chunk
            index += 1


def _misplaced(chunk: Chunk, servers: Mapping[str, FileServer]) -> str | None:
    for name in chunk.servers:
        server = servers.get(name)
        found = None if server is None else server.sealed(chunk.chunk)
        if server is not None and found != (chunk.size, chunk.crc) and chunk.chunk not in server.damaged():
            has = "does not have it" if found is None else f"has {found[0]} bytes with {found[1]:08x}"
            needs = f"{chunk.size} bytes with checksum {chunk.crc:08x}"
            return f"chunk {chunk.chunk:016x} should be on {name} with {needs}, which {has}"
    return None


def _expected(namespace: Namespace) -> dict[str, list[int]]:
    expected = {server.name: [0] * BUCKETS for server in namespace.servers.table}
    for chunk in {each.chunk: each for each in chunks_of(namespace)}.values():
        for name in chunk.servers:
            bucket = inode_of(chunk.chunk) % BUCKETS
            expected[name][bucket] ^= held_digest(chunk.chunk, chunk.size, chunk.crc)
    return expected


def _held_by(server: FileServer) -> Iterator[int]:
    return (chunk for bucket in range(BUCKETS) for chunk in server.held(bucket))


def _metadata(actors: Actors) -> Metadata | None:
    return next((actor for actor in actors.values() if isinstance(actor, Metadata)), None)


def _servers(actors: Actors) -> dict[str, FileServer]:
    return {name: actor for name, actor in actors.items() if isinstance(actor, FileServer)}
