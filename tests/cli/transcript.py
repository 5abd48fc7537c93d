"""Transcripts: command lines with what they say, in text files that run as tests.

A line of a transcript begins with

    #     a comment
    ==    where the next lines run: `the stage is running`, `nothing is running` or `alone`
    $     a command
      |   what it wrote to standard output
      !   what it wrote to standard error
      =   its exit code, unless that is 0

Most commands are run in this process, since starting Python costs more than they do; those that need a shell, or
that launch something, get one, with a `zactor` on its path.
"""

from __future__ import annotations

import io
import json
import os
import re
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from zactor.cli.main import run

STAGE = Path(__file__).parent / "stage"

TIMEOUT_S = 60.0

_SHELL_SIGNS = re.compile(r"[|<>;&$]")

_MASKS: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(r'"(late_ms|silent_ms)":([0-9.e-]+|null)'), r'"\1":N'),
    (re.compile(r"\b\d{8}-\d{6}-[0-9a-f]{4}\b"), "RUN"),
    (re.compile(r"\b\d\d:\d\d:\d\d(\.\d{3})?\b"), "TIME"),
    (re.compile(r"\b\d{4}-\d\d-\d\d TIME\b"), "DATE TIME"),
    (re.compile(r'"(inode|mtime_ns|used|reserved|room)":\d+'), r'"\1":N'),
    (re.compile(r"^inode +\d+$", re.MULTILINE), "inode  N"),
    (re.compile(r"free: store/.*"), "free: SIZES"),
    (re.compile(r"^(\S+ .*\b(?:up|lost)) +[0-9.]+[KMGT]?i?B .*", re.MULTILINE), r"\1  SIZES"),
    (re.compile(r"\bpid \d+"), "pid PID"),
    (re.compile(r"\S*python -m pytest"), "python -m pytest"),
    (re.compile(r"(seed \d+ +\w+) +[0-9a-f]{8} +\d+ events +\d+ operations"), r"\1  TRACE  N events  N operations"),
    (re.compile(r"\bRUN +\d+ "), "RUN  PID "),
    (re.compile(r"\bRUN +DATE TIME +\S+ +(\d+) +\S+"), r"RUN  DATE TIME  T  \1  SIZE"),
    (re.compile(r'"began_ns":\d+,"ended_ns":\d+'), '"began_ns":N,"ended_ns":N'),
    (re.compile(r'"(size_bytes|sent_ns|handled_ns|answered_ns)":\d+'), r'"\1":N'),
    (re.compile(r"[0-9]+\.[0-9]{3} ms\b"), "N ms"),
    (re.compile(r"mailbox    \d+ waiting, \d+ handled"), "mailbox    N waiting, N handled"),
    (re.compile(r'"(handled_per_s|busy)":[0-9.]+'), r'"\1":N'),
    (re.compile(r"\b\d+\.\d%"), "N%"),
    (re.compile(r"^in a second: .*", re.MULTILINE), lambda found: re.sub(r"\d+(\.\d+)?", "N", found[0])),
    (re.compile(r'"(pid|handled|hlc|delay_ns)":\d+'), r'"\1":N'),
    (re.compile(r"\bin \d+\.\d+ s\b"), "in T s"),
    (re.compile(r"\brestart in [0-9.]+ms\b"), "restart in T"),
    (re.compile(r"\b\d{1,4}\.\d{1,4}\.\d+\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "HEX"),
    (re.compile(r"@[0-9a-f]{12}\b"), "@CLIENT"),
    (
        re.compile(r"\d{3,} inputs, \d+ outputs as recorded(, \d+ that nobody had taken)?"),
        "N inputs, N outputs as recorded",
    ),
    (re.compile(r"\boffset \d+"), "offset N"),
    (re.compile(r"\ba record of \d+ "), "a record of N "),
]
_ROW_OF_PS = re.compile(r"^\S+ +(ready|starting|restarting|stopped|stopping|gone|hung|busy|no answer) .*", re.MULTILINE)
_COUNTS = re.compile(r"^(messages: ).*( sent, ).*( handled, ).*( waiting; dead letters: ).*", re.MULTILINE)
_WIDE_COLUMNS = re.compile(r"(?<=\S) {2,}")


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


class Place:
    """A folder with the stage's files, and a runtime folder in which nobody else runs anything."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="zc"))  # short: sockets have short names
        self.folder = self.base / "here"
        shutil.copytree(STAGE, self.folder)
        (self.base / "run").mkdir(mode=0o700)
        (self.base / "bin").mkdir()
        command = self.base / "bin" / "zactor"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m zactor.cli.main "$@"\n')
        command.chmod(0o755)
        changes = {"XDG_RUNTIME_DIR": str(self.base / "run"), "TZ": "UTC", "COLUMNS": "100", "ZACTOR_COMMAND": "zactor"}
        self.environment = {**os.environ, **changes, "PATH": f"{self.base / 'bin'}:{os.environ['PATH']}"}
        self.environment.pop("ZACTOR_DIR", None)
        self._started: list[subprocess.Popen[bytes]] = []

    def shell(self, line: str) -> Outcome:
        """Run a line by a shell."""
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def command(self, line: str) -> Outcome:
        """Run `zactor ...` in this process."""
        before = dict(os.environ), Path.cwd(), sys.stdin
        out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
        try:
            os.environ.clear()
            os.environ.update(self.environment)
            os.chdir(self.folder)
            sys.stdin = io.StringIO()
            with redirect_stdout(out), redirect_stderr(err):
                code = run(shlex.split(line)[1:])
        finally:
            sys.stdin = before[2]
            os.chdir(before[1])
            os.environ.clear()
            os.environ.update(before[0])
        return Outcome(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))

    def start(self, line: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        """Start a line that goes on; its output is not buffered here."""
        process = subprocess.Popen(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            bufsize=0,
        )
        self._started.append(process)
        return process

    def run(self, line: str) -> Outcome:
        """Run a line the cheap way, if there is one."""
        verb = shlex.split(line)[1:2]
        if not line.startswith("zactor ") or verb == ["up"] or _SHELL_SIGNS.search(line):
            return self.shell(line)
        return self.command(line)

    def masked(self, text: str) -> str:
        """Without what differs from run to run."""
        return masked(text.replace(str(self.folder.resolve()), "HERE"))

    def close(self) -> None:
        """Stop what runs here, and remove everything."""
        for line in self.command("zactor ls --json").out.splitlines():
            self.command(f"zactor down -t {json.loads(line)['topology']}")
        for process in self._started:
            process.kill()
            process.communicate()
        shutil.rmtree(self.base)


def lines_until(process: subprocess.Popen[bytes], enough: Callable[[list[str]], bool]) -> list[str]:
    """The lines that a process writes until there are enough of them, or it ends."""
    assert process.stdout is not None
    text = b""
    while not (text.endswith(b"\n") and enough(text.decode().splitlines())):
        readable, _, _ = select.select([process.stdout], [], [], TIMEOUT_S)
        assert readable, f"nothing more than {text!r} after {TIMEOUT_S:g} s"
        byte = process.stdout.read(1)
        if not byte:
            break
        text += byte
    return text.decode().splitlines()


def masked(text: str) -> str:
    """Without run ids, pids, times, durations, message ids and the counts of `ps`; columns stand two spaces apart."""
    for pattern, name in _MASKS:
        text = pattern.sub(name, text)
    text = _ROW_OF_PS.sub(lambda row: re.sub(r"(?<= )\d+", "N", row[0]), text)
    text = _COUNTS.sub(r"\1N\2N\3N\4N", text)
    # A line that is indented is no row of a table, but for those of a tree with times.
    return "\n".join(
        line if line.startswith(" ") and "N ms" not in line else _WIDE_COLUMNS.sub("  ", line)
        for line in text.split("\n")
    )


def replay(text: str, places: dict[str, Place]) -> str:
    """The transcript as it is today: its commands are run, and everything else is kept."""
    place: Place | None = None
    lines = []
    for line in text.splitlines():
        if line.startswith("  "):
            continue  # what was said last time
        lines.append(line)
        if line.startswith("== "):
            place = places[line.removeprefix("== ")]
        if line.startswith("$ "):
            assert place is not None, "a transcript says first where it runs"
            lines += _said(place, place.run(line.removeprefix("$ ")))
    return "\n".join(lines) + "\n"


def _said(place: Place, outcome: Outcome) -> list[str]:
    lines = [f"  | {line}".rstrip() for line in place.masked(outcome.out).splitlines()]
    lines += [f"  ! {line}".rstrip() for line in place.masked(outcome.err).splitlines()]
    return lines if outcome.code == 0 else [*lines, f"  = {outcome.code}"]
