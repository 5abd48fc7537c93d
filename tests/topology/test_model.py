from __future__ import annotations

import msgspec

from zactor.supervision import SECOND_NS, Supervision
from zactor.topology.model import Instance, Node, Process, Restart, Topology


def test_a_topology_travels_as_json() -> None:
    restart = Restart(when="always", limit_count=3)
    settings = {"capacity": "2GiB", "list": [1, 2.5, None, True]}
    node = Node("store", "files.server", 2, settings, {"peers": ("store",)}, restart)
    instance = Instance("store/0", "store", "files.server", "/x", settings, {"peers": ("store/1",)}, restart)
    topology = Topology("t", "t.yaml", "/x", {"store": node}, (Process("p", 1, "tcp", (instance,)),), ("ls",))

    assert msgspec.json.decode(msgspec.json.encode(topology), type=Topology) == topology


def test_a_restart_that_says_nothing_is_the_default_policy() -> None:
    assert Restart().supervision() == Supervision()


def test_a_restart_gives_the_policy_that_it_names() -> None:
    restart = Restart(when="never", backoff_min_ns=1, backoff_max_ns=2, limit_count=3, limit_window_ns=4 * SECOND_NS)

    assert restart.supervision() == Supervision(
        when="never", backoff_min_ns=1, backoff_max_ns=2, limit_count=3, limit_window_ns=4 * SECOND_NS
    )


def test_a_node_without_replicas_is_one_instance_without_a_number() -> None:
    assert Node("a", "k", None, {}, {}, None).instances() == ["a"]
    assert Node("a", "k", 1, {}, {}, None).instances() == ["a/0"]
    assert Node("a", "k", 3, {}, {}, None).instances() == ["a/0", "a/1", "a/2"]
