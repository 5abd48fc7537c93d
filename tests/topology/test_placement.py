from __future__ import annotations

from pathlib import Path

import pytest

from zactor.topology import read
from zactor.topology.diagnostics import TopologyError
from zactor.topology.model import Topology

NODES = """\
name: test
nodes:
  store: {kind: './actors_here.py:Greeter', replicas: 3, settings: {capacity: 2GiB}}
  front: {kind: './actors_here.py:Greeter'}
  back: {kind: './actors_here.py:Greeter', replicas: 1}
"""


def load(folder: Path, processes: str, *, inline: bool = False) -> Topology:
    (folder / "t.yaml").write_text(NODES + processes)
    return read.load(Path("t.yaml"), inline=inline)


def placed(topology: Topology) -> list[tuple[str, int, list[str]]]:
    return [
        (process.name, process.number, [instance.name for instance in process.instances])
        for process in topology.processes
    ]


def refusal(folder: Path, processes: str) -> list[str]:
    with pytest.raises(TopologyError) as raised:
        load(folder, processes)
    return [str(diagnostic).splitlines()[0] for diagnostic in raised.value.diagnostics]


def test_without_a_word_about_it_each_instance_has_a_process_of_its_own(folder: Path) -> None:
    topology = load(folder, "")

    assert placed(topology) == [
        ("store/0", 1, ["store/0"]),
        ("store/1", 2, ["store/1"]),
        ("store/2", 3, ["store/2"]),
        ("front", 4, ["front"]),
        ("back/0", 5, ["back/0"]),
    ]
    assert {process.transport for process in topology.processes} == {"ipc"}


def test_what_is_listed_shares_a_process_and_the_rest_is_alone(folder: Path) -> None:
    topology = load(folder, "processes:\n  pair: {nodes: [back, store/1], transport: tcp}\n  single: {nodes: [front]}")

    assert placed(topology) == [
        ("pair", 1, ["store/1", "back/0"]),
        ("single", 2, ["front"]),
        ("store/0", 3, ["store/0"]),
        ("store/2", 4, ["store/2"]),
    ]
    assert [process.transport for process in topology.processes] == ["tcp", "ipc", "ipc", "ipc"]


def test_the_name_of_a_node_puts_all_its_replicas_in(folder: Path) -> None:
    topology = load(folder, "processes: {stores: {nodes: [store]}}")

    assert placed(topology)[0] == ("stores", 1, ["store/0", "store/1", "store/2"])


def test_inline_is_one_process_whatever_the_file_says(folder: Path) -> None:
    topology = load(folder, "processes: {stores: {nodes: [store]}}", inline=True)

    assert placed(topology) == [("inline", 1, ["store/0", "store/1", "store/2", "front", "back/0"])]


def test_an_instance_has_what_its_process_needs_to_make_it(folder: Path) -> None:
    instance = load(folder, "").processes[0].instances[0]

    assert (instance.name, instance.node, instance.kind) == ("store/0", "store", "./actors_here.py:Greeter")
    assert instance.folder == str(folder)
    assert instance.settings == {"capacity": "2GiB"}


def test_a_process_may_have_the_name_of_an_actor_that_lives_in_it(folder: Path) -> None:
    assert placed(load(folder, "processes: {front: {nodes: [front, back]}}"))[0] == (
        "front",
        1,
        ["front", "back/0"],
    )


@pytest.mark.parametrize(
    ("processes", "says"),
    [
        (
            "processes: {a: {nodes: [store/0]}, b: {nodes: [front, store]}}",
            "t.yaml:6:55: processes.b.nodes[1]: store/0 is already in process 'a'",
        ),
        (
            "processes: {a: {nodes: [front, front]}}",
            "t.yaml:6:32: processes.a.nodes[1]: front is already in process 'a'",
        ),
        (
            "processes: {a: {nodes: [frnot]}}",
            "t.yaml:6:25: processes.a.nodes[0]: there is no node 'frnot'. Did you mean 'front'?",
        ),
        (
            "processes: {a: {nodes: [store/3]}}",
            "t.yaml:6:25: processes.a.nodes[0]: there is no 'store/3': the replicas of 'store' count from 0 to 2",
        ),
        (
            "processes: {a: {nodes: []}}",
            "t.yaml:6:24: processes.a.nodes: expected at least one node, found none",
        ),
        ("processes: {a: {}}", "t.yaml:6:13: processes.a.nodes: missing: it must be written"),
        (
            "processes: {a: {nodes: front}}",
            "t.yaml:6:24: processes.a.nodes: expected a list of strings, found 'front'",
        ),
        (
            "processes: {front: {nodes: [back]}}",
            (
                "t.yaml:6:13: processes.front: the actor of this name is in a process of its own, "
                "which would have the same name"
            ),
        ),
        (
            "processes: {a: {nodes: [front]}, front: {nodes: [back]}}",
            "t.yaml:6:34: processes.front: the actor of this name is in process 'a', which would have the same name",
        ),
        (
            "processes: {a: {nodes: [front], transport: udp}}",
            "t.yaml:6:44: processes.a.transport: expected ipc, tcp; found 'udp'.",
        ),
        (
            "processes: {a: {nodes: [front], transprot: ipc}}",
            "t.yaml:6:33: processes.a.transprot: there is no key 'transprot'. Did you mean 'transport'?",
        ),
        (
            "processes: {a/0: {nodes: [front]}}",
            (
                "t.yaml:6:13: processes.a/0: expected at most 64 of a-z, 0-9, _ and -, "
                "the first a letter or digit, found 'a/0'"
            ),
        ),
    ],
)
def test_a_wrong_placement_is_one_error(folder: Path, processes: str, says: str) -> None:
    assert refusal(folder, processes) == [says]


def test_there_are_at_most_a_thousand_processes_but_more_actors(folder: Path) -> None:
    nodes = NODES.replace("replicas: 3", "replicas: 1000")
    (folder / "t.yaml").write_text(nodes)

    with pytest.raises(TopologyError, match="1002 processes are more than 1000; put some together"):
        read.load(Path("t.yaml"))
    assert len(read.load(Path("t.yaml"), inline=True).processes[0].instances) == 1_002

    (folder / "t.yaml").write_text(nodes + "processes: {rest: {nodes: [store/0, front, back]}}")
    numbers = [process.number for process in read.load(Path("t.yaml")).processes]
    assert numbers == list(range(1, 1_001))


def test_a_pattern_takes_those_that_no_process_names(folder: Path) -> None:
    processes = "processes: {rest: {nodes: ['*']}, one: {nodes: [store/0]}}\n"

    assert placed(load(folder, processes)) == [
        ("rest", 1, ["store/1", "store/2", "front", "back/0"]),
        ("one", 2, ["store/0"]),
    ]


def test_a_pattern_that_nothing_is_like_is_refused(folder: Path) -> None:
    assert refusal(folder, "processes: {rest: {nodes: ['sotre/*']}}\n") == [
        "t.yaml:6:28: processes.rest.nodes[0]: no actor has a name like 'sotre/*'"
    ]
    assert refusal(folder, "processes: {rest: {nodes: ['*']}, more: {nodes: ['store/*']}}\n") == [
        "t.yaml:6:50: processes.more.nodes[0]: all that have a name like 'store/*' are in other processes"
    ]
