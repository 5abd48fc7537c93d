"""Files in chunks on several servers, found by one metadata server. One copy of every chunk."""

from __future__ import annotations

from zactor.actor import Actor

from .metadata import Metadata
from .server import FileServer
from .workload import FilesWorkload

KINDS: dict[str, type[Actor]] = {
    "files.metadata": Metadata,
    "files.server": FileServer,
    "files.workload": FilesWorkload,
}
INVARIANTS = {
    "files.chunks_are_sealed": "nodes.files.invariants:chunks_are_sealed",
    "files.ids_are_given_once": "nodes.files.invariants:ids_are_given_once",
}
COMMANDS = {"fs": "nodes.files.cli:app"}
