"""What `zactor kv load` writes and shows."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from zactor.cli.common import FAILED, OK, print_json, print_table
from zactor.judges.history import History

from .client import KvClient
from .load import FUNCTIONS, MODEL, Function, Load, Measured, run

NAMES: dict[Function, str] = {"read": "reads", "write": "puts", "cas": "compare-and-sets"}


async def drive(kv: KvClient, load: Load, history: Path | None, as_json: bool) -> int:
    """Run the load, write its history, and show what came of it."""
    if history is None:
        measured = await run(kv.door, kv.targets, load)
    else:
        with history.open("w", encoding="utf-8") as lines:
            # The clock of all clients is one: they are in this process.
            recorded = History(time.monotonic_ns, MODEL, lines.write)
            measured = await run(kv.door, kv.targets, load, recorded)
    if as_json:
        print_json(_as_object(measured))
    else:
        _show(measured)
    return OK if measured.operations else FAILED


def _as_object(measured: Measured) -> dict[str, object]:
    return {
        "operations": measured.operations,
        "seconds": measured.seconds,
        "per_s": measured.operations / measured.seconds,
        "swapped": measured.swapped,
        "failed": measured.failed,
        "unknown": measured.unknown,
        **{
            NAMES[each].replace("-", "_"): {
                "count": len(measured.latencies_ns[each]),
                "p50_ms": measured.quantile_ms(each, 0.5),
                "p99_ms": measured.quantile_ms(each, 0.99),
            }
            for each in FUNCTIONS
        },
    }


def _show(measured: Measured) -> None:
    rate = measured.operations / measured.seconds
    typer.echo(f"{measured.operations} operations in {measured.seconds:.1f} s: {rate:.0f} a second")
    rows = [
        (NAMES[each], len(measured.latencies_ns[each]), _ms(measured, each, 0.5), _ms(measured, each, 0.99))
        for each in FUNCTIONS
    ]
    print_table(("OPERATION", "COUNT", "P50", "P99"), rows)
    if measured.failed:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(measured.failed.items()))
        typer.echo(f"failed: {kinds}; {measured.unknown} of them may have been done")


def _ms(measured: Measured, function: Function, share: float) -> str:
    latency_ms = measured.quantile_ms(function, share)
    return "-" if latency_ms is None else f"{latency_ms:.2f} ms"
