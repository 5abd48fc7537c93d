"""Files in chunks on several servers, each chunk on as many of them as copies are wanted; a metadata server knows them."""

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
    "files.room_adds_up": "nodes.files.invariants:room_adds_up",
    "files.is_whole": "nodes.files.invariants:is_whole",
}
COMMANDS: dict[str, str] = {}
