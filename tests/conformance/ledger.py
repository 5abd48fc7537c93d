"""The books at the end of a story: no message was made, and none has vanished."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.conformance.stage import Stage

PLACES = ("handled", "dead", "queued", "outbox", "shipped")
"""Where a message that was sent or received can be."""


def balanced(books: dict[str, int]) -> bool:
    """Every message of one process is somewhere."""
    return books["sent"] + books["received"] == sum(books[place] for place in PLACES)


def missing(books: list[dict[str, int]], said: int) -> int:
    """How many messages left a process, or came from outside, and reached none."""
    return said + sum(each["shipped"] - each["received"] for each in books)


async def ledger(stage: Stage, processes: list[str]) -> list[str]:
    """A line for each process and, when nothing was killed, one for what lies between them."""

    async def look() -> list[dict[str, Any]]:
        """What the kernels say, once nothing is on its way."""
        abouts = [await stage.inspect(process) for process in processes]
        books = [about["books"] for about in abouts]
        moving = any(each["queued"] or each["outbox"] for each in books)
        if moving or (stage.undisturbed and missing(books, stage.said)):
            return []
        return abouts

    abouts = await stage.until(look)
    lines = [_line(about) for about in abouts]
    return [*lines, "between the processes: nothing is missing"] if stage.undisturbed else lines


def _line(about: dict[str, Any]) -> str:
    books = about["books"]
    balance = "balanced" if balanced(books) else f"NOT balanced {books}"
    dead = ", ".join(f"{reason} {count}" for reason, count in sorted(about["dead_letters"].items()))
    return f"the books of {about['process']}: {balance}; dead letters: {dead or 'none'}"
