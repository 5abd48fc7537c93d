"""The search, and what guides it, broken on purpose: agreement with brute force sees each of the mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest

from tests.judges.brute import in_real_time, is_ordered
from tests.judges.making import ALIKE, SERVICES, Service
from tests.judges.test_brute_force import histories
from zactor.judges import linearizability, models, search, shown
from zactor.judges.linearizability import LINEARIZABLE, judge_order
from zactor.judges.models import BUILT_IN

MUTANTS = {
    "unknown operations never happen": (
        "for lane, start in enumerate(self._starts) if start < horizon",
        "for lane, start in enumerate(self._starts) if start < horizon and ends[lane] != NEVER",
    ),
    "unknown operations must happen": ("if done.end != NEVER:", "if done.id >= 0:"),
    "real time is ignored": ("if start < horizon", "if start < NEVER"),
    "what is remembered has no state": ("self._weights[lane], state)", "self._weights[lane], None)"),
    "what is remembered has no operations": ("(self._code + self._weights[lane], state)", "(0, state)"),
    "weights of places overlap": ("weight *= len(chain)", "weight *= max(1, len(chain) - 1)"),
    "the state is not taken back": ("lane, self._state, self._before, moves = p", "lane, _, self._before, moves = p"),
    "what changes nothing now counts as a read": ("if heads[lane].only_reads:", "if after == state:"),
    "a read is done although it does not fit": (
        "if not fits or (",
        "if (not fits and not heads[lane].only_reads) or (",
    ),
    "what fits without an unknown operation needs none": ("bool(outcome[1] == state)", "True"),
    "all unknown operations are one chain": ("found.setdefault((item.call,), [[]])", "found.setdefault((), [[]])"),
    "a state stays although it can come back": ("and self._makers[state] == 0", ""),
    "a read that is done still needs its state": ("self._readers[self._read[done.id]] -= by", "pass"),
    "the last operation is forgotten": ("while self._left:", "while self._left > 1:"),
}

COUNT = 500
"""Histories of each model."""


GUIDES = {
    "a piece is appended to what it leads to": ("value[:begin] or None", "value[:end]"),
    "an empty text is as good as none": ("value[:begin] or None", "value[:begin]"),
    "of two ways to put a value together one is taken": ("if ways[-1] != 1:", "if not ways[-1]:"),
    "what was appended twice was appended where it is seen": ("if pieces[piece] == 1}", "}"),
    "what nobody saw was never there": ("unseen & set(optional)", "unseen"),
    "what others are appended to is not seen": ("{*values, *needs.values()}", "{*values}"),
    "an unknown dequeue may take nothing": ("not state or state[0] not in taken", "False"),
    "an unknown dequeue takes what was not taken": ("if not ordered or (taker is None and unsure):", "if not ordered:"),
    "what was dequeued later was enqueued before": ("each[0] < (NEVER if", "each[0] > (NEVER if"),
    "what was dequeued about then was enqueued before": ("else taker.start)", "else taker.end + 2)"),
    "two may take the same": ("(other is not item or value not in values)", "other is item"),
    "what nobody took was never enqueued": ("if item.end == NEVER and item.call", "if item.call"),
    "what nobody read was never written": ("for number in optional if number in writes and", "for number in writes if"),
}
"""Mistakes in what is taken for shown."""


def broken(whole: ModuleType, old: str, new: str) -> ModuleType:
    """A module with one thing changed."""
    source = Path(whole.__file__ or "").read_text()
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {whole.__name__}"
    module = ModuleType("zactor.judges.broken")
    exec(compile(source.replace(old, new), "broken.py", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_search_is_found_by_brute_force(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = broken(search, *MUTANTS[name])
    for changed in ("Search", "Item", "chains", "take_turns"):
        monkeypatch.setattr(linearizability, changed, getattr(module, changed))
    nothing = module.NOTHING_SHOWN  # guided, it would not go where some of these mistakes are
    monkeypatch.setattr(linearizability, "_shown", lambda *_values: nothing)

    assert any(_judges_otherwise(model) for model in SERVICES)


@pytest.mark.parametrize("name", GUIDES)
def test_a_wrong_guide_is_found_by_brute_force(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = broken(shown, *GUIDES[name])
    for changed in ("shown_of_appends", "shown_of_queue", "shown_of_writes"):
        monkeypatch.setattr(models, changed, getattr(module, changed))

    assert any(
        _judges_otherwise(model, services) for model in ALIKE for services in (SERVICES, ALIKE)
    ) or _judges_otherwise("register")


def _judges_otherwise(name: str, services: Mapping[str, Service] = SERVICES) -> bool:
    model = BUILT_IN[name]
    for operations in histories(name, COUNT, size=7, services=services):
        # A broken search may also go astray: that is seen, too.
        try:
            said = judge_order(operations, model, LINEARIZABLE, 20_000).word
        except IndexError:
            return True
        if said != ("ok" if is_ordered(operations, model.initial, model.step, in_real_time) else "violation"):
            return True
    return False
