"""What `new` writes is what a stranger begins with: it runs, and all checks pass at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from zactor.cli.main import run

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["new", "tally"]) == 0
    return folder / "tally"


@pytest.mark.parametrize("words", [["pytest", "-q", "--zactor-seeds", "20"], ["mypy"], ["ruff", "check", "--isolated"]])
def test_a_new_project_passes_its_checks(project: Path, words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *words], cwd=project, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stdout + done.stderr
