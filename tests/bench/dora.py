"""The peer of `up`: dora starts a flow of two Python nodes, one of which answers the other."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

FLOW = """
nodes:
  - id: greeter
    path: greeter.py
    inputs: {question: caller/question}
    outputs: [answer]
  - id: caller
    path: caller.py
    inputs: {answer: greeter/answer}
    outputs: [question]
"""

GREETER = """
import pyarrow
from dora import Node

node = Node()
for event in node:
    if event["type"] == "INPUT":
        node.send_output("answer", pyarrow.array([f"Hello, {event['value'][0].as_py()}!"]))
"""

CALLER = """
import pyarrow
from dora import Node

node = Node()
node.send_output("question", pyarrow.array(["world"]))
for event in node:
    if event["type"] == "INPUT":
        print(event["value"][0].as_py(), flush=True)
        break
"""

COMMAND = Path(sys.executable).with_name("dora")


def installed() -> bool:
    """Whether its command is beside our Python, and what its nodes import can be imported."""
    return COMMAND.exists() and find_spec("dora") is not None


async def first_answer() -> float:
    """Seconds from `dora run`, the fastest of its ways to start a flow, until the caller has its answer."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in (("flow.yaml", FLOW), ("greeter.py", GREETER), ("caller.py", CALLER)):
            (folder / file).write_text(text)
        started_ns = time.perf_counter_ns()
        process = await asyncio.create_subprocess_exec(
            COMMAND,
            "run",
            "flow.yaml",
            cwd=folder,
            env=os.environ | {"PATH": f"{COMMAND.parent}:{os.environ['PATH']}"},  # it starts nodes with `python`
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        output = []
        elapsed_ns = None
        async for line in process.stdout:
            output.append(line)
            if elapsed_ns is None and b"Hello, world!" in line:
                elapsed_ns = time.perf_counter_ns() - started_ns
        await process.wait()
    if elapsed_ns is None:
        raise RuntimeError(f"dora gave no answer: {b''.join(output[-20:]).decode(errors='replace')}")
    return elapsed_ns / 1e9
