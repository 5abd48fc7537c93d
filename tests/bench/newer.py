"""A Python in which simloom is installed: it wants 3.12 or newer, so it has an environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MEND = "it needs a Python 3.12 or newer in the PATH, and pip install simloom"

HOME = Path(__file__).parents[2] / ".venv" / ".simloom"
"""Below the environment of the checkout, with which it goes."""

_IS_NEW = "import sys, venv; sys.exit(sys.version_info < (3, 12))"


def python() -> Path | None:
    """That Python, made on first use; None when it cannot be made here."""
    found = HOME / "bin" / "python"
    if (HOME / ".ready").exists():
        return found
    base = next((path for path in pythons() if _succeeds(path, "-c", _IS_NEW)), None)
    if base is None:
        return None
    sys.stderr.write("bench: setting up simloom ...\n")
    shutil.rmtree(HOME, ignore_errors=True)
    made = _succeeds(base, "-m", "venv", str(HOME))
    if not (made and _succeeds(str(found), "-m", "pip", "install", "--quiet", "simloom", "msgspec")):
        return None
    (HOME / ".ready").touch()
    return found


def pythons() -> Iterator[str]:
    """This Python and those in the PATH or of pyenv that may be newer, some of them twice."""
    yield sys.executable
    for minor in (12, 13, 14):
        path = shutil.which(f"python3.{minor}")
        if path is not None:
            yield path
    yield from map(str, sorted(Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python")))


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0
