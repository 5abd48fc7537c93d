"""Names: which paths there are, where links lead, what renaming does, and what is refused."""

from __future__ import annotations

import pytest

from nodes.files import operations as op
from nodes.files.messages import (
    AlreadyExists,
    BadPath,
    IsAFolder,
    Loop,
    NotAFolder,
    NotEmpty,
    NotFound,
)
from tests.nodes.files.machine import Machine
from zactor.errors import Refused
from zactor.message import encode
from zactor.statemachine import Entry


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.servers("", "")
    return machine


def stat(machine: Machine, path: str, *, follow: bool = True) -> op.Stat:
    found: op.Stat = machine.ask(op.GetStat(path, follow))
    return found


# --- paths
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "does not begin"),
        ("a", "does not begin"),
        ("a/b", "does not begin"),
        ("//", "empty part"),
        ("/a/", "empty part"),
        ("/a//b", "empty part"),
        ("/./a", "'.' in it"),
        ("/a/..", "'..' in it"),
        ("/a\0b", "control character"),
        ("/a\nb", "control character"),
        ("/a\x7f", "control character"),
        ("/a\x85b", "control character"),
        ("/" + "n" * 256, "256 bytes"),
        ("/" + "ä" * 128, "256 bytes"),
        ("/" + "/".join(["ä" * 127] * 17), "path of"),
    ],
)
def test_a_bad_path_is_refused_with_the_reason(machine: Machine, path: str, reason: str) -> None:
    for change in (op.Create(path), op.MakeFolder(path), op.MakeFolder(path, parents=True), op.Remove(path)):
        with pytest.raises(BadPath, match=reason):
            machine.do(change)
    with pytest.raises(BadPath, match=reason):
        stat(machine, path)


def test_a_bad_name_is_refused_in_a_folder_that_was_just_used_too(machine: Machine) -> None:
    machine.do(op.MakeFolder("/a"))
    machine.do(op.Create("/a/x"))

    for path in ("/a/", "/a/..", "/a/.", "/a/\0", "/a/" + "n" * 256):
        with pytest.raises(BadPath):
            machine.do(op.Create(path))


def test_names_may_have_any_other_sign(machine: Machine) -> None:
    names = ["...", " ", "ä", "\u200b", "日本", "-rf", "😀", "n" * 255]
    for name in names:
        machine.do(op.Create(f"/{name}"))

    assert machine.names() == sorted(names, key=str.encode)


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(BadPath, match="Unicode"):
        Machine().namespace.tree.inode("/\udc80")


# --- folders and files
def test_the_root_is_there_and_stays(machine: Machine) -> None:
    assert stat(machine, "/").kind == "folder"
    machine.do(op.MakeFolder("/", parents=True))
    with pytest.raises(AlreadyExists):
        machine.do(op.MakeFolder("/"))
    for change in (op.Remove("/"), op.Rename("/", "/a"), op.Rename("/", "/")):
        with pytest.raises(BadPath, match="root"):
            machine.do(change)
    with pytest.raises(IsAFolder):
        machine.do(op.Create("/", replace=True))


def test_a_file_is_created_empty_and_emptied_only_when_asked(machine: Machine) -> None:
    machine.put("/a", 10, mode=0o600)

    with pytest.raises(AlreadyExists):
        machine.do(op.Create("/a"))
    emptied = machine.do(op.Create("/a", replace=True))

    assert (emptied.size, emptied.mode) == (0, 0o600)
    assert stat(machine, "/a") == emptied
    assert machine.ask(op.GetContent("/a")).chunks == ()


def test_a_folder_needs_one_above_it(machine: Machine) -> None:
    for change in (op.MakeFolder("/a/b"), op.Create("/a/b"), op.MakeLink("/a/b", "/")):
        with pytest.raises(NotFound):
            machine.do(change)
    machine.do(op.MakeFolder("/a/b/c", parents=True, mode=0o700))
    machine.do(op.MakeFolder("/a/b/c", parents=True))

    assert machine.names("/a") == ["b"]
    assert stat(machine, "/a/b").mode == 0o700


def test_a_file_is_no_folder(machine: Machine) -> None:
    machine.do(op.Create("/f"))

    for change in (op.Create("/f/x"), op.MakeFolder("/f/x"), op.MakeFolder("/f/x/y", parents=True)):
        with pytest.raises(NotAFolder):
            machine.do(change)
    with pytest.raises(AlreadyExists):
        machine.do(op.MakeFolder("/f", parents=True))
    with pytest.raises(NotAFolder):
        stat(machine, "/f/x")


