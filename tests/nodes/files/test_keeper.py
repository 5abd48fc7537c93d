"""The keeper's decisions: by hand, and against servers that do everything they can at random."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

import msgspec
import pytest

from nodes.files import operations as op
from nodes.files.inodes import Verdict
from nodes.files.keeper import Action, Copy, Drop, Keeper, ListHeld, Note, Propose, PutAside, Settings
from nodes.files.messages import (
    BUCKETS,
    Held,
    HeldPage,
    Inventory,
    NoRoom,
    chunk_id,
    held_digest,
    inode_of,
)
from nodes.files.namespace import Namespace
from zactor.errors import AskTimeout, Corrupt, Failure
from zactor.message import encode
from zactor.statemachine import Entry

SECOND = 10**9
SETTINGS = Settings(repair_after_ns=30 * SECOND, repairs=4, survey_every_ns=2 * SECOND)
PAGE = 3
USER = 7


class Store(msgspec.Struct, eq=False):
    """A file server in a few lines: what it holds, by chunk."""

    store: int
    zone: str
    room: int = 1 << 30
    is_up: bool = True
    held: dict[int, tuple[int, int]] = msgspec.field(default_factory=dict)
    aside: dict[int, tuple[int, int]] = msgspec.field(default_factory=dict)
    damaged: dict[int, None] = msgspec.field(default_factory=dict)
    partials: dict[int, None] = msgspec.field(default_factory=dict)

    def inventory(self) -> Inventory:
        digests = [0] * BUCKETS
        for chunk, (size, crc) in self.held.items():
            digests[inode_of(chunk) % BUCKETS] ^= held_digest(chunk, size, crc)
        used = sum(size for size, _ in self.held.values())
        return Inventory(
            self.store, self.zone, 1 << 30, used, self.room, tuple(digests), tuple(self.damaged), tuple(self.partials)
        )

    def page(self, bucket: int, after: int) -> HeldPage:
        found = [chunk for chunk in sorted(self.held) if inode_of(chunk) % BUCKETS == bucket and chunk > after]
        page = tuple(Held(chunk, *self.held[chunk], True) for chunk in found[:PAGE])
        return HeldPage(page, len(found) > PAGE)


class Yard:
    """A namespace, its keeper, and servers. What the keeper wants waits in `todo` until `do` or `settle`."""

    def __init__(self, servers: int = 3, copies: int = 2, zones: int = 10) -> None:
        self.now_ns = 1
        self.index = 0
        self.namespace = Namespace()
        self.stores = {f"store/{number}": Store(number + 1, f"zone{number % zones}") for number in range(servers)}
        self.change(op.Format(99), op.Configure(copies, 64 << 20))
        self.keeper = Keeper(self.namespace, list(self.stores), SETTINGS, self.now_ns)
        self.todo: list[Action] = []
        self.notes: list[Note] = []
        self.files = 0
        for name in self.stores:
            self.survey(name)
        self.settle()

    def change(self, *changes: op.Change, session: int = 0) -> tuple[Any, ...]:
        self.index += 1
        (answer,) = self.namespace.apply([Entry(self.index, self.index, session, encode(changes))])
        outcomes: tuple[Any, ...] = op.decode_outcomes(answer)
        return outcomes

    def freed(self) -> None:
        self.take(self.keeper.on_freed(self.namespace.events()))

    # --- clients
    def put(self, path: str = "", crc: int = 5) -> op.Chunk:
        self.files += 1
        path = path or f"/{self.files}"
        (begun,) = self.change(op.Begin((100,)), session=USER)
        assert isinstance(begun, op.Begun), begun
        inode, servers = begun.inodes[0], begun.places[0].servers
        for name in servers:
            self.stores[name].held[chunk_id(inode, 0)] = (100, crc)
        sealed = op.SealedChunk(100, crc, 1, servers)
        (stat,) = self.change(op.Commit(inode, path, 100, 0, (sealed,)), session=USER)
        assert isinstance(stat, op.Stat), stat
        self.freed()
        return self.chunk(chunk_id(inode, 0))

    def remove(self, path: str) -> None:
        self.change(op.Remove(path), session=USER)
        self.freed()

    def chunk(self, number: int) -> op.Chunk:
        chunk = self.namespace.find_chunk(number)
        assert chunk is not None
        return chunk

    # --- the keeper and its servers
    def survey(self, name: str) -> None:
        if self.stores[name].is_up:
            self.take(self.keeper.on_inventory(name, self.stores[name].inventory(), self.now_ns))

    def lose(self, name: str) -> None:
        self.stores[name].is_up = False
        self.take(self.keeper.on_lost(name, "it ended", self.now_ns))

    def take(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Note):
                self.notes.append(action)
            elif isinstance(action, Propose):
                (outcome,) = self.change(action.change)
                self.freed()
                self.take(self.keeper.on_outcome(action, outcome, self.now_ns))
            else:
                self.todo.append(action)

    def do(self, place: int = 0, failure: Failure | None = None) -> None:
        """Carry out what waits at that place, or let it fail."""
        action = self.todo.pop(place)
        assert not isinstance(action, Note | Propose)
        store = self.stores[action.server]
        failure = failure or (None if store.is_up else AskTimeout(f"{action.server} is away"))
        if isinstance(action, ListHeld):
            if failure is not None:
                self.take(self.keeper.on_list_failed(action))
            else:
                self.take(self.keeper.on_held(action, store.page(action.bucket, action.after), self.now_ns))
        elif isinstance(action, Copy):
            failure = failure or self._copy(action, store)
            if failure is not None:
                self.take(self.keeper.on_copy_failed(action, failure, self.now_ns))
            else:
                self.take(self.keeper.on_copied(action, self.now_ns))
        else:
            if failure is None:
                self._remove(action, store)
            self.take(self.keeper.on_dropped(action, self.now_ns))

    def _copy(self, action: Copy, store: Store) -> Failure | None:
        wanted = (action.chunk.size, action.chunk.crc)
        if store.room < action.chunk.size:
            return NoRoom("it is full")
        sources = [self.stores[name] for name in action.sources]
        if not any(source.is_up and source.held.get(action.chunk.chunk) == wanted for source in sources):
            return Corrupt("no source has it")
        store.held[action.chunk.chunk] = wanted
        store.damaged.pop(action.chunk.chunk, None)
        return None

    def _remove(self, action: Drop | PutAside, store: Store) -> None:
        for chunk in action.chunks:
            held = store.held.pop(chunk, None)
            if isinstance(action, Drop):
                store.damaged.pop(chunk, None)
                store.partials.pop(chunk, None)
            elif held is not None:
                store.aside[chunk] = held
            if held is not None:
                verdict = self.namespace.verdict(action.server, chunk, *held)
                is_right = verdict is Verdict.GARBAGE if isinstance(action, Drop) else verdict is not Verdict.LIVE
                assert is_right, f"{action.server}: {type(action).__name__} {chunk:x}, which is {verdict}"

    def tick(self, seconds: float = 0.0) -> None:
        self.now_ns += int(seconds * SECOND)
        self.take(self.keeper.tick(self.now_ns))

    def settle(self, seconds: float = 0.0) -> None:
        """Do all that is wanted, survey every 2 s, until that time has passed."""
        end_ns = self.now_ns + int(seconds * SECOND)
        while True:
            while self.todo or self.keeper.is_busy:
                if self.todo:
                    self.do()
                else:
                    self.tick()
            if self.now_ns >= end_ns:
                return
            self.tick(2.0)
            for name in self.stores:
                self.survey(name)

    def holders(self, chunk: op.Chunk) -> list[str]:
        return [name for name, store in self.stores.items() if store.held.get(chunk.chunk) == (chunk.size, chunk.crc)]

    def events(self, event: str) -> list[dict[str, Any]]:
        return [note.fields for note in self.notes if note.event == event]

    def check_whole(self) -> None:
        """Every chunk is where it should be, as often as it should be, and nothing else is."""
        expected: dict[str, dict[int, tuple[int, int]]] = {name: {} for name in self.stores}
        for chunk in self.namespace.scan(b"", 100_000).chunks:
            assert len(chunk.servers) == self.namespace.copies
            for name in chunk.servers:
                expected[name][chunk.chunk] = (chunk.size, chunk.crc)
        for name, store in self.stores.items():
            assert store.held == expected[name], name
            assert not store.damaged
            assert not store.partials
        assert not self.keeper.is_busy


@pytest.fixture
def yard() -> Yard:
    return Yard()


# --- servers that go and come
def test_nothing_is_copied_before_a_server_was_away_for_long(yard: Yard) -> None:
    chunk = yard.put()
    yard.lose(chunk.servers[0])
    yard.settle(28.0)
    assert yard.holders(chunk) == sorted(chunk.servers)

    yard.settle(4.0)
    now = yard.chunk(chunk.chunk).servers
    assert now[0] == chunk.servers[1]
    assert chunk.servers[0] not in now
    assert yard.events("chunk_copied")[0]["because"] == "too_few_copies"


def test_no_more_copies_are_made_at_a_time_than_it_may(yard: Yard) -> None:
    for _ in range(20):
        yard.put()
    yard.lose("store/0")
    yard.tick(30.0)

    assert sum(isinstance(action, Copy) for action in yard.todo) == SETTINGS.repairs


def test_repair_stops_when_the_server_is_back_and_what_it_has_is_kept(yard: Yard) -> None:
    chunks = [yard.put() for _ in range(20)]
    lost = [chunk for chunk in chunks if "store/0" in chunk.servers]
    yard.lose("store/0")
    yard.tick(30.0)
    yard.stores["store/0"].is_up = True
    yard.survey("store/0")
    yard.settle(10.0)

    assert len(yard.events("chunk_copied")) <= SETTINGS.repairs < len(lost)
    assert yard.events("chunks_dropped")[0]["because"] == "copy_not_needed"
    yard.check_whole()


def test_a_chunk_whose_every_copy_is_away_waits_for_one_of_them(yard: Yard) -> None:
    chunk = yard.put()
    for name in chunk.servers:
        yard.lose(name)
    yard.settle(60.0)
    assert yard.chunk(chunk.chunk).servers == chunk.servers
    assert yard.events("copies_missing")[0]["chunks"] == 1

    yard.stores[chunk.servers[1]].is_up = True
    yard.settle(40.0)
    assert len(yard.holders(chunk)) == 3
    assert len(yard.chunk(chunk.chunk).servers) == 2


def test_the_chunk_with_the_fewest_copies_is_copied_first() -> None:
    yard = Yard(servers=5, copies=3)
    chunks = [yard.put() for _ in range(40)]
    yard.lose("store/0")
    yard.lose("store/1")
    yard.tick(30.0)

    first = [action.chunk for action in yard.todo if isinstance(action, Copy)]
    assert first
    assert any({"store/0", "store/1"} <= set(chunk.servers) for chunk in chunks)
    assert all({"store/0", "store/1"} <= set(chunk.servers) for chunk in first)


def test_a_copy_goes_to_a_zone_that_has_none() -> None:
    yard = Yard(servers=6, zones=3)
    chunk = yard.put()
    kept = chunk.servers[1]
    yard.lose(chunk.servers[0])
    yard.settle(40.0)

    zones = {yard.stores[name].zone for name in yard.chunk(chunk.chunk).servers}
    assert kept in yard.chunk(chunk.chunk).servers
    assert len(zones) == 2


def test_of_too_many_copies_the_ones_in_different_zones_stay() -> None:
    yard = Yard(servers=4, copies=4, zones=2)
    chunk = yard.put()
    with_fewer_copies(yard, 2)
    yard.settle(40.0)

    now = yard.chunk(chunk.chunk).servers
    assert len(now) == 2
    assert len({yard.stores[name].zone for name in now}) == 2
    yard.check_whole()


def with_fewer_copies(yard: Yard, copies: int) -> None:
    """The metadata server starts again with another setting."""
    yard.change(op.Configure(copies, 64 << 20))
    yard.keeper = Keeper(yard.namespace, list(yard.stores), SETTINGS, yard.now_ns)
    for name in yard.stores:
        yard.survey(name)


def test_copies_are_not_taken_away_while_one_of_them_is_away() -> None:
    yard = Yard(servers=3, copies=3)
    chunk = yard.put()
    with_fewer_copies(yard, 2)
    yard.settle(20.0)
    yard.lose("store/2")
    yard.settle(20.0)

    assert yard.chunk(chunk.chunk).servers == chunk.servers


def test_copies_are_not_taken_away_while_one_of_them_is_not_right() -> None:
    yard = Yard(servers=3, copies=3)
    chunk = yard.put()
    with_fewer_copies(yard, 2)
    yard.settle(26.0)
    del yard.stores["store/1"].held[chunk.chunk]
    yard.stores["store/1"].damaged[chunk.chunk] = None
    yard.survey("store/1")
    yard.do(failure=Corrupt("it rots"))
    yard.tick(5.0)
    yard.settle()
    assert yard.chunk(chunk.chunk).servers == chunk.servers

    yard.settle(40.0)
    yard.check_whole()


def test_when_two_servers_are_gone_a_chunk_of_both_gets_two_copies() -> None:
    yard = Yard(servers=5, copies=3)
    chunks = [yard.put() for _ in range(40)]
    yard.lose("store/0")
    yard.lose("store/1")
    yard.settle(36.0)

    for chunk in chunks:
        assert set(yard.chunk(chunk.chunk).servers) <= {"store/2", "store/3", "store/4"}
        assert len(yard.holders(yard.chunk(chunk.chunk))) >= 3


def test_a_copy_that_the_namespace_does_not_know_of_yet_is_no_garbage(yard: Yard) -> None:
    chunk = yard.put()
    yard.lose(chunk.servers[0])
    yard.tick(30.0)
    (copy,) = [action for action in yard.todo if isinstance(action, Copy)]
    yard.stores[copy.server].held[chunk.chunk] = (chunk.size, chunk.crc)  # it is there, and the answer on its way
    yard.survey(copy.server)
    while any(isinstance(action, ListHeld) for action in yard.todo):
        yard.do(next(place for place, action in enumerate(yard.todo) if isinstance(action, ListHeld)))

    assert yard.todo == [copy]


# --- what a server should hold
def test_a_chunk_that_is_missing_is_copied_to_the_same_server(yard: Yard) -> None:
    chunk = yard.put()
    del yard.stores[chunk.servers[0]].held[chunk.chunk]
    yard.settle(4.0)

    assert yard.holders(chunk) == sorted(chunk.servers)
    assert yard.chunk(chunk.chunk).servers == chunk.servers


def test_a_damaged_chunk_is_copied_again(yard: Yard) -> None:
    chunk = yard.put()
    store = yard.stores[chunk.servers[1]]
    del store.held[chunk.chunk]
    store.damaged[chunk.chunk] = None
    yard.settle(2.0)

    yard.check_whole()


def test_a_damaged_chunk_on_a_full_server_moves_to_another(yard: Yard) -> None:
    chunk = yard.put()
    store = yard.stores[chunk.servers[1]]
    store.room = 0
    del store.held[chunk.chunk]
    store.damaged[chunk.chunk] = None
    yard.settle(4.0)

    now = yard.chunk(chunk.chunk).servers
    assert chunk.servers[1] not in now
    assert len(now) == 2
    yard.check_whole()


def test_a_damaged_chunk_that_no_file_has_is_dropped(yard: Yard) -> None:
    chunk = yard.put("/a")
    yard.remove("/a")
    yard.settle()
    yard.stores["store/0"].damaged[chunk.chunk] = None
    yard.settle(2.0)

    yard.check_whole()


def test_while_a_copy_cannot_be_made_it_is_tried_now_and_then(yard: Yard) -> None:
    chunk = yard.put()
    yard.stores[chunk.servers[0]].held.clear()
    for _ in range(4):
        while not any(isinstance(action, Copy) for action in yard.todo):
            if yard.todo:
                yard.do()
            else:
                yard.tick(1.0)
                yard.survey(chunk.servers[0])
        began_ns = yard.now_ns
        place = next(place for place, action in enumerate(yard.todo) if isinstance(action, Copy))
        yard.do(place, failure=Corrupt("it rots"))
        assert not any(isinstance(action, Copy) for action in yard.todo)
    assert yard.now_ns - began_ns < 20 * SECOND
    assert len(yard.events("copy_failed")) == 4

    yard.settle(20.0)
    yard.check_whole()


# --- what it should not hold
def test_a_chunk_of_a_dead_inode_is_dropped(yard: Yard) -> None:
    chunk = yard.put("/a")
    yard.remove("/a")
    assert [type(action) for action in yard.todo] == [Drop, Drop]
    yard.settle()
    yard.stores["store/0"].held[chunk.chunk] = (100, 5)
    yard.settle(4.0)

    yard.check_whole()
    assert yard.events("chunks_dropped")[0]["because"] == "no_file_has_it_here"


def test_a_chunk_whose_inode_was_never_given_is_set_aside(yard: Yard) -> None:
    foreign = chunk_id(1 << 30, 0)
    yard.stores["store/1"].held[foreign] = (1, 1)
    yard.settle(4.0)

    assert yard.stores["store/1"].aside == {foreign: (1, 1)}
    assert yard.events("chunk_never_given")[0]["server"] == "store/1"
    yard.check_whole()


def test_a_chunk_with_another_checksum_is_set_aside_and_copied(yard: Yard) -> None:
    chunk = yard.put()
    yard.stores[chunk.servers[0]].held[chunk.chunk] = (100, 6)
    yard.settle(4.0)

    assert yard.stores[chunk.servers[0]].aside == {chunk.chunk: (100, 6)}
    yard.check_whole()


def test_partials_of_no_put_are_dropped_and_others_are_not(yard: Yard) -> None:
    (begun,) = yard.change(op.Begin((100,)), session=USER)
    open_put = chunk_id(begun.inodes[0], 0)
    name = begun.places[0].servers[0]
    chunk = yard.put("/a")
    yard.remove("/a")
    yard.stores[name].partials = {open_put: None, chunk.chunk: None}
    yard.settle(2.0)

    assert list(yard.stores[name].partials) == [open_put]


def test_a_list_that_fails_drops_nothing_and_is_asked_for_again(yard: Yard) -> None:
    chunk = yard.put("/a")
    yard.remove("/a")
    yard.settle()
    yard.stores["store/0"].held[chunk.chunk] = (100, 5)
    yard.survey("store/0")
    yard.survey("store/0")
    assert [type(action) for action in yard.todo] == [ListHeld]
    yard.do(failure=AskTimeout("no answer"))
    assert yard.todo == []

    yard.settle(4.0)
    yard.check_whole()


def test_a_bucket_in_which_nothing_is_wrong_is_listed_less_and_less_often(yard: Yard) -> None:
    (begun,) = yard.change(op.Begin((100,)), session=USER)
    name = begun.places[0].servers[0]
    yard.stores[name].held[chunk_id(begun.inodes[0], 0)] = (100, 5)  # sealed, and not committed for a while
    listed = []
    for _ in range(60):
        yard.tick(2.0)
        yard.survey(name)
        listed.append(any(isinstance(action, ListHeld) for action in yard.todo))
        yard.settle()

    assert 3 <= sum(listed) <= 8
    assert list(yard.stores[name].held) == [chunk_id(begun.inodes[0], 0)]


def test_a_bucket_with_puts_under_way_is_left_alone_for_a_while(yard: Yard) -> None:
    lost = yard.put()
    name = lost.servers[0]
    del yard.stores[name].held[lost.chunk]
    listed_ns = []
    began_ns = yard.now_ns
    for index in range(20):
        yard.stores[name].held[lost.chunk + (BUCKETS << 16) * (1 + index)] = (100, 5)
        yard.tick(2.0)
        yard.survey(name)
        listed_ns += [yard.now_ns for action in yard.todo if isinstance(action, ListHeld)]
        yard.todo.clear()

    assert len(listed_ns) == 1
    assert listed_ns[0] - began_ns == 32 * SECOND


def test_a_store_that_is_another_than_before_is_refused_until_the_old_one_is_back(yard: Yard) -> None:
    chunk = yard.put()
    store = yard.stores[chunk.servers[0]]
    store.store = 77
    yard.settle(40.0)
    assert [fields["server"] for fields in yard.events("server_refused")] == [chunk.servers[0]]
    assert chunk.servers[0] not in yard.chunk(chunk.chunk).servers

    store.store = 1 + int(chunk.servers[0][-1])
    yard.settle(10.0)
    yard.check_whole()


def test_an_empty_store_in_the_place_of_another_is_filled_again(yard: Yard) -> None:
    chunk = yard.put()
    store = yard.stores[chunk.servers[0]]
    store.store, store.held = 77, {}
    yard.settle(10.0)

    assert [fields["server"] for fields in yard.events("store_replaced")] == [chunk.servers[0]]
    assert yard.events("server_refused") == []
    yard.check_whole()


# --- everything at once
@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_in_which_order_all_is_well_in_the_end(seed: int) -> None:
    chance = Random(seed)
    yard = Yard(servers=chance.choice([3, 4, 6]), copies=chance.choice([2, 3]), zones=chance.choice([2, 10]))
    foreign: dict[int, None] = {}
    for _ in range(400):
        _happen(yard, chance, foreign)
    for store in yard.stores.values():
        store.is_up = True
        store.room = 1 << 30
    yard.settle(240.0)

    yard.check_whole()
    aside = {chunk for store in yard.stores.values() for chunk in store.aside}
    assert aside >= set(foreign)


def _happen(yard: Yard, chance: Random, foreign: dict[int, None]) -> None:
    """One thing of all that may. Of each chunk one right copy is left alone."""
    what, name = chance.randrange(12), chance.choice(list(yard.stores))
    store = yard.stores[name]
    if what <= 3 and yard.todo:
        failure = AskTimeout("no answer") if chance.random() < 0.1 else None
        yard.do(chance.randrange(len(yard.todo)), failure)
    elif what == 4:
        yard.tick(chance.choice([0.1, 2.0, 10.0]))
    elif what <= 6:
        yard.survey(name)
    elif what == 7 and sum(each.is_up for each in yard.stores.values()) > yard.namespace.copies:
        yard.lose(name)
    elif what == 8:
        store.is_up = True
        store.room = chance.choice([1 << 30, 1 << 30, 0])
        yard.survey(name)
    elif what == 9 and _fits(yard):
        yard.put()
    elif what == 10 and chance.random() < 0.3:
        page = op.decode_answer(yard.namespace.query(encode(op.GetPage("/"))))
        assert isinstance(page, op.Page)
        if page.items:
            yard.remove(f"/{chance.choice(page.items).name}")
    elif what == 11:
        _spoil(yard, chance, name, foreign)


def _spoil(yard: Yard, chance: Random, name: str, foreign: dict[int, None]) -> None:
    store = yard.stores[name]
    number = chance.choice(sorted(store.held)) if store.held else 0
    chunk = yard.namespace.find_chunk(number)
    if chunk is None or chance.random() < 0.3:
        number = chunk_id((1 << 40) + len(foreign), 0)
        foreign[number] = None
        store.held[number] = (1, 1)
    elif len([each for each in yard.holders(chunk) if each in chunk.servers]) > 1:
        del store.held[number]
        if chance.random() < 0.5:
            store.damaged[number] = None
        elif chance.random() < 0.5:
            store.held[number] = (100, 1_000)


def _fits(yard: Yard) -> bool:
    """Whether the namespace would take a put now."""
    servers = yard.namespace.servers
    free = [servers.free(number) for number, server in enumerate(servers.table) if server.is_up]
    return sum(room > 10_000 for room in free) >= yard.namespace.copies
