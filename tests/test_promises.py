"""Every promise names tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
NAMED = re.findall(r"`([a-z_/]+\.py)::(test_\w+)`", (HERE / "README.md").read_text())


def test_the_tests_that_hold_a_promise_exist() -> None:
    assert NAMED
    for file, name in NAMED:
        tree = ast.parse((HERE / file).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"
