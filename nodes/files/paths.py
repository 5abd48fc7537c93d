"""Which paths there are: absolute, of names that any file system could have.

A path comes in as text and goes on as its names in UTF-8, which is what entries are kept and sorted by. Nothing here
knows what exists.
"""

from __future__ import annotations

import re

from .messages import BadPath

PATH_SIZE_MAX = 4_096
"""Bytes of a path in UTF-8: PATH_MAX of Linux."""

NAME_SIZE_MAX = 255
"""Bytes of one name: NAME_MAX of Linux."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def split(path: str) -> list[bytes]:
    """The names in a path, none for the root. Raises `BadPath` with the reason."""
    if path == "/":
        return []
    names = _encode(path, "path").split(b"/")
    if names[0] or len(names) == 1:
        raise BadPath(f"the path {path!r} does not begin with '/'")
    del names[0]
    for name in names:
        _check_name(name, path)
    return names


def split_target(target: str) -> list[bytes]:
    """The names in the target of a symbolic link, where '..', '.' and '' may be. Raises `BadPath`."""
    if not target:
        raise BadPath("a symbolic link must have a target")
    names = _encode(target, "target").split(b"/")
    for name in names:
        _check_size(name, target)
    return names


def plain_name(name: str) -> bytes | None:
    """A name in UTF-8 when a glance tells that a file can have it; else `split` has to say whether and why not."""
    if not name.isprintable() or name in ("", ".", ".."):
        return None
    encoded = name.encode()
    return encoded if len(encoded) <= NAME_SIZE_MAX else None


def _encode(text: str, what: str) -> bytes:
    # What can be printed has no control characters; that is quick to see, and true of nearly all.
    if not text.isprintable() and _CONTROL.search(text):
        raise BadPath(f"the {what} {text!r} has a control character in it")
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise BadPath(f"the {what} {text!r} is not valid Unicode") from None
    if len(encoded) > PATH_SIZE_MAX:
        raise BadPath(f"a {what} of {len(encoded)} bytes; the limit is {PATH_SIZE_MAX}")
    return encoded


def _check_name(name: bytes, path: str) -> None:
    if not name:
        raise BadPath(f"the path {path!r} has an empty part; write '/' once, and none at its end")
    if name in (b".", b".."):
        raise BadPath(f"the path {path!r} has a {name.decode()!r} in it")
    _check_size(name, path)


def _check_size(name: bytes, path: str) -> None:
    if len(name) > NAME_SIZE_MAX:
        raise BadPath(f"the path {path[:40]!r}... has a name of {len(name)} bytes; the limit is {NAME_SIZE_MAX}")
