"""The search broken on purpose: agreement with brute force sees each of the mistakes that one makes in it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.judges.brute import in_real_time, is_ordered
from tests.judges.making import SERVICES
from tests.judges.test_brute_force import histories
from zactor.judges import linearizability, search
from zactor.judges.linearizability import LINEARIZABLE, judge_order
from zactor.judges.models import BUILT_IN

SOURCE = Path(search.__file__).read_text()

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
    "a read that is done still needs its state": (
        "self._readers if done.only_reads else",
        "Counter() if done.only_reads else",
    ),
    "the last operation is forgotten": ("while self._left:", "while self._left > 1:"),
}

COUNT = 500
"""Histories of each model."""


def broken(old: str, new: str) -> ModuleType:
    assert SOURCE.count(old) == 1, f"{old!r} stands {SOURCE.count(old)} times in search.py"
    module = ModuleType("zactor.judges.broken_search")
    exec(compile(SOURCE.replace(old, new), "broken_search.py", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_search_is_found_by_brute_force(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = broken(*MUTANTS[name])
    for changed in ("Search", "Item", "chains", "take_turns"):
        monkeypatch.setattr(linearizability, changed, getattr(module, changed))

    assert any(_judges_otherwise(model) for model in SERVICES)


def _judges_otherwise(name: str) -> bool:
    model = BUILT_IN[name]
    for operations in histories(name, COUNT, size=7):
        # A broken search may also go astray: that is seen, too.
        try:
            said = judge_order(operations, model, LINEARIZABLE, 20_000).word
        except IndexError:
            return True
        if said != ("ok" if is_ordered(operations, model.initial, model.step, in_real_time) else "violation"):
            return True
    return False
