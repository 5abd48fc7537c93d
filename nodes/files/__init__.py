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
COMMANDS = {"fs": "nodes.files.cli:app"}
