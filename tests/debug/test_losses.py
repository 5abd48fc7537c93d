from __future__ import annotations

from typing import Any

from zactor.debug.losses import Losses


def letter(count: int, reason: str = "full", process: str = "a") -> dict[str, Any]:
    where = {"sender": "s", "target": "t", "message": "Greet", "id": "1.1.5"}
    return {"event": "dead_letter", "hlc": 5 << 16, "process": process, "reason": reason, "count": count} | where


def books(process: str = "a", **reasons: int) -> dict[str, Any]:
    return {"event": "books", "process": process, "dead_letters": reasons}


def totals(*events: dict[str, Any]) -> tuple[int, dict[str, int], dict[str, int]]:
    losses = Losses(events)
    listed = len(list(losses))
    return listed, dict(losses.reasons), dict(losses.with_process)


def test_of_a_flood_the_last_number_counts_and_at_the_end_the_sum() -> None:
    assert totals(letter(1), letter(2), letter(4)) == (3, {"full": 4}, {})
    assert totals(letter(1), letter(2), letter(4), books(full=7, stopped=2)) == (3, {"full": 7, "stopped": 2}, {})


def test_each_process_and_each_of_its_lives_counts_for_itself() -> None:
    assert totals(letter(1), letter(1, process="b"), letter(2)) == (3, {"full": 3}, {})
    assert totals(letter(1), letter(1)) == (2, {"full": 2}, {})
    assert totals(letter(3), books(full=3), letter(1), letter(4), books(full=6)) == (3, {"full": 9}, {})


def test_what_was_under_way_when_a_process_died_is_told_by_all_others() -> None:
    lost = {"event": "peer_lost", "process": "a", "peer": "c", "because": "x", "outbox": 1}

    assert totals(lost | {"lost_at_most": 5}, lost | {"lost_at_most": 2, "process": "b"}) == (0, {}, {"c": 7})


def test_a_dead_letter_has_a_reason_both_ends_and_a_time() -> None:
    (loss,) = Losses([letter(1), {"event": "greeted"}])

    assert (loss.reason, loss.message, loss.sender, loss.target, loss.id) == ("full", "Greet", "s", "t", "1.1.5")
    assert loss.at_ns == 5 << 16


def test_events_of_actors_that_have_such_names_are_none() -> None:
    assert totals({"event": "dead_letter"}, {"event": "books", "dead_letters": 5}, {"event": "peer_lost"}) == (
        0,
        {},
        {},
    )
