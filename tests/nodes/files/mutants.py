"""Mistakes that somebody could make in the file system, each as a patch to its code, for trials that must find them."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import zactor
from nodes.files import KINDS

INVARIANTS = "nodes.files.invariants"
ROOT = Path(zactor.__file__).parents[1]


class Mutant(NamedTuple):
    """`before` stands once in `file`; with `after` in its place the code is wrong. `seed` shows it."""

    name: str
    file: str
    before: str
    after: str
    seed: int = 0


SYNC_THEN_RENAME = """\
            await self.disk.synced()
            # Durable before it is named: a crash leaves a whole chunk under this name, or none.
            await self.disk.rename(partial_file(chunk), sealed_file(chunk))
            await self.disk.sync_folder()
"""

OPENED = '        await self.disk.sync_folder()\n        self.log.info("namespace_opened"'

SERVER, METADATA, JOURNAL = "nodes/files/server.py", "nodes/files/metadata.py", "zactor/journal.py"

MUTANTS = (
    Mutant(
        "a chunk is renamed and never synced",
        SERVER,
        SYNC_THEN_RENAME,
        """\
            await self.disk.rename(partial_file(chunk), sealed_file(chunk))
            await self.disk.sync_folder()
""",
        1,
    ),
    Mutant(
        "the folder of a chunk is not synced",
        SERVER,
        SYNC_THEN_RENAME,
        """\
            await self.disk.synced()
            await self.disk.rename(partial_file(chunk), sealed_file(chunk))
""",
        1,
    ),
    Mutant(
        "a change is answered before it is durable",
        METADATA,
        "        await self.disk.synced()\n        self._held.difference_update",
        "        self._held.difference_update",
        1,
    ),
    Mutant(
        "an epoch is used before it is durable",
        METADATA,
        f"        await self.disk.synced()\n{OPENED}",
        OPENED,
        11,
    ),
    Mutant(
        "every start has the same epoch",
        METADATA,
        "self._names.epoch + 1))",
        "max(1, self._names.epoch)))",
        1,
    ),
    Mutant(
        "the name of the journal is not made durable",
        METADATA,
        OPENED,
        OPENED.removeprefix("        await self.disk.sync_folder()\n"),
        6,
    ),
    Mutant(
        "a removal is forgotten by the next start",
        METADATA,
        "            self._names.apply(decode_change(payload))\n",
        "            if not isinstance(decode_change(payload), Removed):\n"
        "                self._names.apply(decode_change(payload))\n",
        1,
    ),
    Mutant(
        "the last record of the journal is taken for a torn one",
        METADATA,
        "await self._journal.recover():",
        "(await self._journal.recover())[:-1]:",
        1,
    ),
    Mutant(
        "every start has a volume of its own",
        METADATA,
        "self._names.volume or self.rng.getrandbits(63) or 1",
        "self.rng.getrandbits(63) or 1",
        1,
    ),
)

SELDOM = (
    Mutant(
        "old chunks are dropped before their replacement is durable",
        METADATA,
        "            freed += old\n            done.append((later, answer))\n        await self.disk.synced()\n",
        "            freed += old\n            self._held.difference_update(gone.chunk for gone in old)\n"
        "            self._drop(old)\n"
        "            done.append((later, answer))\n        await self.disk.synced()\n",
    ),
    Mutant(
        "a survey forgets what was held for a change under way",
        METADATA,
        "            self._held.update(stored.chunk for stored in old)\n",
        "",
    ),
    Mutant(
        "whose chunks these are is not made durable",
        SERVER,
        "        await self.disk.synced()\n        await self.disk.sync_folder()\n        self._volume_safe = True\n",
        "        self._volume_safe = True\n",
    ),
    Mutant(
        "a torn record stays where it is",
        JOURNAL,
        "        await self.cut(self.size)\n",
        "",
    ),
)
"""Mistakes that trials have not found, or seldom: listed apart, they prove nothing."""

EASY = (
    Mutant(
        "chunks of puts that are under way count as garbage",
        METADATA,
        "        return not any(chunk in put.places for put in self._puts.values())\n",
        "        return True\n",
    ),
    Mutant(
        "chunks of a put that waits for the journal count as garbage",
        METADATA,
        "        self._held.update(place.chunk for place in places)\n",
        "",
    ),
)
"""Mistakes that are found without any fault."""


@contextmanager
def in_place(mutant: Mutant) -> Iterator[None]:
    """Let the kinds of files be made from the mutant's code."""
    kinds, modules = dict(KINDS), dict(sys.modules)
    name = mutant.file.removesuffix(".py").replace("/", ".")
    text = (ROOT / mutant.file).read_text()
    assert text.count(mutant.before) == 1, f"{mutant.name}: the code has changed"
    sys.modules.pop(INVARIANTS, None)  # they know the classes of the kinds: they are imported again
    try:
        _execute(name, text.replace(mutant.before, mutant.after))
        for other in ("nodes.files.server", "nodes.files.metadata"):
            if other != name:
                _execute(other, (ROOT / f"{other.replace('.', '/')}.py").read_text())
        KINDS["files.server"] = sys.modules["nodes.files.server"].FileServer
        KINDS["files.metadata"] = sys.modules["nodes.files.metadata"].Metadata
        yield
    finally:
        sys.modules.pop(INVARIANTS, None)
        KINDS.update(kinds)
        sys.modules.update({name: module for name, module in modules.items() if name != INVARIANTS})
        for module in (name, "nodes.files.server", "nodes.files.metadata"):
            package, _, attribute = module.rpartition(".")
            setattr(sys.modules[package], attribute, modules[module])


def _execute(name: str, text: str) -> None:
    module = types.ModuleType(name)
    module.__file__ = str(ROOT / f"{name.replace('.', '/')}.py")
    module.__package__ = name.rpartition(".")[0]
    sys.modules[name] = module
    exec(compile(text, module.__file__, "exec"), module.__dict__)