def test_only_an_empty_folder_is_removed(machine: Machine) -> None:
    machine.do(op.MakeFolder("/a/b", parents=True))

    with pytest.raises(NotEmpty):
        machine.do(op.Remove("/a"))
    machine.do(op.Remove("/a/b"))
    machine.do(op.Remove("/a"))

    assert machine.names() == []
    with pytest.raises(NotFound):
        machine.do(op.Create("/a/b/x"))


def test_the_time_of_a_folder_is_that_of_the_last_change_of_its_names(machine: Machine) -> None:
    machine.do(op.MakeFolder("/a"))
    made = stat(machine, "/a").mtime_ns
    machine.do(op.Create("/a/x"))
    created = stat(machine, "/a").mtime_ns
    machine.do(op.SetMode("/a/x", 0o600))
    assert stat(machine, "/a").mtime_ns == created
    machine.do(op.Remove("/a/x"))

    assert made < created < stat(machine, "/a").mtime_ns


def test_permissions_are_kept(machine: Machine) -> None:
    machine.do(op.MakeFolder("/a"))
    machine.do(op.Create("/f"))
    machine.do(op.MakeLink("/l", "f"))
    machine.do(op.SetMode("/a", 0o1770))
    machine.do(op.SetMode("/l", 0o400))

    assert stat(machine, "/a").mode == 0o1770
    assert stat(machine, "/f").mode == 0o400
    assert stat(machine, "/l", follow=False).mode == 0o777


# --- listing
def test_a_listing_is_sorted_by_bytes_and_comes_in_pages(machine: Machine) -> None:
    names = ["a", "b", "aa", "ä", "Z", "a.b", "z"]
    for name in names:
        machine.do(op.Create(f"/{name}"))

    for page in (1, 2, 3, 7, 8):
        assert machine.names(page=page) == sorted(names, key=str.encode)


def test_a_page_says_that_there_is_more_exactly_when_there_is(machine: Machine) -> None:
    for name in "abc":
        machine.do(op.Create(f"/{name}"))

    assert machine.ask(op.GetPage("/", "", 2)).more
    assert not machine.ask(op.GetPage("/", "", 3)).more
    assert not machine.ask(op.GetPage("/", "b", 3)).more
    assert machine.ask(op.GetPage("/", "c")) == op.Page((), more=False)


def test_a_cursor_need_not_be_there_any_more(machine: Machine) -> None:
    for name in "abc":
        machine.do(op.Create(f"/{name}"))
    machine.do(op.Remove("/b"))

    assert [item.name for item in machine.ask(op.GetPage("/", "b")).items] == ["c"]


def test_a_listing_has_what_is_in_the_folder_and_nothing_below(machine: Machine) -> None:
    machine.do(op.MakeFolder("/a/b", parents=True))
    machine.do(op.Create("/a/b/x"))
    machine.do(op.Create("/z"))

    assert machine.names("/a") == ["b"]
    assert machine.names("/a/b") == ["x"]


def test_the_listing_of_a_file_is_itself(machine: Machine) -> None:
    machine.do(op.Create("/f"))

    assert machine.ask(op.GetPage("/f")) == op.Page((stat(machine, "/f"),), more=False)
    assert machine.ask(op.GetPage("/f", "f")).items == ()


# --- links
def test_a_link_is_followed_by_who_looks_and_not_by_who_removes(machine: Machine) -> None:
    machine.do(op.MakeFolder("/a/b", parents=True))
    file = machine.put("/a/b/f")
    machine.do(op.MakeLink("/l", "a/b"))
    machine.do(op.MakeLink("/a/m", "/l/f"))

    assert stat(machine, "/l").kind == "folder"
    assert stat(machine, "/a/m").inode == stat(machine, "/l/f").inode == file.inode
    assert stat(machine, "/a/m", follow=False) == op.Stat("m", 6, "link", 4, 0o777, 9_000, 0, "/l/f")
    assert machine.names("/l") == ["f"]
    assert machine.ask(op.GetContent("/a/m")).stat.inode == file.inode
    machine.do(op.Remove("/a/m"))
    machine.do(op.Rename("/l", "/k"))
    assert machine.names("/a/b") == ["f"]
    assert machine.names("/k") == ["f"]


