"""A notebook launches topologies: its cells run while the kernel's own loop does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

from tests.live.running import PATIENCE_S, alive, eventually
from tests.live.test_launched import GREETER

pytestmark = pytest.mark.live

Cell = Callable[[str], str]

FILE = "name: mine\nnodes:\n  greeter: {kind: ./greeter.py:Greeter}\n"


@pytest.fixture
def cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cell]:
    """Runs a cell of one notebook, and gives what it shows."""
    for name in ("CONFIG", "DATA", "RUNTIME"):
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (tmp_path / "greeter.py").write_text(GREETER)
    (tmp_path / "t.yaml").write_text(FILE)
    manager, client = start_new_kernel(startup_timeout=PATIENCE_S, cwd=str(tmp_path))

    def run(code: str) -> str:
        shown: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            content = message["content"]
            shown.append(content.get("text") or content.get("evalue") or content.get("data", {}).get("text/plain", ""))

        client.execute_interactive(code, timeout=PATIENCE_S, output_hook=hear)
        return "".join(shown).strip()

    try:
        assert run("import os, contextlib, zactor\nfrom zactor import Actor, Node, Topology, on") == ""
        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def test_a_cell_launches_a_file(cell: Cell) -> None:
    assert cell("from greeter import Greet") == ""
    assert cell("async with zactor.launch('t.yaml') as run:\n  print(await run.ask('greeter', Greet(name='x')))") == (
        "Hello, x!"
    )
    assert "use: async with" in cell("with zactor.launch('t.yaml'): pass")


def test_cells_share_what_one_of_them_launches_even_with_a_class_of_a_cell(cell: Cell) -> None:
    assert cell(GREETER) == ""
    assert cell("class Polite(Greeter):\n  pass\nmine = Topology(name='mine', nodes={'greeter': Node(Polite)})") == ""
    assert "launch it with inline=True" in cell("zactor.launch(mine)")

    assert cell("stack = contextlib.AsyncExitStack()") == ""
    assert cell("run = await stack.enter_async_context(zactor.launch(mine, inline=True))") == ""
    assert cell("await run.ask('greeter', Greet(name='y'))") == "'Hello, y!'"
    assert cell("await stack.aclose()") == ""


def test_what_a_notebook_has_launched_ends_with_it(cell: Cell) -> None:
    pid = int(cell("run = await zactor.launch('t.yaml').__aenter__()\nprint(run.book.processes['greeter'].pid)"))
    assert alive(pid)

    os.kill(int(cell("print(os.getpid())")), signal.SIGKILL)

    eventually(lambda: not alive(pid))
