"""The command behind `bin/bench`."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.bench import harness, kernel, logs, sim

BENCHES = {"kernel": kernel.BENCH, "logs": logs.BENCH, "sim": sim.BENCH}

EXIT_MISSED = 1
EXIT_USAGE = 2


def main() -> int:
    """Run one benchmark. Returns 0 when every bar that could be judged is met."""
    parser = argparse.ArgumentParser(prog="bench", description="Measures beside its peers.")
    parser.add_argument("name", help=f"one of: {', '.join(BENCHES)}")
    parser.add_argument("--quick", action="store_true", help="within 50 s: fewer rounds of smaller cases")
    parser.add_argument("--json", action="store_true", help="one object a row")
    arguments = parser.parse_args()
    bench = BENCHES.get(arguments.name)
    if bench is None:
        sys.stderr.write(f"bench: there is no {arguments.name!r}; the benchmarks are: {', '.join(BENCHES)}\n")
        return EXIT_USAGE
    rows = asyncio.run(harness.run(bench, quick=arguments.quick))
    if arguments.json:
        print("\n".join(harness.as_json(arguments.name, row) for row in rows))
    else:
        print(harness.as_table(rows))
    return EXIT_MISSED if any(row.met() is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
