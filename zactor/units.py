"""Sizes and durations as people write them: `2GiB` and `100ms` in files and commands, integers in code.

An actor annotates a setting with `ByteSize` or `Duration` and computes with plain integers (bytes,
nanoseconds); who reads a topology finds the `Unit` in the annotation and lets it parse what was written.
A size may be a bare number, since bytes are the only thing it could mean; a duration may not, since `5` means
seconds to one reader and milliseconds to the next.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, TypeAlias

from zactor.errors import UserError

SIZE_BYTES = {
    "TiB": 1 << 40,
    "GiB": 1 << 30,
    "MiB": 1 << 20,
    "KiB": 1 << 10,
    "TB": 10**12,
    "GB": 10**9,
    "MB": 10**6,
    "kB": 10**3,
    "KB": 10**3,
    "B": 1,
}
DURATION_NS = {
    "d": 86_400 * 10**9,
    "h": 3_600 * 10**9,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "µs": 10**3,
    "ns": 1,
}

QUANTITY_MAX = (1 << 63) - 1
"""The largest size or duration: what a signed field of 64 bits holds (292 years of nanoseconds)."""

SIZE_FORMS = "a size such as 512B, 64MiB, 2GiB or 10MB, or a whole number of bytes"
DURATION_FORMS = "a duration such as 100ms, 1.5s, 5s, 10m or 1h"

# At most 19 digits on either side: more cannot fit, and int() is quadratic in the length of its text.
_QUANTITY = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,19})?) ?([A-Za-zµ]+)")


def _parse(text: str, units: dict[str, int], forms: str) -> int:
    matched = _QUANTITY.fullmatch(text)
    if matched is None or matched[2] not in units:
        raise UserError(f"expected {forms}, found {text[:40]!r}")
    exact = Fraction(matched[1]) * units[matched[2]]
    if exact.denominator != 1:
        smallest = min(units, key=lambda unit: (units[unit], unit))
        raise UserError(f"{text!r} is not a whole number of {smallest}")
    if exact > QUANTITY_MAX:
        raise UserError(f"{text!r} is too large: the limit is {QUANTITY_MAX}")
    return exact.numerator


def _is_whole(value: object) -> bool:
    return type(value) is int and 0 <= value <= QUANTITY_MAX


def parse_size(written: object) -> int:
    """The bytes that `2GiB`, `10MB` or a whole number mean. Raises `UserError` that names these forms."""
    if isinstance(written, str):
        is_bare = written.isascii() and written.isdigit()
        return _parse(f"{written}B" if is_bare else written, SIZE_BYTES, SIZE_FORMS)
    if not _is_whole(written):
        raise UserError(f"expected {SIZE_FORMS}, found {written!r}")
    assert isinstance(written, int)
    return written


def parse_duration(written: object) -> int:
    """The nanoseconds that `100ms` or `1.5s` mean; of bare numbers only 0 is taken. Raises `UserError`."""
    if written == "0" or (type(written) is int and written == 0):
        return 0
    if isinstance(written, str):
        return _parse(written, DURATION_NS, DURATION_FORMS)
    raise UserError(f"expected {DURATION_FORMS}, found {written!r}")


def _format(amount: int, units: dict[str, int], smallest: str) -> str:
    for unit, count in units.items():
        # Half a tenth below the unit rounds up to 1: 1023.99 KiB is better read as 1MiB.
        if amount >= count - count // 2000:
            return f"{amount / count:.4g}{unit}"
    return f"{amount}{smallest}"


def format_size(size_bytes: int) -> str:
    """A size for people, to four digits: `2GiB`, `1.5KiB`, `512B`."""
    return _format(size_bytes, {unit: SIZE_BYTES[unit] for unit in ("TiB", "GiB", "MiB", "KiB")}, "B")


def format_duration(duration_ns: int) -> str:
    """A duration for people, to four digits: `100ms`, `1.5s`, `2h`."""
    return _format(duration_ns, {unit: DURATION_NS[unit] for unit in ("d", "h", "m", "s", "ms", "us")}, "ns")


@dataclass(frozen=True)
class Unit:
    """What an annotation says about a setting: how it is written and checked, and how it is shown."""

    forms: str
    parse: Callable[[object], Any]
    format: Callable[[Any], str]


ByteSize: TypeAlias = Annotated[int, Unit(SIZE_FORMS, parse_size, format_size)]
"""A setting in bytes that a topology writes as `2GiB`."""

Duration: TypeAlias = Annotated[int, Unit(DURATION_FORMS, parse_duration, format_duration)]
"""A setting in nanoseconds that a topology writes as `100ms`."""
