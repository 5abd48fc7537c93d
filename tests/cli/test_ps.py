"""What `ps` makes of what the processes say of themselves and of each other."""

from __future__ import annotations

import asyncio
import os
from typing import Any, cast

import msgspec
import pytest

from zactor.cli import ps
from zactor.cli.client import TopologyClient
from zactor.errors import AskTimeout, Failure
from zactor.live.world import Book, BookEntry

BOOKS = {"sent": 1, "received": 1, "handled": 2, "queued": 0, "outbox": 0}

GONE_PID = 1 << 30


class Answers:
    """Stands for a client: each process gives an answer, or raises it."""

    def __init__(self, stopped: dict[str, str] | None = None, **answers: dict[str, Any] | Failure) -> None:
        self.answers = answers
        processes = {name: BookEntry(1, 1, f"ipc://{name}", None, os.getpid()) for name in answers}
        self.book = Book(1, "r", {name: name for name in answers}, processes, stopped or {})

    async def inspect(self, process: str, _timeout_s: float) -> dict[str, Any]:
        answer = self.answers[process]
        if isinstance(answer, Failure):
            raise answer
        return answer


def process(name: str, **about: Any) -> dict[str, Any]:
    """What a process with one node of its name says of itself."""
    actor = {"name": name, "state": "ready", "mailbox": 0, "handled": 2, "restarts": 0}
    actor |= {"waits_for": None, "last_error": None}
    return {"books": BOOKS, "dead_letters": {}, "peers": [], "actors": [actor], "late_ms": 0.3} | about


def said(client: Answers, capsys: pytest.CaptureFixture[str], *, as_json: bool = False) -> list[str]:
    asyncio.run(ps._ps(cast("TopologyClient", client), None, as_json))
    return capsys.readouterr().out.splitlines()


def row(client: Answers, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The first node."""
    return msgspec.json.decode(said(client, capsys, as_json=True)[0], type=dict[str, Any])


def test_a_process_whose_loop_is_late_is_busy_and_its_node_has_its_own_state(
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = Answers(a=process("a", late_ms=340.5), b=process("b", late_ms=99.0))

    assert [line.split()[:2] for line in said(client, capsys)[1:3]] == [["a", "busy"], ["b", "ready"]]
    assert (row(client, capsys)["state"], row(client, capsys)["late_ms"]) == ("ready", 340.5)


def test_a_process_that_lives_and_does_not_answer_is_hung_for_as_long_as_its_peers_say(
    capsys: pytest.CaptureFixture[str],
) -> None:
    b = process("b", peers=[{"process": "a", "silent_ms": 5300.0}])
    c = process("c", peers=[{"process": "a", "silent_ms": 4200.0}, {"process": "b", "silent_ms": 12.0}])
    client = Answers(a=AskTimeout("no answer"), b=b, c=c)

    assert said(client, capsys)[1].endswith("no answer for 1 s, silent for 4.2 s")
    assert (row(client, capsys)["state"], row(client, capsys)["silent_ms"]) == ("hung", 4200.0)


@pytest.mark.parametrize("problem", [AskTimeout("no answer in time"), Failure("it has just gone")])
def test_a_process_that_is_not_there_is_not_hung(problem: Failure, capsys: pytest.CaptureFixture[str]) -> None:
    client = Answers(a=problem)
    client.book.processes["a"] = BookEntry(1, 1, "ipc://a", None, GONE_PID)

    assert (row(client, capsys)["state"], row(client, capsys)["last_error"]) == ("no answer", str(problem))


def test_a_node_that_was_stopped_says_why_whether_its_process_goes_on_or_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = Answers({"a": "enough"}, a=process("other"))
    assert (row(client, capsys)["state"], row(client, capsys)["last_error"]) == ("stopped", "enough")

    client.book.processes["a"] = BookEntry(1, 1, None, "enough")
    assert (row(client, capsys)["state"], row(client, capsys)["last_error"]) == ("stopped", "enough")


def test_what_was_lost_with_a_process_is_summed_over_those_that_it_was_lost_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = Answers(a=process("a", lost={"store/1": 5}), b=process("b", lost={"store/1": 7, "a": 1}), c=process("c"))

    assert said(client, capsys)[-3:] == [
        "messages: 3 sent, 6 handled, 0 waiting; dead letters: none",
        "lost with a: at most 1",
        "lost with store/1: at most 12",
    ]
