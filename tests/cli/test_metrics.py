"""Counters as Prometheus reads them: by its own parser, over HTTP, and from a port that can be had."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.transcript import Place
from zactor.cli.metrics import CONNECTIONS_MAX, LOOPBACK, exposition

ODD = 'a "b"\\\n'
"""A reason with all that has to be escaped."""

BOOKS = {"sent": 7, "received": 5, "handled": 6, "queued": 1, "outbox": 0}

Samples = dict[tuple[str, str], float]


def answer(process: str, *actors: str) -> dict[str, Any]:
    """What a process says of itself."""
    about = {"handled": 3, "busy_ns": 1_500_000_000, "mailbox": 2, "restarts": 4}
    books = {"process": process, "books": BOOKS, "dead_letters": {ODD: 2, "full": 1}}
    rest = {"busy_ns": 2_000_000_000, "bytes_received": 200, "late_ms": 0.5}
    return books | rest | {"actors": [{"name": name, **about} for name in actors]}


def row(node: str, process: str, state: str = "ready") -> dict[str, Any]:
    return {"node": node, "process": process, "state": state, "process_restarts": 9}


def samples(text: str) -> Samples:
    """Value by name and the labels that tell samples apart, as the parser of Prometheus's client reads them."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation.endswith("."), family.name
        assert family.type in ("counter", "gauge")
        for sample in family.samples:
            assert re.fullmatch(r"zactor_[a-z_]+", sample.name)
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
            assert sample.labels["topology"]
            kinds = ("process", "node", "reason")
            key = (sample.name, " ".join(sample.labels[kind] for kind in kinds if kind in sample.labels))
            assert key not in found, f"{key} twice"
            found[key] = sample.value
    return found


def test_everything_is_told_of_by_prometheus_conventions() -> None:
    found = samples(exposition("mine", [row("a/0", "p"), row("b", "p")], [answer("p", "a/0", "b")]))

    assert found[("zactor_messages_handled_total", "p a/0")] == 3
    assert found[("zactor_handler_seconds_total", "p b")] == 1.5
    assert found[("zactor_mailbox_messages", "p b")] == 2
    assert found[("zactor_restarts_total", "p b")] == 4
    assert found[("zactor_process_restarts_total", "p")] == 9
    assert found[("zactor_messages_sent_total", "p")] == 7
    assert found[("zactor_messages_received_total", "p")] == 5
    assert found[("zactor_received_bytes_total", "p")] == 200
    assert found[("zactor_busy_seconds_total", "p")] == 2.0
    assert found[("zactor_late_seconds", "p")] == 0.0005
    assert found[("zactor_dead_letters_total", "p full")] == 1
    assert found[("zactor_dead_letters_total", f"p {ODD}")] == 2


def test_a_process_that_does_not_answer_has_no_counters_and_its_nodes_are_not_ready() -> None:
    found = samples(exposition("mine", [row("a", "p"), row("b", "q", "hung")], [answer("p", "a"), {"state": "hung"}]))

    assert (found["zactor_node_ready", "p a"], found["zactor_node_ready", "q b"]) == (1, 0)
    assert ("zactor_messages_sent_total", "q") not in found


def test_actors_that_are_no_nodes_are_left_out() -> None:
    """A child that ends would take its counts with it: what only grows may not shrink."""
    found = samples(exposition("mine", [row("a", "p")], [answer("p", "a", "a/child")]))

    assert [labels for name, labels in found if name == "zactor_messages_handled_total"] == ["p a"]


# --- at its port
def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=10.0)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.fixture
def port(alone: Place) -> int:
    """Where the counters of hello.yaml are."""
    port = free_port()
    up = alone.shell(f"zactor up -d hello.yaml --metrics {port}")
    assert f"  metrics  http://{LOOPBACK}:{port}/metrics\n" in up.out, up.err
    return port


@pytest.mark.live
def test_the_launcher_serves_them_while_the_topology_is_up(alone: Place, port: int) -> None:
    status, before = get(port, "/metrics")
    alone.command("zactor ask greeter Greet name=world")
    after = samples(get(port, "/metrics")[1])

    assert status == 200
    handled = ("zactor_messages_handled_total", "greeter greeter")
    assert after[handled] == samples(before)[handled] + 1
    assert after["zactor_node_ready", "greeter greeter"] == 1
    assert alone.command("zactor down").out == "hello: stopped\n"
    with pytest.raises(ConnectionRefusedError):
        get(port, "/metrics")


@pytest.mark.live
def test_what_is_no_request_for_counters_is_refused_and_they_are_still_served(port: int) -> None:
    assert get(port, "/") == (404, "the counters are at /metrics\n")
    assert get(port, "/metrics?name=x")[0] == 200
    assert get(port, "/metrics", "POST")[0] == 405

    silent = [socket.create_connection((LOOPBACK, port)) for _ in range(CONNECTIONS_MAX)]
    assert get(port, "/metrics")[0] == 503
    for connection in silent:
        connection.close()
    flood = socket.create_connection((LOOPBACK, port), timeout=10.0)
    with flood, contextlib.suppress(ConnectionError):
        flood.sendall(b"x" * (1 << 20))
        assert flood.recv(1) == b""
    assert get(port, "/metrics")[0] == 200


@pytest.mark.live
@pytest.mark.parametrize("flag", ["", " -d", " --inline"])
def test_a_port_that_is_taken_is_said_before_anything_is_started(alone: Place, flag: str) -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        up = alone.shell(f"zactor up{flag} hello.yaml --metrics {port}")

    mend = f"--metrics {port}: {LOOPBACK}:{port} cannot be had: address already in use; choose another port"
    assert (up.code, up.out, up.err) == (2, "", f"zactor: {mend}\n")
    assert alone.command("zactor runs -t hello.yaml").out == ""
