"""What failed once: bundles in `tests/seeds`, each run again with the code as it is now."""

from __future__ import annotations

from pathlib import Path

import pytest

from zactor.sim.bundle import read_bundle
from zactor.sim.runner import run

ROOT = Path(__file__).parents[2]
SEEDS = ROOT / "tests" / "seeds"


@pytest.mark.parametrize("path", sorted(SEEDS.glob("*.json")), ids=lambda path: path.stem)
def test_a_run_that_once_failed_does_not_fail_again(path: Path) -> None:
    bundle = read_bundle(path)
    assert bundle.result.verdict in ("violation", "stuck")

    result = run(bundle.topology(ROOT), bundle.plan)

    assert result.verdict in ("ok", "idle"), result.because  # a run that was shrunk proves too little to count


def test_every_bundle_says_what_it_showed() -> None:
    page = (SEEDS / "README.md").read_text()

    assert [path.stem for path in SEEDS.glob("*.json") if f"`{path.stem}`" not in page] == []
