"""Placement: zones first, then room, and the same choice wherever it is made."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from nodes.files.messages import SMALL_SIZE_MAX, chunk_id
from nodes.files.placement import NEIGHBOURS, Candidate, choose, fits, footprint, lot_of

GIB = 1 << 30

candidates = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 1 << 50)), max_size=8
).map(lambda found: [Candidate(number, zone, free) for number, (zone, free) in enumerate(found)])  # fmt: skip


def servers(*zones: str, free: int = GIB) -> list[Candidate]:
    return [Candidate(number, zone, free) for number, zone in enumerate(zones)]


@given(candidates, st.integers(0, 8), st.integers(1, 1 << 62), st.lists(st.sampled_from("abcd"), max_size=3))
def test_the_chosen_are_different_as_many_as_there_are_and_always_the_same(
    found: list[Candidate], count: int, lot: int, used: list[str]
) -> None:
    chosen = choose(found, count, lot, used)

    assert len(chosen) == len(set(chosen)) == min(count, len(found))
    assert set(chosen) <= {candidate.number for candidate in found}
    assert choose(found, count, lot, used) == chosen


@given(candidates, st.integers(0, 8), st.integers(1, 1 << 62), st.lists(st.sampled_from("abcd"), max_size=3))
def test_no_zone_gets_a_second_copy_while_another_can_take_it(
    found: list[Candidate], count: int, lot: int, used: list[str]
) -> None:
    zone = {candidate.number: candidate.zone for candidate in found}
    left = Counter(zone.values())
    copies = Counter(used)
    for number in choose(found, count, lot, used):
        assert copies[zone[number]] == min(copies[other] for other in left if left[other])
        copies[zone[number]] += 1
        left[zone[number]] -= 1


def test_copies_are_spread_over_zones() -> None:
    for chunk in range(1, 200):
        chosen = choose(servers("a", "a", "a", "b", "c"), 3, chunk)
        assert sorted(chosen)[1:] == [3, 4]
        assert choose(servers("a", "a", "b"), 1, chunk, ["a"]) == (2,)


def test_servers_get_chunks_in_proportion_to_their_room() -> None:
    found = [Candidate(0, "", GIB), Candidate(1, "", 3 * GIB), Candidate(2, "", 0)]
    taken = Counter(choose(found, 1, chunk << 16)[0] for chunk in range(4_000))

    assert taken[2] == 0
    assert 900 < taken[0] < 1_100


def test_the_first_of_a_chain_is_not_always_the_same() -> None:
    firsts = Counter(choose(servers("a", "b", "c"), 2, chunk << 16)[0] for chunk in range(3_000))

    assert all(900 < count < 1_100 for count in firsts.values())


def test_small_chunks_of_inodes_in_a_row_are_one_lot() -> None:
    inodes = range(5 * NEIGHBOURS, 6 * NEIGHBOURS)
    before, after = inodes[0] - 1, inodes[-1] + 1

    (lot,) = {lot_of(chunk_id(inode, 0), footprint(SMALL_SIZE_MAX)) for inode in inodes}

    assert lot not in {lot_of(chunk_id(inode, 0), footprint(SMALL_SIZE_MAX)) for inode in (before, after)}
    assert lot_of(chunk_id(inodes[0], 3), 1) == lot


def test_each_large_chunk_is_a_lot_of_its_own() -> None:
    chunks = [chunk_id(inode, index) for inode in range(1, 2 * NEIGHBOURS) for index in range(3)]

    assert len({lot_of(chunk, footprint(SMALL_SIZE_MAX + 1)) for chunk in chunks}) == len(chunks)


def test_small_chunks_are_spread_lot_by_lot() -> None:
    found = [Candidate(0, "", GIB), Candidate(1, "", 3 * GIB), Candidate(2, "", 0)]
    lots = (lot_of(chunk_id(inode, 0), 100) for inode in range(0, 4_000 * NEIGHBOURS, NEIGHBOURS))
    taken = Counter(choose(found, 1, lot)[0] for lot in lots)

    assert taken[2] == 0
    assert 900 < taken[0] < 1_100


@given(st.integers(0, 1 << 62), st.lists(st.integers(0, 10_000), min_size=4, max_size=4))
def test_one_lot_goes_to_the_same_servers_while_their_room_changes_a_little(lot: int, used: list[int]) -> None:
    """Or the small files of a moment would not share the syncs of few servers. Few lots are so near to the edge."""
    before = servers("", "", "", "", free=GIB)
    after = [Candidate(each.number, "", each.free - less) for each, less in zip(before, used, strict=True)]
    near = [lot + index for index in range(20)]

    assert sum(choose(before, 2, each) != choose(after, 2, each) for each in near) <= 1


def test_room_counts_once_on_each_server() -> None:
    assert fits([10, 10], 10, 2)
    assert not fits([100], 10, 2)
    assert not fits([100, 9], 10, 2)
    assert fits([5, 5, 10], 10, 2)
    assert fits([], 0, 0)
    assert not fits([], 0, 1)


def test_a_chunk_takes_its_bytes_and_their_checksums() -> None:
    assert footprint(0) < footprint(1) < footprint(65_536) < footprint(65_537)
    assert footprint(64 << 20) - (64 << 20) == 4 * 1_024 + footprint(0)
