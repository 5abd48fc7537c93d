"""What has to be done so that every chunk is where the namespace says, on servers that come, go, fill up and rot.

Decisions only: it is told what servers say and which time it is, looks at the namespace, and returns actions in order.
Whoever runs it carries them out and tells it what became of each.

Three rules. A chunk is dropped only by a verdict of the namespace, which is durable, and never while a copy of it is
being made there. A copy counts when its server has said that it is right, and nothing is taken away before. And what
fails or is in doubt is left as it is and looked at again later.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any, Literal, TypeAlias

import msgspec

from zactor.errors import Failure

from .inodes import Verdict
from .messages import BUCKETS, PAGE_SIZE_MAX, HeldPage, Inventory, NoRoom, WrongVolume, chunk_id, inode_of
from .namespace import Namespace
from .operations import Chunk, Denied, Done, Lost, Outcome, Relocate, Report
from .writes import Freed

SWEEP_NAMES = 128
SCAN_NAMES = 512
"""Names that are looked at in one go, all or those of some buckets: about a millisecond."""

HELD_MAX = 200_000
"""Chunks of a server that are compared in one walk over the namespace: about 20 MB of their ids."""

RETRY_NS = 15 * 10**9
"""After this a copy is tried again that could not be made."""

BUSY_NS = 30 * 10**9
"""So long a bucket whose digest differs is left alone while the difference changes, which is what puts and removals
under way look like."""

QUIET_NS_MAX = 60 * 10**9
"""A bucket in which nothing was wrong though its digest differs, as with a put that waits, is listed after twice the
time that it was before, up to this."""


class Settings(msgspec.Struct, frozen=True):
    """`repair_after_ns`: for how long a server may be away; `repairs`: copies that are made at a time."""

    repair_after_ns: int
    repairs: int
    survey_every_ns: int


# --- what is to be done
class ListHeld(msgspec.Struct, frozen=True):
    """Ask a server for a page of a bucket, and call `on_held` or `on_list_failed`."""

    server: str
    bucket: int
    after: int


class Drop(msgspec.Struct, frozen=True):
    """Have chunks removed, and call `on_dropped` whatever comes of it."""

    server: str
    chunks: tuple[int, ...]


class PutAside(msgspec.Struct, frozen=True):
    """Have chunks kept apart, and call `on_dropped` whatever comes of it."""

    server: str
    chunks: tuple[int, ...]


class Copy(msgspec.Struct, frozen=True):
    """Have a chunk copied to a server from others, and call `on_copied` or `on_copy_failed`.

    `instead`: a server that should have it, and has no room to be given it again.
    """

    server: str
    chunk: Chunk
    sources: tuple[str, ...]
    instead: str = ""


class Propose(msgspec.Struct, frozen=True):
    """Change the namespace, and call `on_outcome`."""

    change: Report | Lost | Relocate


class Note(msgspec.Struct, frozen=True):
    """Something to log."""

    level: Literal["info", "warning", "error"]
    event: str
    fields: dict[str, Any]


Action: TypeAlias = ListHeld | Drop | PutAside | Copy | Propose | Note


class _Comparison(msgspec.Struct):
    """Some buckets of a server are compared: first they are listed, one after the other, then the namespace is read."""

    buckets: tuple[int, ...]
    listed: int = 0  # of them
    held: set[int] = msgspec.field(default_factory=set)
    cursor: bytes = b""
    found: int = 0

    @property
    def is_listed(self) -> bool:
        return self.listed == len(self.buckets)


class _Server(msgspec.Struct):
    """A file server as the keeper sees it. `lost_ns`: since when it is away; None while it is there."""

    name: str
    lost_ns: int | None
    because: str = ""
    refused: str = ""
    is_gone: bool = False  # for so long that its chunks are copied elsewhere
    digests: tuple[int, ...] = ()
    comparison: _Comparison | None = None
    differences: dict[int, tuple[int, int]] = msgspec.field(default_factory=dict)  # bucket -> of digests, since when
    quiet: dict[int, tuple[int, int]] = msgspec.field(default_factory=dict)  # bucket -> when again, after how long


class Keeper:
    """Give it all that happens; do what it returns."""

    def __init__(self, namespace: Namespace, servers: Sequence[str], settings: Settings, now_ns: int) -> None:
        self._namespace = namespace
        self._settings = settings
        known = [server.name for server in namespace.servers.table]
        self._servers = {name: _Server(name, now_ns) for name in dict.fromkeys([*known, *servers])}
        self._copying: dict[tuple[str, int], None] = {}  # until the namespace knows of the copy
        self._dropping: dict[tuple[str, int], None] = {}
        self._heals: OrderedDict[tuple[str, int], None] = OrderedDict()  # what a server should hold and does not
        self._later: OrderedDict[tuple[str, int], int] = OrderedDict()  # the same, and when to try it again
        self._queue: list[Chunk] = []  # found by the sweep
        self._cursor: bytes | None = None  # of the sweep; None: there is none
        self._sweep_again = False
        self._is_swept = False  # all names were looked at; what was found may still be in the queue
        self._said: tuple[int, list[str]] | None = None  # of these
        self._short = 0  # chunks that this sweep could do nothing for
        # When to sweep again. Once all who were to come have come, too: this may have been stopped amid a repair.
        self._retry_ns = now_ns + settings.repair_after_ns

    # --- what one may know
    def up(self) -> list[str]:
        """The servers that are there."""
        return [server.name for server in self._servers.values() if server.lost_ns is None]

    @property
    def is_busy(self) -> bool:
        """Whether there is more to look at as soon as somebody has time: call `tick`."""
        sweeping = self._cursor is not None and not self._queue
        return sweeping or any(
            each.comparison is not None and each.comparison.is_listed for each in self._servers.values()
        )

    # --- servers come and go
    def on_inventory(self, name: str, inventory: Inventory, now_ns: int) -> list[Action]:
        """A server has told what it is and holds."""
        server = self._servers[name]
        number = self._namespace.servers.numbers.get(name)
        known = None if number is None else self._namespace.servers.table[number]
        is_another = known is not None and known.store != inventory.store
        if known is not None and is_another and inventory.used:
            because = f"its store is {inventory.store:#x} and was {known.store:#x}: give it that one, or an empty one"
            return self._refuse(server, because, now_ns)
        actions: list[Action] = []
        if known is None or is_another or not known.is_up or known.fresh or _differs(known, inventory):
            actions.append(Propose(_report(name, inventory)))
        if is_another:  # an empty disk is a mend as good as any: the copies are made again
            actions.append(Note("warning", "store_replaced", {"server": name, "store": f"{inventory.store:#x}"}))
        if server.lost_ns is not None:
            actions += self._found(server, inventory)
        for chunk in inventory.damaged:
            self._damaged(name, chunk, actions)
        garbage = [
            chunk for chunk in inventory.partials if self._namespace.verdict(name, chunk, 0, 0) is Verdict.GARBAGE
        ]
        self._drop(name, garbage, "partial_of_no_put", actions)
        server.digests = inventory.digests
        self._compare(server, now_ns, actions)
        return actions + self._advance(now_ns)

    def _found(self, server: _Server, inventory: Inventory) -> list[Action]:
        self._sweep_again = self._sweep_again or server.is_gone
        server.lost_ns, server.because, server.refused = None, "", ""
        server.comparison, server.is_gone = None, False
        server.differences.clear()
        server.quiet.clear()
        return [Note("info", "server_found", {"server": server.name, "room": inventory.room, "zone": inventory.zone})]

    def on_lost(self, name: str, because: str, now_ns: int) -> list[Action]:
        """A server does not answer, or its process ended."""
        server = self._servers[name]
        actions = self._mark_lost(name)
        if server.lost_ns is None or not server.because:
            actions.append(Note("warning", "server_lost", {"server": name, "because": because}))
        server.lost_ns = now_ns if server.lost_ns is None else server.lost_ns
        server.because, server.comparison = because, None
        return actions

    def _mark_lost(self, name: str) -> list[Action]:
        number = self._namespace.servers.numbers.get(name)
        if number is None or not self._namespace.servers.table[number].is_up:
            return []
        return [Propose(Lost(name))]

    def on_refused(self, name: str, because: str, now_ns: int) -> list[Action]:
        """A server is not of this volume (`WrongVolume`)."""
        return self._refuse(self._servers[name], because, now_ns)

    def _refuse(self, server: _Server, because: str, now_ns: int) -> list[Action]:
        """It is used for nothing, and counts as lost."""
        actions = self._mark_lost(server.name)
        if server.refused != because:
            actions.append(Note("error", "server_refused", {"server": server.name, "because": because}))
        server.refused = server.because = because
        server.lost_ns = now_ns if server.lost_ns is None else server.lost_ns
        server.comparison = None
        return actions

    # --- what a server holds
    def _compare(self, server: _Server, now_ns: int, actions: list[Action]) -> None:
        """Begin to list the buckets that differ."""
        expected = self._namespace.expected(server.name)
        differing = []
        for bucket in range(BUCKETS):
            difference = server.digests[bucket] ^ expected[bucket]
            if not difference:
                server.differences.pop(bucket, None)
                server.quiet.pop(bucket, None)
                continue
            before, since_ns = server.differences.get(bucket, (0, now_ns))
            server.differences[bucket] = (difference, since_ns)
            is_steady = before == difference or now_ns - since_ns >= BUSY_NS
            if is_steady and server.quiet.get(bucket, (0, 0))[0] <= now_ns:
                differing.append(bucket)
        if differing and server.comparison is None:
            number = self._namespace.servers.numbers.get(server.name)
            chunks = 0 if number is None else self._namespace.servers.loads[number].chunks
            count = max(1, HELD_MAX * BUCKETS // (chunks + 1))
            server.comparison = _Comparison(tuple(differing[:count]))
            actions.append(ListHeld(server.name, differing[0], 0))

    def on_list_failed(self, action: ListHeld) -> list[Action]:
        """Nothing is known of the rest of that bucket, so nothing follows from it."""
        self._servers[action.server].comparison = None
        return []

    def on_held(self, action: ListHeld, page: HeldPage, now_ns: int) -> list[Action]:
        """A page of a bucket's list has come."""
        name = action.server
        comparison = self._servers[name].comparison
        if comparison is None or comparison.is_listed or comparison.buckets[comparison.listed] != action.bucket:
            return []  # it was lost meanwhile: what it said then is not looked at
        actions: list[Action] = []
        garbage, foreign, wrong = [], [], []
        for held in page.chunks:
            verdict = self._namespace.verdict(name, held.chunk, held.size, held.crc)
            if verdict is Verdict.GARBAGE:
                garbage.append(held.chunk)
            elif verdict is Verdict.FOREIGN:
                foreign.append(held.chunk)
            elif verdict is Verdict.WRONG:
                wrong.append(held.chunk)
            else:
                comparison.held.add(held.chunk)
        comparison.found += len(foreign) + len(wrong)
        comparison.found += self._drop(name, garbage, "no_file_has_it_here", actions)
        self._set_aside(name, foreign, "chunk_never_given", actions)
        self._set_aside(name, wrong, "chunk_is_another", actions)
        for chunk in wrong:
            self._heal(name, chunk)
        if page.more:
            actions.append(ListHeld(name, action.bucket, page.chunks[-1].chunk))
        else:
            comparison.listed += 1
            if not comparison.is_listed:
                actions.append(ListHeld(name, comparison.buckets[comparison.listed], 0))
        return actions + self._advance(now_ns)

    def _look_for_missing(self, server: _Server, comparison: _Comparison, now_ns: int) -> list[Action]:
        """The next names of the namespace: what it expects there and is not held."""
        scan = self._namespace.scan(comparison.cursor, SCAN_NAMES, comparison.buckets)
        comparison.cursor = scan.cursor
        for chunk in scan.chunks:
            if server.name in chunk.servers and chunk.chunk not in comparison.held:
                comparison.found += self._heal(server.name, chunk.chunk)
        if comparison.cursor:
            return []
        every_ns = self._settings.survey_every_ns
        for bucket in comparison.buckets:
            wait_ns = min(2 * server.quiet.get(bucket, (0, every_ns))[1], QUIET_NS_MAX)
            wait_ns = every_ns if comparison.found else wait_ns
            server.quiet[bucket] = (now_ns + wait_ns, wait_ns)
        server.comparison = None
        actions: list[Action] = []
        self._compare(server, now_ns, actions)
        return actions

    def _heal(self, name: str, chunk: int) -> int:
        """A server should have a chunk and has not. Returns how many are new to us."""
        if self._is_wanted(name, chunk):
            return 0
        self._heals[name, chunk] = None
        return 1

    def _heal_later(self, name: str, chunk: int, now_ns: int) -> None:
        self._heals.pop((name, chunk), None)
        self._later[name, chunk] = now_ns + RETRY_NS

    def _damaged(self, name: str, chunk: int, actions: list[Action]) -> None:
        known = self._namespace.find_chunk(chunk)
        if known is not None and name in known.servers:
            self._heal(name, chunk)
        elif self._namespace.verdict(name, chunk, 0, 0) is Verdict.GARBAGE:
            self._drop(name, [chunk], "damaged_and_no_file_has_it_here", actions)

    # --- garbage
    def on_freed(self, freed: Iterable[Freed]) -> list[Action]:
        """The namespace has let go of chunks: they are dropped where a server is there, elsewhere when it is back."""
        actions: list[Action] = []
        gone: dict[str, list[int]] = {}
        for each in freed:
            for name in each.servers:
                gone.setdefault(name, []).append(each.chunk)
        for name, chunks in gone.items():
            if self._servers[name].lost_ns is None:
                self._drop(name, chunks, "freed", actions)
        return actions

    def _drop(self, name: str, chunks: Iterable[int], because: str, actions: list[Action]) -> int:
        """Returns how many are dropped now."""
        fresh = [chunk for chunk in chunks if not self._is_held_back(name, chunk)]
        for start in range(0, len(fresh), PAGE_SIZE_MAX):
            actions.append(Drop(name, tuple(fresh[start : start + PAGE_SIZE_MAX])))
        if fresh and because != "freed":
            actions.append(Note("info", "chunks_dropped", {"server": name, "count": len(fresh), "because": because}))
        self._dropping.update(dict.fromkeys((name, chunk) for chunk in fresh))
        return len(fresh)

    def _is_held_back(self, name: str, chunk: int) -> bool:
        """A copy that the namespace does not know of yet is no garbage, and nothing is dropped twice at once."""
        return (name, chunk) in self._copying or (name, chunk) in self._dropping

    def on_dropped(self, action: Drop | PutAside, now_ns: int) -> list[Action]:
        """They are gone, or it is not known whether they are; then a comparison finds them."""
        for chunk in action.chunks:
            key = (action.server, chunk)
            self._dropping.pop(key, None)
            if self._later.pop(key, None) is not None:
                self._heals[key] = None  # what was in its place is away
        return self._advance(now_ns)

    def _set_aside(self, name: str, chunks: list[int], event: str, actions: list[Action]) -> None:
        fresh = [chunk for chunk in chunks if not self._is_held_back(name, chunk)]
        if not fresh:
            return
        actions.append(PutAside(name, tuple(fresh)))
        self._dropping.update(dict.fromkeys((name, chunk) for chunk in fresh))
        chunk = f"{fresh[0]:016x}"
        because = "its inode was never given" if event == "chunk_never_given" else "its size or checksum differs"
        actions.append(Note("error", event, {"server": name, "chunk": chunk, "count": len(fresh), "because": because}))

    # --- copies
    def tick(self, now_ns: int) -> list[Action]:
        """Time has passed: servers may be gone for too long, and there may be room for more copies."""
        for server in self._servers.values():
            if server.lost_ns is None or server.is_gone:
                continue
            if now_ns - server.lost_ns >= self._settings.repair_after_ns:
                server.is_gone = True
                self._sweep_again = True
        if self._retry_ns and now_ns >= self._retry_ns:
            self._sweep_again = True
        while self._later and next(iter(self._later.values())) <= now_ns:
            self._heals[self._later.popitem(last=False)[0]] = None
        actions: list[Action] = []
        for server in self._servers.values():
            if server.comparison is not None and server.comparison.is_listed:
                actions += self._look_for_missing(server, server.comparison, now_ns)
        return actions + self._advance(now_ns)

    def _advance(self, now_ns: int) -> list[Action]:
        """Begin copies while fewer are under way than may be; look at the next names when nothing is known to do."""
        actions: list[Action] = []
        while self._heals:
            if len(self._copying) >= self._settings.repairs:
                return actions
            (name, chunk), _ = self._heals.popitem(last=False)
            actions += self._begin_heal(name, chunk, now_ns)
        if not self._queue:
            self._sweep()
        while self._queue and len(self._copying) < self._settings.repairs:
            actions += self._repair(self._queue.pop(), now_ns)
        if self._is_swept and not self._queue:
            self._is_swept = False
            actions += self._swept(now_ns)
        return actions

    def _begin_heal(self, name: str, number: int, now_ns: int) -> list[Action]:
        """Copy to a server what it should have."""
        chunk = self._namespace.find_chunk(number)
        if chunk is None or name not in chunk.servers or not self._is_up(name):
            return []  # when that server is back it is compared; until then its chunks may come to count as gone
        return self._copy(name, chunk, now_ns)

    def _copy(self, name: str, chunk: Chunk, now_ns: int, instead: str = "") -> list[Action]:
        key = (name, chunk.chunk)
        sources = tuple([each for each in chunk.servers if each not in (name, instead) and self._is_up(each)])
        if sources and key not in self._dropping and key not in self._copying:
            self._copying[key] = None
            self._heals.pop(key, None)
            self._later.pop(key, None)
            return [Copy(name, chunk, sources, instead)]
        self._short += not sources
        self._retry_ns = self._retry_ns or now_ns + RETRY_NS
        if name in chunk.servers:
            self._heal_later(name, chunk.chunk, now_ns)
        return []

    def _is_up(self, name: str) -> bool:
        server = self._servers.get(name)
        return server is not None and server.lost_ns is None

    def _sweep(self) -> None:
        """Look at the next names for chunks that are on too few servers, or on too many."""
        if self._cursor is None:
            if not self._sweep_again:
                return
            self._sweep_again, self._cursor, self._short, self._retry_ns = False, b"", 0, 0
        scan = self._namespace.scan(self._cursor, SWEEP_NAMES)
        self._queue = [chunk for chunk in scan.chunks if self._is_wanting(chunk)]
        # The last one is taken first: the one with the fewest copies.
        self._queue.sort(key=lambda chunk: -sum(map(self._is_up, chunk.servers)))
        self._cursor = scan.cursor or None
        self._is_swept = self._cursor is None

    def _swept(self, now_ns: int) -> list[Action]:
        """All names were looked at: say what could not be done, and plan to try it again."""
        if not self._short:
            self._said = None
            return []
        self._retry_ns = self._retry_ns or now_ns + RETRY_NS
        lost = [each.name for each in self._servers.values() if each.is_gone]
        if self._said == (self._short, lost):
            return []
        self._said = (self._short, lost)
        fields = {"chunks": self._short, "lost": lost, "because": "there is no other server with room, or no copy up"}
        return [Note("warning", "copies_missing", fields)]

    def _is_wanting(self, chunk: Chunk) -> bool:
        return len(self._staying(chunk)) != self._namespace.copies

    def _staying(self, chunk: Chunk) -> list[str]:
        """Its servers but for those that are gone."""
        return [name for name in chunk.servers if not self._servers[name].is_gone]

    def _repair(self, seen: Chunk, now_ns: int) -> list[Action]:
        """One more copy of a chunk that has too few, or fewer of one that has too many."""
        chunk = self._namespace.find_chunk(seen.chunk)
        if chunk is None or not self._is_wanting(chunk):
            return []
        staying = self._staying(chunk)
        if len(staying) > self._namespace.copies:
            return self._trim(chunk, staying, now_ns)
        name = self._namespace.place_copy(chunk.chunk, chunk.size, chunk.servers)
        if name is None or not self._is_up(name):
            self._short += 1
            self._retry_ns = self._retry_ns or now_ns + RETRY_NS
            return []
        return self._copy(name, chunk, now_ns)

    def _trim(self, chunk: Chunk, staying: list[str], now_ns: int) -> list[Action]:
        """Keep the copies that are spread best, and of those the ones with most room; only if all of them are there."""
        if not all(map(self._is_up, staying)) or any(map(self._is_wanted, staying, repeat(chunk.chunk))):
            self._retry_ns = self._retry_ns or now_ns + RETRY_NS
            return []
        table = self._namespace.servers
        left = [table.table[table.numbers[name]] for name in staying]
        kept: list[str] = []
        zones: dict[str, int] = {}
        while len(kept) < self._namespace.copies:
            best = min(left, key=lambda server: (zones.get(server.zone, 0), -server.room, server.name))
            left.remove(best)
            zones[best.zone] = zones.get(best.zone, 0) + 1
            kept.append(best.name)
        return self._relocate(chunk, tuple(name for name in chunk.servers if name in kept))

    def _is_wanted(self, name: str, chunk: int) -> bool:
        """Whether a server should have a chunk and has not, as far as is known."""
        return any((name, chunk) in known for known in (self._heals, self._later, self._copying))

    def _relocate(self, chunk: Chunk, servers: tuple[str, ...]) -> list[Action]:
        index = chunk.chunk - chunk_id(inode_of(chunk.chunk), 0)
        return [Propose(Relocate(inode_of(chunk.chunk), index, chunk.servers, servers))]

    def on_copied(self, action: Copy, now_ns: int) -> list[Action]:
        """A copy was made, and is right."""
        name, key = action.server, (action.server, action.chunk.chunk)
        actions: list[Action] = [_copied(action)]
        chunk = self._namespace.find_chunk(key[1])
        if chunk is not None and name not in chunk.servers:
            servers = self._servers_with(chunk, name, action.instead)
            if servers:
                return actions + self._relocate(chunk, servers)
        del self._copying[key]
        if chunk is None or name not in chunk.servers:
            # Its file is gone, or the servers that it is on are back.
            self._drop(name, [key[1]], "copy_not_needed", actions)
        return actions + self._advance(now_ns)

    def _servers_with(self, chunk: Chunk, name: str, instead: str) -> tuple[str, ...]:
        """Where a chunk is with one more copy; () if it needs none."""
        if instead in chunk.servers:
            self._heals.pop((instead, chunk.chunk), None)
            self._later.pop((instead, chunk.chunk), None)
            return tuple([name if each == instead else each for each in chunk.servers])
        staying = self._staying(chunk)
        missing = self._namespace.copies - len(staying) - 1
        if missing < 0:
            return ()
        # What is gone stays in the list until there are copies enough without it: it may come back.
        gone = [each for each in chunk.servers if each not in staying]
        return (*staying, name, *gone[:missing])

    def on_copy_failed(self, action: Copy, error: Failure, now_ns: int) -> list[Action]:
        """A copy could not be made: another server is tried, or this one again later."""
        name, chunk = action.server, action.chunk
        self._copying.pop((name, chunk.chunk), None)
        self._retry_ns = self._retry_ns or now_ns + RETRY_NS
        actions: list[Action] = [
            Note("warning", "copy_failed", {"server": name, "chunk": f"{chunk.chunk:016x}", "because": str(error)})
        ]
        if name in chunk.servers:
            actions += self._heal_elsewhere(name, chunk, isinstance(error, NoRoom), now_ns)
        return actions + self._advance(now_ns)

    def _heal_elsewhere(self, name: str, chunk: Chunk, is_full: bool, now_ns: int) -> list[Action]:
        """A server has no room for what it should have: then another one takes it."""
        other = self._namespace.place_copy(chunk.chunk, chunk.size, chunk.servers) if is_full else None
        self._heal_later(name, chunk.chunk, now_ns)
        return [] if other is None else self._copy(other, chunk, now_ns, instead=name)

    # --- what became of proposals
    def on_outcome(self, action: Propose, outcome: Outcome | Failure, now_ns: int) -> list[Action]:
        """A change of the namespace was made, or not; what was not is seen again by the next survey or sweep."""
        change = action.change
        if isinstance(change, Report) and isinstance(outcome, Denied) and outcome.error == WrongVolume.wire:
            return self._refuse(self._servers[change.server], outcome.text, now_ns)
        if not isinstance(change, Relocate):
            return []
        chunk = chunk_id(change.inode, change.index)
        for name in change.servers:
            if name not in change.was:
                self._copying.pop((name, chunk), None)
        moved = self._namespace.find_chunk(chunk)
        if not isinstance(outcome, Done):
            self._sweep_again = True
        elif moved is not None and self._is_wanting(moved):
            self._queue.append(moved)
        return self._advance(now_ns)


def _differs(known: Any, inventory: Inventory) -> bool:
    seen = (inventory.zone, inventory.capacity, inventory.used, inventory.room)
    return (known.zone, known.capacity, known.used, known.room) != seen


def _copied(action: Copy) -> Note:
    because = "it_should_be_there" if action.server in action.chunk.servers else "too_few_copies"
    fields = {"server": action.server, "chunk": f"{action.chunk.chunk:016x}", "bytes": action.chunk.size}
    return Note("info", "chunk_copied", {**fields, "because": because})


def _report(name: str, inventory: Inventory) -> Report:
    return Report(name, inventory.store, inventory.zone, inventory.capacity, inventory.used, inventory.room)
