"""Tab in the shells themselves, each on a terminal."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from tests.cli.terminal import Terminal

pytestmark = pytest.mark.live

SHELLS = {
    "bash": ("bash --norc --noprofile -i", "source <(zactor completion bash)"),
    "zsh": ("zsh -f -i", "autoload -U compinit; compinit -D; source <(zactor completion zsh)"),
    "fish": ("fish --no-config -i", "zactor completion fish | source"),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes_verbs_nodes_messages_and_fields(terminal: Callable[[str], Terminal], shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    start, load = SHELLS[shell]
    there = terminal(start)
    # Written in two parts, so that what is typed is not taken for what is said.
    there.press(f'{load}; echo loa""ded\n'.encode())
    there.until(lambda shown: "loaded" in shown)

    there.press(b'zactor compl\tba\t | wc -l; echo do""ne\n')
    shown = there.until(lambda shown: "done" in shown)
    assert "usage" not in shown.lower()
    there.press(b"zactor ask gree\tGr\tna\t")
    there.until(lambda shown: "name=" in shown)
    there.press(b"Ada\n")
    there.until(lambda shown: "Hello, Ada!" in shown)
    there.press(b"exit\n")
