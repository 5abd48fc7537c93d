"""The README is true: its files are written, its commands run word for word, and they say what it says they say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cli.transcript import TIMEOUT_S, Place, lines_until, masked

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)]+)\)")
_ELSEWHERE = "/home/you/zactor"


@pytest.fixture
def checkout(alone: Place) -> Place:
    """A folder with what the README's commands use of a checkout."""
    shutil.rmtree(alone.folder)
    shutil.copytree(ROOT / "configs", alone.folder / "configs", ignore=shutil.ignore_patterns(".zactor"))
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, alone.folder / name)
    (alone.folder / "bin").symlink_to(alone.base / "bin")
    (alone.folder / ".venv").symlink_to(sys.prefix)
    alone.environment["ZACTOR_COMMAND"] = "bin/zactor"
    return alone


def test_every_file_and_command_of_the_readme_does_what_it_says(checkout: Place) -> None:
    running = []
    for language, text in _BLOCK.findall(README):
        if language in ("python", "yaml", "ini"):
            name = text.partition("\n")[0].removeprefix("# ")
            (checkout.folder / name).write_text(text)
            continue
        if language == "text":
            continue  # a picture
        assert language == "console", "only blocks that this test understands"
        for command, expected in steps(text):
            process = checkout.start(f"{{ {command}; }}", stderr=subprocess.STDOUT)
            if command.startswith("bin/zactor up ") and expected and expected[-1].startswith("  "):
                running.append(process)  # it stays up; the next block is a second terminal
                said = lines_until(process, partial(has_all_of, expected))
            else:
                said = process.communicate(timeout=TIMEOUT_S)[0].decode().splitlines()
            assert plain(said, checkout) == plain(expected, checkout), command
    for process in running:
        process.communicate(timeout=TIMEOUT_S)
    assert [process.returncode for process in running] == [0]


def test_every_link_of_the_readme_leads_somewhere() -> None:
    targets = [ROOT / link for link in _LINK.findall(README) if not link.startswith("http")]

    assert targets
    assert [target for target in targets if not target.exists()] == []


def has_all_of(expected: list[str], lines: list[str]) -> bool:
    return len(lines) >= len(expected)


def steps(block: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines that it writes."""
    for part in block.removeprefix("$ ").split("\n$ "):
        command, *said = part.rstrip("\n").split("\n")
        yield command, said


def plain(lines: list[str], place: Place) -> list[str]:
    """Lines without what differs from run to run, and words one space apart."""
    here = [line.replace(str(place.folder.resolve()), _ELSEWHERE) for line in lines]
    return [" ".join(line.split()) for line in masked("\n".join(here)).split("\n")]
