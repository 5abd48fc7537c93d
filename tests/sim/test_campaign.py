"""What a campaign of many seeds must have seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim import stage
from zactor.cli.sim import MANY_SEEDS, Campaign, never_seen, summary
from zactor.sim.runner import Result


def results(count: int, **marks: int) -> list[Result]:
    return [
        Result(seed=seed, verdict="ok", marks=marks if seed == 1 else dict.fromkeys(marks, 0)) for seed in range(count)
    ]


def test_a_run_counts_what_happens_sometimes() -> None:
    result = stage.run(stage.topology(sometimes="[node_failed, operation_answered]"))

    assert result.marks == {"node_failed": 0, "operation_answered": result.operations}


def test_what_never_happened_is_named() -> None:
    found = results(3, torn=2, full=0)

    assert never_seen(found) == ["full"]
    assert list(summary(found))[-2:] == ["sometimes: full 0, torn 2", "never: full"]


@pytest.mark.parametrize(("count", "full", "code"), [(MANY_SEEDS, 0, 1), (MANY_SEEDS, 1, 0), (MANY_SEEDS - 1, 0, 0)])
def test_a_large_campaign_fails_without_it(count: int, full: int, code: int, tmp_path: Path) -> None:
    campaign = Campaign(stage.topology(), tmp_path, smaller=False, record=None, as_json=True)
    for result in results(count, full=full):
        campaign.add(result)

    assert campaign.end() == code
