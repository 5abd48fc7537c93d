"""What holds in a file system at every moment, whatever happens to it. See `zactor.judges.invariants`."""

from __future__ import annotations

from collections.abc import Mapping

from zactor.actor import Actor

from .chunks import file_size
from .metadata import Metadata
from .server import FileServer


def chunks_are_sealed(actors: Mapping[str, Actor]) -> str | None:
    """Every chunk of every file is sealed on its server, in its full size, if both are there to be asked."""
    for metadata in actors.values():
        if not isinstance(metadata, Metadata):
            continue
        for path, entry in metadata.files():
            for stored in entry.chunks:
                server = actors.get(stored.server)
                if isinstance(server, FileServer) and server.sealed_size(stored.chunk) != file_size(stored.size):
                    return f"{path} needs chunk {stored.chunk:016x}, which {stored.server} does not have"
    return None


def ids_are_given_once(actors: Mapping[str, Actor]) -> str | None:
    """No file server has a chunk whose id its metadata server has still to give."""
    for metadata in actors.values():
        if not isinstance(metadata, Metadata):
            continue
        for name, server in actors.items():
            if isinstance(server, FileServer) and server.last_chunk() > metadata.last_id():
                return f"{name} has chunk {server.last_chunk():016x}; {metadata.last_id():016x} was given last"
    return None