def test_a_link_that_leads_nowhere_can_be_made_and_created_through(machine: Machine) -> None:
    machine.do(op.MakeLink("/l", "new"))

    with pytest.raises(NotFound):
        stat(machine, "/l")
    with pytest.raises(AlreadyExists):
        machine.do(op.Create("/l"))
    with pytest.raises(AlreadyExists):
        machine.do(op.MakeFolder("/l"))
    created = machine.do(op.Create("/l", replace=True))

    assert created.name == "new"
    assert stat(machine, "/new").inode == created.inode


def test_dots_lead_out_of_the_real_folder_and_never_out_of_the_root(machine: Machine) -> None:
    machine.do(op.MakeFolder("/a/b", parents=True))
    machine.do(op.MakeFolder("/c"))
    machine.do(op.Create("/a/x"))
    machine.do(op.MakeLink("/c/l", "../a/b"))
    machine.do(op.MakeLink("/c/up", "l/../x"))
    machine.do(op.MakeLink("/out", "../../../a/./x"))
    machine.do(op.MakeLink("/a/b/top", "../.."))

    assert stat(machine, "/c/up").inode == stat(machine, "/a/x").inode == stat(machine, "/out").inode
    assert stat(machine, "/a/b/top").inode == stat(machine, "/").inode
    assert stat(machine, "/a/b/top/a/b/top/a/x").inode == stat(machine, "/a/x").inode


def test_links_in_a_circle_are_refused(machine: Machine) -> None:
    machine.do(op.MakeLink("/a", "b"))
    machine.do(op.MakeLink("/b", "/a"))
    machine.do(op.MakeLink("/self", "self/x"))

    for path in ("/a", "/b/x", "/self", "/self/y"):
        with pytest.raises(Loop):
            stat(machine, path)
    with pytest.raises(Loop):
        machine.do(op.Create("/a", replace=True))
    machine.do(op.Remove("/a"))


def test_forty_links_are_followed_and_no_more(machine: Machine) -> None:
    machine.do(op.Create("/0"))
    for number in range(41):
        machine.do(op.MakeLink(f"/{number + 1}", f"{number}"))

    assert stat(machine, "/40").inode == stat(machine, "/0").inode
    with pytest.raises(Loop):
        stat(machine, "/41")


@pytest.mark.parametrize("target", ["", "a\0b", "n" * 256, "x/" * 2_048 + "x"])
def test_a_bad_target_is_refused(machine: Machine, target: str) -> None:
    outcome = machine.all(op.MakeLink("/l", target))[0]

    assert isinstance(outcome, op.Denied)
    assert machine.names() == []


def test_what_was_learned_of_a_folder_is_forgotten_when_a_link_moves(machine: Machine) -> None:
    machine.do(op.MakeFolder("/a"))
    machine.do(op.MakeFolder("/b"))
    machine.do(op.MakeLink("/l", "a"))
    machine.do(op.Create("/l/1"))
    machine.do(op.Remove("/l"))
    machine.do(op.MakeLink("/l", "b"))
    machine.do(op.Create("/l/2"))
    machine.do(op.Rename("/b", "/c"))
    with pytest.raises(NotFound):
        machine.do(op.Create("/l/3"))
    machine.do(op.Rename("/a", "/b"))
    machine.do(op.Create("/l/4"))

    assert machine.names("/b") == ["1", "4"]
    assert machine.names("/c") == ["2"]


# --- renaming
def test_a_file_takes_the_place_of_a_file(machine: Machine) -> None:
    first, second = machine.put("/a"), machine.put("/b")
    with pytest.raises(AlreadyExists):
        machine.do(op.Rename("/a", "/b", replace=False))
    machine.freed()
    machine.do(op.Rename("/a", "/b"))

    assert machine.names() == ["b"]
    assert stat(machine, "/b").inode == first.inode
    assert [chunk >> 16 for chunk, _ in machine.freed()] == [second.inode]


def test_a_folder_moves_with_all_that_is_in_it(machine: Machine) -> None:
    machine.do(op.MakeFolder("/a/b/c", parents=True))
    machine.do(op.Create("/a/b/c/x"))
    machine.do(op.MakeFolder("/z"))
    machine.do(op.Rename("/a/b", "/z/q"))

    assert machine.names("/z/q/c") == ["x"]
    assert machine.names("/a") == []


