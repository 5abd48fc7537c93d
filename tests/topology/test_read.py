from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zactor.errors import UserError
from zactor.supervision import SECOND_NS, Supervision
from zactor.topology import compose, read
from zactor.topology.diagnostics import TopologyError
from zactor.topology.model import Topology

GOOD = """\
# Two greeters and who calls them.
name: quickstart
nodes:
  greeter:
    kind: ./actors_here.py:Greeter
    replicas: 2
    settings: &words {salutation: no, capacity: 2GiB}
    restart: {when: always, backoff: 200ms..5s, limit: 3 in 2m}
  other: {kind: "./actors_here.py:Greeter", settings: *words}
  caller: {kind: "./actors_here.py:Caller", links: {greeter: greeter/1, others: [greeter, other]}}
processes:
  front: {nodes: [caller, greeter/0], transport: tcp}
peer_timeout: 2s
try: ["zactor ask greeter/0 Greet name=world"]
"""

GOLDEN = Path(__file__).parent / "golden"


def load(folder: Path, text: str, *, inline: bool = False) -> Topology:
    (folder / "t.yaml").write_text(text)
    return read.load(Path("t.yaml"), inline=inline)


def refusal(folder: Path, text: str) -> list[str]:
    with pytest.raises(TopologyError) as raised:
        load(folder, text)
    return [str(diagnostic).splitlines()[0] for diagnostic in raised.value.diagnostics]


def test_a_good_file_becomes_a_checked_and_placed_model(folder: Path) -> None:
    topology = load(folder, GOOD)

    assert (topology.name, topology.file, topology.folder) == ("quickstart", "t.yaml", str(folder))
    assert topology.try_ == ("zactor ask greeter/0 Greet name=world",)
    assert topology.peer_timeout_ns == 2 * SECOND_NS
    assert [process.name for process in topology.processes] == ["front", "greeter/1", "other"]
    assert topology.nodes["other"].settings == {"salutation": "no", "capacity": "2GiB"}
    caller = topology.processes[0].instances[1]
    assert caller.name == "caller"
    assert caller.links == {"greeter": ("greeter/1",), "others": ("greeter/0", "greeter/1", "other")}
    assert msgspec.json.decode(msgspec.json.encode(topology), type=Topology) == topology


def test_a_node_says_what_is_recorded_of_it(folder: Path) -> None:
    topology = load(folder, "name: t\nnodes:\n  a: {kind: hello.greeter, record: off}\n  b: {kind: hello.greeter}\n")

    assert [node.record for node in topology.nodes.values()] == ["off", "ring"]
    assert [process.instances[0].record for process in topology.processes] == ["off", "ring"]
    full = topology.recorded("full")
    assert [node.record for node in full.nodes.values()] == ["full", "full"]
    assert [process.instances[0].record for process in full.processes] == ["full", "full"]


def test_a_node_says_how_much_its_mailbox_holds_and_what_becomes_of_more(folder: Path) -> None:
    nodes = "  a: {kind: './actors_here.py:Greeter', mailbox: 100, overflow: drop}\n"
    nodes += "  c: {kind: './actors_here.py:Caller', links: {greeter: a, others: [a]}}\n"
    topology = load(folder, f"name: t\nnodes:\n{nodes}")

    first, second = (process.instances[0] for process in topology.processes)
    assert (first.mailbox, first.overflow) == (100, {})
    assert (second.mailbox, second.overflow) == (None, {"a": "drop"})


def test_a_restart_becomes_a_policy_of_supervision(folder: Path) -> None:
    topology = load(folder, GOOD)

    restart = topology.nodes["greeter"].restart
    assert restart is not None
    assert restart.supervision() == Supervision(
        when="always",
        backoff_min_ns=SECOND_NS // 5,
        backoff_max_ns=5 * SECOND_NS,
        limit_count=3,
        limit_window_ns=120 * SECOND_NS,
    )
    assert topology.nodes["caller"].restart is None


def test_all_that_is_wrong_with_a_file_is_shown_at_once_with_places(folder: Path) -> None:
    text = (GOLDEN / "bad.yaml").read_text()
    with pytest.raises(TopologyError) as raised:
        load(folder, text)

    shown = str(raised.value).replace(str(folder), "FOLDER")
    assert f"{shown}\n" == (GOLDEN / "bad.txt").read_text()


