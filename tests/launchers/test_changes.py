"""The difference between the topology that runs and the one that is wanted."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.launchers.story import instance, topology
from zactor.errors import UserError
from zactor.launchers.changes import VALUE_LENGTH_MAX, differences, renumbered
from zactor.message import CLIENT_NUMBER
from zactor.topology.model import Instance, Process, Restart, Topology


def changed(name: str = "a", **fields: Any) -> Instance:
    return msgspec.structs.replace(instance(name), **fields)


def said(before: Topology, after: Topology, **idle: str) -> list[str]:
    return [str(change) for change in differences(before, after, idle)]


def test_topologies_that_say_the_same_differ_in_nothing_whatever_their_order() -> None:
    a, b = instance("a"), instance("b", greeter=("a",))

    assert said(topology(a, b), topology(b, a)) == []


def test_nodes_that_come_and_go_are_said() -> None:
    assert said(topology(instance("a"), instance("b")), topology(instance("b"), instance("c"))) == ["- a", "+ c"]


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ({"kind": "hello.caller"}, {}, "kind hello.caller -> hello.greeter"),
        ({"settings": {"salutation": "Hi"}}, {}, "settings.salutation 'Hi' -> default"),
        ({"settings": {"size": 1}}, {"settings": {"size": "1KiB"}}, "settings.size 1 -> '1KiB'"),
        ({}, {"settings": {"salutation": None}}, "settings.salutation default -> None"),
        ({"links": {"to": ("b",)}}, {"links": {"to": ("b", "c")}}, "links.to b -> b, c"),
        ({}, {"links": {"to": ("b",)}}, "links.to nobody -> b"),
        (
            {"restart": None},
            {"restart": Restart(when="never")},
            "restart default -> never 100ms..10s 5 in 1m",
        ),
        ({"record": "full"}, {}, "record full -> ring"),
        ({}, {"mailbox": 10}, "mailbox default -> 10"),
        ({"overflow": {"b": "drop"}}, {"overflow": {"b": "fail"}}, "overflow of b drop -> fail"),
        ({"overflow": {"b": "drop"}}, {}, "overflow of b drop -> default"),
    ],
)
def test_each_difference_of_a_node_is_said(before: dict[str, Any], after: dict[str, Any], text: str) -> None:
    assert said(topology(changed(**before)), topology(changed(**after))) == [f"~ a: {text}"]


def test_a_kind_in_a_file_is_another_one_in_another_folder_and_a_packaged_kind_is_not() -> None:
    here, there = (changed(kind="./x.py:X", folder=folder) for folder in ("/here", "/there"))

    assert said(topology(here), topology(there)) == ["~ a: kind ./x.py:X in /here -> /there"]
    assert said(topology(changed(folder="/here")), topology(changed(folder="/there"))) == []


def test_another_place_or_transport_of_a_process_is_a_difference_of_its_nodes() -> None:
    alone = topology(instance("a"), instance("b"))
    together = topology((instance("b"), instance("a")))
    over_tcp = msgspec.structs.replace(alone, processes=tuple(_over_tcp(process) for process in alone.processes))

    assert said(alone, together) == ["~ a: process a -> b"]
    assert said(alone, over_tcp) == ["~ a: transport ipc -> tcp", "~ b: transport ipc -> tcp"]


def _over_tcp(process: Process) -> Process:
    return msgspec.structs.replace(process, transport="tcp")


def test_the_time_after_which_silence_is_loss_is_that_of_all() -> None:
    a = instance("a")

    assert said(topology(a), topology(a, peer_timeout_ns=10**9)) == ["~ a: peer_timeout 5s -> 1s"]


def test_a_node_that_does_not_run_is_started_unless_it_is_restarted_anyway() -> None:
    a, b = instance("a"), instance("b")

    assert said(topology(a, b), topology(a, b), b="it was stopped") == ["+ b: it was stopped"]
    assert said(topology(a), topology(changed(kind="hello.caller")), a="stopped") == [
        "~ a: kind hello.greeter -> hello.caller"
    ]


def test_a_long_value_is_cut() -> None:
    (line,) = said(topology(instance("a")), topology(changed(settings={"text": "x" * 1000})))

    assert line == f"~ a: settings.text default -> '{'x' * (VALUE_LENGTH_MAX - 4)}..."


def test_processes_keep_their_numbers_and_new_ones_get_numbers_that_nobody_had() -> None:
    wanted = topology(instance("new"), instance("b"), instance("newer"))

    numbered = renumbered(wanted, {"a": 1, "b": 2, "gone": 4})

    assert {process.name: process.number for process in numbered.processes} == {"new": 3, "b": 2, "newer": 5}


def test_when_all_numbers_were_given_the_mend_is_said() -> None:
    given = {f"p{number}": number for number in range(1, CLIENT_NUMBER)}

    with pytest.raises(UserError, match=r"this run has had 1022 processes.* bring it down and up"):
        renumbered(topology(instance("a")), given)


@pytest.mark.parametrize(
    ("before", "after", "said_of_b"),
    [
        ("ring", "full", ["~ b: the recording of a ring -> full"]),
        ("full", "ring", ["~ b: the recording of a full -> ring"]),
        ("ring", "off", []),
    ],
)
def test_what_changes_the_recording_of_a_process_restarts_all_of_it(
    before: str, after: str, said_of_b: list[str]
) -> None:
    def together(record: str) -> Topology:
        return topology((changed("a", record=record), instance("b")))

    assert said(together(before), together(after)) == [f"~ a: record {before} -> {after}", *said_of_b]
