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


FILES = "nodes/files/"
SERVER, CHUNKS, SEGMENTS = FILES + "server.py", FILES + "chunkfiles.py", FILES + "segmentstore.py"
STORE = FILES + "store.py"
NAMESPACE, INODES, WRITES, KEEPER = (FILES + f"{stem}.py" for stem in ("namespace", "inodes", "writes", "keeper"))
METADATA = FILES + "metadata.py"
UPLOAD, SMALL, CLIENT = FILES + "upload.py", FILES + "small.py", FILES + "client.py"
SESSIONS, REPLICA, HOST, STORAGE, DOOR = (
    f"zactor/replication/{stem}.py" for stem in ("sessions", "replica", "host", "storage", "client")
)
JOURNAL = "zactor/journal.py"

MUTANTS = (
    # --- what a disk does
    Mutant(
        "what a journal reads is taken to be on the disk, too (fsyncgate)",
        JOURNAL,
        "                await self._disk.write(self.file, self.size, rest[: found.size])\n",
        "                pass\n",
        4,
    ),
    Mutant(
        "a torn record stays where it is",
        JOURNAL,
        "        await self.cut(self.size)\n",
        "",
        24,
    ),
    Mutant(
        "what is read of an open segment is taken to be on the disk, too (fsyncgate)",
        SEGMENTS,
        "            await self._disk.write(str(name), start, content[start : start + READ_SIZE])\n",
        "            pass\n",
    ),
    Mutant(
        "what is read of a partial chunk is taken to be on the disk, too (fsyncgate)",
        CHUNKS,
        "            await self._disk.write(file, offset, content)\n",
        "",
    ),
    Mutant(
        "one reading proves everything",
        CHUNKS,
        "        if again == content:\n            return content\n",
        "        return content\n",
        21,
    ),
    Mutant(
        "a merge believes an index that does not list all",
        SEGMENTS,
        "            if listed < self._ledger.segments[number].needed:\n",
        "            if listed < 0:\n",
    ),
    Mutant(
        "an index that was misread once is damaged",
        SEGMENTS,
        "        for _ in range(READINGS):\n            offset",
        "        for _ in range(1):\n            offset",
    ),
    Mutant(
        "a segment is cut before it is written again",
        SEGMENTS,
        "        for start in range(0, len(content), READ_SIZE):\n            # It may",
        "        await self._disk.truncate(str(name), 0)\n"
        "        for start in range(0, len(content), READ_SIZE):\n            # It may",
        4,
    ),
    Mutant(
        "the name of a copy is not made durable",
        CHUNKS,
        "        self._holdings.add(name.chunk, Place(name.size, name.crc))\n"
        "        await renamed\n        await self._disk.sync_folder()\n",
        "        self._holdings.add(name.chunk, Place(name.size, name.crc))\n        await renamed\n",
        101,
    ),
    Mutant(
        "a journal is cut before it is written again",
        JOURNAL,
        "                await self._disk.write(self.file, self.size, rest[: found.size])\n",
        "                if len(more) < READ_SIZE:\n"
        "                    await self._disk.truncate(self.file, self.size)\n"
        "                await self._disk.write(self.file, self.size, rest)\n",
        4,
    ),
    Mutant(
        "a chunk that is being healed is not called damaged any more",
        SERVER,
        "        try:\n            await self._written(fetch(self, self._store, message))\n"
        "        finally:\n            del self._copying[chunk]\n        self._store.damaged.pop(chunk, None)\n",
        "        self._store.damaged.pop(chunk, None)\n"
        "        try:\n            await self._written(fetch(self, self._store, message))\n"
        "        finally:\n            del self._copying[chunk]\n",
        37,
    ),
    Mutant(
        "what is set aside is called damaged when that is done",
        STORE,
        "        self.damaged[chunk] = None\n        if place.segment:\n            self.segments.lost(chunk)\n"
        "            return\n        file = self.files.take_out(chunk)\n        assert file is not None\n"
        "        await self._keep_aside(file)\n",
        "        if place.segment:\n            self.segments.lost(chunk)\n            self.damaged[chunk] = None\n"
        "            return\n        file = self.files.take_out(chunk)\n        assert file is not None\n"
        "        await self._keep_aside(file)\n        self.damaged[chunk] = None\n",
        37,
    ),
    # --- along the chain
    Mutant(
        "a small chunk that is on its way is called safe",
        SERVER,
        "            await self._store.durable()\n"
        "            self._store.place(chunk)  # unless it was on its way, and found no room\n"
        "            return\n        self._check_room(len(content))\n",
        "            return\n        self._check_room(len(content))\n",
    ),
    Mutant(
        "a chunk whose seal is being synced is called sealed",
        SERVER,
        "            await self._store.durable()  # whoever had it sealed may not have waited for the end\n",
        "            pass\n",
    ),
    Mutant(
        "a seal is answered before the servers behind are done",
        SERVER,
        "            await self._written(files.seal(partial), chunk)\n        await passed.done()\n",
        "            await self._written(files.seal(partial), chunk)\n",
        3,
    ),
    Mutant(
        "a reopened chunk keeps what was behind the cut",
        CHUNKS,
        "        await self._disk.truncate(partial.file, size)\n",
        "",
    ),
    Mutant(
        "a name that was just given is not made durable",
        CHUNKS,
        "            await renamed\n            await self._disk.sync_folder()\n        finally:\n",
        "            await renamed\n        finally:\n",
        6,
    ),
    # --- the log
    Mutant(
        "a change that found no room counts as under way",
        REPLICA,
        "            if change.key is not None:\n                self.sessions.withdraw(*change.key)\n",
        "",
        7,
    ),
    Mutant(
        "a snapshot forgets which changes were made",
        SESSIONS,
        "(number, known.acknowledged_below, list(known.answers.items()))",
        "(number, known.acknowledged_below, [])",
    ),
    Mutant(
        "a snapshot is begun while a batch is being written",
        HOST,
        "        while self._writing:\n            await self._actor.disk.synced()\n        journal_size",
        "        journal_size",
        12,
    ),
    Mutant(
        "what waited for a snapshot is written to the journal before it",
        HOST,
        "            head = storage.switch()\n            self._held = False\n            self.on_turn_end()\n",
        "            self._held = False\n            self.on_turn_end()\n            head = storage.switch()\n",
        12,
    ),
    Mutant(
        "a change is sent again under another number",
        DOOR,
        "            self._attempts += 1\n",
        "            self._attempts += 1\n            self._sequence = self.session.take()\n",
        1,
    ),
    Mutant(
        "a change whose session was lost is made again in the next one",
        DOOR,
        "                    if submit.may_be_done:\n                        raise OutcomeUnknown",
        "                    if False:\n                        raise OutcomeUnknown",
        37,
    ),
    Mutant(
        "answers are acknowledged before they came",
        DOOR,
        "acknowledged_below=session.low,",
        "acknowledged_below=session.next,",
    ),
    Mutant(
        "a session whose end found no room in the log has no lease any more",
        REPLICA,
        "            if isinstance(answer, Failure):  # it goes on, and ends by its lease if nobody says more\n"
        "                self._heard[session] = heard_ns\n",
        "",
        7,
    ),
    Mutant(
        "a session that could not be opened is being opened for ever",
        DOOR,
        "            try:\n"
        "                # One whose answer is lost holds nothing, and ends by itself.\n"
        "                self._session = _Session(await self.ask(OpenSession()))\n"
        "            finally:\n                self._opening = False\n",
        "            # One whose answer is lost holds nothing, and ends by itself.\n"
        "            self._session = _Session(await self.ask(OpenSession()))\n"
        "            self._opening = False\n",
        7,
    ),
    # --- garbage and copies
    Mutant(
        "a damaged copy is dropped before there is another one",
        KEEPER,
        "        if known is not None and name in known.servers:\n            self._heal(name, chunk)\n",
        "        if known is not None and name in known.servers:\n"
        '            self._drop(name, [chunk], "damaged", actions)\n            self._heal(name, chunk)\n',
        37,
    ),
    Mutant(
        "what was partial when a server was asked is taken to be so still",
        KEEPER,
        "self._namespace.verdict(name, chunk, 0, 0) is Verdict.GARBAGE\n        ]",
        "self._namespace.verdict(name, chunk, 0, 0) is not Verdict.LIVE\n        ]",
        10,
    ),
    Mutant(
        "a copy that was not made stays under way",
        METADATA,
        "            return self._keeper.on_copy_failed(deed, error, self.now_ns())\n",
        '            self.log.warning("copy_failed", server=deed.server, because=str(error))\n            return []\n',
        36,
    ),
    Mutant(
        "a file that is being read is dropped when its name goes",
        NAMESPACE,
        "            if inode in self.pins.counts:\n",
        "            if False:\n",
    ),
    Mutant(
        "a copy that the namespace does not know of yet is garbage",
        KEEPER,
        "        return (name, chunk) in self._copying or (name, chunk) in self._dropping\n",
        "        return (name, chunk) in self._dropping\n",
    ),
    Mutant(
        "a list of a server that was lost meanwhile is believed",
        KEEPER,
        "        if comparison is None or comparison.is_listed"
        " or comparison.buckets[comparison.listed] != action.bucket:\n",
        "        if comparison is None:\n",
    ),
    Mutant(
        "a copy whose answer is lost is taken for made",
        METADATA,
        "        except Failure as error:\n"
        "            return self._keeper.on_copy_failed(deed, error, self.now_ns())\n",
        "        except Failure as error:\n"
        '            if not getattr(error, "sent", False):\n'
        "                return self._keeper.on_copy_failed(deed, error, self.now_ns())\n",
        74,
    ),
    Mutant(
        "a chunk is copied to where it is being dropped",
        KEEPER,
        "        if sources and key not in self._dropping and key not in self._copying:\n",
        "        if sources and key not in self._copying:\n",
    ),
    Mutant(
        "only the chain of a put under way may have its chunks",
        INODES,
        "            return Verdict.LIVE if place is not None and server in place.given else Verdict.GARBAGE\n",
        "            return Verdict.LIVE if place is not None and server == place.servers[0] else Verdict.GARBAGE\n",
    ),
    # --- what a client does
    Mutant(
        "a seal whose answer is lost is taken for done",
        UPLOAD,
        "            except Failure as error:\n"
        "                return await self._mend(chunk, error)\n            else:\n",
        "            except Failure:\n                chunk.sealing, chunk.is_sealed = None, True\n"
        "                return None\n            else:\n",
        1,
    ),
    Mutant(
        "frames whose answers are lost count as taken",
        UPLOAD,
        "            if await _is_done(frame.answer):\n                chunk.taken",
        "            if await _is_done(frame.answer) or True:\n                chunk.taken",
    ),
    Mutant(
        "a small file whose answer is lost is taken for stored",
        SMALL,
        "            servers += tuple(",
        "            problems = {each: error for each, error in problems.items()"
        " if type(error).__name__ != 'ConnectionLost'}\n            servers += tuple(",
        1,
    ),
)
