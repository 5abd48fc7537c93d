"""The command behind `bin/bench`."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.bench import files, harness, kernel, logs, raft, sim
from zactor.errors import UserError
from zactor.units import parse_size

BENCHES = {"files": files.BENCH, "kernel": kernel.BENCH, "logs": logs.BENCH, "raft": raft.BENCH, "sim": sim.BENCH}

EXIT_MISSED = 1
EXIT_USAGE = 2


def main() -> int:
    """Run one benchmark. Returns 0 when every bar that could be judged is met."""
    arguments = _parser().parse_args()
    bench = BENCHES.get(arguments.name)
    if bench is None:
        sys.stderr.write(f"bench: there is no {arguments.name!r}; the benchmarks are: {', '.join(BENCHES)}\n")
        return EXIT_USAGE
    try:
        scale = harness.Scale(arguments.quick, None if arguments.size is None else parse_size(arguments.size))
        rows = asyncio.run(harness.run(bench, scale, rounds=arguments.rounds, only=arguments.only))
    except UserError as error:
        sys.stderr.write(f"bench: {error}\n")
        return EXIT_USAGE
    if arguments.json:
        print("\n".join(harness.as_json(arguments.name, row) for row in rows))
    else:
        print(harness.as_table(rows))
    return EXIT_MISSED if any(row.met() is False for row in rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="Measures beside its peers.")
    parser.add_argument("name", help=f"one of: {', '.join(BENCHES)}")
    parser.add_argument("--quick", action="store_true", help="within 50 s: fewer rounds of smaller cases")
    parser.add_argument("--rounds", type=int, help="that many, whatever is usual")
    parser.add_argument("--size", help="of what is streamed, such as 512MiB, where that is a question")
    parser.add_argument("--only", default="", help="the cases that have this in their names")
    parser.add_argument("--json", action="store_true", help="one object a row")
    return parser


if __name__ == "__main__":
    sys.exit(main())
