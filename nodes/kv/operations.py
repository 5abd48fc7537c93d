"""What a client says to the store and is told: the bodies of `Submit`, `Query` and `Watch`, and their answers.

A body is one operation, question or watch; so is an answer. All are tagged arrays, to which fields are added at the
end, with a default. A *revision* is the index of a log entry: it grows, and has gaps. Each answer has the revision of
the state that it comes from, which is the token of the read level `session`.

A range is `key` and `end`: None is that key alone; b"" is all keys from `key` on; else those from `key` to before
`end`.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from zactor.errors import Refused
from zactor.message import decoder

KEY_SIZE_MAX = 64 << 10
VALUE_SIZE_MAX = 1 << 20
"""Bytes. With its key and all else a put stays well under `BODY_SIZE_MAX`."""

PAGE_KEYS_MAX = 10_000
PAGE_SIZE = 1 << 20
"""Bytes of keys and values after which a page takes no more."""

CONDITIONS_MAX = 128
STEPS_MAX = 128
"""Of a transaction, for each of its outcomes."""

ANSWER_SIZE_MAX = 4 << 20
"""Bytes that one change may have to say: they are kept until their client has them."""

DELETE_KEYS_MAX = 10_000
"""Keys that one step deletes. It is made in one turn, and everybody waits for that."""

SCAN_KEYS_MAX = 10_000
"""Keys among which the oldest or the newest is looked for."""

LEASE_KEYS_MAX = 10_000
"""Keys of one lease, which go away in one turn."""

LEASES_MAX = 100_000
LEASES_PAGE = 1_000
TTL_NS_MIN = 100_000_000
TTL_NS_MAX = 366 * 24 * 3600 * 10**9

STORE_SIZE_MAX = 4 << 30
"""Bytes of all keys and values, which are in memory."""

Key = Annotated[bytes, msgspec.Meta(min_length=1, max_length=KEY_SIZE_MAX)]
First = Annotated[bytes, msgspec.Meta(max_length=KEY_SIZE_MAX)]
End = Annotated[bytes, msgspec.Meta(max_length=KEY_SIZE_MAX)]
Value = Annotated[bytes, msgspec.Meta(max_length=VALUE_SIZE_MAX)]
Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
LeaseId = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
Limit = Annotated[int, msgspec.Meta(ge=0, le=PAGE_KEYS_MAX)]
Ttl = Annotated[int, msgspec.Meta(ge=TTL_NS_MIN, le=TTL_NS_MAX)]


def prefix_end(prefix: bytes) -> bytes:
    """The `end` of the range of all keys that begin so."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else b""


# --- refusals
class NoLease(Refused):
    """There is no lease with that id: it has ended, or never was."""


class TooMuch(Refused):
    """More than one operation, question, lease or watch may have. The text says which bound, and the mend."""


class Conflicting(Refused):
    """A transaction that would change a key twice."""


class StoreFull(Refused):
    """The store has no room for more; what is there can be read, deleted and made smaller."""


class Compacted(Refused):
    """The changes since that revision are not all known any more. `detail` is the first revision that can be watched
    from: read what is there, and go on from there."""


