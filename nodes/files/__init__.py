"""Files in chunks on several servers, found by one metadata server.

What it brings is named here again once its parts speak the new form of `messages`.
"""

from __future__ import annotations

from zactor.actor import Actor

from .metadata import Metadata
from .server import FileServer

KINDS: dict[str, type[Actor]] = {"files.metadata": Metadata, "files.server": FileServer}
INVARIANTS: dict[str, str] = {}
COMMANDS: dict[str, str] = {}
