"""Files in chunks with copies on several servers, found by one metadata server."""

from __future__ import annotations

from zactor.actor import Actor

from .metadata import Metadata
from .server import FileServer

KINDS: dict[str, type[Actor]] = {"files.metadata": Metadata, "files.server": FileServer}
INVARIANTS: dict[str, str] = {}
COMMANDS = {"fs": "nodes.files.cli:app"}
