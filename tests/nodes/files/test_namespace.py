"""Names: which paths are refused, how a folder is listed, and what a change frees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.files.messages import BadPath, Conflict, Entry, Item, NotFound, StoredChunk
from nodes.files.namespace import (
    Change,
    Namespace,
    Opened,
    Removed,
    Stored,
    check_path,
    decode_change,
    encode_change,
)
from zactor.errors import Corrupt

words = st.text("ab/.!0", min_size=1, max_size=6)


def entry(*chunks: int, size: int = 1) -> Entry:
    return Entry(size * len(chunks), 0, tuple(StoredChunk(chunk, "store/0", size, 0) for chunk in chunks))


def names(*paths: str) -> Namespace:
    namespace = Namespace()
    for index, path in enumerate(paths, start=1):
        change = Stored(path, entry(index))
        namespace.check(change)
        namespace.apply(change)
    return namespace


def listing(namespace: Namespace, path: str = "/", limit: int = 1000) -> list[str]:
    found: list[str] = []
    after = ""
    while True:
        page = namespace.page(path, after, limit)
        assert len(page.items) <= limit
        found += [item.name for item in page.items]
        if not page.more:
            return found
        after = found[-1]


# --- paths
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "does not begin with '/'"),
        ("a", "does not begin with '/'"),
        ("/", "has the part ''"),
        ("//a", "has the part ''"),
        ("/a/", "has the part ''"),
        ("/a/../b", "has the part '..'"),
        ("/./a", "has the part '.'"),
        ("/a\0b", "control character"),
        ("/a\nb", "control character"),
        ("/a\x7fb", "control character"),
        ("/a\x85b", "control character"),
        ("/" + "a" * 1024, "1025 bytes; the limit is 1024"),
        ("/" + "é" * 512, "1025 bytes; the limit is 1024"),
        ("/\udc80", "not valid Unicode"),
    ],
)
def test_a_bad_path_is_refused_with_the_reason(path: str, why: str) -> None:
    with pytest.raises(BadPath, match=why.replace(".", r"\.")):
        check_path(path)


@pytest.mark.parametrize("path", ["/a", "/a/b", "/...", "/a b", "/ä/日本", "/" + "a" * 1023])
def test_any_other_path_is_taken(path: str) -> None:
    check_path(path)


# --- changes
def test_a_file_that_is_stored_is_found() -> None:
    assert names("/a", "/b/c").lookup("/b/c") == entry(2)


def test_storing_again_replaces_and_frees_the_old_chunks() -> None:
    namespace = names("/a")

    assert namespace.apply(Stored("/a", entry(7))) == entry(1).chunks

    assert namespace.lookup("/a") == entry(7)
    assert (namespace.has_chunk(1), namespace.has_chunk(7)) == (False, True)
    assert listing(namespace) == ["a"]


def test_removing_frees_the_chunks() -> None:
    namespace = names("/a", "/b")

    assert namespace.apply(Removed("/a")) == entry(1).chunks

    assert listing(namespace) == ["b"]
    assert not namespace.has_chunk(1)
    with pytest.raises(NotFound, match="there is no file /a"):
        namespace.lookup("/a")


def test_what_is_not_there_cannot_be_removed() -> None:
    with pytest.raises(NotFound):
        names().check(Removed("/a"))


@pytest.mark.parametrize(("there", "path"), [("/a/b", "/a"), ("/a", "/a/b"), ("/a", "/a/b/c"), ("/a/b", "/a/b/c")])
def test_a_file_cannot_be_a_folder_too(there: str, path: str) -> None:
    with pytest.raises(Conflict):
        names(there).check(Stored(path, entry(2)))


@pytest.mark.parametrize(("there", "path"), [("/a/b", "/a/c"), ("/a", "/ab"), ("/a.b", "/a"), ("/a/b", "/a0")])
def test_neighbours_do_not_conflict(there: str, path: str) -> None:
    names(there).check(Stored(path, entry(2)))


def test_a_folder_goes_with_its_last_file() -> None:
    namespace = names("/a/b")
    namespace.apply(Removed("/a/b"))

    namespace.check(Stored("/a", entry(2)))

    assert listing(namespace) == []


def test_asking_for_a_folder_as_a_file_says_that_it_is_one() -> None:
    with pytest.raises(NotFound, match="/a is a folder"):
        names("/a/b").lookup("/a")


# --- listings
def test_a_listing_shows_files_with_sizes_and_each_folder_once() -> None:
    namespace = names("/b", "/docs/x", "/docs/y/z", "/a")

    assert namespace.page("/", "", 1000).items == (Item("a", 1), Item("b", 1), Item("docs/", None))
    assert namespace.page("/docs", "", 1000) == namespace.page("/docs/", "", 1000)
    assert listing(namespace, "/docs") == ["x", "y/"]


def test_the_listing_of_a_file_is_its_own_name() -> None:
    assert listing(names("/docs/x"), "/docs/x") == ["x"]


def test_only_the_root_may_be_listed_when_it_is_empty() -> None:
    assert listing(names()) == []
    with pytest.raises(NotFound):
        names().page("/docs", "", 10)
    with pytest.raises(BadPath):
        names("/a").page("/../a", "", 10)


@given(st.lists(words, max_size=12), st.integers(1, 3))
def test_pages_of_any_size_give_the_same_listing(tails: list[str], limit: int) -> None:
    namespace = Namespace()
    stored = set()
    for tail in tails:
        try:
            namespace.check(Stored(f"/{tail}", entry(1)))
        except (BadPath, Conflict):
            continue
        namespace.apply(Stored(f"/{tail}", entry(1)))
        stored.add(tail)

    found = listing(namespace, "/", limit)

    assert found == listing(namespace)
    assert set(found) == {tail.partition("/")[0] + ("/" if "/" in tail else "") for tail in stored}
    assert len(found) == len(set(found))


# --- records
@pytest.mark.parametrize("change", [Opened(9, 3), Stored("/a", entry(1, 2)), Removed("/a")])
def test_a_change_is_read_from_the_journal_as_it_was(change: Change) -> None:
    assert decode_change(encode_change(change)) == change


@pytest.mark.parametrize("noise", [b"", b"\xff", b"\x90", encode_change(Removed("/a"))[:-1], b"\x92\xa6closed\x01"])
def test_a_record_that_is_no_change_is_corrupt(noise: bytes) -> None:
    with pytest.raises(Corrupt, match="cannot be read"):
        decode_change(noise)