def test_a_folder_takes_the_place_of_an_empty_folder_alone(machine: Machine) -> None:
    machine.do(op.MakeFolder("/a"))
    machine.do(op.MakeFolder("/b/x", parents=True))
    machine.do(op.MakeFolder("/empty"))
    machine.do(op.Create("/f"))

    with pytest.raises(NotEmpty):
        machine.do(op.Rename("/a", "/b"))
    with pytest.raises(NotAFolder):
        machine.do(op.Rename("/a", "/f"))
    with pytest.raises(IsAFolder):
        machine.do(op.Rename("/f", "/a"))
    with pytest.raises(NotEmpty):
        machine.do(op.Rename("/b/x", "/b"))
    machine.do(op.Rename("/b", "/empty"))
    assert machine.names() == ["a", "empty", "f"]
    assert machine.names("/empty") == ["x"]


def test_a_folder_cannot_be_moved_below_itself_by_any_name(machine: Machine) -> None:
    machine.do(op.MakeFolder("/a/b/c", parents=True))
    machine.do(op.MakeLink("/l", "a/b"))

    for to in ("/a/x", "/a/b/c/x", "/l/x", "/l/c/x"):
        with pytest.raises(Loop):
            machine.do(op.Rename("/a", to))
    assert machine.names("/a/b") == ["c"]


def test_a_name_renamed_onto_itself_is_done(machine: Machine) -> None:
    machine.do(op.MakeFolder("/a/b", parents=True))
    machine.put("/a/f")
    machine.do(op.MakeLink("/l", "a"))
    machine.freed()

    machine.do(op.Rename("/a/f", "/a/f"))
    machine.do(op.Rename("/a/f", "/l/f"))
    machine.do(op.Rename("/a/b", "/l/b", replace=False))

    assert machine.names("/a") == ["b", "f"]
    assert machine.freed() == []


# --- bodies
def test_changes_of_one_body_are_made_in_order_each_by_itself(machine: Machine) -> None:
    outcomes = machine.all(
        op.Create("/a"), op.Create("/a"), op.MakeFolder("/x/y"), op.Rename("/a", "/b"), op.Create("/a")
    )

    assert [type(outcome).__name__ for outcome in outcomes] == ["Stat", "Denied", "Denied", "Done", "Stat"]
    assert outcomes[1].error == AlreadyExists.wire
    assert machine.names() == ["a", "b"]


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x91\x91\xa3foo", encode([["create"]]), encode([op.Create("/a")] * 1_025), b"\x91" * 5_000]
)
def test_a_body_that_is_none_is_denied_and_changes_nothing(machine: Machine, body: bytes) -> None:
    before = machine.namespace.digest()
    (answer,) = machine.namespace.apply([Entry(99, 99, 1, body)])

    assert [type(outcome) for outcome in op.decode_outcomes(answer)] == [op.Denied]
    assert machine.namespace.digest() == before


def test_a_question_that_is_none_is_refused(machine: Machine) -> None:
    for body in (b"", b"\xc1", encode(["list", 1]), encode(op.GetPage("/", "", 5))[:-1] + b"\x00"):
        with pytest.raises(Refused):
            machine.namespace.query(body)


def test_clients_cannot_speak_as_who_runs_the_namespace(machine: Machine) -> None:
    before = machine.namespace.digest()
    for change in (
        op.Format(5),
        op.Configure(1, 1 << 20),
        op.Report("s9", 9, "", 1, 1, 1),
        op.Lost("s0"),
        op.Relocate(2, 0, ("s0",), ("s1",)),
    ):
        with pytest.raises(Refused, match="whoever runs"):
            machine.do(change)

    assert machine.namespace.digest() == before


def test_a_volume_keeps_its_number(machine: Machine) -> None:
    machine.do(op.Format(5), 0)
    machine.do(op.Format(5), 0)
    with pytest.raises(AlreadyExists):
        machine.do(op.Format(6), 0)

    assert machine.namespace.volume == 5


def test_a_chunk_size_is_whole_blocks(machine: Machine) -> None:
    for size in (0, 1, (64 << 10) + 1, 128 << 20):
        with pytest.raises(Refused, match="multiple"):
            machine.do(op.Configure(2, size), 0)
