"""The metadata server with real file servers: copies come back, garbage goes, and nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nodes.files import operations as op
from nodes.files.chunks import content_crc, file_checksum
from nodes.files.keeper import RETRY_NS
from nodes.files.messages import StoreSmall, chunk_id
from nodes.files.metadata import Metadata
from nodes.files.server import VOLUME_FILES, FileServer
from zactor.actor import Actor, on
from zactor.errors import Failure
from zactor.message import Message, Refs, encode
from zactor.replication.messages import EndSession, OpenSession, Query, Renew, Submit
from zactor.sim.virtual import Virtual


class Store(Message[None]):
    """Have a small chunk stored on servers."""

    chunk: int
    content: bytes
    servers: tuple[str, ...]


class Hand(Actor):
    """A client's hand at the file servers."""

    servers: Refs[StoreSmall]

    @on(interleave=True)
    async def store(self, message: Store) -> None:
        refs = {ref.name: ref for ref in self.servers}
        small = StoreSmall(chunk=message.chunk, content=message.content, crc=content_crc(message.content))
        for answer in [self.ask(refs[name], small, timeout_s=60.0) for name in message.servers]:
            await answer


class Town:
    """A metadata server, file servers, and a client by hand, each in a process of its own."""

    def __init__(self, servers: int = 3, settings: dict[str, Any] | None = None, **metadata: Any) -> None:
        self.virtual = Virtual()
        self.servers = tuple(f"store/{index}" for index in range(servers))
        self.metadata = {"chunk_size": 1 << 20, **metadata}
        self.settings = {name: {"scrub_every": 0, **(settings or {})} for name in self.servers}
        for process in (*self.servers, "metadata", "user"):
            self.virtual.add(process)
            self.add_node(process)
        self.virtual.start()
        self.run(1.5)
        self.session = 0
        self.sequence = 0

    def add_node(self, process: str) -> None:
        life = self.virtual.processes[process].kernel.life
        if process == "metadata":
            life.add("metadata", Metadata, dict(self.metadata), {"servers": self.servers})
        elif process == "user":
            life.add("user", Hand, links={"servers": self.servers})
        else:
            life.add(process, FileServer, dict(self.settings[process]))

    def run(self, seconds: float) -> None:
        self.virtual.run(seconds=seconds)

    def ask(self, message: Message[Any], name: str = "metadata") -> Any:
        outside = self.virtual.outside("user")
        return self.virtual.result(outside.ask(outside.to(name), message, timeout_s=60.0))

    # --- a client
    def change(self, *changes: op.Change) -> list[Any]:
        if not self.session:
            self.session = self.ask(OpenSession())
        self.sequence += 1
        body = encode(changes)
        (answer,) = self.ask(
            Submit(session=self.session, sequence=self.sequence, acknowledged_below=self.sequence, bodies=(body,))
        )
        return list(op.decode_outcomes(answer))

    def begin(self, size: int = 1_000) -> tuple[int, tuple[str, ...]]:
        (begun,) = self.change(op.Begin((size,)))
        assert isinstance(begun, op.Begun), begun
        return begun.inodes[0], begun.places[0].servers

    def put(self, path: str, content: bytes = b"x" * 1_000) -> op.Chunk:
        inode, servers = self.begin(len(content))
        self.ask(Store(chunk=chunk_id(inode, 0), content=content, servers=servers), "user")
        crc = content_crc(content)
        sealed = op.SealedChunk(len(content), crc, 1, servers)
        (stat,) = self.change(op.Commit(inode, path, len(content), file_checksum((crc,)), (sealed,)))
        assert isinstance(stat, op.Stat), stat
        return self.chunk(path)

    def query(self, question: Any) -> Any:
        return op.decode_answer(self.ask(Query(body=encode(question))))

    def chunk(self, path: str) -> op.Chunk:
        content = self.query(op.GetContent(path))
        chunk = content.chunks[0]
        assert isinstance(chunk, op.Chunk)
        return chunk

    def live(self, seconds: float) -> None:
        """Time passes, and the client says that it is there."""
        for _ in range(int(seconds / 2)):
            self.run(2.0)
            self.ask(Renew(session=self.session))

    # --- what happens
    def kill(self, process: str) -> None:
        self.virtual.kill(process)

    def restart(self, process: str) -> None:
        self.virtual.restart(process)
        self.add_node(process)
        self.virtual.start()
        self.run(0.1)

    # --- what one sees
    def server(self, name: str) -> FileServer:
        actor = self.virtual.processes[name].kernel.cells[name].actor
        assert isinstance(actor, FileServer)
        return actor

    def holders(self, chunk: op.Chunk) -> list[str]:
        """Who holds it as it must be."""
        return [
            name
            for name in self.servers
            if self.virtual.processes[name].up and self.server(name).sealed(chunk.chunk) == (chunk.size, chunk.crc)
        ]

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the metadata server logged."""
        return [fields for _, node, event, fields in self.virtual.logs if (node, event) == ("metadata", name)]

    def errors(self) -> list[dict[str, Any]]:
        return [fields for _, _, event, fields in self.virtual.logs if event == "handler_failed"]


@pytest.fixture
def town() -> Town:
    return Town()


def test_a_file_lies_on_as_many_servers_as_it_should(town: Town) -> None:
    chunk = town.put("/a")

    assert len(chunk.servers) == 2
    assert sorted(town.holders(chunk)) == sorted(chunk.servers)
    assert town.query(op.GetStat("/a")).size == 1_000
    assert town.errors() == []


def test_a_restart_of_the_metadata_server_keeps_all_that_it_said(town: Town) -> None:
    chunk = town.put("/a")
    town.live(4.0)
    digest = town.virtual.processes["metadata"].kernel.cells["metadata"].actor.namespace.digest()  # type: ignore[union-attr]
    town.kill("metadata")
    town.restart("metadata")
    town.run(1.5)

    assert town.chunk("/a") == chunk
    again = town.virtual.processes["metadata"].kernel.cells["metadata"].actor.namespace.digest()  # type: ignore[union-attr]
    assert again == digest
    assert [space.is_up for space in town.query(op.GetSpace()).servers] == [True] * 3
    assert town.change(op.MakeFolder("/folder")) == [op.Done()]


def test_what_was_removed_is_dropped_at_once(town: Town) -> None:
    chunk = town.put("/a")
    assert town.change(op.Remove("/a")) == [op.Done()]
    town.run(0.01)

    assert town.holders(chunk) == []


def test_a_client_that_dies_in_mid_put_leaves_nothing_after_ten_seconds(town: Town) -> None:
    inode, servers = town.begin(1_000)
    town.ask(Store(chunk=chunk_id(inode, 0), content=b"x" * 1_000, servers=servers), "user")
    assert any(space.reserved for space in town.query(op.GetSpace()).servers)
    town.run(10.0)

    assert [space.reserved for space in town.query(op.GetSpace()).servers] == [0, 0, 0]
    assert [town.server(name).sealed(chunk_id(inode, 0)) for name in servers] == [None, None]
    assert town.events("lease_ended")[0]["because"] == "client_silent"


def test_a_server_that_is_lost_for_long_is_replaced_and_what_it_holds_is_dropped_when_it_returns(town: Town) -> None:
    chunk = town.put("/a")
    lost, kept = chunk.servers
    town.kill(lost)
    town.live(20.0)
    assert town.chunk("/a").servers == chunk.servers

    town.live(20.0)
    now = town.chunk("/a").servers
    assert kept in now
    assert lost not in now
    assert sorted(town.holders(chunk)) == sorted(now)

    town.restart(lost)
    town.live(6.0)
    assert town.server(lost).sealed(chunk.chunk) is None
    assert sorted(town.holders(chunk)) == sorted(now)
    assert [len(town.events(event)) for event in ("server_lost", "chunk_copied")] == [1, 1]
    assert town.errors() == []


def test_a_server_that_is_away_for_a_moment_keeps_what_it_has(town: Town) -> None:
    chunk = town.put("/a")
    town.kill(chunk.servers[0])
    town.live(20.0)
    town.restart(chunk.servers[0])
    town.live(40.0)

    assert town.chunk("/a").servers == chunk.servers
    assert sorted(town.holders(chunk)) == sorted(chunk.servers)
    assert town.events("chunk_copied") == []


def lose_chunk(town: Town, name: str, match: Callable[[str], bool] = lambda _file: True) -> None:
    """Remove what a server has on its disk of chunks, while it is not there."""
    town.kill(name)
    for key in [key for key in town.virtual.disk.files if key[0] == name and key[1] not in VOLUME_FILES]:
        if match(key[1]):
            del town.virtual.disk.files[key]
    town.restart(name)


def test_a_small_chunk_that_a_server_lost_is_copied_to_it_again(town: Town) -> None:
    chunk = town.put("/a")
    lose_chunk(town, chunk.servers[0])
    town.live(6.0)

    assert sorted(town.holders(chunk)) == sorted(chunk.servers)
    assert town.chunk("/a").servers == chunk.servers
    assert town.events("chunk_copied")[0]["because"] == "it_should_be_there"


def test_a_chunk_that_was_never_given_is_set_aside_and_not_dropped(town: Town) -> None:
    foreign = chunk_id(1 << 40, 0)
    town.ask(Store(chunk=foreign, content=b"foreign", servers=("store/1",)), "user")
    town.run(6.0)

    assert town.server("store/1").sealed(foreign) is None
    assert town.events("chunk_never_given")[0]["server"] == "store/1"
    assert any(key[0] == "store/1" and key[1].startswith("aside/") for key in town.virtual.disk.files)


def test_a_chunk_of_another_content_is_set_aside_and_healed(town: Town) -> None:
    chunk = town.put("/a")
    name = chunk.servers[0]
    town.kill("metadata")
    lose_chunk(town, name)
    town.ask(Store(chunk=chunk.chunk, content=b"other", servers=(name,)), "user")
    town.restart("metadata")
    town.live(8.0)

    assert town.server(name).sealed(chunk.chunk) == (chunk.size, chunk.crc)
    assert town.events("chunk_is_another")[0]["server"] == name


def take_disk(town: Town, name: str) -> dict[tuple[str, str], bytearray]:
    """Take the disk out of a server that was killed; there is an empty one in its place."""
    disk = town.virtual.disk.files
    return {key: disk.pop(key) for key in [key for key in disk if key[0] == name]}


def test_an_empty_disk_in_the_place_of_another_is_filled_again(town: Town) -> None:
    chunk = town.put("/a")
    name = chunk.servers[0]
    town.kill(name)
    take_disk(town, name)
    town.restart(name)
    town.live(10.0)

    assert [fields["server"] for fields in town.events("store_replaced")] == [name]
    assert town.events("server_refused") == []
    assert town.chunk("/a").servers == chunk.servers
    assert sorted(town.holders(chunk)) == sorted(chunk.servers)


def test_a_store_that_was_swapped_is_refused_and_counts_as_lost(town: Town) -> None:
    chunk = town.put("/a")
    name = chunk.servers[0]
    town.kill(name)
    old = take_disk(town, name)
    town.restart(name)
    town.live(10.0)
    town.kill(name)
    take_disk(town, name)
    town.virtual.disk.files |= old
    town.restart(name)
    town.live(40.0)

    assert [fields["server"] for fields in town.events("server_refused")] == [name]
    assert "give it that one, or an empty one" in town.events("server_refused")[0]["because"]
    assert name not in town.chunk("/a").servers
    assert len([server for server in town.holders(chunk) if server != name]) == 2


def test_with_fewer_servers_than_copies_it_says_so_and_refuses_puts() -> None:
    town = Town(servers=1)
    (outcome,) = town.change(op.Begin((1_000,)))

    assert isinstance(outcome, op.Denied)
    assert outcome.error == "files.NoRoom"
    assert town.events("too_few_servers")[0]["copies"] == 2
    actor = town.virtual.processes["metadata"].kernel.cells["metadata"].actor
    assert actor is not None
    assert actor.status() == "files: 0, puts under way: 0, servers: 1 of 1, too few for 2 copies"


def test_other_settings_hold_from_the_next_start_on(town: Town) -> None:
    first = town.put("/a")
    town.kill("metadata")
    town.metadata["copies"] = 3
    town.restart("metadata")
    town.run(1.5)
    second = town.put("/b")
    assert (len(first.servers), len(second.servers)) == (2, 3)

    town.live(40.0)
    assert len(town.chunk("/a").servers) == len(town.holders(first)) == 3

    town.kill("metadata")
    town.metadata["copies"] = 1
    town.restart("metadata")
    town.run(1.5)
    town.live(40.0)
    for path, chunk in (("/a", first), ("/b", second)):
        assert list(town.chunk(path).servers) == town.holders(chunk)
        assert len(town.holders(chunk)) == 1


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("chunk_size", 1_000, "chunk_size: expected a multiple of 64KiB up to 64MiB, found 1000B"),
        ("copies", 9, "copies: expected 1 to 8, found 9"),
        ("lease", 10**8, "lease: expected at least 1s, found 100ms"),
        ("repairs", 0, "repairs: expected at least 1, found 0"),
    ],
)
def test_bad_settings_are_errors_of_the_topology(setting: str, value: int, text: str) -> None:
    town = Town(3, None, **{setting: value})

    assert text in town.errors()[0]["error"]


def test_a_full_disk_of_the_metadata_server_refuses_changes_and_answers_questions(town: Town) -> None:
    town.put("/a")
    town.virtual.disk.capacity_bytes = sum(map(len, town.virtual.disk.files.values())) + 3
    with pytest.raises(Failure, match="nothing was changed"):
        town.change(op.MakeFolder("/b"))

    assert town.query(op.GetStat("/a")).size == 1_000
    town.virtual.disk.capacity_bytes = 1 << 40
    assert town.change(op.MakeFolder("/b")) == [op.Done()]


def test_a_snapshot_is_taken_while_clients_go_on() -> None:
    town = Town(snapshot_bytes=5_000)
    chunks = [town.put(f"/{number}") for number in range(100)]
    town.run(1.0)

    assert town.events("snapshot_taken")
    town.kill("metadata")
    town.restart("metadata")
    town.run(1.5)
    assert [town.chunk(f"/{number}") for number in range(100)] == chunks


def test_a_session_that_was_ended_gives_up_its_puts_at_once(town: Town) -> None:
    inode, servers = town.begin()
    town.ask(Store(chunk=chunk_id(inode, 0), content=b"x" * 1_000, servers=servers), "user")
    town.ask(EndSession(session=town.session))
    town.run(0.01)

    assert [town.server(name).sealed(chunk_id(inode, 0)) for name in servers] == [None, None]


def test_a_repair_that_found_no_room_is_tried_again() -> None:
    town = Town(servers=2)
    chunk = town.put("/a")
    town.kill("store/1")
    town.live(50.0)
    assert town.chunk("/a").servers == chunk.servers
    assert town.events("copies_missing")[0]["lost"] == ["store/1"]

    town.restart("store/1")
    town.live(2 * RETRY_NS / 1e9)
    assert sorted(town.holders(chunk)) == ["store/0", "store/1"]
    assert town.events("chunk_copied") == []
