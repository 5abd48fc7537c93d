"""Files in chunks, each on several servers; a metadata server knows which. Begin with `messages` and `namespace`."""

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
    "files.is_sound": "nodes.files.invariants:IsSound",
    "files.is_whole": "nodes.files.invariants:is_whole",
}
COMMANDS = {"fs": "nodes.files.cli:app"}
