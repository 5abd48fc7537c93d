"""The page of the part: its example is run, and what it shows is what one sees."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "zactor" / "testing" / "README.md"

STORY_SHOWN = 12
"""Lines of the story on the page."""

_PYTHON = re.compile(r"```python\n# (\S+)\n(.*?)```", re.DOTALL)
_CONSOLE = re.compile(r"```console\n\$ pytest (.*?)\n(.*?)```", re.DOTALL)


@pytest.fixture
def example(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with the files of the page."""
    for name, text in _PYTHON.findall(README.read_text()):
        pytester.path.joinpath(name).write_text(text)
    return pytester


def test_the_example_passes(example: pytest.Pytester) -> None:
    example.runpytest_subprocess().assert_outcomes(passed=3)


def test_its_failure_is_shown_as_it_is(example: pytest.Pytester, golden: Callable[[Path, str], None]) -> None:
    page = README.read_text()
    command = _CONSOLE.search(page)
    assert command is not None

    result = example.runpytest_subprocess(*command[1].split())

    shown = f"```console\n$ pytest {command[1]}\n{abridged(result.outlines)}```"
    golden(README, page[: command.start()] + shown + page[command.end() :])


def abridged(lines: list[str]) -> str:
    """The failure without what differs from run to run, and with the end of the story alone."""
    first = next(index for index, line in enumerate(lines) if line.startswith("=== FAILURES") or "FAILURES" in line)
    story = next(index for index, line in enumerate(lines) if "what happened" in line)
    end = next(index for index, line in enumerate(lines) if "zactor: seed" in line)
    kept = [*lines[first : story + 1], "...", *lines[max(story + 1, end - STORY_SHOWN) : end + 2], lines[-1]]
    text = "\n".join(line for line in kept if " at 0x" not in line)
    return re.sub(r" in \d+\.\d+s", "", text) + "\n"