def test_a_node_that_is_partly_wrong_is_checked_in_all_other_parts(folder: Path) -> None:
    text = "name: t\nnodes:\n  a: {kind: './actors_here.py:Greeter', replicas: x, settings: {capacity: y}}\n"
    text += "  b: {kind: './actors_here.py:Caller', links: {greeter: a/7}}\n"

    assert [line.split(": ")[1] for line in refusal(folder, text)] == [
        "nodes.a.replicas",
        "nodes.a.settings.capacity",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("just text", "t.yaml:1:1: expected a mapping, found 'just text'"),
        ("---", "t.yaml:1:4: expected a mapping, found nothing"),
        ("[]", "t.yaml:1:1: expected a mapping, found a list"),
        ("name: t", "t.yaml:1:1: nodes: missing: it must be written"),
        (
            "name: t\npeer_timeout: 2h\nnodes: {a: {kind: './actors_here.py:Greeter'}}",
            "t.yaml:2:15: peer_timeout: expected 100ms to 1h, found '2h'",
        ),
        (
            "name: t\npeer_timeout: [5s]\nnodes: {a: {kind: './actors_here.py:Greeter'}}",
            "t.yaml:2:15: peer_timeout: expected a duration such as 100ms, 1.5s, 5s, 10m or 1h, found a list",
        ),
        (
            "name: t\npeer_timeout: 5\nnodes: {a: {kind: './actors_here.py:Greeter'}}",
            "t.yaml:2:15: peer_timeout: expected a duration such as 100ms, 1.5s, 5s, 10m or 1h, found 5",
        ),
        (
            "name: t\nnodes: {a: {kind: './actors_here.py:Greeter', mailbox: 0}}",
            "t.yaml:2:56: nodes.a.mailbox: expected a number from 1 to 1000000, found 0",
        ),
        (
            "name: t\nnodes: {a: {kind: './actors_here.py:Greeter', overflow: dorp}}",
            "t.yaml:2:57: nodes.a.overflow: expected fail, drop; found 'dorp'. Did you mean 'drop'?",
        ),
        ("name: t\nnodes: {}", "t.yaml:2:8: nodes: expected at least one node, found none"),
        ("name: t\nnodes:", "t.yaml:2:1: nodes: expected a mapping, found nothing"),
        ("name: t\nnodes: {a: {}}", "t.yaml:2:9: nodes.a.kind: missing: it must be written"),
        (
            "name: t\nnodes: {a: {kind: 5}}",
            "t.yaml:2:19: nodes.a.kind: expected a string, found 5; quote it if it is text",
        ),
        (
            "name: t\nnodes: {a: {kind: files.sever}}",
            "t.yaml:2:19: nodes.a.kind: there is no kind 'files.sever'. Did you mean 'files.server'?",
        ),
        (
            "name: t\nnodes: {a: {kind: './no.py:A'}}",
            "t.yaml:2:19: nodes.a.kind: there is no file 'FOLDER/no.py'",
        ),
    ],
)
def test_a_file_without_what_it_must_have_is_refused(folder: Path, text: str, says: str) -> None:
    assert refusal(folder, text) == [says.replace("FOLDER", str(folder))]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("replicas: 1001", "replicas: expected a number from 1 to 1000, found 1001"),
        ("replicas: true", "replicas: expected a number from 1 to 1000, found true"),
        ("replicas: '3'", "replicas: expected a number from 1 to 1000, found '3'"),
        ("replcas: 3", "replcas: there is no key 'replcas'. Did you mean 'replicas'?"),
        ("settings: 5", "settings: expected a mapping, found 5"),
        ("record: all", "record: expected ring, full, off; found 'all'."),
        ("record: no", "record: expected ring, full, off; found 'no'."),
        ("restart: always", "restart: expected a mapping, found 'always'"),
        ("restart: {backoff: 5}", "restart.backoff: expected a range of durations such as 100ms..10s, found 5"),
        ("restart: {backoff: 5s}", "restart.backoff: expected a range such as 100ms..10s, found '5s'"),
        ("restart: {backoff: 5..10s}", "restart.backoff: expected a duration such as 100ms"),
        ("restart: {limit: 5 in 60}", "restart.limit: expected a duration such as 100ms"),
        ("restart: {limit: 1001 in 60s}", "restart.limit: expected 1 to 1000 restarts and a duration"),
    ],
)
def test_a_wrong_part_of_a_node_is_one_error(folder: Path, text: str, says: str) -> None:
    found = refusal(folder, f"name: t\nnodes:\n  a:\n    kind: ./actors_here.py:Greeter\n    {text}\n")

    assert len(found) == 1
    assert f"nodes.a.{says}" in found[0]


@pytest.mark.parametrize("name", ["A", "a.b", "a/b", "-a", "_a", "", "é", "a" * 65, "a b"])
def test_a_name_that_could_not_be_a_folder_is_refused(folder: Path, name: str) -> None:
    node = "{kind: './actors_here.py:Greeter'}"

    found = refusal(folder, f'name: t\nnodes: {{"{name}": {node}}}')
    assert len(found) == 1
    assert "expected at most 64 of a-z, 0-9, _ and -" in found[0]


@pytest.mark.parametrize("name", ["a", "0", "no", "a-b_c", "a" * 64])
def test_a_name_may_look_like_a_number_or_a_boolean(folder: Path, name: str) -> None:
    topology = load(folder, f"name: t\nnodes: {{{name}: {{kind: './actors_here.py:Greeter'}}}}")

    assert list(topology.nodes) == [name]


def test_a_topology_has_at_most_ten_thousand_actors(folder: Path) -> None:
    nodes = "".join(f"  n{n}: {{kind: './actors_here.py:Greeter', replicas: 1000}}\n" for n in range(11))

    assert refusal(folder, f"name: t\nnodes:\n{nodes}") == [
        "t.yaml:3:3: nodes: 11000 actors are more than a topology's 10000"
    ]


