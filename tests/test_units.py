from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zactor.errors import UserError
from zactor.units import (
    DURATION_NS,
    QUANTITY_MAX,
    SIZE_BYTES,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        ("512B", 512),
        ("64MiB", 64 << 20),
        ("2GiB", 2 << 30),
        ("2 GiB", 2 << 30),
        ("10MB", 10_000_000),
        ("1kB", 1_000),
        ("1KB", 1_000),
        ("1.5KiB", 1_536),
        ("0", 0),
        ("4096", 4_096),
        (4_096, 4_096),
        (0, 0),
    ],
)
def test_a_size_is_bytes(written: str | int, size_bytes: int) -> None:
    assert parse_size(written) == size_bytes


@pytest.mark.parametrize(
    ("written", "duration_ns"),
    [
        ("5s", 5 * 10**9),
        ("100ms", 10**8),
        ("1.5s", 1_500_000_000),
        ("1h", 3_600 * 10**9),
        ("10m", 600 * 10**9),
        ("2d", 2 * 86_400 * 10**9),
        ("250us", 250_000),
        ("250µs", 250_000),
        ("7ns", 7),
        ("0", 0),
        (0, 0),
    ],
)
def test_a_duration_is_nanoseconds(written: str | int, duration_ns: int) -> None:
    assert parse_duration(written) == duration_ns


@pytest.mark.parametrize(
    "written",
    ["", "GiB", "2gib", "2 Gib", "-1B", "1e3", "1,5GiB", "٢GiB", "2Gi", -1, True, 1.5, None, 1 << 63],
)
def test_what_is_no_size_is_refused_with_the_forms_of_a_size(written: object) -> None:
    with pytest.raises(UserError, match="expected a size such as 512B, 64MiB, 2GiB or 10MB"):
        parse_size(written)


@pytest.mark.parametrize("written", ["", "5", "5 sec", "1:30", "-1s", "s", 5, False, 1.5, None])
def test_a_duration_needs_a_unit(written: object) -> None:
    with pytest.raises(UserError, match=r"expected a duration such as 100ms, 1\.5s"):
        parse_duration(written)


def test_a_part_of_a_byte_or_of_a_nanosecond_is_refused() -> None:
    with pytest.raises(UserError, match=r"'0\.1KiB' is not a whole number of B"):
        parse_size("0.1KiB")
    with pytest.raises(UserError, match=r"'1\.5ns' is not a whole number of ns"):
        parse_duration("1.5ns")


def test_what_exceeds_63_bits_is_refused() -> None:
    assert parse_size(f"{QUANTITY_MAX}B") == QUANTITY_MAX
    with pytest.raises(UserError, match="too large"):
        parse_size(f"{QUANTITY_MAX + 1}B")
    with pytest.raises(UserError, match="too large"):
        parse_duration("9999999999999999999d")


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0B"), (1_023, "1023B"), (1_536, "1.5KiB"), (2 << 30, "2GiB"), ((1 << 20) - 1, "1MiB")],
)
def test_a_size_is_shown_in_the_unit_that_keeps_it_short(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [(0, "0ns"), (999, "999ns"), (10**8, "100ms"), (1_500_000_000, "1.5s"), (7_200 * 10**9, "2h")],
)
def test_a_duration_is_shown_in_the_unit_that_keeps_it_short(duration_ns: int, text: str) -> None:
    assert format_duration(duration_ns) == text


@given(st.integers(1, 999), st.sampled_from([unit for unit in SIZE_BYTES if unit.endswith("iB")]))
def test_a_short_size_is_shown_as_it_was_written(count: int, unit: str) -> None:
    assert format_size(parse_size(f"{count}{unit}")) == f"{count}{unit}"


@given(st.integers(1, 23), st.sampled_from(["h", "m", "s", "ms", "us", "ns"]))
def test_a_short_duration_is_shown_as_it_was_written(count: int, unit: str) -> None:
    assert parse_duration(f"{count}{unit}") == count * DURATION_NS[unit]
    assert format_duration(count * DURATION_NS[unit]) == f"{count}{unit}"


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans()))
def test_anything_else_raises_a_user_error_and_nothing_but_it(written: object) -> None:
    for parse in (parse_size, parse_duration):
        try:
            quantity = parse(written)
        except UserError:
            continue
        assert 0 <= quantity <= QUANTITY_MAX
