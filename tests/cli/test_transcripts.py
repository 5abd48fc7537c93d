"""Every verb as people use it: rightly, wrongly, and with nothing running. See `transcript.py` for the form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.transcript import Place, replay

pytestmark = pytest.mark.live

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=[path.stem for path in TRANSCRIPTS])
def test_the_command_line_says_what_the_transcript_says(
    path: Path, stage: Place, alone: Place, golden: Callable[[Path, str], None]
) -> None:
    nothing = Place()
    places = {"the stage is running": stage, "nothing is running": nothing, "alone": alone}

    try:
        said = replay(path.read_text(), places)
    finally:
        nothing.close()

    golden(path, said)
