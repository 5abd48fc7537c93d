"""Launchers keep sockets and notes in the runtime folder: these tests have one of their own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "r"
    folder.mkdir()
    monkeypatch.delenv("ZACTOR_DIR", raising=False)
    # A folder whose name is too long for sockets is not used; those of pytest are long.
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_RUNTIME_DIR", ".")
    return folder
