"""What `top` makes of two looks at the processes, and how it behaves on a terminal."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.terminal import Terminal
from tests.cli.transcript import TIMEOUT_S
from zactor.cli.top import Look, Row, between
from zactor.errors import UserError

S = 1_000_000_000


def look(now_ns: int, *, incarnation: int = 1, node: str = "a", answers: bool = True, **actor: Any) -> Look:
    """A process `p` with one node."""
    about: dict[str, Any] = {"name": node, "handled": 0, "busy_ns": 0, "status": ""} | actor
    books = dict.fromkeys(("sent", "handled", "dead", "queued", "outbox"), about["handled"])
    process: dict[str, Any] = {
        "process": "p",
        "incarnation": incarnation,
        "now_ns": now_ns,
        "actors": [about],
        "books": books,
    }
    process |= {"bytes_received": 0, "busy_ns": about["busy_ns"]}
    row: dict[str, Any] = {
        "node": node,
        "process": "p",
        "state": "ready" if answers else "hung",
        "mailbox": 3,
        "restarts": 1,
    }
    row |= {"last_error": None if answers else "no answer for 1 s", "process_restarts": incarnation - 1}
    return Look([row], {"p": process} if answers else {})


def row(before: Look, after: Look) -> Row:
    return between(before, after).rows[0]


# --- two looks
def test_rates_are_by_the_clock_of_the_process() -> None:
    found = row(look(S, handled=100, busy_ns=0), look(3 * S, handled=150, busy_ns=S // 2, status="fine"))

    assert (found.handled_per_s, found.busy, found.status) == (25.0, 0.25, "fine")
    assert (found.mailbox, found.restarts) == (3, 1)


@pytest.mark.parametrize(
    "after",
    [look(2 * S, incarnation=2, handled=150), look(2 * S, handled=50), look(2 * S, node="b"), look(S, answers=False)],
    ids=["its process is another", "it was made anew", "it was not there", "no answer"],
)
def test_what_cannot_be_known_has_no_rate(after: Look) -> None:
    found = row(look(S, handled=100), after)

    assert (found.handled_per_s, found.busy) == (None, None)


def test_restarts_are_those_of_the_actor_and_of_its_process() -> None:
    assert row(look(S), look(2 * S, incarnation=3)).restarts == 1 + 2


def test_what_is_not_ready_says_why_instead_of_a_status() -> None:
    assert row(look(S), look(2 * S, answers=False)).status == "no answer for 1 s"


def test_the_sums_are_over_all_processes_that_were_there_both_times() -> None:
    sums = between(look(S, handled=10), look(2 * S, handled=40, busy_ns=S // 4)).sums

    assert sums == (
        "in a second: 30 messages sent, 30 handled, 0 KiB between processes, 0.25 s busy; 80 waiting, 40 dead letters"
    )


def test_a_pattern_that_fits_nothing_says_what_there_is() -> None:
    with pytest.raises(UserError, match="no node is like 'b'; the nodes are a"):
        between(look(S), look(2 * S), "b")


# --- on a terminal
@pytest.mark.live
def test_it_is_drawn_anew_until_q(terminal: Callable[[str], Terminal]) -> None:
    top = terminal("zactor top --interval 100ms")

    first = top.until(lambda shown: shown.count("\x1b[J") == 2)
    assert "stage  run " in first
    assert first.count("greeter") == 2
    top.resize(20)
    top.until(lambda shown: any("stage" in line and len(line) < 40 for line in shown.splitlines()))
    top.press(b"x")
    top.until(lambda shown: shown.count("\x1b[J") == 2)
    top.press(b"q")

    assert top.ended() == 0


@pytest.mark.live
@pytest.mark.parametrize(("end", "code"), [(b"\x03", 130), (signal.SIGTERM, 0)], ids=["Ctrl-C", "SIGTERM"])
def test_the_terminal_is_as_before_however_it_ends(
    terminal: Callable[[str], Terminal], end: bytes | signal.Signals, code: int
) -> None:
    top = terminal("zactor top -n 'store/*'")
    top.until(lambda shown: "\x1b[J" in shown)

    if isinstance(end, bytes):
        top.press(end)
    else:
        top.process.send_signal(end)

    assert top.ended() == code
    assert "Traceback" not in top.shown


@pytest.mark.live
def test_a_mistake_is_said_on_the_usual_screen(terminal: Callable[[str], Terminal]) -> None:
    top = terminal("zactor top -n nobody")

    shown = top.until(lambda shown: "the nodes are" in shown)

    assert "\x1b[" not in shown
    assert top.process.wait(TIMEOUT_S) == 2