def test_the_error_of_a_kinds_own_code_is_shown_at_its_kind(folder: Path) -> None:
    (folder / "broken_here.py").write_text("from zactor.actor import Actor\n1 / 0\n")

    assert refusal(folder, "name: t\nnodes: {a: {kind: './broken_here.py:A'}}") == [
        (
            "t.yaml:2:19: nodes.a.kind: broken_here.py cannot be imported: "
            f"{folder}/broken_here.py:2: ZeroDivisionError: division by zero"
        )
    ]


def test_a_file_kind_is_relative_to_the_topology_not_to_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "t.yaml").write_text(GOOD)
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder / "sub")

    topology = read.load(Path("../t.yaml"))

    assert (topology.file, topology.folder) == ("../t.yaml", str(folder))


# --- files that are no text
def test_a_file_that_is_missing_or_a_folder_is_an_error_of_its_own(folder: Path) -> None:
    with pytest.raises(UserError, match=r"^no\.yaml: cannot be read: No such file"):
        read.load(Path("no.yaml"))
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read.load(folder)
    with pytest.raises(UserError, match="cannot be read: embedded null byte"):
        read.load(Path("a\0b"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_an_error_of_its_own(folder: Path) -> None:
    (folder / "t.yaml").write_text(GOOD)
    (folder / "t.yaml").chmod(0)

    with pytest.raises(UserError, match="cannot be read: Permission denied"):
        read.load(Path("t.yaml"))


def test_a_file_that_is_no_utf_8_is_told_its_line(folder: Path) -> None:
    (folder / "t.yaml").write_bytes(b"name: t\nnodes: \xff\n")

    with pytest.raises(UserError, match=r"^t\.yaml:2: a topology is UTF-8, found the byte 0xff$"):
        read.load(Path("t.yaml"))


def test_a_file_over_its_bound_is_refused_unread(folder: Path) -> None:
    (folder / "t.yaml").write_bytes(b"#" * (compose.FILE_SIZE_MAX + 1))

    with pytest.raises(UserError, match="a topology has at most 1MiB"):
        read.load(Path("t.yaml"))


# --- anything
WORDS = st.sampled_from(
    [
        "name",
        "nodes",
        "processes",
        "try",
        "kind",
        "replicas",
        "links",
        "settings",
        "restart",
        "when",
        "backoff",
        "limit",
        "transport",
        "greeter",
        "others",
        "peers",
        "capacity",
        "patience",
        "title",
        "./actors_here.py:Greeter",
        "./actors_here.py:Caller",
        "./actors_here.py:Peer",
        "files.server",
        "a",
        "b",
        "a/0",
        "b/1",
        "always",
        "100ms..10s",
        "5 in 60s",
        "2GiB",
        "5s",
        "ipc",
        "",
    ]
)
VALUES = st.recursive(
    WORDS | st.integers(-2, 4) | st.booleans() | st.none() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=15,
)
NODES = st.fixed_dictionaries(
    {"kind": WORDS},
    optional={
        "replicas": st.integers(0, 3),
        "links": st.dictionaries(WORDS, WORDS | st.lists(WORDS, max_size=3), max_size=3) | VALUES,
        "settings": st.dictionaries(WORDS, VALUES, max_size=3) | VALUES,
        "restart": VALUES,
    },
)
TOPOLOGIES = st.fixed_dictionaries(
    {"name": WORDS, "nodes": st.dictionaries(st.sampled_from(["a", "b"]), NODES | VALUES, max_size=2)},
    optional={
        "processes": st.dictionaries(WORDS, st.fixed_dictionaries({"nodes": st.lists(WORDS)}), max_size=2) | VALUES,
        "peer_timeout": VALUES,
        "try": VALUES,
    },
)
ONE_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@ONE_FOLDER
@given(TOPOLOGIES | VALUES, st.booleans())
def test_any_small_tree_is_loaded_or_refused(folder: Path, tree: Any, inline: bool) -> None:
    (folder / "t.yaml").write_bytes(msgspec.json.encode(tree))

    try:
        topology = read.load(Path("t.yaml"), inline=inline)
    except UserError:
        return
    names = [instance.name for process in topology.processes for instance in process.instances]
    assert sorted(names) == sorted(name for node in topology.nodes.values() for name in node.instances())


@ONE_FOLDER
@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_loaded_or_refused(folder: Path, content: bytes) -> None:
    (folder / "t.yaml").write_bytes(content)

    with pytest.raises(UserError):
        read.load(Path("t.yaml"))


@ONE_FOLDER
@given(st.data())
def test_a_good_file_with_any_damage_is_loaded_or_refused(folder: Path, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(start, min(len(GOOD), start + 10)))
    damaged = GOOD[:start] + data.draw(st.text("abn:-?[]{},&*!|>'\"%@#\n \t~<=01./", max_size=6)) + GOOD[end:]
    (folder / "t.yaml").write_text(damaged)

    try:
        topology = read.load(Path("t.yaml"))
    except UserError:
        return
    assert topology.nodes