# --- what a key has
class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A key and its value. `version` counts its changes since it was created, from 1; `lease` 0 is none.

    As a change: `version` 0 says that the key was deleted at the revision `modified`, and `created` is then 0.
    """

    key: bytes
    value: bytes
    created: Number
    modified: Number
    version: Number
    lease: Number = 0


# --- operations
class Put(msgspec.Struct, frozen=True, array_like=True, tag="put", gc=False):
    """Give a key a value, and a lease or none. Answer: `Written`. Raises `NoLease`, `StoreFull`, `TooMuch`."""

    key: Key
    value: Value
    lease: Number = 0
    previous: bool = False


class Delete(msgspec.Struct, frozen=True, array_like=True, tag="delete"):
    """Delete a key or a range; of it the first `limit` keys, unless that is 0. Answer: `Deleted`.

    Raises `TooMuch` for more than `DELETE_KEYS_MAX` keys without a limit.
    """

    key: First
    end: End | None = None
    limit: Annotated[int, msgspec.Meta(ge=0, le=DELETE_KEYS_MAX)] = 0
    previous: bool = False


class CompareAndSet(msgspec.Struct, frozen=True, array_like=True, tag="cas", gc=False):
    """Put `value` if the key has the value `expected`; None: if it is not there. Answer: `Swapped`."""

    key: Key
    expected: Value | None
    value: Value
    lease: Number = 0


Target = Literal["value", "version", "created", "modified", "lease"]
Relation = Literal["=", "!=", "<", ">"]


class Condition(msgspec.Struct, frozen=True, array_like=True):
    """What must be so of a key. One that is not there has no value, and 0 for all numbers.

    A value that is not there is only `!=`.
    """

    key: Key
    target: Target
    relation: Relation
    expected: Value | Number


class Get(msgspec.Struct, frozen=True, array_like=True, tag="get", gc=False):
    """What a key has. Answer: `Found`."""

    key: Key


class Range(msgspec.Struct, frozen=True, array_like=True, tag="range"):
    """The keys of a range in order, as many as `limit` says and a page holds. Answer: `Page`.

    With `keys_only` values are b"".
    """

    key: First
    end: End | None = None
    limit: Limit = 0
    keys_only: bool = False


class Oldest(msgspec.Struct, frozen=True, array_like=True, tag="oldest"):
    """The key of a range that was created first. Answer: `Found`. Raises `TooMuch`."""

    key: First
    end: End | None = None


class Newest(msgspec.Struct, frozen=True, array_like=True, tag="newest"):
    """The key of a range that was created last, of those before the revision `created_below`. Answer: `Found`.

    Raises `TooMuch`.
    """

    key: First
    end: End | None = None
    created_below: Number = (1 << 63) - 1


Step: TypeAlias = Put | Delete | Get | Range | Oldest | Newest


class Transaction(msgspec.Struct, frozen=True, array_like=True, tag="txn"):
    """Do `success` if all conditions hold, else `failure`, in one revision, and with nothing between. Answer: `Done`.

    Conditions, questions and previous values are of the state before it. Raises what its steps do, and `Conflicting`;
    then nothing was changed.
    """

    conditions: Annotated[tuple[Condition, ...], msgspec.Meta(max_length=CONDITIONS_MAX)] = ()
    success: Annotated[tuple[Step, ...], msgspec.Meta(max_length=STEPS_MAX)] = ()
    failure: Annotated[tuple[Step, ...], msgspec.Meta(max_length=STEPS_MAX)] = ()


class Grant(msgspec.Struct, frozen=True, array_like=True, tag="grant"):
    """A new lease, which ends `ttl_ns` after it was last kept alive, by the clock of the log. Answer: `Granted`."""

    ttl_ns: Ttl


class KeepAlive(msgspec.Struct, frozen=True, array_like=True, tag="keep"):
    """The lease begins anew. Answer: `Granted`. Raises `NoLease`."""

    lease: LeaseId


class Revoke(msgspec.Struct, frozen=True, array_like=True, tag="revoke"):
    """The lease ends, and its keys are deleted. Answer: `Deleted`. Raises `NoLease`."""

    lease: LeaseId


Operation: TypeAlias = Put | CompareAndSet | Delete | Transaction | Grant | KeepAlive | Revoke


# --- questions, besides those that are steps
class Count(msgspec.Struct, frozen=True, array_like=True, tag="count"):
    """How many keys a range has. Answer: `Counted`."""

    key: First
    end: End | None = None


class GetLease(msgspec.Struct, frozen=True, array_like=True, tag="lease"):
    """A lease and its keys. Answer: `Lease`. Raises `NoLease`."""

    lease: LeaseId


class GetLeases(msgspec.Struct, frozen=True, array_like=True, tag="leases"):
    """The ids of leases behind `after`, sorted. Answer: `Leases`."""

    after: Number = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=LEASES_PAGE)] = LEASES_PAGE


class GetStatus(msgspec.Struct, frozen=True, array_like=True, tag="status"):
    """How large it all is. Answer: `Status`."""


Question: TypeAlias = Get | Range | Oldest | Newest | Count | GetLease | GetLeases | GetStatus


class WatchFrom(msgspec.Struct, frozen=True, array_like=True, tag="watch"):
    """The changes of a key or range with a revision of at least `start`. Answer: `Changes`, as soon as there are some.

    `start` 0: answered at once, by no changes and the revision after which they are new. Raises `Compacted`.
    """

    key: First
    end: End | None = None
    start: Number = 0


# --- answers
class Denied(msgspec.Struct, frozen=True, array_like=True, tag="no"):
    """Nothing was changed: the wire name of the refusal, and its text."""

    revision: Number
    error: str
    text: str


class Written(msgspec.Struct, frozen=True, array_like=True, tag="w", gc=False):
    """It was put. `previous` is what was there, if that was asked for."""

    revision: Number
    previous: Item | None = None


class Deleted(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """So many keys were deleted; `more` are in the range, behind the limit."""

    revision: Number
    count: Number
    more: bool = False
    previous: tuple[Item, ...] = ()


class Swapped(msgspec.Struct, frozen=True, array_like=True, tag="s", gc=False):
    """Whether it was as expected, and so was put. Else `item` is what is there instead."""

    revision: Number
    done: bool
    item: Item | None = None


class Found(msgspec.Struct, frozen=True, array_like=True, tag="f", gc=False):
    """What was found, or None."""

    revision: Number
    item: Item | None = None


class Page(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """Keys in order. When there are `more`, ask again from behind the last key: `key + b"\\0"`."""

    revision: Number
    items: tuple[Item, ...]
    more: bool = False


class Done(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """Whether the conditions held, and the answer to each step that was done."""

    revision: Number
    succeeded: bool
    answers: tuple[Written | Deleted | Found | Page, ...]


class Granted(msgspec.Struct, frozen=True, array_like=True, tag="g"):
    """A lease. It lives for `ttl_ns` from now."""

    revision: Number
    lease: LeaseId
    ttl_ns: Ttl


class Counted(msgspec.Struct, frozen=True, array_like=True, tag="n"):
    """So many keys."""

    revision: Number
    count: Number


class Lease(msgspec.Struct, frozen=True, array_like=True, tag="l"):
    """A lease, by the time of the last log entry: `left_ns` is 0 when it ends with the next one."""

    revision: Number
    lease: LeaseId
    ttl_ns: Ttl
    left_ns: Number
    keys: tuple[bytes, ...]


class Leases(msgspec.Struct, frozen=True, array_like=True, tag="L"):
    """Ids of leases, sorted. When there are `more`, ask again with `after` the last one."""

    revision: Number
    leases: tuple[LeaseId, ...]
    more: bool = False


class Status(msgspec.Struct, frozen=True, array_like=True, tag="i"):
    """How large it all is. `size` is in bytes of keys and values; a watch can start after the revision `compacted`."""

    revision: Number
    compacted: Number
    time_ns: Number
    keys: Number
    size: Number
    leases: Number
    changes: Number
    digest: Annotated[int, msgspec.Meta(ge=0)]


class Changes(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """All changes up to `revision`, in order; go on from the one after it. Those of one revision are never parted."""

    revision: Number
    items: tuple[Item, ...] = ()


Outcome: TypeAlias = Written | Swapped | Deleted | Done | Granted | Denied
Answer: TypeAlias = Found | Page | Counted | Lease | Leases | Status

decode_operation = decoder(Operation)
decode_question = decoder(Question)
decode_watch = decoder(WatchFrom)
decode_outcome = decoder(Outcome)
decode_answer = decoder(Answer)
decode_changes = decoder(Changes)
