"""Mistakes that somebody could make in the file system, each as a patch to its code, for trials that must find them.

`hunt` says how each of them is found.
"""

from __future__ import annotations

from typing import NamedTuple


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

SERVER, METADATA, CLIENT = "nodes/files/server.py", "nodes/files/metadata.py", "nodes/files/client.py"
JOURNAL = "zactor/journal.py"

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
        31,
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
        3,
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
        "a torn record stays where it is",
        JOURNAL,
        "        await self.cut(self.size)\n",
        "",
    ),
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
    Mutant(
        "what a journal reads is taken to be on the disk, too (fsyncgate)",
        JOURNAL,
        "                await self._disk.write(self.file, self.size, rest[: found.size])\n",
        "                pass\n",
        18,
    ),
    Mutant(
        "a reader sees what is not durable yet",
        METADATA,
        "    @on\n    def lookup(",
        "    @on(interleave=True)\n    async def lookup(",
    ),
    Mutant(
        "a listing shows what is not durable yet",
        METADATA,
        "    @on\n    def list_folder(",
        "    @on(interleave=True)\n    async def list_folder(",
    ),
    Mutant(
        "a removal whose answer is lost is asked again",
        CLIENT,
        "        await self._door.ask(self._metadata, Remove(path=path), TIMEOUT_S)\n",
        "        try:\n"
        "            await self._door.ask(self._metadata, Remove(path=path), TIMEOUT_S)\n"
        "        except Failure:\n"
        "            await self._door.ask(self._metadata, Remove(path=path), TIMEOUT_S)\n",
        15,
    ),
    Mutant(
        "a commit whose answer is lost is asked again",
        CLIENT,
        "            return await self._door.ask(self._metadata, Commit(token=begun.token, entry=entry), "
        "SEAL_TIMEOUT_S)\n",
        "            commit = Commit(token=begun.token, entry=entry)\n"
        "            try:\n"
        "                return await self._door.ask(self._metadata, commit, SEAL_TIMEOUT_S)\n"
        "            except Failure:\n"
        "                return await self._door.ask(self._metadata, commit, SEAL_TIMEOUT_S)\n",
        4,
    ),
    Mutant(
        "a seal whose answer is lost is taken for done",
        CLIENT,
        "        size, answer = self._window.popleft()\n        await answer\n",
        "        size, answer = self._window.popleft()\n"
        "        try:\n"
        "            await answer\n"
        "        except Failure as error:\n"
        "            if type(error).__name__ != 'ConnectionLost':\n"
        "                raise\n",
    ),
    Mutant(
        "the last chunk is committed before it is sealed",
        CLIENT,
        "            while self._window:\n                await self._take_answer()\n",
        "            while len(self._window) > 1:\n                await self._take_answer()\n",
    ),
    Mutant(
        "a put's token is given again after a restart",
        METADATA,
        "        token = self._next_id()\n",
        "        self._given += 1\n        token = self._given\n",
    ),
    Mutant(
        "changes are made while those before them are being synced",
        METADATA,
        "    @on\n    async def flush(",
        "    @on(interleave=True)\n    async def flush(",
    ),
)
