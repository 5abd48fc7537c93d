"""What `import zactor` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import zactor

HEAVY = {"zmq", "asyncio", "threading", "structlog", "typer", "zactor.kernel"}

PROGRAM = f"""\
import sys
import zactor
print(sorted(set(sys.modules) & {HEAVY}))
from zactor import Client
print(Client.__module__)
"""


NODE = """\
import sys
import zactor.live.main
from zactor import registry
print(len(registry.names()) > 0, sorted(set(sys.modules) & {"typer", "rich", "click", "structlog", "zactor.cli"}))
"""
"""What the process of a node loads: its main, and kinds, here all of them."""


def test_the_processes_of_nodes_load_neither_typer_nor_rich() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", NODE], capture_output=True, text=True, check=True)

    assert done.stdout == "True []\n"


def test_the_vocabulary_loads_neither_sockets_nor_a_loop_until_a_client_is_asked_for() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", PROGRAM], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == ["[]", "zactor.client"]


def test_every_name_of_the_vocabulary_is_there_and_no_other() -> None:
    assert [name for name in zactor.__all__ if not hasattr(zactor, name)] == []
    assert zactor.__all__ == sorted(zactor.__all__)
    with pytest.raises(ImportError, match="cannot import name 'Clinet'"):
        exec("from zactor import Clinet")
