"""`up` as a service of systemd: the unit of the README, and the life that systemd gives it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.transcript import TIMEOUT_S, Place, lines_until

ROOT = Path(__file__).parents[2]


def unit(folder: Path) -> str:
    """The unit, of a checkout in that folder."""
    found = re.search(r"^```ini\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1].replace("/home/you/zactor", str(folder))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_takes_the_unit_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "zactor.service"
    path.write_text(unit(ROOT))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", path],
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.live
def test_what_it_starts_comes_up_without_terminal_or_input_and_goes_down_on_sigterm(alone: Place) -> None:
    shutil.copytree(ROOT / "configs", alone.folder / "configs", ignore=shutil.ignore_patterns(".zactor"))
    (alone.folder / "bin").symlink_to(alone.base / "bin")
    started = re.search(r"^ExecStart=(.*)$", unit(alone.folder), re.MULTILINE)
    assert started is not None
    environment = {name: alone.environment[name] for name in ("XDG_RUNTIME_DIR",)}  # systemd gives little more

    with subprocess.Popen(
        shlex.split(started[1]),
        cwd="/",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    ) as service:
        try:
            lines_until(service, lambda lines: lines[-1].startswith("ready: 5 nodes"))
            assert alone.command("zactor ask greeter Greet name=world").out == "Hello, world!\n"
            service.send_signal(signal.SIGTERM)
            said, _ = service.communicate(timeout=TIMEOUT_S)
        finally:
            service.kill()

    assert (service.returncode, said.decode().splitlines()[-1]) == (0, "quickstart: stopping")
    assert alone.command("zactor ls --json").out == ""
